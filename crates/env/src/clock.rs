//! The clock door: wall time for promises to clients, waiting for timers.
//!
//! Deliberately absent: calendars and time zones (`tresor-wire` prints RFC 3339), and any call to the system clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// What a wall clock may be ahead of the time that nodes have in common and still be taken for wrong; by more, time has passed.
const SKEW_MAX: Duration = Duration::from_secs(600);
/// The part of the time that passes by which a leader comes nearer to its own wall clock.
const APPROACH: u32 = 64;

/// Where the time comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The wall clock of this machine.
    Own,
    /// What the leader told last, and what has passed since.
    Heard,
    /// The same when this node leads: it goes on, and comes nearer to this machine's wall clock slowly.
    Inherited,
}

struct Told {
    /// What time it was at a point of the monotonic clock.
    time: Timestamp,
    at: Duration,
    /// The latest time that was given.
    latest: Timestamp,
    source: Source,
}

/// Wall time that never goes back while the process lives: a backward jump of the system clock is bridged by the
/// monotonic clock, so that it neither prolongs a lease nor revives one. Nodes of a cluster have one time in common, the
/// leader's, because an end that was promised by one must not come earlier on another: that alone takes time back, by the
/// seconds that a new leader may lack.
#[derive(Clone)]
pub struct SteadyClock {
    door: Arc<dyn Clock>,
    told: Arc<Mutex<Told>>,
}

impl SteadyClock {
    /// Steadies a clock door from this moment on.
    #[must_use]
    pub fn new(door: Arc<dyn Clock>) -> Self {
        let (time, at) = (door.wall(), door.monotonic());
        Self { door, told: Arc::new(Mutex::new(Told { time, at, latest: time, source: Source::Own })) }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells no earlier time than this from now on: what an earlier process told.
    pub fn not_before(&self, told: Timestamp) {
        let now = self.now();
        let mut state = self.told();
        state.latest = now.max(told);
        (state.time, state.at) = (state.latest, self.door.monotonic());
    }

    /// From now on this node does not lead, and has the time that it hears; whether it had a time of its own until now.
    pub fn stand_by(&self) -> bool {
        let now = self.now();
        let mut state = self.told();
        (state.time, state.at) = (now, self.door.monotonic());
        std::mem::replace(&mut state.source, Source::Heard) == Source::Own
    }

    /// The leader told this a moment ago. It may be less than what this node gave: what a new leader promises by its time must
    /// hold here, too.
    pub fn hear(&self, told: Timestamp) {
        let mut state = self.told();
        if state.source == Source::Heard {
            (state.time, state.at, state.latest) = (told, self.door.monotonic(), told);
        }
    }

    /// From now on this node leads; the time that it heard goes on, if other nodes had it, too.
    pub fn lead(&self, has_others: bool) {
        let now = self.now();
        let mut state = self.told();
        if state.source == Source::Heard {
            (state.time, state.at) = (now, self.door.monotonic());
            state.source = if has_others { Source::Inherited } else { Source::Own };
        }
    }

    /// What time it is. By its own wall clock it is the later of that and the last answer plus the time that really passed.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut state = self.told();
        let monotonic = self.door.monotonic();
        let passed = monotonic.saturating_sub(state.at);
        let bridged = state.time.plus(passed);
        let now = if state.source == Source::Heard {
            bridged
        } else {
            let wall = self.door.wall();
            let (ahead, nearer) = (wall.since(bridged), passed / APPROACH);
            if state.source == Source::Inherited && ahead > nearer && ahead <= SKEW_MAX {
                state.time = bridged.plus(nearer);
            } else {
                (state.time, state.source) = (wall.max(bridged), Source::Own);
            }
            state.at = monotonic;
            state.time
        };
        state.latest = state.latest.max(now);
        state.latest
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

    fn at(seconds: i64) -> (Arc<ManualClock>, SteadyClock) {
        let manual = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(seconds)));
        let steady = SteadyClock::new(manual.clone());
        (manual, steady)
    }

    #[test]
    fn who_stands_by_has_the_leaders_time_whatever_its_own_clock_says() {
        let (manual, steady) = at(1_200);
        assert!(steady.stand_by());
        steady.hear(Timestamp::from_seconds(1_000));
        manual.advance(Duration::from_secs(4));
        manual.jump_wall_to(Timestamp::from_seconds(9_000));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_004));
        // It was a little ahead, or another leads that has not been open for long.
        steady.hear(Timestamp::from_seconds(1_003));
        manual.advance(Duration::from_secs(2));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_005));
    }

    #[test]
    fn who_leads_next_goes_on_with_the_time_and_comes_nearer_to_its_own_slowly() {
        let (manual, steady) = at(1_100);
        steady.stand_by();
        steady.hear(Timestamp::from_seconds(1_000));
        steady.lead(true);
        assert_eq!(steady.now(), Timestamp::from_seconds(1_000));
        // What others tell counts no more.
        steady.hear(Timestamp::from_seconds(2_000));
        manual.advance(Duration::from_secs(64));
        assert_eq!(steady.now(), Timestamp::from_seconds(1_065));
        manual.advance(Duration::from_secs(64 * 99));
        assert_eq!(steady.now(), manual.wall());
        manual.advance(Duration::from_secs(64));
        assert_eq!(steady.now(), manual.wall());
        // Further apart clocks are not: the cluster was down, or alone.
        for (wall, has_others) in [(1_000 + 601, true), (1_100, false)] {
            let (manual, steady) = at(wall);
            steady.stand_by();
            steady.hear(Timestamp::from_seconds(1_000));
            steady.lead(has_others);
            assert_eq!(steady.now(), manual.wall());
        }
    }
}
