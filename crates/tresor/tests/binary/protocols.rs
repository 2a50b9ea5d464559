//! The dialects of HTTP that clients speak: 1.0, 1.1 with its corners, 2 in clear and by ALPN.

use std::io::Write;

use serde_json::json;

use crate::support::{Production, Server, read_answer};

#[test]
fn http_1_0_is_answered_and_closed() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let token = format!("X-Vault-Token: {}\r\n", keys.root);
    let raw = server.http().raw(format!("GET /v1/sys/mounts HTTP/1.0\r\n{token}\r\n").as_bytes());
    let answer = read_answer(&mut raw.as_slice()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.at("/data/sys~1").is_object());
    let body = r#"{"type": "kv"}"#;
    let raw = server.http().raw(
        format!("POST /v1/sys/mounts/kv HTTP/1.0\r\n{token}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    assert_eq!(read_answer(&mut raw.as_slice()).unwrap().status, 204);
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    let mut all = String::new();
    for number in 0..20 {
        let body = json!({ "x": number }).to_string();
        all.push_str(&http.head_of("POST", &format!("kv/{number}"), body.len()).replace("Connection: close\r\n", ""));
        all.push_str(&body);
        all.push_str(&http.head_of("GET", &format!("kv/{number}"), 0).replace("Connection: close\r\n", ""));
    }
    all.push_str(&http.head_of("GET", "sys/init", 0));
    let raw = String::from_utf8(http.raw(all.as_bytes())).unwrap();
    let statuses: Vec<&str> =
        raw.lines().filter_map(|line| line.split_once("HTTP/1.1 ").map(|(_, rest)| &rest[..3])).collect();
    assert_eq!(statuses, [["204", "200"].repeat(20), vec!["200"]].concat(), "{raw}");
    for number in 0..20 {
        assert!(raw.contains(&format!("\"data\":{{\"x\":{number}}}")), "{number}");
    }
}

#[test]
fn a_head_request_has_the_head_of_a_get_and_no_body() {
    let production = Production::new();
    let (server, _keys) = production.start_ready();
    for path in ["sys/health", "sys/init", "sys/seal-status"] {
        let get = server.http().get(path).expect(200);
        let raw = server.http().raw(server.http().head_of("HEAD", path, 0).as_bytes());
        let text = String::from_utf8(raw).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(text.contains("content-type: application/json"), "{text}");
        assert!(get.head.contains("content-type: application/json"));
    }
    server.http().with_token("none").send("HEAD", "sys/mounts", "").expect(403);
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let body = r#"{"type": "kv"}"#;
    let mut stream = http.begin("POST", "sys/mounts/kv", body.len());
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 204);
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let head = http.head_of("POST", "sys/mounts/kv", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let raw =
        http.raw(format!("{head}3;extension=1\r\n{{\"t\r\nb\r\nype\": \"kv\"}}\r\n0\r\nTrailer: x\r\n\r\n").as_bytes());
    assert_eq!(read_answer(&mut raw.as_slice()).unwrap().status, 204, "{}", String::from_utf8_lossy(&raw));
}

/// Many requests at once over one connection of HTTP/2.
async fn talk(client: reqwest::Client, base: String, token: &str) {
    let send = |method: reqwest::Method, path: &str| {
        client.request(method, format!("{base}/v1/{path}")).header("X-Vault-Token", token)
    };
    let answer = send(reqwest::Method::GET, "sys/mounts").send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    for number in 0..50 {
        let written = send(reqwest::Method::POST, &format!("secret/data/{number}"));
        let written = written.body(format!("{{\"data\": {{\"x\": {number}}}}}")).send().await.unwrap();
        assert_eq!(written.status().as_u16(), 200);
    }
    let listed = send(reqwest::Method::from_bytes(b"LIST").unwrap(), "secret/metadata").send().await.unwrap();
    assert_eq!(listed.json::<serde_json::Value>().await.unwrap()["data"]["keys"].as_array().unwrap().len(), 50);
    let large = send(reqwest::Method::POST, "secret/data/large").body(vec![b' '; 33 << 20]).send().await;
    // Refused with a status, or the stream is reset while it is still being sent: both end it.
    assert!(large.map_or(true, |answer| answer.status().as_u16() == 413));
    let refused = send(reqwest::Method::GET, "secret/data/%00").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    assert_eq!(send(reqwest::Method::GET, "sys/health").send().await.unwrap().status().as_u16(), 200);
}

fn dev_server(home: &std::path::Path, more: &[&str]) -> Server {
    Server::start(home, &[&["-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0"], more].concat())
}

#[test]
fn http_2_is_spoken_in_clear_by_prior_knowledge_and_over_tls_by_alpn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    let server = dev_server(home.path(), &[]);
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    runtime.block_on(talk(client, format!("http://{}", server.address), "root"));
    let server = dev_server(home.path(), &["-dev-tls", "-dev-tls-cert-dir", home.path().to_str().unwrap()]);
    let authority = std::fs::read(home.path().join("vault-ca.pem")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    runtime.block_on(talk(client, format!("https://{}", server.address), "root"));
}
