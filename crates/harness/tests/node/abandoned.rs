//! A client that goes away, and a mount that goes away, while a request is under way.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use serde_json::json;
use tresor_harness::{Harness, ROOT};

#[tokio::test]
async fn what_an_abandoned_request_committed_is_known_to_every_cache_and_recorded() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    for polls in 0..12 {
        let name = format!("abandoned-{polls}");
        {
            let path = format!("sys/mounts/{name}");
            let mut call = pin!(harness.write(&path, ROOT, json!({ "type": "kv-v1" })));
            for _ in 0..polls {
                if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        harness.settle().await;
        let was_begun = polls > 0;
        let listed = harness.read("sys/mounts", ROOT).await;
        assert_eq!(listed.at("/data").get(format!("{name}/")).is_some(), was_begun, "after {polls} polls");
        let records = harness.audit_records().await;
        let of_it = records.iter().filter(|record| record["request"]["path"] == json!(format!("sys/mounts/{name}")));
        assert_eq!(of_it.count(), if was_begun { 2 } else { 0 }, "after {polls} polls");
    }
}

#[tokio::test]
async fn nothing_is_written_below_a_mount_that_is_gone() {
    let harness = Harness::start().await;
    for turns in 0..40 {
        harness.prepare("POST", "sys/mounts/short", json!({ "type": "kv-v1" })).await;
        harness.settle().await;
        let records_before = harness.store.dump().len();
        let (write, unmount) = tokio::join!(
            async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                harness.write("short/a/b/c", ROOT, json!({ "k": "v" })).await
            },
            harness.delete("sys/mounts/short", ROOT),
        );
        assert!(matches!(write.status, 204 | 404), "{write:?}");
        drop(unmount.expect_status(204));
        harness.advance(std::time::Duration::from_secs(5)).await;
        let left = harness.store.dump().len();
        assert!(left <= records_before, "{left} records, {records_before} before, after {turns} turns");
    }
}
