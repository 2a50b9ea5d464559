//! Mounts that are disabled: what they handed out is taken back and their data is wiped, whatever happens meanwhile.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

/// A mount that hands something out, and its identity.
async fn made(harness: &Harness, kind: &str) -> String {
    harness.prepare("POST", "sys/mounts/made", json!({ "type": kind })).await;
    harness.read("sys/mounts/made", ROOT).await.expect_status(200).text_at("/data/uuid")
}

async fn lease(harness: &Harness) {
    harness.prepare("GET", "made/creds/r?ttl=1h", Value::Null).await;
}

/// What is known of a removed mount; nothing when it is gone.
async fn status(harness: &Harness, id: &str) -> Option<Value> {
    let answer = harness.read(&format!("sys/unmount/status/{id}"), ROOT).await;
    (answer.status != 404).then(|| answer.expect_status(200).at("/data").clone())
}

async fn killed_and_opened(harness: &mut Harness) {
    harness.kill();
    harness.unseal().await;
}

#[tokio::test]
async fn what_cannot_be_taken_back_keeps_the_data_until_an_operator_decides() {
    let mut harness = Harness::start().await;
    let id = made(&harness, "leasing").await;
    lease(&harness).await;
    lease(&harness).await;
    harness.prepare("POST", "made/config", json!({ "failure": "fail" })).await;
    drop(harness.delete("sys/mounts/made", ROOT).await.expect_status(204));
    harness.read("made/creds/r", ROOT).await.expect_error(404, "no handler for route");
    let listed = harness.list("sys/unmount/status", ROOT).await.expect_status(200);
    assert_eq!(listed.at("/data/keys"), &json!([id]));
    let begun = status(&harness, &id).await.unwrap();
    assert_eq!((&begun["path"], &begun["type"]), (&json!("made/"), &json!("leasing")), "{begun}");
    assert_eq!((&begun["state"], &begun["leases_pending"]), (&json!("revoking-leases"), &json!(2)), "{begun}");
    // Its path is free at once.
    drop(harness.write("sys/mounts/made", ROOT, json!({ "type": "kv" })).await.expect_status(204));
    harness.advance(Duration::from_secs(1)).await;
    killed_and_opened(&mut harness).await;
    for _ in 0..20 {
        harness.advance(Duration::from_secs(400)).await;
    }
    let stuck = status(&harness, &id).await.unwrap();
    assert_eq!((&stuck["state"], &stuck["leases_irrevocable"]), (&json!("waiting-for-operator"), &json!(2)), "{stuck}");
    assert_eq!((&stuck["leases_ended"], &stuck["leases_pending"]), (&json!(2), &json!(0)), "{stuck}");
    assert_eq!(stuck["records_wiped"], json!(0), "what may be needed to revoke is kept: {stuck}");

    // What can be revoked after all is one less.
    let leases = harness.read("sys/leases?type=irrevocable", ROOT).await.expect_status(200);
    let lease = leases.text_at("/data/leases/0/lease_id");
    let everybody = harness.token_with(r#"path "*" { capabilities = ["create", "read", "update", "list"] }"#).await;
    let force = format!("sys/unmount/force/{id}");
    harness.write(&force, &everybody, json!({})).await.expect_error(403, "permission denied");
    drop(harness.write("sys/leases/revoke-force/made/creds/r", ROOT, json!({})).await);
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(status(&harness, &id).await, None, "forced by the prefix of its leases: {lease}");
}

#[tokio::test]
async fn leases_that_cannot_be_revoked_are_forgotten_when_that_is_ordered_for_their_mount() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    let empty = harness.store.dump().len();
    let id = harness.read("sys/mounts/made", ROOT).await.expect_status(200).text_at("/data/uuid");
    lease(&harness).await;
    // Of a release that does not know the type, nobody can take it back.
    harness.restart_without("leasing").await;
    drop(harness.delete("sys/mounts/made", ROOT).await.expect_status(204));
    for _ in 0..20 {
        harness.advance(Duration::from_secs(400)).await;
    }
    assert_eq!(status(&harness, &id).await.unwrap()["state"], json!("waiting-for-operator"));
    drop(harness.write(&format!("sys/unmount/force/{id}"), ROOT, json!({})).await.expect_status(204));
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(status(&harness, &id).await, None);
    assert_eq!(harness.read("sys/leases/count?type=irrevocable", ROOT).await.at("/data/lease_count"), &json!(0));
    let abandoned = harness.read("sys/leases/abandoned", ROOT).await.expect_status(200);
    assert_eq!(abandoned.at("/data/leases").as_array().map(Vec::len), Some(1), "it is reported: {abandoned:?}");
    drop(harness.delete("sys/leases/abandoned", ROOT).await.expect_status(204));
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "kv" })).await;
    assert!(harness.store.dump().len() <= empty + 1, "nothing is left");
    drop(harness.write(&format!("sys/unmount/force/{id}"), ROOT, json!({})).await.expect_status(204));
}

#[tokio::test]
async fn what_is_forgotten_of_a_namespace_that_goes_is_reported_in_the_one_that_stays() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/namespaces/a", json!({})).await;
    harness.prepare("POST", "a/sys/namespaces/b", json!({})).await;
    // More than are looked at in a step.
    for number in 0..12 {
        let mount = format!("a/b/{{}}made{number}");
        harness.prepare("POST", &mount.replace("{}", "sys/mounts/"), json!({ "type": "leasing" })).await;
        harness.prepare("GET", &format!("{}/creds/r?ttl=1h", mount.replace("{}", "")), Value::Null).await;
        let failing = json!({ "failure": "fail" });
        harness.prepare("POST", &format!("{}/config", mount.replace("{}", "")), failing).await;
    }
    harness.prepare("DELETE", "a/sys/namespaces/b", Value::Null).await;
    for _ in 0..40 {
        harness.advance(Duration::from_secs(400)).await;
    }
    assert_eq!(harness.read("a/sys/namespaces/b", ROOT).await.status, 404);
    let reported = harness.read("a/sys/leases/abandoned", ROOT).await.expect_status(200);
    assert_eq!(reported.at("/data/leases").as_array().map(Vec::len), Some(12), "{reported:?}");
    assert_eq!(harness.read("sys/leases/abandoned", ROOT).await.status, 404);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
    // What is reported in one that goes in its turn goes with it: whoever deletes it has read it, or not.
    harness.prepare("DELETE", "sys/namespaces/a", Value::Null).await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(harness.read("sys/namespaces/a", ROOT).await.status, 404);
}

#[tokio::test]
async fn pt_11_a_removal_goes_on_wherever_the_process_was_killed() {
    let mut harness = Harness::start().await;
    let id = made(&harness, "leasing").await;
    harness.prepare("DELETE", "sys/mounts/made", Value::Null).await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(status(&harness, &id).await, None);
    let empty = harness.store.dump().len();
    let id = made(&harness, "leasing").await;
    for _ in 0..40 {
        lease(&harness).await;
    }
    harness.prepare("DELETE", "sys/mounts/made", Value::Null).await;
    let (mut kills, mut seen) = (0, Vec::new());
    while let Some(now) = status(&harness, &id).await {
        seen.push(now);
        // A few turns of the background task, and then the end.
        for _ in 0..(kills % 7) {
            tokio::task::yield_now().await;
        }
        if kills % 3 == 0 {
            harness.doors.clock.advance(Duration::from_millis(200));
        }
        killed_and_opened(&mut harness).await;
        kills += 1;
        assert!(kills < 400, "{:?}", seen.last());
    }
    assert!(kills > 2, "{seen:?}");
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(harness.store.dump().len(), empty, "nothing is left of leases, indices and data");
}
