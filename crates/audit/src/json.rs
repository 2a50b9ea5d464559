//! The few rules of JSON text that audit lines need, as the reference writes them, and its two forms of time.
//!
//! Escaped beyond what JSON asks for, as the reference does: `<`, `>`, `&` and the line separators U+2028 and
//! U+2029, so that a line stays one line for every reader. Deliberately absent: parsing.

use tresor_env::Timestamp;

/// Appends text with everything escaped that must not stand in a JSON string.
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether the text is a number in JSON's grammar.
pub(crate) fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// RFC 3339 in UTC with as many digits of the second as are not zero.
pub(crate) fn time_with_fraction(time: Timestamp) -> String {
    let nanos = time.nanos().rem_euclid(1_000_000_000);
    let mut text = time_without_zone(time);
    if nanos > 0 {
        let digits = format!("{nanos:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// RFC 3339 in UTC in whole seconds.
pub(crate) fn time_in_seconds(time: Timestamp) -> String {
    time_without_zone(time) + "Z"
}

fn time_without_zone(time: Timestamp) -> String {
    let seconds = time.seconds();
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar: years counted from March make the
/// leap day the last of its year, and 400 years are 146,097 days.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // from 0000-03-01
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_reference_does() {
        let time = Timestamp::from_nanos(1_767_225_600_120_000_000);
        assert_eq!(time_with_fraction(time), "2026-01-01T00:00:00.12Z");
        assert_eq!(time_in_seconds(time), "2026-01-01T00:00:00Z");
        assert_eq!(time_with_fraction(Timestamp::from_seconds(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(time_with_fraction(Timestamp::EPOCH), "1970-01-01T00:00:00Z");
        assert_eq!(time_in_seconds(Timestamp::from_seconds(-1)), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn only_numbers_of_the_grammar_are_numbers() {
        for number in ["0", "-0", "10", "1.5", "1e9", "1E+9", "-1.25e-3"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1 ", "nan"] {
            assert!(!is_number(other), "{other}");
        }
    }

    #[test]
    fn a_line_stays_one_line() {
        let mut out = Vec::new();
        escape("a\"b\\\n\r\t\u{1}<&>\u{2028}é", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a\\\"b\\\\\\n\\r\\t\\u0001\\u003c\\u0026\\u003e\\u2028é");
    }
}
