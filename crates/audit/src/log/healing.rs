//! A log that could not be written is tried again, so that what health reports does not outlive its reason.
//!
//! A node whose health is bad may get no request any more, and it is requests that find out whether the log can be
//! written. Deliberately absent: a full backlog, which heals by deliveries (`places.rs`).

use std::sync::Arc;
use std::time::Duration;

use tresor_env::BoxFuture;
use tresor_env::tasks::run_blocking;

use super::{AuditLog, BACKLOG_FULL};

/// How long after a failure the log is tried again.
const PAUSE: Duration = Duration::from_secs(1);

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
                    let is_accepting = log.is_accepting();
                    log.failing.update(|failing| *failing = !is_accepting);
                }
            }
        })
    }

    /// Tries to begin a segment when the last record could not be written; whether records are taken now. Blocking.
    fn heal(&self) -> bool {
        let mut state = self.state();
        if state.is_closed || state.last_error.as_deref().is_none_or(|error| error == BACKLOG_FULL) {
            return true;
        }
        if self.begin_segment(&mut state).is_err() {
            return false;
        }
        state.last_error = None;
        true
    }
}
