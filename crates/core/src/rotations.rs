//! Rotation policies as they are stored, by name, and how far each thing that rotates by one has come.
//!
//! Deliberately absent: what they mean (`tresor_engine::retries`), and a cache; they are read when something failed.

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::View;
use tresor_engine::retries::{Retries, RotationPolicy};
use tresor_engine::view::fault;
use tresor_env::Timestamp;
use tresor_model::Fault;
use tresor_model::ids::{MountId, NamespaceId};
use tresor_record::Record;

use crate::cached::every_name;
use crate::keys;
use crate::mounts::Mount;
use crate::namespaces::{Space, ids};

/// A policy.
#[derive(Record)]
#[record(kind = "rotation-policy", version = 1)]
struct PolicyRecord {
    max_retries_per_cycle: u64,
    max_retry_cycles: u64,
}

/// How far it has come.
#[derive(Record)]
#[record(kind = "rotation-retries", version = 1)]
struct RetriesRecord {
    policy: String,
    failed: u64,
    cycles: u64,
    orphaned: Option<Timestamp>,
}

fn key(namespace: &NamespaceId, name: &str) -> Result<StorageKey, Fault> {
    keys::rotation_policies(namespace).and_then(|at| at.key(name)).map_err(fault)
}

/// The names in order, after one of them, at most so many.
///
/// # Errors
/// When the store fails.
pub fn names(
    txn: &mut Txn,
    namespace: &NamespaceId,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let prefix = keys::rotation_policies(namespace).map_err(Fault::internal)?;
    txn.list(&prefix, after, limit.unwrap_or(usize::MAX)).map_err(fault)
}

/// A policy.
///
/// # Errors
/// A refusal when it is no name; a failure when the store fails.
pub fn read(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<Option<RotationPolicy>, Fault> {
    let bytes = txn.read(&key(namespace, name)?).map_err(fault)?;
    let record = bytes.map(|bytes| PolicyRecord::decode(&bytes)).transpose().map_err(Fault::internal)?;
    Ok(record.map(|record| RotationPolicy {
        max_retries_per_cycle: record.max_retries_per_cycle,
        max_retry_cycles: record.max_retry_cycles,
    }))
}

/// Stores a policy.
///
/// # Errors
/// A refusal when the name cannot be stored.
pub fn write(txn: &mut Txn, namespace: &NamespaceId, name: &str, policy: RotationPolicy) -> Result<(), Fault> {
    let RotationPolicy { max_retries_per_cycle, max_retry_cycles } = policy;
    txn.write(&key(namespace, name)?, &PolicyRecord { max_retries_per_cycle, max_retry_cycles }.encode()).map_err(fault)
}

/// Removes a policy; removing nothing is fine. What rotates by it is tried for ever from then on.
///
/// # Errors
/// When the store fails.
pub fn delete(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
    txn.delete(&key(namespace, name)?).map_err(fault)
}

fn place(namespace: &NamespaceId, mount: &MountId, name: &str) -> Result<StorageKey, Fault> {
    keys::retries(&ids::within(namespace, mount.as_str().to_owned())).and_then(|at| at.key(&flat(name))).map_err(fault)
}

/// A name of an engine's as one segment.
fn flat(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn unflat(name: &str) -> String {
    name.replace("%2f", "/").replace("%25", "%")
}

/// Forgets some of a removed mount's; true when none is left.
pub(crate) fn forget(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    budget: &mut usize,
) -> Result<bool, Fault> {
    let place = keys::retries(&ids::within(namespace, mount.as_str().to_owned())).map_err(fault)?;
    let names = txn.list(&place, None, budget.saturating_add(1)).map_err(fault)?;
    for name in names {
        if *budget == 0 {
            return Ok(false);
        }
        txn.delete(&place.key(&name).map_err(fault)?).map_err(fault)?;
        *budget -= 1;
    }
    Ok(*budget > 0)
}

/// Takes what there is of a mount along into another namespace.
pub(crate) fn carry(txn: &mut Txn, from: &NamespaceId, to: &NamespaceId, mount: &MountId) -> Result<(), Fault> {
    let place = keys::retries(&ids::within(from, mount.as_str().to_owned())).map_err(fault)?;
    for name in every_name(txn, &place).map_err(fault)? {
        let name = unflat(&name);
        let there = retries(txn, from, mount, &name)?;
        set_retries(txn, from, mount, &name, None)?;
        set_retries(txn, to, mount, &name, there.as_ref())?;
    }
    Ok(())
}

/// What of a mount is tried no more, by the paths that clients find it at, the mount's before it. Each thing that rotates by a
/// policy takes one off the budget; none is looked at when that is used up.
///
/// # Errors
/// When the store fails.
pub fn orphans(txn: &mut Txn, space: &Space, mount: &Mount, budget: &mut usize) -> Result<Vec<String>, Fault> {
    let place = keys::retries(&ids::within(&space.id, mount.record.id.as_str().to_owned())).map_err(fault)?;
    let names = txn.list(&place, None, *budget).map_err(fault)?;
    *budget -= names.len();
    let Some(engine) = space.mounts.engine(mount).filter(|_| !names.is_empty()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in names.iter().map(|name| unflat(name)) {
        let known = retries(txn, &space.id, &mount.record.id, &name)?;
        if known.is_some_and(|known| known.orphaned.is_some()) {
            let mut view = View::new(txn, mount.contents.clone());
            let at = engine.rotates_at(&mut view, &name)?;
            found.extend(at.map(|at| format!("{}{at}", mount.record.path)));
        }
    }
    Ok(found)
}

/// How far it has come for a name of a mount.
pub(crate) fn retries(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    name: &str,
) -> Result<Option<Retries>, Fault> {
    let bytes = txn.read(&place(namespace, mount, name)?).map_err(fault)?;
    let record = bytes.map(|bytes| RetriesRecord::decode(&bytes)).transpose().map_err(Fault::internal)?;
    Ok(record.map(|RetriesRecord { policy, failed, cycles, orphaned }| Retries { policy, failed, cycles, orphaned }))
}

/// Stores that; nothing where there is no policy.
pub(crate) fn set_retries(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    name: &str,
    retries: Option<&Retries>,
) -> Result<(), Fault> {
    let place = place(namespace, mount, name)?;
    let Some(Retries { policy, failed, cycles, orphaned }) = retries else { return txn.delete(&place).map_err(fault) };
    let (policy, failed, cycles, orphaned) = (policy.clone(), *failed, *cycles, *orphaned);
    if orphaned.is_some() {
        tracing::error!(%mount, name, policy, "a rotation failed as often as its policy lets it: it is not tried any more");
    }
    txn.write(&place, &RetriesRecord { policy, failed, cycles, orphaned }.encode()).map_err(fault)
}
