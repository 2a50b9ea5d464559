//! Requests that make no sense: each gets a clear answer, and the server serves on as if nothing had been.

use serde_json::{Value, json};

use crate::support::{Answer, Http, Keys, Production, Server};

/// A server with something to lose.
struct Target {
    _production: Production,
    server: Server,
    http: Http,
}

impl Target {
    fn new() -> Self {
        let production = Production::new();
        let (server, keys): (Server, Keys) = production.start_ready();
        let http = server.http().with_token(&keys.root);
        http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
        http.post("sys/mounts/versioned", &json!({ "type": "kv-v2" })).expect(204);
        http.post("sys/auth/userpass", &json!({ "type": "userpass" })).expect(204);
        http.post("kv/kept", &json!({ "x": "kept" })).expect(204);
        Self { _production: production, server, http }
    }

    /// A refusal: its status, and one text in the shape that clients know.
    #[track_caller]
    fn refuses(&self, what: &str, answer: &Answer, statuses: &[u16]) {
        assert!(statuses.contains(&answer.status), "{what}: {}\n{}", answer.head, answer.text);
        let errors = answer.errors().unwrap_or_else(|| panic!("{what}: not the shape of errors: {}", answer.text));
        assert!(errors.len() <= 1, "{what}: {errors:?}");
        assert!(answer.head.contains("content-type: application/json"), "{what}: {}", answer.head);
    }

    /// What must hold after every misdeed.
    #[track_caller]
    fn is_unharmed(&self) {
        assert_eq!(self.http.get("kv/kept").expect(200).at("/data/x"), json!("kept"));
        self.http.post("kv/fresh", &json!({ "y": 1 })).expect(204);
        let log = self.server.log();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn bodies_that_are_no_object_are_refused() {
    let target = Target::new();
    let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", b"x".to_vec()),
        ("half an object", br#"{"a": "#.to_vec()),
        ("two objects", br#"{"a": 1}{"b": 2}"#.to_vec()),
        ("a list", b"[]".to_vec()),
        ("a text", br#""a""#.to_vec()),
        ("a number", b"1".to_vec()),
        ("a comment", b"{/* a */}".to_vec()),
        ("a comma too many", br#"{"a": 1,}"#.to_vec()),
        ("single quotes", b"{'a': 1}".to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("UTF-16", b"{\0\"\0a\0\"\0:\x001\0}\0".to_vec()),
        ("invalid UTF-8 in a text", b"{\"a\": \"\xff\xfe\"}".to_vec()),
        ("invalid UTF-8 in a name", b"{\"\xc3\x28\": 1}".to_vec()),
        ("half a surrogate", br#"{"a": "\ud800"}"#.to_vec()),
        ("a control character in a text", b"{\"a\": \"\x01\"}".to_vec()),
        ("a number that is none", br#"{"a": 1e}"#.to_vec()),
        ("not a number", br#"{"a": NaN}"#.to_vec()),
        ("deep lists", format!("{{\"a\": {}}}", deep("[", "]", 200)).into_bytes()),
        ("very deep lists", format!("{{\"a\": {}}}", deep("[", "]", 500_000)).into_bytes()),
        ("deep objects", deep("{\"a\":", "}", 100_000).into_bytes()),
        ("unclosed depth", "[".repeat(1_000_000).into_bytes()),
        ("more values than are taken", format!("{{\"a\": [{}1]}}", "1,".repeat(200_000)).into_bytes()),
    ];
    for (what, body) in cases {
        for path in ["kv/a", "sys/policies/acl/p", "auth/token/create", "auth/userpass/login/u", "sys/unseal"] {
            let answer = send_bytes(&target.http, path, &body);
            target.refuses(&format!("{what} to {path}"), &answer, &[400]);
        }
    }
    target.http.get("kv/a").expect(404);
    target.is_unharmed();
}

/// A body that is no text.
fn send_bytes(http: &Http, path: &str, body: &[u8]) -> Answer {
    // The token is in the head that the client writes; the body follows by hand.
    let head = http.head_of("POST", path, body.len());
    crate::support::read_answer(&mut http.raw(&[head.as_bytes(), body].concat()).as_slice())
        .unwrap_or_else(|| panic!("no answer to {} bytes for {path}", body.len()))
}

#[test]
fn values_of_the_wrong_type_or_size_are_refused_by_name() {
    let target = Target::new();
    let huge = "9".repeat(400);
    let cases = [
        ("auth/token/create", r#"{"ttl": "soon"}"#.to_owned()),
        ("auth/token/create", r#"{"ttl": {"a": 1}}"#.to_owned()),
        ("auth/token/create", r#"{"policies": {"a": 1}}"#.to_owned()),
        ("auth/token/create", r#"{"num_uses": -1}"#.to_owned()),
        ("auth/token/create", r#"{"renewable": "perhaps"}"#.to_owned()),
        ("auth/token/create", format!("{{\"ttl\": {huge}}}")),
        ("auth/token/create", format!("{{\"num_uses\": {huge}}}")),
        ("auth/token/create", format!("{{\"num_uses\": \"{huge}\"}}")),
        ("sys/mounts/a", r#"{"type": 7}"#.to_owned()),
        ("sys/mounts/a", "{}".to_owned()),
        ("sys/mounts/a", r#"{"type": "kv", "config": "x"}"#.to_owned()),
        ("sys/mounts/a", r#"{"type": "kv", "options": ["x"]}"#.to_owned()),
        ("sys/mounts/kv", r#"{"type": "kv"}"#.to_owned()),
        ("sys/mounts/kv/inside", r#"{"type": "kv"}"#.to_owned()),
        ("sys/mounts/sys", r#"{"type": "kv"}"#.to_owned()),
        ("sys/policies/acl/p", r#"{"policy": "path \"a\" {"}"#.to_owned()),
        ("sys/policies/acl/p", r#"{"policy": 7.5}"#.to_owned()),
        ("sys/policies/acl/root", r#"{"policy": "path \"a\" {}"}"#.to_owned()),
        ("sys/audit/a", r#"{"type": "file", "options": {"file_path": {}}}"#.to_owned()),
        ("versioned/data/a", r#"{"data": "x"}"#.to_owned()),
        ("versioned/data/a", r#"{"data": {"x": 1}, "options": {"cas": "one"}}"#.to_owned()),
        ("versioned/data/a", "{}".to_owned()),
        ("versioned/destroy/a", r#"{"versions": "all"}"#.to_owned()),
        ("versioned/metadata/a", r#"{"max_versions": -3}"#.to_owned()),
        ("versioned/metadata/a", r#"{"custom_metadata": {"a": {"b": 1}}}"#.to_owned()),
        ("auth/userpass/users/u", r#"{"password": ["a", "b"]}"#.to_owned()),
        ("sys/unseal", r#"{"key": {}}"#.to_owned()),
    ];
    for (path, body) in cases {
        let answer = target.http.send("POST", path, &body);
        target.refuses(&format!("{body} to {path}"), &answer, &[400]);
        assert!(!answer.text.contains(&huge), "an answer does not repeat what was sent");
    }
    target.is_unharmed();
}

#[test]
fn numbers_and_texts_that_are_only_odd_come_back_as_they_were_sent() {
    let target = Target::new();
    for value in [
        "123456789012345678901234567890",
        "-0.5e-300",
        "1.50",
        "\"\\u0000 and \\u001f\"",
        "\"\u{fffd}\u{10ffff}\u{200f}\"",
        "\"<script>&\"",
        "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
        "null",
    ] {
        target.http.send("POST", "kv/odd", &format!("{{\"x\": {value}}}")).expect(204);
        let read = target.http.get("kv/odd").expect(200);
        let sent: Value = serde_json::from_str(value).unwrap();
        assert_eq!(read.at("/data/x"), sent, "{value}");
        if value.starts_with(['1', '-']) {
            assert!(read.text.contains(&format!("\"x\":{value}")), "digit by digit: {}", read.text);
        }
    }
    // Two readers of two equal names could pick different ones, so nobody has to: the body is refused.
    target.http.send("POST", "kv/twice", r#"{"x": 1, "x": 2}"#).expect(400);
    target.http.get("kv/twice").expect(404);
    target.is_unharmed();
}

#[test]
fn paths_are_understood_in_one_way_or_refused() {
    let target = Target::new();
    for path in [
        "kv/../sys/mounts",
        "kv/./kept",
        "kv/..",
        "kv/%2e%2e/sys/mounts",
        "kv/%2E./kept",
        "kv/..%2fsys/mounts",
        "%2e%2e/v1/kv/kept",
        "kv/a%00b",
        "kv/a%0ab",
        "kv/a%7fb",
        "kv/%c2%85",
        "kv/%ff",
        "kv/%c0%ae%c0%ae/kept",
        "kv/%",
        "kv/%2",
        "kv/%zz",
        "/kv/kept",
        "?list=%zz",
        "kv/kept?version=%ff",
        "kv/kept?%",
    ] {
        for method in ["GET", "LIST", "DELETE"] {
            let answer = target.http.send(method, path, "");
            target.refuses(&format!("{method} {path}"), &answer, &[400]);
        }
        let answer = target.http.send("POST", path, "{}");
        target.refuses(&format!("POST {path}"), &answer, &[400]);
    }
    for path in ["kv/%252e%252e/kept", "kv/kept%2f", "KV/kept", "kv/kept/", "kv/kep%74/x"] {
        let status = target.http.get(path).status;
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
    assert_eq!(target.http.get("kv/%6bept").expect(200).at("/data/x"), json!("kept"), "decoded once, like any text");
    for name in ["a b", "ä/ö", "http://test.com", "a%b", "a?b", "a#b", "a;b", "a+b", "'\"`$(x)", "...", "a..b", "..."]
    {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>().replace("%2f", "/");
        target.http.post(&format!("kv/{encoded}"), &json!({ "x": name })).expect(204);
        assert_eq!(target.http.get(&format!("kv/{encoded}")).expect(200).at("/data/x"), json!(name), "{name}");
    }
    target.is_unharmed();
}

#[test]
fn a_body_over_32_mib_is_refused_however_it_is_announced() {
    let target = Target::new();
    let limit = 32 * 1024 * 1024;
    let body = |length: usize| {
        let frame = r#"{"x":""}"#.len();
        format!("{{\"x\":\"{}\"}}", "a".repeat(length - frame))
    };
    target.http.send("POST", "sys/policies/acl/p", &body(limit)).expect(400);
    let over = body(limit + 1);
    target.refuses("one byte over", &target.http.send("POST", "kv/a", &over), &[413]);
    let mut chunked = target.http.head_of("POST", "kv/a", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    for chunk in over.as_bytes().chunks(1 << 20) {
        chunked.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()));
    }
    chunked.push_str("0\r\n\r\n");
    let answer = crate::support::read_answer(&mut target.http.raw(chunked.as_bytes()).as_slice()).unwrap();
    target.refuses("in chunks", &answer, &[413]);
    // Nobody has to send what will not be read.
    let polite = target.http.head_of("POST", "kv/a", limit + 1).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let answer = crate::support::read_answer(&mut target.http.raw(polite.as_bytes()).as_slice()).unwrap();
    target.refuses("announced politely", &answer, &[413]);
    let boastful =
        target.http.head_of("POST", "kv/a", 0).replace("Content-Length: 0", "Content-Length: 99999999999999999999");
    let raw = target.http.raw(boastful.as_bytes());
    assert!(raw.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&raw));
    target.http.get("kv/a").expect(404);
    target.is_unharmed();
}

#[test]
fn heads_of_any_size_and_sort_are_answered_or_cut_off() {
    let target = Target::new();
    let with =
        |header: &str| target.http.head_of("GET", "kv/kept", 0).replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    let long = "a".repeat(10_000);
    let answer = target.http.get(&format!("kv/{long}"));
    target.refuses("a long path", &answer, &[400]);
    for (what, bytes) in [
        ("a path of a megabyte", format!("GET /v1/kv/{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(1 << 20))),
        ("a header of a megabyte", with(&format!("X-A: {}", "a".repeat(1 << 20)))),
        ("ten thousand headers", with(&"X-A: b\r\n".repeat(10_000))),
        ("a header without a colon", with("X-A")),
        ("a header with a space before its colon", with("X-A : b")),
        ("a folded header", with("X-A: b\r\n c")),
        ("a NUL in a header", with("X-A: b\0c")),
        ("a control character in a token", with("X-Vault-Token: \u{7f}")),
        ("no version", "GET /v1/kv/kept\r\n\r\n".to_owned()),
        ("a version to come", "GET /v1/kv/kept HTTP/3.0\r\nHost: h\r\n\r\n".to_owned()),
        ("no method", " /v1/kv/kept HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        ("nonsense", "\x01\x02\x03\r\n\r\n".to_owned()),
        ("no host", "GET /v1/kv/kept HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned()),
        ("two hosts", with("Host: other")),
    ] {
        let raw = target.http.raw(bytes.as_bytes());
        let is_refusal = raw.is_empty() || raw.starts_with(b"HTTP/1.1 4") || raw.starts_with(b"HTTP/1.0 4");
        assert!(is_refusal, "{what}: {}", String::from_utf8_lossy(&raw));
    }
    for (what, header) in [
        ("two tokens", "X-Vault-Token: a"),
        ("two different credentials", "Authorization: Bearer other"),
        ("a control character in a namespace", "X-Vault-Namespace: a\tb"),
        ("a relative namespace", "X-Vault-Namespace: ../a"),
        ("a wrapping time that is none", "X-Vault-Wrap-TTL: soon"),
        ("an invalid token", "X-Vault-Token: \u{e4}"),
    ] {
        let answer = crate::support::read_answer(&mut target.http.raw(with(header).as_bytes()).as_slice()).unwrap();
        target.refuses(what, &answer, &[400, 403, 404]);
    }
    for token in ["x", "hvs.", "hvs.unknown", "a b", &"t".repeat(5000)] {
        let answer = target.server.http().with_token(token).get("kv/kept");
        target.refuses(&format!("the token {token:?}"), &answer, &[400, 403]);
    }
    target.is_unharmed();
}

#[test]
fn methods_that_do_not_exist_change_nothing() {
    let target = Target::new();
    for method in ["BREW", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get", "SCAN", "A-VERY-LONG-METHOD-OF-NO-USE"] {
        let raw = target.http.raw(target.http.head_of(method, "kv/kept", 0).as_bytes());
        let answer =
            crate::support::read_answer(&mut raw.as_slice()).unwrap_or_else(|| panic!("no answer to {method}"));
        assert!([400, 404, 405].contains(&answer.status), "{method}: {}", answer.head);
    }
    for method in ["PATCH", "LIST"] {
        let answer = target.http.send(method, "kv/kept", "");
        assert!([404, 405, 415].contains(&answer.status), "{method}: {}", answer.head);
    }
    for target_form in ["*", "/", "/v1", "/v2/kv/kept", "/v1/", "//v1/kv/kept", "http://other/v1/none/x", "/ui"] {
        let raw =
            target.http.raw(format!("GET {target_form} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = crate::support::read_answer(&mut raw.as_slice()).unwrap();
        target.refuses(target_form, &answer, &[400, 403, 404, 405]);
    }
    target.is_unharmed();
}
