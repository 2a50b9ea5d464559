//! The local audit log: what every record must reach before its request goes on.
//!
//! An append is one short critical section: seal, write at the end of the open segment, tell the waiting tails. It
//! survives a crash of the process when it returns; with [`Durability::EachRecord`], a crash of the machine, one sync
//! serving all that wait for it. Invariants: a record is never dropped before every device has passed it; a failed
//! write leaves the segment for good, so that nothing is ever written over what may be half there; the sequences of
//! records have no repetition. Without a directory (a dev server) the same log lives in memory. Deliberately absent:
//! devices (`tail.rs`), what a record means (`codec.rs`).

mod cursor;
mod read;
mod recovery;
mod sealing;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{DiskFile, Open};
use tresor_env::{BoxFuture, Doors};
use tresor_secret::DataKey;

use crate::entry::Admission;
use crate::error::AuditError;
use cursor::CursorFile;
pub(crate) use read::{Reader, Record};
use sealing::SegmentKey;
use segment::{HEADER_BYTES, Header, Tag};

/// When a record counts as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is written: it survives a crash of the process. Synced in the background after at most this long.
    Process(Duration),
    /// When it is synced: it survives a loss of power. One sync serves all records that wait for it.
    EachRecord,
}

/// The bounds of the local log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When a record counts as accepted; default [`Durability::Process`] with one second.
    pub durability: Durability,
    /// How many bytes of records may wait for the slowest device before requests are refused; default 1 GiB. An
    /// eighth more is kept in reserve for [`Admission::Reserve`].
    pub backlog_bytes_max: u64,
    /// The same for a log in memory; default 64 MiB.
    pub memory_bytes_max: u64,
    /// A segment that has grown to this size is followed by a new one; default 16 MiB.
    pub segment_bytes_max: u64,
    /// How many bytes of sealed records are kept in memory for devices that keep up; default 4 MiB.
    pub recent_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Process(Duration::from_secs(1)),
            backlog_bytes_max: 1 << 30,
            memory_bytes_max: 64 << 20,
            segment_bytes_max: 16 << 20,
            recent_bytes_max: 4 << 20,
        }
    }
}

/// How the local log is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStanding {
    /// Whether the last record was taken; `false` means that requests are refused.
    pub accepting: bool,
    /// Why the last record was not taken.
    pub last_error: Option<String>,
    /// Bytes that wait for the slowest device.
    pub backlog_bytes: u64,
    /// The bound of that.
    pub backlog_bytes_max: u64,
    /// Records taken since the log was opened.
    pub records: u64,
    /// Syncs of the log's files since it was opened.
    pub syncs: u64,
    /// Bytes of a torn end that were cut off when the log was opened; none of it had been durable.
    pub cut_bytes: u64,
}

/// A segment's place in the log.
#[derive(Clone, Copy)]
struct Segment {
    number: u64,
    first_sequence: u64,
    /// Where its last valid frame ends.
    end: u64,
}

/// The segment that is written to.
struct Current {
    key: Arc<SegmentKey>,
    /// `None` in memory.
    file: Option<Arc<dyn DiskFile>>,
}

/// A sealed record that is still in memory.
#[derive(Clone)]
struct Recent {
    key: Arc<SegmentKey>,
    previous: Tag,
    frame: Arc<[u8]>,
}

/// One device's place.
struct Cursor {
    /// The next sequence to deliver.
    position: u64,
    /// Everything below was delivered durably; what no device needs any more is removed by this.
    safe: u64,
    lag_bytes: u64,
    /// Apart from the state, so that no append waits for the writing of a cursor.
    file: Option<Arc<Mutex<CursorFile>>>,
}

struct State {
    next_sequence: u64,
    tag: Tag,
    last_number: u64,
    /// Oldest first; the last one is the one that is written to, when there is one.
    segments: VecDeque<Segment>,
    current: Option<Current>,
    /// Files that must be synced before a successor may call them complete.
    unsynced: Vec<Arc<dyn DiskFile>>,
    durable_below: u64,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    cursors: BTreeMap<String, Cursor>,
    last_error: Option<String>,
    records: u64,
    syncs: u64,
}

/// How far the log is durable, and what a failed sync left in doubt.
#[derive(Default)]
struct Durable {
    below: u64,
    /// The newest spans of sequences whose sync failed; they count as not taken, whatever a later sync says.
    doubtful: VecDeque<Range<u64>>,
}

impl Durable {
    fn is_doubtful(&self, sequence: u64) -> bool {
        self.doubtful.iter().any(|span| span.contains(&sequence))
    }

    fn settled_below(&self) -> u64 {
        self.doubtful.back().map_or(self.below, |span| span.end.max(self.below))
    }
}

/// How many failed syncs are remembered for those that wait for them.
const DOUBTFUL_MAX: usize = 64;

/// The local audit log.
pub(crate) struct AuditLog {
    doors: Doors,
    directory: Option<PathBuf>,
    key: DataKey,
    header_key: HmacKey,
    options: LogOptions,
    cut_bytes: u64,
    state: Mutex<State>,
    /// The next sequence: tails wait for it to move.
    head: watch::Sender<u64>,
    /// Moves whenever a device has.
    delivered: watch::Sender<u64>,
    durable: watch::Sender<Durable>,
}

impl AuditLog {
    /// Opens the log with the cursors of these devices; cursors of other devices are forgotten. Blocking.
    pub(crate) fn open(
        doors: Doors,
        directory: Option<PathBuf>,
        key: &DataKey,
        options: LogOptions,
        devices: &[String],
    ) -> Result<Self, AuditError> {
        let header_key = sealing::header_key(key);
        let mut state = State {
            next_sequence: 1,
            tag: [0; 16],
            last_number: 0,
            segments: VecDeque::new(),
            current: None,
            unsynced: Vec::new(),
            durable_below: 1,
            recent: VecDeque::new(),
            recent_bytes: 0,
            cursors: BTreeMap::new(),
            last_error: None,
            records: 0,
            syncs: 0,
        };
        let mut cut_bytes = 0;
        if let Some(directory) = &directory {
            doors.disk.create_directory(directory).map_err(unavailable)?;
            let mut cursors = Vec::new();
            for name in doors.disk.names(directory).map_err(unavailable)? {
                if name.starts_with(CURSOR_PREFIX) && !devices.contains(&name) {
                    doors.disk.remove(&directory.join(name)).map_err(unavailable)?;
                }
            }
            for name in devices {
                let path = directory.join(name);
                let (file, position) = CursorFile::open(&*doors.disk, &path, &header_key).map_err(unavailable)?;
                cursors.push((name.clone(), file, position));
            }
            let wanted = cursors.iter().filter_map(|(_, _, position)| *position).min();
            let found = recovery::recover(&*doors.disk, directory, key, &header_key, wanted)?;
            let furthest = cursors.iter().filter_map(|(_, _, position)| *position).max();
            // A cursor may be ahead when power was lost: its sequences are never given again.
            state.next_sequence = found.next_sequence.max(furthest.unwrap_or(0));
            state.durable_below = state.next_sequence;
            state.tag = found.tag;
            state.last_number = found.last_number;
            state.segments = found.segments.into();
            cut_bytes = found.cut_bytes;
            let oldest = state.segments.front().map_or(state.next_sequence, |segment| segment.first_sequence);
            for (name, file, position) in cursors {
                let position = position.unwrap_or(oldest).max(oldest);
                let lag_bytes = state.bytes_from(position);
                let file = Some(Arc::new(Mutex::new(file)));
                let cursor = Cursor { position, safe: position, lag_bytes, file };
                state.cursors.insert(name, cursor);
            }
            doors.disk.sync_directory(directory).map_err(unavailable)?;
            if devices.is_empty() {
                for segment in state.segments.drain(..) {
                    doors.disk.remove(&directory.join(segment::name(segment.number))).map_err(unavailable)?;
                }
            }
        } else {
            for name in devices {
                state.cursors.insert(name.clone(), Cursor { position: 1, safe: 1, lag_bytes: 0, file: None });
            }
        }
        let durable = Durable { below: state.durable_below, doubtful: VecDeque::new() };
        Ok(Self {
            doors,
            directory,
            key: DataKey::new(*key.expose()),
            header_key,
            options,
            cut_bytes,
            head: watch::Sender::new(state.next_sequence),
            delivered: watch::Sender::new(0),
            durable: watch::Sender::new(durable),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn backlog_bytes_max(&self) -> u64 {
        if self.directory.is_some() { self.options.backlog_bytes_max } else { self.options.memory_bytes_max }
    }

    /// Takes a record; when this returns it survives a crash of the process. Await [`AuditLog::settle`] next.
    pub(crate) fn append(&self, record: &[u8], admission: Admission) -> Result<u64, AuditError> {
        let mut state = self.state();
        let bound = match admission {
            Admission::Ordinary => self.backlog_bytes_max(),
            Admission::Reserve => self.backlog_bytes_max() / 8 * 9,
        };
        if state.backlog_bytes().saturating_add(record.len() as u64) > bound {
            state.last_error = Some(AuditError::BacklogFull.to_string());
            return Err(AuditError::BacklogFull);
        }
        let written = self.write(&mut state, record);
        match written {
            Ok(sequence) => {
                state.last_error = None;
                drop(state);
                self.head.send_modify(|head| *head = (*head).max(sequence + 1));
                Ok(sequence)
            }
            Err(error) => {
                state.last_error = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn write(&self, state: &mut State, record: &[u8]) -> Result<u64, AuditError> {
        let full = state.segments.back().is_some_and(|segment| segment.end >= self.options.segment_bytes_max);
        if state.current.is_none() || full {
            self.begin_segment(state)?;
        }
        let (Some(current), Some(segment)) = (&state.current, state.segments.back_mut()) else {
            return Err(AuditError::LogUnavailable("no open segment".into()));
        };
        let sequence = state.next_sequence;
        let entropy = &*self.doors.entropy;
        let frame = segment::seal_frame(&current.key, sequence, state.durable_below, &state.tag, record, entropy)
            .ok_or(AuditError::LogUnavailable("record is too long".into()))?;
        if let Some(file) = &current.file
            && let Err(error) = file.write_all_at(segment.end, &frame.bytes)
        {
            // Part of it may be there: nothing is written to this segment again.
            let left = state.current.take().and_then(|current| current.file);
            state.unsynced.extend(left);
            return Err(unavailable(error));
        }
        let length = frame.bytes.len();
        segment.end += length as u64;
        state.recent.push_back(Recent {
            key: Arc::clone(&current.key),
            previous: state.tag,
            frame: frame.bytes.into(),
        });
        state.recent_bytes += length;
        state.tag = frame.tag;
        state.next_sequence += 1;
        state.records += 1;
        for cursor in state.cursors.values_mut() {
            cursor.lag_bytes += length as u64;
        }
        self.trim_recent(state);
        Ok(sequence)
    }

    fn trim_recent(&self, state: &mut State) {
        let bound = if self.directory.is_some() { self.options.recent_bytes_max } else { usize::MAX };
        let needed = state.cursors.values().map(|cursor| cursor.position).min().unwrap_or(state.next_sequence);
        while let Some(oldest) = state.recent.front() {
            let first = state.next_sequence - state.recent.len() as u64;
            if first >= needed && state.recent_bytes <= bound {
                break;
            }
            state.recent_bytes -= oldest.frame.len();
            state.recent.pop_front();
        }
    }

    /// Completes the segments so far and starts the next one. Everything that its header says is durable first.
    fn begin_segment(&self, state: &mut State) -> Result<(), AuditError> {
        let previous = state.segments.back().copied();
        let mut salt = [0; 32];
        self.doors.entropy.fill(&mut salt);
        let header = Header {
            number: state.last_number + 1,
            first_sequence: state.next_sequence,
            salt,
            previous_number: previous.map_or(0, |segment| segment.number),
            previous_end: previous.map_or(0, |segment| segment.end),
            previous_tag: state.tag,
        };
        state.last_number = header.number;
        let closing = state.current.take().and_then(|current| current.file);
        state.unsynced.extend(closing);
        let mut file = None;
        if let Some(directory) = &self.directory {
            while let Some(unsynced) = state.unsynced.last() {
                unsynced.sync().map_err(unavailable)?;
                state.syncs += 1;
                state.unsynced.pop();
            }
            let path = directory.join(segment::name(header.number));
            let new = self.doors.disk.open(&path, Open::New).map_err(unavailable)?;
            new.write_all_at(0, &header.encode(&self.header_key)).map_err(unavailable)?;
            new.sync().map_err(unavailable)?;
            state.syncs += 1;
            self.doors.disk.sync_directory(directory).map_err(unavailable)?;
            file = Some(new);
            state.durable_below = state.next_sequence;
        }
        state.current = Some(Current { key: Arc::new(header.segment_key(&self.key)), file });
        state.segments.push_back(Segment {
            number: header.number,
            first_sequence: header.first_sequence,
            end: HEADER_BYTES as u64,
        });
        Ok(())
    }

    /// Waits until a record is as safe as the configuration asks for.
    pub(crate) async fn settle(&self, sequence: u64) -> Result<(), AuditError> {
        if self.directory.is_none() || self.options.durability != Durability::EachRecord {
            return Ok(());
        }
        let mut durable = self.durable.subscribe();
        let settled = durable.wait_for(|durable| durable.below > sequence || durable.is_doubtful(sequence)).await;
        match settled {
            Ok(durable) if !durable.is_doubtful(sequence) => Ok(()),
            _ => Err(AuditError::LogUnavailable("sync failed".into())),
        }
    }

    /// The task that makes records durable behind the writers' backs; `None` for a log in memory.
    pub(crate) fn syncer(log: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        log.directory.as_ref()?;
        let log = Arc::clone(log);
        Some(Box::pin(async move {
            let mut head = log.head.subscribe();
            loop {
                let settled = log.durable.borrow().settled_below();
                if head.wait_for(|head| *head > settled).await.is_err() {
                    return;
                }
                if let Durability::Process(pause) = log.options.durability {
                    log.doors.clock.sleep(pause).await;
                }
                let syncing = Arc::clone(&log);
                let work = move || syncing.sync();
                // A failed sync is in the standing, and told to whoever waits for it.
                if !matches!(tresor_env::tasks::run_blocking(&*log.doors.workers, work).await, Ok(Ok(()))) {
                    log.doors.clock.sleep(SYNC_RETRY).await;
                }
            }
        }))
    }

    /// Makes everything appended so far durable. Blocking.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        let (files, target) = {
            let state = self.state();
            let current = state.current.as_ref().and_then(|current| current.file.clone());
            (state.unsynced.iter().cloned().chain(current).collect::<Vec<_>>(), state.next_sequence)
        };
        let outcome = files.iter().try_for_each(|file| file.sync());
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                state.syncs += files.len() as u64;
                state.unsynced.retain(|file| !files.iter().any(|synced| Arc::ptr_eq(file, synced)));
                state.durable_below = state.durable_below.max(target);
            }
            Err(_) => {
                // Nothing may be assumed of what was written: go on in a new segment.
                let failed = state.current.take().and_then(|current| current.file);
                state.unsynced.extend(failed);
            }
        }
        let below = state.durable_below;
        drop(state);
        self.durable.send_modify(|durable| {
            durable.below = durable.below.max(below);
            if outcome.is_err() && durable.below < target {
                durable.doubtful.push_back(durable.below..target);
                if durable.doubtful.len() > DOUBTFUL_MAX {
                    durable.doubtful.pop_front();
                }
            }
        });
        outcome.map_err(unavailable)
    }

    /// The sequence that the next record gets.
    pub(crate) fn head(&self) -> u64 {
        self.state().next_sequence
    }

    /// Completes when a record of this sequence, or a later one, is there.
    pub(crate) async fn wait_for_record(&self, sequence: u64) {
        let mut head = self.head.subscribe();
        if head.wait_for(|head| *head > sequence).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Completes when these devices have passed everything below `target`, or are gone.
    pub(crate) async fn wait_until_delivered(&self, names: &[String], target: u64) {
        let mut delivered = self.delivered.subscribe();
        loop {
            delivered.borrow_and_update();
            let behind = {
                let state = self.state();
                names.iter().any(|name| state.cursors.get(name).is_some_and(|cursor| cursor.position < target))
            };
            if !behind || delivered.changed().await.is_err() {
                return;
            }
        }
    }

    /// Starts a new device at the end of the log.
    pub(crate) fn register_at_head(&self, name: &str) -> Result<(), AuditError> {
        let mut file = None;
        if let Some(directory) = &self.directory {
            let path = directory.join(name);
            let mut opened = CursorFile::open(&*self.doors.disk, &path, &self.header_key).map_err(unavailable)?;
            opened.0.write(self.head(), &self.header_key).map_err(unavailable)?;
            opened.0.sync().map_err(unavailable)?;
            self.doors.disk.sync_directory(directory).map_err(unavailable)?;
            file = Some(opened.0);
        }
        // Records that came meanwhile are not of this device; its stored place is a little early, which costs nothing.
        let mut state = self.state();
        let position = state.next_sequence;
        let file = file.map(|file| Arc::new(Mutex::new(file)));
        state.cursors.insert(name.to_owned(), Cursor { position, safe: position, lag_bytes: 0, file });
        Ok(())
    }

    /// Notes that a device has taken everything below `position`, `bytes` more than before.
    pub(crate) fn advance(&self, name: &str, position: u64, bytes: u64) {
        let mut state = self.state();
        let head = state.next_sequence;
        let Some(cursor) = state.cursors.get_mut(name) else { return };
        cursor.position = cursor.position.max(position);
        cursor.lag_bytes = if cursor.position >= head { 0 } else { cursor.lag_bytes.saturating_sub(bytes) };
        let file = cursor.file.clone();
        if file.is_none() {
            cursor.safe = cursor.position;
            self.remove_passed(&mut state);
        }
        self.forgive_backlog(&mut state);
        self.trim_recent(&mut state);
        drop(state);
        if let Some(file) = file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // A cursor that is not written costs deliveries made twice after a crash, nothing else.
            drop(file.write(position, &self.header_key));
        }
        self.delivered.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A backlog that is no longer full is no longer a reason to refuse.
    fn forgive_backlog(&self, state: &mut State) {
        if state.last_error.as_deref() == Some(BACKLOG_FULL) && state.backlog_bytes() < self.backlog_bytes_max() {
            state.last_error = None;
        }
    }

    /// Whether a device has passed whole segments that only its confirmation keeps: sync the sink, then
    /// [`AuditLog::confirm`].
    pub(crate) fn wants_confirmation(&self, name: &str) -> bool {
        let state = self.state();
        let Some(cursor) = state.cursors.get(name) else { return false };
        state
            .segments
            .get(1)
            .is_some_and(|next| cursor.safe < next.first_sequence && next.first_sequence <= cursor.position)
    }

    /// Notes that everything a device has taken survives a loss of power, and removes what no device needs. Blocking.
    pub(crate) fn confirm(&self, name: &str) -> Result<(), AuditError> {
        let (position, file) = {
            let state = self.state();
            let Some(cursor) = state.cursors.get(name) else { return Ok(()) };
            (cursor.position, cursor.file.clone())
        };
        if let Some(file) = file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // Into both slots, so that whichever survives a torn write later is past what is removed now.
            file.write(position, &self.header_key).map_err(unavailable)?;
            file.write(position, &self.header_key).map_err(unavailable)?;
            file.sync().map_err(unavailable)?;
        }
        let mut state = self.state();
        if let Some(cursor) = state.cursors.get_mut(name) {
            cursor.safe = position;
        }
        self.remove_passed(&mut state);
        Ok(())
    }

    /// Forgets a device and what was kept for it.
    pub(crate) fn forget(&self, name: &str) {
        let mut state = self.state();
        if state.cursors.remove(name).is_some()
            && let Some(directory) = &self.directory
        {
            // Left behind it is removed when the log is opened.
            drop(self.doors.disk.remove(&directory.join(name)));
        }
        self.forgive_backlog(&mut state);
        self.trim_recent(&mut state);
        self.remove_passed(&mut state);
        drop(state);
        self.delivered.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Removes the segments that every device has passed; with no device left, all of them.
    fn remove_passed(&self, state: &mut State) {
        let needed = state.cursors.values().map(|cursor| cursor.safe).min();
        if needed.is_none() {
            state.current = None;
            state.unsynced.clear();
        }
        while let Some(oldest) = state.segments.front() {
            let is_passed = match (needed, state.segments.get(1)) {
                (None, _) => true,
                (Some(needed), Some(next)) => next.first_sequence <= needed,
                (Some(_), None) => false,
            };
            if !is_passed {
                return;
            }
            if let Some(directory) = &self.directory
                && let Err(error) = self.doors.disk.remove(&directory.join(segment::name(oldest.number)))
                && error.kind() != io::ErrorKind::NotFound
            {
                // Tried again with the next confirmation.
                return;
            }
            state.segments.pop_front();
        }
    }

    /// How the log is doing.
    pub(crate) fn standing(&self) -> LogStanding {
        let state = self.state();
        LogStanding {
            accepting: state.last_error.is_none(),
            last_error: state.last_error.clone(),
            backlog_bytes: state.backlog_bytes(),
            backlog_bytes_max: self.backlog_bytes_max(),
            records: state.records,
            syncs: state.syncs,
            cut_bytes: self.cut_bytes,
        }
    }

    /// How many records and bytes a device has not taken.
    pub(crate) fn lag(&self, name: &str) -> (u64, u64) {
        let state = self.state();
        let cursor = state.cursors.get(name);
        cursor.map_or((0, 0), |cursor| (state.next_sequence.saturating_sub(cursor.position), cursor.lag_bytes))
    }

    /// Where a device stands.
    pub(crate) fn position(&self, name: &str) -> Option<u64> {
        self.state().cursors.get(name).map(|cursor| cursor.position)
    }

    /// Whether a sink must be durable before its cursor moves.
    pub(crate) fn syncs_each_record(&self) -> bool {
        self.directory.is_some() && self.options.durability == Durability::EachRecord
    }
}

impl State {
    fn backlog_bytes(&self) -> u64 {
        self.cursors.values().map(|cursor| cursor.lag_bytes).max().unwrap_or(0)
    }

    /// Bytes of the segments that hold records from a sequence on; whole segments are counted.
    fn bytes_from(&self, sequence: u64) -> u64 {
        if sequence >= self.next_sequence {
            return 0;
        }
        let first = self.segments.partition_point(|segment| segment.first_sequence <= sequence).saturating_sub(1);
        self.segments.iter().skip(first).map(|segment| segment.end.saturating_sub(HEADER_BYTES as u64)).sum()
    }
}

/// What the names of cursor files start with.
pub(crate) const CURSOR_PREFIX: &str = "cursor-";

const BACKLOG_FULL: &str = "audit backlog is full: devices do not keep up";

/// How long the syncer waits after a sync that failed.
const SYNC_RETRY: Duration = Duration::from_millis(200);

fn unavailable(error: io::Error) -> AuditError {
    AuditError::LogUnavailable(error.to_string().into())
}

fn damaged(number: u64, offset: u64) -> AuditError {
    AuditError::Damaged { segment: segment::name(number), offset }
}
