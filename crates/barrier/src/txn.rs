//! A transaction: what it reads it reads at one version, what it writes only it sees until it is committed.
//!
//! Holding one blocks nobody, and dropping one undoes it. It notes what it read, names of directories included, so
//! that the committer can tell whether the answer would be another one now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tresor_model::Event;
use tresor_record::Record;
use tresor_secret::Wiped;
use tresor_storage::{RawKey, Version};

use crate::barrier::{BarrierError, Vault, Wanted};
use crate::cache::{Known, Plaintext};
use crate::feed::Shared;
use crate::key::{KeyPrefix, PointKey, RecordName, StorageKey};
use crate::tally::{self, Bounds, Changed, Counts, Tally, Whole};
use crate::tree::{self, Blocks};

/// The longest value that is kept in the clear until it is committed.
const KEPT_BYTES_MAX: usize = 4096;
/// How many names are remembered with where they lie.
const PLACES_MAX: usize = 4;
/// How many events go along with a transaction.
const TOLD_MAX: usize = 256;

/// What becomes of a record that its directory lists.
pub(crate) struct Written {
    /// Where it lies.
    pub(crate) at: RawKey,
    /// What is stored; `None` deletes.
    pub(crate) sealed: Option<Vec<u8>>,
    /// The same in the clear, when the transaction had read what was there before: the next one is likely to do so, too.
    pub(crate) plain: Option<Plaintext>,
}

/// What a transaction wants to change, and what it relied on.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) writes: BTreeMap<StorageKey, Written>,
    /// Records that no directory lists, by where they lie.
    pub(crate) points: BTreeMap<RawKey, Option<Vec<u8>>>,
    /// Bare names, and what becomes of each in its directory.
    pub(crate) names: BTreeMap<StorageKey, Listing>,
    /// Directories that are taken out of the one above, whatever is in them.
    pub(crate) detached: BTreeSet<KeyPrefix>,
    /// What is added to tallies, by where they lie.
    pub(crate) tallies: BTreeMap<RawKey, Changed>,
    /// What is done to whole tallies afterwards, in order.
    pub(crate) whole_tallies: Vec<Whole>,
    /// What is added to tallies that stand in directories.
    pub(crate) listed_tallies: BTreeMap<StorageKey, i64>,
    pub(crate) reads: BTreeMap<RawKey, Option<Version>>,
    /// What lies outside the barrier, as it is to be stored: initialising writes there, and a change of
    /// key slots; pieces of a restore that broke off are deleted.
    pub(crate) headers: BTreeMap<RawKey, Option<Vec<u8>>>,
    /// Whether all of it is data that decides nothing: see [`Txn::writes_data_below`].
    pub(crate) is_data: bool,
}

impl Changes {
    /// About how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        let names: usize = self.names.keys().map(|name| name.as_str().len()).sum();
        let sealed = self.writes.values().map(|written| &written.sealed).chain(self.points.values());
        names + sealed.flatten().map(Vec::len).sum::<usize>()
    }

    /// How many places it changes.
    pub(crate) fn places(&self) -> usize {
        self.writes.len() + self.points.len() + self.names.len() + self.tallies.len() + self.listed_tallies.len()
    }
}

/// Where a record lies, and what a transaction does to it.
type Own<'t> = (RawKey, Option<&'t Option<Vec<u8>>>);

/// What becomes of a bare name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// It stands in its directory, or the transaction does not stand.
    Entered,
    /// It stands in its directory, unless that cannot be read.
    EnteredIfReadable,
    /// It does not stand there.
    Left,
}

impl Listing {
    pub(crate) fn is_in(self) -> bool {
        self != Self::Left
    }
}

/// A transaction.
pub struct Txn {
    vault: Arc<Vault>,
    snapshot: Shared,
    writes: BTreeMap<StorageKey, Written>,
    points: BTreeMap<RawKey, Option<Vec<u8>>>,
    names: BTreeMap<StorageKey, Listing>,
    detached: BTreeSet<KeyPrefix>,
    tallies: BTreeMap<RawKey, Changed>,
    whole_tallies: Vec<Whole>,
    listed_tallies: BTreeMap<StorageKey, i64>,
    reads: BTreeMap<RawKey, Option<Version>>,
    /// Whether it counts something that is in a sealed realm: then it cannot be committed.
    names_what_is_sealed: bool,
    /// Where what was named lately lies: a request names the same several times.
    places: Vec<(StorageKey, RawKey)>,
    /// Below what data lies that decides nothing, and whether something is written that is none.
    data: Option<KeyPrefix>,
    writes_more: bool,
    /// What is told once this is committed; `None` where nobody listens.
    told: Option<Vec<Event>>,
}

impl Txn {
    pub(crate) fn new(vault: Arc<Vault>, snapshot: Shared) -> Self {
        Self {
            vault,
            snapshot,
            writes: BTreeMap::new(),
            points: BTreeMap::new(),
            names: BTreeMap::new(),
            detached: BTreeSet::new(),
            tallies: BTreeMap::new(),
            whole_tallies: Vec::new(),
            listed_tallies: BTreeMap::new(),
            reads: BTreeMap::new(),
            names_what_is_sealed: false,
            places: Vec::new(),
            data: None,
            writes_more: false,
            told: None,
        }
    }

    /// Says that somebody listens to what happens.
    pub fn is_listened_to(&mut self) {
        self.told.get_or_insert_default();
    }

    /// Whether somebody listens: else nobody need find words.
    #[must_use]
    pub const fn has_listeners(&self) -> bool {
        self.told.is_some()
    }

    /// Takes along what is to be told if this is committed; nothing is stored of it, and nothing is told otherwise. Where
    /// nobody listens, or a transaction tells of very much, it is left out.
    pub fn tell(&mut self, event: Event) {
        if let Some(told) = self.told.as_mut().filter(|told| told.len() < TOLD_MAX) {
            told.push(event);
        }
    }

    /// What is to be told once this is committed: for whoever commits it.
    #[must_use]
    pub fn take_told(&mut self) -> Vec<Event> {
        self.told.take().unwrap_or_default()
    }

    /// Says that what lies below a directory is data which decides nothing about anybody's requests. If this transaction
    /// writes nothing else, reads that chose so may run without it (`is_dispensable` of a batch). Said before anything is
    /// written; of a transaction of which nobody says it, no read does without.
    pub fn writes_data_below(&mut self, directory: &KeyPrefix) {
        self.writes_more |= !self.is_empty_of_writes();
        self.data = Some(directory.clone());
    }

    /// Takes note of what is about to be written.
    fn note_write(&mut self, name: &str) {
        self.writes_more |= !self.data.as_ref().is_some_and(|data| name.starts_with(data.as_str()));
    }

    pub(crate) fn into_changes(self) -> Changes {
        Changes {
            writes: self.writes,
            points: self.points,
            names: self.names,
            detached: self.detached,
            tallies: self.tallies,
            whole_tallies: self.whole_tallies,
            listed_tallies: self.listed_tallies,
            reads: self.reads,
            headers: BTreeMap::new(),
            is_data: self.data.is_some() && !self.writes_more,
        }
    }

    pub(crate) const fn names_what_is_sealed(&self) -> bool {
        self.names_what_is_sealed
    }

    /// The version that everything is read at.
    #[must_use]
    pub fn read_version(&self) -> Version {
        self.snapshot.version()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty_of_writes(&self) -> bool {
        self.written() == 0
    }

    /// How many records, blocks of directories included, were read from the store and are relied on.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// How many records and bare names this transaction writes or deletes; the blocks of directories that follow are not counted.
    #[must_use]
    pub fn written(&self) -> usize {
        let listed = self.writes.len() + self.names.len() + self.detached.len();
        let tallies = self.tallies.len() + self.whole_tallies.len() + self.listed_tallies.len();
        listed + self.points.len() + tallies
    }

    /// The value of a record.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails or the record was not sealed for this name.
    pub fn read<'k>(&mut self, name: impl Into<RecordName<'k>>) -> Result<Option<Plaintext>, BarrierError> {
        let (at, own) = self.own(name.into())?;
        match own {
            Some(None) => Ok(None),
            Some(Some(sealed)) => {
                // Hardly ever does a request read what it has written.
                let sealed = sealed.clone();
                Ok(Some(Plaintext::new(self.vault.open(&at, &sealed)?)))
            }
            None => self.read_raw(&at),
        }
    }

    /// Whether there is a record, without opening it.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails.
    pub fn contains<'k>(&mut self, name: impl Into<RecordName<'k>>) -> Result<bool, BarrierError> {
        let (at, own) = self.own(name.into())?;
        if let Some(own) = own {
            return Ok(own.is_some());
        }
        Ok(self.known(&at, Wanted::Presence)?.is_some())
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When it is in a sealed realm.
    pub fn write<'k>(&mut self, name: impl Into<RecordName<'k>>, value: &[u8]) -> Result<(), BarrierError> {
        let name = name.into();
        self.note_write(name.as_str());
        match name {
            RecordName::Listed(key) => {
                let at = self.place(key)?;
                let sealed = Some(self.vault.seal(&at, value)?);
                let is_kept = value.len() <= KEPT_BYTES_MAX && self.reads.contains_key(&at);
                let plain = is_kept.then(|| Plaintext::new(Wiped::new(value.to_vec())));
                self.writes.insert(key.clone(), Written { at, sealed, plain });
            }
            RecordName::Point(key) => {
                let at = self.vault.point_key(key)?;
                let sealed = self.vault.seal(&at, value)?;
                self.points.insert(at, Some(sealed));
            }
        }
        Ok(())
    }

    /// Deletes a record; deleting nothing is fine.
    ///
    /// # Errors
    /// As [`Txn::write`].
    pub fn delete<'k>(&mut self, name: impl Into<RecordName<'k>>) -> Result<(), BarrierError> {
        let name = name.into();
        self.note_write(name.as_str());
        match name {
            RecordName::Listed(key) => {
                let at = self.place(key)?;
                self.writes.insert(key.clone(), Written { at, sealed: None, plain: None });
            }
            RecordName::Point(key) => drop(self.points.insert(self.vault.point_key(key)?, None)),
        }
        Ok(())
    }

    /// Puts a name into its directory, without any record: for an index, where the name says it all. It costs its place in
    /// a block, and nothing that lies anywhere by itself. A directory holds names of one kind, with records or without.
    /// When its place in the directory cannot be read, the commit fails.
    pub fn enter(&mut self, name: &StorageKey) {
        self.note_write(name.as_str());
        self.names.insert(name.clone(), Listing::Entered);
    }

    /// As [`Txn::enter`], for a name that can be done without: when its place cannot be read, that is logged, and the rest
    /// of the transaction stands.
    pub fn enter_if_readable(&mut self, name: &StorageKey) {
        self.note_write(name.as_str());
        self.names.insert(name.clone(), Listing::EnteredIfReadable);
    }

    /// Takes such a name out of its directory; taking out nothing is fine, and so is a block that cannot be read: nobody
    /// reads the name there either.
    pub fn leave(&mut self, name: &StorageKey) {
        self.note_write(name.as_str());
        self.names.insert(name.clone(), Listing::Left);
    }

    /// Takes a directory out of the one above, whatever is in it: for one that cannot be read. Its blocks stay where they
    /// are, and nothing leads to them.
    pub fn detach(&mut self, directory: &KeyPrefix) {
        self.note_write(directory.as_str());
        self.detached.insert(directory.clone());
    }

    /// The first name directly below a directory that is stored and can be read, and whether a block was damaged on the
    /// way.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails.
    pub fn first_readable(&mut self, prefix: &KeyPrefix) -> Result<(Option<String>, bool), BarrierError> {
        tree::first_readable(self, prefix.as_str())
    }

    /// The first name directly below a directory that begins with `start`. This transaction does not rely on it: the
    /// name stands for a record, and whoever acts on that reads it.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails or a block is damaged.
    pub fn glance(&self, prefix: &KeyPrefix, start: &str) -> Result<Option<String>, BarrierError> {
        let wanted = format!("{}{start}", prefix.as_str());
        let own = || {
            beginning(&self.names, &wanted).filter_map(|(name, listing)| {
                let rest = name.strip_prefix(prefix.as_str())?;
                (!rest.contains('/')).then_some((rest, listing.is_in()))
            })
        };
        if let Some((entered, _)) = own().find(|(_, is_in)| *is_in) {
            return Ok(Some(entered.to_owned()));
        }
        let mut blocks = Glance { vault: &self.vault, snapshot: &self.snapshot };
        let found = tree::from(&mut blocks, prefix.as_str(), start)?.filter(|name| name.starts_with(start));
        Ok(found.filter(|found| !own().any(|(name, is_in)| !is_in && name == found)))
    }

    /// Adds to a number of a tally, when the commit finds that it then lies within `bounds`.
    pub fn count(&mut self, name: &PointKey, label: &str, delta: i64, bounds: &Bounds) {
        self.note_write(name.as_str());
        let Some(at) = self.tally_place(name.as_str()) else { return };
        tally::add(self.tallies.entry(at).or_default(), label, delta, bounds);
    }

    /// Takes what the tally `held` holds when this is committed off the tally `from`.
    pub fn take_off(&mut self, held: &PointKey, from: &PointKey) {
        self.note_write(from.as_str());
        let (Some(held), Some(from)) = (self.tally_place(held.as_str()), self.tally_place(from.as_str())) else {
            return;
        };
        self.whole_tallies.push(Whole::TakeOff { held, from });
    }

    /// Forgets a tally, whatever it holds.
    pub fn forget_tally(&mut self, name: &PointKey) {
        self.note_write(name.as_str());
        if let Some(at) = self.tally_place(name.as_str()) {
            self.whole_tallies.push(Whole::Forget(at));
        }
    }

    /// Where a tally lies; where nobody can say, the transaction cannot be committed.
    fn tally_place(&mut self, name: &str) -> Option<RawKey> {
        let at = self.vault.tally_key(name).ok();
        self.names_what_is_sealed |= at.is_none();
        at
    }

    /// The numbers of a tally, what this transaction adds included (what it does to whole tallies is not). That it
    /// changes meanwhile is no conflict.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails or the tally is damaged.
    pub fn tally(&mut self, name: &PointKey) -> Result<Counts, BarrierError> {
        let at = self.vault.tally_key(name.as_str())?;
        let mut counts = match self.snapshot.read(&at)? {
            Some(stored) => Tally::decode(&self.vault.open(&at, &stored.bytes)?)?.counts,
            None => Counts::new(),
        };
        if let Some(changed) = self.tallies.get(&at) {
            tally::apply(&mut counts, changed);
        }
        Ok(counts)
    }

    /// Adds to the number of a name, which stands in its directory, without a record, while that is not zero. It never falls
    /// below zero, and when its place in the directory cannot be read, that is logged and the rest stands: for numbers that
    /// are shown, and decide nothing.
    pub fn count_listed(&mut self, name: &StorageKey, delta: i64) {
        self.note_write(name.as_str());
        if self.tally_place(name.as_str()).is_some() {
            *self.listed_tallies.entry(name.clone()).or_default() += delta;
        }
    }

    /// The number of such a name. That it changes meanwhile is no conflict.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails or the tally is damaged.
    pub fn listed(&self, name: &StorageKey) -> Result<u64, BarrierError> {
        let at = self.vault.tally_key(name.as_str())?;
        let stored = match self.snapshot.read(&at)? {
            Some(stored) => Tally::decode(&self.vault.open(&at, &stored.bytes)?)?.number(),
            None => 0,
        };
        let own = self.listed_tallies.get(name).copied().unwrap_or(0);
        Ok(stored.saturating_add_signed(own))
    }

    /// Forgets the number of such a name, and takes it out of its directory.
    pub fn forget_listed(&mut self, name: &StorageKey) {
        self.leave(name);
        if let Some(at) = self.tally_place(name.as_str()) {
            self.whole_tallies.push(Whole::Forget(at));
        }
    }

    /// Where a listed record lies.
    fn place(&mut self, name: &StorageKey) -> Result<RawKey, BarrierError> {
        if let Some((_, at)) = self.places.iter().find(|(known, _)| known == name) {
            return Ok(at.clone());
        }
        let at = self.vault.record_key(name.as_str())?;
        if self.places.len() >= PLACES_MAX {
            self.places.remove(0);
        }
        self.places.push((name.clone(), at.clone()));
        Ok(at)
    }

    /// Where a record lies, and what this transaction does to it.
    fn own(&mut self, name: RecordName<'_>) -> Result<Own<'_>, BarrierError> {
        Ok(match name {
            RecordName::Listed(key) => (self.place(key)?, self.writes.get(key).map(|written| &written.sealed)),
            RecordName::Point(key) => {
                let at = self.vault.point_key(key)?;
                let own = self.points.get(&at);
                (at, own)
            }
        })
    }

    /// The names directly below a directory, in byte order, after `after`, at most `limit`: `name` for a record,
    /// `name/` for a deeper directory (both when both are there).
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails or a block is damaged.
    pub fn list(&mut self, prefix: &KeyPrefix, after: Option<&str>, limit: usize) -> Result<Vec<String>, BarrierError> {
        let (added, removed) = self.overlay(prefix, after)?;
        if added.is_empty() && removed.is_empty() {
            return tree::page(self, prefix.as_str(), after, limit);
        }
        let mut names: BTreeSet<String> = added;
        let mut cursor = after.map(str::to_owned);
        loop {
            let page = tree::page(self, prefix.as_str(), cursor.as_deref(), limit.saturating_add(1))?;
            let exhausted = page.len() <= limit;
            cursor = page.last().cloned();
            names.extend(page.into_iter().filter(|name| !removed.contains(name)));
            // Names of our own that lie beyond what the store has shown so far must wait for it.
            let shown = cursor.as_ref().map_or(0, |last| names.range::<String, _>(..=last).count());
            if exhausted || shown >= limit {
                return Ok(names.into_iter().take(limit).collect());
            }
        }
    }

    /// What this transaction's own writes add to a directory and take from it.
    fn overlay(
        &mut self,
        prefix: &KeyPrefix,
        after: Option<&str>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), BarrierError> {
        let (mut added, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let records = beginning(&self.writes, prefix.as_str()).map(|(name, written)| (name, written.sealed.is_some()));
        let bare = beginning(&self.names, prefix.as_str()).map(|(name, listing)| (name, listing.is_in()));
        for (name, is_write) in records.chain(bare) {
            let Some(rest) = name.strip_prefix(prefix.as_str()) else { continue };
            let child = rest.split_once('/').map_or_else(|| rest.to_owned(), |(directory, _)| format!("{directory}/"));
            if after.is_some_and(|after| child.as_str() <= after) {
                continue;
            }
            if is_write {
                added.insert(child)
            } else {
                gone.insert(child)
            };
        }
        let mut removed = BTreeSet::new();
        for child in gone.difference(&added) {
            // A deleted record is gone; a directory only when nothing else is below it.
            let is_gone = !child.ends_with('/') || self.list(&prefix.below(child)?, None, 1)?.is_empty();
            if is_gone {
                removed.insert(child.clone());
            }
        }
        Ok((added, removed))
    }

    /// As [`Txn::list`], leaving out what cannot be read; and whether there was any. What this transaction itself enters
    /// and takes out is not seen.
    ///
    /// # Errors
    /// [`BarrierError`] when the store fails.
    pub fn list_readable(
        &mut self,
        prefix: &KeyPrefix,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), BarrierError> {
        tree::page_readable(self, prefix.as_str(), after, limit)
    }

    fn known(&mut self, at: &RawKey, wanted: Wanted) -> Result<Option<Known>, BarrierError> {
        let known = self.vault.known(&**self.snapshot, at, wanted)?;
        self.reads.insert(at.clone(), known.as_ref().map(|known| known.version));
        Ok(known)
    }

    fn read_raw(&mut self, at: &RawKey) -> Result<Option<Plaintext>, BarrierError> {
        Ok(self.known(at, Wanted::Value)?.and_then(|known| known.plaintext))
    }
}

/// What a transaction does to names that begin so, in order.
fn beginning<'c, T>(changes: &'c BTreeMap<StorageKey, T>, start: &str) -> impl Iterator<Item = (&'c str, &'c T)> {
    let from = changes.range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
    from.map(|(name, change)| (name.as_str(), change)).take_while(move |(name, _)| name.starts_with(start))
}

/// Blocks that are read and not relied on.
struct Glance<'t> {
    vault: &'t Vault,
    snapshot: &'t Shared,
}

impl Blocks for Glance<'_> {
    fn read_block(&mut self, directory: &str, block: u64) -> Result<Option<Plaintext>, BarrierError> {
        let at = self.vault.block_key(directory, block)?;
        Ok(self.vault.known(&***self.snapshot, &at, Wanted::Value)?.and_then(|known| known.plaintext))
    }
}

impl Blocks for Txn {
    fn read_block(&mut self, directory: &str, block: u64) -> Result<Option<Plaintext>, BarrierError> {
        let at = self.vault.block_key(directory, block)?;
        self.read_raw(&at)
    }
}
