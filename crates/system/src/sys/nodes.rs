//! `sys/ha-status` and `sys/step-down`: the nodes of the cluster as operators see them, and letting another one lead.
//!
//! A node is known by its name, whatever machine it runs on. Deliberately absent: changes of the members
//! ([`raft`](super::raft)), and versions for upgrades, which the reference shows where it has them.

use tresor_engine::answer::Then;
use tresor_engine::reply::Afterwards;
use tresor_engine::{Cx, Mirrored, Nothing, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::API_LEVEL;
use tresor_wire::input::EmptyInput;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use crate::probes::cluster_url;

/// The nodes.
#[derive(Output)]
pub(super) struct Nodes {
    /// Each with its name, its addresses, whether it leads, and when it was last heard.
    nodes: Vec<Body>,
}

pub(super) async fn ha_status(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<Nodes>, Fault> {
    let me = sys.handles.cluster.me();
    let mut members = sys.handles.cluster.members();
    members.sort_by(|a, b| a.contact.api_address.cmp(&b.contact.api_address));
    let nodes = members.into_iter().map(|member| {
        let is_me = member.contact.key == me.key;
        let last_echo = member.heard_ago.filter(|_| !is_me).map(|ago| rfc3339(cx.now.less(ago)));
        let shown: Map = map! {
            "hostname" => member.contact.name,
            "api_address" => member.contact.api_address,
            "cluster_address" => cluster_url(&member.contact.cluster_address),
            "active_node" => member.is_leader,
            "last_echo" => last_echo.map_or(Body::Null, Body::from),
            "version" => if is_me { API_LEVEL.to_owned() } else { member.version.unwrap_or_default() },
        };
        Body::from(shown)
    });
    Ok(Mirrored(Nodes { nodes: nodes.collect() }))
}

pub(super) async fn step_down(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Then<Nothing>, Fault> {
    // Where no other has a vote, this one would lead again at once.
    let me = sys.handles.cluster.me();
    let has_other = sys.handles.cluster.members().iter().any(|member| member.is_voter && member.contact.key != me.key);
    Ok(if has_other { Then::new(Nothing, Afterwards::StepDown, Widened::assertion()) } else { Then::no_more(Nothing) })
}
