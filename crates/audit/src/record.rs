//! A redacted record, ready for a device: names, numbers and booleans in clear, strings as leaves.
//!
//! Invariant: built by [`crate::Redactor`] alone; one record is one line of JSON. Deliberately absent: any other
//! format, and reading a record back.

use std::borrow::Cow;
use std::sync::Arc;

use tresor_wire::json::{ObjectWriter, encode_text};
use zeroize::Zeroizing;

use crate::redact::Leaf;

/// Redacted records, each a whole line: what sinks take.
#[derive(Default)]
pub struct Lines {
    /// A device with `log_raw` shows secrets here.
    bytes: Zeroizing<Vec<u8>>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    /// Adds a record.
    pub(crate) fn push(&mut self, record: &AuditRecord) {
        record.write_line(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// All of them, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Each line, with its newline.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.bytes.get(start..*end))
    }

    /// How many lines lie wholly within the first bytes, and where the last of them ends.
    #[must_use]
    pub fn whole_within(&self, bytes: usize) -> (usize, usize) {
        let count = self.ends.partition_point(|end| *end <= bytes);
        (count, count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0))
    }
}

/// One redacted record.
pub struct AuditRecord {
    pub(crate) prefix: Arc<str>,
    pub(crate) content: Object,
}

/// A value of a record.
pub(crate) enum Value {
    Null,
    Bool(bool),
    Whole(u64),
    /// A number's text; written as a string when it is not one in JSON's grammar.
    Number(Box<str>),
    Leaf(Leaf),
    List(Vec<Value>),
    Object(Object),
}

/// Names and values in the order of output.
#[derive(Default)]
pub(crate) struct Object(Vec<(Cow<'static, str>, Value)>);

impl Object {
    /// Adds a name.
    pub(crate) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        self.0.push((name.into(), value));
    }

    /// Adds a number, unless it is zero.
    pub(crate) fn push_whole(&mut self, name: &'static str, value: u64) {
        if value != 0 {
            self.push(name, Value::Whole(value));
        }
    }

    /// Adds an object, unless it is empty.
    pub(crate) fn push_object(&mut self, name: &'static str, object: Self) {
        if !object.0.is_empty() {
            self.push(name, Value::Object(object));
        }
    }
}

impl AuditRecord {
    /// Appends the record as one line, with the device's prefix and the newline.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        write_object(&self.content, out);
        out.push(b'\n');
    }
}

fn write_object(object: &Object, out: &mut Vec<u8>) {
    let mut writer = ObjectWriter::new(out);
    for (name, value) in &object.0 {
        write_value(value, writer.key(name));
    }
    writer.end();
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Whole(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Number(text) if is_number(text) => out.extend_from_slice(text.as_bytes()),
        Value::Number(text) => encode_text(text, out),
        Value::Leaf(leaf) => leaf.write(out),
        Value::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, out),
    }
}

/// Whether the text is a number in JSON's grammar, which is narrower than what a body's number may hold.
fn is_number(text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_the_grammar_are_numbers() {
        for number in ["0", "-0", "10", "1.5", "1e9", "1E+9", "-1.25e-3"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1 ", "nan"] {
            assert!(!is_number(other), "{other}");
        }
    }
}
