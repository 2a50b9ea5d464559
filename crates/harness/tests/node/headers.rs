//! Headers between clients and engines: a mount lets through what an operator named, and an engine gets nothing else.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;
use tresor_harness::{Answer, Harness, ROOT};

/// Headers that a client may send, in its own spelling.
const SENT: [(&str, &str); 6] = [
    ("X-One", "1"),
    ("X-One", "2"),
    ("X-Two", "3"),
    ("Cookie", "canary"),
    ("X-Forwarded-For", "192.0.2.1"),
    ("Proxy-Authorization", "canary"),
];

async fn with_mount(request: &str, answer: &str) -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/lets", json!({ "type": "leasing" })).await;
    let tuned = json!({ "passthrough_request_headers": request, "allowed_response_headers": answer });
    drop(harness.write("sys/mounts/lets/tune", ROOT, tuned).await.expect_status(204));
    harness
}

/// What the engine is handed of a header, and the answer.
async fn ask(harness: &Harness, name: &str) -> Answer {
    let mut request = http::Request::get(format!("/v1/lets/headers/{name}")).header("X-Vault-Token", ROOT);
    for (name, value) in SENT {
        request = request.header(name, value);
    }
    harness.send(request.body(Full::new(Bytes::new())).unwrap()).await.expect_status(200)
}

#[tokio::test]
async fn an_engine_is_handed_the_headers_that_its_mount_lets_through_and_no_others() {
    let harness = with_mount("x-one, X-TWO", "").await;
    assert_eq!(ask(&harness, "x-one").await.at("/data/values"), &json!(["1", "2"]));
    assert_eq!(ask(&harness, "x-two").await.at("/data/values"), &json!(["3"]));
    drop(harness.write("sys/mounts/lets/tune", ROOT, json!({ "passthrough_request_headers": "x-two" })).await);
    assert_eq!(ask(&harness, "x-one").await.at("/data/values"), &json!([]));
    assert_eq!(ask(&harness, "x-two").await.at("/data/values"), &json!(["3"]));
}

#[tokio::test]
async fn tls_03_no_credential_reaches_an_engine_whatever_its_mount_lets_through() {
    let names = ["x-vault-token", "authorization", "cookie", "proxy-authorization", "x-forwarded-for"];
    let harness = with_mount(&names.join(","), "").await;
    for name in names {
        assert_eq!(ask(&harness, name).await.at("/data/values"), &json!([]), "{name}");
    }
}

#[tokio::test]
async fn an_answer_has_the_headers_of_an_engine_that_its_mount_lets_out_and_what_the_server_says_stays() {
    let harness = with_mount("", "X-First, Content-Length, X-Request-Id").await;
    let answer = ask(&harness, "x-one").await;
    assert_eq!(answer.headers["x-first"], "1");
    assert!(!answer.headers.contains_key("x-second") && !answer.headers.contains_key("content-length"));
    assert_eq!(answer.headers["x-request-id"], answer.text_at("/request_id"));
    assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
    drop(harness.write("sys/mounts/lets/tune", ROOT, json!({ "allowed_response_headers": "" })).await);
    assert!(!ask(&harness, "x-one").await.headers.contains_key("x-first"));
}
