//! The security bank's rows about the listener, the router and errors: each test is named by its row
//! (`docs/security-bank.md`). What needs a socket is tested with the binary (`crates/tresor/tests/binary`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};
use tresor_model::Operation;
use tresor_wire::input::{Kind, Place};

const CANARY: &str = "canary-8d41f2";

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/mounts/kv2", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness
}

/// Sends a request with these headers.
async fn with_headers(harness: &Harness, method: &str, path: &str, headers: &[(&str, &[u8])], body: Vec<u8>) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("/v1/{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

#[tokio::test]
async fn tls_05_a_credential_that_reads_two_ways_is_refused() {
    let harness = node().await;
    let root = ROOT.as_bytes();
    type Headers<'a> = &'a [(&'a str, &'a [u8])];
    let cases: &[(Headers<'_>, u16)] = &[
        (&[("X-Vault-Token", root)], 200),
        (&[("x-vault-token", root)], 200),
        (&[("Authorization", b"Bearer root-of-the-harness")], 200),
        (&[("authorization", b"bEaReR   root-of-the-harness ")], 200),
        (&[("X-Vault-Token", root), ("Authorization", b"Bearer root-of-the-harness")], 200),
        (&[("X-Vault-Token", root), ("x-vault-token", root)], 400),
        (&[("X-Vault-Token", b"hvs.nobody"), ("X-Vault-Token", root)], 400),
        (&[("X-Vault-Token", root), ("Authorization", b"Bearer other")], 400),
        (&[("Authorization", b"Bearer root-of-the-harness"), ("Authorization", b"Bearer other")], 400),
        (&[("X-Vault-Token", root), ("X-Vault-Namespace", b"a"), ("X-Vault-Namespace", b"b")], 400),
        (&[("X-Vault-Token", root), ("X-Vault-Wrap-TTL", b"1m"), ("X-Vault-Wrap-TTL", b"2m")], 400),
        (&[("X-Vault-Token", b"root-of-the-harness\xff")], 400),
        (&[("X-Vault-Token", b"root-of-\tthe-harness")], 400),
        (&[("X-Vault-Token", b"root-of- the-harness")], 403),
        (&[("Authorization", b"Basic root-of-the-harness")], 403),
        (&[("X-Vault-Token", root), ("X-Vault-Namespace", b"../root")], 400),
        (&[("X-Vault-Token", root), ("X-Vault-Namespace", b"root/")], 200),
    ];
    for (headers, status) in cases {
        let answer = with_headers(&harness, "GET", "sys/mounts", headers, Vec::new()).await;
        assert_eq!(answer.status, *status, "{headers:?}: {answer:?}");
    }
}

#[tokio::test]
async fn tls_04_nobody_claims_to_be_somewhere_else() {
    let harness = node().await;
    harness.enable_audit().await;
    harness
        .prepare("POST", "auth/userpass/users/u", json!({ "password": "p", "token_bound_cidrs": "10.0.0.1/32" }))
        .await;
    let claims: &[(&str, &[u8])] = &[
        ("X-Forwarded-For", b"10.0.0.1"),
        ("Forwarded", b"for=10.0.0.1"),
        ("X-Real-IP", b"10.0.0.1"),
        ("X-Forwarded-Client-Cert", b"canary-8d41f2"),
    ];
    let body = serde_json::to_vec(&json!({ "password": "p" })).unwrap();
    let answer = with_headers(&harness, "POST", "auth/userpass/login/u", claims, body).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    let audit = harness.audit_text().await;
    assert!(!audit.contains("\"remote_address\":\"10.0.0.1\"") && !audit.contains(CANARY));
}

#[tokio::test]
async fn tls_07_the_operation_is_decided_once_and_before_the_policies() {
    let harness = node().await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let lists = harness.token_with(r#"path "kv/*" { capabilities = ["list"] }"#).await;
    let reads = harness.token_with(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    for (query, is_list) in [
        ("?list=true", true),
        ("?list=1", true),
        ("?list=t", true),
        ("?list=T", true),
        ("?list=TRUE", true),
        ("?list=True", true),
        ("?l%69st=true", true),
        ("?list=true&list=false", true),
        ("?x=1&list=true", true),
        ("?list=false", false),
        ("?list=0", false),
        ("?list=", false),
        ("?list", false),
        ("?LIST=true", false),
        ("?list=false&list=true", false),
        ("", false),
    ] {
        for method in ["GET", "HEAD"] {
            let path = format!("kv/a{query}");
            let by_lists = harness.call(method, &path, &lists, Value::Null).await.status;
            let by_reads = harness.call(method, &path, &reads, Value::Null).await.status;
            let expected = if is_list { (404, 403) } else { (403, 200) };
            assert_eq!((by_lists, by_reads), expected, "{method} {path}");
        }
        // Only GET can be a LIST in disguise.
        let status = harness.call("DELETE", &format!("kv/a{query}"), &lists, Value::Null).await.status;
        assert_eq!(status, 403, "DELETE {query}");
    }
    for unclear in ["kv/a?list=yes", "kv/a?list=true%20", "kv/a?list=2"] {
        drop(harness.read(unclear, ROOT).await.expect_status(400));
    }
    let overriding: &[(&str, &[u8])] =
        &[("X-Vault-Token", reads.as_bytes()), ("X-HTTP-Method-Override", b"DELETE"), ("X-Method-Override", b"DELETE")];
    drop(with_headers(&harness, "GET", "kv/a", overriding, Vec::new()).await.expect_status(200));
    drop(with_headers(&harness, "GET", "kv/a?_method=DELETE", &overriding[..1], Vec::new()).await.expect_status(200));
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn tls_09_help_shows_nothing_of_what_is_there() {
    let harness = node().await;
    harness.prepare("POST", "kv/there", json!({ "k": CANARY })).await;
    harness.prepare("POST", "auth/userpass/users/there", json!({ "password": CANARY })).await;
    let powerless = harness.token(json!({ "policies": ["nothing"], "no_default_policy": true })).await;
    for prefix in ["kv/", "kv2/data/", "auth/userpass/users/", "sys/policies/acl/", "sys/mounts/", "nope/"] {
        for token in ["", "hvs.nobody"] {
            drop(harness.read(&format!("{prefix}there?help=1"), token).await.expect_status(403));
        }
        let (there, nope) = (
            harness.read(&format!("{prefix}there?help=1"), &powerless).await,
            harness.read(&format!("{prefix}nope?help=1"), &powerless).await,
        );
        let text = |answer: &Answer| answer.at("/help").as_str().map(str::to_owned);
        assert_eq!((there.status, text(&there)), (nope.status, text(&nope)), "{prefix}");
        assert!(!String::from_utf8_lossy(&there.bytes).contains(CANARY));
    }
}

#[tokio::test]
async fn tim_04_errors_for_strangers_come_from_a_fixed_set() {
    let mut harness = node().await;
    let paths = [
        "kv/a",
        "nope",
        "sys/mounts",
        "sys/leader",
        "sys/internal/ui/mounts/kv",
        "auth/userpass/login/u",
        "sys/unseal",
        "sys/init",
    ];
    for is_sealed in [false, true] {
        if is_sealed {
            harness.restart().await;
        }
        for path in paths {
            for method in ["GET", "POST", "LIST", "BREW"] {
                let answer = harness.call(method, path, "", json!({ "key": "zz" })).await;
                let text = String::from_utf8(answer.bytes.clone()).unwrap();
                for inside in ["/data", "127.0.0.1", "crates/", ".rs", "panicked", "serde", "store", "localhost"] {
                    assert!(!text.contains(inside), "{method} {path}: {answer:?}");
                }
                assert!(answer.status < 500 || answer.status == 503, "{method} {path}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn dos_01_a_body_is_refused_before_it_is_held() {
    let harness = node().await;
    let root: &[(&str, &[u8])] = &[("X-Vault-Token", ROOT.as_bytes())];
    // Strangers have nothing large to say: logins, shares and ceremonies are small.
    for path in ["auth/userpass/login/u", "sys/unseal", "sys/init", "kv/a"] {
        let body = vec![b' '; 1024 * 1024 + 1];
        drop(with_headers(&harness, "POST", path, &[], body).await.expect_status(413));
    }
    drop(with_headers(&harness, "POST", "kv/a", root, vec![b' '; 32 * 1024 * 1024 + 1]).await.expect_status(413));
    let large = serde_json::to_vec(&json!({ "k": "v".repeat(2 * 1024 * 1024) })).unwrap();
    drop(with_headers(&harness, "POST", "kv/a", root, large).await.expect_status(204));
    // A body that came compressed is not unpacked: it is no JSON.
    let packed: &[(&str, &[u8])] = &[root[0], ("Content-Encoding", b"gzip")];
    let gzip = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 0x05, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    drop(with_headers(&harness, "POST", "kv/a", packed, gzip.to_vec()).await.expect_status(400));
}

#[tokio::test]
async fn dos_02_small_bodies_that_mean_much_are_refused() {
    let harness = node().await;
    let root: &[(&str, &[u8])] = &[("X-Vault-Token", ROOT.as_bytes())];
    let bodies = [
        "[".repeat(1 << 20),
        format!("{{\"a\":{}", "[".repeat(1 << 20)),
        "{\"a\":".repeat(200_000),
        format!("{{\"a\":{}1{}}}", "[".repeat(70), "]".repeat(70)),
        format!("{{\"a\":[{}1]}}", "\"\",".repeat(1_000_000)),
        format!("{{{}\"z\":1}}", (0..200_000).map(|at| format!("\"k{at}\":1,")).collect::<String>()),
        "{\"a\":1,\"a\":2}".to_owned(),
        format!("{{\"a\":{}}}", "7".repeat(10_000)),
        "{\"a\":\"\\ud800\"}".to_owned(),
        "{\"a\":NaN}".to_owned(),
        "{\"a\":1}{\"a\":1}".to_owned(),
    ];
    for body in bodies {
        let shown = body.get(..40).unwrap_or(&body).to_owned();
        let answer = with_headers(&harness, "POST", "kv/a", root, body.into_bytes()).await;
        assert_eq!(answer.status, 400, "{shown}: {answer:?}");
    }
    drop(harness.read("kv/a", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn dos_11_no_target_and_no_body_breaks_anything() {
    let harness = node().await;
    for target in [
        "/",
        "/v1",
        "/v1/",
        "/v1//",
        "/v1/?help=1",
        "/v2/x",
        "/ui",
        "/v1/%",
        "/v1/%ff",
        "/v1/\u{7f}",
        "/V1/sys/mounts",
        "/v1/./x",
        "*",
    ] {
        for method in ["GET", "LIST", "POST", "HEAD", "CONNECT", "OPTIONS"] {
            for token in ["", ROOT] {
                let Ok(request) = http::Request::builder()
                    .method(method)
                    .uri(target)
                    .header("X-Vault-Token", token)
                    .body(Full::default())
                else {
                    continue;
                };
                let answer = harness.send(request).await;
                assert!((400..500).contains(&answer.status), "{method} {target}: {answer:?}");
            }
        }
    }
    for body in [
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "\u{0}",
        "{\"policy\":null}",
        "{\"type\":{}}",
        "{\"data\":[]}",
        "{\"data\":null}",
        "{\"options\":[1]}",
    ] {
        for path in [
            "kv/a",
            "kv2/data/a",
            "sys/mounts/x",
            "sys/policies/acl/x",
            "auth/token/create",
            "auth/userpass/users/u",
            "sys/audit/x",
            "sys/remount",
            "sys/capabilities-self",
            "kv2/config",
            "kv2/metadata/a",
        ] {
            for method in ["POST", "PATCH"] {
                let headers: &[(&str, &[u8])] =
                    &[("X-Vault-Token", ROOT.as_bytes()), ("Content-Type", b"application/merge-patch+json")];
                let answer = with_headers(&harness, method, path, headers, body.as_bytes().to_vec()).await;
                assert!(answer.status < 500, "{method} {path} {body}: {answer:?}");
            }
        }
    }
}

/// Wrong types for a field, each with the canary inside.
fn wrong_types(kind: Kind) -> Vec<Value> {
    let mut wrong = vec![json!([{ "k": [CANARY] }])];
    if kind != Kind::Map && kind != Kind::Any {
        wrong.push(json!({ "k": CANARY }));
    }
    if matches!(kind, Kind::Integer | Kind::Boolean | Kind::Duration | Kind::Map) {
        wrong.push(json!(CANARY));
    }
    wrong
}

/// Every field of every endpoint with a value of a kind that it is not.
fn wrong_fields(harness: &Harness) -> Vec<(&'static str, String, &'static str, Value)> {
    let mut wrong = Vec::new();
    for route in harness.node.routes() {
        let segments = route.pattern.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
        let path = format!("{}{}", route.mount, segments.collect::<Vec<_>>().join("/"));
        let method = match route.operation {
            Operation::Patch => "PATCH",
            Operation::Create | Operation::Update => "POST",
            _ => continue,
        };
        for field in route.fields.iter().filter(|field| field.place == Place::Body) {
            for name in std::iter::once(&field.name).chain(field.aliases) {
                wrong.extend(wrong_types(field.kind).into_iter().map(|value| (method, path.clone(), *name, value)));
            }
        }
    }
    wrong
}

#[tokio::test]
async fn log_01_no_error_repeats_the_value_of_a_field() {
    let harness = node().await;
    harness.enable_audit().await;
    let wrong = wrong_fields(&harness);
    assert!(wrong.len() > 200, "{}", wrong.len());
    for (method, path, name, value) in wrong {
        let answer = harness.call(method, &path, ROOT, json!({ name: value })).await;
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(answer.status < 500, "{method} {path} {name}: {answer:?}");
        assert!(!text.contains(CANARY), "{method} {path} {name}: {answer:?}");
    }
    assert!(!harness.audit_text().await.contains(CANARY));
}

#[tokio::test]
async fn pt_04_a_refused_request_changes_nothing_that_is_stored() {
    let harness = node().await;
    let mut refused = 0;
    for (method, path, name, value) in wrong_fields(&harness) {
        let before = harness.store.dump();
        let answer = harness.call(method, &path, ROOT, json!({ name: value })).await;
        if answer.status >= 400 {
            refused += 1;
            assert!(before == harness.store.dump(), "{method} {path} {name}: {answer:?}");
        }
    }
    assert!(refused > 200, "{refused}");
}

#[tokio::test]
async fn log_02_a_password_of_the_wrong_type_stays_unsaid() {
    let harness = node().await;
    harness.enable_audit().await;
    for password in [json!({ "a": CANARY }), json!([CANARY]), json!([[CANARY]])] {
        for path in ["auth/userpass/users/x", "auth/userpass/login/x", "auth/userpass/users/x/password"] {
            let answer = harness.write(path, ROOT, json!({ "password": password })).await;
            assert!(answer.status == 400 && !String::from_utf8_lossy(&answer.bytes).contains(CANARY), "{answer:?}");
        }
    }
    assert!(!harness.audit_text().await.contains(CANARY));
}

#[tokio::test]
async fn log_05_what_a_thing_is_called_never_decides_a_status() {
    let harness = node().await;
    for name in [
        "permission denied",
        "unsupported path",
        "invalid request",
        "relative paths not supported",
        "Vault is sealed",
        "internal error",
    ] {
        let encoded = name.replace(' ', "%20");
        drop(harness.write(&format!("kv/{encoded}"), ROOT, json!({ "k": name })).await.expect_status(204));
        drop(harness.read(&format!("kv/{encoded}"), ROOT).await.expect_status(200));
        drop(harness.read(&format!("kv/{encoded}x"), ROOT).await.expect_status(404));
        drop(
            harness
                .call("PUT", &format!("sys/policies/acl/{encoded}"), ROOT, json!({ "policy": name }))
                .await
                .expect_status(400),
        );
        drop(
            harness
                .write(&format!("auth/userpass/users/{encoded}"), ROOT, json!({ "password": name }))
                .await
                .expect_status(204),
        );
        drop(
            harness
                .write(&format!("auth/userpass/login/{encoded}"), "", json!({ "password": "wrong" }))
                .await
                .expect_status(400),
        );
        drop(harness.call("POST", "sys/mounts/x", ROOT, json!({ "type": name })).await.expect_status(400));
    }
}

#[tokio::test]
async fn log_06_broken_json_is_not_quoted() {
    let harness = node().await;
    harness.enable_audit().await;
    let root: &[(&str, &[u8])] = &[("X-Vault-Token", ROOT.as_bytes())];
    for body in [
        format!("{{\"{CANARY}\" 1}}"),
        format!("{{\"a\":\"{CANARY}"),
        format!("{{\"a\":{CANARY}}}"),
        CANARY.to_owned(),
        format!("{{\"a\":1,\"{CANARY}\":1,\"{CANARY}\":2}}"),
        format!("[\"{CANARY}\"]"),
        format!("\"{CANARY}\""),
        format!("{{\"a\":\"{CANARY}\\x\"}}"),
    ] {
        let answer = with_headers(&harness, "POST", "kv/a", root, body.clone().into_bytes()).await;
        assert!(answer.status == 400 && !String::from_utf8_lossy(&answer.bytes).contains(CANARY), "{body}: {answer:?}");
    }
    assert!(!harness.audit_text().await.contains(CANARY));
}

#[tokio::test]
async fn acl_16_no_header_or_field_names_an_operation() {
    let harness = node().await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let reads = harness.token_with(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let before = harness.list("auth/token/accessors", ROOT).await.json["data"].clone();
    for verb in ["renew", "revoke", "rollback", "resolve-role", "alias-lookahead", "delete", "DELETE"] {
        let headers: &[(&str, &[u8])] = &[
            ("X-Vault-Token", reads.as_bytes()),
            ("X-Vault-Operation", verb.as_bytes()),
            ("X-Vault-Inline-Auth-Operation", verb.as_bytes()),
        ];
        drop(
            with_headers(&harness, "GET", &format!("kv/a?operation={verb}"), headers, Vec::new())
                .await
                .expect_status(200),
        );
        let body = serde_json::to_vec(&json!({ "operation": verb })).unwrap();
        drop(with_headers(&harness, "POST", "kv/a", headers, body).await.expect_status(403));
        // A login in the headers is one, whatever it is called there.
        let headers: &[(&str, &[u8])] = &[
            ("X-Vault-Inline-Auth-Operation", verb.as_bytes()),
            ("X-Vault-Inline-Auth-Path", b"auth/userpass/login/u"),
        ];
        let refused = with_headers(&harness, "GET", "kv/a", headers, Vec::new()).await;
        refused.expect_error(400, "expected a valid login operation in X-Vault-Inline-Auth-Operation");
    }
    assert_eq!(harness.list("auth/token/accessors", ROOT).await.json["data"], before);
}
