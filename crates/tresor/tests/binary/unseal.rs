//! Initialising, unsealing and sealing, over HTTP and by the command line.

use serde_json::{Value, json};

use crate::support::{Cli, Http, Keys, Production};

fn enter(http: &Http, share: &str) -> crate::support::Answer {
    http.post("sys/unseal", &json!({ "key": share }))
}

/// Whether it is sealed, how many shares there are, and the nonce.
fn standing(http: &Http) -> (bool, u64, String) {
    let status = http.get("sys/seal-status").expect(200);
    (status.at("/sealed").as_bool().unwrap(), status.at("/progress").as_u64().unwrap(), status.text_at("/nonce"))
}

#[test]
fn shares_and_threshold_are_the_operators_choice_within_reason() {
    let production = Production::new();
    let server = production.start();
    let http = server.http();
    let bad = [
        json!({}),
        json!({ "secret_shares": 0, "secret_threshold": 0 }),
        json!({ "secret_shares": 1, "secret_threshold": 0 }),
        json!({ "secret_shares": 3, "secret_threshold": 1 }),
        json!({ "secret_shares": 3, "secret_threshold": 4 }),
        json!({ "secret_shares": 256, "secret_threshold": 3 }),
        json!({ "secret_shares": -1, "secret_threshold": -1 }),
        json!({ "secret_shares": 5 }),
        json!({ "secret_threshold": 3 }),
        json!({ "secret_shares": "many", "secret_threshold": 3 }),
        json!({ "secret_shares": 1e300, "secret_threshold": 1e300 }),
        json!({ "secret_shares": [5], "secret_threshold": {} }),
        json!({ "secret_shares": 5, "secret_threshold": 3, "pgp_keys": ["x"] }),
        json!({ "secret_shares": 5, "secret_threshold": 3, "recovery_shares": 5 }),
    ];
    for body in bad {
        let answer = http.post("sys/init", &body).expect(400);
        assert_eq!(answer.errors().map(|errors| errors.len()), Some(1), "{body}: {}", answer.text);
        assert_eq!(http.get("sys/init").expect(200).json(), json!({ "initialized": false }), "{body}");
    }
    http.get("sys/health").expect(501);
    enter(&http, "00").expect(400);
    let keys = Keys::initialize(&http, 255, 2);
    assert_eq!((keys.hex.len(), keys.base64.len()), (255, 255));
    assert_eq!(http.get("sys/init").expect(200).json(), json!({ "initialized": true }));
    let again = http.post("sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 })).expect(400);
    assert_eq!(again.errors(), Some(vec!["Vault is already initialized".to_owned()]));
    http.get("sys/health").expect(503);
    enter(&http, &keys.hex[254]).expect(200);
    assert_eq!(enter(&http, &keys.base64[7]).expect(200).at("/sealed"), json!(false));
    http.get("sys/health").expect(200);
}

#[test]
fn shares_that_are_repeated_short_foreign_or_wrong_do_what_the_contract_says() {
    let production = Production::new();
    let server = production.start();
    let http = server.http();
    let before = http.get("sys/seal-status").expect(200);
    assert_eq!((before.at("/initialized"), before.at("/sealed")), (json!(false), json!(true)));
    let keys = Keys::initialize(&http, 5, 3);
    let stranger = Production::new();
    let strange_server = stranger.start();
    let foreign = Keys::initialize(&strange_server.http(), 5, 3);
    assert_eq!(standing(&http), (true, 0, String::new()));

    let first = enter(&http, &keys.hex[0]).expect(200);
    assert_eq!((first.at("/progress"), first.at("/t"), first.at("/n")), (json!(1), json!(3), json!(5)));
    let nonce = first.text_at("/nonce");
    assert!(!nonce.is_empty());
    for same in [&keys.hex[0], &keys.base64[0], &keys.hex[0].to_uppercase(), &format!(" {}\n", keys.hex[0])] {
        enter(&http, same).expect(200);
        assert_eq!(standing(&http), (true, 1, nonce.clone()), "a share counts once");
    }
    for malformed in ["", "xyz!", "00", &keys.hex[1][2..], &format!("{}00", keys.hex[1])] {
        let answer = enter(&http, malformed).expect(400);
        assert!(answer.errors().is_some(), "{}", answer.text);
        assert_eq!(standing(&http), (true, 1, nonce.clone()), "the share that was there stays");
    }
    for body in ["{}", "{\"key\": null}", "{\"key\": 7}", "{\"key\": [\"a\"]}", "{\"reset\": \"perhaps\"}", "[]", "x"] {
        http.send("POST", "sys/unseal", body).expect(400);
    }
    let reset = http.post("sys/unseal", &json!({ "reset": true })).expect(200);
    assert_eq!((reset.at("/progress"), reset.at("/nonce")), (json!(0), json!("")));

    // Foreign shares look like any others until they are put together.
    for share in [&keys.hex[0], &keys.hex[1]] {
        enter(&http, share).expect(200);
    }
    let wrong = enter(&http, &foreign.hex[2]).expect(400);
    assert!(wrong.text.contains("invalid key"), "{}", wrong.text);
    assert_eq!(standing(&http), (true, 0, String::new()), "after a wrong key one starts again");
    // One byte is wrong.
    let mut tampered = hex::decode(&keys.hex[2]).unwrap();
    tampered[5] ^= 1;
    for share in [&keys.hex[0], &keys.hex[1]] {
        enter(&http, share).expect(200);
    }
    enter(&http, &hex::encode(&tampered)).expect(400);
    assert_eq!(standing(&http), (true, 0, String::new()));
    // Two shares for the same place cannot be combined; they count until then.
    tampered[5] ^= 1;
    tampered[6] ^= 1;
    for share in [&keys.hex[2], &keys.hex[1]] {
        enter(&http, share).expect(200);
    }
    enter(&http, &hex::encode(&tampered)).expect(400);
    assert_eq!(standing(&http), (true, 0, String::new()));

    for (share, progress) in [(&keys.base64[4], 1), (&keys.hex[1], 2)] {
        assert_eq!(enter(&http, share).expect(200).at("/progress"), json!(progress));
    }
    let done = enter(&http, &keys.base64[2]).expect(200);
    assert_eq!((done.at("/sealed"), done.at("/progress"), done.at("/nonce")), (json!(false), json!(0), json!("")));
    assert!(!done.text_at("/cluster_id").is_empty());
    for anything in [&keys.hex[0], &foreign.hex[0]] {
        assert_eq!(enter(&http, anything).expect(200).at("/sealed"), json!(false), "unsealed stays unsealed");
    }
}

#[test]
fn a_sealed_server_serves_nothing_and_comes_back_whole() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": "kept" })).expect(204);
    let user = http.post("auth/token/create", &json!({ "policies": ["default"] })).expect(200);
    let powerless = server.http().with_token(&user.text_at("/auth/client_token"));
    powerless.post("sys/seal", &json!({})).expect(403);
    server.http().post("sys/seal", &json!({})).expect(403);
    http.send("PUT", "sys/seal", "").expect(204);
    assert!(standing(&http).0, "at once");
    for (method, path) in [
        ("GET", "kv/a"),
        ("POST", "kv/a"),
        ("LIST", "kv"),
        ("DELETE", "kv/a"),
        ("GET", "sys/mounts"),
        ("POST", "sys/seal"),
        ("GET", "auth/token/lookup-self"),
        ("GET", "no/such/mount"),
        ("POST", "auth/userpass/login/bob"),
    ] {
        let answer = http.send(method, path, "").expect(503);
        assert_eq!(answer.errors(), Some(vec!["Vault is sealed".to_owned()]), "{method} {path}");
    }
    http.get("sys/health").expect(503);
    keys.unseal(&http);
    assert_eq!(http.get("kv/a").expect(200).at("/data/x"), json!("kept"));
    drop(server);
    let server = production.start();
    let http = server.http().with_token(&keys.root);
    assert_eq!(standing(&http), (true, 0, String::new()), "a restart comes up sealed");
    http.get("kv/a").expect(503);
    keys.unseal(&http);
    assert_eq!(http.get("kv/a").expect(200).at("/data/x"), json!("kept"));
}

#[test]
fn the_command_line_initialises_unseals_and_seals() {
    let production = Production::new();
    let server = production.start();
    let mut cli = Cli::new(production.home(), server.address, "");
    let status = cli.run(&["operator", "init", "-status"]);
    assert_eq!((status.code, status.output.as_str()), (2, "Vault is not initialized\n"));
    assert_eq!(cli.run(&["status"]).code, 2);
    for flags in [["-recovery-shares=3", "-recovery-threshold=2"], ["-recovery-threshold=1", "-key-shares=3"]] {
        let refused = cli.run(&[["operator", "init"], flags].concat());
        assert!(refused.errors.contains("not applicable to seal type shamir"), "{refused:?}");
        assert_eq!((refused.code, refused.output.as_str()), (2, ""), "{refused:?}");
    }
    let refused = cli.run(&["operator", "init", "-key-shares=2", "-key-threshold=3"]);
    assert_eq!((refused.code, refused.output.as_str()), (2, ""));
    assert!(refused.errors.contains("Code: 400. Errors:\n\n* "), "{}", refused.errors);
    let made = cli.succeed(&["operator", "init", "-key-shares=3", "-key-threshold", "2", "-format=json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let (base64, hex) = (&made["unseal_keys_b64"], &made["unseal_keys_hex"]);
    assert_eq!((base64.as_array().unwrap().len(), hex.as_array().unwrap().len()), (3, 3));
    assert_eq!((&made["unseal_shares"], &made["unseal_threshold"]), (&json!(3), &json!(2)));
    assert_eq!(cli.run(&["operator", "init", "-status"]).code, 0);
    let share = |number: usize| base64[number].as_str().unwrap();
    // An argument, standard input in both ways, and hexadecimal.
    let one = cli.run(&["operator", "unseal", share(0)]);
    assert_eq!(one.code, 0);
    assert!(one.output.contains("Unseal Progress    1/2"), "{}", one.output);
    assert_eq!(cli.run(&["operator", "unseal", "-reset"]).code, 0);
    let piped = cli.run_with(crate::support::binary(), &["operator", "unseal"], &[], &format!("{}\n", share(1)));
    assert!(piped.output.contains("Unseal Progress    1/2"), "{piped:?}");
    let json = cli.run_with(
        crate::support::binary(),
        &["operator", "unseal", "-format=json", "-"],
        &[],
        hex[2].as_str().unwrap(),
    );
    let json: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(json["sealed"], json!(false));
    assert_eq!(cli.run(&["status"]).code, 0);
    let refused = cli.run(&["operator", "seal"]);
    assert_eq!(refused.code, 2);
    assert!(refused.errors.contains("permission denied"), "{}", refused.errors);
    cli.set("VAULT_TOKEN", made["root_token"].as_str().unwrap());
    assert_eq!(cli.succeed(&["operator", "seal"]), "Success! Vault is sealed.\n");
    assert_eq!(cli.run(&["status"]).code, 2);
    drop(server);
    let gone = cli.run(&["status"]);
    assert_eq!((gone.code, gone.output.as_str()), (1, ""));
    assert!(gone.errors.starts_with("Error checking seal status: "), "{}", gone.errors);
}
