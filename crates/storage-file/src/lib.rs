//! The durable store: a log that a write waits for, a memory table, and an index behind them that nobody waits for.
//!
//! [`Store::apply`] is one append to the log with one sync, then an insertion into the memory table. When that is large
//! enough it is frozen, and the index (redb on the disk door) takes it over in one lazy commit, off the request path;
//! then the log behind it is purged. A snapshot is the memory table filtered by version, the frozen generations and a
//! read transaction of the index: it costs two reference counts and blocks nobody. Opening replays the log behind the
//! index, which is bounded by the memory table, whatever the size of the store. Deliberately absent: batching (the
//! barrier's committer batches) and knowledge of what is stored.

mod backend;
mod index;
mod memory;
mod open;
mod pages;
mod rebuild;
mod record;
mod shape;
mod space;
mod tend;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tresor_env::{DiskFile, Doors};
pub use tresor_log::Sizes;
use tresor_log::{Log, LogError};
use tresor_storage::{Batch, Condition, RawKey, Snapshot, Store, StoreError, Stored, Version};

use index::IndexView;
use memory::{Generation, Known};
use tend::Tending;

/// How much of what the store takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The log's segments.
    pub segments: Sizes,
    /// How large the memory table grows at most before the index takes it over; beside little live data less (`shape.rs`).
    pub generation_bytes: u64,
    /// How little that is at least.
    pub generation_bytes_min: u64,
    /// How many of those may wait for the index before writers wait.
    pub frozen_max: usize,
    /// Memory that the index may use to cache pages.
    pub cache_bytes: usize,
    /// A smaller index is never built anew to free space.
    pub rebuild_bytes_min: u64,
    /// How much is copied in one go when it is.
    pub rebuild_step_bytes: usize,
    /// Below so many free bytes nothing is written any more.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segments: Sizes::default(),
            generation_bytes: 4 * 1024 * 1024,
            generation_bytes_min: 512 * 1024,
            frozen_max: 3,
            cache_bytes: 32 * 1024 * 1024,
            rebuild_bytes_min: 4 * 1024 * 1024,
            rebuild_step_bytes: 4 * 1024 * 1024,
            reserve_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The directory of the log within that of the store.
pub const LOG_DIRECTORY: &str = "log";
/// The first generation of the index; later ones count on.
pub const FIRST_INDEX_NAME: &str = "index-00000001.db";
/// The file whose lock says that the directory is in use.
const LOCK_NAME: &str = "tresor.lock";

/// What a snapshot sees through.
struct View {
    active: Arc<Generation>,
    /// The newest first.
    frozen: Vec<Arc<Generation>>,
    index: Arc<IndexView>,
}

/// What the next snapshot is made of.
struct Current {
    view: Arc<View>,
    version: Version,
}

/// All that the store and its upkeep share.
struct Inner {
    doors: Doors,
    directory: PathBuf,
    name: String,
    limits: Limits,
    log: Mutex<Log>,
    current: RwLock<Current>,
    tending: Arc<Tending>,
    space: space::Space,
    lock: Arc<dyn DiskFile>,
}

/// A store in a directory.
pub struct FileStore(Arc<Inner>);

impl FileStore {
    /// Opens the store in a directory, creating both when they do not exist.
    ///
    /// # Errors
    /// [`StoreError`] when the directory is in use, or a file damaged or unreadable.
    pub fn open(doors: &Doors, directory: &Path, limits: Limits) -> Result<Self, StoreError> {
        let store = Self(Arc::new(open::open(doors, directory, limits)?));
        store.0.request_upkeep();
        Ok(store)
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.0.tending.close();
    }
}

fn from_io(name: &str, source: std::io::Error) -> StoreError {
    let name = name.to_owned();
    match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { name },
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::NoSpace { name },
        _ => StoreError::Io { name, source },
    }
}

fn from_log(name: &str, error: LogError) -> StoreError {
    match error {
        LogError::Damaged { path, offset, what } => {
            StoreError::Damaged { name: path.display().to_string(), what: format!("at offset {offset}: {what}") }
        }
        LogError::Io { path, source } => from_io(&path.display().to_string(), source),
        LogError::Uncertain { path, source } => StoreError::Uncertain { name: path.display().to_string(), source },
        LogError::Stopped => {
            StoreError::Stopped { name: name.to_owned(), why: "its log failed while it was written".to_owned() }
        }
        other @ (LogError::OutOfRange { .. } | LogError::TooLarge { .. }) => {
            StoreError::Io { name: name.to_owned(), source: std::io::Error::other(other) }
        }
    }
}

struct FileSnapshot {
    view: Arc<View>,
    version: Version,
}

impl FileSnapshot {
    /// Looks through the generations, the newest first, and then into the index.
    fn look<T>(
        &self,
        in_memory: impl Fn(&Generation) -> Known<T>,
        in_index: impl FnOnce(&IndexView) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        for generation in std::iter::once(&self.view.active).chain(&self.view.frozen) {
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

impl Inner {
    fn version(&self) -> Version {
        self.current.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// What a snapshot is made of.
    fn seen(&self) -> (Arc<View>, Version) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&current.view), current.version)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).view)
    }

    /// Shows a durable batch to the next snapshots; tells whether a generation waits for the index.
    fn publish(&self, batch: Batch) -> bool {
        let view = self.view();
        let facts = &view.index.facts;
        let mean = facts.live_bytes.checked_div(facts.count).unwrap_or(0);
        view.active.insert(batch.version, batch.writes, mean);
        let is_full = self.is_full(&view);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.version = batch.version;
        if is_full {
            current.view = Arc::new(frozen(&current.view));
        }
        !current.view.frozen.is_empty()
    }
}

/// The view with its active generation frozen.
fn frozen(view: &View) -> View {
    View {
        active: Arc::new(Generation::new(view.active.last())),
        frozen: std::iter::once(&view.active).chain(&view.frozen).cloned().collect(),
        index: Arc::clone(&view.index),
    }
}

impl Store for FileStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut seen = self.0.seen();
        if seen.0.index.index.has_failed() {
            self.0.request_upkeep();
            seen = self.0.seen();
        }
        let (view, version) = seen;
        Ok(Box::new(FileSnapshot { view, version }))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let inner = &self.0;
        inner.wait_for_room()?;
        if let Some(damage) = inner.view().index.index.damage() {
            return Err(damage);
        }
        let has_work = {
            // Held until the batch is to be seen: two who apply at once cannot both be the next.
            let mut log = inner.log.lock().unwrap_or_else(PoisonError::into_inner);
            let before = inner.version();
            if batch.version != before.next() {
                return Err(StoreError::VersionGap { batch: batch.version.0, store: before.0 });
            }
            inner.refuse_when_low(record::size(&batch) as u64)?;
            let mut group = log.group();
            group.entry(|body| record::encode(&batch, body));
            group.commit().map_err(|error| from_log(&inner.name, error))?;
            inner.publish(batch) || log.has_plan()
        };
        if has_work {
            inner.request_upkeep();
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner).syncs()
    }

    fn condition(&self) -> Condition {
        // Whoever asks may be the first to come by since it was full.
        if self.0.tending.behind().is_some() {
            self.0.request_upkeep();
        }
        self.0.condition()
    }
}
