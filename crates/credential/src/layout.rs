//! Times in the layouts of Go: an example time, written as the output is to be written.
//!
//! Deliberately absent: time zones; everything is UTC.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use tresor_env::Timestamp;

/// What stands in a layout and what it means, the longer spelling first where one begins with another.
const WORDS: [(&str, &str); 34] = [
    ("January", "%B"),
    ("Monday", "%A"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("2006", "%Y"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    (".000000000", ".%9f"),
    (".000000", ".%6f"),
    (".000", ".%3f"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("_2", "%e"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("%", "%%"),
    ("\n", "%n"),
    ("\t", "%t"),
];

/// A time as the layout has it; `None` for what no year can hold.
#[must_use]
pub fn print(at: Timestamp, layout: &str) -> Option<String> {
    let mut format = String::with_capacity(layout.len() * 2);
    let mut rest = layout;
    'words: while let Some(letter) = rest.chars().next() {
        for (word, meaning) in WORDS {
            if let Some(after) = rest.strip_prefix(word) {
                format.push_str(meaning);
                rest = after;
                continue 'words;
            }
        }
        format.push(letter);
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
    }
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.nanos())).ok()?;
    strtime::format(&format, TimeZone::UTC.to_datetime(at)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_read_as_go_reads_them() {
        let at = Timestamp::from_nanos(1_795_996_800_123_456_000 + 13 * 3_600_000_000_000);
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z", "2026-11-30T13:00:00Z"),
            ("2006-01-02T15:04:05Z07:00", "2026-11-30T13:00:00Z"),
            ("Mon Jan _2 15:04:05 2006", "Mon Nov 30 13:00:00 2026"),
            ("3:04PM", "1:00PM"),
            ("20060102150405.000", "20261130130000.123"),
            ("Monday, 02-Jan-06 MST -0700 100%", "Monday, 30-Nov-26 UTC +0000 1100%"),
        ] {
            assert_eq!(print(at, layout).as_deref(), Some(expected), "{layout}");
        }
    }
}
