//! The index behind the log: an embedded engine (redb) on the disk door, which takes a whole generation in one commit.
//!
//! It is never what a write waits for. The engine does not check its pages when it reads them; `pages.rs` does that below
//! it, and each value lies after the version that wrote it and a checksum over key, version and value. `quick_repair`
//! makes opening after a crash independent of size. Deliberately absent: choosing when anything happens (`tend.rs` does).

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};
use tresor_storage::machine::{Applied, Position};
use tresor_storage::{RawKey, StoreError, Stored, Version};

use crate::backend::DoorBackend;
use crate::memory::Frozen;
use crate::pages::{Compared, Pages};
use crate::takeover::{Change, PREFIX_BYTES, append, checksum, take_over};
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
/// What it knows of the cluster, by name; the table is there when there is one.
const CLUSTER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("cluster");
/// Who is in it.
const MEMBERSHIP: &str = "membership";

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

    /// Makes changes, which come in the order of keys, and counts what is live then.
    fn make(&mut self, values: &mut takeover::Values<'_>, changes: &[Change<'_>]) -> Result<(), redb::Error> {
        for (key, _, bytes) in changes {
            if let Some(bytes) = bytes {
                self.count += 1;
                self.live_bytes += (key.as_bytes().len() + bytes.len()) as u64;
            }
        }
        take_over(values, changes, |key, before| {
            self.count = self.count.saturating_sub(1);
            let bytes = (key.as_bytes().len() + before).saturating_sub(PREFIX_BYTES) as u64;
            self.live_bytes = self.live_bytes.saturating_sub(bytes);
        })
    }
}

/// The values as they were at one version.
type Values = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// An open index.
pub(crate) struct Index {
    /// `None` only while it is being closed.
    database: Option<Database>,
    pages: Arc<Pages>,
    /// Its number: each that is built anew has the next one.
    pub(crate) generation: u64,
    name: String,
    /// Nobody else may open the directory before the engine has written its last.
    _lock: Arc<dyn DiskFile>,
}

/// The index as it was at one version.
pub(crate) struct IndexView {
    /// `None` only while it is being dropped.
    values: Option<Values>,
    pub(crate) facts: Facts,
    pub(crate) membership: Vec<u8>,
    pub(crate) index: Arc<Index>,
}

/// Where a copy, or a pass over what there is, has come to.
pub(crate) enum Reached {
    /// Up to and with this key.
    Key(Vec<u8>),
    /// There is nothing more.
    End,
}

/// A value, and the batch that wrote it; `None` when it is not what was written.
fn parse<'v>(key: &[u8], value: &'v [u8]) -> Option<(Version, &'v [u8])> {
    let (version, rest) = value.split_first_chunk::<8>()?;
    let (sum, bytes) = rest.split_first_chunk::<8>()?;
    let version = u64::from_be_bytes(*version);
    (checksum(key, version, bytes) == u64::from_be_bytes(*sum)).then_some((Version(version), bytes))
}

impl Index {
    /// Opens an index, or makes an empty one.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        how: Open,
        generation: u64,
        limits: &Limits,
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
        let index = Self { database: Some(database), pages, generation, name, _lock: Arc::clone(lock) };
        if how == Open::New {
            index.change(true, &[], |_, _| Ok(()))?;
        }
        Ok(Arc::new(index))
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }

    /// How much of the disk it takes.
    pub(crate) fn occupied(&self) -> Result<u64, StoreError> {
        self.pages.occupied().map_err(|source| from_io(&self.name, source))
    }

    /// What is wrong with its file, if a page of it was refused.
    pub(crate) fn damage(&self) -> Option<StoreError> {
        self.pages.damaged_at().map(|at| damaged(&self.name, at))
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
            let (values, facts) = (Some(read.open_table(VALUES)?), facts_in(&table)?);
            Ok(Arc::new(IndexView { values, facts, membership, index: Arc::clone(self) }))
        })
    }

    /// One commit.
    fn change(
        &self,
        is_last: bool,
        membership: &[u8],
        change: impl FnOnce(&mut takeover::Values<'_>, &mut Facts) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        fenced(&self.name, &self.pages, || {
            let mut write = self.database()?.begin_write()?;
            write.set_durability(Durability::Immediate).map_err(|_| redb::Error::PreviousIo)?;
            write.set_quick_repair(is_last);
            {
                let mut table = write.open_table(FACTS)?;
                let mut facts = facts_in(&table)?;
                change(&mut write.open_table(VALUES)?, &mut facts)?;
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
        })
    }

    /// Takes over a frozen generation, of it only keys up to `limit` when one is given.
    pub(crate) fn absorb(&self, frozen: &Frozen, limit: Option<&[u8]>) -> Result<(), StoreError> {
        self.change(limit.is_none(), &frozen.end.membership, |values, facts| {
            frozen.generation.in_order(|changes| {
                let end =
                    limit.map_or(changes.len(), |limit| changes.partition_point(|(key, ..)| key.as_bytes() <= limit));
                facts.make(values, changes.get(..end).unwrap_or_default())
            })?;
            (facts.version, facts.position) = (frozen.end.version, frozen.end.position);
            Ok(())
        })
    }

    /// Copies values from another index, those after `from`, about so many bytes.
    pub(crate) fn copy(&self, other: &IndexView, from: Option<&[u8]>, bytes_max: usize) -> Result<Reached, StoreError> {
        let mut reached = Reached::End;
        self.change(false, &[], |values, facts| {
            let start = from.map_or(Bound::Unbounded, Bound::Excluded);
            let mut copied = 0;
            append(values, other.values()?.range::<&[u8]>((start, Bound::Unbounded))?, |key, value_bytes| {
                facts.count += 1;
                facts.live_bytes += (key.len() + value_bytes).saturating_sub(PREFIX_BYTES) as u64;
                copied += key.len() + value_bytes;
                let is_enough = copied >= bytes_max;
                if is_enough {
                    reached = Reached::Key(key.to_vec());
                }
                is_enough
            })
        })?;
        Ok(reached)
    }

    /// Adds values of a state, in the order of keys.
    pub(crate) fn add(&self, added: &[(RawKey, Stored)]) -> Result<(), StoreError> {
        let changes: Vec<Change<'_>> =
            added.iter().map(|(key, stored)| (key, stored.version.0, Some(stored.bytes.as_slice()))).collect();
        self.change(false, &[], |values, facts| facts.make(values, &changes))
    }

    /// Ends a state that was taken over: from now on it is an index like any other.
    pub(crate) fn finish_state(&self, state: &Applied) -> Result<(), StoreError> {
        let occupied = self.occupied()?;
        self.change(true, &state.membership, |_, facts| {
            (facts.version, facts.position) = (state.version, state.position);
            facts.begins_behind = state.position.index;
            facts.built_permille = occupied.saturating_mul(1000) / facts.live_bytes.max(1);
            Ok(())
        })
    }

    /// Ends a copy: from now on it is an index like any other.
    pub(crate) fn finish_copy(&self, original: &IndexView) -> Result<(), StoreError> {
        let occupied = self.occupied()?;
        self.change(true, &original.membership, |_, facts| {
            let original = &original.facts;
            if (facts.count, facts.live_bytes) != (original.count, original.live_bytes) {
                return Err(redb::Error::Corrupted("the copy holds something else than the original".to_owned()));
            }
            (facts.version, facts.position) = (original.version, original.position);
            facts.begins_behind = original.begins_behind;
            facts.built_permille = occupied.saturating_mul(1000) / facts.live_bytes.max(1);
            Ok(())
        })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
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

impl IndexView {
    /// What a machine holds with what is here.
    pub(crate) fn applied(&self) -> Applied {
        Applied { version: self.facts.version, position: self.facts.position, membership: self.membership.clone() }
    }

    /// The value of a key.
    pub(crate) fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        self.look(key, |version, bytes| Stored { version, bytes: bytes.to_vec() })
    }

    /// The batch that wrote a key.
    pub(crate) fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        self.look(key, |version, _| version)
    }

    /// Reads values and shows them to nobody, those after `from`, about so many bytes.
    pub(crate) fn pass_over(&self, from: Option<&[u8]>, bytes_max: usize) -> Result<Reached, StoreError> {
        fenced(&self.index.name, &self.index.pages, || {
            let start = from.map_or(Bound::Unbounded, Bound::Excluded);
            let mut bytes = 0;
            for entry in self.values()?.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                bytes += key.value().len() + value.value().len();
                if bytes >= bytes_max {
                    return Ok(Reached::Key(key.value().to_vec()));
                }
            }
            Ok(Reached::End)
        })
    }

    fn values(&self) -> Result<&Values, redb::Error> {
        self.values.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }

    fn look<T>(&self, key: &RawKey, see: impl FnOnce(Version, &[u8]) -> T) -> Result<Option<T>, StoreError> {
        let found = fenced(&self.index.name, &self.index.pages, || {
            let Some(guard) = self.values()?.get(key.as_bytes())? else { return Ok(None) };
            Ok(Some(parse(key.as_bytes(), guard.value()).map(|(version, bytes)| see(version, bytes))))
        });
        match found? {
            None => Ok(None),
            Some(Some(seen)) => Ok(Some(seen)),
            Some(None) => Err(self.not_what_was_written()),
        }
    }

    fn not_what_was_written(&self) -> StoreError {
        StoreError::Damaged { name: self.index.name.clone(), what: "a value is not what was written".to_owned() }
    }

    /// The values behind a key, in the order of keys: about so many bytes, and one at least if there is any.
    pub(crate) fn page(
        &self,
        after: Option<&RawKey>,
        bytes_max: usize,
    ) -> Result<VecDeque<(RawKey, Stored)>, StoreError> {
        let mut is_whole = true;
        let page = fenced(&self.index.name, &self.index.pages, || {
            let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
            let (mut page, mut bytes) = (VecDeque::new(), 0);
            for entry in self.values()?.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                let found = RawKey::new(key.value()).zip(parse(key.value(), value.value()));
                let Some((key, (version, value))) = found else {
                    is_whole = false;
                    break;
                };
                bytes += key.as_bytes().len() + value.len();
                page.push_back((key, Stored { version, bytes: value.to_vec() }));
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(page)
        })?;
        if is_whole { Ok(page) } else { Err(self.not_what_was_written()) }
    }
}

impl Drop for IndexView {
    fn drop(&mut self) {
        // Ends the engine's transaction, which takes locks that a panic of it may have left poisoned.
        let values = self.values.take();
        drop(fenced(&self.index.name, &self.index.pages, || {
            drop(values);
            Ok(())
        }));
    }
}

/// Turns errors of the engine, and panics on damaged pages, into errors of the store. Everything that the engine is asked
/// goes through here, the dropping of what it gave out included.
fn fenced<T>(name: &str, pages: &Pages, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
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
    StoreError::Damaged { name: name.to_owned(), what: format!("at offset {at}: a page is not what was written") }
}
