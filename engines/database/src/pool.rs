//! Connections that are kept open: a bounded number, shared by everything that one configuration leads to.
//!
//! Nothing runs for a connection that waits: it is looked at when it is taken, and closed when it was open for too long.
//! Deliberately absent: what is said over a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many there are and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many are open at most.
    pub(crate) open_max: usize,
    /// How many of them wait for work at most.
    pub(crate) idle_max: usize,
    /// How long one is used at most; zero: for ever.
    pub(crate) lifetime_max: Duration,
}

/// A connection that waits.
struct Idle<C> {
    connection: C,
    /// When it was opened, on the monotonic clock.
    opened: Duration,
    /// Since when it waits.
    since: Duration,
}

/// Connections of one kind to one target.
pub(crate) struct Pool<C> {
    limits: Limits,
    places: Semaphore,
    idle: Mutex<Vec<Idle<C>>>,
}

/// A place for a connection, perhaps with one.
pub(crate) struct Place<'p, C> {
    pool: &'p Pool<C>,
    _permit: Option<SemaphorePermit<'p>>,
    /// One that waited, and for how long.
    pub(crate) waited: Option<(C, Duration)>,
    opened: Option<Duration>,
}

impl<C> Pool<C> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, places: Semaphore::new(limits.open_max), idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<C>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. Who drops it without giving a connection back closes that.
    pub(crate) async fn place(&self, now: Duration) -> Place<'_, C> {
        // A semaphore that is never closed gives what it is asked for.
        let permit = self.places.acquire().await.ok();
        let mut idle = self.idle();
        let is_old = |one: &Idle<C>| {
            !self.limits.lifetime_max.is_zero() && now.saturating_sub(one.opened) >= self.limits.lifetime_max
        };
        idle.retain(|one| !is_old(one));
        let (waited, opened) = match idle.pop() {
            Some(one) => (Some((one.connection, now.saturating_sub(one.since))), Some(one.opened)),
            None => (None, None),
        };
        Place { pool: self, _permit: permit, waited, opened }
    }
}

impl<C> Place<'_, C> {
    /// Forgets what waited: it turned out to be closed.
    pub(crate) fn begin_anew(&mut self) {
        (self.waited, self.opened) = (None, None);
    }

    /// Leaves a connection for whoever comes next.
    pub(crate) fn give_back(self, connection: C, now: Duration) {
        let mut idle = self.pool.idle();
        if idle.len() < self.pool.limits.idle_max {
            idle.push(Idle { connection, opened: self.opened.unwrap_or(now), since: now });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn connections_are_bounded_reused_and_closed_when_they_are_old() {
        let pool = Pool::new(Limits { open_max: 2, idle_max: 1, lifetime_max: 10 * SECOND });
        let (one, two) = (pool.place(SECOND).await, pool.place(SECOND).await);
        assert!(one.waited.is_none() && two.waited.is_none());
        {
            let third = std::pin::pin!(pool.place(SECOND));
            assert!(at_once(third).is_none(), "a third one waits");
        }
        one.give_back("first", SECOND);
        two.give_back("second", SECOND);
        let (one, two) = (pool.place(3 * SECOND).await, pool.place(3 * SECOND).await);
        assert_eq!(one.waited, Some(("first", 2 * SECOND)));
        assert!(two.waited.is_none(), "only one is kept");
        one.give_back("first", 3 * SECOND);
        drop(two);
        assert!(pool.place(11 * SECOND).await.waited.is_none(), "it was open for ten seconds");
    }

    /// The output of a future that is ready at once.
    fn at_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
