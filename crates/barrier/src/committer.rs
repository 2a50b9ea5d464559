//! The committer: one task that takes every transaction that is waiting and makes them durable together.
//!
//! In order, each transaction is checked against what is stored and what the batch already holds; those that still
//! stand change the batch, names of directories included; then the batch is applied once, with one wait for the
//! disk, and everybody is answered. What batches are made of is [`lanes`](crate::lanes)'s. Deliberately absent: any lock;
//! what it owns, only it touches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tresor_env::tasks::{WorkerPanicked, run_blocking};
use tresor_record::Record;
use tresor_storage::{Agreement, Batch, RawKey, StoreError, Version};

use crate::barrier::{BarrierError, CommitError, Committed, Vault, Wanted};
use crate::cache::{Known, Plaintext};
use crate::feed::{FollowError, Shared};
use crate::note;

use crate::key::StorageKey;
use crate::lanes::{Job, Lanes, Next};
use crate::tally::{self, Counts, Tally, Whole};
use crate::tree::{self, Block, BlocksMut, Slot};
use crate::txn::{Changes, Listing, Written};

/// Fewer transactions than these are put together where the committer runs: a thread's wake-up costs more.
const FEW: usize = 16;
/// A batch makes fewer blocks of one directory than this power of two.
const BLOCKS_PER_BATCH_BITS: u32 = 24;

type Outcome = Result<Committed, CommitError>;

/// Runs until every sender is gone.
pub(crate) async fn run(vault: Arc<Vault>, mut lanes: Lanes, stopped: Arc<AtomicBool>) {
    while let Some(Next { jobs, drained }) = lanes.next(&*vault.doors.clock).await {
        if stopped.load(Ordering::Acquire) {
            answer(jobs.into_iter().map(|job| (job.answer, Err(CommitError::Stopped))));
        } else if !jobs.is_empty() {
            let begun = vault.doors.clock.monotonic();
            commit_all(&vault, jobs).await;
            lanes.took(vault.doors.clock.monotonic().saturating_sub(begun));
        }
        if let Some(drained) = drained {
            // Who does not wait any more need not know.
            let _ = drained.send(());
        }
    }
}

async fn commit_all(vault: &Arc<Vault>, jobs: Vec<Job>) {
    let (changes, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.changes, job.answer)).unzip();
    let outcomes = commit(vault, changes).await;
    answer(answers.into_iter().zip(outcomes));
}

fn answer(outcomes: impl Iterator<Item = (oneshot::Sender<Outcome>, Outcome)>) {
    for (waiting, outcome) in outcomes {
        // Who does not wait any more has been told by the connection.
        drop(waiting.send(outcome));
    }
}

/// Commits a batch of transactions; one outcome for each, in order. A thread waits for the disk, and none for other nodes.
pub(crate) async fn commit(vault: &Arc<Vault>, jobs: Vec<Changes>) -> Vec<Outcome> {
    let (worker, count) = (Arc::clone(vault), jobs.len());
    let begun = if count < FEW && !vault.feed.is_behind() {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| begin(vault, jobs))) {
            Ok(Ok(begun)) => Ok(begun),
            Ok(Err(built)) => run_blocking(&*vault.doors.workers, move || built.apply(&worker)).await,
            Err(_) => Err(WorkerPanicked),
        }
    } else {
        let work = move || begin(&worker, jobs).unwrap_or_else(|built| built.apply(&worker));
        run_blocking(&*vault.doors.workers, work).await
    };
    match begun {
        Ok(Begun::Done(outcomes)) => outcomes,
        Ok(Begun::Proposed(coming, agreement)) => {
            let applied = agreement.await;
            if applied.is_ok() && vault.feed.failure().is_none() {
                return coming.stands(vault);
            }
            let worker = Arc::clone(vault);
            let ended = run_blocking(&*vault.doors.workers, move || end(&worker, coming, applied));
            ended.await.unwrap_or_else(|_| unknown(count))
        }
        Err(_) => unknown(count),
    }
}

/// How far a batch came without waiting for the disk, or for other nodes.
enum Begun {
    /// To its end.
    Done(Vec<Outcome>),
    /// Other nodes have to agree.
    Proposed(Coming, Agreement),
}

/// What a batch comes to when it stands.
struct Coming {
    /// What its transactions are told.
    outcomes: Vec<Outcome>,
    version: Version,
    /// What it writes, as far as it is kept in the clear, by where it lies.
    plain: BTreeMap<RawKey, Plaintext>,
}

impl Coming {
    /// It stands. Whatever was announced since keeps its place in the cache.
    fn stands(self, vault: &Vault) -> Vec<Outcome> {
        for (at, plaintext) in self.plain.into_iter().filter(|(at, _)| !vault.is_sealed(at)) {
            let known = Known { version: self.version, plaintext: Some(plaintext) };
            vault.cache.put(&at, self.version, Some(known));
        }
        self.outcomes
    }
}

/// A batch that no other node is asked about.
struct Built(Coming, Batch);

impl Built {
    /// Waits for the disk.
    fn apply(self, vault: &Vault) -> Begun {
        let applied = vault.store.apply(self.1);
        Begun::Done(end(vault, self.0, applied))
    }
}

fn failed(error: BarrierError, count: usize) -> Vec<Outcome> {
    let error = Arc::new(error);
    (0..count).map(|_| Err(CommitError::Failed(Arc::clone(&error)))).collect()
}

fn unfollowed(error: &Arc<FollowError>, count: usize) -> Vec<Outcome> {
    (0..count).map(|_| Err(CommitError::Unfollowed(Arc::clone(error)))).collect()
}

fn unknown(count: usize) -> Vec<Outcome> {
    (0..count).map(|_| Err(CommitError::Unknown)).collect()
}

/// Puts a batch together, and proposes it to other nodes, or gives it back to be applied.
fn begin(vault: &Arc<Vault>, jobs: Vec<Changes>) -> Result<Begun, Built> {
    let count = jobs.len();
    // Nothing is added to what nobody sees yet.
    if vault.feed.is_behind()
        && let Err(error) = vault.feed.follow(vault)
    {
        return Ok(Begun::Done(unfollowed(&error, count)));
    }
    let snapshot: Shared = match vault.feed.snapshot(&*vault.store) {
        Ok(snapshot) => snapshot,
        Err(error) => return Ok(Begun::Done(failed(error.into(), count))),
    };
    let mut batch = Building {
        vault,
        version: snapshot.version().next(),
        snapshot: Arc::clone(&snapshot),
        writes: BTreeMap::new(),
        blocks: BTreeMap::new(),
        tallies: BTreeMap::new(),
        adding: BTreeMap::new(),
        plain: BTreeMap::new(),
        adding_plain: Vec::new(),
        transaction: 0,
        is_data: true,
    };
    let mut outcomes = Vec::with_capacity(count);
    for job in jobs {
        // A transaction that meets damage fails by itself: those beside it have nothing to do with it.
        outcomes.push(batch.take(job).unwrap_or_else(|error| Err(CommitError::Failed(Arc::new(error)))));
    }
    let (mut batch, plain) = match batch.finish() {
        Ok(finished) => finished,
        Err(error) => return Ok(Begun::Done(failed(error, count))),
    };
    if batch.writes.is_empty() {
        return Ok(Begun::Done(outcomes));
    }
    let version = batch.version;
    let changed = outcomes.iter().flatten().flat_map(|committed| &committed.changed);
    batch.note = match note::sealed(vault, version, changed, &vault.feed.wanted()) {
        Ok(note) => note,
        Err(error) => return Ok(Begun::Done(failed(error, count))),
    };
    let coming = Coming { outcomes, version, plain };
    match vault.store.propose(batch) {
        Ok(agreement) => Ok(Begun::Proposed(coming, agreement)),
        Err(batch) => Err(Built(coming, batch)),
    }
}

/// What transactions are told when their batch was applied, or was not. The feed watches the store: what is in memory has
/// followed by then.
fn end(vault: &Vault, coming: Coming, applied: Result<(), StoreError>) -> Vec<Outcome> {
    let count = coming.outcomes.len();
    match applied {
        Ok(()) => match vault.feed.failure() {
            None => coming.stands(vault),
            Some(error) => unfollowed(&error, count),
        },
        // Only who opens the store again will know.
        Err(StoreError::Uncertain { .. }) => unknown(count),
        // Ours is not there, and somebody else's batch may have its number.
        Err(error) if error.is_refusal() => failed(error.into(), count),
        Err(error) => match vault.store.snapshot().map(|snapshot| snapshot.version()) {
            // The store says itself what became of the batch.
            Ok(now) if now >= coming.version => coming.outcomes,
            Ok(_) => failed(error.into(), count),
            Err(_) => unknown(count),
        },
    }
}

/// A batch while it is put together.
struct Building<'v> {
    vault: &'v Vault,
    snapshot: Shared,
    version: Version,
    writes: BTreeMap<RawKey, Option<Vec<u8>>>,
    /// Directory blocks that were met so far, in the clear, by where they lie; the changed ones are sealed at the end.
    blocks: BTreeMap<RawKey, Slot>,
    /// Tallies that were met so far, added up, and whether they must be stored.
    tallies: BTreeMap<RawKey, (Counts, bool)>,
    /// What the transaction that is being added writes: part of the batch only when all of it is there.
    adding: BTreeMap<RawKey, Option<Vec<u8>>>,
    /// What is written, as far as it is kept in the clear: what was written last.
    plain: BTreeMap<RawKey, Plaintext>,
    /// The same of the transaction that is being added.
    adding_plain: Vec<(RawKey, Option<Plaintext>)>,
    /// Its number, by which blocks know what to take back.
    transaction: usize,
    /// Whether all that is in it is data that decides nothing.
    is_data: bool,
}

impl Building<'_> {
    /// Takes a transaction, or says why not.
    fn take(&mut self, job: Changes) -> Result<Outcome, BarrierError> {
        if !self.stands(&job)? {
            return Ok(Err(CommitError::Conflict));
        }
        if !self.counts_allow(&job)? {
            return Ok(Err(CommitError::OutOfBounds));
        }
        let changed: Vec<StorageKey> = job.writes.keys().chain(job.names.keys()).cloned().collect();
        let is_data = job.is_data;
        self.add(job)?;
        self.is_data &= is_data;
        Ok(Ok(Committed { version: self.version, changed }))
    }

    /// Whether every tally that the transaction adds to stays within its bounds.
    fn counts_allow(&mut self, changes: &Changes) -> Result<bool, BarrierError> {
        for (at, changed) in &changes.tallies {
            if !tally::is_within(self.meet_tally(at)?, changed) {
                return Ok(false);
            }
        }
        // Met now, so that adding them up cannot fail.
        for whole in &changes.whole_tallies {
            match whole {
                Whole::TakeOff { held, from } => {
                    self.meet_tally(held)?;
                    self.meet_tally(from)?;
                }
                Whole::Forget(at) => {
                    self.meet_tally(at)?;
                }
            }
        }
        for name in changes.listed_tallies.keys() {
            self.meet_tally(&self.vault.tally_key(name.as_str())?)?;
        }
        Ok(true)
    }

    /// A tally as it is in the batch so far.
    fn meet_tally(&mut self, at: &RawKey) -> Result<&Counts, BarrierError> {
        let (counts, _) = match self.tallies.entry(at.clone()) {
            Entry::Occupied(met) => met.into_mut(),
            Entry::Vacant(place) => {
                let counts = match self.snapshot.read(at)? {
                    Some(stored) => Tally::decode(&self.vault.open(at, &stored.bytes)?)?.counts,
                    None => Counts::new(),
                };
                place.insert((counts, false))
            }
        };
        Ok(counts)
    }

    /// Adds up what a transaction that stands does to tallies.
    fn add_up(&mut self, tallies: &BTreeMap<RawKey, tally::Changed>, whole: &[Whole]) {
        for (at, changed) in tallies {
            let (counts, is_changed) = self.tallies.entry(at.clone()).or_default();
            tally::apply(counts, changed);
            *is_changed = true;
        }
        for whole in whole {
            let (at, held) = match whole {
                Whole::TakeOff { held, from } => (from, self.tallies.get(held).map(|held| held.0.clone())),
                Whole::Forget(at) => (at, None),
            };
            let (counts, is_changed) = self.tallies.entry(at.clone()).or_default();
            match held {
                Some(held) => tally::take_off(counts, &held),
                None => counts.clear(),
            }
            *is_changed = true;
        }
    }

    /// Whether everything that the transaction read is still as it read it.
    fn stands(&self, changes: &Changes) -> Result<bool, BarrierError> {
        for (key, seen) in &changes.reads {
            let is_changed = self.writes.contains_key(key) || self.blocks.get(key).is_some_and(Slot::is_changed);
            if is_changed || self.stored_version(key)? != *seen {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is stored. Batches are announced to the cache when they are about to be applied, so that what it holds now
    /// holds for the newest snapshot.
    fn known(&self, key: &RawKey, wanted: Wanted) -> Result<Option<Known>, BarrierError> {
        self.vault.known(&**self.snapshot, key, wanted)
    }

    fn stored_version(&self, key: &RawKey) -> Result<Option<Version>, BarrierError> {
        Ok(self.known(key, Wanted::Presence)?.map(|known| known.version))
    }

    /// Whether a record is there, with what the batch holds so far.
    fn exists(&self, key: &RawKey) -> Result<bool, BarrierError> {
        match self.adding.get(key).or_else(|| self.writes.get(key)) {
            Some(value) => Ok(value.is_some()),
            None => Ok(self.known(key, Wanted::Presence)?.is_some()),
        }
    }

    /// Adds a transaction, wholly or (after an error) not at all.
    fn add(&mut self, changes: Changes) -> Result<(), BarrierError> {
        self.transaction += 1;
        let mut changes = changes;
        let (tallies, whole) = (std::mem::take(&mut changes.tallies), std::mem::take(&mut changes.whole_tallies));
        let listed = std::mem::take(&mut changes.listed_tallies);
        let outcome = self.change(changes).and_then(|()| self.list_tallies(listed));
        let (adding, plain) = (std::mem::take(&mut self.adding), std::mem::take(&mut self.adding_plain));
        if let Ok(listed) = &outcome {
            for (at, plaintext) in plain {
                match plaintext {
                    Some(plaintext) => self.plain.insert(at, plaintext),
                    None => self.plain.remove(&at),
                };
            }
            // One by one: joining two maps would rebuild all of the batch for each transaction.
            self.writes.extend(adding);
            self.add_up(&tallies, &whole);
            for (at, delta) in listed {
                let (counts, is_changed) = self.tallies.entry(at.clone()).or_default();
                tally::add_to_only(counts, *delta);
                *is_changed = true;
            }
        } else {
            self.blocks.values_mut().for_each(|slot| slot.take_back(self.transaction));
        }
        outcome.map(drop)
    }

    fn change(&mut self, changes: Changes) -> Result<(), BarrierError> {
        self.adding.extend(changes.headers);
        self.adding.extend(changes.points);
        for (name, Written { at, sealed, plain }) in changes.writes {
            let (before, after) = (self.exists(&at)?, sealed.is_some());
            let (directory, own) = name.split();
            match (before, after) {
                (false, true) => self.add_name(directory, own)?,
                (true, false) => self.remove_name(directory, own)?,
                (false, false) => continue,
                (true, true) => {}
            }
            self.adding_plain.push((at.clone(), plain));
            self.adding.insert(at, sealed);
        }
        for (name, listing) in changes.names {
            let ((directory, own), is_in) = (name.split(), listing.is_in());
            match if is_in { self.add_name(directory, own) } else { self.remove_name(directory, own) } {
                // Nothing leads to what was in a directory that was detached.
                Err(error) if is_in && error.is_damage() && self.is_detached(directory)? => {
                    tree::begin_anew(self, directory, own, self.version.0 << BLOCKS_PER_BATCH_BITS)?;
                    if let Some((above, name)) = parent(directory) {
                        self.add_name(above, name)?;
                    }
                }
                Err(error) if error.is_damage() && listing != Listing::Entered => {
                    // What the name leads to is a record, and that is not kept from anybody.
                    let what = if is_in { "missing from" } else { "left in" };
                    tracing::error!(%error, "a name is {what} its directory, of which a block cannot be read");
                }
                done => done?,
            }
        }
        for directory in &changes.detached {
            if let Some((above, own)) = parent(directory.as_str()) {
                self.remove_name(above, own)?;
            }
        }
        Ok(())
    }

    /// Puts the names of tallies that are not zero any more into their directories, and takes out those that will be; where
    /// each tally lies, and what is added to it.
    fn list_tallies(&mut self, listed: BTreeMap<StorageKey, i64>) -> Result<Vec<(RawKey, i64)>, BarrierError> {
        let mut adding = Vec::with_capacity(listed.len());
        for (name, delta) in listed.into_iter().filter(|(_, delta)| *delta != 0) {
            let at = self.vault.tally_key(name.as_str())?;
            let before = tally::only(self.meet_tally(&at)?);
            let after = before.saturating_add_signed(delta);
            let (directory, own) = name.split();
            let done = match (before, after) {
                (0, 1..) => self.add_name(directory, own),
                (1.., 0) => self.remove_name(directory, own),
                _ => Ok(()),
            };
            match done {
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "the name of a number is not in step with it: a block cannot be read");
                }
                done => done?,
            }
            adding.push((at, delta));
        }
        Ok(adding)
    }

    /// Whether the directory above does not have this one.
    fn is_detached(&mut self, directory: &str) -> Result<bool, BarrierError> {
        parent(directory).map_or(Ok(false), |(above, name)| tree::contains(self, above, name).map(|is_there| !is_there))
    }

    /// Adds a name to its directory, and each directory that was empty to the one above it.
    fn add_name<'n>(&mut self, mut directory: &'n str, mut name: &'n str) -> Result<(), BarrierError> {
        loop {
            let is_new = tree::is_empty(self, directory)?;
            tree::insert(self, directory, name)?;
            match parent(directory) {
                Some(above) if is_new => (directory, name) = above,
                _ => return Ok(()),
            }
        }
    }

    /// Removes a name from its directory, and each directory that is empty then from the one above it.
    fn remove_name<'n>(&mut self, mut directory: &'n str, mut name: &'n str) -> Result<(), BarrierError> {
        loop {
            tree::remove(self, directory, name)?;
            match parent(directory) {
                Some(above) if tree::is_empty(self, directory)? => (directory, name) = above,
                _ => return Ok(()),
            }
        }
    }

    /// The batch, and what it writes in the clear, as far as that is kept. It fails when a realm was sealed while it was put
    /// together, which only another node's batch does.
    fn finish(mut self) -> Result<(Batch, BTreeMap<RawKey, Plaintext>), BarrierError> {
        for (at, (counts, _)) in std::mem::take(&mut self.tallies).into_iter().filter(|(_, (_, changed))| *changed) {
            let sealed = (!counts.is_empty()).then(|| self.vault.seal(&at, &Tally { counts }.encode())).transpose()?;
            self.writes.insert(at, sealed);
        }
        for (at, slot) in std::mem::take(&mut self.blocks).into_iter().filter(|(_, slot)| slot.is_changed()) {
            let sealed = slot.encode().map(|plain| self.vault.seal(&at, &plain)).transpose()?;
            self.writes.insert(at, sealed);
        }
        Ok((Batch { is_dispensable: self.is_data, ..Batch::new(self.version, self.writes) }, self.plain))
    }
}

/// The directory above, and this one's name in it: `a/b/` is `b/` in `a/`.
fn parent(directory: &str) -> Option<(&str, &str)> {
    let inner = directory.strip_suffix('/')?;
    let at = inner.rfind('/').map_or(0, |at| at + 1);
    Some(directory.split_at(at))
}

impl BlocksMut for Building<'_> {
    fn slot(&mut self, directory: &str, block: u64) -> Result<&mut Slot, BarrierError> {
        let slot = match self.blocks.entry(self.vault.block_key(directory, block)?) {
            Entry::Occupied(met) => met.into_mut(),
            Entry::Vacant(place) => {
                let known = self.vault.known(&**self.snapshot, place.key(), Wanted::Value)?;
                let slot = match known.and_then(|known| known.plaintext) {
                    Some(plaintext) => Slot::stored(&plaintext)?,
                    None => Slot::default(),
                };
                place.insert(slot)
            }
        };
        slot.enter(self.transaction);
        Ok(slot)
    }

    fn put(&mut self, directory: &str, id: u64, block: Block) -> Result<(), BarrierError> {
        let slot = self.blocks.entry(self.vault.block_key(directory, id)?).or_default();
        slot.enter(self.transaction);
        slot.put(block);
        Ok(())
    }
}
