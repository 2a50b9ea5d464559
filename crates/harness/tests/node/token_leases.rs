//! The lease ids of tokens: listed, shown and revoked like those of secrets, a page at a time.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    for user in ["alice", "bob"] {
        let body = json!({ "password": "correct horse", "token_ttl": "1h" });
        harness.prepare("POST", &format!("auth/userpass/users/{user}"), body).await;
    }
    harness
}

async fn login(harness: &Harness, user: &str) -> String {
    let body = json!({ "password": "correct horse" });
    let answer = harness.write(&format!("auth/userpass/login/{user}"), "", body).await.expect_status(200);
    answer.text_at("/auth/client_token")
}

fn keys(answer: &Answer) -> Vec<String> {
    answer.at("/data/keys").as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn listed(harness: &Harness, directory: &str) -> Vec<String> {
    keys(&harness.list(&format!("sys/leases/lookup/{directory}"), ROOT).await)
}

async fn is_alive(harness: &Harness, token: &str) -> bool {
    harness.read("auth/token/lookup-self", token).await.status == 200
}

async fn lookup(harness: &Harness, id: &str) -> Answer {
    harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": id })).await
}

/// The lease id of the one token that was made so.
async fn only_id(harness: &Harness, directory: &str) -> String {
    let names = listed(harness, directory).await;
    assert_eq!(names.len(), 1, "{names:?}");
    format!("{directory}{}", names.first().unwrap())
}

#[tokio::test]
async fn a_token_that_ends_is_listed_shown_and_revoked_by_its_lease_id() {
    let harness = node().await;
    assert_eq!(listed(&harness, "").await, [""; 0], "root tokens without an end have no lease");
    let token = harness.token(json!({ "ttl": "1h" })).await;
    drop(harness.write("auth/token/create-orphan", ROOT, json!({ "ttl": "1h" })).await.expect_status(200));
    let users = login(&harness, "alice").await;
    assert_eq!(listed(&harness, "").await, ["auth/"]);
    assert_eq!(listed(&harness, "auth/").await, ["token/", "userpass/"]);
    assert_eq!(listed(&harness, "auth/token").await, ["create-orphan/", "create/"]);
    assert_eq!(listed(&harness, "auth/userpass/login/").await, ["alice/"]);
    for (directory, token) in [("auth/token/create/", token), ("auth/userpass/login/alice/", users)] {
        let id = only_id(&harness, directory).await;
        let shown = lookup(&harness, &id).await.expect_status(200);
        assert_eq!(shown.text_at("/data/id"), id);
        assert_eq!((shown.at("/data/ttl"), shown.at("/data/renewable")), (&json!(3600), &json!(true)));
        assert_eq!(shown.at("/data/last_renewal"), &Value::Null);
        let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await;
        renewed.expect_error(400, "tokens cannot be renewed through this endpoint");
        drop(harness.write("auth/token/renew-self", &token, json!({})).await.expect_status(200));
        // The number alone, or with another path, is no id.
        let number = id.rsplit('/').next().unwrap();
        for wrong in [number.to_owned(), format!("auth/token/{number}"), format!("{directory}x/{number}")] {
            lookup(&harness, &wrong).await.expect_error(400, "invalid lease");
            harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": wrong })).await;
        }
        assert!(is_alive(&harness, &token).await);
        harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": id })).await;
        assert!(!is_alive(&harness, &token).await);
        lookup(&harness, &id).await.expect_error(400, "invalid lease");
        assert_eq!(listed(&harness, directory).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_prefix_of_an_auth_method_ends_its_tokens_and_no_others() {
    for body in [json!({}), json!({ "sync": true })] {
        let harness = node().await;
        let mine = harness.token(json!({ "ttl": "1h" })).await;
        let (alice, bob) = (login(&harness, "alice").await, login(&harness, "bob").await);
        let child = harness.write("auth/token/create", &alice, json!({})).await;
        harness.prepare("POST", "sys/leases/revoke-prefix/auth/userpass/login/alice", body.clone()).await;
        harness.advance(Duration::from_secs(1)).await;
        assert!(!is_alive(&harness, &alice).await);
        if child.status == 200 {
            assert!(!is_alive(&harness, &child.text_at("/auth/client_token")).await);
        }
        assert!(is_alive(&harness, &bob).await && is_alive(&harness, &mine).await);
        harness.prepare("POST", "sys/leases/revoke-prefix/auth/userpass/", body.clone()).await;
        // What is made after the order lives.
        harness.advance(Duration::from_secs(1)).await;
        let later = login(&harness, "bob").await;
        harness.settle().await;
        assert!(!is_alive(&harness, &bob).await && is_alive(&harness, &mine).await && is_alive(&harness, &later).await);
        harness.prepare("PUT", "sys/leases/revoke-force/auth/userpass", json!({})).await;
        harness.advance(Duration::from_secs(1)).await;
        assert!(!is_alive(&harness, &later).await && is_alive(&harness, &mine).await);
        assert_eq!(listed(&harness, "auth/").await, ["token/"]);
    }
}

#[tokio::test]
async fn pages_of_accessors_and_of_leases_are_the_whole_list_whatever_is_being_collected() {
    let harness = node().await;
    let parent = harness.token(json!({ "ttl": "1h" })).await;
    let mut expected = Vec::new();
    for at in 0..30 {
        let by = if at % 3 == 0 { &parent } else { ROOT };
        let body = json!({ "ttl": if at % 5 == 0 { "20s" } else { "1h" }, "policies": ["default"] });
        let made = harness.write("auth/token/create-orphan", ROOT, body.clone()).await.expect_status(200);
        let child = harness.write("auth/token/create", by, body).await;
        expected
            .extend([made, child].iter().filter(|made| made.status == 200).map(|made| made.text_at("/auth/accessor")));
        harness.advance(Duration::from_millis(40)).await;
    }
    let paged = async |path: &str, limit: usize| {
        let (mut every, mut after) = (Vec::new(), String::new());
        loop {
            let page = keys(&harness.list(&format!("{path}?after={after}&limit={limit}"), ROOT).await);
            assert!(page.len() <= limit);
            let Some(last) = page.last().cloned() else { return every };
            after = last;
            every.extend(page);
        }
    };
    let agree = async |when: &str| {
        for path in ["auth/token/accessors", "sys/leases/lookup/auth/token/create", "sys/leases/lookup/auth/token"] {
            let whole = keys(&harness.list(path, ROOT).await);
            for limit in [1, 7, 1000] {
                assert_eq!(paged(path, limit).await, whole, "{when}: {path} by {limit}");
            }
        }
        keys(&harness.list("auth/token/accessors", ROOT).await)
    };
    let all = agree("nothing waits").await;
    assert!(expected.iter().all(|accessor| all.contains(accessor)));
    // Revoked a moment ago, and then over: neither is shown, collected or not.
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    let fewer = agree("revoked").await;
    assert!(fewer.len() < all.len());
    harness.doors.clock.advance(Duration::from_secs(25));
    let fewest = agree("over").await;
    assert!(fewest.len() < fewer.len());
    harness.advance(Duration::from_secs(5)).await;
    assert_eq!(agree("collected").await, fewest);
}

#[tokio::test]
async fn whoever_makes_a_root_token_gets_in_when_the_quota_is_used_up() {
    let harness = node().await;
    let live = harness.read("sys/leases/count?type=live", ROOT).await;
    assert_eq!(live.at("/data/lease_count"), &json!(0), "root tokens without an end are not counted");
    harness.prepare("POST", "sys/quotas/lease-count/all", json!({ "max_leases": 1 })).await;
    drop(harness.token(json!({ "ttl": "1h" })).await);
    drop(harness.write("auth/token/create", ROOT, json!({ "ttl": "1h" })).await.expect_status(429));
    drop(harness.write("auth/token/create", ROOT, json!({ "policies": ["default"] })).await.expect_status(429));
    let root = harness.write("auth/token/create", ROOT, json!({})).await.expect_status(200);
    let live = harness.read("sys/leases/count?type=live", &root.text_at("/auth/client_token")).await;
    assert_eq!(live.at("/data/lease_count"), &json!(1));
}

#[tokio::test]
async fn what_was_revoked_in_whatever_way_stays_revoked_when_the_next_process_tells_an_earlier_time() {
    let accessor = |made: &Answer| made.text_at("/auth/accessor");
    for way in ["token", "accessor", "lease", "prefix", "self", "orphan"] {
        let mut harness = node().await;
        let made = harness.write("auth/token/create-orphan", ROOT, json!({ "ttl": "30s" })).await.expect_status(200);
        let token = made.text_at("/auth/client_token");
        let id = only_id(&harness, "auth/token/create-orphan/").await;
        harness.settle().await;
        let told = harness.node.now();
        // It has ended, and nobody came by: only what is asked next is done.
        let is_over = !matches!(way, "self");
        if is_over {
            harness.doors.clock.advance(Duration::from_secs(31));
        }
        let revoked = match way {
            "token" => harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await,
            "accessor" => {
                harness.write("auth/token/revoke-accessor", ROOT, json!({ "accessor": accessor(&made) })).await
            }
            "lease" => harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await,
            "prefix" => {
                let path = "sys/leases/revoke-prefix/auth/token/create-orphan";
                harness.write(path, ROOT, json!({ "sync": true })).await
            }
            "self" => harness.write("auth/token/revoke-self", &token, json!({})).await,
            _ => harness.write("auth/token/revoke-orphan", ROOT, json!({ "token": token })).await,
        };
        // An orphan is made of the children of a token that lives; nothing is promised of one that does not.
        assert_eq!(revoked.status, if way == "orphan" { 400 } else { 204 }, "{way}: {revoked:?}");
        harness.kill();
        harness.doors.clock.jump_wall_to(told);
        harness.unseal().await;
        if way != "orphan" {
            assert!(!is_alive(&harness, &token).await, "revoked by {way}");
        }
    }
}
