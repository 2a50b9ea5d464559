//! Renewals of what lies outside the server: each target is asked once, within its own room, and clients are told when to
//! come and when it leads nowhere.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tresor_harness::lending::{Does, Service, service};
use tresor_harness::{Answer, Harness, ROOT};

const HINT: &str = "x-tresor-renew-after";

async fn mounted(harness: &Harness, mount: &str, name: &str) -> Arc<Service> {
    harness.prepare("POST", &format!("sys/mounts/{mount}"), json!({ "type": "lending" })).await;
    harness.prepare("POST", &format!("{mount}/config"), json!({ "service": name })).await;
    service(name)
}

/// A lease and its account.
async fn lent(harness: &Harness, mount: &str) -> (String, String) {
    let made = harness.read(&format!("{mount}/creds/role?ttl=1h"), ROOT).await.expect_status(200);
    (made.text_at("/lease_id"), made.text_at("/data/username"))
}

async fn renew(harness: &Harness, id: &str) -> Answer {
    harness.write("sys/leases/renew", ROOT, json!({ "lease_id": id })).await
}

#[tokio::test]
async fn a_target_is_asked_when_the_end_moves_and_not_again_before() {
    let harness = Harness::start().await;
    let service = mounted(&harness, "lent", "renewed-once").await;
    let (id, account) = lent(&harness, "lent").await;
    harness.advance(Duration::from_secs(600)).await;
    drop(renew(&harness, &id).await.expect_status(200));
    // The target lets it live until the end that is kept, which is a step later at most.
    let lives = service.lengthened(&account);
    assert_eq!(lives.len(), 1);
    let step = Duration::from_secs(3600 / 64 + 1);
    assert!(lives.iter().all(|life| *life >= Duration::from_secs(3600) && *life <= Duration::from_secs(3600) + step));
    let asked = service.asked();
    // Nor does a target that is down stand in the way of what needs nobody.
    service.is_told(Does::IsDown);
    for _ in 0..5 {
        harness.advance(Duration::from_secs(1)).await;
        let renewed = renew(&harness, &id).await.expect_status(200);
        assert!(renewed.at("/lease_duration").as_u64() > Some(3500));
    }
    assert_eq!(service.asked(), asked);
    harness.advance(Duration::from_secs(120)).await;
    renew(&harness, &id).await.expect_error(502, "connection refused");
    service.is_told(Does::Everything);
    drop(renew(&harness, &id).await.expect_status(200));
    assert_eq!(service.lengthened(&account).len(), 2);
}

#[tokio::test]
async fn whoever_renews_one_lease_at_the_same_time_shares_the_answer() {
    let harness = Harness::start().await;
    let service = mounted(&harness, "lent", "renewed-together").await;
    let (id, account) = lent(&harness, "lent").await;
    harness.advance(Duration::from_secs(600)).await;
    service.is_told(Does::Hangs);
    let crowd = join_all((0..20).map(|_| renew(&harness, &id)));
    let test = async {
        while service.hanging() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(service.hanging(), 1);
        service.is_told(Does::Everything);
    };
    let (answers, ()) = tokio::join!(crowd, test);
    for answer in answers {
        assert_eq!(answer.expect_status(200).at("/lease_duration"), &json!(3600));
    }
    assert_eq!(service.lengthened(&account).len(), 1);
}

#[tokio::test]
async fn renewals_take_the_room_of_their_target_and_of_no_other() {
    let harness = Harness::start().await;
    let slow = mounted(&harness, "slow", "renewed-slowly").await;
    let _ = mounted(&harness, "quick", "renewed-quickly").await;
    let mut ids = Vec::new();
    for _ in 0..17 {
        ids.push(lent(&harness, "slow").await.0);
    }
    let other = lent(&harness, "quick").await.0;
    harness.advance(Duration::from_secs(600)).await;
    slow.is_told(Does::Hangs);
    let crowd = join_all(ids.iter().map(|id| renew(&harness, id)));
    let test = async {
        while slow.hanging() < 16 {
            tokio::task::yield_now().await;
        }
        drop(renew(&harness, &other).await.expect_status(200));
        // Making something there waits for its turn, as the last of the renewals does, and for no longer than it has patience.
        let making = harness.read("slow/creds/role?ttl=1h", ROOT);
        let passing = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            harness.advance(Duration::from_secs(21)).await;
        };
        let (made, ()) = tokio::join!(making, passing);
        made.expect_error(503, "too many requests are waiting for this target");
        assert_eq!(slow.hanging(), 16);
        slow.is_told(Does::Everything);
    };
    let (answers, ()) = tokio::join!(crowd, test);
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    let renewed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((renewed, refused), (16, 1));
}

#[tokio::test]
async fn a_renewal_that_is_cut_short_says_so() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    let made = harness.read("made/creds/role?ttl=1h&max_ttl=90m", ROOT).await.expect_status(200);
    let id = made.text_at("/lease_id");
    harness.advance(Duration::from_secs(1200)).await;
    let renewed = renew(&harness, &id).await.expect_status(200);
    assert_eq!((renewed.at("/lease_duration"), renewed.at("/warnings")), (&json!(3600), &json!(null)));
    harness.advance(Duration::from_secs(1800)).await;
    let renewed = renew(&harness, &id).await.expect_status(200);
    assert_eq!(renewed.at("/lease_duration"), &json!(2400));
    assert!(renewed.text_at("/warnings/0").contains("exceeded the effective max_ttl"), "{renewed:?}");
    // A lease ends with its token, too.
    let token = harness.token(json!({ "policies": ["root"], "ttl": "30m" })).await;
    let made = harness.read("made/creds/role?ttl=1h", &token).await.expect_status(200);
    let renewed = renew(&harness, &made.text_at("/lease_id")).await.expect_status(200);
    assert_eq!(renewed.at("/lease_duration"), &json!(1800));
    assert!(renewed.text_at("/warnings/0").contains("what is left of the token"), "{renewed:?}");
}

#[tokio::test]
async fn clients_are_told_when_to_renew_and_not_all_at_once() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
    let hint = |answer: &Answer| answer.headers.get(HINT).map(|hint| hint.to_str().unwrap().parse::<u64>().unwrap());
    let mut hints = BTreeSet::new();
    for _ in 0..50 {
        let made = harness.read("made/creds/role?ttl=1h", ROOT).await.expect_status(200);
        hints.insert(hint(&made).unwrap());
        hints.insert(hint(&renew(&harness, &made.text_at("/lease_id")).await).unwrap());
    }
    assert!(hints.iter().all(|hint| (1800..=2400).contains(hint)), "{hints:?}");
    assert!(hints.len() > 50, "{hints:?}");
    let token = harness.write("auth/token/create", ROOT, json!({ "ttl": "1h" })).await.expect_status(200);
    assert!((1800..=2400).contains(&hint(&token).unwrap()));
    // Nothing is said where nothing can be renewed.
    let fixed = harness.read("made/creds/role?ttl=1h&renewable=false", ROOT).await.expect_status(200);
    assert_eq!(hint(&fixed), None);
    assert_eq!(hint(&harness.read("sys/mounts", ROOT).await), None);
}
