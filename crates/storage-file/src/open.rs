//! Opening a store: the newest index, then the log behind it into the memory table.
//!
//! An index that is there is whole: it gets its name when it is. One that is missing is made anew from the log as long as
//! the log has everything; later that is damage.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use tresor_env::disk::Open;
use tresor_env::{DiskFile, Doors};
use tresor_log::{Log, LogError};
use tresor_storage::{StoreError, Version};

use crate::index::{Index, IndexView};
use crate::memory::Generation;
use crate::space::Space;
use crate::tend::Tending;
use crate::{Current, Inner, LOCK_NAME, LOG_DIRECTORY, Limits, View, from_io, from_log, record};

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

/// What went wrong while the log was read.
enum Replayed {
    Log(LogError),
    NoBatch(u64),
}

impl From<LogError> for Replayed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

pub(crate) fn open(doors: &Doors, directory: &Path, limits: Limits) -> Result<Inner, StoreError> {
    let name = directory.display().to_string();
    let lock_path = directory.join(LOCK_NAME);
    let io = |source| from_io(&name, source);
    doors.disk.create_directory(directory).map_err(io)?;
    let lock = doors.disk.open(&lock_path, Open::OrCreate).map_err(io)?;
    lock.lock_exclusive().map_err(io)?;
    // The process before may have ended before the name of an index was durable; the log is purged by what is in it.
    doors.disk.sync_directory(directory).map_err(io)?;
    let index = newest_index(doors, directory, &limits, &lock)?;
    let version = index.as_ref().map_or(Version(0), |index| index.facts.version);
    let (log, mut generations) = replay(doors, directory, &limits, version)?;
    let log_name = directory.join(LOG_DIRECTORY).display().to_string();
    let index = match index {
        Some(index) => index,
        None if log.purged() == 0 => create_index(doors, directory, 1, &limits, &lock)?,
        None => {
            let name = directory.join(index_name(1)).display().to_string();
            return Err(StoreError::Damaged { name, what: "the index is missing".to_owned() });
        }
    };
    if log.last() < version.0 || log.first() > version.0 + 1 {
        let what = format!("it holds entries {} to {}, and the index ends at {}", log.first(), log.last(), version.0);
        return Err(StoreError::Damaged { name: log_name, what });
    }
    let last = Version(log.last());
    let active = generations.pop().unwrap_or_else(|| Arc::new(Generation::new(version)));
    generations.reverse();
    let live_bytes = index.facts.live_bytes;
    let view = View { active, frozen: generations, index };
    let inner = Inner {
        doors: doors.clone(),
        directory: directory.to_path_buf(),
        name,
        limits,
        log: Mutex::new(log),
        current: RwLock::new(Current { view: Arc::new(view), version: last }),
        tending: Arc::new(Tending::default()),
        space: Space::new(),
        lock,
    };
    inner.fit_segments(live_bytes);
    Ok(inner)
}

/// Opens the log, and fills generations with what the index does not have yet, the oldest first.
fn replay(
    doors: &Doors,
    directory: &Path,
    limits: &Limits,
    version: Version,
) -> Result<(Log, Vec<Arc<Generation>>), StoreError> {
    let path = directory.join(LOG_DIRECTORY);
    let mut generations = vec![Arc::new(Generation::new(version))];
    let opened = Log::open(&doors.disk, &path, limits.segments, &mut |index, body| {
        if index <= version.0 {
            return Ok(());
        }
        let batch = record::decode(index, body).ok_or(Replayed::NoBatch(index))?;
        if generations.last().is_none_or(|last| last.bytes() >= limits.generation_bytes) {
            generations.push(Arc::new(Generation::new(version)));
        }
        if let Some(last) = generations.last() {
            last.insert(batch.version, batch.writes, 0);
        }
        Ok::<(), Replayed>(())
    });
    match opened {
        Ok(log) => Ok((log, generations)),
        Err(Replayed::Log(error)) => Err(from_log(&path.display().to_string(), error)),
        Err(Replayed::NoBatch(index)) => {
            let what = format!("entry {index} is no batch");
            Err(StoreError::Damaged { name: path.display().to_string(), what })
        }
    }
}

/// Opens the newest generation of the index, and removes what is left of others.
fn newest_index(
    doors: &Doors,
    directory: &Path,
    limits: &Limits,
    lock: &Arc<dyn DiskFile>,
) -> Result<Option<Arc<IndexView>>, StoreError> {
    let name = directory.display().to_string();
    let io = |source| from_io(&name, source);
    let names = doors.disk.names(directory).map_err(io)?;
    let newest = names.iter().filter_map(|name| generation_of(name)).max();
    let view = match newest {
        Some(generation) => {
            let path = directory.join(index_name(generation));
            Some(Index::open(&*doors.disk, &path, Open::OrCreate, generation, limits, lock)?.view()?)
        }
        None => None,
    };
    let is_old = |name: &str| generation_of(name).is_some_and(|found| Some(found) != newest);
    for old in names.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX) || is_old(name)) {
        doors.disk.remove(&directory.join(old)).map_err(io)?;
    }
    Ok(view)
}

/// Makes an empty index, which appears under its name when it is whole.
fn create_index(
    doors: &Doors,
    directory: &Path,
    generation: u64,
    limits: &Limits,
    lock: &Arc<dyn DiskFile>,
) -> Result<Arc<IndexView>, StoreError> {
    let unfinished = directory.join(unfinished_name(generation));
    let path = directory.join(index_name(generation));
    let io = |source| from_io(&path.display().to_string(), source);
    drop(Index::open(&*doors.disk, &unfinished, Open::New, generation, limits, lock)?);
    doors.disk.rename(&unfinished, &path).map_err(io)?;
    doors.disk.sync_directory(directory).map_err(io)?;
    Index::open(&*doors.disk, &path, Open::OrCreate, generation, limits, lock)?.view()
}
