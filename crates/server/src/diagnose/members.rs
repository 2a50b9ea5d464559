//! What a node tells others of where it is, and whether those that it is to join answer, and have its time.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tresor_client::{Client, ClientConfig, ClientError, Method};
use tresor_model::Map;
use tresor_wire::json::{self, JsonLimits};

use super::{Check, network};
use crate::config::{LeaderConfig, ServerConfig, Storage};
use crate::joining::client_config;
use crate::storage::opening;

/// How long a leader is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// From here on clocks differ too much.
const CLOCKS_APART: u64 = 5;

pub(super) fn look(config: &ServerConfig, runs: bool) -> Vec<Check> {
    let Storage::Raft { directory, node_id } = &config.storage else {
        return vec![Check::skipped("Cluster", "there are other nodes with storage \"raft\" only")];
    };
    if config.disable_clustering {
        return vec![Check::skipped("Cluster", "disable_clustering is set: this node is alone")];
    }
    let listening: Vec<SocketAddr> = config.listeners.iter().filter_map(|listener| listener.place.tcp()).collect();
    let mut checks = vec![api(config)];
    match opening(config, directory, node_id.as_deref(), &listening) {
        Err(error) => {
            checks.push(Check::fail("Cluster Address", error, "the server does not start before this is mended"))
        }
        Ok(opening) => {
            checks.extend(
                opening.listen.filter(|address| address.port() > 0).map(|it| network::port("Cluster Port", it, runs)),
            );
            let told = opening.address.or_else(|| opening.listen.map(|listen| listen.to_string()));
            checks.push(address(told.unwrap_or_default(), config));
        }
    }
    checks.extend(config.join.leaders.iter().map(leader));
    checks
}

fn api(config: &ServerConfig) -> Check {
    const NAME: &str = "API Address";
    match &config.api_address {
        Some(address) => Check::ok(NAME, format!("clients are told {address}")),
        None if config
            .listeners
            .iter()
            .filter_map(|listener| listener.place.tcp())
            .any(|it| !it.ip().is_unspecified()) =>
        {
            Check::ok(NAME, "clients are told the address of the first listener")
        }
        None => Check::warn(
            NAME,
            "not set, and the listener is on every address: clients that are sent to this node cannot be told where it is",
            "api_addr = \"https://HOST:8200\", as clients reach this node (or VAULT_API_ADDR)",
        ),
    }
}

fn address(told: String, config: &ServerConfig) -> Check {
    const NAME: &str = "Cluster Address";
    let host = told.rsplit_once(':').map_or(told.as_str(), |(host, _)| host);
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback && !config.join.leaders.is_empty() {
        let advice = "cluster_addr = \"https://HOST:8201\", as the other nodes reach this one (or VAULT_CLUSTER_ADDR)";
        return Check::warn(NAME, format!("other nodes are told {told}, which leads each to itself"), advice);
    }
    Check::ok(NAME, format!("other nodes are told {told}"))
}

fn leader(leader: &LeaderConfig) -> Check {
    let name = format!("Node {}", leader.api_address);
    const ADVICE: &str =
        "see that its server runs, that a firewall lets this machine through, and whose certificate it shows";
    let asked = now();
    match ask(leader) {
        Err(error) => Check::fail(&name, error, ADVICE),
        Ok(health) => {
            let answered = now();
            let theirs = health.get("server_time_utc").and_then(tresor_model::Body::as_i64);
            let apart = theirs.and_then(|it| u64::try_from(it).ok()).map_or(0, |theirs| {
                // Its time was told at some moment between.
                if theirs < asked { asked - theirs } else { theirs.saturating_sub(answered) }
            });
            match apart > CLOCKS_APART {
                true => Check::warn(
                    &name,
                    format!("it answers, and its clock is {apart} seconds from this one's"),
                    "let a time service keep both clocks",
                ),
                false => Check::ok(&name, "it answers, and its clock agrees"),
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What it says of its health; every state answers 200 here.
fn ask(leader: &LeaderConfig) -> Result<Map, String> {
    let config = ClientConfig { timeout: PATIENCE, retries_max: 0, ..client_config(leader)? };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let every_state = ["standbycode", "sealedcode", "uninitcode", "drsecondarycode", "performancestandbycode"];
    let query: Vec<(&str, &str)> = every_state.map(|state| (state, "200")).into();
    let answer = runtime.block_on(async {
        let client = Client::new(config).await?;
        client.request(Method::Get, "sys/health", &query, None).await
    });
    let answer = answer.map_err(|error| match error {
        ClientError::Local { message } => message,
        ClientError::Server { status, .. } => format!("it answered {status}"),
    })?;
    json::decode(answer.body(), &JsonLimits::default()).map_err(|error| format!("its answer: {error}"))
}
