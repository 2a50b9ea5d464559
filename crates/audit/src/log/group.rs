//! Appending: records that come together go out together, in one write.
//!
//! A record joins the group that is being put together. While many come, the first of a group lets the others that can
//! run come as far, as long as each round brings more, and writes for all; who comes alone writes at once, but for a look
//! now and then whether that is still so. Invariants: a group is taken as a whole or not at all, also when its first is
//! dropped; within the critical section nothing is synced, created or removed. Deliberately absent: waiting for anything
//! but requests that can run.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tresor_env::disk::DiskFile;
use tresor_env::tasks::run_blocking;
use tresor_secret::Wiped;

use super::sealing::SegmentKey;
use super::segment::{self, FRAMES_AT, HEADER_BYTES, SEALED_BYTES_MAX};
use super::{AuditLog, Recent, Segment, State, note, removed, unavailable};
use crate::entry::Admission;
use crate::error::AuditError;

/// A group that has grown to so many bytes waits for no more.
const GROUP_BYTES_MAX: usize = 256 * 1024;
/// How much room for frames is kept from one group to the next, in bytes.
const FRAMES_ROOM_MAX: usize = 128 * 1024;
/// Who came alone looks for company again after so many records.
const LOOK_AFTER: u32 = 64;
/// How often a group lets the others run before it is written.
const ROUNDS_MAX: usize = 4;

/// What became of a group: the sequence of its first record.
#[derive(Default)]
struct Outcome {
    first: OnceLock<Result<u64, AuditError>>,
    /// Those who wait for its first.
    others: Notify,
}

/// Records that wait to be written together.
#[derive(Default)]
pub(super) struct Group {
    records: Vec<Wiped<Vec<u8>>>,
    bytes: usize,
    outcome: Arc<Outcome>,
}

/// Whether records come together.
#[derive(Default)]
pub(super) struct Company {
    is_there: bool,
    alone: u32,
}

/// A record's place in a group.
struct Joined {
    outcome: Arc<Outcome>,
    at: u64,
    /// Whether more are waited for.
    waits: bool,
}

/// The first of a group, who ends it whatever happens: the others wait for that.
struct First<'l> {
    log: &'l AuditLog,
    outcome: Arc<Outcome>,
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.log.end_group(&self.outcome, AuditLog::write);
    }
}

impl Company {
    /// Whether whoever joins now should wait for others.
    const fn is_likely(&self) -> bool {
        self.is_there || self.alone >= LOOK_AFTER
    }

    /// So many records went out together.
    const fn note(&mut self, records: usize) {
        self.is_there = records > 1;
        self.alone = if self.is_there || self.alone >= LOOK_AFTER { 0 } else { self.alone + 1 };
    }
}

impl AuditLog {
    /// Takes a record; when this returns it survives a crash of the process. Await [`AuditLog::settle`] with its
    /// sequence next.
    pub(crate) async fn append(
        self: &Arc<Self>,
        record: Wiped<Vec<u8>>,
        admission: Admission,
    ) -> Result<u64, AuditError> {
        let joined = self.join(record, admission)?;
        let first = (joined.at == 0).then(|| First { log: self, outcome: Arc::clone(&joined.outcome) });
        if first.is_some() && joined.waits {
            self.gather(&joined.outcome).await;
        } else if joined.waits {
            self.wait_for_first(&joined.outcome).await;
        }
        if joined.outcome.first.get().is_none() && self.needs_segment() {
            // Only after a failure, or at the very beginning: usually one is ready.
            let preparing = Arc::clone(self);
            let work = move || preparing.prepare_spare();
            let prepared = run_blocking(&*self.doors.workers, work)
                .await
                .unwrap_or_else(|_| Err(AuditError::LogUnavailable("preparing a segment panicked".into())));
            if let Err(error) = prepared {
                self.end_group(&joined.outcome, |_, _, _| Err(error));
            }
            self.wait_for_spare().await;
        }
        self.end_group(&joined.outcome, Self::write);
        match joined.outcome.first.get() {
            Some(Ok(first)) => Ok(first + joined.at),
            Some(Err(error)) => Err(error.clone()),
            None => Err(AuditError::LogUnavailable("a group of records was lost".into())),
        }
    }

    /// Lets those that can run join a group, as long as each round brings more.
    async fn gather(&self, outcome: &Arc<Outcome>) {
        let mut known = 1;
        for _ in 0..ROUNDS_MAX {
            tokio::task::yield_now().await;
            let state = self.state();
            let is_open = outcome.first.get().is_none() && Arc::ptr_eq(&state.group.outcome, outcome);
            let records = state.group.records.len();
            if !is_open || records == known || state.group.bytes >= GROUP_BYTES_MAX {
                return;
            }
            known = records;
        }
    }

    /// Waits until a group has ended.
    async fn wait_for_first(&self, outcome: &Arc<Outcome>) {
        let ended = outcome.others.notified();
        if outcome.first.get().is_none() {
            ended.await;
        }
    }

    /// Adds a record to the group in the making.
    fn join(&self, record: Wiped<Vec<u8>>, admission: Admission) -> Result<Joined, AuditError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AuditError::Closed);
        }
        if SegmentKey::sealed_length(record.len()) > SEALED_BYTES_MAX {
            return Err(AuditError::LogUnavailable("record is too long".into()));
        }
        let bound = match admission {
            Admission::Ordinary => self.backlog_bytes_max(),
            Admission::Reserve => self.backlog_bytes_max() / 8 * 9,
        };
        let waiting = state.backlog_bytes().saturating_add(state.group.bytes as u64);
        if waiting.saturating_add(record.len() as u64) > bound {
            note(&mut state, &AuditError::BacklogFull);
            return Err(AuditError::BacklogFull);
        }
        let is_likely = state.company.is_likely();
        let group = &mut state.group;
        group.bytes += record.len();
        group.records.push(record);
        let at = group.records.len() as u64 - 1;
        let waits = is_likely && group.bytes < GROUP_BYTES_MAX;
        Ok(Joined { outcome: Arc::clone(&group.outcome), at, waits })
    }

    /// Ends a group, unless somebody else did.
    fn end_group(
        &self,
        outcome: &Arc<Outcome>,
        end: impl FnOnce(&Self, &mut State, Vec<Wiped<Vec<u8>>>) -> Result<u64, AuditError>,
    ) {
        let mut state = self.state();
        if outcome.first.get().is_some() || !Arc::ptr_eq(&state.group.outcome, outcome) {
            return;
        }
        let records = std::mem::take(&mut state.group).records;
        state.company.note(records.len());
        let ended = if state.is_closed { Err(AuditError::Closed) } else { end(self, &mut state, records) };
        let next = state.next_sequence;
        let wants_spare = state.spare.is_none() && self.directory.is_some();
        match &ended {
            Ok(_) => state.last_error = None,
            Err(AuditError::Closed) => {}
            Err(error) => note(&mut state, error),
        }
        // Nobody else ends it: it is in the making no more.
        let _ = outcome.first.set(ended.clone());
        drop(state);
        outcome.others.notify_waiters();
        match ended {
            Ok(_) => {
                self.head.update(|head| *head = (*head).max(next));
                if wants_spare && !self.wants_spare.read(|wants| *wants) {
                    self.wants_spare.update(|wants| *wants = true);
                }
            }
            Err(AuditError::Closed) => {}
            Err(_) => self.failing.update(|failing| *failing = true),
        }
    }

    /// Seals the frames of records and writes them: the sequence of the first. Nothing here may wait for the disk.
    fn write(&self, state: &mut State, records: Vec<Wiped<Vec<u8>>>) -> Result<u64, AuditError> {
        let full = state.segments.back().is_some_and(|segment| segment.end >= self.options.segment_bytes_max);
        if state.current.is_none() || (full && (state.spare.is_some() || self.directory.is_none())) {
            self.turn(state)?;
        }
        let mut bytes = std::mem::take(&mut state.frames);
        bytes.clear();
        let written = self.write_frames(state, &records, &mut bytes);
        if bytes.capacity() <= FRAMES_ROOM_MAX {
            state.frames = bytes;
        }
        written?;
        let first = state.next_sequence;
        let mut added = 0;
        for record in records {
            let recent = Recent { frame_bytes: segment::frame_length(record.len()), record: Arc::new(record) };
            added += recent.frame_bytes;
            state.recent_bytes += recent.bytes();
            state.recent.push_back(recent);
            state.next_sequence += 1;
            state.records += 1;
        }
        for cursor in state.cursors.values_mut() {
            cursor.lag_bytes += added;
        }
        self.trim_recent(state);
        Ok(first)
    }

    /// The same, as far as the segment goes.
    fn write_frames(
        &self,
        state: &mut State,
        records: &[Wiped<Vec<u8>>],
        bytes: &mut Vec<u8>,
    ) -> Result<(), AuditError> {
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
        let mut tag = state.tag;
        for (sequence, record) in (state.next_sequence..).zip(records) {
            tag = segment::seal_frame(&current.key, sequence, durable_end, &tag, record, bytes)
                .ok_or(AuditError::LogUnavailable("record is too long".into()))?;
        }
        if let Some(file) = &current.file
            && let Err(error) = file.write_all_at(at, bytes).and_then(|()| check_has_name(&**file))
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
        if let Some(segment) = state.segments.back_mut() {
            segment.end += (bytes.len() - opening_bytes) as u64;
        }
        state.tag = tag;
        Ok(())
    }
}

/// Whether a file still has a name: one that was removed takes whatever is written, and nobody would ever find it. Whether it
/// is the one that it should have is asked with each sync.
fn check_has_name(file: &dyn DiskFile) -> io::Result<()> {
    match file.identity() {
        Ok(identity) if identity.names == 0 => Err(removed()),
        // Where files cannot be told apart.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        told => told.map(drop),
    }
}
