//! The commands about leases, against a server: a token that ends has one, so each of them can be seen to do its work.

use serde_json::Value;

use crate::support::{Cli, Server, until};

fn is_alive(cli: &Cli<'_>, token: &str) -> bool {
    cli.run(&["token", "lookup", token]).code == 0
}

/// What a command wrote as JSON.
fn json(cli: &Cli<'_>, arguments: &[&str]) -> Value {
    serde_json::from_str(&cli.succeed(arguments)).unwrap()
}

/// A token of an hour, and the id of its lease.
fn made(cli: &Cli<'_>) -> (String, String) {
    let token = cli.succeed(&["token", "create", "-ttl=1h", "-field=token"]).trim().to_owned();
    let ids = json(cli, &["lease", "list", "-format=json", "auth/token/create"]);
    // Names grow with time, but for those of one millisecond.
    let of = |id: &str| {
        json(cli, &["lease", "lookup", "-format=json", id])["data"]["issue_time"].as_str().unwrap().to_owned()
    };
    let ids = ids.as_array().unwrap().iter().map(|id| format!("auth/token/create/{}", id.as_str().unwrap()));
    let id = ids.max_by_key(|id| of(id)).unwrap();
    (token, id)
}

#[test]
fn leases_are_listed_looked_up_renewed_and_revoked() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"];
    let server = Server::start(home.path(), &arguments);
    let cli = Cli::new(home.path(), server.address, "root");
    let nothing = cli.run(&["lease", "list"]);
    assert_eq!((nothing.code, nothing.output.as_str()), (2, ""));
    let (token, id) = made(&cli);
    assert_eq!(json(&cli, &["lease", "list", "-format=json"]), serde_json::json!(["auth/"]));
    let shown = json(&cli, &["lease", "lookup", "-format=json", &id]);
    assert_eq!(shown["data"]["id"], id.as_str());
    assert!(shown["data"]["ttl"].as_u64().is_some_and(|ttl| (3500..=3600).contains(&ttl)), "{shown}");
    let renewed = cli.run(&["lease", "renew", "-increment=2h", &id]);
    assert_eq!(renewed.code, 2);
    assert!(renewed.errors.contains("tokens cannot be renewed through this endpoint"), "{}", renewed.errors);
    assert!(is_alive(&cli, &token));
    assert_eq!(cli.succeed(&["lease", "revoke", "-sync", &id]), format!("Success! Revoked lease: {id}\n"));
    assert!(!is_alive(&cli, &token) && cli.run(&["lease", "lookup", &id]).code == 2);

    cli.succeed(&["auth", "enable", "userpass"]);
    cli.succeed(&["write", "auth/userpass/users/bob", "password=right horse", "token_ttl=1h"]);
    let login = ["login", "-method=userpass", "-no-store", "-token-only", "username=bob", "password=right horse"];
    let (mine, _) = made(&cli);
    for (words, said) in [
        (vec!["-prefix"], "All revocation operations queued successfully!"),
        (vec!["-prefix", "-sync"], "Success! Revoked any leases with prefix: auth/userpass/"),
        (vec!["-prefix", "-force"], "Success! Force revoked any leases with prefix: auth/userpass/"),
    ] {
        let token = cli.succeed(&login).trim().to_owned();
        assert!(is_alive(&cli, &token));
        let command: Vec<&str> =
            ["lease", "revoke"].into_iter().chain(words.clone()).chain(["auth/userpass/"]).collect();
        assert_eq!(cli.succeed(&command).trim_end(), said);
        if words.contains(&"-sync") {
            assert!(!is_alive(&cli, &token), "it was waited for");
        }
        until("the tokens of the method are revoked", || (!is_alive(&cli, &token)).then_some(()));
        assert!(is_alive(&cli, &mine));
    }
    assert_eq!(cli.run(&["lease", "revoke", "-force", "auth/userpass/"]).code, 1, "-force needs -prefix");
}
