//! SIGTERM and SIGINT let requests end; SIGHUP reloads.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Production, read_answer, until};

#[test]
fn a_request_that_is_under_way_is_answered_before_the_server_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let production = Production::new();
        let (mut server, keys) = production.start_ready();
        let http = server.http();
        let owner = http.with_token(&keys.root);
        owner.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
        let body = r#"{"x": "written while stopping"}"#;
        let mut under_way = owner.begin("POST", "kv/a", body.len());
        under_way.write_all(&body.as_bytes()[..5]).unwrap();
        // An idle connection must not keep the server.
        let mut idle = http.connect();
        idle.write_all(b"GET /v1/sys/health HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut idle).unwrap().status, 200);
        let half_open = http.connect();
        server.signal(signal);
        until("the end of accepting", || std::net::TcpStream::connect(server.address).err());
        assert!(server.is_running(), "a request is under way");
        under_way.write_all(&body.as_bytes()[5..]).unwrap();
        assert_eq!(read_answer(&mut under_way).unwrap().status, 204);
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        until("the last line", || server.log().contains("server stopped").then_some(()));
        drop((idle, half_open, server));
        let server = production.start();
        keys.unseal(&server.http());
        let read = server.http().with_token(&keys.root).get("kv/a").expect(200);
        assert_eq!(read.at("/data/x"), json!("written while stopping"));
    }
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_server() {
    let production = Production::new();
    let (mut server, keys) = production.start_ready();
    // It never gets its body.
    let _endless = server.http().with_token(&keys.root).begin("POST", "sys/mounts/a", 9);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let production = Production::new();
    let (mut server, keys) = production.start_ready();
    // It never gets its body.
    let _endless = server.http().with_token(&keys.root).begin("POST", "sys/mounts/a", 9);
    server.signal(Signal::TERM);
    until("the end of accepting", || std::net::TcpStream::connect(server.address).err());
    let told_again = Instant::now();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    // Waiting for the request would take ten seconds.
    assert!(told_again.elapsed() < Duration::from_secs(8), "{:?}", told_again.elapsed());
    server.has_logged("told to stop again");
}

#[test]
fn a_hang_up_changes_what_is_logged() {
    let production = Production::new();
    production.configure_more("log_level = \"info\"");
    let (server, _keys) = production.start_ready();
    let ask = || server.http().get("sys/health").expect(200);
    let reload = |level: &str, times: usize| {
        let text = std::fs::read_to_string(production.config()).unwrap();
        let kept = text.lines().filter(|line| !line.starts_with("log_level")).collect::<Vec<_>>().join("\n");
        production.configure(&format!("{kept}\nlog_level = \"{level}\"\n"));
        server.signal(Signal::HUP);
        until("the reload", || (server.log().matches("configuration reloaded").count() == times).then_some(()));
    };
    ask();
    reload("debug", 1);
    assert!(!server.log().contains("request answered"), "{}", server.log());
    ask();
    until("a line of the new level", || server.log().contains("request answered").then_some(()));
    // A configuration that makes no sense changes nothing and ends nothing.
    let text = std::fs::read_to_string(production.config()).unwrap();
    production.configure("log_level = \"loud\"");
    server.signal(Signal::HUP);
    until("the complaint", || server.log().contains("cannot be reloaded").then_some(()));
    assert!(server.log().contains("server.hcl:1:13"), "{}", server.log());
    production.configure(&text);
    let before = server.log().matches("request answered").count();
    ask();
    until("the old level", || (server.log().matches("request answered").count() > before).then_some(()));
    reload("info", 2);
    let before = server.log().matches("request answered").count();
    ask();
    reload("info", 3);
    assert_eq!(server.log().matches("request answered").count(), before);
}

#[test]
fn answered_requests_are_logged_at_the_level_that_a_hang_up_sets() {
    let production = Production::new();
    let text = std::fs::read_to_string(production.config()).unwrap();
    let (server, keys) = production.start_ready();
    let reload = |more: &str, times: usize| {
        production.configure(&format!("{text}\n{more}\n"));
        server.signal(Signal::HUP);
        until("the reload", || (server.log().matches("configuration reloaded").count() == times).then_some(()));
    };
    let http = server.http().with_token(&keys.root);
    http.get("sys/mounts").expect(200);
    reload("log_requests_level = \"warn\"\ndefault_lease_ttl = \"1h\"", 1);
    // What only a restart follows is said.
    assert!(server.log().contains("default_lease_ttl") && !server.log().contains("completed_request"));
    http.get("sys/mounts?a=canary-query").expect(200);
    until("the line", || server.log().contains("completed_request").then_some(()));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("completed_request")).unwrap();
    for part in ["WARN", "request_path=\"/v1/sys/mounts\"", "request_method=\"GET\"", "status_code=200", "127.0.0.1:"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains(&keys.root) && !line.contains("canary"), "{line}");
    reload("", 2);
    http.get("sys/mounts").expect(200);
    assert_eq!(server.log().matches("completed_request").count(), 1);
}

#[test]
fn a_signal_shows_what_runs() {
    let production = Production::new();
    let (server, _keys) = production.start_ready();
    // A request runs on for a moment after its answer.
    until("that nothing runs", || {
        server.signal(Signal::USR2);
        let log = server.log();
        log.lines().any(|line| line.contains("SIGUSR2: what runs") && line.contains("requests=0")).then_some(())
    });
    server.http().get("sys/health").expect(200);
}

#[test]
fn a_hang_up_reopens_audit_files_that_were_moved_away() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let file = production.home().join("audit.log");
    let options = json!({ "type": "file", "options": { "file_path": file.to_str().unwrap() } });
    http.send("PUT", "sys/audit/file", &options.to_string()).expect(204);
    http.get("sys/mounts").expect(200);
    let moved = production.home().join("audit.log.1");
    until("the first records", || (std::fs::read_to_string(&file).ok()?.contains("sys/mounts")).then_some(()));
    std::fs::rename(&file, &moved).unwrap();
    server.signal(Signal::HUP);
    until("the new file", || {
        http.get("sys/policies/acl/default").expect(200);
        std::fs::read_to_string(&file).ok()?.contains("sys/policies/acl/default").then_some(())
    });
}

#[test]
fn sys_30_a_server_writes_a_ledger_and_goes_on_in_another_file_after_a_hang_up() {
    let production = Production::new();
    let (ledger, aside) = (production.home().join("ledger"), production.home().join("aside"));
    production.configure_more(&format!(
        "observations {{\n ledger_path = \"{}\"\n type_prefix_denylist = [\"mount/\"]\n file_mode = \"0640\"\n}}",
        ledger.display()
    ));
    let (server, keys) = production.start_ready();
    let owner = server.http().with_token(&keys.root);
    let kinds = |path: &std::path::Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let kind = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["type"].as_str().unwrap().to_owned()
        };
        whole.lines().map(kind).collect()
    };
    let has = |path: &std::path::Path, kind: &str| {
        until(kind, || kinds(path).iter().any(|known| known == kind).then_some(()));
    };
    owner.post("sys/mounts/kv", &json!({ "type": "kv-v2" })).expect(204);
    owner.post("kv/data/a", &json!({ "data": { "value": "planted-in-the-ledger" } })).expect(200);
    has(&ledger, "kv-v2/data-write");
    assert!(!kinds(&ledger).iter().any(|kind| kind.starts_with("mount/")));
    std::fs::rename(&ledger, &aside).unwrap();
    server.signal(Signal::HUP);
    until("the reload", || server.log().contains("configuration reloaded").then_some(()));
    let token = owner.post("auth/token/create", &json!({ "ttl": "1h" })).expect(200);
    has(&ledger, "token/create");
    let text = [&ledger, &aside].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let secret = token.at("/auth/client_token");
    for secret in ["planted-in-the-ledger", secret.as_str().unwrap(), &keys.root] {
        assert!(!text.contains(secret));
    }
}
