//! Keys that others keep: written down by two spellings, used by a mount that was granted them and by no other, and their secrets shown
//! to nobody. How real keepers are asked is tested in `crates/server` and in the binary's tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use tresor_canary::Canaries;
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_harness::kept::{FakeKeepers, Way};
use tresor_harness::{Answer, Captured, Harness, ROOT, assembly};
use tresor_server::{Https, Keepers};
use tresor_services::{Moto, python};

const PIN: &str = "canary-pin-of-a-keeper";

async fn started(keepers: &Arc<FakeKeepers>) -> Harness {
    let mut doors = TestDoors::new(1);
    doors.doors.custody = Arc::new(Way(Arc::clone(keepers)));
    let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
    harness.initialize().await;
    for mount in ["one", "other"] {
        drop(harness.write(&format!("sys/mounts/{mount}"), ROOT, json!({ "type": "kept" })).await.expect_status(204));
    }
    harness
}

async fn used(harness: &Harness, mount: &str, doing: &str, key: &str, more: Value) -> Answer {
    let mut body = json!({ "key": key, "text": "text" });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    harness.write(&format!("{mount}/use/{doing}"), ROOT, body).await
}

async fn signs(harness: &Harness, mount: &str, key: &str) -> Answer {
    used(harness, mount, "sign", key, json!({})).await
}

#[tokio::test]
async fn seal_32_a_managed_key_is_used_by_mounts_that_are_tuned_to_it_and_by_no_other() {
    let keepers = FakeKeepers::with(&["hsm-key"]);
    let harness = started(&keepers).await;
    let key = json!({ "address": "hsm", "pin": PIN, "label": "hsm-key", "usages": "sign,verify" });
    drop(harness.write("sys/managed-keys/fake/mine", ROOT, key).await.expect_status(204));
    let refused = "may not use a key \"mine\", or there is no such key";
    signs(&harness, "one", "mine").await.expect_error(400, refused);
    signs(&harness, "one", "none").await.expect_error(400, "may not use a key \"none\", or there is no such key");
    let tune = async |mount: &str, keys: Value| {
        let body = json!({ "allowed_managed_keys": keys });
        drop(harness.write(&format!("sys/mounts/{mount}/tune"), ROOT, body).await.expect_status(204));
    };
    tune("one", json!(["mine"])).await;
    let done = signs(&harness, "one", "mine").await.expect_status(200);
    assert_eq!(done.text_at("/data/done"), "hsm-key signed text");
    let verified = used(&harness, "one", "verify", "mine", json!({ "signature": "hsm-key signed text" })).await;
    assert_eq!(verified.expect_status(200).text_at("/data/done"), "true");
    signs(&harness, "other", "mine").await.expect_error(400, refused);
    // What it was not made for is refused before its keeper is asked.
    used(&harness, "one", "encrypt", "mine", json!({})).await.expect_error(400, "the key may not be used to encrypt");
    // What is taken away ends at once.
    tune("one", json!([])).await;
    signs(&harness, "one", "mine").await.expect_error(400, refused);
    drop(harness.write("sys/managed-keys/fake/mine", ROOT, json!({ "any_mount": true })).await.expect_status(204));
    drop(signs(&harness, "other", "mine").await.expect_status(200));
    keepers.is_away(true);
    signs(&harness, "other", "mine").await.expect_error(503, "it does not answer: nobody is there");
    keepers.is_away(false);
    drop(harness.call("DELETE", "sys/managed-keys/fake/mine", ROOT, Value::Null).await.expect_status(204));
    signs(&harness, "other", "mine").await.expect_error(400, refused);
}

#[tokio::test]
async fn seal_32_managed_keys_are_listed_shown_without_secrets_tested_and_refused_when_they_make_no_sense() {
    let captured = Captured::start();
    let keepers = FakeKeepers::with(&["hsm-key"]);
    let harness = started(&keepers).await;
    let key = json!({ "address": "hsm", "pin": PIN, "label": "hsm-key", "allow_generate_key": true });
    drop(harness.write("sys/managed-keys/fake/mine", ROOT, key).await.expect_status(204));
    let list = harness.call("LIST", "sys/managed-keys/fake", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(list.at("/data/keys"), &json!(["mine"]));
    let shown = harness.read("sys/managed-keys/fake/mine", ROOT).await.expect_status(200);
    for (at, value) in [
        ("/data/name", json!("mine")),
        ("/data/type", json!("fake")),
        ("/data/label", json!("hsm-key")),
        ("/data/any_mount", json!(false)),
        ("/data/allow_generate_key", json!(true)),
        ("/data/usages", json!(["encrypt", "decrypt", "sign", "verify"])),
        ("/data/pin", Value::Null),
    ] {
        assert_eq!(shown.json.pointer(at).unwrap_or(&Value::Null), &value, "{at}");
    }
    let uuid = shown.text_at("/data/UUID");
    let tested = async |body: Value| harness.write("sys/managed-keys/fake/mine/test/sign", ROOT, body).await;
    drop(tested(json!({})).await.expect_status(204));
    drop(tested(json!({ "hash_algorithm": "sha2-512", "use_pss": true })).await.expect_status(204));
    tested(json!({ "hash_algorithm": "md5" })).await.expect_error(400, "`hash_algorithm` is");
    // A change says what changes: the PIN is still there.
    drop(harness.write("sys/managed-keys/fake/mine", ROOT, json!({ "label": "gone" })).await.expect_status(204));
    tested(json!({})).await.expect_error(502, "there is no key \"gone\"");
    assert_eq!(keepers.shown(), [PIN]);
    assert_eq!(harness.read("sys/managed-keys/fake/mine", ROOT).await.text_at("/data/UUID"), uuid);
    for (path, body, words) in [
        ("fake/x", json!({ "address": "hsm", "label": "k" }), "`pin` is required"),
        (
            "fake/x",
            json!({ "address": "hsm", "pin": PIN, "label": "k", "pni": PIN }),
            "is told nothing of the name \"pni\"",
        ),
        ("fake/x", json!({ "address": "hsm", "pin": [PIN], "label": "k" }), "`pin` is a text"),
        ("fake/X", json!({ "address": "hsm", "pin": PIN, "label": "k" }), "in lower case"),
        ("fake/a:b", json!({ "address": "hsm", "pin": PIN, "label": "k" }), "a name has letters"),
        ("fake/x", json!({ "address": "hsm", "pin": PIN, "label": "k", "usages": "dance" }), "`usages` lists"),
        ("moon/x", json!({}), "there is no keeper of keys of the type \"moon\""),
    ] {
        harness.write(&format!("sys/managed-keys/{path}"), ROOT, body).await.expect_error(400, words);
    }
    drop(harness.read("sys/managed-keys/fake/x", ROOT).await.expect_status(404));
    let mut secrets = Canaries::new();
    secrets.watch("a PIN", PIN.as_bytes());
    secrets.assert_absent("the log", &captured.bytes());
    for (at, value) in harness.store.dump() {
        secrets.assert_absent("the store", &[at.as_bytes(), &value].concat());
    }
    for (path, bytes) in harness.doors.disk.dump() {
        secrets.assert_absent(&path.display().to_string(), &bytes);
    }
}

#[tokio::test]
async fn seal_33_a_key_of_a_keeper_is_used_by_mounts_that_were_granted_it_and_by_no_other() {
    let keepers = FakeKeepers::with(&["hsm-key"]);
    let harness = started(&keepers).await;
    let config = "sys/external-keys/configs/hsm";
    let write = async |path: &str, body: Value| harness.write(path, ROOT, body).await;
    write(config, json!({ "address": "hsm", "pin": PIN })).await.expect_error(400, "missing required field \"plugin\"");
    write(config, json!({ "plugin": "fake", "address": "hsm" })).await.expect_error(400, "`pin` is required");
    drop(write(config, json!({ "plugin": "fake", "address": "hsm", "verify": false })).await.expect_status(204));
    drop(harness.call("PATCH", config, ROOT, json!({ "pin": PIN })).await.expect_status(204));
    let shown = harness.read(config, ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data"), &json!({ "plugin": "fake", "address": "hsm", "pin": "(redacted)" }));
    let key = format!("{config}/keys/k");
    write(&key, json!({ "label": "gone" })).await.expect_error(502, "there is no key \"gone\"");
    drop(write(&key, json!({ "label": "gone", "verify": false })).await.expect_status(204));
    drop(harness.call("PATCH", &key, ROOT, json!({ "label": "hsm-key" })).await.expect_status(204));
    assert_eq!(harness.read(&key, ROOT).await.expect_status(200).at("/data"), &json!({ "label": "hsm-key" }));
    let listed = async |path: &str| {
        harness.call("LIST", path, ROOT, Value::Null).await.expect_status(200).at("/data/keys").clone()
    };
    assert_eq!(listed("sys/external-keys/configs").await, json!(["hsm"]));
    assert_eq!(listed(&format!("{config}/keys")).await, json!(["k"]));
    let refused = "may not use a key \"hsm:k\", or there is no such key";
    signs(&harness, "one", "hsm:k").await.expect_error(400, refused);
    for path in ["one", "one/"] {
        drop(write(&format!("{key}/grants/{path}"), json!({})).await.expect_status(204));
    }
    assert_eq!(listed(&format!("{key}/grants")).await, json!(["one/"]));
    let done = signs(&harness, "one", "hsm:k").await.expect_status(200);
    assert_eq!(done.text_at("/data/done"), "hsm-key signed text");
    signs(&harness, "other", "hsm:k").await.expect_error(400, refused);
    signs(&harness, "one", "hsm:none").await.expect_error(400, "may not use a key \"hsm:none\"");
    signs(&harness, "one", ":managed:k").await.expect_error(400, "or there is no such key");
    // Written anew it is granted as before; what is forgotten is not, and takes its keys along.
    drop(write(&key, json!({ "label": "hsm-key" })).await.expect_status(204));
    drop(signs(&harness, "one", "hsm:k").await.expect_status(200));
    drop(harness.call("DELETE", &format!("{key}/grants/one"), ROOT, Value::Null).await.expect_status(204));
    signs(&harness, "one", "hsm:k").await.expect_error(400, refused);
    drop(harness.call("DELETE", config, ROOT, Value::Null).await.expect_status(204));
    drop(harness.read(&key, ROOT).await.expect_status(404));
    write(&key, json!({ "label": "hsm-key" })).await.expect_error(400, "config \"hsm\" does not exist");
}

#[tokio::test]
async fn seal_33_a_namespace_has_keepers_of_its_own_and_sees_and_uses_no_others() {
    let keepers = FakeKeepers::with(&["hsm-key"]);
    let harness = started(&keepers).await;
    drop(harness.write("sys/namespaces/team", ROOT, json!({})).await.expect_status(200));
    for base in ["", "team/"] {
        let config = format!("{base}sys/external-keys/configs/{}", if base.is_empty() { "above" } else { "below" });
        drop(
            harness
                .write(&config, ROOT, json!({ "plugin": "fake", "address": "hsm", "pin": PIN }))
                .await
                .expect_status(204),
        );
        drop(harness.write(&format!("{config}/keys/k"), ROOT, json!({ "label": "hsm-key" })).await.expect_status(204));
        drop(harness.write(&format!("{config}/keys/k/grants/one"), ROOT, json!({})).await.expect_status(204));
    }
    drop(harness.write("team/sys/mounts/one", ROOT, json!({ "type": "kept" })).await.expect_status(204));
    let list = harness.call("LIST", "team/sys/external-keys/configs", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(list.at("/data/keys"), &json!(["below"]));
    drop(signs(&harness, "team/one", "below:k").await.expect_status(200));
    drop(signs(&harness, "one", "above:k").await.expect_status(200));
    signs(&harness, "team/one", "above:k").await.expect_error(400, "may not use a key");
    signs(&harness, "one", "below:k").await.expect_error(400, "may not use a key");
    // Managed keys are the server's alone.
    let managed = harness.write("team/sys/managed-keys/fake/x", ROOT, json!({})).await;
    assert!((400..500).contains(&managed.status), "{}", managed.status);
}

fn interpreter() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/aws-requirements.txt");
    python::environment("aws", Path::new(env!("CARGO_TARGET_TMPDIR")), &pinned).unwrap()
}

/// What AWS's own client answers to a line of Python.
fn kms(python: &Path, moto: &Moto, line: &str) -> String {
    let address = moto.address();
    let program = format!(
        "import boto3\nkms = boto3.client('kms', region_name='eu-central-1', endpoint_url='{address}')\n{line}"
    );
    let mut command = Command::new(python);
    command
        .args(["-c", &program])
        .env("AWS_ACCESS_KEY_ID", &moto.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &moto.secret_key);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The stand-in for AWS is a server of its own, which is asked over the network as AWS is.
#[tokio::test]
async fn seal_32_keys_of_aws_sign_and_are_found_with_keys_that_may() {
    let python = interpreter();
    let moto = Moto::start(&python, "tresor").unwrap();
    let make = |spec: &str| {
        let usage = if spec == "SYMMETRIC_DEFAULT" { "ENCRYPT_DECRYPT" } else { "SIGN_VERIFY" };
        let made = format!("kms.create_key(KeyUsage='{usage}', KeySpec='{spec}')['KeyMetadata']['KeyId']");
        kms(&python, &moto, &format!("print({made})"))
    };
    let (rsa, curve, symmetric) = (make("RSA_2048"), make("ECC_NIST_P256"), make("SYMMETRIC_DEFAULT"));
    let mut doors = TestDoors::new(1);
    doors.doors.outgoing = Arc::new(Https::default());
    doors.doors.custody = Arc::new(Keepers::new(BTreeMap::new(), &doors.doors));
    let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
    harness.initialize().await;
    drop(harness.write("sys/mounts/one", ROOT, json!({ "type": "kept" })).await.expect_status(204));
    let aws = json!({
        "access_key": moto.access_key, "secret_key": moto.secret_key, "region": "eu-central-1",
        "endpoint": moto.address(),
    });
    let with = |more: Value| {
        let mut body = aws.clone();
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        body
    };
    for (name, key) in [("rsa", &rsa), ("curve", &curve)] {
        let body = with(json!({ "kms_key": key, "any_mount": true }));
        drop(harness.write(&format!("sys/managed-keys/awskms/{name}"), ROOT, body).await.expect_status(204));
        let tested = harness.write(&format!("sys/managed-keys/awskms/{name}/test/sign"), ROOT, json!({})).await;
        drop(tested.expect_status(204));
        let public = used(&harness, "one", "public", name, json!({})).await.expect_status(200);
        assert!(!public.text_at("/data/done").is_empty());
        let forged = used(&harness, "one", "verify", name, json!({ "signature": "forged" })).await;
        assert_eq!(forged.expect_status(200).text_at("/data/done"), "false");
    }
    let pss = json!({ "use_pss": true, "hash_algorithm": "sha2-512" });
    drop(harness.write("sys/managed-keys/awskms/rsa/test/sign", ROOT, pss).await.expect_status(204));
    let shown = harness.read("sys/managed-keys/awskms/rsa", ROOT).await.expect_status(200);
    assert_eq!((shown.text_at("/data/kms_key"), shown.json.pointer("/data/secret_key")), (rsa.clone(), None));
    let config = with(json!({ "plugin": "awskms" }));
    drop(harness.write("sys/external-keys/configs/aws", ROOT, config).await.expect_status(204));
    let written = async |key: &str, id: &str| {
        harness.write(&format!("sys/external-keys/configs/aws/keys/{key}"), ROOT, json!({ "kms_key": id })).await
    };
    drop(written("symmetric", &symmetric).await.expect_status(204));
    written("none", "11111111-2222-3333-4444-555555555555").await.expect_error(502, "it refuses");
    let wrong = json!({ "secret_key": "canary-of-another" });
    drop(harness.write("sys/managed-keys/awskms/rsa", ROOT, wrong).await.expect_status(204));
    harness.write("sys/managed-keys/awskms/rsa/test/sign", ROOT, json!({})).await.expect_error(502, "it refuses");
}
