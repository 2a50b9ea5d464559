//! From when until when a certificate is valid: the two dates of its DER, and nothing else of it.

use tresor_model::Timestamp;

/// A certificate's first and last second.
pub(crate) fn of(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, whole, _) = element(certificate)?;
    let (_, signed, _) = element(whole)?;
    let mut rest = signed;
    // A version comes first, in a tag of its own, where it is not the oldest; then number, algorithm and issuer.
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, dates, _) = element(rest)?;
    let (tag, from, dates) = element(dates)?;
    let from = time(tag, from)?;
    let (tag, until, _) = element(dates)?;
    Some((from, time(tag, until)?))
}

/// The first element: its tag, what is in it, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(length & 0x7f)?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (inside, after) = rest.split_at_checked(length)?;
    Some((*tag, inside, after))
}

/// `YYMMDDhhmmssZ`, of this century or the last, or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let whole = match tag {
        0x17 => {
            let century = if text.get(..2)?.parse::<u32>().ok()? < 50 { "20" } else { "19" };
            format!("{century}{text}")
        }
        0x18 => text.to_owned(),
        _ => return None,
    };
    // What never ends is said so, and is later than a time of ours can be.
    if whole.get(..4)?.parse::<u32>().ok()? > 2261 {
        return Some(Timestamp::from_nanos(i64::MAX));
    }
    let part = |from: usize, length: usize| whole.get(from..from + length);
    let spelled =
        format!("{}-{}-{}T{}:{}:{}Z", part(0, 4)?, part(4, 2)?, part(6, 2)?, part(8, 2)?, part(10, 2)?, part(12, 2)?);
    tresor_wire::time::parse_rfc3339(&spelled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_those_that_it_was_made_with() {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(1999, 12, 31);
        parameters.not_after = rcgen::date_time_ymd(2051, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let (from, until) = of(certificate.der()).unwrap();
        let shown = |time| tresor_wire::time::rfc3339(time);
        assert_eq!((shown(from).as_str(), shown(until).as_str()), ("1999-12-31T00:00:00Z", "2051-02-03T00:00:00Z"));
        for cut in [0, 1, 4, 40, 100] {
            assert!(of(certificate.der().get(..cut).unwrap()).is_none(), "{cut}");
        }
    }
}
