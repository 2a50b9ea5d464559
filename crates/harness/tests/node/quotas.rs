//! Quotas on rates: who may ask how often, what a refusal costs and says, and that they survive what they should.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

async fn set(harness: &Harness, name: &str, body: Value) {
    harness.prepare("POST", &format!("sys/quotas/rate-limit/{name}"), body).await;
}

/// From where nobody else asks.
fn elsewhere(harness: &mut Harness, last: u8) {
    harness.peer = IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
}

async fn statuses(harness: &Harness, path: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(harness.read(path, ROOT).await.status);
    }
    statuses
}

#[tokio::test]
async fn dos_03_a_client_that_asks_too_often_is_refused_before_anything_is_read() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    set(&harness, "kv", json!({ "path": "kv", "rate": 3, "interval": "10s" })).await;
    elsewhere(&mut harness, 1);
    assert_eq!(statuses(&harness, "kv/a", 4).await, [404, 404, 404, 429]);
    // A body that could not be read is not looked at, nor is a token that could not be one.
    let mut request = tresor_harness::assembly::request("POST", "kv/a", ROOT, &Value::Null);
    *request.body_mut() = http_body_util::Full::new(bytes::Bytes::from_static(b"{ no json"));
    request.headers_mut().insert("x-vault-wrap-ttl", "nonsense".parse().unwrap());
    let refused = harness.send(request).await;
    refused.expect_error(429, "request path \"kv/a\": rate limit quota exceeded");
    assert_eq!(refused.headers["retry-after"], "10");
    // Other paths, other clients, and the next interval have their own.
    drop(harness.read("sys/mounts", ROOT).await.expect_status(200));
    elsewhere(&mut harness, 2);
    drop(harness.read("kv/a", ROOT).await.expect_status(404));
    elsewhere(&mut harness, 1);
    harness.advance(Duration::from_secs(10)).await;
    assert_eq!(statuses(&harness, "kv/a", 4).await, [404, 404, 404, 429]);
}

#[tokio::test]
async fn the_most_specific_quota_counts_whatever_the_spelling_of_the_path() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/people/users/bob", json!({ "password": "secret" })).await;
    set(&harness, "all", json!({ "rate": 5 })).await;
    set(&harness, "people", json!({ "path": "auth/people", "rate": 4 })).await;
    set(&harness, "logins", json!({ "path": "auth/people/login/*", "rate": 2 })).await;
    set(&harness, "bob", json!({ "path": "auth/people/login/bob", "rate": 1 })).await;
    elsewhere(&mut harness, 1);
    let login = |name: &'static str| {
        let harness = &harness;
        async move { harness.write(&format!("auth/people/login/{name}"), "", json!({ "password": "no" })).await.status }
    };
    assert_eq!([login("bob").await, login("BOB").await, login("bob/").await], [400, 429, 429]);
    assert_eq!([login("ann").await, login("eve").await, login("ann").await], [400, 400, 429]);
    assert_eq!(statuses(&harness, "auth/people/users/bob", 5).await, [200, 200, 200, 200, 429]);
    assert_eq!(statuses(&harness, "sys/mounts", 6).await, [200, 200, 200, 200, 200, 429]);
    // The quota follows its mount; where nothing was, nothing is.
    elsewhere(&mut harness, 2);
    harness.prepare("POST", "sys/remount", json!({ "from": "auth/people", "to": "auth/folk" })).await;
    let moved = harness.read("sys/quotas/rate-limit/bob", ROOT).await.expect_status(200);
    assert_eq!(moved.at("/data/path"), &json!("auth/folk/login/bob"));
    harness.prepare("DELETE", "sys/auth/folk", Value::Null).await;
    harness.advance(Duration::from_secs(1)).await;
    drop(harness.read("sys/quotas/rate-limit/bob", ROOT).await.expect_status(404));
    assert_eq!(harness.list("sys/quotas/rate-limit", ROOT).await.at("/data/keys"), &json!(["all"]));
}

#[tokio::test]
async fn who_is_blocked_stays_so_and_what_is_exempt_is_never_refused() {
    let mut harness = Harness::start().await;
    set(&harness, "all", json!({ "rate": 1, "block_interval": "1h" })).await;
    harness.prepare("POST", "sys/quotas/config", json!({ "enable_rate_limit_response_headers": true })).await;
    elsewhere(&mut harness, 1);
    let allowed = harness.read("sys/mounts", ROOT).await.expect_status(200);
    let shown = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(|name| &allowed.headers[name]);
    assert_eq!(shown, ["1", "0", "1"]);
    assert!(!allowed.headers.contains_key("retry-after"));
    harness.read("sys/mounts", ROOT).await.expect_error(429, "rate limit quota exceeded");
    harness.advance(Duration::from_secs(3599)).await;
    let refused = harness.read("sys/mounts", ROOT).await.expect_status(429);
    assert_eq!([&refused.headers["retry-after"], &refused.headers["x-ratelimit-reset"]], ["1", "1"]);
    assert_eq!(statuses(&harness, "sys/health", 3).await, [200; 3]);
    assert_eq!(statuses(&harness, "sys/seal-status", 3).await, [200; 3]);
    harness.advance(Duration::from_secs(1)).await;
    drop(harness.read("sys/mounts", ROOT).await.expect_status(200));
    // What an operator says of exempt paths takes the place of what was; what is not sent stays.
    elsewhere(&mut harness, 2);
    harness.prepare("POST", "sys/quotas/config", json!({ "rate_limit_exempt_paths": ["sys/mounts"] })).await;
    let config = harness.read("sys/quotas/config", ROOT).await.expect_status(200);
    assert_eq!(
        config.at("/data"),
        &json!({
            "rate_limit_exempt_paths": ["sys/mounts"],
            "absolute_rate_limit_exempt_paths": [],
            "enable_rate_limit_audit_logging": false,
            "enable_rate_limit_response_headers": true,
        })
    );
    assert_eq!(statuses(&harness, "sys/mounts", 3).await, [200; 3]);
    assert_eq!(statuses(&harness, "sys/health", 2).await, [200, 429]);
}

#[tokio::test]
async fn a_quota_that_is_too_small_can_be_removed_and_nobody_floods_what_is_exempt() {
    let mut harness = Harness::start().await;
    set(&harness, "all", json!({ "rate": 1, "interval": "1h", "block_interval": "1h" })).await;
    elsewhere(&mut harness, 1);
    assert_eq!(statuses(&harness, "sys/mounts", 2).await, [200, 429]);
    // Looking after quotas has a bound of its own, which no quota changes.
    let many = statuses(&harness, "sys/quotas/rate-limit/all", 60).await;
    assert_eq!((many.iter().filter(|status| **status == 200).count(), many[59]), (50, 429));
    harness.advance(Duration::from_secs(1)).await;
    harness.prepare("DELETE", "sys/quotas/rate-limit/all", Value::Null).await;
    assert_eq!(statuses(&harness, "sys/mounts", 2).await, [200; 2]);
}

#[tokio::test]
async fn a_refusal_is_recorded_only_where_that_was_asked_for() {
    let mut harness = Harness::start().await;
    harness.enable_audit().await;
    set(&harness, "all", json!({ "rate": 1, "interval": 3600 })).await;
    elsewhere(&mut harness, 1);
    let records = |records: Vec<Value>| records.iter().filter(|r| r.to_string().contains("rate limit quota")).count();
    assert_eq!(statuses(&harness, "sys/mounts", 3).await, [200, 429, 429]);
    assert_eq!(records(harness.audit_records().await), 0);
    elsewhere(&mut harness, 2);
    harness.prepare("POST", "sys/quotas/config", json!({ "enable_rate_limit_audit_logging": true })).await;
    assert_eq!(statuses(&harness, "sys/mounts", 2).await, [200, 429]);
    let audited = harness.audit_records().await;
    let shown =
        audited.iter().filter(|record| record["request"]["path"] == "sys/mounts" && record["error"] != json!(null));
    assert!(shown.clone().count() > 0 && records(harness.audit_records().await) > 0, "{audited:#?}");
}

#[tokio::test]
async fn what_makes_no_quota_is_refused_and_what_is_one_is_shown_as_it_was_sent() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    for (body, text) in [
        (json!({}), "'rate' is invalid"),
        (json!({ "rate": 0 }), "rate"),
        (json!({ "rate": -1 }), "rate"),
        (json!({ "rate": 1, "path": "nowhere" }), "invalid mount path \"nowhere/\""),
        (json!({ "rate": 1, "block_interval": -1 }), "block_interval"),
        (json!({ "rate": 1, "role": "r" }), "not a valid auth method"),
        (json!({ "rate": 1, "role": "r", "path": "kv" }), "Mount path \"kv/\" is not a valid auth method"),
        (json!({ "rate": 1, "role": "r", "path": "auth/people" }), "does not support use with role-based quotas"),
        (json!({ "rate": 1, "role": "r", "path": "auth/people/login/x" }), "both a path suffix and a role"),
        (json!({ "rate": 1, "type": "lease-count" }), "type"),
    ] {
        harness.write("sys/quotas/rate-limit/x", ROOT, body).await.expect_error(400, text);
    }
    drop(harness.list("sys/quotas/rate-limit", ROOT).await.expect_status(404));
    set(&harness, "x", json!({ "path": "kv/a/*", "rate": 2.5, "interval": "1m", "block_interval": 30 })).await;
    let shown = harness.read("sys/quotas/rate-limit/x", ROOT).await.expect_status(200);
    assert_eq!(
        shown.at("/data"),
        &json!({
            "name": "x", "type": "rate-limit", "path": "kv/a/*", "rate": 2.5, "interval": 60, "block_interval": 30,
            "role": "", "inheritable": false,
        })
    );
    harness
        .write("sys/quotas/rate-limit/y", ROOT, json!({ "path": "kv/a/*", "rate": 1 }))
        .await
        .expect_error(400, "quota rule with similar properties exists under the name \"x\"");
    set(&harness, "all", json!({ "rate": 1000 })).await;
    assert_eq!(harness.read("sys/quotas/rate-limit/all", ROOT).await.at("/data/inheritable"), &json!(true));
    // They are stored, and read again.
    harness.restart().await;
    harness.unseal().await;
    assert_eq!(harness.list("sys/quotas/rate-limit", ROOT).await.at("/data/keys"), &json!(["all", "x"]));
    elsewhere(&mut harness, 1);
    assert_eq!(statuses(&harness, "kv/a/b", 4).await, [404, 404, 404, 429]);
    elsewhere(&mut harness, 2);
    harness.prepare("DELETE", "sys/quotas/rate-limit/x", Value::Null).await;
    drop(harness.read("sys/quotas/rate-limit/x", ROOT).await.expect_status(404));
    elsewhere(&mut harness, 1);
    assert_eq!(statuses(&harness, "kv/a/b", 4).await, [404; 4]);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_quota_on_a_role_counts_its_logins_before_those_of_its_mount() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    for role in ["ci", "web"] {
        let body = json!({ "bind_secret_id": false, "token_bound_cidrs": "10.0.0.0/8" });
        harness.prepare("POST", &format!("auth/approle/role/{role}"), body).await;
        let id = json!({ "role_id": format!("id-of-{role}") });
        harness.prepare("POST", &format!("auth/approle/role/{role}/role-id"), id).await;
    }
    let hour = |rate: u32| json!({ "rate": rate, "interval": "1h", "path": "auth/approle" });
    let mut of_ci = hour(2);
    of_ci["role"] = json!("ci");
    set(&harness, "mount", hour(3)).await;
    set(&harness, "ci", of_ci.clone()).await;
    harness.write("sys/quotas/rate-limit/twin", ROOT, of_ci).await.expect_error(400, "similar properties");
    let shown = harness.read("sys/quotas/rate-limit/ci", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/role"), shown.at("/data/path")), (&json!("ci"), &json!("auth/approle/")));
    harness.prepare("POST", "sys/quotas/config", json!({ "enable_rate_limit_response_headers": true })).await;
    for is_later in [false, true] {
        if is_later {
            harness.restart().await;
            harness.unseal().await;
        }
        elsewhere(&mut harness, 1);
        let login = async |body: Value| harness.write("auth/approle/login", "", body).await;
        let as_role = |role: &str| json!({ "role_id": format!("id-of-{role}") });
        let first = login(as_role("ci")).await.expect_status(200);
        assert_eq!([&first.headers["x-ratelimit-limit"], &first.headers["x-ratelimit-remaining"]], ["2", "1"]);
        drop(login(as_role("ci")).await.expect_status(200));
        let refused = login(as_role("ci")).await;
        refused.expect_error(429, "rate limit quota exceeded");
        // Other roles, ids of none and what cannot be read are the mount's, as everything else there is.
        drop(login(as_role("web")).await.expect_status(200));
        drop(login(as_role("nobody")).await.expect_status(400));
        let mut broken = tresor_harness::assembly::request("POST", "auth/approle/login", "", &Value::Null);
        *broken.body_mut() = http_body_util::Full::new(bytes::Bytes::from_static(b"{ no json"));
        drop(harness.send(broken).await.expect_status(400));
        drop(login(as_role("web")).await.expect_status(429));
        drop(harness.read("auth/approle/role/ci", ROOT).await.expect_status(429));
        drop(login(as_role("ci")).await.expect_status(429));
    }
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    harness.prepare("DELETE", "sys/quotas/rate-limit/ci", Value::Null).await;
    elsewhere(&mut harness, 2);
    for expected in [200, 200, 200, 429] {
        assert_eq!(harness.write("auth/approle/login", "", json!({ "role_id": "id-of-ci" })).await.status, expected);
    }
}
