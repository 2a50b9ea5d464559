//! HTTP by hand: one connection per request, and any bytes that a test wants to send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::BOUND;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; null when there is none.
    pub(crate) fn json(&self) -> Value {
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).unwrap() }
    }

    /// One value of the body by a pointer such as `/data/keys`.
    pub(crate) fn at(&self, pointer: &str) -> Value {
        self.json().pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    /// One text of the body by a pointer.
    pub(crate) fn text_at(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_else(|| panic!("no text at {pointer} of {}", self.text)).to_owned()
    }

    /// The errors, when the body has exactly the shape that clients know.
    pub(crate) fn errors(&self) -> Option<Vec<String>> {
        let json: Value = serde_json::from_str(&self.text).ok()?;
        let fields = json.as_object().filter(|fields| fields.len() == 1)?;
        fields.get("errors")?.as_array()?.iter().map(|error| Some(error.as_str()?.to_owned())).collect()
    }

    /// A header, if there is one of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text);
        self
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    token: String,
    /// More lines of the head, each with its end.
    more: String,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, token: String::new(), more: String::new() }
    }

    /// The same client with a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same client with one header more.
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        Self { more: format!("{}{name}: {value}\r\n", self.more), ..self.clone() }
    }

    /// Whose it is.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// One request, or `None` when the connection broke before there was a whole answer.
    pub(crate) fn try_send(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(BOUND)).ok()?;
        stream.write_all(self.head_of(method, path, body.len()).as_bytes()).ok()?;
        // A refusal may come before everything is sent.
        let _ = stream.write_all(body.as_bytes());
        read_answer(&mut stream)
    }

    /// One request.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    /// The head of a request whose body has a length.
    pub(crate) fn head_of(&self, method: &str, path: &str, length: usize) -> String {
        let token = if self.token.is_empty() { String::new() } else { format!("X-Vault-Token: {}\r\n", self.token) };
        format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: {}\r\n{token}{}Content-Length: {length}\r\nConnection: close\r\n\r\n",
            self.address, self.more
        )
    }

    /// A connection on which the server waits for a body: it was asked to say so, thus the request is under way.
    pub(crate) fn begin(&self, method: &str, path: &str, length: usize) -> TcpStream {
        let mut stream = self.connect();
        let head = self.head_of(method, path, length).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut permission = [0; 25];
        stream.read_exact(&mut permission).unwrap();
        assert_eq!(&permission, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    /// Sends bytes, then reads until the server closes; what it sent.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may stop reading at any point.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }
}

/// Everything until the end, or the reset, of a connection.
fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut received = Vec::new();
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        received.extend_from_slice(&bytes[..length]);
    }
    received
}

/// Reads one answer of the length that it announces.
pub(crate) fn read_answer(stream: &mut impl Read) -> Option<Answer> {
    let mut received = Vec::new();
    let mut bytes = [0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&received) {
            return Some(answer);
        }
        match stream.read(&mut bytes) {
            Ok(length @ 1..) => received.extend_from_slice(&bytes[..length]),
            // A process that was stopped and goes on is told so where a time is set for reading.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        return parse(&received[end + 4..]);
    }
    let answer = Answer { status, head, text: String::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let body = received.get(end + 4..end + 4 + length.unwrap_or(0))?;
    Some(Answer { text: String::from_utf8_lossy(body).into_owned(), ..answer })
}
