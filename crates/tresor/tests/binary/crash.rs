//! `kill -9` at any instant, under writers: what was acknowledged is there, and nothing is torn.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Http, Keys, Production};

/// How long crashes go on, and how many there are at least.
const TIME: Duration = Duration::from_secs(12);
const CYCLES_MIN: usize = 6;
/// How long a server that was killed takes at most until it serves.
const READY_MAX: Duration = Duration::from_secs(1);

/// What writers were told is done.
#[derive(Default)]
struct Done {
    secrets: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    versions: u64,
    policies: BTreeSet<u64>,
    mounts: BTreeSet<u64>,
    tokens: Vec<String>,
    revoked: Vec<String>,
}

/// The value of a secret: a function of its name, long enough to be torn.
fn value(number: u64) -> String {
    format!("{number}-").repeat(300)
}

fn policy(number: u64) -> String {
    format!("path \"kv/{number}\" {{\n  capabilities = [\"read\"]\n}}\n")
}

/// Calls with numbers that are never used twice until told to stop; the numbers that were acknowledged.
fn write(stop: &AtomicBool, from: u64, mut call: impl FnMut(u64) -> bool) -> BTreeSet<u64> {
    let mut done = BTreeSet::new();
    for number in from.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if call(number) {
            done.insert(number);
        }
    }
    done
}

fn acknowledged(http: &Http, method: &str, path: &str, body: &Value, status: u16) -> bool {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    // A broken connection is no acknowledgement, and neither is a refusal by a server that is going down.
    http.try_send(method, path, &body).is_some_and(|answer| answer.status == status)
}

/// Writes on five connections at once until the server is killed.
fn write_until_killed(http: &Http, done: &mut Done, cycle: u64, kill: impl FnOnce()) {
    let (stop, from) = (&AtomicBool::new(false), cycle * 1_000_000);
    let known: Vec<u64> = done.secrets.iter().copied().take(20).collect();
    std::thread::scope(|scope| {
        let secrets = scope.spawn(move || {
            write(stop, from, |number| {
                acknowledged(http, "POST", &format!("kv/{number}"), &json!({ "v": value(number) }), 204)
            })
        });
        let deletions = scope.spawn(move || {
            let mut deleted = BTreeSet::new();
            for number in known {
                if acknowledged(http, "DELETE", &format!("kv/{number}"), &Value::Null, 204) {
                    deleted.insert(number);
                } else {
                    // Nobody said whether this one still went through.
                    return (deleted, Some(number));
                }
            }
            (deleted, None)
        });
        let versions = scope.spawn(move || {
            let mut newest = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = json!({ "data": { "v": value(7) } }).to_string();
                if let Some(answer) = http.try_send("POST", "versioned/data/a", &body) {
                    newest = answer.at("/data/version").as_u64().unwrap_or(newest);
                }
            }
            newest
        });
        let policies = scope.spawn(move || {
            write(stop, from, |number| {
                acknowledged(
                    http,
                    "PUT",
                    &format!("sys/policies/acl/p{number}"),
                    &json!({ "policy": policy(number) }),
                    204,
                )
            })
        });
        let others = scope.spawn(move || {
            let (mut tokens, mut revoked) = (Vec::new(), Vec::new());
            let mounts = write(stop, from, |number| {
                let body = json!({ "policies": ["default"], "ttl": "1h" }).to_string();
                let token = http.try_send("POST", "auth/token/create", &body).filter(|answer| answer.status == 200);
                if let Some(token) = token.map(|answer| answer.text_at("/auth/client_token")) {
                    if number % 3 == 2
                        && acknowledged(http, "POST", "auth/token/revoke", &json!({ "token": token }), 204)
                    {
                        revoked.push(token);
                    } else if number % 3 != 2 {
                        tokens.push(token);
                    }
                }
                number % 8 == 0
                    && acknowledged(http, "POST", &format!("sys/mounts/m{number}"), &json!({ "type": "kv" }), 204)
            });
            (mounts, tokens, revoked)
        });
        // Somewhere within the first third of a second; what varies it is the machine itself.
        let varied = u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
        std::thread::park_timeout(Duration::from_millis(20 + varied % 300));
        kill();
        stop.store(true, Ordering::Relaxed);
        done.secrets.extend(secrets.join().unwrap());
        let (deleted, uncertain) = deletions.join().unwrap();
        done.secrets.retain(|number| !deleted.contains(number) && uncertain != Some(*number));
        done.deleted.extend(deleted);
        done.versions = done.versions.max(versions.join().unwrap());
        done.policies.extend(policies.join().unwrap());
        let (mounts, tokens, revoked) = others.join().unwrap();
        done.mounts.extend(mounts);
        done.tokens.extend(tokens);
        done.revoked.extend(revoked);
    });
}

/// What is there; it may be missing only before anything of it was acknowledged.
fn there(answer: Answer, may_be_missing: bool) -> Option<Answer> {
    if may_be_missing && answer.status == 404 { None } else { Some(answer.expect(200)) }
}

fn check(http: &Http, done: &Done, cycle: u64) {
    let from = cycle * 1_000_000;
    let present: BTreeSet<u64> =
        there(http.send("LIST", "kv", ""), done.secrets.is_empty()).map_or_else(BTreeSet::new, |listed| {
            let names = listed.at("/data/keys");
            names.as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect()
        });
    let lost: Vec<_> = done.secrets.difference(&present).collect();
    assert!(lost.is_empty(), "acknowledged secrets are gone: {lost:?}");
    let risen: Vec<_> = done.deleted.intersection(&present).collect();
    assert!(risen.is_empty(), "deleted secrets are back: {risen:?}");
    // Also what was not acknowledged is whole or absent.
    for number in present.range(from..) {
        assert_eq!(http.get(&format!("kv/{number}")).expect(200).at("/data/v"), json!(value(*number)), "{number}");
    }
    if let Some(metadata) = there(http.get("versioned/metadata/a"), done.versions == 0) {
        let newest = metadata.at("/data/current_version").as_u64().unwrap();
        assert!(newest >= done.versions, "version {} was acknowledged, {newest} is there", done.versions);
        let data = http.get("versioned/data/a").expect(200);
        assert_eq!((data.at("/data/metadata/version"), data.at("/data/data/v")), (json!(newest), json!(value(7))));
    }
    for number in done.policies.range(from..) {
        let read = http.get(&format!("sys/policies/acl/p{number}")).expect(200);
        assert_eq!(read.text_at("/data/policy"), policy(*number));
    }
    let policies = http.send("LIST", "sys/policies/acl", "").expect(200).at("/data/keys");
    assert!(policies.as_array().unwrap().len() >= done.policies.len() + 2);
    let mounts = http.get("sys/mounts").expect(200).at("/data");
    for number in &done.mounts {
        assert!(mounts.get(format!("m{number}/")).is_some(), "mount m{number} was acknowledged");
    }
    // A mount that is listed works.
    if let Some(last) = mounts.as_object().unwrap().keys().rfind(|path| path.starts_with('m')) {
        http.post(&format!("{last}a"), &json!({ "x": 1 })).expect(204);
    }
    for token in done.tokens.iter().rev().take(30) {
        http.with_token(token).get("auth/token/lookup-self").expect(200);
    }
    for token in done.revoked.iter().rev().take(30) {
        http.with_token(token).get("auth/token/lookup-self").expect(403);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_torn() {
    lose_nothing(&Production::new());
}

#[test]
fn a_node_that_is_alone_loses_nothing_and_serves_again_without_waiting_for_a_time_out() {
    let readiness = lose_nothing(&Production::raft());
    // The machine may be busy with others; an election that waits for a time-out would be late every time.
    assert!(readiness < READY_MAX, "{readiness:?}");
}

/// Kills and starts again and again; the shortest time that a start took.
pub(crate) fn lose_nothing(production: &Production) -> Duration {
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("sys/mounts/versioned", &json!({ "type": "kv", "options": { "version": "2" } })).expect(204);
    let mut done = Done::default();
    let (begin, mut server) = (Instant::now(), server);
    let (mut cycles, mut readiness) = (0, Duration::MAX);
    while cycles < CYCLES_MIN || begin.elapsed() < TIME {
        let http = server.http().with_token(&keys.root);
        write_until_killed(&http, &mut done, cycles as u64, || server.kill());
        let killed = Instant::now();
        server = production.start();
        readiness = readiness.min(killed.elapsed());
        let http = server.http().with_token(&keys.root);
        assert_eq!(http.get("sys/seal-status").expect(200).at("/sealed"), json!(true));
        keys.unseal(&http);
        check(&http, &done, cycles as u64);
        cycles += 1;
    }
    for (what, count) in [
        ("secrets", done.secrets.len()),
        ("deletions", done.deleted.len()),
        ("policies", done.policies.len()),
        ("mounts", done.mounts.len()),
        ("tokens", done.tokens.len()),
        ("revocations", done.revoked.len()),
    ] {
        assert!(count > 0, "no {what} were acknowledged in {cycles} cycles: nothing was tested");
    }
    readiness
}

#[test]
fn a_crash_while_initialising_or_unsealing_leaves_a_store_that_works_or_is_empty() {
    // Microseconds: from before the request arrives; at last, when it is answered.
    let delays = (0..12).map(|step| Some(step * 1500)).chain([None]);
    for (delay, make) in delays.flat_map(|delay| [(delay, Production::new as fn() -> _), (delay, Production::raft)]) {
        let production = make();
        let server = production.start();
        let http = server.http();
        let asked = http.clone();
        let init = std::thread::spawn(move || {
            asked.try_send("POST", "sys/init", r#"{"secret_shares": 1, "secret_threshold": 1}"#)
        });
        let answer = match delay {
            Some(delay) => {
                std::thread::park_timeout(Duration::from_micros(delay));
                server.kill();
                init.join().unwrap()
            }
            None => {
                let answer = init.join().unwrap().expect("an answer").expect(200);
                server.kill();
                Some(answer)
            }
        };
        let answer = answer.filter(|answer| answer.status == 200);
        let server = production.start();
        let http = server.http();
        let initialized = http.get("sys/init").expect(200).at("/initialized");
        match answer {
            Some(answer) => {
                assert_eq!(initialized, json!(true), "it was acknowledged");
                let keys = Keys {
                    hex: vec![answer.text_at("/keys/0")],
                    base64: Vec::new(),
                    root: answer.text_at("/root_token"),
                };
                keys.unseal(&http);
                http.with_token(&keys.root).get("sys/mounts").expect(200);
                drop(server);
                // Killed while it unseals, it unseals the next time.
                let server = production.start();
                let (http, share) = (server.http(), keys.hex[0].clone());
                let unseal = std::thread::spawn(move || {
                    http.try_send("POST", "sys/unseal", &json!({ "key": share }).to_string())
                });
                if let Some(delay) = delay {
                    std::thread::park_timeout(Duration::from_micros(delay / 3));
                }
                server.kill();
                drop(unseal.join().unwrap());
                let server = production.start();
                keys.unseal(&server.http());
                server.http().with_token(&keys.root).get("sys/mounts").expect(200);
            }
            // Nobody holds a share; the operator empties the directory and starts again.
            None if initialized == json!(true) => {
                http.post("sys/unseal", &json!({ "key": "00".repeat(32) })).expect(400);
            }
            None => Keys::initialize(&http, 1, 1).unseal(&http),
        }
    }
}
