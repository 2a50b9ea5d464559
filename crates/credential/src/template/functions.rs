//! The functions of templates: each by its name, what it takes, and what comes of it.
//!
//! Deliberately absent: anything that reads the server's environment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_crypto::hash::{sha256, to_hex};
use tresor_crypto::token_text::{random_base62, random_uuid};
use zeroize::Zeroizing;

use super::{Moment, RENDERED_MAX, TemplateError, Value};
use crate::layout;

/// How many random characters there can be.
const RANDOM_MAX: i64 = 1000;
/// How much of a digest `truncate_sha256` puts at the end.
const DIGEST_END: usize = 8;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Random,
    Truncate,
    TruncateSha256,
    Uppercase,
    Lowercase,
    Replace,
    Sha256,
    Base64,
    DecodeBase64,
    EncodeHex,
    DecodeHex,
    Utf16Le,
    UnixTime,
    UnixTimeMillis,
    Timestamp,
    Uuid,
    Printf,
    Equal,
    Different,
}

/// Every function: by its names, with what it takes.
const TABLE: [(&str, Function, &str); 20] = [
    ("random", Function::Random, "a number from 1 to 1000"),
    ("truncate", Function::Truncate, "a number above 0 and a text"),
    ("truncate_sha256", Function::TruncateSha256, "a number above 8 and a text"),
    ("uppercase", Function::Uppercase, "a text"),
    ("lowercase", Function::Lowercase, "a text"),
    ("replace", Function::Replace, "what to find, what to put there, and a text"),
    ("sha256", Function::Sha256, "a text"),
    ("base64", Function::Base64, "a text"),
    ("encode_base64", Function::Base64, "a text"),
    ("decode_base64", Function::DecodeBase64, "a text in base64"),
    ("encode_hex", Function::EncodeHex, "a text"),
    ("decode_hex", Function::DecodeHex, "a text in hexadecimal"),
    ("utf16le", Function::Utf16Le, "a text"),
    ("unix_time", Function::UnixTime, "nothing"),
    ("unix_time_millis", Function::UnixTimeMillis, "nothing"),
    ("timestamp", Function::Timestamp, "a layout"),
    ("uuid", Function::Uuid, "nothing"),
    ("printf", Function::Printf, "a format and a value for each of its verbs"),
    ("eq", Function::Equal, "two values"),
    ("ne", Function::Different, "two values"),
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|(known, ..)| *known == name).map(|(_, function, _)| *function)
    }

    pub(super) fn call(self, arguments: &[Value], moment: Moment<'_>) -> Result<Value, TemplateError> {
        // Of all functions this one alone makes much of little.
        if let (Self::Replace, [find, put, value]) = (self, arguments)
            && let (Some(find), Some(put), Some(value)) = (text(find), text(put), text(value))
            && value.matches(find.as_str()).count().saturating_mul(put.len()) > RENDERED_MAX
        {
            return Err(TemplateError::TooLong("the result"));
        }
        self.value(arguments, moment).ok_or_else(|| {
            let row = TABLE.iter().find(|(_, function, _)| *function == self);
            let (function, takes) = row.map_or(("", ""), |(name, _, takes)| (*name, *takes));
            TemplateError::Arguments { function, takes }
        })
    }

    /// What comes of it; `None` when these are not its arguments.
    fn value(self, arguments: &[Value], moment: Moment<'_>) -> Option<Value> {
        match (self, arguments) {
            (Self::Random, [Value::Number(length)]) if (1..=RANDOM_MAX).contains(length) => {
                Some(Value::text(random_base62(usize::try_from(*length).ok()?, moment.entropy).as_str()))
            }
            (Self::Truncate, [Value::Number(length), value]) if *length > 0 => {
                Some(Value::text(beginning(&text(value)?, usize::try_from(*length).ok()?)))
            }
            (Self::TruncateSha256, [Value::Number(length), value]) => {
                let (text, length) = (text(value)?, usize::try_from(*length).ok()?);
                let kept = length.checked_sub(DIGEST_END).filter(|kept| *kept > 0)?;
                if text.len() <= length {
                    return Some(Value::text(text.as_str()));
                }
                let begin = beginning(&text, kept);
                let digest = to_hex(&sha256(text.get(begin.len()..)?.as_bytes()));
                Some(Value::text(format!("{begin}{}", digest.get(..DIGEST_END)?)))
            }
            (Self::Uppercase, [value]) => Some(Value::text(text(value)?.to_uppercase())),
            (Self::Lowercase, [value]) => Some(Value::text(text(value)?.to_lowercase())),
            (Self::Replace, [find, put, value]) => {
                Some(Value::text(text(value)?.replace(text(find)?.as_str(), &text(put)?)))
            }
            (Self::Sha256, [value]) => Some(Value::text(to_hex(&sha256(&value.bytes())))),
            (Self::Base64, [value]) => Some(Value::text(STANDARD.encode(&*value.bytes()))),
            (Self::DecodeBase64, [value]) => {
                STANDARD.decode(&*value.bytes()).ok().map(Zeroizing::new).map(Value::Bytes)
            }
            (Self::EncodeHex, [value]) => Some(Value::text(to_hex(&value.bytes()))),
            (Self::DecodeHex, [value]) => from_hex(&text(value)?).map(Value::Bytes),
            (Self::Utf16Le, [value]) => {
                let units = text(value)?;
                let bytes = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
                Some(Value::Bytes(Zeroizing::new(bytes)))
            }
            (Self::UnixTime, []) => Some(Value::text(moment.now.seconds().to_string())),
            (Self::UnixTimeMillis, []) => Some(Value::text(moment.now.nanos().div_euclid(1_000_000).to_string())),
            (Self::Timestamp, [value]) => layout::print(moment.now, &text(value)?).map(Value::text),
            (Self::Uuid, []) => Some(Value::text(random_uuid(moment.entropy))),
            (Self::Equal, [one, other]) => Some(Value::Truth(one.bytes() == other.bytes())),
            (Self::Different, [one, other]) => Some(Value::Truth(one.bytes() != other.bytes())),
            (Self::Printf, [format, values @ ..]) => printf(&text(format)?, values),
            _ => None,
        }
    }
}

/// The beginning of a text, at most so many bytes, without half a character.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

fn text(value: &Value) -> Option<Zeroizing<String>> {
    std::str::from_utf8(&value.bytes()).ok().map(|text| Zeroizing::new(text.to_owned()))
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

/// `%s`, `%v`, `%d`, `%q` and `%%`, without widths.
fn printf(format: &str, values: &[Value]) -> Option<Value> {
    let mut out = Zeroizing::new(String::new());
    let (mut letters, mut values) = (format.chars(), values.iter());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next()? {
            '%' => out.push('%'),
            's' | 'v' => out.push_str(&text(values.next()?)?),
            'd' => match values.next()? {
                Value::Number(number) => out.push_str(&number.to_string()),
                _ => return None,
            },
            'q' => {
                out.push('"');
                for letter in text(values.next()?)?.chars() {
                    if matches!(letter, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(letter);
                }
                out.push('"');
            }
            _ => return None,
        }
    }
    values.next().is_none().then(|| Value::text(out.as_str()))
}
