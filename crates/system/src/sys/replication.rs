//! `sys/replication`: that nothing is replicated between clusters, in the words that programs ask for it by (SYS-31, SYS-41).
//!
//! Older programs look for one `mode`, newer ones for one of each kind of replication: both are told. Deliberately absent:
//! replication. What would change or look into it is refused by name, so that nobody takes silence for success.

use tresor_engine::{Access, Cx, Data, Nothing, Routes};
use tresor_model::{Fault, Map, Refusal, map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// The word for replication that is off; `sys/health` says the same.
pub(super) const DISABLED: &str = "disabled";
const REFUSED: &str = "replication between clusters is not supported by this server: nodes of one cluster share what is \
                       stored, and snapshots bring it elsewhere";

/// What there is of replication.
#[derive(Output)]
pub(super) struct Everything {
    /// `disabled`: of neither kind.
    mode: &'static str,
    /// Disaster recovery, with its `mode`.
    dr: Map,
    /// Performance replication, with its `mode`.
    performance: Map,
}

/// What there is of one kind of replication.
#[derive(Output)]
pub(super) struct OneKind {
    /// `disabled`.
    mode: &'static str,
}

/// Something about replication.
#[derive(Input)]
pub(super) struct Anything {
    /// The path below `sys/replication`.
    #[input(path)]
    what: String,
}

/// What is answered and what is refused.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("replication/status", "Whether anything is replicated between clusters: nothing is.")
        .in_root()
        .open_to(Access::Public)
        .read(everything)
        .at("replication/dr/status", "Whether a cluster is kept for disasters: none is.")
        .in_root()
        .open_to(Access::Public)
        .read(one_kind)
        .at("replication/performance/status", "Whether a cluster serves along with this one: none does.")
        .in_root()
        .open_to(Access::Public)
        .read(one_kind)
        .at("replication/{what...}", "Refuses what is about replication between clusters, which is not there.")
        .in_root()
        .open_to(Access::Token)
        .read(look)
        .list(look)
        .ask(refuse)
        .delete(refuse)
        .done()
}

pub(super) async fn everything(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Everything>, Fault> {
    let kind = || map! { "mode" => DISABLED };
    Ok(Data(Everything { mode: DISABLED, dr: kind(), performance: kind() }))
}

pub(super) async fn one_kind(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<OneKind>, Fault> {
    Ok(Data(OneKind { mode: DISABLED }))
}

/// There is nothing to be seen, which clients take as an answer.
pub(super) async fn look(_sys: &Sys, _cx: Cx<'_>, input: Anything) -> Result<Nothing, Fault> {
    let Anything { what: _nothing_is_there } = input;
    Err(Refusal::Absent(REFUSED.into()).into())
}

pub(super) async fn refuse(_sys: &Sys, _cx: Cx<'_>, input: Anything) -> Result<Nothing, Fault> {
    let Anything { what: _nothing_is_there } = input;
    Err(Fault::invalid(REFUSED))
}
