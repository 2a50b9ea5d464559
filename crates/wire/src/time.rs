//! Times as the API prints them: RFC 3339 in UTC, with as many digits of a second as are not zero.

use jiff::Timestamp as Jiff;
use jiff::fmt::temporal::DateTimePrinter;
use tresor_model::Timestamp;

static PRINTER: DateTimePrinter = DateTimePrinter::new();

/// A time in RFC 3339.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    // Every 64-bit count of nanoseconds lies within the years that are representable.
    let at = Jiff::from_nanosecond(i128::from(at.nanos())).unwrap_or_default();
    let mut text = String::with_capacity("2026-01-01T00:00:00.123456789Z".len());
    // Writing to a string does not fail.
    drop(PRINTER.print_timestamp(&at, &mut text));
    text
}

/// A time as the header `date` of HTTP has it (RFC 9110, section 5.6.7), which knows whole seconds.
#[must_use]
pub fn http_date(at: Timestamp) -> String {
    let at = Jiff::from_second(at.seconds()).unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// Reads RFC 3339, with any offset.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let parsed: Jiff = text.parse().ok()?;
    i64::try_from(parsed.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_the_reference_prints_them() {
        assert_eq!(rfc3339(Timestamp::from_nanos(1_767_225_600_123_456_000)), "2026-01-01T00:00:00.123456Z");
        assert_eq!(rfc3339(Timestamp::from_seconds(1_767_225_600)), "2026-01-01T00:00:00Z");
        assert_eq!(parse_rfc3339("2026-01-01T01:00:00+01:00"), Some(Timestamp::from_seconds(1_767_225_600)));
        assert_eq!(parse_rfc3339("yesterday"), None);
        // The example of RFC 9110, and what is below a second.
        let at = Timestamp::from_nanos(784_111_777_900_000_000);
        assert_eq!(http_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
