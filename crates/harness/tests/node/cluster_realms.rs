//! Namespaces with seals of their own in a cluster: open or sealed at every node at once, by what the leader has in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_core::cluster::Cluster;
use tresor_harness::cluster::World;
use tresor_harness::{Answer, ROOT, assembly};

const SECOND: Duration = Duration::from_secs(1);
const SEAL: &str = "seal \"shamir\" {\n  shares = 3\n  threshold = 2\n}";

async fn within(world: &World, at: usize, namespace: &str, call: (&str, &str), body: Value) -> Answer {
    let mut request = assembly::request(call.0, call.1, ROOT, &body);
    request.headers_mut().insert("x-vault-namespace", namespace.parse().unwrap());
    world.drive(world.send(at, request)).await
}

/// Makes a namespace with a seal of its own; gives its shares.
async fn sealed(world: &World, at: usize, name: &str) -> Vec<String> {
    let made = world.prepare(at, "POST", &format!("sys/namespaces/{name}"), json!({ "seal": SEAL })).await;
    made.at("/data/key_shares").as_array().unwrap().iter().map(|share| share.as_str().unwrap().to_owned()).collect()
}

/// Enters shares, one at each of two nodes.
async fn unseal(world: &World, at: [usize; 2], name: &str, shares: &[String]) {
    for (at, share) in at.into_iter().zip(shares) {
        drop(world.prepare(at, "PUT", &format!("sys/namespaces/{name}/unseal"), json!({ "key": share })).await);
    }
}

/// What each node that runs says: whether it is sealed.
async fn standings(world: &World, name: &str) -> Vec<bool> {
    let mut said = Vec::new();
    for at in world.running() {
        let status = world.prepare(at, "GET", &format!("sys/namespaces/{name}/seal-status"), Value::Null).await;
        said.push(status.at("/data/sealed") == true);
    }
    said
}

/// Mounts a kv store in a namespace, and one that hands out leases, and writes a secret.
async fn furnish(world: &World, at: usize, name: &str, value: &str) {
    let kv = json!({ "type": "kv", "options": { "version": "1" } });
    assert_eq!(within(world, at, name, ("POST", "sys/mounts/kv"), kv).await.status, 204);
    let made = json!({ "type": "leasing" });
    assert_eq!(within(world, at, name, ("POST", "sys/mounts/made"), made).await.status, 204);
    assert_eq!(within(world, at, name, ("POST", "kv/secret"), json!({ "is": value })).await.status, 204);
}

/// Every node that runs reads it, or is told that the namespace is sealed.
async fn all_read(world: &World, name: &str, value: Option<&str>) {
    for at in world.running() {
        let answer = within(world, at, name, ("GET", "kv/secret"), Value::Null).await;
        match value {
            Some(value) => assert_eq!(answer.at("/data/is"), value, "at n{at}: {answer:?}"),
            None => answer.expect_error(503, "namespace is sealed"),
        }
    }
}

async fn all_caches_agree(world: &World) {
    world.pass(SECOND * 2).await;
    for at in world.running() {
        assert_eq!(world.node(at).stale_caches().unwrap(), Vec::<&str>::new(), "at n{at}");
    }
}

#[tokio::test]
async fn seal_34_in_a_cluster_a_namespace_is_open_or_sealed_at_every_node_whoever_is_asked() {
    let world = World::new(3, 71).await;
    let shares = sealed(&world, 1, "a").await;
    assert_eq!(standings(&world, "a").await, [true; 3]);
    unseal(&world, [2, 1], "a", &shares).await;
    assert_eq!(standings(&world, "a").await, [false; 3]);
    furnish(&world, 2, "a", "whole").await;
    all_read(&world, "a", Some("whole")).await;
    // What lies in it is listed from above whoever is asked.
    assert_eq!(within(&world, 0, "a", ("POST", "sys/namespaces/in"), json!({})).await.status, 200);
    for at in 0..3 {
        let listed = world.prepare(at, "SCAN", "sys/namespaces", Value::Null).await;
        assert_eq!(listed.at("/data/keys"), &json!(["a/", "a/in/"]), "at n{at}");
    }
    // Sealed at one: sealed at all from its answer on, also at one that was away.
    for at in 0..3 {
        drop(world.prepare(at, "PUT", "sys/namespaces/a/seal", json!({})).await);
        all_read(&world, "a", None).await;
        assert_eq!(standings(&world, "a").await, [true; 3]);
        unseal(&world, [at, 0], "a", &shares).await;
        all_read(&world, "a", Some("whole")).await;
    }
    // A request that brings its login with it is done wherever it arrives, and is no way to anything but a login.
    let userpass = json!({ "type": "userpass" });
    assert_eq!(within(&world, 0, "a", ("POST", "sys/auth/up"), userpass).await.status, 204);
    let policy = json!({ "policy": r#"path "kv/*" { capabilities = ["read"] }"# });
    assert_eq!(within(&world, 0, "a", ("PUT", "sys/policies/acl/reads"), policy).await.status, 204);
    let bob = json!({ "password": "a password of his", "token_policies": "reads" });
    assert_eq!(within(&world, 0, "a", ("POST", "auth/up/users/bob"), bob).await.status, 204);
    for at in 0..3 {
        for (login, status) in [("auth/up/login/bob", 200), ("auth/token/lookup-self", 404)] {
            let mut request = assembly::request("GET", "kv/secret", "", &Value::Null);
            let parameter =
                URL_SAFE_NO_PAD.encode(json!({ "key": "password", "value": "a password of his" }).to_string());
            for (name, value) in [
                ("x-vault-namespace", "a"),
                ("x-vault-inline-auth-path", login),
                ("x-vault-inline-auth-parameter-0", parameter.as_str()),
            ] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = world.drive(world.send(at, request)).await;
            assert_eq!(answer.status, status, "{login} at n{at}: {answer:?}");
        }
    }
    all_caches_agree(&world).await;
}

#[tokio::test]
async fn seal_34_another_node_that_leads_keeps_a_namespace_open_and_none_keeps_it_that_was_sealed() {
    let mut world = World::new(3, 72).await;
    let shares = sealed(&world, 0, "a").await;
    unseal(&world, [0, 1], "a", &shares).await;
    furnish(&world, 0, "a", "kept").await;
    world.pass(SECOND * 2).await;
    world.kill(0).await;
    let (first, _) = world.another_active(0).await;
    all_read(&world, "a", Some("kept")).await;
    // A node that starts gets the keys from the one that leads, and may lead itself a moment later.
    world.start(0).await;
    world.unseal(0).await;
    world.pass(SECOND * 2).await;
    world.kill(first).await;
    let (second, _) = world.another_active(first).await;
    all_read(&world, "a", Some("kept")).await;
    world.start(first).await;
    world.unseal(first).await;
    world.pass(SECOND * 2).await;
    // One that stops hands over, and what it hands over is open.
    world.stop(second).await;
    let (third, _) = world.another_active(second).await;
    all_read(&world, "a", Some("kept")).await;
    world.start(second).await;
    world.unseal(second).await;
    world.pass(SECOND * 2).await;
    all_caches_agree(&world).await;
    // Sealed while one was away: that one leads next, and has no use of what it kept.
    let away = (0..3).find(|at| *at != third).unwrap();
    world.part(&[away]);
    drop(world.prepare(third, "PUT", "sys/namespaces/a/seal", json!({})).await);
    world.fabric.heal();
    world.pass(SECOND * 2).await;
    world.drive(world.cluster(third).step_down()).await.unwrap();
    world.another_active(third).await;
    all_read(&world, "a", None).await;
    assert_eq!(standings(&world, "a").await, [true; 3]);
    unseal(&world, [away, third], "a", &shares).await;
    all_read(&world, "a", Some("kept")).await;
    // Nobody has the keys when all were down.
    for at in 0..3 {
        world.kill(at).await;
    }
    for at in 0..3 {
        world.start(at).await;
    }
    for at in 0..3 {
        world.unseal(at).await;
    }
    world.until("somebody is active", || world.active().is_some()).await;
    world.pass(SECOND * 3).await;
    assert_eq!(standings(&world, "a").await, [true; 3]);
    all_read(&world, "a", None).await;
    unseal(&world, [0, 1], "a", &shares).await;
    all_read(&world, "a", Some("kept")).await;
    all_caches_agree(&world).await;
}

#[tokio::test]
async fn seal_34_one_inside_another_goes_with_it_and_what_is_due_waits_whoever_leads() {
    let mut world = World::new(3, 73).await;
    let outer = sealed(&world, 0, "a").await;
    unseal(&world, [0, 1], "a", &outer).await;
    furnish(&world, 0, "a", "outer").await;
    let made = within(&world, 1, "a", ("POST", "sys/namespaces/b"), json!({ "seal": SEAL })).await;
    let inner: Vec<String> = (0..2).map(|share| made.text_at(&format!("/data/key_shares/{share}"))).collect();
    for share in &inner {
        let entered = within(&world, 2, "a", ("PUT", "sys/namespaces/b/unseal"), json!({ "key": share })).await;
        assert_eq!(entered.status, 200);
    }
    furnish(&world, 2, "a/b", "inner").await;
    for name in ["a", "a/b"] {
        for _ in 0..5 {
            assert_eq!(within(&world, 1, name, ("GET", "made/creds/x?ttl=60s"), Value::Null).await.status, 200);
        }
    }
    world.pass(SECOND * 2).await;
    world.kill(0).await;
    let (leader, _) = world.another_active(0).await;
    for (name, value) in [("a", "outer"), ("a/b", "inner")] {
        all_read(&world, name, Some(value)).await;
    }
    drop(world.prepare(leader, "PUT", "sys/namespaces/a/seal", json!({})).await);
    for name in ["a", "a/b"] {
        all_read(&world, name, None).await;
    }
    world.start(0).await;
    world.unseal(0).await;
    world.step = Duration::from_millis(40);
    for _ in 0..12 {
        world.pass(SECOND * 10).await;
    }
    world.step = tresor_harness::cluster::STEP;
    world.drive(world.cluster(leader).step_down()).await.unwrap();
    world.another_active(leader).await;
    unseal(&world, [0, 1], "a", &outer).await;
    all_read(&world, "a", Some("outer")).await;
    all_read(&world, "a/b", None).await;
    world.pass(SECOND * 10).await;
    let sums = within(&world, 0, "a", ("GET", "made/sums"), Value::Null).await;
    assert_eq!((sums.at("/data/revoked"), sums.at("/data/twice")), (&json!(5), &json!(0)));
    for share in &inner {
        let entered = within(&world, 2, "a", ("PUT", "sys/namespaces/b/unseal"), json!({ "key": share })).await;
        assert_eq!(entered.status, 200);
    }
    all_read(&world, "a/b", Some("inner")).await;
    world.pass(SECOND * 10).await;
    let sums = within(&world, 1, "a/b", ("GET", "made/sums"), Value::Null).await;
    assert_eq!((sums.at("/data/revoked"), sums.at("/data/twice")), (&json!(5), &json!(0)));
    all_caches_agree(&world).await;
}

#[tokio::test]
async fn seal_34_a_node_that_was_removed_and_a_cluster_of_one_that_starts_have_no_keys() {
    let world = World::new(3, 74).await;
    let shares = sealed(&world, 0, "a").await;
    unseal(&world, [0, 1], "a", &shares).await;
    furnish(&world, 0, "a", "left").await;
    world.pass(SECOND * 2).await;
    world.prepare(0, "POST", "sys/storage/raft/remove-peer", json!({ "server_id": "n2" })).await;
    world.until("it knows", || world.cluster(2).is_removed()).await;
    world.pass(SECOND * 2).await;
    let answer = within(&world, 2, "a", ("GET", "kv/secret"), Value::Null).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    drop(world);
    let mut alone = World::new(1, 75).await;
    let shares = sealed(&alone, 0, "a").await;
    unseal(&alone, [0, 0], "a", &shares).await;
    furnish(&alone, 0, "a", "alone").await;
    alone.kill(0).await;
    alone.start(0).await;
    alone.unseal(0).await;
    alone.until("it is active", || alone.active().is_some()).await;
    all_read(&alone, "a", None).await;
    unseal(&alone, [0, 0], "a", &shares).await;
    all_read(&alone, "a", Some("alone")).await;
}

#[tokio::test]
async fn seal_34_neither_a_share_nor_what_lies_in_a_namespace_is_on_any_disk_of_a_cluster() {
    let mut world = World::new(3, 76).await;
    let shares = sealed(&world, 0, "a").await;
    unseal(&world, [1, 2], "a", &shares).await;
    let planted = [canary("value", 76), canary("name of a secret", 76), canary("policy name", 76), canary("mount", 76)];
    let [value, name, policy, mount] = &planted;
    let kv = json!({ "type": "kv", "options": { "version": "1" } });
    assert_eq!(within(&world, 0, "a", ("POST", &format!("sys/mounts/{mount}")), kv).await.status, 204);
    let at = format!("{mount}/{name}");
    assert_eq!(within(&world, 1, "a", ("POST", &at), json!({ "is": value })).await.status, 204);
    let text = json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" });
    assert_eq!(within(&world, 2, "a", ("PUT", &format!("sys/policies/acl/{policy}")), text).await.status, 204);
    world.pass(SECOND * 2).await;
    // The keys went to the other nodes, and one of them leads.
    world.kill(0).await;
    world.another_active(0).await;
    assert_eq!(within(&world, 1, "a", ("GET", &at), Value::Null).await.at("/data/is"), value.as_str());
    let mut canaries = Canaries::new();
    for (number, planted) in planted.iter().enumerate() {
        canaries.watch(&format!("planted {number}"), planted.as_bytes());
    }
    for (number, share) in shares.iter().enumerate() {
        canaries.watch(&format!("share {number}"), share.as_bytes());
        let raw: Vec<u8> =
            (0..share.len() / 2).map(|byte| u8::from_str_radix(&share[2 * byte..2 * byte + 2], 16).unwrap()).collect();
        canaries.watch(&format!("bytes of share {number}"), &raw);
    }
    for at in 0..3 {
        for (path, bytes) in world.disk(at).dump() {
            canaries.assert_absent(&format!("{} of n{at}", path.display()), &bytes);
        }
        for (key, stored) in world.machine(at).dump() {
            canaries.assert_absent("a raw key", key.as_bytes());
            canaries.assert_absent("what is stored", &stored.bytes);
        }
    }
}

#[tokio::test]
async fn seal_34_keys_that_were_changed_in_a_cluster_are_those_of_whoever_leads_next() {
    let mut world = World::new(3, 77).await;
    let shares = sealed(&world, 0, "a").await;
    unseal(&world, [0, 1], "a", &shares).await;
    furnish(&world, 0, "a", "before").await;
    world.pass(SECOND * 2).await;
    // A new term, then other shares, each asked of a node that stands by.
    assert_eq!(within(&world, 1, "a", ("POST", "sys/rotate"), json!({})).await.status, 204);
    let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let begun = within(&world, 2, "a", ("POST", "sys/rotate/root/init"), wish).await;
    let nonce = begun.text_at("/data/nonce");
    let mut new = Vec::new();
    for (at, share) in [1, 2].into_iter().zip(&shares) {
        let body = json!({ "key": share, "nonce": nonce });
        let entered = within(&world, at, "a", ("POST", "sys/rotate/root/update"), body).await;
        assert_eq!(entered.status, 200, "{entered:?}");
        new = entered.at("/data/keys").as_array().cloned().unwrap_or_default();
    }
    let new = new[0].as_str().unwrap().to_owned();
    world.pass(SECOND * 2).await;
    world.kill(0).await;
    world.another_active(0).await;
    all_read(&world, "a", Some("before")).await;
    assert_eq!(within(&world, 1, "a", ("POST", "kv/secret"), json!({ "is": "after" })).await.status, 204);
    drop(world.prepare(2, "PUT", "sys/namespaces/a/seal", json!({})).await);
    let old = json!({ "key": shares[0] });
    let refused = world.call(1, "PUT", "sys/namespaces/a/unseal", ROOT, old).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    drop(world.prepare(1, "PUT", "sys/namespaces/a/unseal", json!({ "key": new })).await);
    world.start(0).await;
    world.unseal(0).await;
    all_read(&world, "a", Some("after")).await;
    all_caches_agree(&world).await;
}
