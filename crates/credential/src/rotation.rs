//! When something is rotated: every so often, or by a schedule with a window that it must begin in.
//!
//! Deliberately absent: the least period, which differs between engines.

use std::time::Duration;

use tresor_env::Timestamp;

use crate::schedule::Schedule;

/// When something is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// So long after it was rotated last.
    Every(Duration),
    /// When the schedule says; not any more when so much time has passed since (none: whenever it can be done).
    Scheduled(Schedule, Option<Duration>),
}

impl Rotation {
    /// When it is rotated next, if the last time was `last`. Zero periods and the end of time never come.
    #[must_use]
    pub fn next(&self, last: Timestamp) -> Timestamp {
        match self {
            Self::Every(period) => last.plus(*period),
            Self::Scheduled(schedule, _) => schedule.next(last).unwrap_or(Timestamp::from_nanos(i64::MAX)),
        }
    }

    /// Whether what was due at `due` may still begin at `now`.
    #[must_use]
    pub fn is_open(&self, due: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Every(_) | Self::Scheduled(_, None) => now >= due,
            Self::Scheduled(_, Some(window)) => now >= due && now < due.plus(*window),
        }
    }

    /// When it is tried again after it could not be done at `now`, what is due since `due`: after `pause` where that is within
    /// the window, otherwise when the schedule comes next.
    #[must_use]
    pub fn again(&self, due: Timestamp, now: Timestamp, pause: Duration) -> Timestamp {
        let soon = now.plus(pause);
        if self.is_open(due, soon) { soon } else { self.next(now) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn what_is_late_within_its_window_is_done_and_after_it_waits() {
        let daily = Rotation::Scheduled(Schedule::parse("0 0 * * *").unwrap(), Some(HOUR));
        let due = daily.next(at(5));
        assert_eq!(due, at(86_400));
        assert!(!daily.is_open(due, at(86_399)));
        assert!(daily.is_open(due, at(86_400 + 3599)));
        assert!(!daily.is_open(due, at(86_400 + 3600)));
        let pause = Duration::from_secs(10);
        assert_eq!(daily.again(due, at(86_410), pause), at(86_420));
        assert_eq!(daily.again(due, at(86_400 + 3595), pause), at(2 * 86_400));
        let hourly = Rotation::Every(HOUR);
        assert_eq!(hourly.next(at(5)), at(3605));
        assert_eq!(hourly.again(at(3605), at(9000), pause), at(9010));
    }
}
