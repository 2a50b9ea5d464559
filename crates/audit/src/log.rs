//! The local audit log: what every record must reach before its request goes on.
//!
//! An append is one short critical section: seal, write at the end of the open segment, tell the waiting tails. It
//! survives a crash of the process when it returns; with [`Durability::EachRecord`], a crash of the machine, one sync
//! serving all that wait for it. Invariants: a record is never dropped before every device has passed it; a failed
//! write leaves the segment for good, so that nothing is ever written over what may be half there; the sequences of
//! records have no repetition. Without a directory (a dev server) the same log lives in memory. Deliberately absent:
//! devices (`tail.rs`), what a record means (`codec.rs`).

mod cursor;
mod durability;
mod healing;
mod places;
mod read;
mod recovery;
mod sealing;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{DiskFile, Open};
use tresor_env::{Doors, Signal};
use tresor_secret::DataKey;

use crate::entry::Admission;
use crate::error::AuditError;
use cursor::CursorFile;
use durability::Durable;
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
    cut_bytes: u64,
    state: Mutex<State>,
    /// The next sequence: tails wait for it to move.
    head: Signal<u64>,
    /// Moves whenever a device has.
    delivered: Signal<u64>,
    durable: Signal<Durable>,
    /// Whether the last record was not taken.
    failing: Signal<bool>,
    closed: Signal<bool>,
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
            is_closed: false,
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
        let durable = Durable::below(state.durable_below);
        Ok(Self {
            doors,
            directory,
            key: DataKey::new(*key.expose()),
            header_key,
            options,
            cut_bytes,
            head: Signal::new(state.next_sequence),
            delivered: Signal::new(0),
            durable: Signal::new(durable),
            failing: Signal::new(false),
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

    /// Takes a record; when this returns it survives a crash of the process. Await [`AuditLog::settle`] next.
    pub(crate) fn append(&self, record: &[u8], admission: Admission) -> Result<u64, AuditError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AuditError::LogUnavailable("closed".into()));
        }
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
                self.head.update(|head| *head = (*head).max(sequence + 1));
                Ok(sequence)
            }
            Err(error) => {
                state.last_error = Some(error.to_string());
                drop(state);
                self.failing.update(|failing| *failing = true);
                Err(error)
            }
        }
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

    /// Whether the last record was taken.
    pub(crate) fn is_accepting(&self) -> bool {
        self.state().last_error.is_none()
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
            file = Some(self.create_segment(directory, &header)?);
            state.syncs += 1;
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

    fn create_segment(&self, directory: &Path, header: &Header) -> Result<Arc<dyn DiskFile>, AuditError> {
        let disk = &*self.doors.disk;
        let path = directory.join(segment::name(header.number));
        let new = disk.open(&path, Open::New).map_err(unavailable)?;
        let made = new
            .write_all_at(0, &header.encode(&self.header_key))
            .and_then(|()| new.sync())
            .and_then(|()| disk.sync_directory(directory));
        if let Err(error) = made {
            // A full disk must not fill with beginnings; what cannot be removed now is removed by the next opening.
            drop(disk.remove(&path));
            return Err(unavailable(error));
        }
        Ok(new)
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
            cut_bytes: self.cut_bytes,
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
        self.segments.iter().skip(first).map(|segment| segment.end.saturating_sub(HEADER_BYTES as u64)).sum()
    }
}

/// What the names of cursor files start with.
pub(crate) const CURSOR_PREFIX: &str = "cursor-";

const BACKLOG_FULL: &str = "audit backlog is full: devices do not keep up";

fn unavailable(error: io::Error) -> AuditError {
    AuditError::LogUnavailable(error.to_string().into())
}

fn damaged(number: u64, offset: u64) -> AuditError {
    AuditError::Damaged { segment: segment::name(number), offset }
}
