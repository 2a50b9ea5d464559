//! Many requests that want to change one thing at the same time: each is done, once, and none is turned away.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use futures_util::future::join_all;
use serde_json::json;
use tresor_harness::{Harness, ROOT};

/// How many requests come at once.
const CROWD: usize = 100;

#[tokio::test]
async fn a_crowd_that_writes_one_secret_is_served_and_each_write_is_a_version() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    let crowd = (0..CROWD).map(|at| harness.write("kv/data/hot", ROOT, json!({ "data": { "at": at } })));
    let mut versions: Vec<u64> = join_all(crowd)
        .await
        .into_iter()
        .map(|answer| answer.expect_status(200).at("/data/version").as_u64().unwrap())
        .collect();
    versions.sort_unstable();
    let every: Vec<u64> = (1..=CROWD as u64).collect();
    assert_eq!(versions, every);
}

#[tokio::test]
async fn a_crowd_with_one_limited_token_gets_exactly_its_uses() {
    let harness = Harness::start().await;
    let uses = CROWD - 7;
    let token = harness.token(json!({ "num_uses": uses, "policies": ["default"], "ttl": "1h" })).await;
    let crowd = (0..CROWD).map(|_| harness.read("auth/token/lookup-self", &token));
    let statuses: Vec<u16> = join_all(crowd).await.into_iter().map(|answer| answer.status).collect();
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(403)), (uses, CROWD - uses), "{statuses:?}");
}

#[tokio::test]
async fn a_crowd_that_mounts_side_by_side_is_served() {
    let harness = Harness::start().await;
    let paths: Vec<String> = (0..CROWD).map(|at| format!("sys/mounts/m{at}")).collect();
    let crowd = paths.iter().map(|path| harness.write(path, ROOT, json!({ "type": "kv" })));
    for answer in join_all(crowd).await {
        drop(answer.expect_status(204));
    }
}

#[tokio::test]
async fn a_crowd_that_trickles_in_is_served_whoever_was_there_before() {
    let harness = Harness::start().await;
    for (place, body) in [("sys/mounts", json!({ "type": "kv" })), ("sys/namespaces", json!({}))] {
        let crowd = (0..3 * CROWD).map(|at| {
            let (harness, body) = (&harness, body.clone());
            async move {
                // Whoever comes later has lost nothing yet, and may win before those who have.
                for _ in 0..at {
                    tokio::task::yield_now().await;
                }
                harness.write(&format!("{place}/of-{}-{at}", place.len()), ROOT, body).await
            }
        });
        for answer in join_all(crowd).await {
            assert!(answer.status < 300, "{answer:?}");
        }
    }
}
