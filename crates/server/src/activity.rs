//! What a connection is busy with, so that an idle one can be told from one that waits for an answer.
//!
//! Deliberately absent: any knowledge of the protocol; a request is begun, and it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tresor_env::Clock;

/// The requests of one connection.
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    has_begun: bool,
    running: usize,
    /// When a request began or ended last, on the monotonic clock.
    changed: Duration,
}

/// A request that runs, for as long as this lives.
pub(crate) struct Begun(Arc<Activity>);

impl Activity {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let changed = clock.monotonic();
        Self { clock, state: Mutex::new(State { has_begun: false, running: 0, changed }) }
    }

    pub(crate) fn begin(activity: &Arc<Self>) -> Begun {
        activity.change(|state| {
            state.has_begun = true;
            state.running += 1;
        });
        Begun(Arc::clone(activity))
    }

    /// Whether there was a request at all.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has_begun
    }

    /// How long it takes at least until the connection will have been idle for `bound`; zero when it was.
    pub(crate) fn idle_at_the_earliest(&self, bound: Duration) -> Duration {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running > 0 {
            return bound;
        }
        (state.changed + bound).saturating_sub(self.clock.monotonic())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        state.changed = self.clock.monotonic();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.change(|state| state.running -= 1);
    }
}
