//! A log that could not be written is tried again, so that what health reports does not outlive its reason.
//!
//! A node whose health is bad may get no request any more, and it is requests that find out whether the log can be
//! written. Deliberately absent: a full backlog, which heals by deliveries (`places.rs`).

use std::sync::Arc;
use std::time::Duration;

use tresor_env::BoxFuture;
use tresor_env::tasks::run_blocking;

use super::segment::HEADER_BYTES;
use super::{AuditLog, BACKLOG_FULL};

/// How long after a failure the log is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How much room there must be on the disk before the log counts as well again.
const ROOM_BYTES: usize = 256 << 10;

impl AuditLog {
    /// The task that tries again.
    pub(crate) fn healer(log: &Arc<Self>) -> BoxFuture<'static, ()> {
        let log = Arc::clone(log);
        Box::pin(async move {
            loop {
                log.failing.wait_for(|failing| failing.then_some(())).await;
                log.doors.clock.sleep(PAUSE).await;
                let tried = Arc::clone(&log);
                let work = move || tried.heal();
                if matches!(run_blocking(&*log.doors.workers, work).await, Ok(true)) {
                    // A failure of this very moment is told again by the next record.
                    let refuses = log.refusal().is_some_and(|error| error != BACKLOG_FULL);
                    log.failing.update(|failing| *failing = refuses);
                    if !refuses {
                        tracing::info!("the local audit log takes records again");
                    }
                }
            }
        })
    }

    /// Tries whether a record would be taken now, with room to spare. Blocking, and not under the lock.
    fn heal(&self) -> bool {
        let is_well = |error: Option<&str>| error.is_none_or(|error| error == BACKLOG_FULL);
        {
            let state = self.state();
            if state.is_closed || is_well(state.last_error.as_deref()) {
                return true;
            }
        }
        self.remove_doomed();
        if self.prepare_spare().is_err() {
            return false;
        }
        // Out of everybody's reach while it is tried.
        let Some(spare) = self.borrow_spare() else { return false };
        let has_room = spare.file.as_ref().is_none_or(|file| {
            let room = vec![0; ROOM_BYTES];
            let tried = file.write_all_at(HEADER_BYTES as u64, &room).and_then(|()| file.sync());
            // The zeros must not stay behind even when not all of them went in.
            file.set_length(HEADER_BYTES as u64).and(tried).is_ok()
        });
        self.return_spare(spare, has_room);
        if has_room {
            self.state().last_error = None;
        }
        has_room
    }
}
