//! How much there is in a cluster, and that nothing is replicated to another one.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn sys_31_programs_are_told_that_nothing_is_replicated_and_whoever_wants_it_is_refused() {
    let mut harness = Harness::start().await;
    let off = json!({ "mode": "disabled" });
    for token in ["", ROOT] {
        let both = harness.read("sys/replication/status", token).await.expect_status(200);
        // The older of the two shapes has one mode, the newer one of each kind.
        assert_eq!(both.at("/data"), &json!({ "mode": "disabled", "dr": off, "performance": off }));
        for kind in ["dr", "performance"] {
            let one = harness.read(&format!("sys/replication/{kind}/status"), token).await.expect_status(200);
            assert_eq!(one.at("/data"), &off);
        }
    }
    for path in [
        "dr/primary/enable",
        "dr/secondary/promote",
        "dr/secondary/generate-operation-token/attempt",
        "performance/primary/secondary-token",
        "performance/primary/paths-filter/x",
        "reindex",
        "recover",
    ] {
        let path = format!("sys/replication/{path}");
        harness.write(&path, ROOT, json!({})).await.expect_error(400, "replication between clusters is not supported");
        harness.read(&path, ROOT).await.expect_error(404, "replication between clusters is not supported");
        harness.delete(&path, ROOT).await.expect_error(400, "replication between clusters is not supported");
        // Whoever may not know learns nothing.
        harness.write(&path, "", json!({})).await.expect_error(403, "permission denied");
    }
    harness.restart().await;
    assert_eq!(harness.read("sys/replication/status", "").await.status, 503);
}

#[tokio::test]
async fn sys_17_a_report_says_how_much_there_is_and_shows_no_value() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let report = async || harness.read("sys/utilization-report", ROOT).await.expect_status(200);
    let before = report().await;
    assert_eq!(before.at("/data/namespaces"), 1);
    assert_eq!(before.at("/data/secret_engines/system"), 1);
    assert_eq!(before.at("/data/lease_count_quotas"), &json!({ "total_lease_count_quotas": 0 }));
    let tokens = before.at("/data/leases_by_auth_method/token").as_u64().unwrap();
    for (method, path, body) in [
        ("POST", "sys/mounts/one", json!({ "type": "kv-v1" })),
        ("POST", "sys/mounts/two", json!({ "type": "kv-v2" })),
        ("POST", "one/a", json!({ "value": "planted" })),
        ("POST", "one/deep/er/b", json!({ "value": "planted" })),
        ("POST", "two/data/a", json!({ "data": { "value": "planted" } })),
        ("POST", "two/data/a", json!({ "data": { "value": "planted" } })),
        ("POST", "two/data/deep/b", json!({ "data": { "value": "planted" } })),
        ("POST", "sys/auth/approle", json!({ "type": "approle" })),
        ("POST", "auth/approle/role/r", json!({})),
        ("POST", "sys/auth/userpass", json!({ "type": "userpass" })),
        ("POST", "auth/userpass/users/u", json!({ "password": "planted" })),
        ("POST", "auth/userpass/login/u", json!({ "password": "planted" })),
        ("POST", "sys/namespaces/team", json!({})),
        ("POST", "team/sys/mounts/kv", json!({ "type": "kv-v2" })),
        ("POST", "team/kv/data/c", json!({ "data": { "value": "planted" } })),
        ("POST", "sys/policies/acl/p", json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" })),
        ("POST", "sys/policies/rotation/r", json!({ "max_retries_per_cycle": 1, "max_retry_cycles": 1 })),
        ("POST", "sys/quotas/lease-count/all", json!({ "path": "", "max_leases": 1000, "inheritable": true })),
        ("POST", "sys/quotas/rate-limit/all", json!({ "rate": 100_000 })),
    ] {
        harness.prepare(method, path, body).await;
    }
    drop(harness.token(json!({ "policies": ["default"], "ttl": "1h" })).await);
    let after = report().await;
    assert!(!String::from_utf8_lossy(&after.bytes).contains("planted"));
    for (name, expected) in [
        ("namespaces", json!(2)),
        ("sealed_namespaces", json!(0)),
        ("kvv1_secrets", json!(2)),
        ("kvv2_secrets", json!(3)),
        ("kvv2_versions", json!(4)),
        ("auth_methods", json!({ "token": 2, "approle": 1, "userpass": 1 })),
        ("leases_by_auth_method", json!({ "token": tokens + 1, "approle": 0, "userpass": 1 })),
        ("pki", json!({ "total_issuers": 0, "total_roles": 0 })),
        (
            "replication_status",
            json!({ "dr_primary": false, "dr_state": "disabled", "pr_primary": false, "pr_state": "disabled" }),
        ),
        ("rate_limit_quotas", json!(1)),
        ("seal_type", json!("shamir")),
        ("storage_type", json!("inmem")),
        ("nodes", json!(1)),
        ("complete", json!(true)),
    ] {
        assert_eq!(after.at(&format!("/data/{name}")), &expected, "{name}");
    }
    assert_eq!(after.at("/data/policies/rotation"), 1);
    assert_eq!(after.at("/data/secret_engines/kv"), 3);
    assert_eq!(after.at("/data/audit_devices").as_object().unwrap().len(), 1);
    let global = after.at("/data/lease_count_quotas/global_lease_count_quota");
    assert_eq!((&global["name"], &global["capacity"]), (&json!("all"), &json!(1000)));
    assert_eq!(global["count"], tokens + 2);
    assert_eq!(after.at("/data/holdings/approle"), &json!({ "roles": 1, "secret_ids": 0 }));
    assert_eq!(after.at("/data/holdings/userpass"), &json!({ "users": 1 }));
    let mounts = after.at("/data/mounts").as_array().unwrap();
    let of = |path: &str| mounts.iter().find(|mount| mount["path"] == path).unwrap();
    assert_eq!(of("two/"), &json!({ "path": "two/", "type": "kv", "leases": 0, "secrets": 2, "versions": 3 }));
    assert_eq!(of("team/kv/")["secrets"], 1);
}

#[tokio::test]
async fn sys_17_a_report_is_about_the_whole_server_and_for_whom_a_policy_lets() {
    let harness = Harness::start().await;
    let rule = r#"path "sys/utilization-report" { capabilities = ["read"] }"#;
    let allowed = harness.token_with(rule).await;
    drop(harness.read("sys/utilization-report?message=change+1", &allowed).await.expect_status(200));
    let long = "x".repeat(2000);
    harness.read(&format!("sys/utilization-report?message={long}"), &allowed).await.expect_error(400, "message");
    let other = harness.token(json!({ "policies": ["default"] })).await;
    for token in ["", &other] {
        harness.read("sys/utilization-report", token).await.expect_error(403, "permission denied");
    }
    drop(harness.write("sys/namespaces/team", ROOT, Value::Null).await.expect_status(200));
    harness.read("team/sys/utilization-report", ROOT).await.expect_error(400, "root namespace");
}
