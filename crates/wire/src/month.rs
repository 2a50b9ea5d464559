//! Months of the calendar, in UTC: what is counted by the month is asked for and shown by them.
//!
//! Deliberately absent: other time zones, and days.

use std::fmt;

use jiff::Timestamp as Jiff;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tresor_model::Timestamp;

/// A month of a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month that a time lies in.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        // Every 64-bit count of nanoseconds lies within the years that are representable.
        let at = Jiff::from_nanosecond(i128::from(at.nanos())).unwrap_or_default();
        let date = TimeZone::UTC.to_datetime(at);
        Self { year: date.year(), month: date.month() }
    }

    /// Reads `2026-11`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        if year.len() != 4 || month.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return None;
        }
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        Date::new(year, month, 1).ok().map(|_| Self { year, month })
    }

    /// Its first moment.
    #[must_use]
    pub fn begins(self) -> Timestamp {
        let first =
            Date::new(self.year, self.month, 1).and_then(|first| TimeZone::UTC.to_timestamp(first.at(0, 0, 0, 0)));
        let nanos = first.map_or(i128::from(i64::MAX), Jiff::as_nanosecond);
        // What lies beyond the times that there are never comes.
        Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The first moment of the next one.
    #[must_use]
    pub fn ends(self) -> Timestamp {
        self.next().begins()
    }

    /// The month after it.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year.saturating_add(1), month: 1 }
        } else {
            Self { year: self.year, month: self.month.saturating_add(1) }
        }
    }

    /// The month so many before it.
    #[must_use]
    pub fn before(self, months: u32) -> Self {
        let number = (i64::from(self.year) * 12 + i64::from(self.month) - 1).saturating_sub(i64::from(months)).max(12);
        let (year, month) = (number.div_euclid(12), number.rem_euclid(12) + 1);
        Self { year: i16::try_from(year).unwrap_or(i16::MAX), month: i8::try_from(month).unwrap_or(1) }
    }

    /// Its number in the order of months.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::try_from(i64::from(self.year) * 12 + i64::from(self.month) - 1).unwrap_or(0)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;
    use crate::time::{parse_rfc3339, rfc3339};

    #[test]
    fn a_time_lies_in_the_month_that_begins_before_it_and_ends_after_it() {
        for (at, month, begins, ends) in [
            ("2026-11-30T23:59:59.999999999Z", "2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-01T00:00:00Z", "2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2024-02-29T12:00:00Z", "2024-02", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"),
        ] {
            let found = Month::of(parse_rfc3339(at).unwrap());
            assert_eq!(found.to_string(), month);
            assert_eq!((rfc3339(found.begins()), rfc3339(found.ends())), (begins.to_owned(), ends.to_owned()));
            assert_eq!(Month::parse(month), Some(found));
        }
        let march = Month::parse("2026-03").unwrap();
        let before: Vec<String> = [0, 2, 3, 15].map(|months| march.before(months).to_string()).into();
        assert_eq!(before, ["2026-03", "2026-01", "2025-12", "2024-12"]);
        assert_eq!(march.next().number(), march.number() + 1);
        // Neither the ends of time nor a wish for very many months is more than a month.
        for at in [i64::MIN, i64::MAX] {
            let month = Month::of(Timestamp::from_nanos(at));
            assert!(month.begins() <= Timestamp::from_nanos(at) && Timestamp::from_nanos(at) <= month.ends());
        }
        assert_eq!(march.before(u32::MAX).to_string(), "0001-01");
    }

    #[test]
    fn what_is_no_month_is_none() {
        for text in ["", "2026", "2026-13", "2026-00", "26-01", "2026-1", "+026-01", "2026-01-01", "2026_01", "aaaa-bb"]
        {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }
}
