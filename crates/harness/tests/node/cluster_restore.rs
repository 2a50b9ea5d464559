//! A snapshot is restored into a cluster that runs: every node has it, at once or when it comes back, whatever its keys are, and
//! a restore that breaks off has changed nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_harness::cluster::World;
use tresor_harness::{AUDIT_LOG, ROOT};
use tresor_secret::UnsealShare;
use tresor_storage::{Machine, pieces};

const PATH: &str = "sys/storage/raft/snapshot";
const FORCE: &str = "sys/storage/raft/snapshot-force";
const SECOND: Duration = Duration::from_secs(1);

fn upload(path: &str, bytes: &[u8]) -> http::Request<Full<Bytes>> {
    let request = http::Request::builder().method("POST").uri(format!("/v1/{path}")).header("X-Vault-Token", ROOT);
    request.body(Full::new(Bytes::copy_from_slice(bytes))).unwrap()
}

async fn write(world: &World, at: usize, value: &str) {
    world.prepare(at, "POST", "kv/a", json!({ "is": value })).await;
}

async fn read(world: &World, at: usize) -> Value {
    world.prepare(at, "GET", "kv/a", Value::Null).await.at("/data/is").clone()
}

/// A cluster with a value, and its snapshot.
async fn lived(count: usize, seed: u64) -> (World, Vec<u8>) {
    let world = World::new(count, seed).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    write(&world, 0, "as it was").await;
    // More than goes with one entry.
    for at in 0..40 {
        world.prepare(0, "POST", &format!("kv/large-{at}"), json!({ "is": "x".repeat(100_000) })).await;
    }
    let leader = world.active().unwrap();
    let snapshot = world.prepare(leader, "GET", PATH, Value::Null).await.bytes;
    (world, snapshot)
}

async fn unseal(world: &World, at: usize, shares: &[Vec<u8>]) {
    for share in shares.iter().take(2) {
        drop(world.drive(world.node(at).enter_share(UnsealShare::new(share.clone()))).await);
    }
}

fn holds_pieces(world: &World) -> Vec<u32> {
    world.running().into_iter().map(|at| pieces::count(&*world.machine(at).snapshot().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn every_node_has_it_at_once_and_who_was_away_when_it_is_back() {
    let (mut world, snapshot) = lived(3, 1).await;
    write(&world, 1, "otherwise").await;
    world
        .prepare(1, "POST", "sys/policies/acl/later", json!({ "policy": r#"path "x" { capabilities = ["read"] }"# }))
        .await;
    assert_eq!(read(&world, 2).await, "otherwise");
    world.kill(2).await;
    let redirected = world.drive(world.send(1, upload(PATH, &snapshot))).await;
    assert_eq!(redirected.status, 307, "{redirected:?}");
    let restored = world.drive(world.send(0, upload(PATH, &snapshot))).await;
    assert_eq!(restored.status, 204, "{restored:?}");
    for at in [0, 1] {
        assert_eq!(read(&world, at).await, "as it was", "at n{at}");
        let gone = world.call(at, "GET", "sys/policies/acl/later", ROOT, Value::Null).await;
        assert_eq!(gone.status, 404, "{gone:?}");
        assert_eq!(world.node(at).stale_caches().unwrap(), Vec::<&str>::new());
    }
    write(&world, 1, "after it").await;
    world.start(2).await;
    world.unseal(2).await;
    assert_eq!(read(&world, 2).await, "after it");
    assert_eq!(world.node(2).stale_caches().unwrap(), Vec::<&str>::new());
    assert_eq!(holds_pieces(&world), [0, 0, 0]);
    // It is theirs, whoever leads; and it goes through the log like anything else.
    world.kill(0).await;
    let (leader, _) = world.another_active(0).await;
    assert_eq!(read(&world, leader).await, "after it");
    let restored = world.drive(world.send(leader, upload(PATH, &snapshot))).await;
    assert_eq!(restored.status, 204, "{restored:?}");
    world.start(0).await;
    world.unseal(0).await;
    for at in 0..3 {
        assert_eq!(read(&world, at).await, "as it was", "at n{at}");
    }
}

#[tokio::test]
async fn the_snapshot_of_another_cluster_seals_every_node_and_its_shares_open_each() {
    let (mut world, _) = lived(3, 2).await;
    let (other, foreign) = lived(1, 99).await;
    world
        .prepare(1, "PUT", "sys/audit/file", json!({ "type": "file", "options": { "file_path": "/data-of-audit" } }))
        .await;
    write(&world, 1, "recorded").await;
    for at in 0..3 {
        assert_eq!(read(&world, at).await, "recorded", "at n{at}");
    }
    world.kill(2).await;
    let refused = world.drive(world.send(0, upload(PATH, &foreign))).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let restored = world.drive(world.send(0, upload(FORCE, &foreign))).await;
    assert_eq!(restored.status, 204, "{restored:?}");
    world.until("both are sealed", || [0, 1].iter().all(|at| world.node(*at).standing().unwrap().sealed)).await;
    world.start(2).await;
    world.pass(3 * SECOND).await;
    let own = world.shares.clone();
    for at in 0..3 {
        unseal(&world, at, &own).await;
        let sealed = world.call(at, "GET", "kv/a", ROOT, Value::Null).await;
        assert_eq!(sealed.status, 503, "n{at}: {sealed:?}");
    }
    world.shares.clone_from(&other.shares);
    for at in 0..3 {
        world.unseal(at).await;
    }
    world.pass(3 * SECOND).await;
    for at in 0..3 {
        assert_eq!(read(&world, at).await, "as it was", "at n{at}");
    }
    write(&world, 1, "of both").await;
    // What was recorded under other keys is set aside, on every node that recorded something.
    let aside = format!("{AUDIT_LOG}-of-before-1");
    for at in 0..3 {
        let is_aside = world.disk(at).dump().keys().any(|path| path.starts_with(&aside));
        assert!(is_aside, "n{at}");
    }
    world.kill(0).await;
    let (leader, _) = world.another_active(0).await;
    assert_eq!(read(&world, leader).await, "of both");
}

#[tokio::test]
async fn a_restore_that_breaks_off_has_changed_nothing_and_leaves_nothing() {
    let (mut broken_off, mut done) = (0, 0);
    for after in [1, 3, 5, 7, 9, 11] {
        let (mut world, snapshot) = lived(3, 3).await;
        write(&world, 1, "otherwise").await;
        let restoring = world.sending(0, upload(PATH, &snapshot));
        let task = tokio::spawn(restoring);
        for _ in 0..after {
            tokio::task::yield_now().await;
        }
        let has_begun = holds_pieces(&world).iter().any(|count| *count > 0);
        world.kill(0).await;
        task.abort();
        let (leader, _) = world.another_active(0).await;
        let is = read(&world, leader).await;
        assert!(is == "otherwise" || is == "as it was", "after {after}: {is}");
        broken_off += u32::from(has_begun && is == "otherwise");
        done += u32::from(is == "as it was");
        world.start(0).await;
        world.unseal(0).await;
        world.pass(3 * SECOND).await;
        for at in 0..3 {
            assert_eq!(read(&world, at).await, is, "after {after}, at n{at}");
        }
        assert_eq!(holds_pieces(&world), [0, 0, 0], "after {after}");
        let restored = world.drive(world.send(leader, upload(PATH, &snapshot))).await;
        assert_eq!(restored.status, 204, "after {after}: {restored:?}");
        assert_eq!(read(&world, 0).await, "as it was");
    }
    assert!(broken_off > 1 && done > 0, "{broken_off}, {done}: it never broke off where it matters");
}

#[tokio::test]
async fn a_leader_that_is_parted_meanwhile_restores_nothing_and_serves_on() {
    let (world, snapshot) = lived(3, 4).await;
    write(&world, 1, "otherwise").await;
    world.part(&[0]);
    let answer = world.drive(world.send(0, upload(PATH, &snapshot))).await;
    assert!([502, 503].contains(&answer.status), "{answer:?}");
    world.fabric.heal();
    world.pass(3 * SECOND).await;
    for at in 0..3 {
        assert_eq!(read(&world, at).await, "otherwise", "at n{at}");
    }
    world.pass(2 * SECOND).await;
    assert_eq!(holds_pieces(&world), [0, 0, 0]);
}
