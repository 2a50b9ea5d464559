//! Sealing while requests are under way: each is answered truly, recorded, and done with when sealing returns.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::json;
use tresor_harness::{Harness, ROOT};

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Starts a request and a sealing, one so many turns after the other; afterwards the node is unsealed again.
async fn write_and_seal(harness: &Harness, path: &str, write_after: usize, seal_after: usize) -> u16 {
    let request = async {
        turns(write_after).await;
        harness.write(path, ROOT, json!({ "k": "v" })).await
    };
    let sealing = async {
        turns(seal_after).await;
        harness.node.seal().await.unwrap();
    };
    let (answer, ()) = tokio::join!(request, sealing);
    harness.unseal().await;
    answer.status
}

#[tokio::test]
async fn what_is_acknowledged_while_sealing_is_there_and_what_is_refused_is_not() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.enable_audit().await;
    let mut seen = [false; 2];
    for (write_after, seal_after) in (0..12).map(|after| (0, after)).chain((1..12).map(|after| (after, 0))) {
        let path = format!("kv/at-{write_after}-{seal_after}");
        let status = write_and_seal(&harness, &path, write_after, seal_after).await;
        let found = harness.read(&path, ROOT).await.status;
        assert!(matches!((status, found), (204, 200) | (503, 404)), "{path}: answered {status}, then read {found}");
        let records = harness.audit_records().await;
        let of_it = records.iter().filter(|record| record["request"]["path"] == json!(path));
        let kinds: Vec<&str> = of_it.filter_map(|record| record["type"].as_str()).collect();
        // The reading left two more; a request that was begun has both of its own.
        assert!(matches!(kinds.len(), 2 | 4), "{path}: {kinds:?}");
        seen[usize::from(status == 204)] = true;
    }
    assert_eq!(seen, [true, true], "both outcomes were tried");
}

#[tokio::test]
async fn a_request_to_seal_is_answered_after_everybody_else_has_left() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    let (write, seal) =
        tokio::join!(harness.write("kv/a", ROOT, json!({ "k": "v" })), harness.write("sys/seal", ROOT, json!({})));
    assert_eq!((write.status, seal.status), (204, 204));
    harness.read("kv/a", ROOT).await.expect_error(503, "sealed");
    harness.unseal().await;
    drop(harness.read("kv/a", ROOT).await.expect_status(200));
}

#[tokio::test]
async fn a_move_keeps_what_a_tuning_just_changed() {
    let harness = Harness::start().await;
    for after in 0..20 {
        harness.prepare("POST", "sys/mounts/from", json!({ "type": "kv-v1" })).await;
        let (tuned, moved) =
            tokio::join!(harness.write("sys/mounts/from/tune", ROOT, json!({ "default_lease_ttl": "77s" })), async {
                turns(after).await;
                harness.write("sys/remount", ROOT, json!({ "from": "from", "to": "to" })).await
            });
        drop(moved.expect_status(200));
        let shown = harness.read("sys/mounts/to/tune", ROOT).await.expect_status(200);
        let is_tuned = shown.at("/data/default_lease_ttl") == &json!(77);
        assert_eq!(is_tuned, tuned.status == 204, "after {after} turns: {tuned:?}, {shown:?}");
        harness.prepare("DELETE", "sys/mounts/to", json!(null)).await;
    }
}
