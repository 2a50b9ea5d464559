//! When a password is rotated by itself: the settings, as they are sent, stored and shown.

use std::time::Duration;

use tresor_credential::{Rotation, Schedule};
use tresor_model::Fault;
use tresor_record::Part;
use tresor_wire::input::Seconds;

/// The shortest window of a schedule.
const WINDOW_MIN: Duration = Duration::from_secs(3600);

/// The settings; neither a period nor a schedule is never.
#[derive(Part, Default)]
pub(crate) struct Timing {
    pub(crate) period: Duration,
    pub(crate) schedule: String,
    pub(crate) window: Duration,
}

impl Timing {
    /// Takes what was sent; what was not stays, and a schedule and a period take the place of one another.
    pub(crate) fn change(
        &mut self,
        period: Option<Seconds>,
        schedule: Option<String>,
        window: Option<Seconds>,
        period_min: Duration,
    ) -> Result<(), Fault> {
        let is_meant = |schedule: &Option<String>| schedule.as_ref().is_some_and(|text| !text.trim().is_empty());
        if period.as_ref().is_some_and(|period| !period.0.is_zero()) && is_meant(&schedule) {
            let text = "mutually exclusive fields rotation_period and rotation_schedule were both specified; only one of them can be provided";
            return Err(Fault::invalid(text));
        }
        if let Some(period) = period {
            if !period.0.is_zero() && period.0 < period_min {
                return Err(Fault::invalid(format!(
                    "rotation_period must be {} seconds or more",
                    period_min.as_secs()
                )));
            }
            self.period = period.0;
            if !period.0.is_zero() {
                self.schedule.clear();
                self.window = Duration::ZERO;
            }
        }
        if let Some(schedule) = schedule {
            let text = schedule.trim();
            if !text.is_empty() {
                Schedule::parse(text)
                    .map_err(|error| Fault::invalid(format!("could not parse rotation_schedule: {error}")))?;
                self.period = Duration::ZERO;
            }
            self.schedule = text.to_owned();
        }
        if let Some(window) = window {
            if !window.0.is_zero() && self.schedule.is_empty() {
                return Err(Fault::invalid("cannot use rotation_window without rotation_schedule"));
            }
            if !window.0.is_zero() && window.0 < WINDOW_MIN {
                return Err(Fault::invalid(format!(
                    "rotation_window must be {} seconds or more",
                    WINDOW_MIN.as_secs()
                )));
            }
            self.window = window.0;
        }
        Ok(())
    }

    /// When it is rotated; `None` is never.
    pub(crate) fn rotation(&self) -> Result<Option<Rotation>, Fault> {
        if !self.schedule.is_empty() {
            // It was read when it was stored.
            let schedule = Schedule::parse(&self.schedule).map_err(Fault::internal)?;
            return Ok(Some(Rotation::Scheduled(schedule, (!self.window.is_zero()).then_some(self.window))));
        }
        Ok((!self.period.is_zero()).then_some(Rotation::Every(self.period)))
    }

    /// The period, where there is one.
    pub(crate) fn shown_period(&self) -> Option<Duration> {
        self.schedule.is_empty().then_some(self.period)
    }

    /// The schedule, where there is one.
    pub(crate) fn shown_schedule(&self) -> Option<String> {
        (!self.schedule.is_empty()).then(|| self.schedule.clone())
    }

    /// The window, where there is one.
    pub(crate) fn shown_window(&self) -> Option<Duration> {
        (!self.window.is_zero()).then_some(self.window)
    }
}
