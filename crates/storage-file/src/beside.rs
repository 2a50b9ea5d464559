//! Values beside the index: files that larger values are appended to; the index has their places.
//!
//! A tree of small entries is cheap to change: taking a value over, or letting it go, rewrites a page of places and not of
//! values. A file is appended to and synced before the commit that refers to what was appended; nothing in it is ever
//! written over, and a file that was found when the store was opened is never written to. What nothing refers to any more
//! stays until the index is built anew (`rebuild.rs`), which takes what is left of the emptiest files with it. A value is
//! compared with its checksum, which the index has, whenever it is read; one that is wrong is remembered by its key, until
//! something else is stored under that. Deliberately absent: any order, lists of what lies where, and remembering what is
//! wrong over a start, since a disk that may be failing is asked for no more than it must be: the scrub finds it again.
//!
//! ```text
//! magic (8 bytes) | value | value | ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};
use tresor_storage::{Damage, StoreError, Version};

use crate::from_io;
use crate::takeover::checksum;

/// What a file begins with.
const MAGIC: [u8; 8] = *b"TRVAL\0\0\x01";
/// So much is written at once.
const WRITE_BYTES: usize = 256 * 1024;
/// So many values that are wrong are remembered; who has more finds them when these are gone.
const UNREADABLE_MAX: usize = 1024;

/// Where a value lies, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) at: u64,
    pub(crate) length: u32,
    pub(crate) sum: u64,
}

/// How much of a file is referred to, and how long it is as far as commits know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) live: u64,
    pub(crate) length: u64,
}

/// The name of a file.
fn file_name(number: u32) -> String {
    format!("values-{number:08x}.db")
}

fn number_of(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix("values-")?.strip_suffix(".db")?, 16).ok()
}

/// A value that is not what was written.
#[derive(Clone)]
struct Unreadable {
    key: Vec<u8>,
    version: u64,
    what: &'static str,
}

/// Where files are made and removed, and what of them cannot be read; of all indexes of a store.
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    next: AtomicU32,
    /// By file and offset.
    unreadable: Mutex<BTreeMap<(u32, u64), Unreadable>>,
}

impl Shelf {
    /// Looks for the files that there are.
    pub(crate) fn open(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Arc<Self>, StoreError> {
        let names = disk.names(directory).map_err(|source| from_io(&directory.display().to_string(), source))?;
        let last = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
        let (disk, directory, next) = (Arc::clone(disk), directory.to_path_buf(), AtomicU32::new(last.wrapping_add(1)));
        Ok(Arc::new(Self { disk, directory, next, unreadable: Mutex::default() }))
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<(u32, u64), Unreadable>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value cannot be read.
    fn refuse(&self, place: &Place, key: &[u8], version: u64, what: &'static str) {
        let mut unreadable = self.unreadable();
        let at = (place.file, place.at);
        if unreadable.len() >= UNREADABLE_MAX || unreadable.contains_key(&at) {
            return;
        }
        let (file, offset) = (self.path(place.file), place.at);
        tracing::error!(file = %file.display(), offset, what, "a value beside the index cannot be read");
        unreadable.insert(at, Unreadable { key: key.to_vec(), version, what });
    }

    /// Which values cannot be read, of those that somebody came across. One that is not stored any more, as whoever asks can
    /// tell of a key and the batch that wrote it, is forgotten.
    pub(crate) fn damage(&self, is_stored: impl Fn(&[u8], Version) -> bool) -> Option<Damage> {
        let known = self.unreadable().clone();
        let gone = known.iter().filter(|(_, value)| !is_stored(&value.key, Version(value.version)));
        let gone: BTreeSet<(u32, u64)> = gone.map(|(at, _)| *at).collect();
        if !gone.is_empty() {
            self.unreadable().retain(|at, _| !gone.contains(at));
        }
        let mut left = known.iter().filter(|(at, _)| !gone.contains(at));
        let ((file, offset), value) = left.next()?;
        let (file, offset, what) = (self.path(*file), *offset, value.what.to_owned());
        Some(Damage { file, offset, what, others: left.count() })
    }

    /// Whether one of them is stored still: the first of which that is so, or cannot be told, says it for all.
    pub(crate) fn is_damaged(&self, is_stored: impl Fn(&[u8], Version) -> bool) -> bool {
        loop {
            let first = self.unreadable().first_key_value().map(|(at, value)| (*at, value.clone()));
            let Some((at, value)) = first else { return false };
            if is_stored(&value.key, Version(value.version)) {
                return true;
            }
            self.unreadable().remove(&at);
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(file_name(number))
    }

    fn remove(&self, number: u32) {
        // What stays is removed at the next opening.
        drop(self.disk.remove(&self.path(number)));
    }

    /// Removes the files that an index does not refer to; when nobody writes any.
    pub(crate) fn remove_unknown(&self, known: &Beside) -> Result<(), StoreError> {
        let io = |source| from_io(&self.directory.display().to_string(), source);
        let known = known.numbers();
        for name in self.disk.names(&self.directory).map_err(io)? {
            if number_of(&name).is_some_and(|number| !known.contains(&number)) {
                self.disk.remove(&self.directory.join(name)).map_err(io)?;
            }
        }
        Ok(())
    }
}

/// A file that is appended to.
struct Writer {
    number: u32,
    file: Arc<dyn DiskFile>,
    /// How long it is with what waits.
    length: u64,
    waiting: Vec<u8>,
    /// Whether its name is durable, and a commit may refer to it.
    is_known: bool,
    is_dirty: bool,
}

impl Writer {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(self.length - self.waiting.len() as u64, &self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

/// The files that one index refers to.
pub(crate) struct Beside {
    shelf: Arc<Shelf>,
    files: RwLock<BTreeMap<u32, Arc<dyn DiskFile>>>,
    writer: Mutex<Option<Writer>>,
    /// The files that were made for it.
    own: Mutex<Vec<u32>>,
    /// Files that a commit of which the outcome is not known may refer to: they stay until a later one is durable.
    doubted: Mutex<BTreeSet<u32>>,
}

impl Beside {
    /// None yet.
    pub(crate) fn new(shelf: &Arc<Shelf>) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            files: RwLock::default(),
            writer: Mutex::default(),
            own: Mutex::default(),
            doubted: Mutex::default(),
        }
    }

    /// Opens the files that an index refers to.
    pub(crate) fn open(&self, files: &BTreeMap<u32, Filled>) -> Result<(), StoreError> {
        for (number, filled) in files {
            let path = self.shelf.path(*number);
            let name = path.display().to_string();
            let damaged = |what: String| StoreError::Damaged { name: name.clone(), what };
            let file = match self.shelf.disk.open(&path, Open::Existing) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(damaged("it is missing".to_owned()));
                }
                opened => opened.map_err(|source| from_io(&name, source))?,
            };
            let length = file.length().map_err(|source| from_io(&name, source))?;
            if length < filled.length.max(MAGIC.len() as u64) {
                return Err(damaged(format!("at offset {length}: it ends there, before what was written at its end")));
            }
            let mut magic = MAGIC;
            file.read_exact_at(0, &mut magic).map_err(|source| from_io(&name, source))?;
            if magic != MAGIC {
                return Err(damaged("at offset 0: it does not begin as a file of values".to_owned()));
            }
            self.files_mut().insert(*number, file);
        }
        Ok(())
    }

    fn files_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Arc<dyn DiskFile>>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: u32) -> Option<Arc<dyn DiskFile>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn numbers(&self) -> BTreeSet<u32> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn doubted(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refers to a file of another index, too.
    pub(crate) fn share(&self, other: &Self, number: u32) {
        if let Some(file) = other.file(number) {
            self.files_mut().insert(number, file);
        }
    }

    /// What comes next goes into another file if this one has so many bytes.
    pub(crate) fn turn(&self, file_bytes: u64) {
        let mut writer = self.writer();
        if writer.as_ref().is_some_and(|writer| writer.length >= file_bytes && !writer.is_dirty) {
            *writer = None;
        }
    }

    /// Appends a value. It is not durable, and perhaps not written, before [`Self::settle`].
    pub(crate) fn put(&self, key: &[u8], version: u64, bytes: &[u8]) -> io::Result<Place> {
        let mut writer = self.writer();
        let writer = match &mut *writer {
            Some(writer) => writer,
            none => none.insert(self.begin()?),
        };
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let place = Place { file: writer.number, at: writer.length, length, sum: checksum(key, version, bytes) };
        writer.waiting.extend_from_slice(bytes);
        writer.length += u64::from(length);
        writer.is_dirty = true;
        if writer.waiting.len() >= WRITE_BYTES {
            writer.write()?;
        }
        Ok(place)
    }

    fn begin(&self) -> io::Result<Writer> {
        let number = self.shelf.next.fetch_add(1, Ordering::Relaxed);
        let file = self.shelf.disk.open(&self.shelf.path(number), Open::New)?;
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        let (length, waiting) = (MAGIC.len() as u64, MAGIC.to_vec());
        Ok(Writer { number, file, length, waiting, is_known: false, is_dirty: true })
    }

    /// Makes what was appended durable; tells which file it is in, and how long that is now, if there is any.
    pub(crate) fn settle(&self) -> io::Result<Option<(u32, u64)>> {
        let mut writer = self.writer();
        let Some(writer) = writer.as_mut().filter(|writer| writer.is_dirty) else { return Ok(None) };
        writer.write()?;
        writer.file.sync()?;
        if !writer.is_known {
            self.shelf.disk.sync_directory(&self.shelf.directory)?;
            self.files_mut().insert(writer.number, Arc::clone(&writer.file));
            writer.is_known = true;
        }
        writer.is_dirty = false;
        // Mostly nothing comes for a while.
        writer.waiting = Vec::new();
        Ok(Some((writer.number, writer.length)))
    }

    /// Appending, or the commit after it, has failed: nobody knows what of the file's end is there, or referred to. It is
    /// not written to again, and goes if no commit can know it.
    pub(crate) fn abandon_writer(&self) {
        if let Some(writer) = self.writer().take()
            && !writer.is_known
        {
            self.shelf.remove(writer.number);
        }
    }

    /// It is the same index as another one, which has failed: what that knew of and this does not is in doubt.
    pub(crate) fn succeed(&self, failed: &Self) {
        let mut doubted = failed.doubted().clone();
        doubted.append(&mut failed.numbers());
        let known = self.numbers();
        doubted.retain(|number| !known.contains(number));
        *self.doubted() = doubted;
    }

    /// Whether files are there that perhaps nothing refers to.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.doubted().is_empty()
    }

    /// A commit is durable: what was in doubt before it is what it refers to, or nothing does.
    pub(crate) fn end_doubt(&self) {
        let known = self.numbers();
        let doubted = std::mem::take(&mut *self.doubted());
        doubted.into_iter().filter(|number| !known.contains(number)).for_each(|number| self.shelf.remove(number));
    }

    /// Removes the files that were made for it: it was never an index.
    pub(crate) fn remove_own(&self) {
        *self.writer() = None;
        for number in self.own.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.shelf.remove(number);
        }
    }

    /// Removes the files that another one does not refer to, which has taken its place. Snapshots keep them as long as they
    /// live.
    pub(crate) fn remove_all_but(&self, other: &Self) {
        let kept = other.numbers();
        let mut all = self.numbers();
        all.append(&mut self.doubted());
        all.into_iter().filter(|number| !kept.contains(number)).for_each(|number| self.shelf.remove(number));
    }

    /// Reads a value.
    pub(crate) fn read(&self, key: &[u8], version: u64, place: &Place) -> Result<Vec<u8>, StoreError> {
        let name = || self.shelf.path(place.file).display().to_string();
        let read = self.file(place.file).map(|file| {
            let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(usize::MAX)];
            file.read_exact_at(place.at, &mut bytes).map(|()| bytes)
        });
        let what = match read {
            Some(Ok(bytes)) if checksum(key, version, &bytes) == place.sum => return Ok(bytes),
            Some(Ok(_)) => "a value is not what was written",
            Some(Err(source)) if source.kind() == io::ErrorKind::UnexpectedEof => "it ends before a value does",
            Some(Err(source)) => return Err(from_io(&name(), source)),
            None => "a value of the index lies there, and the file is missing",
        };
        self.shelf.refuse(place, key, version, what);
        Err(StoreError::Damaged { name: name(), what: format!("at offset {}: {what}", place.at) })
    }
}
