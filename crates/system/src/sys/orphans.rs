//! `sys/rotation/orphans`: what rotated by itself, failed as often as its rotation policy lets it, and is tried no more.
//!
//! Each is named by the path that it is written at: that, or rotating it by order, lets it go on. Deliberately absent: doing so
//! for many at once, since whatever kept them from rotating is to be looked into first.

use std::sync::Arc;

use tresor_core::rotations;
use tresor_engine::{Cx, Data, Place, Routes, Warned, Widened};
use tresor_model::Fault;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;

/// In how many namespaces is looked at once, and at how many things.
const SPACES_MAX: usize = 10_000;
const LOOKED_AT_MAX: usize = 100_000;

/// Where to look.
#[derive(Input)]
pub(super) struct Where {
    /// Whether the namespaces below are looked into, too; the paths of what is found there begin with theirs.
    #[input(query)]
    include_child_namespaces: Option<bool>,
}

/// What is tried no more.
#[derive(Output)]
pub(super) struct Orphans {
    /// The paths, in order.
    orphans: Vec<String>,
}

/// The route.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .at("rotation/orphans", "What rotated by itself and is tried no more, since it failed too often.")
        .runs_on(Place::Leader)
        .read(read)
        .done()
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: Where) -> Result<Warned<Data<Orphans>>, Fault> {
    let space = sys.space(&cx)?;
    let mut spaces = vec![Arc::clone(&space)];
    if input.include_child_namespaces == Some(true) {
        spaces.extend(sys.handles.spaces.below(&space.path, None, SPACES_MAX, true));
    }
    let (mut budget, mut orphans) = (LOOKED_AT_MAX, Vec::new());
    for below in spaces.iter().filter(|below| !below.is_sealed) {
        let way = below.path.strip_prefix(&space.path).unwrap_or_default();
        for mount in below.mounts.table().iter() {
            let txn = cx.view.widen(Widened::assertion());
            let found = rotations::orphans(txn, below, mount, &mut budget)?;
            orphans.extend(found.into_iter().map(|path| format!("{way}{path}")));
        }
        tresor_env::tasks::breathe().await;
    }
    orphans.sort_unstable();
    let cut = (budget == 0).then(|| format!("only {LOOKED_AT_MAX} things that rotate by a policy were looked at"));
    Ok(Warned(Data(Orphans { orphans }), cut.into_iter().collect()))
}
