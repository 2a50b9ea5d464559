//! The clock door: wall time for promises to clients, waiting for timers.
//!
//! Deliberately absent: calendars and time zones (`tresor-wire` prints RFC 3339), and any call to the system clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::BoxFuture;

/// A point in wall time: nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the Unix epoch, saturating.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// This time plus a duration, saturating at the end of representable time (the year 2262).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// This time less a duration, saturating at the beginning of representable time.
    #[must_use]
    pub fn less(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to this time; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// What time it is, and how to wait for it.
pub trait Clock: Send + Sync {
    /// Wall time. It may jump, in both directions: use [`SteadyClock`] for promises.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed point that never goes back.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Wall time that never goes back while the process lives: a backward jump of the system clock is bridged by the
/// monotonic clock, so that it neither prolongs a lease nor revives one.
#[derive(Clone)]
pub struct SteadyClock {
    door: Arc<dyn Clock>,
    last: Arc<Mutex<(Timestamp, Duration)>>,
}

impl SteadyClock {
    /// Steadies a clock door from this moment on.
    #[must_use]
    pub fn new(door: Arc<dyn Clock>) -> Self {
        let last = Arc::new(Mutex::new((door.wall(), door.monotonic())));
        Self { door, last }
    }

    /// Tells no earlier time than this from now on: what an earlier process told.
    pub fn not_before(&self, told: Timestamp) {
        let now = self.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.0 = last.0.max(now).max(told);
    }

    /// The later of wall time and the last answer plus the time that really passed since.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let monotonic = self.door.monotonic();
        let bridged = last.0.plus(monotonic.saturating_sub(last.1));
        let now = self.door.wall().max(bridged);
        *last = (now, monotonic);
        now
    }

    /// Completes once `duration` has passed.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.door.sleep(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doubles::ManualClock;

    #[test]
    fn what_an_earlier_process_told_is_not_told_again() {
        let manual = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(500)));
        let steady = SteadyClock::new(manual.clone());
        steady.not_before(Timestamp::from_seconds(1_000));
        manual.advance(Duration::from_secs(5));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_005));
        steady.not_before(Timestamp::from_seconds(7));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_005));
    }

    #[test]
    fn a_backward_jump_of_wall_time_does_not_turn_time_back() {
        let manual = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(1_000)));
        let steady = SteadyClock::new(manual.clone());
        manual.advance(Duration::from_secs(10));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_010));
        manual.jump_wall_to(Timestamp::from_seconds(500));
        manual.advance(Duration::from_secs(5));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_015));
        manual.jump_wall_to(Timestamp::from_seconds(2_000));
        assert_eq!(steady.now(), Timestamp::from_seconds(2_000));
    }
}
