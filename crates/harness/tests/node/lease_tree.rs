//! How many leases there are by namespace, mount and path: right at every step, whatever ends them.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn node() -> Harness {
    let harness = Harness::start().await;
    for mount in ["made", "deep/made"] {
        harness.prepare("POST", &format!("sys/mounts/{mount}"), json!({ "type": "leasing" })).await;
    }
    harness
}

async fn lease(harness: &Harness, path: &str, token: &str) -> String {
    harness.read(&format!("{path}?ttl=1h"), token).await.expect_status(200).text_at("/lease_id")
}

async fn tree(harness: &Harness, below: &str) -> Answer {
    let answer = harness.read(&format!("sys/leases/tree{below}"), ROOT).await.expect_status(200);
    // What is counted is what a look at each lease finds.
    assert_eq!(harness.node.stale_caches().unwrap(), [""; 0]);
    answer
}

/// The numbers of the paths that an answer shows, and of its mounts, which end in a slash.
fn numbers(answer: &Answer) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for mount in answer.at("/data/mounts").as_array().unwrap() {
        for one in std::iter::once(mount).chain(mount["paths"].as_array().unwrap()) {
            numbers.insert(one["path"].as_str().unwrap().to_owned(), one["lease_count"].as_u64().unwrap());
        }
    }
    numbers
}

fn are(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(path, number)| ((*path).to_owned(), *number)).collect()
}

#[tokio::test]
async fn leases_are_counted_by_mount_and_path_until_each_ends() {
    let mut harness = node().await;
    assert_eq!(numbers(&tree(&harness, "").await), are(&[]));
    let token = harness.token(json!({ "policies": ["root"], "ttl": "1h" })).await;
    let first = lease(&harness, "made/creds/app", ROOT).await;
    for (path, owner) in [
        ("made/creds/app", ROOT),
        ("made/creds/app", &token),
        ("made/creds/web", &token),
        ("deep/made/creds/a/b/c/d/e/f", ROOT),
    ] {
        drop(lease(&harness, path, owner).await);
    }
    let all = are(&[
        ("auth/token/", 1),
        ("auth/token/create", 1),
        ("deep/made/", 1),
        ("deep/made/creds/a/b/c/d/e", 1),
        ("made/", 4),
        ("made/creds/app", 3),
        ("made/creds/web", 1),
    ]);
    let shown = tree(&harness, "").await;
    assert_eq!(numbers(&shown), all);
    assert_eq!(shown.at("/data/lease_count"), &json!(6));
    assert_eq!(
        numbers(&tree(&harness, "/made/creds").await),
        are(&[("made/", 4), ("made/creds/app", 3), ("made/creds/web", 1)])
    );
    assert_eq!(numbers(&tree(&harness, "/made/creds/web").await), are(&[("made/", 4), ("made/creds/web", 1)]));
    assert_eq!(numbers(&tree(&harness, "/nothing").await), are(&[]));
    // Page by page, a path at a time.
    let (mut paged, mut query) = (BTreeMap::new(), "?limit=1".to_owned());
    loop {
        let page = tree(&harness, &query).await;
        paged.extend(numbers(&page));
        let Some(next) = page.at("/data/next").as_str() else { break };
        query = format!("?limit=1&after={next}");
    }
    assert_eq!(paged, all);
    harness.restart().await;
    harness.unseal().await;
    assert_eq!(numbers(&tree(&harness, "").await), all);

    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": first })).await.expect_status(204));
    assert_eq!(numbers(&tree(&harness, "").await)["made/creds/app"], 2);
    // What a revoked token had is gone from the mount at once, and from the paths when it is collected.
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));
    let shown = tree(&harness, "").await;
    assert_eq!(numbers(&shown)["made/"], 1, "{shown:?}");
    for _ in 0..4 {
        harness.advance(Duration::from_secs(1)).await;
    }
    let left = are(&[("deep/made/", 1), ("deep/made/creds/a/b/c/d/e", 1), ("made/", 1), ("made/creds/app", 1)]);
    assert_eq!(numbers(&tree(&harness, "").await), left);
    // A mount that moves has its leases revoked, and counts where it is from then on.
    drop(harness.write("sys/remount", ROOT, json!({ "from": "made", "to": "moved" })).await.expect_status(200));
    harness.advance(Duration::from_secs(1)).await;
    drop(lease(&harness, "moved/creds/app", ROOT).await);
    let moved = are(&[("deep/made/", 1), ("deep/made/creds/a/b/c/d/e", 1), ("moved/", 1), ("moved/creds/app", 1)]);
    assert_eq!(numbers(&tree(&harness, "").await), moved);
    // And time ends the rest.
    harness.advance(Duration::from_secs(3_700)).await;
    for _ in 0..4 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(numbers(&tree(&harness, "").await), are(&[]));
}

#[tokio::test]
async fn a_namespace_counts_its_own_and_is_counted_whole_in_the_one_above() {
    let harness = node().await;
    harness.prepare("POST", "sys/namespaces/team", json!({})).await;
    harness.prepare("POST", "team/sys/namespaces/sub", json!({})).await;
    for (space, many) in [("team/", 2), ("team/sub/", 3)] {
        harness.prepare("POST", &format!("{space}sys/mounts/made"), json!({ "type": "leasing" })).await;
        for _ in 0..many {
            drop(lease(&harness, &format!("{space}made/creds/x"), ROOT).await);
        }
    }
    let shown = tree(&harness, "").await;
    assert_eq!(shown.at("/data/namespaces"), &json!([{ "path": "team/", "lease_count": 5 }]));
    assert_eq!((shown.at("/data/lease_count"), numbers(&shown)), (&json!(5), are(&[])));
    let within = harness.read("team/sys/leases/tree", ROOT).await.expect_status(200);
    assert_eq!(within.at("/data/namespaces"), &json!([{ "path": "sub/", "lease_count": 3 }]));
    assert_eq!(numbers(&within), are(&[("made/", 2), ("made/creds/x", 2)]));
    // Nothing of it is left with the namespace.
    harness.prepare("DELETE", "team/sys/namespaces/sub", Value::Null).await;
    for _ in 0..20 {
        harness.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(tree(&harness, "").await.at("/data/namespaces"), &json!([{ "path": "team/", "lease_count": 2 }]));
}

#[tokio::test]
async fn what_an_engine_refuses_to_take_back_is_shown_until_it_is_gone() {
    let harness = node().await;
    let stored = {
        let id = lease(&harness, "made/creds/app", ROOT).await;
        drop(
            harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204),
        );
        harness.settle().await;
        harness.store.dump().len()
    };
    harness.prepare("POST", "made/config", json!({ "failure": "refuse" })).await;
    let mut ids = [lease(&harness, "made/creds/app", ROOT).await, lease(&harness, "made/creds/app", ROOT).await];
    // In order of their ids.
    ids.sort();
    for id in &ids {
        drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
    }
    let retried = async |harness: &Harness| {
        let answer = harness.read("sys/leases/revoking", ROOT).await.expect_status(200);
        answer.at("/data/leases").as_array().unwrap().clone()
    };
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    let shown = retried(&harness).await;
    assert_eq!(shown.len(), 2, "{shown:?}");
    let began = shown[0]["failing_since"].clone();
    for (one, id) in shown.iter().zip(&ids) {
        assert_eq!((&one["lease_id"], &one["failed_attempts"]), (&json!(id), &json!(1)));
        assert!(one["reason"].as_str().unwrap().contains("no such user") && one["next_try"].is_string(), "{one}");
    }
    for _ in 0..6 {
        harness.advance(Duration::from_secs(2)).await;
    }
    let again = retried(&harness).await;
    assert_eq!((&again[0]["failed_attempts"], &again[0]["failing_since"]), (&json!(2), &began));
    assert!(again[0]["age"].as_u64() >= Some(10), "{again:?}");
    // What failed too often is listed elsewhere; what is taken back, nowhere.
    for _ in 0..60 {
        harness.advance(Duration::from_secs(10)).await;
    }
    assert_eq!(retried(&harness).await, [json!(null); 0]);
    let irrevocable = harness.read("sys/leases/count?type=irrevocable", ROOT).await;
    assert_eq!(irrevocable.at("/data/lease_count"), &json!(2));
    for id in &ids {
        drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
    }
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(retried(&harness).await.len(), 2);
    harness.prepare("POST", "made/config", json!({ "failure": "" })).await;
    for _ in 0..12 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(retried(&harness).await, [json!(null); 0]);
    // Two reports of the engine and its configuration are all that is new.
    assert_eq!(harness.store.dump().len(), stored + 3);
}
