//! The numbers of a server as a collector gets them: over a listener that opens them, read by Prometheus's own tool.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{Cli, Production, Server, not_run, until};

/// What the tool says of names that dashboards have known for years; it has nothing else to say.
const KNOWN_LINTS: [&str; 4] = [
    "should have \"_total\" suffix",
    "should not contain abbreviated units",
    "vault_quota_lease_count_counter metric name should not include type 'counter'",
    "vault_token_count non-histogram and non-summary metrics should not have \"_count\" suffix",
];

#[test]
fn a_collector_reads_the_numbers_of_a_server_sealed_or_not() {
    let opened = "telemetry {\n    unauthenticated_metrics_access = true\n  }";
    let production = Production::with_listener(opened);
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/shared", &json!({ "type": "kv" })).expect(204);
    http.post("sys/quotas/lease-count/few", &json!({ "max_leases": 100 })).expect(204);
    http.post("sys/quotas/rate-limit/slow", &json!({ "rate": 1000 })).expect(204);
    http.post("auth/token/create", &json!({})).expect(200);
    for _ in 0..3 {
        http.post("shared/a", &json!({ "k": "v" })).expect(204);
        http.get("shared/a").expect(200);
    }
    let anybody = server.http();
    let answer = anybody.get("sys/metrics?format=prometheus").expect(200);
    assert!(answer.head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.text.contains("vault_route_read_shared__count 3\n"), "{}", answer.text);
    let resident = answer.text.lines().find_map(|line| line.strip_prefix("vault_runtime_sys_bytes{")).unwrap();
    assert!(resident.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap() > 1_000_000, "{resident}");
    assert!(answer.text.contains("vault_quota_lease_count_counter{"), "{}", answer.text);
    lint(&answer.text);
    assert_eq!(anybody.get("sys/metrics").expect(200).at("/Points"), json!([]));
    anybody.get("sys/in-flight-req").expect(403);
    http.post("sys/seal", &json!({})).expect(204);
    let sealed = anybody.get("sys/metrics?format=prometheus").expect(200);
    assert!(sealed.text.lines().any(|line| line.starts_with("vault_core_unsealed{") && line.ends_with(" 0")));
    lint(&sealed.text);
    anybody.get("sys/in-flight-req").expect(503);
}

/// Where a server listens, by the number of the listener.
fn address(server: &Server, number: usize) -> SocketAddr {
    let line = server.said(&format!("Listener {number}: "));
    line.split('"').nth(1).unwrap().parse().unwrap()
}

#[test]
fn one_listener_has_no_numbers_and_another_nothing_else() {
    let production = Production::with_listener("telemetry {\n    disallow_metrics = true\n  }");
    production.configure_more(
        "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n  telemetry {\n    \
         metrics_only = true\n    metrics_path = \"/metrics\"\n    unauthenticated_metrics_access = true\n  }\n}",
    );
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.get("sys/metrics").expect(404);
    http.get("sys/mounts").expect(200);
    let raw = |request: &str| {
        let mut stream = TcpStream::connect(address(&server, 2)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let numbers = raw("GET /metrics?format=prometheus");
    assert!(numbers.starts_with("HTTP/1.1 200") && numbers.contains("vault_core_unsealed"), "{numbers}");
    for elsewhere in ["GET /v1/sys/metrics", "GET /v1/sys/health", "GET /", "PUT /v1/sys/seal"] {
        let refused = raw(elsewhere);
        assert!(refused.starts_with("HTTP/1.1 404"), "{elsewhere}: {refused}");
    }
    assert!(raw("POST /metrics").starts_with("HTTP/1.1 405"));
}

fn lint(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match started {
        Ok(tool) => tool,
        Err(error) => return not_run("reading the numbers by promtool", &error.to_string()),
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // 3: it has something to say about names. Anything else than that is a text that it cannot read.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    for line in said.lines() {
        assert!(KNOWN_LINTS.iter().any(|known| line.contains(known)), "{line}");
    }
}

#[test]
fn collectors_are_sent_the_numbers_as_an_operator_names_them() {
    let production = Production::new();
    let (plain, tagged) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let stream = TcpListener::bind("127.0.0.1:0").unwrap();
    production.configure_more(&format!(
        "telemetry {{\n  statsd_address = \"{}\"\n  dogstatsd_addr = \"{}\"\n  dogstatsd_tags = [\"env:prod\"]\n\
         statsite_address = \"{}\"\n  metrics_prefix = \"safe\"\n  disable_hostname = true\n\
         filter_default = false\n  prefix_filter = [\"+safe.core\"]\n}}",
        plain.local_addr().unwrap(),
        tagged.local_addr().unwrap(),
        stream.local_addr().unwrap(),
    ));
    let (server, keys) = production.start_ready();
    let datagram = |socket: &UdpSocket| {
        let mut bytes = [0; 2000];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let lines = datagram(&plain);
    assert!(lines.starts_with("safe.core.") && lines.contains("safe.core.unsealed.:0|g\n"), "{lines}");
    assert!(!lines.contains("audit"), "{lines}");
    assert!(datagram(&tagged).contains("safe.core.unsealed:0|g|#env:prod,cluster:\n"));
    let (mut taken, _) = stream.accept().unwrap();
    let mut beginning = [0; 10];
    taken.read_exact(&mut beginning).unwrap();
    assert_eq!(&beginning, b"safe.core.");
    // The same names, and the same choice, for whoever asks.
    let http = server.http().with_token(&keys.root);
    let text = http.get("sys/metrics?format=prometheus").expect(200).text;
    assert!(text.contains("safe_core_unsealed") && !text.contains("audit") && !text.contains("vault_"), "{text}");
}

/// The body of the next request that a collector is sent.
fn delivered(collector: &TcpListener) -> serde_json::Value {
    let (stream, _) = collector.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        assert!(!line.contains("canary"), "{line}");
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn the_steps_of_requests_are_traced_where_an_operator_wants_it_and_nothing_secret_is_in_a_trace() {
    let production = Production::new();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    production.configure_more(&format!("telemetry {{\n  otlp_traces_endpoint = \"http://{address}\"\n}}"));
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/shared", &json!({ "type": "kv" })).expect(204);
    http.post("shared/canary-name", &json!({ "canary-field": "canary-value" })).expect(204);
    http.with_token("canary-token").get("shared/canary-name").expect(403);
    let mut spans: Vec<serde_json::Value> = Vec::new();
    until("the traces", || {
        let body = delivered(&collector);
        assert!(!body.to_string().contains("canary") && !body.to_string().contains(&keys.root), "{body}");
        let of_scope = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        assert_eq!(body["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "tresor");
        spans.extend(of_scope);
        spans.iter().any(|span| span.to_string().contains("refused")).then_some(())
    });
    let written = spans.iter().find(|span| span["name"] == "update shared/").unwrap();
    assert_eq!((written["kind"].clone(), written["traceId"].as_str().unwrap().len()), (json!(2), 32));
    let steps: Vec<&str> = spans
        .iter()
        .filter(|span| span["parentSpanId"] == written["spanId"] && span["traceId"] == written["traceId"])
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["route", "check_token", "execute_and_commit", "record"]);
}

#[test]
fn the_log_can_be_watched_while_it_is_made() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let mut cli = Cli::new(production.home(), server.address, &keys.root);
    http.get("sys/monitor?log_level=loud").expect(400);
    http.get("sys/monitor?log_format=xml").expect(400);
    let mut watching = cli.start(&["monitor", "-log-level=debug"]);
    let mut said = BufReader::new(watching.stdout.take().unwrap()).lines();
    // Nobody knows when it begins to watch: what is done again and again is logged then.
    let line = std::thread::scope(|scope| {
        let line =
            scope.spawn(move || said.find_map(|line| line.ok().filter(|line| line.contains("request answered"))));
        until("a line", || {
            http.get("sys/mounts").expect(200);
            line.is_finished().then_some(())
        });
        line.join().unwrap()
    });
    assert!(line.unwrap().contains("DEBUG"));
    // Standard error has what is configured, as before.
    assert!(!server.log().contains("request answered"));
    watching.kill().unwrap();
    watching.wait().unwrap();
    cli.set("VAULT_FORMAT", "json");
    let history: serde_json::Value = serde_json::from_str(&cli.succeed(&["version-history"])).unwrap();
    assert_eq!(history["keys"], json!([env!("CARGO_PKG_VERSION")]));
}
