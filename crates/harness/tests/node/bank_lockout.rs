//! The security bank's rows about lock-out, and how it looks on the wire (`docs/security-bank.md`).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::lockout::Rules;
use tresor_harness::{Answer, Harness, ROOT, assembly};

const WRONG: &str = "invalid username or password";
const DENIED: &str = "permission denied";

async fn node() -> Harness {
    let harness = Harness::start().await;
    with_users(&harness).await;
    harness
}

async fn with_users(harness: &Harness) {
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    for user in ["bob", "eve"] {
        harness.prepare("POST", &format!("auth/userpass/users/{user}"), json!({ "password": "right" })).await;
    }
}

async fn login(harness: &Harness, name: &str, password: &str) -> Answer {
    harness.write(&format!("auth/userpass/login/{name}"), "", json!({ "password": password })).await
}

async fn tune(harness: &Harness, rules: Value) {
    harness.prepare("POST", "sys/auth/userpass/tune", json!({ "user_lockout_config": rules })).await;
}

#[tokio::test]
async fn mfa_06_every_spelling_of_a_name_has_one_budget() {
    let harness = node().await;
    tune(&harness, json!({ "lockout_threshold": "3" })).await;
    for name in ["bob", "Bob", "bob%20"] {
        login(&harness, name, "wrong").await.expect_error(400, WRONG);
    }
    for name in ["bob", "BOB"] {
        login(&harness, name, "right").await.expect_error(403, DENIED);
    }
    drop(login(&harness, "eve", "right").await.expect_status(200));
    // Time passes.
    harness.advance(Duration::from_secs(15 * 60)).await;
    drop(login(&harness, "bob", "right").await.expect_status(200));
    // Who was right begins anew.
    for _ in 0..2 {
        login(&harness, "bob", "wrong").await.expect_error(400, WRONG);
    }
    drop(login(&harness, "bob", "right").await.expect_status(200));
    for _ in 0..2 {
        login(&harness, "bob", "wrong").await.expect_error(400, WRONG);
    }
    drop(login(&harness, "bob", "right").await.expect_status(200));
}

#[tokio::test]
async fn pwd_02_a_name_that_nobody_has_is_locked_like_any_other() {
    let harness = node().await;
    for attempt in 0..8 {
        let (known, unknown) = (login(&harness, "bob", "wrong").await, login(&harness, "nobody", "wrong").await);
        assert_eq!((known.status, &known.bytes), (unknown.status, &unknown.bytes));
        assert_eq!(known.status, if attempt < 5 { 400 } else { 403 });
    }
}

#[tokio::test]
async fn mfa_08_a_storm_of_wrong_passwords_is_answered() {
    let harness = node().await;
    let storm = (0..200).map(|at| {
        let harness = &harness;
        async move {
            match at % 4 {
                0 => login(harness, "eve", "right").await.status,
                _ => login(harness, "bob", "wrong").await.status,
            }
        }
    });
    let statuses = futures_util::future::join_all(storm).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 50);
    login(&harness, "bob", "right").await.expect_error(403, DENIED);
}

#[tokio::test]
async fn mfa_10_a_body_that_makes_no_sense_counts_for_nobody() {
    let harness = node().await;
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    for body in [json!({ "role_id": {} }), json!([]), json!(1), json!({ "role_id": null }), json!({}), Value::Null] {
        let answer = harness.write("auth/approle/login", "", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    for _ in 0..10 {
        harness.write("auth/userpass/login/bob", "", json!({})).await.expect_error(400, "missing password");
    }
    drop(login(&harness, "bob", "right").await.expect_status(200));
    // An id of a role is a name like any other.
    for _ in 0..5 {
        let body = json!({ "role_id": "some", "secret_id": "wrong" });
        harness.write("auth/approle/login", "", body).await.expect_error(400, "invalid role or secret ID");
    }
    let body = json!({ "role_id": " some ", "secret_id": "wrong" });
    harness.write("auth/approle/login", "", body).await.expect_error(403, DENIED);
}

#[tokio::test]
async fn locked_names_are_listed_and_unlocked() {
    let harness = node().await;
    let mounts = harness.read("sys/auth", ROOT).await;
    let accessor = mounts.at("/data")["userpass/"]["accessor"].as_str().unwrap().to_owned();
    let none = json!([{ "namespace_id": "root", "namespace_path": "", "counts": 0, "mount_accessors": [] }]);
    assert_eq!(harness.read("sys/locked-users", ROOT).await.at("/data/by_namespace"), &none);
    for _ in 0..5 {
        drop(login(&harness, "bob", "wrong").await);
    }
    for query in ["", &format!("?mount_accessor={accessor}")] {
        let listed = harness.read(&format!("sys/locked-users{query}"), ROOT).await.expect_status(200);
        let at = json!([{ "mount_accessor": accessor, "counts": 1, "alias_identifiers": ["bob"] }]);
        assert_eq!(listed.at("/data/by_namespace/0/mount_accessors"), &at);
        assert_eq!(listed.at("/data/total"), 1);
    }
    let other = harness.read("sys/locked-users?mount_accessor=other", ROOT).await;
    assert_eq!(other.at("/data/total"), 0);
    for path in [format!("{accessor}/unlock/bob"), format!("{accessor}/unlock/nobody"), "nope/unlock/bob".to_owned()] {
        drop(harness.write(&format!("sys/locked-users/{path}"), ROOT, Value::Null).await.expect_status(204));
    }
    drop(login(&harness, "bob", "right").await.expect_status(200));
}

#[tokio::test]
async fn a_mount_is_tuned_and_the_server_is_configured() {
    let harness = node().await;
    let shown = harness.read("sys/auth/userpass/tune", ROOT).await;
    assert!(shown.at("/data").get("user_lockout_threshold").is_none());
    tune(
        &harness,
        json!({ "lockout_threshold": 2, "lockout_duration": "10s", "lockout_counter_reset_duration": "5s" }),
    )
    .await;
    let shown = harness.read("sys/auth/userpass/tune", ROOT).await;
    for (field, expected) in [
        ("user_lockout_threshold", json!(2)),
        ("user_lockout_duration", json!(10)),
        ("user_lockout_counter_reset_duration", json!(5)),
        ("user_lockout_disable", json!(false)),
    ] {
        assert_eq!(shown.at(&format!("/data/{field}")), &expected, "{field}");
    }
    drop(login(&harness, "bob", "wrong").await);
    harness.advance(Duration::from_secs(5)).await;
    drop(login(&harness, "bob", "wrong").await);
    drop(login(&harness, "bob", "wrong").await);
    login(&harness, "bob", "right").await.expect_error(403, DENIED);
    harness.advance(Duration::from_secs(10)).await;
    drop(login(&harness, "bob", "right").await.expect_status(200));
    // What is not sent stays.
    tune(&harness, json!({ "lockout_disable": "true" })).await;
    for _ in 0..9 {
        login(&harness, "bob", "wrong").await.expect_error(400, WRONG);
    }
    for (path, body, text) in [
        ("sys/auth/token/tune", json!({ "lockout_threshold": 3 }), "for auth type \"token\" not allowed"),
        ("sys/auth/userpass/tune", json!({ "lockout_threshold": "x" }), "unable to parse user lockout threshold"),
        ("sys/auth/userpass/tune", json!({ "lockout_duration": "x" }), "unable to parse user lockout duration"),
    ] {
        harness.write(path, ROOT, json!({ "user_lockout_config": body })).await.expect_error(400, text);
    }
    let mut settings = assembly::settings();
    settings.lockout.insert("userpass".to_owned(), Rules { threshold: 1, ..Rules::default() });
    let harness = Harness::start_with(settings).await;
    with_users(&harness).await;
    login(&harness, "bob", "wrong").await.expect_error(400, WRONG);
    login(&harness, "bob", "right").await.expect_error(403, DENIED);
}
