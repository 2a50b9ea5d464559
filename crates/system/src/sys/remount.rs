//! `sys/remount`: moves a mount to a free path, of its namespace or of another one.
//!
//! Both paths are those of the namespace that is asked, so each end is in it or below it. Within a namespace the data stays
//! where it is (it lies below the mount's identity): the move is one record, and done when the answer leaves. To another one
//! the data has to be carried (`mounts/moving.rs`). The last move of each mount is known for as long as the mount lives.
//! Whoever moves a mount out of a namespace or into one may do as much there: the policies decide on this path as it is called
//! there, too. Deliberately absent: the move.

use std::sync::Arc;

use tresor_core::Space;
use tresor_core::leases::record::JobWork;
use tresor_core::mounts::record::MoveState;
use tresor_engine::{Cx, Data, Warned, Widened};
use tresor_model::{Fault, Map, MountPath, Operation, Path, Refusal, map};
use tresor_policy::Request;
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

/// The path that policies decide on.
const PATH: &str = "sys/remount";

/// One end of a move.
struct End {
    space: Arc<Space>,
    path: MountPath,
}

impl End {
    fn parse(sys: &Sys, cx: &Cx<'_>, text: &str) -> Result<Self, Fault> {
        let invalid = |error: &dyn std::fmt::Display| Fault::invalid(error.to_string());
        let asked = sys.space(cx)?;
        let whole = MountPath::parse(text).map_err(|error| invalid(&error))?;
        let path = Path::from_decoded(whole.as_str()).map_err(|error| invalid(&error))?;
        let (goes_to, rest) = sys.handles.spaces.resolve(&asked.path, &path)?;
        let path = match rest {
            Some(rest) if rest.as_str().is_empty() => {
                return Err(Fault::invalid(format!("invalid mount path {text:?}")));
            }
            Some(rest) => MountPath::parse(rest.as_str()).map_err(|error| invalid(&error))?,
            None => whole,
        };
        Ok(Self { space: goes_to.space, path })
    }

    /// Refuses who may not move mounts in the namespace itself.
    fn must_be_allowed(&self, sys: &Sys, cx: &Cx<'_>) -> Result<(), Fault> {
        if self.space.id == cx.mount.namespace {
            return Ok(());
        }
        let permissions = sys.permissions(cx, &self.space);
        let path = self.space.mounts.policy_path(PATH, false);
        let seen = permissions.asked(&path);
        let request = Request {
            path: (&*seen).into(),
            operation: Operation::Update,
            parameters: None,
            wrap_ttl_seconds: None,
            is_protected: true,
            event_type: None,
        };
        match permissions.set().decide(&request).allowed_with_sudo() {
            Some(true) => Ok(()),
            Some(false) | None => Err(Refusal::Denied.into()),
        }
    }
}

pub(super) async fn remount(sys: &Sys, mut cx: Cx<'_>, input: Remount) -> Result<Warned<Data<Started>>, Fault> {
    let (from, to) = (End::parse(sys, &cx, &input.from)?, End::parse(sys, &cx, &input.to)?);
    from.must_be_allowed(sys, &cx)?;
    to.must_be_allowed(sys, &cx)?;
    let table = from.space.mounts.table();
    let missing = || Fault::invalid(format!("no matching mount at {:?}", format!("{}/", input.from.trim_matches('/'))));
    let mount = table.at(from.path.as_str()).ok_or_else(missing)?;
    let (now, entropy, spaces) = (cx.now, cx.entropy, &sys.handles.spaces);
    let txn = cx.view.widen(Widened::assertion());
    let (moved, said) = if from.space.id == to.space.id {
        spaces.must_be_free(txn, &to.space, to.path.as_str())?;
        let moved = to.space.mounts.move_to(txn, (&to.space.path, mount), &to.path, entropy)?;
        (moved, "Mount move has been done; its leases are being revoked.".to_owned())
    } else {
        let moved = spaces.move_mount(txn, (&from.space, mount), (&to.space, &to.path), entropy)?;
        let said = format!("Mount move has begun; sys/remount/status/{} says how far it is.", moved.id);
        (moved, said)
    };
    // Leases are named by the path that was asked: what was handed out there is taken back.
    sys.handles.leases.order(txn, &from.space, JobWork::Revoke, from.path.as_str(), now, entropy)?;
    Ok(Warned(Data(Started { migration_id: moved.id }), vec![said]))
}

pub(super) async fn status(sys: &Sys, cx: Cx<'_>, input: Migration) -> Result<Option<Data<Moved>>, Fault> {
    let asked = sys.space(&cx)?;
    let below = sys.handles.spaces.below(&asked.path, None, usize::MAX, true);
    let found = [&asked].into_iter().chain(&below).find_map(|space| {
        let table = space.mounts.table();
        let mut moves = table.iter().filter_map(|mount| mount.record.moved.clone());
        moves.find(|moved| moved.id == input.migration_id)
    });
    Ok(found.map(|moved| {
        let status = match &moved.state {
            MoveState::Done => "success",
            MoveState::Departing(_) | MoveState::Arriving(_) => "in-progress",
            MoveState::Failed(_) => "failure",
        };
        let mut info = map! { "source_mount" => moved.from, "target_mount" => moved.to, "status" => status };
        if let MoveState::Failed(reason) = moved.state {
            info.insert("reason", reason);
        }
        Data(Moved { migration_id: moved.id, migration_info: info })
    }))
}
