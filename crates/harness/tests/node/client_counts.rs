//! How many clients there were (SYS-16): each once a month, whatever it asks, wherever it asks, and whichever node it asks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::cluster::World;
use tresor_harness::{Harness, ROOT, assembly};

use crate::bank_realm::within;

const ACTIVITY: &str = "sys/internal/counters/activity";
const MONTHLY: &str = "sys/internal/counters/activity/monthly";
const EXPORT: &str = "sys/internal/counters/activity/export";
const CONFIG: &str = "sys/internal/counters/config";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than who is new waits to be written down.
const WRITTEN: Duration = Duration::from_secs(11);

async fn counting() -> Harness {
    let harness = Harness::start().await;
    enable(&harness).await;
    harness
}

async fn enable(harness: &Harness) {
    drop(harness.write(CONFIG, ROOT, json!({ "enabled": "enable" })).await.expect_status(204));
}

async fn policy(harness: &Harness, namespace: &str, name: &str) {
    let text = json!({ "policy": r#"path "*" { capabilities = ["create", "read", "update", "list"] }"# });
    let at = format!("sys/policies/acl/{name}");
    drop(within(harness, namespace, ("PUT", &at), ROOT, text).await.expect_status(204));
}

async fn token(harness: &Harness, namespace: &str, policies: &[&str], wish: Value) -> String {
    let mut body = json!({ "policies": policies, "no_parent": true, "ttl": "20h" });
    body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    let made = within(harness, namespace, ("POST", "auth/token/create"), ROOT, body).await.expect_status(200);
    made.text_at("/auth/client_token")
}

async fn used(harness: &Harness, namespace: &str, token: &str) -> u16 {
    within(harness, namespace, ("GET", "sys/internal/ui/version"), token, Value::Null).await.status
}

/// As a client of these policies, by a token that was made for it.
async fn use_as(harness: &Harness, policy: &str) {
    let token = token(harness, "", &[policy], json!({})).await;
    assert_eq!(used(harness, "", &token).await, 200);
}

async fn clients(harness: &Harness) -> u64 {
    harness.read(MONTHLY, ROOT).await.expect_status(200).at("/data/clients").as_u64().unwrap()
}

/// Namespace, mount and number, as they are listed.
fn rows(listed: &Value) -> Vec<(String, String, u64)> {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap().to_owned();
    let of = |namespace: &Value| {
        let path = text(namespace, "namespace_path");
        let mounts = namespace["mounts"].as_array().unwrap().iter();
        mounts
            .map(|mount| (path.clone(), text(mount, "mount_path"), mount["counts"]["clients"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    listed.as_array().unwrap().iter().flat_map(of).collect()
}

fn row(namespace: &str, mount: &str, number: u64) -> (String, String, u64) {
    (namespace.to_owned(), mount.to_owned(), number)
}

async fn pass(harness: &Harness, time: Duration) {
    harness.advance(time).await;
    harness.advance(WRITTEN).await;
}

#[tokio::test]
async fn sys_16_nothing_is_counted_until_an_operator_says_so() {
    let harness = Harness::start().await;
    policy(&harness, "", "a").await;
    let client = token(&harness, "", &["a"], json!({})).await;
    assert_eq!(used(&harness, "", &client).await, 200);
    let config = harness.read(CONFIG, ROOT).await.expect_status(200);
    for (name, expected) in [
        ("enabled", json!("default-disabled")),
        ("retention_months", json!(48)),
        ("default_report_months", json!(12)),
        ("queries_available", json!(false)),
        ("reporting_enabled", json!(false)),
    ] {
        assert_eq!(config.at(&format!("/data/{name}")), &expected, "{name}");
    }
    drop(harness.read(ACTIVITY, ROOT).await.expect_status(204));
    drop(harness.read(EXPORT, ROOT).await.expect_status(204));
    assert_eq!(clients(&harness).await, 0);
    pass(&harness, DAY).await;
    drop(harness.read(ACTIVITY, ROOT).await.expect_status(204));
    // From the moment on that somebody says so.
    enable(&harness).await;
    assert_eq!(harness.read(CONFIG, ROOT).await.at("/data/enabled"), "enable");
    assert_eq!(clients(&harness).await, 0);
    use_as(&harness, "a").await;
    assert_eq!(clients(&harness).await, 1);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn sys_16_a_client_is_a_namespace_and_a_set_of_policies_and_counts_once() {
    let mut harness = counting().await;
    drop(harness.write("sys/namespaces/team", ROOT, json!({})).await.expect_status(200));
    for namespace in ["", "team"] {
        for name in ["a", "b"] {
            policy(&harness, namespace, name).await;
        }
    }
    // The same policies are the same client, whatever their order, kind, age or parent.
    let one = token(&harness, "", &["a", "b"], json!({})).await;
    let same = token(&harness, "", &["b", "a"], json!({ "type": "batch" })).await;
    let other = token(&harness, "", &["a"], json!({})).await;
    let elsewhere = token(&harness, "team", &["a", "b"], json!({})).await;
    assert_eq!(clients(&harness).await, 0, "making one does not count, and root is nobody's client");
    for _ in 0..3 {
        for token in [&one, &same, &other] {
            assert_eq!(used(&harness, "", token).await, 200);
        }
        assert_eq!(used(&harness, "team", &elsewhere).await, 200);
    }
    assert_eq!(clients(&harness).await, 3);
    // It is the client of its own namespace, also where it asks below that.
    drop(within(&harness, "team", ("GET", "sys/internal/ui/resultant-acl"), &one, Value::Null).await);
    // A request that is refused counts nobody, nor does one that needs no token, nor the opening of a wrapped answer.
    let powerless = token(&harness, "", &["nothing"], json!({})).await;
    let missing = within(&harness, "", ("GET", "sys/mounts"), &powerless, Value::Null).await;
    assert_eq!(missing.status, 403);
    drop(within(&harness, "", ("GET", "sys/health"), &powerless, Value::Null).await);
    let mut request = assembly::request("GET", "sys/mounts", ROOT, &Value::Null);
    request.headers_mut().insert("x-vault-wrap-ttl", "60".parse().unwrap());
    let wrapped = harness.send(request).await.expect_status(200).text_at("/wrap_info/token");
    drop(harness.call("PUT", "sys/wrapping/unwrap", &wrapped, json!({})).await.expect_status(200));
    for token in ["", "hvs.nobody"] {
        assert_eq!(used(&harness, "", token).await, 403);
    }
    assert_eq!(clients(&harness).await, 3);
    // Who logs in is told by the mount.
    harness.prepare("POST", "sys/auth/up", json!({ "type": "userpass" })).await;
    for (user, policies) in [("u", "a"), ("v", "only-v")] {
        let wish = json!({ "password": "hunter2hunter2", "token_policies": policies, "token_no_default_policy": true });
        harness.prepare("POST", &format!("auth/up/users/{user}"), wish).await;
        let login = json!({ "password": "hunter2hunter2" });
        let login = harness.write(&format!("auth/up/login/{user}"), "", login).await.expect_status(200);
        let token = login.text_at("/auth/client_token");
        drop(harness.call("GET", "sys/internal/ui/version", &token, Value::Null).await.expect_status(200));
    }
    let expected = [row("", "auth/token/", 2), row("", "auth/up/", 2), row("team/", "auth/token/", 1)];
    let shown = async |harness: &Harness| {
        let month = harness.read(MONTHLY, ROOT).await.expect_status(200);
        let mut rows = rows(month.at("/data/by_namespace"));
        rows.sort();
        (month.at("/data/clients").as_u64().unwrap(), rows)
    };
    assert_eq!(shown(&harness).await, (5, expected.to_vec()), "`a` with `default` is another client than `a` alone");
    // It is written down, and a restart makes nobody new.
    harness.advance(WRITTEN).await;
    for _ in 0..2 {
        harness.restart().await;
        harness.unseal().await;
        assert_eq!(shown(&harness).await, (5, expected.to_vec()));
        for token in [&one, &same, &other] {
            assert_eq!(used(&harness, "", token).await, 200);
        }
        harness.advance(WRITTEN).await;
    }
    assert_eq!(shown(&harness).await, (5, expected.to_vec()));
    let exported = harness.read(EXPORT, ROOT).await.expect_status(200);
    assert_eq!(String::from_utf8(exported.bytes).unwrap().lines().count(), 5);
    // What is gone is told by what is left of it.
    drop(harness.delete("sys/auth/up", ROOT).await.expect_status(204));
    drop(harness.delete("sys/namespaces/team", ROOT).await.expect_status(200));
    for _ in 0..60 {
        harness.advance(Duration::from_secs(1)).await;
    }
    let (number, rows) = shown(&harness).await;
    assert_eq!(number, 5);
    assert!(rows.iter().any(|(namespace, ..)| namespace.starts_with("deleted namespace")), "{rows:?}");
    assert!(rows.iter().any(|(_, mount, _)| mount.starts_with("deleted mount; accessor \"auth_userpass_")), "{rows:?}");
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn sys_16_a_month_begins_anew_and_a_report_says_who_was_new_in_it() {
    let harness = counting().await;
    for name in ["a", "b"] {
        policy(&harness, "", name).await;
    }
    use_as(&harness, "a").await;
    let first = harness.read(MONTHLY, ROOT).await.text_at("/data/months/0/timestamp");
    // Into the next month, whatever day it is; both of them there; then two months later one.
    pass(&harness, DAY * 31).await;
    assert_eq!(clients(&harness).await, 0);
    for client in ["a", "b", "a"] {
        use_as(&harness, client).await;
    }
    assert_eq!(clients(&harness).await, 2);
    pass(&harness, DAY * 62).await;
    use_as(&harness, "b").await;
    let report = harness.read(ACTIVITY, ROOT).await.expect_status(200);
    assert_eq!(report.at("/data/total/clients"), 2, "each once in all");
    assert_eq!(report.at("/data/total"), report.at("/data/by_namespace/0/counts"));
    for zero in ["distinct_entities", "entity_clients", "acme_clients", "secret_syncs"] {
        assert_eq!(report.at(&format!("/data/total/{zero}")), 0);
    }
    let months = report.at("/data/months").as_array().unwrap();
    let counts: Vec<(Value, Value)> = months
        .iter()
        .map(|month| (month["counts"]["clients"].clone(), month["new_clients"]["counts"]["clients"].clone()))
        .collect();
    let nothing = (Value::Null, Value::Null);
    assert_eq!(counts.first(), Some(&(json!(1), json!(1))));
    assert_eq!(counts.get(1), Some(&(json!(2), json!(1))));
    assert_eq!(counts.last(), Some(&(json!(1), json!(0))), "{counts:?}");
    assert!(counts[2..counts.len() - 1].iter().all(|month| *month == nothing), "nothing is known of those: {counts:?}");
    assert_eq!(months[0]["timestamp"], json!(first));
    // Of one month alone, everybody in it is new.
    let second = months[1]["timestamp"].as_str().unwrap();
    let one = harness.read(&format!("{ACTIVITY}?start_time={second}&end_time={second}"), ROOT).await.expect_status(200);
    assert_eq!(
        (one.at("/data/total/clients"), one.at("/data/months/0/new_clients/counts/clients")),
        (&json!(2), &json!(2))
    );
    assert_eq!(one.at("/data/start_time"), second);
    let csv = harness.read(&format!("{EXPORT}?format=csv&start_time={second}&end_time={second}"), ROOT).await;
    let csv = String::from_utf8(csv.expect_status(200).bytes).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0].split(',').count(), 9);
    assert_eq!(lines.len(), 3);
    assert!(lines[1].contains(",non-entity-token,root,,auth_token_"), "{csv}");
    // Before anything is known there is nothing.
    drop(harness.read(&format!("{ACTIVITY}?start_time=0&end_time=86400"), ROOT).await.expect_status(204));
    // What is older than is kept goes away.
    let keep = json!({ "retention_months": 1 });
    drop(harness.write(CONFIG, ROOT, keep).await.expect_status(204));
    harness.advance(WRITTEN).await;
    let report = harness.read(ACTIVITY, ROOT).await.expect_status(200);
    assert_eq!((report.at("/data/total/clients"), report.at("/data/months").as_array().unwrap().len()), (&json!(1), 1));
}

#[tokio::test]
async fn sys_16_switching_it_off_forgets_the_month_that_goes_on() {
    let harness = counting().await;
    policy(&harness, "", "a").await;
    use_as(&harness, "a").await;
    pass(&harness, DAY * 31).await;
    let client = token(&harness, "", &["a"], json!({})).await;
    assert_eq!(used(&harness, "", &client).await, 200);
    harness.advance(WRITTEN).await;
    let off = harness.write(CONFIG, ROOT, json!({ "enabled": "disable" })).await.expect_status(200);
    assert!(off.text_at("/warnings/0").contains("is deleted"), "{off:?}");
    assert_eq!(clients(&harness).await, 0);
    assert_eq!(used(&harness, "", &client).await, 200);
    assert_eq!(clients(&harness).await, 0);
    let months = async || {
        let report = harness.read(ACTIVITY, ROOT).await.expect_status(200);
        report.at("/data/months").as_array().unwrap().iter().filter(|month| !month["counts"].is_null()).count()
    };
    assert_eq!(months().await, 1, "the month before is kept");
    // On again it begins with nobody, whether or not what was before is gone yet.
    enable(&harness).await;
    assert_eq!(clients(&harness).await, 0);
    assert_eq!(used(&harness, "", &client).await, 200);
    assert_eq!((clients(&harness).await, months().await), (1, 2));
    harness.advance(WRITTEN).await;
    harness.advance(WRITTEN).await;
    assert_eq!((clients(&harness).await, months().await), (1, 2));
    let said_again = harness.write(CONFIG, ROOT, json!({ "enabled": "enable" })).await;
    drop(said_again.expect_status(204));
    assert_eq!(clients(&harness).await, 1);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn sys_16_what_makes_no_sense_is_refused_and_nobody_else_is_told() {
    let harness = counting().await;
    for (wish, text) in [
        (json!({ "enabled": "maybe" }), "enabled must be one of"),
        (json!({ "enabled": ["enable"] }), "enabled"),
        (json!({ "retention_months": -1 }), "greater than or equal to 0"),
        (json!({ "retention_months": 61 }), "not be greater than 60"),
        (json!({ "retention_months": 0 }), "cannot be 0 while enabled"),
        (json!({ "retention_months": "many" }), "retention_months"),
        (json!({ "default_report_months": 0 }), "from 1 to 60"),
        (json!({ "default_report_months": i64::MAX }), "from 1 to 60"),
    ] {
        harness.write(CONFIG, ROOT, wish).await.expect_error(400, text);
    }
    let config = harness.read(CONFIG, ROOT).await;
    assert_eq!(
        (config.at("/data/retention_months"), config.at("/data/default_report_months")),
        (&json!(48), &json!(12))
    );
    for (query, text) in [
        ("start_time=yesterday", "`start_time` is no time"),
        ("end_time=2026-13-01T00:00:00Z", "`end_time` is no time"),
        ("start_time=2026-02-01T00:00:00Z&end_time=2026-01-01T00:00:00Z", "later than end_time"),
        ("start_time=4102444800", "later than end_time"),
        ("start_time=9999999999", "`start_time` is no time"),
        ("limit_namespaces=-1", "must not be negative"),
        ("limit_namespaces=x", "limit_namespaces"),
    ] {
        harness.read(&format!("{ACTIVITY}?{query}"), ROOT).await.expect_error(400, text);
    }
    harness.read(&format!("{EXPORT}?format=xml"), ROOT).await.expect_error(400, "`json` or `csv`");
    harness.read(&format!("{EXPORT}?start_time=-5"), ROOT).await.expect_error(400, "no time");
    // An export asks for sudo, and all of it for policies; a tenant is not told of the server.
    let reads = harness.token_with(r#"path "sys/internal/counters/*" { capabilities = ["read", "update"] }"#).await;
    drop(harness.read(MONTHLY, &reads).await.expect_status(200));
    harness.read(EXPORT, &reads).await.expect_error(403, "permission denied");
    let powerless = harness.token_with(r#"path "x" { capabilities = ["read"] }"#).await;
    for path in [ACTIVITY, MONTHLY, EXPORT, CONFIG] {
        harness.read(path, &powerless).await.expect_error(403, "permission denied");
        harness.read(path, "").await.expect_error(403, "permission denied");
    }
    harness.write(CONFIG, &powerless, json!({ "enabled": "disable" })).await.expect_error(403, "permission denied");
    drop(harness.write("sys/namespaces/team", ROOT, json!({})).await.expect_status(200));
    for path in [ACTIVITY, MONTHLY, EXPORT, CONFIG] {
        within(&harness, "team", ("GET", path), ROOT, Value::Null).await.expect_error(400, "root namespace");
    }
    // Which namespaces are listed is bounded, the largest first; the sums are those of all.
    for (namespace, number) in [("", 1), ("team", 3)] {
        for at in 0..number {
            let name = format!("p{at}");
            policy(&harness, namespace, &name).await;
            let token = token(&harness, namespace, &[&name], json!({})).await;
            assert_eq!(used(&harness, namespace, &token).await, 200);
        }
    }
    let limited = harness.read(&format!("{ACTIVITY}?limit_namespaces=1"), ROOT).await.expect_status(200);
    assert_eq!(limited.at("/data/by_namespace").as_array().unwrap().len(), 1);
    assert_eq!(limited.at("/data/by_namespace/0/namespace_path"), "team/");
    assert_eq!(limited.at("/data/total/clients"), 5, "with the one that read the sums above");
}

async fn number(world: &World, at: usize) -> u64 {
    let month = world.call(at, "GET", MONTHLY, ROOT, Value::Null).await;
    month.expect_status(200).at("/data/clients").as_u64().unwrap()
}

#[tokio::test]
async fn sys_16_whom_any_node_of_a_cluster_serves_is_counted_once_whoever_leads_next() {
    let mut world = World::new(3, 97).await;
    world.prepare(0, "POST", CONFIG, json!({ "enabled": "enable" })).await;
    let mut tokens = Vec::new();
    for name in ["a", "b", "c"] {
        let text = json!({ "policy": r#"path "*" { capabilities = ["read"] }"# });
        world.prepare(0, "PUT", &format!("sys/policies/acl/{name}"), text).await;
        let wish = json!({ "policies": [name], "ttl": "1h" });
        tokens.push(world.prepare(0, "POST", "auth/token/create", wish).await.text_at("/auth/client_token"));
    }
    // Each asks another node, and the first one all of them.
    for (at, token) in tokens.iter().enumerate() {
        for at in [at, 0] {
            assert_eq!(world.call(at, "GET", "sys/internal/ui/version", token, Value::Null).await.status, 200);
        }
    }
    world.pass(Duration::from_secs(5)).await;
    for at in 0..3 {
        assert_eq!(number(&world, at).await, 3, "n{at}");
    }
    // The node that leads dies before it has written anything down: whom the others have served is still known.
    let leader = world.active().unwrap();
    let served: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let text = json!({ "policy": r#"path "*" { capabilities = ["read"] }"# });
    world.prepare(served[0], "PUT", "sys/policies/acl/d", text).await;
    let wish = json!({ "policies": ["d"], "ttl": "1h" });
    let late = world.prepare(served[0], "POST", "auth/token/create", wish).await.text_at("/auth/client_token");
    assert_eq!(world.call(served[0], "GET", "sys/internal/ui/version", &late, Value::Null).await.status, 200);
    world.pass(Duration::from_secs(2)).await;
    world.kill(leader).await;
    world.another_active(leader).await;
    world.pass(Duration::from_secs(15)).await;
    for at in served {
        assert_eq!(number(&world, at).await, 4, "n{at}");
    }
    for at in world.running() {
        assert_eq!(world.node(at).stale_caches().unwrap(), Vec::<&str>::new(), "at n{at}");
    }
}
