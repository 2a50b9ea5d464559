//! `sys/storage/raft/autopilot/configuration` and `state`: what the leader does by itself about nodes that joined and nodes
//! that are dead, and what it makes of each.
//!
//! Deliberately absent: upgrades by version, which the reference's field `disable_upgrade_migration` is about.

use std::time::Duration;

use tresor_core::cluster::autopilot::{Autopilot, Server};
use tresor_engine::{Cx, Data, Nothing, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::duration::print_go;
use tresor_wire::input::{EmptyInput, Input, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use super::raft::enabled;

/// The configuration, as it is shown.
#[derive(Output)]
pub(super) struct Configuration {
    /// Whether nodes that are dead are removed.
    cleanup_dead_servers: bool,
    /// How long a node may be unheard and still be healthy.
    last_contact_threshold: String,
    /// How long a node may be unheard and still not be dead.
    dead_server_last_contact_threshold: String,
    /// How many entries a node may lack and still be healthy.
    max_trailing_logs: u64,
    /// How many voters a removal leaves at least.
    min_quorum: u64,
    /// How long a node that joined must have been healthy before it votes.
    server_stabilization_time: String,
}

/// Changes of the configuration; what is not named stays.
#[derive(Input)]
pub(super) struct Change {
    /// Whether nodes that are dead are removed.
    cleanup_dead_servers: Option<bool>,
    /// How long a node may be unheard and still be healthy.
    last_contact_threshold: Option<Seconds>,
    /// How long a node may be unheard and still not be dead.
    dead_server_last_contact_threshold: Option<Seconds>,
    /// How many entries a node may lack and still be healthy.
    max_trailing_logs: Option<i64>,
    /// How many voters a removal leaves at least.
    min_quorum: Option<i64>,
    /// How long a node that joined must have been healthy before it votes.
    server_stabilization_time: Option<Seconds>,
    /// There are no upgrades by version.
    disable_upgrade_migration: Option<bool>,
}

/// What the leader makes of the nodes.
#[derive(Output)]
pub(super) struct State {
    /// Whether every node is healthy.
    healthy: bool,
    /// How many voters may fail, so that a majority is left.
    failure_tolerance: u64,
    /// Who leads.
    leader: String,
    /// Who votes.
    voters: Vec<String>,
    /// Who does not.
    non_voters: Vec<String>,
    /// Each node by its name.
    servers: Map,
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Configuration>, Fault> {
    enabled(sys)?;
    let stored = Autopilot::stored(cx.view.widen(Widened::assertion()))?;
    let seconds = |seconds| print_go(Duration::from_secs(seconds));
    Ok(Data(Configuration {
        cleanup_dead_servers: stored.cleanup_dead_servers,
        last_contact_threshold: seconds(stored.last_contact_threshold),
        dead_server_last_contact_threshold: seconds(stored.dead_server_last_contact_threshold),
        max_trailing_logs: stored.max_trailing_logs,
        min_quorum: stored.min_quorum,
        server_stabilization_time: seconds(stored.server_stabilization_time),
    }))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Change) -> Result<Nothing, Fault> {
    enabled(sys)?;
    let _ = input.disable_upgrade_migration;
    let txn = cx.view.widen(Widened::assertion());
    let stored = Autopilot::stored(txn)?;
    let seconds = |new: Option<Seconds>, old| new.map_or(old, |Seconds(length)| length.as_secs());
    let count = |name: &str, new: Option<i64>, old| match new.map(u64::try_from) {
        None => Ok(old),
        Some(Ok(new)) => Ok(new),
        Some(Err(_)) => Err(Fault::invalid(format!("{name} must not be negative"))),
    };
    let changed = Autopilot {
        cleanup_dead_servers: input.cleanup_dead_servers.unwrap_or(stored.cleanup_dead_servers),
        last_contact_threshold: seconds(input.last_contact_threshold, stored.last_contact_threshold),
        dead_server_last_contact_threshold: seconds(
            input.dead_server_last_contact_threshold,
            stored.dead_server_last_contact_threshold,
        ),
        max_trailing_logs: count("max_trailing_logs", input.max_trailing_logs, stored.max_trailing_logs)?,
        min_quorum: count("min_quorum", input.min_quorum, stored.min_quorum)?,
        server_stabilization_time: seconds(input.server_stabilization_time, stored.server_stabilization_time),
    };
    changed.store(txn)?;
    Ok(Nothing)
}

pub(super) async fn state(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<State>, Fault> {
    enabled(sys)?;
    let judged = sys.handles.membership.judged()?;
    let names = |is_voter: bool| {
        let of_kind = judged.servers.iter().filter(|server| server.is_voter == is_voter);
        of_kind.map(|server| server.contact.name.clone()).collect()
    };
    let leader = judged.servers.iter().find(|server| server.is_leader);
    Ok(Data(State {
        healthy: judged.servers.iter().all(|server| server.is_healthy),
        failure_tolerance: judged.failure_tolerance as u64,
        leader: leader.map(|server| server.contact.name.clone()).unwrap_or_default(),
        voters: names(true),
        non_voters: names(false),
        servers: judged.servers.iter().map(|server| (server.contact.name.clone(), shown(server))).collect(),
    }))
}

/// Since when a node is healthy that is not.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn shown(server: &Server) -> Body {
    let status = match (server.is_leader, server.is_voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "non-voter",
    };
    let shown: Map = map! {
        "id" => server.contact.name.as_str(),
        "name" => server.contact.name.as_str(),
        "address" => server.contact.cluster_address.as_str(),
        "node_status" => if server.is_healthy { "alive" } else { "failed" },
        "last_contact" => print_go(server.silent_for),
        "last_term" => server.matched.term,
        "last_index" => server.matched.index,
        "healthy" => server.is_healthy,
        "stable_since" => server.stable_since.map_or_else(|| NEVER.to_owned(), rfc3339),
        "status" => status,
        "version" => server.version.as_deref().unwrap_or_default(),
        "node_type" => if server.is_voter { "voter" } else { "non-voter" },
    };
    Body::from(shown)
}
