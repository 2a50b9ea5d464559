//! What a great many tokens, leases, mounts and namespaces cost a node on its durable store, in process: making them, restarting,
//! revoking a whole family, and ending very many in one second while requests go on.
//!
//! `cargo bench -p tresor-harness --bench leases -- --leases 1000000`; without arguments it runs small, to see that it
//! runs. Half of the leases are tokens, half secrets. `--audit memory` keeps the local audit log off the disk,
//! `--audit device` adds a file device; `--descendants N` makes the tokens below one and revokes that; `--ending N` lets
//! so many end in one second, with `--failing PERCENT` while so many calls of the store fail; `--minutes M` ends the
//! making early; `--mounts N` makes so many mounts, `--namespaces N` so many namespaces. Deliberately absent: sockets and TLS
//! (`cargo xtask bench` measures the binary), and any framework. The memory shown is that of the whole process, the load
//! included.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark prints, and ends when something fails"
)]

mod load;
mod mounts;
mod server;
mod storm;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_harness::ROOT;

use crate::load::Load;
use crate::mounts::Many;
use crate::server::{AuditKept, Server, resident_mebibytes};

/// The binary's own, so that memory is what it is there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn number(name: &str, default: usize) -> usize {
    argument(name).map_or(default, |number| number.parse().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let audit = match argument("--audit").as_deref() {
        None | Some("disk") => AuditKept::OnDisk,
        Some("device") => AuditKept::WithDevice,
        Some("memory") => AuditKept::InMemory,
        Some(other) => panic!("--audit is `disk`, `device` or `memory`, not `{other}`"),
    };
    let folder = tempfile::tempdir_in(argument("--folder").map_or_else(std::env::temp_dir, Into::into)).unwrap();
    let (server, share) = Server::initialize(folder.path(), audit).await;
    println!("local audit log {audit:?}; idle: {:.0} MiB resident", resident_mebibytes());
    let mut server = server;
    let leases = number("--leases", 600);
    if leases > 0 {
        let minutes = u64::try_from(number("--minutes", 600)).unwrap();
        let step = number("--step", (leases / 10).clamp(1, 100_000));
        let load = Load { total: leases, step, until: Instant::now() + Duration::from_secs(60 * minutes) };
        load.make_mixed(&server).await;
        server = restart(server, &share).await;
        load.make_some_more(&server).await;
    }
    let descendants = number("--descendants", 300);
    if descendants > 0 {
        server = revoke_family(server, &share, descendants).await;
    }
    for (name, many, default) in [("--mounts", Many::Mounts, 150), ("--namespaces", Many::Namespaces, 20)] {
        let count = number(name, default);
        if count > 0 {
            server = mounts::make_many(server, &share, many, count).await;
        }
    }
    let ending = number("--ending", 300);
    if ending > 0 {
        storm::end_many(&server, ending, u64::try_from(number("--failing", 0)).unwrap()).await;
    }
}

/// Another process, as far as memory goes: sealed, closed, opened, unsealed.
async fn restart(server: Server, share: &[u8]) -> Server {
    let witness = server.token(ROOT, "50h").await;
    let started = Instant::now();
    let server = server.reopened().await;
    let opened = started.elapsed();
    let started = Instant::now();
    server.unseal(share).await;
    drop(server.call("GET", "auth/token/lookup-self", &witness, Value::Null).await.expect_status(200));
    let first_read = started.elapsed();
    drop(server.login().await);
    println!(
        "restart: closing and opening {opened:?}, from entering the share {first_read:?} to the first read and {:?} to \
         the first login; {:.0} MiB resident",
        started.elapsed(),
        resident_mebibytes()
    );
    server
}

/// Tokens below one, and what revoking that takes.
async fn revoke_family(server: Server, share: &[u8], descendants: usize) -> Server {
    let parent = server.token(ROOT, "100h").await;
    let load = Load { total: descendants, step: (descendants / 10).clamp(1, 100_000), until: server::never() };
    load.make_children(&server, &parent).await;
    let mut witnesses = Vec::new();
    for _ in 0..100 {
        witnesses.push(server.token(&parent, "50h").await);
    }
    let server = restart(server, share).await;
    let live = server.live().await;
    // Made only now: what was created before is in no device.
    let sums = server.audit_device("sums").await;
    let started = Instant::now();
    drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": parent })).await.expect_status(204));
    let took = started.elapsed();
    for witness in witnesses {
        drop(server.call("GET", "auth/token/lookup-self", &witness, Value::Null).await.expect_status(403));
    }
    println!("revoking a token with {} descendants: {took:?}; 100 of them looked up and refused", descendants + 100);
    println!("alive before: {live}, after: {}", server.live().await);
    let collected = loop {
        // Seldom, so that it is calm between.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let collected = collected(&sums);
        if collected.1 >= descendants + 100 || started.elapsed() > COLLECTED_WITHIN {
            break collected;
        }
    };
    println!(
        "after {:.0?} the audit log says in {} records that {} tokens were collected; {:.0} MiB resident",
        started.elapsed(),
        collected.0,
        collected.1,
        resident_mebibytes()
    );
    assert_eq!(collected.1, descendants + 100, "each is audited once");
    server
}

/// The longest that collecting a family may take.
const COLLECTED_WITHIN: Duration = Duration::from_secs(3600);

/// How many records of an audit device are about what was collected, and of how many tokens they speak.
fn collected(device: &std::path::Path) -> (usize, usize) {
    let text = std::fs::read_to_string(device).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let sums = lines.filter(|line| line.pointer("/request/path") == Some(&json!("sys/tokens/collected")));
    let tokens = sums.filter_map(|line| line.pointer("/request/data/tokens").and_then(Value::as_u64));
    tokens.fold((0, 0), |(records, sum), tokens| (records + 1, sum + usize::try_from(tokens).unwrap()))
}
