//! The harness itself: a secret goes in, comes back, survives a restart, and its audit records are there.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::json;
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn a_secret_survives_a_restart_and_its_requests_are_recorded() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/secret", json!({ "type": "kv-v2" })).await;
    harness.enable_audit().await;
    harness.prepare("POST", "secret/data/a", json!({ "data": { "k": "v" } })).await;
    harness.restart().await;
    harness.read("secret/data/a", ROOT).await.expect_error(503, "sealed");
    harness.unseal().await;
    let answer = harness.read("secret/data/a", ROOT).await.expect_status(200);
    assert_eq!(answer.at("/data/data"), &json!({ "k": "v" }));
    let records = harness.audit_records().await;
    let of_secret = records.iter().filter(|record| record.pointer("/request/path") == Some(&json!("secret/data/a")));
    assert_eq!(of_secret.count(), 4, "a request and a response record for each of two calls");
}
