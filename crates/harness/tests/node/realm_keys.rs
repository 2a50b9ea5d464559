//! Keys of namespaces that have a seal of their own, changed from within: terms of the ring, the root key, shares.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

use crate::bank_realm::{enter, furnish, is_sealed, seal, sealed, unseal, within};

async fn inside(harness: &Harness, call: (&str, &str), token: &str, body: Value) -> Answer {
    within(harness, "a", call, token, body).await
}

/// Changes the shares of the namespace, by these; gives the new ones.
async fn rekeyed(harness: &Harness, admin: &str, shares: &[String], wish: Value) -> Answer {
    let begun = inside(harness, ("POST", "sys/rotate/root/init"), admin, wish).await.expect_status(200);
    assert_eq!((begun.at("/data/started"), begun.at("/data/required")), (&json!(true), &json!(2)));
    let nonce = begun.text_at("/data/nonce");
    let body = json!({ "key": shares[0], "nonce": "another" });
    inside(harness, ("POST", "sys/rotate/root/update"), admin, body).await.expect_error(400, "incorrect nonce");
    let body = json!({ "key": shares[0], "nonce": nonce });
    let first = inside(harness, ("POST", "sys/rotate/root/update"), admin, body).await.expect_status(200);
    assert_eq!((first.at("/data/progress"), first.at("/data/complete")), (&json!(1), &json!(false)));
    let body = json!({ "key": shares[1], "nonce": nonce });
    inside(harness, ("POST", "sys/rotate/root/update"), admin, body).await
}

fn texts(answer: &Answer, at: &str) -> Vec<String> {
    answer.at(at).as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn seal_34_a_new_term_of_a_namespaces_ring_seals_and_the_old_one_still_opens() {
    let mut harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    let term = |answer: Answer| answer.expect_status(200).at("/data/term").clone();
    assert_eq!(term(inside(&harness, ("GET", "sys/key-status"), &admin, Value::Null).await), 1);
    drop(inside(&harness, ("POST", "sys/rotate"), &admin, json!({})).await.expect_status(204));
    drop(inside(&harness, ("POST", "sys/rotate/keyring"), &admin, json!({})).await.expect_status(204));
    assert_eq!(term(inside(&harness, ("GET", "sys/key-status"), &admin, Value::Null).await), 3);
    assert_eq!(term(harness.read("sys/key-status", ROOT).await), 1, "the server's own is another");
    // What is sealed now carries the new term, and what was before is read.
    let before = harness.store.dump();
    drop(inside(&harness, ("POST", "kv/new"), &admin, json!({ "of": "new" })).await.expect_status(204));
    let fresh = harness.store.dump().into_iter().filter(|entry| !before.contains(entry));
    let id = harness.read("sys/namespaces/a", ROOT).await.text_at("/data/id");
    let terms: Vec<u8> = fresh
        .filter(|(key, _)| key.as_bytes().ends_with(&id.as_bytes()[6..]))
        .map(|(_, value)| value[1..5].iter().copied().max().unwrap())
        .collect();
    assert!(!terms.is_empty() && terms.iter().all(|term| *term == 3), "{terms:?}");
    for _ in 0..2 {
        for (path, of) in [("kv/secret", "a"), ("kv/new", "new")] {
            let answer = inside(&harness, ("GET", path), &admin, Value::Null).await.expect_status(200);
            assert_eq!(answer.at("/data/of"), of);
        }
        assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
        harness.restart().await;
        harness.unseal().await;
        unseal(&harness, "a", &shares).await;
    }
    // Neither without sudo, nor where there is no seal.
    let policy = json!({ "policy": r#"path "sys/*" { capabilities = ["read", "update"] }"# });
    drop(inside(&harness, ("PUT", "sys/policies/acl/weak"), &admin, policy).await.expect_status(204));
    let weak = json!({ "policies": ["weak"] });
    let weak = inside(&harness, ("POST", "auth/token/create"), &admin, weak).await.text_at("/auth/client_token");
    assert_eq!(inside(&harness, ("POST", "sys/rotate"), &weak, json!({})).await.status, 403);
    drop(inside(&harness, ("POST", "sys/namespaces/in"), &admin, json!({})).await.expect_status(200));
    let below = within(&harness, "a/in", ("POST", "sys/rotate"), ROOT, json!({})).await;
    below.expect_error(400, "namespace is not sealable");
}

#[tokio::test]
async fn seal_34_other_shares_open_a_namespace_once_they_were_verified_and_those_of_before_do_not() {
    let harness = Harness::start().await;
    let shares = sealed(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    let admin = furnish(&harness, "a").await;
    // Another root key: the shares stay.
    drop(inside(&harness, ("POST", "sys/rotate/root"), &admin, json!({})).await.expect_status(204));
    seal(&harness, "a").await;
    unseal(&harness, "a", &shares).await;
    // The server's own attempt is another one, and its shares are none here.
    let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let of_server = harness.write("sys/rotate/root/init", ROOT, wish.clone()).await.expect_status(200);
    let status = inside(&harness, ("GET", "sys/rotate/root/init"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(status.at("/data/started"), false);
    let theirs: Vec<String> =
        harness.shares.iter().map(|share| share.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    rekeyed(&harness, &admin, &theirs, wish.clone()).await.expect_error(400, "verification failed");
    // One that is cancelled led to nothing.
    drop(inside(&harness, ("DELETE", "sys/rotate/root/init"), &admin, Value::Null).await.expect_status(204));
    let status = inside(&harness, ("GET", "sys/rotate/root/init"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(status.at("/data/started"), false);
    // With verification nothing is other before enough of the new ones came back.
    let wish = json!({ "secret_shares": 4, "secret_threshold": 3, "require_verification": true });
    let made = rekeyed(&harness, &admin, &shares, wish).await.expect_status(200);
    let new = texts(&made, "/data/keys");
    assert_eq!((new.len(), made.at("/data/verification_required")), (4, &json!(true)));
    let standing = harness.read("sys/namespaces/a/seal-status", ROOT).await.expect_status(200);
    assert_eq!((standing.at("/data/n"), standing.at("/data/t")), (&json!(3), &json!(2)));
    let nonce = made.text_at("/data/verification_nonce");
    for (at, share) in new.iter().take(3).enumerate() {
        let body = json!({ "key": share, "nonce": nonce });
        let verified = inside(&harness, ("POST", "sys/rotate/root/verify"), &admin, body).await.expect_status(200);
        assert_eq!(verified.at("/data/complete"), at == 2);
    }
    let standing = harness.read("sys/namespaces/a/seal-status", ROOT).await.expect_status(200);
    assert_eq!((standing.at("/data/n"), standing.at("/data/t")), (&json!(4), &json!(3)));
    // It stayed open meanwhile, and opens by the new ones alone.
    let answer = inside(&harness, ("GET", "kv/secret"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/data/of"), "a");
    seal(&harness, "a").await;
    for (share, status) in shares.iter().zip([200, 200, 400]) {
        assert_eq!(enter(&harness, "a", share).await.status, status);
    }
    assert!(is_sealed(&harness, "a").await);
    for share in &new[1..] {
        drop(enter(&harness, "a", share).await.expect_status(200));
    }
    assert!(!is_sealed(&harness, "a").await);
    let answer = inside(&harness, ("GET", "kv/secret"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/data/of"), "a");
    // What the server's shareholders began goes on.
    let status = harness.read("sys/rotate/root/init", ROOT).await.expect_status(200);
    assert_eq!(status.at("/data/nonce"), of_server.at("/data/nonce"));
    // An attempt ends with the seal.
    let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
    drop(inside(&harness, ("POST", "sys/rotate/root/init"), &admin, wish).await.expect_status(200));
    seal(&harness, "a").await;
    for share in &new[1..] {
        drop(enter(&harness, "a", share).await.expect_status(200));
    }
    let status = inside(&harness, ("GET", "sys/rotate/root/init"), &admin, Value::Null).await.expect_status(200);
    assert_eq!(status.at("/data/started"), false);
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}
