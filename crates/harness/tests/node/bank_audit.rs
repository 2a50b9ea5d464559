//! The audit rows of the security bank: what is recorded, when, how it is shown, and what happens when it cannot be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failing step ends the test"
)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::audit_support::{assert_paired, audited, counts, enable, lines, text};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_env::disk::{Disk, Open};
use tresor_harness::{AUDIT_FILE, AUDIT_LOG, Harness, ROOT};

const CANARY: &str = "canary-that-nobody-may-see";

async fn raw(harness: &Harness, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.status
}

#[tokio::test]
async fn aud_01_bodies_that_are_not_understood_are_not_recorded_in_clear() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    // No route of this release answers with bytes of another type; what comes in is the other half of the row.
    for body in [CANARY.to_owned(), format!("{{\"a\": {CANARY}}}"), format!("[\"{CANARY}\"]"), format!("\"{CANARY}\"")]
    {
        assert_eq!(raw(&harness, "POST", "/v1/kv/a", &[("X-Vault-Token", ROOT)], body.as_bytes()).await, 400);
    }
    let text = harness.audit_text().await;
    assert!(!text.contains(CANARY), "{text}");
    assert_eq!(counts(&lines(&harness, AUDIT_FILE), "kv/a"), (4, 4));
}

#[tokio::test]
async fn aud_02_strings_are_hashed_wherever_they_stand_and_nothing_else_is() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let value = json!({
        "text": CANARY, "list": [CANARY, [CANARY, { "deep": CANARY }]], "map": { "a": { "b": { "c": CANARY } } },
        "number": 12.50, "yes": true, "nothing": null, "empty": "", "no_items": [], "no_names": {},
    });
    harness.prepare("POST", "kv/a", value).await;
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
    let text = harness.audit_text().await;
    assert!(!text.contains(CANARY));
    let shown = harness.prepare("POST", "sys/audit-hash/file", json!({ "input": CANARY })).await.text_at("/data/hash");
    let records = lines(&harness, AUDIT_FILE);
    for (kind, at) in [("request", "/request/data"), ("response", "/response/data")] {
        let operation = if kind == "request" { "create" } else { "read" };
        let record = records
            .iter()
            .find(|record| {
                record["type"] == kind
                    && record["request"]["operation"] == operation
                    && record["request"]["path"] == "kv/a"
            })
            .unwrap();
        let data = record.pointer(at).unwrap();
        for place in ["/text", "/list/0", "/list/1/0", "/list/1/1/deep", "/map/a/b/c"] {
            assert_eq!(data.pointer(place), Some(&json!(shown)), "{kind} {place}");
        }
        assert_eq!(data["number"], json!(12.50));
        assert_eq!(data["yes"], json!(true));
        assert_eq!(data["nothing"], Value::Null);
    }
}

#[tokio::test]
async fn aud_02_only_the_declared_keys_are_shown() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let tuning = json!({
        "audit_non_hmac_request_keys": ["shown"], "audit_non_hmac_response_keys": ["answered"],
    });
    harness.prepare("POST", "sys/mounts/kv/tune", tuning).await;
    harness.prepare("POST", "kv/a", json!({ "shown": "public-in", "answered": "public-out", "Shown": CANARY })).await;
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
    let records = harness.audit_records().await;
    let find = |kind: &str, operation: &str| {
        let mut found = records.iter().filter(|record| {
            record["type"] == kind && record["request"]["path"] == "kv/a" && record["request"]["operation"] == operation
        });
        found.next().unwrap().clone()
    };
    let request = find("request", "create");
    assert_eq!(request["request"]["data"]["shown"], "public-in");
    assert!(request["request"]["data"]["answered"].as_str().unwrap().starts_with("hmac-sha256:"));
    let response = find("response", "read");
    assert_eq!(response["response"]["data"]["answered"], "public-out");
    assert!(response["response"]["data"]["shown"].as_str().unwrap().starts_with("hmac-sha256:"));
    assert!(!harness.audit_text().await.contains(CANARY));
}

#[tokio::test]
async fn aud_03_a_token_and_its_accessor_are_never_in_clear() {
    let harness = audited().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "correct-horse" })).await;
    let login = harness.write("auth/userpass/login/bob", "", json!({ "password": "correct-horse" })).await;
    let mut secrets = vec![ROOT.to_owned(), "correct-horse".to_owned()];
    for made in [login, harness.prepare("POST", "auth/token/create", json!({ "id": "a-chosen-token-id" })).await] {
        secrets.push(made.text_at("/auth/client_token"));
        secrets.push(made.text_at("/auth/accessor"));
    }
    let (token, accessor) = (secrets[2].clone(), secrets[3].clone());
    for (method, path, body) in [
        ("POST", "auth/token/lookup", json!({ "token": token })),
        ("POST", "auth/token/lookup-accessor", json!({ "accessor": accessor })),
        ("POST", "auth/token/renew", json!({ "token": token })),
        ("POST", "sys/capabilities", json!({ "token": token, "path": "sys/mounts" })),
        ("POST", "sys/capabilities-accessor", json!({ "accessor": accessor, "path": "sys/mounts" })),
        ("GET", "auth/token/lookup-self", Value::Null),
        ("LIST", "auth/token/accessors", Value::Null),
        ("POST", "auth/token/revoke-accessor", json!({ "accessor": accessor })),
    ] {
        let answer = harness.call(method, path, ROOT, body).await;
        assert!(answer.status < 300, "{method} {path} {answer:?}");
    }
    // A bearer token, one that is refused, and one in the wrong place.
    raw(&harness, "GET", "/v1/auth/token/lookup-self", &[("Authorization", &format!("Bearer {token}"))], b"").await;
    drop(harness.read("sys/mounts", "a-token-that-nobody-has").await.expect_status(403));
    secrets.push("a-token-that-nobody-has".to_owned());
    raw(&harness, "GET", &format!("/v1/auth/token/lookup-self?token={token}"), &[("X-Vault-Token", ROOT)], b"").await;
    let text = harness.audit_text().await;
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is in the audit file");
    }
    // What stands in their place is what `sys/audit-hash` says.
    let shown = harness.prepare("POST", "sys/audit-hash/file", json!({ "input": ROOT })).await.text_at("/data/hash");
    let record = lines(&harness, AUDIT_FILE).pop().unwrap();
    assert_eq!(record["request"]["client_token"], json!(shown));
    assert_eq!(record["auth"]["client_token"], json!(shown));
    let accessor = record["request"]["client_token_accessor"].as_str().unwrap();
    assert!(accessor.starts_with("hmac-sha256:"));
    assert_eq!(record["auth"]["accessor"], json!(accessor));
}

#[tokio::test]
async fn aud_04_what_one_device_may_show_is_no_other_devices_business() {
    let harness = audited().await;
    enable(&harness, "raw", json!({ "file_path": "/audit/raw.log", "log_raw": "true" })).await;
    enable(&harness, "open", json!({ "file_path": "/audit/open.log", "hmac_accessor": "false" })).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "text": CANARY })).await;
    let accessor = harness.read("auth/token/lookup-self", ROOT).await.text_at("/data/accessor");
    let [plain, raw, open] = [
        text(&harness, AUDIT_FILE).await,
        text(&harness, "/audit/raw.log").await,
        text(&harness, "/audit/open.log").await,
    ];
    assert!(raw.contains(CANARY) && raw.contains(ROOT) && raw.contains(&accessor));
    assert!(!plain.contains(CANARY) && !plain.contains(ROOT) && !plain.contains(&accessor));
    assert!(!open.contains(CANARY) && !open.contains(ROOT) && open.contains(&accessor));
    drop(harness.delete("sys/audit/raw", ROOT).await.expect_status(204));
    harness.prepare("POST", "kv/b", json!({ "text": CANARY })).await;
    assert!(!text(&harness, AUDIT_FILE).await.contains(CANARY));
    // Salts are a device's own, and new with each enabling: nobody can join two files by their hashes.
    let hash = async |name: &str| {
        let path = format!("sys/audit-hash/{name}");
        harness.prepare("POST", &path, json!({ "input": CANARY })).await.text_at("/data/hash")
    };
    let (first, second) = (hash("file").await, hash("open").await);
    assert_ne!(first, second);
    assert!(text(&harness, AUDIT_FILE).await.contains(&first) && !text(&harness, AUDIT_FILE).await.contains(&second));
    assert!(text(&harness, "/audit/open.log").await.contains(&second));
    drop(harness.delete("sys/audit/file", ROOT).await.expect_status(204));
    harness.enable_audit().await;
    assert_ne!(hash("file").await, first);
}

#[tokio::test]
async fn aud_06_credential_headers_are_in_no_record() {
    let harness = audited().await;
    enable(&harness, "raw", json!({ "file_path": "/audit/raw.log", "log_raw": "true" })).await;
    let headers = [
        ("X-Vault-Token", ROOT),
        ("Authorization", "Basic canary-in-authorization"),
        ("Cookie", "session=canary-in-cookie"),
        ("Proxy-Authorization", "Basic canary-in-proxy"),
        ("X-Vault-Anything", "canary-in-another-header"),
    ];
    assert_eq!(raw(&harness, "GET", "/v1/sys/mounts", &headers, b"").await, 200);
    for file in [AUDIT_FILE, "/audit/raw.log"] {
        let text = text(&harness, file).await;
        assert!(text.contains("sys/mounts"));
        assert!(!text.contains("canary-in"), "{text}");
    }
}

#[tokio::test]
async fn aud_08_every_body_has_a_record_and_none_is_a_failure_of_ours() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let deep =
        (0..60).fold(json!("end"), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) });
    let odd = [
        json!({}),
        json!({ "a": null }),
        json!({ "": "" }),
        json!({ "a": [null, 1, "x", {}, [], true] }),
        json!({ "a": "\u{0}\u{1f}\u{2028}\n\"\\" }),
        json!({ "a": deep }),
        json!({ "a": -0.0 }),
        json!({ "a": 1e300 }),
        json!({ "options": { "a": { "b": [1] } } }),
        json!({ "policies": [["a"]] }),
        json!({ "data": "text" }),
        json!({ "path": [1, 2] }),
        json!({ "type": {} }),
        json!({ "token": { "a": [] } }),
    ];
    let mut expected = 0;
    for path in [
        "kv/x",
        "sys/mounts/m",
        "sys/auth/m",
        "sys/policies/acl/p",
        "auth/token/create",
        "auth/token/lookup",
        "cubbyhole/a",
        "sys/audit/other",
        "sys/audit-hash/file",
        "sys/capabilities-self",
        "sys/remount",
    ] {
        for body in &odd {
            let answer = harness.write(path, ROOT, body.clone()).await;
            assert!(answer.status < 500, "{path} {body} {answer:?}");
            expected += 1;
        }
    }
    let records = harness.audit_records().await;
    assert_paired(&records);
    let answers = records.iter().filter(|record| record["type"] == "response").count();
    assert!(answers >= expected, "{answers} answers for {expected} requests");
}

/// A path that a pattern matches.
fn example(mount: &str, pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| if segment.starts_with('{') { "example" } else { segment });
    format!("{mount}{}", segments.collect::<Vec<_>>().join("/"))
}

const fn method(operation: &str) -> &str {
    match operation.as_bytes() {
        b"read" | b"help" => "GET",
        b"list" => "LIST",
        b"patch" => "PATCH",
        b"delete" => "DELETE",
        _ => "POST",
    }
}

#[tokio::test]
async fn aud_09_every_request_to_every_route_is_recorded_once_and_so_is_its_answer() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv1", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/mounts/kv2", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let powerless = harness.token(json!({ "policies": ["default"] })).await;
    let mut routes = harness.node.routes();
    routes.retain(|route| route.is_audited);
    assert!(routes.len() > 60, "only {} routes", routes.len());
    let mut walked = 0;
    let mut seen = text(&harness, AUDIT_FILE).await.len();
    for route in &routes {
        let path = example(&route.mount, route.pattern);
        if path == "sys/seal" {
            continue;
        }
        for token in ["", "not-a-token", powerless.as_str()] {
            let answer = harness.call(method(route.operation.name()), &path, token, Value::Null).await;
            let text = text(&harness, AUDIT_FILE).await;
            let new: Vec<Value> = text[seen..].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            seen = text.len();
            assert_eq!(new.len(), 2, "{} {path} with {token:?}: {answer:?} {new:?}", route.operation.name());
            assert_eq!((new[0]["type"].as_str(), new[1]["type"].as_str()), (Some("request"), Some("response")));
            assert_eq!(new[0]["request"]["id"], new[1]["request"]["id"]);
            if answer.status >= 400 && answer.status != 404 {
                assert!(!new[1]["error"].as_str().unwrap_or_default().is_empty(), "{answer:?} {}", new[1]);
            }
            walked += 1;
        }
    }
    assert!(walked > 180);
    assert_paired(&harness.audit_records().await);
}

#[tokio::test]
async fn aud_09_only_the_golden_list_goes_unrecorded() {
    let harness = audited().await;
    let golden: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("sys/init", &["Read", "Write"][..]),
        ("sys/seal-status", &["Read"][..]),
        ("sys/unseal", &["Write"][..]),
        ("sys/health", &["Read"][..]),
        ("sys/leader", &["Read"][..]),
        ("sys/internal/ui/feature-flags", &["Read"][..]),
        ("sys/storage/raft/join", &["Write"][..]),
        ("sys/storage/raft/bootstrap/addresses", &["Write"][..]),
        ("sys/storage/raft/bootstrap/challenge", &["Write"][..]),
        ("sys/storage/raft/bootstrap/answer", &["Write"][..]),
    ]);
    let mut declared: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for route in tresor_builtin::registry().always {
        declared.entry(route.path).or_default().push(format!("{:?}", route.verb));
    }
    let golden: BTreeMap<&str, Vec<String>> =
        golden.into_iter().map(|(path, verbs)| (path, verbs.iter().map(|verb| (*verb).to_owned()).collect())).collect();
    assert_eq!(declared, golden, "the golden list of unaudited routes");
    let before = harness.audit_records().await.len();
    for (method, target) in [
        ("GET", "/v1/sys/health"),
        ("HEAD", "/v1/sys/health"),
        ("GET", "/v1/sys/seal-status"),
        ("GET", "/v1/sys/init"),
        ("POST", "/v1/sys/init"),
        ("POST", "/v1/sys/unseal"),
        ("GET", "/v1/sys/leader"),
    ] {
        raw(&harness, method, target, &[], b"").await;
    }
    assert_eq!(harness.audit_records().await.len(), before);
    // No spelling and no verb of theirs reaches anything else unrecorded.
    for (method, target) in [
        ("DELETE", "/v1/sys/health"),
        ("LIST", "/v1/sys/init"),
        ("GET", "/v1/sys/unseal"),
        ("PATCH", "/v1/sys/unseal"),
        ("GET", "/v1/sys/health/x"),
        ("GET", "/v1/sys/seal-status?help=1"),
        ("GET", "/v1/SYS/health"),
        ("POST", "/v1/sys/seal"),
        ("PUT", "/v1/sys/seal"),
    ] {
        let before = harness.audit_records().await.len();
        raw(&harness, method, target, &[], b"").await;
        assert_eq!(harness.audit_records().await.len(), before + 2, "{method} {target}");
    }
}

/// Method, target, headers, body, and the status that is expected.
type Case<'c> = (&'c str, &'c str, &'c [(&'c str, &'c str)], &'c [u8], u16);

#[tokio::test]
async fn aud_09_what_cannot_be_read_is_recorded_with_its_refusal() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let token = ("X-Vault-Token", ROOT);
    let cases: [Case<'_>; 11] = [
        ("POST", "/v1/kv/a", &[token], b"{", 400),
        ("POST", "/v1/kv/a", &[token], b"{\"a\":\"\xff\"}", 400),
        ("PATCH", "/v1/kv/a", &[token], b"{}", 415),
        ("GET", "/v1/kv/a", &[token, ("X-Vault-Token", "another")], b"", 400),
        ("GET", "/v1/kv/a", &[token, ("X-Vault-Wrap-TTL", "soon")], b"", 400),
        ("GET", "/v1/kv/a", &[token, ("X-Vault-Namespace", "team/../a")], b"", 400),
        ("GET", "/v1/kv/a", &[token, ("X-Vault-Namespace", "team")], b"", 404),
        ("GET", "/v1/kv/a?x=%zz", &[token], b"", 400),
        ("GET", "/v1/kv/%2e%2e/b", &[token], b"", 400),
        ("GET", "/v1/kv/%ff", &[token], b"", 400),
        ("GET", "/v1/nowhere/a", &[("X-Vault-Token", "unknown")], b"", 403),
    ];
    for (method, target, headers, body, status) in cases {
        let before = harness.audit_records().await.len();
        assert_eq!(raw(&harness, method, target, headers, body).await, status, "{method} {target}");
        let records = harness.audit_records().await;
        assert_eq!(records.len(), before + 2, "{method} {target}");
        for record in &records[before..] {
            assert!(!record["error"].as_str().unwrap_or_default().is_empty(), "{method} {target}: {record}");
            assert_eq!(record["request"]["remote_address"], "127.0.0.1");
        }
    }
    assert_paired(&harness.audit_records().await);
}

#[tokio::test]
async fn aud_09_the_request_is_recorded_before_its_effect_and_the_answer_before_it_leaves() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "v": "old" })).await;
    // The log takes the record of the request and not that of the answer: done, but nobody is told.
    for records_taken in 0..3_u64 {
        harness.settle().await;
        harness.doors.disk.fail_from_step(Some(harness.doors.disk.steps() + 1 + records_taken));
        let answer = harness.write("kv/a", ROOT, json!({ "v": "new" })).await;
        harness.doors.disk.fail_from_step(None);
        harness.advance(Duration::from_secs(2)).await;
        let stored = harness.read("kv/a", ROOT).await;
        match records_taken {
            0 => {
                answer.expect_error(500, "cannot be recorded");
                assert_eq!(stored.at("/data/v"), "old", "no record, no effect");
            }
            _ if answer.status == 500 => answer.expect_error(500, "cannot be recorded"),
            _ => assert_eq!(stored.at("/data/v"), "new"),
        }
    }
}

#[tokio::test]
async fn aud_10_a_local_log_that_cannot_be_written_refuses_everything_and_health_says_so() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotFound] {
        let harness = audited().await;
        harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
        harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
        harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "pw" })).await;
        harness.settle().await;
        harness.doors.disk.fail_below(AUDIT_LOG, kind);
        let accessors = harness.store.dump();
        harness.write("kv/a", ROOT, json!({ "v": "1" })).await.expect_error(500, "cannot be recorded");
        harness.write("auth/userpass/login/bob", "", json!({ "password": "pw" })).await.expect_error(500, "recorded");
        harness.delete("sys/audit/file", ROOT).await.expect_error(500, "cannot be recorded");
        harness.read("kv/a", "unknown").await.expect_error(500, "cannot be recorded");
        assert_eq!(harness.store.dump(), accessors, "a refused request has no effect");
        let health = harness.read("sys/health", "").await.expect_status(503);
        assert!(health.text_at("/audit_log").contains("requests are refused"));
        assert_eq!(health.at("/sealed"), &json!(false));
        let health = harness.read("sys/health?activecode=200", "").await;
        assert_eq!(health.status, 503);
        // It heals by itself, without a request having to find out.
        harness.doors.disk.heal();
        harness.advance(Duration::from_secs(1)).await;
        drop(harness.read("sys/health", "").await.expect_status(200));
        harness.prepare("POST", "kv/a", json!({ "v": "2" })).await;
        assert_paired(&harness.audit_records().await);
        let segments = harness
            .doors
            .disk
            .dump()
            .keys()
            .filter(|path| path.starts_with(AUDIT_LOG) && !path.ends_with("keys"))
            .count();
        assert!(segments <= 4, "{segments} files: a full disk must not fill with beginnings");
    }
}

#[tokio::test]
async fn aud_10_a_device_that_fails_delays_nothing_and_loses_nothing() {
    for kind in
        [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotFound, ErrorKind::PermissionDenied]
    {
        let harness = audited().await;
        harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
        harness.settle().await;
        harness.doors.disk.fail_below("/audit", kind);
        for number in 0..20 {
            harness.prepare("POST", &format!("kv/{number}"), json!({ "v": "1" })).await;
        }
        drop(harness.read("sys/health", "").await.expect_status(200));
        assert_eq!(counts(&harness.audit_records().await, "kv/19"), (0, 0));
        harness.doors.disk.heal();
        for _ in 0..10 {
            harness.advance(Duration::from_secs(30)).await;
        }
        let records = harness.audit_records().await;
        for number in 0..20 {
            assert_eq!(counts(&records, &format!("kv/{number}")), (1, 1));
        }
        assert_paired(&records);
    }
}

#[tokio::test]
async fn aud_10_a_full_backlog_refuses_clearly_and_recovers() {
    let harness = Harness::with_audit_backlog(200_000).await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    harness.doors.disk.fail_below("/audit", ErrorKind::StorageFull);
    let big = json!({ "v": "x".repeat(10_000) });
    let mut refused = 0;
    for number in 0..60 {
        let answer = harness.write(&format!("kv/{number}"), ROOT, big.clone()).await;
        if answer.status != 204 {
            answer.expect_error(500, "audit backlog is full");
            refused += 1;
        }
    }
    assert!(refused > 30, "{refused} refused");
    assert_eq!(harness.read("sys/health", "").await.status, 503);
    // Those who may not manage devices cannot use up what is kept for those who may.
    for _ in 0..400 {
        let answer = harness.write("sys/audit/file", "unknown", big.clone()).await;
        answer.expect_error(500, "audit backlog is full");
        let answer = harness.write("sys/audit-hash/file", ROOT, big.clone()).await;
        answer.expect_error(500, "audit backlog is full");
    }
    // The device comes back: everything that was acknowledged is there, nothing twice, and requests go on.
    harness.doors.disk.heal();
    for _ in 0..10 {
        harness.advance(Duration::from_secs(30)).await;
    }
    drop(harness.read("sys/health", "").await.expect_status(200));
    harness.prepare("POST", "kv/after", json!({ "v": "1" })).await;
    let records = harness.audit_records().await;
    assert_paired(&records);
    assert_eq!(counts(&records, "kv/after"), (1, 1));
    assert_eq!(counts(&records, "kv/0"), (1, 1));
}

#[tokio::test]
async fn aud_10_an_operator_can_disable_the_device_that_does_not_drain() {
    let harness = Harness::with_audit_backlog(200_000).await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    harness.doors.disk.fail_below("/audit", ErrorKind::NotFound);
    while harness.write("kv/a", ROOT, json!({ "v": "x".repeat(10_000) })).await.status == 204 {}
    drop(harness.delete("sys/audit/file", ROOT).await.expect_status(204));
    harness.advance(Duration::from_secs(10)).await;
    harness.prepare("POST", "kv/a", json!({ "v": "1" })).await;
    drop(harness.read("sys/health", "").await.expect_status(200));
}

#[tokio::test]
async fn aud_12_a_list_is_shown_as_its_length_when_the_device_says_so() {
    let harness = audited().await;
    enable(&harness, "short", json!({ "file_path": "/audit/short.log", "elide_list_responses": "true" })).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    for name in ["a", "b", "c"] {
        harness.prepare("POST", &format!("kv/{name}"), json!({ "keys": ["x", "y"] })).await;
    }
    drop(harness.list("kv", ROOT).await.expect_status(200));
    drop(harness.read("kv/?list=true", ROOT).await.expect_status(200));
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
    harness.settle().await;
    let answers = |file: &str, operation: &str| -> Vec<Value> {
        lines(&harness, file)
            .into_iter()
            .filter(|record| {
                record["type"] == "response"
                    && record["request"]["operation"] == operation
                    && record["request"]["path"].as_str().unwrap().starts_with("kv/")
            })
            .collect()
    };
    let elided = answers("/audit/short.log", "list");
    assert_eq!(elided.len(), 2);
    assert!(elided.iter().all(|record| record["response"]["data"]["keys"] == 3), "{elided:?}");
    assert!(
        answers(AUDIT_FILE, "list")
            .iter()
            .all(|record| record["response"]["data"]["keys"].as_array().unwrap().len() == 3)
    );
    // A secret with a field of that name is no list answer.
    assert!(answers("/audit/short.log", "read").iter().all(|record| record["response"]["data"]["keys"].is_array()));
}

#[tokio::test]
async fn plg_01_a_device_writes_only_where_an_audit_log_may_be() {
    let harness = Harness::start().await;
    harness.doors.disk.open(Path::new("/data/own"), Open::New).unwrap();
    let refused: [Value; 17] = [
        json!({}),
        json!({ "file_path": "" }),
        json!({ "file_path": "/data/audit/x" }),
        json!({ "file_path": "/data/./x" }),
        json!({ "file_path": "//data//x" }),
        json!({ "file_path": "/audit/../data/x" }),
        json!({ "file_path": "/proc/self/mem" }),
        json!({ "file_path": "/dev/sda" }),
        json!({ "file_path": "/sys/kernel/x" }),
        json!({ "file_path": "/audit/" }),
        json!({ "file_path": "/audit/a\nb" }),
        json!({ "file_path": "stdout" }),
        json!({ "file_path": "/audit/x", "mode": "0755" }),
        json!({ "file_path": "/audit/x", "mode": "4600" }),
        json!({ "file_path": "/audit/x", "prefix": "#!/bin/sh\n" }),
        json!({ "file_path": "/audit/x", "unknown": "1" }),
        json!({ "file_path": "/audit/x", "log_raw": "maybe" }),
    ];
    for options in refused {
        let answer = harness.write("sys/audit/x", ROOT, json!({ "type": "file", "options": options })).await;
        assert_eq!(answer.status, 400, "{options} {answer:?}");
    }
    let written: Vec<_> = harness.doors.disk.dump().into_keys().filter(|path| !path.starts_with(AUDIT_LOG)).collect();
    assert_eq!(written, [Path::new("/data/own")]);
    drop(harness.write("sys/audit/x", ROOT, json!({ "type": "syslog" })).await.expect_status(400));
    drop(harness.write("sys/audit/x", ROOT, json!({ "type": "socket" })).await.expect_status(400));
    let powerless = harness.token(json!({ "policies": ["default"] })).await;
    for token in ["", powerless.as_str()] {
        let answer =
            harness.write("sys/audit/x", token, json!({ "type": "file", "options": { "file_path": "/audit/x" } }));
        drop(answer.await.expect_status(403));
    }
    let granted = harness.token_with(r#"path "sys/audit/*" { capabilities = ["create", "update", "delete"] }"#).await;
    let answer =
        harness.write("sys/audit/x", &granted, json!({ "type": "file", "options": { "file_path": "/audit/x" } }));
    drop(answer.await.expect_status(403));
}

#[tokio::test]
async fn records_name_the_policies_that_granted_the_request_and_no_others() {
    let harness = audited().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let policies = [
        ("reader", "path \"kv/*\" { capabilities = [\"read\"] }"),
        ("writer", "path \"kv/*\" { capabilities = [\"create\", \"update\"] }"),
        ("both", "path \"kv/*\" { capabilities = [\"read\", \"update\"] }"),
        ("elsewhere", "path \"other/*\" { capabilities = [\"read\"] }"),
    ];
    for (name, policy) in policies {
        harness.prepare("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    }
    let made = json!({ "policies": ["reader", "writer", "both", "elsewhere"] });
    let token = harness.prepare("POST", "auth/token/create", made).await.text_at("/auth/client_token");
    harness.prepare("POST", "kv/a", json!({ "v": "1" })).await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    drop(harness.delete("kv/a", &token).await.expect_status(403));
    let records = harness.audit_records().await;
    let granting = |operation: &str| -> Vec<Value> {
        let of = |record: &&Value| record["request"]["path"] == "kv/a" && record["request"]["operation"] == operation;
        records.iter().filter(of).map(|record| record["auth"]["policy_results"].clone()).collect()
    };
    let acl = |names: &[&str]| {
        let policy = |name: &&str| json!({ "name": name, "namespace_id": "root", "type": "acl" });
        json!({ "allowed": true, "granting_policies": names.iter().map(policy).collect::<Vec<_>>() })
    };
    assert_eq!(granting("create"), [acl(&["root"]), acl(&["root"])]);
    assert_eq!(granting("read"), [acl(&["both", "reader"]), acl(&["both", "reader"])]);
    assert_eq!(granting("delete"), [json!({ "allowed": false }), json!({ "allowed": false })]);
}
