//! What a great many tokens and leases cost a node on its durable store, in process: making them, restarting, revoking
//! a whole family, and ending very many in one second while requests go on.
//!
//! `cargo bench -p tresor-harness --bench leases -- --tokens 1000000 --leases 100000`; without arguments it runs small,
//! to see that it runs. Deliberately absent: sockets and TLS (`cargo xtask bench` measures the binary), and any
//! framework. The memory shown is that of the whole process, the load included.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark prints, and ends when something fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_core::Node;
use tresor_crypto::shamir::Threshold;
use tresor_env::Doors;
use tresor_harness::{Answer, ROOT, assembly, leasing};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage_file::{FileStore, Limits};

/// Requests that wait at the same time.
const AT_ONCE: usize = 128;

struct Server {
    doors: Doors,
    node: Arc<Node>,
    service: NodeService,
}

fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |number| number.parse().unwrap())
}

fn node(doors: &Doors, folder: &Path) -> Arc<Node> {
    // The store of a node that was just dropped is free when its last task has ended.
    let store = loop {
        if let Ok(store) = FileStore::open(doors, &folder.join("store"), Limits::default()) {
            break store;
        }
        std::thread::yield_now();
    };
    let mut settings = assembly::settings();
    settings.audit_directory = Some(folder.join("audit"));
    let mut registry = tresor_builtin::registry();
    registry.factories.push(leasing::FACTORY);
    Node::start(Arc::new(store), doors.clone(), settings, registry).unwrap()
}

impl Server {
    fn new(doors: &Doors, folder: &Path) -> Self {
        let node = node(doors, folder);
        Self { doors: doors.clone(), service: NodeService::new(Arc::clone(&node)), node }
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let peer_address = std::net::Ipv4Addr::LOCALHOST.into();
        let connection = Connection { peer_address, peer_port: 40_000, client_certificates: Arc::default() };
        let request = assembly::request(method, path, token, &body);
        assembly::exchange(&self.service, &*self.doors.clock, connection, &Options::default(), request).await
    }

    async fn token(&self, by: &str, ttl: String) -> String {
        let answer = self.call("POST", "auth/token/create", by, json!({ "ttl": ttl })).await.expect_status(200);
        answer.text_at("/auth/client_token")
    }
}

fn resident_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Does `work` so often, and prints the rate of the first and the last tenth.
async fn measure<F: Future<Output = ()>>(what: &str, times: usize, work: impl Fn() -> F) {
    let (mut done, mut tenths, mut started) = (0, Vec::new(), Instant::now());
    let tenth = (times / 10).max(1);
    let mut of_tenth = 0;
    while done < times {
        let some = AT_ONCE.min(times - done);
        futures_util::future::join_all((0..some).map(|_| work())).await;
        done += some;
        of_tenth += some;
        if of_tenth >= tenth {
            tenths.push(of_tenth as f64 / started.elapsed().as_secs_f64());
            (of_tenth, started) = (0, Instant::now());
        }
    }
    let (first, last) = (tenths.first().copied().unwrap_or(0.0), tenths.last().copied().unwrap_or(0.0));
    println!(
        "{what}: {first:.0}/s for the first tenth, {last:.0}/s for the last; {:.0} MiB resident",
        resident_mebibytes()
    );
}

fn main() {
    let (tokens, leases) = (argument("--tokens", 500), argument("--leases", 200));
    let ending = argument("--ending", 300);
    println!("{tokens} tokens below one, {leases} leases, {ending} tokens that end in one second");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(tokens, leases, ending));
}

async fn run(tokens: usize, leases: usize, ending: usize) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("store")).unwrap();
    std::fs::create_dir_all(folder.path().join("audit")).unwrap();
    let doors = tresor_env_os::doors();
    let server = Server::new(&doors, folder.path());
    let root = TokenSecret::parse(ROOT).unwrap();
    let initialized = server.node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
    let share = initialized.shares.first().unwrap().expose().to_vec();
    server.node.enter_share(UnsealShare::new(share.clone())).await.unwrap();
    println!("idle: {:.0} MiB resident", resident_mebibytes());
    drop(server.call("POST", "sys/mounts/made", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
    let parent = server.token(ROOT, "100h".into()).await;
    measure("tokens", tokens, || async { drop(server.token(&parent, "50h".into()).await) }).await;
    measure("leases", leases, || async {
        drop(server.call("GET", "made/creds/role?ttl=40h", ROOT, Value::Null).await.expect_status(200));
    })
    .await;
    let child = server.token(&parent, "50h".into()).await;

    server.node.seal().await.unwrap();
    drop(server);
    let started = Instant::now();
    let server = Server::new(&doors, folder.path());
    server.node.enter_share(UnsealShare::new(share)).await.unwrap();
    drop(server.call("GET", "auth/token/lookup-self", &child, Value::Null).await.expect_status(200));
    let first_read = started.elapsed();
    drop(server.token(ROOT, "1h".into()).await);
    println!(
        "restart: {first_read:?} to the first read, {:?} to the first login; {:.0} MiB resident",
        started.elapsed(),
        resident_mebibytes()
    );

    let live =
        server.call("GET", "sys/leases/count?type=live", ROOT, Value::Null).await.at("/data/lease_count").clone();
    let started = Instant::now();
    drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": parent })).await.expect_status(204));
    let took = started.elapsed();
    drop(server.call("GET", "auth/token/lookup-self", &child, Value::Null).await.expect_status(403));
    let left =
        server.call("GET", "sys/leases/count?type=live", ROOT, Value::Null).await.at("/data/lease_count").clone();
    println!("revoking all of them: {took:?}; {live} alive before, {left} after");
    end_many(&server, ending).await;
}

/// Many tokens that end in the same second, and what requests take meanwhile.
async fn end_many(server: &Server, ending: usize) {
    let baseline = latencies(server, Duration::from_secs(5)).await;
    let started = Instant::now();
    let begun = server.node.now();
    let reserve = Duration::from_secs(20 + u64::try_from(ending / 1_500).unwrap());
    let end = begun.plus(reserve);
    measure("tokens that end", ending, || async {
        let ttl = end.since(server.node.now()).as_millis();
        drop(server.token(ROOT, format!("{ttl}ms")).await);
    })
    .await;
    tokio::time::sleep(reserve.saturating_sub(started.elapsed())).await;
    let meanwhile = latencies(server, Duration::from_secs(15)).await;
    println!("p99 of a look-up: {baseline:?} before, {meanwhile:?} while {ending} tokens are collected");
}

/// The 99th percentile of look-ups, eight at a time.
async fn latencies(server: &Server, during: Duration) -> Duration {
    let started = Instant::now();
    let one = || async {
        let mut took = Vec::new();
        while started.elapsed() < during {
            let asked = Instant::now();
            drop(server.call("GET", "auth/token/lookup-self", ROOT, Value::Null).await.expect_status(200));
            took.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took
    };
    let mut all = futures_util::future::join_all((0..8).map(|_| one())).await.concat();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).copied().unwrap_or_default()
}
