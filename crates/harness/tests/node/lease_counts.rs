//! `sys/leases/count` of a namespace, and of one with all that are below it.
//!
//! Deliberately absent: what makes leases irrevocable or damaged (`irrevocable.rs`, `token_scale.rs`).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

use crate::bank_realm::{sealed, unseal, within};

/// How many leases of a kind a namespace says that it has, alone or with what is below it; and of how many mounts.
async fn counted(harness: &Harness, namespace: &str, kind: &str, with_children: Option<bool>) -> (u64, usize) {
    let more = with_children.map_or(String::new(), |with| format!("&include_child_namespaces={with}"));
    let path = format!("sys/leases/count?type={kind}{more}");
    let answer = within(harness, namespace, ("GET", &path), ROOT, Value::Null).await.expect_status(200);
    let counts = answer.at("/data/counts").as_object().unwrap();
    let sum: u64 = counts.values().map(|count| count.as_u64().unwrap()).sum();
    let count = answer.at("/data/lease_count").as_u64().unwrap();
    assert_eq!(count, sum, "{namespace} {path}");
    (count, counts.len())
}

async fn lease(harness: &Harness, namespace: &str) -> String {
    let made = within(harness, namespace, ("GET", "made/creds/role?ttl=100h"), ROOT, Value::Null).await;
    made.expect_status(200).text_at("/lease_id")
}

#[tokio::test]
async fn leases_of_namespaces_below_are_counted_where_that_is_asked_for() {
    let harness = Harness::start().await;
    let mount = json!({ "type": "leasing" });
    for (at, namespace) in ["", "team", "team/inner", "teams"].into_iter().enumerate() {
        if let Some((parent, name)) =
            namespace.rsplit_once('/').or(Some(("", namespace)).filter(|(_, name)| !name.is_empty()))
        {
            let path = format!("sys/namespaces/{name}");
            drop(within(&harness, parent, ("POST", &path), ROOT, json!({})).await.expect_status(200));
        }
        drop(within(&harness, namespace, ("POST", "sys/mounts/made"), ROOT, mount.clone()).await.expect_status(204));
        for _ in 0..=at {
            lease(&harness, namespace).await;
        }
    }
    for (namespace, alone, with_children) in
        [("", (1, 1), (10, 4)), ("team", (2, 1), (5, 2)), ("team/inner", (3, 1), (3, 1)), ("teams", (4, 1), (4, 1))]
    {
        for without in [None, Some(false)] {
            assert_eq!(counted(&harness, namespace, "live", without).await, alone, "{namespace:?}");
        }
        assert_eq!(counted(&harness, namespace, "live", Some(true)).await, with_children, "{namespace:?}");
    }

    // The same of what could not be taken back.
    let refuses = json!({ "failure": "refuse" });
    drop(within(&harness, "team/inner", ("POST", "made/config"), ROOT, refuses).await.expect_status(204));
    let body = json!({ "lease_id": lease(&harness, "team/inner").await });
    drop(within(&harness, "team/inner", ("PUT", "sys/leases/revoke"), ROOT, body).await.expect_status(204));
    for _ in 0..20 {
        harness.advance(Duration::from_secs(400)).await;
    }
    for (namespace, alone, with_children) in [("", 0, 1), ("team", 0, 1), ("team/inner", 1, 1), ("teams", 0, 0)] {
        assert_eq!(counted(&harness, namespace, "irrevocable", None).await.0, alone, "{namespace:?}");
        assert_eq!(counted(&harness, namespace, "irrevocable", Some(true)).await.0, with_children, "{namespace:?}");
    }

    // What is sealed is not counted, and keeps nobody from counting the rest.
    let shares = sealed(&harness, "team/own").await;
    let before = counted(&harness, "team", "live", Some(true)).await;
    unseal(&harness, "team/own", &shares).await;
    drop(within(&harness, "team/own", ("POST", "sys/mounts/made"), ROOT, mount).await.expect_status(204));
    lease(&harness, "team/own").await;
    assert_eq!(counted(&harness, "team", "live", Some(true)).await, (before.0 + 1, before.1 + 1));
    crate::bank_realm::seal(&harness, "team/own").await;
    assert_eq!(counted(&harness, "team", "live", Some(true)).await, before);
    assert_eq!(counted(&harness, "team", "irrevocable", Some(true)).await.0, 1);
}

#[tokio::test]
async fn damaged_leases_of_namespaces_below_are_counted_where_that_is_asked_for() {
    let mut harness = Harness::start().await;
    for (parent, name) in [("", "team"), ("team", "inner")] {
        let path = format!("sys/namespaces/{name}");
        drop(within(&harness, parent, ("POST", &path), ROOT, json!({})).await.expect_status(200));
    }
    harness.settle().await;
    let before = harness.store.dump();
    let wish = json!({ "ttl": "30s", "policies": ["default"] });
    drop(within(&harness, "team/inner", ("POST", "auth/token/create"), ROOT, wish).await.expect_status(200));
    // The token's own record lies under a key of its own kind.
    let tokens = harness.store.dump().into_iter().map(|(key, _)| key);
    let is_new = |key: &tresor_storage::RawKey| !before.iter().any(|(known, _)| known == key);
    let damaged: Vec<_> = tokens.filter(|key| key.as_bytes().first() == Some(&5) && is_new(key)).collect();
    assert_eq!(damaged.len(), 1);
    let version = tresor_storage::Store::snapshot(&*harness.store).unwrap().version().next();
    let writes = damaged.into_iter().map(|key| (key, Some(vec![7; 90]))).collect();
    tresor_storage::Store::apply(&*harness.store, tresor_storage::Batch::new(version, writes)).unwrap();
    harness.restart().await;
    harness.unseal().await;
    for _ in 0..4 {
        harness.advance(Duration::from_secs(15)).await;
    }
    // Whoever reads storage for all sees it in any case.
    for (namespace, alone, with_children) in [("", 1, 1), ("team", 0, 1), ("team/inner", 1, 1)] {
        assert_eq!(counted(&harness, namespace, "damaged", None).await.0, alone, "{namespace:?}");
        assert_eq!(counted(&harness, namespace, "damaged", Some(true)).await.0, with_children, "{namespace:?}");
    }
}
