//! A disk inside the process that forgets what was not synced, and fails when told to.
//!
//! A crash keeps, per file, everything up to the last sync, and of each later write what the test's seed chooses: a
//! prefix, or any of its sectors. Torn, lost and reordered writes are what real disks do. Deliberately absent:
//! reordering between a write and a completed sync (no disk that honours syncs does that).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile, FileIdentity, Open};

/// In what a file grows.
const BLOCK_BYTES: usize = 4096;
/// What a disk writes at once.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLength(u64),
}

#[derive(Default, Clone)]
struct Contents {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Contents {
    fn apply(bytes: &mut Vec<u8>, change: &Change, limit: usize) {
        match change {
            Change::Write { offset, bytes: written } => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let written = written.get(..limit.min(written.len())).unwrap_or_default();
                let end = start.saturating_add(written.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(target) = bytes.get_mut(start..end) {
                    target.copy_from_slice(written);
                }
            }
            Change::SetLength(length) => bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
        }
    }
}

type SharedContents = Arc<Mutex<Contents>>;

#[derive(Default)]
struct State {
    /// Names as the running process sees them.
    names: BTreeMap<PathBuf, SharedContents>,
    /// Names that survive a crash.
    durable_names: BTreeMap<PathBuf, SharedContents>,
    locked: BTreeSet<PathBuf>,
    steps: u64,
    syncs: u64,
    fail_from_step: Option<u64>,
    /// The one changing call that fails, and how.
    fail_at_step: Option<(u64, io::ErrorKind)>,
    /// Changing calls below this directory fail in this way.
    failing: Option<(PathBuf, io::ErrorKind)>,
    /// The directory whose names nobody may change.
    read_only: Option<PathBuf>,
    /// What is told of free space; `None` is without end.
    free: Option<u64>,
    generation: u64,
}

/// The in-process disk; cloning the `Arc` around it shares it.
#[derive(Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    /// Held while a process does something, and while one is killed: nothing is half done then.
    killing: RwLock<()>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a file or a directory was synced so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// How many changing calls (writes, syncs, renames ...) were made so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Every changing call from the given step on fails, as if the power had gone there; `None` heals.
    pub fn fail_from_step(&self, step: Option<u64>) {
        self.state().fail_from_step = step;
    }

    /// The changing call with this number fails in this way, after having done half of its work if it is a write; those
    /// before and after it do not.
    pub fn fail_at_step(&self, step: u64, kind: io::ErrorKind) {
        self.state().fail_at_step = Some((step, kind));
    }

    /// What [`Disk::free_bytes`] tells from now on.
    pub fn set_free_bytes(&self, free: u64) {
        self.state().free = Some(free);
    }

    /// Every changing call on a file below `directory`, and opening one for writing, fails in this way from now on: the
    /// disk is full, was made read-only, or is gone. Other directories are as they were.
    pub fn fail_below(&self, directory: impl Into<PathBuf>, kind: io::ErrorKind) {
        self.state().failing = Some((directory.into(), kind));
    }

    /// From now on no file in `directory` can be created, renamed or removed; what is open is written to as before.
    pub fn make_read_only(&self, directory: impl Into<PathBuf>) {
        self.state().read_only = Some(directory.into());
    }

    /// Ends what [`MemoryDisk::fail_below`] or [`MemoryDisk::make_read_only`] began.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.failing, state.read_only) = (None, None);
    }

    /// Kills the process that uses the disk: its open handles die, what it wrote stays.
    pub fn kill_process(&self) {
        let _killing = self.killing.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.generation += 1;
        state.locked.clear();
    }

    /// The disk as the process that runs now has it: when that is killed, or the power goes, what is left of it can do
    /// nothing here any more, not even by a name.
    #[must_use]
    pub fn of_process(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(DiskOfProcess { disk: Arc::clone(self), generation: self.state().generation })
    }

    /// Whether the step has come from which on every changing call fails.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let state = self.state();
        state.fail_from_step.is_some_and(|from| state.steps >= from)
    }

    /// Loses power: open handles die, and of unsynced changes only what `keep` grants stays. `keep` is asked for
    /// each unsynced change in order, with its length in bytes, and answers how many bytes of it survived.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> usize) {
        self.lose_power(|durable, change| match change {
            Change::Write { bytes, .. } => {
                let kept = keep(bytes.len());
                if kept > 0 {
                    Contents::apply(durable, change, kept);
                }
            }
            Change::SetLength(_) => {
                if keep(1) > 0 {
                    Contents::apply(durable, change, usize::MAX);
                }
            }
        });
    }

    /// Loses power as a disk does that writes its sectors in any order: `keep` is asked for each sector of each unsynced
    /// write, so that the end of a write may survive its beginning, and a later write an earlier one.
    pub fn crash_by_sector(&self, mut keep: impl FnMut() -> bool) {
        self.lose_power(|durable, change| match change {
            Change::Write { offset, bytes } => {
                let mut at = *offset;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let to_the_border = SECTOR_BYTES - at % SECTOR_BYTES;
                    let length = usize::try_from(to_the_border).unwrap_or(usize::MAX).min(rest.len());
                    let (sector, after) = rest.split_at(length);
                    if keep() {
                        let part = Change::Write { offset: at, bytes: sector.to_vec() };
                        Contents::apply(durable, &part, usize::MAX);
                    }
                    at += length as u64;
                    rest = after;
                }
            }
            Change::SetLength(_) => {
                if keep() {
                    Contents::apply(durable, change, usize::MAX);
                }
            }
        });
    }

    fn lose_power(&self, mut survive: impl FnMut(&mut Vec<u8>, &Change)) {
        let _killing = self.killing.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        state.generation += 1;
        state.fail_from_step = None;
        state.fail_at_step = None;
        state.locked.clear();
        let survivors = state.durable_names.clone();
        for contents in survivors.values() {
            let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
            let mut durable = std::mem::take(&mut contents.durable);
            for change in std::mem::take(&mut contents.unsynced) {
                survive(&mut durable, &change);
            }
            contents.current.clone_from(&durable);
            contents.durable = durable;
        }
        // Handles of the old process keep their Arc; fresh cells make sure that they cannot touch the new state.
        let fresh: BTreeMap<PathBuf, SharedContents> = survivors
            .into_iter()
            .map(|(path, contents)| {
                let copy = contents.lock().unwrap_or_else(PoisonError::into_inner).clone();
                (path, Arc::new(Mutex::new(copy)))
            })
            .collect();
        state.names.clone_from(&fresh);
        state.durable_names = fresh;
    }

    /// Every file's current bytes, for scans for what must not be there.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.state()
            .names
            .iter()
            .map(|(path, contents)| {
                (path.clone(), contents.lock().unwrap_or_else(PoisonError::into_inner).current.clone())
            })
            .collect()
    }
}

fn step(state: &mut State, path: &Path) -> io::Result<()> {
    state.steps += 1;
    check(state, path)?;
    if let Some((at, kind)) = state.fail_at_step
        && state.steps == at
    {
        return Err(kind.into());
    }
    match state.fail_from_step {
        Some(from) if state.steps >= from => Err(io::Error::other("injected disk failure")),
        _ => Ok(()),
    }
}

fn check(state: &State, path: &Path) -> io::Result<()> {
    match &state.failing {
        Some((directory, kind)) if path.starts_with(directory) => Err((*kind).into()),
        _ => Ok(()),
    }
}

/// Whether the names in a directory may be changed.
fn check_names(state: &State, directory: Option<&Path>) -> io::Result<()> {
    let is_read_only = directory.is_some() && state.read_only.as_deref() == directory;
    if is_read_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

fn identity(state: &State, contents: &SharedContents) -> FileIdentity {
    let names = state.names.values().filter(|named| Arc::ptr_eq(named, contents)).count();
    let (file, names) = (u64::try_from(Arc::as_ptr(contents).addr()), u64::try_from(names));
    FileIdentity { device: 0, file: file.unwrap_or(u64::MAX), names: names.unwrap_or(u64::MAX) }
}

struct MemoryFile {
    path: PathBuf,
    contents: SharedContents,
    disk: Arc<Mutex<State>>,
    generation: u64,
    lock_held: Mutex<bool>,
}

impl MemoryFile {
    fn change(&self, mut change: Change) -> io::Result<()> {
        let outcome = {
            let mut state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            if state.generation != self.generation {
                return Err(io::Error::other("the process that opened this file is gone"));
            }
            let is_half_done = state.fail_at_step.is_some_and(|(at, _)| at == state.steps + 1);
            match (step(&mut state, &self.path), &mut change) {
                (Ok(()), _) => Ok(()),
                (Err(error), Change::Write { bytes, .. }) if is_half_done => {
                    bytes.truncate(bytes.len() / 2);
                    Err(error)
                }
                (Err(error), _) => return Err(error),
            }
        };
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        Contents::apply(&mut contents.current, &change, usize::MAX);
        contents.unsynced.push(change);
        outcome
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let held = *self.lock_held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if held && state.generation == self.generation {
            state.locked.remove(&self.path);
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = contents
            .current
            .get(start..start.saturating_add(out.len()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn length(&self) -> io::Result<u64> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(u64::try_from(contents.current.len()).unwrap_or(u64::MAX))
    }

    fn occupied(&self) -> io::Result<u64> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        // A block of zeros is taken for one that was never written.
        let is_used = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
        let blocks = contents.current.chunks(BLOCK_BYTES).filter(is_used).count();
        Ok(u64::try_from(blocks * BLOCK_BYTES).unwrap_or(u64::MAX))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(Change::SetLength(length))
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            if state.generation != self.generation {
                return Err(io::Error::other("the process that opened this file is gone"));
            }
            let is_last = state.fail_at_step.is_some_and(|(at, _)| at == state.steps + 1);
            if let Err(error) = step(&mut state, &self.path) {
                if is_last {
                    // As the kernel does: what could not be written is taken for written, and never tried again.
                    self.contents.lock().unwrap_or_else(PoisonError::into_inner).unsynced.clear();
                }
                return Err(error);
            }
            state.syncs += 1;
        }
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = std::mem::take(&mut contents.unsynced);
        for change in &changes {
            Contents::apply(&mut contents.durable, change, usize::MAX);
        }
        Ok(())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        Ok(identity(&self.disk.lock().unwrap_or_else(PoisonError::into_inner), &self.contents))
    }

    /// This disk has no modes to show.
    fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    fn lock_exclusive(&self) -> io::Result<()> {
        let mut state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.locked.insert(self.path.clone()) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        *self.lock_held.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if open != Open::Existing {
            check(&state, path)?;
        }
        let existing = state.names.get(path).cloned();
        let contents = match (existing, open) {
            (Some(_), Open::New) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (None, Open::Existing) => return Err(io::Error::from(io::ErrorKind::NotFound)),
            (Some(contents), _) => contents,
            (None, _) => {
                check_names(&state, path.parent())?;
                step(&mut state, path)?;
                let contents = SharedContents::default();
                state.names.insert(path.to_path_buf(), Arc::clone(&contents));
                contents
            }
        };
        Ok(Arc::new(MemoryFile {
            path: path.to_path_buf(),
            contents,
            disk: Arc::clone(&self.state),
            generation: state.generation,
            lock_held: Mutex::new(false),
        }))
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        Ok(self
            .state()
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// This disk has no links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_path_buf())
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let state = self.state();
        let contents = state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(identity(&state, contents))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        check_names(&state, to.parent())?;
        step(&mut state, to)?;
        let contents = state.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.names.insert(to.to_path_buf(), contents);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        check_names(&state, path.parent())?;
        step(&mut state, path)?;
        state.names.remove(path).map(drop).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        step(&mut state, directory)?;
        state.syncs += 1;
        let names: BTreeMap<PathBuf, SharedContents> = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(directory))
            .map(|(path, contents)| (path.clone(), Arc::clone(contents)))
            .collect();
        state.durable_names.retain(|path, _| path.parent() != Some(directory));
        state.durable_names.extend(names);
        Ok(())
    }

    fn check_writable(&self, directory: &Path) -> io::Result<()> {
        let state = self.state();
        check(&state, directory)?;
        check_names(&state, Some(directory))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let state = self.state();
        check(&state, directory)?;
        Ok(state.free.unwrap_or(u64::MAX))
    }
}

/// The disk in the hands of one process.
struct DiskOfProcess {
    disk: Arc<MemoryDisk>,
    generation: u64,
}

impl DiskOfProcess {
    /// Does something as the process, which is not killed in the middle of it.
    fn with<T>(&self, does: impl FnOnce(&MemoryDisk) -> io::Result<T>) -> io::Result<T> {
        let _alive = self.disk.killing.read().unwrap_or_else(PoisonError::into_inner);
        if self.disk.state().generation != self.generation {
            return Err(io::Error::other("the process is gone"));
        }
        does(&self.disk)
    }
}

impl Disk for DiskOfProcess {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|disk| disk.open(path, open))
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.with(|disk| disk.names(directory))
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.with(|disk| disk.create_directory(directory))
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.with(|disk| disk.resolve(path))
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        self.with(|disk| Disk::identity(disk, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|disk| disk.remove(path))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.with(|disk| disk.sync_directory(directory))
    }

    fn check_writable(&self, directory: &Path) -> io::Result<()> {
        self.with(|disk| disk.check_writable(directory))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.with(|disk| disk.free_bytes(directory))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_of_a_dead_process_reaches_no_file() {
        let disk = Arc::new(MemoryDisk::new());
        let path = Path::new("d/a");
        let before = disk.of_process();
        let file = before.open(path, Open::New).unwrap();
        disk.kill_process();
        assert!(before.open(path, Open::Existing).is_err() && before.rename(path, Path::new("d/b")).is_err());
        assert!(before.remove(path).is_err() && before.names(Path::new("d")).is_err());
        assert!(file.write_all_at(0, b"late").is_err());
        assert!(disk.of_process().open(path, Open::Existing).is_ok());
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_forgets_the_rest() {
        let disk = MemoryDisk::new();
        let path = Path::new("d/a");
        let file = disk.open(path, Open::New).unwrap();
        file.write_all_at(0, b"synced").unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("d")).unwrap();
        file.write_all_at(6, b"lost").unwrap();
        disk.crash(|_| 0);
        assert!(file.write_all_at(0, b"ghost").is_err());
        let reopened = disk.open(path, Open::Existing).unwrap();
        assert_eq!(reopened.length().unwrap(), 6);
        disk.open(Path::new("d/unsynced-name"), Open::New).unwrap();
        disk.crash(|_| 0);
        assert!(disk.open(Path::new("d/unsynced-name"), Open::Existing).is_err());
    }

    #[test]
    fn a_torn_write_keeps_a_prefix() {
        let disk = MemoryDisk::new();
        let path = Path::new("a");
        let file = disk.open(path, Open::New).unwrap();
        disk.sync_directory(Path::new("")).unwrap();
        file.write_all_at(0, b"abcdef").unwrap();
        disk.crash(|length| length / 2);
        let mut kept = vec![0; 3];
        disk.open(path, Open::Existing).unwrap().read_exact_at(0, &mut kept).unwrap();
        assert_eq!(kept, b"abc");
    }

    #[test]
    fn sectors_survive_in_any_order() {
        let disk = MemoryDisk::new();
        let path = Path::new("a");
        let file = disk.open(path, Open::New).unwrap();
        disk.sync_directory(Path::new("")).unwrap();
        file.write_all_at(100, &[7; 1000]).unwrap();
        let mut asked = 0;
        disk.crash_by_sector(|| {
            asked += 1;
            asked == 2
        });
        assert_eq!(asked, 3, "the write touches three sectors");
        let kept = disk.dump().remove(path).unwrap();
        assert_eq!(kept.len(), 1024);
        assert!(kept.iter().take(512).all(|byte| *byte == 0) && kept.iter().skip(512).all(|byte| *byte == 7));
    }

    #[test]
    fn a_sync_that_fails_once_loses_what_it_should_have_kept() {
        let disk = MemoryDisk::new();
        let path = Path::new("a");
        let file = disk.open(path, Open::New).unwrap();
        disk.sync_directory(Path::new("")).unwrap();
        file.write_all_at(0, b"lost").unwrap();
        disk.fail_at_step(disk.steps() + 1, io::ErrorKind::Other);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        disk.crash(|length| length);
        assert!(disk.dump()[path].is_empty());
    }
}
