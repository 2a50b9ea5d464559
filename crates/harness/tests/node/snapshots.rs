//! Snapshots over the wire: taken while everything goes on, verified before anything changes, and restored so that nothing
//! of what was remembered outlives what was stored (RFT-07, RFT-08, RFT-09).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_harness::{AUDIT_LOG, Answer, Harness, ROOT};
use tresor_secret::UnsealShare;
use tresor_snapshot::Verifier;

const PATH: &str = "sys/storage/raft/snapshot";
const FORCE: &str = "sys/storage/raft/snapshot-force";

async fn upload(harness: &Harness, path: &str, token: &str, bytes: &[u8]) -> Answer {
    let request = http::Request::builder().method("POST").uri(format!("/v1/{path}")).header("X-Vault-Token", token);
    harness.send(request.body(Full::new(Bytes::copy_from_slice(bytes))).unwrap()).await
}

async fn taken(harness: &Harness) -> Vec<u8> {
    harness.read(PATH, ROOT).await.expect_status(200).bytes
}

/// A node with a mount, a policy, a secret and a token that is not root.
async fn lived() -> (Harness, String) {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/a", json!({ "is": "as it was" })).await;
    let token = harness.token_with(r#"path "kv/*" { capabilities = ["read", "update", "create"] }"#).await;
    (harness, token)
}

#[tokio::test]
async fn rft_08_after_a_restore_everything_is_as_it_was_and_nothing_remembers_more() {
    let (harness, token) = lived().await;
    let answer = harness.read(PATH, ROOT).await.expect_status(200);
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    let snapshot = answer.bytes;
    let mut verifier = Verifier::new();
    verifier.take(&snapshot).unwrap();
    let verified = verifier.finish().unwrap();
    let status = harness.read("sys/seal-status", "").await;
    assert_eq!(verified.header.cluster_id, status.text_at("/cluster_id"));

    // What is done afterwards is gone with the restore: by kind, what is kept in memory too.
    harness.prepare("POST", "kv/a", json!({ "is": "otherwise" })).await;
    harness.prepare("POST", "kv/b", json!({ "is": "later" })).await;
    harness.prepare("POST", "sys/mounts/later", json!({ "type": "kv-v1" })).await;
    harness
        .prepare("POST", "sys/policies/acl/later", json!({ "policy": r#"path "x" { capabilities = ["read"] }"# }))
        .await;
    harness.prepare("POST", "sys/quotas/lease-count/later", json!({ "max_leases": 1000 })).await;
    let later = harness.token_with(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));

    drop(upload(&harness, PATH, ROOT, &snapshot).await.expect_status(204));
    // It is opened by the keys of before: it serves at once.
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    // The revocation is undone with everything else: the token is there again.
    assert_eq!(harness.read("kv/a", &token).await.expect_status(200).at("/data/is"), "as it was");
    drop(harness.read("kv/b", ROOT).await.expect_status(404));
    drop(harness.read("kv/a", &later).await.expect_status(403));
    let mounts = harness.read("sys/mounts", ROOT).await;
    assert!(mounts.at("/data/kv~1").is_object() && mounts.at("/data/later~1").is_null(), "{mounts:?}");
    drop(harness.read("sys/policies/acl/later", ROOT).await.expect_status(404));
    drop(harness.read("sys/quotas/lease-count/later", ROOT).await.expect_status(404));

    // It goes on from there, and can be restored again.
    drop(harness.write("kv/b", &token, json!({ "is": "new" })).await.expect_status(204));
    let second = taken(&harness).await;
    harness.prepare("DELETE", "kv/b", Value::Null).await;
    drop(upload(&harness, PATH, ROOT, &second).await.expect_status(204));
    assert_eq!(harness.read("kv/b", ROOT).await.at("/data/is"), "new");
    // The local audit log is not part of it: all of it is still told.
    let records = harness.audit_records().await;
    let of_path = |kind: &str| {
        records.iter().filter(|record| record["type"] == kind && record["request"]["path"] == PATH).count()
    };
    assert_eq!((of_path("request"), of_path("response")), (4, 4));
    assert!(records.iter().any(|record| record["request"]["path"] == "sys/mounts/later"));
}

#[tokio::test]
async fn rft_09_what_is_damaged_cut_or_foreign_is_refused_and_changes_nothing() {
    let (harness, token) = lived().await;
    let snapshot = taken(&harness).await;
    harness.prepare("POST", "kv/a", json!({ "is": "otherwise" })).await;
    let mut wrong = Vec::new();
    for at in [0, 9, 60, snapshot.len() / 2, snapshot.len() - 70, snapshot.len() - 40, snapshot.len() - 1] {
        let mut changed = snapshot.clone();
        changed[at] ^= 1;
        wrong.push((format!("changed at {at}"), changed));
    }
    for length in [0, 5, 100, snapshot.len() / 2, snapshot.len() - 1] {
        wrong.push((format!("cut at {length}"), snapshot[..length].to_vec()));
    }
    wrong.push(("longer".to_owned(), [&snapshot[..], b"x"].concat()));
    wrong.push(("JSON".to_owned(), b"{}".to_vec()));
    let other = Harness::of_another_cluster().await;
    let foreign = taken(&other).await;
    wrong.push(("of another cluster".to_owned(), foreign.clone()));
    for (what, bytes) in wrong {
        let answer = upload(&harness, PATH, ROOT, &bytes).await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(answer.errors().contains("refused") || what == "of another cluster", "{what}: {answer:?}");
        // The last byte is of the seal, which is asked about only where the snapshot must be ours.
        if what != "of another cluster" && what != format!("changed at {}", snapshot.len() - 1) {
            drop(upload(&harness, FORCE, ROOT, &bytes).await.expect_status(400));
        }
        assert_eq!(harness.read("kv/a", &token).await.expect_status(200).at("/data/is"), "otherwise", "{what}");
    }
    upload(&harness, PATH, ROOT, &foreign).await.expect_error(400, "another cluster");
    // Whoever may not is refused before anything is looked at.
    drop(upload(&harness, PATH, &token, &snapshot).await.expect_status(403));
    drop(upload(&harness, FORCE, "", &snapshot).await.expect_status(403));
    drop(harness.read(PATH, &token).await.expect_status(403));
}

#[tokio::test]
async fn the_snapshot_of_another_cluster_is_taken_by_force_and_opened_by_its_shares() {
    let (harness, _) = lived().await;
    let other = Harness::of_another_cluster().await;
    other.enable_audit().await;
    other.prepare("POST", "cubbyhole/proof", json!({ "of": "the other" })).await;
    let snapshot = taken(&other).await;
    let own_id = harness.read("sys/seal-status", "").await.text_at("/cluster_id");
    drop(upload(&harness, FORCE, ROOT, &snapshot).await.expect_status(204));
    for share in &harness.shares[..2] {
        drop(harness.node.enter_share(UnsealShare::new(share.clone())).await);
    }
    harness.read("cubbyhole/proof", ROOT).await.expect_error(503, "sealed");
    for share in &other.shares[..2] {
        harness.node.enter_share(UnsealShare::new(share.clone())).await.unwrap();
    }
    assert_eq!(harness.read("cubbyhole/proof", ROOT).await.expect_status(200).at("/data/of"), "the other");
    assert_ne!(harness.read("sys/seal-status", "").await.text_at("/cluster_id"), own_id);
    // The log of before is set aside, and what is done now is recorded under the keys of now.
    let aside = format!("{AUDIT_LOG}-of-before-1");
    assert!(harness.doors.disk.dump().keys().any(|path| path.starts_with(&aside)));
    let records = harness.audit_records().await;
    assert_eq!(records.last().unwrap()["request"]["path"], "cubbyhole/proof");
}

#[tokio::test]
async fn a_snapshot_may_be_larger_than_any_other_body() {
    let (mut harness, _) = lived().await;
    for at in 0..200 {
        harness.prepare("POST", &format!("kv/large-{at}"), json!({ "v": "x".repeat(10_000) })).await;
    }
    let snapshot = taken(&harness).await;
    harness.options.body_bytes_max = 20_000;
    assert!(snapshot.len() > 100 * harness.options.body_bytes_max);
    drop(harness.write("kv/a", ROOT, json!({ "v": "x".repeat(30_000) })).await.expect_status(413));
    drop(upload(&harness, PATH, ROOT, &snapshot).await.expect_status(204));
    assert_eq!(harness.read("kv/large-199", ROOT).await.expect_status(200).text_at("/data/v").len(), 10_000);
}
