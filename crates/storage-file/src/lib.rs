//! The durable store: one file, an embedded engine (redb) behind the disk door.
//!
//! The simplest crash-safe store behind the contract; the next one (an own log with an index engine behind it) will
//! replace it without any other crate noticing. redb gives snapshots that block nobody and commits that are atomic
//! by checksummed roots; one [`Store::apply`] is one commit. Deliberately absent: batching (the barrier's committer
//! batches) and knowledge of what is stored.

mod backend;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};
use tresor_storage::{Batch, RawKey, Snapshot, Store, StoreError, Stored, Version};

use backend::DoorBackend;

/// Every value, after the version (8 bytes, big-endian) that wrote it.
const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
/// The number of the last batch.
const VERSION: TableDefinition<'static, (), u64> = TableDefinition::new("version");
/// Bytes of the version before a value.
const VERSION_BYTES: usize = 8;
/// Memory that the engine may use to cache pages.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// The name of the file within its directory.
pub const FILE_NAME: &str = "tresor.db";

/// The name that a store has until it is complete.
const UNFINISHED_NAME: &str = "tresor.db.new";
/// The file whose lock says that the directory is in use.
const LOCK_NAME: &str = "tresor.lock";

/// A store in one file.
pub struct FileStore {
    /// `None` only while it is being closed.
    database: Option<Database>,
    name: String,
    syncs: Arc<AtomicU64>,
    _lock: Arc<dyn DiskFile>,
}

impl FileStore {
    /// Opens the store in a directory, creating both when they do not exist. A store appears under its name only
    /// when it is complete, so a crash while it is made leaves none.
    ///
    /// # Errors
    /// [`StoreError`] when the directory is in use, or the file damaged or unreadable.
    pub fn open(disk: &dyn Disk, directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let name = path.display().to_string();
        let io = |source| from_io(&name, source);
        disk.create_directory(directory).map_err(io)?;
        let lock = disk.open(&directory.join(LOCK_NAME), Open::OrCreate).map_err(io)?;
        lock.lock_exclusive().map_err(io)?;
        let is_there = disk.names(directory).map_err(io)?.iter().any(|entry| entry == FILE_NAME);
        if !is_there {
            let unfinished = directory.join(UNFINISHED_NAME);
            if let Err(error) = disk.remove(&unfinished)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(io(error));
            }
            Self::open_file(disk, &unfinished, Open::New, &name, &lock)?.close()?;
            disk.rename(&unfinished, &path).map_err(io)?;
            disk.sync_directory(directory).map_err(io)?;
        }
        // The engine would take an empty file for a new one; but a store is never empty, and what was in it is lost.
        if disk.open(&path, Open::Existing).and_then(|file| file.length()).map_err(io)? == 0 {
            return Err(StoreError::Damaged { name, what: "the file is empty".to_owned() });
        }
        Self::open_file(disk, &path, Open::OrCreate, &name, &lock)
    }

    fn open_file(
        disk: &dyn Disk,
        path: &Path,
        open: Open,
        name: &str,
        lock: &Arc<dyn DiskFile>,
    ) -> Result<Self, StoreError> {
        let file = disk.open(path, open).map_err(|source| from_io(name, source))?;
        let syncs = Arc::new(AtomicU64::new(0));
        let backend = DoorBackend::new(file, Arc::clone(&syncs));
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let database = fenced(name, || builder.create_with_backend(backend).map_err(Into::into))?;
        let store = Self { database: Some(database), name: name.to_owned(), syncs, _lock: Arc::clone(lock) };
        store.create_tables()?;
        Ok(store)
    }

    /// Closes the file; everything is on the disk when this returns.
    fn close(mut self) -> Result<(), StoreError> {
        let database = self.database.take();
        fenced(&self.name, || {
            drop(database);
            Ok(())
        })
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }

    fn create_tables(&self) -> Result<(), StoreError> {
        fenced(&self.name, || {
            let write = self.database()?.begin_write()?;
            write.open_table(VALUES)?;
            write.open_table(VERSION)?;
            write.commit()?;
            Ok(())
        })
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        // The engine writes when it is closed, and may panic on a damaged file: by then everything that was
        // acknowledged is durable, so nothing is lost with the error.
        let database = self.database.take();
        drop(fenced(&self.name, || {
            drop(database);
            Ok(())
        }));
    }
}

/// Turns errors of the engine, and panics on damaged pages, into errors of the store.
fn fenced<T>(name: &str, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| from_engine(name, error)),
        Err(_) => Err(StoreError::Damaged { name: name.to_owned(), what: "a page cannot be read".to_owned() }),
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

fn from_engine(name: &str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) => from_io(name, source),
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { name: name.to_owned() },
        other => StoreError::Damaged { name: name.to_owned(), what: other.to_string() },
    }
}

struct FileSnapshot {
    values: redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
    version: Version,
    name: String,
}

impl Snapshot for FileSnapshot {
    fn version(&self) -> Version {
        self.version
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        let damaged = |what: &str| StoreError::Damaged { name: self.name.clone(), what: what.to_owned() };
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.values.get(key.as_bytes())));
        let found = read
            .map_err(|_| damaged("a page cannot be read"))?
            .map_err(|error| from_engine(&self.name, error.into()))?;
        let Some(guard) = found else { return Ok(None) };
        let (version, bytes) =
            guard.value().split_first_chunk::<VERSION_BYTES>().ok_or_else(|| damaged("a value has no version"))?;
        Ok(Some(Stored { version: Version(u64::from_be_bytes(*version)), bytes: bytes.to_vec() }))
    }
}

impl Store for FileStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        fenced(&self.name, || {
            let read = self.database()?.begin_read()?;
            let version = read.open_table(VERSION)?.get(())?.map_or(0, |version| version.value());
            let values = read.open_table(VALUES)?;
            Ok(Box::new(FileSnapshot { values, version: Version(version), name: self.name.clone() })
                as Box<dyn Snapshot>)
        })
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let applied = fenced(&self.name, || {
            let mut write = self.database()?.begin_write()?;
            write.set_durability(Durability::Immediate).map_err(|_| redb::Error::PreviousIo)?;
            {
                let mut number = write.open_table(VERSION)?;
                let before = Version(number.get(())?.map_or(0, |version| version.value()));
                if batch.version != before.next() {
                    return Ok(Err(StoreError::VersionGap { batch: batch.version.0, store: before.0 }));
                }
                number.insert((), batch.version.0)?;
                let mut values = write.open_table(VALUES)?;
                for (key, value) in &batch.writes {
                    match value {
                        Some(bytes) => {
                            let mut reserved = values.insert_reserve(key.as_bytes(), VERSION_BYTES + bytes.len())?;
                            let (version, rest) = reserved.as_mut().split_at_mut(VERSION_BYTES);
                            version.copy_from_slice(&batch.version.0.to_be_bytes());
                            rest.copy_from_slice(bytes);
                        }
                        None => drop(values.remove(key.as_bytes())?),
                    }
                }
            }
            write.commit()?;
            Ok(Ok(()))
        });
        applied?
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}
