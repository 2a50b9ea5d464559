//! Connections that misbehave: slow, silent, broken off, smuggling. Each costs itself alone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{BOUND, Http, Production, Server, read_answer, until};

/// A server that is soon impatient.
fn impatient() -> (Production, Server, Http) {
    let production = Production::with_listener(
        "http_read_header_timeout = \"3s\"\n  http_read_timeout = \"3s\"\n  http_idle_timeout = \"4s\"",
    );
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    (production, server, http)
}

/// What arrives until the server ends the connection.
fn until_closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let begin = Instant::now();
    let _ = stream.read_to_end(&mut text);
    assert!(begin.elapsed() < BOUND, "the server never ended the connection");
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn silent_and_slow_clients_are_cut_off_while_others_are_served() {
    let (_production, server, http) = impatient();
    let begun = |bytes: &str| {
        let mut stream = http.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    // Many at once: none may take another's place.
    let mut silent: Vec<TcpStream> = (0..200).map(|_| http.connect()).collect();
    let mut halves = [
        begun("P"),
        begun("GET"),
        begun("GET /v1/sys/health HTTP/1.1\r\nHost: h\r\nX-A: "),
        begun("PRI * HTTP/2.0\r\n"),
        begun("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ];
    http.get("sys/health").expect(200);
    for stream in silent.iter_mut().chain(&mut halves) {
        let text = until_closed(stream);
        assert!(!text.contains("200 OK"), "{text}");
    }
    // A body that does not come.
    let mut waiting = begun(&http.head_of("POST", "kv/slow", 100));
    waiting.write_all(b"{\"x\":").unwrap();
    let answer = read_answer(&mut waiting).expect("an answer");
    assert_eq!((answer.status, answer.errors().map(|errors| errors.len())), (408, Some(1)), "{}", answer.text);
    // A body that comes drop by drop: the bound is one for the whole body, not one for each drop.
    let mut dripping = begun(&http.head_of("POST", "kv/slow", 1_000_000));
    let mut reader = dripping.try_clone().unwrap();
    let begin = Instant::now();
    let reading = std::thread::spawn(move || read_answer(&mut reader));
    while !reading.is_finished() && begin.elapsed() < BOUND {
        let _ = dripping.write_all(b" ");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(reading.join().unwrap().expect("an answer").status, 408);
    // A connection that was used once and then falls silent, or begins a head and never ends it.
    for rest in ["", "GET /v1/sys/he"] {
        let mut idle = begun("GET /v1/sys/init HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(read_answer(&mut idle).unwrap().status, 200);
        idle.write_all(rest.as_bytes()).unwrap();
        assert_eq!(until_closed(&mut idle), "");
    }
    http.get("kv/slow").expect(404);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let production = Production::with_listener("http_write_timeout = \"1s\"");
    production.configure_more("log_level = \"debug\"");
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    // More than the buffers of both sides hold.
    let length = 12 << 20;
    http.post("kv/large", &json!({ "x": "y".repeat(length) })).expect(204);
    let mut deaf = http.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&deaf, 64 * 1024).unwrap();
    deaf.write_all(http.head_of("GET", "kv/large", 0).as_bytes()).unwrap();
    until("the end of its connection", || server.log().contains("connection ended").then_some(()));
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.len() < length, "all of the answer arrived: {} bytes", rest.len());
    // Whoever reads gets everything.
    assert_eq!(http.get("kv/large").expect(200).text_at("/data/x").len(), length);
}

#[test]
fn clients_that_go_away_leave_no_trace_and_never_undo_what_was_acknowledged() {
    let (_production, server, http) = impatient();
    let body = json!({ "x": "y".repeat(100_000) }).to_string();
    let whole = [http.head_of("POST", "kv/gone", body.len()), body.clone()].concat();
    for step in 0..60 {
        let mut stream = http.connect();
        let length = whole.len() * step / 60;
        stream.write_all(&whole.as_bytes()[..length]).unwrap();
        match step % 3 {
            0 => drop(stream),
            1 => {
                // Unread bytes make the system send a reset.
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                drop(stream);
            }
            _ => stream.shutdown(std::net::Shutdown::Write).unwrap(),
        }
    }
    http.get("kv/gone").expect(404);
    // A whole request whose client does not wait for the answer is still done, wholly or not at all.
    for step in 0..20 {
        let mut stream = http.connect();
        stream
            .write_all(
                &[http.head_of("POST", &format!("kv/whole{step}"), body.len()), body.clone()].concat().into_bytes(),
            )
            .unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        http.post(&format!("kv/kept{step}"), &json!({ "x": step })).expect(204);
    }
    for step in 0..20 {
        assert_eq!(http.get(&format!("kv/kept{step}")).expect(200).at("/data/x"), json!(step));
        let read = http.get(&format!("kv/whole{step}"));
        assert!(read.status == 404 || read.at("/data/x") == json!("y".repeat(100_000)), "{}", read.head);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn nothing_can_be_smuggled_behind_a_request() {
    let (_production, _server, http) = impatient();
    let token_line =
        http.head_of("GET", "x", 0).lines().find(|line| line.starts_with("X-Vault-Token")).unwrap().to_owned();
    let hidden = format!("DELETE /v1/kv/kept HTTP/1.1\r\nHost: h\r\n{token_line}\r\n\r\n");
    let post = |headers: &str, body: &str| {
        format!("POST /v1/kv/a HTTP/1.1\r\nHost: h\r\n{token_line}\r\n{headers}\r\n\r\n{body}")
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let end = "0\r\n\r\n";
    let cases = [
        ("length, then chunks", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &format!("{end}{hidden}"))),
        ("chunks, then length", post("Transfer-Encoding: chunked\r\nContent-Length: 6", &format!("{end}{hidden}"))),
        ("behind chunks", post("Transfer-Encoding: chunked", &format!("{}{end}{hidden}", chunk("{}")))),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 0", &format!("{{}}{hidden}"))),
        ("a list of lengths", post("Content-Length: 2, 0", &format!("{{}}{hidden}"))),
        ("a length with a sign", post("Content-Length: +2", &format!("{{}}{hidden}"))),
        ("a hexadecimal length", post("Content-Length: 0x2", &format!("{{}}{hidden}"))),
        ("a negative length", post("Content-Length: -1", &hidden)),
        ("another encoding", post("Transfer-Encoding: gzip", &hidden)),
        ("chunks that are not last", post("Transfer-Encoding: chunked, identity", &format!("{end}{hidden}"))),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &format!("{end}{hidden}"))),
        ("a hidden encoding", post("Transfer-Encoding : chunked", &format!("{end}{hidden}"))),
        ("an odd encoding", post("Transfer-Encoding: xchunked", &format!("{end}{hidden}"))),
        ("a chunk length that is none", post("Transfer-Encoding: chunked", &format!("zz\r\n{end}{hidden}"))),
        ("a huge chunk length", post("Transfer-Encoding: chunked", &format!("ffffffffffffffffff\r\n{end}{hidden}"))),
        (
            "chunks to HTTP/1.0",
            post("Transfer-Encoding: chunked", &format!("{end}{hidden}"))
                .replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
        ),
    ];
    for (what, bytes) in cases {
        http.post("kv/kept", &json!({ "x": "kept" })).expect(204);
        let raw = http.raw(bytes.as_bytes());
        let text = String::from_utf8_lossy(&raw);
        let answers = text.matches("HTTP/1.").count();
        assert!(answers <= 1, "{what}: {answers} answers: {text}");
        assert_eq!(http.get("kv/kept").expect(200).at("/data/x"), json!("kept"), "{what}");
    }
    // The same hidden request in the open, so that the test can fail.
    assert!(
        http.raw(hidden.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).starts_with(b"HTTP/1.1 204")
    );
    http.get("kv/kept").expect(404);
}
