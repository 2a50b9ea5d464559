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
use crate::named::Named;
use crate::namespaces::{Space, ids};

/// A policy.
#[derive(Record)]
#[record(kind = "rotation-policy", version = 1)]
pub struct PolicyRecord {
    max_retries_per_cycle: u64,
    max_retry_cycles: u64,
}

/// The policies. What rotates by one that is removed is tried for ever from then on.
pub const POLICIES: Named<PolicyRecord> = Named::new(keys::rotation_policies);

impl From<PolicyRecord> for RotationPolicy {
    fn from(record: PolicyRecord) -> Self {
        let PolicyRecord { max_retries_per_cycle, max_retry_cycles } = record;
        Self { max_retries_per_cycle, max_retry_cycles }
    }
}

impl From<RotationPolicy> for PolicyRecord {
    fn from(policy: RotationPolicy) -> Self {
        let RotationPolicy { max_retries_per_cycle, max_retry_cycles } = policy;
        Self { max_retries_per_cycle, max_retry_cycles }
    }
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
