//! A login in the headers of a request: it asks as whoever logs in, and nothing is stored for it (TOK-9).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT, assembly};

const PASSWORD: &str = "canary-inline-password";

async fn with_bob() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let policy = r#"path "kv/*" { capabilities = ["read", "update"] }
        path "auth/token/create" { capabilities = ["update"] }"#;
    harness.prepare("POST", "sys/policies/acl/reads", json!({ "policy": policy })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let bob = json!({ "password": PASSWORD, "token_policies": "reads", "token_num_uses": 3, "token_period": "1h" });
    harness.prepare("POST", "auth/userpass/users/bob", bob).await;
    harness
}

fn parameter(key: &str, value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "key": key, "value": value }).to_string())
}

async fn ask(harness: &Harness, method: &str, path: &str, login: &str, password: &str) -> Answer {
    let mut request = assembly::request(method, path, "", &Value::Null);
    let headers = request.headers_mut();
    headers.insert("x-vault-inline-auth-path", login.parse().unwrap());
    headers.insert("x-vault-inline-auth-parameter-0", parameter("password", &json!(password)).parse().unwrap());
    harness.send(request).await
}

#[tokio::test]
async fn a_request_that_brings_its_login_is_done_and_leaves_nothing() {
    let harness = with_bob().await;
    harness.enable_audit().await;
    let counted = || async { harness.read("sys/internal/counters/tokens", ROOT).await.at("/data/counters").clone() };
    let before = counted().await;
    for _ in 0..5 {
        let answer = ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", PASSWORD).await.expect_status(200);
        assert_eq!(answer.at("/data/k"), "v");
    }
    assert_eq!(counted().await, before, "a token was stored");
    // What the policies do not grant is refused, as ever; and nothing hangs on the token.
    ask(&harness, "GET", "sys/mounts", "auth/userpass/login/bob", PASSWORD)
        .await
        .expect_error(403, "permission denied");
    drop(ask(&harness, "POST", "auth/token/create", "auth/userpass/login/bob", PASSWORD).await.expect_status(400));
    // Both requests are recorded, and no header of the login anywhere.
    let text = harness.audit_text().await;
    assert!(text.contains("auth/userpass/login/bob") && text.contains("kv/a"));
    assert!(!text.contains("canary") && !text.contains("inline-auth-parameter"), "{text}");
}

#[tokio::test]
async fn a_login_that_fails_is_told_from_what_came_with_it() {
    let mut harness = with_bob().await;
    let wrong = ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", "wrong").await;
    wrong.expect_error(400, "failed to perform inline authentication: invalid username or password");
    assert_eq!(wrong.headers["x-vault-inline-auth-failed"], "true");
    let refused = ask(&harness, "GET", "sys/mounts", "auth/userpass/login/bob", PASSWORD).await;
    assert!(!refused.headers.contains_key("x-vault-inline-auth-failed"), "{refused:?}");
    // Only what logs in is reached so, and not with a token besides.
    for path in ["sys/health", "kv/a", "nowhere", "sys/wrapping/unwrap"] {
        let answer = ask(&harness, "GET", "kv/a", path, PASSWORD).await;
        answer.expect_error(404, "specified authentication path was not found");
    }
    let mut both = assembly::request("GET", "kv/a", ROOT, &Value::Null);
    both.headers_mut().insert("x-vault-inline-auth-path", "auth/userpass/login/bob".parse().unwrap());
    harness.send(both).await.expect_error(400, "cannot layer inline authentication with token authentication");
    // Guessing costs as much as it does anywhere: the name is locked, and a quota on the method counts.
    for _ in 0..5 {
        drop(ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", "wrong").await);
    }
    drop(ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", PASSWORD).await.expect_status(403));
    harness
        .prepare("POST", "sys/quotas/rate-limit/u", json!({ "path": "auth/userpass", "rate": 1, "interval": "1h" }))
        .await;
    harness.peer = std::net::Ipv4Addr::new(10, 0, 0, 9).into();
    drop(ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", "wrong").await.expect_status(403));
    drop(ask(&harness, "GET", "kv/a", "auth/userpass/login/bob", "wrong").await.expect_status(429));
}
