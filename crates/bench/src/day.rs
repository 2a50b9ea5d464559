//! A day of a small company's traffic on a cluster of three nodes, in as little time as it takes: reads, writes, logins, tokens
//! that end by themselves and such that are revoked, through every node in turn.
//!
//! What is asked of it is said in memory: no node that stands by takes more than 1.2 times what the leader takes, and no request
//! fails. That is not about time, so it may fail. Deliberately absent: audit devices, whose files would fill the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Trio;
use crate::connection::{Connection, Endpoint};
use crate::loads::{NAMES, read_path, secret};
use crate::options::Options;
use crate::stage::text;

/// How many requests a day has, at 20 a second.
const REQUESTS: u64 = 24 * 60 * 60 * 20;
/// How many clients there are, and how many secrets each writes.
const CLIENTS: usize = 16;
const WRITTEN: u64 = 1000;
/// How often the memory is shown on the way.
const SHOWN: u64 = 12;
/// What a standby may take, in parts of what the leader takes.
const PART_MAX: f64 = 1.2;
/// How long the nodes rest before they are compared, so that what ends meanwhile has ended.
const REST: Duration = Duration::from_secs(20);

/// What all clients share.
struct Day {
    nodes: Vec<Endpoint>,
    root: String,
    /// How many requests were begun.
    begun: AtomicU64,
    is_over: AtomicBool,
}

/// Runs a day on each binary's cluster, or as much of it as fits into the minutes.
pub(crate) async fn run(options: &Options, minutes: u64) -> Result<(), String> {
    for binary in &options.binaries {
        let trio = Trio::start(binary, options).await?;
        furnish(&trio).await?;
        let nodes = trio.nodes.iter().map(|node| node.endpoint.clone()).collect();
        let root = trio.tokens.root.clone();
        let day = Arc::new(Day { nodes, root, begun: AtomicU64::new(0), is_over: AtomicBool::new(false) });
        let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(live(client, Arc::clone(&day)))).collect();
        let (started, bound) = (Instant::now(), Duration::from_secs(minutes * 60));
        let mut shown = 0;
        while started.elapsed() < bound && clients.iter().all(|client| !client.is_finished()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let parts = (SHOWN * day.begun.load(Ordering::Relaxed) / REQUESTS)
                .max(SHOWN * started.elapsed().as_secs() / bound.as_secs().max(1));
            if parts > shown {
                shown = parts;
                show(&trio, &day, started).await?;
            }
        }
        day.is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.map_err(|error| error.to_string())??;
        }
        let done = day.begun.load(Ordering::Relaxed).min(REQUESTS);
        #[expect(clippy::cast_precision_loss, reason = "shown rounded")]
        let hours = done as f64 / (REQUESTS / 24) as f64;
        println!("{done} requests, {hours:.1} hours of a day, none failed; at rest:");
        tokio::time::sleep(REST).await;
        let sizes = show(&trio, &day, started).await?;
        let leader = sizes.get(trio.leader().await?).copied().unwrap_or_default();
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        println!("the largest takes {:.2} times what the leader takes", largest / leader);
        if largest > leader * PART_MAX {
            return Err(format!("a standby takes {largest:.0} MiB, the leader {leader:.0}"));
        }
    }
    Ok(())
}

async fn furnish(trio: &Trio) -> Result<(), String> {
    let leader = trio.node(trio.leader().await?)?;
    let mut connection = leader.connect().await?;
    let root = &trio.tokens.root;
    connection.succeed("POST", "sys/auth/userpass", root, Some(&json!({ "type": "userpass" }))).await?;
    let user = json!({ "password": "correct horse", "token_ttl": "60s" });
    connection.succeed("POST", "auth/userpass/users/clerk", root, Some(&user)).await?;
    Ok(())
}

/// Shows how far the day is and what each node takes.
async fn show(trio: &Trio, day: &Day, started: Instant) -> Result<Vec<f64>, String> {
    let leader = trio.leader().await?;
    let sizes = trio.nodes.iter().map(|node| node.usage().map(|usage| usage.resident_mib));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let shown: Vec<String> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| format!("{size:.1}{}", if at == leader { " (leads)" } else { "" }))
        .collect();
    println!(
        "{:>8} requests after {:>4} s, resident MiB: {}",
        day.begun.load(Ordering::Relaxed),
        started.elapsed().as_secs(),
        shown.join(", ")
    );
    Ok(sizes)
}

/// One client, which goes from node to node.
async fn live(client: usize, day: Arc<Day>) -> Result<(), String> {
    let mut connections = Vec::new();
    for node in &day.nodes {
        connections.push(node.connect().await?);
    }
    let mut tokens = Vec::new();
    for number in 0_u64.. {
        if day.is_over.load(Ordering::Relaxed) || day.begun.fetch_add(1, Ordering::Relaxed) >= REQUESTS {
            break;
        }
        let at = usize::try_from(number).unwrap_or(0).wrapping_add(client) % connections.len();
        let Some(connection) = connections.get_mut(at) else { break };
        ask(connection, &day.root, client, number, &mut tokens).await?;
    }
    Ok(())
}

/// One request: which one follows from its number.
async fn ask(
    connection: &mut Connection,
    root: &str,
    client: usize,
    number: u64,
    tokens: &mut Vec<String>,
) -> Result<(), String> {
    match number % 1000 {
        0 => {
            let password = json!({ "password": "correct horse" });
            connection.succeed("POST", "auth/userpass/login/clerk", "", Some(&password)).await?;
        }
        at if at % 25 == 1 => {
            let wanted = json!({ "policies": ["default"], "ttl": "30s" });
            let made = connection.succeed("POST", "auth/token/create", root, Some(&wanted)).await?;
            // Every second one ends by itself.
            if at % 50 == 1 {
                tokens.push(text(&made, "/auth/client_token")?);
            }
        }
        at if at % 50 == 2 => {
            if let Some(token) = tokens.pop() {
                connection.succeed("POST", "auth/token/revoke", root, Some(&json!({ "token": token }))).await?;
            }
        }
        at if at % 5 == 3 => {
            let body: Value = serde_json::from_str(&secret(1024, client)).map_err(|error| error.to_string())?;
            let path = format!("kv/data/day/{client}-{}", number / 5 % WRITTEN);
            connection.succeed("POST", &path, root, Some(&body)).await?;
        }
        at => {
            let name = usize::try_from(at).unwrap_or(0) % NAMES;
            connection.succeed("GET", &read_path(256, name), root, None).await?;
        }
    }
    Ok(())
}
