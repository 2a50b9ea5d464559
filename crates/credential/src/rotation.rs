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

    /// When what was rotated at `last` is due, as it looks at `now`: a window that has passed does not count any more, so this is
    /// within the one that is open, or in the future, or, without windows, whenever it was due first.
    #[must_use]
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::Every(_) | Self::Scheduled(_, None) => self.next(last),
            Self::Scheduled(_, Some(window)) => self.next(last.max(now.less(*window))),
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
        // A window that was missed does not close those after it.
        let day = |number: i64| number * 86_400;
        assert_eq!(daily.due(at(5), at(5)), at(day(1)));
        assert_eq!(daily.due(at(5), at(day(1) + 3599)), at(day(1)));
        assert_eq!(daily.due(at(5), at(day(1) + 3600)), at(day(2)));
        assert_eq!(daily.due(at(5), at(day(2))), at(day(2)));
        assert!(daily.is_open(daily.due(at(5), at(day(2))), at(day(2))));
        // What was done within its window is done.
        assert_eq!(daily.due(at(day(2) + 5), at(day(2) + 10)), at(day(3)));
        let whenever = Rotation::Scheduled(Schedule::parse("0 0 * * *").unwrap(), None);
        assert_eq!(whenever.due(at(5), at(day(9) + 7200)), at(day(1)));
        let hourly = Rotation::Every(HOUR);
        assert_eq!(hourly.due(at(5), at(day(9))), at(3605));
        assert_eq!(hourly.next(at(5)), at(3605));
        assert_eq!(hourly.again(at(3605), at(9000), pause), at(9010));
    }
}
