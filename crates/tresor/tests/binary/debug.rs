//! `debug`: a file that says how a server is, and no secret.

use std::process::Command;

use crate::support::{Cli, Production, binary};

#[test]
fn a_server_is_recorded_without_what_is_secret() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let home = production.home();
    let mut cli = Cli::new(home, server.address, &keys.root);
    cli.set("VAULT_HEADERS", r#"{"x-of-a-proxy": "CANARY-header"}"#);
    cli.succeed(&["secrets", "enable", "-path=secret", "kv"]);
    cli.succeed(&["kv", "put", "secret/a", "password=CANARY-secret"]);
    let wanted =
        ["debug", "-duration=2s", "-interval=1s", "-metrics-interval=1s", "-output=found", "-header=x-b=CANARY-flag"];
    let said = cli.succeed(&wanted);
    assert!(said.contains("Success! Recorded in: found.tar.gz"), "{said}");
    let unpacked = Command::new("tar").args(["-xzf", "found.tar.gz"]).current_dir(home).status().unwrap();
    assert!(unpacked.success(), "tar reads it");
    let read = |name: &str| std::fs::read_to_string(home.join("found").join(name)).unwrap();
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&read(name)).unwrap();
    let index = json("index.json");
    assert_eq!(index["version"], 1);
    let files: Vec<&str> = index["output"]["files"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert!(files.contains(&"metrics.json") && files.contains(&"tresor.log"), "{index}");
    assert_eq!(json("metrics.json").as_array().unwrap().len(), 3, "at the beginning, and after each second");
    assert_eq!(json("config.json").as_array().unwrap().len(), 1);
    assert!(json("host_info.json")[0]["data"]["memory"].is_object());
    let mut all = said;
    for file in files.iter().chain([&"index.json"]) {
        all.push_str(&read(file));
    }
    for secret in ["CANARY", keys.root.as_str(), keys.base64[0].as_str(), keys.hex[0].as_str()] {
        assert!(!all.contains(secret), "{secret} was recorded");
    }

    // What is there is not overwritten, and what is denied is listed.
    assert_eq!(cli.run(&wanted).code, 1);
    let token = cli.succeed(&["token", "create", "-policy=default", "-field=token"]);
    let few = Cli::new(home, server.address, &token);
    let words = [
        "debug",
        "-duration=1s",
        "-interval=1s",
        "-metrics-interval=1s",
        "-compress=false",
        "-output=few",
        "-target=config",
        "-target=server-status",
    ];
    let finished = few.run_with(binary(), &words, &[], "");
    assert!(finished.code == 0 && finished.errors.contains("were not answered"), "{finished:?}");
    let index: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(home.join("few/index.json")).unwrap()).unwrap();
    assert_eq!(index["errors"][0]["target"], "config", "{index}");
    assert!(!index.to_string().contains(token.trim()));
    assert!(few.run(&["debug", "-target=pprof"]).errors.contains("unknown target `pprof`"));
}
