//! Random bytes of the seal in those of the server, where the operator demands it: what asks for them, what is not done without them,
//! and what goes on. That they are mixed in is shown in `tresor-core`; how real services give them in the binary's tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::Alone;
use tresor_core::{Augmentation, AutoKey, AutoSeal};
use tresor_env::doubles::TestDoors;
use tresor_harness::{Harness, assembly, lending};

use super::service_seal::{FakeService, Mood};

/// A namespace's own seal.
const SEAL: &str = "seal \"shamir\" {\n  shares = 2\n  threshold = 2\n}";
const NOTHING: &str = "the seal `pkcs11` gives no random bytes, and nothing is done without";

/// A node that mixes in what the service gives, as it is before it is initialised.
fn uninitialized(service: &FakeService) -> Harness {
    let doors = TestDoors::new(1);
    let augmentation = Augmentation::new(Arc::new(service.clone()), &doors.doors);
    let mut settings = assembly::settings();
    settings.auto_seal = Some(AutoSeal {
        key: AutoKey::Service(Arc::new(service.clone())),
        checks: None,
        augmentation: Some(Arc::new(augmentation)),
    });
    Harness::uninitialized_in(Arc::new(Alone::default()), doors, settings)
}

async fn initialize(harness: &Harness) -> (Vec<String>, String) {
    let body = json!({ "recovery_shares": 2, "recovery_threshold": 2 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    let shares = made.at("/recovery_keys").as_array().unwrap();
    let shares = shares.iter().map(|share| share.as_str().unwrap().to_owned()).collect();
    (shares, made.text_at("/root_token"))
}

/// How many bytes the service gave for what was done.
async fn given(service: &FakeService, done: impl Future<Output = ()>) -> usize {
    let before = service.gave();
    done.await;
    service.gave() - before
}

#[tokio::test]
async fn seal_31_keys_are_made_with_bytes_of_the_seal_or_not_at_all() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    service.is(Mood::Garbage);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    harness.call("PUT", "sys/init", "", body).await.expect_error(503, "the key of the pkcs11 seal cannot be read");
    service.is(Mood::Well);
    let (shares, root) = initialize(&harness).await;
    assert!(service.gave() >= 64, "for the key of the slot, and for the keys of the store");
    let term = async || harness.read("sys/key-status", &root).await.expect_status(200).at("/data/term").clone();
    let rotate = async |path: &str| harness.write(path, &root, json!({})).await;
    // A term, a root key, a namespace's own keys.
    let namespace = json!({ "seal": SEAL });
    for (path, body) in [("sys/rotate", json!({})), ("sys/rotate/root", json!({})), ("sys/namespaces/own", namespace)] {
        let asked = given(&service, async {
            let answer = harness.write(path, &root, body.clone()).await;
            assert!(answer.status < 300, "{path}: {}", answer.errors());
        });
        assert!(asked.await >= 32, "{path}");
    }
    assert_eq!(term().await, json!(2));
    service.is(Mood::Away);
    for path in ["sys/rotate", "sys/rotate/root"] {
        rotate(path).await.expect_error(503, NOTHING);
    }
    harness.write("sys/namespaces/other", &root, json!({ "seal": SEAL })).await.expect_error(503, NOTHING);
    assert_eq!(term().await, json!(2));
    drop(harness.read("sys/namespaces/other", &root).await.expect_status(404));
    // Other shares, and a root token: nobody's are spent on it, so it is done when the seal is back.
    let begun =
        harness.write("sys/rekey-recovery-key/init", &root, json!({ "secret_shares": 1, "secret_threshold": 1 })).await;
    let nonce = begun.expect_status(200).text_at("/nonce");
    let enter = async |share: &str| {
        harness.write("sys/rekey-recovery-key/update", &root, json!({ "key": share, "nonce": nonce })).await
    };
    drop(enter(&shares[0]).await.expect_status(200));
    enter(&shares[1]).await.expect_error(503, NOTHING);
    service.is(Mood::Well);
    let mut done = enter(&shares[1]).await.expect_status(200);
    if done.at("/complete") != &json!(true) {
        done = enter(&shares[0]).await.expect_status(200);
    }
    assert_eq!(done.at("/complete"), &json!(true));
}

#[tokio::test]
async fn seal_31_an_attempt_at_a_root_token_outlives_a_seal_that_is_away() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    let (shares, root) = initialize(&harness).await;
    let begun = harness.write("sys/generate-root/attempt", &root, json!({})).await.expect_status(200);
    let nonce = begun.text_at("/nonce");
    let enter = async |share: &str| {
        harness.write("sys/generate-root/update", &root, json!({ "key": share, "nonce": nonce })).await
    };
    service.is(Mood::Away);
    drop(enter(&shares[0]).await.expect_status(200));
    enter(&shares[1]).await.expect_error(503, NOTHING);
    service.is(Mood::Well);
    let mut done = enter(&shares[1]).await.expect_status(200);
    if done.at("/complete") != &json!(true) {
        done = enter(&shares[0]).await.expect_status(200);
    }
    assert_eq!(done.at("/complete"), &json!(true));
    assert_ne!(done.text_at("/encoded_root_token"), "");
}

#[tokio::test]
async fn seal_31_a_mount_that_demands_it_draws_nothing_without_the_seal_and_goes_on_to_be_read() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    let (_, root) = initialize(&harness).await;
    for (path, flag) in [("sys/auth/strong", true), ("sys/auth/plain", false)] {
        let body = json!({ "type": "approle", "external_entropy_access": flag });
        drop(harness.write(path, &root, body).await.expect_status(204));
    }
    for mount in ["strong", "plain"] {
        drop(
            harness
                .write(&format!("auth/{mount}/role/r"), &root, json!({ "token_policies": "default" }))
                .await
                .expect_status(204),
        );
    }
    let secret = async |mount: &str| harness.write(&format!("auth/{mount}/role/r/secret-id"), &root, json!({})).await;
    let asked = given(&service, async { drop(secret("strong").await.expect_status(200)) }).await;
    assert_eq!(asked, 32);
    let asked = given(&service, async {
        drop(secret("plain").await.expect_status(200));
        drop(harness.read("auth/strong/role/r", &root).await.expect_status(200));
        drop(harness.call("LIST", "auth/strong/role", &root, Value::Null).await.expect_status(200));
    });
    assert_eq!(asked.await, 0);
    for mood in [Mood::Away, Mood::Denies, Mood::Garbage, Mood::Lies] {
        service.is(mood);
        secret("strong").await.expect_error(503, NOTHING);
        drop(secret("plain").await.expect_status(200));
        drop(harness.read("auth/strong/role/r", &root).await.expect_status(200));
    }
    // Whoever may not, makes nobody ask the seal.
    service.is(Mood::Well);
    let weak = harness.write("auth/token/create", &root, json!({ "policies": ["default"] })).await.expect_status(200);
    let weak = weak.text_at("/auth/client_token");
    let asked = given(&service, async {
        harness.write("auth/strong/role/r/secret-id", &weak, json!({})).await.expect_error(403, "permission denied");
    });
    assert_eq!(asked.await, 0);
    drop(harness.call("DELETE", "auth/strong/role/r", &root, Value::Null).await.expect_status(204));
}

#[tokio::test]
async fn dos_04_a_seal_that_hangs_holds_up_only_who_demands_its_bytes_and_not_for_ever() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    let (_, root) = initialize(&harness).await;
    let body = json!({ "type": "kv-v1", "external_entropy_access": true });
    drop(harness.write("sys/mounts/strong", &root, body).await.expect_status(204));
    service.is(Mood::Hangs);
    let many = futures_util::future::join_all((0..20).map(|number| {
        let harness = &harness;
        let root = &root;
        async move { harness.write(&format!("strong/{number}"), root, json!({ "x": 1 })).await }
    }));
    let others = async {
        drop(harness.read("sys/mounts", &root).await.expect_status(200));
        harness.advance(Duration::from_secs(10)).await;
    };
    let (refused, ()) = tokio::join!(many, others);
    for answer in refused {
        answer.expect_error(503, NOTHING);
    }
    let (rotated, ()) =
        tokio::join!(harness.write("sys/rotate", &root, json!({})), harness.advance(Duration::from_secs(10)));
    rotated.expect_error(503, NOTHING);
    service.is(Mood::Well);
    drop(harness.write("strong/0", &root, json!({ "x": 1 })).await.expect_status(204));
}

#[tokio::test]
async fn seal_31_random_bytes_of_the_seal_are_its_own_and_those_of_all_are_mixed() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    let (_, root) = initialize(&harness).await;
    let random = async |path: &str| harness.write(path, &root, json!({ "format": "hex" })).await;
    let at = service.gave();
    let counted: Vec<String> = (at..at + 40).map(|number| format!("{:02x}", number % 251)).collect();
    let seal = random("sys/tools/random/seal/40").await.expect_status(200);
    assert_eq!(seal.text_at("/data/random_bytes"), counted.concat());
    assert_eq!(seal.at("/warnings"), &Value::Null);
    let asked = given(&service, async {
        let all = random("sys/tools/random/all/40").await.expect_status(200).text_at("/data/random_bytes");
        let own: Vec<String> = (at + 40..at + 80).map(|number| format!("{:02x}", number % 251)).collect();
        assert!(all.len() == 80 && all != own.concat());
    });
    assert_eq!(asked.await, 40);
    assert_eq!(given(&service, async { drop(random("sys/tools/random/40").await.expect_status(200)) }).await, 0);
    drop(random("sys/tools/random/seal/4096").await.expect_status(200));
    for path in ["sys/tools/random/seal/4097", "sys/tools/random/all/4097"] {
        random(path).await.expect_error(400, "'bytes' of the seal should be at most 4096");
    }
    drop(random("sys/tools/random/4097").await.expect_status(200));
    service.is(Mood::Away);
    for path in ["sys/tools/random/seal/4", "sys/tools/random/all"] {
        random(path).await.expect_error(503, NOTHING);
    }
    drop(random("sys/tools/random").await.expect_status(200));
    // Where the seal gives none, the answer says whose they are.
    let plain = Harness::start().await;
    let given = plain.write("sys/tools/random/seal/4", tresor_harness::ROOT, json!({})).await.expect_status(200);
    assert_eq!(
        given.at("/warnings/0"),
        &json!("no seal/entropy augmentation available, using platform entropy source")
    );
}

#[tokio::test]
async fn seal_31_what_rotates_by_itself_waits_for_the_seal_and_is_done_when_that_is_back() {
    let service = FakeService::new("pkcs11");
    let harness = uninitialized(&service);
    let (_, root) = initialize(&harness).await;
    let accounts = lending::service_anew("seal-entropy");
    let body = json!({ "type": "lending", "external_entropy_access": true });
    drop(harness.write("sys/mounts/lent", &root, body).await.expect_status(204));
    drop(harness.write("lent/config", &root, json!({ "service": "seal-entropy" })).await.expect_status(204));
    drop(harness.write("lent/fixed/app", &root, json!({ "every": "100s" })).await.expect_status(204));
    assert_eq!(accounts.passwords("app").len(), 1);
    service.is(Mood::Away);
    harness.advance(Duration::from_secs(110)).await;
    assert_eq!(accounts.passwords("app").len(), 1, "none is made without the seal");
    service.is(Mood::Well);
    let before = service.gave();
    harness.advance(Duration::from_secs(60)).await;
    assert_eq!(accounts.passwords("app").len(), 2);
    assert!(service.gave() >= before + 32);
}
