//! Mounts that move from one namespace to another: nothing of them is lost or left, whenever that is interrupted.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

/// Namespaces `a` and `b`, with one in `a`.
async fn three() -> Harness {
    let harness = Harness::start().await;
    for path in ["sys/namespaces/a", "sys/namespaces/b", "a/sys/namespaces/inner"] {
        harness.prepare("POST", path, json!({})).await;
    }
    harness
}

async fn status(harness: &Harness, id: &str) -> String {
    let answer = harness.read(&format!("sys/remount/status/{id}"), ROOT).await.expect_status(200);
    answer.text_at("/data/migration_info/status")
}

/// Moves a mount, and gives the name of the move.
async fn begin(harness: &Harness, from: &str, to: &str) -> String {
    let begun = harness.write("sys/remount", ROOT, json!({ "from": from, "to": to })).await.expect_status(200);
    begun.text_at("/data/migration_id")
}

/// Lets time pass in small steps until a move is over; between them the process may end.
async fn finish(harness: &mut Harness, id: &str, is_interrupted: bool) -> String {
    for step in 1..600 {
        let now = status(harness, id).await;
        if now != "in-progress" {
            return now;
        }
        if is_interrupted && step % 3 == 0 {
            harness.kill();
            harness.unseal().await;
        }
        harness.doors.clock.advance(Duration::from_millis(1100));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    "it does not end".to_owned()
}

#[tokio::test]
async fn a_mount_moves_with_all_it_has_and_leaves_nothing_behind_whenever_that_is_interrupted() {
    for is_interrupted in [false, true] {
        let mut harness = three().await;
        harness.prepare("POST", "a/sys/mounts/kv", json!({ "type": "kv-v2" })).await;
        harness.prepare("POST", "a/sys/mounts/kv/tune", json!({ "description": "theirs" })).await;
        let before = harness.store.dump().len();
        for number in 0..150 {
            for version in 0..3 {
                let path = format!("a/kv/data/d{}/s{number}", number % 7);
                harness.prepare("POST", &path, json!({ "data": { "v": format!("{number}.{version}") } })).await;
            }
        }
        harness.prepare("DELETE", "a/kv/metadata/d0/s0", Value::Null).await;
        let uuid = harness.read("a/sys/mounts/kv", ROOT).await.expect_status(200).text_at("/data/uuid");
        let full = harness.store.dump().len();
        let id = begin(&harness, "a/kv", "a/inner/moved/kv").await;
        assert_eq!(status(&harness, &id).await, "in-progress");
        for path in ["a/kv/data/d1/s1", "a/inner/moved/kv/data/d1/s1"] {
            harness.read(path, ROOT).await.expect_error(503, "is being moved");
        }
        assert_eq!(finish(&mut harness, &id, is_interrupted).await, "success");
        drop(harness.read("a/kv/data/d1/s1", ROOT).await.expect_status(404));
        for number in 1..150 {
            let path = format!("a/inner/moved/kv/data/d{}/s{number}", number % 7);
            for (asked, version) in [("", 2), ("?version=1", 0), ("?version=2", 1)] {
                let read = harness.read(&format!("{path}{asked}"), ROOT).await.expect_status(200);
                assert_eq!(read.at("/data/data/v"), &json!(format!("{number}.{version}")));
            }
        }
        let listed = harness.list("a/inner/moved/kv/metadata/", ROOT).await.expect_status(200);
        assert_eq!(listed.at("/data/keys").as_array().unwrap().len(), 7);
        let shown = harness.read("a/inner/sys/mounts/moved/kv", ROOT).await.expect_status(200);
        assert_eq!((shown.at("/data/uuid"), shown.at("/data/description")), (&json!(uuid), &json!("theirs")));
        // It works on, and back again; nothing more is stored than was before.
        harness.prepare("POST", "a/inner/moved/kv/data/d1/s1", json!({ "data": { "v": "new" } })).await;
        let id = begin(&harness, "a/inner/moved/kv", "kv").await;
        assert_eq!(finish(&mut harness, &id, false).await, "success");
        assert_eq!(harness.read("kv/data/d1/s1", ROOT).await.expect_status(200).at("/data/data/v"), "new");
        harness.prepare("DELETE", "kv/metadata/d1/s1", Value::Null).await;
        for _ in 0..5 {
            harness.advance(Duration::from_secs(1)).await;
        }
        let after = harness.store.dump().len();
        assert!(after <= full + 6, "{before} records before, {full} when it was full, {after} after two moves");
        harness.prepare("DELETE", "sys/mounts/kv", Value::Null).await;
        for _ in 0..30 {
            harness.advance(Duration::from_secs(1)).await;
        }
        let empty = harness.store.dump().len();
        assert!(empty <= before + 3, "{before} records before, {empty} when the mount was removed");
        assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn what_it_handed_out_is_taken_back_before_it_goes_or_it_stays_where_it_is() {
    let mut harness = three().await;
    harness.prepare("POST", "a/sys/mounts/made", json!({ "type": "leasing" })).await;
    for _ in 0..20 {
        harness.prepare("GET", "a/made/creds/r?ttl=1h", Value::Null).await;
    }
    let out = async |harness: &Harness, path: &str| {
        let listed = harness.list(path, ROOT).await;
        listed.json["data"]["keys"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(out(&harness, "a/made/made").await, 20);
    let id = begin(&harness, "a/made", "b/made").await;
    assert_eq!(finish(&mut harness, &id, true).await, "success");
    assert_eq!(out(&harness, "b/made/made").await, 0, "all are taken back");
    let revoked = harness.read("b/made/revoked", ROOT).await.expect_status(200);
    let times: Vec<_> = revoked.at("/data").as_object().unwrap().values().cloned().collect();
    assert_eq!(times, vec![json!(1); 20], "each once");
    drop(harness.list("a/sys/leases/lookup/made/creds/r", ROOT).await.expect_status(404));
    harness.prepare("GET", "b/made/creds/r?ttl=1h", Value::Null).await;
    // What cannot be taken back keeps it where it is, and in use.
    harness.prepare("POST", "b/made/config", json!({ "failure": "fail" })).await;
    let id = begin(&harness, "b/made", "a/other").await;
    let mut over = status(&harness, &id).await;
    for _ in 0..20 {
        harness.advance(Duration::from_secs(400)).await;
        over = status(&harness, &id).await;
    }
    assert_eq!(over, "failure");
    drop(harness.read("a/sys/mounts/other", ROOT).await.expect_status(400));
    harness.prepare("POST", "b/made/config", json!({})).await;
    harness.prepare("GET", "b/made/creds/r?ttl=1h", Value::Null).await;
    harness.prepare("POST", "a/sys/mounts/other", json!({ "type": "kv" })).await;
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn an_auth_method_moves_with_who_may_log_in_and_tokens_of_before_are_of_no_use() {
    let mut harness = three().await;
    harness.prepare("POST", "a/sys/auth/apps", json!({ "type": "approle" })).await;
    harness.prepare("POST", "a/auth/apps/role/ci", json!({ "token_ttl": "1h" })).await;
    let role = harness.read("a/auth/apps/role/ci/role-id", ROOT).await.expect_status(200).text_at("/data/role_id");
    let made = harness.write("a/auth/apps/role/ci/secret-id", ROOT, json!({})).await.expect_status(200);
    let who = json!({ "role_id": role, "secret_id": made.text_at("/data/secret_id") });
    let login = async |harness: &Harness, namespace: &str| {
        harness.write(&format!("{namespace}/auth/apps/login"), "", who.clone()).await
    };
    let token = login(&harness, "a").await.expect_status(200).text_at("/auth/client_token");
    harness.prepare("POST", "sys/quotas/rate-limit/apps", json!({ "path": "a/auth/apps", "rate": 1000 })).await;
    let id = begin(&harness, "a/auth/apps", "b/auth/apps").await;
    drop(harness.read("a/auth/token/lookup-self", &token).await.expect_status(403));
    assert_eq!(finish(&mut harness, &id, true).await, "success");
    drop(harness.read("a/auth/token/lookup-self", &token).await.expect_status(403));
    drop(login(&harness, "b").await.expect_status(200));
    assert_eq!(login(&harness, "a").await.status, 403);
    assert_eq!(harness.read("sys/quotas/rate-limit/apps", ROOT).await.at("/data/path"), "b/auth/apps/");
}

#[tokio::test]
async fn who_moves_a_mount_must_be_allowed_to_at_both_ends_and_nothing_else_is_done_to_it_meanwhile() {
    let mut harness = three().await;
    harness.doors.clock.advance(Duration::from_secs(2));
    for path in ["a/sys/mounts/kv", "b/sys/mounts/kv", "sys/mounts/kv"] {
        harness.prepare("POST", path, json!({ "type": "kv-v1" })).await;
    }
    let rule = |path: &str| format!("path \"{path}\" {{ capabilities = [\"update\", \"sudo\"] }}\n");
    let (here, one, both) = (rule("sys/remount"), rule("a/sys/remount"), rule("b/sys/remount"));
    let wish = json!({ "from": "a/kv", "to": "b/theirs" });
    let moving = |token: String, wish: Value| {
        let harness = &harness;
        async move { harness.write("sys/remount", &token, wish).await }
    };
    for rules in [here.clone(), format!("{here}{one}"), format!("{here}{both}")] {
        let token = harness.token_with(&rules).await;
        moving(token, wish.clone()).await.expect_error(403, "permission denied");
    }
    for (from, to, text) in [
        ("a/kv", "b/kv", "path is already in use"),
        ("a/kv", "a", "invalid mount path"),
        ("a/nothing", "b/x", "no matching mount"),
        ("a/sys", "b/x", "cannot remount"),
        ("a/kv", "b/auth/x", "cannot remount"),
        ("a/kv", "b/sys/x", "path is already in use"),
        ("a/kv", "b/kv/below", "path is already in use"),
    ] {
        let answer = harness.write("sys/remount", ROOT, json!({ "from": from, "to": to })).await;
        assert!(answer.status == 400 && answer.errors().contains(text), "{from} {to}: {answer:?}");
    }
    let token = harness.token_with(&format!("{here}{one}{both}")).await;
    let begun = moving(token, wish).await.expect_status(200);
    for (method, path, body) in [
        ("DELETE", "a/sys/mounts/kv", Value::Null),
        ("DELETE", "b/sys/mounts/theirs", Value::Null),
        ("POST", "a/sys/mounts/kv/tune", json!({ "description": "x" })),
        ("POST", "a/sys/remount", json!({ "from": "kv", "to": "elsewhere" })),
        ("POST", "sys/remount", json!({ "from": "b/theirs", "to": "elsewhere" })),
        ("DELETE", "sys/namespaces/b", Value::Null),
        ("POST", "b/sys/mounts/theirs", json!({ "type": "kv" })),
    ] {
        let answer = harness.call(method, path, ROOT, body).await;
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
    }
    let id = begun.text_at("/data/migration_id");
    let info = harness.read(&format!("sys/remount/status/{id}"), ROOT).await.expect_status(200);
    let expected = json!({ "source_mount": "a/kv/", "target_mount": "b/theirs/", "status": "in-progress" });
    assert_eq!(info.at("/data/migration_info"), &expected);
    assert_eq!(finish(&mut harness, &id, false).await, "success");
    // Who is asked in a namespace names paths of it, and knows of no move elsewhere.
    drop(harness.read(&format!("a/sys/remount/status/{id}"), ROOT).await.expect_status(404));
    let body = json!({ "from": "a/sys", "to": "x" });
    drop(harness.write("b/sys/remount", ROOT, body).await.expect_status(400));
    let begun =
        harness.write("b/sys/remount", ROOT, json!({ "from": "theirs", "to": "a/kv" })).await.expect_status(200);
    let id = begun.text_at("/data/migration_id");
    drop(harness.read(&format!("b/sys/remount/status/{id}"), ROOT).await.expect_status(200));
    drop(harness.read("b/sys/mounts/a/kv", ROOT).await.expect_status(200));
}
