//! Three servers behind HAProxy, restarted one after the other: no client sees a failure.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::python::python;
use super::support::cluster::{Here, Three, free_address};
use super::support::{Http, under_load, until};

/// HAProxy with the configuration that the operator's page shows; ends when it is dropped.
struct Balancer {
    process: Child,
    http: Http,
    _directory: tempfile::TempDir,
}

impl Balancer {
    fn before(three: &Three<'_>) -> Self {
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

/// Applications in Python, with connections that stay open; what they do is counted, what fails is kept.
struct Applications {
    process: Child,
    telling: std::thread::JoinHandle<Vec<String>>,
    done: Arc<AtomicUsize>,
}

impl Applications {
    fn start(balancer: &Balancer, token: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/binary/clients.py");
        let address = format!("http://{}", balancer.http.address);
        let process = Command::new(python())
            .args(["-u", script, &address, token])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = process.unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let telling = std::thread::spawn(move || {
            let mut failures = Vec::new();
            for line in output.lines().map_while(Result::ok) {
                if line == "done" {
                    counted.fetch_add(1, Ordering::Relaxed);
                } else {
                    failures.push(line);
                }
            }
            failures
        });
        Self { process, telling, done }
    }

    /// Waits until this much more was done, whether or not something failed.
    fn more(&self, count: usize) {
        let target = self.done.load(Ordering::Relaxed) + count;
        until("the applications", || (self.done.load(Ordering::Relaxed) >= target).then_some(()));
    }

    /// Ends them; what failed.
    fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
        self.telling.join().unwrap()
    }
}

#[test]
fn no_request_through_a_load_balancer_fails_during_a_rolling_restart() {
    let mut three = Three::start(&Here);
    let balancer = Balancer::before(&three);
    let applications = Applications::start(&balancer, &three.root);
    let begun = Instant::now();
    // Beside those that keep their connections, some that open one for each request; none of these tries again either.
    let seen = under_load(std::slice::from_ref(&balancer.http), |load| {
        let all_do_more = || {
            load.more(100);
            applications.more(100);
        };
        all_do_more();
        for at in 0..3 {
            three.stop(at);
            all_do_more();
            three.start_again(at);
            three.serves(at);
            all_do_more();
        }
    });
    let failures = applications.end();
    assert!(failures.is_empty(), "{failures:#?}");
    seen.has_refused_nothing_since(begun);
}
