//! What a flood of logins costs: those who log in, and nobody who looks at, seals or unseals the server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use tresor_env::doubles::InlineWorkers;
use tresor_env::tasks::{NotComputed, WorkerPanicked};
use tresor_env::{BoxFuture, Workers};
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_http::BodyBudget;
use tresor_model::request::Connection;
use tresor_server::NodeService;

const COMPUTES: u8 = 0;
const REFUSES: u8 = 1;
const HANGS: u8 = 2;

/// Workers whose computations are refused, or never end, from some moment on.
#[derive(Default)]
struct Overloaded(AtomicU8);

impl Workers for Overloaded {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        InlineWorkers.run(work)
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        match self.0.load(Ordering::SeqCst) {
            COMPUTES => InlineWorkers.compute(work),
            REFUSES => Box::pin(std::future::ready(Err(NotComputed::Busy))),
            _ => Box::pin(std::future::pending()),
        }
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        InlineWorkers.tidy_up(work);
    }
}

async fn with_bob() -> (Arc<Overloaded>, Harness) {
    let workers = Arc::new(Overloaded::default());
    let harness = Harness::start_on(Arc::clone(&workers) as Arc<dyn Workers>).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "right" })).await;
    (workers, harness)
}

const LOGIN: &str = "auth/userpass/login/bob";

#[tokio::test]
async fn a_login_beyond_the_queue_is_told_to_come_back_and_nothing_else_is_refused() {
    let (workers, harness) = with_bob().await;
    workers.0.store(REFUSES, Ordering::SeqCst);
    let busy = "too many logins at once, try again";
    harness.write(LOGIN, "", json!({ "password": "right" })).await.expect_error(503, busy);
    harness.write("auth/userpass/users/bob/password", ROOT, json!({ "password": "new" })).await.expect_error(503, busy);
    harness.prepare("POST", "sys/policies/acl/p", json!({ "policy": r#"path "a" { capabilities = ["read"] }"# })).await;
    workers.0.store(COMPUTES, Ordering::SeqCst);
    drop(harness.write(LOGIN, "", json!({ "password": "right" })).await.expect_status(200));
}

#[tokio::test]
async fn a_server_whose_slots_are_taken_can_be_looked_at_sealed_and_unsealed() {
    let (workers, harness) = with_bob().await;
    workers.0.store(HANGS, Ordering::SeqCst);
    let service = Arc::new(NodeService::with_running_max(Arc::clone(&harness.node), 2));
    let clock = Arc::clone(&harness.doors.doors.clock);
    let options = harness.options.clone();
    let call = move |method: &'static str, path: &'static str, token: &'static str, body: Value| {
        let (service, clock, options) = (Arc::clone(&service), Arc::clone(&clock), options.clone());
        let connection = Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 1);
        async move {
            let request = assembly::request(method, path, token, &body);
            assembly::exchange(&*service, &*clock, connection, &options, request).await
        }
    };
    let hanging: Vec<_> =
        (0..2).map(|_| tokio::spawn(call("POST", LOGIN, "", json!({ "password": "right" })))).collect();
    harness.settle().await;
    let waiting = tokio::spawn(call("GET", "sys/mounts", ROOT, Value::Null));
    harness.settle().await;
    assert!(!waiting.is_finished() && hanging.iter().all(|login| !login.is_finished()), "the slots are not taken");

    let ok = |answer: Answer, status: u16| assert_eq!(answer.status, status);
    ok(call("GET", "sys/health", "", Value::Null).await, 200);
    ok(call("GET", "sys/seal-status", "", Value::Null).await, 200);
    ok(call("PUT", "sys/seal", "", Value::Null).await, 403);
    ok(call("PUT", "sys/seal", ROOT, Value::Null).await, 204);
    ok(call("GET", "sys/health", "", Value::Null).await, 503);
    let share: String = harness.shares[0].iter().map(|byte| format!("{byte:02x}")).collect();
    ok(call("PUT", "sys/unseal", "", json!({ "key": share })).await, 200);
}

#[tokio::test]
async fn a_request_takes_no_longer_than_its_listener_lets_it() {
    let (workers, harness) = with_bob().await;
    workers.0.store(HANGS, Ordering::SeqCst);
    let service = Arc::new(NodeService::new(Arc::clone(&harness.node)));
    let clock = Arc::clone(&harness.doors.doors.clock);
    let options = harness.options.clone();
    let log_in = |request_time_max| {
        let (service, clock, options) = (Arc::clone(&service), Arc::clone(&clock), options.clone());
        let connection = Connection { request_time_max, ..Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 1) };
        tokio::spawn(async move {
            let request = assembly::request("POST", LOGIN, "", &json!({ "password": "right" }));
            assembly::exchange(&*service, &*clock, connection, &options, request).await
        })
    };
    let (short, usual) = (log_in(Some(std::time::Duration::from_secs(5))), log_in(None));
    harness.advance(std::time::Duration::from_secs(4)).await;
    assert!(!short.is_finished());
    harness.advance(std::time::Duration::from_secs(1)).await;
    short.await.unwrap().expect_error(503, "context deadline exceeded");
    assert!(!usual.is_finished());
    harness.advance(std::time::Duration::from_secs(85)).await;
    usual.await.unwrap().expect_error(503, "context deadline exceeded");
}

#[tokio::test]
async fn dos_01_bodies_beyond_the_budget_are_told_to_come_back_and_small_ones_are_served() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv" })).await;
    let large = json!({ "value": "x".repeat(60_000) });
    harness.options.bodies = BodyBudget::new(10_000);
    let refused = harness.write("kv/a", ROOT, large.clone()).await;
    refused.expect_error(503, "too many large requests at once, try again");
    assert!(refused.headers.contains_key("retry-after"));
    harness.prepare("POST", "kv/a", json!({ "value": "small" })).await;
    // What a request held is there for the next one.
    harness.options.bodies = BodyBudget::new(60_000);
    for _ in 0..3 {
        drop(harness.write("kv/a", ROOT, large.clone()).await.expect_status(204));
    }
}
