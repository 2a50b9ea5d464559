//! `sys/remount`: moves a mount to a free path. The data stays where it is (it lies below the mount's identity), so
//! the move is one record and is done when the answer leaves; the status is therefore always `success`. The last move
//! of each mount is known for as long as the mount lives.

use tresor_core::leases::record::JobWork;
use tresor_engine::{Cx, Data, Warned, Widened};
use tresor_model::{Fault, Map, MountPath, map};
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;

/// From where to where.
#[derive(Input)]
pub(super) struct Remount {
    /// Where it is.
    from: String,
    /// Where it is to be.
    to: String,
}

/// A move.
#[derive(Input)]
pub(super) struct Migration {
    /// What the move answered with.
    #[input(path)]
    migration_id: String,
}

/// A move that was started.
#[derive(Output)]
pub(super) struct Started {
    /// Names the move.
    migration_id: String,
}

/// How far a move is.
#[derive(Output)]
pub(super) struct Moved {
    /// Names the move.
    migration_id: String,
    /// From where, to where, and how far.
    migration_info: Map,
}

pub(super) async fn remount(sys: &Sys, mut cx: Cx<'_>, input: Remount) -> Result<Warned<Data<Started>>, Fault> {
    let parse = |text: &str| MountPath::parse(text).map_err(|error| Fault::invalid(error.to_string()));
    let (from, to) = (parse(&input.from)?, parse(&input.to)?);
    let table = sys.space(&cx)?.mounts.table();
    let mount = table.at(from.as_str()).ok_or_else(|| Fault::invalid(format!("no matching mount at {from:?}")))?;
    let entropy = cx.entropy;
    sys.may_mount_at(&mut cx, to.as_str())?;
    let moved = sys.space(&cx)?.mounts.move_to(cx.view.widen(Widened::assertion()), mount, &to, entropy)?;
    // Leases are named by the path that was asked: what was handed out there is taken back.
    let (now, space) = (cx.now, sys.space(&cx)?);
    let txn = cx.view.widen(Widened::assertion());
    sys.handles.leases.order(txn, &space, JobWork::Revoke, from.as_str(), now, entropy)?;
    let done = "Mount move has been done; its leases are being revoked.".to_owned();
    Ok(Warned(Data(Started { migration_id: moved.id }), vec![done]))
}

pub(super) async fn status(sys: &Sys, cx: Cx<'_>, input: Migration) -> Result<Option<Data<Moved>>, Fault> {
    let table = sys.space(&cx)?.mounts.table();
    let moves = table.iter().filter_map(|mount| Some((mount.record.path.as_str(), mount.record.moved.as_ref()?)));
    let found = moves.into_iter().find(|(_, moved)| moved.id == input.migration_id);
    Ok(found.map(|(target, moved)| {
        let source = moved.from.as_str();
        Data(Moved {
            migration_id: moved.id.clone(),
            migration_info: map! { "source_mount" => source, "target_mount" => target, "status" => "success" },
        })
    }))
}
