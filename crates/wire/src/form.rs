//! Bodies of forms, as browsers and `curl -d name=value` send them: each field is a text, and one that is sent several times
//! is one text with commas, which every field that is a list reads as a list.
//!
//! They are bound by the same limits as JSON. Deliberately absent: files in forms (`multipart/form-data`).

use std::collections::BTreeMap;

use tresor_model::{Body, Map};
use tresor_secret::Wiped;

use crate::json::JsonLimits;

/// Why a form is not taken; always the caller's fault, and never with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A `%` without two hexadecimal digits.
    #[error("malformed percent-encoding")]
    Percent,
    /// Bytes that are no text.
    #[error("not valid UTF-8")]
    NotText,
    /// A `;`: some readers take it for a `&`, so two of them would see different fields.
    #[error("a semicolon must be sent as `%3B`")]
    Semicolon,
    /// Too many fields.
    #[error("too many fields")]
    TooManyFields,
    /// One field is too long.
    #[error("a field is too long")]
    TooLong,
    /// All fields together are too long.
    #[error("the fields are too long together")]
    TooMuchText,
}

/// Whether a body is a form: its media type says so, and it does not begin like JSON, which many clients send under this type.
#[must_use]
pub fn is_form(media_type: &str, bytes: &[u8]) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && first.is_some_and(|first| !matches!(first, b'{' | b'['))
}

/// Reads the fields of a form.
///
/// # Errors
/// [`FormError`], always the caller's fault.
pub fn decode(bytes: &[u8], limits: &JsonLimits) -> Result<Map, FormError> {
    let mut fields: BTreeMap<String, Vec<Wiped<String>>> = BTreeMap::new();
    let (mut strings, mut values, mut text_bytes) = (0_u32, 0_u32, 0_usize);
    for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, rest) = pair.split_at(equals);
        let name = component(name)?;
        let value = Wiped::new(component(rest.get(1..).unwrap_or_default())?);
        (strings, values) = (strings.saturating_add(2), values.saturating_add(1));
        text_bytes = text_bytes.saturating_add(name.len()).saturating_add(value.len());
        if strings > limits.strings_max || values > limits.values_max {
            return Err(FormError::TooManyFields);
        }
        if text_bytes > limits.text_bytes_max {
            return Err(FormError::TooMuchText);
        }
        if name.len() > limits.string_bytes_max {
            return Err(FormError::TooLong);
        }
        fields.entry(name).or_default().push(value);
        if fields.len() > limits.entries_max {
            return Err(FormError::TooManyFields);
        }
    }
    fields.into_iter().map(|(name, values)| joined(&values, limits).map(|text| (name, text))).collect()
}

/// The values of one field as one text, with commas between.
fn joined(values: &[Wiped<String>], limits: &JsonLimits) -> Result<Body, FormError> {
    let length: usize = values.iter().map(|value| value.len() + 1).sum::<usize>().saturating_sub(1);
    if length > limits.string_bytes_max {
        return Err(FormError::TooLong);
    }
    // As long as it gets: no text that grows leaves a copy behind.
    let mut text = String::with_capacity(length);
    for (at, value) in values.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(value);
    }
    Ok(Body::from(text))
}

/// One name or value, decoded once: `+` is a blank.
///
/// # Errors
/// [`FormError::Percent`], [`FormError::NotText`], [`FormError::Semicolon`].
pub fn component(text: &[u8]) -> Result<String, FormError> {
    if text.contains(&b';') {
        return Err(FormError::Semicolon);
    }
    decoded(text)
}

/// The same of the query of an address, where a `;` is a letter like others.
///
/// # Errors
/// [`FormError::Percent`], [`FormError::NotText`].
pub fn decoded(text: &[u8]) -> Result<String, FormError> {
    let mut decoded = Wiped::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().copied();
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => high * 16 + low,
                _ => return Err(FormError::Percent),
            },
            other => other,
        });
    }
    std::str::from_utf8(&decoded).map(str::to_owned).map_err(|_| FormError::NotText)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use tresor_model::map;

    use super::*;

    const MEDIA: &str = "application/x-www-form-urlencoded";

    fn read(text: &str) -> Result<Map, FormError> {
        decode(text.as_bytes(), &JsonLimits::default())
    }

    /// Spelled as a form, every byte that is no letter or digit in hexadecimal.
    fn spelled(text: &str) -> String {
        text.bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02x}"),
            })
            .collect()
    }

    #[test]
    fn only_what_says_so_and_does_not_begin_like_json_is_a_form() {
        assert!(is_form(MEDIA, b"a=b") && is_form("Application/X-WWW-Form-Urlencoded; charset=utf-8", b" a=b"));
        for body in [&b""[..], b" \n", b"{\"a\":1}", b" \t\r\n{", b"[1]"] {
            assert!(!is_form(MEDIA, body), "{body:?}");
        }
        assert!(!is_form("", b"a=b") && !is_form("application/json", b"a=b"));
    }

    #[test]
    fn fields_are_texts_and_one_that_stands_twice_has_a_comma() {
        let expected = map! { "a" => "1,2", "b" => " x y", "c" => "", "d" => "=", "" => "e" };
        assert_eq!(read("a=1&&a=2&b=+x%20y&c&d==&=e&").unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (text, error) in [
            ("a=%z1", FormError::Percent),
            ("a=%4", FormError::Percent),
            ("%=1", FormError::Percent),
            ("a=%ff", FormError::NotText),
            ("a=1;b=2", FormError::Semicolon),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_form_is_bound_like_json() {
        let limits = JsonLimits { entries_max: 2, strings_max: 6, string_bytes_max: 4, ..JsonLimits::default() };
        let bound = |text: &str| decode(text.as_bytes(), &limits);
        assert!(bound("a=1&b=2").is_ok() && bound("a=1&a=2").is_ok());
        assert_eq!(bound("a=1&b=2&c=3"), Err(FormError::TooManyFields));
        assert_eq!(bound("a=&a=&a=&a="), Err(FormError::TooManyFields));
        assert_eq!(bound("a=12345"), Err(FormError::TooLong));
        assert_eq!(bound("a=12&a=12"), Err(FormError::TooLong));
        let limits = JsonLimits { text_bytes_max: 5, ..JsonLimits::default() };
        assert_eq!(decode(b"a=12&b=34", &limits), Err(FormError::TooMuchText));
    }

    proptest! {
        #[test]
        fn what_is_spelled_as_a_form_is_read_as_it_was(sent in proptest::collection::btree_map(".{0,8}", ".{0,12}", 1..6)) {
            let pairs: Vec<String> =
                sent.iter().map(|(name, value)| format!("{}={}", spelled(name), spelled(value))).collect();
            let expected: Map = sent.into_iter().map(|(name, value)| (name, Body::from(value))).collect();
            prop_assert_eq!(read(&pairs.join("&")).unwrap(), expected);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(map) = decode(&bytes, &JsonLimits::default()) {
                prop_assert!(map.len() <= bytes.len());
            }
        }
    }
}
