//! The security bank's rows about tokens, over HTTP: each test is named by its row (`docs/security-bank.md`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness
}

async fn accessors(harness: &Harness) -> BTreeSet<String> {
    serde_json::from_value(harness.list("auth/token/accessors", ROOT).await.at("/data/keys").clone()).unwrap()
}

const MAY_CREATE: &str = r#"path "auth/token/create" { capabilities = ["create", "update"] }"#;

#[tokio::test]
async fn acl_11_a_child_never_gets_a_policy_that_its_parent_lacks() {
    let harness = node().await;
    let parent = harness.token_with(MAY_CREATE).await;
    for policies in [json!(["default"]), json!(["root"]), json!("ROOT"), json!(["other"]), json!(" default ,")] {
        let answer = harness.write("auth/token/create", &parent, json!({ "policies": policies })).await;
        assert_eq!(answer.status, 400, "{policies}: {answer:?}");
    }
    let child = harness.write("auth/token/create", &parent, json!({})).await.expect_status(200);
    let policies: Vec<String> = serde_json::from_value(child.at("/auth/policies").clone()).unwrap();
    assert!(!policies.contains(&"default".to_owned()) && !policies.contains(&"root".to_owned()), "{policies:?}");
    // What only sudo may ask for is refused without it, whatever is sent beside it.
    for body in [
        json!({ "no_parent": true }),
        json!({ "period": "1h" }),
        json!({ "id": "chosen" }),
        json!({ "no_parent": "1" }),
    ] {
        let answer = harness.write("auth/token/create", &parent, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn pt_05_what_is_delegated_is_never_more_than_was_had() {
    let harness = node().await;
    harness
        .prepare(
            "POST",
            "auth/userpass/users/u",
            json!({
                "password": "p", "token_bound_cidrs": "127.0.0.1/32", "token_policies": "make", "token_ttl": "1h",
            }),
        )
        .await;
    harness.prepare("PUT", "sys/policies/acl/make", json!({ "policy": MAY_CREATE })).await;
    let login = harness.write("auth/userpass/login/u", "", json!({ "password": "p" })).await.expect_status(200);
    let mut token = login.text_at("/auth/client_token");
    for generation in 0..4 {
        let child = harness
            .write(
                "auth/token/create",
                &token,
                json!({ "ttl": "1000h", "explicit_max_ttl": "2000h", "bound_cidrs": "0.0.0.0/0" }),
            )
            .await
            .expect_status(200);
        let shown =
            harness.write("auth/token/lookup", ROOT, json!({ "token": child.text_at("/auth/client_token") })).await;
        assert_eq!(shown.at("/data/bound_cidrs"), &json!(["127.0.0.1"]), "generation {generation}");
        token = child.text_at("/auth/client_token");
    }
    // Whatever life the last one was given, it ends with its first ancestor.
    harness.advance(Duration::from_secs(3601)).await;
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(403));
}

#[tokio::test]
async fn tok_04_a_token_whose_time_ended_while_the_server_was_down_is_dead() {
    let mut harness = node().await;
    let short = harness.token(json!({ "ttl": "10s" })).await;
    let long = harness.token(json!({ "ttl": "1h" })).await;
    harness.restart().await;
    harness.doors.clock.advance(Duration::from_secs(11));
    harness.unseal().await;
    // At once, before the background task had a turn, and after it had many.
    for _ in 0..2 {
        drop(harness.read("auth/token/lookup-self", &short).await.expect_status(403));
        let shown = harness.write("auth/token/lookup", ROOT, json!({ "token": short })).await;
        assert_eq!(shown.status, 403, "{shown:?}");
        let renewed = harness.write("auth/token/renew", ROOT, json!({ "token": short })).await;
        assert!(matches!(renewed.status, 400 | 403), "{renewed:?}");
        harness.advance(Duration::from_secs(5)).await;
    }
    drop(harness.read("auth/token/lookup-self", &long).await.expect_status(200));
    // A clock that is set back raises nobody from the dead.
    harness.doors.clock.jump_wall_to(tresor_env::Timestamp::from_seconds(1_767_225_600));
    drop(harness.read("auth/token/lookup-self", &short).await.expect_status(403));
}

#[tokio::test]
async fn tok_06_a_bound_token_and_its_children_work_from_its_addresses_only() {
    let mut harness = node().await;
    harness.prepare("PUT", "sys/policies/acl/make", json!({ "policy": MAY_CREATE })).await;
    harness
        .prepare(
            "POST",
            "auth/userpass/users/u",
            json!({
                "password": "p", "token_bound_cidrs": ["127.0.0.1/32"], "token_policies": "make",
            }),
        )
        .await;
    let login = harness.write("auth/userpass/login/u", "", json!({ "password": "p" })).await.expect_status(200);
    let parent = login.text_at("/auth/client_token");
    let child = harness.write("auth/token/create", &parent, json!({ "policies": ["default", "make"] })).await;
    let child = child.text_at("/auth/client_token");
    drop(harness.read("auth/token/lookup-self", &child).await.expect_status(200));
    for address in ["10.0.0.1", "127.0.0.2", "::1", "::ffff:10.0.0.1"] {
        harness.peer = address.parse().unwrap();
        for token in [&parent, &child] {
            drop(harness.read("auth/token/lookup-self", token).await.expect_status(403));
            drop(harness.write("auth/token/create", token, json!({})).await.expect_status(403));
        }
        let login = harness.write("auth/userpass/login/u", "", json!({ "password": "p" })).await;
        assert!(matches!(login.status, 400 | 403), "{address}: {login:?}");
    }
}

#[tokio::test]
async fn tok_08_a_periodic_token_lives_while_renewed_up_to_its_explicit_end() {
    let harness = node().await;
    harness.prepare("POST", "sys/auth/token/tune", json!({ "max_lease_ttl": "12s", "default_lease_ttl": "6s" })).await;
    let periodic = harness.token(json!({ "period": "5s" })).await;
    for _ in 0..6 {
        harness.advance(Duration::from_secs(4)).await;
        let renewed = harness.write("auth/token/renew-self", &periodic, json!({ "increment": "1h" })).await;
        assert_eq!(renewed.expect_status(200).at("/auth/lease_duration"), &json!(5));
    }
    harness.advance(Duration::from_secs(6)).await;
    drop(harness.read("auth/token/lookup-self", &periodic).await.expect_status(403));

    let capped = harness.token(json!({ "period": "5s", "explicit_max_ttl": "9s" })).await;
    harness.advance(Duration::from_secs(4)).await;
    drop(harness.write("auth/token/renew-self", &capped, json!({})).await.expect_status(200));
    harness.advance(Duration::from_secs(4)).await;
    let last = harness.write("auth/token/renew-self", &capped, json!({})).await.expect_status(200);
    assert_eq!(last.at("/auth/lease_duration"), &json!(1), "{last:?}");
    harness.advance(Duration::from_secs(1)).await;
    drop(harness.read("auth/token/lookup-self", &capped).await.expect_status(403));
}

#[tokio::test]
async fn tok_12_a_login_that_fails_leaves_no_token() {
    let mut harness = node().await;
    harness
        .prepare("POST", "auth/userpass/users/u", json!({ "password": "p", "token_bound_cidrs": "127.0.0.1/32" }))
        .await;
    let before = (accessors(&harness).await, harness.store.dump().len());
    for body in [json!({}), json!({ "password": "wrong" }), json!({ "password": null }), json!({ "password": ["p"] })] {
        drop(harness.write("auth/userpass/login/u", "", body).await.expect_status(400));
    }
    drop(harness.write("auth/userpass/login/nobody", "", json!({ "password": "p" })).await.expect_status(400));
    let peer = harness.peer;
    harness.peer = "10.0.0.1".parse().unwrap();
    assert!(harness.write("auth/userpass/login/u", "", json!({ "password": "p" })).await.status >= 400);
    harness.peer = peer;
    assert_eq!(before, (accessors(&harness).await, harness.store.dump().len()));
}

#[tokio::test]
async fn tok_14_any_token_on_any_endpoint_is_answered() {
    let harness = node().await;
    for endpoint in
        ["create", "lookup", "lookup-accessor", "renew", "renew-accessor", "revoke", "revoke-accessor", "revoke-orphan"]
    {
        let path = format!("auth/token/{endpoint}");
        for value in [
            json!(null),
            json!(""),
            json!([]),
            json!({}),
            json!(1),
            json!(true),
            json!("x".repeat(1_000_000)),
            json!("hvs.\u{0}"),
            json!(".."),
        ] {
            let body = json!({ "token": value, "accessor": value, "policies": value });
            let answer = harness.write(&path, ROOT, body).await;
            // Nothing at all asks for the caller's own token.
            let is_own = endpoint == "lookup" && (value.is_null() || value == "");
            let is_made = endpoint == "create" || is_own || endpoint.starts_with("revoke") && answer.status < 300;
            assert!((400..500).contains(&answer.status) || is_made, "{path} {value:.20}: {answer:?}");
            assert!(answer.status < 500);
        }
        drop(harness.write(&path, "", json!({})).await.expect_status(403));
        drop(harness.write(&path, &"x".repeat(9000), json!({})).await.expect_status(400));
    }
    // The last use of a token may be to seal the server.
    let sealer = harness.prepare(
        "PUT",
        "sys/policies/acl/seal",
        json!({ "policy": r#"path "sys/seal" { capabilities = ["update", "sudo", "create"] }"# }),
    );
    drop(sealer.await);
    let once = harness.token(json!({ "policies": ["seal"], "num_uses": 1 })).await;
    drop(harness.call("PUT", "sys/seal", &once, json!({})).await.expect_status(204));
    harness.read("kv/a", ROOT).await.expect_error(503, "sealed");
    harness.unseal().await;
    drop(harness.call("PUT", "sys/seal", &once, json!({})).await.expect_status(403));
}

#[tokio::test]
async fn pt_08_the_last_use_of_a_token_is_used_once() {
    let harness = Arc::new(node().await);
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    harness
        .prepare(
            "PUT",
            "sys/policies/acl/p",
            json!({ "policy": "path \"kv/*\" { capabilities = [\"read\", \"create\"] }" }),
        )
        .await;
    for uses in [1, 3] {
        let token = harness.token(json!({ "policies": ["p"], "num_uses": uses })).await;
        let calls = (0..40).map(|at| {
            let (harness, token) = (Arc::clone(&harness), token.clone());
            async move {
                match at % 2 {
                    0 => harness.read("kv/a", &token).await.status == 200,
                    _ => harness.write(&format!("kv/new{uses}-{at}"), &token, json!({ "k": "v" })).await.status == 204,
                }
            }
        });
        let done = futures_util::future::join_all(calls).await;
        assert_eq!(done.iter().filter(|done| **done).count(), uses);
        harness.settle().await;
        drop(harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_status(403));
    }
    // A use counts when the request fails, too.
    let token = harness.token(json!({ "policies": ["p"], "num_uses": 1 })).await;
    drop(harness.read("sys/mounts", &token).await.expect_status(403));
    drop(harness.read("kv/a", &token).await.expect_status(403));
}

#[derive(Clone, Debug)]
enum Step {
    Create { parent: usize, ttl: u64 },
    Orphan { ttl: u64 },
    Revoke { which: usize },
    RevokeOrphaning { which: usize },
    Renew { which: usize, increment: u64 },
    Pass { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<usize>(), 1_u64..200).prop_map(|(parent, ttl)| Step::Create { parent, ttl }),
        2 => (1_u64..200).prop_map(|ttl| Step::Orphan { ttl }),
        1 => any::<usize>().prop_map(|which| Step::Revoke { which }),
        1 => any::<usize>().prop_map(|which| Step::RevokeOrphaning { which }),
        2 => (any::<usize>(), 1_u64..300).prop_map(|(which, increment)| Step::Renew { which, increment }),
        2 => (1_u64..60).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// A token as the model sees it.
#[derive(Clone)]
struct Known {
    text: String,
    accessor: String,
    parent: Option<String>,
    end: u64,
}

/// The model: who is alive, by text.
#[derive(Default)]
struct Model {
    now: u64,
    tokens: BTreeMap<String, Known>,
    every: Vec<Known>,
}

impl Model {
    fn is_alive(&self, text: &str) -> bool {
        self.tokens.get(text).is_some_and(|known| {
            known.end > self.now && known.parent.as_ref().is_none_or(|parent| self.is_alive(parent))
        })
    }

    fn revoke(&mut self, text: &str) {
        self.tokens.remove(text);
        let children: Vec<String> = self.children(text);
        children.iter().for_each(|child| self.revoke(child));
    }

    fn children(&self, text: &str) -> Vec<String> {
        let is_child = |known: &&Known| known.parent.as_deref() == Some(text);
        self.tokens.values().filter(is_child).map(|known| known.text.clone()).collect()
    }

    /// Revokes what has ended, with all below it.
    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let ended: Vec<String> = self.tokens.keys().filter(|text| !self.is_alive(text)).cloned().collect();
        ended.iter().for_each(|text| self.revoke(text));
    }

    fn pick(&self, which: usize) -> Option<Known> {
        let alive: Vec<&Known> = self.every.iter().filter(|known| self.is_alive(&known.text)).collect();
        alive.get(which.checked_rem(alive.len())?).map(|known| (*known).clone())
    }

    fn add(&mut self, answer: &tresor_harness::Answer, parent: Option<String>, ttl: u64) {
        let (text, accessor) = (answer.text_at("/auth/client_token"), answer.text_at("/auth/accessor"));
        let known = Known { text: text.clone(), accessor, parent, end: self.now + ttl };
        self.every.push(known.clone());
        self.tokens.insert(text, known);
    }
}

async fn take(harness: &mut Harness, model: &mut Model, step: Step) {
    match step {
        Step::Create { parent, ttl } => {
            let Some(parent) = model.pick(parent) else { return };
            let made = harness.write("auth/token/create", &parent.text, json!({ "ttl": ttl })).await;
            if made.status == 200 {
                model.add(&made, Some(parent.text), ttl);
            } else {
                assert!(made.errors().contains("ancestors"), "{made:?}");
            }
        }
        Step::Orphan { ttl } => {
            let body = json!({ "ttl": ttl, "no_parent": true, "policies": ["make"] });
            let made = harness.write("auth/token/create", ROOT, body).await.expect_status(200);
            model.add(&made, None, ttl);
        }
        Step::Revoke { which } => {
            let Some(known) = model.pick(which) else { return };
            drop(harness.write("auth/token/revoke", ROOT, json!({ "token": known.text })).await.expect_status(204));
            model.revoke(&known.text);
        }
        Step::RevokeOrphaning { which } => {
            let Some(known) = model.pick(which) else { return };
            drop(
                harness
                    .write("auth/token/revoke-orphan", ROOT, json!({ "token": known.text }))
                    .await
                    .expect_status(204),
            );
            for child in model.children(&known.text) {
                model.tokens.get_mut(&child).unwrap().parent = None;
            }
            model.tokens.remove(&known.text);
        }
        Step::Renew { which, increment } => {
            let Some(known) = model.pick(which) else { return };
            let body = json!({ "token": known.text, "increment": increment });
            let renewed = harness.write("auth/token/renew", ROOT, body).await.expect_status(200);
            assert_eq!(renewed.at("/auth/lease_duration"), &json!(increment));
            let (step, promised) = ((increment / 64).max(1), model.now + increment);
            let end = &mut model.tokens.get_mut(&known.text).unwrap().end;
            *end = match *end {
                before if before < promised => before + (promised - before).div_ceil(step) * step,
                before if before - promised < step => before,
                _ => promised,
            };
        }
        Step::Pass { seconds } => {
            harness.advance(Duration::from_secs(seconds)).await;
            model.pass(seconds);
        }
        Step::Restart => {
            harness.restart().await;
            harness.unseal().await;
        }
    }
}

#[tokio::test]
async fn tok_15_pt_07_every_index_agrees_with_the_tokens_there_are() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..12 {
        let steps = prop::collection::vec(step(), 10..40).new_tree(&mut runner).unwrap().current();
        let mut harness = node().await;
        harness.prepare("PUT", "sys/policies/acl/make", json!({ "policy": MAY_CREATE })).await;
        let root = accessors(&harness).await;
        harness.settle().await;
        let empty = harness.store.dump().len();
        let mut model = Model::default();
        for step in steps.clone() {
            take(&mut harness, &mut model, step).await;
            let alive: BTreeSet<String> = model
                .every
                .iter()
                .filter(|known| model.is_alive(&known.text))
                .map(|known| known.accessor.clone())
                .collect();
            let listed: BTreeSet<String> = accessors(&harness).await.difference(&root).cloned().collect();
            assert_eq!(listed, alive, "{steps:?}");
            for known in &model.every {
                let by_text =
                    harness.write("auth/token/lookup", ROOT, json!({ "token": known.text })).await.status == 200;
                let by_accessor = harness
                    .write("auth/token/lookup-accessor", ROOT, json!({ "accessor": known.accessor }))
                    .await
                    .status
                    == 200;
                assert_eq!(
                    (by_text, by_accessor),
                    (model.is_alive(&known.text), model.is_alive(&known.text)),
                    "{steps:?}"
                );
            }
        }
        // When all have ended, nothing of them is left: no record, no index, no empty directory.
        for _ in 0..10 {
            harness.advance(Duration::from_secs(1000)).await;
        }
        assert_eq!(harness.store.dump().len(), empty, "{steps:?}");
    }
}

#[tokio::test]
async fn tim_07_the_store_holds_no_token_and_near_misses_are_misses() {
    let harness = node().await;
    let token = harness.token(json!({ "ttl": "1h" })).await;
    let accessor = harness.read("auth/token/lookup-self", &token).await.text_at("/data/accessor");
    for (key, value) in harness.store.dump() {
        for bytes in [key.as_bytes(), &value] {
            for secret in [&token, &accessor, &ROOT.to_owned()] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
            }
        }
    }
    for at in 0..token.len() {
        let mut near = token.clone().into_bytes();
        near[at] ^= 1;
        let near = String::from_utf8(near).unwrap();
        drop(harness.read("auth/token/lookup-self", &near).await.expect_status(403));
    }
    for near in [token.get(..token.len() - 1).unwrap().to_owned(), format!("{token}x"), token.to_uppercase(), accessor]
    {
        drop(harness.read("auth/token/lookup-self", &near).await.expect_status(403));
    }
}

#[tokio::test]
async fn wrp_09_a_cubbyhole_is_its_tokens_alone_and_gone_with_it() {
    let harness = node().await;
    let make = r#"path "auth/token/create" { capabilities = ["create", "update"] }
                  path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;
    let parent = harness.token_with(make).await;
    harness.settle().await;
    let before = harness.store.dump().len();
    let child = harness.write("auth/token/create", &parent, json!({ "ttl": "1h" })).await.text_at("/auth/client_token");
    for path in ["cubbyhole/secret", "cubbyhole/deep/er", "cubbyhole/a//b"] {
        drop(harness.write(path, &child, json!({ "k": "v" })).await.expect_status(204));
    }
    let key = "cubbyhole/secret";
    for other in [parent.as_str(), ROOT] {
        drop(harness.read(key, other).await.expect_status(404));
        drop(harness.list("cubbyhole/", other).await.expect_status(404));
        drop(harness.delete(key, other).await.expect_status(204));
    }
    for escape in ["cubbyhole/../secret", "cubbyhole//secret", "cubbyhole/%2e%2e/secret", "cubbyhole/./secret"] {
        let status = harness.read(escape, ROOT).await.status;
        assert!(matches!(status, 400 | 404), "{escape}: {status}");
    }
    assert_eq!(harness.read(key, &child).await.at("/data/k"), &json!("v"));
    assert_eq!(harness.list("cubbyhole", &child).await.at("/data/keys"), &json!(["a/", "deep/", "secret"]));
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": child })).await.expect_status(204));
    drop(harness.read(key, &child).await.expect_status(403));
    for _ in 0..5 {
        harness.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(harness.store.dump().len(), before, "what the token kept is gone");
    drop(harness.call("POST", "sys/mounts/cubbyhole", ROOT, json!({ "type": "kv" })).await.expect_status(400));
    drop(harness.call("DELETE", "sys/mounts/cubbyhole", ROOT, Value::Null).await.expect_status(400));
}

#[tokio::test]
async fn tok_09_a_life_is_bounded_by_user_mount_and_system() {
    let harness = node().await;
    for (mount, user, expected) in [
        // Nobody says anything: the system does.
        (json!({}), json!({}), 2_764_800),
        (json!({ "default_lease_ttl": "30m" }), json!({}), 1800),
        (json!({ "default_lease_ttl": "30m" }), json!({ "token_ttl": "10m" }), 600),
        (json!({ "default_lease_ttl": "30m", "max_lease_ttl": "2h" }), json!({ "token_ttl": "4h" }), 7200),
        (json!({ "max_lease_ttl": "2h" }), json!({ "token_ttl": "30m", "token_max_ttl": "1h" }), 1800),
        // A longer maximum of the user than of the mount is none.
        (json!({ "max_lease_ttl": "2h" }), json!({ "token_ttl": "3h", "token_max_ttl": "4h" }), 7200),
    ] {
        harness.prepare("POST", "sys/auth/up", json!({ "type": "userpass", "config": mount })).await;
        let mut user = user;
        user["password"] = json!("p");
        harness.prepare("POST", "auth/up/users/u", user.clone()).await;
        let login = harness.write("auth/up/login/u", "", json!({ "password": "p" })).await.expect_status(200);
        assert_eq!(login.at("/auth/lease_duration"), &json!(expected), "{mount} {user}");
        harness.prepare("DELETE", "sys/auth/up", Value::Null).await;
    }
}
