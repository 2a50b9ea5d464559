//! What happens, told over real WebSockets: to a client of another make and to our own command line, to one that does not read,
//! one that is cut off, and while the server ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{Cli, Http, Server, until};

const ANY: &str = "-dev-listen-address=127.0.0.1:0";
/// The key of the example in RFC 6455, and its answer.
const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// How many events of a few kilobytes are more than sockets and a queue hold together.
const WRITES: usize = 4_000;

/// The connection after the head of the answer, and that.
fn asked(http: &Http, path: &str) -> (TcpStream, String) {
    let mut stream = http.connect();
    let head = http.head_of("GET", path, 0).replace("Connection: close\r\n", "");
    let key = KEY.0;
    let offer = format!(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(head.replace("\r\n\r\n", &format!("\r\n{offer}")).as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).unwrap())
}

fn listen(http: &Http, path: &str) -> WebSocket<TcpStream> {
    let (stream, head) = asked(http, path);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains(KEY.1), "{head}");
    WebSocket::from_raw_socket(stream, Role::Client, None)
}

fn next(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Why a stream ends, after whatever is told before.
fn ending(socket: &mut WebSocket<TcpStream>) -> Option<CloseCode> {
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => return Some(frame.code),
            Ok(Message::Close(None)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn write(http: &Http, name: &str, value: &str) {
    http.post(&format!("secret/data/{name}"), &json!({ "data": { "password": value } })).expect(200);
}

const PATH: &str = "sys/events/subscribe/kv-v2/*?json=true";

#[test]
fn a_client_is_told_what_happens_and_goes_on_after_its_connection_was_cut() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["-dev", ANY]);
    let http = server.http().with_token(&server.said("Root Token: "));
    let mut socket = listen(&http, PATH);
    let mut other = listen(&http, PATH);
    write(&http, "a", "canary-of-events");
    for socket in [&mut socket, &mut other] {
        let event = next(socket);
        assert_eq!(event["data"]["event_type"], "kv-v2/data-write");
        assert_eq!(event["data"]["event"]["metadata"]["data_path"], "secret/data/a");
        assert!(!event.to_string().contains("canary-of-events"));
    }
    // Cut in the middle, without a word: the others are told, and whoever comes again is, too.
    drop(socket);
    for number in 0..20 {
        write(&http, &format!("b{number}"), "x");
        assert_eq!(next(&mut other)["data"]["event"]["metadata"]["path"], format!("secret/data/b{number}"));
    }
    let mut again = listen(&http, PATH);
    write(&http, "c", "x");
    assert_eq!(next(&mut again)["data"]["event"]["metadata"]["path"], "secret/data/c");
    // Who leaves as one should is answered so, and who speaks is told not to.
    again.close(None).unwrap();
    assert_eq!(ending(&mut again), None);
    other.send(Message::text("hello")).unwrap();
    assert_eq!(ending(&mut other), Some(CloseCode::Policy));
    // Refusals are answers like any other.
    let (_, head) = asked(&http.with_token("hvs.nobody"), PATH);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    http.get(PATH).expect(400);
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_keeps_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["-dev", ANY]);
    let http = server.http().with_token(&server.said("Root Token: "));
    let mut slow = listen(&http, PATH);
    let name = "n".repeat(200);
    let name = [name.as_str(); 16].join("/");
    let body = json!({ "data": {} }).to_string();
    let mut stream = http.connect();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let head = http.head_of("POST", &format!("secret/data/{name}"), body.len()).replace("Connection: close\r\n", "");
    let request = format!("{head}{body}");
    for _ in 0..WRITES {
        stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        loop {
            line.clear();
            answers.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        answers.read_exact(&mut vec![0; length]).unwrap();
    }
    // Reading on, it finds what was under way, and then why there is no more.
    let (begun, mut told) = (Instant::now(), 0);
    let end = loop {
        match slow.read() {
            Ok(Message::Text(_)) => told += 1,
            Ok(Message::Close(frame)) => break frame.map(|frame| frame.code),
            Ok(_) => {}
            Err(_) => break None,
        }
    };
    assert_eq!(end, Some(CloseCode::Again));
    assert!(told > 0 && told < WRITES, "{told} events were told");
    assert!(begun.elapsed() < Duration::from_secs(30), "nobody ended it");
    http.get("sys/health").expect(200);
}

#[test]
fn a_server_that_stops_waits_for_no_stream_and_says_that_it_goes() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::start(home.path(), &["-dev", ANY]);
    let http = server.http().with_token(&server.said("Root Token: "));
    let mut socket = listen(&http, PATH);
    let mut silent = listen(&http, PATH);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(ending(&mut socket), Some(CloseCode::Away));
    assert!(server.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(9), "it waited for a stream: {:?}", begun.elapsed());
    assert!(matches!(ending(&mut silent), None | Some(CloseCode::Away)));
}

#[test]
fn the_command_line_prints_a_line_for_each_event_until_it_is_to_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["-dev", ANY]);
    let token = server.said("Root Token: ");
    let http = server.http().with_token(&token);
    let cli = Cli::new(home.path(), server.address, &token);
    let mut child = cli.start(&["events", "subscribe", "-filter=operation == \"data-write\"", "kv-v2/*"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It listens when what happens is printed.
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let line = lines.next().unwrap().unwrap();
        sender.send(line).unwrap();
    });
    let line = until("a line of the command", || {
        write(&http, "a", "x");
        http.send("PATCH", "secret/metadata/a", "{}");
        receiver.recv_timeout(Duration::from_millis(100)).ok()
    });
    reader.join().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["data"]["event_type"], "kv-v2/data-write");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(cli.succeed(&["events", "subscribe", "-timeout=200ms", "kv-v2/none"]), "");
    let refused = cli.run(&["events", "subscribe", "-filter=x == y", "*"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.errors.contains("invalid filter"), "{refused:?}");
}
