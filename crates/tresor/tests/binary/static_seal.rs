//! A server that opens by itself: its key in a file, a variable, a credential or the configuration; what the command
//! line shows of it; and that no byte of the key is left anywhere.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};

use super::canary::files;
use crate::support::{Cli, Production, Server, until};

/// The 32 bytes of a key, which are text, so that they can be looked for.
fn key(label: &str) -> String {
    canary(label, 0).repeat(2)[..32].to_owned()
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn stanza(keys: &[(&str, &str)]) -> String {
    let of =
        |which: &str, (id, place): &(&str, &str)| format!("  {which}_key_id = \"{id}\"\n  {which}_key = \"{place}\"\n");
    let named = ["current", "previous"].iter().zip(keys).map(|(which, key)| of(which, key));
    format!("seal \"static\" {{\n{}}}", named.collect::<String>())
}

fn is_sealed(server: &Server) -> bool {
    server.http().get("sys/seal-status").expect(200).at("/sealed") == json!(true)
}

/// Initialises with one recovery share; the share and the root token.
fn initialize(server: &Server) -> (String, String) {
    let made = server.http().post("sys/init", &json!({ "recovery_shares": 1, "recovery_threshold": 1 })).expect(200);
    (made.text_at("/recovery_keys/0"), made.text_at("/root_token"))
}

#[test]
fn a_server_whose_key_lies_in_a_file_opens_by_itself_after_every_end() {
    let production = Production::new();
    let configured = std::fs::read_to_string(production.config()).unwrap();
    let file = production.home().join("unseal.key");
    write(&file, key("first").as_bytes(), 0o600);
    let place = format!("file://{}", file.display());
    production.configure_more(&format!("{}\nlog_level = \"trace\"", stanza(&[("2026-1", &place)])));
    let mut server = production.start();
    let mut cli = Cli::new(production.home(), server.address, "");
    let before = cli.run(&["status"]);
    assert_eq!(before.code, 2, "{before:?}");
    assert!(before.output.contains("Recovery Seal Type"), "{before:?}");

    let refused = cli.run(&["operator", "init", "-key-shares=3", "-key-threshold=2"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.errors.contains("secret_shares,secret_threshold not applicable to seal type static"),
        "{refused:?}"
    );
    let made = cli.succeed(&["operator", "init", "-recovery-shares=3", "-recovery-threshold=2", "-format=json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    for (name, value) in [
        ("unseal_keys_b64", json!([])),
        ("unseal_keys_hex", json!([])),
        ("unseal_shares", json!(1)),
        ("unseal_threshold", json!(1)),
        ("recovery_keys_shares", json!(3)),
        ("recovery_keys_threshold", json!(2)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    let shares: Vec<&str> =
        made["recovery_keys_b64"].as_array().unwrap().iter().map(|share| share.as_str().unwrap()).collect();
    assert_eq!((shares.len(), made["recovery_keys_hex"].as_array().unwrap().len()), (3, 3));
    cli.set("VAULT_TOKEN", made["root_token"].as_str().unwrap());
    let status = cli.succeed(&["status"]);
    let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    for row in [
        ["Seal Type", "static"],
        ["Recovery Seal Type", "shamir"],
        ["Initialized", "true"],
        ["Sealed", "false"],
        ["Total Recovery Shares", "3"],
        ["Threshold", "2"],
    ] {
        assert!(
            rows.iter().any(|cells| cells.first() == row.first() && cells.last() == row.last()),
            "{row:?}\n{status}"
        );
    }
    assert!(server.output().contains("Seal: static (key: \"2026-1\")"), "{}", server.output());
    let http = server.http().with_token(made["root_token"].as_str().unwrap());
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": "kept" })).expect(204);

    for is_killed in [true, false] {
        if is_killed {
            server.kill();
        } else {
            server.signal(Signal::TERM);
            assert!(server.wait().success());
        }
        server = production.start();
        let http = server.http().with_token(made["root_token"].as_str().unwrap());
        assert_eq!(http.get("kv/a").expect(200).at("/data/x"), json!("kept"), "{}", server.log());
    }
    // Another key, and the one before it.
    let next = production.home().join("next.key");
    write(&next, format!("{}\n", hex::encode(key("second"))).as_bytes(), 0o400);
    let next_place = format!("file://{}", next.display());
    production.configure(&format!("{configured}{}\n", stanza(&[("2026-2", &next_place), ("2026-1", &place)])));
    drop(server);
    let server = production.start();
    assert!(!is_sealed(&server), "{}", server.log());
    drop(server);
    std::fs::remove_file(&file).unwrap();
    let server = production.start();
    assert!(!is_sealed(&server), "{}", server.log());
    server.has_logged("going on without the previous key");

    let http = server.http().with_token(made["root_token"].as_str().unwrap());
    http.send("PUT", "sys/seal", "").expect(204);
    let cli = Cli::new(production.home(), server.address, "");
    let first = cli.run(&["operator", "unseal", shares[0]]);
    assert!(first.output.contains("1/2"), "{first:?}");
    cli.succeed(&["operator", "unseal", shares[2]]);
    assert!(!is_sealed(&server));

    let mut secrets = Canaries::new();
    for label in ["first", "second"] {
        secrets.watch(label, key(label).as_bytes());
    }
    for file in files(&production.data()) {
        assert_eq!(secrets.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
    for text in [server.log(), server.output(), status] {
        assert_eq!(secrets.find(text.as_bytes()), None);
    }
}

#[test]
fn a_key_in_a_variable_a_credential_or_the_configuration_opens() {
    let credentials = tempfile::tempdir().unwrap();
    write(&credentials.path().join("unseal"), key("credential").as_bytes(), 0o440);
    let (hex, literal) = (hex::encode(key("variable")), hex::encode(key("literal")));
    let places = [
        ("env://UNSEAL_KEY", vec![("UNSEAL_KEY", hex.as_str())]),
        ("credential://unseal", vec![("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap())]),
        (literal.as_str(), Vec::new()),
    ];
    for (place, variables) in places {
        let production = Production::new();
        production.configure_more(&stanza(&[("k", place)]));
        let server = production.start_with(&variables);
        initialize(&server);
        assert!(!is_sealed(&server), "{}", server.log());
        drop(server);
        let server = production.start_with(&variables);
        assert!(!is_sealed(&server), "{}", server.log());
        let is_literal = place == literal;
        let warning = "`current_key` is the key itself";
        if is_literal {
            server.has_logged(warning);
        }
        assert_eq!(server.log().contains(warning), is_literal, "{}", server.log());
        assert!(!server.log().contains(&hex) && !server.log().contains(&literal));
        drop(server);
        if !is_literal {
            let server = production.start();
            assert!(is_sealed(&server));
            server.has_logged("the key `k` of the static seal: ");
        }
    }
}

#[test]
fn a_server_without_a_good_key_says_so_and_opens_when_there_is_one() {
    let production = Production::new();
    let file = production.home().join("unseal.key");
    write(&file, key("first").as_bytes(), 0o600);
    production.configure_more(&stanza(&[("k", &format!("file://{}", file.display()))]));
    let server = production.start();
    let (share, root) = initialize(&server);
    drop(server);

    write(&file, key("first").as_bytes(), 0o644);
    let server = production.start();
    assert!(is_sealed(&server));
    server.has_logged("has the mode 0644: others must not read it");
    let health = server.http().get("sys/health").expect(503);
    assert!(health.text_at("/automatic_unseal").contains("cannot be read"), "{}", health.text);
    let status = Cli::new(production.home(), server.address, "").run(&["status"]);
    assert!(status.code == 2 && status.output.contains("Automatic Unseal"), "{status:?}");
    write(&file, key("first").as_bytes(), 0o600);
    until("the server to open by itself", || (!is_sealed(&server)).then_some(()));
    drop(server);

    write(&file, key("second").as_bytes(), 0o600);
    let server = production.start();
    assert!(is_sealed(&server));
    server.has_logged("the key `k` does not open its key slot");
    assert_eq!(server.http().post("sys/unseal", &json!({ "key": share })).expect(200).at("/sealed"), json!(false));
    server.http().with_token(&root).get("sys/mounts").expect(200);
    drop(server);
    let server = production.start();
    assert!(!is_sealed(&server), "{}", server.log());
}

#[test]
fn a_server_makes_the_requests_of_its_configuration_at_its_first_start() {
    let production = Production::new();
    let key = production.home().join("unseal.key");
    write(&key, &[7; 32], 0o600);
    let secret = production.home().join("password");
    std::fs::write(&secret, "from a file\n").unwrap();
    production.configure_more(&format!(
        r#"seal "static" {{
             current_key_id = "a"
             current_key    = "file://{}"
           }}
           initialize "people" {{
             request "method" {{
               operation = "update"
               path      = "sys/auth/userpass"
               data      = {{ type = "userpass" }}
             }}
             request "bob" {{
               operation = "create"
               path      = "auth/userpass/users/bob"
               data = {{
                 password       = {{ eval_type = "string" eval_source = "file" path = "{}" }}
                 token_policies = ["default"]
               }}
             }}
           }}"#,
        key.display(),
        secret.display(),
    ));
    for _ in 0..2 {
        let mut server = production.start();
        let status = server.http().get("sys/seal-status").expect(200);
        assert_eq!((status.at("/initialized"), status.at("/sealed")), (json!(true), json!(false)));
        let login = r#"{"password": "from a file"}"#;
        server.http().send("POST", "auth/userpass/login/bob", login).expect(200);
        server.signal(Signal::TERM);
        assert!(server.wait().success());
    }
}

#[test]
fn a_server_whose_first_requests_failed_says_at_each_start_what_happened_and_what_to_do() {
    let production = Production::new();
    let key = production.home().join("unseal.key");
    write(&key, &[7; 32], 0o600);
    let password = production.home().join("password");
    production.configure_more(&format!(
        r#"seal "static" {{
             current_key_id = "a"
             current_key    = "file://{}"
           }}
           initialize "people" {{
             request "method" {{
               operation = "update"
               path      = "sys/auth/userpass"
               data      = {{ type = "userpass" }}
             }}
             request "bob" {{
               operation = "create"
               path      = "auth/userpass/users/bob"
               data      = {{ password = {{ eval_type = "string" eval_source = "file" path = "{}" }} }}
             }}
           }}"#,
        key.display(),
        password.display(),
    ));
    let cli = Cli::new(production.home(), ([127, 0, 0, 1], 0).into(), "");
    let failed = cli.run(&["server", "-config", production.config().to_str().unwrap()]);
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(failed.errors.contains("self-initialisation failed, and the store is of no use"), "{failed:?}");

    std::fs::write(&password, "now it is there\n").unwrap();
    let server = production.start();
    assert!(is_sealed(&server));
    let what =
        "a server began to initialise itself by its `initialize` stanzas, and failed or was ended before every request";
    server.has_logged(what);
    let log = server.log();
    let line = log.lines().find(|line| line.contains(what)).unwrap();
    assert!(line.contains("ERROR") && line.contains("remove the store that `storage` names"), "{line}");
    assert!(!log.contains("shares open it"), "there are none: {log}");
    drop(server);

    std::fs::remove_dir_all(production.data()).unwrap();
    let server = production.start();
    let login = r#"{"password": "now it is there"}"#;
    server.http().send("POST", "auth/userpass/login/bob", login).expect(200);
}
