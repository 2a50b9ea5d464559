//! The turn from one segment to the next: the file is made ready beforehand, so that no record waits for it.
//!
//! A spare has its name and its header durably on disk before it is used; the turn itself is a few bytes that go out
//! with the first frame (`segment.rs`). When no spare is ready, records go on in the old segment. Deliberately absent:
//! syncs and removals under the lock.

use std::sync::Arc;
use std::time::Duration;

use tresor_env::BoxFuture;
use tresor_env::disk::{DiskFile, Open};
use tresor_env::tasks::run_blocking;

use super::sealing::SegmentKey;
use super::segment::{self, Header, Opening};
use super::{AuditLog, Current, State, unavailable};
use crate::error::AuditError;

/// How long after a failure another spare is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// A segment that is ready and holds nothing.
pub(super) struct Spare {
    pub(super) header: Header,
    key: Arc<SegmentKey>,
    /// `None` in memory.
    pub(super) file: Option<Arc<dyn DiskFile>>,
}

/// A turn that is to be written with the next frame.
pub(super) struct Turn {
    pub(super) opening: Vec<u8>,
}

impl AuditLog {
    /// Whether nothing can be written before a spare is made.
    pub(super) fn needs_segment(&self) -> bool {
        let state = self.state();
        self.directory.is_some() && state.current.is_none() && state.spare.is_none() && !state.is_closed
    }

    /// Makes a spare, unless there is one or somebody else is at it. Blocking, and not under the lock.
    pub(super) fn prepare_spare(&self) -> Result<(), AuditError> {
        let number = {
            let mut state = self.state();
            if state.spare.is_some() || state.is_closed {
                return Ok(());
            }
            if state.is_preparing {
                return Ok(());
            }
            state.is_preparing = true;
            state.last_number += 1;
            state.last_number
        };
        let made = self.make_spare(number);
        let mut state = self.state();
        state.is_preparing = false;
        let outcome = match made {
            Ok(spare) => {
                state.spare = Some(spare);
                Ok(())
            }
            Err(error) => {
                state.doomed.push(number);
                Err(error)
            }
        };
        drop(state);
        self.prepared.update(|count| *count = count.wrapping_add(1));
        outcome
    }

    /// Completes when no spare is in the making.
    pub(super) async fn wait_for_spare(&self) {
        self.prepared.wait_until(|| (!self.state().is_preparing).then_some(())).await;
    }

    /// Takes the spare away for a while, so that it can be tried.
    pub(super) fn borrow_spare(&self) -> Option<Spare> {
        let mut state = self.state();
        let spare = state.spare.take()?;
        state.is_preparing = true;
        Some(spare)
    }

    /// Puts it back, or away for good.
    pub(super) fn return_spare(&self, spare: Spare, is_good: bool) {
        let mut state = self.state();
        state.is_preparing = false;
        if is_good {
            state.spare = Some(spare);
        } else {
            state.doomed.push(spare.header.number);
        }
        drop(state);
        self.prepared.update(|count| *count = count.wrapping_add(1));
    }

    fn make_spare(&self, number: u64) -> Result<Spare, AuditError> {
        let mut salt = [0; 32];
        self.doors.entropy.fill(&mut salt);
        let header = Header { number, salt };
        let mut file = None;
        if let Some(directory) = &self.directory {
            let disk = &*self.doors.disk;
            let path = directory.join(segment::name(number));
            let new = disk.open(&path, Open::New).map_err(unavailable)?;
            let made = new
                .write_all_at(0, &header.encode(&self.header_key))
                .and_then(|()| new.sync())
                .and_then(|()| disk.sync_directory(directory));
            if let Err(error) = made {
                // A full disk must not fill with beginnings; what cannot be removed now is removed later.
                drop(disk.remove(&path));
                return Err(unavailable(error));
            }
            file = Some(new);
        }
        Ok(Spare { header, key: Arc::new(header.segment_key(&self.key)), file })
    }

    /// Turns to the spare; what binds it to the segments before goes out with the next frame.
    pub(super) fn turn(&self, state: &mut State) -> Result<(), AuditError> {
        if self.directory.is_none() {
            state.last_number += 1;
            state.spare = Some(self.make_spare(state.last_number)?);
        }
        let Some(spare) = state.spare.take() else {
            return Err(AuditError::LogUnavailable("the next segment is not ready yet".into()));
        };
        self.abandon(state);
        let previous = state.segments.back();
        let opening = Opening {
            first_sequence: state.next_sequence,
            previous_number: previous.map_or(0, |segment| segment.number),
            previous_end: previous.map_or(0, |segment| segment.end),
            previous_durable: previous.map_or(0, |segment| segment.durable_end),
            previous_tag: state.tag,
            doubtful_from: state.doubtful_from.unwrap_or(state.next_sequence),
        };
        let turn = Turn { opening: opening.encode(&spare.header, &self.header_key) };
        let number = spare.header.number;
        state.current = Some(Current { number, key: spare.key, file: spare.file, turn: Some(turn) });
        Ok(())
    }

    /// The task that keeps a spare ready; `None` for a log in memory.
    pub(crate) fn preparer(log: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        log.directory.as_ref()?;
        let log = Arc::clone(log);
        Some(Box::pin(async move {
            loop {
                log.wants_spare.wait_for(|wants| wants.then_some(())).await;
                let preparing = Arc::clone(&log);
                let work = move || {
                    preparing.remove_doomed();
                    preparing.prepare_spare()
                };
                let prepared = run_blocking(&*log.doors.workers, work).await;
                if !matches!(prepared, Ok(Ok(()))) {
                    log.doors.clock.sleep(PAUSE).await;
                    continue;
                }
                log.wants_spare.update(|wants| *wants = false);
            }
        }))
    }

    /// Removes what is to be removed. Blocking, and not under the lock.
    pub(super) fn remove_doomed(&self) {
        let doomed = std::mem::take(&mut self.state().doomed);
        let Some(directory) = &self.directory else { return };
        let left = doomed.into_iter().filter(|number| {
            let removed = self.doors.disk.remove(&directory.join(segment::name(*number)));
            removed.is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound)
        });
        let left: Vec<u64> = left.collect();
        self.state().doomed.extend(left);
    }
}
