//! Very many accounts of a service that fails in every way there is, while the server is killed now and then: at the end there
//! is neither an account without a lease nor a lease that was not taken back.
//!
//! `cargo bench -p tresor-harness --bench orphans -- --accounts 100000`; without arguments it runs small, to see that it runs.
//! `--failing PERCENT` (10) of what the service is asked fails or hangs. The service lives in this process and the clock is
//! advanced, so that hours pass in minutes. Deliberately absent: rates (`cargo xtask bench --credentials` measures them).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a long test prints, and ends when something fails"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tresor_harness::lending::{Does, Service, service};
use tresor_harness::{Answer, Harness, ROOT};

/// How many are asked for at once.
const AT_ONCE: usize = 100;
/// After so many of these the server is killed in the middle of the next ones.
const LIFE: usize = 25;
/// Every so many the way to what hangs is free for a moment: it comes true, whether or not anybody still waits for it. With a
/// minute each, that is less than the five minutes for which what was asked in vain is waited for.
const LATE: usize = 4;
/// How many hours all that is left may take, once the service does what it is asked.
const HOURS_MAX: usize = 48;

fn number(name: &str, default: usize) -> usize {
    let argument = std::env::args().skip_while(|argument| argument != name).nth(1);
    argument.map_or(default, |number| number.parse().unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (accounts, failing) = (number("--accounts", 300), number("--failing", 10) as u64);
    let begun = Instant::now();
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/lent", json!({ "type": "lending" })).await;
    harness.prepare("POST", "lent/config", json!({ "service": "moody" })).await;
    let service = service("moody");
    service.fails(failing, 1);
    let mut told = Told::default();
    let (mut round, mut kills) = (0, 0);
    while told.made < accounts {
        round += 1;
        if round % LIFE == 0 {
            die_in_the_middle(&mut harness).await;
            kills += 1;
        }
        ask(&harness, &mut told, round).await;
        if round % LATE == 0 {
            service.comes_true();
        }
        if round % 100 == 0 {
            println!("{} made, {} there, {:.0?}", told.made, service.accounts().len(), begun.elapsed());
        }
    }
    println!(
        "{} accounts made, {} requests refused or broken off, {kills} kills, the service was asked {} times; {} are there",
        told.made,
        told.failed,
        service.asked(),
        service.accounts().len()
    );
    let hours = settle(&harness, &service).await;
    let (live, irrevocable) = (count(&harness, "live").await, count(&harness, "irrevocable").await);
    let orphans = service.accounts();
    println!(
        "{hours} hours later: {live} leases, {irrevocable} of them irrevocable; {} accounts; {:.0?}",
        orphans.len(),
        begun.elapsed()
    );
    assert!(orphans.is_empty(), "{orphans:?}");
    assert_eq!((live, irrevocable), (0, 0));
    assert!(told.names.len() == told.made, "each account was somebody's own");
}

/// What callers were told.
#[derive(Default)]
struct Told {
    made: usize,
    failed: usize,
    names: BTreeSet<String>,
}

fn creds(harness: &Harness, life: usize) -> impl Future<Output = Answer> {
    let path = format!("lent/creds/role?ttl={life}s");
    async move { harness.read(&path, ROOT).await }
}

/// Callers who come together, with lives that end at different times; time passes until each has an answer.
async fn ask(harness: &Harness, told: &mut Told, round: usize) {
    let asking = join_all((0..AT_ONCE).map(|at| creds(harness, 60 + (round * 37 + at * 11) % 900)));
    tokio::pin!(asking);
    let answers = loop {
        tokio::select! {
            biased;
            answers = &mut asking => break answers,
            () = harness.advance(Duration::from_secs(1)) => {}
        }
    };
    for answer in answers {
        if answer.status == 200 {
            told.made += 1;
            told.names.insert(answer.text_at("/data/username"));
        } else {
            assert!(matches!(answer.status, 400 | 502 | 503), "{answer:?}");
            told.failed += 1;
        }
    }
}

/// The process is killed while it is asked, and another one is opened.
async fn die_in_the_middle(harness: &mut Harness) {
    {
        let asking = join_all((0..AT_ONCE).map(|at| creds(harness, 60 + at)));
        tokio::pin!(asking);
        tokio::select! {
            biased;
            _ = &mut asking => {}
            () = harness.settle() => {}
        }
    }
    harness.kill();
    harness.unseal().await;
}

/// The service does what it is asked from now on; how many hours pass until nothing is left.
async fn settle(harness: &Harness, service: &Service) -> usize {
    service.is_told(Does::Everything);
    service.comes_true();
    for hours in 0..HOURS_MAX {
        if service.accounts().is_empty() && count(harness, "live").await == 0 {
            return hours;
        }
        for _ in 0..360 {
            harness.advance(Duration::from_secs(10)).await;
        }
    }
    HOURS_MAX
}

async fn count(harness: &Harness, kind: &str) -> u64 {
    let answer = harness.read(&format!("sys/leases/count?type={kind}"), ROOT).await.expect_status(200);
    answer.at("/data/lease_count").as_u64().unwrap()
}
