//! A server behind proxies: where requests come from decides what a bound token may do, and nobody else is believed.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use crate::support::{Answer, Http, Production, Server, read_answer};

/// A ready server whose listener says this, and a token that is of use from 10.9.0.0/16 alone.
fn behind(listener: &str) -> (Production, Server, Http) {
    // Made over a listener of its own, whom nobody stands before.
    let production = Production::new();
    let plain = "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}\n";
    let text = std::fs::read_to_string(production.config()).unwrap();
    production.configure(&format!(
        "{plain}{}",
        text.replace("tls_disable = true", &format!("tls_disable = true\n  {listener}"))
    ));
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("auth/token/roles/there", &json!({ "token_bound_cidrs": "10.9.0.0/16" })).expect(204);
    let made = http.post("auth/token/create/there", &json!({ "policies": ["default"] })).expect(200);
    let token = made.text_at("/auth/client_token");
    let output = server.output();
    let address = output.rsplit_once("(addr: \"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
    (production, server, Http::new(address).with_token(&token))
}

/// Asks who it is, with this before the head and these headers in it; nothing when the connection was closed.
fn ask(http: &Http, mut stream: TcpStream, preface: &[u8], headers: &str) -> Option<Answer> {
    let head = http.head_of("GET", "auth/token/lookup-self", 0).replacen("\r\n", &format!("\r\n{headers}"), 1);
    // It may be closed before all of this is sent.
    drop(stream.write_all(&[preface, head.as_bytes()].concat()));
    read_answer(&mut stream)
}

#[test]
fn tls_04_a_believed_proxy_says_where_requests_come_from() {
    let (_production, _server, http) = behind("x_forwarded_for_authorized_addrs = \"127.0.0.1\"");
    let from = |headers: &str| ask(&http, http.connect(), b"", headers).unwrap();
    assert_eq!(from("X-Forwarded-For: 10.9.1.1\r\n").status, 200);
    assert_eq!(from("X-Forwarded-For: 10.9.1.1\r\nX-Forwarded-For: 192.0.2.1\r\n").status, 403);
    assert_eq!(from("X-Forwarded-For: 192.0.2.1, 10.9.1.1:443\r\n").status, 200);
    for (headers, said) in [("", "missing x-forwarded-for"), ("X-Forwarded-For: nobody\r\n", "no list of addresses")] {
        let refused = from(headers).expect(400);
        assert!(refused.errors().unwrap()[0].contains(said), "{}", refused.text);
    }
    // Over the other listener nobody is believed, and nothing is missing.
    let (_production, server, http) = behind("x_forwarded_for_authorized_addrs = [\"192.0.2.0/24\"]");
    let unauthorized = ask(&http, http.connect(), b"", "X-Forwarded-For: 10.9.1.1\r\n").unwrap().expect(400);
    assert!(unauthorized.text.contains("client address not authorized for x-forwarded-for"), "{}", unauthorized.text);
    server.http().get("sys/health").expect(200);
    let lenient = "x_forwarded_for_authorized_addrs = \"192.0.2.1\"\n  x_forwarded_for_reject_not_authorized = false\n  \
                   x_forwarded_for_reject_not_present = false";
    let (_production, _server, http) = behind(lenient);
    for headers in ["", "X-Forwarded-For: 10.9.1.1\r\n"] {
        assert_eq!(ask(&http, http.connect(), b"", headers).unwrap().status, 403, "{headers}");
    }
}

#[test]
fn dos_10_load_balancers_say_it_before_anything_else_and_strangers_end_their_own_connections() {
    let (_production, _server, http) = behind("proxy_protocol_behavior = \"use_always\"");
    let line = b"PROXY TCP4 10.9.1.1 127.0.0.1 4711 8200\r\n";
    assert_eq!(ask(&http, http.connect(), line, "").unwrap().status, 200);
    assert_eq!(ask(&http, http.connect(), b"PROXY UNKNOWN\r\n", "").unwrap().status, 403);
    assert_eq!(ask(&http, http.connect(), b"", "").unwrap().status, 403, "without a load balancer it is who it is");
    assert!(ask(&http, http.connect(), b"PROXY nonsense\r\n", "").is_none());

    let denying = "proxy_protocol_behavior = \"deny_unauthorized\"\n  proxy_protocol_authorized_addrs = \"127.0.0.2\"";
    let (_production, _server, http) = behind(denying);
    let half_open = http.connect();
    for _ in 0..100 {
        assert!(ask(&http, http.connect(), line, "").is_none());
    }
    let SocketAddr::V4(address) = http.address else { unreachable!("it listens on 127.0.0.1") };
    let balancer = || {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        connect(&socket, &address).unwrap();
        TcpStream::from(socket)
    };
    let half_a_line = balancer();
    assert_eq!(ask(&http, balancer(), line, "").unwrap().status, 200);
    drop((half_open, half_a_line));
}
