//! A server whose key a hardware security module keeps, for which SoftHSM is one: opened at every start, while the token is away and
//! comes back, with a wrong PIN; and a module that hangs, which hangs nothing else.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tresor_canary::Canaries;
use tresor_services::SoftHsm;
use tresor_services::softhsm::{PIN, VARIABLE};

use super::canary::files;
use crate::support::{Cli, Keys, Production, Server, until};

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

fn write_pin(production: &Production, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = production.home().join("pin");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A stanza with the key of this label, and more.
fn stanza(hsm: &SoftHsm, production: &Production, label: &str, more: &str) -> String {
    format!(
        "seal \"pkcs11\" {{\n  lib = \"{}\"\n  token_label = \"tresor\"\n  pin = \"file://{}\"\n  key_label = \"{label}\"\n{more}}}\n",
        hsm.library(),
        production.home().join("pin").display()
    )
}

#[test]
fn a_server_whose_key_a_module_keeps_opens_by_itself_when_the_token_is_there() {
    let hsm = SoftHsm::start("tresor").unwrap();
    hsm.make("tresor", "AES:32", "unseal", "01").unwrap();
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let configure = |label: &str, more: &str| {
        production.configure(&format!("{configured}log_level = \"trace\"\n{}", stanza(&hsm, &production, label, more)));
    };
    configure("unseal", "");
    write_pin(&production, PIN);
    let variable = hsm.variable().display().to_string();
    let variables = [(VARIABLE, variable.as_str())];
    let mut server = production.start_with(&variables);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let made = server.http().post("sys/init", &body).expect(200);
    let (share, root) = (made.text_at("/recovery_keys/0"), made.text_at("/root_token"));
    let status = server.http().get("sys/seal-status").expect(200);
    assert_eq!((status.at("/type"), status.at("/sealed")), (json!("pkcs11"), json!(false)), "{}", server.log());
    assert!(server.output().contains("Seal: pkcs11 (key: \"tresor/unseal\")"), "{}", server.output());
    server.http().with_token(&root).post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    server.http().with_token(&root).post("kv/a", &json!({ "x": "kept" })).expect(204);
    let mut logs = Vec::new();
    let is_kept = |server: &Server| {
        let kept = server.http().with_token(&root).get("kv/a").expect(200).at("/data/x");
        assert_eq!(kept, json!("kept"), "{}", server.log());
    };
    // Another key, by RSA: the store opens by the one before, and gets a slot of the new one.
    hsm.make("tresor", "rsa:2048", "newer", "02").unwrap();
    configure("newer", "  rsa_oaep_hash = \"sha1\"\n");
    for _ in 0..2 {
        logs.push(server.log());
        server.kill();
        server = production.start_with(&variables);
        is_kept(&server);
    }
    let slots = server.http().with_token(&root).get("sys/seal-slots").expect(200);
    assert_eq!(slots.at("/data/slots/1/key_id"), json!("tresor/newer"), "{}", slots.text);
    // The token is taken out while the server is down, and put in again while it runs.
    server.kill();
    hsm.remove(true).unwrap();
    server = production.start_with(&variables);
    assert!(is_sealed(&server));
    server.has_logged("the key `tresor/newer` of the seal `pkcs11`: it does not answer");
    hsm.remove(false).unwrap();
    until("the server to open by itself", || (!is_sealed(&server)).then_some(()));
    is_kept(&server);
    logs.push(server.log());
    // A wrong PIN is tried once, though the server tries again; shares open it, and so does the right PIN.
    server.kill();
    write_pin(&production, "canary-of-a-wrong-pin");
    server = production.start_with(&variables);
    server.has_logged("it refuses: it does not take the PIN (PinIncorrect)");
    server.has_logged("the PIN was refused before, and is not tried again");
    assert_eq!(server.log().matches("it does not take the PIN").count(), 1, "{}", server.log());
    write_pin(&production, PIN);
    until("the server to open by itself", || (!is_sealed(&server)).then_some(()));
    logs.push(server.log());
    server.kill();
    write_pin(&production, "canary-of-a-wrong-pin");
    server = production.start_with(&variables);
    assert_eq!(server.http().post("sys/unseal", &json!({ "key": share })).expect(200).at("/sealed"), json!(false));
    is_kept(&server);
    logs.push(server.log());
    drop(server);
    let mut secrets = Canaries::new();
    secrets.watch("the PIN", PIN.as_bytes());
    secrets.watch("a wrong one", b"canary-of-a-wrong-pin");
    for text in logs {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

#[test]
fn a_store_goes_from_shares_to_a_module_and_back_and_the_module_is_found_by_variables() {
    let hsm = SoftHsm::start("tresor").unwrap();
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let (server, keys) = production.start_ready();
    drop(server);
    production.configure(&format!("{configured}seal \"pkcs11\" {{}}\n"));
    let variable = hsm.variable().display().to_string();
    let variables = [
        (VARIABLE, variable.as_str()),
        ("BAO_HSM_LIB", hsm.library()),
        ("VAULT_HSM_TOKEN_LABEL", "tresor"),
        ("VAULT_HSM_PIN", PIN),
        ("VAULT_HSM_KEY_LABEL", "made"),
        ("VAULT_HSM_MECHANISM", "0x1085"),
        ("VAULT_HSM_HMAC_KEY_LABEL", "made-hmac"),
        ("VAULT_HSM_GENERATE_KEY", "true"),
    ];
    let server = production.start_with(&variables);
    assert!(is_sealed(&server));
    assert_eq!(server.http().get("sys/seal-status").expect(200).at("/migration"), json!(true));
    keys.unseal(&server.http());
    let server = restarted(server, || production.start_with(&variables));
    assert!(!is_sealed(&server), "{}", server.log());
    let listed = hsm.objects("tresor").unwrap();
    assert!(listed.contains("label:      made\n") && listed.contains("label:      made-hmac\n"), "{listed}");
    production.configure(&configured);
    let server = restarted(server, || production.start());
    assert!(is_sealed(&server));
    keys.unseal(&server.http());
    let slots = server.http().with_token(&keys.root).get("sys/seal-slots").expect(200);
    assert_eq!(slots.at("/data/slots").as_array().unwrap().len(), 1);
}

fn restarted(mut server: Server, start: impl FnOnce() -> Server) -> Server {
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    start()
}

#[test]
fn seal_31_keys_have_random_bytes_of_the_module_in_them_and_nothing_that_demands_them_is_done_without() {
    let hsm = SoftHsm::start("tresor").unwrap();
    hsm.make("tresor", "AES:32", "unseal", "01").unwrap();
    let production = Production::new();
    let entropy = "entropy \"seal\" {\n  mode = \"augmentation\"\n}\n";
    production.configure_more(&format!("{}{entropy}", stanza(&hsm, &production, "unseal", "")));
    write_pin(&production, PIN);
    let variable = hsm.variable().display().to_string();
    let server = production.start_with(&[(VARIABLE, variable.as_str())]);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let root = server.http().post("sys/init", &body).expect(200).text_at("/root_token");
    let http = server.http().with_token(&root);
    let strong = json!({ "type": "kv", "external_entropy_access": true });
    http.post("sys/mounts/strong", &strong).expect(204);
    http.post("sys/mounts/plain", &json!({ "type": "kv" })).expect(204);
    let tried = |status: u16| {
        http.post("strong/a", &json!({ "x": 1 })).expect(status);
        http.post("sys/rotate", &json!({})).expect(status);
    };
    tried(204);
    let random = http.post("sys/tools/random/seal/4000", &json!({ "format": "hex" })).expect(200);
    assert_eq!(random.text_at("/data/random_bytes").len(), 8_000);
    hsm.remove(true).unwrap();
    tried(503);
    http.post("sys/tools/random/seal/16", &json!({})).expect(503);
    server.has_logged("the seal `pkcs11` gives no random bytes, which were asked for");
    http.get("strong/a").expect(200);
    http.post("plain/a", &json!({ "x": 1 })).expect(204);
    hsm.remove(false).unwrap();
    tried(204);
}

/// A module that never comes back from the first thing it is asked.
const HANGS: &str = "#include <unistd.h>\nlong C_GetFunctionList(void **list) { for (;;) pause(); }\n";

#[test]
fn dos_04_a_module_that_hangs_hangs_neither_the_server_nor_its_end() {
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let keys = {
        let server = production.start();
        let keys = Keys::initialize(&server.http(), 2, 2);
        drop(server);
        keys
    };
    let (source, library) = (production.home().join("hangs.c"), production.home().join("hangs.so"));
    std::fs::write(&source, HANGS).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(compiled.success());
    production.configure(&format!(
        "{configured}seal \"pkcs11\" {{\n  lib = \"{}\"\n  slot = \"0\"\n  pin = \"1234\"\n  key_label = \"k\"\n}}\n",
        library.display()
    ));
    let mut server = production.start();
    assert!(is_sealed(&server));
    // Whoever looks or enters shares has an answer while the module has given none.
    keys.unseal(&server.http());
    server.has_logged("it does not answer: it took too long");
    let mut cli = Cli::new(production.home(), server.address, "");
    cli.set("VAULT_TOKEN", &keys.root);
    cli.succeed(&["token", "lookup"]);
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
}
