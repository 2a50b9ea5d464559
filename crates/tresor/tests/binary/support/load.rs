//! Clients of a cluster, each of which writes through one node, reads through another, and checks what it is told.
//!
//! A client has names of its own, so it knows what may be read: what it was told is written, or what it was not told about since.
//! Deliberately absent: trying again. What was not answered well is kept with its time, for the test to judge.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::{Http, until};

/// How many clients there are.
const CLIENTS: usize = 4;
/// How many names each has.
const NAMES: usize = 16;

/// What is known of a name: the newest number that was acknowledged, and the newest that was sent.
#[derive(Clone, Copy, Default)]
struct Written {
    acknowledged: usize,
    sent: usize,
}

/// A request that was not answered well.
struct Refused {
    begun: Instant,
    /// Method, path and answer.
    what: String,
}

/// What clients saw.
#[derive(Default)]
pub(crate) struct Seen {
    written: Vec<(String, Written)>,
    refused: Vec<Refused>,
}

impl Seen {
    /// Fails unless what was acknowledged is read from a node.
    pub(crate) fn is_kept_by(&self, http: &Http) {
        for (path, written) in &self.written {
            let read = until("a read", || http.try_send("GET", path, "").filter(|read| read.status < 500));
            let number = number_in(&read.at("/data/x"));
            let is_right = (written.acknowledged..=written.sent).contains(&number);
            assert!(is_right, "{path}: {number} of {}..={}", written.acknowledged, written.sent);
        }
    }

    /// Fails when something that was begun since then was not answered well.
    pub(crate) fn has_refused_nothing_since(&self, then: Instant) {
        let since = self.refused.iter().filter(|refused| refused.begun >= then);
        let refused: Vec<_> = since.map(|refused| refused.what.as_str()).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

/// Clients at work.
pub(crate) struct Load {
    done: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Whether clients are to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Notes that a client has done one thing.
    pub(crate) fn did_one(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until this much more was done.
    pub(crate) fn more(&self, count: usize) {
        let target = self.done.load(Ordering::Relaxed) + count;
        // A client that is told something wrong ends them all, and says so afterwards.
        until("more to be done", || (self.is_over() || self.done.load(Ordering::Relaxed) >= target).then_some(()));
    }
}

/// A secret's number; none where there is no secret.
fn number_in(value: &Value) -> usize {
    value.as_str().map_or(0, |number| number.parse().unwrap())
}

/// Lets clients use these nodes in turn while something is done to the cluster, which has `kv/`.
pub(crate) fn under_load(nodes: &[Http], during: impl FnOnce(&Load)) -> Seen {
    // Each load has names of its own.
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    let names = format!("kv/{}", LOADS.fetch_add(1, Ordering::Relaxed));
    let mut seen = Seen::default();
    let clients = clients(CLIENTS, |client, load| use_nodes(&format!("{names}-{client}"), nodes, load), during);
    for one in clients {
        seen.written.extend(one.written);
        seen.refused.extend(one.refused);
    }
    seen
}

/// Lets so many clients work while something is done; what each of them came to know.
pub(crate) fn clients<T: Send>(
    count: usize,
    work: impl Fn(usize, &Load) -> T + Sync,
    during: impl FnOnce(&Load),
) -> Vec<T> {
    let load = Load { done: AtomicUsize::new(0), is_over: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let (work, shared) = (&work, &load);
        let at_work: Vec<_> = (0..count)
            .map(|client| {
                scope.spawn(move || {
                    let _over_when_wrong = Over(&shared.is_over);
                    work(client, shared)
                })
            })
            .collect();
        // Ends the clients also when it panics.
        let over = Over(&load.is_over);
        during(&load);
        drop(over);
        at_work.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn use_nodes(names: &str, nodes: &[Http], load: &Load) -> Seen {
    let mut seen = Seen::default();
    seen.written.extend((0..NAMES).map(|name| (format!("{names}-{name}"), Written::default())));
    for number in 1.. {
        if load.is_over() {
            break;
        }
        let (path, written) = &mut seen.written[number % NAMES];
        let [writes, reads] = [number, number + 1].map(|at| &nodes[at % nodes.len()]);
        let mut ask = |http: &Http, method: &str, body: &str| {
            let begun = Instant::now();
            let answer = http.try_send(method, path, body);
            if let Some(answer) = answer.as_ref().filter(|answer| answer.status < 500) {
                return Some(answer.clone());
            }
            let answer = answer.map_or("no answer".to_owned(), |answer| format!("{} {}", answer.status, answer.text));
            let what = format!("{method} {path} through {}: {answer}", http.address);
            seen.refused.push(Refused { begun, what });
            None
        };
        written.sent = number;
        let wrote = ask(writes, "POST", &json!({ "x": number.to_string() }).to_string());
        if let Some(answer) = &wrote {
            assert_eq!(answer.status, 204, "{}", answer.text);
            written.acknowledged = number;
        }
        let Some(read) = ask(reads, "GET", "") else { continue };
        let found = number_in(&read.at("/data/x"));
        assert!(
            (written.acknowledged..=written.sent).contains(&found),
            "{path} through {}: {found} of {}..={}",
            reads.address,
            written.acknowledged,
            written.sent
        );
        // What was seen once stays.
        written.acknowledged = found;
        if wrote.is_some() {
            load.did_one();
        }
    }
    seen
}
