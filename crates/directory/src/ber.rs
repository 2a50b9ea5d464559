//! The part of BER that LDAP uses: tags of one byte, definite lengths.
//!
//! A writer keeps to one buffer, which is wiped, since passwords go through it: lengths are patched in afterwards, in the
//! form of four bytes. A reader is total: whatever the bytes, it gives pieces of them or nothing.

use tresor_secret::Wiped;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The form of a length that takes four bytes more.
const LENGTH_OF_FOUR: u8 = 0x84;

/// Spells a message.
pub(crate) struct Writer(Wiped<Vec<u8>>);

/// Where the length of what is open stands.
#[must_use]
pub(crate) struct Opened(usize);

impl Writer {
    pub(crate) fn new() -> Self {
        // Most messages fit, so that no copy of a password stays behind in a buffer that was too short.
        Self(Wiped::new(Vec::with_capacity(4096)))
    }

    /// Begins something that contains others.
    pub(crate) fn open(&mut self, tag: u8) -> Opened {
        self.0.extend_from_slice(&[tag, LENGTH_OF_FOUR, 0, 0, 0, 0]);
        Opened(self.0.len())
    }

    /// Ends it.
    pub(crate) fn close(&mut self, opened: &Opened) {
        let length = u32::try_from(self.0.len() - opened.0).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(opened.0 - 4..opened.0) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Something with these bytes.
    pub(crate) fn bytes(&mut self, tag: u8, content: &[u8]) {
        let opened = self.open(tag);
        self.0.extend_from_slice(content);
        self.close(&opened);
    }

    /// A number.
    pub(crate) fn number(&mut self, tag: u8, number: u32) {
        let bytes = number.to_be_bytes();
        let zeros = bytes.iter().take(3).take_while(|byte| **byte == 0).count();
        let rest = bytes.get(zeros..).unwrap_or_default();
        let opened = self.open(tag);
        // A number whose first bit is set would be a negative one.
        if rest.first().is_some_and(|first| first & 0x80 != 0) {
            self.0.push(0);
        }
        self.0.extend_from_slice(rest);
        self.close(&opened);
    }

    pub(crate) fn done(self) -> Wiped<Vec<u8>> {
        self.0
    }
}

/// The header of something: its tag, how long the header is and what comes behind it; `None` while bytes are missing.
pub(crate) enum Header {
    /// More bytes are needed.
    Short,
    /// No such header is used in LDAP.
    Wrong,
    /// Complete.
    Complete {
        /// The tag.
        tag: u8,
        /// The length of the header.
        header: usize,
        /// The length of what comes behind it.
        content: usize,
    },
}

impl Header {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (Some(&tag), Some(&first)) = (bytes.first(), bytes.get(1)) else { return Self::Short };
        if tag & 0x1f == 0x1f {
            return Self::Wrong;
        }
        if first & 0x80 == 0 {
            return Self::Complete { tag, header: 2, content: first.into() };
        }
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return Self::Wrong;
        }
        let Some(length) = bytes.get(2..2 + count) else { return Self::Short };
        let content = length.iter().fold(0_u32, |length, byte| (length << 8) | u32::from(*byte));
        usize::try_from(content).map_or(Self::Wrong, |content| Self::Complete { tag, header: 2 + count, content })
    }
}

/// Reads pieces one behind the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// The next piece, whatever it is.
    pub(crate) fn next(&mut self) -> Option<(u8, &'b [u8])> {
        let Header::Complete { tag, header, content } = Header::of(self.0) else { return None };
        let piece = self.0.get(header..header.checked_add(content)?)?;
        self.0 = self.0.get(header + content..)?;
        Some((tag, piece))
    }

    /// The next piece, which has this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'b [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, piece)| piece)
    }

    /// The next piece, which is a number that is not negative.
    pub(crate) fn number(&mut self, tag: u8) -> Option<u32> {
        let piece = self.expect(tag)?;
        let is_negative = piece.first().is_none_or(|first| first & 0x80 != 0);
        if is_negative || piece.len() > 5 {
            return None;
        }
        let number = piece.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        u32::try_from(number).ok()
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u32>(), text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut writer = Writer::new();
            let opened = writer.open(SEQUENCE);
            writer.number(INTEGER, number);
            writer.bytes(OCTETS, &text);
            writer.close(&opened);
            let bytes = writer.done();
            let mut reader = Reader::new(&bytes);
            let mut inner = Reader::new(reader.expect(SEQUENCE).unwrap());
            prop_assert_eq!(inner.number(INTEGER), Some(number));
            prop_assert_eq!(inner.expect(OCTETS), Some(text.as_slice()));
            prop_assert!(inner.is_at_end() && reader.is_at_end());
        }

        #[test]
        fn whatever_the_bytes_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            let mut pieces = 0;
            while reader.next().is_some() {
                pieces += 1;
            }
            prop_assert!(pieces <= bytes.len() / 2);
        }
    }
}
