//! Denial of service, headers, methods, errors and enumeration: what a stranger can send, and what it tells them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn raw(harness: &Harness, method: &str, target: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

const TOKEN: (&str, &str) = ("X-Vault-Token", ROOT);
const MIB: usize = 1024 * 1024;

async fn with_kv() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness
}

#[tokio::test]
async fn dos_01_bodies_are_bounded_and_those_of_strangers_more_so() {
    let harness = with_kv().await;
    let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes)).into_bytes();
    assert_eq!(raw(&harness, "POST", "/v1/kv/a", &[TOKEN], body(33 * MIB)).await.status, 413);
    assert_eq!(raw(&harness, "POST", "/v1/kv/a", &[TOKEN], body(2 * MIB)).await.status, 204);
    for target in ["/v1/sys/unseal", "/v1/sys/init", "/v1/auth/userpass/login/bob", "/v1/kv/a", "/v1/nowhere"] {
        assert_eq!(raw(&harness, "POST", target, &[], body(2 * MIB)).await.status, 413, "{target}");
    }
    // What is announced is believed only where it is more.
    let announced = [TOKEN, ("Content-Length", "99999999999")];
    assert_eq!(raw(&harness, "POST", "/v1/kv/a", &announced, body(1)).await.status, 413);
    let announced = [TOKEN, ("Content-Length", "5")];
    assert_eq!(raw(&harness, "POST", "/v1/kv/a", &announced, body(33 * MIB)).await.status, 413);
    // Nothing is ever decompressed.
    let bomb = vec![0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00];
    assert_eq!(raw(&harness, "POST", "/v1/kv/a", &[TOKEN, ("Content-Encoding", "gzip")], bomb).await.status, 400);
}

#[tokio::test]
async fn dos_02_small_bodies_that_stand_for_large_ones_are_refused() {
    let harness = with_kv().await;
    let list = |item: &str, count: usize| format!("{{\"a\":[{}]}}", vec![item; count].join(","));
    let names = (0..200_000).map(|number| format!("\"{number}\":1")).collect::<Vec<_>>().join(",");
    let bodies = [
        "[".repeat(MIB),
        format!("{{\"a\":{}", "[".repeat(MIB)),
        "{\"a\":".repeat(MIB / 5),
        list("\"x\"", 200_000),
        list("1", 1_000_000 / 4),
        list("{}", 150_000),
        format!("{{{names}}}"),
        format!("{{\"a\":{}}}", "9".repeat(10_000)),
        format!("{{\"a\":-0.{}}}", "9".repeat(10_000)),
        format!("{{\"a\":1e{}}}", "9".repeat(10_000)),
        "{\"a\":1,\"a\":2}".to_owned(),
        "{\"a\":{\"b\":[{\"c\":1,\"c\":1}]}}".to_owned(),
        "{\"data\":{},\"\\u0064ata\":{}}".to_owned(),
    ];
    for body in bodies {
        for (target, headers) in [("/v1/kv/a", &[TOKEN][..]), ("/v1/sys/unseal", &[][..])] {
            let answer = raw(&harness, "POST", target, headers, body.clone().into_bytes()).await;
            assert!(matches!(answer.status, 400 | 413), "{} {answer:?}", &body[..20.min(body.len())]);
        }
    }
    drop(harness.read("kv/a", ROOT).await.expect_status(404));
    // What is merely large is taken.
    harness.prepare("POST", "kv/a", json!({ "a": "x".repeat(900 * 1024), "b": 12_345_678_901_234_567_890_u64 })).await;
}

#[tokio::test]
async fn dos_05_dos_06_nobody_without_a_token_starts_or_cancels_what_needs_shares() {
    let harness = Harness::start().await;
    for path in [
        "sys/rekey/init",
        "sys/rekey/update",
        "sys/rekey/verify",
        "sys/rekey-recovery-key/init",
        "sys/generate-root/attempt",
        "sys/generate-root/update",
        "sys/generate-recovery-token/attempt",
        "sys/rotate",
        "sys/replication/performance/primary/enable",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            for token in ["", "unknown"] {
                let answer = harness.call(method, path, token, json!({ "nonce": "x", "key": "00" })).await;
                assert!(matches!(answer.status, 403..=405), "{method} {path} {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn dos_11_no_request_line_is_a_failure_of_ours() {
    let harness = with_kv().await;
    let long = format!("/v1/kv/{}", "a/".repeat(2048));
    for target in [
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1//",
        "/v2/sys/health",
        "/v1?help=1",
        "/?help=1",
        "/v1/?help=1",
        "/v1/sys?help=1",
        "/v1/kv?help=1",
        "/v1/nowhere?help=1",
        "/v1/auth",
        "/v1/auth/",
        "/v1/auth/token",
        "/v1/sys",
        "/v1/sys/",
        "/v1/kv",
        "/v1/kv/",
        "/v1/kv//",
        "/v1/cubbyhole",
        "/v1/sys/mounts/",
        "/v1/sys/mounts//tune",
        "/v1/sys/policies/acl/",
        "/v1/sys/internal/ui/mounts/",
        "/v1/sys/remount/status/",
        "/v1/auth/token/lookup/",
        "/v1/?list=true",
        "/ui/",
        long.as_str(),
        "/v1/kv/?list",
        "/v1/kv?&&&=&=&list=true=",
        "/v1/%20",
        "/v1/kv/%E2%80%AE",
        "/v1/sys/health?standbyok&x[]=1",
    ] {
        for method in ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "RENEW", "ROLLBACK"]
        {
            for headers in [&[TOKEN][..], &[][..], &[("X-Vault-Token", "null")][..]] {
                let answer = raw(&harness, method, target, headers, b"null".to_vec()).await;
                assert!(answer.status < 500, "{method} {target} {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn tls_05_a_header_that_decides_is_sent_once_and_in_clear_letters() {
    let harness = with_kv().await;
    for headers in [
        &[TOKEN, TOKEN][..],
        &[TOKEN, ("x-vault-token", "other")],
        &[("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        &[TOKEN, ("Authorization", "Bearer other")],
        &[TOKEN, ("X-Vault-Namespace", ""), ("X-Vault-Namespace", "a")],
        &[TOKEN, ("X-Vault-Wrap-TTL", "60"), ("X-Vault-Wrap-TTL", "60")],
        &[("X-Vault-Token", "tok\ten")],
        &[("X-Vault-Token", "tokén")],
    ] {
        let answer = raw(&harness, "GET", "/v1/sys/mounts", headers, Vec::new()).await;
        assert_eq!(answer.status, 400, "{headers:?} {answer:?}");
    }
    for (headers, status) in [
        (&[("x-vault-token", ROOT)][..], 200),
        (&[("X-VAULT-TOKEN", ROOT)], 200),
        (&[("Authorization", &*format!("bearer {ROOT}"))], 200),
        (&[("Authorization", &*format!("Basic {ROOT}"))], 403),
        (&[("Authorization", ROOT)], 403),
        (&[("X-Vault-Token", "")], 403),
        // A blank within is no part of any token.
        (&[("X-Vault-Token", &*format!("{ROOT} x"))], 403),
        (&[("Authorization", &*format!("Bearer {ROOT} x"))], 403),
    ] {
        assert_eq!(raw(&harness, "GET", "/v1/sys/mounts", headers, Vec::new()).await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn tls_04_no_header_says_where_a_request_comes_from() {
    let harness = with_kv().await;
    let bound = harness.token(json!({ "policies": ["root"], "no_parent": true })).await;
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": bound })).await);
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let user = json!({ "password": "pw", "token_bound_cidrs": "10.0.0.0/8" });
    harness.prepare("POST", "auth/userpass/users/bob", user).await;
    for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "X-Client-IP"] {
        let headers = [(name, "10.1.2.3"), ("Content-Type", "application/json")];
        let answer =
            raw(&harness, "POST", "/v1/auth/userpass/login/bob", &headers, b"{\"password\":\"pw\"}".to_vec()).await;
        assert_eq!(answer.status, 400, "{name} {answer:?}");
    }
}

#[tokio::test]
async fn tls_07_what_is_asked_is_decided_once() {
    let harness = with_kv().await;
    harness.prepare("POST", "kv/dir/a", json!({ "v": "1" })).await;
    let reader = harness.token_with(r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let lister = harness.token_with(r#"path "kv/*" { capabilities = ["list"] }"#).await;
    for query in ["list=true", "list=1", "list=TRUE", "list=t", "list=true&list=false", "x=1&list=true"] {
        let path = format!("kv/dir?{query}");
        assert_eq!(harness.read(&path, &reader).await.status, 403, "{query}");
        assert_eq!(harness.read(&path, &lister).await.at("/data/keys"), &json!(["a"]), "{query}");
    }
    for query in ["list=false", "list=0", "list", "List=true"] {
        let path = format!("kv/dir/a?{query}");
        assert_eq!(harness.read(&path, &reader).await.status, 200, "{query}");
        assert_eq!(harness.read(&path, &lister).await.status, 403, "{query}");
    }
    drop(harness.read("kv/dir/a?list=yes", &reader).await.expect_status(400));
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for (method, over) in [("GET", "DELETE"), ("POST", "DELETE"), ("GET", "LIST")] {
            let token = ("X-Vault-Token", reader.as_str());
            raw(&harness, method, "/v1/kv/dir/a", &[token, (name, over)], b"{}".to_vec()).await;
        }
    }
    raw(&harness, "POST", "/v1/kv/dir/a?_method=DELETE", &[("X-Vault-Token", reader.as_str())], b"{}".to_vec()).await;
    drop(harness.read("kv/dir/a", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn tls_09_help_tells_strangers_nothing_about_what_exists() {
    let harness = with_kv().await;
    harness.prepare("POST", "kv/here", json!({ "v": "canary-value" })).await;
    for token in ["", "unknown"] {
        let mut answers = Vec::new();
        for path in ["kv/here", "kv/not-here", "nowhere/at/all", "kv", "auth/nothing/x", "sys/mounts/kv"] {
            let answer = harness.read(&format!("{path}?help=1"), token).await;
            assert!(!String::from_utf8_lossy(&answer.bytes).contains("canary"), "{answer:?}");
            answers.push((answer.status, answer.bytes));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
}

#[tokio::test]
async fn lst_03_tim_06_what_one_may_not_see_is_refused_before_it_is_looked_for() {
    let harness = with_kv().await;
    harness.prepare("POST", "kv/here", json!({ "v": "1" })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "pw" })).await;
    harness
        .prepare("POST", "sys/policies/acl/there", json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" }))
        .await;
    let powerless = harness.token(json!({ "policies": ["nothing"], "no_default_policy": true })).await;
    let accessor = harness.prepare("POST", "auth/token/create", json!({})).await.text_at("/auth/accessor");
    let pairs = [
        ("kv/here", "kv/not-here"),
        ("kv/here", "nowhere/here"),
        ("auth/userpass/users/bob", "auth/userpass/users/eve"),
        ("auth/userpass/users/bob", "auth/nowhere/users/bob"),
        ("sys/policies/acl/there", "sys/policies/acl/gone"),
        ("sys/mounts/kv", "sys/mounts/gone"),
        ("sys/mounts/kv/tune", "sys/mounts/gone/tune"),
        ("sys/auth/userpass", "sys/auth/gone"),
        ("sys/internal/ui/mounts/kv", "sys/internal/ui/mounts/gone"),
        ("sys/audit", "sys/audit/gone"),
    ];
    for (there, gone) in pairs {
        for token in ["", "unknown", powerless.as_str()] {
            for method in ["GET", "LIST", "POST", "DELETE", "PATCH"] {
                let known = harness.call(method, there, token, Value::Null).await;
                let unknown = harness.call(method, gone, token, Value::Null).await;
                assert_eq!(known.status, 403, "{method} {there} {known:?}");
                assert_eq!((known.status, known.bytes), (unknown.status, unknown.bytes), "{method} {there} {gone}");
            }
        }
    }
    for path in ["lookup-accessor", "renew-accessor", "revoke-accessor"] {
        let path = format!("auth/token/{path}");
        let known = harness.write(&path, &powerless, json!({ "accessor": accessor })).await;
        let unknown = harness.write(&path, &powerless, json!({ "accessor": "no-such-accessor" })).await;
        assert_eq!((known.status, known.bytes), (unknown.status, unknown.bytes));
        assert_eq!(known.status, 403);
    }
}

#[tokio::test]
async fn tim_01_tim_07_only_the_whole_token_is_a_token() {
    let harness = Harness::start().await;
    let token = harness.token(json!({ "policies": ["root"] })).await;
    let mut near = vec![
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        format!("{token}x"),
        token.to_uppercase(),
        token.to_lowercase(),
    ];
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        near.push(String::from_utf8(changed).unwrap());
    }
    for wrong in near.iter().filter(|wrong| **wrong != token) {
        drop(harness.read("auth/token/lookup-self", wrong).await.expect_status(403));
    }
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(200));
    for (key, value) in harness.store.dump() {
        for secret in [&token[..], &token[4..], ROOT] {
            for bytes in [key.as_bytes(), value.as_slice()] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
            }
        }
    }
}

#[tokio::test]
async fn log_05_words_of_errors_in_names_change_no_status() {
    let harness = with_kv().await;
    for words in [
        "permission%20denied",
        "unsupported%20path",
        "unsupported%20operation",
        "invalid%20request",
        "relative%20paths%20not%20supported",
        "Vault%20is%20sealed",
        "internal%20error",
        "no%20handler%20for%20route",
        "1%20error%20occurred",
    ] {
        let path = format!("kv/{words}");
        assert_eq!(harness.read(&path, ROOT).await.status, 404);
        assert_eq!(harness.write(&path, ROOT, json!({ "permission denied": "unsupported path" })).await.status, 204);
        assert_eq!(harness.read(&path, ROOT).await.status, 200);
        assert_eq!(harness.list(&format!("{path}/"), ROOT).await.status, 404);
        assert_eq!(harness.delete(&path, ROOT).await.status, 204);
        assert_eq!(harness.read(&format!("nowhere/{words}"), ROOT).await.status, 404);
    }
}

#[tokio::test]
async fn log_06_broken_json_is_told_by_its_place_alone() {
    let harness = with_kv().await;
    for body in [
        "{\"a\":canary}",
        "{\"canary\"",
        "canary",
        "{\"a\":\"canary\\x\"}",
        "{\"a\":\"canary",
        "{\"a\":1}canary",
        "\"canary\"",
        "{\"canary\":1,\"canary\":2}",
    ] {
        let answer = raw(&harness, "POST", "/v1/kv/a", &[TOKEN], body.as_bytes().to_vec()).await;
        answer.expect_error(400, "failed to parse JSON input");
        assert!(!answer.errors().contains("canary"), "{answer:?}");
    }
}
