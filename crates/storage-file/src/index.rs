//! The index behind the log: an embedded engine (redb) on the disk door, which takes a whole generation in one commit.
//!
//! It is never what a write waits for. The engine does not check its pages when it reads them; `pages.rs` does that below
//! it, and each value lies after the version that wrote it and a checksum over key, version and value, or beside the tree
//! in a file (`beside.rs`) when it is not small. `quick_repair` makes opening after a crash independent of size.
//! Deliberately absent: choosing when anything happens (`tend.rs` does).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};
use tresor_storage::machine::{Applied, Position};
use tresor_storage::{RawKey, StoreError, Stored, Version};

use crate::backend::DoorBackend;
use crate::beside::{Beside, Filled, Place, Shelf};
use crate::memory::Frozen;
use crate::pages::{Compared, Pages};
use crate::takeover::{Change, Copied, Laid, Lying, append, take_over};
use crate::view::{IndexView, Reached};
use crate::{Limits, from_io, takeover};

const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
/// What the index knows of itself, by name.
const FACTS: TableDefinition<'static, &str, u64> = TableDefinition::new("facts");
/// The last batch that is in it.
const VERSION: &str = "version";
/// Bytes of keys and values.
const LIVE_BYTES: &str = "live bytes";
/// How many values there are.
const COUNT: &str = "count";
/// How much of the disk it took, for each thousand live bytes, when it was built.
const BUILT_PERMILLE: &str = "built permille";
/// The term of the last entry that is in it.
const TERM: &str = "term";
/// The number of that entry.
const INDEX: &str = "index";
/// The last entry that is void, because another state took the place of what was before.
const BEGINS_BEHIND: &str = "begins behind";
/// The files beside it: how much of each is referred to, and how long it is. The table is there when there is a file.
const FILES: TableDefinition<'static, u32, (u64, u64)> = TableDefinition::new("files");
/// What it knows of the cluster, by name; the table is there when there is one.
const CLUSTER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("cluster");
/// Who is in it.
const MEMBERSHIP: &str = "membership";
/// What is said of a page that is refused.
pub(crate) const WRONG_PAGE: &str = "a page is not what was written";

/// What the index knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) position: Position,
    pub(crate) live_bytes: u64,
    pub(crate) count: u64,
    pub(crate) built_permille: u64,
    pub(crate) begins_behind: u64,
}

impl Facts {
    /// How much a value takes with its key, about.
    pub(crate) fn mean_bytes(&self) -> u64 {
        self.live_bytes.checked_div(self.count).unwrap_or(0)
    }

    /// How much of the disk it takes, for each thousand live bytes; or for each thousand of `tellable_bytes` when fewer are
    /// live: what one takes that holds next to nothing says nothing of what it takes when it has grown.
    pub(crate) fn built_of(&self, occupied: u64, tellable_bytes: u64) -> u64 {
        occupied.saturating_mul(1000) / self.live_bytes.max(tellable_bytes).max(1)
    }
}

/// What is counted while a commit is made.
struct Books {
    facts: Facts,
    files: BTreeMap<u32, Filled>,
}

impl Books {
    fn add(&mut self, key: &[u8], lying: &Lying<'_>) {
        let length = match lying {
            Lying::Here(bytes) => bytes.len() as u64,
            Lying::Beside(place) => {
                self.files.entry(place.file).or_default().live += u64::from(place.length);
                u64::from(place.length)
            }
        };
        self.facts.count += 1;
        self.facts.live_bytes += key.len() as u64 + length;
    }

    fn remove(&mut self, key: &[u8], spelled: &[u8]) {
        let length = match takeover::read(spelled) {
            None => 0,
            Some((_, _, Lying::Here(bytes))) => bytes.len() as u64,
            Some((_, _, Lying::Beside(place))) => {
                let filled = self.files.entry(place.file).or_default();
                filled.live = filled.live.saturating_sub(u64::from(place.length));
                u64::from(place.length)
            }
        };
        self.facts.count = self.facts.count.saturating_sub(1);
        self.facts.live_bytes = self.facts.live_bytes.saturating_sub(key.len() as u64 + length);
    }

    /// Makes changes, which come in the order of keys, and counts what is live then.
    fn make(&mut self, values: &mut takeover::Values<'_>, changes: &[Laid<'_>]) -> Result<(), redb::Error> {
        for (key, _, lying) in changes {
            if let Some(lying) = lying {
                self.add(key.as_bytes(), lying);
            }
        }
        take_over(values, changes, |key, before| self.remove(key.as_bytes(), before))
    }

    /// Everything up to the end of a generation is in.
    fn ends_with(&mut self, frozen: &Frozen) {
        (self.facts.version, self.facts.position) = (frozen.end.version, frozen.end.position);
    }

    /// How long the files are that are shared with another index.
    fn note_lengths(&mut self, other: &IndexView) {
        for (number, filled) in &mut self.files {
            filled.length = filled.length.max(other.files.get(number).map_or(0, |filled| filled.length));
        }
    }

    /// Notes how large it is when it was built, the tree of which takes so much.
    fn note_built(&mut self, tree_bytes: u64, tellable_bytes: u64) {
        self.facts.built_permille = self.facts.built_of(tree_bytes + beside_bytes(&self.files), tellable_bytes);
    }
}

/// How much of the disk files beside the tree take.
pub(crate) fn beside_bytes(files: &BTreeMap<u32, Filled>) -> u64 {
    files.values().map(|filled| filled.length).sum()
}

/// Changes with where each value lies.
fn laid<'c>(changes: &[Change<'c>], places: &[Option<Place>]) -> Vec<Laid<'c>> {
    let placed = changes.iter().zip(places);
    placed
        .map(|((key, version, bytes), place)| {
            let lying = bytes.map(|bytes| place.map_or(Lying::Here(bytes), Lying::Beside));
            (*key, *version, lying)
        })
        .collect()
}

/// An open index.
pub(crate) struct Index {
    /// `None` only while it is being closed.
    database: Option<Database>,
    pub(crate) pages: Arc<Pages>,
    pub(crate) beside: Arc<Beside>,
    limits: Limits,
    /// Whether it has come to no end yet: what was put beside it goes with it.
    is_unfinished: AtomicBool,
    /// Its number: each that is built anew has the next one.
    pub(crate) generation: u64,
    pub(crate) name: String,
    /// Nobody else may open the directory before the engine has written its last.
    _lock: Arc<dyn DiskFile>,
}

impl Index {
    /// Opens an index, or makes an empty one.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        how: Open,
        generation: u64,
        limits: &Limits,
        shelf: &Arc<Shelf>,
        lock: &Arc<dyn DiskFile>,
    ) -> Result<Arc<Self>, StoreError> {
        let name = path.display().to_string();
        let file = disk.open(path, how).map_err(|source| from_io(&name, source))?;
        // The engine would take an empty file for a new one; but an index is never empty, and what was in it is lost.
        if how != Open::New && file.length().map_err(|source| from_io(&name, source))? == 0 {
            return Err(StoreError::Damaged { name, what: "the file is empty".to_owned() });
        }
        let pages = if how == Open::New { Pages::create(&name, file).map(Some) } else { Pages::open(&name, file) };
        let Some(pages) = pages.map_err(|source| from_io(&name, source))? else {
            return Err(StoreError::Damaged { name, what: "at offset 0: it does not begin as an index".to_owned() });
        };
        let mut builder = redb::Builder::new();
        builder.set_cache_size(limits.cache_bytes);
        let backend = DoorBackend::new(Arc::clone(&pages));
        let database = fenced(&name, &pages, || builder.create_with_backend(backend).map_err(Into::into))?;
        let (database, beside, lock) = (Some(database), Arc::new(Beside::new(shelf)), Arc::clone(lock));
        let is_unfinished = AtomicBool::new(how == Open::New);
        let index = Self { database, pages, beside, limits: *limits, is_unfinished, generation, name, _lock: lock };
        if how == Open::New {
            index.change(true, &[], |_, _| Ok(()))?;
        } else {
            let files = fenced(&index.name, &index.pages, || files_in(&index.database()?.begin_read()?))?;
            index.beside.open(&files)?;
        }
        Ok(Arc::new(index))
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }

    /// How much of the disk the tree takes.
    pub(crate) fn occupied(&self) -> Result<u64, StoreError> {
        self.pages.occupied().map_err(|source| from_io(&self.name, source))
    }

    /// Where a page of it lies that was refused, if there is one.
    pub(crate) fn damaged_at(&self) -> Option<u64> {
        self.pages.damaged_at()
    }

    /// The same as a refusal.
    pub(crate) fn refuse_when_damaged(&self) -> Result<(), StoreError> {
        self.damaged_at().map_or(Ok(()), |at| Err(damaged(&self.name, at)))
    }

    /// Compares a group of its pages with their checksums; for whoever else does not write meanwhile.
    pub(crate) fn compare(&self, group: u64) -> Result<Option<Compared>, StoreError> {
        self.pages.compare(group).map_err(|source| from_io(&self.name, source))
    }

    /// Whether it must be opened again before it does anything more.
    pub(crate) fn has_failed(&self) -> bool {
        self.pages.has_failed()
    }

    /// Lets go of the file after a failure, so that it can be opened again while snapshots still hold on to this.
    pub(crate) fn abandon(&self) {
        self.pages.close();
    }

    /// The index as it is now.
    pub(crate) fn view(self: &Arc<Self>) -> Result<Arc<IndexView>, StoreError> {
        fenced(&self.name, &self.pages, || {
            let read = self.database()?.begin_read()?;
            let table = read.open_table(FACTS)?;
            let membership = match read.open_table(CLUSTER) {
                Ok(cluster) => cluster.get(MEMBERSHIP)?.map_or_else(Vec::new, |bytes| bytes.value().to_vec()),
                Err(redb::TableError::TableDoesNotExist(_)) => Vec::new(),
                Err(other) => return Err(other.into()),
            };
            let (values, facts, files) = (Some(read.open_table(VALUES)?), facts_in(&table)?, files_in(&read)?);
            Ok(Arc::new(IndexView { values, facts, files, membership, index: Arc::clone(self) }))
        })
    }

    /// One commit, and before it the values beside the tree that it refers to.
    fn change(
        &self,
        is_last: bool,
        membership: &[u8],
        change: impl FnOnce(&mut takeover::Values<'_>, &mut Books) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let changed = fenced(&self.name, &self.pages, || {
            let mut write = self.database()?.begin_write()?;
            write.set_durability(Durability::Immediate).map_err(|_| redb::Error::PreviousIo)?;
            write.set_quick_repair(is_last);
            {
                let mut table = write.open_table(FACTS)?;
                let before = match write.open_table(FILES) {
                    Ok(table) => filled_in(&table)?,
                    Err(error) => return Err(error.into()),
                };
                let mut books = Books { facts: facts_in(&table)?, files: before.clone() };
                change(&mut write.open_table(VALUES)?, &mut books)?;
                if let Some((number, length)) = self.beside.settle()? {
                    books.files.entry(number).or_default().length = length;
                }
                let mut files = write.open_table(FILES)?;
                for (number, filled) in books.files.iter().filter(|(number, filled)| before.get(number) != Some(filled))
                {
                    files.insert(number, (filled.live, filled.length))?;
                }
                let facts = books.facts;
                let named = [
                    (VERSION, facts.version.0),
                    (TERM, facts.position.term),
                    (INDEX, facts.position.index),
                    (LIVE_BYTES, facts.live_bytes),
                    (COUNT, facts.count),
                    (BUILT_PERMILLE, facts.built_permille),
                    (BEGINS_BEHIND, facts.begins_behind),
                ];
                for (name, fact) in named {
                    table.insert(name, fact)?;
                }
            }
            if !membership.is_empty() {
                write.open_table(CLUSTER)?.insert(MEMBERSHIP, membership)?;
            }
            write.commit()?;
            Ok(())
        });
        if changed.is_err() {
            self.beside.abandon_writer();
        }
        changed
    }

    /// Appends what is not small of changes to a file beside the tree; tells where each lies that is there.
    fn lay(&self, changes: &[Change<'_>]) -> std::io::Result<Vec<Option<Place>>> {
        let place = |(key, version, bytes): &Change<'_>| match bytes {
            Some(bytes) if bytes.len() >= self.limits.beside_bytes => {
                self.beside.put(key.as_bytes(), *version, bytes).map(Some)
            }
            _ => Ok(None),
        };
        changes.iter().map(place).collect()
    }

    /// What comes next goes into another file beside the tree when this one has its share of what is live.
    fn turn(&self, live_bytes: u64) {
        self.beside.turn(self.limits.value_file_bytes_at(live_bytes));
    }

    /// A commit that changes nothing, when files are there that one may refer to of which the outcome is not known: before
    /// it is durable no more are made, and then what nothing refers to is removed.
    pub(crate) fn settle_doubt(&self) -> Result<(), StoreError> {
        if self.beside.is_in_doubt() {
            self.change(true, &[], |_, _| Ok(()))?;
            self.beside.end_doubt();
        }
        Ok(())
    }

    /// Takes over a frozen generation; tells where each of its values lies that is not small.
    pub(crate) fn absorb(&self, frozen: &Frozen) -> Result<Vec<Option<Place>>, StoreError> {
        let mut places = Vec::new();
        self.change(true, &frozen.end.membership, |values, books| {
            self.turn(books.facts.live_bytes);
            frozen.generation.in_order(|changes| {
                places = self.lay(changes)?;
                books.make(values, &laid(changes, &places))
            })?;
            books.ends_with(frozen);
            Ok(())
        })?;
        Ok(places)
    }

    /// Does what another index did, whose files it shares from then on, with keys up to a limit.
    pub(crate) fn follow(
        &self,
        other: &IndexView,
        frozen: &Frozen,
        places: &[Option<Place>],
        limit: &[u8],
    ) -> Result<(), StoreError> {
        let files: BTreeSet<u32> = places.iter().flatten().map(|place| place.file).collect();
        files.iter().for_each(|file| self.beside.share(&other.index.beside, *file));
        self.change(false, &frozen.end.membership, |values, books| {
            frozen.generation.in_order(|changes| {
                let end = changes.partition_point(|(key, ..)| key.as_bytes() <= limit);
                books.make(values, &laid(changes.get(..end).unwrap_or_default(), places))
            })?;
            books.note_lengths(other);
            books.ends_with(frozen);
            Ok(())
        })
    }

    /// Copies entries from another index, those after `from`, about so many bytes; and the values out of some of its files.
    pub(crate) fn copy(
        &self,
        other: &IndexView,
        emptied: &BTreeSet<u32>,
        from: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Reached, StoreError> {
        let mut reached = Reached::End;
        let beside = &other.index.beside;
        self.turn(other.facts.live_bytes);
        let mut refused = None;
        let copied = self.change(false, &[], |values, books| {
            let start = from.map_or(Bound::Unbounded, Bound::Excluded);
            let mut copied = 0;
            append(values, other.values()?.range::<&[u8]>((start, Bound::Unbounded))?, |key, spelled| {
                let wrong = || redb::Error::Corrupted("a value is not what was written".to_owned());
                let (version, _, lying) = takeover::read(spelled).ok_or_else(wrong)?;
                copied += key.len() + spelled.len();
                let moved = match lying {
                    Lying::Beside(place) if emptied.contains(&place.file) => {
                        let bytes = beside.read(key, version.0, &place).map_err(|error| {
                            refused = Some(error);
                            redb::Error::PreviousIo
                        })?;
                        copied += bytes.len();
                        Some(self.beside.put(key, version.0, &bytes)?)
                    }
                    Lying::Beside(place) => {
                        self.beside.share(beside, place.file);
                        None
                    }
                    // From before values lay beside.
                    Lying::Here(bytes) if bytes.len() >= self.limits.beside_bytes => {
                        Some(self.beside.put(key, version.0, bytes)?)
                    }
                    Lying::Here(_) => None,
                };
                books.add(key, &moved.map_or(lying, Lying::Beside));
                let is_enough = copied >= bytes_max;
                if is_enough {
                    reached = Reached::Key(key.to_vec());
                }
                Ok(Copied { moved: moved.map(|place| (version.0, place)), is_enough })
            })?;
            books.note_lengths(other);
            Ok(())
        });
        match refused {
            Some(error) => Err(error),
            None => copied.map(|()| reached),
        }
    }

    /// Adds values of a state, in the order of keys.
    pub(crate) fn add(&self, added: &[(RawKey, Stored)]) -> Result<(), StoreError> {
        let changes: Vec<Change<'_>> =
            added.iter().map(|(key, stored)| (key, stored.version.0, Some(stored.bytes.as_slice()))).collect();
        self.change(false, &[], |values, books| {
            self.turn(books.facts.live_bytes);
            let places = self.lay(&changes)?;
            books.make(values, &laid(&changes, &places))
        })
    }

    /// Ends a state that was taken over: from now on it is an index like any other.
    pub(crate) fn finish_state(&self, state: &Applied) -> Result<(), StoreError> {
        let occupied = self.occupied()?;
        self.change(true, &state.membership, |_, books| {
            (books.facts.version, books.facts.position) = (state.version, state.position);
            books.facts.begins_behind = state.position.index;
            books.note_built(occupied, self.limits.rebuild_bytes_min);
            Ok(())
        })?;
        self.is_unfinished.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends a copy: from now on it is an index like any other.
    pub(crate) fn finish_copy(&self, original: &IndexView) -> Result<(), StoreError> {
        let occupied = self.occupied()?;
        self.change(true, &original.membership, |_, books| {
            let original = &original.facts;
            if (books.facts.count, books.facts.live_bytes) != (original.count, original.live_bytes) {
                return Err(redb::Error::Corrupted("the copy holds something else than the original".to_owned()));
            }
            (books.facts.version, books.facts.position) = (original.version, original.position);
            books.facts.begins_behind = original.begins_behind;
            books.note_built(occupied, self.limits.rebuild_bytes_min);
            Ok(())
        })?;
        self.is_unfinished.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if self.is_unfinished.load(Ordering::Relaxed) {
            self.beside.remove_own();
        }
        // The engine writes when it is closed, and may panic on a damaged file: by then everything that it holds is
        // durable, and the log has the rest.
        let database = self.database.take();
        drop(fenced(&self.name, &self.pages, || {
            drop(database);
            Ok(())
        }));
        // What the engine wrote without a sync is nothing that it needs; but it may come across it.
        drop(self.pages.write_sums());
    }
}

/// What the index says of itself; one from before entries had a number of their own has that of the batch.
fn facts_in(table: &impl ReadableTable<&'static str, u64>) -> Result<Facts, redb::Error> {
    let fact = |name: &str| Ok::<Option<u64>, redb::Error>(table.get(name)?.map(|fact| fact.value()));
    let version = fact(VERSION)?.unwrap_or(0);
    Ok(Facts {
        version: Version(version),
        position: Position { term: fact(TERM)?.unwrap_or(0), index: fact(INDEX)?.unwrap_or(version) },
        live_bytes: fact(LIVE_BYTES)?.unwrap_or(0),
        count: fact(COUNT)?.unwrap_or(0),
        built_permille: fact(BUILT_PERMILLE)?.unwrap_or(0),
        begins_behind: fact(BEGINS_BEHIND)?.unwrap_or(0),
    })
}

/// What the index says of the files beside it.
fn filled_in(table: &impl ReadableTable<u32, (u64, u64)>) -> Result<BTreeMap<u32, Filled>, redb::Error> {
    let mut files = BTreeMap::new();
    for entry in table.iter()? {
        let (number, filled) = entry?;
        let (live, length) = filled.value();
        files.insert(number.value(), Filled { live, length });
    }
    Ok(files)
}

/// The same of one that may be from before there were such files.
fn files_in(read: &redb::ReadTransaction) -> Result<BTreeMap<u32, Filled>, redb::Error> {
    match read.open_table(FILES) {
        Ok(table) => filled_in(&table),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(BTreeMap::new()),
        Err(other) => Err(other.into()),
    }
}

/// Turns errors of the engine, and panics on damaged pages, into errors of the store. Everything that the engine is asked
/// goes through here, the dropping of what it gave out included.
pub(crate) fn fenced<T>(
    name: &str,
    pages: &Pages,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    let what = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        // So it names a file that does not begin as one of its own.
        Ok(Err(redb::Error::Io(source))) if source.kind() == std::io::ErrorKind::InvalidData => source.to_string(),
        Ok(Err(redb::Error::Io(source))) => return Err(from_io(name, source)),
        Ok(Err(redb::Error::PreviousIo)) => {
            let source = std::io::Error::other("it failed before, and was not opened again yet");
            return Err(StoreError::Io { name: name.to_owned(), source });
        }
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => return Err(StoreError::Locked { name: name.to_owned() }),
        Ok(Err(other)) => other.to_string(),
        Err(_) => "a page cannot be read".to_owned(),
    };
    // What the engine stumbles over is mostly a page that was refused, and then it is known which one.
    Err(pages.damaged_at().map_or_else(|| StoreError::Damaged { name: name.to_owned(), what }, |at| damaged(name, at)))
}

fn damaged(name: &str, at: u64) -> StoreError {
    StoreError::Damaged { name: name.to_owned(), what: format!("at offset {at}: {WRONG_PAGE}") }
}
