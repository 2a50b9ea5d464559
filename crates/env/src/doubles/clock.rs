//! A clock that moves only when told to, and wakes whoever it is time for.
//!
//! Deliberately absent: a rate of its own; whoever moves several clocks moves each as far as it goes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::BoxFuture;
use crate::clock::{Clock, Timestamp};

#[derive(Default)]
struct State {
    wall: Timestamp,
    monotonic: Duration,
    /// Who sleeps, by when and in the order in which they came.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    came: u64,
}

/// A clock that moves only when told to.
pub struct ManualClock(Arc<Mutex<State>>);

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManualClock {
    /// A clock standing at `start`.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { wall: start, ..State::default() })))
    }

    /// Lets wall and monotonic time pass; sleepers whose time has come wake, in the order of their times.
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut state = held(&self.0);
            state.wall = state.wall.plus(duration);
            state.monotonic = state.monotonic.saturating_add(duration);
            let now = state.monotonic;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Sets wall time without any time passing, as an operator or a bad time server would.
    pub fn jump_wall_to(&self, wall: Timestamp) {
        held(&self.0).wall = wall;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        held(&self.0).wall
    }

    fn monotonic(&self) -> Duration {
        held(&self.0).monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.monotonic().saturating_add(duration);
        Box::pin(Sleep { state: Arc::clone(&self.0), until, place: None })
    }
}

/// Ends when it is time.
struct Sleep {
    state: Arc<Mutex<State>>,
    until: Duration,
    /// Where its waker lies.
    place: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (clock, known) = (Arc::clone(&self.state), self.place);
        let mut state = held(&clock);
        if state.monotonic >= self.until {
            return Poll::Ready(());
        }
        let place = known.unwrap_or_else(|| {
            state.came += 1;
            (self.until, state.came)
        });
        state.sleepers.insert(place, context.waker().clone());
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let left = held(&self.state).sleepers.remove(&place);
            // Outside the lock: a waker may be the last that holds a task.
            drop(left);
        }
    }
}
