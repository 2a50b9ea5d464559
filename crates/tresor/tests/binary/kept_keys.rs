//! Keys that a module keeps, for which SoftHSM is one: made, used and found again, while the token is there and when it is not.

use serde_json::json;
use tresor_canary::Canaries;
use tresor_services::SoftHsm;
use tresor_services::softhsm::{PIN, VARIABLE};

use super::canary::files;
use crate::support::{Keys, Production};

#[test]
fn seal_32_keys_of_a_module_are_made_sign_and_are_found_again_and_its_pin_is_left_nowhere() {
    let hsm = SoftHsm::start("tresor").unwrap();
    hsm.make("tresor", "rsa:2048", "there", "01").unwrap();
    let production = Production::new();
    production.configure_more(&format!(
        "log_level = \"trace\"\nkms_library \"pkcs11\" {{\n  name = \"SoftHSM\"\n  library = \"{}\"\n}}\n",
        hsm.library()
    ));
    let variable = hsm.variable().display().to_string();
    let server = production.start_with(&[(VARIABLE, variable.as_str())]);
    let keys = Keys::initialize(&server.http(), 1, 1);
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    let base = json!({ "library": "softhsm", "token_label": "tresor", "pin": PIN });
    let write = |name: &str, more: serde_json::Value, status: u16| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        http.post(&format!("sys/managed-keys/pkcs11/{name}"), &body).expect(status);
    };
    let tested = |name: &str, body: serde_json::Value, status: u16| {
        http.post(&format!("sys/managed-keys/pkcs11/{name}/test/sign"), &body).expect(status)
    };
    write("there", json!({ "key_label": "there" }), 204);
    for hash in ["sha2-256", "sha2-384", "sha2-512"] {
        for pss in [false, true] {
            tested("there", json!({ "hash_algorithm": hash, "use_pss": pss }), 204);
        }
    }
    // A key that is not there is made where that is asked for, once.
    write("curve", json!({ "key_label": "curve", "mechanism": "0x1041", "curve": "P384" }), 204);
    let missing = tested("curve", json!({}), 502);
    assert!(missing.text.contains("it has no key `curve`"), "{}", missing.text);
    write("curve", json!({ "allow_generate_key": true }), 204);
    tested("curve", json!({}), 204);
    tested("curve", json!({ "hash_algorithm": "sha2-384" }), 204);
    let listed = hsm.objects("tresor").unwrap();
    assert_eq!(listed.matches("label:      curve\n").count(), 2, "{listed}");
    write("other", json!({ "library": "none", "key_label": "k" }), 400);
    write("other", json!({ "key_label": "k", "mechanism": "0x1082" }), 400);
    // Of a keeper that is written down by itself, and in a token that vanishes.
    let config = json!({ "plugin": "pkcs11", "lib": "softhsm", "token_label": "tresor", "pin": PIN });
    http.post("sys/external-keys/configs/hsm", &config).expect(204);
    http.post("sys/external-keys/configs/hsm/keys/none", &json!({ "label": "none" })).expect(502);
    http.post("sys/external-keys/configs/hsm/keys/k", &json!({ "label": "there" })).expect(204);
    hsm.remove(true).unwrap();
    http.post("sys/external-keys/configs/hsm/keys/k", &json!({ "label": "there" })).expect(503);
    tested("there", json!({}), 503);
    hsm.remove(false).unwrap();
    tested("there", json!({}), 204);
    // A wrong PIN is tried once, whichever key it is tried for.
    write("wrong", json!({ "key_label": "there", "pin": "canary-of-a-wrong-pin" }), 204);
    let wrong = tested("wrong", json!({}), 502);
    assert!(wrong.text.contains("it does not take the PIN"), "{}", wrong.text);
    let again = tested("wrong", json!({}), 502);
    assert!(again.text.contains("the PIN was refused before"), "{}", again.text);
    tested("there", json!({}), 204);
    let mut secrets = Canaries::new();
    secrets.watch("the PIN", PIN.as_bytes());
    secrets.watch("a wrong one", b"canary-of-a-wrong-pin");
    for path in ["sys/managed-keys/pkcs11/there", "sys/external-keys/configs/hsm"] {
        assert_eq!(secrets.find(http.get(path).expect(200).text.as_bytes()), None);
    }
    assert_eq!(secrets.find(server.log().as_bytes()), None);
    drop(server);
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}
