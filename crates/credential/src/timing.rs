//! The settings by which a password is rotated by itself, as they are sent, stored and shown.
//!
//! Deliberately absent: when it was rotated last, and what is rotated.

use std::time::Duration;

use tresor_record::Part;
use tresor_wire::input::{Input, Seconds};

use crate::rotation::Rotation;
use crate::schedule::{Schedule, ScheduleError};

/// The shortest window of a schedule.
const WINDOW_MIN: Duration = Duration::from_secs(3600);

/// The settings; neither a period nor a schedule is never.
#[derive(Part, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How often; zero where there is none.
    period: Duration,
    /// When; empty where there is none.
    schedule: String,
    /// How long after that it may still begin; zero is whenever it can be done.
    window: Duration,
}

/// What was sent of them; what was not stays.
#[derive(Default)]
pub struct Sent {
    /// `rotation_period`; zero takes it away.
    pub period: Option<Duration>,
    /// `rotation_schedule`; an empty one takes it away.
    pub schedule: Option<String>,
    /// `rotation_window`; zero takes it away.
    pub window: Option<Duration>,
}

/// What is sent of them where what the engine itself logs in with is rotated; what is not sent stays.
#[derive(Input, Default)]
pub struct Times {
    /// How often it is rotated by itself, at least 10 seconds; zero is never.
    rotation_period: Option<Seconds>,
    /// When: minute, hour, day of the month, month, day of the week, in UTC.
    rotation_schedule: Option<String>,
    /// How long after that it may still begin, at least an hour.
    rotation_window: Option<Seconds>,
    /// Whether it is not rotated by itself.
    disable_automated_rotation: Option<bool>,
    /// The rotation policy by which it is tried again when that fails; an empty one takes it away.
    pub rotation_policy: Option<String>,
}

/// Why settings cannot be; all of it is the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// There can be one of the two.
    #[error(
        "mutually exclusive fields rotation_period and rotation_schedule were both specified; only one of them can be \
         provided"
    )]
    Both,
    /// So often is too often: the least number of seconds.
    #[error("rotation_period must be {0} seconds or more")]
    Often(u64),
    /// It is no schedule.
    #[error("could not parse rotation_schedule: {0}")]
    Schedule(#[from] ScheduleError),
    /// What comes every so often has no window.
    #[error("cannot use rotation_window without rotation_schedule")]
    LoneWindow,
    /// So short is too short: the least number of seconds.
    #[error("rotation_window must be {0} seconds or more")]
    Short(u64),
}

impl Timing {
    /// Takes what was sent. A schedule and a period take the place of one another.
    ///
    /// # Errors
    /// [`TimingError`]; what of it was taken by then does not count.
    pub fn change(&mut self, sent: Sent, period_min: Duration) -> Result<(), TimingError> {
        let schedule = sent.schedule.as_deref().map(str::trim);
        let period = sent.period.filter(|period| !period.is_zero());
        if period.is_some() && schedule.is_some_and(|text| !text.is_empty()) {
            return Err(TimingError::Both);
        }
        if period.is_some_and(|period| period < period_min) {
            return Err(TimingError::Often(period_min.as_secs()));
        }
        self.period = sent.period.unwrap_or(self.period);
        if period.is_some() {
            self.schedule.clear();
            self.window = Duration::ZERO;
        }
        if let Some(text) = schedule {
            if text.is_empty() {
                self.window = Duration::ZERO;
            } else {
                Schedule::parse(text)?;
                self.period = Duration::ZERO;
            }
            text.clone_into(&mut self.schedule);
        }
        if let Some(window) = sent.window {
            if !window.is_zero() && self.schedule.is_empty() {
                return Err(TimingError::LoneWindow);
            }
            if !window.is_zero() && window < WINDOW_MIN {
                return Err(TimingError::Short(WINDOW_MIN.as_secs()));
            }
            self.window = window;
        }
        Ok(())
    }

    /// Takes what was sent, of what is rotated by itself unless that is disabled. Whether it makes a difference: then the time
    /// counts anew.
    ///
    /// # Errors
    /// As [`Timing::change`].
    pub fn change_or_disable(
        &mut self,
        is_disabled: &mut bool,
        times: Times,
        period_min: Duration,
    ) -> Result<bool, TimingError> {
        let (before, was_disabled) = (self.clone(), *is_disabled);
        let sent = Sent {
            period: times.rotation_period.map(|period| period.0),
            schedule: times.rotation_schedule,
            window: times.rotation_window.map(|window| window.0),
        };
        self.change(sent, period_min)?;
        *is_disabled = times.disable_automated_rotation.unwrap_or(was_disabled);
        Ok(*self != before || *is_disabled != was_disabled)
    }

    /// Whether there is neither a period nor a schedule.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.period.is_zero() && self.schedule.is_empty()
    }

    /// When it is rotated; `None` is never.
    ///
    /// # Errors
    /// [`TimingError::Schedule`], when what is stored is not what was read before it was.
    pub fn rotation(&self) -> Result<Option<Rotation>, TimingError> {
        if !self.schedule.is_empty() {
            let schedule = Schedule::parse(&self.schedule)?;
            return Ok(Some(Rotation::Scheduled(schedule, self.shown_window())));
        }
        Ok((!self.period.is_zero()).then_some(Rotation::Every(self.period)))
    }

    /// The period, unless there is a schedule.
    #[must_use]
    pub fn shown_period(&self) -> Option<Duration> {
        self.schedule.is_empty().then_some(self.period)
    }

    /// The schedule, where there is one.
    #[must_use]
    pub fn shown_schedule(&self) -> Option<String> {
        (!self.schedule.is_empty()).then(|| self.schedule.clone())
    }

    /// The window, where there is one.
    #[must_use]
    pub fn shown_window(&self) -> Option<Duration> {
        (!self.window.is_zero()).then_some(self.window)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR: Duration = Duration::from_secs(3600);
    const LEAST: Duration = Duration::from_secs(10);

    fn sent(period: Option<Duration>, schedule: Option<&str>, window: Option<Duration>) -> Sent {
        Sent { period, schedule: schedule.map(str::to_owned), window }
    }

    #[test]
    fn a_period_and_a_schedule_take_the_place_of_one_another() {
        let mut timing = Timing::default();
        assert_eq!(timing.rotation().unwrap(), None);
        timing.change(sent(Some(DAY), None, None), LEAST).unwrap();
        assert_eq!(timing.rotation().unwrap(), Some(Rotation::Every(DAY)));
        timing.change(sent(None, Some(" 0 3 * * * "), Some(HOUR)), LEAST).unwrap();
        let daily = Schedule::parse("0 3 * * *").unwrap();
        assert_eq!(timing.rotation().unwrap(), Some(Rotation::Scheduled(daily.clone(), Some(HOUR))));
        // What is not sent stays, and what says nothing takes away.
        timing.change(sent(None, None, Some(Duration::ZERO)), LEAST).unwrap();
        assert_eq!(timing.rotation().unwrap(), Some(Rotation::Scheduled(daily, None)));
        timing.change(sent(Some(Duration::ZERO), None, None), LEAST).unwrap();
        assert!(timing.rotation().unwrap().is_some(), "zero takes away what there is none of");
        timing.change(sent(None, Some("0 3 * * *"), Some(HOUR)), LEAST).unwrap();
        timing.change(sent(None, Some(""), None), LEAST).unwrap();
        assert_eq!((timing.rotation().unwrap(), timing.shown_window()), (None, None));
    }

    #[test]
    fn what_changes_nothing_counts_on() {
        let (mut timing, mut is_disabled) = (Timing::default(), false);
        let mut change = |period: Option<Duration>, disable| {
            let rotation_period = period.map(Seconds);
            let times = Times { rotation_period, disable_automated_rotation: disable, ..Times::default() };
            timing.change_or_disable(&mut is_disabled, times, LEAST).unwrap()
        };
        assert!(!change(None, None) && !change(None, Some(false)));
        assert!(change(Some(DAY), None) && !change(Some(DAY), None));
        assert!(
            change(None, Some(true)) && !change(None, Some(true)) && !change(None, None) && change(None, Some(false))
        );
    }

    #[test]
    fn what_makes_no_sense_says_what() {
        let refused = |period, schedule, window| {
            let mut timing = Timing::default();
            timing.change(sent(period, schedule, window), LEAST).unwrap_err()
        };
        assert_eq!(refused(Some(DAY), Some("0 3 * * *"), None), TimingError::Both);
        assert_eq!(refused(Some(LEAST - Duration::from_secs(1)), None, None), TimingError::Often(10));
        assert_eq!(refused(Some(DAY), None, Some(HOUR)), TimingError::LoneWindow);
        assert_eq!(refused(None, Some("0 3 * * *"), Some(LEAST)), TimingError::Short(3600));
        assert!(matches!(refused(None, Some("often"), None), TimingError::Schedule(_)));
    }
}
