//! Durations as the API reads them (`90`, `"90"`, `"1h30m"`, `"7d"`) and as Go prints them (`768h0m0s`).
//!
//! Deliberately absent: weeks, months, years and spaces; overflow is refused, never wrapped (FZ-18).

use std::time::Duration;

/// A duration with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whether it is below zero.
    pub negative: bool,
    /// Its length.
    pub length: Duration,
}

/// Nanoseconds of a unit of Go's grammar, and of the day, which the API adds.
fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// Reads a duration: bare numbers are seconds.
#[must_use]
pub fn parse_signed(text: &str) -> Option<Signed> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = rest.parse().ok()?;
        return bounded(u128::from(seconds).checked_mul(1_000_000_000)?).map(|length| Signed { negative, length });
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        total = total.checked_add(part_nanos(number, unit_nanos(unit)?)?)?;
        rest = next;
    }
    bounded(total).map(|length| Signed { negative, length })
}

/// One number of its unit: `1.5` hours.
fn part_nanos(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fractional = digits(fraction)?.checked_mul(unit)? / scale;
    digits(whole)?.checked_mul(unit)?.checked_add(fractional)
}

/// Durations are bounded as Go's are: 63 bits of nanoseconds, some 292 years.
fn bounded(nanos: u128) -> Option<Duration> {
    let nanos = i64::try_from(nanos).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Reads a duration that is not below zero.
#[must_use]
pub fn parse_go(text: &str) -> Option<Duration> {
    parse_signed(text).filter(|parsed| !parsed.negative || parsed.length.is_zero()).map(|parsed| parsed.length)
}

/// Prints as Go does: `1h30m0s`, `1.5s`, `0s`.
#[must_use]
pub fn print_go(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if seconds == 0 && nanos > 0 {
        let (value, unit) = match nanos {
            0..1_000 => (f64::from(nanos), "ns"),
            1_000..1_000_000 => (f64::from(nanos) / 1e3, "µs"),
            _ => (f64::from(nanos) / 1e6, "ms"),
        };
        return format!("{value}{unit}");
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}").trim_end_matches('0').to_owned() };
    match (hours, minutes) {
        (0, 0) => format!("{rest}{fraction}s"),
        (0, _) => format!("{minutes}m{rest}{fraction}s"),
        _ => format!("{hours}h{minutes}m{rest}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_that_clients_send_are_read() {
        let seconds = |text| parse_go(text).map(|duration| duration.as_secs());
        for (text, expected) in [
            ("0", 0),
            ("30", 30),
            ("30s", 30),
            ("1h30m", 5400),
            ("768h", 2_764_800),
            ("7d", 604_800),
            ("1h1h", 7200),
            ("1.5h", 5400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(parse_go("300ms"), Some(Duration::from_millis(300)));
        for text in
            ["", " ", "1", "-1", "h", "1x", "1 h", "1e9h", "9999999999h", "--1", "1h-1m", ".h", "99999999999999999999"]
        {
            assert_eq!(parse_go(text).is_some(), text == "1", "{text}");
        }
        assert_eq!(parse_signed("-1h").map(|parsed| parsed.negative), Some(true));
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (2_764_800, "768h0m0s")] {
            assert_eq!(print_go(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(print_go(Duration::from_millis(1500)), "1.5s");
        assert_eq!(print_go(Duration::from_micros(1500)), "1.5ms");
    }

    proptest! {
        #[test]
        fn fz_18_what_is_printed_is_read_back(nanos in 0_u64..(i64::MAX as u64)) {
            let whole = Duration::from_secs(nanos / 1_000_000_000);
            prop_assert_eq!(parse_go(&print_go(whole)), Some(whole));
        }

        #[test]
        fn fz_18_any_text_is_a_duration_or_nothing(text in "\\PC{0,20}") {
            let _ = parse_signed(&text);
        }
    }
}
