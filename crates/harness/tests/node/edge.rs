//! Pages of other sites, and headers that are recorded.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_http::ListenerOrigins;

async fn from(harness: &Harness, origin: &str, method: &str, wanted: &str) -> Answer {
    let mut request = assembly::request(method, "sys/health", "", &Value::Null);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    if !wanted.is_empty() {
        request.headers_mut().insert("access-control-request-method", wanted.parse().unwrap());
    }
    harness.send(request).await
}

#[tokio::test]
async fn a_listener_may_say_itself_whose_pages_ask() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/config/cors", json!({ "allowed_origins": "http://c.d" })).await;
    let (allowed, headers) = (vec!["http://a.b".to_owned()], vec!["X-Foo".to_owned()]);
    harness.options.origins = Some(ListenerOrigins { allowed, headers, with_credentials: true });
    let asked = from(&harness, "http://a.b", "OPTIONS", "GET").await.expect_status(200);
    assert_eq!(asked.headers["access-control-allow-credentials"], "true");
    assert!(asked.headers["access-control-allow-headers"].to_str().unwrap().ends_with(",X-Foo"));
    from(&harness, "http://c.d", "GET", "").await.expect_error(403, "origin not allowed");
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

#[tokio::test]
async fn answers_below_ui_have_the_headers_that_an_operator_says() {
    let mut harness = Harness::start().await;
    let below_ui = async |harness: &Harness, at: &str| {
        let mut request = assembly::request("GET", "", "", &Value::Null);
        *request.uri_mut() = at.parse().unwrap();
        harness.send(request).await
    };
    let path = "sys/config/ui/headers/x-frame-options";
    assert_eq!(harness.list("sys/config/ui/headers", ROOT).await.status, 404);
    assert_eq!(harness.read(path, ROOT).await.status, 404);
    for (path, body, text) in [
        (path, json!({}), "header and values must be specified"),
        ("sys/config/ui/headers/X-Vault-Some", json!({ "values": "a" }), "X-Vault headers cannot be set"),
        ("sys/config/ui/headers/a%20b", json!({ "values": "a" }), "no name that headers can have"),
        (path, json!({ "values": ["a\r\nset-cookie: b"] }), "visible ASCII"),
    ] {
        harness.write(path, ROOT, body).await.expect_error(400, text);
    }
    drop(harness.write(path, ROOT, json!({ "values": "deny, not split" })).await.expect_status(200));
    harness.prepare("POST", "sys/config/ui/headers/X-More", json!({ "values": ["one", "two"] })).await;
    let csp = json!({ "values": "default-src 'self'" });
    let warned = harness.write("sys/config/ui/headers/Content-Security-Policy", ROOT, csp).await.expect_status(200);
    assert!(warned.text_at("/warnings/0").contains("proceed with caution"));
    for is_later in [false, true] {
        if is_later {
            harness.restart().await;
            assert!(!below_ui(&harness, "/ui/").await.headers.contains_key("x-more"), "a sealed node knows none");
            harness.unseal().await;
        }
        let names = harness.list("sys/config/ui/headers", ROOT).await.expect_status(200);
        assert_eq!(names.at("/data/keys"), &json!(["Content-Security-Policy", "X-Frame-Options", "X-More"]));
        assert_eq!(harness.read(path, ROOT).await.at("/data"), &json!({ "value": "deny, not split" }));
        let all = harness.read("sys/config/ui/headers/x-more?multivalue=true", ROOT).await;
        assert_eq!(all.at("/data"), &json!({ "values": ["one", "two"] }));
        for at in ["/ui", "/ui/", "/ui/vault/secrets?x=1"] {
            let page = below_ui(&harness, at).await.expect_status(404);
            assert_eq!(page.headers["x-frame-options"], "deny, not split", "{at}");
            let more: Vec<_> = page.headers.get_all("x-more").iter().collect();
            assert_eq!(more, ["one", "two"]);
        }
        for at in ["/uix", "/v1/sys/health"] {
            assert!(!below_ui(&harness, at).await.headers.contains_key("x-frame-options"), "{at}");
        }
    }
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    harness.prepare("DELETE", path, Value::Null).await;
    assert!(!below_ui(&harness, "/ui/").await.headers.contains_key("x-frame-options"));
    // Who may change them needs sudo.
    let weak = harness.token_with(r#"path "sys/config/ui/headers/*" { capabilities = ["read", "update"] }"#).await;
    assert_eq!(harness.read(path, &weak).await.status, 403);
}
