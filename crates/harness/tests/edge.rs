//! Pages of other sites, and headers that are recorded.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT, assembly};

async fn from(harness: &Harness, origin: &str, method: &str, wanted: &str) -> Answer {
    let mut request = assembly::request(method, "sys/health", "", &Value::Null);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    if !wanted.is_empty() {
        request.headers_mut().insert("access-control-request-method", wanted.parse().unwrap());
    }
    harness.send(request).await
}

#[tokio::test]
async fn pages_of_other_sites_may_ask_only_when_an_operator_says_so() {
    let mut harness = Harness::start().await;
    let off = harness.read("sys/config/cors", ROOT).await.expect_status(200);
    assert_eq!((off.at("/data"), off.at("/enabled")), (&json!({ "enabled": false }), &json!(false)));
    let before = from(&harness, "http://a.b", "GET", "").await.expect_status(200);
    assert!(!before.headers.contains_key("access-control-allow-origin"));
    drop(from(&harness, "http://a.b", "OPTIONS", "GET").await.expect_status(405));
    for (wrong, text) in [
        (json!({}), "at least one origin or the wildcard must be provided"),
        (json!({ "allowed_origins": "*,http://a.b" }), "must be the only value"),
        (json!({ "allowed_origins": "http://a.b", "allowed_headers": ["a b"] }), "visible ASCII"),
    ] {
        harness.write("sys/config/cors", ROOT, wrong).await.expect_error(400, text);
    }
    let cors = json!({ "allowed_origins": "http://a.b,http://c.d", "allowed_headers": "X-Foo" });
    harness.prepare("POST", "sys/config/cors", cors).await;
    let allowed = from(&harness, "http://c.d", "GET", "").await.expect_status(200);
    assert_eq!(allowed.headers["access-control-allow-origin"], "http://c.d");
    assert_eq!(allowed.headers["vary"], "origin");
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));
    let asked = from(&harness, "http://c.d", "OPTIONS", "LIST").await.expect_status(200);
    assert!(asked.bytes.is_empty() && asked.headers["access-control-max-age"] == "300");
    assert!(asked.headers["access-control-allow-methods"].to_str().unwrap().contains("LIST"));
    let headers = asked.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("X-Vault-Token") && headers.ends_with(",X-Foo"), "{headers}");
    drop(from(&harness, "http://c.d", "OPTIONS", "BREW").await.expect_status(405));
    for method in ["GET", "OPTIONS"] {
        from(&harness, "http://e.f", method, "GET").await.expect_error(403, "origin not allowed");
    }
    // Who names no origin is no page.
    drop(harness.read("sys/health", "").await.expect_status(200));
    harness.prepare("POST", "sys/config/cors", json!({ "allowed_origins": ["*"], "allow_credentials": true })).await;
    let any = from(&harness, "http://e.f", "GET", "").await.expect_status(200);
    assert_eq!(any.headers["access-control-allow-origin"], "http://e.f");
    assert_eq!(any.headers["access-control-allow-credentials"], "true");
    harness.restart().await;
    harness.unseal().await;
    let shown = harness.read("sys/config/cors", ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data/allowed_origins"), &json!(["*"]));
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    harness.prepare("DELETE", "sys/config/cors", Value::Null).await;
    drop(from(&harness, "http://e.f", "GET", "").await.expect_status(200));
}

#[tokio::test]
async fn aud_07_a_header_is_recorded_when_an_operator_says_so() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let send = async |value: &'static str| {
        let mut request = assembly::request("GET", "sys/mounts", ROOT, &Value::Null);
        for name in ["x-trace", "x-secret", "x-other"] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        drop(harness.send(request).await.expect_status(200));
        let records = harness.audit_records().await;
        records.into_iter().rev().find(|record| record["request"]["path"] == "sys/mounts").unwrap()
    };
    assert_eq!(send("one").await["request"]["headers"], Value::Null);
    harness.prepare("POST", "sys/config/auditing/request-headers/X-Trace", json!({})).await;
    harness.prepare("POST", "sys/config/auditing/request-headers/X-SECRET", json!({ "hmac": true })).await;
    // Those with credentials are never recorded, whatever is said of them.
    harness.prepare("POST", "sys/config/auditing/request-headers/X-Vault-Token", json!({})).await;
    let recorded = send("two").await["request"]["headers"].clone();
    assert_eq!(recorded["x-trace"], json!(["two"]));
    assert!(recorded["x-secret"][0].as_str().unwrap().starts_with("hmac-sha256:"));
    assert_eq!(recorded.as_object().unwrap().len(), 2, "{recorded}");
    let all = harness.read("sys/config/auditing/request-headers", ROOT).await.expect_status(200);
    assert_eq!(all.at("/data/headers/x-secret"), &json!({ "hmac": true }));
    assert_eq!(all.at("/headers/x-trace"), &json!({ "hmac": false }));
    let one = harness.read("sys/config/auditing/request-headers/x-Trace", ROOT).await.expect_status(200);
    assert_eq!(one.at("/data"), &json!({ "x-Trace": { "hmac": false } }), "as it was asked for");
    harness.prepare("DELETE", "sys/config/auditing/request-headers/x-trace", Value::Null).await;
    let gone = harness.read("sys/config/auditing/request-headers/x-trace", ROOT).await;
    gone.expect_error(400, "Could not find header in config");
    let wrong = harness.write("sys/config/auditing/request-headers/a%20b", ROOT, json!({})).await;
    wrong.expect_error(400, "no name that headers can have");
    assert_eq!(send("three").await["request"]["headers"].as_object().unwrap().len(), 1);
}
