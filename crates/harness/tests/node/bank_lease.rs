//! Leases of secrets: their life, whom they belong to, and what becomes of them when taking back fails. Tests of the
//! security bank are named by their row.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};

const MAY_LEASE: &str = r#"
path "made/*" { capabilities = ["read"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }"#;

pub(crate) async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    harness.prepare("POST", "sys/policies/acl/lease", json!({ "policy": MAY_LEASE })).await;
    harness
}

/// Hands something out; the id of its lease.
pub(crate) async fn lease(harness: &Harness, token: &str, query: &str) -> String {
    let answer = harness.read(&format!("made/creds/role{query}"), token).await.expect_status(200);
    answer.text_at("/lease_id")
}

pub(crate) async fn lookup(harness: &Harness, id: &str) -> tresor_harness::Answer {
    harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": id })).await
}

/// How many credentials are out.
async fn out(harness: &Harness) -> usize {
    harness.list("made/made", ROOT).await.at("/data/keys").as_array().map_or(0, Vec::len)
}

/// How often each was taken back.
async fn taken_back(harness: &Harness) -> Vec<u64> {
    let answer = harness.read("made/revoked", ROOT).await;
    let all = answer.at("/data").as_object().cloned().unwrap_or_default();
    all.values().filter_map(Value::as_u64).collect()
}

pub(crate) async fn fail_as(harness: &Harness, failure: &str) {
    harness.prepare("POST", "made/config", json!({ "failure": failure })).await;
}

pub(crate) async fn count(harness: &Harness, kind: &str) -> u64 {
    let answer = harness.read(&format!("sys/leases/count?type={kind}"), ROOT).await.expect_status(200);
    answer.at("/data/lease_count").as_u64().unwrap()
}

#[tokio::test]
async fn a_lease_is_shown_renewed_listed_and_revoked_by_its_id() {
    let harness = node().await;
    let answer = harness.read("made/creds/role?ttl=1h", ROOT).await.expect_status(200);
    let id = answer.text_at("/lease_id");
    assert!(id.starts_with("made/creds/role/") && id.len() == "made/creds/role/".len() + 24, "{id}");
    assert_eq!((answer.at("/lease_duration"), answer.at("/renewable")), (&json!(3600), &json!(true)));
    let shown = lookup(&harness, &id).await.expect_status(200);
    assert_eq!((shown.at("/data/path"), shown.at("/data/namespace_path")), (&json!("made/creds/role"), &Value::Null));
    assert_eq!((shown.at("/data/id"), shown.at("/data/ttl")), (&json!(id), &json!(3600)));
    assert_eq!((shown.at("/data/last_renewal"), shown.at("/data/renewable")), (&Value::Null, &json!(true)));
    assert!(shown.text_at("/data/expire_time") > shown.text_at("/data/issue_time"));
    let number = id.rsplit('/').next().unwrap();
    for (directory, name) in [("", "made/"), ("made", "creds/"), ("made/creds/", "role/"), ("made/creds/role", number)]
    {
        let listed = harness.list(&format!("sys/leases/lookup/{directory}"), ROOT).await.expect_status(200);
        assert_eq!(listed.at("/data/keys"), &json!([name]), "{directory}");
    }
    harness.advance(Duration::from_secs(600)).await;
    let bodies = [
        ("sys/leases/renew".to_owned(), json!({ "lease_id": id, "increment": 7200 })),
        (format!("sys/renew/{id}"), json!({ "increment": 7200 })),
    ];
    for (path, body) in bodies {
        let renewed = harness.call("PUT", &path, ROOT, body).await.expect_status(200);
        assert_eq!((renewed.text_at("/lease_id"), renewed.at("/lease_duration")), (id.clone(), &json!(7200)));
        assert_eq!(renewed.at("/data"), &Value::Null);
    }
    assert!(lookup(&harness, &id).await.at("/data/last_renewal").is_string());
    drop(harness.call("PUT", "sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
    lookup(&harness, &id).await.expect_error(400, "invalid lease");
    harness.list("sys/leases/lookup/made/creds/role", ROOT).await.expect_error(404, "");
    harness.advance(Duration::from_secs(1)).await;
    assert_eq!((out(&harness).await, taken_back(&harness).await), (0, vec![1]));
    // Revoking what is gone is fine; renewing it is not.
    drop(harness.call("PUT", &format!("sys/revoke/{id}"), ROOT, json!({})).await.expect_status(204));
    harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_error(400, "lease not found");
    harness.write("sys/leases/renew", ROOT, json!({})).await.expect_error(400, "lease_id must be specified");
    drop(harness.write("sys/leases/renew", ROOT, json!({ "lease_id": null })).await.expect_status(400));
}

#[tokio::test]
async fn a_renewal_that_does_not_move_the_end_writes_nothing() {
    let harness = node().await;
    let id = lease(&harness, ROOT, "?ttl=1h").await;
    harness.settle().await;
    let before = harness.store.dump();
    for _ in 0..3 {
        drop(harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_status(200));
    }
    assert!(before == harness.store.dump());
}

/// Ten renewals by `renew`, five seconds apart, after one that moved the end.
async fn ten_renewals_write_nothing(harness: &Harness, renew: impl AsyncFn() -> u64) {
    assert_eq!(renew().await, 3600);
    // The time that was told is stored once a minute: now.
    harness.advance(Duration::from_secs(61)).await;
    assert_eq!(renew().await, 3600);
    harness.settle().await;
    let before = harness.store.dump();
    for _ in 0..10 {
        harness.advance(Duration::from_secs(5)).await;
        assert_eq!(renew().await, 3600);
    }
    harness.settle().await;
    assert!(before == harness.store.dump());
}

#[tokio::test]
async fn ten_renewals_within_a_step_write_nothing_and_the_lease_ends_within_a_step_after_the_last_promise() {
    let mut harness = node().await;
    let id = lease(&harness, ROOT, "?ttl=1h").await;
    let ttl = async |harness: &Harness| lookup(harness, &id).await.expect_status(200).at("/data/ttl").as_u64().unwrap();
    ten_renewals_write_nothing(&harness, async || {
        let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_status(200);
        assert_eq!(ttl(&harness).await, 3600, "no more than was granted");
        renewed.at("/lease_duration").as_u64().unwrap()
    })
    .await;
    harness.restart().await;
    harness.unseal().await;
    harness.advance(Duration::from_secs(3599)).await;
    assert!((1..=57).contains(&ttl(&harness).await));
    harness.advance(Duration::from_secs(57)).await;
    drop(lookup(&harness, &id).await.expect_status(400));
    harness.advance(Duration::from_secs(2)).await;
    assert_eq!(taken_back(&harness).await, [1]);
}

#[tokio::test]
async fn ten_renewals_of_a_token_within_a_step_write_nothing_and_a_shorter_life_is_granted() {
    let mut harness = node().await;
    let token = harness.token(json!({ "ttl": "1h" })).await;
    let ttl = async |harness: &Harness| {
        harness.read("auth/token/lookup-self", &token).await.expect_status(200).at("/data/ttl").as_u64().unwrap()
    };
    ten_renewals_write_nothing(&harness, async || {
        let renewed = harness.write("auth/token/renew-self", &token, json!({})).await.expect_status(200);
        assert_eq!(ttl(&harness).await, 3600, "no more than was granted");
        renewed.at("/auth/lease_duration").as_u64().unwrap()
    })
    .await;
    harness.restart().await;
    harness.unseal().await;
    harness.advance(Duration::from_secs(3599)).await;
    assert!((1..=57).contains(&ttl(&harness).await));
    let renewed = harness.write("auth/token/renew-self", &token, json!({ "increment": "1000s" })).await;
    assert_eq!(renewed.expect_status(200).at("/auth/lease_duration"), &json!(1000));
    let renewed = harness.write("auth/token/renew-self", &token, json!({ "increment": "60s" })).await;
    assert_eq!(renewed.expect_status(200).at("/auth/lease_duration"), &json!(60));
    harness.advance(Duration::from_secs(61)).await;
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(403));
}

#[tokio::test]
async fn tok_02_tok_03_a_lease_never_outlives_its_token_or_its_longest_life() {
    let harness = node().await;
    let token = harness.token(json!({ "policies": ["lease"], "ttl": "5s" })).await;
    let answer = harness.read("made/creds/role?ttl=1h", &token).await.expect_status(200);
    assert_eq!(answer.at("/lease_duration"), &json!(5));
    // Never a life of zero, which might mean for ever.
    let bounded = lease(&harness, ROOT, "?ttl=3s&max_ttl=3s").await;
    for _ in 0..3 {
        let answer = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": bounded })).await;
        assert!(answer.status == 400 || answer.at("/lease_duration").as_u64() > Some(0), "{answer:?}");
        harness.advance(Duration::from_secs(1)).await;
    }
    drop(lookup(&harness, &bounded).await.expect_status(400));
    harness.advance(Duration::from_secs(4)).await;
    harness.advance(Duration::from_secs(1)).await;
    assert_eq!(out(&harness).await, 0);
}

#[tokio::test]
async fn tok_03_a_lease_of_a_batch_token_ends_with_it_or_with_its_parent() {
    let harness = node().await;
    let batch =
        |ttl: &str, no_parent| json!({ "policies": ["lease"], "type": "batch", "ttl": ttl, "no_parent": no_parent });
    let token = harness.token(batch("60s", true)).await;
    let id = lease(&harness, &token, "?ttl=1h").await;
    let shown = lookup(&harness, &id).await.expect_status(200);
    assert_eq!(shown.at("/data/ttl"), &json!(60));
    harness.advance(Duration::from_secs(20)).await;
    // Whoever renews it comes to the end of the token, and no further.
    let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id, "increment": "1h" })).await;
    assert_eq!(renewed.expect_status(200).at("/lease_duration"), &json!(40));
    harness.prepare("POST", "sys/leases/tidy", json!({})).await;
    harness.advance(Duration::from_secs(5)).await;
    assert_eq!(out(&harness).await, 1);
    harness.advance(Duration::from_secs(36)).await;
    drop(lookup(&harness, &id).await.expect_status(400));
    harness.advance(Duration::from_secs(1)).await;
    assert_eq!(out(&harness).await, 0);
    let parent = harness.token(json!({ "policies": ["root"], "ttl": "2h" })).await;
    let made = harness.write("auth/token/create", &parent, batch("1h", false)).await.expect_status(200);
    drop(lease(&harness, &made.text_at("/auth/client_token"), "").await);
    assert_eq!(out(&harness).await, 1);
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(out(&harness).await, 0);
}

#[tokio::test]
async fn tok_01_every_way_a_token_dies_revokes_its_leases() {
    let harness = node().await;
    let parent = harness.token(json!({ "policies": ["lease"], "ttl": "2h" })).await;
    for way in ["use", "time", "self", "accessor", "parent", "orphaning"] {
        let parameters = match way {
            "use" => json!({ "policies": ["lease"], "ttl": "1h", "num_uses": 1 }),
            "time" => json!({ "policies": ["lease"], "ttl": "60s" }),
            _ => json!({ "policies": ["lease"], "ttl": "1h" }),
        };
        let maker = if way == "parent" { &parent } else { ROOT };
        let made = harness.write("auth/token/create", maker, parameters).await.expect_status(200);
        let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
        let id = lease(&harness, &token, "").await;
        match way {
            "use" => {}
            "time" => harness.advance(Duration::from_secs(61)).await,
            "self" => drop(harness.write("auth/token/revoke-self", &token, json!({})).await.expect_status(204)),
            "accessor" => {
                harness.prepare("POST", "auth/token/revoke-accessor", json!({ "accessor": accessor })).await;
            }
            "parent" => {
                harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
            }
            _ => {
                harness.prepare("POST", "auth/token/revoke-orphan", json!({ "token": token })).await;
            }
        }
        drop(lookup(&harness, &id).await.expect_status(400));
        for _ in 0..3 {
            harness.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(out(&harness).await, 0, "{way}");
    }
    assert!(taken_back(&harness).await.iter().all(|times| *times == 1));
    assert_eq!(taken_back(&harness).await.len(), 6);
}

#[tokio::test]
async fn tok_10_a_failure_is_tried_again_and_at_last_shown_and_nothing_is_dropped() {
    let harness = node().await;
    for failure in ["refuse", "fail", "panic", "hang"] {
        let live = count(&harness, "live").await;
        let id = lease(&harness, ROOT, "?ttl=1h").await;
        assert_eq!(count(&harness, "live").await, live + 1);
        fail_as(&harness, failure).await;
        drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
        assert_eq!(count(&harness, "live").await, live, "what is being revoked does not count");
        harness.advance(Duration::from_secs(1)).await;
        assert_eq!(count(&harness, "irrevocable").await, 0, "{failure}: one attempt is not the last");
        for _ in 0..20 {
            // Longer than any pause between two attempts, and than an engine may take.
            harness.advance(Duration::from_secs(400)).await;
        }
        assert_eq!((count(&harness, "irrevocable").await, out(&harness).await), (1, 1), "{failure}");
        let listed = harness.read("sys/leases?type=irrevocable", ROOT).await.expect_status(200);
        assert_eq!(listed.at("/data/leases/0/lease_id"), &json!(id));
        let reason = lookup(&harness, &id).await.text_at("/data/revoke_error");
        assert!(!reason.is_empty() && listed.at("/data/leases/0/error") == &json!(reason));
        // The target is mended, and an operator orders it once more.
        fail_as(&harness, "").await;
        drop(
            harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await.expect_status(204),
        );
        assert_eq!((count(&harness, "irrevocable").await, out(&harness).await), (0, 0), "{failure}");
    }
    assert_eq!(taken_back(&harness).await, [1; 4], "what a failed attempt wrote did not stay");
}

#[tokio::test]
async fn a_failing_revocation_that_is_waited_for_is_told_and_changes_nothing() {
    let harness = node().await;
    let id = lease(&harness, ROOT, "?ttl=1h").await;
    fail_as(&harness, "refuse").await;
    let answer = harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true })).await;
    answer.expect_error(400, "no such user");
    drop(lookup(&harness, &id).await.expect_status(200));
    harness.advance(Duration::from_secs(120)).await;
    harness.advance(Duration::from_secs(1)).await;
    drop(lookup(&harness, &id).await.expect_status(200));
    // Forced, it is forgotten, with a word in the log.
    drop(harness.write("sys/leases/revoke-force/made/creds", ROOT, json!({})).await.expect_status(204));
    for _ in 0..3 {
        harness.advance(Duration::from_secs(1)).await;
    }
    drop(lookup(&harness, &id).await.expect_status(400));
    assert_eq!((count(&harness, "irrevocable").await, out(&harness).await), (0, 1));
}

#[tokio::test]
async fn acl_12_a_prefix_revokes_the_leases_below_it_and_nothing_else() {
    let harness = node().await;
    harness.prepare("POST", "sys/mounts/other", json!({ "type": "leasing" })).await;
    let token = harness.token(json!({ "policies": ["lease"], "ttl": "1h" })).await;
    let other = harness.read("other/creds/role", ROOT).await.expect_status(200).text_at("/lease_id");
    let beside = harness.read("made/creds/roles", ROOT).await.expect_status(200).text_at("/lease_id");
    for sync in [false, true] {
        let mut below = Vec::new();
        for _ in 0..5 {
            below.push(lease(&harness, &token, "").await);
        }
        let path = "sys/leases/revoke-prefix/made/creds/role";
        drop(harness.write(path, ROOT, json!({ "sync": sync })).await.expect_status(204));
        if !sync {
            for _ in 0..4 {
                harness.advance(Duration::from_secs(1)).await;
            }
        }
        for id in &below {
            drop(lookup(&harness, id).await.expect_status(400));
        }
        assert_eq!(out(&harness).await, 1);
    }
    for id in [&other, &beside] {
        drop(lookup(&harness, id).await.expect_status(200));
    }
    drop(harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_status(200));
}

#[tokio::test]
async fn tok_05_any_id_that_is_given_out_leads_back_to_its_lease() {
    let harness = Harness::start().await;
    for mount in ["with.dot", "with-dash_and@at", "ünïcode"] {
        let encoded = mount.replace('ü', "%C3%BC").replace('ï', "%C3%AF");
        harness.prepare("POST", &format!("sys/mounts/{encoded}"), json!({ "type": "leasing" })).await;
        for role in ["r.ole", "r-o_l@e", "a//b", "r%20o"] {
            let path = format!("{encoded}/creds/{role}");
            let id = harness.read(&path, ROOT).await.expect_status(200).text_at("/lease_id");
            drop(lookup(&harness, &id).await.expect_status(200));
            drop(harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_status(200));
            drop(
                harness
                    .write("sys/leases/revoke", ROOT, json!({ "lease_id": id, "sync": true }))
                    .await
                    .expect_status(204),
            );
            drop(lookup(&harness, &id).await.expect_status(400));
        }
    }
}

#[tokio::test]
async fn ns_03_an_older_spelling_is_decided_as_the_path_of_today() {
    let harness = node().await;
    let id = lease(&harness, ROOT, "").await;
    let old = harness
        .token_with(
            r#"path "sys/revoke" { capabilities = ["update", "sudo"] }
        path "sys/revoke-prefix/*" { capabilities = ["update", "sudo"] }"#,
        )
        .await;
    drop(harness.write("sys/revoke", &old, json!({ "lease_id": id })).await.expect_status(403));
    drop(harness.write("sys/revoke-prefix/made", &old, json!({})).await.expect_status(403));
    let closed = harness
        .token_with(
            r#"path "*" { capabilities = ["update", "sudo"] }
        path "sys/leases/*" { capabilities = ["deny"] }"#,
        )
        .await;
    for path in
        ["sys/revoke", "sys/renew", "sys/revoke-force/made", &format!("sys/revoke/{id}"), &format!("sys/renew/{id}")]
    {
        drop(harness.write(path, &closed, json!({ "lease_id": id })).await.expect_status(403));
    }
    drop(lookup(&harness, &id).await.expect_status(200));
}

#[tokio::test]
async fn a_mount_that_is_removed_takes_its_leases_with_it() {
    let harness = node().await;
    let before = harness.store.dump().len();
    let ids: Vec<String> = {
        let mut ids = Vec::new();
        for _ in 0..300 {
            ids.push(lease(&harness, ROOT, "?ttl=1h").await);
        }
        ids
    };
    harness.prepare("DELETE", "sys/mounts/made", json!(null)).await;
    for id in ids.iter().take(3) {
        drop(lookup(&harness, id).await.expect_status(400));
    }
    assert_eq!(count(&harness, "live").await, 0);
    // Another mount of that path has nothing to do with it.
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    let later = lease(&harness, ROOT, "?ttl=1h").await;
    for _ in 0..20 {
        harness.advance(Duration::from_secs(1)).await;
    }
    drop(lookup(&harness, &later).await.expect_status(200));
    assert_eq!((out(&harness).await, taken_back(&harness).await.len()), (1, 0));
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": later, "sync": true })).await;
    harness.prepare("DELETE", "sys/mounts/made", json!(null)).await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(harness.store.dump().len(), before, "nothing is left of leases, indices and data");
}

#[tokio::test]
async fn leases_end_after_a_restart_too_and_once() {
    let mut harness = node().await;
    for _ in 0..40 {
        drop(lease(&harness, ROOT, "?ttl=30s").await);
    }
    harness.advance(Duration::from_secs(10)).await;
    harness.kill();
    harness.unseal().await;
    harness.advance(Duration::from_secs(10)).await;
    assert_eq!(out(&harness).await, 40);
    harness.restart().await;
    harness.doors.clock.advance(Duration::from_secs(15));
    harness.unseal().await;
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!((out(&harness).await, taken_back(&harness).await), (0, vec![1; 40]));
}

#[tokio::test]
async fn dos_15_a_quota_is_exact_and_what_is_revoked_frees_it() {
    let harness = node().await;
    harness.prepare("POST", "sys/auth/people", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/people/users/bob", json!({ "password": "secret" })).await;
    harness.prepare("POST", "sys/quotas/lease-count/people", json!({ "path": "auth/people", "max_leases": 10 })).await;
    let login = || harness.write("auth/people/login/bob", "", json!({ "password": "secret" }));
    let logins = futures_util::future::join_all((0..20).map(|_| login())).await;
    let (fine, refused): (Vec<_>, Vec<_>) = logins.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((fine.len(), refused.len()), (10, 10));
    refused.iter().for_each(|answer| answer.expect_error(429, "lease count quota exceeded"));
    let shown = harness.read("sys/quotas/lease-count/people", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/counter"), shown.at("/data/type")), (&json!(10), &json!("lease-count")));
    let token = fine.first().unwrap().text_at("/auth/client_token");
    harness.prepare("POST", "auth/token/revoke", json!({ "token": token })).await;
    drop(login().await.expect_status(200));
    drop(login().await.expect_status(429));
    // Leases of a secrets engine are counted alike, and one quota is about one mount.
    harness.prepare("POST", "sys/quotas/lease-count/made", json!({ "path": "made/", "max_leases": 2 })).await;
    let (first, _) = (lease(&harness, ROOT, "").await, lease(&harness, ROOT, "").await);
    harness.read("made/creds/role", ROOT).await.expect_error(429, "lease count quota exceeded");
    assert_eq!(out(&harness).await, 2, "what was refused handed nothing out");
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": first })).await;
    drop(lease(&harness, ROOT, "").await);
    let again = harness.write("sys/quotas/lease-count/x", ROOT, json!({ "path": "made", "max_leases": 2 })).await;
    again.expect_error(400, "similar properties");
    harness
        .write("sys/quotas/lease-count/x", ROOT, json!({ "path": "no", "max_leases": 2 }))
        .await
        .expect_error(400, "invalid mount path");
    drop(harness.write("sys/quotas/lease-count/x", ROOT, json!({ "max_leases": 0 })).await.expect_status(400));
    assert_eq!(harness.list("sys/quotas/lease-count", ROOT).await.at("/data/keys"), &json!(["made", "people"]));
    harness.prepare("DELETE", "sys/quotas/lease-count/people", json!(null)).await;
    drop(login().await.expect_status(200));
    drop(harness.read("sys/quotas/lease-count/people", ROOT).await.expect_status(404));
}

/// Revokes a prefix and waits for it, while time goes on; the answer.
async fn revoke_waiting(harness: &Harness, prefix: &str, seconds: u32) -> tresor_harness::Answer {
    let path = format!("sys/leases/revoke-prefix/{prefix}");
    let asked = harness.write(&path, ROOT, json!({ "sync": true }));
    let passing = async {
        for _ in 0..seconds {
            harness.advance(Duration::from_secs(1)).await;
        }
        for _ in 0..100 {
            harness.settle().await;
        }
    };
    tokio::select! {
        biased;
        answer = asked => answer,
        () = passing => unreachable!("it waits for more than {seconds} seconds"),
    }
}

#[tokio::test]
async fn revoking_very_many_answers_when_all_are_revoked_or_says_what_is_not() {
    let harness = node().await;
    for _ in 0..300 {
        drop(lease(&harness, ROOT, "?ttl=1h").await);
    }
    // Whoever waits is told when it is done, and nothing that does it waits for a second to pass.
    drop(revoke_waiting(&harness, "made/creds/", 0).await.expect_status(204));
    assert_eq!((out(&harness).await, taken_back(&harness).await), (0, vec![1; 300]));
    // An engine that fails: the answer says which lease, and it goes on in the background.
    for failure in ["fail", "hang"] {
        for _ in 0..300 {
            drop(lease(&harness, ROOT, "?ttl=1h").await);
        }
        fail_as(&harness, failure).await;
        let answer = revoke_waiting(&harness, "made/creds", 200).await;
        match failure {
            "fail" => answer.expect_error(400, "failed to revoke \"made/creds/role/"),
            _ => assert!(matches!(answer.status, 400 | 503), "{answer:?}"),
        }
        assert_eq!(harness.list("sys/leases/lookup/made/creds/role", ROOT).await.status, 404, "all are over");
        fail_as(&harness, "").await;
        for _ in 0..60 {
            harness.advance(Duration::from_secs(20)).await;
        }
        assert_eq!(out(&harness).await, 0);
    }
    assert_eq!(taken_back(&harness).await, vec![1; 900]);
}

#[tokio::test]
async fn a_whole_family_that_is_revoked_frees_the_quota_at_once() {
    let harness = node().await;
    let parent = harness.token(json!({ "policies": ["lease"], "ttl": "1h" })).await;
    for _ in 0..8 {
        drop(harness.write("auth/token/create", &parent, json!({})).await.expect_status(200));
        drop(lease(&harness, &parent, "").await);
    }
    let live = count(&harness, "live").await;
    assert_eq!(live, 1 + 8 + 8, "parent, children, leases");
    harness.prepare("POST", "sys/quotas/lease-count/all", json!({ "max_leases": live })).await;
    let create = async || harness.write("auth/token/create", ROOT, json!({ "ttl": "1h" })).await;
    drop(create().await.expect_status(429));
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    assert_eq!(count(&harness, "live").await, 0);
    for _ in 0..live {
        drop(create().await.expect_status(200));
    }
    drop(create().await.expect_status(429));
    // Collecting changes nothing of what is counted.
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
    }
    assert_eq!((count(&harness, "live").await, out(&harness).await), (live, 0));
    drop(create().await.expect_status(429));
}

#[tokio::test]
async fn tidying_is_accepted_and_leaves_what_is_alive() {
    let harness = node().await;
    let id = lease(&harness, ROOT, "").await;
    let accessors = harness.list("auth/token/accessors", ROOT).await.at("/data/keys").clone();
    for path in ["sys/leases/tidy", "auth/token/tidy"] {
        let answer = harness.write(path, ROOT, json!({})).await.expect_status(202);
        assert!(answer.at("/warnings/0").as_str().unwrap().contains("Tidy operation"), "{answer:?}");
    }
    for _ in 0..4 {
        harness.advance(Duration::from_secs(1)).await;
    }
    drop(lookup(&harness, &id).await.expect_status(200));
    assert_eq!(harness.list("auth/token/accessors", ROOT).await.at("/data/keys"), &accessors);
}

#[tokio::test]
async fn what_a_revocation_takes_with_it_is_audited_in_sums() {
    let harness = node().await;
    harness.enable_audit().await;
    let parent = harness.token(json!({ "policies": ["lease"], "ttl": "1h" })).await;
    for _ in 0..5 {
        drop(harness.write("auth/token/create", &parent, json!({ "ttl": "50s" })).await.expect_status(200));
    }
    drop(harness.token(json!({ "policies": ["lease"], "ttl": "10s" })).await);
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    harness.advance(Duration::from_secs(11)).await;
    harness.advance(Duration::from_secs(1)).await;
    let records = harness.audit_records().await;
    let sums = |path: &str| -> u64 {
        let of_path = records.iter().filter(|record| record.pointer("/request/path") == Some(&json!(path)));
        of_path.filter_map(|record| record.pointer("/request/data/tokens")?.as_u64()).sum()
    };
    assert_eq!((sums("sys/tokens/collected"), sums("sys/tokens/expired")), (5, 1));
}

#[tokio::test]
async fn a_clock_that_is_set_back_while_the_server_is_down_gives_nobody_more_time() {
    let mut harness = node().await;
    let token = harness.token(json!({ "policies": ["lease"], "ttl": "10m" })).await;
    harness.advance(Duration::from_secs(300)).await;
    let told = harness.node.now();
    harness.restart().await;
    harness.doors.clock.jump_wall_to(tresor_model::Timestamp::from_seconds(told.seconds() - 86_400));
    harness.restart().await;
    harness.unseal().await;
    let left =
        harness.read("auth/token/lookup-self", &token).await.expect_status(200).at("/data/ttl").as_u64().unwrap();
    // The mark is a minute old at most.
    assert!((300..=360).contains(&left), "{left}");
    harness.advance(Duration::from_secs(361)).await;
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(403));
}

/// What happens to a token and a lease of it.
#[derive(Clone, Debug)]
enum Fortune {
    Passes(u64),
    RenewToken(u64),
    RenewLease(u64),
    Restart,
    /// The machine's clock is set back while the server is down.
    SetBack(i64),
}

fn fortunes() -> impl proptest::strategy::Strategy<Value = Vec<Fortune>> {
    use proptest::prelude::*;
    let fortune = prop_oneof![
        4 => (1_u64..4_000_000).prop_map(Fortune::Passes),
        3 => (1_u64..7_200).prop_map(Fortune::RenewToken),
        3 => (1_u64..7_200).prop_map(Fortune::RenewLease),
        2 => Just(Fortune::Restart),
        1 => (1_i64..90_000).prop_map(Fortune::SetBack),
    ];
    prop::collection::vec(fortune, 1..24)
}

/// A token with a period and a lease of it live as long as was promised last, whatever comes between.
async fn lives_as_promised(fortunes: &[Fortune]) {
    let mut harness = node().await;
    let token = harness.token(json!({ "policies": ["lease"], "ttl": "2h", "period": "2h" })).await;
    let id = lease(&harness, &token, "?ttl=1h&max_ttl=700h").await;
    let seconds = std::time::Duration::from_secs;
    let promise = |harness: &Harness, life: u64| harness.node.now().plus(seconds(life));
    let (mut token_end, mut lease_end) = (promise(&harness, 7_200), promise(&harness, 3_600));
    for fortune in fortunes {
        match fortune {
            // Never beyond what the token has: it is what is looked at.
            Fortune::Passes(millis) => {
                let left = token_end.since(harness.node.now()).saturating_sub(Duration::from_millis(1));
                harness.advance(Duration::from_millis(*millis).min(left)).await;
            }
            Fortune::RenewToken(increment) => {
                let body = json!({ "increment": increment });
                let renewed = harness.write("auth/token/renew-self", &token, body).await.expect_status(200);
                token_end = promise(&harness, renewed.at("/auth/lease_duration").as_u64().unwrap());
            }
            Fortune::RenewLease(increment) => {
                let body = json!({ "lease_id": id, "increment": increment });
                let renewed = harness.write("sys/leases/renew", ROOT, body).await;
                if renewed.status == 200 {
                    lease_end = promise(&harness, renewed.at("/lease_duration").as_u64().unwrap());
                }
            }
            Fortune::Restart => {
                harness.restart().await;
                harness.unseal().await;
            }
            Fortune::SetBack(by) => {
                let told = harness.node.now();
                harness.restart().await;
                harness.doors.clock.jump_wall_to(tresor_model::Timestamp::from_seconds(told.seconds() - by));
                harness.restart().await;
                harness.unseal().await;
            }
        }
        let now = harness.node.now();
        assert!(now >= token_end || harness.read("auth/token/lookup-self", &token).await.status == 200, "{fortunes:?}");
        assert!(now >= lease_end || lookup(&harness, &id).await.status == 200, "{fortunes:?}");
    }
    // And no longer than a step after it: a 64th of the life, and the clock's minute.
    harness.advance(token_end.since(harness.node.now()).max(lease_end.since(harness.node.now()))).await;
    harness.advance(seconds(7_200 / 64 + 62)).await;
    assert_eq!(harness.read("auth/token/lookup-self", &token).await.status, 403, "{fortunes:?}");
    assert_ne!(lookup(&harness, &id).await.status, 200, "{fortunes:?}");
}

#[test]
fn nothing_ends_before_the_promise_of_its_last_renewal_restarts_included() {
    let config = proptest::test_runner::Config { cases: 24, failure_persistence: None, ..Default::default() };
    proptest::proptest!(config, |(fortunes in fortunes())| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(lives_as_promised(&fortunes));
    });
}
