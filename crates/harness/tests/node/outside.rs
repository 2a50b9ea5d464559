//! What is done outside the server: planned, done once, settled; and taken back whatever happens in between. Tests of the
//! security bank are named by their row.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::cluster::World;
use tresor_harness::lending::{Does, Service, service};
use tresor_harness::{Answer, Harness, ROOT};
use tresor_storage::Store;

const MAY: &str = r#"path "lent/*" { capabilities = ["read"] }"#;

/// A node with a mount, and the service behind it.
async fn node(name: &str) -> (Harness, Arc<Service>) {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/lent", json!({ "type": "lending" })).await;
    harness.prepare("POST", "lent/config", json!({ "service": name })).await;
    harness.prepare("POST", "sys/policies/acl/may", json!({ "policy": MAY })).await;
    (harness, service(name))
}

async fn creds(harness: &Harness, token: &str) -> Answer {
    harness.read("lent/creds/role?ttl=1h", token).await
}

/// A lease and its account.
async fn lent(harness: &Harness) -> (String, String) {
    let made = creds(harness, ROOT).await.expect_status(200);
    (made.text_at("/lease_id"), made.text_at("/data/username"))
}

async fn count(harness: &Harness, kind: &str) -> u64 {
    let answer = harness.read(&format!("sys/leases/count?type={kind}"), ROOT).await.expect_status(200);
    answer.at("/data/lease_count").as_u64().unwrap()
}

/// Lets time pass in steps, so that what follows from one thing can happen after the other.
async fn pass(harness: &Harness, seconds: u64, steps: u32) {
    for _ in 0..steps {
        harness.advance(Duration::from_secs(seconds)).await;
    }
}

/// A request that is under way until the service answers, beside what the test does meanwhile.
async fn while_it_hangs<T>(
    harness: &Harness,
    service: &Service,
    token: &str,
    meanwhile: impl AsyncFnOnce() -> T,
) -> (Answer, T) {
    service.is_told(Does::Hangs);
    let before = service.waiting();
    let test = async {
        while service.waiting() == before {
            tokio::task::yield_now().await;
        }
        meanwhile().await
    };
    tokio::join!(creds(harness, token), test)
}

#[tokio::test]
async fn an_account_is_made_then_leased_and_goes_with_its_lease() {
    let (harness, service) = node("made-and-leased").await;
    let live = count(&harness, "live").await;
    let answer = creds(&harness, ROOT).await.expect_status(200);
    assert!(answer.text_at("/lease_id").starts_with("lent/creds/role/"), "{answer:?}");
    assert_eq!((answer.at("/lease_duration"), answer.at("/renewable")), (&json!(3600), &json!(true)));
    assert_eq!(answer.text_at("/data/password").len(), 20);
    assert!(service.accounts().contains(&answer.text_at("/data/username")));
    assert_eq!(count(&harness, "live").await, live + 1);
    let id = answer.text_at("/lease_id");
    let renewed = harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await.expect_status(200);
    assert_eq!(renewed.at("/lease_duration"), &json!(3600));
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": id })).await.expect_status(204));
    pass(&harness, 1, 2).await;
    assert!(service.accounts().is_empty());
    assert_eq!(count(&harness, "live").await, live);
    // Its time ends it as well.
    drop(creds(&harness, ROOT).await.expect_status(200));
    pass(&harness, 3602, 1).await;
    pass(&harness, 1, 2).await;
    assert!(service.accounts().is_empty());
}

#[tokio::test]
async fn an_account_costs_two_commits_and_so_does_taking_it_back() {
    let (harness, service) = node("commits").await;
    pass(&harness, 1, 3).await;
    let version = || harness.store.snapshot().unwrap().version();
    let (before, asked) = (version(), service.asked());
    // The intent, and the lease.
    let lease = creds(&harness, ROOT).await.expect_status(200).text_at("/lease_id");
    assert_eq!((version(), service.asked()), (before.next().next(), asked + 1));
    // The order, and the end of the lease.
    let body = json!({ "lease_id": lease, "sync": true });
    drop(harness.write("sys/leases/revoke", ROOT, body).await.expect_status(204));
    assert_eq!((version(), service.asked()), (before.next().next().next().next(), asked + 2));
}

#[tokio::test]
async fn what_the_service_refuses_leaves_nothing_and_what_it_did_by_half_is_taken_back() {
    let (harness, service) = node("refusing").await;
    drop(creds(&harness, ROOT).await.expect_status(200));
    pass(&harness, 3700, 1).await;
    pass(&harness, 70, 1).await;
    let (live, stored) = (count(&harness, "live").await, harness.store.dump().len());
    service.is_told(Does::Refuses);
    creds(&harness, ROOT).await.expect_error(400, "the service says no");
    service.is_told(Does::IsDown);
    creds(&harness, ROOT).await.expect_error(502, "connection refused");
    assert_eq!((count(&harness, "live").await, harness.store.dump().len()), (live, stored));
    for (does, status) in [(Does::Half, 400), (Does::BreaksOff, 502)] {
        service.is_told(does);
        drop(creds(&harness, ROOT).await.expect_status(status));
        assert_eq!((service.accounts().len(), count(&harness, "live").await), (1, live), "{does:?}");
        service.is_told(Does::Everything);
        pass(&harness, 3, 5).await;
        assert!(service.accounts().is_empty(), "{does:?}");
        // What broke off could come true later, so it is taken back once more.
        pass(&harness, 400, 2).await;
        assert_eq!(harness.store.dump().len(), stored, "{does:?}");
    }
    assert_eq!(count(&harness, "irrevocable").await, 0);
}

#[tokio::test]
async fn nobody_sees_what_is_in_the_making_and_it_counts_for_quotas() {
    let (harness, service) = node("in-the-making").await;
    let live = count(&harness, "live").await;
    harness.prepare("POST", "sys/quotas/lease-count/q", json!({ "path": "lent", "max_leases": 1 })).await;
    let (answer, asked) = while_it_hangs(&harness, &service, ROOT, async || {
        harness.list("sys/leases/lookup/lent/creds/role", ROOT).await.expect_error(404, "");
        harness.list("sys/leases/lookup", ROOT).await.expect_error(404, "");
        assert_eq!(count(&harness, "live").await, live);
        let asked = service.asked();
        drop(creds(&harness, ROOT).await.expect_status(429));
        assert_eq!(service.asked(), asked, "refused before anybody was asked");
        service.comes_true();
        asked
    })
    .await;
    drop(answer.expect_status(200));
    assert_eq!((asked, service.accounts().len(), count(&harness, "live").await), (1, 1, live + 1));
}

#[tokio::test]
async fn what_hangs_is_given_up_and_what_comes_true_late_is_taken_back() {
    let (harness, service) = node("late").await;
    let (answer, ()) = while_it_hangs(&harness, &service, ROOT, async || pass(&harness, 61, 1).await).await;
    answer.expect_error(503, "context deadline exceeded");
    service.is_told(Does::Everything);
    pass(&harness, 3, 3).await;
    assert_eq!((service.waiting(), service.accounts().len()), (1, 0));
    service.comes_true();
    assert_eq!(service.accounts().len(), 1);
    pass(&harness, 400, 1).await;
    pass(&harness, 3, 2).await;
    assert_eq!(service.accounts().len(), 0);
    assert_eq!(harness.list("sys/leases/lookup", ROOT).await.status, 404);
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_leaves_no_account() {
    // Before the account is there, and after; and the process that was killed resumes, or does not.
    for comes_true_at in [0, 1, 2] {
        let (mut harness, service) = node(&format!("killed-{comes_true_at}")).await;
        service.is_told(Does::Hangs);
        {
            let asking = creds(&harness, ROOT);
            let mut asking = Box::pin(asking);
            while service.waiting() == 0 {
                tokio::select! { biased; _ = &mut asking => panic!("it hangs"), () = tokio::task::yield_now() => {} }
            }
        }
        service.is_told(Does::Everything);
        if comes_true_at == 0 {
            service.comes_true();
        }
        harness.kill();
        // It is told apart by its time from what the next process begins.
        harness.advance(Duration::from_secs(2)).await;
        harness.unseal().await;
        if comes_true_at == 1 {
            service.comes_true();
        }
        pass(&harness, 1, 3).await;
        assert_eq!(count(&harness, "live").await, 0, "nobody sees it");
        if comes_true_at == 0 {
            assert_eq!(service.accounts().len(), 0, "no time has to pass where nobody else could still be at it");
        }
        // What comes true later is taken back when the deadline is over, and once more.
        pass(&harness, 95, 1).await;
        pass(&harness, 3, 2).await;
        assert_eq!(service.accounts().len(), 0);
        if comes_true_at == 2 {
            service.comes_true();
            assert_eq!(service.accounts().len(), 1);
        }
        pass(&harness, 400, 1).await;
        pass(&harness, 3, 2).await;
        assert_eq!((service.waiting() * usize::from(comes_true_at != 2), service.accounts().len()), (0, 0));
        assert_eq!(harness.read("sys/leases/count?type=irrevocable", ROOT).await.at("/data/lease_count"), &json!(0));
    }
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_takes_something_back_goes_on_with_that() {
    // Before the account is gone, and after.
    for does in [Does::Hangs, Does::Silent] {
        for order in ["revoke", "revoke-prefix/lent"] {
            let (mut harness, service) = node(&format!("killed-taking-back-{does:?}-{}", order.len())).await;
            let lease = creds(&harness, ROOT).await.expect_status(200).text_at("/lease_id");
            let before = service.asked();
            service.is_told(does);
            {
                let body = json!({ "lease_id": lease, "sync": true });
                let path = format!("sys/leases/{order}");
                let mut asking = Box::pin(harness.write(&path, ROOT, body));
                while service.asked() == before {
                    tokio::select! { biased; _ = &mut asking => panic!("it hangs"), () = tokio::task::yield_now() => {} }
                }
            }
            service.is_told(Does::Everything);
            harness.kill();
            harness.advance(Duration::from_secs(2)).await;
            harness.unseal().await;
            // Long before its time is over, or any deadline.
            pass(&harness, 1, 5).await;
            assert_eq!((service.accounts().len(), count(&harness, "live").await), (0, 0), "{does:?} {order}");
            let shown = harness.write("sys/leases/lookup", ROOT, json!({ "lease_id": lease })).await;
            drop(shown.expect_status(400));
        }
    }
}

#[tokio::test]
async fn what_is_taken_back_at_once_is_as_it_was_when_that_is_refused_and_is_tried_again_in_doubt() {
    let (harness, service) = node("refused-at-once").await;
    for (does, status, left) in [(Does::Refuses, 400, 1), (Does::BreaksOff, 502, 0)] {
        let lease = creds(&harness, ROOT).await.expect_status(200).text_at("/lease_id");
        service.is_told(does);
        let body = json!({ "lease_id": lease, "sync": true });
        drop(harness.write("sys/leases/revoke", ROOT, body.clone()).await.expect_status(status));
        service.is_told(Does::Everything);
        pass(&harness, 95, 1).await;
        pass(&harness, 2, 3).await;
        assert_eq!((service.accounts().len(), count(&harness, "live").await), (left, left as u64), "{does:?}");
        drop(harness.write("sys/leases/revoke", ROOT, body).await.expect_status(204));
        assert_eq!(service.accounts().len(), 0);
    }
}

#[tokio::test]
async fn what_is_renewed_or_revoked_by_another_while_it_is_taken_back_is_over_all_the_same() {
    let (harness, service) = node("meanwhile-renewed").await;
    service.is_pedantic();
    let lease = creds(&harness, ROOT).await.expect_status(200).text_at("/lease_id");
    service.is_told(Does::Slowly);
    let body = json!({ "lease_id": lease, "sync": true });
    let revoke = || harness.write("sys/leases/revoke", ROOT, body.clone());
    let meanwhile = async {
        while !service.accounts().is_empty() {
            tokio::task::yield_now().await;
        }
        let renewed = json!({ "lease_id": lease, "increment": "3h" });
        drop(harness.write("sys/leases/renew", ROOT, renewed).await.expect_status(200));
        service.is_told(Does::Everything);
    };
    let (first, second, ()) = tokio::join!(revoke(), revoke(), meanwhile);
    drop((first.expect_status(204), second.expect_status(204)));
    assert_eq!(count(&harness, "live").await, 0);
}

#[tokio::test]
async fn a_token_or_mount_that_ends_meanwhile_gets_nothing() {
    let (harness, service) = node("ends-meanwhile").await;
    let token = harness.token(json!({ "policies": ["may"], "ttl": "2h" })).await;
    let (answer, ()) = while_it_hangs(&harness, &service, &token, async || {
        drop(harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));
        service.comes_true();
        service.is_told(Does::Everything);
    })
    .await;
    answer.expect_error(403, "permission denied");
    pass(&harness, 2, 3).await;
    assert!(service.accounts().is_empty());
    pass(&harness, 400, 2).await;
    let stored = harness.store.dump().len();
    let (answer, ()) = while_it_hangs(&harness, &service, ROOT, async || {
        drop(harness.delete("sys/mounts/lent", ROOT).await.expect_status(204));
        service.comes_true();
        service.is_told(Does::Everything);
    })
    .await;
    drop(answer.expect_status(404));
    pass(&harness, 100, 1).await;
    pass(&harness, 400, 2).await;
    assert!(service.accounts().is_empty());
    harness.list("sys/unmount/status", ROOT).await.expect_error(404, "");
    assert!(harness.store.dump().len() <= stored);
}

#[tokio::test]
async fn every_kind_of_caller_gets_its_answer_in_every_form() {
    let (harness, service) = node("callers").await;
    // Wrapped: the token is made when it is settled.
    let mut request = tresor_harness::assembly::request("GET", "lent/creds/role", ROOT, &Value::Null);
    drop(request.headers_mut().insert("x-vault-wrap-ttl", "60".parse().unwrap()));
    let wrapped = harness.send(request).await.expect_status(200).text_at("/wrap_info/token");
    let opened = harness.write("sys/wrapping/unwrap", &wrapped, Value::Null).await.expect_status(200);
    assert!(service.accounts().contains(&opened.text_at("/data/username")));
    assert!(opened.text_at("/lease_id").starts_with("lent/creds/role/"));
    // The last use of a token: what it got goes with it (TOK-01).
    let once = harness.token(json!({ "policies": ["may"], "ttl": "2h", "num_uses": 1 })).await;
    let before = service.accounts().len();
    drop(creds(&harness, &once).await);
    pass(&harness, 2, 3).await;
    assert_eq!(service.accounts().len(), before);
    // A batch token's leases end with it (TOK-03).
    let batch = harness.token(json!({ "policies": ["may"], "ttl": "5m", "type": "batch" })).await;
    let answer = creds(&harness, &batch).await.expect_status(200);
    assert_eq!(answer.at("/lease_duration"), &json!(300));
    pass(&harness, 302, 1).await;
    pass(&harness, 2, 2).await;
    assert!(!service.accounts().contains(&answer.text_at("/data/username")));
    // In a namespace of its own.
    harness.prepare("POST", "sys/namespaces/team", json!({})).await;
    harness.prepare("POST", "team/sys/mounts/lent", json!({ "type": "lending" })).await;
    harness.prepare("POST", "team/lent/config", json!({ "service": "callers" })).await;
    let before = service.accounts().len();
    drop(harness.read("team/lent/creds/role", ROOT).await.expect_status(200));
    assert_eq!(service.accounts().len(), before + 1);
    drop(harness.delete("sys/namespaces/team", ROOT).await);
    pass(&harness, 2, 6).await;
    assert_eq!(service.accounts().len(), before);
}

#[tokio::test]
async fn what_was_made_is_taken_back_when_its_answer_cannot_be_recorded() {
    let (harness, service) = node("unrecorded").await;
    harness.enable_audit().await;
    service.is_told(Does::Hangs);
    let (answer, ()) = while_it_hangs(&harness, &service, ROOT, async || {
        harness.doors.disk.fail_below("/", std::io::ErrorKind::PermissionDenied);
        service.comes_true();
        service.is_told(Does::Everything);
    })
    .await;
    assert!(answer.status >= 500, "{answer:?}");
    harness.doors.disk.heal();
    pass(&harness, 5, 4).await;
    assert!(service.accounts().is_empty());
}

#[tokio::test]
async fn a_target_that_is_down_keeps_nobody_waiting_and_costs_no_lease_its_attempts() {
    let (harness, service_down) = node("down").await;
    harness.prepare("POST", "sys/mounts/well", json!({ "type": "lending" })).await;
    harness.prepare("POST", "well/config", json!({ "service": "well" })).await;
    let well = service("well");
    for _ in 0..40 {
        drop(creds(&harness, ROOT).await.expect_status(200));
    }
    drop(harness.read("well/creds/role?ttl=1h", ROOT).await.expect_status(200));
    for down in [Does::IsDown, Does::Hangs] {
        service_down.is_told(down);
        drop(harness.write("sys/leases/revoke-prefix/lent", ROOT, json!({})).await.expect_status(204));
        drop(harness.write("sys/leases/revoke-prefix/well", ROOT, json!({})).await.expect_status(204));
        pass(&harness, 1, 4).await;
        assert!(well.accounts().is_empty(), "{down:?}: one that is well is not kept waiting");
        let asked = service_down.asked();
        pass(&harness, 60, 60).await;
        let probes = service_down.asked() - asked;
        assert!((5..=40).contains(&probes), "{down:?}: in an hour it was tried {probes} times");
    }
    assert_eq!((service_down.accounts().len(), count(&harness, "irrevocable").await), (40, 0));
    let waiting = harness.read("sys/leases/revoking", ROOT).await.expect_status(200);
    let target = waiting.at("/data/targets/0");
    assert_eq!((&target["target"], &target["mount_path"]), (&json!("down"), &json!("lent/")), "{waiting:?}");
    assert!(target["reason"].is_string() && target["next_try"].is_string() && target["down_since"].is_string());
    service_down.is_told(Does::Everything);
    pass(&harness, 301, 1).await;
    pass(&harness, 1, 6).await;
    assert!(service_down.accounts().is_empty());
}

#[tokio::test]
async fn a_lease_for_which_its_target_does_not_answer_keeps_no_other_of_it_waiting() {
    let (harness, service) = node("withholding").await;
    let (withheld, account) = lent(&harness).await;
    service.withholds(&account);
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": withheld })).await.expect_status(204));
    // It is tried alone, less and less often.
    pass(&harness, 60, 20).await;
    assert_eq!((service.accounts().len(), count(&harness, "irrevocable").await), (1, 0));
    for round in 0..3 {
        for _ in 0..5 {
            drop(lent(&harness).await);
        }
        drop(harness.write("sys/leases/revoke-prefix/lent", ROOT, json!({})).await.expect_status(204));
        // Whoever has its turn is answered, at the latest five minutes later, and then all others.
        pass(&harness, 1, 6).await;
        pass(&harness, 301, 1).await;
        pass(&harness, 1, 6).await;
        assert_eq!(service.accounts(), [account.clone()].into(), "round {round}");
    }
    // While others are answered, it is this lease's fault, and so it is told.
    for _ in 0..8 {
        let (other, _) = lent(&harness).await;
        drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": other })).await.expect_status(204));
        pass(&harness, 1, 6).await;
        pass(&harness, 301, 2).await;
        pass(&harness, 1, 6).await;
    }
    assert_eq!((service.accounts().len(), count(&harness, "irrevocable").await), (1, 1));
}

#[tokio::test]
async fn by_order_only_that_is_abandoned_which_was_asked_for_in_vain() {
    let (harness, service) = node("withholding and forced").await;
    let (withheld, account) = lent(&harness).await;
    service.withholds(&account);
    drop(harness.write("sys/leases/revoke", ROOT, json!({ "lease_id": withheld })).await.expect_status(204));
    pass(&harness, 60, 20).await;
    for _ in 0..40 {
        drop(lent(&harness).await);
    }
    drop(harness.write("sys/leases/revoke-force/lent", ROOT, json!({})).await.expect_status(204));
    pass(&harness, 1, 12).await;
    assert_eq!(service.accounts(), [account].into());
    let reported = harness.read("sys/leases/abandoned", ROOT).await.expect_status(200);
    let leases = reported.at("/data/leases").as_array().unwrap();
    assert_eq!((leases.len(), leases[0]["lease_id"].as_str()), (1, Some(withheld.as_str())), "{reported:?}");
    let left = harness.read("sys/leases/revoking", ROOT).await.expect_status(200);
    assert_eq!(left.at("/data/lease_count"), &json!(0), "{left:?}");
}

#[tokio::test]
async fn by_order_nobody_is_asked_a_thousand_times_in_vain() {
    let (harness, service) = node("forced in vain").await;
    for _ in 0..100 {
        drop(lent(&harness).await);
    }
    service.is_told(Does::IsDown);
    let asked = service.asked();
    drop(harness.write("sys/leases/revoke-force/lent", ROOT, json!({})).await.expect_status(204));
    pass(&harness, 1, 20).await;
    let reported = harness.read("sys/leases/abandoned", ROOT).await.expect_status(200);
    assert_eq!(reported.at("/data/leases").as_array().map(Vec::len), Some(100));
    let asked = service.asked() - asked;
    assert!((16..=32).contains(&asked), "it was asked {asked} times");
    let left = harness.read("sys/leases/revoking", ROOT).await.expect_status(200);
    assert_eq!(left.at("/data/lease_count"), &json!(0), "{left:?}");
    // It answers again, and no lease has ended of which that could be known.
    service.is_told(Does::Everything);
    pass(&harness, 3600, 1).await;
    let abandoned = service.accounts().len();
    for _ in 0..20 {
        drop(lent(&harness).await);
    }
    drop(harness.write("sys/leases/revoke-force/lent", ROOT, json!({})).await.expect_status(204));
    pass(&harness, 1, 20).await;
    assert_eq!(service.accounts().len(), abandoned, "it is asked again, and takes them back");
}

#[tokio::test]
async fn ns_08_very_many_namespaces_that_wait_for_their_engines_keep_no_other_from_being_deleted() {
    let (harness, service) = node("waited for").await;
    for number in 0..70 {
        let name = format!("waits-{number}");
        harness.prepare("POST", &format!("sys/namespaces/{name}"), json!({})).await;
        harness.prepare("POST", &format!("{name}/sys/mounts/lent"), json!({ "type": "lending" })).await;
        harness.prepare("POST", &format!("{name}/lent/config"), json!({ "service": "waited for" })).await;
        drop(harness.read(&format!("{name}/lent/creds/role"), ROOT).await.expect_status(200));
    }
    let gone: Vec<String> = (0..12).map(|number| format!("sys/namespaces/empty-{number}")).collect();
    for path in &gone {
        harness.prepare("POST", path, json!({})).await;
    }
    service.is_told(Does::IsDown);
    for number in 0..70 {
        drop(harness.delete(&format!("sys/namespaces/waits-{number}"), ROOT).await.expect_status(200));
    }
    pass(&harness, 1, 90).await;
    for path in &gone {
        drop(harness.delete(path, ROOT).await.expect_status(200));
    }
    pass(&harness, 1, 60).await;
    for path in &gone {
        assert_eq!(harness.read(path, ROOT).await.status, 404, "{path}");
    }
    assert_eq!(service.accounts().len(), 70);
    service.is_told(Does::Everything);
    pass(&harness, 301, 1).await;
    pass(&harness, 1, 60).await;
    assert!(service.accounts().is_empty());
}

#[tokio::test]
async fn what_is_abandoned_by_order_is_reported() {
    let (harness, service) = node("abandoned").await;
    for _ in 0..3 {
        drop(creds(&harness, ROOT).await.expect_status(200));
    }
    harness.enable_audit().await;
    service.is_told(Does::IsDown);
    let id = harness.read("sys/mounts/lent", ROOT).await.expect_status(200).text_at("/data/uuid");
    drop(harness.delete("sys/mounts/lent", ROOT).await.expect_status(204));
    pass(&harness, 60, 5).await;
    assert_eq!(harness.read(&format!("sys/unmount/status/{id}"), ROOT).await.at("/data/leases_pending"), &json!(3));
    drop(harness.write(&format!("sys/unmount/force/{id}"), ROOT, json!({})).await.expect_status(204));
    pass(&harness, 60, 8).await;
    harness.read(&format!("sys/unmount/status/{id}"), ROOT).await.expect_error(404, "");
    let reported = harness.read("sys/leases/abandoned", ROOT).await.expect_status(200);
    let leases = reported.at("/data/leases").as_array().unwrap();
    assert_eq!(leases.len(), 3, "{reported:?}");
    for lease in leases {
        assert!(lease["lease_id"].as_str().unwrap().starts_with("lent/creds/role/"), "{lease}");
        assert_eq!((&lease["target"], &lease["reason"]), (&json!("abandoned"), &json!("connection refused")));
    }
    let told = harness.audit_records().await;
    assert!(told.iter().any(|record| record["request"]["path"] == "sys/leases/abandoned"), "the audit log has it");
    drop(harness.delete("sys/leases/abandoned", ROOT).await.expect_status(204));
    harness.read("sys/leases/abandoned", ROOT).await.expect_error(404, "");
}

#[tokio::test]
async fn engines_are_called_when_their_time_has_come_whatever_happened_meanwhile() {
    let (mut harness, service) = node("called").await;
    drop(harness.write("lent/fixed/app", ROOT, json!({ "every": "1h" })).await.expect_status(204));
    let in_use = async |harness: &Harness| harness.read("lent/fixed/app", ROOT).await.text_at("/data/password");
    assert_eq!(service.passwords("app"), [in_use(&harness).await]);
    pass(&harness, 3601, 1).await;
    pass(&harness, 1, 2).await;
    assert_eq!(service.passwords("app").len(), 2);
    assert_eq!(service.passwords("app").last(), Some(&in_use(&harness).await));
    // A failure is tried again, later each time, and what was half done is finished with the same password.
    service.is_told(Does::BreaksOff);
    pass(&harness, 3601, 1).await;
    pass(&harness, 1, 2).await;
    let (tried, known) = (service.passwords("app"), in_use(&harness).await);
    assert!(tried.len() == 3 && tried.get(1) == Some(&known));
    service.is_told(Does::Everything);
    pass(&harness, 10, 3).await;
    assert_eq!(service.passwords("app").last(), tried.last());
    assert_eq!(service.passwords("app").last(), Some(&in_use(&harness).await));
    // Killed in the middle.
    service.is_told(Does::Hangs);
    let asked = service.asked();
    pass(&harness, 3700, 1).await;
    pass(&harness, 1, 2).await;
    assert_eq!(service.asked(), asked + 1);
    service.is_told(Does::Everything);
    harness.kill();
    harness.unseal().await;
    pass(&harness, 1, 3).await;
    assert_eq!(service.asked(), asked + 1, "not before the other's deadline is over");
    pass(&harness, 95, 1).await;
    pass(&harness, 1, 2).await;
    assert_eq!(service.asked(), asked + 2);
    assert_eq!(service.passwords("app").last(), Some(&in_use(&harness).await));
    // A mount that is removed calls for nothing.
    drop(harness.delete("sys/mounts/lent", ROOT).await.expect_status(204));
    pass(&harness, 1, 3).await;
    let asked = service.asked();
    pass(&harness, 3700, 2).await;
    assert_eq!(service.asked(), asked);
}

#[tokio::test]
async fn whoever_leads_next_takes_back_what_the_last_leader_was_making() {
    let mut world = World::new(3, 11).await;
    world.prepare(0, "POST", "sys/mounts/lent", json!({ "type": "lending" })).await;
    world.prepare(0, "POST", "lent/config", json!({ "service": "led" })).await;
    let service = service("led");
    let made = world.prepare(1, "GET", "lent/creds/role", Value::Null).await.text_at("/data/username");
    assert!(service.accounts().contains(&made), "any node takes the request");
    service.is_told(Does::Hangs);
    let request = tresor_harness::assembly::request("GET", "lent/creds/role", ROOT, &Value::Null);
    let mut asking = Box::pin(world.sending(1, request));
    world
        .drive(async {
            while service.waiting() == 0 {
                tokio::select! { biased; _ = &mut asking => panic!("it hangs"), () = tokio::task::yield_now() => {} }
            }
        })
        .await;
    // The leader stands still; what it asked for comes true, and nobody was told of it.
    world.pause(0);
    let (leader, _) = world.another_active(0).await;
    service.comes_true();
    service.is_told(Does::Everything);
    assert_eq!(service.accounts().len(), 2);
    world.step = Duration::from_millis(40);
    let answer = world.drive(asking).await;
    assert!(answer.status >= 500, "{answer:?}");
    world.pass(Duration::from_secs(50)).await;
    world.resume(0);
    world.pass(Duration::from_secs(50)).await;
    assert_eq!(service.accounts().into_iter().collect::<Vec<_>>(), [made]);
    let listed = world.call(leader, "LIST", "sys/leases/lookup/lent/creds/role", ROOT, Value::Null).await;
    assert_eq!(listed.at("/data/keys").as_array().map(Vec::len), Some(1), "{listed:?}");
}
