//! Contexts: several servers by name, whose tokens never meet.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Cli, Server, binary};

fn dev(home: &std::path::Path, root: &str) -> Server {
    let root = format!("-dev-root-token-id={root}");
    Server::start(home, &["-dev", &root, "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"])
}

#[test]
fn each_server_has_a_name_and_its_own_token() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (dev(home.path(), "root-1"), dev(home.path(), "root-2"));
    let cli = Cli { home: home.path(), environment: Vec::new() };
    let address = |server: &Server| format!("http://{}", server.address);
    let token_of = |name: &str| home.path().join(".config/tresor/tokens").join(name);

    cli.succeed(&["context", "add", "one", &format!("-address={}", address(&first))]);
    let given = ["context", "add", "two", &format!("-address={}/", address(&second)), "-token=-", "-use"];
    assert_eq!(cli.run_with(binary(), &given, &[], "root-2\n").code, 0);
    for (path, mode) in [(token_of("two"), 0o600), (home.path().join(".config/tresor"), 0o700)] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
    // A token is no argument, and a name is no path.
    assert_eq!(cli.run(&["context", "add", "x", "-address=http://a:1", "-token=root-2"]).code, 1);
    assert_eq!(cli.run(&["context", "add", "../x", "-address=http://a:1"]).code, 1);
    assert_eq!(cli.run(&["context", "add", "one", "-address=http://a:1"]).code, 1, "it is there already");

    // A login is kept for the context that it was made in.
    let login = cli.succeed(&["login", "-context=one", "root-1"]);
    assert!(login.contains("kept for the context one"), "{login}");
    assert!(!home.path().join(".vault-token").exists());
    cli.succeed(&["kv", "put", "secret/a", "of=two"]);
    cli.succeed(&["kv", "put", "-context=one", "secret/a", "of=one"]);
    let of = |arguments: &[&str], environment: &[(&str, &str)]| {
        let words = [&["kv", "get", "-field=of"], arguments, &["secret/a"]].concat();
        let finished = cli.run_with(binary(), &words, environment, "");
        (finished.code, finished.output)
    };
    assert_eq!(of(&[], &[]), (0, "two".to_owned()));
    assert_eq!(of(&[], &[("TRESOR_CONTEXT", "one")]), (0, "one".to_owned()));
    assert_eq!(of(&["-context=two"], &[("TRESOR_CONTEXT", "one")]), (0, "two".to_owned()));
    // Who names a context means it, whatever the environment says.
    let other = address(&second);
    assert_eq!(of(&["-context=one"], &[("VAULT_ADDR", &other), ("VAULT_TOKEN", "root-2")]), (0, "one".to_owned()));
    // A variable wins over a context that nobody named, and the context's token stays at home.
    let first_address = address(&first);
    assert_eq!(of(&[], &[("BAO_ADDR", &first_address)]).0, 2, "the token of another server is not sent");
    assert_eq!(of(&[], &[("VAULT_ADDR", &first_address), ("VAULT_TOKEN", "root-1")]), (0, "one".to_owned()));

    let listed = cli.succeed(&["context", "list"]);
    assert!(listed.contains("one") && listed.contains(&other) && !listed.contains("root-"), "{listed}");
    let shown = cli.succeed(&["context", "show", "-format=json"]);
    assert!(!shown.contains("root-"), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["context"], "two");
    assert_eq!(shown["settings"]["address"]["source"], "context two");
    assert_eq!(shown["settings"]["token"]["value"], "kept");

    let absent = cli.run(&["status", "-context=onne"]);
    assert_eq!(absent.code, 1);
    assert!(absent.errors.contains("there is no context `onne`: did you mean `one`?"), "{absent:?}");
    cli.succeed(&["context", "remove", "two"]);
    assert!(!token_of("two").exists());
    assert_eq!(cli.run(&["status"]).code, 1, "no context is in use any more");
    cli.succeed(&["context", "use", "one"]);
    assert_eq!(of(&[], &[]), (0, "one".to_owned()));
}

#[test]
fn what_else_a_client_is_told_by_flags_and_variables_has_its_effect() {
    let home = tempfile::tempdir().unwrap();
    let server = dev(home.path(), "root");
    let mut cli = Cli { home: home.path(), environment: Vec::new() };
    cli.set("BAO_ADDR", &format!("http://{}", server.address));
    cli.set("BAO_TOKEN", "root");
    let curl = |arguments: &[&str], environment: &[(&str, &str)]| {
        let words = [&["read", "-output-curl-string"], arguments, &["sys/mounts"]].concat();
        cli.run_with(binary(), &words, environment, "")
    };
    let all = curl(&["-mfa=duo", "-policy-override", "-header=x-a=1"], &[("VAULT_HEADERS", r#"{"x-b": "2"}"#)]).output;
    for header in ["'x-a: 1'", "'x-b: 2'", "'X-Vault-MFA: duo'", "'X-Vault-Policy-Override: true'"] {
        assert!(all.contains(header), "{header} is not in {all}");
    }
    assert!(!all.contains("root"), "{all}");
    for (name, value, told) in [
        ("VAULT_HEADERS", r#"{"X-Vault-Token": "x"}"#, "reserved"),
        ("VAULT_HEADERS", "x", "VAULT_HEADERS"),
        ("VAULT_RATE_LIMIT", "fast", "VAULT_RATE_LIMIT"),
        ("VAULT_DISABLE_REDIRECTS", "perhaps", "VAULT_DISABLE_REDIRECTS"),
        ("VAULT_CACERT_BYTES", "no certificate", "certificate"),
    ] {
        let finished = curl(&[], &[(name, value)]);
        assert!(finished.code == 1 && finished.errors.contains(told), "{name}={value}: {finished:?}");
    }
    let unported = [("BAO_ADDR", "http://vault.example"), ("VAULT_SRV_LOOKUP", "true")];
    assert!(curl(&[], &unported).errors.contains("SRV"));
    assert_eq!(curl(&["-agent-address=http://agent:1"], &[]).output.matches("http://agent:1/v1/").count(), 1);
    let limited = cli.run_with(binary(), &["status"], &[("VAULT_RATE_LIMIT", "100:2")], "");
    assert_eq!(limited.code, 0, "{limited:?}");
}
