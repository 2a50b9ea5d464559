//! The `http` device: what is posted, and that a server that refuses, hangs or is away loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::*;
use tresor_audit::{Broker, DeviceConfig, Options};
use tresor_env::doubles::TestDoors;
use tresor_env::outgoing::{Ask, OutgoingError};
use zeroize::Zeroizing;

const URI: (&str, &str) = ("uri", "https://logs.example/ingest");

type Posted = Arc<Mutex<Vec<(String, String, Vec<(String, String)>)>>>;

fn http(options: &[(&str, &str)]) -> DeviceConfig {
    DeviceConfig { path: "http/".to_owned(), kind: "http".to_owned(), ..file_device(options) }
}

/// A server that says these statuses, one after the other, and the last of them from then on; 0 is no answer.
fn server(doors: &TestDoors, statuses: &[u16]) -> Posted {
    let posted = Posted::default();
    let (seen, statuses) = (Arc::clone(&posted), Mutex::new(statuses.to_vec()));
    doors.outgoing.answer(move |request| {
        let mut left = statuses.lock().unwrap();
        let status = if left.len() > 1 { left.remove(0) } else { left[0] };
        if status == 0 {
            return Err(OutgoingError::TooSlow);
        }
        if status < 300 {
            let Ask::Post(body) = &request.ask else { unreachable!("only posts") };
            let headers = request.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            seen.lock().unwrap().push((request.url.clone(), String::from_utf8(body.to_vec()).unwrap(), headers));
        }
        Ok((status, Vec::new()))
    });
    posted
}

fn posted_ids(posted: &Posted) -> Vec<String> {
    let lines: Vec<String> = posted
        .lock()
        .unwrap()
        .iter()
        .flat_map(|(_, body, _)| body.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    ids(&lines)
}

async fn broker(doors: &TestDoors, more: &[(&str, &str)]) -> Broker {
    let mut all = vec![URI];
    all.extend(more);
    open(doors, vec![http(&all)], Options::default()).await.unwrap()
}

#[tokio::test]
async fn each_line_is_a_post_with_the_headers_that_were_asked_for() {
    let doors = TestDoors::new(1);
    let posted = server(&doors, &[204]);
    let broker =
        broker(&doors, &[("headers", r#"{"Authorization":["Bearer x"],"X-Two":["1","2"],"X-None":[]}"#)]).await;
    record(&broker, "a").await.unwrap();
    record_both(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(posted_ids(&posted), ["a", "b", "b"]);
    let posts = posted.lock().unwrap();
    assert_eq!(posts.len(), 3);
    for (url, body, headers) in posts.iter() {
        assert_eq!(url, URI.1);
        assert!(body.ends_with("}\n") && !body.contains("canary"), "{body}");
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let all = [("Authorization", "Bearer x"), ("X-Two", "1"), ("X-Two", "2"), ("content-type", "application/json")];
        assert_eq!(pairs, all);
    }
}

#[tokio::test]
async fn a_server_that_refuses_or_hangs_is_asked_again_and_misses_nothing() {
    let doors = TestDoors::new(1);
    let posted = server(&doors, &[200, 500, 0, 302, 404, 200]);
    let broker = broker(&doors, &[]).await;
    for number in 0..4 {
        record(&broker, &format!("r{number}")).await.unwrap();
    }
    let mut errors = Vec::new();
    for _ in 0..20 {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        errors.extend(broker.standing().devices[0].last_error.clone());
        doors.clock.advance(Duration::from_secs(31));
    }
    assert_eq!(posted_ids(&posted), ["r0", "r1", "r2", "r3"]);
    errors.dedup();
    let told = [
        "the server answered 500",
        "the server took too long to answer",
        "the server answered 302",
        "the server answered 404",
    ];
    assert_eq!(errors, told);
    let numbers = broker.numbers().remove(0).1;
    assert_eq!(numbers.log_request_failure.read(Duration::ZERO).total, 4);
    assert_eq!(numbers.lines.read(Duration::ZERO).total, 4, "what was taken in part counts when all of it is");
}

#[tokio::test]
async fn lines_that_wait_are_one_post_where_that_was_asked_for() {
    let doors = TestDoors::new(1);
    let posted = server(&doors, &[503, 200]);
    let broker = broker(&doors, &[("batch", "true")]).await;
    for number in 0..20 {
        record(&broker, &format!("r{number}")).await.unwrap();
    }
    for _ in 0..5 {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        doors.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(posted_ids(&posted), (0..20).map(|number| format!("r{number}")).collect::<Vec<_>>());
    let posts = posted.lock().unwrap();
    assert!(posts.len() < 5, "{}", posts.len());
    assert!(posts[0].2.contains(&("content-type".to_owned(), "application/x-ndjson".to_owned())));
}

#[tokio::test]
async fn only_what_the_configuration_declares_may_name_variables_and_files() {
    let doors = TestDoors::new(1);
    let posted = server(&doors, &[200]);
    let references: tresor_audit::References =
        Arc::new(|place| (place == "env://TOKEN").then(|| Zeroizing::new("secret".to_owned())));
    let options = Options { references: Some(references), ..Options::default() };
    let headers = |place: &str| format!(r#"{{"Authorization":["{place}"]}}"#);
    let broker = open(&doors, Vec::new(), options).await.unwrap();
    let refused = broker.prepare(http(&[URI, ("headers", &headers("env://TOKEN"))])).await.err().unwrap().to_string();
    assert!(refused.contains("only a device that the configuration declares"), "{refused}");
    assert!(broker.prepare(http(&[("uri", "file:///etc/passwd")])).await.is_err());
    let declared = |place: &str| DeviceConfig { declared: true, ..http(&[URI, ("headers", &headers(place))]) };
    assert!(broker.prepare(declared("env://OTHER")).await.is_err());
    let prepared = broker.prepare(declared("env://TOKEN")).await.unwrap();
    assert_eq!(posted.lock().unwrap()[0].2[0], ("Authorization".to_owned(), "secret".to_owned()));
    drop(prepared);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), Options::default()).await.unwrap();
    for options in [
        [("uri", ""), ("batch", "true")],
        [("uri", "logs.example"), ("batch", "true")],
        [("uri", "ftp://logs.example"), ("batch", "true")],
        [("uri", "https://logs.example/a b"), ("batch", "true")],
        [URI, ("headers", "x")],
        [URI, ("headers", "[]")],
        [URI, ("headers", r#"{"a":"b"}"#)],
        [URI, ("headers", r#"{"a b":["c"]}"#)],
        [URI, ("headers", r#"{"Host":["c"]}"#)],
        [URI, ("headers", r#"{"a":["c\n"]}"#)],
        [URI, ("batch", "some")],
        [URI, ("write_timeout", "2h")],
    ] {
        assert!(broker.check(&http(&options)).is_err(), "{options:?}");
    }
}
