//! The stores on the wire: kv version 2 and 1, and the cubbyhole.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

async fn with_kv2() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/k", json!({ "type": "kv", "options": { "version": "2" } })).await;
    harness
}

async fn write(harness: &Harness, path: &str, data: Value) {
    harness.prepare("POST", &format!("k/data/{path}"), json!({ "data": data })).await;
}

const VERSION_FIELDS: [&str; 5] = ["created_time", "custom_metadata", "deletion_time", "destroyed", "version"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_fresh_mount_is_ready_and_a_write_answers_with_its_version() {
    let harness = with_kv2().await;
    let answer = harness.write("k/data/a", ROOT, json!({ "data": { "n": 1, "nil": null } })).await.expect_status(200);
    assert_eq!(keys(answer.at("/data")), VERSION_FIELDS);
    assert_eq!((answer.at("/data/version"), answer.at("/data/deletion_time")), (&json!(1), &json!("")));
    assert_eq!((answer.at("/data/destroyed"), answer.at("/data/custom_metadata")), (&json!(false), &Value::Null));
    let read = harness.read("k/data/a", ROOT).await.expect_status(200);
    assert_eq!(read.at("/data/data"), &json!({ "n": 1, "nil": null }));
    assert_eq!(read.at("/data/metadata"), answer.at("/data"));
    for body in [json!({}), json!({ "data": null }), Value::Null] {
        harness.write("k/data/a", ROOT, body).await.expect_error(400, "no data provided");
    }
    harness.write("k/data/a", ROOT, json!({ "data": "text" })).await.expect_error(400, "data");
}

/// The data of versions is in no listing: the engine says what hangs on a secret.
#[tokio::test]
async fn a_removed_mount_leaves_nothing_in_the_store() {
    let harness = with_kv2().await;
    let remove = || async {
        drop(harness.delete("sys/mounts/k", ROOT).await.expect_status(204));
        for _ in 0..20 {
            harness.advance(Duration::from_secs(1)).await;
        }
        harness.store.dump().len()
    };
    let empty = remove().await;
    harness.prepare("POST", "sys/mounts/k", json!({ "type": "kv", "options": { "version": "2" } })).await;
    for number in 0..12 {
        write(&harness, "often", json!({ "n": number })).await;
        write(&harness, &format!("d/e/{number}"), json!({ "n": number })).await;
    }
    harness.prepare("POST", "k/destroy/often", json!({ "versions": [11] })).await;
    drop(harness.delete("k/data/often", ROOT).await.expect_status(204));
    assert!(harness.store.dump().len() > empty + 30);
    assert_eq!(remove().await, empty);
}

#[tokio::test]
async fn versions_are_read_by_number_and_a_missing_one_is_404() {
    let harness = with_kv2().await;
    for n in 1..4 {
        write(&harness, "a", json!({ "n": n })).await;
    }
    assert_eq!(harness.read("k/data/a?version=2", ROOT).await.at("/data/data/n"), &json!(2));
    assert_eq!(harness.read("k/data/a?version=0", ROOT).await.at("/data/data/n"), &json!(3));
    for path in ["k/data/a?version=9", "k/data/none", "k/metadata/none", "k/data/a/below"] {
        let answer = harness.read(path, ROOT).await.expect_status(404);
        assert_eq!(answer.bytes, br#"{"errors":[]}"#, "{path}");
    }
    harness.read("k/data/a?version=x", ROOT).await.expect_error(400, "version");
}

#[tokio::test]
async fn check_and_set_holds_in_every_spelling() {
    let harness = with_kv2().await;
    let body = |cas: Value| json!({ "data": { "k": "v" }, "options": { "cas": cas } });
    drop(harness.write("k/data/a", ROOT, body(json!(0))).await.expect_status(200));
    for wrong in [json!(0), json!(2), json!("0"), json!(-1)] {
        let answer = harness.write("k/data/a", ROOT, body(wrong)).await;
        answer.expect_error(400, "check-and-set parameter did not match the current version");
    }
    drop(harness.write("k/data/a", ROOT, body(json!("1"))).await.expect_status(200));
    drop(harness.write("k/data/a", ROOT, body(Value::Null)).await.expect_status(200));
    drop(harness.write("k/config", ROOT, json!({ "cas_required": true })).await.expect_status(204));
    let answer = harness.write("k/data/a", ROOT, json!({ "data": {}, "options": null })).await;
    answer.expect_error(400, "check-and-set parameter required for this call");
    drop(harness.write("k/data/a", ROOT, body(json!(3))).await.expect_status(200));
}

#[tokio::test]
async fn a_deleted_or_destroyed_version_is_404_with_its_metadata() {
    let harness = with_kv2().await;
    write(&harness, "a", json!({ "k": "v" })).await;
    drop(harness.delete("k/data/a", ROOT).await.expect_status(204));
    for path in ["k/data/a", "k/subkeys/a"] {
        let gone = harness.read(path, ROOT).await.expect_status(404);
        assert!(gone.json.get("errors").is_none(), "{gone:?}");
        assert_eq!(keys(gone.at("/data/metadata")), VERSION_FIELDS);
        assert_eq!(gone.at("/data/metadata/version"), &json!(1));
        assert!(!gone.text_at("/data/metadata/deletion_time").is_empty());
    }
    assert_eq!(harness.read("k/data/a", ROOT).await.at("/data/data"), &Value::Null);
    let patch = harness.call("PATCH", "k/data/a", ROOT, json!({ "data": { "k": 1 } })).await.expect_status(404);
    assert_eq!(keys(patch.at("/data")), VERSION_FIELDS);
    drop(harness.write("k/undelete/a", ROOT, json!({ "versions": [1, 99] })).await.expect_status(204));
    assert_eq!(harness.read("k/data/a", ROOT).await.at("/data/data/k"), &json!("v"));
    for versions in [json!([1]), json!(["1"]), json!("1"), json!(1)] {
        drop(harness.write("k/delete/a", ROOT, json!({ "versions": versions })).await.expect_status(204));
        drop(harness.read("k/data/a", ROOT).await.expect_status(404));
        drop(harness.write("k/undelete/a", ROOT, json!({ "versions": versions })).await.expect_status(204));
    }
    drop(harness.call("PUT", "k/destroy/a", ROOT, json!({ "versions": [1] })).await.expect_status(204));
    let gone = harness.read("k/data/a", ROOT).await.expect_status(404);
    assert_eq!(gone.at("/data/metadata/destroyed"), &json!(true));
    for (path, first) in [("k/delete/a", 'N'), ("k/undelete/a", 'N'), ("k/destroy/a", 'n')] {
        let refusal = format!("{first}o version number provided");
        harness.write(path, ROOT, json!({})).await.expect_error(400, &refusal);
    }
    for path in ["k/delete/none", "k/undelete/none", "k/destroy/none"] {
        drop(harness.write(path, ROOT, json!({ "versions": [1] })).await.expect_status(204));
    }
    drop(harness.delete("k/data/none", ROOT).await.expect_status(204));
    drop(harness.delete("k/metadata/none", ROOT).await.expect_status(204));
}

#[tokio::test]
async fn metadata_has_its_fields_and_takes_changes_and_patches() {
    let harness = with_kv2().await;
    for body in [json!({}), json!({ "max_versions": 1 })] {
        let nameless = harness.write("k/metadata", ROOT, body).await.expect_status(404);
        assert!(nameless.at("/warnings/0").as_str().unwrap().contains("root of a K/V v2 mount"), "{nameless:?}");
    }
    write(&harness, "a", json!({ "k": "v" })).await;
    let answer = harness.read("k/metadata/a", ROOT).await.expect_status(200);
    let expected = [
        "cas_required",
        "created_time",
        "current_metadata_version",
        "current_version",
        "custom_metadata",
        "delete_version_after",
        "max_versions",
        "metadata_cas_required",
        "oldest_version",
        "updated_time",
        "versions",
    ];
    assert_eq!(keys(answer.at("/data")), expected);
    assert_eq!(keys(answer.at("/data/versions/1")), ["created_time", "deletion_time", "destroyed"]);
    assert_eq!(answer.at("/data/delete_version_after"), &json!("0s"));
    let body = json!({ "custom_metadata": { "who": "me" }, "delete_version_after": "3h25m19s", "max_versions": "2" });
    drop(harness.write("k/metadata/a", ROOT, body).await.expect_status(204));
    let nothing = json!({ "custom_metadata": null, "delete_version_after": null, "max_versions": null });
    drop(harness.write("k/metadata/a", ROOT, nothing).await.expect_status(204));
    let answer = harness.read("k/metadata/a", ROOT).await;
    assert_eq!(answer.at("/data/delete_version_after"), &json!("3h25m19s"));
    assert_eq!(answer.at("/data/custom_metadata"), &json!({ "who": "me" }));
    assert_eq!(answer.at("/data/max_versions"), &json!(2));
    let patch = json!({ "custom_metadata": { "who": null, "why": "so" }, "max_versions": null });
    drop(harness.call("PATCH", "k/metadata/a", ROOT, patch).await.expect_status(204));
    let answer = harness.read("k/metadata/a", ROOT).await;
    assert_eq!(answer.at("/data/custom_metadata"), &json!({ "why": "so" }));
    assert_eq!(answer.at("/data/max_versions"), &json!(0));
    drop(harness.call("PATCH", "k/metadata/none", ROOT, json!({ "max_versions": 1 })).await.expect_status(404));
    assert_eq!(harness.read("k/data/a", ROOT).await.at("/data/metadata/custom_metadata"), &json!({ "why": "so" }));
    drop(harness.delete("k/metadata/a", ROOT).await.expect_status(204));
    drop(harness.read("k/metadata/a", ROOT).await.expect_status(404));
    drop(harness.list("k/metadata", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn old_versions_go_when_there_are_too_many_and_when_their_time_is_over() {
    let harness = with_kv2().await;
    harness.prepare("POST", "k/config", json!({ "max_versions": 2, "delete_version_after": "1h" })).await;
    for n in 1..4 {
        write(&harness, "a", json!({ "n": n })).await;
    }
    let answer = harness.read("k/metadata/a", ROOT).await;
    assert_eq!(keys(answer.at("/data/versions")), ["2", "3"]);
    assert_eq!((answer.at("/data/oldest_version"), answer.at("/data/current_version")), (&json!(2), &json!(3)));
    drop(harness.read("k/data/a", ROOT).await.expect_status(200));
    harness.advance(Duration::from_secs(3601)).await;
    drop(harness.read("k/data/a", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn the_shorter_life_and_the_larger_number_of_versions_hold() {
    let harness = with_kv2().await;
    let ends = async |path: &str| {
        let answer = harness.write(&format!("k/data/{path}"), ROOT, json!({ "data": {} })).await.expect_status(200);
        !answer.text_at("/data/deletion_time").is_empty()
    };
    harness.prepare("POST", "k/metadata/short", json!({ "delete_version_after": "1h", "max_versions": 1 })).await;
    assert!(ends("short").await && !ends("other").await);
    harness.prepare("POST", "k/config", json!({ "delete_version_after": "10h", "max_versions": 2 })).await;
    assert!(ends("short").await && ends("other").await);
    harness.advance(Duration::from_secs(2 * 3600)).await;
    drop(harness.read("k/data/short", ROOT).await.expect_status(404));
    drop(harness.read("k/data/other", ROOT).await.expect_status(200));
    assert_eq!(harness.read("k/metadata/short", ROOT).await.at("/data/versions").as_object().unwrap().len(), 2);
    harness.prepare("POST", "k/config", json!({ "delete_version_after": "-1s" })).await;
    assert_eq!(harness.read("k/config", ROOT).await.at("/data/delete_version_after"), &json!("-1s"));
    assert!(!ends("short").await && !ends("other").await);
    harness.prepare("POST", "k/config", json!({ "delete_version_after": "0s" })).await;
    assert!(ends("short").await && !ends("other").await);
}

#[tokio::test]
async fn what_is_undeleted_lives_as_long_as_what_is_written_then() {
    let harness = with_kv2().await;
    let undelete = async || {
        drop(harness.write("k/undelete/a", ROOT, json!({ "versions": [1] })).await.expect_status(204));
        drop(harness.read("k/data/a", ROOT).await.expect_status(200));
        harness.read("k/metadata/a", ROOT).await.text_at("/data/versions/1/deletion_time").to_owned()
    };
    harness.prepare("POST", "k/metadata/a", json!({ "delete_version_after": "1h" })).await;
    write(&harness, "a", json!({ "k": "v" })).await;
    harness.advance(Duration::from_secs(1800)).await;
    drop(harness.delete("k/data/a", ROOT).await.expect_status(204));
    let first = undelete().await;
    assert!(!first.is_empty());
    // The time begins anew: what was left of the old one is over.
    harness.advance(Duration::from_secs(3000)).await;
    drop(harness.read("k/data/a", ROOT).await.expect_status(200));
    harness.advance(Duration::from_secs(700)).await;
    drop(harness.read("k/data/a", ROOT).await.expect_status(404));
    // Also for what went by itself, and for a life that the mount says.
    harness.prepare("POST", "k/metadata/a", json!({ "delete_version_after": "0s" })).await;
    assert!(undelete().await.is_empty());
    harness.prepare("POST", "k/config", json!({ "delete_version_after": "2h" })).await;
    let second = undelete().await;
    assert!(second > first, "{second} is not after {first}");
    harness.advance(Duration::from_secs(7201)).await;
    drop(harness.read("k/data/a", ROOT).await.expect_status(404));
    assert!(undelete().await > second);
    // Nothing goes by itself where the mount says so.
    harness.prepare("POST", "k/config", json!({ "delete_version_after": "-1s" })).await;
    assert!(undelete().await.is_empty());
}

#[tokio::test]
async fn the_configuration_answers_with_its_fields() {
    let harness = with_kv2().await;
    let shown = |cas_required: bool, life: &str, max_versions: u64| {
        json!({
            "cas_required": cas_required,
            "delete_version_after": life,
            "max_versions": max_versions,
            "metadata_cas_required": false,
        })
    };
    let defaults = shown(false, "0s", 0);
    assert_eq!(harness.read("k/config", ROOT).await.expect_status(200).at("/data"), &defaults);
    let body = json!({ "max_versions": 5, "delete_version_after": 1800, "cas_required": "true" });
    drop(harness.call("PUT", "k/config", ROOT, body).await.expect_status(204));
    assert_eq!(harness.read("k/config", ROOT).await.at("/data"), &shown(true, "30m0s", 5));
}

#[tokio::test]
async fn changes_of_metadata_say_what_they_follow_where_that_is_demanded() {
    let harness = with_kv2().await;
    let change = async |method: &str, path: &str, body: Value| harness.call(method, path, ROOT, body).await;
    let stale = "metadata check-and-set parameter does not match the current version";
    let missing = "metadata check-and-set parameter required for this call";
    // Said without being demanded: 0 is for what is not there, and every change counts on.
    change("POST", "k/metadata/a", json!({ "max_versions": 2, "metadata_cas": 7 }))
        .await
        .expect_error(400, "metadata_cas must be 0 when creating new metadata");
    drop(change("POST", "k/metadata/a", json!({ "max_versions": 2, "metadata_cas": 0 })).await.expect_status(204));
    for cas in [json!(0), json!(-1), json!("2")] {
        change("POST", "k/metadata/a", json!({ "max_versions": 3, "metadata_cas": cas }))
            .await
            .expect_error(400, stale);
    }
    drop(change("PATCH", "k/metadata/a", json!({ "max_versions": 3, "metadata_cas": 1 })).await.expect_status(204));
    let known = harness.read("k/metadata/a", ROOT).await;
    assert_eq!((known.at("/data/current_metadata_version"), known.at("/data/max_versions")), (&json!(2), &json!(3)));
    // Data is no metadata.
    write(&harness, "a", json!({ "k": "v" })).await;
    assert_eq!(harness.read("k/metadata/a", ROOT).await.at("/data/current_metadata_version"), &json!(2));
    write(&harness, "only-data", json!({ "k": "v" })).await;
    assert_eq!(harness.read("k/metadata/only-data", ROOT).await.at("/data/current_metadata_version"), &json!(0));
    // Demanded by the path, then by the mount.
    let demand = json!({ "metadata_cas_required": true, "metadata_cas": 2 });
    drop(change("POST", "k/metadata/a", demand).await.expect_status(204));
    for method in ["POST", "PATCH"] {
        change(method, "k/metadata/a", json!({ "max_versions": 4 })).await.expect_error(400, missing);
        change(method, "k/metadata/a", json!({ "max_versions": 4, "metadata_cas": 2 })).await.expect_error(400, stale);
    }
    // Who changes nothing follows nothing.
    drop(change("POST", "k/metadata/a", json!({})).await.expect_status(204));
    drop(change("POST", "k/metadata/nothing", json!({})).await.expect_status(204));
    drop(harness.read("k/metadata/nothing", ROOT).await.expect_status(404));
    drop(harness.write("k/config", ROOT, json!({ "metadata_cas_required": true })).await.expect_status(204));
    change("POST", "k/metadata/only-data", json!({ "max_versions": 4 })).await.expect_error(400, missing);
    let off = json!({ "metadata_cas_required": false, "metadata_cas": 0 });
    let answer = change("POST", "k/metadata/only-data", off).await.expect_status(200);
    assert!(answer.text_at("/warnings/0").starts_with("\"metadata_cas_required\" set to false"), "{answer:?}");
}

#[tokio::test]
async fn custom_metadata_is_bounded_and_says_what_is_wrong_with_it() {
    let harness = with_kv2().await;
    let write = async |custom: Value| harness.write("k/metadata/a", ROOT, json!({ "custom_metadata": custom })).await;
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (n.to_string(), json!("v"))).collect();
    for (wrong, reason) in [
        (Value::Object(many), "payload must contain at most 64 keys, provided 65"),
        (json!({ "": "v" }), "length of key is 0"),
        (json!({ "k".repeat(129): "v" }), "length of key is 129"),
        (json!({ "k": "" }), "length of value for key \"k\" is 0"),
        (json!({ "k": null }), "length of value for key \"k\" is 0"),
        (json!({ "k": "v".repeat(513) }), "length of value for key \"k\" is 513"),
        (json!({ "k": "bell \u{7}" }), "value for key \"k\" contains unprintable characters"),
        (json!({ "line\nbreak": "v" }), "key contains unprintable characters"),
        (json!({ "k": {} }), "custom_metadata"),
    ] {
        write(wrong).await.expect_error(400, reason);
    }
    write(json!({ "": "v", "k": "" })).await.expect_error(400, "failed: length of key is 0 but must be 0 < len(key)");
    let largest = json!({ "k".repeat(128): "v".repeat(512), "number": 1, "truth": true, "spaces are fine": "ja, ü" });
    drop(write(largest).await.expect_status(204));
    let negative = json!({ "delete_version_after": "-5s" });
    harness.write("k/metadata/a", ROOT, negative).await.expect_error(400, "cannot be negative");
}

#[tokio::test]
async fn a_detailed_list_says_what_is_known_of_each_name() {
    let harness = with_kv2().await;
    write(&harness, "b", json!({ "k": "v" })).await;
    write(&harness, "d/e/f", json!({ "k": "v" })).await;
    harness.prepare("POST", "k/metadata/a", json!({ "custom_metadata": { "who": "me" } })).await;
    let all = harness.list("k/detailed-metadata", ROOT).await.expect_status(200);
    assert_eq!(all.at("/data/keys"), &json!(["a", "b", "d/"]));
    assert_eq!(all.at("/data/key_info/a"), harness.read("k/metadata/a", ROOT).await.at("/data"));
    assert_eq!(all.at("/data/key_info/b/current_version"), &json!(1));
    assert_eq!(all.at("/data/key_info/d~1"), &json!({}));
    let page = harness.list("k/detailed-metadata?after=a&limit=1", ROOT).await.expect_status(200);
    assert_eq!(keys(page.at("/data/key_info")), ["b"]);
    let deeper = harness.list("k/detailed-metadata/d/e", ROOT).await.expect_status(200);
    assert_eq!(deeper.at("/data/key_info/f"), harness.read("k/metadata/d/e/f", ROOT).await.at("/data"));
    // The same of every depth.
    let every = harness.call("SCAN", "k/detailed-metadata", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(every.at("/data/keys"), &json!(["a", "b", "d/e/f"]));
    assert_eq!(every.at("/data/key_info/d~1e~1f"), harness.read("k/metadata/d/e/f", ROOT).await.at("/data"));
    let below = harness.call("SCAN", "k/metadata/d", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(below.at("/data"), &json!({ "keys": ["e/f"] }));
    let page = harness.call("SCAN", "k/metadata?after=a&limit=1", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(page.at("/data/keys"), &json!(["b"]));
    harness.prepare("POST", "sys/mounts/one", json!({ "type": "kv" })).await;
    harness.prepare("POST", "one/x/y", json!({ "k": "v" })).await;
    harness.prepare("POST", "one/z", json!({ "k": "v" })).await;
    let plain = harness.call("SCAN", "one", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(plain.at("/data/keys"), &json!(["x/y", "z"]));
    drop(harness.list("k/detailed-metadata/none", ROOT).await.expect_status(404));
    // Who may list metadata may not list it in detail, which reads it.
    let lister = harness.token_with(r#"path "k/metadata/*" { capabilities = ["list"] }"#).await;
    drop(harness.list("k/detailed-metadata", &lister).await.expect_status(403));
}

#[tokio::test]
async fn the_oldest_version_stays_what_it_was_when_more_are_kept_later() {
    let harness = with_kv2().await;
    let oldest = async || harness.read("k/metadata/a", ROOT).await.at("/data/oldest_version").clone();
    harness.prepare("POST", "k/config", json!({ "max_versions": 2 })).await;
    for _ in 0..4 {
        write(&harness, "a", json!({ "k": "v" })).await;
    }
    assert_eq!(oldest().await, json!(3));
    harness.prepare("POST", "k/config", json!({ "max_versions": 9 })).await;
    write(&harness, "a", json!({ "k": "v" })).await;
    assert_eq!(oldest().await, json!(3));
    assert_eq!(keys(harness.read("k/metadata/a", ROOT).await.at("/data/versions")), ["3", "4", "5"]);
    // Fewer are kept from the next write on.
    harness.prepare("POST", "k/config", json!({ "max_versions": 1 })).await;
    write(&harness, "a", json!({ "k": "v" })).await;
    assert_eq!(keys(harness.read("k/metadata/a", ROOT).await.at("/data/versions")), ["6"]);
    for path in ["k/metadata", "k/data"] {
        let hint = harness.read(path, ROOT).await.expect_status(404).text_at("/warnings/0");
        assert!(hint.starts_with("Non-listing operations on the root of a K/V v2 mount"), "{path}: {hint}");
    }
}

#[tokio::test]
async fn a_patch_merges_removes_nulls_and_needs_its_media_type() {
    let harness = with_kv2().await;
    write(&harness, "a", json!({ "keep": 1, "drop": 2, "deep": { "x": 1, "y": 2 } })).await;
    let patch = json!({ "data": { "drop": null, "deep": { "y": 3 } }, "options": { "cas": 1 } });
    let answer = harness.call("PATCH", "k/data/a", ROOT, patch).await.expect_status(200);
    assert_eq!(answer.at("/data/version"), &json!(2));
    let merged = json!({ "keep": 1, "deep": { "x": 1, "y": 3 } });
    assert_eq!(harness.read("k/data/a", ROOT).await.at("/data/data"), &merged);
    let stale = json!({ "data": { "x": 1 }, "options": { "cas": 1 } });
    harness.call("PATCH", "k/data/a", ROOT, stale).await.expect_error(400, "did not match the current version");
    drop(harness.call("PATCH", "k/data/none", ROOT, json!({ "data": { "x": 1 } })).await.expect_status(404));
    harness.call("PATCH", "k/data/a", ROOT, json!({})).await.expect_error(400, "no data provided");
    let request = http::Request::builder().method("PATCH").uri("/v1/k/data/a").header("X-Vault-Token", ROOT);
    let request = request.header("Content-Type", "application/json").body(http_body_util::Full::from("{}")).unwrap();
    drop(harness.send(request).await.expect_status(415));
}

#[tokio::test]
async fn subkeys_show_names_down_to_a_depth() {
    let harness = with_kv2().await;
    write(&harness, "a", json!({ "x": 1, "deep": { "y": { "z": 2 } }, "empty": {} })).await;
    let all = json!({ "x": null, "deep": { "y": { "z": null } }, "empty": null });
    assert_eq!(harness.read("k/subkeys/a", ROOT).await.at("/data/subkeys"), &all);
    let shallow = json!({ "x": null, "deep": null, "empty": null });
    assert_eq!(harness.read("k/subkeys/a?depth=1", ROOT).await.at("/data/subkeys"), &shallow);
}

#[tokio::test]
async fn who_takes_version_2_for_version_1_is_told() {
    let harness = with_kv2().await;
    for (method, verb) in [("GET", "get"), ("POST", "put"), ("DELETE", "delete"), ("LIST", "list"), ("PATCH", "patch")]
    {
        let body = if verb.starts_with('p') { json!({ "k": "v" }) } else { Value::Null };
        let answer = harness.call(method, "k/a", ROOT, body).await.expect_status(404);
        assert!(answer.json.get("errors").is_none(), "{answer:?}");
        let hint = answer.text_at("/warnings/0");
        assert!(hint.contains("Invalid path for a versioned K/V secrets engine"), "{hint}");
        assert!(hint.contains(&format!("'vault kv {verb}'")), "{hint}");
    }
}

#[tokio::test]
async fn directories_end_in_a_slash_and_come_in_order_by_page() {
    let harness = with_kv2().await;
    for path in ["b", "dir/x", "dir", "dir/sub/y", "a"] {
        write(&harness, path, json!({})).await;
    }
    assert_eq!(harness.list("k/metadata", ROOT).await.at("/data"), &json!({ "keys": ["a", "b", "dir", "dir/"] }));
    assert_eq!(harness.list("k/metadata/dir/", ROOT).await.at("/data/keys"), &json!(["sub/", "x"]));
    let page = harness.read("k/metadata/?list=true&after=a&limit=2", ROOT).await.expect_status(200);
    assert_eq!(page.at("/data/keys"), &json!(["b", "dir"]));
}

#[tokio::test]
async fn version_1_keeps_what_is_sent_and_advises_how_long() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/k1", json!({ "type": "kv", "options": { "version": "1" } })).await;
    for (body, advised) in [
        (json!({ "k": [1, { "a": 1.5 }], "nil": null }), 2_764_800),
        (json!({ "ttl": "1h" }), 3600),
        (json!({ "lease": "30" }), 30),
        (json!({ "ttl": "soon" }), 2_764_800),
    ] {
        drop(harness.write("k1/a/b", ROOT, body.clone()).await.expect_status(204));
        let answer = harness.read("k1/a/b", ROOT).await.expect_status(200);
        assert_eq!((answer.at("/data"), answer.at("/lease_duration")), (&body, &json!(advised)));
    }
    harness.prepare("POST", "k1/long", json!({ "ttl": "1000h" })).await;
    let long = harness.read("k1/long", ROOT).await.expect_status(200);
    assert_eq!(long.at("/lease_duration"), &json!(2_764_800));
    assert!(
        long.text_at("/warnings/0").contains("TTL of \"1000h0m0s\" exceeded the effective max_ttl of \"768h0m0s\"")
    );
    drop(harness.delete("k1/long", ROOT).await.expect_status(204));
    assert_eq!(harness.list("k1", ROOT).await.at("/data"), &json!({ "keys": ["a/"] }));
    for body in [json!({}), Value::Null] {
        harness.write("k1/a/b", ROOT, body).await.expect_error(400, "missing data fields");
    }
    harness.write("k1/a/", ROOT, json!({ "k": "v" })).await.expect_error(400, "cannot");
    drop(harness.delete("k1/a/b", ROOT).await.expect_status(204));
    drop(harness.delete("k1/a/b", ROOT).await.expect_status(204));
    drop(harness.list("k1", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_cubbyhole_belongs_to_its_token_and_goes_with_it() {
    let harness = Harness::start().await;
    let (one, other) =
        (harness.token(json!({ "policies": "a" })).await, harness.token(json!({ "policies": "a" })).await);
    drop(harness.write("cubbyhole/x/y", &one, json!({ "k": "v", "ttl": "1h" })).await.expect_status(204));
    let answer = harness.read("cubbyhole/x/y", &one).await.expect_status(200);
    assert_eq!((answer.at("/data"), answer.at("/lease_duration")), (&json!({ "k": "v", "ttl": "1h" }), &json!(0)));
    assert_eq!(harness.list("cubbyhole", &one).await.at("/data/keys"), &json!(["x/"]));
    for stranger in [other.as_str(), ROOT] {
        assert_eq!(harness.read("cubbyhole/x/y", stranger).await.expect_status(404).bytes, br#"{"errors":[]}"#);
        drop(harness.list("cubbyhole", stranger).await.expect_status(404));
    }
    drop(harness.delete("cubbyhole/x/y", &one).await.expect_status(204));
    drop(harness.read("cubbyhole/x/y", &one).await.expect_status(404));
    harness.write("cubbyhole/x", &one, json!({})).await.expect_error(400, "missing data fields");
}
