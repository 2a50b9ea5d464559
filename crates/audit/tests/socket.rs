//! The `socket` device: what arrives, in which order, and what becomes of a peer that does not read, hangs up or is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::*;
use tokio::io::AsyncReadExt;
use tresor_audit::{AuditError, Broker, DeviceConfig, Options};
use tresor_env::Net;
use tresor_env::doubles::TestDoors;
use tresor_env::net::Stream;

const ADDRESS: &str = "127.0.0.1:5140";

fn address() -> SocketAddr {
    ADDRESS.parse().unwrap()
}

fn socket(options: &[(&str, &str)]) -> DeviceConfig {
    DeviceConfig { path: "socket/".to_owned(), kind: "socket".to_owned(), ..file_device(options) }
}

async fn broker(doors: &TestDoors) -> Broker {
    open(doors, vec![socket(&[("address", ADDRESS)])], Options::default()).await.unwrap()
}

async fn turns() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Everything that comes until the stream is quiet.
async fn read_available(stream: &mut Box<dyn Stream>, text: &mut String) {
    for _ in 0..400 {
        let mut bytes = [0; 16 * 1024];
        tokio::select! {
            biased;
            count = stream.read(&mut bytes) => match count.unwrap() {
                0 => return,
                count => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
            },
            () = turns() => return,
        }
    }
}

fn ids_of(text: &str) -> Vec<String> {
    ids(&text.lines().map(str::to_owned).collect::<Vec<_>>())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}")).collect()
}

async fn record_all(broker: &Broker, count: usize) {
    for name in names(count) {
        record(broker, &name).await.unwrap();
    }
}

#[tokio::test]
async fn lines_arrive_over_tcp_in_order_and_once() {
    let doors = TestDoors::new(1);
    let listener = doors.net.listen(address()).await.unwrap();
    let broker = broker(&doors).await;
    record_all(&broker, 50).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(broker.flush(BOUND).await);
    let mut text = String::new();
    read_available(&mut stream, &mut text).await;
    assert_eq!(ids_of(&text), names(50));
    assert!(text.starts_with(r#"{"time":"#) && text.ends_with("}\n"));
    assert!(!text.contains("canary"));
}

#[tokio::test]
async fn lines_arrive_over_a_local_socket_and_each_in_a_datagram_of_its_own() {
    let doors = TestDoors::new(1);
    let mut local = doors.net.listen_locally("/run/collector.sock");
    let mut datagrams = doors.net.receive_datagrams(address());
    let mut unix = socket(&[("address", "/run/collector.sock"), ("socket_type", "unix")]);
    unix.path = "unix/".to_owned();
    unix.salt = tresor_audit::DeviceSalt::from_bytes([4; 32]);
    let udp = socket(&[("address", ADDRESS), ("socket_type", "udp")]);
    let broker = open(&doors, vec![unix, udp], Options::default()).await.unwrap();
    record_all(&broker, 3).await;
    assert!(broker.flush(BOUND).await);
    let (mut stream, _) = local.recv().await.unwrap();
    let mut text = String::new();
    read_available(&mut stream, &mut text).await;
    assert_eq!(ids_of(&text), names(3));
    for name in names(3) {
        let datagram = String::from_utf8(datagrams.try_recv().unwrap()).unwrap();
        assert_eq!(ids_of(&datagram), [name]);
    }
}

#[tokio::test]
async fn a_line_that_fits_into_no_datagram_is_sent_as_one_that_says_so_and_counted() {
    let doors = TestDoors::new(1);
    let mut datagrams = doors.net.receive_datagrams(address());
    let udp = socket(&[("address", ADDRESS), ("socket_type", "udp")]);
    let broker = open(&doors, vec![udp], Options::default()).await.unwrap();
    record(&broker, "short").await.unwrap();
    let long = (0..2000).map(|at| (format!("name-{at}"), "canary-value".into())).collect();
    record_body(&broker, "long", long).await.unwrap();
    record(&broker, "after").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let mut next = || String::from_utf8(datagrams.try_recv().unwrap()).unwrap();
    assert_eq!(ids_of(&next()), ["short"]);
    let cut: serde_json::Value = serde_json::from_str(&next()).unwrap();
    assert_eq!(cut["type"], "cut");
    assert!(cut["line_bytes"].as_u64().unwrap() > 65_507, "{cut}");
    let beginning = cut["beginning"].as_str().unwrap();
    assert!(beginning.starts_with(r#"{"time":"#) && beginning.contains(r#""id":"long""#), "{beginning}");
    assert!(!beginning.contains("canary"));
    assert_eq!(ids_of(&next()), ["after"]);
    assert_eq!(broker.standing().devices[0].cut_lines, 1);
}

#[tokio::test]
async fn a_peer_that_stops_reading_delays_nobody_and_goes_on_where_it_stopped() {
    let doors = TestDoors::new(1);
    let listener = doors.net.listen(address()).await.unwrap();
    let broker = broker(&doors).await;
    let (mut stream, _) = {
        record(&broker, "r0").await.unwrap();
        listener.accept().await.unwrap()
    };
    for name in &names(400)[1..] {
        record(&broker, name).await.unwrap();
    }
    turns().await;
    doors.clock.advance(Duration::from_secs(3));
    turns().await;
    let standing = &broker.standing().devices[0];
    assert_eq!(standing.last_error.as_deref(), Some("the peer does not read"));
    assert!(standing.lag_records > 200 && standing.lag_bytes > 0 && standing.attempts > 0, "{standing:?}");
    let mut text = String::new();
    for _ in 0..20 {
        read_available(&mut stream, &mut text).await;
        doors.clock.advance(Duration::from_secs(2));
        turns().await;
    }
    assert!(broker.flush(Duration::ZERO).await);
    read_available(&mut stream, &mut text).await;
    assert_eq!(ids_of(&text), names(400), "each once");
    let standing = &broker.standing().devices[0];
    assert_eq!((standing.lag_records, standing.last_error.as_deref(), standing.attempts), (0, None, 0));
}

#[tokio::test]
async fn what_a_peer_never_read_is_sent_again_over_the_next_connection() {
    let doors = TestDoors::new(1);
    let listener = doors.net.listen(address()).await.unwrap();
    let broker = broker(&doors).await;
    record_all(&broker, 400).await;
    turns().await;
    let (stream, _) = listener.accept().await.unwrap();
    turns().await;
    // It accepted, it read nothing, and it is gone.
    drop(stream);
    let mut text = String::new();
    for _ in 0..6 {
        doors.clock.advance(Duration::from_secs(31));
        turns().await;
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let (mut stream, _) = accepted.unwrap();
                for _ in 0..20 {
                    read_available(&mut stream, &mut text).await;
                }
                break;
            }
            () = turns() => {}
        }
    }
    assert_eq!(ids_of(&text), names(400), "at least once, in order, from the first on");
    assert_eq!(broker.standing().devices[0].last_error, None);
}

#[tokio::test]
async fn records_wait_while_there_is_no_peer_and_across_restarts() {
    let doors = TestDoors::new(1);
    {
        let broker = broker(&doors).await;
        record_all(&broker, 5).await;
        turns().await;
        let standing = broker.standing();
        assert_eq!(standing.devices[0].lag_records, 5);
        assert!(standing.devices[0].last_error.as_deref().unwrap().contains("refused"), "{standing:?}");
        doors.clock.advance(Duration::from_secs(7));
        assert_eq!(broker.standing().devices[0].lag_age, Duration::from_secs(7));
        assert!(!broker.close(Duration::ZERO).await);
    }
    let listener = doors.net.listen(address()).await.unwrap();
    let broker = broker(&doors).await;
    assert!(broker.flush(BOUND).await);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    read_available(&mut stream, &mut text).await;
    assert_eq!(ids_of(&text), names(5));
}

#[tokio::test]
async fn a_peer_that_hangs_up_in_good_order_at_the_end_is_told_nothing_twice() {
    let doors = TestDoors::new(1);
    let listener = doors.net.listen(address()).await.unwrap();
    let mut text = String::new();
    for round in 0..3 {
        let broker = broker(&doors).await;
        record(&broker, &format!("r{round}")).await.unwrap();
        assert!(broker.flush(BOUND).await);
        let (mut stream, _) = listener.accept().await.unwrap();
        let reading = async {
            stream.read_to_string(&mut text).await.unwrap();
            drop(stream);
        };
        let (closed, ()) = tokio::join!(broker.close(BOUND), reading);
        assert!(closed);
    }
    assert_eq!(ids_of(&text), names(3));
}

#[tokio::test]
async fn a_full_backlog_refuses_says_so_and_heals_when_the_peer_reads_or_is_disabled() {
    for is_read in [true, false] {
        let doors = TestDoors::new(1);
        let listener = doors.net.listen(address()).await.unwrap();
        let mut options = Options::default();
        options.log.backlog_bytes_max = 100_000;
        let broker = open(&doors, vec![socket(&[("address", ADDRESS)])], options).await.unwrap();
        let mut taken = 0;
        while record(&broker, &format!("r{taken}")).await.is_ok() {
            taken += 1;
            assert!(taken < 2_000);
            turns().await;
        }
        assert!(matches!(record(&broker, "more").await, Err(AuditError::BacklogFull)));
        let standing = broker.standing();
        assert!(!standing.log.accepting && standing.log.last_error.unwrap().contains("backlog is full"));
        if is_read {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            for _ in 0..30 {
                read_available(&mut stream, &mut text).await;
                doors.clock.advance(Duration::from_secs(2));
                turns().await;
            }
            assert_eq!(ids_of(&text), names(taken), "nothing is lost, and what was refused is not there");
        } else {
            broker.disable("socket/").unwrap();
            turns().await;
            doors.clock.advance(Duration::from_secs(6));
            turns().await;
        }
        assert!(broker.standing().log.accepting);
        record(&broker, "after").await.unwrap();
    }
}

#[tokio::test]
async fn a_device_is_enabled_only_when_its_peer_takes_a_line() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    let refused = broker.prepare(socket(&[("address", ADDRESS)])).await.err().unwrap();
    assert!(refused.to_string().starts_with("audit backend failed test message: "), "{refused}");
    drop(broker.prepare(socket(&[("address", ADDRESS), ("skip_test", "true")])).await.unwrap());
    let listener = doors.net.listen(address()).await.unwrap();
    let prepared = broker.prepare(socket(&[("address", ADDRESS)])).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(prepared);
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains(r#""path":"sys/audit/test""#) && text.lines().count() == 1, "{text}");
    assert!(!broker.is_enabled());
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    for (options, expected) in [
        (&[][..], "`address` is required"),
        (&[("address", "nowhere")], "`address` must be a host and a port"),
        (&[("address", "host:port")], "`address` must be a host and a port"),
        (&[("address", ADDRESS), ("socket_type", "carrier-pigeon")], "`socket_type` must be `tcp`, `udp` or `unix`"),
        (&[("address", ADDRESS), ("write_timeout", "soon")], "`write_timeout` must be a duration of at most 60s"),
        (&[("address", ADDRESS), ("write_timeout", "0s")], "`write_timeout` must be a duration of at most 60s"),
        (&[("address", ADDRESS), ("file_path", "x")], "unknown option `file_path`"),
    ] {
        let refused = broker.prepare(socket(options)).await.err().unwrap();
        assert_eq!(refused.to_string(), expected);
    }
}
