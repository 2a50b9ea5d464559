//! The local audit log: what every record must reach before its request goes on.
//!
//! An append is one short critical section: seal, one buffered write at the end of the open segment, tell the waiting
//! tails. It survives a crash of the process when it returns; with [`Durability::EachRecord`], a crash of the machine,
//! one sync serving all that wait for it. Invariants: within that section nothing is synced, created or removed (the
//! next segment is made ready beforehand, `turning.rs`); a record is never dropped before every device has passed it; a
//! failed write leaves the segment for good, so that nothing is ever written over what may be half there; the sequences
//! of records have no repetition. Without a directory (a dev server) the same log lives in memory. Deliberately absent:
//! devices (`tail.rs`), what a record means (`codec.rs`).

mod cursor;
mod durability;
mod healing;
mod places;
mod read;
mod recovery;
mod sealing;
mod segment;
mod turning;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::DiskFile;
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Signal};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use crate::entry::Admission;
use crate::error::AuditError;
use cursor::CursorFile;
use durability::Durable;
pub(crate) use read::{Reader, Record};
use sealing::SegmentKey;
use segment::{FRAMES_AT, HEADER_BYTES, Tag};
use turning::{Spare, Turn};

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
    /// A segment that has grown to this size is followed by a new one as soon as one is ready; default 16 MiB.
    pub segment_bytes_max: u64,
    /// How many bytes of records are kept in memory for devices that keep up; default 4 MiB.
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
    /// Records that were missing when the log was opened, because a sync had failed and the power went.
    pub lost_records: u64,
    /// There were devices when the log was opened, and no log and no place of any: its directory vanished.
    pub was_missing: bool,
}

/// A segment's place in the log.
#[derive(Clone, Copy)]
struct Segment {
    number: u64,
    first_sequence: u64,
    /// Where its last valid frame ends.
    end: u64,
    /// How much of it is durable.
    durable_end: u64,
}

/// The segment that is written to.
struct Current {
    number: u64,
    key: Arc<SegmentKey>,
    /// `None` in memory.
    file: Option<Arc<dyn DiskFile>>,
    /// Until the first frame is written with it.
    turn: Option<Turn>,
}

/// A record that is still in memory, in the clear as it came: devices that keep up open nothing.
#[derive(Clone)]
struct Recent {
    record: Arc<Zeroizing<Vec<u8>>>,
    frame_bytes: u64,
}

impl Recent {
    /// How much memory it takes.
    fn bytes(&self) -> usize {
        self.record.capacity()
    }
}

/// One device's place.
struct Cursor {
    /// The next sequence to deliver.
    position: u64,
    /// Everything below has arrived for good, and is on disk as the place to start from; what no device needs any more
    /// is removed by this.
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
    /// The next segment, made ready and not used yet.
    spare: Option<Spare>,
    /// Whether a spare is in the making.
    is_preparing: bool,
    /// Earlier segments that are not synced yet.
    unsynced: Vec<Arc<dyn DiskFile>>,
    durable_below: u64,
    /// From which sequence on a failed sync left records in doubt, until the next segment says so.
    doubtful_from: Option<u64>,
    /// Files that are to be removed.
    doomed: Vec<u64>,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// The last frame that was sealed; room for the next.
    frame: Vec<u8>,
    cursors: BTreeMap<String, Cursor>,
    last_error: Option<String>,
    records: u64,
    syncs: u64,
    /// Another log may be open on the same directory: nothing is written any more.
    is_closed: bool,
}

/// The local audit log.
pub(crate) struct AuditLog {
    doors: Doors,
    directory: Option<PathBuf>,
    key: DataKey,
    header_key: HmacKey,
    options: LogOptions,
    /// What there was to tell when it was opened.
    opened: Opened,
    state: Mutex<State>,
    /// The next sequence: tails wait for it to move.
    head: Signal<u64>,
    /// Moves whenever a device has.
    delivered: Signal<u64>,
    durable: Signal<Durable>,
    /// Whether the last record was not taken.
    failing: Signal<bool>,
    /// Whether the spare is used up.
    wants_spare: Signal<bool>,
    /// Moves whenever the making of a spare has ended.
    prepared: Signal<u64>,
    closed: Signal<bool>,
}

/// What was found when the log was opened.
#[derive(Clone, Copy, Default)]
struct Opened {
    cut_bytes: u64,
    lost_records: u64,
    was_missing: bool,
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
            spare: None,
            is_preparing: false,
            unsynced: Vec::new(),
            durable_below: 1,
            doubtful_from: None,
            doomed: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            frame: Vec::new(),
            cursors: BTreeMap::new(),
            last_error: None,
            records: 0,
            syncs: 0,
            is_closed: false,
        };
        let mut opened = Opened::default();
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
            opened.cut_bytes = found.cut_bytes;
            opened.lost_records = found.lost_records;
            opened.was_missing = !devices.is_empty() && wanted.is_none() && state.segments.is_empty();
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
        let durable = Durable::below(state.durable_below);
        Ok(Self {
            doors,
            directory,
            key: DataKey::new(*key.expose()),
            header_key,
            options,
            opened,
            head: Signal::new(state.next_sequence),
            delivered: Signal::new(0),
            durable: Signal::new(durable),
            failing: Signal::new(false),
            wants_spare: Signal::new(false),
            prepared: Signal::new(0),
            closed: Signal::new(false),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn backlog_bytes_max(&self) -> u64 {
        if self.directory.is_some() { self.options.backlog_bytes_max } else { self.options.memory_bytes_max }
    }

    /// Takes a record; when this returns it survives a crash of the process. Await [`AuditLog::settle`] with its
    /// sequence next.
    pub(crate) async fn append(
        self: &Arc<Self>,
        record: Zeroizing<Vec<u8>>,
        admission: Admission,
    ) -> Result<u64, AuditError> {
        if self.needs_segment() {
            // Only after a failure, or at the very beginning: usually one is ready.
            let preparing = Arc::clone(self);
            let work = move || preparing.prepare_spare();
            let prepared = run_blocking(&*self.doors.workers, work)
                .await
                .unwrap_or_else(|_| Err(AuditError::LogUnavailable("preparing a segment panicked".into())));
            if let Err(error) = prepared {
                return Err(self.refuse(error));
            }
            self.wait_for_spare().await;
        }
        self.append_now(record, admission)
    }

    fn append_now(&self, record: Zeroizing<Vec<u8>>, admission: Admission) -> Result<u64, AuditError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AuditError::Closed);
        }
        let bound = match admission {
            Admission::Ordinary => self.backlog_bytes_max(),
            Admission::Reserve => self.backlog_bytes_max() / 8 * 9,
        };
        if state.backlog_bytes().saturating_add(record.len() as u64) > bound {
            note(&mut state, &AuditError::BacklogFull);
            return Err(AuditError::BacklogFull);
        }
        let written = self.write(&mut state, record);
        let wants_spare = state.spare.is_none() && self.directory.is_some();
        match written {
            Ok(sequence) => {
                state.last_error = None;
                drop(state);
                self.head.update(|head| *head = (*head).max(sequence + 1));
                if wants_spare && !self.wants_spare.read(|wants| *wants) {
                    self.wants_spare.update(|wants| *wants = true);
                }
                Ok(sequence)
            }
            Err(error) => {
                drop(state);
                Err(self.refuse(error))
            }
        }
    }

    /// Notes why a record is not taken.
    fn refuse(&self, error: AuditError) -> AuditError {
        note(&mut self.state(), &error);
        self.failing.update(|failing| *failing = true);
        error
    }

    /// Takes no record any more and writes nothing any more.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.closed.update(|closed| *closed = true);
    }

    /// Completes when the log is closed.
    pub(crate) async fn wait_until_closed(&self) {
        self.closed.wait_for(|closed| closed.then_some(())).await;
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.read(|closed| *closed)
    }

    /// Why the last record was not taken; `None` when it was.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.state().last_error.clone()
    }

    /// Seals a frame and writes it. Nothing here may wait for the disk.
    fn write(&self, state: &mut State, record: Zeroizing<Vec<u8>>) -> Result<u64, AuditError> {
        let full = state.segments.back().is_some_and(|segment| segment.end >= self.options.segment_bytes_max);
        if state.current.is_none() || (full && (state.spare.is_some() || self.directory.is_none())) {
            self.turn(state)?;
        }
        let mut bytes = std::mem::take(&mut state.frame);
        bytes.clear();
        let written = self.write_frame(state, &record, &mut bytes);
        let (sequence, frame_bytes) = (state.next_sequence, written.as_ref().map_or(0, |written| *written));
        if bytes.capacity() <= FRAME_ROOM_MAX {
            state.frame = bytes;
        }
        written?;
        let recent = Recent { record: Arc::new(record), frame_bytes };
        state.recent_bytes += recent.bytes();
        state.recent.push_back(recent);
        state.next_sequence += 1;
        state.records += 1;
        for cursor in state.cursors.values_mut() {
            cursor.lag_bytes += frame_bytes;
        }
        self.trim_recent(state);
        Ok(sequence)
    }

    /// The same, as far as the segment goes: how long the frame is.
    fn write_frame(&self, state: &mut State, record: &[u8], bytes: &mut Vec<u8>) -> Result<u64, AuditError> {
        let Some(current) = &mut state.current else {
            return Err(AuditError::LogUnavailable("no open segment".into()));
        };
        // A segment counts once its first frame is written.
        let (at, durable_end) = match (&current.turn, state.segments.back()) {
            (Some(turn), _) => {
                bytes.extend_from_slice(&turn.opening);
                (HEADER_BYTES as u64, 0)
            }
            (None, Some(segment)) => (segment.end, segment.durable_end),
            (None, None) => return Err(AuditError::LogUnavailable("no open segment".into())),
        };
        let opening_bytes = bytes.len();
        // What was sealed under a sequence that is given again after an error here has been seen by nobody.
        let tag = segment::seal_frame(&current.key, state.next_sequence, durable_end, &state.tag, record, bytes)
            .ok_or(AuditError::LogUnavailable("record is too long".into()))?;
        if let Some(file) = &current.file
            && let Err(error) = file.write_all_at(at, bytes).and_then(|()| self.check_place(current.number, &**file))
        {
            // Part of it may be there, or nowhere any more: nothing is written to this segment again.
            if error.kind() == io::ErrorKind::NotFound {
                self.leave(state)
            } else {
                self.abandon(state)
            }
            return Err(unavailable(error));
        }
        if current.turn.take().is_some() {
            let (number, first_sequence) = (current.number, state.next_sequence);
            state.segments.push_back(Segment { number, first_sequence, end: FRAMES_AT, durable_end: 0 });
            state.doubtful_from = None;
        }
        let frame_bytes = (bytes.len() - opening_bytes) as u64;
        if let Some(segment) = state.segments.back_mut() {
            segment.end += frame_bytes;
        }
        state.tag = tag;
        Ok(frame_bytes)
    }

    /// Whether a segment's file is still the one that has its name: a file that was removed takes whatever is written, and
    /// nobody would ever find it.
    fn check_place(&self, number: u64, file: &dyn DiskFile) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        match (self.doors.disk.identity(&directory.join(segment::name(number))), file.identity()) {
            (Ok(named), Ok(open)) if named.is(open) => Ok(()),
            // Where files cannot be told apart.
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "the file of the local audit log was removed")),
        }
    }

    /// Leaves the segment that is written to, for good.
    fn abandon(&self, state: &mut State) {
        match state.current.take() {
            // It holds nothing that was ever accepted.
            Some(unused) if unused.turn.is_some() => state.doomed.push(unused.number),
            Some(used) => state.unsynced.extend(used.file),
            None => {}
        }
    }

    /// Leaves the directory as well, for as long as no segment can be made there: nothing is taken before.
    fn leave(&self, state: &mut State) {
        self.abandon(state);
        state.doomed.extend(state.spare.take().map(|spare| spare.header.number));
    }

    fn trim_recent(&self, state: &mut State) {
        let bound = if self.directory.is_some() { self.options.recent_bytes_max } else { usize::MAX };
        // What may have to be delivered again can be read from disk, if there is one.
        let place = |cursor: &Cursor| if self.directory.is_some() { cursor.position } else { cursor.safe };
        let needed = state.cursors.values().map(place).min().unwrap_or(state.next_sequence);
        while let Some(oldest) = state.recent.front() {
            let first = state.next_sequence - state.recent.len() as u64;
            if first >= needed && state.recent_bytes <= bound {
                break;
            }
            state.recent_bytes -= oldest.bytes();
            state.recent.pop_front();
        }
    }

    /// The sequence that the next record gets.
    pub(crate) fn head(&self) -> u64 {
        self.state().next_sequence
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
            cut_bytes: self.opened.cut_bytes,
            lost_records: self.opened.lost_records,
            was_missing: self.opened.was_missing,
        }
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
        self.segments.iter().skip(first).map(|segment| segment.end.saturating_sub(FRAMES_AT)).sum()
    }
}

/// Notes why a record is not taken, and says so once.
fn note(state: &mut State, error: &AuditError) {
    if state.last_error.is_none() {
        tracing::error!(%error, "the local audit log takes no records: requests are refused");
    }
    state.last_error = Some(error.to_string());
}

/// How much room for a frame is kept from one to the next, in bytes.
const FRAME_ROOM_MAX: usize = 64 * 1024;

/// What the names of cursor files start with.
pub(crate) const CURSOR_PREFIX: &str = "cursor-";

const BACKLOG_FULL: &str = "audit backlog is full: devices do not keep up";

fn unavailable(error: io::Error) -> AuditError {
    AuditError::LogUnavailable(error.to_string().into())
}

fn damaged(number: u64, offset: u64) -> AuditError {
    AuditError::Damaged { segment: segment::name(number), offset }
}
