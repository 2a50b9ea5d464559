//! What operators keep by name in a namespace, one record each: policies for passwords, and for rotations.
//!
//! Deliberately absent: what they mean, and a cache; they are read when they are needed.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use tresor_barrier::{BarrierError, KeyPrefix, StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Record;

/// A kind of record that can be kept so.
pub trait Kept: Record {}

impl<R: Record> Kept for R {}

/// All records of one kind, of every namespace.
pub struct Named<R> {
    /// Where those of a namespace lie.
    below: fn(&NamespaceId) -> Result<KeyPrefix, BarrierError>,
    kind: PhantomData<fn() -> R>,
}

impl<R: Kept> Named<R> {
    pub(crate) const fn new(below: fn(&NamespaceId) -> Result<KeyPrefix, BarrierError>) -> Self {
        Self { below, kind: PhantomData }
    }

    fn key(&self, namespace: &NamespaceId, name: &str) -> Result<StorageKey, Fault> {
        (self.below)(namespace).and_then(|at| at.key(name)).map_err(fault)
    }

    /// The names in order, after one of them, at most so many; one that has slashes is listed whole.
    ///
    /// # Errors
    /// When the store fails.
    pub fn names(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Fault> {
        let prefix = (self.below)(namespace).map_err(Fault::internal)?;
        // Operators keep few of them.
        let mut names = BTreeSet::new();
        let mut directories = vec![String::new()];
        while let Some(directory) = directories.pop() {
            let at = prefix.below(&directory).map_err(fault)?;
            for name in txn.list(&at, None, usize::MAX).map_err(fault)? {
                let whole = [&*directory, &*name].concat();
                if name.ends_with('/') {
                    directories.push(whole);
                } else {
                    names.insert(whole);
                }
            }
        }
        let wanted = names.into_iter().filter(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(wanted.take(limit.unwrap_or(usize::MAX)).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// A refusal when it is no name; a failure when the store fails.
    pub fn read(&self, txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<Option<R>, Fault> {
        let bytes = txn.read(&self.key(namespace, name)?).map_err(fault)?;
        bytes.map(|bytes| R::decode(&bytes)).transpose().map_err(Fault::internal)
    }

    /// Stores one.
    ///
    /// # Errors
    /// A refusal when the name cannot be stored.
    pub fn write(&self, txn: &mut Txn, namespace: &NamespaceId, name: &str, record: &R) -> Result<(), Fault> {
        txn.write(&self.key(namespace, name)?, &record.encode()).map_err(fault)
    }

    /// Removes one; removing nothing is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete(&self, txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
        txn.delete(&self.key(namespace, name)?).map_err(fault)
    }
}
