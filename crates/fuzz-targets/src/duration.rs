//! FZ-18: durations. One parser, no overflow, no exponent, no blank; what is printed is read back; the value is what a
//! slow sum of its parts gives.

use std::time::Duration;

use tresor_wire::duration::{parse_go, parse_signed, print_go};

pub(crate) const WORDS: &[&str] = &[
    "1",
    "0",
    "9",
    "9223372036",
    "9223372037",
    "18446744073709551616",
    ".",
    "-",
    "+",
    "h",
    "m",
    "s",
    "ms",
    "us",
    "µs",
    "μs",
    "ns",
    "d",
    "e9",
    " ",
    "1.5",
    "0x1",
    "∞",
    "w",
];

/// A duration.
pub fn duration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(parsed) = parse_signed(text) else { return };
    assert!(!text.contains(char::is_whitespace) && !text.contains(['e', 'E', 'x']), "read what is none");
    assert!(parsed.length <= Duration::from_nanos(i64::MAX.unsigned_abs()), "longer than Go can hold");
    assert_eq!(parse_go(&print_go(parsed.length)), Some(parsed.length), "printed and read");
    assert_eq!(parse_go(text), (!parsed.negative || parsed.length.is_zero()).then_some(parsed.length));
    let slow = slow_seconds(text.trim_start_matches(['-', '+']));
    let off = (slow - parsed.length.as_secs_f64()).abs();
    assert!(off <= slow * 1e-9 + 1e-6, "{slow} s are not {:?}", parsed.length);
}

fn slow_seconds(text: &str) -> f64 {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds;
    }
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(at);
        let number: f64 =
            if number.starts_with('.') { format!("0{number}") } else { number.to_owned() }.parse().unwrap();
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
        let units = units.iter().chain(&[("h", 3600.0), ("d", 86400.0)]);
        let (unit, factor) = units.clone().find(|(unit, _)| after.starts_with(unit)).expect("a unit follows");
        sum += number * factor;
        rest = after.strip_prefix(unit).expect("it was there");
    }
    sum
}
