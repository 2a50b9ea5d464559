//! The life of keys while a node serves: new terms of the key ring, other shares, other root tokens by shares.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::json;
use tresor_core::Quorum;
use tresor_harness::cluster::World;
use tresor_harness::{Answer, Harness, ROOT};

#[tokio::test]
async fn a_new_term_seals_and_what_older_ones_sealed_is_still_read() {
    let mut harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/old", json!({ "k": "v" })).await;
    let status = harness.read("sys/key-status", ROOT).await.expect_status(200);
    assert_eq!((&status.json["term"], status.at("/data/term")), (&json!(1), &json!(1)));
    assert!(status.json["encryptions"].as_u64().unwrap() > 0);
    drop(harness.write("sys/rotate", ROOT, json!({})).await.expect_status(204));
    drop(harness.write("sys/rotate/keyring", ROOT, json!({})).await.expect_status(204));
    let status = harness.read("sys/key-status", ROOT).await.expect_status(200);
    assert_eq!(status.json["term"], json!(3));
    harness.prepare("POST", "kv/new", json!({ "k": "v" })).await;
    harness.restart().await;
    harness.unseal().await;
    for path in ["kv/old", "kv/new"] {
        assert_eq!(harness.read(path, ROOT).await.expect_status(200).at("/data/k"), &json!("v"));
    }
    assert_eq!(harness.read("sys/key-status", ROOT).await.json["term"], json!(3));
}

#[tokio::test]
async fn when_a_new_term_is_made_by_itself_is_configured_within_bounds() {
    let harness = Harness::start().await;
    let config = harness.read("sys/rotate/config", ROOT).await.expect_status(200);
    let usual = json!({ "enabled": true, "max_operations": 3_865_470_566_u64, "interval": 0 });
    assert_eq!(config.json["data"], usual);
    for (field, value, text) in [
        ("interval", json!("1h"), "interval must be greater or equal to 24h0m0s"),
        ("max_operations", json!(999_999), "max_operations must be in the range [1000000,3865470566]"),
        ("max_operations", json!(3_865_470_567_u64), "max_operations must be in the range"),
        ("max_operations", json!(-1), "max_operations must be in the range"),
    ] {
        harness.write("sys/rotate/config", ROOT, json!({ field: value })).await.expect_error(400, text);
    }
    let changed = json!({ "interval": "24h", "max_operations": 1_000_000 });
    drop(harness.write("sys/rotate/keyring/config", ROOT, changed).await.expect_status(204));
    let config = harness.read("sys/rotate/keyring/config", ROOT).await.expect_status(200);
    assert_eq!(config.json["data"], json!({ "enabled": true, "max_operations": 1_000_000, "interval": "24h0m0s" }));
}

#[tokio::test]
async fn a_term_that_is_old_enough_ends_by_itself_and_the_audit_log_says_so() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let term = async || harness.read("sys/key-status", ROOT).await.json["term"].clone();
    harness.advance(Duration::from_secs(90 * 3600)).await;
    assert_eq!(term().await, json!(1), "time does not matter");
    harness.prepare("POST", "sys/rotate/config", json!({ "interval": "25h" })).await;
    harness.advance(Duration::from_secs(61)).await;
    assert_eq!(term().await, json!(2));
    harness.advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(term().await, json!(2));
    harness.prepare("POST", "sys/rotate/config", json!({ "enabled": false })).await;
    harness.advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(term().await, json!(2));
    let records = harness.audit_records().await;
    let due = records.iter().filter(|record| record["request"]["path"] == json!("sys/rotate/due"));
    assert_eq!(due.count(), 1);
}

#[test]
fn a_new_term_is_on_every_node_before_anything_that_it_sealed() {
    tresor_harness::cluster::block_on(async {
        let mut world = World::new(3, 77).await;
        world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
        // One node is away: it gets the ring with the log.
        world.kill(2).await;
        world.prepare(1, "POST", "sys/rotate", json!({})).await;
        world.prepare(1, "POST", "kv/a", json!({ "k": "new" })).await;
        let read = world.call(1, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("new"));
        world.start(2).await;
        world.unseal(2).await;
        let read = world.call(2, "GET", "kv/a", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("new"), "{read:?}");
        // Whoever leads next goes on with the term, and makes the next one.
        world.kill(0).await;
        let (leader, _) = world.another_active(0).await;
        let other = 3 - leader;
        let status = world.call(other, "GET", "sys/key-status", ROOT, json!(null)).await;
        assert_eq!(status.json["term"], json!(2), "{status:?}");
        world.prepare(other, "POST", "sys/rotate", json!({})).await;
        world.prepare(leader, "POST", "kv/b", json!({ "k": "newer" })).await;
        let read = world.call(other, "GET", "kv/b", ROOT, json!(null)).await;
        assert_eq!(read.at("/data/k"), &json!("newer"));
    });
}

/// Shares in hexadecimal, as people enter them.
fn spelled(shares: &[Vec<u8>]) -> Vec<String> {
    shares.iter().map(hex::encode).collect()
}

/// Enters shares for an attempt until it says something else than that more are needed.
async fn enter(harness: &Harness, path: &str, nonce: &str, shares: &[String]) -> Answer {
    for share in shares {
        let answer = harness.write(path, ROOT, json!({ "key": share, "nonce": nonce })).await;
        if answer.status != 200 || answer.at("/data/complete") == &json!(true) {
            return answer;
        }
    }
    panic!("more shares are needed at {path}")
}

fn keys_of(answer: &Answer) -> Vec<String> {
    answer.at("/data/keys").as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// Seals the node and opens it with these shares; whether they open.
async fn opens(harness: &Harness, shares: &[String]) -> bool {
    harness.node.seal().await.unwrap();
    for share in shares {
        let answer = harness.write("sys/unseal", "", json!({ "key": share })).await;
        if answer.status == 200 && answer.json["sealed"] == json!(false) {
            return true;
        }
    }
    drop(harness.write("sys/unseal", "", json!({ "reset": true })).await);
    false
}

#[tokio::test]
async fn sea_04_shares_are_changed_by_those_who_hold_them_and_the_new_ones_open() {
    let harness = Harness::start().await;
    let old = spelled(&harness.shares);
    for (family, wraps) in [("sys/rotate/root", false), ("sys/rekey", true)] {
        let started = harness.read(&format!("{family}/init"), ROOT).await.expect_status(200);
        assert_eq!(started.at("/data/started"), &json!(false));
        assert_eq!(started.json.get("started").is_some(), wraps, "older clients read it at top level");
    }
    let wish = json!({ "secret_shares": 5, "secret_threshold": 3 });
    let begun = harness.write("sys/rotate/root/init", ROOT, wish.clone()).await.expect_status(200);
    let nonce = begun.text_at("/data/nonce");
    assert_eq!(
        (begun.at("/data/t"), begun.at("/data/n"), begun.at("/data/progress")),
        (&json!(3), &json!(5), &json!(0))
    );
    assert_eq!(begun.at("/data/pgp_fingerprints"), &json!(null));
    harness.write("sys/rekey/init", ROOT, wish).await.expect_error(400, "rotation already in progress");
    // Both spellings are one attempt.
    let first = json!({ "key": old[0], "nonce": nonce });
    let entered = harness.write("sys/rekey/update", ROOT, first.clone()).await.expect_status(200);
    assert_eq!((&entered.json["progress"], &entered.json["complete"]), (&json!(1), &json!(false)));
    harness.write("sys/rotate/root/update", ROOT, first).await.expect_error(400, "given key has already been provided");
    let made = enter(&harness, "sys/rotate/root/update", &nonce, &old[1..]).await.expect_status(200);
    let new = keys_of(&made);
    assert_eq!(new.len(), 5);
    let status = harness.read("sys/seal-status", "").await;
    assert_eq!((&status.json["t"], &status.json["n"]), (&json!(3), &json!(5)));
    assert!(!opens(&harness, &old).await, "the old shares open nothing");
    assert!(opens(&harness, &new[2..]).await);
    // The root key can be changed without shares, and every share stays what it is.
    drop(harness.write("sys/rotate/root", ROOT, json!({})).await.expect_status(204));
    assert!(opens(&harness, &new[..3]).await);
    harness.write("sys/rotate/recovery/init", ROOT, json!({})).await.expect_error(400, "recovery keys not supported");
    drop(harness.read("sys/rotate/other/init", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn new_shares_that_are_to_be_verified_open_only_once_they_came_back() {
    let harness = Harness::start().await;
    let old = spelled(&harness.shares);
    let wish = json!({ "secret_shares": 3, "secret_threshold": 2, "require_verification": true });
    let begun = harness.write("sys/rekey/init", ROOT, wish.clone()).await.expect_status(200);
    assert_eq!(begun.json["verification_required"], json!(true));
    let made = enter(&harness, "sys/rekey/update", &begun.text_at("/nonce"), &old).await.expect_status(200);
    let (new, nonce) = (keys_of(&made), made.text_at("/verification_nonce"));
    let again =
        harness.write("sys/rekey/update", ROOT, json!({ "key": old[0], "nonce": begun.text_at("/nonce") })).await;
    again.expect_error(400, "verification must be performed");
    // What does not belong together begins it anew, under another name.
    let forged = vec![new[0].clone(), old[1].clone()];
    enter(&harness, "sys/rekey/verify", &nonce, &forged).await.expect_error(400, "verification failed");
    let standing = harness.read("sys/rekey/verify", ROOT).await.expect_status(200);
    assert_ne!(standing.json["nonce"], json!(nonce));
    let restarted = harness.delete("sys/rekey/verify", ROOT).await.expect_status(200);
    let nonce = restarted.text_at("/nonce");
    assert_eq!((&restarted.json["progress"], &restarted.json["started"]), (&json!(0), &json!(true)));
    let done = enter(&harness, "sys/rekey/verify", &nonce, &new[1..]).await.expect_status(200);
    assert_eq!((&done.json["complete"], &done.json["nonce"]), (&json!(true), &json!(nonce)));
    assert!(opens(&harness, &new[..2]).await && !opens(&harness, &old).await);
    assert!(opens(&harness, &new[1..]).await);
    // An attempt that is never verified changes nothing.
    let begun = harness.write("sys/rekey/init", ROOT, wish).await.expect_status(200);
    drop(enter(&harness, "sys/rekey/update", &begun.text_at("/nonce"), &new).await.expect_status(200));
    drop(harness.delete("sys/rekey/init", ROOT).await.expect_status(204));
    assert!(opens(&harness, &new[..2]).await);
}

#[tokio::test]
async fn dos_07_sea_05_a_share_counts_for_the_attempt_that_it_names_while_that_lives() {
    let harness = Harness::start().await;
    let old = spelled(&harness.shares);
    let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let begin = async || harness.write("sys/rotate/root/init", ROOT, wish.clone()).await.text_at("/data/nonce");
    let update = async |share: &str, nonce: &str| {
        harness.write("sys/rotate/root/update", ROOT, json!({ "key": share, "nonce": nonce })).await
    };
    let progress = async || harness.read("sys/rotate/root/init", ROOT).await.at("/data/progress").clone();
    let first = begin().await;
    drop(update(&old[0], &first).await.expect_status(200));
    drop(harness.delete("sys/rotate/root/init", ROOT).await.expect_status(204));
    update(&old[1], &first).await.expect_error(400, "no rotation in progress");
    let second = begin().await;
    assert_eq!(progress().await, json!(0), "cancelling forgot the first share");
    update(&old[0], &first).await.expect_error(400, "incorrect nonce supplied");
    assert_eq!(progress().await, json!(0));
    // Sealing forgets it.
    drop(update(&old[0], &second).await.expect_status(200));
    assert!(opens(&harness, &old).await);
    update(&old[1], &second).await.expect_error(400, "no rotation in progress");
    // So does a day.
    let third = begin().await;
    drop(update(&old[0], &third).await.expect_status(200));
    harness.advance(Duration::from_secs(24 * 3600)).await;
    update(&old[1], &third).await.expect_error(400, "no rotation in progress");
    // Shares that are none begin anew, and the attempt stays.
    let fourth = begin().await;
    let wrong = vec![hex::encode([7; 33]), hex::encode([9; 33]), hex::encode([11; 33])];
    enter(&harness, "sys/rotate/root/update", &fourth, &wrong).await.expect_error(400, "root key verification failed");
    assert_eq!(progress().await, json!(0));
    update("!", &fourth).await.expect_error(400, "'key' must be a valid hex or base64 string");
    let made = enter(&harness, "sys/rotate/root/update", &fourth, &old).await.expect_status(200);
    assert_eq!(keys_of(&made).len(), 1);
}

#[tokio::test]
async fn a_root_token_is_made_by_shares_and_only_whoever_asked_reads_it() {
    let harness = Harness::start().await;
    harness.enable_audit().await;
    let shares = spelled(&harness.shares);
    let given = "0123456789abcdefghijklmnopqr";
    for (attempt, update, otp) in [
        ("sys/generate-root/attempt", "sys/generate-root/update", None),
        ("sys/generate-root-token/attempt", "sys/generate-root-token/update", Some(given)),
    ] {
        let begun = harness.write(attempt, ROOT, json!({ "otp": otp })).await.expect_status(200);
        let made_up = begun.text_at("/data/otp");
        assert_eq!(begun.at("/data/otp_length"), &json!(28));
        assert_eq!(made_up.len(), if otp.is_some() { 0 } else { 28 }, "only what was made up is told");
        assert_eq!(harness.read(attempt, ROOT).await.at("/data/otp"), &json!(""));
        harness.write(attempt, ROOT, json!({})).await.expect_error(400, "root generation already in progress");
        let made = enter(&harness, update, &begun.text_at("/data/nonce"), &shares).await.expect_status(200);
        assert_eq!(made.at("/data/encoded_token"), made.at("/data/encoded_root_token"));
        let otp = otp.map_or(made_up, str::to_owned);
        let decode = json!({ "encoded_token": made.text_at("/data/encoded_token"), "otp": otp });
        let token = harness.write("sys/decode-token", "", decode).await.expect_status(200).text_at("/data/token");
        assert!(token.starts_with("hvs."), "{token}");
        let found = harness.read("auth/token/lookup-self", &token).await.expect_status(200);
        assert_eq!(found.at("/data/policies"), &json!(["root"]));
        assert!(!harness.audit_text().await.contains(&token));
        assert_eq!(harness.read(attempt, ROOT).await.at("/data/started"), &json!(false));
    }
    let short = json!({ "otp": "short" });
    harness.write("sys/generate-root/attempt", ROOT, short).await.expect_error(400, "OTP string has incorrect length");
    let key = json!({ "pgp_key": "bm8ga2V5" });
    harness.write("sys/generate-root/attempt", ROOT, key).await.expect_error(400, "error parsing PGP key");
    let nothing = json!({ "key": shares[0], "nonce": "x" });
    harness.write("sys/generate-root/update", ROOT, nothing).await.expect_error(400, "no root generation in progress");
}

/// What anybody could do with shares that were never theirs.
const OF_SHAREHOLDERS: [(&str, &str); 10] = [
    ("GET", "sys/rekey/init"),
    ("PUT", "sys/rekey/init"),
    ("DELETE", "sys/rekey/init"),
    ("PUT", "sys/rekey/update"),
    ("PUT", "sys/rekey/verify"),
    ("DELETE", "sys/rekey/verify"),
    ("PUT", "sys/rekey-recovery-key/init"),
    ("GET", "sys/generate-root/attempt"),
    ("PUT", "sys/generate-root/attempt"),
    ("DELETE", "sys/generate-root/attempt"),
];

#[tokio::test]
async fn dos_05_dos_06_nobody_without_a_token_touches_an_attempt() {
    let harness = Harness::start().await;
    let all = harness.token_with(r#"path "sys/*" { capabilities = ["create", "read", "update", "delete"] }"#).await;
    for token in ["", "wrong", &all] {
        for (method, path) in OF_SHAREHOLDERS {
            harness.call(method, path, token, json!({})).await.expect_error(403, "permission denied");
        }
    }
}

#[tokio::test]
async fn dos_05_where_the_operator_opened_it_strangers_end_only_what_they_name() {
    let mut settings = tresor_harness::assembly::settings();
    settings.open_to_shareholders = vec![Quorum::Rekey];
    let harness = Harness::start_with(settings).await;
    harness.enable_audit().await;
    let shares = spelled(&harness.shares);
    let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let begun = harness.write("sys/rekey/init", "", wish).await.expect_status(200);
    let nonce = begun.text_at("/nonce");
    for path in ["sys/rekey/init", "sys/rekey/init?nonce=another"] {
        harness.delete(path, "").await.expect_error(400, "incorrect nonce supplied");
    }
    drop(harness.write("sys/rekey/update", "", json!({ "key": shares[0], "nonce": nonce })).await.expect_status(200));
    drop(harness.delete(&format!("sys/rekey/init?nonce={nonce}"), "").await.expect_status(204));
    let records = harness.audit_records().await;
    let of_it = records.iter().filter(|record| record["request"]["path"] == json!("sys/rekey/init"));
    assert_eq!(of_it.count(), 8, "AUD-09: every request and every answer");
    // The other one stays shut.
    harness.call("PUT", "sys/generate-root/attempt", "", json!({})).await.expect_error(403, "permission denied");
}

#[tokio::test]
async fn key_slots_are_shown_added_tested_and_removed() {
    let harness = Harness::start().await;
    let slots = async || harness.read("sys/seal-slots", ROOT).await.expect_status(200).at("/data/slots").clone();
    let first = slots().await;
    assert_eq!((&first[0]["type"], &first[0]["key_id"], &first[1]), (&json!("shamir"), &json!(null), &json!(null)));
    let key = json!({ "key_id": "2026-1", "key": hex::encode([5; 32]) });
    let test = async || harness.write("sys/seal-slots/test", ROOT, key.clone()).await.expect_status(200);
    assert_eq!(test().await.at("/data/opens"), &json!(false));
    let added = harness.write("sys/seal-slots", ROOT, key.clone()).await.expect_status(200);
    let id = added.text_at("/data/slots/0");
    assert_eq!(test().await.at("/data/slots"), &json!([id]));
    let other = json!({ "key_id": "2026-1", "key": hex::encode([6; 32]) });
    harness.write("sys/seal-slots", ROOT, other).await.expect_error(400, "another key has this id");
    let short = json!({ "key_id": "2026-2", "key": "AAAA" });
    harness.write("sys/seal-slots", ROOT, short).await.expect_error(400, "'key' must be 32 bytes");
    // Another root key leaves it a slot.
    drop(harness.write("sys/rotate/root", ROOT, json!({})).await.expect_status(204));
    assert_eq!(test().await.at("/data/opens"), &json!(true));
    let shamir = format!("sys/seal-slots/{}", first[0]["id"].as_str().unwrap());
    harness.delete(&shamir, ROOT).await.expect_error(400, "the key slot of shares cannot be removed");
    drop(harness.delete(&format!("sys/seal-slots/{id}"), ROOT).await.expect_status(204));
    harness.delete(&format!("sys/seal-slots/{id}"), ROOT).await.expect_error(400, "there is no such key slot");
    assert_eq!((test().await.at("/data/opens"), slots().await), (&json!(false), first));
}

#[test]
fn sea_05_another_leader_knows_nothing_of_an_attempt_and_every_node_follows_a_rekey() {
    tresor_harness::cluster::block_on(async {
        let mut world = World::new(3, 78).await;
        let shares = spelled(&world.shares);
        let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let begun = world.prepare(1, "POST", "sys/rotate/root/init", wish.clone()).await;
        let nonce = begun.text_at("/data/nonce");
        world.prepare(2, "POST", "sys/rotate/root/update", json!({ "key": shares[0], "nonce": nonce })).await;
        world.kill(0).await;
        let (leader, _) = world.another_active(0).await;
        let second = json!({ "key": shares[1], "nonce": nonce });
        let lost = world.call(leader, "POST", "sys/rotate/root/update", ROOT, second).await;
        lost.expect_error(400, "no rotation in progress; one ends when");
        // Begun again and finished through whoever stands by: the others go on with the keys that came of it.
        let other = 3 - leader;
        let nonce = world.prepare(other, "POST", "sys/rotate/root/init", wish).await.text_at("/data/nonce");
        for share in &shares {
            let entered = json!({ "key": share, "nonce": nonce });
            let answer = world.prepare(other, "POST", "sys/rotate/root/update", entered).await;
            if answer.at("/data/complete") == &json!(true) {
                break;
            }
        }
        let status = world.call(other, "GET", "sys/seal-status", "", json!(null)).await;
        assert_eq!((&status.json["n"], &status.json["sealed"]), (&json!(1), &json!(false)));
        world.prepare(other, "POST", "sys/rotate", json!({})).await;
        world.prepare(leader, "POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
        world.prepare(other, "POST", "kv/a", json!({ "k": "v" })).await;
        assert_eq!(world.call(other, "GET", "kv/a", ROOT, json!(null)).await.at("/data/k"), &json!("v"));
    });
}
