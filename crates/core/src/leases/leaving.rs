//! Taking away what namespaces that are being deleted have, step by step, until nothing lies below their ids (NS-07, NS-08).
//!
//! Each step looks at what is stored, so it goes on wherever it was interrupted, whatever is loaded: first tokens are
//! revoked, then mounts removed, whose leases engines take back; when all of that is collected, the server's own mounts go,
//! so that nothing can be written any more, then every name that is left, and at last the record. Invariant: a record is
//! forgotten when no area lists anything. A step reads as much whether one namespace is being deleted or very many.
//! Deliberately absent: making a namespace unreachable, which its record's state did.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_barrier::{Area, KeyPrefix, StorageKey, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, MountId, Timestamp};

use super::collect::every_below;
use super::record::number_of;
use super::{Doing, Progress, Readable};
use crate::keys;
use crate::mounts::removal::{Removal, Stage};
use crate::namespaces::{Space, Spaces};
use crate::tokens;
use crate::unsealed::Unsealed;

/// How many namespaces are looked at in one step, the next ones each second: those that wait keep no other waiting.
const AT_ONCE: usize = 64;
/// How many of its removed mounts are looked at: the next ones when these are gone, which takes no longer than engines have.
const LOOKED_AT: usize = 8;
/// How long engines have to take back what a removed mount of it handed out.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Every area that a namespace may have something in.
pub(crate) const AREAS: [Area; 6] =
    [Area::Tokens, Area::Leases, Area::Logical, Area::Policies, Area::Audit, Area::Core];

/// Does a piece of what is to be done.
pub(super) fn step(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    // Others each second, since some wait for their engines.
    let turn = unsealed.doors.clock.monotonic().as_secs();
    let leaving = unsealed.handles.spaces.leaving(AT_ONCE, turn);
    let marked = if leaving.is_empty() { BTreeSet::new() } else { unsealed.handles.tokens.marked_in() };
    for space in leaving {
        if one(unsealed, txn, &space, &marked, doing)? == Progress::More {
            return Ok(Progress::More);
        }
    }
    Ok(Progress::Idle)
}

fn one(
    unsealed: &Unsealed,
    txn: &mut Txn,
    space: &Space,
    marked: &BTreeSet<NamespaceId>,
    doing: &mut Doing,
) -> Result<Progress, Fault> {
    if revoke_tokens(unsealed, txn, space, doing)? || remove_mounts(unsealed, txn, space, doing)? {
        return Ok(Progress::More);
    }
    let wiped = unsealed.handles.spaces.wiping(&space.id, LOOKED_AT);
    force_what_is_stuck(txn, space, &wiped, unsealed.clock.now())?;
    if !wiped.is_empty() || marked.contains(&space.id) {
        // What removes it is at it, or waits for an engine.
        return Ok(if txn.is_empty_of_writes() { Progress::Idle } else { Progress::More });
    }
    let own: Vec<_> = space.mounts.table().iter().cloned().collect();
    let mut has_own = false;
    for mount in own {
        if space.mounts.read(txn, &mount.record.id)?.is_some() {
            has_own = true;
            txn.delete(&keys::mount(&space.id, &mount.record.id).map_err(Fault::internal)?).map_err(Fault::internal)?;
            txn.forget_tally(&keys::live_of(&space.id, &mount.record.id).map_err(Fault::internal)?);
        }
    }
    if has_own {
        txn.forget_tally(&keys::live_in(&space.id).map_err(Fault::internal)?);
        if let Some(realm) = space.realm() {
            txn.forget_tally(&keys::live_of_realm(&realm).map_err(Fault::internal)?);
            txn.forget_tally(&keys::encryptions(&space.id).map_err(Fault::internal)?);
        }
        // From this commit on nothing is written below the namespace: whoever does relies on one of these records.
        return Ok(Progress::More);
    }
    for area in AREAS {
        let whole = KeyPrefix::new(&space.id, area, "").map_err(Fault::internal)?;
        let mut delete =
            |txn: &mut Txn, key: &StorageKey, budget: &mut usize| forget(txn, &space.id, area, key, budget);
        if !every_below(txn, &whole, &mut doing.step_max, &mut delete)? {
            return Ok(Progress::More);
        }
    }
    if let Some(record) = &space.record {
        tracing::info!(namespace = %space.path, "a namespace is deleted, and nothing is left of it");
        Spaces::forget(txn, record)?;
    }
    Ok(Progress::More)
}

/// What an engine does not take back is forgotten at last, as if an operator had ordered it: nobody can any more.
fn force_what_is_stuck(txn: &mut Txn, space: &Space, wiped: &[MountId], now: Timestamp) -> Result<(), Fault> {
    for id in wiped {
        let removal = space.mounts.removal(txn, id)?;
        // Nor is a target waited for that does not answer.
        let is_stuck = |removal: &Removal| {
            let is_late = now.since(removal.record.since) >= PATIENCE;
            !removal.record.is_forced && (removal.stage() == Stage::Stuck || is_late)
        };
        if removal.as_ref().is_some_and(is_stuck) {
            tracing::error!(namespace = %space.path, "leases of a namespace that is being deleted are forgotten without being revoked");
            space.mounts.force_removal(txn, id)?;
        }
    }
    Ok(())
}

/// Revokes some of its tokens; whether there were any.
fn revoke_tokens(unsealed: &Unsealed, txn: &mut Txn, space: &Space, doing: &mut Doing) -> Result<bool, Fault> {
    let accessors = keys::accessors(&space.id).map_err(Fault::internal)?;
    let handles = txn.list(&accessors, None, doing.step_max).map_err(Fault::internal)?;
    for handle in &handles {
        let hash = tokens::hash_of(handle).unwrap_or(handle);
        match super::read_token(txn, hash)? {
            Readable::Yes(record) => {
                let found = unsealed.handles.tokens.as_stored(hash, std::sync::Arc::from(record));
                unsealed.handles.tokens.revoke(txn, &found, unsealed.clock.now())?;
                doing.revoked += 1;
            }
            Readable::Gone => {}
            Readable::No(reason) => {
                tracing::error!(%reason, "a damaged token of a namespace that is being deleted is removed unread");
                txn.delete(&keys::token(hash).map_err(Fault::internal)?).map_err(Fault::internal)?;
            }
        }
        txn.leave(&accessors.key(handle).map_err(Fault::internal)?);
    }
    Ok(!handles.is_empty())
}

/// Removes some of its mounts; whether there were any.
fn remove_mounts(unsealed: &Unsealed, txn: &mut Txn, space: &Space, doing: &Doing) -> Result<bool, Fault> {
    let table = space.mounts.table();
    let mut removed = 0;
    for mount in table.iter().filter(|mount| !mount.is_the_servers()) {
        if removed == doing.step_max {
            break;
        }
        // As it is stored: a table that is behind makes nothing happen twice.
        if space.mounts.read(txn, &mount.record.id)?.is_some() {
            space.mounts.disable(txn, mount, unsealed.clock.now())?;
            removed += 1;
        }
    }
    Ok(removed > 0)
}

/// Deletes a name, and what only a name leads to.
fn forget(
    txn: &mut Txn,
    namespace: &NamespaceId,
    area: Area,
    key: &StorageKey,
    budget: &mut usize,
) -> Result<(), Fault> {
    if area == Area::Leases && keys::lease_paths(namespace).is_ok_and(|paths| key.as_str().starts_with(paths.as_str()))
    {
        txn.forget_listed(key);
        *budget = budget.saturating_sub(1);
        return Ok(());
    }
    if area == Area::Leases {
        // The ids of leases are bare names that lead to points.
        let point = keys::lease(number_of(key.as_str())).map_err(Fault::internal)?;
        txn.delete(&point).map_err(Fault::internal)?;
    }
    if txn.contains(key).map_err(Fault::internal)? {
        txn.delete(key).map_err(Fault::internal)?;
    } else {
        txn.leave(key);
    }
    *budget = budget.saturating_sub(1);
    Ok(())
}
