//! The marks of revoked tokens in memory: what is stored below `mark/`, and nothing else.
//!
//! Each commit that touched marks is followed one by one, so a change costs itself and not the table. Invariant: the
//! lock is held while a snapshot is taken and put in, so an older state never replaces a newer one.

use std::sync::{PoisonError, RwLock};

use tresor_barrier::{KeyPrefix, StorageKey, Txn};
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

    /// Asks the marks.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Marks) -> T) -> T {
        question(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows a commit.
    pub(crate) fn follow(
        &self,
        changed: &[StorageKey],
        begin: impl FnOnce() -> Result<Txn, Fault>,
    ) -> Result<(), Fault> {
        let ours = |key: &&StorageKey| key.as_str().starts_with(self.prefix.as_str());
        let mut touched = changed.iter().filter(ours).peekable();
        if touched.peek().is_none() {
            return Ok(());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut txn = begin()?;
        for key in touched {
            let hash = key.as_str().strip_prefix(self.prefix.as_str()).unwrap_or_default();
            let mark = read(&mut txn, key)?;
            known.set(hash, mark);
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
    Ok(Some(Mark { fate, ancestors: record.ancestors }))
}

fn read_all(txn: &mut Txn, prefix: &KeyPrefix) -> Result<Marks, Fault> {
    let mut marks = Marks::default();
    for hash in crate::cached::every_name(txn, prefix).map_err(Fault::internal)? {
        let mark = read(txn, &prefix.key(&hash).map_err(Fault::internal)?)?;
        marks.set(&hash, mark);
    }
    Ok(marks)
}
