//! Clusters of several nodes: what was acknowledged survives its leader, whoever is asked.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tresor_core::cluster::Cluster;
use tresor_harness::cluster::World;
use tresor_harness::{Answer, ROOT, assembly};
use tresor_storage::Store;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn what_was_acknowledged_is_there_when_another_leads_within_a_second_and_a_half() {
    let mut world = World::new(3, 1).await;
    assert_eq!(world.active(), Some(0));
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    let write = |number: u32| json!({ "data": { "number": number } });
    for number in 0..20 {
        world.prepare(0, "POST", &format!("kv/data/s{number}"), write(number)).await;
    }
    world.kill(0).await;
    let (leader, took) = world.another_active(0).await;
    assert!(took < Duration::from_millis(1500), "it took {took:?} until another was active");
    let answer = world.call(leader, "POST", "kv/data/after", ROOT, write(20)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let other = 3 - leader;
    for at in [leader, other] {
        for number in 0..20 {
            let answer = world.prepare(at, "GET", &format!("kv/data/s{number}"), json!(null)).await;
            assert_eq!(answer.at("/data/data/number"), &json!(number));
        }
    }
    // The one that died is a node of the cluster again, and has what it missed.
    world.start(0).await;
    world.unseal(0).await;
    world.pass(SECOND).await;
    assert_eq!(world.active(), Some(leader));
    let answer = world.prepare(0, "GET", "kv/data/after", json!(null)).await;
    assert_eq!(answer.at("/data/data/number"), &json!(20));
}

#[tokio::test]
async fn any_node_takes_writes_and_a_node_that_stops_lets_another_lead_first() {
    let mut world = World::new(3, 2).await;
    world.prepare(1, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    for at in 0..3 {
        world.prepare(at, "POST", "kv/data/s", json!({ "data": { "at": at } })).await;
        for seen in 0..3 {
            let answer = world.prepare(seen, "GET", "kv/data/s", json!(null)).await;
            assert_eq!(answer.at("/data/data/at"), &json!(at), "written at n{at}, read at n{seen}");
        }
    }
    let begun = world.now();
    world.stop(0).await;
    let (leader, _) = world.another_active(0).await;
    let took = world.now() - begun;
    assert!(took < Duration::from_millis(300), "it took {took:?} until another was active");
    let answer = world.prepare(3 - leader, "GET", "kv/data/s", json!(null)).await;
    assert_eq!(answer.at("/data/data/at"), &json!(2));
}

#[tokio::test]
async fn a_dead_node_is_removed_by_the_leader_and_three_voters_are_left_whatever_happens() {
    let mut world = World::new(4, 3).await;
    let path = "sys/storage/raft/autopilot/configuration";
    let refused = world.call(1, "POST", path, ROOT, json!({ "dead_server_last_contact_threshold": "59s" })).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let refused = world.call(1, "POST", path, ROOT, json!({ "min_quorum": 2 })).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    world.prepare(1, "POST", path, json!({ "dead_server_last_contact_threshold": "1m" })).await;
    let shown = world.prepare(2, "GET", path, json!(null)).await;
    assert_eq!(shown.at("/data/dead_server_last_contact_threshold"), "1m0s");
    assert_eq!(shown.at("/data/cleanup_dead_servers"), true);
    let state = world.prepare(2, "GET", "sys/storage/raft/autopilot/state", json!(null)).await;
    assert_eq!(state.at("/data/healthy"), true, "{state:?}");
    assert_eq!(state.at("/data/failure_tolerance"), 1);
    assert_eq!(state.at("/data/servers/n0/status"), "leader");
    assert_eq!(state.at("/data/voters").as_array().unwrap().len(), 4);
    world.step = Duration::from_millis(40);
    for (killed, left) in [(3, 3), (2, 3)] {
        world.kill(killed).await;
        world.pass(30 * SECOND).await;
        let state = world.prepare(1, "GET", "sys/storage/raft/autopilot/state", json!(null)).await;
        assert_eq!(state.at(&format!("/data/servers/n{killed}/healthy")), false, "{state:?}");
        world.pass(35 * SECOND).await;
        let state = world.prepare(1, "GET", "sys/storage/raft/autopilot/state", json!(null)).await;
        assert_eq!(state.at("/data/voters").as_array().unwrap().len(), left, "{state:?}");
    }
}

#[tokio::test]
async fn a_write_that_too_few_nodes_took_is_told_as_one_of_which_nobody_knows() {
    let mut world = World::new(3, 4).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    world.kill(1).await;
    world.kill(2).await;
    let answer = world.call(0, "POST", "kv/data/s", ROOT, json!({ "data": { "at": 0 } })).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    // Now that it knows, it says so at once, and nothing was done.
    let answer = world.call(0, "POST", "kv/data/s", ROOT, json!({ "data": { "at": 1 } })).await;
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[tokio::test]
async fn a_leader_that_is_sealed_lets_another_lead_and_goes_on_taking_the_log() {
    let world = World::new(3, 5).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    world.prepare(0, "PUT", "sys/seal", json!(null)).await;
    let (leader, took) = world.another_active(0).await;
    assert!(took < Duration::from_millis(1500), "it took {took:?} until another was active");
    world.prepare(leader, "POST", "kv/data/s", json!({ "data": { "at": leader } })).await;
    world.unseal(0).await;
    let answer = world.prepare(0, "GET", "kv/data/s", json!(null)).await;
    assert_eq!(answer.at("/data/data/at"), &json!(leader));
    assert_eq!(world.active(), Some(leader));
    // When all are sealed, the first one that is opened leads.
    for at in 0..3 {
        world.prepare(at, "PUT", "sys/seal", json!(null)).await;
    }
    world.pass(2 * SECOND).await;
    let opened = (0..3).find(|at| world.leader() != Some(*at)).unwrap();
    world.unseal(opened).await;
    let (_, took) = world.another_active(3).await;
    assert!(took < 2 * SECOND, "it took {took:?} until the node that was opened was active");
    assert_eq!(world.active(), Some(opened));
}

#[tokio::test]
async fn a_cluster_that_lost_its_power_everywhere_is_opened_again() {
    let mut world = World::new(3, 6).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    world.prepare(1, "POST", "kv/data/s", json!({ "data": { "at": 1 } })).await;
    for at in 0..3 {
        world.lose_power(at).await;
    }
    world.pass(5 * SECOND).await;
    for at in 0..3 {
        world.fabric.restore_power(tresor_harness::cluster::ip(at));
        world.start(at).await;
    }
    // Two are enough, and the third is sealed still.
    for at in [1, 2] {
        world.unseal(at).await;
    }
    let (leader, took) = world.another_active(0).await;
    assert!(took < 5 * SECOND, "it took {took:?}");
    let answer = world.prepare(3 - leader, "GET", "kv/data/s", json!(null)).await;
    assert_eq!(answer.at("/data/data/at"), &json!(1));
}

#[tokio::test]
async fn a_node_by_itself_whose_disk_failed_is_read_still_and_can_be_sealed() {
    let world = World::new(1, 9).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    world.prepare(0, "POST", "kv/a", json!({ "v": 1 })).await;
    let disk = world.disk(0);
    disk.fail_from_step(Some(disk.steps()));
    let failed = world.call(0, "POST", "kv/a", ROOT, json!({ "v": 2 })).await;
    assert!(failed.status >= 500, "{failed:?}");
    // What failed once is not tried again, though the disk is well again: the log may lack what it was to take.
    disk.fail_from_step(None);
    world.pass(SECOND).await;
    world.call(0, "POST", "kv/a", ROOT, json!({ "v": 3 })).await.expect_error(503, "its disk failed");
    assert_eq!(world.prepare(0, "GET", "kv/a", json!(null)).await.at("/data/v"), &json!(1));
    world.prepare(0, "POST", "sys/seal", json!(null)).await;
}

#[tokio::test]
async fn a_node_of_several_whose_disk_failed_says_at_once_that_it_is_out_of_service_and_the_others_go_on() {
    let world = World::new(3, 10).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    let leader = world.active().unwrap();
    let disk = world.disk(leader);
    disk.fail_from_step(Some(disk.steps()));
    let failed = world.call(leader, "POST", "kv/a", ROOT, json!({ "v": 1 })).await;
    assert!(failed.status >= 500, "{failed:?}");
    let (next, _) = world.another_active(leader).await;
    world.prepare(next, "POST", "kv/a", json!({ "v": 2 })).await;
    // Long before anybody would have waited for a leader in vain.
    let begun = world.now();
    for method in ["GET", "POST"] {
        let refused = world.call(leader, method, "kv/a", ROOT, json!({ "v": 3 })).await;
        refused.expect_error(503, "this node is out of service, since its storage failed");
    }
    let health = world.call(leader, "GET", "sys/health?standbyok=true", "", json!(null)).await.expect_status(503);
    assert!(health.text_at("/storage").contains("out of service until it is restarted"), "{health:?}");
    assert_eq!((health.at("/sealed"), health.at("/ha_connection_healthy")), (&json!(false), &json!(false)));
    assert!(world.now() - begun < SECOND, "it took {:?}", world.now() - begun);
}

#[tokio::test]
async fn what_any_node_answers_once_a_device_is_there_has_a_record() {
    let world = World::new(3, 7).await;
    let device = json!({ "type": "file", "options": { "file_path": "/audit/a.log" } });
    world.prepare(0, "POST", "sys/audit/a", device).await;
    for at in [1, 2] {
        world.prepare(at, "GET", "sys/mounts", json!(null)).await;
    }
    world.pass(2 * SECOND).await;
    for at in [1, 2] {
        let file = world.disk(at).dump().remove(std::path::Path::new("/audit/a.log")).unwrap_or_default();
        assert!(String::from_utf8(file).unwrap().contains("sys/mounts"), "n{at} has no record of what it answered");
    }
}

#[tokio::test]
async fn what_a_leader_left_half_done_about_mounts_the_next_one_ends() {
    let mut world = World::new(3, 8).await;
    let leader = world.active().unwrap();
    for path in ["kv", "gone"] {
        world.prepare(leader, "POST", &format!("sys/mounts/{path}"), json!({ "type": "kv" })).await;
        let write = |number| assembly::request("POST", &format!("{path}/{number}"), ROOT, &json!({ "number": number }));
        for answer in world.drive(join_all((0..400).map(|number| world.send(leader, write(number))))).await {
            drop(answer.expect_status(204));
        }
    }
    let tune = json!({ "options": { "version": "2" } });
    world.prepare(leader, "POST", "sys/mounts/kv/tune", tune).await;
    let id = world.prepare(leader, "GET", "sys/mounts/gone", json!(null)).await.text_at("/data/uuid");
    world.prepare(leader, "DELETE", "sys/mounts/gone", json!(null)).await;
    world.call(leader, "GET", "kv/data/399", ROOT, json!(null)).await.expect_error(400, "Upgrading from non-versioned");
    world.lose_power(leader).await;
    let (next, _) = world.another_active(leader).await;
    world.pass(10 * SECOND).await;
    for number in [0, 255, 399] {
        let read = world.prepare(next, "GET", &format!("kv/data/{number}"), json!(null)).await;
        assert_eq!(read.at("/data/data/number"), &json!(number));
    }
    let listed = world.prepare(3 - leader - next, "LIST", "kv/metadata/", json!(null)).await;
    assert_eq!(listed.at("/data/keys").as_array().unwrap().len(), 400);
    drop(world.call(next, "GET", &format!("sys/unmount/status/{id}"), ROOT, json!(null)).await.expect_status(404));
}

#[tokio::test]
async fn writers_that_wait_share_one_sync_of_each_node() {
    for nodes in [1, 3] {
        let world = World::new(nodes, 7).await;
        let leader = world.active().unwrap();
        world.prepare(leader, "POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
        let syncs = || -> Vec<u64> { (0..nodes).map(|at| world.cluster(at).store().syncs()).collect() };
        for writers in [1, 64, 256] {
            let before = syncs();
            let writes = (0..writers).map(|at| {
                let path = format!("kv/{writers}-{at}");
                world.send(leader, assembly::request("POST", &path, ROOT, &json!({ "x": "1" })))
            });
            for answer in world.drive(join_all(writes)).await {
                drop(answer.expect_status(204));
            }
            for (at, after) in syncs().into_iter().enumerate() {
                let took = after - before[at];
                // One write is one sync on each node; of many, those that wait share it.
                assert!(took <= 1 + writers / 32, "{writers} writers took {took} syncs of node {at} of {nodes}");
            }
        }
    }
}

#[tokio::test]
async fn a_deposed_leader_refuses_nothing_by_what_it_knew_before() {
    let world = World::new(3, 8).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    let write = |cas: u32| json!({ "data": { "at": cas }, "options": { "cas": cas } });
    world.prepare(0, "POST", "kv/data/s", write(0)).await;
    world.part(&[0]);
    let (leader, _) = world.another_active(0).await;
    world.prepare(leader, "POST", "kv/data/s", write(1)).await;
    assert!(world.cluster(0).standing().leads(), "it knows already");
    let asked = tokio::spawn(world.sending(0, assembly::request("POST", "kv/data/s", ROOT, &write(2))));
    world.pass(Duration::from_millis(20)).await;
    world.fabric.heal();
    let answer = world.drive(asked).await.unwrap();
    assert_eq!((answer.status, answer.at("/data/version")), (200, &json!(3)), "{answer:?}");
}

#[tokio::test]
async fn ns_07_what_one_leader_began_to_delete_the_next_one_ends() {
    let mut world = World::new(3, 9).await;
    world.prepare(0, "POST", "sys/namespaces/a", json!({})).await;
    world.prepare(0, "POST", "a/sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    let before = world.machine(1).dump().len();
    for number in 0..600 {
        world.prepare(0, "POST", &format!("a/kv/data/s{number}"), json!({ "data": { "v": "1" } })).await;
    }
    let full = world.machine(1).dump().len();
    world.prepare(0, "DELETE", "sys/namespaces/a", json!(null)).await;
    // The leader dies when some of it is gone, and some is not.
    let is_half_gone = |world: &World, at: usize| world.machine(at).dump().len() < full - 200;
    world.until("some of it is gone", || is_half_gone(&world, 1) && is_half_gone(&world, 2)).await;
    assert!(world.machine(1).dump().len() > before, "all of it is gone");
    world.kill(0).await;
    let (leader, _) = world.another_active(0).await;
    for _ in 0..120 {
        if world.call(leader, "GET", "sys/namespaces/a", ROOT, json!(null)).await.status == 404 {
            break;
        }
        world.pass(SECOND).await;
    }
    assert_eq!(world.call(leader, "GET", "sys/namespaces/a", ROOT, json!(null)).await.status, 404);
    let after = world.machine(leader).dump().len();
    // The namespace itself was six records; the directories above them, and the mark of the clock, may stay.
    assert!(after < before, "{before} records before it was filled, {after} after it was deleted");
}

/// A read at a node that says what is to become of it where the node lags behind; and how long it took.
async fn read_when_behind(world: &World, at: usize, path: &str, token: &str, says: &'static str) -> (Answer, Duration) {
    let mut request = assembly::request("GET", path, token, &json!(null));
    request.headers_mut().insert("X-Vault-Inconsistent", says.parse().unwrap());
    let begun = world.now();
    let answer = world.drive(world.send(at, request)).await;
    (answer, world.now() - begun)
}

/// How many entries an answer does without, if it says that it may.
fn behind(answer: &Answer) -> Option<u64> {
    answer.headers.get("x-tresor-behind").map(|behind| behind.to_str().unwrap().parse().unwrap())
}

/// A cluster with a secret `kv/data/s` whose `n` is 1, and a token that may read it; the leader has just told the time.
async fn with_a_secret(seed: u64) -> (World, String) {
    let world = World::new(3, seed).await;
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    world.prepare(0, "POST", "sys/policies/acl/reads", json!({ "policy": READS })).await;
    let made = world.prepare(0, "POST", "auth/token/create", json!({ "policies": ["reads"] })).await;
    world.prepare(0, "POST", "kv/data/s", json!({ "data": { "n": 1 } })).await;
    world.prepare(1, "GET", "kv/data/s", json!(null)).await;
    (world, made.text_at("/auth/client_token"))
}

const ELSEWHERE: &str = r#"path "elsewhere" { capabilities = ["read"] }"#;
const READS: &str = "path \"kv/*\" { capabilities = [\"read\"] }";
/// What answers at once takes less.
const AT_ONCE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_node_that_lags_behind_writes_of_secrets_answers_from_what_it_has_whoever_chooses_so() {
    let (world, token) = with_a_secret(41).await;
    // Where nothing is missing, nothing is.
    let (answer, _) = read_when_behind(&world, 1, "kv/data/s", &token, "allow-stale").await;
    assert_eq!((answer.status, behind(&answer)), (200, Some(0)), "{answer:?}");
    world.hold_back(1, true);
    for n in 2..5 {
        world.prepare(0, "POST", "kv/data/s", json!({ "data": { "n": n } })).await;
    }
    let (answer, took) = read_when_behind(&world, 1, "kv/data/s", &token, "allow-stale").await;
    assert_eq!((answer.status, answer.at("/data/data/n")), (200, &json!(1)), "{answer:?}");
    assert!(behind(&answer) >= Some(3) && took < AT_ONCE, "{answer:?}, {took:?}");
    // On the leader there is nothing to choose.
    let (answer, _) = read_when_behind(&world, 0, "kv/data/s", &token, "allow-stale").await;
    assert_eq!((answer.at("/data/data/n"), behind(&answer)), (&json!(4), None), "{answer:?}");
    // Who does not choose it is answered by the leader in the end, or at once.
    let (answer, took) = read_when_behind(&world, 1, "kv/data/s", &token, "forward-active-node").await;
    assert_eq!((answer.at("/data/data/n"), behind(&answer)), (&json!(4), None), "{answer:?}");
    assert!(took < AT_ONCE, "{took:?}");
    for says in ["", "fail", "await-state"] {
        let (answer, took) = read_when_behind(&world, 1, "kv/data/s", &token, says).await;
        assert_eq!((answer.at("/data/data/n"), behind(&answer)), (&json!(4), None), "{says}: {answer:?}");
        assert!(took >= SECOND * 2 && took < SECOND * 3, "{says}: {took:?}");
    }
    // Nobody is answered from what is older than the time that the leader told last.
    world.pass(SECOND * 6).await;
    let (answer, took) = read_when_behind(&world, 1, "kv/data/s", &token, "allow-stale").await;
    assert_eq!((answer.at("/data/data/n"), behind(&answer)), (&json!(4), None), "{answer:?}");
    assert!(took >= SECOND * 2, "{took:?}");
    // What writes is passed on as ever.
    let wrapped = read_when_behind(&world, 1, "auth/token/lookup-self", &token, "allow-stale").await.0;
    assert_eq!(wrapped.status, 200, "{wrapped:?}");
    let (refused, _) = read_when_behind(&world, 1, "kv/data/s", &token, "stale").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.errors().contains("`allow-stale`"), "{refused:?}");
    world.hold_back(1, false);
    world.pass(SECOND).await;
    let (answer, _) = read_when_behind(&world, 1, "kv/data/s", &token, "allow-stale").await;
    assert_eq!((answer.at("/data/data/n"), behind(&answer)), (&json!(4), Some(0)), "{answer:?}");
}

#[tokio::test]
async fn who_may_read_what_is_as_new_as_ever_where_data_may_be_old() {
    let (world, token) = with_a_secret(42).await;
    let write = |n: u32| json!({ "data": { "n": n } });
    let stale =
        async |path: &'static str, token: String| read_when_behind(&world, 1, path, &token, "allow-stale").await.0;
    // Lags behind from here on; says what is read at once, before anything but data changes.
    let lag = async |n: u32, token: &str| {
        world.hold_back(1, false);
        world.pass(SECOND).await;
        world.prepare(0, "POST", "kv/data/s", write(n)).await;
        world.prepare(1, "GET", "kv/data/s", json!(null)).await;
        world.hold_back(1, true);
        world.prepare(0, "POST", "kv/data/s", write(n + 1)).await;
        let old = stale("kv/data/s", token.to_owned()).await;
        assert_eq!((old.at("/data/data/n"), behind(&old)), (&json!(n), Some(1)), "{old:?}");
    };
    // Time is told every 5 s, and must not be told between a write and the read of what is older.
    world
        .until("the time is told", {
            let told = world.cluster(1).indexes().applied;
            let world = &world;
            move || world.cluster(1).indexes().applied > told
        })
        .await;
    lag(10, &token).await;
    // A policy that says something else.
    world.prepare(0, "POST", "sys/policies/acl/reads", json!({ "policy": ELSEWHERE })).await;
    assert_eq!(stale("kv/data/s", token.clone()).await.status, 403);
    world.prepare(0, "POST", "sys/policies/acl/reads", json!({ "policy": READS })).await;
    lag(20, &token).await;
    // Another term of the key ring.
    world.prepare(0, "PUT", "sys/rotate", json!(null)).await;
    let new = stale("kv/data/s", token.clone()).await;
    assert_eq!((new.at("/data/data/n"), behind(&new)), (&json!(21), None), "{new:?}");
    lag(30, &token).await;
    // A mount that goes, and another one in its place.
    world.prepare(0, "DELETE", "sys/mounts/kv", json!(null)).await;
    assert_eq!(stale("kv/data/s", token.clone()).await.status, 404, "its policy allows it, and it is not there");
    assert_eq!(stale("kv/data/s", ROOT.to_owned()).await.status, 404);
    world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
    assert_eq!(stale("kv/data/s", token.clone()).await.status, 404);
    lag(40, &token).await;
    // A mount that moves.
    world.prepare(0, "POST", "sys/remount", json!({ "from": "kv", "to": "elsewhere" })).await;
    world.pass(SECOND).await;
    let moved = stale("elsewhere/data/s", ROOT.to_owned()).await;
    assert_eq!((moved.at("/data/data/n"), behind(&moved)), (&json!(41), None), "{moved:?}");
    assert_eq!(stale("kv/data/s", ROOT.to_owned()).await.status, 404);
    world.prepare(0, "POST", "sys/remount", json!({ "from": "elsewhere", "to": "kv" })).await;
    world.pass(SECOND).await;
    lag(50, &token).await;
    // The token itself.
    world.prepare(0, "POST", "auth/token/revoke", json!({ "token": token })).await;
    assert_eq!(stale("kv/data/s", token.clone()).await.status, 403);
    // Without a leader nobody is answered.
    lag(60, ROOT).await;
    world.part(&[1]);
    world.pass(SECOND * 2).await;
    assert_eq!(stale("kv/data/s", ROOT.to_owned()).await.status, 503);
}

#[tokio::test]
async fn a_node_that_was_away_answers_in_namespaces_as_they_are_at_once() {
    let mut world = World::new(3, 78).await;
    for name in ["gone", "locked"] {
        world.prepare(0, "POST", &format!("sys/namespaces/{name}"), json!({})).await;
        world.prepare(0, "POST", &format!("{name}/sys/mounts/kv"), json!({ "type": "kv-v1" })).await;
        world.prepare(0, "POST", &format!("{name}/kv/a"), json!({ "is": name })).await;
    }
    world.kill(2).await;
    world.prepare(0, "POST", "sys/namespaces/made", json!({})).await;
    world.prepare(0, "POST", "made/sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    world.prepare(0, "POST", "made/kv/a", json!({ "is": "made" })).await;
    world.prepare(0, "DELETE", "sys/namespaces/gone", json!(null)).await;
    world.prepare(0, "POST", "sys/namespaces/api-lock/lock/locked", json!({})).await;
    // Asked before it has heard anything: what it knows by then is what there was when it went.
    world.start(2).await;
    world.unseal(2).await;
    let ask = |name: &str| world.send(2, assembly::request("GET", &format!("{name}/kv/a"), ROOT, &json!(null)));
    let (made, gone, locked) = world.drive(async { tokio::join!(ask("made"), ask("gone"), ask("locked")) }).await;
    assert_eq!(made.at("/data/is"), "made", "{made:?}");
    assert_eq!(gone.status, 404, "{gone:?}");
    locked.expect_error(503, "has been locked");
}
