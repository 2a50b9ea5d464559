//! Every endpoint of a cluster of whole nodes, asked through the active one and through a standby: nobody can tell which one
//! was asked. What is about a node is about the one that was asked.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_engine::Place;
use tresor_harness::cluster::World;
use tresor_harness::walk::{example, method};
use tresor_harness::{Answer, ROOT};

const SECOND: Duration = Duration::from_secs(1);

/// What ends a leadership, or goes on for longer than a test looks.
const NOT_ASKED: &[&str] = &["sys/step-down"];

/// Asks with a token that may do everything, and that may go with what it does.
async fn ask(world: &World, at: usize, method: &str, path: &str) -> Answer {
    let token = world.prepare(at, "POST", "auth/token/create", json!({ "policies": ["root"] })).await;
    let body = if matches!(method, "POST" | "PATCH") { json!({}) } else { Value::Null };
    world.call(at, method, path, &token.text_at("/auth/client_token"), body).await
}

#[tokio::test]
async fn every_endpoint_answers_alike_through_a_standby() {
    let world = World::new(3, 5).await;
    for (path, kind) in
        [("kv-1", "kv-v1"), ("kv-2", "kv-v2"), ("aws", "aws"), ("rabbitmq", "rabbitmq"), ("database", "database")]
    {
        world.prepare(0, "POST", &format!("sys/mounts/{path}"), json!({ "type": kind })).await;
    }
    world.prepare(0, "POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    assert_eq!(world.active(), Some(0));
    let routes = world.node(0).routes();
    let mut asked = 0;
    for route in routes.iter().filter(|route| route.place != Place::Asked) {
        let (path, method) = (example(route), method(route.operation));
        if NOT_ASKED.contains(&path.as_str()) {
            continue;
        }
        let there = ask(&world, 0, method, &path).await;
        // What was begun is cancelled, or it could not begin again.
        let begins = path.ends_with("/attempt") || path.ends_with("/init");
        if begins {
            ask(&world, 0, "DELETE", &path).await;
        }
        let here = ask(&world, 1, method, &path).await;
        if begins {
            ask(&world, 0, "DELETE", &path).await;
        }
        if method == "POST" && path.starts_with("sys/storage/raft/snapshot") {
            // A body of any size is for the client to send to the leader.
            assert_eq!(here.status, 307, "{here:?}");
            continue;
        }
        let said = |answer: &Answer| (answer.status, answer.json.get("errors").cloned());
        assert_eq!(said(&here), said(&there), "{method} {path}: {here:?} {there:?}");
        assert!(there.status < 500, "{method} {path}: {there:?}");
        let names =
            |answer: &Answer| answer.json["data"].as_object().map(|data| data.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&here), names(&there), "{method} {path}");
        asked += 1;
    }
    assert!(asked > 100, "{asked}");
    assert_eq!(world.active(), Some(0));
}

#[tokio::test]
async fn sealing_a_standby_seals_that_one_and_probes_see_who_is_cut_off() {
    let world = World::new(3, 6).await;
    let health = async |at: usize, query: &str| {
        world.call(at, "GET", &format!("sys/health{query}"), "", Value::Null).await.status
    };
    assert_eq!(world.call(2, "POST", "sys/seal", ROOT, Value::Null).await.status, 204);
    assert_eq!([health(0, "").await, health(1, "").await, health(2, "?standbyok=true").await], [200, 429, 503]);
    world.unseal(2).await;
    assert_eq!(health(2, "?standbyok=true").await, 200);

    // The one that led, alone on its side, sees it too.
    world.part(&[0]);
    world.pass(SECOND * 5).await;
    assert_eq!(health(0, "?standbyok=true").await, 474);
    let codes = [health(1, "").await, health(2, "").await];
    assert!(codes == [200, 429] || codes == [429, 200], "{codes:?}");
    world.fabric.heal();
    world.pass(SECOND * 2).await;
    assert_eq!(health(0, "").await, 429);
}
