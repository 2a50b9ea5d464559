//! `sys/` on the wire: mounts, auth methods, tuning, moves, policies, capabilities, audit devices, the node's state.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_core::Settings;
use tresor_harness::{Answer, Harness, ROOT, assembly};

/// Checks that `data` is at top level too.
fn expect_mirrored(answer: &Answer) {
    for (name, value) in answer.at("/data").as_object().unwrap() {
        assert_eq!(answer.json.get(name), Some(value), "{name} at top level of {answer:?}");
    }
}

#[tokio::test]
async fn a_mount_is_listed_with_everything_that_clients_read() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/plain", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/mounts/deep/two", json!({ "type": "kv", "options": { "version": 2 } })).await;
    let answer = harness.read("sys/mounts", ROOT).await.expect_status(200);
    expect_mirrored(&answer);
    let plain = answer.json["data"]["plain/"].as_object().unwrap();
    let fields: Vec<&str> = plain.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "accessor",
            "config",
            "deprecation_status",
            "description",
            "external_entropy_access",
            "local",
            "options",
            "plugin_version",
            "running_plugin_version",
            "running_sha256",
            "seal_wrap",
            "type",
            "uuid"
        ]
    );
    assert_eq!(plain["config"], json!({ "default_lease_ttl": 0, "force_no_cache": false, "max_lease_ttl": 0 }));
    assert_eq!((&plain["options"], &plain["description"], &plain["type"]), (&json!({}), &json!(""), &json!("kv")));
    assert_eq!(answer.json["data"]["deep/two/"]["options"], json!({ "version": "2" }));
    assert_eq!(answer.json["data"]["sys/"]["options"], Value::Null);
    for (path, description) in [
        ("sys/", "system endpoints used for control, policy and debugging"),
        ("cubbyhole/", "per-token private secret storage"),
    ] {
        assert_eq!(answer.json["data"][path]["description"], json!(description));
    }
    assert_eq!(answer.json["data"]["cubbyhole/"]["local"], json!(true));
    assert!(answer.json["data"].get("secret/").is_none(), "only a dev server has it");
    let auth = harness.read("sys/auth", ROOT).await.expect_status(200);
    expect_mirrored(&auth);
    assert_eq!(auth.json["data"]["token/"]["description"], json!("token based credentials"));
    assert_eq!(auth.json["data"]["token/"]["config"]["token_type"], json!("default-service"));
}

#[tokio::test]
async fn the_spellings_of_kv_are_one_type_with_a_version() {
    let harness = Harness::start().await;
    for (kind, version) in [("kv-v1", "1"), ("kv-v2", "2"), ("generic", "1")] {
        harness.prepare("POST", &format!("sys/mounts/{kind}"), json!({ "type": kind })).await;
        let answer = harness.read(&format!("sys/mounts/{kind}"), ROOT).await;
        assert_eq!(answer.at("/data/type"), &json!("kv"));
        assert_eq!(answer.at("/data/options"), &json!({ "version": version }));
        expect_mirrored(&answer);
    }
}

#[tokio::test]
async fn a_taken_path_is_refused_and_a_missing_mount_is_gone_already() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/a", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/auth/a", json!({ "type": "userpass" })).await;
    let kv = json!({ "type": "kv" });
    harness.write("sys/mounts/a", ROOT, kv.clone()).await.expect_error(400, "path is already in use at a/");
    harness.write("sys/mounts/a/b", ROOT, kv.clone()).await.expect_error(400, "path is already in use at a/");
    let again = harness.write("sys/auth/a", ROOT, json!({ "type": "userpass" })).await;
    again.expect_error(400, "path is already in use at a/");
    harness.write("sys/mounts/auth/b", ROOT, kv.clone()).await.expect_error(400, "path is already in use");
    harness.write("sys/mounts/b", ROOT, json!({ "type": "nothing" })).await.expect_error(400, "nothing");
    harness.write("sys/mounts/b", ROOT, json!({})).await.expect_error(400, "type");
    drop(harness.delete("sys/mounts/none", ROOT).await.expect_status(204));
    drop(harness.delete("sys/auth/none", ROOT).await.expect_status(204));
    harness.read("sys/mounts/none", ROOT).await.expect_error(400, "No secret engine mount at none/");
    harness.read("sys/auth/none", ROOT).await.expect_error(400, "No auth engine at none/");
    for path in ["sys/mounts/sys", "sys/mounts/cubbyhole", "sys/auth/token"] {
        harness.delete(path, ROOT).await.expect_error(400, "cannot unmount");
    }
    drop(harness.delete("sys/mounts/a", ROOT).await.expect_status(204));
    harness.read("a/x", ROOT).await.expect_error(404, "no handler for route");
    drop(harness.write("sys/mounts/a/b", ROOT, kv).await.expect_status(204));
}

#[tokio::test]
async fn tuning_shows_seconds_in_effect_and_changes_only_what_is_sent() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/a", json!({ "type": "kv", "description": "first" })).await;
    let tuned =
        |answer: &Answer| (answer.at("/data/default_lease_ttl").clone(), answer.at("/data/max_lease_ttl").clone());
    let answer = harness.read("sys/mounts/a/tune", ROOT).await.expect_status(200);
    assert_eq!(tuned(&answer), (json!(2_764_800), json!(2_764_800)));
    let body = json!({ "default_lease_ttl": "1h", "max_lease_ttl": 7200, "description": "second" });
    drop(harness.write("sys/mounts/a/tune", ROOT, body).await.expect_status(204));
    let answer = harness.read("sys/mounts/a/tune", ROOT).await;
    assert_eq!(tuned(&answer), (json!(3600), json!(7200)));
    assert_eq!(answer.at("/data/description"), &json!("second"));
    let body = json!({ "default_lease_ttl": "system", "max_lease_ttl": "system", "description": null });
    drop(harness.write("sys/mounts/a/tune", ROOT, body).await.expect_status(204));
    let answer = harness.read("sys/mounts/a/tune", ROOT).await;
    assert_eq!(tuned(&answer), (json!(2_764_800), json!(2_764_800)));
    assert_eq!(answer.at("/data/description"), &json!("second"));
    let body = json!({ "default_lease_ttl": "3h", "max_lease_ttl": "2h" });
    harness.write("sys/mounts/a/tune", ROOT, body).await.expect_error(400, "max lease TTL");
    harness.write("sys/mounts/a/tune", ROOT, json!({ "max_lease_ttl": -1 })).await.expect_error(400, "max_lease_ttl");
    harness.read("sys/mounts/none/tune", ROOT).await.expect_error(400, "no mount");
}

#[tokio::test]
async fn auth_methods_are_tuned_by_either_path_and_the_shorter_one_needs_no_sudo() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    drop(harness.write("sys/auth/people/tune", ROOT, json!({ "max_lease_ttl": "1234h" })).await.expect_status(204));
    let policy = r#"path "sys/mounts/auth/people/tune" { capabilities = ["read", "update"] }
                    path "sys/auth/people/tune" { capabilities = ["read", "update"] }"#;
    let token = harness.token_with(policy).await;
    let answer = harness.read("sys/mounts/auth/people/tune", &token).await.expect_status(200);
    assert_eq!(answer.at("/data/max_lease_ttl"), &json!(4_442_400));
    assert_eq!(answer.at("/data/token_type"), &json!("default-service"));
    let body = json!({ "description": "everybody" });
    drop(harness.write("sys/mounts/auth/people/tune", &token, body).await.expect_status(204));
    harness.read("sys/auth/people/tune", &token).await.expect_error(403, "permission denied");
    let answer = harness.read("sys/auth/people/tune", ROOT).await.expect_status(200);
    assert_eq!(answer.at("/data/description"), &json!("everybody"));
}

#[tokio::test]
async fn an_auth_method_may_be_called_auth() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/auth", json!({ "type": "userpass" })).await;
    assert!(harness.read("sys/auth", ROOT).await.json["data"].get("auth/").is_some());
    let visible = harness.read("sys/internal/ui/mounts", ROOT).await;
    assert!(visible.json["data"]["auth"].get("auth/").is_some());
    drop(harness.read("sys/mounts/auth/auth/tune", ROOT).await.expect_status(200));
    harness.prepare("POST", "auth/auth/users/bob", json!({ "password": "x" })).await;
    let login = harness.write("auth/auth/login/bob", "", json!({ "password": "x" })).await.expect_status(200);
    let shown = harness.read("auth/token/lookup-self", &login.text_at("/auth/client_token")).await;
    assert_eq!(shown.at("/data/display_name"), &json!("auth-bob"));
    drop(harness.delete("sys/auth/auth", ROOT).await.expect_status(204));
}

#[tokio::test]
async fn a_move_is_done_when_it_is_answered_and_can_be_asked_about() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/from", json!({ "type": "kv" })).await;
    harness.prepare("POST", "from/a", json!({ "k": "v" })).await;
    let answer = harness.write("sys/remount", ROOT, json!({ "from": "from", "to": "to/" })).await.expect_status(200);
    let status = format!("sys/remount/status/{}", answer.text_at("/data/migration_id"));
    let moved = harness.read(&status, ROOT).await.expect_status(200);
    let info = json!({ "source_mount": "from/", "target_mount": "to/", "status": "success" });
    assert_eq!(moved.at("/data/migration_info"), &info);
    assert_eq!(harness.read("to/a", ROOT).await.at("/data/k"), &json!("v"));
    harness.read("from/a", ROOT).await.expect_error(404, "no handler for route");
    let again = harness.write("sys/remount", ROOT, json!({ "from": "to", "to": "/third" })).await.expect_status(200);
    assert_ne!(again.at("/data/migration_id"), answer.at("/data/migration_id"), "each move has a name of its own");
    harness.prepare("POST", "sys/auth/one", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "sys/remount", json!({ "from": "auth/one", "to": "auth/two/" })).await;
    assert!(harness.read("sys/auth", ROOT).await.json["data"].get("two/").is_some());
    for (from, to, text) in [
        ("none", "other", "no matching mount"),
        ("third", "cubbyhole", "path is already in use"),
        ("sys", "other", "cannot remount"),
        ("auth/two", "other", "cannot remount"),
    ] {
        harness.write("sys/remount", ROOT, json!({ "from": from, "to": to })).await.expect_error(400, text);
    }
    drop(harness.read("sys/remount/status/none", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn mounts_are_shown_to_those_who_may_see_them() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/hidden", json!({ "type": "kv" })).await;
    let open = json!({ "type": "kv-v2", "config": { "listing_visibility": "unauth" } });
    harness.prepare("POST", "sys/mounts/open", open).await;
    let nobody = harness.read("sys/internal/ui/mounts", "").await.expect_status(200);
    let shown = json!({ "open/": { "type": "kv", "description": "", "options": { "version": "2" } } });
    assert_eq!(nobody.at("/data"), &json!({ "secret": shown, "auth": {} }));
    for path in ["hidden", "open", "none", "open/x"] {
        let path = format!("sys/internal/ui/mounts/{path}");
        harness.read(&path, "").await.expect_error(403, "permission denied");
    }
    let token = harness.token_with(r#"path "open/data/*" { capabilities = ["read"] }"#).await;
    for path in ["open", "open/", "open/data/a/b"] {
        let answer = harness.read(&format!("sys/internal/ui/mounts/{path}"), &token).await.expect_status(200);
        assert_eq!(answer.at("/data/path"), &json!("open/"));
        assert_eq!(answer.at("/data/options/version"), &json!("2"));
    }
    for path in ["hidden", "none"] {
        let path = format!("sys/internal/ui/mounts/{path}");
        harness.read(&path, &token).await.expect_error(403, "permission denied");
    }
}

#[tokio::test]
async fn policies_have_two_spellings_and_come_back_verbatim() {
    let harness = Harness::start().await;
    let text = "# a comment\npath \"a/*\" {\n\tpolicy = \"write\"\n}\n";
    let older = harness.call("PUT", "sys/policy/Mixed", ROOT, json!({ "rules": text })).await.expect_status(200);
    assert_eq!(older.at("/warnings/0"), &json!("'rules' is deprecated, please use 'policy' instead"));
    let old = harness.read("sys/policy/mixed", ROOT).await.expect_status(200);
    expect_mirrored(&old);
    assert_eq!((old.at("/data/name"), old.at("/data/rules")), (&json!("mixed"), &json!(text)));
    let new = harness.read("sys/policies/acl/MIXED", ROOT).await.expect_status(200);
    assert_eq!((new.at("/data/name"), new.at("/data/policy")), (&json!("mixed"), &json!(text)));
    let names = json!(["default", "mixed", "root"]);
    for answer in [harness.read("sys/policy", ROOT).await, harness.list("sys/policy", ROOT).await] {
        expect_mirrored(&answer);
        assert_eq!((answer.at("/data/keys"), answer.at("/data/policies")), (&names, &names));
    }
    assert_eq!(harness.list("sys/policies/acl", ROOT).await.at("/data"), &json!({ "keys": names }));
    assert_eq!(harness.read("sys/policy/root", ROOT).await.at("/data/rules"), &json!(""));
    drop(harness.write("sys/policies/acl/empty", ROOT, json!({ "policy": "{}" })).await.expect_status(204));
    harness.write("sys/policies/acl/root", ROOT, json!({ "policy": text })).await.expect_error(400, "cannot update");
    harness.delete("sys/policies/acl/root", ROOT).await.expect_error(400, "cannot delete \"root\" policy");
    harness.delete("sys/policies/acl/default", ROOT).await.expect_error(400, "cannot delete \"default\" policy");
    harness.write("sys/policies/acl/x", ROOT, json!({})).await.expect_error(400, "policy");
    let bad = json!({ "policy": "path \"x\" { capabilities = [\"fly\"] }" });
    harness.write("sys/policies/acl/x", ROOT, bad).await.expect_error(400, "invalid capability");
    drop(harness.delete("sys/policies/acl/none", ROOT).await.expect_status(204));
    drop(harness.delete("sys/policy/mixed", ROOT).await.expect_status(204));
    assert_eq!(harness.read("sys/policies/acl/mixed", ROOT).await.expect_status(404).bytes, br#"{"errors":[]}"#);
}

#[tokio::test]
async fn capabilities_have_one_key_per_path_and_one_for_a_single_path() {
    let harness = Harness::start().await;
    let made = harness.prepare("POST", "auth/token/create", json!({ "policies": "p" })).await;
    let policy =
        r#"path "a/*" { capabilities = ["read", "list"] } path "sys/capabilities*" { capabilities = ["update"] }"#;
    harness.prepare("POST", "sys/policies/acl/p", json!({ "policy": policy })).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    let both = json!({ "a/x": ["list", "read"], "b": ["deny"] });
    for (path, body) in [
        ("sys/capabilities-self", json!({ "paths": ["a/x", "b"] })),
        ("sys/capabilities-self", json!({ "paths": "a/x,b" })),
        ("sys/capabilities", json!({ "paths": ["a/x", "b"], "token": token })),
        ("sys/capabilities-accessor", json!({ "paths": ["a/x", "b"], "accessor": accessor })),
    ] {
        let answer = harness.write(path, &token, body).await.expect_status(200);
        expect_mirrored(&answer);
        assert_eq!(answer.at("/data"), &both, "{path}");
    }
    let answer = harness.write("sys/capabilities-self", &token, json!({ "path": "a/x" })).await;
    assert_eq!(answer.at("/data/capabilities"), &json!(["list", "read"]));
    let answer = harness.write("sys/capabilities-self", ROOT, json!({ "path": "a/x" })).await;
    assert_eq!(answer.at("/data/capabilities"), &json!(["root"]));
    harness.write("sys/capabilities-self", &token, json!({})).await.expect_error(400, "paths");
    let unknown = json!({ "token": "unknown", "paths": ["a"] });
    harness.write("sys/capabilities", &token, unknown).await.expect_error(400, "invalid token");
    let unknown = json!({ "accessor": "unknown", "paths": ["a"] });
    harness.write("sys/capabilities-accessor", &token, unknown).await.expect_error(400, "invalid accessor");
}

#[tokio::test]
async fn what_the_reference_guards_by_sudo_is_guarded_by_sudo() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    let guarded = [
        ("GET", "sys/auth/people", Value::Null),
        ("POST", "sys/auth/more", json!({ "type": "userpass" })),
        ("DELETE", "sys/auth/people", Value::Null),
        ("GET", "sys/auth/people/tune", Value::Null),
        ("POST", "sys/auth/people/tune", json!({})),
        ("POST", "sys/remount", json!({ "from": "auth/people", "to": "auth/folk" })),
        ("GET", "sys/audit", Value::Null),
        ("POST", "sys/audit/file", json!({ "type": "file" })),
        ("DELETE", "sys/audit/file", Value::Null),
        ("POST", "sys/seal", Value::Null),
        ("LIST", "auth/token/accessors", Value::Null),
        ("POST", "auth/token/create-orphan", json!({})),
        ("POST", "auth/token/revoke-orphan", json!({ "token": "x" })),
    ];
    let all = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "patch"] }"#;
    let token = harness.token_with(all).await;
    for (method, path, body) in guarded {
        let answer = harness.call(method, path, &token, body).await;
        answer.expect_error(403, "permission denied");
    }
    drop(harness.read("sys/mounts", &token).await.expect_status(200));
}

#[tokio::test]
async fn audit_devices_are_listed_and_hash_as_their_records_do() {
    let harness = Harness::start().await;
    assert_eq!(harness.read("sys/audit", ROOT).await.expect_status(200).at("/data"), &json!({}));
    harness.enable_audit().await;
    let answer = harness.read("sys/audit", ROOT).await.expect_status(200);
    expect_mirrored(&answer);
    assert_eq!(answer.json["data"]["file/"]["type"], json!("file"));
    let hash = harness.write("sys/audit-hash/file", ROOT, json!({ "input": "x" })).await.text_at("/data/hash");
    assert!(hash.starts_with("hmac-sha256:") && hash.len() == 76, "{hash}");
    let unknown = harness.write("sys/audit-hash/none", ROOT, json!({ "input": "x" })).await;
    unknown.expect_error(400, "unknown audit backend");
    harness.write("sys/audit/x", ROOT, json!({ "type": "none" })).await.expect_error(400, "none");
    drop(harness.delete("sys/audit/file", ROOT).await.expect_status(204));
    drop(harness.delete("sys/audit/file", ROOT).await.expect_status(204));
}

#[tokio::test]
async fn the_state_of_the_node_is_told_to_everybody_in_every_state() {
    let harness = Harness::uninitialized();
    assert_eq!(harness.read("sys/init", "").await.expect_status(200).json, json!({ "initialized": false }));
    drop(harness.read("sys/health", "").await.expect_status(501));
    drop(harness.read("sys/health?uninitcode=200", "").await.expect_status(200));
    let status = harness.read("sys/seal-status", "").await.expect_status(200);
    assert_eq!((status.at("/initialized"), status.at("/sealed")), (&json!(false), &json!(true)));
    assert!(status.json.get("cluster_id").is_none());
    let body = json!({ "secret_shares": 3, "secret_threshold": 2, "pgp_keys": null });
    let made = harness.call("PUT", "sys/init", "", body.clone()).await.expect_status(200);
    let fields: Vec<&String> = made.json.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["keys", "keys_base64", "root_token"]);
    harness.call("PUT", "sys/init", "", body).await.expect_error(400, "Vault is already initialized");

    drop(harness.read("sys/health", "").await.expect_status(503));
    drop(harness.read("sys/health?sealedcode=299&standbyok=true", "").await.expect_status(299));
    harness.read("sys/health?sealedcode=x", "").await.expect_error(400, "sealedcode");
    let health = harness.read("sys/health", "").await;
    assert_eq!(health.at("/replication_dr_mode"), &json!("unknown"));
    harness.read("sys/mounts", ROOT).await.expect_error(503, "Vault is sealed");
    harness.read("any/path", ROOT).await.expect_error(503, "Vault is sealed");

    let first = json!({ "key": made.json["keys"][0] });
    let entered = harness.write("sys/unseal", "", first.clone()).await.expect_status(200);
    assert_eq!((entered.at("/progress"), entered.at("/sealed")), (&json!(1), &json!(true)));
    assert!(!entered.text_at("/nonce").is_empty());
    let repeated = harness.write("sys/unseal", "", first).await.expect_status(200);
    assert_eq!(repeated.at("/progress"), &json!(1), "a repeated share does not advance");
    let reset = harness.write("sys/unseal", "", json!({ "reset": true })).await.expect_status(200);
    assert_eq!((reset.at("/progress"), reset.at("/nonce")), (&json!(0), &json!("")));
    harness.write("sys/unseal", "", json!({ "key": "not a key!" })).await.expect_error(400, "hex or base64");
    // The foreign share is well-formed: the last byte of a share only says which one it is.
    let mut foreign = made.text_at("/keys/1");
    foreign.replace_range(0..2, if foreign.starts_with("00") { "01" } else { "00" });
    drop(harness.write("sys/unseal", "", json!({ "key": made.json["keys"][0] })).await.expect_status(200));
    harness.write("sys/unseal", "", json!({ "key": foreign })).await.expect_error(400, "");
    assert_eq!(harness.read("sys/seal-status", "").await.at("/progress"), &json!(0), "wrong shares start again");
    harness.write("sys/unseal", "", json!({ "key": "abcd" })).await.expect_error(400, "");
    for share in 1..3 {
        let spelled = if share == 1 { "keys" } else { "keys_base64" };
        drop(harness.write("sys/unseal", "", json!({ "key": made.json[spelled][share] })).await.expect_status(200));
    }
    let status = harness.read("sys/seal-status", "").await;
    assert_eq!((status.at("/sealed"), status.at("/t"), status.at("/n")), (&json!(false), &json!(2), &json!(3)));
    assert_eq!((status.at("/type"), status.at("/nonce")), (&json!("shamir"), &json!("")));
    assert!(!status.text_at("/cluster_id").is_empty());
    let again = harness.write("sys/unseal", "", json!({ "key": made.json["keys"][0] })).await.expect_status(200);
    assert_eq!(again.at("/sealed"), &json!(false), "unsealing an unsealed node is no error");

    let health = harness.read("sys/health", "").await.expect_status(200);
    assert!(health.at("/server_time_utc").is_i64() && health.at("/standby") == &json!(false));
    assert_eq!(health.at("/replication_performance_mode"), &json!("disabled"));
    let leader = harness.read("sys/leader", "").await.expect_status(200);
    assert_eq!((leader.at("/ha_enabled"), leader.at("/is_self")), (&json!(false), &json!(false)));
    assert_eq!((leader.at("/leader_address"), leader.at("/leader_cluster_address")), (&json!(""), &json!("")));

    let root = made.text_at("/root_token");
    harness.write("sys/seal", "", Value::Null).await.expect_error(403, "permission denied");
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    assert_eq!(harness.read("sys/seal-status", "").await.at("/sealed"), &json!(true));
}

#[tokio::test]
async fn settings_without_effect_are_kept_and_said_to_be_so() {
    let harness = Harness::start().await;
    for name in ["passthrough_request_headers", "allowed_response_headers"] {
        let config = json!({ name: ["X-One"] });
        let enable = json!({ "type": "kv", "config": config });
        let tune = json!({ name: "X-Two" });
        for (path, body, kept) in
            [(format!("sys/mounts/{name}"), enable, "X-One"), (format!("sys/mounts/{name}/tune"), tune, "X-Two")]
        {
            let answer = harness.write(&path, ROOT, body).await.expect_status(200);
            assert!(answer.text_at("/warnings/0").contains(name), "{answer:?}");
            assert!(answer.text_at("/warnings/0").contains("an engine of type `kv`"), "{answer:?}");
            let shown = harness.read(&format!("sys/mounts/{name}/tune"), ROOT).await.expect_status(200);
            assert_eq!(shown.at("/data")[name], json!([kept]));
        }
        let quiet = json!({ "description": "d", name: "" });
        drop(harness.write(&format!("sys/mounts/{name}/tune"), ROOT, quiet).await.expect_status(204));
    }
}

#[tokio::test]
async fn tools_make_random_bytes_and_hashes() {
    let harness = Harness::start().await;
    let random = |path: &'static str, body: Value| harness.write(path, ROOT, body);
    let made = random("sys/tools/random", json!({})).await.expect_status(200).text_at("/data/random_bytes");
    assert_eq!(made.len(), 44);
    assert_ne!(random("sys/tools/random", json!({})).await.text_at("/data/random_bytes"), made);
    for (path, body, length) in [
        ("sys/tools/random/5", json!({ "format": "hex" }), 10),
        ("sys/tools/random/all/8", json!({ "format": "hex", "bytes": 3 }), 16),
        ("sys/tools/random/seal", json!({ "format": "hex", "bytes": "3" }), 6),
    ] {
        assert_eq!(random(path, body).await.expect_status(200).text_at("/data/random_bytes").len(), length, "{path}");
    }
    for (path, body, text) in [
        ("sys/tools/random/0", json!({}), "'bytes' cannot be less than 1"),
        ("sys/tools/random/200000", json!({}), "'bytes' should be less than 131072"),
        ("sys/tools/random/moon/4", json!({}), "unsupported entropy source"),
        ("sys/tools/random", json!({ "format": "x" }), "must be \"hex\" or \"base64\""),
        ("sys/tools/hash/md5", json!({ "input": "aGVsbG8=" }), "unsupported algorithm"),
        ("sys/tools/hash", json!({ "input": "%%" }), "unable to decode input as base64"),
        ("sys/tools/hash", json!({ "input": "", "format": "x" }), "must be \"hex\" or \"base64\""),
    ] {
        random(path, body).await.expect_error(400, text);
    }
    // As the reference answers.
    for (path, body, sum) in [
        (
            "sys/tools/hash",
            json!({ "input": "aGVsbG8=" }),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        ),
        ("sys/tools/hash", json!({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("sys/tools/hash/sha3-224", json!({ "input": "" }), "6b4e03423667dbb73b6e15454f0eb1abd4597f9a1b078e3f5b5a6bc7"),
        (
            "sys/tools/hash/sha3-256",
            json!({ "input": "aGVsbG8=" }),
            "3338be694f50c5f338814986cdf0686453a888b84f424d792af4b9202398f392",
        ),
        (
            "sys/tools/hash/sha2-512",
            json!({ "input": "aGVsbG8=", "format": "base64", "algorithm": "sha2-256" }),
            "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==",
        ),
    ] {
        assert_eq!(random(path, body).await.expect_status(200).at("/data"), &json!({ "sum": sum }));
    }
}

#[tokio::test]
async fn a_request_is_shown_without_its_token_where_that_is_configured() {
    let path = "sys/internal/inspect/request";
    let harness = Harness::start().await;
    harness.read(path, ROOT).await.expect_error(400, "introspection_endpoint");
    let harness = Harness::start_with(Settings { shows_requests: true, ..assembly::settings() }).await;
    let may = "path \"sys/internal/inspect/request\" { capabilities = [\"read\"] }";
    let powerless = harness.token_with(may).await;
    harness.read(path, &powerless).await.expect_error(403, "permission denied");
    let token = harness.token_with(&may.replace("\"read\"", "\"read\", \"sudo\"")).await;
    let answer = harness.read(path, &token).await.expect_status(200);
    assert!(!answer.json.to_string().contains(&token));
    let own = harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_status(200);
    let req = answer.at("/data/req");
    assert_eq!(&req["client_token_accessor"], own.at("/data/accessor"));
    for (field, expected) in [
        ("operation", "read"),
        ("path", "internal/inspect/request"),
        ("mount_point", "sys/"),
        ("mount_type", "system"),
        ("display_name", "token"),
    ] {
        assert_eq!(req[field], expected, "{field}");
    }
    assert_eq!(req["connection"]["remote_addr"], "127.0.0.1");
    assert_eq!((answer.at("/data/entity"), answer.at("/data/groups")), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn an_operator_can_look_at_a_node() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let data = |path: &'static str| async { harness.read(path, ROOT).await.expect_status(200).at("/data").clone() };
    let before = data("sys/internal/counters/tokens").await;
    drop(harness.token(json!({ "ttl": "1h" })).await);
    let count = |of: &Value| of["counters"]["service_tokens"]["total"].as_u64().unwrap();
    assert_eq!(count(&data("sys/internal/counters/tokens").await), count(&before) + 1);
    assert_eq!(data("sys/internal/counters/entities").await, json!({ "counters": { "entities": { "total": 0 } } }));
    harness.read("sys/internal/counters/requests", ROOT).await.expect_error(404, "has been removed on this path");
    let paths = data("sys/internal/inspect/router/root").await;
    let paths: Vec<_> = paths["root"].as_array().unwrap().iter().map(|entry| entry["mount_path"].clone()).collect();
    assert_eq!(paths, ["token/", "cubbyhole/", "kv/", "sys/"]);
    drop(harness.read("sys/internal/inspect/router/x", ROOT).await.expect_status(400));
    assert!(data("sys/host-info").await["timestamp"].is_string());
    drop(data("sys/config/state/sanitized").await);
    let history = harness.list("sys/version-history", ROOT).await.expect_status(200);
    let release = env!("CARGO_PKG_VERSION");
    assert_eq!(history.at("/data/keys"), &json!([release]));
    let info = &history.at("/data/key_info")[release];
    assert_eq!((&info["previous_version"], info["timestamp_installed"].is_string()), (&Value::Null, true));
    harness.read("sys/monitor", ROOT).await.expect_error(404, "the log cannot be watched here");
    drop(data("sys/loggers").await);
    harness.write("sys/loggers", ROOT, json!({})).await.expect_error(400, "level is required");
    harness.write("sys/loggers/nope", ROOT, json!({ "level": "info" })).await.expect_error(400, "logger not found");
    assert_eq!(data("sys/internal/ui/version").await["version"], harness.read("sys/health", "").await.json["version"]);
}
