//! Joining a cluster of whole nodes: several at once, and whoever dies in the middle of it.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tresor_core::cluster::Cluster;
use tresor_env::doubles::Weather;
use tresor_harness::cluster::{STEP, World};
use tresor_harness::{ROOT, assembly};
use tresor_secret::UnsealShare;

/// Names and votes, as a node knows them.
fn votes(world: &World, at: usize) -> Vec<(String, bool)> {
    let members = world.cluster(at).members();
    let mut votes: Vec<_> = members.into_iter().map(|member| (member.contact.name, member.is_voter)).collect();
    votes.sort();
    votes
}

fn all_vote(count: usize) -> Vec<(String, bool)> {
    (0..count).map(|at| (format!("n{at}"), true)).collect()
}

fn is_open(world: &World, at: usize) -> bool {
    !world.node(at).standing().unwrap().sealed
}

/// A cluster of so many, and one more that has not joined, with something stored.
async fn with_one_more(count: usize, seed: u64) -> World {
    let mut world = World::uninitialized(count + 1, seed).await;
    world.initialize().await;
    for at in 1..count {
        world.join(at).await;
    }
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    world.prepare(0, "POST", "kv/a", json!({ "x": "kept" })).await;
    world
}

/// Enters all shares but the last, once the node knows what of.
async fn enter_first(world: &World, at: usize) {
    world.until("it knows what to open", || world.node(at).standing().unwrap().facts.initialized).await;
    world.drive(world.node(at).enter_share(UnsealShare::new(world.shares[0].clone()))).await.unwrap();
}

#[tokio::test]
async fn nodes_that_join_at_once_are_let_in_one_after_the_other() {
    let mut world = World::uninitialized(4, 3).await;
    world.initialize().await;
    for at in 1..4 {
        world.begin_to_join(at);
    }
    for at in 1..4 {
        enter_first(&world, at).await;
    }
    let last = |at: usize| world.node(at).enter_share(UnsealShare::new(world.shares[1].clone()));
    let (one, two, three) = world.drive(async { tokio::join!(last(1), last(2), last(3)) }).await;
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    assert!((0..4).all(|at| is_open(&world, at)));
    world.until("all vote", || votes(&world, 0) == all_vote(4)).await;
}

#[tokio::test]
async fn a_node_joins_whenever_the_leader_is_killed_meanwhile() {
    for steps in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
        let mut world = with_one_more(3, 4).await;
        world.begin_to_join(3);
        enter_first(&world, 3).await;
        let node = world.node(3).clone();
        let last = UnsealShare::new(world.shares[1].clone());
        let entering = tokio::spawn(async move { node.enter_share(last).await });
        for _ in 0..steps {
            world.pass(STEP).await;
        }
        world.kill(0).await;
        world.another_active(0).await;
        world.until("it is open", || is_open(&world, 3)).await;
        world.until("it is answered", || entering.is_finished()).await;
        world.until("it votes", || votes(&world, 3) == all_vote(4)).await;
        let read = world.call(3, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/x"), &json!("kept"), "after {steps} steps");
    }
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_joins_is_let_in_once() {
    for steps in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
        let mut world = with_one_more(2, 5).await;
        world.begin_to_join(2);
        enter_first(&world, 2).await;
        let node = world.node(2).clone();
        let last = UnsealShare::new(world.shares[1].clone());
        let entering = tokio::spawn(async move { node.enter_share(last).await });
        for _ in 0..steps {
            world.pass(STEP).await;
        }
        world.kill(2).await;
        entering.abort();
        world.pass(Duration::from_secs(2)).await;
        world.start(2).await;
        // Whether it was let in before or not, it has a key to open, and comes to be a member.
        world.unseal(2).await;
        world.until("it votes", || votes(&world, 2) == all_vote(3)).await;
        let read = world.call(2, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/x"), &json!("kept"), "after {steps} steps");
    }
}

/// Opened twice, it would have two of everything for a moment, and of two audit logs in one place one is read by nobody.
#[tokio::test]
async fn a_node_whose_shares_are_entered_twice_while_it_joins_is_opened_once() {
    const FILE: &str = "/audit/first.log";
    for steps in [1, 2, 3, 5, 8] {
        let mut world = with_one_more(2, 6).await;
        let device = json!({ "type": "file", "options": { "file_path": FILE } });
        world.prepare(0, "POST", "sys/audit/first", device).await;
        let delay_max = Duration::from_millis(20);
        world.fabric.set_weather(Weather { delay_max, ..Weather::default() });
        world.begin_to_join(2);
        world.until("it knows what to open", || world.node(2).standing().unwrap().facts.initialized).await;
        let first = tokio::spawn(world.entering_shares(2));
        for _ in 0..steps {
            world.pass(STEP).await;
        }
        let second = tokio::spawn(world.entering_shares(2));
        world.until("it is open", || is_open(&world, 2)).await;
        let mut asked = Vec::new();
        for port in 1000..1100 {
            let request = assembly::request("GET", "kv/a", ROOT, &json!(null));
            asked.push((port, tokio::spawn(world.sending_from(2, port, request))));
            world.pass(STEP).await;
        }
        world.until("all is answered", || asked.iter().all(|(_, answer)| answer.is_finished())).await;
        assert!(first.is_finished() && second.is_finished());
        world.pass(Duration::from_secs(2)).await;
        let written = world.disk(2).dump().remove(Path::new(FILE)).unwrap_or_default();
        let written = String::from_utf8(written).unwrap();
        for (port, answer) in asked {
            assert_eq!(answer.await.unwrap().status, 200);
            let of_it = format!("\"remote_port\":{port}");
            let lines = written.lines().filter(|line| line.contains(&of_it)).count();
            assert_eq!(lines, 2, "of the read from port {port}, after {steps} steps");
        }
    }
}

#[tokio::test]
async fn a_node_that_removes_itself_is_answered_and_learns_it_though_few_answer() {
    let mut world = World::new(5, 11).await;
    world.kill(1).await;
    world.until("a leader", || world.active().is_some_and(|at| at != 1)).await;
    if world.active() == Some(4) {
        world.prepare(4, "POST", "sys/step-down", json!({})).await;
        world.another_active(4).await;
    }
    let removed = world.call(4, "POST", "sys/storage/raft/remove-peer", ROOT, json!({ "server_id": "n4" })).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    let knows = |world: &World| world.cluster(4).is_removed();
    world.until("it to know", || knows(&world)).await;
    assert_eq!(world.call(4, "GET", "sys/health", "", json!(null)).await.status, 530);
    // So it does when it is started again, sealed, and of four others two refuse it, which is no majority.
    world.kill(2).await;
    world.kill(4).await;
    world.start(4).await;
    world.until("it to know again", || knows(&world)).await;
    assert!(votes(&world, 0).iter().all(|(name, _)| name != "n4"));
    // A member that is cut off asks, too, and is told nothing of the kind.
    world.part(&[3]);
    world.pass(Duration::from_secs(20)).await;
    assert!(!world.cluster(3).is_removed());
}

#[tokio::test]
async fn the_leader_is_removed_or_loses_its_vote_whoever_is_asked() {
    for (seed, through_leader) in [(21, true), (22, false)] {
        let world = World::new(4, seed).await;
        for change in ["demote", "remove-peer"] {
            let leader = world.active().unwrap();
            let asked = if through_leader { leader } else { (leader + 1) % 4 };
            let name = format!("n{leader}");
            let path = format!("sys/storage/raft/{change}");
            let done = world.call(asked, "POST", &path, ROOT, json!({ "server_id": name })).await;
            assert_eq!(done.status, 204, "{change} through n{asked} while n{leader} leads: {done:?}");
            let (active, _) = world.another_active(leader).await;
            let after = votes(&world, active).into_iter().find(|(member, _)| *member == name);
            assert_eq!(after, (change == "demote").then_some((name, false)));
        }
    }
}

#[tokio::test]
async fn a_vote_whose_absence_would_leave_too_few_is_not_taken_and_everything_goes_on() {
    let mut world = World::new(5, 31).await;
    let leader = world.active().unwrap();
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    let (asked, gone) = (others[0], &others[2..]);
    world.step = Duration::from_millis(40);
    for at in gone {
        world.kill(*at).await;
    }
    world.pass(Duration::from_secs(15)).await;
    for (change, name) in [("remove-peer", others[1]), ("demote", others[1]), ("remove-peer", leader)] {
        let path = format!("sys/storage/raft/{change}");
        let refused = world.call(asked, "POST", &path, ROOT, json!({ "server_id": format!("n{name}") })).await;
        assert_eq!(refused.status, 400, "{change} n{name}: {refused:?}");
        let why = "only 2 of the 4 nodes that would have to agree are heard";
        assert!(refused.json["errors"][0].as_str().unwrap().contains(why), "{refused:?}");
    }
    for at in gone {
        let body = json!({ "server_id": format!("n{at}") });
        let done = world.call(asked, "POST", "sys/storage/raft/remove-peer", ROOT, body).await;
        assert_eq!(done.status, 204, "one that is gone, n{at}: {done:?}");
    }
    assert_eq!(votes(&world, leader).len(), 3);
}
