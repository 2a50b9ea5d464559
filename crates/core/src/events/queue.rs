//! What waits to be told to one listener: bounded in number and bytes, so nobody waits for whoever does not read.
//!
//! Deliberately absent: leaving some out. Who has missed something is told so, and begins anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Told;

/// How many events wait for one listener.
const WAITING_MAX: usize = 1024;
/// How many bytes they take.
const BYTES_MAX: usize = 256 * 1024;

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Told>>,
    bytes: usize,
    is_too_much: bool,
}

/// What waits for one listener.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    overflown: Notify,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, or notes that it was too much, from when on nothing waits any more.
    pub(super) fn push(&self, told: &Arc<Told>) {
        let mut state = self.state();
        if state.is_too_much {
            return;
        }
        let bytes = state.bytes.saturating_add(told.event.bytes());
        if state.waiting.len() >= WAITING_MAX || bytes > BYTES_MAX {
            *state = State { is_too_much: true, ..State::default() };
            self.overflown.notify_one();
        } else {
            state.bytes = bytes;
            state.waiting.push_back(Arc::clone(told));
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The next one, if one waits.
    pub(super) fn pop(&self) -> Option<Arc<Told>> {
        let mut state = self.state();
        let told = state.waiting.pop_front()?;
        state.bytes = state.bytes.saturating_sub(told.event.bytes());
        Some(told)
    }

    /// Whether more came than was taken.
    pub(super) fn is_too_much(&self) -> bool {
        self.state().is_too_much
    }

    /// Completes when something came since it was asked last.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Completes when more came than was taken.
    pub(super) async fn overflown(&self) {
        while !self.is_too_much() {
            self.overflown.notified().await;
        }
    }
}
