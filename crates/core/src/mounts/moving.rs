//! Mounts that move from one namespace to another, with their data, whose names begin with the namespace.
//!
//! From the commit on that begins it the mount has a record in both namespaces, and nobody reaches either. First its leases
//! are taken back, by its engine as it was; then its data is carried over record by record, each in one transaction with
//! its deletion and with the points that hang on it; and at last one transaction makes it a mount of the other namespace. So
//! it goes on wherever the process ends. Leases that cannot be taken back end the move before anything was carried, and the
//! mount is where it was. Deliberately absent: moves within a namespace, which are one record.

use std::sync::Arc;

use tresor_barrier::{KeyPrefix, Txn};
use tresor_crypto::token_text;
use tresor_engine::{Class, Mounted, View};
use tresor_env::Entropy;
use tresor_model::{Fault, MountId, MountPath};
use tresor_record::Record;

use super::Mount;
use super::record::{MountRecord, Move, MoveState, StoredClass};
use super::taking_over::{TakeOverRecord, carry_some};
use crate::keys;
use crate::leases::secrets::LeasesLeft;
use crate::leases::{parked, wakes};
use crate::namespaces::{Space, Spaces, ids};
use crate::unsealed::Unsealed;

/// How many moves are looked at in one step: one that waits keeps no other waiting.
const JOBS_MAX: usize = 16;

impl Spaces {
    /// Begins to move a mount to a free path of another namespace.
    ///
    /// # Errors
    /// A refusal when the path is taken or reserved, the mount belongs to the server or is being changed already, or one of
    /// the namespaces is being deleted.
    pub fn move_mount(
        &self,
        txn: &mut Txn,
        (from, mount): (&Space, &Mount),
        (to, path): (&Space, &MountPath),
        entropy: &dyn Entropy,
    ) -> Result<Move, Fault> {
        let class = mount.may_move_to(path)?;
        // Neither may be deleted from now on, and deleting one now conflicts with this.
        self.must_stay(txn, from)?;
        self.must_stay(txn, to)?;
        from.mounts.take_turn(txn)?;
        self.must_be_free(txn, to, path.as_str())?;
        to.mounts.take_path(txn, class, path.as_str())?;
        let record = from.mounts.standing(txn, mount)?;
        if record.former.is_some() {
            return Err(Fault::invalid(format!("the data of {:?} is taking another shape: wait for it", record.path)));
        }
        // Without its engine nobody could carry what hangs on its records.
        from.mounts.check(&record)?;
        let whole = |space: &Space, path: &str| format!("{}{path}", space.path);
        let moved = Move {
            id: token_text::random_uuid(entropy),
            from: whole(from, &record.path),
            to: whole(to, path.as_str()),
            state: MoveState::Departing(to.id.clone()),
        };
        let arriving = Move { state: MoveState::Arriving(from.id.clone()), ..moved.clone() };
        let there = MountRecord { path: path.as_str().to_owned(), moved: Some(arriving), ..record.clone() };
        to.mounts.write(txn, &there)?;
        from.mounts.write(txn, &MountRecord { moved: Some(moved.clone()), ..record })?;
        let job = keys::moving(&from.id, &there.id).map_err(Fault::internal)?;
        txn.write(&job, &TakeOverRecord::default().encode()).map_err(Fault::internal)?;
        Ok(moved)
    }
}

impl Mount {
    /// What it is, when it may move to a path of that kind.
    pub(super) fn may_move_to(&self, path: &MountPath) -> Result<Class, Fault> {
        if self.is_the_servers() {
            return Err(Fault::invalid(format!("cannot remount {:?}", self.record.path)));
        }
        let is_auth = path.as_str().starts_with("auth/");
        if is_auth != (self.record.class == StoredClass::Auth) {
            return Err(Fault::invalid("cannot remount between a secrets engine and an auth method"));
        }
        Ok(if is_auth { Class::Auth } else { Class::Secret })
    }
}

/// Does a piece of one of the moves; whether anything was done.
pub(crate) fn step(unsealed: &Unsealed, txn: &mut Txn, limit: usize) -> Result<bool, Fault> {
    let jobs = keys::moves().map_err(Fault::internal)?;
    for name in parked::open_names(&unsealed.handles.spaces, txn, &jobs, None, JOBS_MAX)?.0 {
        if one(unsealed, txn, &name, limit)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn one(unsealed: &Unsealed, txn: &mut Txn, name: &str, limit: usize) -> Result<bool, Fault> {
    let key = keys::moves().and_then(|at| at.key(name)).map_err(Fault::internal)?;
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(false) };
    let mut job = TakeOverRecord::decode(&bytes).map_err(Fault::internal)?;
    let spaces = &unsealed.handles.spaces;
    let id = MountId::new(ids::bare(name));
    let Some(from) = spaces.with_id(&ids::home(name)) else {
        txn.delete(&key).map_err(Fault::internal)?;
        return Ok(true);
    };
    let Some((record, moved, to)) = departing(txn, spaces, &from, &id)? else {
        txn.delete(&key).map_err(Fault::internal)?;
        return Ok(true);
    };
    // Where it goes is sealed: it goes on when that is opened.
    if to.is_sealed {
        return Ok(false);
    }
    if record.class == StoredClass::Secret {
        match LeasesLeft::of(txn, &from.id, &id)? {
            LeasesLeft { live: 0, revoking: 0, irrevocable: 0, .. } => {}
            LeasesLeft { live: 0, revoking: 0, .. } => {
                let reason = "it has leases that cannot be revoked".to_owned();
                tracing::error!(from = moved.from, to = moved.to, reason, "a mount stays where it is");
                to.mounts.remove(txn, &id)?;
                let moved = Some(Move { state: MoveState::Failed(reason), ..moved });
                from.mounts.write(txn, &MountRecord { moved, ..record })?;
                txn.delete(&key).map_err(Fault::internal)?;
                return Ok(true);
            }
            // Who revokes them is at it.
            LeasesLeft { .. } => return Ok(false),
        }
    }
    let parts = (from.mounts.contents(&record)?, to.mounts.contents(&record)?);
    // Of a release that does not know the type, nobody knows the points; the next one goes on, and others do not wait.
    let engine = match from.mounts.make(&from.mounts.facts(&record), record.class) {
        Ok(engine) => engine,
        Err(fault) => {
            tracing::warn!(from = moved.from, %fault, "a mount that is being moved waits for its engine");
            return Ok(false);
        }
    };
    let is_done = carry_some(txn, &parts.0, &mut job, limit, |txn, name, value| {
        carry_points(txn, &engine, &parts, name)?;
        txn.write(&parts.1.key(name).map_err(Fault::internal)?, value).map_err(Fault::internal)
    })?;
    if !is_done {
        txn.write(&key, &job.encode()).map_err(Fault::internal)?;
        return Ok(true);
    }
    tracing::info!(from = moved.from, to = moved.to, records = job.taken, left_out = job.left_out, "a mount was moved");
    if let Some(there) = to.mounts.read(txn, &id)? {
        let moved = Some(Move { state: MoveState::Done, ..moved });
        to.mounts.write(txn, &MountRecord { moved, ..there })?;
    }
    wakes::carry(txn, &from.id, &to.id, &id)?;
    from.mounts.remove(txn, &id)?;
    txn.delete(&key).map_err(Fault::internal)?;
    Ok(true)
}

/// A mount that is on its way, and where to.
fn departing(
    txn: &mut Txn,
    spaces: &Spaces,
    from: &Space,
    id: &MountId,
) -> Result<Option<(MountRecord, Move, Arc<Space>)>, Fault> {
    let Some(record) = from.mounts.read(txn, id)? else { return Ok(None) };
    let Some(moved) = record.moved.clone() else { return Ok(None) };
    let MoveState::Departing(to) = &moved.state else { return Ok(None) };
    let to = spaces.of(to)?;
    Ok(Some((record, moved, to)))
}

/// Carries the points that hang on a record.
fn carry_points(
    txn: &mut Txn,
    engine: &Arc<dyn Mounted>,
    (from, to): &(KeyPrefix, KeyPrefix),
    record: &str,
) -> Result<(), Fault> {
    let points = engine.points(&mut View::new(txn, from.clone()), record)?;
    for point in points {
        let Some(value) = View::new(txn, from.clone()).read_point(&point)? else { continue };
        View::new(txn, to.clone()).write_point(&point, &value)?;
        View::new(txn, from.clone()).delete_point(&point)?;
    }
    Ok(())
}
