//! What ends, and what is collected afterwards.
//!
//! The time-ordered index lies in the store (`expiry/<second>/<token hash>`): memory holds nothing per lease. One
//! background task takes what is due, in order and in small transactions, and collects what revoked tokens and
//! removed mounts left behind; each step is idempotent, so a crash anywhere is mended by doing it again.
//! Invariant: nothing here decides whether a token is valid; an expired or orphaned one is refused by its record,
//! whether or not this task has come by. Deliberately absent: leases of dynamic secrets (they come with the first
//! engine that makes some) and one timer per lease.

use std::sync::Weak;
use std::time::Duration;

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Fault, Timestamp};

use crate::gate::Gate;
use crate::keys;
use crate::tokens::{self, FoundToken};
use crate::unsealed::{CommitFault, Unsealed};

/// How many entries one transaction of the background task touches at most.
const STEP_MAX: usize = 128;
/// The longest pause between two looks at the index.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Enters what ends at `end` into the index.
pub(crate) fn index(txn: &mut Txn, namespace: &NamespaceId, end: Timestamp, hash: &str) -> Result<(), Fault> {
    let key = bucket(namespace, end)?.key(hash).map_err(Fault::internal)?;
    txn.write(&key, &[]).map_err(Fault::internal)
}

/// Takes it out again.
pub(crate) fn unindex(txn: &mut Txn, namespace: &NamespaceId, end: Timestamp, hash: &str) -> Result<(), Fault> {
    let key = bucket(namespace, end)?.key(hash).map_err(Fault::internal)?;
    txn.delete(&key).map_err(Fault::internal)
}

/// The bucket of an end: its second, rounded up, so that nothing ends before the time that was promised.
fn bucket(namespace: &NamespaceId, end: Timestamp) -> Result<KeyPrefix, Fault> {
    let rounded = end.plus(Duration::from_nanos(999_999_999)).seconds().max(0);
    keys::expiry(namespace).and_then(|at| at.below(&format!("{rounded:016x}/"))).map_err(Fault::internal)
}

/// The background task: runs until the node is sealed or gone. It holds the node only while it works.
pub(crate) async fn run(node: Weak<Unsealed>, gate: Gate) {
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let progress = step(&unsealed).await;
        if let Err(fault) = &progress {
            tracing::warn!(%fault, cause = ?fault, "expiry and collection will try again");
        }
        let pause = unsealed.clock.sleep(PAUSE_MAX);
        drop(unsealed);
        if !matches!(progress, Ok(Progress::More)) {
            tokio::select! {
                biased;
                () = pause => {}
                () = gate.closed() => return,
            }
        }
    }
}

/// Whether there may be more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done.
    More,
    /// Nothing was due.
    Idle,
}

/// Does one small piece of each kind of work that is due, so that none waits for another to be done.
///
/// # Errors
/// When the store fails; the piece is done again later.
pub(crate) async fn step(unsealed: &Unsealed) -> Result<Progress, Fault> {
    if let Err(fault) = unsealed.catch_up() {
        // What cannot be loaded keeps nothing else from ending.
        tracing::warn!(cause = ?fault, "caches could not follow a commit and will try again");
    }
    let namespace = NamespaceId::root();
    let mut progress = Progress::Idle;
    for work in [expire, collect_doomed, wipe] {
        let mut txn = unsealed.begin()?;
        if work(unsealed, &mut txn, &namespace)? == Progress::Idle {
            continue;
        }
        progress = Progress::More;
        match unsealed.commit(txn).await {
            // Somebody else (a renewal, a revocation) was faster: look again.
            Ok(()) | Err(CommitFault::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(progress)
}

/// Revokes tokens whose time is over.
fn expire(unsealed: &Unsealed, txn: &mut Txn, namespace: &NamespaceId) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    let buckets = keys::expiry(namespace).map_err(Fault::internal)?;
    let Some(first) = txn.list(&buckets, None, 1).map_err(Fault::internal)?.pop() else { return Ok(Progress::Idle) };
    let due = first.strip_suffix('/').and_then(|name| i64::from_str_radix(name, 16).ok()).unwrap_or(0);
    if due > now.seconds() {
        return Ok(Progress::Idle);
    }
    let bucket = buckets.below(&first).map_err(Fault::internal)?;
    for hash in txn.list(&bucket, None, STEP_MAX).map_err(Fault::internal)? {
        match tokens::read_record(txn, namespace, &hash)? {
            Some(record) if record.is_expired(now) => {
                unsealed.handles.tokens.revoke(txn, &FoundToken { hash: hash.clone(), record }, now)?;
            }
            // Renewed or gone since: the entry is a leftover.
            _ => {}
        }
        txn.delete(&bucket.key(&hash).map_err(Fault::internal)?).map_err(Fault::internal)?;
    }
    Ok(Progress::More)
}

/// Revokes the children and removes the cubbyholes of revoked tokens.
fn collect_doomed(unsealed: &Unsealed, txn: &mut Txn, namespace: &NamespaceId) -> Result<Progress, Fault> {
    let doomed = keys::doomed(namespace).map_err(Fault::internal)?;
    let hashes = txn.list(&doomed, None, STEP_MAX).map_err(Fault::internal)?;
    let progress = if hashes.is_empty() { Progress::Idle } else { Progress::More };
    let table = unsealed.handles.mounts.table();
    let cubbyhole = table.at("cubbyhole/").map(|mount| mount.record.id.clone());
    let mut budget = STEP_MAX;
    for hash in hashes {
        if !collect_children(unsealed, txn, namespace, &hash, &mut budget)? {
            break;
        }
        if let Some(id) = &cubbyhole {
            let own = keys::mount_contents(namespace, id).and_then(|at| at.below(&format!("{hash}/")));
            if !wipe_some(txn, &own.map_err(Fault::internal)?, &mut budget)? {
                break;
            }
        }
        txn.delete(&doomed.key(&hash).map_err(Fault::internal)?).map_err(Fault::internal)?;
        budget = budget.saturating_sub(1);
    }
    Ok(progress)
}

/// Revokes at most `budget` children; true when none is left.
fn collect_children(
    unsealed: &Unsealed,
    txn: &mut Txn,
    namespace: &NamespaceId,
    hash: &str,
    budget: &mut usize,
) -> Result<bool, Fault> {
    let now = unsealed.clock.now();
    let edges = keys::children(namespace, hash).map_err(Fault::internal)?;
    for child in txn.list(&edges, None, budget.saturating_add(1)).map_err(Fault::internal)? {
        if *budget == 0 {
            return Ok(false);
        }
        if let Some(record) = tokens::read_record(txn, namespace, &child)? {
            unsealed.handles.tokens.revoke(txn, &FoundToken { hash: child.clone(), record }, now)?;
        }
        txn.delete(&edges.key(&child).map_err(Fault::internal)?).map_err(Fault::internal)?;
        *budget -= 1;
    }
    Ok(*budget > 0)
}

/// Removes the data of removed mounts.
fn wipe(_unsealed: &Unsealed, txn: &mut Txn, namespace: &NamespaceId) -> Result<Progress, Fault> {
    let wipes = keys::wipes(namespace).map_err(Fault::internal)?;
    let Some(id) = txn.list(&wipes, None, 1).map_err(Fault::internal)?.pop() else { return Ok(Progress::Idle) };
    let contents = keys::mount_contents(namespace, &MountId::new(id.as_str())).map_err(Fault::internal)?;
    if wipe_some(txn, &contents, &mut { STEP_MAX })? {
        txn.delete(&wipes.key(&id).map_err(Fault::internal)?).map_err(Fault::internal)?;
    }
    Ok(Progress::More)
}

/// Deletes at most `budget` records below a prefix; true when nothing is left. It goes no deeper than a name has
/// segments, which the barrier bounds.
fn wipe_some(txn: &mut Txn, prefix: &KeyPrefix, budget: &mut usize) -> Result<bool, Fault> {
    let names = txn.list(prefix, None, *budget + 1).map_err(Fault::internal)?;
    for name in names {
        if *budget == 0 {
            return Ok(false);
        }
        if name.ends_with('/') {
            let deeper = prefix.below(&name).map_err(Fault::internal)?;
            if !wipe_some(txn, &deeper, budget)? {
                return Ok(false);
            }
        } else {
            txn.delete(&prefix.key(&name).map_err(Fault::internal)?).map_err(Fault::internal)?;
            *budget -= 1;
        }
    }
    Ok(*budget > 0)
}
