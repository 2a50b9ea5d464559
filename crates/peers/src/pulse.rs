//! Whether the other end of a connection is still there: each end says something at least at each beat, if only that it
//! is alive, and one of which nothing is heard for several beats is gone.
//!
//! Beats are counted, time is not measured: a process that stood still for long finds one beat missing, and not its
//! peers gone. Deliberately absent: whether anything useful comes of it; messages have deadlines of their own.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tresor_env::Clock;

use crate::peers::Timing;
use crate::trouble::Trouble;

/// What was heard and said on a connection since the last beat.
#[derive(Default)]
pub(crate) struct Pulse {
    heard: AtomicBool,
    said: AtomicBool,
    /// This end has not read on purpose, so it hears nothing.
    deaf: AtomicBool,
    due: AtomicBool,
    /// Wakes who writes.
    pub(crate) wake: Notify,
}

impl Pulse {
    /// Something came.
    pub(crate) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Something was written.
    pub(crate) fn say(&self) {
        self.said.store(true, Ordering::Relaxed);
    }

    /// Begins or ends a time in which this end does not read.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
        self.hear();
    }

    /// Whether it is to be said that this end is alive; asked once.
    pub(crate) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::Relaxed)
    }

    /// Beats until nothing was heard for too long, or `each` ends it.
    pub(crate) async fn keep<T>(
        &self,
        clock: &dyn Clock,
        timing: &Timing,
        silent: impl FnOnce(Trouble) -> T,
        mut each: impl FnMut() -> Option<T>,
    ) -> T {
        let mut silences = 0;
        loop {
            clock.sleep(timing.beat).await;
            if self.heard.swap(false, Ordering::Relaxed) || self.deaf.load(Ordering::Relaxed) {
                silences = 0;
            } else {
                silences += 1;
                if silences >= timing.silent_beats_max {
                    return silent(Trouble::Silent);
                }
            }
            if !self.said.swap(false, Ordering::Relaxed) {
                self.due.store(true, Ordering::Relaxed);
                self.wake.notify_one();
            }
            if let Some(end) = each() {
                return end;
            }
        }
    }
}
