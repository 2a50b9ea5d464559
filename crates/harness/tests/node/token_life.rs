//! When a token is alive: its own time, its mount, its ancestors; and what its end leaves behind.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::json;
use tresor_harness::{Harness, ROOT};

/// A token of the user `bob` of a userpass mount, and a child of it.
async fn family(harness: &Harness) -> (String, String) {
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    harness
        .prepare(
            "POST",
            "sys/policies/acl/p",
            json!({ "policy": "path \"auth/token/create\" { capabilities = [\"update\"] }" }),
        )
        .await;
    harness.prepare("POST", "auth/people/users/bob", json!({ "password": "secret", "token_policies": "p" })).await;
    let parent = harness.write("auth/people/login/bob", "", json!({ "password": "secret" })).await;
    let parent = parent.expect_status(200).text_at("/auth/client_token");
    let child = harness.write("auth/token/create", &parent, json!({})).await.expect_status(200);
    (parent, child.text_at("/auth/client_token"))
}

#[tokio::test]
async fn what_an_auth_method_led_to_ends_with_it_children_included() {
    let harness = Harness::start().await;
    let (parent, child) = family(&harness).await;
    for token in [&parent, &child] {
        drop(harness.read("auth/token/lookup-self", token).await.expect_status(200));
    }
    let accessor = harness.read("auth/token/lookup-self", &child).await.text_at("/data/accessor");
    harness.prepare("DELETE", "sys/auth/people", json!(null)).await;
    for token in [&parent, &child] {
        harness.read("auth/token/lookup-self", token).await.expect_error(403, "permission denied");
        harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_error(403, "");
    }
    harness.write("auth/token/lookup-accessor", ROOT, json!({ "accessor": accessor })).await.expect_error(400, "");
}

#[tokio::test]
async fn a_token_of_the_same_text_inherits_nothing() {
    let harness = Harness::start().await;
    let fixed = json!({ "id": "ci", "policies": ["default"] });
    harness.prepare("POST", "auth/token/create", fixed.clone()).await;
    drop(harness.write("cubbyhole/a", "ci", json!({ "k": "old" })).await.expect_status(204));
    harness.prepare("POST", "auth/token/revoke", json!({ "token": "ci" })).await;
    harness.write("auth/token/create", ROOT, fixed.clone()).await.expect_error(503, "being revoked");
    harness.advance(Duration::from_secs(5)).await;
    harness.prepare("POST", "auth/token/create", fixed).await;
    assert_eq!(harness.read("cubbyhole/a", "ci").await.status, 404);
}

#[tokio::test]
async fn tok_02_a_renewal_never_ends_a_token() {
    let harness = Harness::start().await;
    let token = harness.token(json!({ "policies": ["default"], "ttl": "1h" })).await;
    harness.advance(Duration::from_secs(1800)).await;
    harness
        .prepare("POST", "sys/auth/token/tune", json!({ "max_lease_ttl": "600s", "default_lease_ttl": "600s" }))
        .await;
    let renewed = harness.write("auth/token/renew-self", &token, json!({})).await;
    renewed.expect_error(400, "past the max TTL, cannot renew");
    let left = harness.read("auth/token/lookup-self", &token).await.expect_status(200);
    assert_eq!(left.at("/data/ttl"), &json!(1800));
}

#[tokio::test]
async fn what_revoked_tokens_leave_behind_is_collected_down_to_the_last_record() {
    let harness = Harness::start().await;
    harness.advance(Duration::from_secs(2)).await;
    let before = harness.store.dump().len();
    let parent = harness.token(json!({ "policies": ["root"] })).await;
    for number in 0..150 {
        let child = harness.write("auth/token/create", &parent, json!({ "policies": ["default"] })).await;
        let child = child.expect_status(200).text_at("/auth/client_token");
        if number % 10 == 0 {
            drop(harness.write("cubbyhole/a/b", &child, json!({ "k": "v" })).await.expect_status(204));
        }
    }
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(harness.store.dump().len(), before);
}

#[tokio::test]
async fn aud_a_token_in_a_path_reaches_no_device() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let token = harness.token(json!({ "policies": ["default"] })).await;
    drop(harness.read(&format!("auth/token/lookup/{token}"), ROOT).await.expect_status(200));
    harness.read(&format!("auth/token/lookup/{token}"), &token).await.expect_error(403, "permission denied");
    harness.read(&format!("auth/token/lookup/{token}x"), ROOT).await.expect_error(403, "");
    drop(harness.call("DELETE", &format!("auth/token/lookup/{token}"), ROOT, json!(null)).await);
    let text = harness.audit_text().await;
    assert!(text.contains("auth/token/lookup/{token}"), "{text}");
    assert!(!text.contains(&token), "{text}");
}

#[tokio::test]
async fn each_of_the_uses_of_a_token_is_served_when_they_come_at_once() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    for _ in 0..20 {
        let token = harness.token(json!({ "policies": ["root"], "num_uses": 3, "ttl": "1h" })).await;
        let (first, second, third, fourth) = tokio::join!(
            harness.write("kv/a", &token, json!({ "k": "1" })),
            harness.write("kv/b", &token, json!({ "k": "2" })),
            harness.read("auth/token/lookup-self", &token),
            harness.write("kv/c", &token, json!({ "k": "3" })),
        );
        let refused = [first, second, third, fourth].iter().filter(|answer| answer.status == 403).count();
        assert_eq!(refused, 1, "three uses, four requests");
        harness.read("auth/token/lookup-self", &token).await.expect_error(403, "permission denied");
    }
}
