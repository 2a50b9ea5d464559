//! The life of keys while a node serves: new terms of the key ring, other shares, other root tokens by shares.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::json;
use tresor_harness::cluster::World;
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn a_new_term_seals_and_what_older_ones_sealed_is_still_read() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/old", json!({ "k": "v" })).await;
    let status = harness.read("sys/key-status", ROOT).await.expect_status(200);
    assert_eq!((&status.json["term"], status.at("/data/term")), (&json!(1), &json!(1)));
    assert!(status.json["encryptions"].as_u64().unwrap() > 0);
    drop(harness.write("sys/rotate", ROOT, json!({})).await.expect_status(204));
    drop(harness.write("sys/rotate/keyring", ROOT, json!({})).await.expect_status(204));
    let status = harness.read("sys/key-status", ROOT).await.expect_status(200);
    assert_eq!(status.json["term"], json!(3));
    harness.prepare("POST", "kv/new", json!({ "k": "v" })).await;
    harness.restart().await;
    harness.unseal().await;
    for path in ["kv/old", "kv/new"] {
        assert_eq!(harness.read(path, ROOT).await.expect_status(200).at("/data/k"), &json!("v"));
    }
    assert_eq!(harness.read("sys/key-status", ROOT).await.json["term"], json!(3));
}

#[tokio::test]
async fn when_a_new_term_is_made_by_itself_is_configured_within_bounds() {
    let harness = Harness::start().await;
    let config = harness.read("sys/rotate/config", ROOT).await.expect_status(200);
    let usual = json!({ "enabled": true, "max_operations": 3_865_470_566_u64, "interval": 0 });
    assert_eq!(config.json["data"], usual);
    for (field, value, text) in [
        ("interval", json!("1h"), "interval must be greater or equal to 24h0m0s"),
        ("max_operations", json!(999_999), "max_operations must be in the range [1000000,3865470566]"),
        ("max_operations", json!(3_865_470_567_u64), "max_operations must be in the range"),
        ("max_operations", json!(-1), "max_operations must be in the range"),
    ] {
        harness.write("sys/rotate/config", ROOT, json!({ field: value })).await.expect_error(400, text);
    }
    let changed = json!({ "interval": "24h", "max_operations": 1_000_000 });
    drop(harness.write("sys/rotate/keyring/config", ROOT, changed).await.expect_status(204));
    let config = harness.read("sys/rotate/keyring/config", ROOT).await.expect_status(200);
    assert_eq!(config.json["data"], json!({ "enabled": true, "max_operations": 1_000_000, "interval": "24h0m0s" }));
}

#[tokio::test]
async fn a_term_that_is_old_enough_ends_by_itself_and_the_audit_log_says_so() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let term = async || harness.read("sys/key-status", ROOT).await.json["term"].clone();
    harness.advance(Duration::from_secs(90 * 3600)).await;
    assert_eq!(term().await, json!(1), "time does not matter");
    harness.prepare("POST", "sys/rotate/config", json!({ "interval": "25h" })).await;
    harness.advance(Duration::from_secs(61)).await;
    assert_eq!(term().await, json!(2));
    harness.advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(term().await, json!(2));
    harness.prepare("POST", "sys/rotate/config", json!({ "enabled": false })).await;
    harness.advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(term().await, json!(2));
    let records = harness.audit_records().await;
    let due = records.iter().filter(|record| record["request"]["path"] == json!("sys/rotate/due"));
    assert_eq!(due.count(), 1);
}

#[test]
fn a_new_term_is_on_every_node_before_anything_that_it_sealed() {
    tresor_harness::cluster::block_on(async {
        let mut world = World::new(3, 77).await;
        world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
        // One node is away: it gets the ring with the log.
        world.kill(2).await;
        world.prepare(1, "POST", "sys/rotate", json!({})).await;
        world.prepare(1, "POST", "kv/a", json!({ "k": "new" })).await;
        let read = world.call(1, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("new"));
        world.start(2).await;
        world.unseal(2).await;
        let read = world.call(2, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("new"), "{read:?}");
        // Whoever leads next goes on with the term, and makes the next one.
        world.kill(0).await;
        let (leader, _) = world.another_active(0).await;
        let other = 3 - leader;
        let status = world.call(other, "GET", "sys/key-status", ROOT, json!(null)).await;
        assert_eq!(status.json["term"], json!(2), "{status:?}");
        world.prepare(other, "POST", "sys/rotate", json!({})).await;
        world.prepare(leader, "POST", "kv/b", json!({ "k": "newer" })).await;
        let read = world.call(other, "GET", "kv/b", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("newer"));
    });
}
