//! The log, as the library stores entries and votes in it.
//!
//! Entries that are brought together are one write and one sync. What was appended lately is in memory too, because it
//! is read twice at once: to be sent and to be applied. The library's first entry is number 0, ours is 1. Whatever waits
//! for the disk runs on the workers' lane for that. Deliberately absent: what entries do.

#![allow(clippy::result_large_err, reason = "the library's errors are as large as they are")]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftLogReader, StorageIOError};
use tresor_env::Doors;
use tresor_env::tasks::run_blocking;
use tresor_log::{Log, LogError, Sizes};
use tresor_storage::machine::Position;

use crate::OpenError;
use crate::alone::Alone;
use crate::feed::Feed;
use crate::peers::NodeId;
use crate::spelled::{Reader, entry_bytes, put_entry, put_log_id, put_optional, put_vote};
use crate::types::{Entry, LogId, Membership, Proposal, StorageError, Types, Vote, log_id};

/// How much of the end of the log is in memory.
const TAIL_BYTES: usize = 8 << 20;
/// The same where it is sent to nobody.
const TAIL_BYTES_ALONE: usize = 1 << 20;
/// How much is read or sent at once, beyond the first entry.
const READ_BYTES: usize = 4 << 20;
/// How long a purge waits before it looks again whether the machine has what it would remove.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How many entries that no read does without are known: more than are ever under way, as each batch follows the one before.
const INDISPENSABLE_MAX: usize = 64;

/// Whether a read that allows it may do without an entry: a batch whose maker, on this node, says so.
fn is_dispensable(entry: &Entry) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(Proposal::Batch(batch, _)) if batch.is_dispensable)
}

/// What lies in the log's record.
#[derive(Clone, Copy, Default)]
struct Record {
    vote: Option<Vote>,
    purged: Option<LogId>,
}

impl Record {
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut reader = Reader(bytes);
        let record = Self { vote: reader.optional(Reader::vote)?, purged: reader.optional(Reader::log_id)? };
        reader.whole(record)
    }

    fn spelled(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_optional(&mut out, self.vote.as_ref(), put_vote);
        put_optional(&mut out, self.purged, put_log_id);
        out
    }
}

/// The last entries.
#[derive(Default)]
struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    last: Option<LogId>,
    /// The last entries that no read does without, by our numbering.
    indispensable: VecDeque<u64>,
}

impl Tail {
    /// Adds entries, and keeps so many bytes, but one entry at least.
    fn extend(&mut self, entries: &[Entry], bytes_max: usize) {
        entries.iter().for_each(|entry| self.push(entry.clone()));
        while self.bytes > bytes_max && self.entries.len() > 1 {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, entry_bytes);
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.last.is_some_and(|last| last.index + 1 != entry.log_id.index) {
            (self.entries, self.bytes) = (VecDeque::new(), 0);
        }
        self.last = Some(entry.log_id);
        if !is_dispensable(&entry) {
            self.note_indispensable(entry.log_id.index + 1);
        }
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    fn note_indispensable(&mut self, index: u64) {
        // What was cut off since.
        while self.indispensable.back().is_some_and(|known| *known >= index) {
            self.indispensable.pop_back();
        }
        if self.indispensable.len() >= INDISPENSABLE_MAX {
            self.indispensable.pop_front();
        }
        self.indispensable.push_back(index);
    }

    /// The last entry up to this one that no read does without; this one itself when that is not known.
    fn indispensable_upto(&self, index: u64) -> u64 {
        self.indispensable.iter().rev().find(|known| **known <= index).copied().unwrap_or(index)
    }

    /// Removes what comes from `index` on; `last` is what the log ends with then.
    fn cut(&mut self, index: u64, last: Option<LogId>) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= index) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, entry_bytes);
        }
        self.last = last;
    }

    /// Removes what comes up to an entry, which the log need not have.
    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, entry_bytes);
        }
        self.last = self.last.max(Some(upto));
    }

    /// Entries from one index to before another, at most so many bytes but one entry at least; `None` when the first is
    /// not here any more.
    fn read(&self, from: u64, until: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.log_id.index;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0_usize;
        let wanted = self.entries.iter().skip(skip).take_while(|entry| {
            bytes += entry_bytes(entry);
            entry.log_id.index < until && (bytes <= bytes_max || entry.log_id.index == from)
        });
        Some(wanted.cloned().collect())
    }
}

struct Shared {
    log: Mutex<Log>,
    tail: Mutex<Tail>,
    record: Mutex<Record>,
    doors: Doors,
    /// Applies what is committed by being here. Its machine must have everything that is purged; `None` where a test has
    /// another one.
    alone: Option<Alone>,
    is_tended: AtomicBool,
    syncs: AtomicU64,
}

/// The log; a copy is the same one.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Shared>);

fn failed(error: impl std::error::Error + 'static) -> StorageError {
    StorageIOError::write_logs(AnyError::error(error)).into()
}

fn misspelled(index: u64) -> StorageError {
    StorageIOError::read_log_at_index(index, AnyError::error("it is not spelled as this version spells it")).into()
}

impl LogStore {
    /// Opens the log of a node.
    ///
    /// A node that led when it went down has a vote that says so. It must not believe it: since then others may have led
    /// and committed. So it is read as what it was before the vote was won, and the node has to win another one.
    pub(crate) fn open(
        me: NodeId,
        doors: &Doors,
        directory: &Path,
        sizes: Sizes,
        feed: Option<Feed>,
    ) -> Result<Self, OpenError> {
        let mut last = None;
        let mut log = Log::open::<OpenError>(&doors.disk, directory, sizes, &mut |index, body| {
            let term = body.get(1..).and_then(|rest| Reader(rest).u64());
            let term = term.ok_or(OpenError::Spelling { what: "an entry of the log" })?;
            last = Some(log_id(term, index - 1));
            Ok(())
        })?;
        let mut record = Record::read(log.record()).ok_or(OpenError::Spelling { what: "the log's record" })?;
        if let Some(vote) = &mut record.vote
            && vote.leader_id.voted_for == Some(me)
        {
            vote.committed = false;
        }
        if let Some(purged) = record.purged {
            log.purge(purged.index + 1)?;
            last = last.max(Some(purged));
        }
        let tail = Tail { last, ..Tail::default() };
        Ok(Self(Arc::new(Shared {
            log: Mutex::new(log),
            tail: Mutex::new(tail),
            record: Mutex::new(record),
            doors: doors.clone(),
            alone: feed.map(|feed| Alone::new(me, feed)),
            is_tended: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        })))
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.0.tail().last
    }

    /// The last entry up to this one, by our numbering, that no read does without, as far as that is known here: never one
    /// before it. Who leads knows it of each entry of its term, as it made them, and an entry of a leader's own is among
    /// those that are committed when it confirms anything.
    pub(crate) fn indispensable_upto(&self, index: u64) -> u64 {
        self.0.tail().indispensable_upto(index)
    }

    /// Whether this node has ever had anything to do with a cluster.
    pub(crate) fn is_pristine(&self) -> bool {
        self.last().is_none() && self.0.record().vote.is_none()
    }

    /// Whether entries behind one of our numbering are missing.
    pub(crate) fn begins_behind(&self, index: u64) -> bool {
        self.0.record().purged.is_some_and(|purged| purged.index + 1 > index)
    }

    /// Removes what comes up to the entry of our numbering that a state was taken over at, when a machine has it.
    pub(crate) fn purge_void(&self, held: Position, begins_behind: u64) -> Result<(), OpenError> {
        let Some(index) = begins_behind.min(held.index).checked_sub(1) else { return Ok(()) };
        let mut record = *self.0.record();
        if self.is_pristine() || record.purged.is_some_and(|purged| purged.index >= index) {
            return Ok(());
        }
        let read = if index + 1 == held.index { None } else { self.0.log().read(index + 1, index + 2, 0)?.pop() };
        let term = match read {
            None => held.term,
            Some(entry) => {
                let entry = Reader(&entry.body).entry(index);
                entry.ok_or(OpenError::Spelling { what: "an entry of the log" })?.log_id.leader_id.term
            }
        };
        let purged = log_id(term, index);
        record.purged = Some(purged);
        let mut log = self.0.log();
        log.set_record(&record.spelled())?;
        log.purge(index + 1)?;
        *self.0.record() = record;
        self.0.tail().purge(purged);
        Ok(())
    }

    /// Who the members are from an entry on, if that is not in the log.
    pub(crate) fn take_members(&self, at: Option<LogId>, members: &Membership) {
        self.0.alone.iter().for_each(|alone| alone.take_members(at, members));
    }

    /// How many times an append has waited for the disk.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Relaxed)
    }

    /// Whether purging up to an entry of our numbering would set any file free.
    pub(crate) async fn is_worth_purging(&self, index: u64) -> Result<bool, StorageError> {
        self.with(move |shared| Ok(shared.log().is_worth_purging(index))).await
    }

    /// Does something with the log where waiting is allowed, which nobody else does: its lock is held while the disk
    /// works. Then what the log would like to be done beside is begun.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let shared = Arc::clone(&self.0);
        let done = run_blocking(&*self.0.doors.workers, move || {
            let done = work(&shared);
            shared.tend();
            done
        });
        done.await.map_err(failed)?.map_err(failed)
    }

    /// Writes entries down, durably; false when there is no room for them.
    async fn append_if_there_is_room(&self, entries: Arc<[Entry]>) -> Result<bool, StorageError> {
        let append = move |shared: &Shared| {
            let mut log = shared.log();
            let Some(begin) = entries.first().map(|entry| entry.log_id.index + 1) else { return Ok(true) };
            if log.last() + 1 != begin {
                return Err(LogError::OutOfRange { index: begin, first: log.first(), last: log.last() });
            }
            let mut group = log.group();
            for entry in entries.iter() {
                group.entry(|body| put_entry(body, entry));
            }
            match group.commit() {
                Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                    return Ok(false);
                }
                committed => committed?,
            };
            shared.syncs.store(log.syncs(), Ordering::Relaxed);
            drop(log);
            let is_alone = shared.alone.as_ref().is_some_and(Alone::is_alone);
            shared.tail().extend(&entries, if is_alone { TAIL_BYTES_ALONE } else { TAIL_BYTES });
            if let Some(alone) = &shared.alone {
                alone.written(&entries);
            }
            Ok(true)
        };
        self.with(append).await
    }

    async fn change_record(&self, change: impl FnOnce(&mut Record) + Send + 'static) -> Result<(), StorageError> {
        self.with(move |shared| {
            let mut record = *shared.record();
            change(&mut record);
            shared.log().set_record(&record.spelled())?;
            *shared.record() = record;
            Ok(())
        })
        .await
    }

    /// Entries from one index to before another, at most so many bytes but one entry at least.
    async fn entries(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let recent = self.0.tail().read(from, until, bytes_max);
        if let Some(entries) = recent {
            return Ok(entries);
        }
        let read = move |shared: &Shared| {
            let log = shared.log();
            let from = (from + 1).max(log.first());
            if from > until.min(log.last()) { Ok(Vec::new()) } else { log.read(from, until + 1, bytes_max) }
        };
        let entries = self.with(read).await?;
        let entry = |entry: tresor_log::Entry| {
            Reader(&entry.body).entry(entry.index - 1).ok_or_else(|| misspelled(entry.index - 1))
        };
        entries.into_iter().map(entry).collect()
    }
}

impl Shared {
    fn tend(self: &Arc<Self>) {
        if !self.log().has_plan() || self.is_tended.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        self.doors.workers.tidy_up(Box::new(move || {
            let plan = shared.log().plan();
            if let Some(plan) = plan {
                let done = plan.run();
                // Without it an append does the same itself, and says what is wrong.
                if let Err(error) = shared.log().adopt(done) {
                    tracing::warn!(%error, "the log could not be tidied up");
                }
            }
            shared.is_tended.store(false, Ordering::Release);
        }));
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at + 1,
            Bound::Unbounded => 0,
        };
        let until = match range.end_bound() {
            Bound::Included(at) => at + 1,
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX - 1,
        };
        let (mut at, mut entries) = (from, Vec::new());
        while at < until {
            let more = self.entries(at, until, READ_BYTES).await?;
            let Some(last) = more.last() else { break };
            at = last.log_id.index + 1;
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start, end, READ_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(LogState { last_purged_log_id: self.0.record().purged, last_log_id: self.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.change_record(move |record| record.vote = Some(vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.0.record().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Arc<[Entry]> = entries.into_iter().collect();
        let mut is_told = false;
        // Where there is no room for another segment nothing was written, and there may be some again: a node that only lacks
        // room would otherwise be lost to its cluster until somebody starts it anew. Others lead meanwhile.
        while !self.append_if_there_is_room(Arc::clone(&entries)).await? {
            if self.0.alone.as_ref().is_some_and(Alone::is_closed) {
                return Err(failed(std::io::Error::from(std::io::ErrorKind::StorageFull)));
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::error!("there is no room for the log; it waits until there is");
            }
            self.0.doors.clock.sleep(LOOK_AGAIN).await;
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        let before = match id.index.checked_sub(1) {
            Some(index) => {
                let entry = self.entries(index, id.index, READ_BYTES).await?.pop();
                entry.map(|entry| entry.log_id).or(self.0.record().purged)
            }
            None => None,
        };
        self.with(move |shared| {
            shared.log().truncate(id.index + 1)?;
            shared.tail().cut(id.index, before);
            Ok(())
        })
        .await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        // A state that is taken over is on its way to the machine still, and the log must not go before it is there.
        if let Some(machine) = self.0.alone.as_ref().map(Alone::machine) {
            while machine.persisted().index < id.index + 1 {
                self.0.doors.clock.sleep(LOOK_AGAIN).await;
            }
        }
        self.change_record(move |record| record.purged = Some(id)).await?;
        self.with(move |shared| {
            shared.log().purge(id.index + 1)?;
            shared.tail().purge(id);
            Ok(())
        })
        .await
    }
}
