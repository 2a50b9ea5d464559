//! Audit devices as operators have them: declared in the configuration, with filters and a fallback, over every way out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failing step ends the test"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::audit_support::{counts, lines};
use serde_json::{Value, json};
use tresor_core::audits::{DeclaredDevice, DeclaredDevices};
use tresor_env::outgoing::Ask;
use tresor_harness::{Harness, ROOT, assembly};

fn declared(path: &str, options: &[(&str, &str)]) -> DeclaredDevice {
    DeclaredDevice {
        path: format!("{path}/"),
        kind: "file".to_owned(),
        description: "From the file.".to_owned(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        local: false,
    }
}

async fn declaring(devices: Vec<DeclaredDevice>) -> Harness {
    Harness::start_with(tresor_core::Settings { audit_devices: DeclaredDevices::of(devices), ..assembly::settings() })
        .await
}

async fn listed(harness: &Harness) -> Vec<String> {
    let answer = harness.read("sys/audit", ROOT).await.expect_status(200);
    answer.at("/data").as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn declared_devices_are_there_when_the_node_opens_and_nobody_removes_them() {
    let mut harness = declaring(vec![declared("main", &[("file_path", "/audit/main.log")])]).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    assert_eq!(counts(&lines(&harness, "/audit/main.log"), "sys/mounts/kv"), (1, 1));
    let shown = harness.read("sys/audit", ROOT).await.expect_status(200);
    let expected = json!({ "path": "main/", "type": "file", "description": "From the file.", "local": false,
        "options": { "file_path": "/audit/main.log" } });
    assert_eq!(shown.at("/data/main~1"), &expected);
    assert_eq!(harness.read("sys/audit-status", ROOT).await.at("/data/devices/main~1/declared"), &json!(true));
    let refused = harness.delete("sys/audit/main", ROOT).await.expect_status(400);
    assert_eq!(refused.at("/errors/0"), "cannot disable configuration-managed audit device");
    let taken =
        harness.write("sys/audit/main", ROOT, json!({ "type": "file", "options": { "file_path": "/audit/x" } }));
    assert_eq!(taken.await.expect_status(400).at("/errors/0"), "path already in use");
    let hash = || async {
        harness.prepare("POST", "sys/audit-hash/main", json!({ "input": "x" })).await.text_at("/data/hash")
    };
    let before = hash().await;
    // Another opening finds it as it was.
    harness.restart().await;
    harness.unseal().await;
    assert_eq!(
        harness.prepare("POST", "sys/audit-hash/main", json!({ "input": "x" })).await.text_at("/data/hash"),
        before
    );
}

#[tokio::test]
async fn what_is_declared_anew_is_followed_and_nothing_is_changed_in_its_place() {
    let one = declared("one", &[("file_path", "/audit/one.log")]);
    let harness = declaring(vec![one.clone()]).await;
    harness.enable_audit().await;
    let two = declared("two", &[("file_path", "/audit/two.log")]);
    harness.node.declare_audit_devices(vec![one.clone(), two.clone()]).await.unwrap();
    assert_eq!(listed(&harness).await, ["file/", "one/", "two/"]);
    harness.node.declare_audit_devices(vec![two.clone()]).await.unwrap();
    assert_eq!(listed(&harness).await, ["file/", "two/"]);
    // What was enabled through the API is not taken over, and what is declared is not changed under its name.
    let taken = declared("file", &[("file_path", "/audit/other.log")]);
    let changed = declared("two", &[("file_path", "/audit/elsewhere.log")]);
    harness.node.declare_audit_devices(vec![taken, changed]).await.unwrap();
    let shown = harness.read("sys/audit", ROOT).await;
    assert_eq!(shown.at("/data/two~1/options/file_path"), "/audit/two.log");
    assert_eq!(shown.at("/data/file~1/options/file_path"), "/audit/file.log");
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    for file in ["/audit/two.log", "/audit/file.log"] {
        assert_eq!(counts(&lines(&harness, file), "sys/mounts/kv"), (1, 1), "{file}");
    }
    assert!(lines(&harness, "/audit/elsewhere.log").is_empty() && lines(&harness, "/audit/other.log").is_empty());
    // Of two fallbacks the first is one.
    let rest = |path: &str| declared(path, &[("file_path", "/audit/rest.log"), ("fallback", "true")]);
    harness.node.declare_audit_devices(vec![rest("first"), rest("second")]).await.unwrap();
    assert_eq!(listed(&harness).await, ["file/", "first/"]);
    harness.node.declare_audit_devices(Vec::new()).await.unwrap();
    assert_eq!(listed(&harness).await, ["file/"]);
}

#[tokio::test]
async fn a_declared_device_that_cannot_be_opened_gets_every_record_once_it_can() {
    let harness = Harness::start().await;
    harness.doors.disk.fail_below("/broken", std::io::ErrorKind::PermissionDenied);
    let device = declared("main", &[("file_path", "/broken/main.log")]);
    harness.node.declare_audit_devices(vec![device]).await.unwrap();
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.settle().await;
    assert!(
        harness
            .read("sys/audit-status", ROOT)
            .await
            .text_at("/data/devices/main~1/last_error")
            .contains("cannot be opened")
    );
    harness.doors.disk.heal();
    harness.advance(Duration::from_secs(60)).await;
    assert_eq!(counts(&lines(&harness, "/broken/main.log"), "sys/mounts/kv"), (1, 1));
}

#[tokio::test]
async fn the_api_enables_devices_unless_the_configuration_says_no() {
    let settings = tresor_core::Settings { audit_by_api: false, ..assembly::settings() };
    let harness = Harness::start_with(settings).await;
    let body = json!({ "type": "file", "options": { "file_path": "/audit/x" } });
    let refused = harness.write("sys/audit/x", ROOT, body).await.expect_status(400);
    assert!(refused.text_at("/errors/0").starts_with("cannot enable audit device via API"), "{refused:?}");
    assert!(listed(&harness).await.is_empty());
}

#[tokio::test]
async fn one_device_is_the_fallback_and_filters_are_asked_of_every_request() {
    let harness = Harness::start().await;
    let enable = async |name: &str, options: Value| {
        harness.write(&format!("sys/audit/{name}"), ROOT, json!({ "type": "file", "options": options })).await
    };
    let kv = json!({ "file_path": "/audit/kv.log", "filter": "mount_type == \"kv\" and operation != \"list\"" });
    drop(enable("kv", kv).await.expect_status(204));
    let rest = json!({ "file_path": "/audit/rest.log", "fallback": "true" });
    drop(enable("rest", rest.clone()).await.expect_status(204));
    let refused = enable("other", rest).await.expect_status(400);
    assert_eq!(refused.at("/errors/0"), "another device is the fallback already");
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "v": "1" })).await;
    drop(harness.list("kv", ROOT).await.expect_status(200));
    drop(harness.read("kv/a", "no-token").await.expect_status(403));
    harness.settle().await;
    let (kv, rest) = (lines(&harness, "/audit/kv.log"), lines(&harness, "/audit/rest.log"));
    assert_eq!(counts(&kv, "kv/a"), (2, 2), "the refusal is one of the mount, too");
    assert_eq!((counts(&rest, "kv/a"), counts(&rest, "sys/mounts/kv")), ((0, 0), (1, 1)));
    assert_eq!((counts(&kv, "kv/"), counts(&rest, "kv/")), ((0, 0), (1, 1)), "{rest:?}");
    assert_eq!(counts(&kv, "sys/mounts/kv"), (0, 0));
    // The numbers say what each of them took.
    let numbers = harness.read("sys/metrics", ROOT).await;
    let counters = numbers.at("/Counters").as_array().unwrap();
    let names: Vec<&str> = counters.iter().filter_map(|counter| counter["Name"].as_str()).collect();
    for name in ["vault.audit.fallback.success", "vault.audit.fallback.miss", "vault.audit.kv.log_request_failure"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn nothing_is_hashed_that_is_nothing() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let refused = harness.write("sys/audit-hash/file", ROOT, json!({ "input": "" })).await.expect_status(400);
    assert_eq!(refused.at("/errors/0"), "the \"input\" parameter is empty");
    drop(harness.write("sys/audit-hash/nowhere", ROOT, json!({ "input": "x" })).await.expect_status(400));
}

const CANARY: &str = "canary-that-nobody-may-see";

/// Everything that leaves by any device is looked through for secrets: they are only where `log_raw` asks for them.
#[tokio::test]
async fn no_way_out_shows_a_secret_unless_it_was_asked_to() {
    let harness = Harness::start().await;
    let mut daemon = harness.doors.net.receive_local_datagrams("/run/log", 10_000);
    let posted = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&posted);
    harness.doors.outgoing.answer(move |request| {
        let Ask::Post(body) = &request.ask else { return Ok((405, Vec::new())) };
        seen.lock().unwrap().push_str(std::str::from_utf8(body).unwrap());
        Ok((200, Vec::new()))
    });
    let exclude = r#"[{"condition":"\"/request/mount_type\" == kv","fields":["/request/data"]}]"#;
    let devices: BTreeMap<&str, Value> = BTreeMap::from([
        ("file", json!({ "type": "file", "options": { "file_path": "/audit/file.log", "rotate_bytes": "4096" } })),
        ("xml", json!({ "type": "file", "options": { "file_path": "/audit/xml.log", "format": "jsonx" } })),
        ("part", json!({ "type": "file", "options": { "file_path": "/audit/part.log", "exclude": exclude } })),
        ("raw", json!({ "type": "file", "options": { "file_path": "/audit/raw.log", "log_raw": "true" } })),
        ("syslog", json!({ "type": "syslog", "options": { "address": "/run/log" } })),
        ("http", json!({ "type": "http", "options": { "uri": "https://logs.example/" } })),
    ]);
    for (name, body) in &devices {
        harness.prepare("PUT", &format!("sys/audit/{name}"), body.clone()).await;
    }
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "password": CANARY, "deep": { "list": [CANARY] } })).await;
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
    let token = harness.token(json!({ "policies": ["default"] })).await;
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(200));
    drop(harness.write("kv/b", &token, json!({ "v": CANARY })).await.expect_status(403));
    harness.settle().await;
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (path, bytes) in harness.doors.disk.dump().into_iter().filter(|(path, _)| path.starts_with("/audit")) {
        texts.insert(path.display().to_string(), String::from_utf8(bytes).unwrap());
    }
    let mut messages = String::new();
    while let Ok(message) = daemon.try_recv() {
        messages.push_str(std::str::from_utf8(&message).unwrap());
    }
    texts.insert("syslog".to_owned(), messages);
    texts.insert("http".to_owned(), posted.lock().unwrap().clone());
    assert!(texts.keys().filter(|name| name.starts_with("/audit/file.log.")).count() > 0, "{:?}", texts.keys());
    let raw = texts.remove("/audit/raw.log").unwrap();
    assert!(raw.contains(CANARY) && raw.contains(&token));
    for (name, text) in texts {
        assert!(text.contains("auth/token/lookup-self") || name.starts_with("/audit/file.log"), "{name} got nothing");
        for secret in [CANARY, token.as_str(), ROOT] {
            assert!(!text.contains(secret), "{name} shows {secret}");
        }
    }
    assert!(harness.doors.disk.dump().contains_key(Path::new("/audit/file.log")));
}
