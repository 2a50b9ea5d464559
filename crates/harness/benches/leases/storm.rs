//! Very many tokens and leases that end in the same second, and what requests take meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_harness::ROOT;

use crate::server::Server;

/// How long latencies are taken before, and while things are collected; and when everything must be.
const BASELINE: Duration = Duration::from_secs(10);
const MEANWHILE: Duration = Duration::from_secs(30);
const COLLECTED_WITHIN: Duration = Duration::from_secs(600);
/// Clients that ask meanwhile, and how long each pauses.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// What requests took, sorted, and how many were answered with a failure.
#[derive(Default)]
struct Latencies {
    reads: Vec<Duration>,
    writes: Vec<Duration>,
    failures: usize,
}

impl Latencies {
    fn sorted(all: Vec<Self>) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.reads.extend(one.reads);
            sum.writes.extend(one.writes);
            sum.failures += one.failures;
        }
        sum.reads.sort_unstable();
        sum.writes.sort_unstable();
        sum
    }

    fn show(&self, when: &str) {
        let at = |all: &[Duration], permille: usize| all.get(all.len() * permille / 1000).copied().unwrap_or_default();
        for (what, all) in [("look-ups", &self.reads), ("writes", &self.writes)] {
            println!("{when}: {} {what}, p50 {:?}, p99 {:?}", all.len(), at(all, 500), at(all, 990));
        }
        if self.failures > 0 {
            println!("{when}: {} answers were failures", self.failures);
        }
    }
}

/// Lets half tokens, half secrets end in one second.
pub(crate) async fn end_many(server: &Server, ending: usize, failing: u64) {
    let owner = server.token(ROOT, "200h").await;
    let before = server.live().await;
    drop(server.call("POST", "sys/mounts/ending", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
    let begun = server.node.now();
    let started = Instant::now();
    let reserve = Duration::from_secs(20 + u64::try_from(ending / 4_000).unwrap());
    let end = begun.plus(reserve);
    make(server, &owner, ending, end).await;
    let last = reserve.saturating_sub(Duration::from_secs(1));
    tokio::time::sleep(last.saturating_sub(BASELINE + started.elapsed())).await;
    let baseline = ask_for(server, || started.elapsed() < last).await;
    let alive = server.live().await;
    println!("{ending} that end in one second are made; {alive} are alive");
    baseline.show("before");
    tokio::time::sleep(reserve.saturating_sub(started.elapsed())).await;
    server.faults.set(failing);
    let stormed = Instant::now();
    ask_for(server, || stormed.elapsed() < MEANWHILE).await.show("meanwhile");
    server.faults.set(0);
    let left = server.live().await.saturating_sub(before);
    server.faults.set(failing);
    println!("after {MEANWHILE:?} under requests {left} tokens and secrets wait");
    while stormed.elapsed() < COLLECTED_WITHIN && !is_over(server, before).await {
        // Seldom, so that it is calm between.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (failed, calls) = server.faults.counted();
    server.faults.set(0);
    let left = server.live().await.saturating_sub(before);
    println!(
        "{left} tokens and secrets were left {:.0?} after their end; {}",
        stormed.elapsed(),
        irrevocable(server).await
    );
    println!("{failed} of {calls} calls of the store failed, to the very end");
    assert!(is_over(server, before).await, "everything was collected");
    assert!(!server.node.standing().unwrap().sealed, "the node sealed itself");
    let sums = server.call("GET", "ending/sums", ROOT, Value::Null).await.expect_status(200);
    let sum = |name: &str| sums.at(&format!("/data/{name}")).as_u64();
    println!(
        "secrets taken back: {:?}, more than once: {:?}; {}",
        sum("revoked"),
        sum("twice"),
        irrevocable(server).await
    );
    assert_eq!(sum("revoked"), u64::try_from(ending / 2).ok(), "each secret was taken back");
    assert_eq!(sum("twice"), Some(0), "none was taken back twice");
}

async fn is_over(server: &Server, before: u64) -> bool {
    // The second is asked only then: it reads what was taken back.
    server.live().await <= before
        && server.call("GET", "ending/sums", ROOT, Value::Null).await.at("/data/any_left").as_bool() == Some(false)
}

async fn irrevocable(server: &Server) -> String {
    let answer = server.call("GET", "sys/leases/count?type=irrevocable", ROOT, Value::Null).await;
    format!("irrevocable: {}", answer.at("/data/lease_count"))
}

async fn make(server: &Server, owner: &str, ending: usize, end: tresor_model::Timestamp) {
    let mut made = 0;
    while made < ending {
        let some = 128.min(ending - made);
        let one = |at: usize| async move {
            let ttl = format!("{}ms", end.since(server.node.now()).as_millis());
            if at.is_multiple_of(2) {
                drop(server.token(ROOT, &ttl).await)
            } else {
                drop(server.secret("ending", owner, &ttl).await)
            }
        };
        drop(futures_util::future::join_all((made..made + some).map(one)).await);
        made += some;
    }
}

/// Look-ups and writes by a few clients.
async fn ask_for(server: &Server, goes_on: impl Fn() -> bool) -> Latencies {
    let goes_on = &goes_on;
    let one = |client: usize| async move {
        let mut taken = Latencies::default();
        while goes_on() {
            let asked = Instant::now();
            let read = server.call("GET", "auth/token/lookup-self", ROOT, Value::Null).await;
            let (read_took, asked) = (asked.elapsed(), Instant::now());
            let written = server.call("POST", &format!("cubbyhole/{client}"), ROOT, json!({ "a": "b" })).await;
            let write_took = asked.elapsed();
            // A refusal is quick: only what succeeded says how long it takes.
            for (answer, took, all) in [(read, read_took, &mut taken.reads), (written, write_took, &mut taken.writes)] {
                if answer.status < 300 { all.push(took) } else { taken.failures += 1 }
            }
            tokio::time::sleep(PAUSE).await;
        }
        taken
    };
    Latencies::sorted(futures_util::future::join_all((0..CLIENTS).map(one)).await)
}
