//! Namespaces with seals of their own: deleted without their keys, restored from snapshots, and in the clear nowhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_core::Settings;
use tresor_harness::{Harness, ROOT};

use crate::bank_realm::{SEAL, furnish, is_sealed, pass, seal, sealed, sums, unseal, within};

/// Six characters behind the id of a namespace name its realm, and end the raw keys of what is in it.
async fn realm(harness: &Harness, name: &str) -> Vec<u8> {
    let (parent, name) = name.rsplit_once('/').unwrap_or(("", name));
    let shown = within(harness, parent, ("GET", &format!("sys/namespaces/{name}")), ROOT, Value::Null).await;
    shown.text_at("/data/id").as_bytes()[6..].to_vec()
}

fn raw_of(harness: &Harness, realm: &[u8]) -> usize {
    harness.store.dump().iter().filter(|(key, _)| key.as_bytes().ends_with(realm)).count()
}

/// How many tokens and leases there are in all namespaces, by a quota on all of them.
async fn live(harness: &Harness) -> i64 {
    harness.read("sys/quotas/lease-count/all", ROOT).await.expect_status(200).at("/data/counter").as_i64().unwrap()
}

/// Every name that the server keeps of its own.
async fn every_name(harness: &Harness) -> Vec<String> {
    let (mut names, mut directories) = (Vec::new(), vec!["root/".to_owned()]);
    while let Some(directory) = directories.pop() {
        let listed = harness.list(&format!("sys/raw/{}", directory.trim_end_matches('/')), ROOT).await;
        for name in listed.at("/data/keys").as_array().into_iter().flatten() {
            let name = format!("{directory}{}", name.as_str().unwrap());
            if name.ends_with('/') {
                directories.push(name.clone());
            }
            names.push(name);
        }
    }
    names
}

#[tokio::test]
async fn seal_34_a_sealed_namespace_is_deleted_without_its_keys_and_nothing_of_it_is_left() {
    let mut harness = Harness::start_with(Settings { has_raw_storage: true, ..Settings::default() }).await;
    harness.prepare("POST", "sys/quotas/lease-count/all", json!({ "max_leases": 100_000 })).await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    harness
        .prepare(
            "PUT",
            "sys/policies/acl/admin",
            json!({ "policy": r#"path "*" { capabilities = ["read", "sudo", "create", "update"] }"# }),
        )
        .await;
    let before = harness.store.dump().len();
    let counted = live(&harness).await;
    let shares = sealed(&harness, "a").await;
    // Not while it is open, nor one that has no seal.
    unseal(&harness, "a", &shares).await;
    let at = "sys/namespaces/a/delete-sealed";
    harness.delete(at, ROOT).await.expect_error(400, "not sealed");
    drop(harness.write("sys/namespaces/plain", ROOT, json!({})).await.expect_status(200));
    harness.delete("sys/namespaces/plain/delete-sealed", ROOT).await.expect_error(400, "not sealable");
    drop(harness.delete("sys/namespaces/plain", ROOT).await.expect_status(200));
    pass(&harness, 5).await;
    let admin = furnish(&harness, "a").await;
    for ttl in ["20s", "1h"] {
        for _ in 0..3 {
            let path = format!("made/creds/x?ttl={ttl}");
            drop(within(&harness, "a", ("GET", &path), &admin, Value::Null).await.expect_status(200));
        }
    }
    // A token above it has something in it.
    let above = harness.token(json!({ "policies": ["admin"], "ttl": "24h" })).await;
    drop(within(&harness, "a", ("GET", "made/creds/x"), &above, Value::Null).await.expect_status(200));
    // Others lie in it, one with a seal of its own.
    drop(within(&harness, "a", ("POST", "sys/namespaces/in"), ROOT, json!({})).await.expect_status(200));
    drop(furnish(&harness, "a/in").await);
    let inner = sealed(&harness, "a/own").await;
    unseal(&harness, "a/own", &inner).await;
    let own = furnish(&harness, "a/own").await;
    drop(within(&harness, "a/own", ("GET", "made/creds/x?ttl=20s"), &own, Value::Null).await.expect_status(200));
    let realms = [realm(&harness, "a").await, realm(&harness, "a/own").await];
    assert!(realms.iter().all(|realm| raw_of(&harness, realm) > 10));
    seal(&harness, "a").await;
    // Some of it is due and waits.
    pass(&harness, 60).await;
    // Whoever has no sudo may not, and what lies in it is meant, too.
    let weak = harness.token_with(r#"path "sys/namespaces/*" { capabilities = ["read", "delete", "update"] }"#).await;
    assert_eq!(harness.delete(at, &weak).await.status, 403);
    harness.delete(at, ROOT).await.expect_error(400, "child namespaces");
    let gone = harness.delete(&format!("{at}?force=true"), ROOT).await.expect_status(200);
    assert_eq!(gone.at("/data/status"), "in-progress");
    let warnings = gone.at("/warnings").to_string();
    assert!(warnings.contains("2 namespaces") && warnings.contains("tokens and leases are forgotten"), "{warnings}");
    // Shares open it no more, also when the server was killed in the middle of it.
    harness
        .call("PUT", "sys/namespaces/a/unseal", ROOT, json!({ "key": shares[0] }))
        .await
        .expect_error(400, "deleted");
    harness.kill();
    harness.unseal().await;
    pass(&harness, 10).await;
    assert_eq!(harness.read("sys/namespaces/a", ROOT).await.status, 404);
    for realm in &realms {
        assert_eq!(raw_of(&harness, realm), 0);
    }
    // What is counted is what is there: the token above it, and the weak one.
    assert_eq!(live(&harness).await, counted + 2);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    // What was handed out is somebody's business still.
    let reported = harness.read("sys/leases/abandoned", ROOT).await.expect_status(200);
    assert_eq!(reported.at("/data/leases").as_array().map(Vec::len), Some(1), "{reported:?}");
    assert_eq!(reported.at("/data/leases/0/kind"), &json!("namespace"));
    assert!(reported.text_at("/data/leases/0/lease_id").starts_with("a/"));
    assert!(reported.text_at("/data/leases/0/reason").contains("tokens and leases are forgotten"));
    // The name is free, for one that is another.
    let again = sealed(&harness, "a").await;
    unseal(&harness, "a", &again).await;
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), ROOT, Value::Null).await.status, 404);
    drop(furnish(&harness, "a").await);
    assert_eq!(sums(&harness, "a").await, (false, 0, 0));
    let third = realm(&harness, "a").await;
    seal(&harness, "a").await;
    drop(harness.delete(at, ROOT).await.expect_status(200));
    pass(&harness, 5).await;
    // A token that had something in it ends, and is collected.
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": above })).await.expect_status(204));
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": weak })).await.expect_status(204));
    drop(harness.delete("sys/policies/acl/admin", ROOT).await);
    // What was to end there is met when its time comes, and leads nowhere.
    for _ in 0..25 {
        harness.advance(Duration::from_secs(3600)).await;
        pass(&harness, 3).await;
    }
    assert_eq!(live(&harness).await, counted);
    drop(harness.delete("sys/leases/abandoned", ROOT).await.expect_status(204));
    let names = every_name(&harness).await;
    assert!(names.len() > 20, "{names:?}");
    for realm in realms.iter().chain([&third]) {
        let realm = std::str::from_utf8(realm).unwrap();
        assert!(!names.iter().any(|name| name.contains(realm)), "{realm}: {names:?}");
    }
    let left = harness.store.dump().len();
    assert!(left <= before + 6, "{left} records, {before} before there was one");
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn seal_34_a_snapshot_brings_a_namespace_back_sealed_and_its_shares_open_it() {
    let harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    let snapshot = harness.read("sys/storage/raft/snapshot", ROOT).await.expect_status(200).bytes;
    let body = json!({ "of": "later" });
    drop(within(&harness, "a", ("POST", "kv/secret"), &admin, body).await.expect_status(204));
    let request = http::Request::builder().method("POST").uri("/v1/sys/storage/raft/snapshot");
    let request = request.header("X-Vault-Token", ROOT).body(Full::new(Bytes::from(snapshot))).unwrap();
    drop(harness.send(request).await.expect_status(204));
    assert!(is_sealed(&harness, "a").await);
    within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.expect_error(503, "namespace is sealed");
    unseal(&harness, "a", &shares).await;
    let answer = within(&harness, "a", ("GET", "kv/secret"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/data/of"), "a");
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn seal_34_nothing_of_a_namespace_nor_its_shares_is_in_the_clear_on_a_disk_or_in_a_snapshot() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let made = harness.write("sys/namespaces/a", ROOT, json!({ "seal": SEAL })).await.expect_status(200);
    let shares: Vec<String> = (0..3).map(|share| made.text_at(&format!("/data/key_shares/{share}"))).collect();
    unseal(&harness, "a", &shares).await;
    let (value, policy) = (canary("value", 34), canary("policy", 34));
    let admin = furnish(&harness, "a").await;
    drop(within(&harness, "a", ("POST", "kv/d/x"), &admin, json!({ "is": value })).await.expect_status(204));
    let text = json!({ "policy": format!("path \"{policy}\" {{ capabilities = [\"read\"] }}") });
    drop(within(&harness, "a", ("PUT", "sys/policies/acl/p"), &admin, text).await.expect_status(204));
    seal(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let snapshot = harness.read("sys/storage/raft/snapshot", ROOT).await.expect_status(200).bytes;
    drop(harness.audit_text().await);
    let mut canaries = Canaries::new();
    canaries.watch("the value", value.as_bytes());
    canaries.watch("the text of a policy", policy.as_bytes());
    canaries.watch("a token", admin.as_bytes());
    for share in &shares {
        let byte = |at: usize| u8::from_str_radix(&share[2 * at..2 * at + 2], 16).unwrap();
        canaries.watch("a share", &(0..share.len() / 2).map(byte).collect::<Vec<u8>>());
    }
    for (path, bytes) in harness.doors.disk.dump() {
        canaries.assert_absent(&path.display().to_string(), &bytes);
    }
    for (key, stored) in harness.store.dump() {
        canaries.assert_absent("a raw key", key.as_bytes());
        canaries.assert_absent("what is stored", &stored);
    }
    canaries.assert_absent("the snapshot", &snapshot);
}
