//! The kv rows of the security bank, and the isolation of cubbyholes: no path is another path.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

const RELATIVE: [&str; 12] = [
    "a/../b/x",
    "a/%2e%2e/b/x",
    "a/%2E%2E/b/x",
    "a/..%2fb/x",
    "a%2f..%2fb%2fx",
    "a/.%2e/b/x",
    "a/./x",
    "a/%2e/x",
    "a/x/..",
    "a/x/%2e%2e",
    "a/../../metadata/b/x",
    "..",
];

#[tokio::test]
async fn acl_01_a_relative_segment_is_refused_before_anything_is_decided() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "sys/mounts/one", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/data/b/x", json!({ "data": { "k": "v" } })).await;
    harness.prepare("POST", "one/b/x", json!({ "k": "v" })).await;
    let token = harness
        .token_with(
            r#"path "kv/metadata/a/*" { capabilities = ["read", "delete", "list"] }
               path "kv/data/a/*" { capabilities = ["create", "read", "update", "delete", "patch"] }
               path "one/a/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#,
        )
        .await;
    let before = harness.store.dump();
    for tail in RELATIVE {
        for (method, path) in [
            ("DELETE", format!("kv/metadata/{tail}")),
            ("LIST", format!("kv/metadata/{tail}")),
            ("GET", format!("kv/data/{tail}")),
            ("POST", format!("kv/data/{tail}")),
            ("PATCH", format!("kv/data/{tail}")),
            ("DELETE", format!("one/{tail}")),
            ("POST", format!("one/{tail}")),
        ] {
            let body =
                if method == "POST" || method == "PATCH" { json!({ "data": { "k": "w" } }) } else { Value::Null };
            for caller in [token.as_str(), ROOT, ""] {
                harness
                    .call(method, &path, caller, body.clone())
                    .await
                    .expect_error(400, "relative paths not supported");
            }
        }
    }
    // Encoded twice it is a name like any other.
    for tail in ["a/%252e%252e/b/x", "a/..%252fb/x", "a/%252e/x"] {
        let answer = harness.delete(&format!("kv/metadata/{tail}"), &token).await;
        assert!(matches!(answer.status, 204 | 404), "{tail} {answer:?}");
        let answer = harness.delete(&format!("kv/metadata/{}", tail.trim_start_matches("a/")), &token).await;
        drop(answer.expect_status(403));
    }
    assert_eq!(harness.store.dump(), before, "nothing was touched");
    assert_eq!(harness.read("kv/data/b/x", ROOT).await.at("/data/data/k"), "v");
    assert_eq!(harness.read("one/b/x", ROOT).await.at("/data/k"), "v");
}

#[tokio::test]
async fn acl_01_every_spelling_that_is_taken_is_decided_and_stored_as_one_name() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/one", json!({ "type": "kv" })).await;
    let token = harness.token_with(r#"path "one/a/*" { capabilities = ["create", "read", "update"] }"#).await;
    for (write, read) in [("one/a/x", "one/%61/%78"), ("one/a%2Fy", "one/a/y"), ("one/a/%2520", "one/a/%25%32%30")] {
        drop(harness.write(write, &token, json!({ "k": write })).await.expect_status(204));
        assert_eq!(harness.read(read, &token).await.at("/data/k"), write);
    }
    for outside in ["one/A/x", "one/%41/x", "one/a%5cx", "one//a/x", "one/a", "one/b/x", "One/a/x", "one/a%2520/x"] {
        drop(harness.write(outside, &token, json!({ "k": "v" })).await.expect_status(403));
    }
    for malformed in ["one/a/%", "one/a/%2", "one/a/%zz", "one/a/%00", "one/a/%0a", "one/a/%ff", "one/a/%c0%ae%c0%ae/x"]
    {
        drop(harness.write(malformed, &token, json!({ "k": "v" })).await.expect_status(400));
    }
}

#[tokio::test]
async fn wrp_09_a_cubbyhole_is_its_tokens_alone() {
    let harness = Harness::start().await;
    let all = r#"path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
        path "auth/token/create" { capabilities = ["update"] }"#;
    let parent = harness.token_with(all).await;
    let child = harness.write("auth/token/create", &parent, json!({})).await.expect_status(200);
    let (child, accessor) = (child.text_at("/auth/client_token"), child.text_at("/auth/accessor"));
    drop(harness.write("cubbyhole/mine", &parent, json!({ "k": "parent" })).await.expect_status(204));
    for other in [child.as_str(), ROOT] {
        drop(harness.read("cubbyhole/mine", other).await.expect_status(404));
        drop(harness.list("cubbyhole", other).await.expect_status(404));
        drop(harness.delete("cubbyhole/mine", other).await.expect_status(204));
        for guess in [parent.as_str(), accessor.as_str(), "..", "."] {
            let status = harness.read(&format!("cubbyhole/{guess}/mine"), other).await.status;
            assert!(matches!(status, 400 | 404), "{guess}");
        }
    }
    drop(harness.read("cubbyhole/mine", "").await.expect_status(403));
    assert_eq!(harness.read("cubbyhole/mine", &parent).await.at("/data/k"), "parent");
}

#[tokio::test]
async fn wrp_09_a_cubbyhole_ends_with_its_token_and_no_later_one_inherits_it() {
    let harness = Harness::start().await;
    harness.settle().await;
    let records = harness.store.dump().len();
    let made = json!({ "id": "the-same-again", "policies": ["default"], "ttl": "1h" });
    let token = harness.token(made.clone()).await;
    for name in ["a", "b/c", "b/d/e"] {
        drop(harness.write(&format!("cubbyhole/{name}"), &token, json!({ "k": "old" })).await.expect_status(204));
    }
    harness.prepare("POST", "auth/token/revoke", json!({ "token": token })).await;
    drop(harness.read("cubbyhole/a", &token).await.expect_status(403));
    // Before it is collected nothing else can have its id; then a token of that id is another token.
    harness.write("auth/token/create", ROOT, made.clone()).await.expect_error(503, "being revoked");
    harness.advance(std::time::Duration::from_secs(120)).await;
    assert_eq!(harness.token(made).await, token);
    for name in ["a", "b/c", "b/d/e"] {
        drop(harness.read(&format!("cubbyhole/{name}"), &token).await.expect_status(404));
    }
    drop(harness.write("cubbyhole/a", &token, json!({ "k": "new" })).await.expect_status(204));
    harness.advance(std::time::Duration::from_secs(120)).await;
    assert_eq!(harness.read("cubbyhole/a", &token).await.at("/data/k"), "new");
    harness.prepare("POST", "auth/token/revoke", json!({ "token": token })).await;
    for _ in 0..5 {
        harness.advance(std::time::Duration::from_secs(120)).await;
    }
    assert_eq!(harness.store.dump().len(), records, "nothing of it is left in the store");
    // The same by expiry.
    let token = harness.token(json!({ "policies": ["default"], "ttl": "10s" })).await;
    drop(harness.write("cubbyhole/a", &token, json!({ "k": "old" })).await.expect_status(204));
    for _ in 0..5 {
        harness.advance(std::time::Duration::from_secs(120)).await;
    }
    drop(harness.read("cubbyhole/a", &token).await.expect_status(403));
    assert_eq!(harness.store.dump().len(), records);
}

#[tokio::test]
async fn a_token_of_a_revoked_ones_id_does_not_bring_its_children_back() {
    let harness = Harness::start().await;
    let made = json!({ "id": "the-same-again", "policies": ["root"] });
    harness.prepare("POST", "auth/token/create", made.clone()).await;
    let child = harness.write("auth/token/create", "the-same-again", json!({ "policies": ["default"] })).await;
    let child = child.expect_status(200).text_at("/auth/client_token");
    drop(harness.read("auth/token/lookup-self", &child).await.expect_status(200));
    harness.prepare("POST", "auth/token/revoke", json!({ "token": "the-same-again" })).await;
    drop(harness.read("auth/token/lookup-self", &child).await.expect_status(403));
    for _ in 0..10 {
        let again = harness.write("auth/token/create", ROOT, made.clone()).await;
        assert!(matches!(again.status, 200 | 400 | 503), "{again:?}");
        drop(harness.read("auth/token/lookup-self", &child).await.expect_status(403));
        harness.advance(std::time::Duration::from_secs(5)).await;
    }
    drop(harness.read("auth/token/lookup-self", "the-same-again").await.expect_status(200));
}

/// The texts below names that end in `time`, wherever they stand.
fn times(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(text) = value.as_str().filter(|text| name.ends_with("time") && !text.is_empty()) {
                    found.push(text.to_owned());
                }
                times(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| times(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn ud_28_every_time_that_is_told_is_rfc_3339_in_utc() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "kv/data/x", json!({ "data": { "k": "v" } })).await;
    harness.prepare("DELETE", "kv/data/x", Value::Null).await;
    let token = harness.token(json!({ "policies": "default", "ttl": "1h" })).await;
    let mut found = Vec::new();
    for (path, token) in [
        ("kv/metadata/x", ROOT),
        ("kv/data/x", ROOT),
        ("sys/key-status", ROOT),
        ("sys/in-flight-req", ROOT),
        ("auth/token/lookup-self", token.as_str()),
    ] {
        let before = found.len();
        times(&serde_json::from_slice(&harness.read(path, token).await.bytes).unwrap(), &mut found);
        assert!(found.len() > before, "no time in {path}");
    }
    for text in found {
        let marks: Vec<char> = [4, 7, 10, 13, 16].iter().filter_map(|at| text.chars().nth(*at)).collect();
        assert!(marks == ['-', '-', 'T', ':', ':'] && text.ends_with('Z'), "{text}");
    }
}

#[tokio::test]
async fn ud_35_keys_with_names_of_files_are_only_names() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let names = ["a.temp", ".hidden", "a.lock", "a~", "CON", "a.", "index-1.db", "-", "a b.temp", "_"];
    for name in names {
        harness.prepare("POST", &format!("kv/{}", name.replace(' ', "%20")), json!({ "named": name })).await;
    }
    harness.restart().await;
    harness.unseal().await;
    for name in names {
        let read = harness.read(&format!("kv/{}", name.replace(' ', "%20")), ROOT).await.expect_status(200);
        assert_eq!(read.at("/data/named"), &json!(name));
    }
    assert_eq!(harness.list("kv", ROOT).await.at("/data/keys").as_array().unwrap().len(), names.len());
}
