//! A node of a cluster that is stopped for seconds and goes on (SIGSTOP, SIGCONT), as when a machine is moved or its memory
//! is swapped out: it does not know that time has passed.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::support::cluster::{Here, Three, insist};
use super::support::{read_answer, under_load, until};

/// How long a node is stopped at least: well beyond the time after which the others elect.
const STOPPED: Duration = Duration::from_secs(3);
/// How many requests wait for the node that goes on.
const WAITING: usize = 16;

#[test]
fn a_leader_that_was_stopped_answers_nothing_of_before_when_it_goes_on() {
    let three = Three::start(&Here);
    let leader = three.leader();
    let others = [1, 2].map(|step| three.http((leader + step) % 3));
    insist(&others[0], "POST", "kv/marker", &json!({ "x": "before" }).to_string());
    let mut another_leads = None;
    let seen = under_load(&others, |load| {
        load.more(50);
        let stopped = Instant::now();
        three.server(leader).signal(Signal::STOP);
        insist(&others[0], "POST", "kv/marker", &json!({ "x": "after" }).to_string());
        another_leads = Some(Instant::now());
        load.more(100);
        std::thread::park_timeout(STOPPED.saturating_sub(stopped.elapsed()));
        // The system takes these for it; they are the first that it sees, before it can hear of another leader.
        let woken = three.http(leader);
        let ask = |method: &str, path: &str, body: &str| {
            let mut stream = woken.connect();
            stream.write_all(format!("{}{body}", woken.head_of(method, path, body.len())).as_bytes()).unwrap();
            stream
        };
        let mut reads: Vec<_> = (0..WAITING).map(|_| ask("GET", "kv/marker", "")).collect();
        let mut writes: Vec<_> =
            (0..WAITING).map(|at| ask("POST", &format!("kv/waiting-{at}"), &json!({ "x": "1" }).to_string())).collect();
        three.server(leader).signal(Signal::CONT);
        for stream in &mut reads {
            let read = read_answer(stream).unwrap();
            assert!(read.status >= 500 || read.text_at("/data/x") == "after", "{}", read.text);
        }
        for (at, stream) in writes.iter_mut().enumerate() {
            let wrote = read_answer(stream).unwrap();
            assert!(wrote.status >= 500 || wrote.status == 204, "{}", wrote.text);
            let read = insist(&others[at % 2], "GET", "kv?list=true", "");
            let is_there = read.at("/data/keys").as_array().unwrap().contains(&json!(format!("waiting-{at}")));
            assert!(is_there || wrote.status >= 500, "{at}: {}", wrote.text);
        }
        load.more(50);
    });
    seen.has_refused_nothing_since(another_leads.unwrap());
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
    assert_ne!(three.leader(), leader);
}

#[test]
fn nobody_feels_that_a_standby_is_stopped() {
    let three = Three::start(&Here);
    let leader = three.leader();
    let (stopped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let begun = Instant::now();
    let seen = under_load(&[three.http(leader), three.http(other)], |load| {
        load.more(50);
        let since = Instant::now();
        three.server(stopped).signal(Signal::STOP);
        load.more(100);
        std::thread::park_timeout(STOPPED.saturating_sub(since.elapsed()));
        load.more(50);
        three.server(stopped).signal(Signal::CONT);
        load.more(50);
    });
    seen.has_refused_nothing_since(begun);
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
    assert_eq!(three.leader(), leader);
}

#[test]
fn a_leader_that_is_told_to_stop_keeps_nobody_waiting_while_it_serves_on() {
    let mut three = Three::start(&Here);
    let leader = three.leader();
    let other = three.http((leader + 1) % 3);
    // Somebody probes it, so it does not end at once.
    three.serves(leader);
    let stopping = three.http(leader);
    let mut kept = stopping.connect();
    let mut is_closed_by_an_answer = || {
        kept.write_all(b"GET /v1/sys/seal-status HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        read_answer(&mut kept).unwrap().head.to_lowercase().contains("connection: close")
    };
    assert!(!is_closed_by_an_answer());
    let begun = Instant::now();
    three.server(leader).signal(Signal::TERM);
    let probe = || stopping.try_send("GET", "sys/health?standbyok=true", "");
    let told = until("probes to be told", || probe().filter(|health| health.status == 503));
    assert_eq!(told.at("/leaving"), json!(true));
    until("connections to end with their answers", || is_closed_by_an_answer().then_some(()));
    let mut slowest = Duration::ZERO;
    while three.servers[leader].as_mut().unwrap().is_running() {
        let asked = Instant::now();
        insist(&other, "POST", "kv/a", &json!({ "x": "1" }).to_string());
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < begun.elapsed() / 2, "{slowest:?} of {:?}", begun.elapsed());
}
