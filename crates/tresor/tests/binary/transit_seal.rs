//! A server whose key the transit engine of another server keeps, which a fake stands for: initialised by the command line, opened
//! at every start, while the other server is away and comes back; and that neither token nor key is left anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_services::FakeTransit;

use super::canary::files;
use crate::support::{Cli, Production, Server, until};

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

/// The tokens that the fake takes: one in the configuration's place, one in a variable.
const TOKEN: &str = "hvs.canary-of-the-token-of-transit";

#[test]
fn a_server_whose_key_another_server_keeps_opens_by_itself_when_that_one_answers() {
    let fake = FakeTransit::start(TOKEN).unwrap();
    let address = fake.address();
    let production = Production::new();
    production.configure_more(&format!(
        "log_level = \"trace\"\nseal \"transit\" {{\n  address = \"{address}\"\n  token = \"{TOKEN}\"\n  key_name = \"unseal\"\n  \
         mount_path = \"transit/\"\n}}"
    ));
    let mut server = production.start();
    let mut cli = Cli::new(production.home(), server.address, "");
    let refused = cli.run(&["operator", "init", "-key-shares=3", "-key-threshold=2"]);
    assert!(refused.errors.contains("not applicable to seal type transit"), "{refused:?}");
    let made = cli.succeed(&["operator", "init", "-recovery-shares=3", "-recovery-threshold=2", "-format=json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let shares: Vec<&str> =
        made["recovery_keys_b64"].as_array().unwrap().iter().map(|share| share.as_str().unwrap()).collect();
    let root = made["root_token"].as_str().unwrap();
    cli.set("VAULT_TOKEN", root);
    let status = cli.succeed(&["status"]);
    let row = |name: &str| status.lines().find(|line| line.starts_with(name)).map(|line| line[name.len()..].trim());
    assert_eq!((row("Seal Type"), row("Recovery Seal Type")), (Some("transit"), Some("shamir")), "{status}");
    assert!(server.output().contains("Seal: transit (key: \"transit/unseal\")"), "{}", server.output());
    let http = server.http().with_token(root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": "kept" })).expect(204);
    let shown = http.get("sys/config/state/sanitized").expect(200).text;
    assert!(shown.contains("\"type\":\"transit\"") && !shown.contains(TOKEN), "{shown}");
    until("a renewal of the token", || (fake.renewals() > 0).then_some(()));

    server.kill();
    server = production.start();
    assert!(!is_sealed(&server), "{}", server.log());
    // The other server is sealed itself: this one waits for it.
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    fake.seal(true);
    server = production.start();
    assert!(is_sealed(&server));
    let health = server.http().get("sys/health").expect(503);
    assert!(health.text_at("/automatic_unseal").contains("does not answer"), "{}", health.text);
    server
        .has_logged("the key `transit/unseal` of the seal `transit`: it does not answer: status 503, Vault is sealed");
    fake.seal(false);
    until("the server to open by itself", || (!is_sealed(&server)).then_some(()));
    // Another version of the key: the slot is made anew.
    fake.rotate();
    server.kill();
    server = production.start();
    server.has_logged("the store's key slots were changed to what is configured");
    let http = server.http().with_token(root);
    assert_eq!(http.get("kv/a").expect(200).at("/data/x"), json!("kept"));
    let backends = http.get("sys/seal-backend-status").expect(200);
    assert_eq!((backends.at("/data/backends/0/name"), backends.at("/data/healthy")), (json!("transit"), json!(true)));
    // Shares open as well.
    http.send("PUT", "sys/seal", "").expect(204);
    let cli = Cli::new(production.home(), server.address, "");
    for share in &shares[..2] {
        cli.run(&["operator", "unseal", share]);
    }
    assert!(!is_sealed(&server));

    let mut secrets = Canaries::new();
    secrets.watch("the token", TOKEN.as_bytes());
    for plaintext in fake.plaintexts() {
        secrets.watch("a key", &STANDARD.decode(&plaintext).unwrap());
        secrets.watch("a key in base64", plaintext.as_bytes());
    }
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
    for text in [server.log(), server.output(), status] {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
}

#[test]
fn a_server_finds_the_other_one_by_variables_and_is_denied_without_its_token() {
    let fake = FakeTransit::start(TOKEN).unwrap();
    let address = fake.address();
    let production = Production::new();
    production.configure_more("seal \"transit\" {\n  key_name = \"nothing\"\n}");
    let place = format!("file://{}", production.home().join("token").display());
    let variables = [
        ("VAULT_TRANSIT_SEAL_MOUNT_PATH", "transit"),
        ("BAO_TRANSIT_SEAL_KEY_NAME", "unseal"),
        ("VAULT_ADDR", address.as_str()),
        ("BAO_TRANSIT_SEAL_TOKEN", place.as_str()),
    ];
    let server = production.start_with(&variables);
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    server.http().post("sys/init", &body).expect(503);
    server.has_logged("the key `transit/unseal` of the seal `transit`: file://");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let file = production.home().join("token");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&canary("wrong", 0));
    server.http().post("sys/init", &body).expect(503);
    server.has_logged("it refuses: status 403, permission denied");
    assert!(!server.log().contains(&canary("wrong", 0)));
    write(TOKEN);
    server.http().post("sys/init", &body).expect(200);
    assert!(!is_sealed(&server), "{}", server.log());
}

#[test]
fn a_seal_beside_the_server_is_asked_by_no_proxy_and_one_without_a_token_is_warned_of() {
    let fake = FakeTransit::start(TOKEN).unwrap();
    let production = Production::new();
    let inside = format!("  address = \"{}\"\n  mount_path = \"transit\"\n  key_name = \"unseal\"\n", fake.address());
    production.configure_more(&format!("seal \"transit\" {{\n{inside}}}"));
    // Nobody listens there.
    let proxy = format!("http://127.0.0.1:{}", tresor_services::free_port().unwrap());
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, proxy.as_str()));
    let server = production.start_with(&proxies);
    server.has_logged("seal `transit` has no `token`: the other server refuses");
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    server.http().post("sys/init", &body).expect(503);
    server.has_logged("it refuses: status 403, permission denied");
    drop(server);
    let server = production.start_with(&[&proxies[..], &[("VAULT_TRANSIT_SEAL_TOKEN", TOKEN)]].concat());
    server.http().post("sys/init", &body).expect(200);
    assert!(!is_sealed(&server), "{}", server.log());
    assert!(!server.log().contains("has no `token`"), "{}", server.log());
}
