//! A cache that is a function of storage: loaded from it, and replaced only when a batch touched its records.
//!
//! Readers take the value once per request. Invariant: a newer value is never replaced by an older one, whichever
//! reload ends first. Deliberately absent: any way to set a value that was not loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tresor_barrier::{BarrierError, Changed, KeyPrefix, Txn};
use tresor_engine::is_damage;
use tresor_model::Fault;
use tresor_record::Record;
use tresor_storage::Version;

/// A value loaded from storage, and the version it was loaded at.
pub(crate) struct Cached<T> {
    current: ArcSwap<(Version, Arc<T>)>,
    prefix: KeyPrefix,
}

impl<T> Cached<T> {
    /// Starts with a value just loaded by `txn`.
    pub(crate) fn new(prefix: KeyPrefix, txn: &Txn, value: T) -> Self {
        Self { current: ArcSwap::from_pointee((txn.read_version(), Arc::new(value))), prefix }
    }

    /// The value now.
    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.current.load().1)
    }

    /// Below what its records lie.
    pub(crate) const fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// Whether one of its records may have changed.
    pub(crate) fn is_touched_by(&self, changed: &Changed) -> bool {
        changed.touches(&self.prefix)
    }

    /// Loads it again when one of its records may have changed.
    pub(crate) fn reload_if_touched<E>(
        &self,
        changed: &Changed,
        txn: &mut Txn,
        load: impl FnOnce(&mut Txn) -> Result<T, E>,
    ) -> Result<(), E> {
        if self.is_touched_by(changed) {
            let value = load(txn)?;
            self.replace(txn, value);
        }
        Ok(())
    }

    /// Follows a change: `next` makes the next value of the last one and of the names directly below the prefix that changed,
    /// or of everything that is stored when nobody knows which.
    pub(crate) fn follow<E>(
        &self,
        changed: &Changed,
        txn: &mut Txn,
        next: impl FnOnce(&T, Option<Vec<&str>>, &mut Txn) -> Result<T, E>,
    ) -> Result<(), E> {
        let names = match changed {
            Changed::Names(names) => {
                let below = names.iter().filter_map(|name| name.as_str().strip_prefix(self.prefix.as_str()));
                let mut below: Vec<&str> = below.filter(|name| !name.contains('/')).collect();
                if below.is_empty() {
                    return Ok(());
                }
                below.sort_unstable();
                below.dedup();
                Some(below)
            }
            Changed::Everything => None,
        };
        let value = next(&self.load(), names, txn)?;
        self.replace(txn, value);
        Ok(())
    }

    /// Takes a value loaded by `txn`, unless a newer one is here already.
    pub(crate) fn replace(&self, txn: &Txn, value: T) {
        let next = Arc::new((txn.read_version(), Arc::new(value)));
        self.current.rcu(|current| if current.0 < next.0 { Arc::clone(&next) } else { Arc::clone(current) });
    }
}

/// Every name below a prefix, page by page, deeper directories left out.
pub(crate) fn every_name(txn: &mut Txn, prefix: &KeyPrefix) -> Result<Vec<String>, BarrierError> {
    const PAGE: usize = 1000;
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = txn.list(prefix, names.last().map(String::as_str), PAGE)?;
        let last = page.len() < PAGE;
        names.extend(page);
        if last {
            names.retain(|name| !name.ends_with('/'));
            return Ok(names);
        }
    }
}

/// All records directly below a prefix, by name. One that cannot be read is told to the operator and left out: what an
/// operator set up besides must keep no node from serving.
pub(crate) fn every_record<R: Record>(txn: &mut Txn, prefix: &KeyPrefix) -> Result<BTreeMap<String, R>, Fault> {
    let mut records = BTreeMap::new();
    for name in every_name(txn, prefix).map_err(Fault::internal)? {
        match one_record(txn, prefix, &name) {
            Ok(Some(record)) => drop(records.insert(name, record)),
            Ok(None) => {}
            Err(fault) if is_damage(&fault) => {
                let reason = fault.for_operators();
                tracing::error!(kind = R::KIND, name, reason, "a stored record cannot be read: it is left out");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(records)
}

/// One of them.
pub(crate) fn one_record<R: Record>(txn: &mut Txn, prefix: &KeyPrefix, name: &str) -> Result<Option<R>, Fault> {
    let key = prefix.key(name).map_err(Fault::internal)?;
    let stored = txn.read(&key).map_err(Fault::internal)?;
    stored.map(|bytes| R::decode(&bytes)).transpose().map_err(Fault::internal)
}
