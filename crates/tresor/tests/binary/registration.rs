//! A server in a registry of services: what a fake of Consul's agent is told while the server comes, opens and goes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Keys, Production, until};

/// One request to the fake: its line, the token it came with, its body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A fake of Consul's agent: it answers 200 to everything, and keeps what it was asked. It ends with the test program.
fn fake_consul() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let kept = Arc::clone(&asked);
    drop(thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            drop(thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut first, mut token, mut length) = (String::new(), String::new(), 0);
                    if reader.read_line(&mut first).is_err() || first.is_empty() {
                        return;
                    }
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).is_err() || line.trim_end().is_empty() {
                            break;
                        }
                        match line.trim_end().split_once(": ") {
                            Some(("x-consul-token", value)) => value.clone_into(&mut token),
                            Some(("content-length", value)) => length = value.parse().unwrap(),
                            _ => {}
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    kept.lock().unwrap().push((first.trim_end().to_owned(), token, body));
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if reader.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            }));
        }
    }));
    (address, asked)
}

/// The next request that the fake gets with this in its line, and what it brings.
fn told(asked: &Asked, what: &str) -> Value {
    until(what, || {
        let mut asked = asked.lock().unwrap();
        let at = asked.iter().position(|(line, ..)| line.contains(what))?;
        let (_, token, body) = asked.drain(..=at).next_back()?;
        assert_eq!(token, "canary-of-consul");
        Some(body)
    })
}

#[test]
fn consul_is_told_what_a_server_is_until_it_stops() {
    let production = Production::new();
    let (address, asked) = fake_consul();
    production.configure_more(&format!(
        "api_addr = \"http://10.9.8.7:8200\"\nservice_registration \"consul\" {{\n  address = \"{address}\"\n  \
         service_tags = \"blue\"\n  check_timeout = \"3s\"\n  token = \"canary-of-consul\"\n}}"
    ));
    let mut server = production.start();
    let first = told(&asked, "PUT /v1/agent/service/register");
    let place = (&first["ID"], &first["Name"], &first["Address"], &first["Port"]);
    assert_eq!(place, (&json!("vault:10.9.8.7:8200"), &json!("vault"), &json!("10.9.8.7"), &json!(8200)));
    assert_eq!(first["Tags"], json!(["blue", "standby"]));
    assert_eq!((&first["Check"]["Status"], &first["Check"]["TTL"]), (&json!("critical"), &json!("3000ms")));
    let keys = Keys::initialize(&server.http(), 1, 1);
    until("the tag of an initialised server", || {
        (told(&asked, "service/register")["Tags"] == json!(["blue", "standby", "initialized"])).then_some(())
    });
    keys.unseal(&server.http());
    let open = until("the tag of an active server", || {
        let told = told(&asked, "service/register");
        (told["Tags"] == json!(["blue", "active", "initialized"])).then_some(told)
    });
    assert_eq!(open["Check"]["Status"], "passing");
    let alive = told(&asked, "PUT /v1/agent/check/update/vault%3A10.9.8.7%3A8200%3Avault-sealed-check");
    assert_eq!(alive["Status"], "passing");
    server.http().with_token(&keys.root).post("sys/seal", &json!({})).expect(204);
    assert_eq!(told(&asked, "service/register")["Check"]["Status"], "critical");
    server.signal(Signal::TERM);
    drop(told(&asked, "PUT /v1/agent/service/deregister/vault%3A10.9.8.7%3A8200"));
    assert!(server.wait().success());
    assert!(!server.log().contains("canary-of-consul"));
}
