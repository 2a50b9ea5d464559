//! The local audit log: what every record must reach before its request goes on.
//!
//! An append is one short critical section: seal what came together, one buffered write at the end of the open segment,
//! tell the waiting tails (`group.rs`). It survives a crash of the process when it returns; with [`Durability::EachRecord`], a crash of the machine,
//! one sync serving all that wait for it. Invariants: within that section nothing is synced, created or removed (the
//! next segment is made ready beforehand, `turning.rs`); a record is never dropped before every device has passed it; a
//! failed write leaves the segment for good, so that nothing is ever written over what may be half there; the sequences
//! of records have no repetition. Without a directory (a dev server) the same log lives in memory. Deliberately absent:
//! devices (`tail.rs`), what a record means (`codec.rs`).

mod cursor;
mod durability;
mod group;
mod healing;
mod places;
mod read;
mod recovery;
mod sealing;
mod segment;
mod turning;
mod whose;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::DiskFile;
use tresor_env::{Doors, Signal};
use tresor_secret::DataKey;
use tresor_secret::Wiped;

use crate::error::AuditError;
use cursor::CursorFile;
use durability::Durable;
use group::{Company, Group};
pub(crate) use read::{Reader, Record};
use sealing::SegmentKey;
use segment::{FRAMES_AT, Tag};
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
    /// Keep the places of devices that are not known when the log is opened, until it is said that all are; default false.
    pub keeps_unknown: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Process(Duration::from_secs(1)),
            backlog_bytes_max: 1 << 30,
            memory_bytes_max: 64 << 20,
            segment_bytes_max: 16 << 20,
            recent_bytes_max: 4 << 20,
            keeps_unknown: false,
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
    /// Where the log of another cluster lies now, which was in its place when it was opened.
    pub set_aside: Option<PathBuf>,
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
    record: Arc<Wiped<Vec<u8>>>,
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
    /// The frames that were sealed last; room for the next.
    frames: Vec<u8>,
    /// What is to be written next.
    group: Group,
    company: Company,
    cursors: BTreeMap<String, Cursor>,
    /// Of these, the ones whose devices were not known when the log was opened.
    unclaimed: BTreeSet<String>,
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
#[derive(Clone, Default)]
struct Opened {
    cut_bytes: u64,
    lost_records: u64,
    was_missing: bool,
    set_aside: Option<PathBuf>,
}

impl AuditLog {
    /// Opens the log with the cursors of these devices; cursors of other devices are forgotten, unless not
    /// all devices may be known yet ([`LogOptions::keeps_unknown`]). Blocking.
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
            frames: Vec::new(),
            group: Group::default(),
            company: Company::default(),
            cursors: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
            last_error: None,
            records: 0,
            syncs: 0,
            is_closed: false,
        };
        let mut opened = Opened::default();
        if let Some(directory) = &directory {
            doors.disk.create_directory(directory).map_err(unavailable)?;
            opened.set_aside = whose::set_aside_if_another_s(&*doors.disk, directory, &header_key)?;
            let mut cursors = Vec::new();
            let names = doors.disk.names(directory).map_err(unavailable)?.into_iter();
            for name in names.filter(|name| name.starts_with(CURSOR_PREFIX) && !devices.contains(name)) {
                if options.keeps_unknown {
                    state.unclaimed.insert(name);
                } else {
                    doors.disk.remove(&directory.join(name)).map_err(unavailable)?;
                }
            }
            for name in devices.iter().chain(&state.unclaimed) {
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
            whose::say(&*doors.disk, directory, &header_key).map_err(unavailable)?;
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
            if state.cursors.is_empty() {
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
            set_aside: self.opened.set_aside.clone(),
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

/// What the names of cursor files start with.
pub(crate) const CURSOR_PREFIX: &str = "cursor-";

const BACKLOG_FULL: &str = "audit backlog is full: devices do not keep up";

fn unavailable(error: io::Error) -> AuditError {
    AuditError::LogUnavailable(error.to_string().into())
}

fn removed() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the file of the local audit log was removed")
}

fn damaged(number: u64, offset: u64) -> AuditError {
    AuditError::Damaged { segment: segment::name(number), offset }
}
