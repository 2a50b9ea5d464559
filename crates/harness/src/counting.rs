//! A store that counts what is read from it and written to it, and fails as often as it is told to: for tests that say what
//! something costs. Deliberately absent: times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tresor_storage::{Batch, MemoryStore, RawKey, Snapshot, Store, StoreError, Stored, Version};

/// Counts what is read from a store and written to it, and fails as often as it is told to.
pub struct Counting {
    /// What it counts for.
    pub inner: MemoryStore,
    reads: Arc<AtomicU64>,
    /// How many records were written.
    pub writes: AtomicU64,
    /// So many calls of a hundred fail.
    pub failing: AtomicU64,
    /// How often it was called.
    pub calls: AtomicU64,
    /// How many calls failed.
    pub failed: AtomicU64,
}

impl Counting {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            reads: Arc::default(),
            writes: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    fn may_fail(&self) -> Result<(), StoreError> {
        // A sequence without a period that a caller could fall in step with.
        let at = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if at % 100 >= self.failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(failure())
    }

    /// How many records were read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

fn failure() -> StoreError {
    StoreError::Io { name: "double".into(), source: std::io::Error::other("the double fails") }
}

struct CountingSnapshot {
    inner: Box<dyn Snapshot>,
    reads: Arc<AtomicU64>,
}

impl Snapshot for CountingSnapshot {
    fn version(&self) -> Version {
        self.inner.version()
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(key)
    }

    fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        self.inner.written(key)
    }
}

impl Store for Counting {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.may_fail()?;
        Ok(Box::new(CountingSnapshot { inner: self.inner.snapshot()?, reads: Arc::clone(&self.reads) }))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.may_fail()?;
        let writes = u64::try_from(batch.writes.len()).unwrap_or(u64::MAX);
        self.inner.apply(batch)?;
        self.writes.fetch_add(writes, Ordering::Relaxed);
        Ok(())
    }

    fn watch(&self, watcher: std::sync::Weak<dyn tresor_storage::Watcher>) {
        self.inner.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        self.inner.syncs()
    }
}
