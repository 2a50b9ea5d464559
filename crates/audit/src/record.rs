//! A redacted record as it is written: names, numbers and booleans in clear, strings as leaves, straight into the bytes
//! of its line.
//!
//! Invariant: written by [`crate::Redactor`] alone; one record is one line of JSON. Deliberately absent: a tree in
//! between, any other format, and reading a record back.

use std::ops::Range;

use tresor_secret::Wiped;
use tresor_wire::json::encode_text;
use zeroize::Zeroize;

/// How much room for lines is kept from one delivery to the next, in bytes.
const ROOM_BYTES_MAX: usize = 2 << 20;

/// Redacted records, each one whole line, or two (of a request and of its answer): what sinks take.
#[derive(Default)]
pub struct Lines {
    /// A device with `log_raw` shows secrets here.
    bytes: Wiped<Vec<u8>>,
    /// Where each record's lines end.
    ends: Vec<usize>,
}

/// What becomes of the room that lines took.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// They showed secrets.
    Wiped,
    /// They showed what anybody may see who reads the device.
    AsItIs,
}

impl Lines {
    /// Room for lines of about so many bytes together.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// None any more, with the room that they took, if it is not more than is worth keeping.
    pub(crate) fn emptied(mut self, room: Room) -> Self {
        if self.bytes.capacity() > ROOM_BYTES_MAX {
            return Self::default();
        }
        if room == Room::Wiped {
            self.bytes.as_mut_slice().zeroize();
        }
        self.bytes.clear();
        self.ends.clear();
        self
    }

    /// Adds a record's lines, and gives back what their writer says of them.
    pub(crate) fn push<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let written = write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        written
    }

    /// All of them, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of how many records they are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Each record's lines, with their newlines.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.bytes.get(start..*end))
    }

    /// How many records lie wholly within the first bytes, and where the last of them ends.
    #[must_use]
    pub fn whole_within(&self, bytes: usize) -> (usize, usize) {
        let count = self.ends.partition_point(|end| *end <= bytes);
        (count, count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0))
    }
}

/// An object that is being written.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    /// Writes an object.
    pub(crate) fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let mut object = Object { out, is_empty: true };
        fill(&mut object);
        object.out.push(b'}');
    }

    /// A name, and the place for its value.
    pub(crate) fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        encode_text(name, self.out);
        self.out.push(b':');
        self.out
    }

    /// The same for a name of ours, which needs no escapes.
    pub(crate) fn field(&mut self, name: &'static str) -> &mut Vec<u8> {
        // Looked for room once: this is most of what is written.
        self.out.reserve(name.len() + 4);
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes some fields, and says where in the output they stand.
    pub(crate) fn fields_at(&mut self, fill: impl FnOnce(&mut Object<'_>)) -> Range<usize> {
        let start = self.out.len();
        fill(self);
        start..self.out.len()
    }

    /// Writes fields again that stand further up in the same output, and did not come first there.
    pub(crate) fn fields_again(&mut self, at: Range<usize>) {
        self.out.extend_from_within(at);
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }

    /// An object, unless it turns out to be empty.
    pub(crate) fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        let (start, was_empty) = (self.out.len(), self.is_empty);
        let out = self.field(name);
        out.push(b'{');
        let mut inner = Object { out, is_empty: true };
        fill(&mut inner);
        let is_empty = inner.is_empty;
        self.out.push(b'}');
        if is_empty {
            self.out.truncate(start);
            self.is_empty = was_empty;
        }
    }

    /// A number, unless it is zero.
    pub(crate) fn whole(&mut self, name: &'static str, value: u64) {
        if value != 0 {
            whole(value, self.field(name));
        }
    }
}

/// A list that is being written.
pub(crate) struct List<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl List<'_> {
    /// Writes a list.
    pub(crate) fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut List<'_>)) {
        out.push(b'[');
        let mut list = List { out, is_empty: true };
        fill(&mut list);
        list.out.push(b']');
    }

    /// The place for the next item.
    pub(crate) fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out
    }
}

/// Writes a number.
pub(crate) fn whole(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
        count += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - count..).unwrap_or_default());
}

/// Writes a number's text, as a string when it is not one in JSON's grammar.
pub(crate) fn number(text: &str, out: &mut Vec<u8>) {
    if is_number(text) { out.extend_from_slice(text.as_bytes()) } else { encode_text(text, out) }
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
    fn whole_numbers_are_written_in_full() {
        for value in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            whole(value, &mut out);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    fn objects_that_turn_out_empty_leave_no_trace() {
        let mut out = Vec::new();
        Object::write(&mut out, |object| {
            object.object("gone", |inner| inner.object("deeper", |_| {}));
            object.whole("n", 3);
            object.object("gone", |_| {});
            object.object("kept", |inner| inner.whole("m", 4));
        });
        assert_eq!(String::from_utf8(out).as_deref(), Ok(r#"{"n":3,"kept":{"m":4}}"#));
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
}
