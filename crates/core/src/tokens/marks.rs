//! The marks of revoked tokens in memory: what is stored below `mark/`, and nothing else.
//!
//! Each batch that touched marks is followed mark by mark, before anybody can read it; so a change costs itself and not
//! the table.

use std::sync::{PoisonError, RwLock};

use tresor_barrier::{Changed, KeyPrefix, StorageKey, Txn};
use tresor_model::Fault;
use tresor_record::Record;

use super::lineage::{Fate, Mark, Marks};
use super::record::{MarkRecord, StoredFate};

pub(crate) struct KnownMarks {
    prefix: KeyPrefix,
    known: RwLock<Marks>,
}

impl KnownMarks {
    pub(crate) fn load(txn: &mut Txn, prefix: KeyPrefix) -> Result<Self, Fault> {
        let known = RwLock::new(read_all(txn, &prefix)?);
        Ok(Self { prefix, known })
    }

    pub(crate) const fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// Asks the marks.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Marks) -> T) -> T {
        question(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows a batch; batches come one after the other.
    pub(crate) fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        let Changed::Names(names) = changed else {
            let stored = read_all(txn, &self.prefix)?;
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = stored;
            return Ok(());
        };
        for key in names {
            let Some(hash) = key.as_str().strip_prefix(self.prefix.as_str()) else { continue };
            let mark = read(txn, key)?;
            self.known.write().unwrap_or_else(PoisonError::into_inner).set(hash, mark);
        }
        Ok(())
    }

    /// Whether memory has what is stored.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let stored = read_all(txn, &self.prefix)?;
        Ok(self.ask(|known| *known == stored))
    }
}

fn read(txn: &mut Txn, key: &StorageKey) -> Result<Option<Mark>, Fault> {
    let Some(bytes) = txn.read(key).map_err(Fault::internal)? else { return Ok(None) };
    let record = MarkRecord::decode(&bytes).map_err(Fault::internal)?;
    let fate = match record.fate {
        StoredFate::Doomed => Fate::Doomed,
        StoredFate::Cut => Fate::Cut,
    };
    Ok(Some(Mark { fate, created: record.created, ancestors: record.ancestors }))
}

fn read_all(txn: &mut Txn, prefix: &KeyPrefix) -> Result<Marks, Fault> {
    let mut marks = Marks::default();
    for hash in crate::cached::every_name(txn, prefix).map_err(Fault::internal)? {
        let mark = read(txn, &prefix.key(&hash).map_err(Fault::internal)?)?;
        marks.set(&hash, mark);
    }
    Ok(marks)
}
