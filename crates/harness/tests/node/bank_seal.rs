//! The security bank's rows about the seal, over HTTP: each test is named by its row (`docs/security-bank.md`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::Arc;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn enter(harness: &Harness, share: &[u8]) -> Answer {
    let key: String = share.iter().map(|byte| format!("{byte:02x}")).collect();
    harness.call("PUT", "sys/unseal", "", json!({ "key": key })).await
}

async fn sealed() -> Harness {
    let mut harness = Harness::start().await;
    harness.restart().await;
    harness
}

#[tokio::test]
async fn dos_05_dos_06_nobody_without_a_token_starts_or_cancels_a_ceremony() {
    let harness = Harness::start().await;
    for path in [
        "sys/rekey/init",
        "sys/rekey/update",
        "sys/rekey/verify",
        "sys/rekey/backup",
        "sys/rekey-recovery-key/init",
        "sys/generate-root/attempt",
        "sys/generate-root/update",
        "sys/rotate",
        "sys/rotate/config",
        "sys/step-down",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            for token in ["", "hvs.nobody"] {
                drop(harness.call(method, path, token, json!({ "key": "00", "nonce": "x" })).await.expect_status(403));
            }
        }
    }
}

#[tokio::test]
async fn dos_07_shares_of_an_attempt_that_was_cancelled_count_for_nothing() {
    let harness = sealed().await;
    let first = enter(&harness, &harness.shares[0]).await.expect_status(200);
    let cancelled = harness.call("PUT", "sys/unseal", "", json!({ "reset": true })).await.expect_status(200);
    assert_eq!((cancelled.at("/progress"), cancelled.at("/nonce")), (&json!(0), &json!("")));
    let second = enter(&harness, &harness.shares[1]).await.expect_status(200);
    assert_eq!((second.at("/progress"), second.at("/sealed")), (&json!(1), &json!(true)));
    assert_ne!(first.text_at("/nonce"), second.text_at("/nonce"), "another attempt has another nonce");
    drop(enter(&harness, &harness.shares[0]).await.expect_status(200));
    let late = harness.call("PUT", "sys/unseal", "", json!({ "reset": true })).await;
    late.expect_error(400, "vault is unsealed");
}

#[tokio::test]
async fn sea_08_of_many_initialisations_one_succeeds() {
    let harness = Arc::new(Harness::uninitialized());
    let calls = (0..20).map(|_| {
        let harness = Arc::clone(&harness);
        async move { harness.call("PUT", "sys/init", "", json!({ "secret_shares": 3, "secret_threshold": 2 })).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((done.len(), refused.len()), (1, 19));
    assert!(refused.iter().all(|answer| answer.status == 400 && answer.at("/keys").is_null()));
    // The keys that were given out are the ones that open.
    for key in done[0].at("/keys").as_array().unwrap().iter().take(2) {
        drop(harness.call("PUT", "sys/unseal", "", json!({ "key": key })).await.expect_status(200));
    }
    drop(harness.read("sys/mounts", &done[0].text_at("/root_token")).await.expect_status(200));
}

#[tokio::test]
async fn sea_09_nothing_is_told_of_a_share_before_there_are_enough() {
    let harness = sealed().await;
    let (good, wrong) = (harness.shares[0].clone(), [harness.shares[1].as_slice()].concat());
    let mut forged = wrong.clone();
    forged[0] ^= 1;
    // A right and a forged first share look alike.
    let of_good = enter(&harness, &good).await.expect_status(200);
    drop(harness.call("PUT", "sys/unseal", "", json!({ "reset": true })).await.expect_status(200));
    let of_forged = enter(&harness, &forged).await.expect_status(200);
    let without_nonce = |answer: &Answer| {
        let mut json = answer.json.clone();
        json.as_object_mut().unwrap().remove("nonce");
        json
    };
    assert_eq!(without_nonce(&of_good), without_nonce(&of_forged));
    let failed = enter(&harness, &good).await;
    failed.expect_error(400, "invalid key");
    let standing = harness.read("sys/seal-status", "").await;
    assert_eq!(
        (standing.at("/progress"), standing.at("/nonce"), standing.at("/sealed")),
        (&json!(0), &json!(""), &json!(true))
    );
    // No answer carries a share.
    for answer in [of_good, of_forged, standing] {
        let text = String::from_utf8(answer.bytes).unwrap();
        for share in &harness.shares {
            let hex: String = share.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!text.contains(&hex));
        }
    }
}

#[tokio::test]
async fn sea_10_a_sealed_node_knows_and_answers_nothing() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let open: Vec<String> =
        harness.node.routes().iter().map(|route| format!("{}{}", route.mount, route.pattern)).collect();
    harness.prepare("PUT", "sys/seal", Value::Null).await;
    for path in open.iter().map(String::as_str).chain(["kv/a", "nope", "sys/internal/ui/mounts"]) {
        let always = ["sys/init", "sys/seal-status", "sys/unseal", "sys/health", "sys/leader"];
        if always.contains(&path) || path == "sys/internal/ui/feature-flags" {
            continue;
        }
        let path = path.replace(['{', '}', ':'], "x");
        for token in ["", ROOT] {
            harness.read(&path, token).await.expect_error(503, "sealed");
        }
    }
    drop(harness.read("sys/health", "").await.expect_status(503));
    drop(harness.read("sys/seal-status", "").await.expect_status(200));
    // The name of the cluster is behind the seal too.
    assert!(harness.read("sys/seal-status", "").await.at("/cluster_name").is_null());
}

#[tokio::test]
async fn sea_12_only_splits_that_make_sense_can_be_asked_for() {
    for (shares, threshold, status) in [
        (json!(0), json!(0), 400),
        (json!(1), json!(0), 400),
        (json!(1), json!(2), 400),
        (json!(3), json!(1), 400),
        (json!(256), json!(2), 400),
        (json!(300), json!(257), 400),
        (json!(-1), json!(1), 400),
        (json!(2), json!(-2), 400),
        (json!(1.5), json!(1), 400),
        (json!("x"), json!(1), 400),
        (json!(null), json!(null), 400),
        (json!([]), json!({}), 400),
        (json!(1), json!(1), 200),
        (json!(3), json!(3), 200),
        (json!(255), json!(255), 200),
        (json!("3"), json!("2"), 200),
    ] {
        let harness = Harness::uninitialized();
        let answer = harness
            .call("PUT", "sys/init", "", json!({ "secret_shares": shares, "secret_threshold": threshold }))
            .await;
        assert_eq!(answer.status, status, "{shares} of which {threshold}: {answer:?}");
        assert_eq!(harness.read("sys/init", "").await.at("/initialized"), &json!(status == 200));
    }
    let harness = Harness::uninitialized();
    for body in [
        json!({ "secret_shares": 1, "secret_threshold": 1, "stored_shares": 1 }),
        json!({ "secret_shares": 1, "secret_threshold": 1, "recovery_shares": 1, "recovery_threshold": 1 }),
        json!({ "secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["x"] }),
    ] {
        drop(harness.call("PUT", "sys/init", "", body).await.expect_status(400));
    }
}

#[tokio::test]
async fn sha_05_shares_that_do_not_belong_open_nothing() {
    let harness = sealed().await;
    let length = harness.shares[0].len();
    let with_point = |fill: u8, point: u8| {
        let mut share = vec![fill; length];
        *share.last_mut().unwrap() = point;
        share
    };
    for pair in [
        [with_point(1, 1), with_point(2, 2)],
        [with_point(3, 7), with_point(3, 9)],
        [harness.shares[0].clone(), with_point(9, 200)],
    ] {
        drop(enter(&harness, &pair[0]).await.expect_status(200));
        enter(&harness, &pair[1]).await.expect_error(400, "invalid key");
    }
    // A share at the point zero would be the secret itself; two of one point are no two shares.
    drop(enter(&harness, &harness.shares[0]).await.expect_status(200));
    drop(enter(&harness, &with_point(5, 0)).await.expect_status(400));
    let same_point = with_point(5, *harness.shares[0].last().unwrap());
    drop(enter(&harness, &harness.shares[0]).await.expect_status(200));
    drop(enter(&harness, &same_point).await.expect_status(400));
    for length in [0, 1, 16, length - 1, length + 1, 64, 100_000] {
        drop(enter(&harness, &vec![7; length]).await.expect_status(400));
    }
    // Entered twice, a share counts once; and after all this the right ones still open.
    for progress in [1, 1] {
        assert_eq!(enter(&harness, &harness.shares[2]).await.expect_status(200).at("/progress"), &json!(progress));
    }
    assert_eq!(enter(&harness, &harness.shares[1]).await.expect_status(200).at("/sealed"), &json!(false));
}

#[tokio::test]
async fn tim_01_an_empty_token_never_matches() {
    let harness = Harness::start().await;
    for token in [" ", "  \t", "Bearer", "null", "0"] {
        let request = http::Request::builder().uri("/v1/auth/token/lookup-self").header("X-Vault-Token", token);
        let answer = harness.send(request.body(http_body_util::Full::default()).unwrap()).await;
        drop(answer.expect_status(403));
    }
    for prefix in 0..ROOT.len() {
        drop(harness.read("auth/token/lookup-self", &ROOT[..prefix]).await.expect_status(403));
    }
    drop(harness.write("sys/recover", "", json!({})).await.expect_status(403));
}
