//! A kv mount that gets versions: nothing is lost, whatever happens meanwhile; and kv mounts that lease what is read.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

/// More than are taken over with the change itself.
const MANY: usize = 500;

async fn with_secrets(count: usize) -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv", "description": "d" })).await;
    for number in 0..count {
        harness.prepare("POST", &format!("kv/{}", name(number)), json!({ "number": number })).await;
    }
    harness
}

/// Some lie deep, and some are called as what version 2 keeps for itself.
fn name(number: usize) -> String {
    match number % 5 {
        0 => format!("s{number}"),
        1 => format!("metadata/{number}"),
        2 => format!("a/b/c/{number}"),
        3 => format!("versions/s{number}/1"),
        _ => format!("config/{number}"),
    }
}

async fn upgrade(harness: &Harness) {
    let answer = harness.write("sys/mounts/kv/tune", ROOT, json!({ "options": { "version": "2" } })).await;
    let warning = answer.expect_status(200).text_at("/warnings/0");
    assert!(warning.starts_with("Upgrading mount from version 1 to version 2."), "{warning}");
}

async fn expect_all(harness: &Harness, count: usize) {
    for number in 0..count {
        let read = harness.read(&format!("kv/data/{}", name(number)), ROOT).await.expect_status(200);
        assert_eq!((read.at("/data/data/number"), read.at("/data/metadata/version")), (&json!(number), &json!(1)));
    }
    let every = harness.call("SCAN", "kv/metadata/", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(every.at("/data/keys").as_array().unwrap().len(), count);
}

#[tokio::test]
async fn a_small_mount_has_versions_at_once() {
    let harness = with_secrets(20).await;
    harness.prepare("POST", "kv/config", json!({ "x": 1 })).await;
    upgrade(&harness).await;
    assert_eq!(harness.read("kv/data/config", ROOT).await.expect_status(200).at("/data/data/x"), &json!(1));
    assert_eq!(harness.read("kv/config", ROOT).await.expect_status(200).at("/data/max_versions"), &json!(0));
    harness.prepare("DELETE", "kv/metadata/config", Value::Null).await;
    expect_all(&harness, 20).await;
    harness.prepare("POST", "kv/data/s0", json!({ "data": { "number": "new" } })).await;
    let older = harness.read("kv/data/s0?version=1", ROOT).await.expect_status(200);
    assert_eq!(older.at("/data/data/number"), &json!(0));
    let mount = harness.read("sys/mounts/kv", ROOT).await.expect_status(200);
    assert_eq!((mount.at("/data/options/version"), mount.at("/data/description")), (&json!("2"), &json!("d")));
    for (version, text) in [("1", "cannot downgrade mount from version 2"), ("3", "invalid version provided: 3")] {
        let tune = harness.write("sys/mounts/kv/tune", ROOT, json!({ "options": { "version": version } })).await;
        tune.expect_error(400, text);
    }
    let again = json!({ "options": { "version": "2" } });
    drop(harness.write("sys/mounts/kv/tune", ROOT, again).await.expect_status(204));
}

#[tokio::test]
async fn pt_11_an_upgrade_loses_nothing_wherever_the_process_was_killed() {
    let mut harness = with_secrets(MANY).await;
    upgrade(&harness).await;
    let unavailable = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period \
                       and will resume service shortly.";
    harness.read("kv/data/s0", ROOT).await.expect_error(400, unavailable);
    harness.list("kv/metadata/", ROOT).await.expect_error(400, unavailable);
    harness.write("kv/data/new", ROOT, json!({ "data": {} })).await.expect_error(400, unavailable);
    harness.write("kv/s0", ROOT, json!({ "x": 1 })).await.expect_error(400, unavailable);
    let nobody = harness.token(json!({ "policies": ["default"] })).await;
    harness.read("kv/data/s0", &nobody).await.expect_error(403, "permission denied");
    // It can be moved and described meanwhile, and not changed back.
    let back = harness.write("sys/mounts/kv/tune", ROOT, json!({ "options": { "version": "1" } })).await;
    back.expect_error(400, "cannot downgrade mount from version 2");
    drop(harness.write("sys/mounts/kv/tune", ROOT, json!({ "description": "e" })).await.expect_status(204));
    let mut kills = 0;
    while harness.read("kv/data/s0", ROOT).await.status == 400 {
        harness.kill();
        harness.unseal().await;
        for _ in 0..(kills % 9) {
            tokio::task::yield_now().await;
        }
        if kills % 4 == 0 {
            harness.doors.clock.advance(Duration::from_millis(200));
        }
        kills += 1;
        assert!(kills < 400);
    }
    assert!(kills > 1, "{kills}");
    expect_all(&harness, MANY).await;
}

#[tokio::test]
async fn a_mount_that_is_removed_during_its_upgrade_leaves_nothing() {
    let harness = with_secrets(0).await;
    let remove = || async {
        drop(harness.delete("sys/mounts/kv", ROOT).await.expect_status(204));
        for _ in 0..20 {
            harness.advance(Duration::from_secs(1)).await;
        }
        harness.store.dump().len()
    };
    let empty = remove().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    for number in 0..MANY {
        harness.prepare("POST", &format!("kv/{}", name(number)), json!({ "number": number })).await;
    }
    upgrade(&harness).await;
    drop(harness.read("kv/data/s0", ROOT).await.expect_status(400));
    assert!(harness.store.dump().len() > empty + MANY);
    assert_eq!(remove().await, empty);
}

#[tokio::test]
async fn what_is_read_from_a_mount_that_says_so_is_leased() {
    let harness = Harness::start().await;
    let options = json!({ "type": "kv", "options": { "leased_passthrough": "true" } });
    harness.prepare("POST", "sys/mounts/kv", options).await;
    harness.prepare("POST", "kv/a", json!({ "x": 1, "ttl": "10m" })).await;
    let read = harness.read("kv/a", ROOT).await.expect_status(200);
    let lease = read.text_at("/lease_id");
    assert!(lease.starts_with("kv/a/"), "{read:?}");
    assert_eq!((read.at("/lease_duration"), read.at("/renewable")), (&json!(600), &json!(true)));
    assert_eq!(read.at("/data/x"), &json!(1));
    let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": lease, "increment": "1h" })).await;
    assert_eq!(renewed.expect_status(200).at("/lease_duration"), &json!(3600));
    let revoke = json!({ "lease_id": lease, "sync": true });
    drop(harness.write("sys/leases/revoke", ROOT, revoke).await.expect_status(204));
    harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": lease })).await.expect_error(400, "invalid lease");
    drop(harness.read("kv/b", ROOT).await.expect_status(404));
    assert_eq!(harness.list("kv/", ROOT).await.expect_status(200).at("/data/keys"), &json!(["a"]));
    // What was leased of a mount that has versions since is revoked as before.
    harness.prepare("GET", "kv/a", Value::Null).await;
    let tune = json!({ "options": { "version": "2" } });
    drop(harness.write("sys/mounts/kv/tune", ROOT, tune).await.expect_status(200));
    drop(harness.delete("sys/mounts/kv", ROOT).await.expect_status(204));
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    drop(harness.list("sys/unmount/status", ROOT).await.expect_status(404));
}
