//! How stored things are spelled as bytes: a version, then the fields in order.
//!
//! A stored type derives [`Record`]; what it is made of are [`Part`]s. Decoding is total: whatever the bytes, the
//! answer is a record or a [`RecordError`], never a panic, and never more memory than the bytes could fill (DR-24).
//! An older version is read through its own type. Deliberately absent: field names on disk, and `serde`, which would
//! let a secret be serialized somewhere else by accident.

mod parts;

extern crate self as tresor_record;

pub use tresor_macros::{Part, Record};
use tresor_secret::Wiped;

/// The bytes of a record; zeroized when dropped.
pub type Encoded = Wiped<Vec<u8>>;

/// A stored type.
pub trait Record: Sized {
    /// What it is called in errors.
    const KIND: &'static str;
    /// The version that is written.
    const VERSION: u8;

    /// The bytes to store.
    fn encode(&self) -> Encoded;

    /// Reads stored bytes, of this version or an older one.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no such record.
    fn decode(bytes: &[u8]) -> Result<Self, RecordError>;
}

/// What records are made of.
pub trait Part: Sized {
    /// Appends itself.
    fn write(&self, writer: &mut Writer);

    /// Reads itself.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no such part.
    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError>;
}

/// Why stored bytes are not the record that was looked for: damage, or a newer release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end too early.
    #[error("stored `{kind}` ends too early")]
    Truncated {
        /// The record.
        kind: &'static str,
    },
    /// There are bytes left over.
    #[error("stored `{kind}` has bytes left over")]
    TrailingBytes {
        /// The record.
        kind: &'static str,
    },
    /// Written by a release that this one does not know.
    #[error("stored `{kind}` has the unknown version {version}")]
    UnknownVersion {
        /// The record.
        kind: &'static str,
        /// The version found.
        version: u8,
    },
    /// A value that the part cannot have.
    #[error("stored `{kind}` holds an impossible value")]
    Impossible {
        /// The record.
        kind: &'static str,
    },
}

/// Takes parts.
pub struct Writer {
    bytes: Encoded,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Starts without bytes.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Wiped::new(Vec::with_capacity(256)) }
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Encoded {
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn append(&mut self, more: &[u8]) {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            // Growing in place could leave a copy behind that nobody zeroizes.
            let mut larger = Wiped::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(more);
    }
}

/// Gives parts back.
pub struct Reader<'b> {
    kind: &'static str,
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Reads a record of this kind.
    #[must_use]
    pub const fn new(kind: &'static str, bytes: &'b [u8]) -> Self {
        Self { kind, bytes }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`RecordError::TrailingBytes`] when something is.
    pub const fn finish(&self) -> Result<(), RecordError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(RecordError::TrailingBytes { kind: self.kind }) }
    }

    /// A tag that no variant has.
    #[must_use]
    pub const fn unknown_tag(&self, _tag: u8) -> RecordError {
        self.impossible()
    }

    /// A value that the part cannot have.
    #[must_use]
    pub const fn impossible(&self) -> RecordError {
        RecordError::Impossible { kind: self.kind }
    }

    /// What is left, in bytes: an upper bound of what can follow.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next so many bytes.
    ///
    /// # Errors
    /// [`RecordError::Truncated`] when there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'b [u8], RecordError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(RecordError::Truncated { kind: self.kind })?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Part, Debug, Clone, PartialEq)]
    enum Shape {
        #[part(tag = 1)]
        Point,
        #[part(tag = 2)]
        Circle { radius: u64 },
        #[part(tag = 3)]
        Named(String, Option<bool>),
    }

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(kind = "sample", version = 1)]
    struct SampleV1 {
        name: String,
    }

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(kind = "sample", version = 2, previous = SampleV1)]
    struct Sample {
        name: String,
        shapes: Vec<Shape>,
        names: BTreeMap<String, i64>,
    }

    impl From<SampleV1> for Sample {
        fn from(older: SampleV1) -> Self {
            Self { name: older.name, shapes: Vec::new(), names: BTreeMap::new() }
        }
    }

    fn sample() -> Sample {
        Sample {
            name: "näme".to_owned(),
            shapes: vec![Shape::Point, Shape::Circle { radius: u64::MAX }, Shape::Named("x".to_owned(), Some(true))],
            names: BTreeMap::from([("a".to_owned(), i64::MIN), ("b".to_owned(), 7)]),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(Sample::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn an_older_version_is_read_through_its_own_type() {
        let older = SampleV1 { name: "old".to_owned() };
        assert_eq!(Sample::decode(&older.encode()).unwrap(), Sample::from(older));
        assert!(matches!(SampleV1::decode(&sample().encode()), Err(RecordError::UnknownVersion { version: 2, .. })));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(Sample::decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Sample::decode(&longer), Err(RecordError::TrailingBytes { kind: "sample" }));
    }

    proptest! {
        #[test]
        fn fz_13_any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
            if let Ok(record) = Sample::decode(&bytes) {
                prop_assert_eq!(Sample::decode(&record.encode()).unwrap(), record);
            }
        }
    }
}
