//! Mounts on the wire: every setting, the catalogue of what can be mounted, engines made anew, and mounts that cannot be
//! loaded.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn every_setting_of_a_mount_is_kept_and_shown_where_it_was_set() {
    let harness = Harness::start().await;
    let kept = json!({
        "audit_non_hmac_request_keys": ["a"],
        "audit_non_hmac_response_keys": ["b"],
        "listing_visibility": "hidden",
        "allowed_managed_keys": ["k1", "k2"],
        "delegated_auth_accessors": ["auth_userpass_1"],
        "identity_token_key": "default",
        "trim_request_trailing_slashes": true,
        "override_pinned_version": true,
    });
    harness.prepare("POST", "sys/mounts/whole", json!({ "type": "kv", "config": kept })).await;
    harness.prepare("POST", "sys/mounts/tuned", json!({ "type": "kv" })).await;
    drop(harness.write("sys/mounts/tuned/tune", ROOT, kept.clone()).await.expect_status(204));
    let listed = harness.read("sys/mounts", ROOT).await.expect_status(200);
    for path in ["whole", "tuned"] {
        let tune = harness.read(&format!("sys/mounts/{path}/tune"), ROOT).await.expect_status(200);
        for (name, value) in kept.as_object().unwrap() {
            assert_eq!(&tune.at("/data")[name], value, "{path} {name}");
            assert_eq!(&listed.json["data"][format!("{path}/")]["config"][name], value, "{path} {name}");
        }
    }
    let cleared = json!({
        "audit_non_hmac_request_keys": "", "allowed_managed_keys": [], "identity_token_key": "",
        "trim_request_trailing_slashes": false, "listing_visibility": "", "options": { "odd": "1", "gone": "2" },
    });
    drop(harness.write("sys/mounts/tuned/tune", ROOT, cleared).await.expect_status(204));
    drop(harness.write("sys/mounts/tuned/tune", ROOT, json!({ "options": { "gone": "" } })).await.expect_status(204));
    let tune = harness.read("sys/mounts/tuned/tune", ROOT).await;
    for name in
        ["audit_non_hmac_request_keys", "allowed_managed_keys", "identity_token_key", "trim_request_trailing_slashes"]
    {
        assert!(tune.at("/data").get(name).is_none(), "{name}: {tune:?}");
    }
    assert_eq!(tune.at("/data/options"), &json!({ "odd": "1" }));

    let lockout = json!({ "lockout_threshold": "7", "lockout_duration": "1m" });
    let method = json!({ "type": "userpass", "config": { "user_lockout_config": lockout } });
    harness.prepare("POST", "sys/auth/people", method).await;
    for path in ["sys/auth", "sys/auth/people"] {
        let answer = harness.read(path, ROOT).await.expect_status(200);
        let of_it = if path == "sys/auth" { answer.at("/data/people~1") } else { answer.at("/data") };
        assert_eq!(of_it["config"]["user_lockout_config"]["user_lockout_threshold"], json!(7), "{answer:?}");
        assert_eq!(of_it["config"]["user_lockout_config"]["user_lockout_duration"], json!(60), "{answer:?}");
    }
    let tune = harness.read("sys/auth/people/tune", ROOT).await.expect_status(200);
    assert_eq!(tune.at("/user_lockout_threshold"), &json!(7), "at the top level too: {tune:?}");
    let again = harness.write("sys/auth/people", ROOT, json!({ "type": "userpass" })).await;
    again.expect_error(400, "path is already in use at people/");
    let seen = harness.read("sys/internal/ui/mounts/tuned", ROOT).await.expect_status(200);
    assert_eq!(seen.at("/data/config/max_lease_ttl"), &json!(2_764_800), "what is in effect: {seen:?}");
}

#[tokio::test]
async fn of_the_servers_own_mounts_only_what_audit_devices_show_is_tuned() {
    let harness = Harness::start().await;
    for path in ["sys", "cubbyhole"] {
        let tune = format!("sys/mounts/{path}/tune");
        drop(harness.write(&tune, ROOT, json!({ "audit_non_hmac_request_keys": "id" })).await.expect_status(204));
        for (name, value) in
            [("description", json!("mine")), ("max_lease_ttl", json!("1h")), ("options", json!({ "version": "2" }))]
        {
            let refused = harness.write(&tune, ROOT, json!({ name: value })).await;
            refused.expect_error(400, &format!("cannot tune parameter {name} of {path}/"));
        }
    }
    drop(harness.write("sys/auth/token/tune", ROOT, json!({ "max_lease_ttl": "1h" })).await.expect_status(204));
    let kind = json!({ "token_type": "batch" });
    harness.write("sys/auth/token/tune", ROOT, kind).await.expect_error(400, "'token_type' cannot be set for 'token'");
    harness.delete("sys/mounts/identity", ROOT).await.expect_error(400, "cannot unmount \"identity/\"");
}

#[tokio::test]
async fn a_slash_at_the_end_means_nothing_where_a_mount_is_tuned_so() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.write("kv/a/", ROOT, json!({ "x": 1 })).await.expect_error(400, "cannot write to a path");
    let trim = json!({ "trim_request_trailing_slashes": true });
    drop(harness.write("sys/mounts/kv/tune", ROOT, trim).await.expect_status(204));
    let policy = r#"
        path "kv/a" { capabilities = ["create", "update", "read", "list"] }
        path "sys/capabilities-self" { capabilities = ["update"] }
    "#;
    let token = harness.token_with(policy).await;
    drop(harness.write("kv/a//", &token, json!({ "x": 1 })).await.expect_status(204));
    assert_eq!(harness.read("kv/a/", &token).await.expect_status(200).at("/data/x"), &json!(1));
    harness.write("kv/b/", &token, json!({ "x": 1 })).await.expect_error(403, "permission denied");
    let asked = json!({ "paths": ["kv/a/"] });
    let shown = harness.write("sys/capabilities-self", &token, asked).await.expect_status(200);
    assert!(shown.at("/data/capabilities").as_array().unwrap().contains(&json!("read")), "{shown:?}");
    drop(harness.list("kv/", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn the_catalogue_says_what_can_be_mounted_and_that_nothing_else_can_be() {
    let harness = Harness::start().await;
    let catalog = harness.read("sys/plugins/catalog", ROOT).await.expect_status(200);
    assert!(catalog.at("/data/secret").as_array().unwrap().contains(&json!("kv")), "{catalog:?}");
    assert_eq!(catalog.at("/data/auth"), &json!(["approle", "github", "userpass"]));
    let running = harness.read("sys/mounts", ROOT).await.at("/data/sys~1/running_plugin_version").clone();
    let detailed = catalog.at("/data/detailed").as_array().unwrap().clone();
    let entry = json!({
        "type": "secret", "name": "kv", "version": running, "builtin": true, "deprecation_status": "supported",
    });
    assert!(detailed.contains(&entry), "{detailed:?}");
    assert_eq!(
        harness.list("sys/plugins/catalog/auth", ROOT).await.expect_status(200).at("/data/keys"),
        &json!(["approle", "github", "userpass"])
    );
    let databases = harness.list("sys/plugins/catalog/database", ROOT).await.expect_status(200);
    assert_eq!(databases.at("/data/keys"), catalog.at("/data/database"));
    assert!(databases.at("/data/keys").as_array().unwrap().contains(&json!("postgresql-database-plugin")));
    let one = harness.read("sys/plugins/catalog/database/mysql-rds-database-plugin", ROOT).await.expect_status(200);
    assert_eq!(one.at("/data/builtin"), &json!(true));
    for kind in ["auth", "database", "secret"] {
        drop(harness.read(&format!("sys/plugins/catalog/{kind}"), ROOT).await.expect_status(405));
    }
    harness.list("sys/plugins/catalog/odd", ROOT).await.expect_error(400, "not a supported plugin type");
    let kv = harness.read("sys/plugins/catalog/secret/kv", ROOT).await.expect_status(200);
    assert_eq!((kv.at("/data/builtin"), kv.at("/data/version")), (&json!(true), &running));
    assert_eq!((kv.at("/data/name"), kv.at("/data/sha256")), (&json!("kv"), &json!("")));
    for missing in ["auth/kv", "database/kv", "secret/odd", "secret/kv?version=v9.9.9"] {
        drop(harness.read(&format!("sys/plugins/catalog/{missing}"), ROOT).await.expect_status(404));
    }
    let register = json!({ "sha256": "00", "command": "own" });
    let own = "sys/plugins/catalog/secret/own";
    harness.write(own, ROOT, register.clone()).await.expect_error(400, "no external plugins");
    harness.write("sys/plugins/catalog/own", ROOT, register).await.expect_error(400, "no external plugins");
    drop(harness.delete(own, ROOT).await.expect_status(204));
    drop(harness.delete("sys/plugins/catalog/secret/kv", ROOT).await.expect_status(204));
    drop(harness.read("sys/plugins/catalog/secret/kv", ROOT).await.expect_status(200));
    let everything = harness.token_with(r#"path "*" { capabilities = ["read", "update", "list", "delete"] }"#).await;
    harness.read("sys/plugins/catalog/secret/kv", &everything).await.expect_error(403, "permission denied");

    assert_eq!(harness.read("sys/plugins/pins", ROOT).await.at("/data/pinned_versions"), &json!([]));
    let pin = "sys/plugins/pins/secret/kv";
    harness.write(pin, ROOT, json!({ "version": "v1.0.0" })).await.expect_error(400, "nothing can be pinned");
    drop(harness.read(pin, ROOT).await.expect_status(404));
    drop(harness.delete(pin, ROOT).await.expect_status(204));

    let version = running.as_str().unwrap();
    let of_version = |version: &str| json!({ "type": "kv", "plugin_version": version });
    harness.prepare("POST", "sys/mounts/versioned", of_version(version)).await;
    assert_eq!(harness.read("sys/mounts/versioned", ROOT).await.at("/data/plugin_version"), &running);
    harness.write("sys/mounts/odd", ROOT, of_version("v9.9.9")).await.expect_error(400, "not found in the catalog");
    let tune = harness.write("sys/mounts/versioned/tune", ROOT, json!({ "plugin_version": "v9.9.9" })).await;
    tune.expect_error(400, "not found in the catalog");
}

async fn instance(harness: &Harness, path: &str) -> u64 {
    let answer = harness.read(&format!("{path}/instance"), ROOT).await.expect_status(200);
    answer.at("/data/number").as_u64().unwrap()
}

#[tokio::test]
async fn an_engine_is_made_anew_when_that_is_ordered_and_no_other() {
    let harness = Harness::start().await;
    for path in ["one", "two"] {
        harness.prepare("POST", &format!("sys/mounts/{path}"), json!({ "type": "leasing" })).await;
    }
    let (one, two) = (instance(&harness, "one").await, instance(&harness, "two").await);
    let reload = "sys/plugins/reload/backend";
    let ordered = harness.write(reload, ROOT, json!({ "mounts": "one/" })).await.expect_status(200);
    assert_ne!(instance(&harness, "one").await, one);
    assert_eq!(instance(&harness, "two").await, two);
    let id = ordered.text_at("/data/reload_id");
    let status = format!("sys/plugins/reload/backend/status?reload_id={id}");
    let shown = harness.read(&status, ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data/results/one~1/error"), &json!(""), "{shown:?}");
    drop(harness.write(reload, ROOT, json!({ "plugin": "leasing", "scope": "global" })).await.expect_status(200));
    assert_ne!(instance(&harness, "two").await, two);
    drop(harness.read(&status, ROOT).await.expect_status(404));
    let before = instance(&harness, "two").await;
    drop(harness.write("sys/plugins/reload/secret/leasing", ROOT, json!({})).await.expect_status(200));
    assert_ne!(instance(&harness, "two").await, before);

    for (body, text) in [
        (json!({}), "plugin or mounts must be provided"),
        (json!({ "plugin": "kv", "mounts": ["one"] }), "cannot be set at the same time"),
        (json!({ "plugin": "odd" }), "plugin not found in the catalog"),
        (json!({ "mounts": ["one", "nowhere"] }), "cannot fetch mount entry on \"nowhere/\""),
        (json!({ "mounts": ["sys"] }), "cannot reload \"sys/\""),
    ] {
        let refused = harness.write(reload, ROOT, body).await;
        refused.expect_error(400, text);
    }
}

#[tokio::test]
async fn a_mount_of_a_type_that_is_not_known_keeps_nobody_else_from_being_served() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/strange", json!({ "type": "leasing" })).await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    harness.prepare("POST", "kv/a", json!({ "x": 1 })).await;
    let lease = harness.prepare("GET", "strange/creds/r?ttl=1h", Value::Null).await.text_at("/lease_id");
    harness.restart_without("leasing").await;
    drop(harness.read("kv/a", ROOT).await.expect_status(200));

    let nobody = harness.token(json!({ "policies": ["default"] })).await;
    harness.read("strange/creds/r", &nobody).await.expect_error(403, "permission denied");
    let reason = "mount \"strange/\" could not be loaded: plugin not found in the catalog: leasing";
    harness.read("strange/creds/r", ROOT).await.expect_error(503, reason);
    let listed = harness.read("sys/mounts", ROOT).await.expect_status(200);
    assert_eq!(listed.at("/data/strange~1/quarantined"), &json!("plugin not found in the catalog: leasing"));
    assert!(listed.at("/data/kv~1").get("quarantined").is_none());

    // It can be described, moved and tuned, and with the release that knows it, it is as it was.
    drop(harness.write("sys/mounts/strange/tune", ROOT, json!({ "description": "old" })).await.expect_status(204));
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": lease })).await;
    harness.restart().await;
    harness.unseal().await;
    assert_eq!(harness.read("sys/mounts/strange", ROOT).await.at("/data/description"), &json!("old"));
    drop(harness.read("strange/creds/r", ROOT).await.expect_status(200));
    harness.restart_without("leasing").await;
    drop(harness.delete("sys/mounts/strange", ROOT).await.expect_status(204));
    harness.read("strange/creds/r", ROOT).await.expect_error(404, "no handler for route");
    drop(harness.write("sys/mounts/strange", ROOT, json!({ "type": "kv" })).await.expect_status(204));
}

#[tokio::test]
async fn a_mount_whose_record_cannot_be_read_keeps_nobody_else_from_being_served() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/lost", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/mounts/kept", json!({ "type": "kv" })).await;
    drop(harness.write("lost/a", ROOT, json!({ "x": 1 })).await.expect_status(204));
    let id = harness.read("sys/mounts/lost", ROOT).await.text_at("/data/uuid").to_owned();
    let before = harness.store.dump();
    drop(harness.write("sys/mounts/lost/tune", ROOT, json!({ "description": "d" })).await.expect_status(204));
    harness.damage_since(&before);
    harness.restart().await;
    harness.unseal().await;
    drop(harness.write("kept/a", ROOT, json!({ "x": 1 })).await.expect_status(204));
    let listed = harness.read("sys/mounts", ROOT).await.expect_status(200);
    assert!(listed.at("/data").get("kept/").is_some() && listed.at("/data").get("lost/").is_none());
    // It is shown by its identity, and can be disabled by that.
    let at = format!("{id}/");
    let shown = listed.at("/data").get(&at).unwrap();
    assert_eq!((&shown["type"], &shown["uuid"]), (&json!("unknown"), &json!(id)));
    assert!(shown["quarantined"].is_string(), "{shown}");
    drop(harness.call("DELETE", &format!("sys/mounts/{id}"), ROOT, Value::Null).await.expect_status(204));
    assert!(harness.read("sys/mounts", ROOT).await.at("/data").get(&at).is_none());
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(harness.list("sys/unmount/status", ROOT).await.status, 404, "nothing of it is left");
    harness.restart().await;
    harness.unseal().await;
    let listed = harness.read("sys/mounts", ROOT).await.expect_status(200);
    assert!(listed.at("/data").get(&at).is_none() && listed.at("/data").get("kept/").is_some());
}

#[tokio::test]
async fn of_many_who_take_one_path_one_has_it_and_overlapping_paths_are_refused() {
    let harness = Harness::start().await;
    let enable = |path: &'static str| harness.write(path, ROOT, json!({ "type": "kv" }));
    let (one, two, three, four) = tokio::join!(
        enable("sys/mounts/a/b"),
        enable("sys/mounts/a/b"),
        enable("sys/mounts/a"),
        enable("sys/mounts/a/b/c")
    );
    let made = [one, two, three, four].iter().filter(|answer| answer.status == 204).count();
    assert_eq!(made, 1);
    let listed = harness.read("sys/mounts", ROOT).await;
    assert_eq!(listed.at("/data").as_object().unwrap().keys().filter(|path| path.starts_with("a/")).count(), 1);
}

/// What one client does, one after the other: chosen by a number, at one of a few paths.
async fn some_change(harness: &Harness, choice: u32) {
    let path = format!("p{}", choice % 4);
    let other = format!("p{}/deep", (choice / 4) % 4);
    let (method, at, body) = match (choice / 16) % 6 {
        0 | 1 => ("POST", format!("sys/mounts/{path}"), json!({ "type": "kv" })),
        2 => ("DELETE", format!("sys/mounts/{path}"), Value::Null),
        3 => ("POST", "sys/remount".to_owned(), json!({ "from": path, "to": other })),
        4 => ("POST", "sys/remount".to_owned(), json!({ "from": other, "to": path })),
        _ => ("POST", format!("sys/mounts/{path}/tune"), json!({ "options": { "version": "2" }, "description": "d" })),
    };
    let answer = harness.call(method, &at, ROOT, body).await;
    assert!(answer.status < 500, "{method} {at}: {answer:?}");
    // Whatever is there takes a write, or is not there; nothing hangs.
    let answer = harness.call("POST", &format!("{path}/s"), ROOT, json!({ "x": 1 })).await;
    assert!([204, 400, 404].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn a_storm_of_changes_with_crashes_leaves_a_table_that_is_what_is_stored() {
    let mut harness = Harness::start().await;
    let empty = harness.store.dump().len();
    let mut seed = 7_u32;
    for _ in 0..6 {
        let clients = (0..5).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (harness, first) = (&harness, seed >> 4);
            async move {
                for step in 0..12_u32 {
                    some_change(harness, first.wrapping_mul(step * 2 + 1) >> 3).await;
                }
            }
        });
        futures_util::future::join_all(clients).await;
        assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
        let listed = harness.read("sys/mounts", ROOT).await.expect_status(200);
        let paths: Vec<String> = listed.at("/data").as_object().unwrap().keys().cloned().collect();
        let overlaps = |path: &String| paths.iter().any(|other| other != path && other.starts_with(path.as_str()));
        assert!(!paths.iter().any(overlaps), "{paths:?}");
        harness.kill();
        harness.unseal().await;
        let again = harness.read("sys/mounts", ROOT).await.expect_status(200);
        assert_eq!(again.at("/data"), listed.at("/data"));
    }
    let listed = harness.read("sys/mounts", ROOT).await;
    for path in listed.at("/data").as_object().unwrap().keys().filter(|path| path.starts_with('p')) {
        drop(harness.delete(&format!("sys/mounts/{path}"), ROOT).await.expect_status(204));
    }
    for _ in 0..20 {
        harness.advance(std::time::Duration::from_secs(1)).await;
    }
    drop(harness.list("sys/unmount/status", ROOT).await.expect_status(404));
    // What is left is the record that takes turns.
    assert!(harness.store.dump().len() <= empty + 1);
}
