//! A node that is about to stop says so to whoever probes it, and goes on serving until they had time to look elsewhere.
//!
//! Who sends a request over a connection that is being closed cannot know whether it was done. So a node that others can stand
//! in for closes nothing while a load balancer still counts on it. Deliberately absent: connections, which are the server's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a balancer has: two probes, a second apart, and a little.
const NOTICE: Duration = Duration::from_secs(3);
/// When nobody has probed the node for this long, there is nobody to tell.
const PROBED_LATELY: Duration = Duration::from_secs(10);

/// Whether the node is about to stop, and when it was probed last.
#[derive(Default)]
pub(crate) struct Farewell(Mutex<State>);

#[derive(Default)]
struct State {
    is_said: bool,
    probed: Option<Duration>,
}

impl Farewell {
    /// Somebody probes the node now, on the monotonic clock; whether it is about to stop.
    pub(crate) fn probed(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.probed = Some(now);
        state.is_said
    }

    /// The node is about to stop; how long it should go on serving.
    pub(crate) fn say(&self, now: Duration) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_said = true;
        let is_heard = state.probed.is_some_and(|probed| now.saturating_sub(probed) < PROBED_LATELY);
        if is_heard { NOTICE } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_goes_on_serving_for_those_who_probed_it_lately() {
        let at = Duration::from_secs;
        let farewell = Farewell::default();
        assert_eq!(farewell.say(at(1)), Duration::ZERO);
        let farewell = Farewell::default();
        assert!(!farewell.probed(at(1)));
        assert_eq!(farewell.say(at(20)), Duration::ZERO);
        assert!(farewell.probed(at(21)));
        assert_eq!(farewell.say(at(22)), NOTICE);
    }
}
