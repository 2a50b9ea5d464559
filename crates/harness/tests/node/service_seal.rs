//! Seals whose key a service keeps, over HTTP: opening by itself, a service that is away or answers nonsense, versions of its
//! key, other seals; and that no key shows. How real services are asked is tested in `crates/server` and in the binary's tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_canary::Canaries;
use tresor_core::{AutoKey, AutoSeal, KeyService, SealChecks, Sealed, SealedKey, ServiceError};
use tresor_env::BoxFuture;
use tresor_harness::{Answer, Captured, Harness, assembly};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

/// How the fake answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    Well,
    Away,
    Denies,
    /// It opens, and seals nothing any more.
    OpensOnly,
    /// It gives another key than the one it was given.
    Lies,
    Garbage,
    Hangs,
}

struct Kept {
    version: u32,
    key: [u8; 32],
    name: String,
}

struct Inside {
    mood: Mood,
    version: u32,
    version_min: u32,
    kept: Vec<Kept>,
    /// How many random bytes it gave.
    gave: usize,
}

/// A fake of a service that keeps keys: what it seals is a number, and it remembers what for.
#[derive(Clone)]
pub(crate) struct FakeService {
    kind: &'static str,
    inside: Arc<Mutex<Inside>>,
}

impl FakeService {
    pub(crate) fn new(kind: &'static str) -> Self {
        let inside = Inside { mood: Mood::Well, version: 1, version_min: 1, kept: Vec::new(), gave: 0 };
        Self { kind, inside: Arc::new(Mutex::new(inside)) }
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.inside.lock().unwrap().mood = mood;
    }

    /// How many random bytes it gave so far.
    pub(crate) fn gave(&self) -> usize {
        self.inside.lock().unwrap().gave
    }

    /// The next version of the key; the ones before open as well.
    fn rotate(&self) {
        self.inside.lock().unwrap().version += 1;
    }

    /// Only the newest version opens from now on.
    fn forget_old(&self) {
        let mut inside = self.inside.lock().unwrap();
        inside.version_min = inside.version;
    }

    fn seal_of(&self) -> AutoSeal {
        AutoSeal {
            key: AutoKey::Service(Arc::new(self.clone())),
            checks: Some(SealChecks::default()),
            augmentation: None,
        }
    }
}

impl KeyService for FakeService {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn key_id(&self) -> &'static str {
        "transit/unseal"
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        let mut inside = self.inside.lock().unwrap();
        let done = match inside.mood {
            Mood::Well | Mood::Lies | Mood::Garbage => {
                let version = inside.version;
                inside.kept.push(Kept { version, key: *key, name: name.to_owned() });
                Ok(Sealed { version: format!("v{version}"), sealed: vec![u8::try_from(inside.kept.len()).unwrap()] })
            }
            Mood::Away => Err(ServiceError::Unanswered("nobody is there".to_owned())),
            Mood::Denies | Mood::OpensOnly => Err(ServiceError::Refused("status 403, permission denied".to_owned())),
            Mood::Hangs => return Box::pin(std::future::pending()),
        };
        Box::pin(async move { done })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        let inside = self.inside.lock().unwrap();
        let found = sealed.sealed.first().and_then(|number| inside.kept.get(usize::from(*number) - 1));
        let done = match (inside.mood, found) {
            (Mood::Well | Mood::OpensOnly, Some(kept))
                if kept.version >= inside.version_min && kept.name == sealed.slot =>
            {
                Ok(DataKey::new(kept.key))
            }
            (Mood::Well | Mood::OpensOnly, _) => Err(ServiceError::Refused("status 400".to_owned())),
            (Mood::Away, _) => Err(ServiceError::Unanswered("nobody is there".to_owned())),
            (Mood::Denies, _) => Err(ServiceError::Refused("status 403, permission denied".to_owned())),
            (Mood::Lies, _) => Ok(DataKey::new([7; 32])),
            (Mood::Garbage, _) => Err(ServiceError::Unexpected("with something that is no key")),
            (Mood::Hangs, _) => return Box::pin(std::future::pending()),
        };
        Box::pin(async move { done })
    }

    /// What it gives is a count, so that a test knows it.
    fn random(&self, count: usize) -> BoxFuture<'_, Result<Zeroizing<Vec<u8>>, ServiceError>> {
        let mut inside = self.inside.lock().unwrap();
        let given = match inside.mood {
            Mood::Hangs => return Box::pin(std::future::pending()),
            Mood::Well => {
                let bytes = (inside.gave..).take(count).map(|number| u8::try_from(number % 251).unwrap()).collect();
                inside.gave += count;
                Ok(Zeroizing::new(bytes))
            }
            Mood::Garbage => Ok(Zeroizing::new(vec![0; count])),
            Mood::Lies => Ok(Zeroizing::new(vec![1; count + 1])),
            Mood::Denies | Mood::OpensOnly => Err(ServiceError::Refused("status 403, permission denied".to_owned())),
            Mood::Away => Err(ServiceError::Unanswered("nobody is there".to_owned())),
        };
        Box::pin(async move { given })
    }
}

fn texts(answer: &Answer, at: &str) -> Vec<String> {
    answer.at(at).as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

async fn status(harness: &Harness) -> Value {
    harness.read("sys/seal-status", "").await.expect_status(200).json
}

async fn is_sealed(harness: &Harness) -> bool {
    status(harness).await["sealed"] == json!(true)
}

async fn restarted(harness: &mut Harness) {
    harness.restart().await;
    harness.node.open_by_itself().await;
}

async fn unseal(harness: &Harness, shares: &[String]) {
    for share in &shares[..2] {
        let body = json!({ "key": share, "migrate": true });
        drop(harness.call("PUT", "sys/unseal", "", body).await.expect_status(200));
    }
    assert!(!is_sealed(harness).await);
}

async fn check_kept(harness: &Harness, root: &str) {
    assert_eq!(harness.read("kv/a", root).await.expect_status(200).at("/data/x"), &json!("kept"));
}

/// The slots, by kind, and when they were made.
async fn slots(harness: &Harness, root: &str) -> Vec<(String, String)> {
    let slots = harness.read("sys/seal-slots", root).await.expect_status(200);
    let slots = slots.at("/data/slots").as_array().unwrap().clone();
    let text = |slot: &Value, name: &str| slot[name].as_str().unwrap().to_owned();
    slots.iter().map(|slot| (text(slot, "type"), text(slot, "id"))).collect()
}

/// A node that was initialised and opened by itself; its shares (two of three open) and its root token.
async fn initialized(service: &FakeService) -> (Harness, Vec<String>, String) {
    let mut settings = assembly::settings();
    settings.auto_seal = Some(service.seal_of());
    let harness = Harness::uninitialized_with(settings);
    let body = json!({ "recovery_shares": 3, "recovery_threshold": 2 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    assert_eq!((made.at("/keys"), made.at("/keys_base64")), (&json!([]), &json!([])));
    let (shares, root) = (texts(&made, "/recovery_keys"), made.text_at("/root_token"));
    drop(harness.call("POST", "sys/mounts/kv", &root, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "kept" })).await.expect_status(204));
    (harness, shares, root)
}

#[tokio::test]
async fn a_key_that_a_service_keeps_opens_the_node_at_every_start() {
    let service = FakeService::new("transit");
    let (mut harness, _, root) = initialized(&service).await;
    for _ in 0..2 {
        let status = status(&harness).await;
        for (name, value) in [
            ("type", json!("transit")),
            ("sealed", json!(false)),
            ("t", json!(2)),
            ("n", json!(3)),
            ("migration", json!(false)),
            ("recovery_seal", json!(true)),
            ("recovery_seal_type", json!("shamir")),
        ] {
            assert_eq!(status[name], value, "{name}");
        }
        check_kept(&harness, &root).await;
        restarted(&mut harness).await;
    }
    let kinds: Vec<String> = slots(&harness, &root).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["shamir", "transit"]);
    // Another root key is wrapped for the slot without asking the service.
    service.is(Mood::Away);
    drop(harness.write("sys/rotate/root", &root, Value::Null).await.expect_status(204));
    service.is(Mood::Well);
    harness.kill();
    harness.node.open_by_itself().await;
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn a_store_is_not_initialised_with_a_service_that_does_not_open_what_it_seals() {
    let service = FakeService::new("transit");
    let mut settings = assembly::settings();
    settings.auto_seal = Some(service.seal_of());
    let harness = Harness::uninitialized_with(settings);
    let body = json!({ "recovery_shares": 0, "recovery_threshold": 0 });
    for mood in [Mood::Away, Mood::Denies, Mood::OpensOnly, Mood::Lies, Mood::Garbage] {
        service.is(mood);
        let refused = harness.call("PUT", "sys/init", "", body.clone()).await;
        refused.expect_error(503, "the key of the transit seal cannot be read: the server's log says why");
        assert_eq!(status(&harness).await["initialized"], json!(false), "{mood:?}");
    }
    service.is(Mood::Well);
    drop(harness.call("PUT", "sys/init", "", body).await.expect_status(200));
    assert!(!is_sealed(&harness).await);
}

#[tokio::test]
async fn sea_01_a_service_that_is_away_refuses_lies_or_hangs_keeps_the_node_sealed_and_loses_nothing() {
    let log = Captured::start();
    let service = FakeService::new("transit");
    let (mut harness, shares, root) = initialized(&service).await;
    for (mood, words, logged) in [
        (
            Mood::Away,
            "the service that keeps the key of the seal does not answer",
            "it does not answer: nobody is there",
        ),
        (Mood::Denies, "refuses to open", "it refuses: status 403, permission denied"),
        (Mood::Lies, "refuses to open", "it answered with another key than the one that it had sealed"),
        (Mood::Garbage, "refuses to open", "it answered with something that is no key"),
    ] {
        service.is(mood);
        restarted(&mut harness).await;
        for (path, code) in [("sys/seal-status", 200), ("sys/health", 503)] {
            let answer = harness.read(path, "").await.expect_status(code);
            assert!(answer.text_at("/automatic_unseal").contains(words), "{mood:?}: {answer:?}");
        }
        assert!(String::from_utf8_lossy(&log.bytes()).contains(logged), "{mood:?}");
        // It is tried again, later each time, and opens when the service does.
        harness.advance(Duration::from_secs(30)).await;
        assert!(is_sealed(&harness).await);
        service.is(Mood::Well);
        harness.advance(Duration::from_secs(60)).await;
        check_kept(&harness, &root).await;
        // Shares open meanwhile, and leave a slot that the service still opens.
        service.is(mood);
        restarted(&mut harness).await;
        unseal(&harness, &shares).await;
        check_kept(&harness, &root).await;
        service.is(Mood::Well);
        restarted(&mut harness).await;
        check_kept(&harness, &root).await;
    }
    let mut secrets = Canaries::new();
    for kept in &service.inside.lock().unwrap().kept {
        secrets.watch("a key", &kept.key);
        secrets.watch("a list of numbers", format!("{:?}", &kept.key[..8]).trim_matches(['[', ']']).as_bytes());
    }
    secrets.assert_absent("the log", &log.bytes());
    for (at, value) in harness.store.dump() {
        secrets.assert_absent("the store", &[at.as_bytes(), &value].concat());
    }
}

#[tokio::test]
async fn a_service_that_hangs_keeps_nobody_from_entering_shares() {
    let service = FakeService::new("transit");
    let (mut harness, shares, root) = initialized(&service).await;
    service.is(Mood::Hangs);
    harness.restart().await;
    let opening = harness.node.open_by_itself();
    tokio::join!(opening, harness.advance(Duration::from_secs(20)));
    assert!(status(&harness).await["automatic_unseal"].as_str().unwrap().contains("does not answer"));
    let entered = async {
        for share in &shares[..2] {
            drop(harness.call("PUT", "sys/unseal", "", json!({ "key": share })).await.expect_status(200));
        }
    };
    tokio::join!(entered, harness.advance(Duration::from_secs(40)));
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn dos_04_while_a_service_hangs_nobody_waits_but_who_asked_for_it() {
    let service = FakeService::new("transit");
    let (mut harness, shares, root) = initialized(&service).await;
    service.is(Mood::Hangs);
    harness.restart().await;
    let began = harness.node.now();
    // The attempt waits for the service, and the clock stands still: who has something for the node's owner has its answer.
    let asked = async {
        let wrong = json!({ "key": shares[0] });
        let progress = harness.call("PUT", "sys/unseal", "", wrong).await.expect_status(200);
        assert_eq!(progress.at("/progress"), &json!(1));
        let reset = harness.call("PUT", "sys/unseal", "", json!({ "reset": true })).await.expect_status(200);
        assert_eq!(reset.at("/progress"), &json!(0));
        let again = harness.call("PUT", "sys/init", "", json!({ "recovery_shares": 0, "recovery_threshold": 0 })).await;
        again.expect_error(400, "Vault is already initialized");
    };
    tokio::select! {
        biased;
        () = harness.node.open_by_itself() => panic!("the service has answered"),
        () = asked => {}
    }
    assert_eq!(harness.node.now(), began);
    // So it is when shares open, which asks the service for the slot; and whoever seals meanwhile has the last word.
    drop(harness.call("PUT", "sys/unseal", "", json!({ "key": shares[0] })).await.expect_status(200));
    let entered = harness.call("PUT", "sys/unseal", "", json!({ "key": shares[1] }));
    let sealed = async {
        // Until both are in, and the progress is nothing again.
        while status(&harness).await["nonce"] != json!("") {
            tokio::task::yield_now().await;
        }
        harness.node.seal().await.unwrap();
        harness.advance(Duration::from_secs(30)).await;
    };
    let (refused, ()) = tokio::join!(entered, sealed);
    refused.expect_error(503, "the node was sealed while it was opened");
    assert!(is_sealed(&harness).await);
    service.is(Mood::Well);
    for share in &shares[..2] {
        drop(harness.call("PUT", "sys/unseal", "", json!({ "key": share })).await.expect_status(200));
    }
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn a_store_without_shares_says_why_it_stays_sealed_when_its_seal_is_not_configured() {
    let log = Captured::start();
    let service = FakeService::new("transit");
    let mut settings = assembly::settings();
    settings.auto_seal = Some(service.seal_of());
    let mut harness = Harness::uninitialized_with(settings);
    let body = json!({ "recovery_shares": 0, "recovery_threshold": 0 });
    drop(harness.call("PUT", "sys/init", "", body).await.expect_status(200));
    let others = FakeService::new("awskms");
    for (seal, words) in [
        (None, "the store has no shares, and no `seal` is configured"),
        (Some(others.seal_of()), "the store has no shares and no key slot of the seal that is configured"),
    ] {
        harness.settings.auto_seal = seal;
        restarted(&mut harness).await;
        let waiting = status(&harness).await;
        let told = waiting["automatic_unseal"].as_str().unwrap_or_else(|| panic!("{waiting}"));
        assert!(told.contains("the store has no shares"), "{told}");
        let logged = log.bytes();
        let logged = String::from_utf8_lossy(&logged);
        assert!(logged.contains(words) && logged.contains("`transit` (transit/unseal)"), "{logged}");
    }
    harness.settings.auto_seal = Some(service.seal_of());
    restarted(&mut harness).await;
    assert!(!is_sealed(&harness).await && status(&harness).await.get("automatic_unseal").is_none());
}

#[tokio::test]
async fn a_slot_follows_the_versions_of_the_services_key() {
    let service = FakeService::new("transit");
    let (mut harness, _, root) = initialized(&service).await;
    let first = slots(&harness, &root).await;
    // What an older version sealed opens, and is sealed by the newest at the next start.
    service.rotate();
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    let second = slots(&harness, &root).await;
    assert_eq!((first[0] == second[0], first[1] == second[1], second.len()), (true, false, 2));
    service.forget_old();
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    // An open node notices it, too.
    service.rotate();
    harness.advance(Duration::from_secs(600)).await;
    let third = slots(&harness, &root).await;
    assert_ne!(second[1], third[1]);
    service.forget_old();
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    // Who may open and not seal keeps the slot as it is.
    service.rotate();
    service.is(Mood::OpensOnly);
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    assert_eq!(slots(&harness, &root).await, third);
}

#[tokio::test]
async fn a_service_that_could_not_open_any_more_is_told_before_the_next_start() {
    let service = FakeService::new("transit");
    let (harness, _, root) = initialized(&service).await;
    let healthy = || async {
        let shown = harness.read("sys/seal-backend-status", &root).await.expect_status(200);
        assert_eq!(shown.at("/data/backends/0/name"), "transit");
        shown.at("/data/healthy").as_bool().unwrap()
    };
    for mood in [Mood::Away, Mood::Denies, Mood::Lies, Mood::Garbage, Mood::Hangs] {
        service.is(mood);
        assert!(healthy().await, "nobody has looked yet");
        // The second time for who hangs: a look takes at most ten seconds.
        for seconds in [600, 10] {
            harness.advance(Duration::from_secs(seconds)).await;
        }
        assert!(!healthy().await, "{mood:?}");
        service.is(Mood::Well);
        harness.advance(Duration::from_secs(60)).await;
        assert!(healthy().await, "{mood:?}");
    }
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn a_store_goes_from_shares_to_a_service_to_another_one_and_back() {
    let (transit, kms) = (FakeService::new("transit"), FakeService::new("awskms"));
    let mut harness = Harness::uninitialized();
    let body = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    let (shares, root) = (texts(&made, "/keys"), made.text_at("/root_token"));
    unseal_without_migrating(&harness, &shares).await;
    drop(harness.call("POST", "sys/mounts/kv", &root, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "kept" })).await.expect_status(204));
    for (service, kind) in [(Some(&transit), "transit"), (Some(&kms), "awskms"), (None, "shamir")] {
        harness.settings.auto_seal = service.map(FakeService::seal_of);
        restarted(&mut harness).await;
        let waiting = status(&harness).await;
        assert_eq!(
            (&waiting["type"], &waiting["sealed"], &waiting["migration"]),
            (&json!(kind), &json!(true), &json!(true))
        );
        if service.is_some() {
            assert!(waiting["automatic_unseal"].as_str().unwrap().contains("waits for shares"), "{waiting}");
        }
        unseal(&harness, &shares).await;
        assert_eq!(status(&harness).await["migration"], json!(false));
        let kinds: Vec<String> = slots(&harness, &root).await.into_iter().map(|(kind, _)| kind).collect();
        let wanted: Vec<&str> = ["shamir"].into_iter().chain(service.map(|_| kind)).collect();
        assert_eq!(kinds, wanted, "the slot of the seal before is gone");
        restarted(&mut harness).await;
        assert_eq!(is_sealed(&harness).await, service.is_none());
    }
}

async fn unseal_without_migrating(harness: &Harness, shares: &[String]) {
    for share in &shares[..2] {
        drop(harness.call("PUT", "sys/unseal", "", json!({ "key": share })).await.expect_status(200));
    }
}

#[tokio::test]
async fn a_service_whose_key_is_gone_is_replaced_by_entering_shares() {
    let (old, new) = (FakeService::new("transit"), FakeService::new("transit"));
    let (mut harness, shares, root) = initialized(&old).await;
    // Another server of the same kind: it cannot open what the one before sealed.
    harness.settings.auto_seal = Some(new.seal_of());
    restarted(&mut harness).await;
    assert!(status(&harness).await["automatic_unseal"].as_str().unwrap().contains("refuses to open"));
    unseal(&harness, &shares).await;
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
}
