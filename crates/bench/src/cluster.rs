//! Clusters of three nodes: what writes and reads cost through the leader and through a node that stands by, and how long nothing
//! is accepted when the leader is killed, told to end, or told to step down.
//!
//! The nodes share one core, and the load has another: so rates say what all three cost together. Deliberately absent: audit
//! devices, and losses of packets.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::contender::{Contender, Program};
use crate::drive::drive;
use crate::loads::{Kind, NAMES, Prepared, Tokens, read_path, secret};
use crate::machine::Usage;
use crate::options::{Options, Storage};
use crate::stage::{text, until_accepted};

/// How long a cluster may take to become whole, or to accept something again.
const BOUND: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a node that came back has before the next one goes.
const SETTLE: Duration = Duration::from_secs(3);
/// How long before the leader goes the writers begin, and how long after it they go on at least.
const RUN_UP: Duration = Duration::from_millis(500);
const RUN_OUT: Duration = Duration::from_secs(3);

/// A load on a cluster.
struct Load {
    name: &'static str,
    kind: Kind,
    clients: usize,
    is_through_standby: bool,
}

const fn load(name: &'static str, kind: Kind, clients: usize, is_through_standby: bool) -> Load {
    Load { name, kind, clients, is_through_standby }
}

const LOADS: [Load; 6] = [
    load("write, leader, 64 clients", Kind::Write, 64, false),
    load("write, leader, 1 client", Kind::Write, 1, false),
    load("write, standby, 64 clients", Kind::Write, 64, true),
    load("read 256 B, leader, 64 clients", Kind::Read(256), 64, false),
    load("read 256 B, standby, 64 clients", Kind::Read(256), 64, true),
    load("read 256 B, standby, 1 client", Kind::Read(256), 1, true),
];

/// How the leader goes.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
    StepDown,
}

const ENDS: [(&str, End); 3] = [("SIGKILL", End::Kill), ("SIGTERM", End::Terminate), ("step-down", End::StepDown)];

/// Measures each binary's cluster, one after the other.
pub(crate) async fn run(options: &Options) -> Result<(), String> {
    for binary in &options.binaries {
        let mut trio = Trio::start(binary, options).await?;
        println!("\n{}: three nodes", trio.nodes[0].name);
        for load in &LOADS {
            let mut rounds = Vec::new();
            for _ in 0..options.rounds {
                rounds.push(trio.measure(load, options).await?);
            }
            rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
            let Some(middle) = rounds.get(rounds.len() / 2) else { continue };
            println!(
                "  {:<34} {:>9.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms  {:>7.1} us of CPU, all nodes",
                load.name, middle.rate, middle.p50, middle.p99, middle.cpu_us
            );
        }
        for (name, end) in ENDS {
            let mut gaps = Vec::new();
            for _ in 0..options.rounds {
                gaps.push(trio.fail_over(end, options).await?.as_millis());
            }
            gaps.sort_unstable();
            let shown: Vec<String> = gaps.iter().map(u128::to_string).collect();
            println!("  no write accepted after {name:<10} for ms: {}", shown.join(" "));
        }
        let sizes = trio.nodes.iter().map(|node| node.usage().map(|usage| format!("{:.0}", usage.resident_mib)));
        println!("  resident MiB of the nodes: {}", sizes.collect::<Result<Vec<_>, _>>()?.join(" "));
    }
    Ok(())
}

struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu_us: f64,
}

/// Three nodes.
pub(crate) struct Trio {
    pub(crate) nodes: Vec<Contender>,
    key: Value,
    pub(crate) tokens: Tokens,
}

impl Trio {
    pub(crate) async fn start(binary: &std::path::Path, options: &Options) -> Result<Self, String> {
        let mut nodes = Vec::new();
        for name in ["one", "two", "three"] {
            nodes.push(Contender::start_as(name, Program::Server(binary, Storage::Raft), options).await?);
        }
        let first = nodes.first().ok_or("no node")?;
        let mut connection = first.connect().await?;
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = connection.succeed("PUT", "sys/init", "", Some(&init)).await?;
        let (root, key) = (text(&made, "/root_token")?, json!({ "key": text(&made, "/keys_base64/0")? }));
        connection.succeed("PUT", "sys/unseal", "", Some(&key)).await?;
        until_accepted(&mut connection, "GET", "sys/health", "", None).await?;
        let (api, certificate) = first.for_other_nodes()?;
        let join = json!({ "leader_api_addr": api, "leader_ca_cert": certificate });
        for node in nodes.iter().skip(1) {
            let mut connection = node.connect().await?;
            until_accepted(&mut connection, "POST", "sys/storage/raft/join", "", Some(&join)).await?;
            until_accepted(&mut connection, "PUT", "sys/unseal", "", Some(&key)).await?;
        }
        let mut trio = Self { nodes, key, tokens: Tokens { root, ..Tokens::default() } };
        trio.tokens.ordinary.clone_from(&trio.tokens.root);
        trio.until_whole().await?;
        trio.furnish().await?;
        Ok(trio)
    }

    async fn furnish(&self) -> Result<(), String> {
        let leader = self.leader().await?;
        let mut connection = self.node(leader)?.connect().await?;
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        connection.succeed("POST", "sys/mounts/kv", &self.tokens.root, Some(&mount)).await?;
        for at in 0..NAMES {
            let body: Value = serde_json::from_str(&secret(256, at)).map_err(|error| error.to_string())?;
            until_accepted(&mut connection, "POST", &read_path(256, at), &self.tokens.root, Some(&body)).await?;
        }
        Ok(())
    }

    pub(crate) fn node(&self, at: usize) -> Result<&Contender, String> {
        self.nodes.get(at).ok_or_else(|| "no such node".to_owned())
    }

    /// Until every node votes and answers.
    async fn until_whole(&self) -> Result<(), String> {
        let started = Instant::now();
        while started.elapsed() < BOUND {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.is_whole().await.unwrap_or(false) {
                return Ok(());
            }
        }
        Err("the cluster does not become whole".to_owned())
    }

    async fn is_whole(&self) -> Result<bool, String> {
        for node in &self.nodes {
            let mut connection = node.connect().await?;
            let (status, _) = connection.call("GET", "sys/health?standbyok=true&perfstandbyok=true", "", None).await?;
            if status != 200 {
                return Ok(false);
            }
        }
        let mut connection = self.node(self.leader().await?)?.connect().await?;
        let members = connection.succeed("GET", "sys/storage/raft/configuration", &self.tokens.root, None).await?;
        let servers = members.pointer("/data/config/servers").and_then(Value::as_array).cloned().unwrap_or_default();
        let voters = servers.iter().filter(|server| server.get("voter") == Some(&Value::Bool(true))).count();
        Ok(voters == self.nodes.len())
    }

    pub(crate) async fn leader(&self) -> Result<usize, String> {
        let started = Instant::now();
        while started.elapsed() < BOUND {
            for (at, node) in self.nodes.iter().enumerate() {
                let Ok(mut connection) = node.connect().await else { continue };
                let Ok((_, leader)) = connection.call("GET", "sys/leader", "", None).await else { continue };
                if leader.get("is_self") == Some(&Value::Bool(true)) {
                    return Ok(at);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err("no node leads".to_owned())
    }

    fn usage(&self) -> Result<Duration, String> {
        self.nodes.iter().map(|node| node.usage().map(|Usage { cpu, .. }| cpu)).sum()
    }

    async fn measure(&self, load: &Load, options: &Options) -> Result<Measured, String> {
        let leader = self.leader().await?;
        let asked = if load.is_through_standby { (leader + 1) % self.nodes.len() } else { leader };
        let mut connections = Vec::with_capacity(load.clients);
        for _ in 0..load.clients {
            connections.push(self.node(asked)?.connect().await?);
        }
        let prepared = Prepared::new(load.kind, &self.tokens);
        let mut before = Duration::ZERO;
        let seen = drive(connections, prepared, options.duration, None, || {
            before = self.usage()?;
            Ok(())
        })
        .await?;
        let cpu = self.usage()?.saturating_sub(before);
        if seen.failures > 0 || seen.latencies.total() == 0 {
            return Err(format!("{}: {} failed: {:?}", load.name, seen.failures, seen.first_failure));
        }
        #[expect(clippy::cast_precision_loss, reason = "shown rounded")]
        let answers = seen.latencies.total() as f64;
        Ok(Measured {
            rate: answers / seen.took.as_secs_f64(),
            p50: seen.latencies.quantile(500),
            p99: seen.latencies.quantile(990),
            cpu_us: cpu.as_secs_f64() * 1e6 / answers,
        })
    }

    /// Lets the leader go under load, and tells the longest time in which no write was accepted by the others.
    async fn fail_over(&mut self, end: End, options: &Options) -> Result<Duration, String> {
        let leader = self.leader().await?;
        let others: Vec<_> = (0..self.nodes.len()).filter(|at| *at != leader).collect();
        let (gone, going) = tokio::sync::watch::channel(None);
        let writers: Vec<_> = others
            .iter()
            .filter_map(|at| self.nodes.get(*at))
            .map(|node| tokio::spawn(write_on(node.endpoint.clone(), self.tokens.root.clone(), going.clone())))
            .collect();
        tokio::time::sleep(RUN_UP).await;
        let at = Instant::now();
        gone.send_replace(Some(at));
        match end {
            End::Kill => self.end_by(leader, Signal::KILL).await?,
            End::Terminate => self.end_by(leader, Signal::TERM).await?,
            End::StepDown => {
                let mut connection = self.node(leader)?.connect().await?;
                connection.succeed("PUT", "sys/step-down", &self.tokens.root, None).await?;
            }
        }
        let mut accepted = Vec::new();
        for writer in writers {
            accepted.extend(writer.await.map_err(|error| error.to_string())??);
        }
        accepted.sort_unstable();
        let mut longest = Duration::ZERO;
        accepted.iter().fold(at, |last, next| {
            longest = longest.max(next.duration_since(last));
            *next
        });
        if !matches!(end, End::StepDown) {
            let key = self.key.clone();
            let node = self.nodes.get_mut(leader).ok_or("no such node")?;
            node.start_again(options).await?;
            let mut connection = node.connect().await?;
            until_accepted(&mut connection, "PUT", "sys/unseal", "", Some(&key)).await?;
        }
        self.until_whole().await?;
        tokio::time::sleep(SETTLE).await;
        Ok(longest)
    }

    async fn end_by(&mut self, at: usize, signal: Signal) -> Result<(), String> {
        self.nodes.get_mut(at).ok_or("no such node")?.end_by(signal).await
    }
}

/// Writes through a node, whatever it answers, until some time after the leader went; tells when writes were accepted since.
async fn write_on(
    endpoint: crate::connection::Endpoint,
    token: String,
    gone: tokio::sync::watch::Receiver<Option<Instant>>,
) -> Result<Vec<Instant>, String> {
    let body: Value = serde_json::from_str(&secret(256, 0)).map_err(|error| error.to_string())?;
    let (started, mut connection, mut accepted) = (Instant::now(), None, Vec::new());
    while started.elapsed() < BOUND {
        let gone = *gone.borrow();
        if !accepted.is_empty() && gone.is_some_and(|gone| gone.elapsed() > RUN_OUT) {
            return Ok(accepted);
        }
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => endpoint.connect().await,
        };
        if let Ok(mut open) = open
            && let Ok((status, _)) = open.call("POST", "kv/data/failover", &token, Some(&body)).await
        {
            connection = Some(open);
            if (200..=299).contains(&status) && gone.is_some() {
                accepted.push(Instant::now());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err("nothing was accepted in a minute".to_owned())
}
