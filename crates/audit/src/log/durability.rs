//! When records survive a loss of power: one sync at a time, for all that were written before it.
//!
//! Invariants: a record whose sync failed counts as not taken, whatever a later sync says; after a failed sync the
//! log goes on in a new segment. Deliberately absent: syncs on the path of a request in the default mode.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tresor_env::tasks::run_blocking;
use tresor_env::{BoxFuture, Disk, DiskFile};

use super::{AuditLog, Durability, removed, segment, unavailable};
use crate::error::AuditError;

/// How far the log is durable, and what a failed sync left in doubt.
#[derive(Default)]
pub(super) struct Durable {
    pub(super) below: u64,
    /// The newest spans of sequences whose sync failed; they count as not taken, whatever a later sync says.
    doubtful: VecDeque<Range<u64>>,
}

impl Durable {
    /// Everything below a sequence is durable.
    pub(super) const fn below(below: u64) -> Self {
        Self { below, doubtful: VecDeque::new() }
    }

    fn is_doubtful(&self, sequence: u64) -> bool {
        self.doubtful.iter().any(|span| span.contains(&sequence))
    }

    fn settled_below(&self) -> u64 {
        self.doubtful.back().map_or(self.below, |span| span.end.max(self.below))
    }
}

/// How many failed syncs are remembered for those that wait for them.
const DOUBTFUL_MAX: usize = 64;

/// How long the syncer waits after a sync that failed.
const SYNC_RETRY: Duration = Duration::from_millis(200);

impl AuditLog {
    /// Waits until a record is as safe as the configuration asks for.
    pub(crate) async fn settle(&self, sequence: u64) -> Result<(), AuditError> {
        if self.directory.is_none() || self.options.durability != Durability::EachRecord {
            return Ok(());
        }
        let is_safe = |durable: &Durable| {
            let is_doubtful = durable.is_doubtful(sequence);
            (durable.below > sequence || is_doubtful).then_some(!is_doubtful)
        };
        if self.durable.wait_for(is_safe).await {
            Ok(())
        } else {
            Err(AuditError::LogUnavailable("sync failed".into()))
        }
    }

    /// The task that makes records durable behind the writers' backs; `None` for a log in memory.
    pub(crate) fn syncer(log: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        log.directory.as_ref()?;
        let log = Arc::clone(log);
        Some(Box::pin(async move {
            loop {
                let settled = log.durable.read(Durable::settled_below);
                log.head.wait_for(|head| (*head > settled).then_some(())).await;
                if let Durability::Process(pause) = log.options.durability {
                    log.doors.clock.sleep(pause).await;
                }
                let syncing = Arc::clone(&log);
                let work = move || syncing.sync();
                // A failed sync is in the standing, and told to whoever waits for it.
                if !matches!(run_blocking(&*log.doors.workers, work).await, Ok(Ok(()))) {
                    log.doors.clock.sleep(SYNC_RETRY).await;
                }
            }
        }))
    }

    /// Makes everything appended so far durable. Blocking, and not under the lock.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        let (files, target, mark) = {
            let state = self.state();
            let current = state.current.as_ref().filter(|current| current.turn.is_none());
            let current = current.and_then(|current| current.file.clone());
            let mark = state.segments.back().map_or((0, 0), |segment| (segment.number, segment.end));
            (state.unsynced.iter().cloned().chain(current).collect::<Vec<_>>(), state.next_sequence, mark)
        };
        let outcome = files.iter().try_for_each(|file| file.sync());
        let mut state = self.state();
        state.unsynced.retain(|file| !files.iter().any(|synced| Arc::ptr_eq(file, synced)));
        match &outcome {
            Ok(()) => {
                state.syncs += files.len() as u64;
                state.durable_below = state.durable_below.max(target);
                for segment in &mut state.segments {
                    let durable_end = if segment.number == mark.0 { mark.1 } else { segment.end };
                    if segment.number <= mark.0 {
                        segment.durable_end = segment.durable_end.max(durable_end);
                    }
                }
            }
            Err(error) => {
                state.last_error = Some(unavailable(error.kind().into()).to_string());
                self.failing.update(|failing| *failing = true);
                // Nothing may be assumed of what was written, whatever a later sync of the same file says: go on in a
                // new segment, which says what is in doubt.
                if state.durable_below < target {
                    state.doubtful_from = Some(state.doubtful_from.unwrap_or(u64::MAX).min(state.durable_below));
                }
                self.abandon(&mut state);
                state.unsynced.retain(|file| !files.iter().any(|failed| Arc::ptr_eq(file, failed)));
            }
        }
        let below = state.durable_below;
        drop(state);
        self.durable.update(|durable| {
            durable.below = durable.below.max(below);
            if outcome.is_err() && durable.below < target {
                durable.doubtful.push_back(durable.below..target);
                if durable.doubtful.len() > DOUBTFUL_MAX {
                    durable.doubtful.pop_front();
                }
            }
        });
        outcome.map_err(unavailable)?;
        self.check_directory()
    }

    /// Whether the segment in use still has its name, and the next one can be made: a directory that takes no files any more is
    /// told now, and not when the segment is full.
    fn check_directory(&self) -> Result<(), AuditError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let disk = &*self.doors.disk;
        let mut state = self.state();
        let current = state.current.as_ref().filter(|current| current.turn.is_none());
        let named = current.and_then(|current| Some((segment::name(current.number), current.file.as_ref()?)));
        let checked = named
            .map_or(Ok(()), |(name, file)| check_named(disk, &directory.join(name), &**file))
            .and_then(|()| disk.check_writable(directory));
        checked.map_err(|error| {
            self.leave(&mut state);
            drop(state);
            self.refuse(unavailable(error))
        })
    }
}

/// Whether a name leads to a file.
fn check_named(disk: &dyn Disk, name: &Path, file: &dyn DiskFile) -> io::Result<()> {
    match (disk.identity(name), file.identity()) {
        (Ok(named), Ok(open)) if named.is(open) => Ok(()),
        // Where files cannot be told apart.
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        _ => Err(removed()),
    }
}
