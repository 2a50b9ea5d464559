//! Who is inside an unsealed node: sealing closes the gate, tells those inside, and waits until they have left.
//!
//! Deliberately absent: a bound on the waiting, which is the caller's.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Default)]
struct State {
    is_closed: bool,
    inside: usize,
    /// How many of them wait for what runs in the background.
    resting: usize,
    /// How many went in that did not turn out to rest.
    entered: u64,
}

/// The gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

/// Whoever holds one is inside.
pub(crate) struct Inside(Gate);

/// Whoever holds one is inside, and waits for what runs in the background.
pub(crate) struct Resting(Gate);

impl Gate {
    /// Goes in; `None` when the gate is closed.
    pub(crate) fn enter(&self) -> Option<Inside> {
        let mut is_open = false;
        self.0.send_if_modified(|state| {
            is_open = !state.is_closed;
            state.inside += usize::from(is_open);
            state.entered += u64::from(is_open);
            false
        });
        is_open.then(|| Inside(self.clone()))
    }

    /// Somebody inside begins to wait for what runs in the background, which is not to make way for them.
    pub(crate) fn rest(&self) -> Resting {
        self.change(|state| {
            state.resting += 1;
            state.entered = state.entered.saturating_sub(1);
        });
        Resting(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            change(state);
            false
        });
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.is_closed = true);
    }

    /// Whether nobody is let in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// Whether somebody inside waits for what runs in the background.
    pub(crate) fn is_waited_in(&self) -> bool {
        self.0.borrow().resting > 0
    }

    /// Whether somebody is inside who does not rest, and how many went in so far that did not turn out to.
    pub(crate) fn traffic(&self) -> (bool, u64) {
        let state = self.0.borrow();
        (state.inside > state.resting, state.entered)
    }

    /// Completes when the gate is closed.
    pub(crate) async fn closed(&self) {
        self.wait_for(|state| state.is_closed).await;
    }

    /// Completes when the gate is closed and nobody is inside.
    pub(crate) async fn deserted(&self) {
        self.wait_for(|state| state.is_closed && state.inside == 0).await;
    }

    async fn wait_for(&self, condition: impl FnMut(&State) -> bool) {
        // The sender is ours, so it outlives the waiting.
        drop(self.0.subscribe().wait_for(condition).await);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|state| {
            state.inside -= 1;
            state.is_closed && state.inside == 0
        });
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.change(|state| state.resting -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_waits_for_the_background_is_no_traffic_for_it() {
        let gate = Gate::default();
        let (asks, waits) = (gate.enter().unwrap(), gate.enter().unwrap());
        let rests = gate.rest();
        assert_eq!((gate.traffic(), gate.is_waited_in()), ((true, 1), true));
        drop(asks);
        assert_eq!(gate.traffic(), (false, 1));
        drop(rests);
        assert_eq!((gate.traffic(), gate.is_waited_in()), ((true, 1), false));
        drop(waits);
        assert_eq!(gate.traffic(), (false, 1));
    }

    #[tokio::test]
    async fn a_closed_gate_is_deserted_when_the_last_one_has_left() {
        let gate = Gate::default();
        let (first, second) = (gate.enter().unwrap(), gate.enter().unwrap());
        assert!(gate.closed().now_or_never().is_none());
        gate.close();
        assert!(gate.is_closed() && gate.enter().is_none());
        gate.closed().await;
        drop(first);
        assert!(gate.deserted().now_or_never().is_none());
        drop(second);
        gate.deserted().await;
    }
}
