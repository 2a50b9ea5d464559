//! `sys/unmount`: mounts that were disabled and are not gone yet; ours.
//!
//! Disabling answers at once. What the mount handed out is revoked and its data is wiped afterwards, which may take long;
//! here is how far that is. Deliberately absent: undoing it.

use tresor_core::mounts::record::StoredMount;
use tresor_core::mounts::removal::{Removal, Stage};
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::{Fault, MountId};
use tresor_wire::input::Input;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use super::Sys;
use crate::pages::{Page, listed};

/// A mount that was disabled.
#[derive(Input)]
pub(super) struct ById {
    /// Its identity, `uuid` in listings of mounts.
    #[input(path)]
    id: String,
}

/// How far it is.
#[derive(Output)]
pub(super) struct Shown {
    /// The identity of the mount.
    id: String,
    /// Where it was.
    path: String,
    /// What it was.
    #[output(name = "type")]
    kind: String,
    /// Its handle.
    accessor: String,
    /// When it was disabled.
    disabled_time: String,
    /// `revoking-leases`, `waiting-for-operator` or `wiping`.
    state: &'static str,
    /// How many of its leases were ended.
    leases_ended: u64,
    /// How many of its leases are not revoked yet.
    leases_pending: u64,
    /// How many of its leases could not be revoked.
    leases_irrevocable: u64,
    /// How many records of its data were deleted.
    records_wiped: u64,
    /// How many records of its data are left; 10000 is that or more.
    records_left: u64,
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, page: Page) -> Result<Keys, Fault> {
    let space = sys.space(&cx)?;
    let mounts = &space.mounts;
    listed(cx, page, |txn, after, limit| mounts.removals(txn, after, limit)).await
}

pub(super) async fn read(sys: &Sys, mut cx: Cx<'_>, input: ById) -> Result<Option<Data<Shown>>, Fault> {
    let space = sys.space(&cx)?;
    let mounts = &space.mounts;
    let txn = cx.view.widen(Widened::assertion());
    let Some(removal) = mounts.removal(txn, &MountId::new(input.id))? else { return Ok(None) };
    let StoredMount(mount) = &removal.record.mount;
    let records_left = mounts.records_left(txn, mount)?;
    Ok(Some(Data(shown(removal, records_left))))
}

/// Forcing what is gone already is fine.
pub(super) async fn force(sys: &Sys, mut cx: Cx<'_>, input: ById) -> Result<Nothing, Fault> {
    let space = sys.space(&cx)?;
    let mounts = &space.mounts;
    mounts.force_removal(cx.view.widen(Widened::assertion()), &MountId::new(input.id))?;
    Ok(Nothing)
}

fn shown(removal: Removal, records_left: u64) -> Shown {
    let state = match removal.stage() {
        Stage::Revoking => "revoking-leases",
        Stage::Stuck => "waiting-for-operator",
        Stage::Wiping => "wiping",
    };
    let Removal { record, leases } = removal;
    let StoredMount(mount) = record.mount;
    Shown {
        id: mount.id.as_str().to_owned(),
        accessor: mount.accessor.as_str().to_owned(),
        path: mount.path,
        kind: mount.kind,
        disabled_time: rfc3339(record.since),
        state,
        leases_ended: record.leases_ended,
        leases_pending: leases.live + leases.revoking,
        leases_irrevocable: leases.irrevocable,
        records_wiped: record.records_wiped,
        records_left,
    }
}
