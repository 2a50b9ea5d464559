//! What engines began outside, and nobody settled when the process, or the leader, before this one ended: engines are called
//! for it at once, and not only when its deadline has passed.
//!
//! An engine that says so of a time (`View::wake_unless_settled`) does the same again when it is called, so it does not matter
//! whether whoever began it is still at it: nodes of a cluster do this, too. What this process itself begins in the meantime
//! is called for once more than it needs. One walk over the times until the latest that can be meant. Deliberately absent:
//! calling, which is `wakes`'s, and what engines hand out under leases, which is `interrupted`'s.

use std::sync::Weak;

use tresor_barrier::{KeyPrefix, Lane, Txn};
use tresor_model::{Fault, Timestamp};

use super::intents::falls_due;
use super::wakes::{self, WakeRecord};
use super::{index, parked};
use crate::gate::Gate;
use crate::keys;
use crate::unsealed::{CommitFault, Unsealed};

/// How many times are looked at in one transaction.
const TIMES: usize = 64;
/// How often a transaction that conflicts is done again.
const ATTEMPTS_MAX: usize = 16;

/// Where the walk is: within this second, behind this name.
#[derive(Clone)]
struct Place {
    second: i64,
    after: Option<String>,
}

/// Has engines called now for what is not settled.
pub(super) async fn hasten(node: &Weak<Unsealed>, gate: &Gate) {
    let Some(began) = node.upgrade().map(|unsealed| unsealed.clock.now()) else { return };
    let mut place = Place { second: began.seconds(), after: None };
    let mut found = 0_usize;
    loop {
        let Some(unsealed) = node.upgrade().filter(|_| !gate.is_closed()) else { return };
        match step(&unsealed, began, &mut place).await {
            Ok(Some(some)) => found += some,
            Ok(None) => break,
            // It has its own time.
            Err(fault) => {
                tracing::warn!(%fault, cause = ?fault, "what was begun at engines is finished later");
                break;
            }
        }
        drop(unsealed);
        tresor_env::tasks::breathe().await;
    }
    if found > 0 {
        tracing::info!(found, "what engines had begun when the server ended is finished now");
    }
}

/// Looks at some times, and says how many were set anew; `None` when all were looked at.
async fn step(unsealed: &Unsealed, began: Timestamp, place: &mut Place) -> Result<Option<usize>, Fault> {
    for _ in 0..ATTEMPTS_MAX {
        let (mut txn, before) = (unsealed.begin()?, place.clone());
        let Some(found) = some(unsealed, &mut txn, began, place)? else { return Ok(None) };
        if found == 0 {
            return Ok(Some(0));
        }
        match unsealed.commit_in(Lane::Background, txn).await {
            Ok(()) => return Ok(Some(found)),
            Err(CommitFault::Conflict) => *place = before,
            Err(other) => return Err(other.into()),
        }
    }
    Err(CommitFault::Conflict.into())
}

/// Sets some anew.
fn some(unsealed: &Unsealed, txn: &mut Txn, began: Timestamp, place: &mut Place) -> Result<Option<usize>, Fault> {
    let Some((second, bucket)) = next(txn, began, place)? else { return Ok(None) };
    let after = place.after.as_deref().filter(|_| second == place.second);
    let entries = txn.list(&bucket, after, TIMES).map_err(Fault::internal)?;
    let (is_last, last, mut found) = (entries.len() < TIMES, entries.last().cloned(), 0);
    for entry in entries {
        if parked::is_sealed(&unsealed.handles.spaces, &entry) {
            continue;
        }
        let (mount, name) = wakes::named(&entry);
        let wake = wakes::read(txn, mount, &name)?;
        let Some(wake) = wake.filter(|wake| wake.is_unsettled && wake.at.seconds() == second) else { continue };
        let at = Timestamp::from_seconds(unsealed.clock.now().seconds());
        wakes::put(txn, mount, &name, Some(WakeRecord { at, ..wake }))?;
        found += 1;
    }
    *place = if is_last { Place { second: second + 1, after: None } } else { Place { second, after: last } };
    Ok(Some(found))
}

/// The second to look at, whose time has not come.
fn next(txn: &mut Txn, began: Timestamp, place: &Place) -> Result<Option<(i64, KeyPrefix)>, Fault> {
    let ends = keys::wake_ends().map_err(Fault::internal)?;
    let before = index::bucket_name(place.second.saturating_sub(1));
    let seconds = txn.list(&ends, Some(&before), 1).map_err(Fault::internal)?;
    let latest = falls_due(began).seconds();
    let Some(name) = seconds.into_iter().next() else { return Ok(None) };
    let Some(second) = index::second_of(&name).filter(|second| *second <= latest) else { return Ok(None) };
    Ok(Some((second, ends.below(&name).map_err(Fault::internal)?)))
}
