//! `server -dev`: what it prints, what it keeps, what it refuses.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Cli, Server, try_run, until};

const ANY: &str = "-dev-listen-address=127.0.0.1:0";

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_dev_server_is_ready_at_once_and_says_how_to_use_it() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["-dev", ANY]);
    let token = server.said("Root Token: ");
    let http = server.http().with_token(&token);
    assert!(server.output().contains(&format!("export VAULT_ADDR='http://{}'", server.address)));
    http.get("sys/health").expect(200);
    let status = http.get("sys/seal-status").expect(200);
    assert_eq!((status.at("/sealed"), status.at("/t"), status.at("/n")), (json!(false), json!(1), json!(1)));
    assert_eq!(status.at("/storage_type"), json!("inmem"));
    let mounts = http.get("sys/mounts").expect(200);
    assert_eq!(mounts.at("/data/secret~1/options"), json!({ "version": "2" }));
    http.post("secret/data/a", &json!({ "data": { "x": "1" } })).expect(200);
    assert_eq!(http.get("secret/data/a").expect(200).at("/data/data/x"), json!("1"));
    // The unseal key that it prints is the one.
    http.post("sys/seal", &json!({})).expect(204);
    http.get("secret/data/a").expect(503);
    http.post("sys/unseal", &json!({ "key": server.said("Unseal Key: ") })).expect(200);
    assert_eq!(http.get("secret/data/a").expect(200).at("/data/data/x"), json!("1"));
}

#[test]
fn the_root_token_can_be_chosen_in_every_spelling_and_is_kept_for_its_owner_alone() {
    type Case<'c> = (&'c [&'c str], &'c [(&'c str, &'c str)]);
    let cases: [Case<'_>; 4] = [
        (&["-dev", ANY, "-dev-root-token-id=chosen"], &[]),
        (&["-dev", ANY, "-dev-root-token-id", "chosen"], &[]),
        (&["--dev", "--dev-listen-address", "127.0.0.1:0", "--dev-root-token-id=chosen"], &[]),
        (&["-dev"], &[("VAULT_DEV_ROOT_TOKEN_ID", "chosen"), ("VAULT_DEV_LISTEN_ADDRESS", "127.0.0.1:0")]),
    ];
    for (arguments, environment) in cases {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".vault-token"), "an older one").unwrap();
        std::fs::set_permissions(home.path().join(".vault-token"), PermissionsExt::from_mode(0o644)).unwrap();
        let server = Server::start_by(&[], home.path(), arguments, environment);
        assert_eq!(server.said("Root Token: "), "chosen", "{arguments:?}");
        let kept = home.path().join(".vault-token");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "chosen");
        assert_eq!(mode(&kept), 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left behind");
        let cli = Cli::new(home.path(), server.address, "");
        assert!(cli.succeed(&["token", "lookup"]).contains("chosen"));
    }
}

#[test]
fn a_wrapping_token_as_jwt_says_where_it_is_opened() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["-dev", ANY, "-dev-no-store-token", "-dev-root-token-id=root"]);
    let http = server.http().with_token("root");
    let http = http.with_header("X-Vault-Wrap-TTL", "60").with_header("X-Vault-Wrap-Format", "jwt");
    let answer = http.get("sys/mounts").expect(200);
    assert_eq!(answer.at("/warnings"), serde_json::Value::Null, "{}", answer.text);
    let token = answer.text_at("/wrap_info/token");
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["addr"], format!("http://{}", server.address));
}

#[test]
fn the_root_token_is_not_kept_when_told_so() {
    let home = tempfile::tempdir().unwrap();
    let _server = Server::start(home.path(), &["-dev", ANY, "-dev-no-store-token"]);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn an_address_that_others_reach_is_refused_unless_allowed() {
    let home = tempfile::tempdir().unwrap();
    let cli = Cli { home: home.path(), environment: Vec::new() };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8200"] {
        let finished = cli.run(&["server", "-dev", "-dev-listen-address", address]);
        assert_eq!((finished.code, finished.output.as_str()), (1, ""), "{address}");
        assert!(finished.errors.contains("loopback"), "{finished:?}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "a server that does not start keeps no token");
    let server = Server::start(home.path(), &["-dev", "-dev-listen-address=0.0.0.0:0", "-dev-allow-non-loopback"]);
    assert_eq!(server.address.ip().to_string(), "0.0.0.0");
}

/// A command line that trusts what a dev server with TLS printed.
fn trusting<'h>(home: &'h std::path::Path, server: &Server, address: &str) -> Cli<'h> {
    let output = server.output();
    let (_, authority) = output.split_once("export VAULT_CACERT='").unwrap();
    let mut cli = Cli { home, environment: Vec::new() };
    cli.set("VAULT_CACERT", authority.split_once('\'').unwrap().0);
    cli.set("VAULT_ADDR", address);
    cli.set("VAULT_TOKEN", &server.said("Root Token: "));
    cli
}

#[test]
fn three_dev_nodes_are_a_cluster_at_once_and_leave_nothing_behind() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let definition = home.path().join("cluster.json");
    let json_flag = format!("-dev-cluster-json={}", definition.display());
    let variables = [("TMPDIR", temporary.path().to_str().unwrap())];
    let arguments = ["-dev-three-node", ANY, &json_flag, "-dev-root-token-id=chosen"];
    let mut server = Server::start_by(&[], home.path(), &arguments, &variables);
    assert_eq!(mode(&definition), 0o600);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&definition).unwrap()).unwrap();
    assert_eq!(written["root_token"], "chosen");
    assert!(std::path::Path::new(written["ca_cert_path"].as_str().unwrap()).is_file());
    let addresses: Vec<&str> =
        written["nodes"].as_array().unwrap().iter().map(|node| node["api_address"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), 3);
    for (number, address) in (1..).zip(&addresses) {
        assert_eq!(server.said(&format!("node-{number}: ")), *address);
    }
    let clients = addresses.iter().map(|address| trusting(home.path(), &server, address)).collect::<Vec<_>>();
    // What is written by one is read by each, the CLI's stored token and all.
    clients[2].succeed(&["kv", "put", "secret/a", "x=1"]);
    for cli in &clients {
        assert_eq!(cli.succeed(&["kv", "get", "-field=x", "secret/a"]).trim(), "1");
    }
    let peers = until("three voters", || {
        let peers = clients[1].succeed(&["operator", "raft", "list-peers"]);
        (peers.matches("true").count() == 3).then_some(peers)
    });
    assert!((1..=3).all(|number| peers.contains(&format!("node-{number}"))), "{peers}");
    // What it takes them to agree is told by name.
    let authority = written["ca_cert_path"].as_str().unwrap();
    let url = format!("{}/v1/sys/metrics?format=prometheus", addresses[0]);
    let numbers = try_run(&["curl", "-sSf", "--cacert", authority, "-H", "X-Vault-Token: chosen", &url]).unwrap();
    for name in
        ["raft_replication_appendEntries_rpc", "raft_replication_heartbeat", "raft_replication_appendEntries_logs"]
    {
        for peer in ["node-2", "node-3"] {
            let of = |line: &str| {
                line.starts_with(&format!("vault_{name}")) && line.contains(&format!("peer_id=\"{peer}\""))
            };
            assert!(numbers.lines().any(of), "{name} of {peer}");
        }
    }
    let count = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.split_whitespace().last()?.parse::<f64>().ok();
        numbers.lines().find_map(value).unwrap_or_else(|| panic!("{name}"))
    };
    assert!(count("vault_raft_state_leader ") >= 1.0);
    assert!(count("vault_raft_leader_lastContact_count") > 0.0);
    // Another one leads when it is asked to, and goes on.
    clients[0].succeed(&["operator", "step-down"]);
    until("a write under another leader", || {
        (clients[1].run(&["kv", "put", "secret/a", "x=2"]).code == 0).then_some(())
    });
    // And when a node is asked to that stands by.
    let leads = |at: usize| clients[at].succeed(&["status"]).contains("HA Mode                 active");
    let leader = until("a leader", || (0..3).find(|at| leads(*at)));
    clients[(leader + 1) % 3].succeed(&["operator", "step-down"]);
    until("another leader", || (0..3).find(|at| *at != leader && leads(*at)));
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn what_a_dev_server_that_was_killed_left_goes_when_the_next_one_starts() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let variables = [("TMPDIR", temporary.path().to_str().unwrap())];
    let start = || Server::start_by(&[], home.path(), &["-dev-ha", "-dev-tls", ANY, "-dev-no-store-token"], &variables);
    let there = || {
        let entries = std::fs::read_dir(temporary.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let running = start();
    let its_own = there();
    assert_eq!(its_own.len(), 2, "{its_own:?}");
    start().kill();
    assert_eq!(there().len(), 4);
    let mut next = start();
    let now = there();
    assert!(now.len() == 4 && its_own.iter().all(|name| now.contains(name)), "{now:?}");
    for server in [&mut next, &mut { running }] {
        server.signal(Signal::TERM);
        assert!(server.wait().success());
    }
    assert_eq!(there().len(), 0);
}

#[test]
fn a_dev_server_that_others_can_join_says_so() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let variables = [("TMPDIR", temporary.path().to_str().unwrap())];
    let mut server = Server::start_by(&[], home.path(), &["-dev-ha", ANY], &variables);
    let http = server.http().with_token(&server.said("Root Token: "));
    assert_eq!(http.get("sys/leader").expect(200).at("/ha_enabled"), json!(true));
    http.post("secret/data/a", &json!({ "data": { "x": "1" } })).expect(200);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn a_dev_server_is_configured_by_files_but_for_what_makes_it_one() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("dev.hcl");
    let listener = "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}\n";
    let storage = format!("storage \"file\" {{\n  path = \"{}\"\n}}\n", home.path().join("data").display());
    std::fs::write(&config, format!("introspection_endpoint = true\ndefault_lease_ttl = \"17m\"\n{listener}{storage}"))
        .unwrap();
    let flag = format!("-config={}", config.display());
    let server = Server::start(home.path(), &["-dev", ANY, &flag, "-dev-root-token-id=root"]);
    let http = server.http().with_token("root");
    http.get("sys/internal/inspect/request").expect(200);
    assert_eq!(http.get("sys/mounts/secret/tune").expect(200).at("/data/default_lease_ttl"), json!(1020));
    http.get("secret/data/absent").expect(404);
    assert_eq!(http.get("sys/seal-status").expect(200).at("/storage_type"), json!("inmem"));
    assert!(!home.path().join("data").exists());
    server.has_logged("`storage` has no effect on a dev server");
    let behind = server.said("Listener 2: tcp (addr: \"");
    let (address, _) = behind.split_once('"').unwrap();
    crate::support::Http::new(address.parse().unwrap()).get("sys/health").expect(200);
    // What others reach is refused there, too.
    std::fs::write(&config, listener.replace("127.0.0.1", "0.0.0.0")).unwrap();
    let cli = Cli { home: home.path(), environment: Vec::new() };
    let finished = cli.run(&["server", "-dev", ANY, &flag]);
    assert!(finished.code == 1 && finished.errors.contains("loopback"), "{finished:?}");
}

#[test]
fn an_experiment_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    let cli = Cli { home: home.path(), environment: Vec::new() };
    let finished = cli.run(&["server", "-dev", ANY, "-experiment=events.beta1"]);
    assert_eq!(finished.code, 1);
    assert!(finished.errors.contains("`events.beta1` is no experiment of this release"), "{finished:?}");
}

#[test]
fn the_log_level_is_the_one_asked_for() {
    let home = tempfile::tempdir().unwrap();
    for (level, is_shown) in [("info", false), ("debug", true)] {
        let server = Server::start(home.path(), &["-dev", ANY, "-log-level", level]);
        server.http().get("sys/health").expect(200);
        assert_eq!(server.said("Log Level: "), level);
        server.signal(Signal::TERM);
        let mut server = server;
        assert!(server.wait().success());
        until("the last line of the log", || server.log().contains("server stopped").then_some(()));
        assert_eq!(server.log().contains("request answered"), is_shown, "{level}: {}", server.log());
    }
    let cli = Cli { home: home.path(), environment: Vec::new() };
    let finished = cli.run(&["server", "-dev", ANY, "-log-level=loud"]);
    assert_eq!(finished.code, 1);
    assert!(finished.errors.contains("-log-level"), "{finished:?}");
}

#[test]
fn streams_that_are_closed_or_never_read_do_not_stop_the_server() {
    for is_closed in [true, false] {
        let home = tempfile::tempdir().unwrap();
        // The port must be known without the output; a stranger may take it in between, so several are tried.
        let served = (0..20).any(|_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut child = std::process::Command::new(crate::support::binary())
                .args(["server", "-dev", "-dev-root-token-id=root", "-log-level=trace"])
                .arg(format!("-dev-listen-address={free}"))
                .env_clear()
                .env("HOME", home.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let pipes = (child.stdout.take(), child.stderr.take());
            let kept = (!is_closed).then_some(pipes);
            let http = crate::support::Http::new(free).with_token("root");
            let is_up = until("the server or its end", || {
                if child.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                http.try_send("GET", "sys/health", "").map(|answer| answer.status == 200)
            });
            // Far more lines than a pipe and the queue before it hold.
            for _ in 0..if is_up { 2000 } else { 0 } {
                http.get("secret/data/absent").expect(404);
            }
            let survived = is_up && child.try_wait().unwrap().is_none();
            let _ = child.kill();
            child.wait().unwrap();
            drop(kept);
            survived
        });
        assert!(served, "closed: {is_closed}");
    }
}

#[test]
fn tls_of_a_dev_server_comes_with_an_authority_that_verifies_it() {
    let home = tempfile::tempdir().unwrap();
    let chosen = home.path().join("certificates");
    std::fs::create_dir(&chosen).unwrap();
    for arguments in [vec!["-dev-tls"], vec!["-dev-tls", "-dev-tls-cert-dir", chosen.to_str().unwrap()]] {
        let server = Server::start(home.path(), &[&arguments[..], &["-dev-listen-address=127.0.0.1:0"]].concat());
        let authority = server.output();
        let (_, authority) = authority.split_once("export VAULT_CACERT='").unwrap();
        let authority = std::path::PathBuf::from(authority.split_once('\'').unwrap().0);
        for (name, expected) in [("vault-ca.pem", 0o644), ("vault-cert.pem", 0o644), ("vault-key.pem", 0o600)] {
            assert_eq!(mode(&authority.with_file_name(name)), expected, "{name}");
        }
        let mut cli = Cli { home: home.path(), environment: Vec::new() };
        cli.set("VAULT_ADDR", &format!("https://{}", server.address));
        let finished = cli.run(&["status"]);
        assert_eq!(finished.code, 1, "an unknown authority is not trusted: {finished:?}");
        cli.set("VAULT_CACERT", authority.to_str().unwrap());
        cli.succeed(&["status"]);
        cli.succeed(&["kv", "put", "secret/a", "x=1"]);
        cli.environment[0].1 = format!("https://localhost:{}", server.address.port());
        cli.succeed(&["kv", "get", "secret/a"]);
        server.signal(Signal::TERM);
        let mut server = server;
        assert!(server.wait().success());
        assert_eq!(authority.exists(), authority.starts_with(&chosen), "only what the user asked for stays");
    }
    let cli = Cli { home: home.path(), environment: Vec::new() };
    let absent = home.path().join("absent");
    let finished = cli.run(&["server", "-dev-tls", "-dev-tls-cert-dir", absent.to_str().unwrap(), ANY]);
    assert_eq!(finished.code, 1);
    assert!(finished.errors.contains("-dev-tls-cert-dir") && finished.errors.contains("absent"), "{finished:?}");
}
