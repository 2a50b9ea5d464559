//! Work that goes on after its answer says how far it is: how much is done, and how much is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

/// More than is done in one step.
const MANY: u64 = 600;
/// More steps than anything here takes.
const STEPS_MAX: usize = 400;

async fn with_secrets(mount: &str) -> Harness {
    let harness = Harness::start().await;
    if let Some((namespace, _)) = mount.split_once('/') {
        harness.prepare("POST", &format!("sys/namespaces/{namespace}"), json!({})).await;
    }
    let (space, name) =
        mount.split_once('/').map_or((String::new(), mount), |(space, name)| (format!("{space}/"), name));
    harness.prepare("POST", &format!("{space}sys/mounts/{name}"), json!({ "type": "kv" })).await;
    for number in 0..MANY {
        harness.prepare("POST", &format!("{mount}/deep/{}/s{number}", number % 7), json!({ "n": number })).await;
    }
    harness
}

/// What is told of something until nothing is told any more, each time it was told.
async fn told(harness: &Harness, path: &str, of: &str) -> Vec<Value> {
    let mut told = Vec::new();
    for _ in 0..STEPS_MAX {
        let answer = harness.read(path, ROOT).await;
        match answer.json.pointer(of) {
            Some(known) if !known.is_null() => told.push(known.clone()),
            _ => return told,
        }
        harness.advance(Duration::from_millis(100)).await;
    }
    unreachable!("it never ends: {told:?}")
}

fn numbers(told: &[Value], name: &str) -> Vec<u64> {
    told.iter().map(|known| known[name].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_upgrade_tells_how_many_secrets_are_taken_over_and_how_many_are_left() {
    let harness = with_secrets("kv").await;
    drop(harness.write("sys/mounts/kv/tune", ROOT, json!({ "options": { "version": "2" } })).await.expect_status(200));
    let told = told(&harness, "sys/mounts/kv", "/data/upgrade").await;
    let (taken, left) = (numbers(&told, "records_taken"), numbers(&told, "records_left"));
    assert!(!told.is_empty() && taken[0] >= 256 && taken.is_sorted(), "{told:?}");
    assert!(taken.iter().zip(&left).all(|(taken, left)| taken + left == MANY && *left > 0), "{told:?}");
    assert!(numbers(&told, "records_left_out").iter().all(|left_out| *left_out == 0));
    drop(harness.read("kv/data/deep/0/s0", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn a_removal_tells_how_much_of_its_data_is_left() {
    let harness = with_secrets("kv").await;
    let id = harness.read("sys/mounts/kv", ROOT).await.text_at("/data/uuid");
    drop(harness.delete("sys/mounts/kv", ROOT).await.expect_status(204));
    let told = told(&harness, &format!("sys/unmount/status/{id}"), "/data").await;
    let (wiped, left) = (numbers(&told, "records_wiped"), numbers(&told, "records_left"));
    assert!(!told.is_empty() && wiped.is_sorted() && left[0] <= MANY && left[0] > 0, "{told:?}");
    assert!(left.is_sorted_by(|earlier, later| earlier >= later), "{told:?}");
}

#[tokio::test]
async fn a_deletion_of_a_namespace_tells_how_much_of_it_is_left() {
    let harness = with_secrets("team/kv").await;
    for _ in 0..3 {
        harness.prepare("POST", "team/auth/token/create", json!({ "policies": ["default"] })).await;
    }
    let before = harness.read("sys/namespaces/team", ROOT).await.expect_status(200);
    assert!(before.json.pointer("/data/deletion").is_none(), "{before:?}");
    drop(harness.delete("sys/namespaces/team", ROOT).await.expect_status(200));
    let told = told(&harness, "sys/namespaces/team", "/data/deletion").await;
    let first = told.first().unwrap();
    assert_eq!((&first["tokens_and_leases_left"], &first["mounts_left"]), (&json!(3), &json!(1)), "{first}");
    let records = numbers(&told, "records_left");
    assert!(records[0] >= MANY && records.is_sorted_by(|earlier, later| earlier >= later), "{told:?}");
}
