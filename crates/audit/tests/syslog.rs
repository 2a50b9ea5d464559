//! The `syslog` device: what its messages are, and that a daemon that stands still, ends or is gone loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::*;
use tokio::sync::mpsc::Receiver;
use tresor_audit::{Broker, DeviceConfig, Options};
use tresor_env::doubles::TestDoors;
use tresor_model::map;

const PLACE: &str = "/run/daemon/log";

fn syslog(options: &[(&str, &str)]) -> DeviceConfig {
    DeviceConfig { path: "syslog/".to_owned(), kind: "syslog".to_owned(), ..file_device(options) }
}

async fn broker(doors: &TestDoors) -> Broker {
    let options = Options { process_id: 17, ..Options::default() };
    open(doors, vec![syslog(&[("address", PLACE)])], options).await.unwrap()
}

async fn turns() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The ids in what the daemon reads now.
fn read(daemon: &mut Receiver<Vec<u8>>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(message) = daemon.try_recv() {
        let message = String::from_utf8(message).unwrap();
        let (header, line) = message.split_once(": ").unwrap();
        assert_eq!(header, "<38>Jan  1 00:00:00 vault[17]");
        lines.push(line.to_owned());
    }
    ids(&lines)
}

#[tokio::test]
async fn each_line_is_a_message_with_a_header() {
    let doors = TestDoors::new(1);
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 100);
    let broker = broker(&doors).await;
    record(&broker, "a").await.unwrap();
    record_both(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(read(&mut daemon), ["a", "b", "b"]);
    let given = syslog(&[("address", PLACE), ("facility", "local7"), ("tag", "tresor-audit"), ("prefix", "")]);
    let prepared = broker.prepare(DeviceConfig { path: "other/".to_owned(), ..given }).await.unwrap();
    let tried = String::from_utf8(daemon.recv().await.unwrap()).unwrap();
    assert!(
        tried.starts_with("<190>")
            && tried.contains(" tresor-audit[17]: {\"time\":")
            && tried.trim_end().ends_with('}'),
        "{tried}"
    );
    drop(prepared);
}

#[tokio::test]
async fn a_daemon_that_stands_still_gets_each_message_once_when_it_goes_on() {
    let doors = TestDoors::new(1);
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 3);
    let broker = broker(&doors).await;
    for number in 0..10 {
        record(&broker, &format!("r{number}")).await.unwrap();
        turns().await;
    }
    doors.clock.advance(Duration::from_secs(3));
    turns().await;
    let standing = broker.standing().devices[0].clone();
    assert!(standing.lag_records > 0 && standing.last_error.unwrap().contains("does not take datagrams"));
    let mut told = Vec::new();
    for _ in 0..20 {
        told.extend(read(&mut daemon));
        doors.clock.advance(Duration::from_secs(31));
        turns().await;
    }
    assert_eq!(told, (0..10).map(|number| format!("r{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_daemon_had_not_read_when_it_ended_is_sent_to_the_next_one() {
    let doors = TestDoors::new(1);
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 100);
    let broker = broker(&doors).await;
    let mut told = Vec::new();
    for number in 0..4 {
        record(&broker, &format!("read{number}")).await.unwrap();
        turns().await;
        told.extend(read(&mut daemon));
    }
    for number in 0..4 {
        record(&broker, &format!("unread{number}")).await.unwrap();
        turns().await;
    }
    // It ends with these in its socket; the place that is kept on disk meanwhile is before them.
    doors.clock.advance(Duration::from_secs(5));
    turns().await;
    drop(daemon);
    record(&broker, "after").await.unwrap();
    turns().await;
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 100);
    doors.clock.advance(Duration::from_secs(31));
    turns().await;
    let again = read(&mut daemon);
    told.extend(again.clone());
    for id in ["read0", "read3", "unread0", "unread1", "unread2", "unread3", "after"] {
        assert!(told.contains(&id.to_owned()), "{id} is missing in {told:?}");
    }
    assert!(!again.contains(&"read1".to_owned()), "{again:?}");
}

#[tokio::test]
async fn a_restart_repeats_no_more_than_what_is_not_known_to_be_read() {
    let doors = TestDoors::new(1);
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 100);
    let broker_of_before = broker(&doors).await;
    for number in 0..5 {
        record(&broker_of_before, &format!("r{number}")).await.unwrap();
        turns().await;
        assert_eq!(read(&mut daemon), [format!("r{number}")]);
        doors.clock.advance(Duration::from_secs(2));
        turns().await;
    }
    broker_of_before.close(Duration::ZERO).await;
    drop(broker_of_before);
    let broker = broker(&doors).await;
    record(&broker, "next").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let told = read(&mut daemon);
    assert!(told == ["r4", "next"] || told == ["next"], "{told:?}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut_behind_its_header() {
    let doors = TestDoors::new(1);
    let mut daemon = doors.net.receive_local_datagrams(PLACE, 100);
    let broker = broker(&doors).await;
    let names: Vec<String> = (0..3000).map(|number| format!("v{number}")).collect();
    record_body(&broker, "long", map! { "all" => names }).await.unwrap();
    assert!(broker.flush(BOUND).await);
    let cut = String::from_utf8(daemon.recv().await.unwrap()).unwrap();
    let line = cut.strip_prefix("<38>Jan  1 00:00:00 vault[17]: ").unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["type"], "cut");
    assert!(line["line_bytes"].as_u64().unwrap() > 200_000 && line["beginning"].as_str().unwrap().contains("\"long\""));
    assert_eq!(broker.standing().devices[0].cut_lines, 1);
}

#[tokio::test]
async fn options_are_checked_and_a_daemon_that_is_not_there_is_said() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    for options in [
        [("facility", "AUDIT")],
        [("tag", "two words")],
        [("tag", "a:b")],
        [("write_timeout", "0s")],
        [("port", "514")],
    ] {
        assert!(broker.check(&syslog(&options)).is_err(), "{options:?}");
    }
    let refused = broker.prepare(syslog(&[])).await.err().unwrap().to_string();
    assert!(refused.starts_with("audit backend failed test message: "), "{refused}");
    assert!(broker.prepare(syslog(&[("skip_test", "true")])).await.is_ok());
}
