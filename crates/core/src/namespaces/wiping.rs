//! Which removed mounts of each namespace are not gone yet, in memory: what is stored below `wipes/`, by namespace.
//!
//! That list is one for all namespaces and in order of mounts, so who asks about one namespace would read all of it. Each batch is
//! followed name by name, before anybody can read it. Deliberately absent: what is known of such a mount
//! (`mounts/removal.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, MountId};

use super::ids;
use crate::cached::every_name;
use crate::keys;

type Known = BTreeMap<NamespaceId, BTreeSet<MountId>>;

pub(super) struct Wiping {
    prefix: KeyPrefix,
    known: RwLock<Known>,
}

impl Wiping {
    pub(super) fn load(txn: &mut Txn) -> Result<Self, Fault> {
        let prefix = keys::wipes().map_err(Fault::internal)?;
        let known = RwLock::new(read_all(txn, &prefix)?);
        Ok(Self { prefix, known })
    }

    pub(super) const fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// At most so many of a namespace.
    pub(super) fn of(&self, namespace: &NamespaceId, limit: usize) -> Vec<MountId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(namespace).into_iter().flatten().take(limit).cloned().collect()
    }

    /// Follows a batch; batches come one after the other.
    pub(super) fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        let Changed::Names(names) = changed else {
            let stored = read_all(txn, &self.prefix)?;
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = stored;
            return Ok(());
        };
        for key in names {
            let Some(name) = key.as_str().strip_prefix(self.prefix.as_str()) else { continue };
            let is_there = txn.contains(key).map_err(Fault::internal)?;
            set(&mut self.known.write().unwrap_or_else(PoisonError::into_inner), name, is_there);
        }
        Ok(())
    }

    /// Whether memory has what is stored.
    pub(super) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let stored = read_all(txn, &self.prefix)?;
        Ok(*self.known.read().unwrap_or_else(PoisonError::into_inner) == stored)
    }
}

fn set(known: &mut Known, name: &str, is_there: bool) {
    let (namespace, mount) = (ids::home(name), MountId::new(ids::bare(name)));
    if is_there {
        known.entry(namespace).or_default().insert(mount);
    } else if let Some(mounts) = known.get_mut(&namespace) {
        mounts.remove(&mount);
        if mounts.is_empty() {
            known.remove(&namespace);
        }
    }
}

fn read_all(txn: &mut Txn, prefix: &KeyPrefix) -> Result<Known, Fault> {
    let mut known = Known::new();
    every_name(txn, prefix).map_err(Fault::internal)?.iter().for_each(|name| set(&mut known, name, true));
    Ok(known)
}
