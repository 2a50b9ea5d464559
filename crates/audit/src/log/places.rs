//! Where the devices stand in the log, and what may be removed because all of them have passed it.
//!
//! Invariant: a segment is removed only when every device has passed it durably, its cursor on disk included.
//! Deliberately absent: what devices do with records (`tail.rs`).

use std::sync::{Arc, Mutex, PoisonError};

use super::cursor::CursorFile;
use super::{AuditLog, BACKLOG_FULL, Cursor, State, unavailable};
use crate::error::AuditError;

impl AuditLog {
    /// Completes when a record of this sequence, or a later one, is there.
    pub(crate) async fn wait_for_record(&self, sequence: u64) {
        self.head.wait_for(|head| (*head > sequence).then_some(())).await;
    }

    /// Completes when these devices have passed everything below `target`, or are gone.
    pub(crate) async fn wait_until_delivered(&self, names: &[String], target: u64) {
        let has_passed = || {
            let state = self.state();
            let behind =
                names.iter().any(|name| state.cursors.get(name).is_some_and(|cursor| cursor.position < target));
            (!behind).then_some(())
        };
        self.delivered.wait_until(has_passed).await;
    }

    /// Starts a device at the end of the log, or where its place was kept. Blocking.
    pub(crate) fn register_at_head(&self, name: &str) -> Result<(), AuditError> {
        if self.state().unclaimed.remove(name) {
            return Ok(());
        }
        if self.state().cursors.contains_key(name) {
            return Err(AuditError::PathInUse);
        }
        let mut file = None;
        if let Some(directory) = &self.directory {
            self.doors.disk.create_directory(directory).map_err(unavailable)?;
            let path = directory.join(name);
            let mut opened = CursorFile::open(&*self.doors.disk, &path, &self.header_key).map_err(unavailable)?;
            opened.0.write(self.head(), &self.header_key).map_err(unavailable)?;
            opened.0.sync().map_err(unavailable)?;
            self.doors.disk.sync_directory(directory).map_err(unavailable)?;
            file = Some(opened.0);
            if self.needs_segment() {
                // If this fails, the first record says so.
                drop(self.prepare_spare());
            }
        }
        // Records that came meanwhile are not of this device; its stored place is a little early, which costs nothing.
        let mut state = self.state();
        let position = state.next_sequence;
        let file = file.map(|file| Arc::new(Mutex::new(file)));
        state.cursors.insert(name.to_owned(), Cursor { position, safe: position, lag_bytes: 0, file });
        Ok(())
    }

    /// Notes that a device has taken everything below `position`, `bytes` of frames more than before.
    pub(crate) fn advance(&self, name: &str, position: u64, bytes: u64) {
        let mut state = self.state();
        let head = state.next_sequence;
        let Some(cursor) = state.cursors.get_mut(name) else { return };
        cursor.position = cursor.position.max(position);
        cursor.lag_bytes = if cursor.position >= head { 0 } else { cursor.lag_bytes.saturating_sub(bytes) };
        self.forgive_backlog(&mut state);
        self.trim_recent(&mut state);
        drop(state);
        self.delivered.update(|count| *count = count.wrapping_add(1));
    }

    /// Notes that what a device took from `position` on may not have arrived, `bytes` of frames.
    pub(crate) fn rewind(&self, name: &str, position: u64, bytes: u64) {
        let mut state = self.state();
        let Some(cursor) = state.cursors.get_mut(name) else { return };
        cursor.position = cursor.position.min(position.max(cursor.safe));
        cursor.lag_bytes = cursor.lag_bytes.saturating_add(bytes);
    }

    /// A backlog that is no longer full is no longer a reason to refuse.
    fn forgive_backlog(&self, state: &mut State) {
        if state.last_error.as_deref() == Some(BACKLOG_FULL) && state.backlog_bytes() < self.backlog_bytes_max() {
            state.last_error = None;
        }
    }

    /// Whether whole segments are kept only because a device has not confirmed what is below `position`: sync the sink,
    /// then [`AuditLog::confirm`].
    pub(crate) fn wants_confirmation(&self, name: &str, position: u64) -> bool {
        let state = self.state();
        let Some(cursor) = state.cursors.get(name) else { return false };
        state.segments.get(1).is_some_and(|next| cursor.safe < next.first_sequence && next.first_sequence <= position)
    }

    /// Notes that everything below `position` has arrived at a device for good, and removes what no device needs.
    /// Blocking, and not under the lock.
    pub(crate) fn confirm(&self, name: &str, position: u64) -> Result<(), AuditError> {
        let file = {
            let state = self.state();
            let Some(cursor) = state.cursors.get(name) else { return Ok(()) };
            cursor.file.clone()
        };
        if let Some(file) = file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write(position, &self.header_key).map_err(unavailable)?;
            file.sync().map_err(unavailable)?;
        }
        let mut state = self.state();
        if let Some(cursor) = state.cursors.get_mut(name) {
            cursor.safe = cursor.safe.max(position);
        }
        Self::doom_passed(&mut state);
        drop(state);
        self.remove_doomed();
        Ok(())
    }

    /// All devices are known: forgets the places that were kept for others. Blocking, and not under the lock.
    pub(crate) fn forget_unclaimed(&self) {
        let unclaimed = std::mem::take(&mut self.state().unclaimed);
        unclaimed.iter().for_each(|name| self.forget(name));
    }

    /// Forgets a device and what was kept for it. Blocking, and not under the lock.
    pub(crate) fn forget(&self, name: &str) {
        let mut state = self.state();
        let is_known = state.cursors.remove(name).is_some();
        self.forgive_backlog(&mut state);
        self.trim_recent(&mut state);
        Self::doom_passed(&mut state);
        drop(state);
        if let Some(directory) = self.directory.as_ref().filter(|_| is_known) {
            // Left behind it is removed when the log is opened.
            drop(self.doors.disk.remove(&directory.join(name)));
        }
        self.remove_doomed();
        self.delivered.update(|count| *count = count.wrapping_add(1));
    }

    /// Gives up the segments that every device has passed; with no device left, all of them.
    fn doom_passed(state: &mut State) {
        let needed = state.cursors.values().map(|cursor| cursor.safe).min();
        if needed.is_none() {
            if let Some(unused) = state.current.take().filter(|current| current.turn.is_some()) {
                state.doomed.push(unused.number);
            }
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
            state.doomed.push(oldest.number);
            state.segments.pop_front();
        }
    }

    /// How many records and bytes a device has not taken.
    pub(crate) fn lag(&self, name: &str) -> (u64, u64) {
        let state = self.state();
        let cursor = state.cursors.get(name);
        cursor.map_or((0, 0), |cursor| (state.next_sequence.saturating_sub(cursor.position), cursor.lag_bytes))
    }

    /// Where a device may have to start again.
    pub(crate) fn safe(&self, name: &str) -> Option<u64> {
        self.state().cursors.get(name).map(|cursor| cursor.safe)
    }

    /// Where a device stands.
    pub(crate) fn position(&self, name: &str) -> Option<u64> {
        self.state().cursors.get(name).map(|cursor| cursor.position)
    }
}
