//! Moments and lengths of time. Zones are `UTC` and distances from it, such as `+02:00`.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use tresor_wire::duration;

use super::{Called, Function, method};
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    method("getFullYear", 1, 2, |given, _| of_date(given, |date| i64::from(date.year()))),
    method("getMonth", 1, 2, |given, _| of_date(given, |date| i64::from(date.month()) - 1)),
    method("getDayOfYear", 1, 2, |given, _| of_date(given, |date| i64::from(date.day_of_year()) - 1)),
    method("getDayOfMonth", 1, 2, |given, _| of_date(given, |date| i64::from(date.day()) - 1)),
    method("getDate", 1, 2, |given, _| of_date(given, |date| i64::from(date.day()))),
    method("getDayOfWeek", 1, 2, |given, _| of_date(given, |date| i64::from(date.weekday().to_sunday_zero_offset()))),
    method("getHours", 1, 2, |given, _| either(given, |date| i64::from(date.hour()), |length| length.as_hours())),
    method("getMinutes", 1, 2, |given, _| either(given, |date| i64::from(date.minute()), |length| length.as_mins())),
    method("getSeconds", 1, 2, |given, _| either(given, |date| i64::from(date.second()), |length| length.as_secs())),
    method("getMilliseconds", 1, 2, |given, _| {
        either(given, |date| i64::from(date.millisecond()), |length| i64::from(length.subsec_millis()))
    }),
];

/// The moment's date and time where the second argument says, or in UTC.
fn date(moment: Timestamp, zone: Option<&Value>) -> Result<Option<DateTime>, Problem> {
    let offset = match zone {
        None => Offset::UTC,
        Some(Value::Text(text)) => offset(text).ok_or(Problem::NotA("zone of time, which is `UTC` or as `+02:00`"))?,
        Some(_) => return Ok(None),
    };
    Ok(Some(TimeZone::fixed(offset).to_datetime(moment)))
}

fn offset(text: &str) -> Option<Offset> {
    if matches!(text, "UTC" | "Z") {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let read = |digits: &str| digits.parse::<i32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let (hours, minutes) = (read(hours)?, read(minutes).filter(|minutes| *minutes < 60)?);
    Offset::from_seconds(sign * (hours.checked_mul(3600)? + minutes * 60)).ok()
}

fn of_date(given: &[Value], part: fn(DateTime) -> i64) -> Called {
    let (Some(Value::Timestamp(moment)), zone) = (given.first(), given.get(1)) else { return Ok(None) };
    Ok(date(*moment, zone)?.map(|date| Value::Int(part(date))))
}

fn either(given: &[Value], part: fn(DateTime) -> i64, whole: fn(SignedDuration) -> i64) -> Called {
    match given {
        [Value::Duration(length)] => Ok(Some(Value::Int(whole(*length)))),
        _ => of_date(given, part),
    }
}

/// As Go reads it, and days besides; a bare number is seconds.
pub(super) fn read_duration(text: &str) -> Option<SignedDuration> {
    let read = duration::parse_signed(text)?;
    let length = SignedDuration::try_from(read.length).ok()?;
    if read.negative { length.checked_neg() } else { Some(length) }
}

/// In seconds, as the language prints it.
pub(crate) fn print_duration(length: SignedDuration) -> String {
    let nanos = length.as_nanos();
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:09}").trim_end_matches('0').to_owned() };
    format!("{sign}{seconds}{fraction}s")
}
