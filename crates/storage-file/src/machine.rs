//! The machine: what entries of a log are applied to, whoever has the log. A memory table, and an index behind it.
//!
//! Entries come in their order; what was applied last is in memory and nowhere else. The log has it until the index has,
//! and the machine says when that is ([`Journal::purge`]). The index remembers durably which entry was the last that it
//! holds, and the newest membership up to there. Opening takes the index as it is; who has the log feeds what lies behind
//! it ([`Opened::replay`]). Deliberately absent: durability of what was applied last, and the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tresor_env::{DiskFile, Doors};
use tresor_storage::machine::{Applied, Change, Effect, Entry, Export, Install, Machine, Position};
use tresor_storage::{Batch, Condition, RawKey, Scrubbed, Snapshot, StoreError, Stored, Version, Watcher, Watchers};

use crate::Limits;
use crate::beside::Shelf;
use crate::install::{Installing, Way};
use crate::journal::Journal;
use crate::memory::{Frozen, Generation, Known};
use crate::open::Opened;
use crate::space::Space;
use crate::tend::Tending;
use crate::view::IndexView;

/// What a snapshot sees through.
pub(crate) struct View {
    pub(crate) active: Arc<Generation>,
    /// The newest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    pub(crate) index: Arc<IndexView>,
}

impl View {
    /// The same with its active generation frozen, which ends there.
    pub(crate) fn freeze(&self, end: &Applied) -> Self {
        let frozen = Arc::new(Frozen { generation: Arc::clone(&self.active), end: end.clone() });
        Self {
            active: Arc::default(),
            frozen: std::iter::once(&frozen).chain(&self.frozen).cloned().collect(),
            index: Arc::clone(&self.index),
        }
    }

    /// The same with another index, which holds the same.
    pub(crate) fn with_index(&self, index: Arc<IndexView>) -> Self {
        Self { active: Arc::clone(&self.active), frozen: self.frozen.clone(), index }
    }
}

/// What the next snapshot is made of.
pub(crate) struct Current {
    pub(crate) view: Arc<View>,
    pub(crate) version: Version,
}

/// All that a machine and its upkeep share.
pub(crate) struct Inner {
    pub(crate) doors: Doors,
    pub(crate) directory: PathBuf,
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) journal: Arc<dyn Journal>,
    /// Held by whoever adds to the active generation, or hands it over.
    pub(crate) applied: Mutex<Applied>,
    pub(crate) current: RwLock<Current>,
    pub(crate) tending: Arc<Tending>,
    pub(crate) space: Space,
    pub(crate) installing: Installing,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) lock: Arc<dyn DiskFile>,
    pub(crate) watchers: Watchers,
}

/// A machine in a directory.
pub struct FileMachine(pub(crate) Arc<Inner>);

impl FileMachine {
    /// Begins to open the machine in a directory, creating that when it does not exist.
    ///
    /// # Errors
    /// [`StoreError`] when the directory is in use, or a file damaged or unreadable.
    pub fn open(doors: &Doors, directory: &Path, limits: Limits) -> Result<Opened, StoreError> {
        Opened::open(doors, directory, limits)
    }

    /// Its last batch.
    pub(crate) fn version(&self) -> Version {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Takes the batch that follows, which the log has by now; tells whether a generation waits for the index.
    pub(crate) fn insert(&self, position: Position, batch: Batch) -> bool {
        let inner = &self.0;
        let mut applied = inner.applied();
        let view = inner.view();
        view.active.insert(batch.version, batch.writes, view.index.facts.mean_bytes());
        (applied.version, applied.position) = (batch.version, position);
        let is_full = inner.is_full(&view);
        let mut current = inner.current.write().unwrap_or_else(PoisonError::into_inner);
        current.version = batch.version;
        if is_full {
            current.view = Arc::new(current.view.freeze(&applied));
        }
        !current.view.frozen.is_empty()
    }

    /// Lets the index take over what is in memory, soon.
    fn freeze(&self, applied: &Applied) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.view.active.bytes() > 0 {
            current.view = Arc::new(current.view.freeze(applied));
        }
    }

    /// It as it is now.
    pub(crate) fn snapshot(&self) -> FileSnapshot {
        let mut seen = self.0.seen();
        if seen.view.index.index.has_failed() || self.0.is_scrub_due() {
            self.0.request_upkeep();
            seen = self.0.seen();
        }
        seen
    }
}

impl Machine for FileMachine {
    fn applied(&self) -> Applied {
        self.0.applied().clone()
    }

    fn apply(&self, entry: &Entry) -> Result<Effect, StoreError> {
        let position = entry.position;
        match &entry.change {
            Change::Nothing => self.0.applied().position = position,
            Change::Membership(members) => {
                let mut applied = self.0.applied();
                applied.position = position;
                applied.membership.clone_from(members);
                self.freeze(&applied);
                drop(applied);
                self.0.request_upkeep();
            }
            Change::Restore { version, pieces } => return self.restore(position, *version, *pieces),
            Change::Batch(batch) => {
                let before = self.version();
                if batch.version != before.next() {
                    self.0.applied().position = position;
                    return Ok(Effect::Fenced(before));
                }
                // Only what takes room waits for it.
                self.admit()?;
                self.0.pace(batch);
                let insert = |batch: &Batch| self.insert(position, batch.clone());
                if self.0.watchers.around(&**batch, || Box::new(self.0.seen()), insert) {
                    self.0.request_upkeep();
                }
            }
        }
        Ok(Effect::Applied)
    }

    fn persisted(&self) -> Position {
        self.0.view().index.facts.position
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Ok(self.export())
    }

    fn install(&self, state: &Applied) -> Result<Box<dyn Install>, StoreError> {
        Ok(Box::new(self.receive(Way::Sent, Some(state.clone()))?))
    }

    fn begins_behind(&self) -> u64 {
        self.0.view().index.facts.begins_behind
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.snapshot()))
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.0.watchers.add(watcher);
    }

    fn condition(&self) -> Condition {
        self.condition()
    }

    fn scrubbed(&self) -> Scrubbed {
        self.0.scrubbed()
    }
}

impl Drop for FileMachine {
    fn drop(&mut self) {
        self.0.tending.close();
    }
}

impl Inner {
    pub(crate) fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over another state while who watches is told.
    pub(crate) fn told<T>(&self, take: impl FnOnce() -> T) -> T {
        self.watchers.around_state(|| Box::new(self.seen()), take)
    }

    pub(crate) fn seen(&self) -> FileSnapshot {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        FileSnapshot { view: Arc::clone(&current.view), version: current.version }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).view)
    }

    pub(crate) fn change_view(&self, change: impl FnOnce(&View) -> View) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.view = Arc::new(change(&current.view));
    }
}

/// A machine as it was at one version.
pub(crate) struct FileSnapshot {
    pub(crate) view: Arc<View>,
    pub(crate) version: Version,
}

impl FileSnapshot {
    /// Looks through the generations, the newest first, and then into the index.
    fn look<T>(
        &self,
        in_memory: impl Fn(&Generation) -> Known<T>,
        in_index: impl FnOnce(&IndexView) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        for generation in std::iter::once(&self.view.active).chain(frozen) {
            match in_memory(generation) {
                Known::Written(found) => return Ok(Some(found)),
                Known::Deleted => return Ok(None),
                Known::Nothing => {}
            }
        }
        in_index(&self.view.index)
    }
}

impl Snapshot for FileSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        self.look(|generation| generation.read(key, self.version), |index| index.read(key))
    }

    fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        self.look(|generation| generation.written(key, self.version), |index| index.written(key))
    }
}
