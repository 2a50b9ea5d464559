//! Schedules of five fields (minute, hour, day of the month, month, day of the week), as cron writes them, in UTC.
//!
//! Names of months and days, lists, ranges, steps and the usual shortcuts are understood. Where both kinds of day are
//! restricted either will do, as cron has it. Deliberately absent: seconds, time zones, `@every`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tresor_env::Timestamp;

/// How long a text can be.
const TEXT_MAX: usize = 256;
/// How many days are looked at: a 29th of February on a given weekday comes within forty years.
const DAYS_MAX: usize = 41 * 366;

/// When something comes again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether both kinds of day must fit: one of them is `*`.
    both_days: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("expected 5 fields (minute, hour, day of the month, month, day of the week), found {found}")]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// A field that says nothing.
    #[error("`{part}` is not a {field} of a schedule")]
    Part {
        /// What was read.
        part: String,
        /// Which field it stands in.
        field: &'static str,
    },
    /// There is no such day.
    #[error("the schedule never comes")]
    Never,
    /// Far too long.
    #[error("a schedule has at most 256 characters")]
    TooLong,
}

/// A field: its name, its bounds, and the names of its values from the least on.
struct Field(&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    Field("minute", 0, 59, &[]),
    Field("hour", 0, 23, &[]),
    Field("day of the month", 1, 31, &[]),
    Field("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    Field("day of the week", 0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const SHORTCUTS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// [`ScheduleError`]; also of one that never comes.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > TEXT_MAX {
            return Err(ScheduleError::TooLong);
        }
        let text = text.trim();
        let text = SHORTCUTS.iter().find(|(name, _)| *name == text).map_or(text, |(_, meaning)| meaning);
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
            return Err(ScheduleError::Fields { found: parts.len() });
        };
        let [minute, hour, day, month, weekday] = &FIELDS;
        let is_any = |part: &str| part.starts_with('*') || part.starts_with('?');
        let schedule = Self {
            minutes: minute.read(minutes)?,
            hours: hour.read(hours)?,
            days: day.read(days)?,
            months: month.read(months)?,
            weekdays: weekday.read(weekdays)?,
            both_days: is_any(days) || is_any(weekdays),
        };
        schedule.next(Timestamp::EPOCH).map(|_| schedule).ok_or(ScheduleError::Never)
    }

    /// The first time after `after`.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let minute_after = after.seconds().div_euclid(60).checked_add(1)?;
        let begin = jiff::Timestamp::from_second(minute_after.checked_mul(60)?).ok()?;
        let begin = TimeZone::UTC.to_datetime(begin);
        let (mut date, mut hour, mut minute) =
            (begin.date(), u32::from(begin.hour().unsigned_abs()), u32::from(begin.minute().unsigned_abs()));
        for _ in 0..DAYS_MAX {
            if self.has_day(date)
                && let Some((hour, minute)) = self.time_of_day(hour, minute)
            {
                let midnight = TimeZone::UTC.to_timestamp(date.into()).ok()?.as_second();
                return Some(Timestamp::from_seconds(midnight + i64::from(hour * 3600 + minute * 60)));
            }
            date = date.tomorrow().ok()?;
            (hour, minute) = (0, 0);
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| set & (1 << number.unsigned_abs()) != 0;
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, date.weekday().to_sunday_zero_offset()));
        has(self.months, date.month()) && if self.both_days { day && weekday } else { day || weekday }
    }

    /// The first hour and minute that fit, from the ones given on.
    fn time_of_day(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        let first = |set: u64, from: u32| (from..60).find(|number| set & (1 << number) != 0);
        let hour_found = first(self.hours, hour)?;
        if hour_found > hour {
            return Some((hour_found, first(self.minutes, 0)?));
        }
        match first(self.minutes, minute) {
            Some(minute) => Some((hour, minute)),
            None => Some((first(self.hours, hour + 1)?, first(self.minutes, 0)?)),
        }
    }
}

impl Field {
    /// The set that a list of ranges means.
    fn read(&self, list: &str) -> Result<u64, ScheduleError> {
        let mut set = 0;
        for part in list.split(',') {
            let refused = || ScheduleError::Part { part: part.to_owned(), field: self.0 };
            let (range, step) = match part.split_once('/') {
                None => (part, None),
                Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0).ok_or_else(refused)?)),
            };
            let (from, to) = match range.split_once('-') {
                _ if matches!(range, "*" | "?") => (self.1, self.2),
                Some((from, to)) => (self.value(from).ok_or_else(refused)?, self.value(to).ok_or_else(refused)?),
                None => {
                    let from = self.value(range).ok_or_else(refused)?;
                    (from, if step.is_some() { self.2 } else { from })
                }
            };
            if from > to {
                return Err(refused());
            }
            let step = usize::try_from(step.unwrap_or(1)).map_err(|_| refused())?;
            for value in (from..=to).step_by(step) {
                set |= 1 << value;
            }
        }
        Ok(set)
    }

    fn value(&self, word: &str) -> Option<u32> {
        let named = || self.3.iter().position(|name| name.eq_ignore_ascii_case(word));
        let value = number(word).or_else(|| u32::try_from(named()?).ok().map(|place| place + self.1))?;
        (self.1..=self.2).contains(&value).then_some(value)
    }
}

/// Digits and nothing else.
fn number(word: &str) -> Option<u32> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-30 is a Monday.
    const MONDAY: i64 = 1_795_996_800;

    fn next(schedule: &str, after: i64) -> String {
        let at = Schedule::parse(schedule).unwrap().next(Timestamp::from_seconds(after)).unwrap();
        jiff::Timestamp::from_second(at.seconds()).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_what_cron_says() {
        for (schedule, after, expected) in [
            ("* * * * *", MONDAY, "2026-11-30T00:01:00Z"),
            ("*/15 * * * *", MONDAY + 59, "2026-11-30T00:15:00Z"),
            ("0 0 * * SAT", MONDAY, "2026-12-05T00:00:00Z"),
            ("30 23 * * mon", MONDAY, "2026-11-30T23:30:00Z"),
            ("0 0 * * 1", MONDAY, "2026-12-07T00:00:00Z"),
            ("5 4 1 jan *", MONDAY, "2027-01-01T04:05:00Z"),
            ("0 12 29 2 *", MONDAY, "2028-02-29T12:00:00Z"),
            ("59 23 31 12 *", MONDAY, "2026-12-31T23:59:00Z"),
            // Either day will do when both are said.
            ("0 0 15 * WED", MONDAY, "2026-12-02T00:00:00Z"),
            ("0 0 */2 * WED", MONDAY, "2026-12-09T00:00:00Z"),
            ("10-12/2,50 3 * * *", MONDAY + 3 * 3600 + 10 * 60, "2026-11-30T03:12:00Z"),
            ("10-12/2,50 3 * * *", MONDAY + 3 * 3600 + 12 * 60, "2026-11-30T03:50:00Z"),
            ("10/20 * ? * *", MONDAY + 3 * 3600 + 55 * 60, "2026-11-30T04:10:00Z"),
            ("@monthly", MONDAY, "2026-12-01T00:00:00Z"),
            (" @hourly ", MONDAY, "2026-11-30T01:00:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_part_that_is_wrong() {
        for (text, expected) in [
            ("", "expected 5 fields (minute, hour, day of the month, month, day of the week), found 0"),
            ("* * * * * *", "expected 5 fields (minute, hour, day of the month, month, day of the week), found 6"),
            ("60 * * * *", "`60` is not a minute of a schedule"),
            ("* 24 * * *", "`24` is not a hour of a schedule"),
            ("* * 0 * *", "`0` is not a day of the month of a schedule"),
            ("* * * smarch *", "`smarch` is not a month of a schedule"),
            ("* * * * 7", "`7` is not a day of the week of a schedule"),
            ("5-1 * * * *", "`5-1` is not a minute of a schedule"),
            ("*/0 * * * *", "`*/0` is not a minute of a schedule"),
            ("1,,2 * * * *", "`` is not a minute of a schedule"),
            ("+1 * * * *", "`+1` is not a minute of a schedule"),
            ("0 0 30 2 *", "the schedule never comes"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_next_time_fits_and_none_between_does(minute in 0..60_u32, hour in 0..24_u32, after in 0..4_000_000_000_i64) {
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
            let next = schedule.next(Timestamp::from_seconds(after)).unwrap().seconds();
            prop_assert!(next > after && next - after <= 86_400);
            prop_assert_eq!(next.rem_euclid(86_400), i64::from(hour * 3600 + minute * 60));
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[-0-9*/,? a-z@]{0,40}") {
            if let Ok(schedule) = Schedule::parse(&text) {
                prop_assert!(schedule.next(Timestamp::EPOCH).is_some());
            }
        }
    }
}
