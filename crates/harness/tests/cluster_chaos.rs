//! Clusters in which nodes die, lose their power and are parted, by a seed: what was acknowledged by any node is there on every
//! one afterwards, and caches are what is stored.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::json;
use tresor_env::doubles::SeededEntropy;
use tresor_harness::ROOT;
use tresor_harness::cluster::World;

const NODES: usize = 3;
const STEPS: usize = 60;
const SEEDS: u64 = 3;

/// One life of a cluster; tells how many writes were acknowledged, and how many were not.
async fn live(seed: u64) -> (usize, usize) {
    let chance = SeededEntropy::new(seed ^ 0xc4a0);
    let pick = |below: usize| usize::try_from(chance.next() % below as u64).unwrap();
    let mut world = World::new(NODES, seed).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    let (mut acknowledged, mut attempts) = (Vec::new(), 0);
    for step in 0..STEPS {
        match pick(12) {
            0 if world.running().len() == NODES => world.kill(pick(NODES)).await,
            1 if world.running().len() == NODES => world.lose_power(pick(NODES)).await,
            2 if world.running().len() == NODES => world.stop(pick(NODES)).await,
            3 => world.part(&[pick(NODES)]),
            4 | 5 => {
                world.fabric.heal();
                revive(&mut world).await;
            }
            6 => world.pass(Duration::from_millis(chance.next() % 1500)).await,
            _ => {
                let running = world.running();
                let at = running[pick(running.len())];
                attempts += 1;
                let answer =
                    world.call(at, "POST", &format!("kv/data/w{step}"), ROOT, json!({ "data": { "v": step } })).await;
                assert!(matches!(answer.status, 200 | 502 | 503), "seed {seed}, step {step}: {answer:?}");
                if answer.status == 200 {
                    acknowledged.push(step);
                }
            }
        }
    }
    world.fabric.heal();
    revive(&mut world).await;
    world.until("a node is active", || world.active().is_some()).await;
    world.pass(Duration::from_secs(3)).await;
    for at in 0..NODES {
        for step in &acknowledged {
            let answer = world.call(at, "GET", &format!("kv/data/w{step}"), ROOT, json!(null)).await;
            assert_eq!(answer.status, 200, "seed {seed}: w{step} is not at n{at}: {answer:?}");
            assert_eq!(answer.at("/data/data/v"), &json!(step), "seed {seed}: w{step} at n{at}");
        }
        assert!(world.node(at).stale_caches().unwrap().is_empty(), "seed {seed}: n{at}");
    }
    (acknowledged.len(), attempts)
}

/// Starts whoever is down, and unseals it.
async fn revive(world: &mut World) {
    for at in 0..NODES {
        if !world.running().contains(&at) {
            world.fabric.restore_power(tresor_harness::cluster::ip(at));
            world.start(at).await;
        }
        if world.node(at).standing().unwrap().sealed {
            world.unseal(at).await;
        }
    }
}

#[tokio::test]
async fn what_any_node_acknowledged_survives_whatever_happens_to_one_node_at_a_time() {
    let (mut acknowledged, mut attempts) = (0, 0);
    for seed in 1..=SEEDS {
        let (more, tried) = live(seed).await;
        (acknowledged, attempts) = (acknowledged + more, attempts + tried);
    }
    assert!(acknowledged * 2 > attempts, "{acknowledged} of {attempts} writes were acknowledged");
}
