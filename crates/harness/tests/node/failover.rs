//! Another node leads in the middle of something outside the server: a renewal, a rotation, many leases that end at once. (In
//! the middle of a creation: `outside`.) Whatever the one that led before had begun, in the end no account is without a lease,
//! and no lease without its account.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::cluster::World;
use tresor_harness::lending::{Does, Service, service};
use tresor_harness::{ROOT, assembly};

/// Longer than anything is left alone that a leader had begun.
const LONG: u64 = 150;

async fn world(seed: u64, name: &str) -> (World, Arc<Service>) {
    let mut world = World::new(3, seed).await;
    world.prepare(0, "POST", "sys/mounts/lent", json!({ "type": "lending" })).await;
    world.prepare(0, "POST", "lent/config", json!({ "service": name })).await;
    world.step = Duration::from_millis(40);
    (world, service(name))
}

/// Lets time pass, however much.
async fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds.div_ceil(10) {
        world.pass(Duration::from_secs(10)).await;
    }
}

/// Drives the world until something is so.
async fn until(world: &World, is_so: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if is_so() {
            return;
        }
        world.pass(Duration::from_millis(40)).await;
    }
    panic!("it is never so");
}

#[tokio::test]
async fn a_renewal_in_the_middle_of_which_another_leads_neither_loses_the_lease_nor_keeps_the_account() {
    let (world, service) = world(21, "renewed-across").await;
    let made = world.prepare(1, "GET", "lent/creds/role?ttl=200s", Value::Null).await;
    let (id, account) = (made.text_at("/lease_id"), made.text_at("/data/username"));
    pass(&world, 20).await;
    service.is_told(Does::Hangs);
    let request = assembly::request("PUT", "sys/leases/renew", ROOT, &json!({ "lease_id": id }));
    let mut asking = Box::pin(world.sending(1, request));
    world
        .drive(async {
            while service.hanging() == 0 {
                tokio::select! { biased; _ = &mut asking => panic!("it hangs"), () = tokio::task::yield_now() => {} }
            }
        })
        .await;
    world.pause(0);
    let (leader, _) = world.another_active(0).await;
    // It comes true when nobody of those who asked leads any more.
    service.is_told(Does::Everything);
    let answer = world.drive(asking).await;
    assert!(answer.status >= 500, "{answer:?}");
    world.resume(0);
    pass(&world, 10).await;
    // It is in use, and may be renewed by whoever leads.
    assert!(service.accounts().contains(&account));
    let renewed =
        world.call(leader, "PUT", "sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_status(200);
    assert_eq!(renewed.at("/lease_duration"), &json!(200));
    pass(&world, 150).await;
    assert!(service.accounts().contains(&account), "not before its time");
    pass(&world, 70).await;
    assert_eq!(service.accounts().len(), 0);
    world.call(leader, "LIST", "sys/leases/lookup/lent/creds/role", ROOT, Value::Null).await.expect_error(404, "");
}

#[tokio::test]
async fn a_workflow_is_run_through_any_node_and_ends_with_the_leader_that_runs_it() {
    let (world, service) = world(24, "run-across").await;
    let made = r#"flow "f" {
        request "account" { operation = "read" path = "lent/creds/role" }
        request "note" { operation = "update" path = "kv/noted" data = { v = 1 } } }
      output { data = { name = { eval_source = "response" eval_type = "string" flow_name = "f" response_name = "account" field_selector = ["data", "username"] } } }"#;
    drop(world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await);
    drop(world.prepare(1, "POST", "sys/workflows/manage/make", json!({ "workflow": made })).await);
    // Whoever is asked, it is run once.
    for at in 0..3 {
        let name = world.prepare(at, "POST", "sys/workflows/execute/make", json!({})).await.text_at("/data/name");
        assert!(service.accounts().contains(&name));
        drop(world.prepare(at, "DELETE", "kv/noted", Value::Null).await);
    }
    assert_eq!(service.accounts().len(), 3);
    service.is_told(Does::Hangs);
    let request = assembly::request("POST", "sys/workflows/execute/make", ROOT, &json!({}));
    let mut asking = Box::pin(world.sending(1, request));
    world
        .drive(async {
            while service.waiting() == 0 {
                tokio::select! { biased; answer = &mut asking => panic!("it hangs: {answer:?}"), () = tokio::task::yield_now() => {} }
            }
        })
        .await;
    world.pause(0);
    let (leader, _) = world.another_active(0).await;
    service.is_told(Does::Everything);
    let answer = world.drive(asking).await;
    assert!(answer.status >= 500, "{answer:?}");
    world.resume(0);
    pass(&world, LONG).await;
    // Nothing that came after is done, and what was begun is taken back.
    world.call(leader, "GET", "kv/noted", ROOT, Value::Null).await.expect_error(404, "");
    assert_eq!(service.accounts().len(), 3, "those of the ones that ended well");
    // It can be run again.
    for at in 0..3 {
        drop(world.prepare(at, "POST", "sys/workflows/execute/make", json!({})).await);
    }
    drop(world.prepare(leader, "GET", "kv/noted", Value::Null).await);
}

#[tokio::test]
async fn a_rotation_in_the_middle_of_which_another_leads_is_finished_with_the_password_that_was_stored() {
    let (world, service) = world(22, "rotated-across").await;
    drop(world.prepare(0, "POST", "lent/fixed/app", json!({ "every": "100s" })).await);
    let asked = service.asked();
    service.is_told(Does::Hangs);
    pass(&world, 100).await;
    until(&world, || service.asked() > asked).await;
    world.pause(0);
    let (leader, _) = world.another_active(0).await;
    service.is_told(Does::Everything);
    world.resume(0);
    until(&world, || service.passwords("app").len() >= 2).await;
    pass(&world, 10).await;
    let shown = world.call(leader, "GET", "lent/fixed/app", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(service.passwords("app").last(), Some(&shown.text_at("/data/password")));
}

#[tokio::test]
async fn a_crowd_of_leases_that_end_while_another_takes_the_lead_leaves_no_account() {
    let (world, service) = world(23, "ended-across").await;
    for _ in 0..40 {
        drop(world.prepare(0, "GET", "lent/creds/role?ttl=60s", Value::Null).await);
    }
    let stays = world.prepare(0, "GET", "lent/creds/role?ttl=1h", Value::Null).await.text_at("/data/username");
    assert_eq!(service.accounts().len(), 41);
    let asked = service.asked();
    service.is_told(Does::Hangs);
    // The first ones of them are asked for.
    until(&world, || service.asked() >= asked + 10).await;
    world.pause(0);
    let (leader, _) = world.another_active(0).await;
    assert_eq!(service.accounts().len(), 41, "in the middle of it");
    service.is_told(Does::Everything);
    pass(&world, 30).await;
    world.resume(0);
    pass(&world, LONG).await;
    assert_eq!(service.accounts().into_iter().collect::<Vec<_>>(), [stays]);
    let irrevocable = world.call(leader, "GET", "sys/leases/count?type=irrevocable", ROOT, Value::Null).await;
    assert_eq!(irrevocable.at("/data/lease_count"), &json!(0));
    let shown = world.call(leader, "GET", "sys/leases/tree/lent", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(shown.at("/data/mounts/0/paths"), &json!([{ "path": "lent/creds/role", "lease_count": 1 }]));
    assert_eq!(world.node(leader).stale_caches().unwrap(), [""; 0]);
}
