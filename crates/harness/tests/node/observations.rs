//! What becomes of tokens, leases and mounts goes into a ledger, without what is secret, and to nobody who subscribes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Settings;
use tresor_core::observations::Ledger;
use tresor_harness::{Harness, ROOT, assembly};

/// Keeps what it takes; but for types that begin so.
#[derive(Default)]
struct Captured {
    lines: Mutex<Vec<String>>,
    denied: &'static str,
}

impl Ledger for Captured {
    fn wants(&self, kind: &str) -> bool {
        self.denied.is_empty() || !kind.starts_with(self.denied)
    }

    fn take(&self, line: Vec<u8>) {
        self.lines.lock().unwrap().push(String::from_utf8(line).unwrap());
    }
}

impl Captured {
    /// What was taken since it was asked last.
    fn taken(&self) -> Vec<Value> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        lines.iter().map(|line| serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap()).collect()
    }
}

async fn watched(denied: &'static str) -> (Harness, Arc<Captured>) {
    let ledger = Arc::new(Captured { denied, ..Captured::default() });
    let settings =
        Settings { ledger: Some(Arc::<Captured>::clone(&ledger) as Arc<dyn Ledger>), ..assembly::settings() };
    let harness = Harness::start_with(settings).await;
    drop(ledger.taken());
    (harness, ledger)
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sys_30_what_becomes_of_tokens_and_leases_is_in_the_ledger_without_what_is_secret() {
    let (harness, ledger) = watched("").await;
    let config = json!({ "default_lease_ttl": "1h", "max_lease_ttl": "24h" });
    harness.prepare("POST", "sys/mounts/leasing", json!({ "type": "leasing", "config": config })).await;
    let enabled = ledger.taken();
    assert_eq!(kinds(&enabled), ["mount/enable"]);
    assert_eq!((&enabled[0]["path"], &enabled[0]["mount"]["type"]), (&json!("leasing/"), &json!("leasing")));

    let made = harness.write("auth/token/create", ROOT, json!({ "ttl": "1h", "policies": ["default"] })).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    let created = ledger.taken();
    assert_eq!(kinds(&created), ["token/create"]);
    let data = &created[0]["data"];
    assert_eq!(
        (&data["accessor"], &data["policies"], &data["ttl"]),
        (&json!(accessor), &json!("default"), &json!("3600"))
    );
    assert_eq!((&created[0]["path"], &created[0]["namespace"]), (&json!("auth/token/create"), &json!("")));
    assert_eq!(created[0]["mount"]["class"], "auth");

    let lease = harness.read("leasing/creds/r", ROOT).await.expect_status(200).text_at("/lease_id");
    let begun = ledger.taken();
    assert_eq!(kinds(&begun), ["lease/create"]);
    let named = begun[0]["data"]["lease_id"].as_str().unwrap().to_owned();
    assert!(named.starts_with("hmac-sha256:"), "{named}");

    harness.advance(Duration::from_secs(600)).await;
    drop(harness.write("sys/leases/renew", ROOT, json!({ "lease_id": lease })).await.expect_status(200));
    drop(harness.write("auth/token/renew", ROOT, json!({ "token": token })).await.expect_status(200));
    let renewed = ledger.taken();
    assert_eq!(kinds(&renewed), ["lease/renew", "token/renew"]);
    // One lease is one name, from its beginning to its end.
    assert_eq!(renewed[0]["data"]["lease_id"], named.as_str());
    assert!(renewed[0]["data"]["expire_time"] != begun[0]["data"]["expire_time"]);

    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": lease, "sync": true })).await);
    harness.settle().await;
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));
    let ended = ledger.taken();
    assert_eq!(kinds(&ended), ["lease/end", "lease/revoke", "token/end"]);
    assert!(ended[..2].iter().all(|line| line["data"]["lease_id"] == named.as_str()));
    assert_eq!(ended[2]["data"]["accessor"], accessor.as_str());

    let everything = [enabled, created, begun, renewed, ended].concat();
    let text = serde_json::to_string(&everything).unwrap();
    for secret in [&token, &lease, ROOT] {
        assert!(!text.contains(secret), "{text}");
    }
    let mut names: Vec<&str> = everything.iter().map(|line| line["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), everything.len());
}

#[tokio::test]
async fn sys_30_what_ends_by_itself_is_in_the_ledger_too() {
    let (harness, ledger) = watched("").await;
    let config = json!({ "default_lease_ttl": "1h", "max_lease_ttl": "24h" });
    harness.prepare("POST", "sys/mounts/leasing", json!({ "type": "leasing", "config": config })).await;
    let owner = json!({ "ttl": "10m", "policies": ["root"], "no_parent": true });
    let owner = harness.write("auth/token/create", ROOT, owner).await.text_at("/auth/client_token");
    drop(harness.read("leasing/creds/r", &owner).await.expect_status(200));
    drop(ledger.taken());
    harness.advance(Duration::from_secs(700)).await;
    harness.settle().await;
    let lines = ledger.taken();
    let mut seen = kinds(&lines);
    seen.sort_unstable();
    assert_eq!(seen, ["lease/end", "lease/revoke", "token/end"]);
}

#[tokio::test]
async fn sys_30_what_ends_with_a_mount_is_in_the_ledger_with_the_mount_that_it_was_of() {
    let (harness, ledger) = watched("").await;
    harness.prepare("POST", "sys/mounts/leasing", json!({ "type": "leasing" })).await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/people/users/bob", json!({ "password": "hers", "token_ttl": "1h" })).await;
    drop(harness.read("leasing/creds/r", ROOT).await.expect_status(200));
    drop(harness.write("auth/people/login/bob", "", json!({ "password": "hers" })).await.expect_status(200));
    drop(ledger.taken());
    harness.prepare("DELETE", "sys/mounts/leasing", Value::Null).await;
    harness.prepare("DELETE", "sys/auth/people", Value::Null).await;
    for _ in 0..10 {
        harness.advance(Duration::from_secs(600)).await;
        harness.settle().await;
    }
    let lines = ledger.taken();
    let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap_or_else(|| panic!("{lines:?}"));
    for kind in ["mount/disable", "lease/end", "lease/revoke"] {
        assert_eq!(of(kind)["mount"]["path"], "leasing/", "{kind}");
    }
    assert_eq!(of("token/end")["mount"]["class"], "auth");
}

#[tokio::test]
async fn sys_30_engines_tell_the_ledger_what_they_tell_and_nobody_else_is_told_more() {
    let (harness, ledger) = watched("token/").await;
    let mut listening = harness.listen("", "*", crate::events::as_json(), ROOT).await.unwrap();
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    harness.prepare("POST", "kv/data/a", json!({ "data": { "value": "planted" } })).await;
    drop(harness.token(json!({})).await);
    harness.prepare("DELETE", "sys/mounts/kv", Value::Null).await;
    let lines = ledger.taken();
    // What is denied is not there; no value is.
    assert_eq!(kinds(&lines), ["mount/enable", "kv-v2/data-write", "mount/disable"]);
    assert!(!serde_json::to_string(&lines).unwrap().contains("planted"));
    assert_eq!(lines[1]["data"]["path"], "kv/data/a");
    let told = crate::events::told(&harness, &mut *listening).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["event_type"], "kv-v2/data-write");
}

#[tokio::test]
async fn sys_30_what_is_not_committed_is_not_in_the_ledger() {
    let (harness, ledger) = watched("").await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    drop(ledger.taken());
    drop(harness.write("sys/mounts/kv", ROOT, json!({ "type": "kv-v1" })).await.expect_status(400));
    drop(harness.write("auth/token/create", ROOT, json!({ "ttl": "-1h" })).await.expect_status(400));
    assert_eq!(ledger.taken(), Vec::<Value>::new());
}
