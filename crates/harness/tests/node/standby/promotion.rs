//! Becoming active, and giving leadership up when that does not succeed.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tresor_core::role::Role;
use tresor_harness::ROOT;

use super::pair::Pair;

/// Lets the standby lead, and gives it so many seconds.
async fn promote(pair: &Pair, seconds: u64) {
    pair.group.let_lead(Some(1));
    for _ in 0..seconds {
        pair.standby.pass(1).await;
    }
}

#[tokio::test]
async fn a_node_is_active_while_it_leads() {
    let pair = Pair::start().await;
    assert!(matches!(pair.leader.node.role(), Some(Role::Active { term: 1, .. })));
    assert_eq!(pair.standby.node.role(), Some(Role::Standby));
    promote(&pair, 1).await;
    pair.leader.pass(1).await;
    assert!(matches!(pair.standby.node.role(), Some(Role::Active { .. })));
    assert_eq!(pair.leader.node.role(), Some(Role::Standby));
    assert_eq!(pair.group.stepped_down.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_node_that_cannot_serve_gives_leadership_up_whatever_step_fails() {
    for step in ["reading fails", "writing fails", "writing hangs"] {
        let pair = Pair::start().await;
        match step {
            "reading fails" => pair.group.is_unreadable(Some(1)),
            "writing fails" => pair.group.take_nothing(&[1]),
            _ => pair.standby.workers.0.store(true, Ordering::Relaxed),
        }
        promote(&pair, if step == "writing hangs" { 6 } else { 1 }).await;
        assert_eq!(pair.group.stepped_down.load(Ordering::Relaxed), 1, "{step}");
        assert_eq!(pair.standby.node.role(), Some(Role::Standby), "{step}");
        pair.leader.pass(1).await;
        drop(pair.leader.call("GET", "sys/mounts", ROOT, Value::Null).await.expect_status(200));
    }
}

#[tokio::test]
async fn a_leader_that_can_write_no_more_gives_leadership_up() {
    let pair = Pair::start().await;
    pair.group.take_nothing(&[0]);
    for _ in 0..6 {
        pair.leader.pass(1).await;
    }
    assert_eq!(pair.group.stepped_down.load(Ordering::Relaxed), 1);
    assert_eq!(pair.leader.node.role(), Some(Role::Standby));
}

#[tokio::test]
async fn what_ends_is_collected_by_the_leader_alone_and_by_the_next_one() {
    let pair = Pair::start().await;
    let made = json!({ "ttl": "30s", "policies": ["default"] });
    let made = pair.leader.call("POST", "auth/token/create", ROOT, made).await.expect_status(200);
    let accessor = json!({ "accessor": made.text_at("/auth/accessor") });
    for peer in [&pair.leader, &pair.standby] {
        peer.doors.clock.advance(std::time::Duration::from_secs(29));
    }
    // The standby alone goes past its end: nothing is collected by it.
    pair.standby.pass(5).await;
    pair.standby.pass(5).await;
    drop(pair.leader.call("POST", "auth/token/lookup-accessor", ROOT, accessor.clone()).await.expect_status(200));
    promote(&pair, 3).await;
    pair.leader.pass(1).await;
    for peer in [&pair.leader, &pair.standby] {
        let gone = peer.call("POST", "auth/token/lookup-accessor", ROOT, accessor.clone()).await;
        assert!(gone.errors().contains("invalid accessor"), "{gone:?}");
    }
}

#[tokio::test]
async fn when_no_node_can_write_each_serves_reads_as_far_as_it_can() {
    let pair = Pair::start().await;
    pair.group.take_nothing(&[0, 1]);
    for _ in 0..30 {
        pair.leader.pass(1).await;
        pair.standby.pass(1).await;
        for peer in [&pair.leader, &pair.standby] {
            drop(peer.call("GET", "sys/mounts", ROOT, Value::Null).await.expect_status(200));
        }
    }
    let times = pair.group.stepped_down.load(Ordering::Relaxed);
    assert!((1..=8).contains(&times), "leadership went round {times} times");
}
