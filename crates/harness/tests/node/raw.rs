//! `sys/raw`: what is stored, for operators who opened it. (A server in recovery mode is in the binary's tests.)
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_core::Settings;
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn what_is_stored_is_shown_and_changed_where_the_operator_opened_it() {
    let harness = Harness::start_with(Settings { has_raw_storage: true, ..Settings::default() }).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let names = |path: String| {
        let harness = &harness;
        async move {
            let answer = harness.list(&path, ROOT).await.expect_status(200);
            answer.at("/data/keys").as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        }
    };
    let top: Vec<String> = names("sys/raw".to_owned()).await;
    assert_eq!(top, ["root/"]);
    let areas: Vec<String> = names("sys/raw/root/".to_owned()).await;
    assert!(areas.contains(&"core/".to_owned()) && areas.contains(&"logical/".to_owned()), "{areas:?}");
    let mounts: Vec<String> = names("sys/raw/root/logical".to_owned()).await;
    let mut found = String::new();
    for mount in mounts {
        let inside: Vec<String> = names(format!("sys/raw/root/logical/{mount}")).await;
        if inside.contains(&"a".to_owned()) {
            found = format!("sys/raw/root/logical/{mount}");
        }
    }
    // Records are bytes: shown and sent as base64.
    let shown = harness.read(&format!("{found}a?encoding=base64"), ROOT).await.expect_status(200);
    let value = shown.text_at("/data/value");
    drop(
        harness
            .write(&format!("{found}b"), ROOT, json!({ "value": value, "encoding": "base64" }))
            .await
            .expect_status(204),
    );
    assert_eq!(harness.read("kv/b", ROOT).await.expect_status(200).at("/data/k"), "v");
    drop(harness.delete(&format!("{found}a"), ROOT).await.expect_status(204));
    drop(harness.read("kv/a", ROOT).await.expect_status(404));
    drop(harness.read(&format!("{found}a"), ROOT).await.expect_status(404));
    // Text is shown as it is, and what is none is not.
    drop(harness.write(&format!("{found}t"), ROOT, json!({ "value": "text" })).await.expect_status(204));
    assert_eq!(harness.read(&format!("{found}t"), ROOT).await.text_at("/data/value"), "text");
    drop(
        harness
            .write(&format!("{found}t"), ROOT, json!({ "value": "/w==", "encoding": "base64" }))
            .await
            .expect_status(204),
    );
    harness.read(&format!("{found}t"), ROOT).await.expect_error(400, "encoding=base64");
    for (body, text) in [
        (json!({ "value": "%", "encoding": "base64" }), "'value' is not base64"),
        (json!({ "value": "a", "encoding": "hex" }), "invalid encoding \"hex\""),
        (json!({ "value": "a", "compression_type": "gzip" }), "invalid compression type \"gzip\""),
        (json!({}), "'value' must be given"),
    ] {
        harness.write(&format!("{found}c"), ROOT, body).await.expect_error(400, text);
    }
}

#[tokio::test]
async fn sea_07_neither_keys_nor_what_names_the_cluster_are_in_reach_and_nothing_is_while_it_is_closed() {
    let harness = Harness::start_with(Settings { has_raw_storage: true, ..Settings::default() }).await;
    harness.read("sys/raw/root/core/cluster", ROOT).await.expect_error(403, "cannot access");
    harness.write("sys/raw/root/core/cluster", ROOT, json!({ "value": "x" })).await.expect_error(403, "cannot access");
    harness.delete("sys/raw/root/core/cluster", ROOT).await.expect_error(403, "cannot access");
    for outside in
        ["core/keyring", "core/master", "slots", "ring", "root/ring", "team/root//core", "root/core/../core/cluster"]
    {
        let answer = harness.read(&format!("sys/raw/{outside}?encoding=base64"), ROOT).await;
        let expected: &[u16] = if outside.contains("..") { &[400] } else { &[403, 404] };
        assert!(expected.contains(&answer.status), "{outside}: {answer:?}");
    }
    harness.read("sys/raw/core/keyring", ROOT).await.expect_error(403, "cannot access");
    // Without sudo nobody looks at it.
    let token = harness.token_with(r#"path "sys/raw/*" { capabilities = ["read", "list", "update", "delete"] }"#).await;
    drop(harness.list("sys/raw/root", &token).await.expect_status(403));
    drop(harness.read("sys/raw/root/core/rotation", &token).await.expect_status(403));
    let closed = Harness::start().await;
    for (method, path) in [("GET", "sys/raw/root/core/x"), ("LIST", "sys/raw/root"), ("DELETE", "sys/raw/root/core/x")]
    {
        closed.call(method, path, ROOT, Value::Null).await.expect_error(404, "raw_storage_endpoint");
    }
}

#[tokio::test]
async fn what_no_directory_lists_is_reached_by_who_knows_its_name() {
    let harness = Harness::start_with(Settings { has_raw_storage: true, ..Settings::default() }).await;
    let made = harness.prepare("POST", "auth/token/create", json!({ "policies": ["default"] })).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    // The accessor's bare name tells the hash that the record is found by.
    let names = harness.list("sys/raw/root/tokens/accessor", ROOT).await.expect_status(200);
    let names = names.at("/data/keys").as_array().unwrap().clone();
    let bare = names.iter().map(|name| name.as_str().unwrap()).find(|name| name.contains(&accessor)).unwrap();
    let hash = bare.trim_start_matches(&accessor).trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let at = format!("sys/raw/root/tokens/id/{hash}");
    let shown = harness.read(&format!("{at}?encoding=base64"), ROOT).await.expect_status(200);
    let value = shown.text_at("/data/value");
    assert!(value.len() > 50, "{bare}");
    // It is changed where it lies, and not in another place beside.
    drop(harness.write(&at, ROOT, json!({ "value": value, "encoding": "base64" })).await.expect_status(204));
    assert_eq!(harness.list("sys/raw/root/tokens/id", ROOT).await.status, 404);
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(200));
    drop(harness.delete(&at, ROOT).await.expect_status(204));
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(403));
    drop(harness.read(&format!("{at}?encoding=base64"), ROOT).await.expect_status(404));
}
