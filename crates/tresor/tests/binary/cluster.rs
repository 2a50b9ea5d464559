//! A cluster of three servers as its operators and their load balancer see it: commands, codes, a majority that is lost, and
//! a rolling restart behind HAProxy, at which no client sees a failure.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::joining::{KEY, STATIC, all_vote, insist, is_open, members, node};
use super::support::{Answer, Cli, Http, Production, Server, until};

/// Three servers that open by themselves, each at an address that it keeps.
struct Three {
    homes: Vec<Production>,
    servers: Vec<Option<Server>>,
    root: String,
}

/// An address where nothing listens, nor at the port behind it, which is the cluster's.
fn free_address() -> SocketAddr {
    until("two free ports", || {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, address.port().checked_add(1)?)).ok()?;
        Some(address)
    })
}

impl Three {
    fn start() -> Self {
        let mut three = Self { homes: Vec::new(), servers: Vec::new(), root: String::new() };
        for number in 1..=3 {
            let first = three.servers.first().and_then(Option::as_ref);
            let home = node(number, &first.into_iter().collect::<Vec<_>>(), STATIC);
            let configured = std::fs::read_to_string(home.config()).unwrap();
            home.configure(&configured.replace("127.0.0.1:0", &free_address().to_string()));
            let server = home.start_with(&KEY);
            if number == 1 {
                let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
                three.root = server.http().post("sys/init", &body).expect(200).text_at("/root_token");
            }
            three.homes.push(home);
            three.servers.push(Some(server));
        }
        until("three voters", || (members(&three.http(0))? == all_vote()).then_some(()));
        until("all to open", || (0..3).all(|at| is_open(&three.http(at))).then_some(()));
        three
    }

    fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().unwrap()
    }

    fn http(&self, at: usize) -> Http {
        self.server(at).http().with_token(&self.root)
    }

    fn cli(&self, at: usize) -> Cli<'_> {
        Cli::new(self.homes[at].home(), self.server(at).address, &self.root)
    }

    /// Ends a server as an operator does.
    fn stop(&mut self, at: usize) {
        let mut server = self.servers[at].take().unwrap();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
    }

    fn start_again(&mut self, at: usize) {
        self.servers[at] = Some(self.homes[at].start_with(&KEY));
    }

    /// Which one leads, as all that run see it.
    fn leader(&self) -> usize {
        let address = |at: usize| format!("http://{}", self.server(at).address);
        until("a leader", || {
            let running = (0..3).filter(|at| self.servers[*at].is_some());
            let mut told: Vec<String> =
                running.map(|at| self.http(at).get("sys/leader").text_at("/leader_address")).collect();
            told.dedup();
            let [leader] = told.as_slice() else { return None };
            (0..3).find(|at| self.servers[*at].is_some() && address(*at) == *leader)
        })
    }
}

/// The lines of a table, each as its cells.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn operators_see_the_nodes_and_what_is_left_of_them_goes_on() {
    let mut three = Three::start();
    let leader = three.leader();
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let name = |at: usize| format!("node-{}", at + 1);
    let health = |three: &Three, at: usize, query: &str| three.http(at).get(&format!("sys/health{query}")).status;

    // Whichever node is asked, the answer is the same.
    for at in 0..3 {
        let peers = three.cli(at).succeed(&["operator", "raft", "list-peers"]);
        let states: Vec<_> = table(&peers).iter().map(|row| (row[0].to_owned(), row[2] == "leader", row[3])).collect();
        let expected: Vec<_> = (0..3).map(|at| (name(at), at == leader, "true")).collect();
        assert_eq!(states, expected, "{peers}");
        let listed = three.cli(at).succeed(&["operator", "members", "-format=json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let active = listed["Nodes"].as_array().unwrap().iter().filter(|node| node["active_node"] == json!(true));
        let active: Vec<_> = active.map(|node| node["hostname"].as_str().unwrap().to_owned()).collect();
        assert_eq!(active, [name(leader)]);
        let status = three.cli(at).run(&["status"]);
        let mode = if at == leader { "active" } else { "standby" };
        let has_mode = status.output.lines().any(|line| line.starts_with("HA Mode") && line.ends_with(mode));
        assert!(status.code == 0 && has_mode && status.output.contains("Raft Applied Index"), "{}", status.output);
        assert_eq!(health(&three, at, ""), if at == leader { 200 } else { 429 });
        assert_eq!(health(&three, at, "?standbyok=true"), 200);
    }

    // Through a standby: another leads, a vote is taken and given.
    three.cli(one).succeed(&["operator", "step-down"]);
    until("another leader", || (three.leader() != leader).then_some(()));
    assert_eq!(health(&three, leader, ""), 429);
    let leader = three.leader();
    three.cli(one).succeed(&["operator", "raft", "demote", &name(other)]);
    assert_eq!(members(&three.http(one)).unwrap()[other], (name(other), false));
    three.cli(other).succeed(&["operator", "raft", "promote", &name(other)]);
    let twice = three.cli(one).run(&["operator", "raft", "promote", &name(other)]);
    assert!(twice.code == 2 && twice.errors.contains(&format!("{} votes already", name(other))), "{}", twice.errors);

    // Two are lost; what is left says that it serves nobody, until an operator says that it is alone.
    insist(&three.http(one), "POST", "sys/mounts/kv", &json!({ "type": "kv-v1" }).to_string());
    let left = (0..3).find(|at| *at != leader && *at != one).unwrap();
    insist(&three.http(left), "POST", "kv/a", &json!({ "x": "kept" }).to_string());
    for lost in (0..3).filter(|at| *at != left) {
        three.servers[lost].take().unwrap().kill();
    }
    until("it to see that", || (health(&three, left, "?standbyok=true") == 474).then_some(()));
    let server = three.servers[left].take().unwrap();
    let address = SocketAddr::new(server.address.ip(), server.address.port() + 1);
    server.kill();
    let file = three.homes[left].data().join("raft/peers.json");
    std::fs::write(&file, json!([{ "id": name(left), "address": address.to_string() }]).to_string()).unwrap();
    three.start_again(left);
    assert_eq!(insist(&three.http(left), "GET", "kv/a", "").text_at("/data/x"), "kept");
    insist(&three.http(left), "POST", "kv/b", &json!({ "x": "2" }).to_string());
    assert_eq!(members(&three.http(left)).unwrap(), [(name(left), true)]);
    assert!(!file.exists() && file.with_file_name("peers.json.used").exists());
}

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
