//! The static seal over HTTP: initialising, opening by itself, trying again, rotating keys, adding and removing the
//! stanza; and that the key shows nowhere. What lies below is tested in `crates/barrier/tests/slots.rs`, files and
//! variables in `crates/server` and in the binary's tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_core::{AutoKey, AutoSeal, SealChecks, StaticKey, StaticKeySource, StaticKeys};
use tresor_harness::{Answer, Captured, Harness, assembly};
use tresor_profile::{Kind, Profile};
use tresor_secret::DataKey;
use tresor_server::self_init;

/// Where a test keeps keys: by id and what their bytes follow from; the current one first. Nothing is a key that is not
/// there.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Vec<(&'static str, &'static str)>>>);

impl Place {
    fn put(&self, keys: &[(&'static str, &'static str)]) {
        *self.0.lock().unwrap() = keys.to_vec();
    }
}

fn bytes(of: &str) -> [u8; 32] {
    let text = canary(of, 0).repeat(2);
    text.as_bytes()[..32].try_into().unwrap()
}

impl StaticKeySource for Place {
    fn read(&self) -> Result<StaticKeys, Box<dyn std::error::Error + Send + Sync>> {
        let keys = self.0.lock().unwrap();
        let mut keys = keys.iter().map(|(id, of)| StaticKey::new((*id).to_owned(), DataKey::new(bytes(of))));
        let current = keys.next().ok_or("the key `b` is not there")?;
        Ok(StaticKeys { current, previous: keys.next() })
    }
}

fn seal(key_id: &str, place: &Place) -> AutoSeal {
    let key = AutoKey::Static { key_id: key_id.to_owned(), source: Arc::new(place.clone()) };
    AutoSeal { key, checks: Some(SealChecks::default()), augmentation: None }
}

/// A node that is to open with the key `a`, not initialised yet, and where that key lies.
fn uninitialized() -> (Harness, Place) {
    let place = Place::default();
    place.put(&[("a", "first")]);
    let mut settings = assembly::settings();
    settings.auto_seal = Some(seal("a", &place));
    (Harness::uninitialized_with(settings), place)
}

/// Shares of an answer.
fn texts(answer: &Answer, at: &str) -> Vec<String> {
    let list = answer.at(at).as_array().unwrap_or_else(|| panic!("{at} in {answer:?}"));
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A node that was initialised and opened by itself; its shares (two of three open) and its root token.
async fn initialized() -> (Harness, Place, Vec<String>, String) {
    let (harness, place) = uninitialized();
    let body = json!({ "recovery_shares": 3, "recovery_threshold": 2 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    assert_eq!((made.at("/keys"), made.at("/keys_base64")), (&json!([]), &json!([])));
    assert_eq!(texts(&made, "/recovery_keys_base64").len(), 3);
    let shares = texts(&made, "/recovery_keys");
    let root = made.text_at("/root_token");
    drop(harness.call("POST", "sys/mounts/kv", &root, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "kept" })).await.expect_status(204));
    (harness, place, shares, root)
}

/// Another process on the same store, which tried to open by itself once.
async fn restarted(harness: &mut Harness) {
    harness.restart().await;
    harness.node.open_by_itself().await;
}

async fn status(harness: &Harness) -> Value {
    harness.read("sys/seal-status", "").await.expect_status(200).json
}

async fn is_sealed(harness: &Harness) -> bool {
    status(harness).await["sealed"] == json!(true)
}

async fn enter(harness: &Harness, share: &str) -> Answer {
    harness.call("PUT", "sys/unseal", "", json!({ "key": share })).await
}

async fn unseal(harness: &Harness, shares: &[String]) {
    for share in &shares[..2] {
        drop(enter(harness, share).await.expect_status(200));
    }
    assert!(!is_sealed(harness).await);
}

async fn check_kept(harness: &Harness, root: &str) {
    assert_eq!(harness.read("kv/a", root).await.expect_status(200).at("/data/x"), &json!("kept"));
}

#[tokio::test]
async fn initialising_opens_the_node_and_every_restart_does() {
    let (mut harness, _, _, root) = initialized().await;
    for _ in 0..3 {
        let status = status(&harness).await;
        for (name, value) in [
            ("type", json!("static")),
            ("initialized", json!(true)),
            ("sealed", json!(false)),
            ("t", json!(2)),
            ("n", json!(3)),
            ("migration", json!(false)),
            ("recovery_seal", json!(true)),
            ("recovery_seal_type", json!("shamir")),
        ] {
            assert_eq!(status[name], value, "{name}");
        }
        assert!(status.get("automatic_unseal").is_none());
        check_kept(&harness, &root).await;
        restarted(&mut harness).await;
    }
    harness.kill();
    harness.node.open_by_itself().await;
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn what_is_asked_for_at_initialising_must_fit_the_seal() {
    let (harness, place) = uninitialized();
    let before = status(&harness).await;
    assert_eq!((&before["type"], &before["recovery_seal"], &before["n"]), (&json!("static"), &json!(true), &json!(0)));
    for (body, words) in [
        (
            json!({ "secret_shares": 5, "secret_threshold": 3 }),
            "secret_shares,secret_threshold not applicable to seal type static",
        ),
        (json!({ "secret_shares": 1, "recovery_shares": 1, "recovery_threshold": 1 }), "secret_shares not applicable"),
        (json!({ "pgp_keys": ["x"], "recovery_shares": 1, "recovery_threshold": 1 }), "pgp_keys not applicable"),
        (json!({}), "recovery configuration"),
        (json!({ "recovery_shares": 0, "recovery_threshold": 1 }), "recovery configuration"),
        (json!({ "recovery_shares": 3, "recovery_threshold": 1 }), "recovery configuration"),
        (json!({ "recovery_shares": 2, "recovery_threshold": 3 }), "recovery configuration"),
        (json!({ "recovery_shares": 1, "recovery_threshold": 1, "recovery_pgp_keys": ["x"] }), "PGP"),
    ] {
        let answer = harness.call("PUT", "sys/init", "", body.clone()).await;
        answer.expect_error(400, words);
    }
    place.put(&[]);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1, "stored_shares": 1 });
    let refused = harness.call("PUT", "sys/init", "", body.clone()).await;
    refused.expect_error(503, "the key of the static seal cannot be read");
    assert_eq!(status(&harness).await["initialized"], json!(false));
    place.put(&[("a", "first")]);
    drop(harness.call("PUT", "sys/init", "", body.clone()).await.expect_status(200));
    harness.call("PUT", "sys/init", "", body).await.expect_error(400, "Vault is already initialized");
    let shamir = Harness::uninitialized();
    let body = json!({ "secret_shares": 1, "secret_threshold": 1, "recovery_shares": 1 });
    let refused = shamir.call("PUT", "sys/init", "", body).await;
    refused.expect_error(400, "parameters recovery_shares not applicable to seal type shamir");
    // Whoever names keys to encrypt shares to must not get them in plain text.
    let body = json!({ "secret_shares": 1, "secret_threshold": 1, "recovery_pgp_keys": ["x"] });
    let refused = shamir.call("PUT", "sys/init", "", body).await;
    refused.expect_error(400, "parameters recovery_pgp_keys not applicable to seal type shamir");
    assert_eq!(status(&shamir).await["initialized"], json!(false));
}

#[tokio::test]
async fn a_key_that_is_not_there_is_waited_for_and_shares_open_meanwhile() {
    let (mut harness, place, shares, root) = initialized().await;
    place.put(&[]);
    restarted(&mut harness).await;
    for (path, code) in [("sys/seal-status", 200), ("sys/health", 503)] {
        let answer = harness.read(path, "").await.expect_status(code);
        assert!(answer.text_at("/automatic_unseal").contains("the key of the seal cannot be read"), "{answer:?}");
    }
    harness.advance(Duration::from_secs(30)).await;
    assert!(is_sealed(&harness).await);
    place.put(&[("a", "first")]);
    harness.advance(Duration::from_secs(60)).await;
    assert!(!is_sealed(&harness).await, "it opens when the key is there");
    assert!(harness.read("sys/health", "").await.expect_status(200).at("/automatic_unseal").is_null());

    place.put(&[]);
    restarted(&mut harness).await;
    unseal(&harness, &shares).await;
    check_kept(&harness, &root).await;
    assert!(status(&harness).await.get("automatic_unseal").is_none());
    // The slot of the key that was not at hand is as it was.
    place.put(&[("a", "first")]);
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn sea_01_a_wrong_key_keeps_the_node_sealed_and_shares_mend_it() {
    let (mut harness, place, shares, root) = initialized().await;
    for (keys, words) in [
        (&[("a", "another")][..], "not the one that had its id before"),
        (&[("b", "first")], "a key of another id"),
        (&[("b", "second"), ("a", "another")], "not the one that had its id before"),
    ] {
        place.put(keys);
        restarted(&mut harness).await;
        let status = status(&harness).await;
        assert_eq!(status["sealed"], json!(true));
        assert!(status["automatic_unseal"].as_str().unwrap().contains(words), "{keys:?}: {status}");
    }
    unseal(&harness, &shares).await;
    // From now on the configured key opens.
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    place.put(&[("a", "first")]);
    restarted(&mut harness).await;
    assert!(is_sealed(&harness).await, "the key that it replaced does not open any more");
}

#[tokio::test]
async fn sealing_on_purpose_lasts_until_shares_or_a_restart() {
    let (mut harness, _, shares, root) = initialized().await;
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    harness.advance(Duration::from_secs(600)).await;
    assert!(is_sealed(&harness).await);
    harness.node.open_by_itself().await;
    assert!(is_sealed(&harness).await);
    assert!(status(&harness).await.get("automatic_unseal").is_none(), "that is no failure");
    unseal(&harness, &shares).await;
    check_kept(&harness, &root).await;
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    // Wrong shares open nothing here either.
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    let mut forged = shares[1].clone();
    forged.replace_range(0..2, if forged.starts_with("00") { "01" } else { "00" });
    drop(enter(&harness, &shares[0]).await.expect_status(200));
    enter(&harness, &forged).await.expect_error(400, "invalid key");
}

#[tokio::test]
async fn a_node_that_waits_for_its_key_stays_sealed_when_somebody_seals_it() {
    let (mut harness, place, shares, root) = initialized().await;
    place.put(&[]);
    restarted(&mut harness).await;
    unseal(&harness, &shares).await;
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    place.put(&[("a", "first")]);
    harness.advance(Duration::from_secs(600)).await;
    assert!(is_sealed(&harness).await);
}

#[tokio::test]
async fn a_key_is_rotated_by_naming_the_new_one_beside_the_old() {
    let (mut harness, place, shares, root) = initialized().await;
    harness.settings.auto_seal = Some(seal("b", &place));
    place.put(&[("b", "second"), ("a", "first")]);
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    // The old one may go.
    place.put(&[("b", "second")]);
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    place.put(&[("a", "first")]);
    restarted(&mut harness).await;
    assert!(is_sealed(&harness).await, "the old one opens nothing any more");
    unseal(&harness, &shares).await;
}

#[tokio::test]
async fn the_stanza_may_be_added_to_a_server_and_taken_away() {
    let mut harness = Harness::uninitialized();
    let body = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    assert!(made.at("/recovery_keys").is_null());
    let (shares, root) = (texts(&made, "/keys"), made.text_at("/root_token"));
    unseal(&harness, &shares).await;
    drop(harness.call("POST", "sys/mounts/kv", &root, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "kept" })).await.expect_status(204));
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    let migrate = |share: &str| json!({ "key": share, "migrate": true });
    let refused = harness.call("PUT", "sys/unseal", "", migrate(&shares[0])).await;
    refused.expect_error(400, "there is no other seal to migrate from");

    let place = Place::default();
    place.put(&[("a", "first")]);
    harness.settings.auto_seal = Some(seal("a", &place));
    restarted(&mut harness).await;
    let waiting = status(&harness).await;
    for (name, value) in
        [("type", json!("static")), ("sealed", json!(true)), ("migration", json!(true)), ("n", json!(3))]
    {
        assert_eq!(waiting[name], value, "{name}");
    }
    assert!(waiting["automatic_unseal"].as_str().unwrap().contains("waits for shares"), "{waiting}");
    // As the reference asks for it; it counts the same without.
    for share in &shares[..2] {
        drop(harness.call("PUT", "sys/unseal", "", migrate(share)).await.expect_status(200));
    }
    assert_eq!(status(&harness).await["migration"], json!(false));
    drop(harness.call("PUT", "sys/unseal", "", migrate(&shares[2])).await.expect_status(200));
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;

    let with_key = harness.settings.auto_seal.take();
    restarted(&mut harness).await;
    let waiting = status(&harness).await;
    assert_eq!(
        (&waiting["type"], &waiting["sealed"], &waiting["migration"]),
        (&json!("shamir"), &json!(true), &json!(true))
    );
    unseal(&harness, &shares).await;
    check_kept(&harness, &root).await;
    assert_eq!(status(&harness).await["migration"], json!(false));
    // The key opens nothing any more, also where it is configured again.
    harness.settings.auto_seal = with_key;
    restarted(&mut harness).await;
    assert!(is_sealed(&harness).await);
}

#[tokio::test]
async fn a_restored_snapshot_opens_by_itself_with_the_key_of_its_time() {
    const PATH: &str = "sys/storage/raft/snapshot";
    let (mut harness, place, shares, root) = initialized().await;
    let snapshot = harness.read(PATH, &root).await.expect_status(200).bytes;
    let restore = async |harness: &Harness| {
        let request = http::Request::builder().method("POST").uri(format!("/v1/{PATH}")).header("X-Vault-Token", &root);
        let request = request.body(Full::new(Bytes::copy_from_slice(&snapshot))).unwrap();
        drop(harness.send(request).await.expect_status(204));
    };
    // Sealed once on purpose and opened since: that is over.
    drop(harness.call("PUT", "sys/seal", &root, Value::Null).await.expect_status(204));
    unseal(&harness, &shares).await;
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "later" })).await.expect_status(204));
    restore(&harness).await;
    check_kept(&harness, &root).await;

    harness.settings.auto_seal = Some(seal("b", &place));
    place.put(&[("b", "second"), ("a", "first")]);
    restarted(&mut harness).await;
    place.put(&[("b", "second")]);
    restore(&harness).await;
    assert!(status(&harness).await["automatic_unseal"].as_str().unwrap().contains("a key of another id"));
    unseal(&harness, &shares).await;
    check_kept(&harness, &root).await;
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn sea_01_no_byte_of_a_static_key_is_stored_logged_or_answered() {
    let log = Captured::start();
    let (mut harness, place, shares, root) = initialized().await;
    let mut secrets = Canaries::new();
    for of in ["first", "second", "another"] {
        secrets.watch(of, &bytes(of));
        secrets.watch("a list of numbers", format!("{:?}", &bytes(of)[..8]).trim_matches(['[', ']']).as_bytes());
    }
    shares.iter().for_each(|share| secrets.watch("a share", share.as_bytes()));
    let mut answers = Vec::new();
    harness.settings.auto_seal = Some(seal("b", &place));
    for keys in [&[("b", "second"), ("a", "first")][..], &[("b", "another")], &[("c", "second")], &[]] {
        place.put(keys);
        restarted(&mut harness).await;
        for path in ["sys/seal-status", "sys/health", "sys/init", "sys/leader", "kv/a"] {
            answers.extend(harness.read(path, &root).await.bytes);
        }
        answers.extend(format!("{:?}", harness.node.standing().unwrap()).into_bytes());
    }
    unseal(&harness, &shares).await;
    secrets.assert_absent("an answer", &answers);
    for (at, value) in harness.store.dump() {
        secrets.assert_absent("the store", &[at.as_bytes(), &value].concat());
    }
    for (path, bytes) in harness.doors.disk.dump() {
        secrets.assert_absent(&path.to_string_lossy(), &bytes);
    }
    let logged = log.bytes();
    secrets.assert_absent("the log", &logged);
    let logged = String::from_utf8_lossy(&logged);
    for said in [
        "the node opened by itself",
        "key slots were changed",
        "the key `b` does not open its key slot",
        "key slot is of the key `b`, and `c` is configured",
        "the key `b` is not there",
        "the store's key slots stay as they are",
    ] {
        assert!(logged.contains(said), "{said}\n{logged}");
    }
}

#[tokio::test]
async fn a_seal_that_could_not_open_any_more_is_told_before_the_next_start() {
    let (harness, place, _, root) = initialized().await;
    let healthy = || async {
        let shown = harness.read("sys/seal-backend-status", &root).await.expect_status(200);
        assert_eq!(shown.at("/data/backends/0/name"), "static");
        let text = harness.read("sys/metrics?format=prometheus", &root).await.expect_status(200).bytes;
        let is_counted = String::from_utf8(text).unwrap().lines().any(|line| {
            line.starts_with("vault_seal_healthy{")
                && line.ends_with(if shown.at("/data/healthy") == true { " 1" } else { " 0" })
        });
        assert!(is_counted);
        shown.at("/data/healthy").clone()
    };
    assert_eq!(healthy().await, true);
    // The key is gone, or another one lies in its place.
    for keys in [&[][..], &[("a", "another")]] {
        place.put(keys);
        assert_eq!(healthy().await, true, "nobody has looked yet");
        harness.advance(Duration::from_secs(600)).await;
        assert_eq!(healthy().await, false);
        place.put(&[("a", "first")]);
        harness.advance(Duration::from_secs(60)).await;
        assert_eq!(healthy().await, true);
    }
    check_kept(&harness, &root).await;
}

#[tokio::test]
async fn how_often_a_seal_is_looked_at_is_configured_and_may_be_never() {
    let second = Duration::from_secs(1);
    let often = SealChecks { interval: second * 30, interval_unhealthy: second * 10, timeout: second };
    for checks in [None, Some(often)] {
        let place = Place::default();
        place.put(&[("a", "first")]);
        let mut settings = assembly::settings();
        settings.auto_seal = Some(AutoSeal { checks, ..seal("a", &place) });
        let harness = Harness::uninitialized_with(settings);
        let made = harness.call("PUT", "sys/init", "", json!({ "recovery_shares": 1, "recovery_threshold": 1 })).await;
        let root = made.expect_status(200).text_at("/root_token");
        let healthy = async || {
            let shown = harness.read("sys/seal-backend-status", &root).await.expect_status(200);
            shown.at("/data/healthy").as_bool().unwrap()
        };
        place.put(&[]);
        harness.advance(second * 29).await;
        assert!(healthy().await, "nobody has looked yet");
        harness.advance(second).await;
        assert_eq!(healthy().await, checks.is_none());
        place.put(&[("a", "first")]);
        harness.advance(second * 10).await;
        assert!(healthy().await);
    }
}

#[tokio::test]
async fn a_store_without_shares_gets_them_from_whoever_may_and_then_only_their_owners_change_them() {
    let (mut harness, place) = uninitialized();
    let body = json!({ "recovery_shares": 0, "recovery_threshold": 0 });
    let made = harness.call("PUT", "sys/init", "", body).await.expect_status(200);
    assert_eq!((made.at("/recovery_keys"), made.at("/keys")), (&json!([]), &json!([])));
    let root = made.text_at("/root_token");
    drop(harness.call("POST", "sys/mounts/kv", &root, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(harness.call("POST", "kv/a", &root, json!({ "x": "kept" })).await.expect_status(204));
    restarted(&mut harness).await;
    check_kept(&harness, &root).await;
    let now = status(&harness).await;
    assert_eq!((&now["t"], &now["n"], &now["sealed"]), (&json!(0), &json!(0), &json!(false)));
    // What opens it alone stays.
    let slots = harness.read("sys/seal-slots", &root).await.expect_status(200).at("/data/slots").clone();
    let only = slots.as_array().unwrap().iter().find(|slot| slot["type"] == "static").unwrap();
    let only = format!("sys/seal-slots/{}", only["id"].as_str().unwrap());
    harness.delete(&only, &root).await.expect_error(400, "nothing else opens the store");
    // Nobody has a share, so nothing that shares are for is to be had, by a token of any kind or without one.
    let split = json!({ "secret_shares": 3, "secret_threshold": 2 });
    for (path, body) in [
        ("sys/generate-root/attempt", json!({})),
        ("sys/rekey-recovery-key/init", split.clone()),
        ("sys/rotate/root/init", json!({})),
    ] {
        harness.write(path, &root, body).await.expect_error(400, "there are no shares");
    }
    place.put(&[]);
    restarted(&mut harness).await;
    let zeros = "00".repeat(33);
    enter(&harness, &zeros).await.expect_error(400, "there are no shares");
    assert!(is_sealed(&harness).await);
    place.put(&[("a", "first")]);
    restarted(&mut harness).await;
    let weak = json!({ "policies": ["default"] });
    let weak = harness.call("POST", "auth/token/create", &root, weak).await.text_at("/auth/client_token");
    drop(harness.write("sys/rotate/recovery/init", &weak, split.clone()).await.expect_status(403));
    drop(harness.write("sys/rotate/recovery/init", "", split.clone()).await.expect_status(403));
    // Of two who ask at once, one gets shares, and those open.
    let ask = || harness.write("sys/rotate/recovery/init", &root, split.clone());
    let (one, other) = tokio::join!(ask(), ask());
    let got: Vec<Vec<String>> = [one, other]
        .iter()
        .filter(|answer| answer.status == 200 && answer.at("/data/complete") == &json!(true))
        .map(|answer| texts(answer, "/data/keys"))
        .collect();
    assert_eq!((got.len(), got[0].len()), (1, 3), "one of the two got shares");
    drop(harness.call("DELETE", "sys/rotate/recovery/init", &root, Value::Null).await);
    place.put(&[]);
    restarted(&mut harness).await;
    unseal(&harness, &got[0]).await;
    check_kept(&harness, &root).await;
    // From then on it is their owners' business.
    place.put(&[("a", "first")]);
    restarted(&mut harness).await;
    let begun = harness.write("sys/rotate/recovery/init", &root, split).await.expect_status(200);
    assert_eq!((begun.at("/data/complete"), begun.at("/data/required")), (&json!(false), &json!(2)));
    assert!(begun.json["data"].get("keys").is_none());
}

/// The stanza that asks for `requests`, each a path and what is sent to it.
fn stanza(name: &str, requests: &[(&str, &str)]) -> String {
    let request = |(index, (path, data)): (usize, &(&str, &str))| {
        format!("request \"r{index}\" {{ operation = \"update\" path = \"{path}\" {data} }}\n")
    };
    let requests: String = requests.iter().enumerate().map(request).collect();
    format!("initialize \"{name}\" {{\n{requests}}}\n")
}

fn profile(text: &str) -> Profile {
    Profile::parse(Kind::Initialize, text).unwrap()
}

/// Requests after which somebody may look at everything.
fn first_requests() -> String {
    let all = r#"path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"list\", \"sudo\"] }"#;
    stanza(
        "first",
        &[
            ("sys/policies/acl/all", &format!("data = {{ policy = \"{all}\" }}")),
            ("sys/auth/userpass", "data = { type = \"userpass\" }"),
            ("auth/userpass/users/admin", "data = { password = \"secret\" token_policies = \"all\" }"),
        ],
    )
}

const HALF_DONE: &str = "self-initialisation began and was not done: remove the store to begin anew";

const NONSENSE: (&str, &str) = ("sys/mounts/x", "data = { type = \"nonsense\" }");

/// How many tokens there are beside that of whoever looks.
async fn others(harness: &Harness) -> usize {
    let login = harness.write("auth/userpass/login/admin", "", json!({ "password": "secret" })).await;
    let token = login.expect_status(200).text_at("/auth/client_token");
    harness.list("auth/token/accessors", &token).await.expect_status(200).at("/data/keys").as_array().unwrap().len() - 1
}

#[tokio::test]
async fn a_server_initialises_itself_once_and_no_root_token_is_left() {
    let (mut harness, _) = uninitialized();
    // What was made before is there for what comes after, and what may fail is left alone.
    let more = r#"initialize "more" {
        request "x" { operation = "update" path = "sys/mounts/x" data = { type = "nonsense" } allow_failure = true }
        request "never" { operation = "update" path = "sys/mounts/y" data = { type = "nonsense" } when = false }
        request "login" {
          operation = "update"
          path  = { eval_source = "template" eval_type = "string" template = "auth/userpass/login/{{ .requests.first.r2.path | replace \"auth/userpass/users/\" \"\" }}" }
          token = ""
          data  = { password = { eval_source = "request" eval_type = "string" initialize_name = "first" request_name = "r2" field_selector = ["data", "password"] } }
        }
        request "mine" {
          operation = "update"
          path  = "cubbyhole/mine"
          token = { eval_source = "response" eval_type = "string" initialize_name = "more" response_name = "login" field_selector = ["auth", "client_token"] }
          data  = { policies = { eval_source = "cel" eval_type = "string" expression = "responses.more.login.auth.policies.join(',')" } }
        }
        request "out" {
          operation = "update"
          path  = "auth/token/revoke-self"
          token = { eval_source = "response" eval_type = "string" initialize_name = "more" response_name = "login" field_selector = ["auth", "client_token"] }
        }
      }"#;
    let requests = profile(&format!("{}{more}", first_requests()));
    self_init::run(&harness.node, &requests, false).await.unwrap();
    assert_eq!(others(&harness).await, 0);
    let now = status(&harness).await;
    assert_eq!((&now["sealed"], &now["n"]), (&json!(false), &json!(0)));
    // Where there is a store nothing is done again, be it that it would fail.
    let more = profile(&stanza("more", &[("sys/nope", "")]));
    self_init::run(&harness.node, &more, false).await.unwrap();
    restarted(&mut harness).await;
    assert!(!is_sealed(&harness).await);
}

#[tokio::test]
async fn tok_13_a_self_initialisation_that_fails_leaves_no_root_token_and_a_store_that_nobody_opens() {
    let (mut harness, _) = uninitialized();
    let more = stanza("more", &[NONSENSE, ("sys/mounts/y", "data = { type = \"kv\" }")]);
    let requests = profile(&format!("{}{more}", first_requests()));
    let error = self_init::run(&harness.node, &requests, false).await.unwrap_err();
    assert!(error.contains("initialize `more`, request `r0`: ") && !error.contains("secret"), "{error}");
    assert_eq!(others(&harness).await, 0);
    for _ in 0..2 {
        restarted(&mut harness).await;
        assert_eq!(status(&harness).await["automatic_unseal"], HALF_DONE, "what was half done is not opened");
    }
}

#[tokio::test]
async fn tok_13_a_crash_in_self_initialisation_leaves_a_store_that_nobody_opens() {
    let (mut harness, _) = uninitialized();
    let root = harness.node.initialize_itself().await.unwrap();
    let looked = harness.read("auth/token/lookup-self", root.expose()).await.expect_status(200);
    let ttl = looked.at("/data/ttl").as_u64().unwrap();
    assert!(ttl > 0 && ttl <= 15 * 60, "it ends by itself: {ttl}");
    harness.kill();
    let captured = Captured::start();
    harness.node.open_by_itself().await;
    assert_eq!(status(&harness).await["automatic_unseal"], HALF_DONE);
    // Once, however often it is tried.
    for _ in 0..3 {
        harness.advance(Duration::from_secs(60)).await;
    }
    assert!(is_sealed(&harness).await);
    let log = String::from_utf8(captured.bytes()).unwrap();
    assert_eq!(log.matches("remove the store that `storage` names").count(), 1, "{log}");
}

#[tokio::test]
async fn who_joins_others_or_needs_people_does_not_initialise_itself() {
    let (harness, _) = uninitialized();
    self_init::run(&harness.node, &profile(&first_requests()), true).await.unwrap();
    assert_eq!(status(&harness).await["initialized"], json!(false));
    let harness = Harness::uninitialized();
    let error = self_init::run(&harness.node, &profile(&first_requests()), false).await.unwrap_err();
    assert!(error.contains("opens by itself"), "{error}");
    assert_eq!(status(&harness).await["initialized"], json!(false));
}
