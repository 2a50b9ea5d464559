//! Quotas on paths and roles: exact whatever there was before them, and whatever is revoked (DOS-15).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

use crate::bank_lease::{lease, node};

/// How much a quota says that there is.
async fn counter(harness: &Harness, quota: &str) -> Value {
    let shown = harness.read(&format!("sys/quotas/lease-count/{quota}"), ROOT).await.expect_status(200);
    shown.at("/data/counter").clone()
}

async fn seconds(harness: &Harness, number: usize) {
    for _ in 0..number {
        harness.advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn dos_15_a_quota_on_a_path_counts_what_there_was_before_it_and_is_exact_afterwards() {
    let mut harness = node().await;
    let quota = |name: &str, body: Value| (format!("sys/quotas/lease-count/{name}"), body);
    let hand_out = async |harness: &Harness, role: &str| harness.read(&format!("made/creds/{role}"), ROOT).await;
    for role in ["a", "a", "ab", "b"] {
        drop(hand_out(&harness, role).await.expect_status(200));
    }
    for (path, body) in [
        quota("one", json!({ "path": "made/creds/a", "max_leases": 4 })),
        quota("many", json!({ "path": "made/creds/a*", "max_leases": 2 })),
        quota("all", json!({ "path": "made", "max_leases": 7 })),
    ] {
        harness.prepare("POST", &path, body).await;
    }
    let shown = harness.read("sys/quotas/lease-count/many", ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data/path"), &json!("made/creds/a*"));
    seconds(&harness, 3).await;
    assert_eq!([counter(&harness, "one").await, counter(&harness, "many").await], [json!(2), json!(3)]);
    // The most specific counts: of what begins alike the path itself, and of many at once exactly so many.
    let asked = futures_util::future::join_all((0..8).map(|_| hand_out(&harness, "a"))).await;
    assert_eq!(asked.iter().filter(|answer| answer.status == 200).count(), 2);
    hand_out(&harness, "ab").await.expect_error(429, "lease count quota exceeded");
    drop(hand_out(&harness, "b").await.expect_status(200));
    drop(hand_out(&harness, "b").await.expect_status(429));
    // Another limit keeps what was counted, another path does not.
    let again = quota("one", json!({ "path": "made/creds/a", "max_leases": 5 }));
    harness.prepare("POST", &again.0, again.1).await;
    assert_eq!(counter(&harness, "one").await, json!(4));
    let other = quota("one", json!({ "path": "made/creds/b", "max_leases": 5 }));
    harness.prepare("POST", &other.0, other.1).await;
    // The walk is stored, and so is what it counted.
    harness.kill();
    harness.unseal().await;
    seconds(&harness, 3).await;
    assert_eq!([counter(&harness, "one").await, counter(&harness, "many").await], [json!(2), json!(5)]);
    harness.prepare("POST", "sys/leases/revoke-prefix/made/creds/a", json!({ "sync": true })).await;
    assert_eq!([counter(&harness, "one").await, counter(&harness, "many").await], [json!(2), json!(1)]);
    drop(hand_out(&harness, "ab").await.expect_status(200));
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    for name in ["one", "many", "all"] {
        harness.prepare("DELETE", &format!("sys/quotas/lease-count/{name}"), json!(null)).await;
    }
    drop(hand_out(&harness, "a").await.expect_status(200));
}

#[tokio::test]
async fn dos_15_what_is_below_a_revoked_token_leaves_the_quota_of_its_path_at_once() {
    let harness = node().await;
    let child = harness.write("auth/token/create", ROOT, json!({ "policies": ["lease"], "ttl": "1h" })).await;
    let token = child.expect_status(200).text_at("/auth/client_token");
    drop(lease(&harness, &token, "").await);
    harness.prepare("POST", "sys/quotas/lease-count/role", json!({ "path": "made/creds/role", "max_leases": 2 })).await;
    harness
        .prepare("POST", "sys/quotas/lease-count/create", json!({ "path": "auth/token/create", "max_leases": 2 }))
        .await;
    seconds(&harness, 3).await;
    drop(lease(&harness, &token, "").await);
    assert_eq!([counter(&harness, "role").await, counter(&harness, "create").await], [json!(2), json!(1)]);
    harness.read("made/creds/role", ROOT).await.expect_error(429, "lease count quota exceeded");
    // Nothing is collected yet, and nothing of it counts.
    harness.prepare("POST", "auth/token/revoke", json!({ "token": token })).await;
    assert_eq!([counter(&harness, "role").await, counter(&harness, "create").await], [json!(0), json!(0)]);
    drop(lease(&harness, ROOT, "").await);
    seconds(&harness, 5).await;
    assert_eq!([counter(&harness, "role").await, counter(&harness, "create").await], [json!(1), json!(0)]);
}

#[tokio::test]
async fn dos_15_a_quota_on_a_role_counts_the_tokens_of_its_logins() {
    let mut harness = node().await;
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    for role in ["ci", "web"] {
        let body = json!({ "bind_secret_id": false, "token_bound_cidrs": "0.0.0.0/0,::/0" });
        harness.prepare("POST", &format!("auth/approle/role/{role}"), body).await;
        let id = json!({ "role_id": format!("id-of-{role}") });
        harness.prepare("POST", &format!("auth/approle/role/{role}/role-id"), id).await;
    }
    let login = async |harness: &Harness, role: &str| {
        harness.write("auth/approle/login", "", json!({ "role_id": format!("id-of-{role}") })).await
    };
    let first = login(&harness, "ci").await.expect_status(200).text_at("/auth/client_token");
    drop(login(&harness, "web").await.expect_status(200));
    let of_ci = json!({ "path": "auth/approle", "role": "ci", "max_leases": 2 });
    harness.prepare("POST", "sys/quotas/lease-count/ci", of_ci.clone()).await;
    harness.write("sys/quotas/lease-count/twin", ROOT, of_ci).await.expect_error(400, "similar properties");
    let shown = harness.read("sys/quotas/lease-count/ci", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/role"), shown.at("/data/path")), (&json!("ci"), &json!("auth/approle/")));
    seconds(&harness, 3).await;
    assert_eq!(counter(&harness, "ci").await, json!(1));
    drop(login(&harness, "ci").await.expect_status(200));
    login(&harness, "ci").await.expect_error(429, "lease count quota exceeded");
    drop(login(&harness, "web").await.expect_status(200));
    harness.restart().await;
    harness.unseal().await;
    drop(login(&harness, "ci").await.expect_status(429));
    harness.prepare("POST", "auth/token/revoke", json!({ "token": first })).await;
    drop(login(&harness, "ci").await.expect_status(200));
    drop(login(&harness, "ci").await.expect_status(429));
    // One that ends makes room, too.
    harness.doors.clock.advance(Duration::from_secs(33 * 24 * 3600));
    seconds(&harness, 5).await;
    assert_eq!(counter(&harness, "ci").await, json!(0));
    harness
        .write("sys/quotas/lease-count/x", ROOT, json!({ "path": "made", "role": "ci", "max_leases": 2 }))
        .await
        .expect_error(400, "is not a valid auth method");
}
