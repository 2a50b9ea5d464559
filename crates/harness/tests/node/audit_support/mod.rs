//! What both suites about audit need: a node with a device, and a look at its file.
#![allow(dead_code, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tresor_harness::Harness;

pub(crate) async fn audited() -> Harness {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness
}

pub(crate) async fn enable(harness: &Harness, name: &str, options: Value) {
    harness.prepare("PUT", &format!("sys/audit/{name}"), json!({ "type": "file", "options": options })).await;
}

/// The records of one path: how many requests and how many responses.
pub(crate) fn counts(records: &[Value], path: &str) -> (usize, usize) {
    let of = |kind: &str| {
        records.iter().filter(|record| record["type"] == kind && record["request"]["path"] == path).count()
    };
    (of("request"), of("response"))
}

/// Every record of a request has exactly one of a response, with the same id, later; those that no request belongs to
/// are the answers that enabled a device.
#[track_caller]
pub(crate) fn assert_paired(records: &[Value]) {
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut closed: BTreeSet<String> = BTreeSet::new();
    for record in records {
        let id = record["request"]["id"].as_str().unwrap().to_owned();
        if record["type"] == "request" {
            assert!(open.insert(id.clone()), "{id} was recorded twice");
        } else {
            let enables = record["request"]["path"].as_str().unwrap_or_default().starts_with("sys/audit/");
            assert!(open.remove(&id) || enables, "an answer without its request: {record}");
            assert!(closed.insert(id), "an answer was recorded twice");
        }
    }
    assert!(open.is_empty(), "requests without an answer: {open:?}");
}

pub(crate) fn lines(harness: &Harness, path: &str) -> Vec<Value> {
    let files = harness.doors.disk.dump();
    let text = String::from_utf8(files.get(Path::new(path)).cloned().unwrap_or_default()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect("an audit line is JSON")).collect()
}

/// Reads a device's file as text.
pub(crate) async fn text(harness: &Harness, path: &str) -> String {
    harness.settle().await;
    String::from_utf8(harness.doors.disk.dump().get(Path::new(path)).cloned().unwrap_or_default()).unwrap()
}
