//! Audit devices against real sockets, real files and real limits: requests go on, nothing is lost, nobody is kept.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::support::{Http, Keys, Production, Server, binary, command, until};

/// A body whose record is long, so that few requests fill what lies between two ends of a connection.
fn long(number: usize) -> Value {
    let fields: serde_json::Map<String, Value> =
        (0..60).map(|field| (format!("field-{field}"), json!(format!("value-{number}-{field}")))).collect();
    Value::Object(fields)
}

fn path(number: usize) -> String {
    format!("kv/{number}")
}

/// The numbers of the requests whose answers are in these lines, in their order.
fn answered(text: &[u8]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(record) = serde_json::from_slice::<Value>(line) else { continue };
        let number = record["request"]["path"].as_str().and_then(|path| path.strip_prefix("kv/")?.parse().ok());
        if let (Some(number), "response") = (number, record["type"].as_str().unwrap()) {
            numbers.push(number);
        }
    }
    numbers
}

/// The same, each number when it comes first.
fn first_answered(text: &[u8]) -> Vec<usize> {
    let mut firsts = Vec::new();
    for number in answered(text) {
        if !firsts.contains(&number) {
            firsts.push(number);
        }
    }
    firsts
}

fn ready(production: &Production) -> (Server, Http) {
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    (server, http)
}

fn enable(http: &Http, kind: &str, options: &Value) {
    http.post(&format!("sys/audit/{kind}"), &json!({ "type": kind, "options": options })).expect(204);
}

fn device(http: &Http, path: &str) -> Value {
    http.get("sys/audit-status").expect(200).at("/data/devices")[path].clone()
}

/// Reads a stream to its end in a thread, as far as it has come.
fn collect(mut stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let text = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            collected.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
    });
    text
}

#[test]
fn a_peer_that_stops_reading_delays_nobody_loses_nothing_and_can_be_disabled() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16 * 1024).unwrap();
    let production = Production::new();
    let (server, http) = ready(&production);
    enable(
        &http,
        "socket",
        &json!({ "address": listener.local_addr().unwrap().to_string(), "write_timeout": "100ms" }),
    );
    let mut tried = String::new();
    listener.accept().unwrap().0.read_to_string(&mut tried).unwrap();
    assert!(tried.contains("sys/audit/test"), "{tried}");
    http.post(&path(0), &long(0)).expect(204);
    let (peer, _) = listener.accept().unwrap();
    let mut count = 1;
    until("the peer's buffers to be full", || {
        http.post(&path(count), &long(count)).expect(204);
        count += 1;
        device(&http, "socket/")["last_error"].as_str().filter(|error| error.contains("does not read")).map(drop)
    });
    for _ in 0..100 {
        http.post(&path(count), &long(count)).expect(204);
        count += 1;
    }
    let behind = device(&http, "socket/");
    assert!(behind["lag_records"].as_u64() > Some(200) && behind["lag_bytes"].as_u64() > Some(100_000), "{behind}");
    server.has_logged("an audit device does not take its records");
    let text = collect(peer.try_clone().unwrap());
    until("the last record", || answered(&text.lock().unwrap()).contains(&(count - 1)).then_some(()));
    assert_eq!(answered(&text.lock().unwrap()), (0..count).collect::<Vec<_>>(), "each once, in order");

    // The same again, and this time it is disabled.
    drop(peer);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = json!({ "address": listener.local_addr().unwrap().to_string(), "write_timeout": "100ms" });
    http.post("sys/audit/second", &json!({ "type": "socket", "options": options })).expect(204);
    until("the second to stall", || {
        http.post(&path(0), &long(0)).expect(204);
        device(&http, "second/")["last_error"].as_str().filter(|error| !error.is_empty()).map(drop)
    });
    http.send("DELETE", "sys/audit/second", "").expect(204);
    assert_eq!(device(&http, "second/"), Value::Null);
    http.post(&path(0), &long(0)).expect(204);
}

#[test]
fn a_peer_that_dies_unread_and_comes_back_is_told_everything() {
    let production = Production::new();
    let (_server, http) = ready(&production);
    let socket = production.home().join("collector.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    enable(&http, "socket", &json!({ "address": socket, "socket_type": "unix" }));
    drop(listener.accept().unwrap());
    for number in 0..50 {
        http.post(&path(number), &long(number)).expect(204);
    }
    let (unread, _) = listener.accept().unwrap();
    drop((unread, listener));
    std::fs::remove_file(&socket).unwrap();
    for number in 50..60 {
        http.post(&path(number), &long(number)).expect(204);
    }
    until("the device to notice", || {
        device(&http, "socket/")["last_error"].as_str().filter(|e| !e.is_empty()).map(drop)
    });
    let listener = UnixListener::bind(&socket).unwrap();
    let text = collect(listener.accept().unwrap().0);
    until("the last record", || answered(&text.lock().unwrap()).contains(&59).then_some(()));
    assert_eq!(first_answered(&text.lock().unwrap()), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_rotated_and_a_deleted_file_are_noticed_with_and_without_a_signal() {
    let production = Production::new();
    let (server, http) = ready(&production);
    let (file, old) = (production.home().join("audit.log"), production.home().join("audit.log.1"));
    enable(&http, "file", &json!({ "file_path": file, "mode": "0640" }));
    let text_of = |path: &Path| std::fs::read(path).unwrap_or_default();
    let wait_for = |number: usize| until("a record", || answered(&text_of(&file)).contains(&number).then_some(()));
    for number in 0..10 {
        http.post(&path(number), &long(number)).expect(204);
    }
    wait_for(9);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    // As logrotate does it, with its signal.
    std::fs::rename(&file, &old).unwrap();
    server.signal(Signal::HUP);
    for number in 10..20 {
        http.post(&path(number), &long(number)).expect(204);
    }
    wait_for(19);
    let mut all = text_of(&old);
    all.extend(text_of(&file));
    assert_eq!(first_answered(&all), (0..20).collect::<Vec<_>>());
    // Somebody deletes it, and nobody says anything.
    std::fs::remove_file(&file).unwrap();
    for number in 20..30 {
        http.post(&path(number), &long(number)).expect(204);
    }
    wait_for(29);
    assert_eq!(answered(&text_of(&file)), (20..30).collect::<Vec<_>>());
}

fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[test]
fn a_full_disk_under_a_file_delays_nobody_and_its_records_come_once_there_is_room() {
    let production = Production::new();
    let (server, http) = ready(&production);
    let file = production.home().join("audit.log");
    enable(&http, "file", &json!({ "file_path": file }));
    http.post(&path(0), &long(0)).expect(204);
    until("a record", || answered(&std::fs::read(&file).unwrap()).contains(&0).then_some(()));
    // No file may grow beyond this: the store and the local log are shorter, the device's file is longer.
    let limit = 256 << 20;
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(limit).unwrap();
    limit_files(&server, Some(limit));
    for number in 1..30 {
        http.post(&path(number), &long(number)).expect(204);
    }
    until("the device to notice", || device(&http, "file/")["last_error"].as_str().filter(|e| !e.is_empty()).map(drop));
    let refused = http.post("sys/audit/other", &json!({ "type": "file", "options": { "file_path": file } }));
    assert_eq!(refused.status, 400, "a device that cannot write is not enabled");
    std::fs::rename(&file, production.home().join("audit.log.1")).unwrap();
    until("the last record", || {
        let text = std::fs::read(&file).unwrap_or_default();
        (answered(&text) == (1..30).collect::<Vec<_>>()).then_some(())
    });
}

#[test]
fn a_local_log_that_cannot_be_written_refuses_says_why_and_heals_without_a_restart() {
    let production = Production::new();
    let (server, http) = ready(&production);
    enable(&http, "file", &json!({ "file_path": production.home().join("audit.log") }));
    http.post(&path(0), &long(0)).expect(204);
    limit_files(&server, Some(0));
    until("a refusal", || (http.get(&path(0)).status == 500).then_some(()));
    let health = http.get("sys/health").expect(503);
    let said = health.text_at("/audit_log");
    assert!(said.contains("does not accept records") && said.contains("File too large"), "{said}");
    assert_eq!(http.get("sys/seal-status").expect(200).text_at("/audit_log"), said);
    server.has_logged("the local audit log takes no records");
    limit_files(&server, None);
    until("health", || (http.get("sys/health").status == 200).then_some(()));
    http.post(&path(1), &long(1)).expect(204);
    http.get(&path(1)).expect(200);
    let file = production.home().join("audit.log");
    until("a record", || answered(&std::fs::read(&file).unwrap()).contains(&1).then_some(()));
}

#[test]
fn standard_output_that_nobody_reads_keeps_neither_requests_nor_the_end() {
    let production = Production::new();
    let mut child = command(binary(), production.home())
        .args(["server", "-config", production.config().to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut address = None;
    let mut line = String::new();
    while !line.contains("server started!") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some((_, rest)) = line.split_once("(addr: \"") {
            address = Some(rest.split_once('"').unwrap().0.parse().unwrap());
        }
    }
    let http = Http::new(address.unwrap());
    let keys = Keys::initialize(&http, 1, 1);
    keys.unseal(&http);
    let http = http.with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    enable(&http, "file", &json!({ "file_path": "stdout" }));
    // A pipe holds 64 KiB.
    for number in 0..60 {
        http.post(&path(number), &long(number)).expect(204);
    }
    assert!(device(&http, "file/")["lag_records"].as_u64() > Some(0));
    http.send("DELETE", "sys/audit/file", "").expect(204);
    http.post(&path(0), &long(0)).expect(204);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    until("the server's end", || child.try_wait().unwrap());
    drop(output);
}

#[test]
fn a_peer_that_is_gone_or_never_was_is_no_device() {
    let production = Production::new();
    let (_server, http) = ready(&production);
    // The port of a client: it is taken, and nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let deaf = client.local_addr().unwrap().to_string();
    let refused = http.post("sys/audit/socket", &json!({ "type": "socket", "options": { "address": deaf } }));
    assert_eq!(refused.status, 400);
    let errors = refused.errors().unwrap_or_default();
    assert!(errors.iter().any(|error| error.starts_with("audit backend failed test message: ")), "{errors:?}");
    assert_eq!(http.get("sys/audit").expect(200).at("/data"), json!({}));
}
