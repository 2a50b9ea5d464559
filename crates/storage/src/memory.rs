//! The store that is its own model: a persistent map, so that a snapshot is a copy of a pointer.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use imbl::OrdMap;

use crate::machine::{Applied, Export, Install, Position};
use crate::state::{Chunks, Reading, Wrong};
use crate::{Agreement, Batch, RawKey, Snapshot, Store, StoreError, Stored, Version, Watcher, Watchers};

/// What it is called in errors.
pub(crate) const NAME: &str = "memory";

/// What is stored; a copy costs a pointer.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) version: Version,
    /// Shared, because a map that snapshots hold copies a whole node to change one entry of it.
    pub(crate) values: OrdMap<RawKey, Arc<Stored>>,
}

impl Contents {
    /// Applies the next batch; one that is not the next changes nothing.
    pub(crate) fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.version != self.version.next() {
            return Err(StoreError::VersionGap { batch: batch.version.0, store: self.version.0 });
        }
        for (key, value) in batch.writes {
            match value {
                Some(bytes) => {
                    self.values.insert(key, Arc::new(Stored { version: batch.version, bytes }));
                }
                None => {
                    self.values.remove(&key);
                }
            }
        }
        self.version = batch.version;
        Ok(())
    }
}

impl Contents {
    /// As chunks.
    pub(crate) fn export(self, state: Applied) -> Box<dyn Export> {
        let values = self.values.into_iter().map(|(key, stored)| Ok((key, (*stored).clone())));
        Box::new(Chunks::new(state, values))
    }
}

/// Contents on their way in.
pub(crate) struct Incoming {
    reading: Reading,
    contents: Contents,
}

impl Incoming {
    pub(crate) fn new(expected: Option<Applied>) -> Self {
        Self { reading: Reading::new(expected), contents: Contents::default() }
    }

    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let values = &mut self.contents.values;
        let taken = self.reading.take(chunk, |key, stored| {
            values.insert(key, Arc::new(stored));
            Ok::<(), Wrong>(())
        });
        taken.map_err(|wrong| wrong.for_store(NAME))
    }

    /// What came, when all of it did.
    pub(crate) fn finish(self) -> Result<(Applied, Contents), StoreError> {
        let state = self.reading.finish().map_err(|wrong| wrong.for_store(NAME))?.0.clone();
        Ok((state.clone(), Contents { version: state.version, ..self.contents }))
    }
}

/// A store in memory; it is gone with the process.
#[derive(Clone, Default)]
pub struct MemoryStore {
    contents: Arc<RwLock<Contents>>,
    watchers: Arc<Watchers>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every value by key, for scans for what must not be there.
    #[must_use]
    pub fn dump(&self) -> Vec<(RawKey, Vec<u8>)> {
        self.now().values.iter().map(|(key, stored)| (key.clone(), stored.bytes.clone())).collect()
    }

    fn now(&self) -> Contents {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Snapshot for Contents {
    fn version(&self) -> Version {
        self.version
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        Ok(self.values.get(key).map(|stored| (**stored).clone()))
    }

    fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        Ok(self.values.get(key).map(|stored| stored.version))
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.now()))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        // The lock is held over the check and the change: two who apply at once cannot both be the next.
        let apply = |batch| self.contents.write().unwrap_or_else(PoisonError::into_inner).apply(batch);
        self.watchers.around(batch, || Box::new(self.now()), apply)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.watchers.add(watcher);
    }

    fn syncs(&self) -> u64 {
        0
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        let contents = self.now();
        let version = contents.version;
        let position = Position { term: 0, index: version.0 };
        Ok(contents.export(Applied { position, version, membership: Vec::new() }))
    }

    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        Ok(Box::new(Restoring { store: self.clone(), incoming: Incoming::new(None) }))
    }
}

struct Restoring {
    store: MemoryStore,
    incoming: Incoming,
}

impl Install for Restoring {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.incoming.take(&chunk)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let (state, mut fresh) = self.incoming.finish()?;
        let store = &self.store;
        store.watchers.around_state(
            || Box::new(store.now()),
            || {
                let mut contents = store.contents.write().unwrap_or_else(PoisonError::into_inner);
                fresh.version = contents.version.max(state.version).next();
                *contents = fresh;
            },
        );
        Ok(())
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Err(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_model_passes_the_suite() {
        let store = Arc::new(MemoryStore::new());
        crate::suite::run(&mut || {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            store
        });
        assert_eq!(store.syncs(), 0);
    }
}
