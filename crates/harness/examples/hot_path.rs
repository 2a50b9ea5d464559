//! The hot path by itself: so many requests of one kind to a node on doubles, with one audit device, in one thread and
//! always the same. `cargo xtask instructions` counts what they cost.
//!
//! Deliberately absent: sockets, TLS and the disk; what they cost is `cargo xtask bench`'s to measure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a driver that cannot go on ends")]

use serde_json::{Value, json};
use tresor_harness::Harness;

/// How many secrets there are.
const SECRETS: usize = 16;
const POLICY: &str = "path \"kv/*\" { capabilities = [\"create\", \"update\", \"read\", \"list\"] }\n\
                      path \"leasing/*\" { capabilities = [\"read\"] }";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count] = arguments.as_slice() else { panic!("usage: hot_path KIND COUNT") };
    let count: usize = count.parse().expect("the count is a number");
    let harness = Harness::start().await;
    harness.enable_audit().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } })).await;
    let body = json!({ "data": { "password": "12345678".repeat(32) } });
    for at in 0..SECRETS {
        harness.prepare("POST", &format!("kv/data/secret-{at}"), body.clone()).await;
    }
    harness.prepare("PUT", "sys/policies/acl/hot", json!({ "policy": POLICY })).await;
    let token = harness.token(json!({ "policies": ["hot"], "ttl": "1h" })).await;
    harness.prepare("POST", "sys/mounts/leasing", json!({ "type": "leasing" })).await;
    let data = |at: usize| format!("kv/data/secret-{}", at % SECRETS);
    for at in 0..count {
        let answer = match kind.as_str() {
            "kv-read" => harness.read(&data(at), &token).await,
            "kv-write" => harness.write(&data(at), &token, body.clone()).await,
            "kv-list" => harness.list("kv/metadata/", &token).await,
            "token-lookup-self" => harness.read("auth/token/lookup-self", &token).await,
            "token-create" => {
                let wanted = json!({ "policies": ["hot"], "ttl": "1h" });
                harness.write("auth/token/create", tresor_harness::ROOT, wanted).await
            }
            "secret-lease" => harness.read("leasing/creds/role", &token).await,
            other => panic!("`{other}` is no kind of request"),
        };
        assert!((200..300).contains(&answer.status), "{answer:?}");
        // Devices follow while the server serves.
        if at % 16 == 0 {
            harness.call("GET", "sys/health", "", Value::Null).await;
            tokio::task::yield_now().await;
        }
    }
    harness.settle().await;
}
