//! Configuration files: every form that operators write, and what a mistake is answered with.

use std::io::Write as _;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Cli, Finished, Http, Keys, Production, Server, read_answer, until};

const LISTENER: &str = "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = 1\n}\n";

fn refuse(production: &Production) -> Finished {
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let finished = cli.run(&["server", "-config", production.config().to_str().unwrap()]);
    assert_eq!((finished.code, finished.output.as_str()), (1, ""), "{finished:?}");
    finished
}

#[test]
fn every_form_of_a_configuration_starts_a_server() {
    let hcl = |storage: &str, more: &str| format!("{storage}\n{LISTENER}disable_mlock = true\n{more}\n");
    let listener = r#""tcp": {"address": "127.0.0.1:0", "tls_disable": "true"}"#;
    let cases = [
        ("server.hcl", hcl("storage \"raft\" {\n  path = \"DATA\"\n  node_id = \"a\"\n}", "ui = true"), "raft"),
        ("server.hcl", hcl("storage \"file\" {\n  path = \"DATA\"\n}", "api_addr = \"http://127.0.0.1:8200\""), "file"),
        (
            "server.hcl",
            hcl("backend \"file\" {\n  path = \"DATA\"\n}", "cluster_addr = \"https://127.0.0.1:1\""),
            "file",
        ),
        ("server.hcl", hcl("storage \"inmem\" {}", "default_lease_ttl = \"1h\"\nmax_lease_ttl = \"2h\""), "inmem"),
        (
            "server.json",
            format!(r#"{{"backend": {{"inmem": {{}}}}, "listener": {{{listener}}}, "disable_mlock": true}}"#),
            "inmem",
        ),
        (
            "server.json",
            format!(
                r#"{{"storage": [{{"file": {{"path": "DATA"}}}}], "listener": [{{{listener}}}, {{{listener}}}],
                   "disable_mlock": true, "default_lease_ttl": "768h", "max_lease_ttl": "768h"}}"#
            ),
            "file",
        ),
        (
            "server.json",
            format!(
                r#"{{"listener": {{{listener}}}, "listener": {{{listener}}}, "storage": {{"inmem": {{}}}},
                   "disable_mlock": true}}"#
            ),
            "inmem",
        ),
    ];
    for (name, text, storage) in cases {
        let production = Production::new();
        let config = production.home().join(name);
        let text = text.replace("DATA", production.data().to_str().unwrap());
        std::fs::write(&config, &text).unwrap();
        for flag in [vec!["-config", config.to_str().unwrap()], vec![&*format!("--config={}", config.display())]] {
            let server = Server::start(production.home(), &flag);
            assert_eq!(server.said("Storage: "), storage, "{text}");
            assert_eq!(server.said("Log Level: "), "info");
            assert!(server.said("Version: ").starts_with("Tresor v"));
            assert!(server.said("Listener 1: ").contains("tls: \"disabled\""), "{}", server.output());
            server.http().get("sys/init").expect(200);
            let status = server.http().get("sys/seal-status").expect(200);
            assert_eq!(status.text_at("/storage_type"), storage);
            let listeners = server.output().matches("Listener ").count();
            assert_eq!(listeners, text.matches("127.0.0.1:0").count(), "{text}");
        }
    }
}

#[test]
fn a_server_listens_at_a_socket_in_the_file_system_and_removes_it_at_the_end() {
    let production = Production::new();
    let socket = production.home().join("api.sock");
    // What a server left that was killed is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    production.configure_more(&format!(
        "api_addr = \"http://{{{{ GetInterfaceIP \\\"lo\\\" }}}}:8200\"\nlistener \"unix\" {{\n  address = {:?}\n  socket_mode = \"0660\"\n  socket_user = \"{}\"\n}}",
        socket,
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(production.home()).unwrap()),
    ));
    let (mut server, keys) = production.start_ready();
    assert_eq!(server.said("Api Address: "), "http://127.0.0.1:8200");
    assert!(server.said("Listener 2: ").starts_with("unix (addr: "), "{}", server.output());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    let ask = |path: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let head =
            format!("GET /v1/{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {}\r\nConnection: close\r\n\r\n", keys.root);
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream).unwrap()
    };
    assert_eq!(ask("auth/token/lookup-self").expect(200).at("/data/path"), "auth/token/root");
    // A second server does not take it over.
    let other = Production::new();
    other.configure(&format!(
        "storage \"inmem\" {{}}\ndisable_mlock = true\nlistener \"unix\" {{\n  address = {socket:?}\n}}\n"
    ));
    assert!(refuse(&other).errors.contains("cannot listen on"));
    ask("sys/health").expect(200);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!socket.exists());
}

#[test]
fn lease_lifetimes_of_the_configuration_are_the_ones_of_tokens() {
    let production = Production::new();
    production.configure_more("default_lease_ttl = \"2h\"\nmax_lease_ttl = \"3h\"");
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let token = http.send("POST", "auth/token/create", "{}").expect(200);
    assert_eq!(token.at("/auth/lease_duration"), 0, "a child of the root token has no end by itself");
    let token = http.send("POST", "auth/token/create", r#"{"policies": ["default"]}"#).expect(200);
    assert_eq!(token.at("/auth/lease_duration"), 7200);
    let token = http.send("POST", "auth/token/create", r#"{"policies": ["default"], "ttl": "9h"}"#).expect(200);
    assert_eq!(token.at("/auth/lease_duration"), 10800);
}

#[test]
fn several_files_and_directories_add_up_and_the_last_one_wins() {
    let production = Production::new();
    let directory = production.home().join("more");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("10-a.hcl"), "log_level = \"error\"\nstorage \"inmem\" {}\n").unwrap();
    std::fs::write(directory.join("20-b.json"), "{\"log_level\": \"warn\"}").unwrap();
    std::fs::write(directory.join("notes.txt"), "this is no configuration").unwrap();
    let config = production.config();
    let arguments = ["-config", config.to_str().unwrap(), "-config", directory.to_str().unwrap()];
    let server = Server::start(production.home(), &arguments);
    assert_eq!((server.said("Log Level: "), server.said("Storage: ")), ("warn".to_owned(), "inmem".to_owned()));
    drop(server);
    let local = [("VAULT_LOCAL_CONFIG", r#"{"log_level": "debug"}"#)];
    let server = Server::start_by(&[], production.home(), &arguments, &local);
    assert_eq!(server.said("Log Level: "), "debug");
    drop(server);
    // A container may have nothing else.
    let whole = format!("storage \"inmem\" {{}}\n{LISTENER}disable_mlock = true\n");
    let server = Server::start_by(&[], production.home(), &[], &[("VAULT_LOCAL_CONFIG", &whole)]);
    assert_eq!(server.said("Storage: "), "inmem");
    drop(server);
    let server = Server::start_by(&[], production.home(), &arguments, &[("VAULT_LOG_LEVEL", "trace")]);
    assert_eq!(server.said("Log Level: "), "trace");
}

#[test]
fn unknown_keys_warn_with_their_place_and_do_no_harm() {
    let production = Production::with_listener("colour = \"blue\"");
    production.configure_more("shiny = true\ncache_size = 5");
    let server = production.start();
    for (key, place) in [("`colour`", ":7:"), ("`shiny`", ":10:"), ("`cache_size`", ":11:")] {
        let place = format!("server.hcl{place}");
        until(key, || {
            let is_it = |line: &str| ["WARN", key, &place].iter().all(|part| line.contains(part));
            server.log().lines().any(is_it).then_some(())
        });
    }
    server.http().get("sys/init").expect(200);
}

#[test]
fn a_wrong_value_is_refused_with_file_line_and_column() {
    let base = "storage \"inmem\" {}\ndisable_mlock = true\n";
    let plain = format!("{base}{LISTENER}");
    let cases = [
        (format!("{plain}log_level = \"loud\""), "server.hcl:7:13: ", "log_level"),
        (format!("{plain}log_format = \"xml\""), "server.hcl:7:14: ", "log_format"),
        (format!("{plain}default_lease_ttl = \"soon\""), "server.hcl:7:21: ", "default_lease_ttl"),
        (format!("{plain}remove_irrevocable_lease_after = \"47h\""), "server.hcl:7:34: ", "is at least 48h"),
        (format!("{plain}ui = \"perhaps\""), "server.hcl:7:6: ", "ui"),
        (format!("{plain}pid_file = [1]"), "server.hcl:7:12: ", "pid_file"),
        (format!("{plain}experiments = [\"new\"]"), "server.hcl:7:15: ", "is no experiment of this release"),
        (format!("{plain}seal \"transit\" {{}}"), "server.hcl:7:16: ", "seal `transit`"),
        (
            format!("{plain}seal \"static\" {{\n  current_key_id = \"k\"\n  current_key = \"env://\"\n}}"),
            "server.hcl:9:17: ",
            "current_key",
        ),
        (
            format!("{plain}seal \"static\" {{\n  health_check_interval = \"0s\"\n}}"),
            "server.hcl:8:27: ",
            "`health_check_interval` must be longer",
        ),
        (format!("{plain}api_addr = \"unfinished"), "server.hcl:7:", ""),
        (format!("{plain}storage \"inmem\" {{}}"), "server.hcl:7:", "only one `storage`"),
        (format!("{LISTENER}storage \"consul\" {{}}"), "server.hcl:5:", "consul"),
        (format!("{LISTENER}storage \"file\" {{}}"), "server.hcl:5:", "path"),
        (
            format!("{base}listener \"tcp\" {{\n  address = \"nowhere\"\n  tls_disable = true\n}}"),
            "server.hcl:4:13: ",
            "address",
        ),
        (format!("{base}listener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n}}"), "server.hcl:3:", "tls_cert_file"),
        (format!("{base}listener \"tcp\" {{\n  tls_disable = \"maybe\"\n}}"), "server.hcl:4:17: ", "tls_disable"),
        (format!("{base}listener \"tcp\" {{\n  tls_min_version = \"tls11\"\n}}"), "server.hcl:4:21: ", "TLS 1.0"),
        (format!("{base}listener \"unix\" {{\n}}"), "server.hcl:3:", "the path of its socket"),
        (
            format!("{base}listener \"unix\" {{\n  address = \"/tmp/x\"\n  socket_mode = \"rw\"\n}}"),
            "server.hcl:5:17: ",
            "octal",
        ),
        (
            format!("{base}listener \"unix\" {{\n  address = \"/tmp/x\"\n  socket_user = \"nobody-of-that-name\"\n}}"),
            "server.hcl:5:17: ",
            "give its number",
        ),
        (format!("{base}listener \"pipe\" {{\n}}"), "server.hcl:3:", "listener `pipe`"),
        (
            format!("{plain}api_addr = \"http://{{{{ GetCloudIP }}}}:1\""),
            "server.hcl:7:12: ",
            "`GetCloudIP` is not available",
        ),
        (
            format!("{base}max_lease_ttl = \"1h\"\ndefault_lease_ttl = \"2h\"\n{LISTENER}"),
            "server.hcl:4:21: ",
            "default_lease_ttl",
        ),
        (base.to_owned(), "server.hcl: ", "listener"),
        (LISTENER.to_owned(), "server.hcl: ", "storage"),
    ];
    for (text, place, word) in cases {
        let production = Production::new();
        production.configure(&text);
        let errors = refuse(&production).errors;
        assert!(errors.contains(place) && errors.contains(word), "{text}\nwants {place}{word}:\n{errors}");
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let production = Production::new();
    std::fs::remove_file(production.config()).unwrap();
    assert!(refuse(&production).errors.contains("server.hcl: cannot be read"));
    std::fs::create_dir(production.config()).unwrap();
    assert!(refuse(&production).errors.contains("no configuration files found"));
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let finished = cli.run(&["server"]);
    assert_eq!(finished.code, 1);
    assert!(finished.errors.contains("-config"), "{finished:?}");
}

#[test]
fn a_storage_that_is_in_use_or_cannot_be_written_is_a_clear_refusal() {
    let production = Production::new();
    let server = production.start();
    let errors = refuse(&production).errors;
    assert!(errors.contains("in use"), "{errors}");
    server.http().get("sys/init").expect(200);
    drop(server);
    // Tests may run as a user who can write everywhere: a file in the way stops everybody.
    let production = Production::new();
    std::fs::write(production.data(), "a file").unwrap();
    let errors = refuse(&production).errors;
    assert!(errors.contains("data"), "{errors}");
    let production = Production::new();
    std::fs::create_dir(production.data()).unwrap();
    std::fs::write(production.data().join("index-00000001.db"), "this is no store").unwrap();
    let errors = refuse(&production).errors;
    assert!(errors.contains("index-00000001.db"), "{errors}");
}

#[test]
fn a_port_that_is_taken_is_a_clear_refusal() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let production = Production::new();
    let text = std::fs::read_to_string(production.config()).unwrap();
    production.configure(&text.replace("127.0.0.1:0", &address));
    let errors = refuse(&production).errors;
    assert!(errors.contains(&address) && errors.contains("in use"), "{errors}");
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let finished = cli.run(&["server", "-dev", "-dev-listen-address", &address]);
    assert_eq!(finished.code, 1);
    assert!(finished.errors.contains(&address) && finished.errors.contains("in use"), "{finished:?}");
}

#[test]
fn the_process_id_is_in_its_file_while_the_server_runs() {
    let production = Production::new();
    let file = production.home().join("server.pid");
    production.configure_more(&format!("pid_file = \"{}\"", file.display()));
    let mut server = production.start();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), server.pid().to_string());
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert!(!file.exists());
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let production = Production::new();
    production.configure_more("log_format = \"json\"");
    let (server, _keys) = production.start_ready();
    assert_eq!(server.said("Log Format: "), "json");
    until("a line", || server.log().contains("unsealed").then_some(()));
    for line in server.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn the_log_is_a_file_too_and_another_one_after_a_hang_up() {
    let production = Production::new();
    let (directory, file) = (production.home().join("logs"), production.home().join("logs/vault.log"));
    production.configure_more("log_file = \"logs/\"\nlog_rotate_bytes = 1000000");
    let (server, _keys) = production.start_ready();
    let has = |path: &std::path::Path, text: &str| {
        until(text, || std::fs::read_to_string(path).ok()?.contains(text).then_some(()));
    };
    has(&file, "unsealed");
    std::fs::rename(&file, directory.join("before")).unwrap();
    server.signal(rustix::process::Signal::HUP);
    has(&file, "configuration reloaded");
    drop(server);
    // Flags win, and a file that cannot be had is said.
    let other = production.home().join("other.log");
    let config = production.config();
    let arguments = ["-config", config.to_str().unwrap(), "-log-file", other.to_str().unwrap()];
    let server = Server::start(production.home(), &arguments);
    server.signal(rustix::process::Signal::USR2);
    has(&other, "what runs");
    drop(server);
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let refused = cli.run(&["server", arguments[0], arguments[1], "-log-file=/dev/null/x"]);
    assert!(refused.code == 1 && refused.errors.contains("log file `/dev/null/x`"), "{refused:?}");
}

#[test]
fn memory_is_locked_unless_that_is_disabled() {
    let production = Production::new();
    let text = std::fs::read_to_string(production.config()).unwrap().replace("disable_mlock = true", "");
    production.configure(&text);
    let locked = |server: &Server| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Whether whoever runs tests may lock memory is not ours to choose: the other outcome must be as clear.
    let cli = Cli { home: production.home(), environment: Vec::new() };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let may_by_capability = u64::from_str_radix(capabilities.trim(), 16).unwrap() & (1 << 14) != 0;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    if may_by_capability || limit.current.is_none() {
        let server = production.start();
        assert!(server.said("Mlock: ").contains("enabled: true"));
        assert!(locked(&server) > 0);
        Keys::initialize(&server.http(), 1, 1).unseal(&server.http());
    } else {
        let finished = cli.run(&["server", "-config", production.config().to_str().unwrap()]);
        assert_eq!(finished.code, 1);
        assert!(finished.errors.contains("disable_mlock"), "{finished:?}");
    }
    let production = Production::new();
    let server = production.start();
    assert!(server.said("Mlock: ").contains("enabled: false"));
    assert_eq!(locked(&server), 0);
}

#[test]
fn a_directory_of_another_kind_of_storage_is_refused_by_name_and_says_what_to_do() {
    for (mine, other, production) in [("file", "raft", Production::new()), ("raft", "file", Production::raft())] {
        drop(production.start_ready());
        let text = std::fs::read_to_string(production.config()).unwrap();
        production.configure(&text.replace(&format!("\"{mine}\""), &format!("\"{other}\"")));
        let errors = refuse(&production).errors;
        let place = production.data().display().to_string();
        for said in [place.as_str(), &format!("holds what storage \"{mine}\" wrote"), "snapshot"] {
            assert!(errors.contains(said), "{errors}");
        }
        production.configure(&text);
        production.start().http().get("sys/init").expect(200);
    }
}

#[test]
fn a_node_that_is_alone_is_read_only_when_space_is_low_and_writes_again_when_it_is_not() {
    let production = Production::raft();
    let (server, keys) = production.start_ready();
    server.http().with_token(&keys.root).post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    drop(server);
    let text = std::fs::read_to_string(production.config()).unwrap();
    let low = format!("free_space_min = {}\n  path", i64::MAX);
    production.configure(&text.replacen("path", &low, 1));
    let server = production.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    http.post("kv/a", &json!({ "v": 1 })).expect(503);
    http.get("sys/mounts").expect(200);
    assert!(http.get("sys/health").text_at("/storage").contains("space"));
    drop(server);
    production.configure(&text);
    let server = production.start();
    keys.unseal(&server.http());
    server.http().with_token(&keys.root).post("kv/a", &json!({ "v": 1 })).expect(204);
}

#[test]
fn a_listener_bounds_what_is_sent_as_json() {
    let production = Production::with_listener(
        "max_json_depth = 3\n  max_json_string_value_length = 100\n  max_json_object_entry_count = 4\n  \
         max_json_array_element_count = 2",
    );
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("cubbyhole/a", &json!({ "a": [1, 2], "b": 1, "c": 1, "d": 1 })).expect(204);
    http.post("cubbyhole/a", &json!({ "a": [1, 2, 3] })).expect(400);
    http.post("cubbyhole/a", &json!({ "a": 1, "b": 1, "c": 1, "d": 1, "e": 1 })).expect(400);
    http.post("cubbyhole/a", &json!({ "a": { "b": "x".repeat(100) } })).expect(204);
    http.post("cubbyhole/a", &json!({ "a": "x".repeat(101) })).expect(400);
    http.post("cubbyhole/a", &json!({ "a": { "b": { "c": { "d": 1 } } } })).expect(400);
    drop(server);
    let text = std::fs::read_to_string(production.config()).unwrap();
    let together = "max_json_depth = 3\n  max_request_json_strings = 4\n  max_request_json_memory = 150";
    production.configure(&text.replace("max_json_depth = 3", together));
    let server = production.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    http.post("cubbyhole/a", &json!({ "a": "b", "c": "d" })).expect(204);
    http.post("cubbyhole/a", &json!({ "a": "b", "c": "d", "e": 1 })).expect(400);
    http.post("cubbyhole/a", &json!({ "a": "x".repeat(80), "b": "x".repeat(80) })).expect(400);
    drop(server);
    production.configure(&text.replace("max_json_depth = 3", "max_json_depth = -3"));
    assert!(refuse(&production).errors.contains("`max_json_depth` is a number above zero"));
}

#[test]
fn answers_have_the_headers_that_an_operator_wants() {
    let production = Production::raft();
    let text = std::fs::read_to_string(production.config()).unwrap();
    let wanted = "custom_response_headers {\n    \"default\" = { \"X-All\" = [\"a\", \"b\"] }\n    \
                  \"4xx\" = { \"X-Class\" = [\"c\"] }\n    \"404\" = { \"X-All\" = [\"one\"] }\n  }\n";
    let text = text.replace("tls_disable = true\n", &format!("tls_disable = true\n  {wanted}"));
    production.configure(&format!(
        "{text}\nenable_response_header_hostname = true\nenable_response_header_raft_node_id = true\n"
    ));
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let head = |path: &str| http.get(path).head.to_ascii_lowercase();
    let found = head("sys/mounts");
    assert!(found.contains("x-all: a\r\n") && found.contains("x-all: b\r\n") && !found.contains("x-class"), "{found}");
    let absent = head("cubbyhole/nothing");
    assert!(absent.contains("x-all: one\r\n") && absent.contains("x-class: c\r\n"), "{absent}");
    assert!(found.contains("x-vault-hostname: ") && found.contains("x-vault-raft-node-id: "), "{found}");
    drop(server);
    production.configure(&text.replace("\"404\"", "\"604\""));
    let refused = refuse(&production);
    assert!(
        refused.errors.contains("custom_response_headers") && refused.errors.contains("server.hcl:"),
        "{refused:?}"
    );
}

#[test]
fn tim_05_a_listener_keeps_names_addresses_and_versions_from_strangers() {
    let production = Production::new();
    let more = "redact_addresses = true\n  redact_cluster_name = true\n  redact_version = true\n";
    let open = LISTENER.to_owned();
    let closed = LISTENER.replace("}\n", &format!("  {more}}}\n"));
    let storage = format!("storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"a\"\n}}\n", production.data().display());
    let places = format!(
        "api_addr = \"https://vault.example.com:8200\"\ncluster_addr = \"https://{}\"\n",
        crate::support::cluster::free_address()
    );
    production.configure(&format!("{storage}{open}{closed}{places}disable_mlock = true\n"));
    let (server, keys) = production.start_ready();
    let of = |number: usize| {
        let line = server.said(&format!("Listener {number}: "));
        let address = line.split('"').nth(1).unwrap().to_owned();
        Http::new(address.parse().unwrap())
    };
    let shown = |number: usize, path: &str, fields: &[&str]| {
        let answer = of(number).get(path).expect(200);
        fields.iter().map(|field| answer.at(field).as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (path, fields) in [
        ("sys/health", &["/cluster_name", "/cluster_id", "/version"][..]),
        ("sys/seal-status", &["/cluster_name", "/cluster_id", "/version"][..]),
        ("sys/leader", &["/leader_address", "/leader_cluster_address"][..]),
    ] {
        assert!(shown(1, path, fields).iter().all(|text| !text.is_empty()), "{path}");
        assert!(shown(2, path, fields).iter().all(String::is_empty), "{path}");
    }
    let http = of(2).with_token(&keys.root);
    assert_ne!(http.get("sys/ha-status").expect(200).at("/data/nodes/0/api_address"), "", "who has a token is told");
}
