//! Three servers behind HAProxy, restarted one after the other: no client sees a failure.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::cluster::{Three, free_address, insist};
use super::support::{Answer, Http, until};

/// HAProxy with the configuration that the operator's page shows; ends when it is dropped.
struct Balancer {
    process: Child,
    http: Http,
    _directory: tempfile::TempDir,
}

impl Balancer {
    fn before(three: &Three) -> Self {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/load-balancer.md"));
        let page = page.unwrap();
        let shown = page.split("```haproxy\n").nth(1).unwrap().split("```").next().unwrap();
        let address = free_address();
        let mut configured = shown.replace("*:8200", &address.to_string());
        for (at, name) in ["vault-0", "vault-1", "vault-2"].into_iter().enumerate() {
            let node = three.server(at).address.to_string();
            configured = configured.replace(&format!("{name}.internal:8200"), &node);
        }
        // The nodes of this test have no certificates.
        let configured = configured.replace(" ssl verify required ca-file /etc/haproxy/vault-ca.pem", "");
        assert!(!configured.contains("internal") && !configured.contains("ssl"), "{configured}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, configured).unwrap();
        let process = Command::new("haproxy").arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).spawn();
        let http = Http::new(address).with_token(&three.root);
        let balancer = Self { process: process.expect("haproxy is installed"), http, _directory: directory };
        until("the balancer", || balancer.http.try_send("GET", "sys/health?standbyok=true", "").map(drop));
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It ends by itself otherwise when the test does.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Sends as client libraries do: again, after a second, when the connection breaks or the server says that it cannot now.
fn as_libraries_do(http: &Http, method: &str, path: &str, body: &str) -> Result<Answer, String> {
    let mut answers = Vec::new();
    for attempt in 0..3 {
        if attempt > 0 {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        match http.try_send(method, path, body) {
            Some(answer) if answer.status < 500 => return Ok(answer),
            Some(answer) => answers.push(format!("{} {:?}", answer.status, answer.errors())),
            None => answers.push("the connection broke".to_owned()),
        }
    }
    Err(format!("{method} {path}: {answers:?}"))
}

#[test]
fn no_request_through_a_load_balancer_fails_during_a_rolling_restart() {
    let mut three = Three::start();
    insist(&three.http(0), "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
    let balancer = Balancer::before(&three);
    let is_over = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let clients = ["a", "b", "c", "d"].map(|client| {
            let (http, is_over, done) = (&balancer.http, &is_over, &done);
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("kv/{client}-{}", number % 16);
                    let body = json!({ "x": number.to_string() }).to_string();
                    let wrote = as_libraries_do(http, "POST", &path, &body)?;
                    // Whichever node answers, it is what was written.
                    let read = as_libraries_do(http, "GET", &path, "")?;
                    if wrote.status != 204 || read.at("/data/x") != json!(number.to_string()) {
                        return Err(format!("{path} {number}: {} {:?}", wrote.status, read.json()));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let counted = |more: usize| {
            let target = done.load(Ordering::Relaxed) + more;
            // A client that failed writes no more, and is told of below.
            let end = Instant::now() + Duration::from_secs(20);
            while done.load(Ordering::Relaxed) < target && Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        };
        counted(100);
        for at in 0..3 {
            three.stop(at);
            counted(50);
            three.start_again(at);
            until("it to serve", || {
                three.http(at).try_send("GET", "sys/health?standbyok=true", "").filter(|health| health.status == 200)
            });
            counted(100);
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().filter_map(|client| client.join().unwrap().err()).collect()
    });
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(done.load(Ordering::Relaxed) > 400);
}
