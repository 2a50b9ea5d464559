//! `sys/activation-flags`, `sys/experiments` and `sys/well-known`: programs ask what there is, and there is nothing: every feature of
//! this server is on, none is an experiment, and no engine of today answers below `/.well-known`.
//!
//! Deliberately absent: a way to add something; what comes to have a label declares it.

use tresor_engine::{Access, Cx, Data, Keys, Place, Routes};
use tresor_model::{Fault, Map};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// Features by whether they are activated.
#[derive(Output)]
pub(super) struct Flags {
    /// Those that are.
    activated: Vec<String>,
    /// Those that wait for it.
    unactivated: Vec<String>,
}

/// Experiments.
#[derive(Output)]
pub(super) struct Experiments {
    /// Those that this release has.
    available: Vec<String>,
    /// Those that this node was told to try.
    enabled: Vec<String>,
}

/// A label.
#[derive(Input)]
pub(super) struct ByLabel {
    /// The part of the path after `/.well-known/`.
    #[input(path)]
    label: String,
}

/// The routes.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("activation-flags", "Features that wait to be activated: none.")
        .in_root()
        .open_to(Access::Public)
        .read(activation)
        .at("experiments", "What this node could try out, and does: nothing.")
        .in_root()
        .open_to(Access::Token)
        .runs_on(Place::Asked)
        .read(experiments)
        .at("well-known", "What lies below `/.well-known`.")
        .in_root()
        .read(every_label)
        .list(labels)
        .at("well-known/{label...}", "Where a label below `/.well-known` leads.")
        .in_root()
        .read(label)
        .done()
}

pub(super) async fn activation(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Flags>, Fault> {
    Ok(Data(Flags { activated: Vec::new(), unactivated: Vec::new() }))
}

pub(super) async fn experiments(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Experiments>, Fault> {
    Ok(Data(Experiments { available: Vec::new(), enabled: Vec::new() }))
}

pub(super) async fn labels(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(Vec::new()))
}

pub(super) async fn every_label(_sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Data<Map>, Fault> {
    Ok(Data(Map::new()))
}

pub(super) async fn label(_sys: &Sys, _cx: Cx<'_>, input: ByLabel) -> Result<Option<Data<Map>>, Fault> {
    let ByLabel { label: _none_has_one } = input;
    Ok(None)
}
