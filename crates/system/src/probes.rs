//! `sys/health` and `sys/leader`: what load balancers and clients are told of a node, without a token, in every state.
//!
//! A node that would refuse requests never looks as if it took them, whatever codes a probe asks for: a standby that has known
//! of no leader for a while has a code of its own, which `standbyok` does not cover. While another leader is being chosen
//! requests wait, so load balancers need not know. Standbys answer every request, and are plain ones to
//! probes: load balancers are told of those by `standbyok`, and of performance standbys in other ways. Deliberately absent:
//! anything that only an operator may know.

use std::time::Duration;

use tresor_core::cluster::Standing;
use tresor_core::role::Role;
use tresor_core::{Condition, Damage, Node};
use tresor_model::{Fault, Timestamp};
use tresor_wire::API_LEVEL;
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::always::{Answered, refused};

/// The code of an unsealed node whose audit log takes no records, whose store is not reached, or that is about to stop.
const SERVES_NO_MORE: u32 = 503;

/// A new leader is there sooner, as long as enough nodes are.
const LEADERLESS_BOUND: Duration = Duration::from_secs(3);

/// What an unsealed node is to its clients.
enum Part {
    /// It does everything.
    Active(Timestamp),
    /// It reads, and passes everything else on to the leader.
    Standby,
    /// It has known of no leader for a while, and refuses requests.
    Leaderless,
}

impl Part {
    /// Nothing while the node is sealed.
    fn of(node: &Node) -> Option<Self> {
        let role = node.role()?;
        if node.cluster().is_out_of_service() {
            return Some(Self::Leaderless);
        }
        Some(match (node.cluster().standing(), role) {
            (Standing::Leads { .. }, Role::Active { since, .. }) => Self::Active(since),
            (Standing::Follows(_), _) => Self::Standby,
            (Standing::Leads { .. }, Role::Standby) | (Standing::Leaderless, _) => {
                let is_while = node.leaderless_for().is_some_and(|time| time > LEADERLESS_BOUND);
                if is_while { Self::Leaderless } else { Self::Standby }
            }
        })
    }
}

/// Which code each condition is to answer with.
#[derive(Input)]
pub(crate) struct Health {
    /// A standby is as good as an active node.
    #[input(query, default = "false")]
    standbyok: bool,
    /// A performance standby is as good as an active node.
    #[input(query, default = "false")]
    #[expect(dead_code, reason = "checked for probes that send it; there are none of these")]
    perfstandbyok: bool,
    /// Code of an active node.
    #[input(query, default = "200")]
    activecode: u32,
    /// Code of a standby.
    #[input(query, default = "429")]
    standbycode: u32,
    /// Code of a standby that has known of no leader for a while.
    #[input(query, default = "474")]
    haunhealthycode: u32,
    /// Code of a sealed node.
    #[input(query, default = "503")]
    sealedcode: u32,
    /// Code of an uninitialised node.
    #[input(query, default = "501")]
    uninitcode: u32,
    /// Code of a node that was removed from its cluster.
    #[input(query, default = "530")]
    removedcode: u32,
    /// Code of a secondary for disaster recovery.
    #[input(query, default = "472")]
    #[expect(dead_code, reason = "checked for probes that send it; there are none of these")]
    drsecondarycode: u32,
    /// Code of a performance standby.
    #[input(query, default = "473")]
    #[expect(dead_code, reason = "checked for probes that send it; there are none of these")]
    performancestandbycode: u32,
}

/// How the node is doing.
#[derive(Output)]
pub(crate) struct HealthReport {
    /// Whether the server is initialised.
    initialized: bool,
    /// Whether it is sealed.
    sealed: bool,
    /// Whether another node is the active one; a sealed node says so too.
    standby: bool,
    /// Kept for clients.
    performance_standby: bool,
    /// Kept for clients; unknown while sealed.
    replication_performance_mode: &'static str,
    /// Kept for clients; unknown while sealed.
    replication_dr_mode: &'static str,
    /// The node's time, in seconds since the Unix epoch.
    server_time_utc: i64,
    /// The level of the API.
    version: &'static str,
    /// Kept for clients.
    enterprise: bool,
    /// The cluster's name, once unsealed.
    #[output(optional)]
    cluster_name: Option<String>,
    /// The cluster's id, once unsealed.
    #[output(optional)]
    cluster_id: Option<String>,
    /// The node was removed from its cluster; it joins again once its directory is empty.
    #[output(optional)]
    removed_from_cluster: Option<bool>,
    /// Whether a standby has heard a leader lately; when it has not, it refuses requests.
    #[output(optional)]
    ha_connection_healthy: Option<bool>,
    /// Why an unsealed node is not well: its audit log takes no records.
    #[output(optional)]
    audit_log: Option<String>,
    /// The node is about to stop.
    #[output(optional)]
    leaving: Option<bool>,
    /// Why a sealed node did not open by itself.
    #[output(optional)]
    automatic_unseal: Option<String>,
    /// Why an unsealed node is not well: its store takes no writes, or something in it is damaged. Where it is read, the code is
    /// that of its state.
    #[output(optional)]
    storage: Option<String>,
}

/// What is wrong with the store of a node.
fn trouble(condition: Condition, damage: Option<&Damage>, is_out_of_service: bool) -> Option<String> {
    let place = || damage.map_or_else(|| "the server's log says where".to_owned(), Damage::place);
    Some(match condition {
        Condition::Damaged if is_out_of_service => {
            format!("has a damaged page in its index, {}: the node is out of service, and the others go on", place())
        }
        Condition::Stopped if is_out_of_service => {
            "is read-only: its disk failed. The node is out of service until it is restarted, and the others go on"
                .into()
        }
        Condition::Writable => return None,
        Condition::LowSpace { .. } => "is read-only: its disk has too little free space".into(),
        Condition::Behind => "cannot write its index, tries again each second, and soon takes no writes".into(),
        Condition::Impaired => {
            format!("cannot read a value that is damaged, {}; all else is read and written", place())
        }
        Condition::Damaged => format!("is read-only: a page of its index is damaged, {}", place()),
        Condition::Stopped => "is read-only: its disk failed, and the server must be restarted".into(),
        Condition::Unreachable => "is not reached: the server that keeps it does not answer".into(),
        Condition::Taken => "is another server's: it has opened it meanwhile, and this one is to be stopped".into(),
        Condition::Fenced => {
            "is shared by servers with another `ha_table`: what this one would write is fenced off".into()
        }
    })
}

pub(crate) async fn read_health(node: &Node, codes: Health) -> Result<Answered<HealthReport>, Fault> {
    let standing = node.standing()?;
    let part = Part::of(node).filter(|_| !standing.sealed);
    let is_leaving = node.is_leaving();
    let is_out_of_service = node.cluster().is_out_of_service();
    let is_out_of_reach =
        is_out_of_service || matches!(standing.storage, Condition::Unreachable | Condition::Taken | Condition::Fenced);
    let code = if !standing.facts.initialized {
        codes.uninitcode
    } else if standing.removed {
        codes.removedcode
    } else if part.is_some() && (standing.audit_refusal.is_some() || is_leaving || is_out_of_reach) {
        // Every request would be refused, now or soon, whatever code an active node is to have.
        SERVES_NO_MORE
    } else {
        match part {
            None => codes.sealedcode,
            Some(Part::Leaderless) => codes.haunhealthycode,
            Some(Part::Standby) if !codes.standbyok => codes.standbycode,
            Some(Part::Standby | Part::Active(_)) => codes.activecode,
        }
    };
    let code = u16::try_from(code).ok().filter(|code| (200..=599).contains(code));
    let code = code.ok_or_else(|| Fault::invalid("status codes lie between 200 and 599"))?;
    let replication = if part.is_none() { "unknown" } else { "disabled" };
    let (cluster_name, cluster_id) = standing.cluster.unzip();
    let report = HealthReport {
        initialized: standing.facts.initialized,
        sealed: part.is_none(),
        standby: !matches!(part, Some(Part::Active(_))),
        performance_standby: false,
        replication_performance_mode: replication,
        replication_dr_mode: replication,
        server_time_utc: node.now().seconds(),
        version: API_LEVEL,
        enterprise: false,
        cluster_name,
        cluster_id,
        removed_from_cluster: standing.removed.then_some(true),
        ha_connection_healthy: match part {
            Some(Part::Standby) => Some(true),
            Some(Part::Leaderless) => Some(false),
            Some(Part::Active(_)) | None => None,
        },
        audit_log: standing.audit_refusal.map(refused),
        leaving: is_leaving.then_some(true),
        automatic_unseal: standing.opening_problem.map(|problem| problem.to_string()),
        storage: trouble(standing.storage, standing.damage.as_ref(), is_out_of_service),
    };
    Ok(Answered { code: Some(code), report })
}

/// Which node is the active one. A sealed node of a cluster knows it too.
#[derive(Output)]
pub(crate) struct Leader {
    /// Whether there can be standbys.
    ha_enabled: bool,
    /// Whether it is this node.
    is_self: bool,
    /// Since when this node is it.
    active_time: String,
    /// Its API.
    leader_address: String,
    /// Its cluster port.
    leader_cluster_address: String,
    /// Kept for clients.
    performance_standby: bool,
    /// Kept for clients.
    performance_standby_last_remote_wal: u64,
    /// The last entry of the log that this node knows to be committed.
    #[output(optional)]
    raft_committed_index: Option<u64>,
    /// The last entry of the log that this node has applied.
    #[output(optional)]
    raft_applied_index: Option<u64>,
}

pub(crate) async fn read_leader(node: &Node, _input: EmptyInput) -> Result<Leader, Fault> {
    let cluster = node.cluster();
    let indexes = cluster.has_log().then(|| cluster.indexes());
    let mut leader = Leader {
        ha_enabled: cluster.is_enabled(),
        is_self: false,
        active_time: "0001-01-01T00:00:00Z".to_owned(),
        leader_address: String::new(),
        leader_cluster_address: String::new(),
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
        raft_committed_index: indexes.map(|indexes| indexes.committed),
        raft_applied_index: indexes.map(|indexes| indexes.applied),
    };
    if !cluster.is_enabled() {
        return Ok(leader);
    }
    let contact = match (Part::of(node), cluster.standing()) {
        (_, Standing::Follows(contact)) => contact,
        (Some(Part::Active(since)), _) => {
            leader.is_self = true;
            leader.active_time = rfc3339(since);
            cluster.me()
        }
        _ => return Ok(leader),
    };
    leader.leader_cluster_address = cluster_url(&contact.cluster_address);
    leader.leader_address = contact.api_address;
    Ok(leader)
}

/// A cluster address as clients know it: with a scheme, although what is spoken there is not HTTP.
pub(crate) fn cluster_url(address: &str) -> String {
    if address.is_empty() { String::new() } else { format!("https://{address}") }
}
