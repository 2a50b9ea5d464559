//! Namespaces: tenants that never see each other, however a request says where it goes. Tests of the security bank are
//! named by their row.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_engine::AnswersIn;
use tresor_harness::{Answer, Harness, ROOT, assembly, walk};

const TENANT: &str = r#"
path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo"] }"#;

/// One call with a header.
async fn within(harness: &Harness, namespace: &str, call: (&str, &str), token: &str, body: Value) -> Answer {
    let mut request = assembly::request(call.0, call.1, token, &body);
    if !namespace.is_empty() {
        request.headers_mut().insert("x-vault-namespace", namespace.parse().unwrap());
    }
    harness.send(request).await
}

/// Makes a namespace, with an administrator whose token is given back.
async fn tenant(harness: &Harness, path: &str) -> String {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let made = within(harness, parent, ("POST", &format!("sys/namespaces/{name}")), ROOT, json!({})).await;
    drop(made.expect_status(200));
    let policy = json!({ "policy": TENANT });
    drop(within(harness, path, ("PUT", "sys/policies/acl/admin"), ROOT, policy).await.expect_status(204));
    token(harness, path, ROOT, json!({ "policies": ["admin"], "ttl": "1h", "no_parent": true })).await
}

async fn token(harness: &Harness, namespace: &str, by: &str, wish: Value) -> String {
    let made = within(harness, namespace, ("POST", "auth/token/create"), by, wish).await.expect_status(200);
    made.text_at("/auth/client_token")
}

/// Two tenants, each with a mount that hands out leases.
async fn two() -> (Harness, String, String) {
    let harness = Harness::start().await;
    let (a, b) = (tenant(&harness, "a").await, tenant(&harness, "b").await);
    for (namespace, token) in [("a", &a), ("b", &b)] {
        let body = json!({ "type": "leasing" });
        drop(within(&harness, namespace, ("POST", "sys/mounts/made"), token, body).await.expect_status(204));
        let body = json!({ "type": "kv", "options": { "version": "1" } });
        drop(within(&harness, namespace, ("POST", "sys/mounts/kv"), token, body).await.expect_status(204));
        let body = json!({ "of": namespace });
        drop(within(&harness, namespace, ("POST", "kv/secret"), token, body).await.expect_status(204));
    }
    (harness, a, b)
}

#[tokio::test]
async fn header_and_path_say_the_same_and_a_tenant_has_its_own() {
    let (harness, a, _) = two().await;
    for (header, path) in
        [("a", "kv/secret"), ("a/", "kv/secret"), ("/a", "kv/secret"), ("", "a/kv/secret"), ("root", "a/kv/secret")]
    {
        let answer = within(&harness, header, ("GET", path), &a, Value::Null).await.expect_status(200);
        assert_eq!(answer.at("/data/of"), "a", "{header} {path}");
        // Root acts everywhere.
        assert_eq!(within(&harness, header, ("GET", path), ROOT, Value::Null).await.at("/data/of"), "a");
    }
    // Nested, by header and path together.
    harness.doors.clock.advance(Duration::from_secs(1));
    let inner = tenant(&harness, "a/inner").await;
    let body = json!({ "type": "kv", "options": { "version": "1" } });
    drop(within(&harness, "a", ("POST", "inner/sys/mounts/kv"), &inner, body).await.expect_status(204));
    drop(within(&harness, "a/inner", ("POST", "kv/x"), &inner, json!({ "of": "inner" })).await.expect_status(204));
    for (header, path) in [("a/inner", "kv/x"), ("a", "inner/kv/x"), ("", "a/inner/kv/x")] {
        assert_eq!(within(&harness, header, ("GET", path), &inner, Value::Null).await.at("/data/of"), "inner");
        assert_eq!(within(&harness, header, ("GET", path), ROOT, Value::Null).await.at("/data/of"), "inner");
        // A tenant's administrator acts below it, by a rule that means whatever is there; upwards nobody does.
        assert_eq!(within(&harness, header, ("GET", path), &a, Value::Null).await.at("/data/of"), "inner");
    }
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), &inner, Value::Null).await.status, 403);
    within(&harness, "a", ("POST", "cubbyhole/x"), ROOT, json!({ "v": "1" }))
        .await
        .expect_error(400, "its own namespace");
    assert_eq!(harness.read("sys/mounts", &inner).await.status, 403);
}

#[tokio::test]
async fn ids_of_a_tenant_end_in_its_id_and_looking_up_says_where_it_belongs() {
    let (harness, a, _) = two().await;
    let id = harness.read("sys/namespaces/a", ROOT).await.expect_status(200).text_at("/data/id");
    assert_eq!(id.len(), 6);
    let end = format!(".{id}");
    let shown = within(&harness, "a", ("GET", "auth/token/lookup-self"), &a, Value::Null).await.expect_status(200);
    assert!(a.ends_with(&end) && shown.text_at("/data/accessor").ends_with(&end), "{shown:?}");
    assert_eq!(shown.at("/data/namespace_path"), "a/");
    let lease = within(&harness, "a", ("GET", "made/creds/x"), &a, Value::Null).await.expect_status(200);
    assert!(lease.text_at("/lease_id").starts_with("made/creds/x/") && lease.text_at("/lease_id").ends_with(&end));
    let batch = token(&harness, "a", &a, json!({ "type": "batch", "policies": ["admin"], "ttl": "1h" })).await;
    assert!(batch.ends_with(&end));
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), &batch, Value::Null).await.status, 200);
    assert_eq!(within(&harness, "b", ("GET", "kv/secret"), &batch, Value::Null).await.status, 403);
    let accessors = within(&harness, "a", ("LIST", "auth/token/accessors"), &a, Value::Null).await.expect_status(200);
    assert_eq!(accessors.at("/data/keys").as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn ns_01_ns_13_a_name_is_one_segment_or_refused() {
    let harness = Harness::start().await;
    let v = tenant(&harness, "v").await;
    let long = "x".repeat(3000);
    for name in [
        "root",
        "Root",
        "sys",
        "auth",
        "identity",
        "cubbyhole",
        "audit",
        "a/b",
        "%20",
        "a%00",
        "%2500",
        "a*",
        long.as_str(),
    ] {
        for method in ["POST", "DELETE", "GET"] {
            let answer = within(&harness, "v", (method, &format!("sys/namespaces/{name}")), &v, json!({})).await;
            assert!((400..500).contains(&answer.status), "{method} {name}: {answer:?}");
        }
    }
    for path in ["sys/namespaces/root/lock", "sys/namespaces/root/seal", "sys/namespaces/api-lock/lock/root"] {
        drop(within(&harness, "v", ("POST", path), &v, json!({})).await.expect_status(400));
    }
    drop(within(&harness, "", ("GET", "sys/namespaces/v"), ROOT, Value::Null).await.expect_status(200));
    // Neither takes what the other has.
    harness.prepare("POST", "sys/mounts/team", json!({ "type": "kv" })).await;
    harness
        .write("sys/namespaces/team", ROOT, json!({}))
        .await
        .expect_error(400, "conflicts with existing mount: team/");
    harness
        .write("sys/mounts/v", ROOT, json!({ "type": "kv" }))
        .await
        .expect_error(400, "path is already in use at v/");
    harness
        .write("sys/mounts/v/deep", ROOT, json!({ "type": "kv" }))
        .await
        .expect_error(400, "path is already in use at v/");
    let remount = json!({ "from": "team", "to": "v" });
    harness.write("sys/remount", ROOT, remount).await.expect_error(400, "invalid mount path");
}

#[tokio::test]
async fn ns_02_ns_04_wrp_07_ids_of_another_tenant_name_nothing() {
    let (harness, a, b) = two().await;
    let lease = within(&harness, "a", ("GET", "made/creds/x"), &a, Value::Null).await.text_at("/lease_id");
    let accessor =
        within(&harness, "a", ("GET", "auth/token/lookup-self"), &a, Value::Null).await.text_at("/data/accessor");
    let bare = accessor.split('.').next().unwrap().to_owned();
    let unknown = format!("made/creds/x/{}", "0".repeat(24));
    for (path, own, foreign) in [
        ("sys/leases/lookup", json!({ "lease_id": unknown }), json!({ "lease_id": lease })),
        ("sys/leases/renew", json!({ "lease_id": unknown }), json!({ "lease_id": lease })),
        ("sys/leases/revoke", json!({ "lease_id": unknown }), json!({ "lease_id": lease })),
        ("auth/token/lookup-accessor", json!({ "accessor": "nobody" }), json!({ "accessor": accessor })),
        ("auth/token/lookup-accessor", json!({ "accessor": "nobody" }), json!({ "accessor": bare })),
        ("auth/token/renew-accessor", json!({ "accessor": "nobody" }), json!({ "accessor": accessor })),
        ("auth/token/revoke-accessor", json!({ "accessor": "nobody" }), json!({ "accessor": accessor })),
        ("auth/token/lookup", json!({ "token": "hvs.nobody" }), json!({ "token": a })),
        ("auth/token/revoke", json!({ "token": "hvs.nobody" }), json!({ "token": a })),
        ("auth/token/renew", json!({ "token": "hvs.nobody" }), json!({ "token": a })),
        ("sys/wrapping/lookup", json!({ "token": "hvs.nobody" }), json!({ "token": a })),
    ] {
        let own = within(&harness, "b", ("POST", path), &b, own).await;
        let foreign = within(&harness, "b", ("POST", path), &b, foreign).await;
        assert_eq!((own.status, own.errors()), (foreign.status, foreign.errors()), "{path}");
    }
    for path in [format!("sys/leases/renew/{lease}"), format!("sys/leases/revoke/{lease}")] {
        let answer = within(&harness, "b", ("PUT", &path), &b, json!({})).await;
        assert!(answer.status != 200, "{path}: {answer:?}");
    }
    // Everything of `a` is as it was.
    let lookup = json!({ "lease_id": lease });
    let shown = within(&harness, "a", ("POST", "sys/leases/lookup"), &a, lookup).await.expect_status(200);
    assert_eq!(shown.at("/data/namespace_path"), "a/");
    drop(within(&harness, "a", ("GET", "auth/token/lookup-self"), &a, Value::Null).await.expect_status(200));
    // A wrapping token of `a` looks in `b` like none.
    let mut request = assembly::request("GET", "kv/secret", &a, &Value::Null);
    request.headers_mut().insert("x-vault-namespace", "a".parse().unwrap());
    request.headers_mut().insert("x-vault-wrap-ttl", "60s".parse().unwrap());
    let wrapped = harness.send(request).await.expect_status(200).text_at("/wrap_info/token");
    for path in ["sys/wrapping/lookup", "sys/wrapping/unwrap"] {
        let foreign = within(&harness, "b", ("POST", path), &b, json!({ "token": wrapped })).await;
        let unknown = within(&harness, "b", ("POST", path), &b, json!({ "token": "hvs.nobody" })).await;
        assert_eq!((foreign.status, foreign.errors()), (unknown.status, unknown.errors()));
    }
    let unwrapped = within(&harness, "a", ("POST", "sys/wrapping/unwrap"), &a, json!({ "token": wrapped })).await;
    assert_eq!(unwrapped.expect_status(200).at("/data/of"), "a");
}

#[tokio::test]
async fn ns_09_tok_01_revoking_takes_what_is_below_in_every_namespace() {
    let (harness, a, _) = two().await;
    drop(tenant(&harness, "a/inner").await);
    // A child of root's token in `a`, and a child of that, with a lease.
    let parent = token(&harness, "", ROOT, json!({ "policies": ["root"], "ttl": "1h" })).await;
    let child = token(&harness, "a", &parent, json!({ "policies": ["admin"], "ttl": "1h" })).await;
    let grandchild = token(&harness, "a", &child, json!({ "policies": ["admin"], "ttl": "1h" })).await;
    let inner = token(&harness, "a/inner", &parent, json!({ "policies": ["admin"], "ttl": "1h" })).await;
    let lease = within(&harness, "a", ("GET", "made/creds/x"), &grandchild, Value::Null).await.text_at("/lease_id");
    drop(harness.write("auth/token/revoke-self", &parent, json!({})).await.expect_status(204));
    for (namespace, token) in [("a", &child), ("a", &grandchild), ("a/inner", &inner)] {
        assert_eq!(
            within(&harness, namespace, ("GET", "auth/token/lookup-self"), token, Value::Null).await.status,
            403
        );
    }
    for _ in 0..10 {
        harness.advance(Duration::from_secs(1)).await;
    }
    let lookup = json!({ "lease_id": lease });
    assert_eq!(within(&harness, "a", ("POST", "sys/leases/lookup"), &a, lookup).await.status, 400);
    let revoked = within(&harness, "a", ("GET", "made/revoked"), &a, Value::Null).await;
    assert_eq!(revoked.at("/data").as_object().unwrap().len(), 1, "{revoked:?}");
}

#[tokio::test]
async fn ns_10_a_policy_reaches_no_namespace_that_was_made_after_it_but_by_what_means_whatever_is_there() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/team", json!({ "type": "kv" })).await;
    let named = r#"path "team/*" { capabilities = ["read", "list"] }"#;
    let reader = harness.token_with(named).await;
    let any = harness.token_with(r#"path "+/kv/*" { capabilities = ["read"] }"#).await;
    let all = harness.token_with(r#"path "*" { capabilities = ["read"] }"#).await;
    // What is narrower is no wider for being older.
    let narrow = harness
        .token_with("path \"*\" { capabilities = [\"read\"] }\npath \"team/kv/*\" { capabilities = [\"list\"] }")
        .await;
    harness.prepare("DELETE", "sys/mounts/team", Value::Null).await;
    harness.advance(Duration::from_secs(2)).await;
    let made = harness.write("sys/namespaces/team", ROOT, json!({})).await.expect_status(200);
    assert!(made.at("/warnings/0").as_str().unwrap().contains("older than this namespace"), "{made:?}");
    let admin = tenant(&harness, "team").await;
    drop(within(&harness, "team", ("POST", "sys/mounts/kv"), &admin, json!({ "type": "kv" })).await.expect_status(204));
    drop(within(&harness, "team", ("POST", "kv/x"), &admin, json!({ "v": "1" })).await.expect_status(204));
    // Written again, by somebody who knows of the namespace, it reaches it.
    let fresh = harness.token_with(&format!("{named}\n")).await;
    for (token, status, may) in [
        (&reader, 403, json!(["deny"])),
        (&any, 200, json!(["read"])),
        (&all, 200, json!(["read"])),
        (&narrow, 403, json!(["deny"])),
        (&fresh, 200, json!(["list", "read"])),
    ] {
        assert_eq!(harness.read("team/kv/x", token).await.status, status);
        // What is shown is what is enforced.
        let asked = json!({ "paths": ["kv/x"] });
        let shown = within(&harness, "team", ("POST", "sys/capabilities-self"), token, asked).await;
        if shown.status == 200 {
            assert_eq!(shown.at("/data/capabilities"), &may);
        }
    }
}

#[tokio::test]
async fn ns_11_policies_of_a_tenant_reach_nobody_else() {
    let (harness, a, b) = two().await;
    let text = r#"
path "../*" { capabilities = ["read"] }
path "b/*" { capabilities = ["read"] }
path "root/*" { capabilities = ["read"] }
path "*" { capabilities = ["read", "sudo"] }"#;
    drop(
        within(&harness, "a", ("PUT", "sys/policies/acl/wide"), &a, json!({ "policy": text })).await.expect_status(204),
    );
    let wide = token(&harness, "a", &a, json!({ "policies": ["wide"], "ttl": "1h" })).await;
    assert_eq!(within(&harness, "a", ("GET", "kv/secret"), &wide, Value::Null).await.status, 200);
    for (header, path) in
        [("b", "kv/secret"), ("", "b/kv/secret"), ("", "sys/mounts"), ("a", "b/kv/secret"), ("a", "../b/kv/secret")]
    {
        let answer = within(&harness, header, ("GET", path), &wide, Value::Null).await;
        assert!(
            [400, 403, 404].contains(&answer.status) && answer.at("/data/of").is_null(),
            "{header} {path}: {answer:?}"
        );
    }
    // NS-05: names are looked up in their own namespace, whatever they say.
    for name in ["../admin", "b/admin", "..%2fadmin"] {
        let made =
            within(&harness, "b", ("POST", "auth/token/create"), &b, json!({ "policies": [name], "ttl": "1h" })).await;
        if made.status == 200 {
            let token = made.text_at("/auth/client_token");
            assert_eq!(within(&harness, "b", ("GET", "kv/secret"), &token, Value::Null).await.status, 403, "{name}");
        }
    }
}

#[tokio::test]
async fn ns_14_what_is_about_the_whole_server_answers_in_the_root_namespace_only() {
    let (harness, a, _) = two().await;
    for (method, path) in [
        ("GET", "sys/audit"),
        ("POST", "sys/seal"),
        ("GET", "sys/storage/raft/configuration"),
        ("GET", "sys/config/cors"),
        ("LIST", "sys/quotas/rate-limit"),
        ("GET", "sys/metrics"),
        ("GET", "sys/rekey/init"),
        ("GET", "sys/generate-root/attempt"),
        ("GET", "sys/key-status"),
        ("PUT", "sys/step-down"),
        ("GET", "sys/host-info"),
        ("GET", "sys/loggers"),
        ("GET", "sys/health"),
    ] {
        for (header, path) in [("a", path.to_owned()), ("", format!("a/{path}")), ("a", format!("b/{path}"))] {
            for token in [&a, ROOT] {
                let answer = within(&harness, header, (method, &path), token, json!({})).await;
                assert!([400, 403, 404].contains(&answer.status), "{header} {path}: {answer:?}");
            }
        }
    }
    drop(within(&harness, "a", ("GET", "sys/seal-status"), "", Value::Null).await.expect_status(200));
    within(&harness, "a", ("POST", "sys/seal"), ROOT, json!({})).await.expect_error(400, "root namespace");
    // No token of a tenant is a root token, whoever asks.
    for (token, text) in [(ROOT, "root tokens may not be created from a parent namespace"), (a.as_str(), "root")] {
        let wish = json!({ "policies": ["root"] });
        within(&harness, "a", ("POST", "auth/token/create"), token, wish).await.expect_error(400, text);
    }
    let made = within(&harness, "a", ("POST", "auth/token/create"), ROOT, json!({})).await.expect_status(200);
    assert_eq!(made.at("/auth/policies"), &json!(["default"]));
    within(&harness, "a", ("POST", "auth/token/create"), ROOT, json!({ "id": "mine" }))
        .await
        .expect_error(400, "root namespace");
}

/// What is about the whole server: the first segments of its paths below `sys/`.
const ABOUT_THE_SERVER: &[&str] = &[
    "activation-flags",
    "audit",
    "audit-hash",
    "audit-status",
    "config",
    "decode-token",
    "experiments",
    "generate-root",
    "generate-root-token",
    "ha-status",
    "host-info",
    "in-flight-req",
    "internal/counters/activity",
    "internal/counters/config",
    "internal/inspect",
    "key-status",
    "loggers",
    "managed-keys",
    "metrics",
    "monitor",
    "quotas",
    "raw",
    "rekey",
    "rekey-recovery-key",
    "replication",
    "rotate",
    "seal",
    "seal-backend-status",
    "seal-slots",
    "step-down",
    "storage",
    "storage-status",
    "utilization-report",
    "version-history",
    "well-known",
];

/// What of `config` is about the namespace that is asked.
const OF_EACH: &str = "config/ui/custom-messages";

/// What of it also answers in the namespace that administrates the server.
const LEFT_TO_OTHERS: &[&str] = &["audit-hash", "managed-keys", "monitor", "quotas"];

/// What of it is about keys, and also answers in namespaces that have a seal of their own.
const ABOUT_KEYS: &[&str] = &["decode-token", "generate-root-token", "key-status", "rotate"];

#[tokio::test]
async fn ns_14_every_endpoint_says_whether_it_is_about_the_whole_server() {
    let harness = Harness::start().await;
    drop(tenant(&harness, "a").await);
    for route in harness.node.routes().into_iter().filter(|route| route.mount == "sys/") {
        let is_below = |known: &str| {
            route.pattern.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_about = ABOUT_THE_SERVER.iter().any(|known| is_below(known)) && !is_below(OF_EACH);
        let may_be_left_to_others = LEFT_TO_OTHERS.iter().any(|known| route.pattern.starts_with(known));
        let is_about_keys =
            ABOUT_KEYS.iter().any(|known| route.pattern.starts_with(known)) && !route.pattern.ends_with("config");
        let expected = match (is_about, may_be_left_to_others) {
            (false, _) => AnswersIn::Every,
            (true, true) => AnswersIn::Administration,
            (true, false) if is_about_keys => AnswersIn::Sealable,
            (true, false) => AnswersIn::Root,
        };
        assert_eq!(route.answers_in, expected, "{}", route.pattern);
        if is_about {
            let path = walk::example(&route);
            let answer = within(&harness, "a", (walk::method(route.operation), &path), ROOT, json!({})).await;
            answer.expect_error(
                400,
                match expected {
                    AnswersIn::Sealable => "namespace is not sealable",
                    _ => "operation only available in root namespace",
                },
            );
        }
    }
}

#[tokio::test]
async fn who_may_not_know_is_told_the_same_of_missing_and_foreign_namespaces() {
    let (harness, a, _) = two().await;
    for token in [a.as_str(), "", "hvs.nobody"] {
        for (method, path) in [("GET", "kv/secret"), ("LIST", "sys/namespaces"), ("POST", "auth/token/create")] {
            let foreign = within(&harness, "b", (method, path), token, json!({})).await;
            let missing = within(&harness, "nowhere", (method, path), token, json!({})).await;
            assert_eq!((foreign.status, foreign.errors()), (missing.status, missing.errors()), "{method} {path}");
        }
    }
    assert_eq!(within(&harness, "nowhere", ("GET", "kv/secret"), ROOT, Value::Null).await.status, 404);
    assert_eq!(within(&harness, "nowhere", ("POST", "auth/token/create"), ROOT, json!({})).await.status, 404);
}

/// Every name that is stored below a namespace's id, as far as directories lead there.
async fn is_gone(harness: &Harness, path: &str) -> bool {
    harness.read(&format!("sys/namespaces/{path}"), ROOT).await.status == 404
}

#[tokio::test]
async fn ns_07_ns_08_deleting_takes_leases_back_and_leaves_nothing_whenever_it_is_interrupted() {
    let mut harness = Harness::start().await;
    let before = harness.store.dump().len();
    for interrupted in [false, true] {
        let a = tenant(&harness, "a").await;
        let body = json!({ "type": "leasing" });
        drop(within(&harness, "a", ("POST", "sys/mounts/made"), &a, body).await.expect_status(204));
        drop(within(&harness, "a", ("POST", "sys/mounts/kv"), &a, json!({ "type": "kv-v2" })).await.expect_status(204));
        drop(
            within(&harness, "a", ("POST", "sys/auth/up"), &a, json!({ "type": "userpass" })).await.expect_status(204),
        );
        for number in 0..40 {
            let body = json!({ "data": { "v": number.to_string() } });
            drop(within(&harness, "a", ("POST", &format!("kv/data/d/{number}")), &a, body).await.expect_status(200));
            drop(within(&harness, "a", ("GET", "made/creds/x"), &a, Value::Null).await.expect_status(200));
            drop(token(&harness, "a", &a, json!({ "policies": ["admin"], "ttl": "1h", "num_uses": 7 })).await);
            drop(within(&harness, "a", ("POST", "cubbyhole/mine"), &a, json!({ "v": "1" })).await.expect_status(204));
        }
        drop(within(&harness, "a", ("GET", "made/creds/x"), ROOT, Value::Null).await.expect_status(200));
        harness.write("sys/namespaces/a", &a, json!({})).await.expect_error(403, "permission denied");
        drop(tenant(&harness, "a/inner").await);
        harness.delete("sys/namespaces/a", ROOT).await.expect_error(400, "containing child namespaces");
        drop(within(&harness, "a", ("DELETE", "sys/namespaces/inner"), ROOT, Value::Null).await.expect_status(200));
        for _ in 0..30 {
            harness.advance(Duration::from_secs(1)).await;
        }
        let answer = harness.delete("sys/namespaces/a", ROOT).await.expect_status(200);
        assert_eq!(answer.at("/data/status"), "in-progress");
        assert_eq!(within(&harness, "a", ("GET", "kv/data/d/1"), &a, Value::Null).await.status, 403);
        assert_eq!(within(&harness, "a", ("GET", "kv/data/d/1"), ROOT, Value::Null).await.status, 404);
        let mut steps = 0;
        while !is_gone(&harness, "a").await {
            steps += 1;
            assert!(steps < 400, "it does not end");
            if interrupted && steps % 5 == 0 {
                harness.kill();
                harness.unseal().await;
                drop(harness.delete("sys/namespaces/a", ROOT).await.expect_status(200));
            }
            harness.doors.clock.advance(Duration::from_millis(1100));
            for _ in 0..40 {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..10 {
            harness.advance(Duration::from_secs(1)).await;
        }
        let answer = harness.delete("sys/namespaces/a", ROOT).await.expect_status(200);
        assert!(answer.at("/warnings/0").as_str().unwrap().contains("does not exist"));
    }
    let after = harness.store.dump().len();
    // The clock's mark and the like may be there; nothing of a hundred records is.
    assert!(after <= before + 3, "{before} records before, {after} after");
}

#[tokio::test]
async fn a_locked_namespace_takes_nothing_until_it_is_unlocked_by_its_key_or_by_root() {
    let (harness, a, b) = two().await;
    let inner = tenant(&harness, "a/inner").await;
    let key = harness
        .write("sys/namespaces/api-lock/lock/a", ROOT, json!({}))
        .await
        .expect_status(200)
        .text_at("/data/unlock_key");
    harness.write("sys/namespaces/api-lock/lock/a", ROOT, json!({})).await.expect_error(400, "already locked");
    harness
        .write("sys/namespaces/api-lock/lock/a/inner", ROOT, json!({}))
        .await
        .expect_error(400, "ancestor namespace");
    for (namespace, token) in
        [("a", a.as_str()), ("a/inner", inner.as_str()), ("a", ROOT), ("a/inner", ROOT), ("a", "")]
    {
        for (method, path) in [("GET", "kv/secret"), ("GET", "auth/token/lookup-self"), ("POST", "sys/namespaces/x")] {
            within(&harness, namespace, (method, path), token, json!({}))
                .await
                .expect_error(503, "\"a/\" must be unlocked");
        }
    }
    drop(within(&harness, "b", ("GET", "kv/secret"), &b, Value::Null).await.expect_status(200));
    assert_eq!(harness.read("sys/namespaces/a", ROOT).await.at("/data/locked"), true);
    let wrong = json!({ "unlock_key": "wrong" });
    within(&harness, "a", ("POST", "sys/namespaces/api-lock/unlock"), &a, wrong)
        .await
        .expect_error(400, "incorrect unlock key");
    let right = json!({ "unlock_key": key });
    drop(within(&harness, "a", ("POST", "sys/namespaces/api-lock/unlock"), &a, right).await.expect_status(204));
    drop(within(&harness, "a", ("GET", "kv/secret"), &a, Value::Null).await.expect_status(200));
    // Root needs no key.
    drop(within(&harness, "a", ("POST", "sys/namespaces/api-lock/lock"), &a, json!({})).await.expect_status(200));
    let unlocked = harness.write("sys/namespaces/api-lock/unlock/a", ROOT, json!({})).await;
    assert!(unlocked.at("/warnings/0").as_str().unwrap().contains("sudo"), "{unlocked:?}");
    harness
        .write("sys/namespaces/api-lock/lock", ROOT, json!({}))
        .await
        .expect_error(400, "root namespace cannot be locked");
}

#[tokio::test]
async fn lst_04_lst_05_namespaces_are_listed_page_by_page_and_shown_to_whom_they_concern() {
    let harness = Harness::start().await;
    for number in 0..30 {
        harness
            .prepare("POST", &format!("sys/namespaces/n{number:03}"), json!({ "custom_metadata": { "n": "1" } }))
            .await;
    }
    harness.prepare("POST", "n000/sys/namespaces/deep", json!({})).await;
    for limit in [1, 7, 100] {
        let (mut seen, mut after, mut calls) = (BTreeSet::new(), String::new(), 0);
        loop {
            let page = harness.list(&format!("sys/namespaces?after={after}&limit={limit}"), ROOT).await;
            if page.status == 404 {
                break;
            }
            calls += 1;
            let keys = page.at("/data/keys").as_array().cloned().unwrap();
            assert!(keys.len() <= limit && keys.iter().all(|key| seen.insert(key.to_string())), "visited twice");
            assert_eq!(page.at("/data/key_info").as_object().unwrap().len(), keys.len());
            after = keys.last().unwrap().as_str().unwrap().to_owned();
        }
        assert_eq!((seen.len(), calls), (30, 30_usize.div_ceil(limit)));
    }
    let every = harness.call("SCAN", "sys/namespaces", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(every.at("/data/keys").as_array().unwrap().len(), 31);
    assert_eq!(every.at("/data/keys/1"), "n000/deep/");
    let some = harness.token_with(r#"path "n001/*" { capabilities = ["read"] }"#).await;
    let shown = harness.read("sys/internal/ui/namespaces", &some).await.expect_status(200);
    assert_eq!(shown.at("/data/keys"), &json!(["n001/"]));
    assert_eq!(harness.read("sys/internal/ui/namespaces", "").await.status, 403);
    // Metadata is merged.
    let mut request =
        assembly::request("PATCH", "sys/namespaces/n001", ROOT, &json!({ "custom_metadata": { "n": null, "m": "2" } }));
    request.headers_mut().insert("content-type", "application/merge-patch+json".parse().unwrap());
    assert_eq!(harness.send(request).await.expect_status(200).at("/data/custom_metadata"), &json!({ "m": "2" }));
    let patch = |body: Value| harness.send(assembly::request("PATCH", "sys/namespaces/n001", ROOT, &body));
    patch(json!({})).await.expect_error(400, "missing required field \"custom_metadata\"");
    let cleared = patch(json!({ "custom_metadata": null })).await.expect_status(200);
    assert_eq!(cleared.at("/data/custom_metadata"), &json!({}));
}

#[tokio::test]
async fn records_of_audit_say_in_which_namespace() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let a = tenant(&harness, "a").await;
    drop(within(&harness, "", ("GET", "a/sys/mounts"), &a, Value::Null).await.expect_status(200));
    let records = harness.audit_records().await;
    let record =
        records.iter().rev().find(|record| record.pointer("/request/path") == Some(&json!("sys/mounts"))).unwrap();
    assert_eq!(record.pointer("/request/namespace/path"), Some(&json!("a/")));
    assert_eq!(record.pointer("/auth/policy_results/granting_policies/0/namespace_path"), Some(&json!("a/")));
}

/// What a tenant has that nobody else may see.
struct Tenant {
    path: &'static str,
    marker: String,
    token: String,
    accessor: String,
    lease: String,
}

async fn marked(harness: &Harness, path: &'static str) -> Tenant {
    let marker = format!("marker-of-{}", path.replace('/', "-and-"));
    let token = tenant(harness, path).await;
    for (call, body) in [
        (("POST", "sys/mounts/made"), json!({ "type": "leasing", "description": marker })),
        (("POST", "sys/mounts/kv"), json!({ "type": "kv", "description": marker })),
        (("POST", &*format!("kv/{marker}")), json!({ "of": marker })),
        (("POST", "kv/secret"), json!({ "of": marker })),
        (("POST", "cubbyhole/mine"), json!({ "of": marker })),
        (
            ("POST", &*format!("sys/policies/acl/{marker}")),
            json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" }),
        ),
        (("POST", &*format!("sys/namespaces/{marker}")), json!({ "custom_metadata": { "of": marker } })),
        (("POST", &*format!("auth/token/roles/{marker}")), json!({ "allowed_policies": marker })),
    ] {
        let done = within(harness, path, call, &token, body).await;
        assert!(done.status < 300, "{call:?}: {done:?}");
    }
    let wish = json!({ "policies": [marker], "ttl": "1h", "meta": { "of": marker } });
    let made = within(harness, path, ("POST", "auth/token/create"), &token, wish).await.expect_status(200);
    let lease = within(harness, path, ("GET", "made/creds/x"), &token, Value::Null).await.text_at("/lease_id");
    Tenant { path, marker, token, accessor: made.text_at("/auth/accessor"), lease }
}

#[tokio::test]
async fn whatever_is_asked_nothing_of_another_tenant_answers() {
    let harness = Harness::start().await;
    let mut tenants = Vec::new();
    for path in ["a", "a/i", "b", "b/i"] {
        tenants.push(marked(&harness, path).await);
    }
    let mut chosen = [0_u8; 5 * 600];
    harness.doors.doors.entropy.fill(&mut chosen);
    let mut shown = 0;
    for step in chosen.chunks_exact(5) {
        let [who, about, to, how, what] = step else { continue };
        let of = |byte: &u8| &tenants[usize::from(*byte) % tenants.len()];
        let (who, about, to) = (of(who), of(about), of(to).path);
        let body = match what % 4 {
            0 => json!({ "token": about.token, "paths": ["kv/secret"] }),
            1 => json!({ "accessor": about.accessor, "path": "kv/secret", "operation": "read" }),
            2 => json!({ "lease_id": about.lease }),
            _ => Value::Null,
        };
        let (method, path) = [
            ("GET", "kv/secret"),
            ("LIST", "kv"),
            ("GET", "cubbyhole/mine"),
            ("GET", "sys/mounts"),
            ("GET", "sys/auth"),
            ("LIST", "sys/policies/acl"),
            ("LIST", "sys/namespaces"),
            ("SCAN", "sys/namespaces"),
            ("LIST", "auth/token/roles"),
            ("LIST", "auth/token/accessors"),
            ("POST", "auth/token/lookup"),
            ("POST", "auth/token/lookup-accessor"),
            ("POST", "sys/leases/lookup"),
            ("PUT", "sys/leases/renew"),
            ("GET", "sys/internal/ui/mounts"),
            ("GET", "sys/internal/ui/namespaces"),
            ("POST", "sys/capabilities"),
            ("POST", "sys/explain-accessor"),
            ("LIST", "sys/leases/lookup/made/creds/x"),
            ("GET", "sys/leases/count?type=live"),
            ("GET", "made/revoked"),
            ("GET", "sys/internal/ui/resultant-acl"),
            ("GET", "sys/internal/specs/openapi"),
            ("POST", "auth/token/renew-accessor"),
        ][usize::from(*what) % 24];
        let (first, rest) = to.split_once('/').unwrap_or((to, ""));
        let rest = if rest.is_empty() { path.to_owned() } else { format!("{rest}/{path}") };
        let answer = match how % 3 {
            0 => within(&harness, to, (method, path), &who.token, body).await,
            1 => within(&harness, "", (method, &format!("{to}/{path}")), &who.token, body).await,
            _ => within(&harness, first, (method, &rest), &who.token, body).await,
        };
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        let sees = |tenant: &Tenant| tenant.path == who.path || tenant.path.starts_with(&format!("{}/", who.path));
        for tenant in &tenants {
            // One marker may begin another.
            let is_there = text
                .match_indices(&tenant.marker)
                .any(|(at, _)| !text[at + tenant.marker.len()..].starts_with("-and-"));
            assert!(!is_there || sees(tenant), "{} saw {}: {method} {to} {path}: {text}", who.path, tenant.path);
            shown += usize::from(is_there);
        }
    }
    assert!(shown > 50, "the requests ask for something: {shown}");
    for tenant in &tenants {
        let lookup = json!({ "accessor": tenant.accessor });
        drop(
            within(&harness, tenant.path, ("POST", "auth/token/lookup-accessor"), &tenant.token, lookup)
                .await
                .expect_status(200),
        );
    }
}
