//! The numbers of a node: who may read them, in which forms, that they are right, and that there are so many and no more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn text(harness: &Harness) -> String {
    let answer = harness.read("sys/metrics?format=prometheus", ROOT).await.expect_status(200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.bytes).unwrap()
}

/// The samples by their names and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn named<'a>(answer: &'a Answer, kind: &str, name: &str) -> &'a Value {
    let all = answer.at(kind).as_array().unwrap();
    all.iter().find(|entry| entry["Name"] == name).unwrap_or_else(|| panic!("no {name} in {answer:?}"))
}

#[tokio::test]
async fn what_happens_is_counted_and_what_there_is_is_looked_up() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/people/users/bob", json!({ "password": "secret" })).await;
    harness.prepare("POST", "sys/mounts/a/b", json!({ "type": "kv" })).await;
    harness.prepare("POST", "sys/quotas/lease-count/few", json!({ "path": "auth/people", "max_leases": 2 })).await;
    let before = samples(&text(&harness).await);
    for _ in 0..3 {
        harness.prepare("POST", "a/b/x", json!({ "k": "v" })).await;
        drop(harness.read("a/b/x", ROOT).await.expect_status(200));
        drop(harness.write("auth/people/login/bob", "", json!({ "password": "secret" })).await);
    }
    harness.settle().await;
    let after = samples(&text(&harness).await);
    let grown = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    assert_eq!((grown("vault_route_create_a_b__count"), grown("vault_route_update_a_b__count")), (1.0, 2.0));
    assert_eq!(grown("vault_route_read_a_b__count"), 3.0);
    assert_eq!(grown("vault_core_handle_login_request_count"), 3.0);
    // Three writes, three reads, and the reading of before.
    assert_eq!(grown("vault_core_handle_request_count"), 7.0);
    assert_eq!(grown("vault_quota_lease_count_violation"), 1.0);
    assert!(grown("vault_audit_log_request_count") >= 6.0 && grown("vault_audit_log_response_count") >= 9.0);
    assert_eq!(grown("vault_audit_log_request_failure"), 0.0);
    let only = |start: &str| {
        let found: Vec<_> = after.iter().filter(|(name, _)| name.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start}: {found:?}");
        *found[0].1
    };
    assert_eq!(only("vault_core_unsealed{"), 1.0);
    assert_eq!(only("vault_core_active{"), 1.0);
    assert_eq!(only("vault_core_in_flight_requests{"), 1.0);
    assert_eq!(only("vault_quota_lease_count_max{"), 2.0);
    assert_eq!(only("vault_quota_lease_count_counter{"), 2.0);
    assert_eq!(only("vault_token_count_by_auth{auth_method=\"userpass\""), 2.0);
    assert_eq!(only("vault_audit_device_lag_records{"), 0.0);
    assert_eq!(after.iter().filter(|(name, _)| name.starts_with("vault_core_mount_table_num_entries{")).count(), 4);
}

#[tokio::test]
async fn the_same_numbers_are_there_in_json_of_late() {
    let harness = Harness::start().await;
    drop(harness.read("sys/metrics", ROOT).await.expect_status(200));
    harness.advance(Duration::from_secs(30)).await;
    drop(harness.read("sys/metrics", ROOT).await.expect_status(200));
    let answer = harness.read("sys/metrics", ROOT).await.expect_status(200);
    assert_eq!(answer.headers["content-type"], "application/json");
    let keys: Vec<_> = answer.json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["Counters", "Gauges", "Points", "Samples", "Timestamp"]);
    assert!(answer.text_at("/Timestamp").ends_with(" +0000 UTC"));
    let unsealed = named(&answer, "/Gauges", "vault.core.unsealed");
    assert_eq!((&unsealed["Value"], unsealed["Labels"].as_object().unwrap().len()), (&json!(1), 1));
    let handled = named(&answer, "/Samples", "vault.core.handle_request");
    // Two answers, of all that was before the reading of ten seconds ago at least: of the first thirty seconds.
    assert_eq!(handled["Count"], json!(2), "{handled}");
    for field in ["Rate", "Sum", "Min", "Max", "Mean", "Stddev", "Labels"] {
        assert!(!handled[field].is_null(), "{field}");
    }
    named(&answer, "/Counters", "vault.audit.log_request_failure");
    harness.read("sys/metrics?format=xml", ROOT).await.expect_error(400, "metric response format unknown");
}

#[tokio::test]
async fn log_08_labels_are_few_and_say_nothing_that_clients_chose() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    for number in 0..50 {
        let name = format!("canary-{number}");
        harness.prepare("POST", &format!("kv/{name}"), json!({ "value": name })).await;
        harness
            .prepare(
                "POST",
                &format!("sys/policies/acl/{name}"),
                json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" }),
            )
            .await;
        drop(harness.token(json!({ "display_name": name, "policies": [name], "metadata": { "a": name } })).await);
        drop(harness.read(&format!("nowhere/{name}"), ROOT).await);
    }
    let text = text(&harness).await;
    assert!(!text.contains("canary") && !text.contains(ROOT) && !text.contains("nowhere"), "{text}");
    assert!(samples(&text).len() < 200, "{}", samples(&text).len());
    // Mounts are an operator's, and still there are so many names and no more.
    for number in 0..260 {
        harness.prepare("POST", &format!("sys/mounts/m{number}"), json!({ "type": "kv" })).await;
        drop(harness.read(&format!("m{number}/x"), ROOT).await.expect_status(404));
    }
    let text = self::text(&harness).await;
    let of_mounts =
        text.lines().filter(|line| line.starts_with("vault_route_read_") && line.contains("_count ")).count();
    // Not all of those that have a name of their own were read.
    assert!((190..=201).contains(&of_mounts), "{of_mounts}");
    assert!(text.contains("vault_route_read_others_count"));
}

#[tokio::test]
async fn a_listener_opens_the_numbers_to_everybody_in_every_state_and_without_a_record() {
    let mut harness = Harness::start().await;
    harness.enable_audit().await;
    for path in ["sys/metrics", "sys/in-flight-req"] {
        drop(harness.read(path, "").await.expect_status(403));
    }
    let denied = harness.audit_records().await.len();
    harness.options.opened = vec!["sys/metrics", "sys/in-flight-req"];
    let opened = harness.read("sys/metrics?format=prometheus", "").await.expect_status(200);
    assert!(String::from_utf8(opened.bytes).unwrap().contains("vault_core_unsealed{cluster=\""));
    drop(harness.read("sys/in-flight-req", "").await.expect_status(200));
    drop(harness.read("sys/metrics?format=xml", "").await.expect_status(400));
    assert_eq!(harness.audit_records().await.len(), denied);
    // Nothing else is opened by it.
    for (method, path) in
        [("GET", "sys/mounts"), ("POST", "sys/metrics"), ("LIST", "sys/metrics"), ("GET", "sys/metrics/x")]
    {
        let answer = harness.call(method, path, "", Value::Null).await;
        assert!(answer.status >= 400, "{method} {path}: {answer:?}");
    }
    harness.node.seal().await.unwrap();
    let sealed = harness.read("sys/metrics?format=prometheus", "").await.expect_status(200);
    let sealed = String::from_utf8(sealed.bytes).unwrap();
    assert!(sealed.contains("vault_core_unsealed{cluster=\"") && sealed.contains("\"} 0\n"), "{sealed}");
    harness.options.opened = Vec::new();
    drop(harness.read("sys/metrics", ROOT).await.expect_status(503));
}

#[tokio::test]
async fn a_request_that_runs_is_shown_until_its_answer_is_there() {
    let harness = Harness::start().await;
    let shown = harness.read("sys/in-flight-req", ROOT).await.expect_status(200);
    let entries = shown.json.as_object().unwrap();
    assert_eq!(entries.len(), 1);
    let (id, entry) = entries.iter().next().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(entry["request_path"], "/v1/sys/in-flight-req");
    assert_eq!((&entry["request_method"], &entry["client_remote_address"]), (&json!("GET"), &json!("127.0.0.1:40000")));
    assert!(entry["start_time"].as_str().unwrap().ends_with('Z') && !shown.json.to_string().contains(ROOT));
    assert!(harness.node.running().all().is_empty());
}

/// The names that the page about numbers has, each as its pattern; and those that only a cluster, a schedule or a seal has.
fn documented() -> (Vec<String>, Vec<String>) {
    let page = include_str!("../../../../docs/operate/watch.md");
    let (_, table) = page.split_once("| name | what it is |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut names: Vec<String> = Vec::new();
    for cell in rows.map(|row| row.split('|').nth(1).unwrap()) {
        for name in cell.split('`').skip(1).step_by(2) {
            // What only goes on from the names before it in the row.
            let before: Vec<String> = names.iter().rev().take(2).cloned().collect();
            match name {
                ".errors" => names.push(format!("{}.errors", before[0])),
                "_failure" => names.extend(before.iter().take(2).map(|name| format!("{name}_failure"))),
                name => names.push(name.to_owned()),
            }
        }
    }
    let elsewhere = ["raft", "autopilot.", "seal.healthy", "snapshot.", "audit.fallback.success"];
    names.into_iter().partition(|name| !elsewhere.iter().any(|beginning| name.starts_with(beginning)))
}

fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let name: Vec<&str> = name.split('.').collect();
    let is_open = pattern.last() == Some(&"*");
    let part = |(wanted, part): (&&str, &&str)| {
        wanted == part || *wanted == "*" || wanted.bytes().all(|b| b.is_ascii_uppercase())
    };
    (pattern.len() == name.len() || is_open && name.len() >= pattern.len()) && pattern.iter().zip(&name).all(part)
}

#[tokio::test]
async fn the_page_about_numbers_has_every_name_and_no_other() {
    let mut harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/lent", json!({ "type": "leasing" })).await;
    drop(harness.read("lent/creds/r", ROOT).await.expect_status(200));
    drop(harness.token(json!({ "ttl": "1h" })).await);
    harness.prepare("POST", "sys/quotas/lease-count/all", json!({ "max_leases": 100 })).await;
    let once = json!({ "path": "lent", "rate": 1, "interval": "1h" });
    harness.prepare("POST", "sys/quotas/rate-limit/once", once).await;
    for _ in 0..2 {
        harness.peer = std::net::Ipv4Addr::new(10, 0, 0, 1).into();
        drop(harness.read("lent/creds/r", ROOT).await);
    }
    harness.settle().await;
    let answer = harness.read("sys/metrics", ROOT).await.expect_status(200);
    let of = |kind: &str| answer.at(kind).as_array().unwrap().clone();
    let all = ["/Gauges", "/Counters", "/Samples"].into_iter().flat_map(of);
    let sent: Vec<String> =
        all.map(|entry| entry["Name"].as_str().unwrap().strip_prefix("vault.").unwrap().to_owned()).collect();
    let (here, elsewhere) = documented();
    assert!(here.len() > 50 && elsewhere.len() > 5, "{} and {}", here.len(), elsewhere.len());
    for name in &here {
        assert!(sent.iter().any(|sent| fits(name, sent)), "{name} is documented and not sent");
    }
    for name in &sent {
        let is_known = here.iter().chain(&elsewhere).any(|pattern| fits(pattern, name));
        assert!(is_known, "{name} is sent and not documented");
    }
    // A name is a name: none means two things.
    assert!(!fits("token.create", "token.creation") && fits("route.OPERATION.MOUNT", "route.read.lent-"));
}

#[tokio::test]
async fn a_collector_says_in_a_header_which_form_it_wants() {
    let harness = Harness::start().await;
    let ask = async |query: &str, accept: &str| {
        let request = http::Request::get(format!("/v1/sys/metrics{query}")).header("X-Vault-Token", ROOT);
        let answer = harness.send(request.header("Accept", accept).body(Default::default()).unwrap()).await;
        answer.expect_status(200).headers["content-type"].to_str().unwrap().starts_with("text/plain")
    };
    assert!(ask("", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3").await);
    assert!(ask("", "application/json,prometheus/telemetry").await);
    for accept in ["text/plain;version=0.0.4", "application/json", "*/*", "text/html,application/openmetrics-text"] {
        assert!(!ask("", accept).await, "{accept}");
    }
    // What the address says holds.
    assert!(!ask("?format=json", "application/openmetrics-text").await);
    assert!(ask("?format=prometheus", "application/json").await);
}
