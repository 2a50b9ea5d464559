//! `sys/storage/raft/configuration`, `remove-peer`, `promote` and `demote`: who belongs to the cluster, and who has a vote.
//!
//! Nodes are called by their names. Deliberately absent: adding one, which is done by joining.

use tresor_engine::{Cx, Data, Nothing};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// Kept for clients: they know the protocol of the reference by this number.
const PROTOCOL_VERSION: &str = "3";

/// Who belongs to the cluster.
#[derive(Output)]
pub(super) struct Configuration {
    /// `servers`, each with `node_id`, `address`, `leader` and `voter`; and the `index` of the entry that says so.
    config: Map,
}

/// A node, by its name.
#[derive(Input)]
pub(super) struct Server {
    /// The name that it has in the configuration.
    #[input(default = "")]
    server_id: String,
}

pub(super) async fn configuration(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Configuration>, Fault> {
    let cluster = enabled(sys)?;
    let index = cluster.indexes().members;
    let mut members = cluster.members();
    members.sort_by(|a, b| a.contact.name.cmp(&b.contact.name));
    let servers = members.into_iter().map(|member| {
        let shown: Map = map! {
            "node_id" => member.contact.name,
            "address" => member.contact.cluster_address,
            "leader" => member.is_leader,
            "protocol_version" => PROTOCOL_VERSION,
            "voter" => member.is_voter,
        };
        Body::from(shown)
    });
    let servers: Vec<Body> = servers.collect();
    Ok(Data(Configuration { config: map! { "index" => index, "servers" => servers } }))
}

pub(super) async fn remove_peer(sys: &Sys, _cx: Cx<'_>, input: Server) -> Result<Nothing, Fault> {
    sys.handles.membership.remove(named(sys, &input)?).await.map(|()| Nothing)
}

pub(super) async fn promote(sys: &Sys, _cx: Cx<'_>, input: Server) -> Result<Nothing, Fault> {
    sys.handles.membership.promote(named(sys, &input)?).await.map(|()| Nothing)
}

pub(super) async fn demote(sys: &Sys, _cx: Cx<'_>, input: Server) -> Result<Nothing, Fault> {
    sys.handles.membership.demote(named(sys, &input)?).await.map(|()| Nothing)
}

fn named<'i>(sys: &Sys, input: &'i Server) -> Result<&'i str, Fault> {
    enabled(sys)?;
    if input.server_id.is_empty() { Err(Fault::invalid("no server id provided")) } else { Ok(&input.server_id) }
}

pub(super) fn enabled(sys: &Sys) -> Result<&dyn tresor_core::cluster::Cluster, Fault> {
    let cluster = &*sys.handles.cluster;
    if cluster.has_log() { Ok(cluster) } else { Err(Fault::invalid("raft storage is not in use")) }
}
