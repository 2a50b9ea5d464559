//! Items of KMIP as bytes: a tag, a type, a length and a value, filled up to eight bytes (section 9.1 of the specification).
//!
//! Reading is total, bounded in depth, and takes one spelling for one item. Deliberately absent: what tags mean, and numbers of any
//! length, which nothing here is made of.

use std::fmt;

use tresor_secret::Wiped;
use zeroize::Zeroizing;

/// How deep structures may be in structures.
const DEPTH_MAX: usize = 16;
/// The type of a structure.
pub const STRUCTURE: u8 = 1;

/// An item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is called.
    pub tag: u32,
    /// What it holds.
    pub value: Value,
}

/// What an item holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Items.
    Structure(Vec<Item>),
    /// A number.
    Integer(i32),
    /// A long one.
    LongInteger(i64),
    /// One of a list.
    Enumeration(u32),
    /// Yes or no.
    Boolean(bool),
    /// A text.
    Text(String),
    /// Bytes, which may be a secret.
    Bytes(Wiped<Vec<u8>>),
    /// Seconds since 1970.
    DateTime(i64),
    /// Seconds.
    Interval(u32),
    /// What is passed over: a number of any length, or a type that is not known.
    Other(u8),
}

/// Shows what it is, and no text or bytes, which may be a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Structure(items) => f.debug_list().entries(items).finish(),
            Self::Integer(number) => write!(f, "{number}"),
            Self::LongInteger(number) | Self::DateTime(number) => write!(f, "{number}"),
            Self::Enumeration(number) | Self::Interval(number) => write!(f, "{number}"),
            Self::Boolean(is_so) => write!(f, "{is_so}"),
            Self::Text(_) => f.write_str("a text"),
            Self::Bytes(_) => f.write_str("bytes"),
            Self::Other(kind) => write!(f, "type {kind}"),
        }
    }
}

/// Why bytes are no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlvError {
    /// They end too early.
    #[error("it ends too early")]
    Truncated,
    /// Something follows.
    #[error("something follows")]
    Trailing,
    /// It is longer than any that was expected.
    #[error("it is too long")]
    TooLong,
    /// Structures are too deep in structures.
    #[error("it is too deep")]
    TooDeep,
    /// A value has another length than its type.
    #[error("a value has another length than its type")]
    WrongLength,
    /// What fills up is not nothing.
    #[error("it is filled up with something")]
    Padding,
    /// A value is none of its type.
    #[error("a value is none of its type")]
    Impossible,
}

impl Item {
    /// An item.
    #[must_use]
    pub const fn new(tag: u32, value: Value) -> Self {
        Self { tag, value }
    }

    /// As bytes, which are wiped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // As large as it becomes, so that it is not moved about.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.size()));
        self.write(&mut bytes);
        bytes
    }

    fn size(&self) -> usize {
        8 + match &self.value {
            Value::Structure(items) => items.iter().map(Self::size).sum(),
            Value::Text(text) => text.len().next_multiple_of(8),
            Value::Bytes(bytes) => bytes.len().next_multiple_of(8),
            Value::Other(_) => 0,
            _ => 8,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let [_, tag @ ..] = self.tag.to_be_bytes();
        bytes.extend_from_slice(&tag);
        let mut put = |kind: u8, value: &[u8]| {
            bytes.push(kind);
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        };
        match &self.value {
            Value::Structure(items) => {
                let length: usize = items.iter().map(Self::size).sum();
                bytes.push(STRUCTURE);
                bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
                items.iter().for_each(|item| item.write(bytes));
            }
            Value::Integer(number) => put(2, &number.to_be_bytes()),
            Value::LongInteger(number) => put(3, &number.to_be_bytes()),
            Value::Enumeration(number) => put(5, &number.to_be_bytes()),
            Value::Boolean(is_so) => put(6, &u64::from(*is_so).to_be_bytes()),
            Value::Text(text) => put(7, text.as_bytes()),
            Value::Bytes(value) => put(8, value),
            Value::DateTime(number) => put(9, &number.to_be_bytes()),
            Value::Interval(number) => put(10, &number.to_be_bytes()),
            Value::Other(kind) => put(*kind, &[]),
        }
    }

    /// Reads the one item that bytes are.
    ///
    /// # Errors
    /// [`TtlvError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TtlvError> {
        let (item, rest) = Self::read(bytes, 0)?;
        if rest.is_empty() { Ok(item) } else { Err(TtlvError::Trailing) }
    }

    fn read(bytes: &[u8], depth: usize) -> Result<(Self, &[u8]), TtlvError> {
        if depth > DEPTH_MAX {
            return Err(TtlvError::TooDeep);
        }
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or(TtlvError::Truncated)?;
        let [a, b, c, kind, l1, l2, l3, l4] = *head;
        let length = usize::try_from(u32::from_be_bytes([l1, l2, l3, l4])).map_err(|_| TtlvError::TooLong)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(TtlvError::Truncated)?;
        let filled = length.checked_next_multiple_of(8).ok_or(TtlvError::TooLong)? - length;
        let (padding, rest) = rest.split_at_checked(filled).ok_or(TtlvError::Truncated)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(TtlvError::Padding);
        }
        let value = match kind {
            STRUCTURE => Value::Structure(Self::read_all(value, depth)?),
            2 => Value::Integer(i32::from_be_bytes(exactly(value)?)),
            3 => Value::LongInteger(i64::from_be_bytes(exactly(value)?)),
            5 => Value::Enumeration(u32::from_be_bytes(exactly(value)?)),
            6 => match u64::from_be_bytes(exactly(value)?) {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                _ => return Err(TtlvError::Impossible),
            },
            7 => Value::Text(std::str::from_utf8(value).map_err(|_| TtlvError::Impossible)?.to_owned()),
            8 => Value::Bytes(Wiped::new(value.to_vec())),
            9 => Value::DateTime(i64::from_be_bytes(exactly(value)?)),
            10 => Value::Interval(u32::from_be_bytes(exactly(value)?)),
            other => Value::Other(other),
        };
        Ok((Self { tag: u32::from_be_bytes([0, a, b, c]), value }, rest))
    }

    fn read_all(mut bytes: &[u8], depth: usize) -> Result<Vec<Self>, TtlvError> {
        let mut items = Vec::new();
        while !bytes.is_empty() {
            let (item, rest) = Self::read(bytes, depth + 1)?;
            items.push(item);
            bytes = rest;
        }
        Ok(items)
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], TtlvError> {
    value.try_into().map_err(|_| TtlvError::WrongLength)
}

fn find(items: &[Item], tag: u32) -> Option<&Value> {
    items.iter().find(|item| item.tag == tag).map(|item| &item.value)
}

/// The text among items that is called so.
#[must_use]
pub fn text(items: &[Item], tag: u32) -> Option<&str> {
    match find(items, tag)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The bytes among items that are called so.
#[must_use]
pub fn bytes(items: &[Item], tag: u32) -> Option<&[u8]> {
    match find(items, tag)? {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// The number of a list among items that is called so.
#[must_use]
pub fn enumeration(items: &[Item], tag: u32) -> Option<u32> {
    match find(items, tag)? {
        Value::Enumeration(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::Integer),
            any::<i64>().prop_map(Value::LongInteger),
            any::<u32>().prop_map(Value::Enumeration),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(Wiped::new(bytes))),
            any::<i64>().prop_map(Value::DateTime),
            any::<u32>().prop_map(Value::Interval),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let item = (0_u32..0x100_0000, inner).prop_map(|(tag, value)| Item { tag, value });
            proptest::collection::vec(item, 0..6).prop_map(Value::Structure)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(tag in 0_u32..0x100_0000, value in values()) {
            let item = Item { tag, value };
            let bytes = item.encode();
            prop_assert_eq!(bytes.len(), item.size());
            prop_assert!(Item::decode(&bytes) == Ok(item));
        }

        #[test]
        fn dos_02_whatever_bytes_are_they_are_an_item_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Item::decode(&bytes);
        }

        #[test]
        fn dos_02_an_item_that_was_cut_or_changed_is_read_or_refused(value in values(), at in any::<usize>(), by in any::<u8>()) {
            let mut bytes = Item { tag: 1, value }.encode().to_vec();
            prop_assert!(Item::decode(bytes.get(..at % bytes.len()).unwrap_or_default()).is_err());
            let length = bytes.len();
            if let Some(byte) = bytes.get_mut(at % length) {
                *byte ^= by;
            }
            // What is read is spelled in one way, unless its type is not known.
            if let Ok(item) = Item::decode(&bytes) {
                let again = item.encode();
                prop_assert!(again.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn items_are_spelled_as_the_examples_of_the_specification() {
        for (value, spelled) in [
            (Value::Integer(8), "42002002000000040000000800000000"),
            (Value::LongInteger(123_456_789_000_000_000), "420020030000000801b69b4ba5749200"),
            (Value::Enumeration(255), "4200200500000004000000ff00000000"),
            (Value::Boolean(true), "42002006000000080000000000000001"),
            (Value::Text("Hello World".to_owned()), "420020070000000b48656c6c6f20576f726c640000000000"),
            (Value::Bytes(Wiped::new(vec![1, 2, 3])), "42002008000000030102030000000000"),
            (Value::DateTime(0x47da_67f8), "42002009000000080000000047da67f8"),
            (Value::Interval(864_000), "4200200a00000004000d2f0000000000"),
        ] {
            let item = Item { tag: 0x42_0020, value };
            assert_eq!(hex::encode(&*item.encode()), spelled);
            assert!(Item::decode(&hex::decode(spelled).unwrap()) == Ok(item), "{spelled}");
        }
        let nested = "42002001000000204200040500000004000000fe000000004200050200000004000000ff00000000";
        let parts = vec![
            Item { tag: 0x42_0004, value: Value::Enumeration(254) },
            Item { tag: 0x42_0005, value: Value::Integer(255) },
        ];
        assert_eq!(hex::encode(&*Item { tag: 0x42_0020, value: Value::Structure(parts) }.encode()), nested);
    }

    #[test]
    fn dos_02_what_is_no_item_is_told_why() {
        let deep = (0..20).fold(Item { tag: 1, value: Value::Integer(1) }, |item, tag| Item {
            tag,
            value: Value::Structure(vec![item]),
        });
        assert!(Item::decode(&deep.encode()) == Err(TtlvError::TooDeep));
        for (spelled, error) in [
            ("", TtlvError::Truncated),
            ("420020", TtlvError::Truncated),
            ("42002002000000040000000800000000ff", TtlvError::Trailing),
            ("42002002ffffffff", TtlvError::Truncated),
            ("420020020000000800000008000000 00", TtlvError::WrongLength),
            ("42002002000000040000000800000001", TtlvError::Padding),
            ("42002006000000080000000000000002", TtlvError::Impossible),
            ("4200200700000001ff00000000000000", TtlvError::Impossible),
        ] {
            let bytes = hex::decode(spelled.replace(' ', "")).unwrap();
            assert!(Item::decode(&bytes) == Err(error), "{spelled}");
        }
    }
}
