//! Opening a machine: the newest index, and what the owner of the log feeds behind it.
//!
//! An index that is there is whole: it gets its name when it is. Deliberately absent: the log, and whether a missing index
//! is a new machine or damage; who has the log knows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use tresor_env::disk::Open;
use tresor_env::{DiskFile, Doors};
use tresor_storage::machine::{Applied, Position};
use tresor_storage::{Batch, StoreError, Watchers};

use crate::beside::Shelf;
use crate::index::Index;
use crate::install::Installing;
use crate::journal::Journal;
use crate::machine::{Current, FileMachine, Inner, View};
use crate::memory::{Frozen, Generation};
use crate::space::Space;
use crate::tend::Tending;
use crate::view::IndexView;
use crate::{LOCK_NAME, Limits, from_io};

/// How the name of an index ends that is not whole yet.
const UNFINISHED_SUFFIX: &str = ".unfinished";

/// The name of a generation of the index.
pub(crate) fn index_name(generation: u64) -> String {
    format!("index-{generation:08x}.db")
}

pub(crate) fn unfinished_name(generation: u64) -> String {
    format!("{}{UNFINISHED_SUFFIX}", index_name(generation))
}

fn generation_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("index-")?.strip_suffix(".db")?, 16).ok()
}

/// A machine that does not run yet: what its index does not have is fed to it.
pub struct Opened {
    doors: Doors,
    directory: PathBuf,
    limits: Limits,
    shelf: Arc<Shelf>,
    lock: Arc<dyn DiskFile>,
    index: Option<Arc<IndexView>>,
    applied: Applied,
    active: Arc<Generation>,
    /// The oldest first.
    frozen: Vec<Arc<Frozen>>,
}

impl Opened {
    pub(crate) fn open(doors: &Doors, directory: &Path, limits: Limits) -> Result<Self, StoreError> {
        let io = |source| from_io(&directory.display().to_string(), source);
        doors.disk.create_directory(directory).map_err(io)?;
        let lock = doors.disk.open(&directory.join(LOCK_NAME), Open::OrCreate).map_err(io)?;
        lock.lock_exclusive().map_err(io)?;
        // The process before may have ended before the name of an index was durable; the log is purged by what is in it.
        doors.disk.sync_directory(directory).map_err(io)?;
        let shelf = Shelf::open(&doors.disk, directory)?;
        let index = newest_index(doors, directory, &limits, &shelf, &lock)?;
        let applied = index.as_ref().map(|index| index.applied()).unwrap_or_default();
        Ok(Self {
            doors: doors.clone(),
            directory: directory.to_path_buf(),
            limits,
            shelf,
            lock,
            index,
            applied,
            active: Arc::default(),
            frozen: Vec::new(),
        })
    }

    /// What it holds: what the index does, and what was fed since.
    #[must_use]
    pub const fn applied(&self) -> &Applied {
        &self.applied
    }

    /// The last entry of before the state that was taken over last, if one was: entries of the log up to there are void.
    #[must_use]
    pub fn begins_behind(&self) -> u64 {
        self.index.as_ref().map_or(0, |index| index.facts.begins_behind)
    }

    /// Whether there is no index yet.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.index.is_none()
    }

    /// Takes the next batch that the index does not have.
    pub fn replay(&mut self, position: Position, batch: Batch) {
        if self.active.bytes() >= self.limits.generation_bytes {
            let generation = std::mem::take(&mut self.active);
            self.frozen.push(Arc::new(Frozen { generation, end: self.applied.clone() }));
        }
        (self.applied.version, self.applied.position) = (batch.version, position);
        self.active.insert(batch.version, batch.writes, 0);
    }

    /// Lets it run, with the log that was read.
    ///
    /// # Errors
    /// [`StoreError`] when a first index cannot be made.
    pub fn start(self, journal: Arc<dyn Journal>) -> Result<FileMachine, StoreError> {
        let Self { doors, directory, limits, shelf, lock, index, applied, active, mut frozen } = self;
        let index = match index {
            Some(index) => index,
            None => create_index(&doors, &directory, 1, &limits, &shelf, &lock)?,
        };
        frozen.reverse();
        let live_bytes = index.facts.live_bytes;
        let current = Current { view: Arc::new(View { active, frozen, index }), version: applied.version };
        let inner = Arc::new(Inner {
            name: directory.display().to_string(),
            doors,
            directory,
            limits,
            journal,
            applied: Mutex::new(applied),
            current: RwLock::new(current),
            tending: Arc::new(Tending::of_opened(live_bytes)),
            space: Space::new(),
            installing: Installing::default(),
            shelf,
            lock,
            watchers: Watchers::default(),
        });
        inner.fit_segments(live_bytes);
        inner.request_upkeep();
        Ok(FileMachine(inner))
    }
}

/// Opens the newest generation of the index, and removes what is left of others.
fn newest_index(
    doors: &Doors,
    directory: &Path,
    limits: &Limits,
    shelf: &Arc<Shelf>,
    lock: &Arc<dyn DiskFile>,
) -> Result<Option<Arc<IndexView>>, StoreError> {
    let name = directory.display().to_string();
    let io = |source| from_io(&name, source);
    let names = doors.disk.names(directory).map_err(io)?;
    let newest = names.iter().filter_map(|name| generation_of(name)).max();
    let view = match newest {
        Some(generation) => {
            let path = directory.join(index_name(generation));
            Some(Index::open(&*doors.disk, &path, Open::OrCreate, generation, limits, shelf, lock)?.view()?)
        }
        None => None,
    };
    let is_old = |name: &str| generation_of(name).is_some_and(|found| Some(found) != newest);
    for old in names.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX) || is_old(name)) {
        doors.disk.remove(&directory.join(old)).map_err(io)?;
    }
    // Without an index they are what is left of one, perhaps.
    if let Some(view) = &view {
        shelf.remove_unknown(&view.index.beside)?;
    }
    Ok(view)
}

/// Makes an empty index, which appears under its name when it is whole.
fn create_index(
    doors: &Doors,
    directory: &Path,
    generation: u64,
    limits: &Limits,
    shelf: &Arc<Shelf>,
    lock: &Arc<dyn DiskFile>,
) -> Result<Arc<IndexView>, StoreError> {
    let unfinished = directory.join(unfinished_name(generation));
    let path = directory.join(index_name(generation));
    let io = |source| from_io(&path.display().to_string(), source);
    drop(Index::open(&*doors.disk, &unfinished, Open::New, generation, limits, shelf, lock)?);
    doors.disk.rename(&unfinished, &path).map_err(io)?;
    doors.disk.sync_directory(directory).map_err(io)?;
    Index::open(&*doors.disk, &path, Open::OrCreate, generation, limits, shelf, lock)?.view()
}
