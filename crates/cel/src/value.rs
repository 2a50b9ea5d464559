//! Values that programs take and make. Texts and bytes are wiped; `Debug` shows kinds.
//!
//! Invariant: what holds others knows how deep it is, and is never deeper than [`DEPTH_MAX`](crate::DEPTH_MAX), so walking and
//! dropping values needs a bounded stack. One value may be held many times by others, so whoever walks takes steps for it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tresor_secret::Wiped;

use crate::DEPTH_MAX;
use crate::budget::Budget;
use crate::error::Problem;

/// A value.
#[derive(Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not below zero.
    Uint(u64),
    /// Another number.
    Double(f64),
    /// Text.
    Text(Arc<Wiped<String>>),
    /// Bytes.
    Bytes(Arc<Wiped<Vec<u8>>>),
    /// A list.
    List(Arc<Nested<Vec<Value>>>),
    /// Values by key.
    Map(Arc<Nested<BTreeMap<Key, Value>>>),
    /// A length of time.
    Duration(SignedDuration),
    /// A moment.
    Timestamp(Timestamp),
    /// A value, or none.
    Optional(Option<Arc<Nested<Value>>>),
    /// The kind of a value.
    Type(&'static str),
}

/// What holds other values.
pub struct Nested<T> {
    depth: u8,
    inner: T,
}

impl<T> Deref for Nested<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Nested<T> {
    /// It, one deeper than the deepest of what it holds.
    fn new(inner: T, depths: impl IntoIterator<Item = u8>) -> Result<Arc<Self>, Problem> {
        let depth = depths.into_iter().max().map_or(1, |depth| depth + 1);
        if depth > DEPTH_MAX { Err(Problem::TooDeep) } else { Ok(Arc::new(Self { depth, inner })) }
    }
}

/// What a map knows its values by. A whole number is one key, whatever kind of number it is.
#[derive(Clone)]
pub enum Key {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// One that is larger than that.
    Uint(u64),
    /// Text.
    Text(Arc<Wiped<String>>),
}

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Arc::new(Wiped::new(text.into())))
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::new(Wiped::new(bytes)))
    }

    /// A list whose room was taken from the budget.
    pub(crate) fn list(items: Vec<Self>) -> Result<Self, Problem> {
        let depths: Vec<u8> = items.iter().map(Self::depth).collect();
        Nested::new(items, depths).map(Self::List)
    }

    /// A map whose room was taken from the budget.
    pub(crate) fn map(entries: BTreeMap<Key, Self>) -> Result<Self, Problem> {
        let depths: Vec<u8> = entries.values().map(Self::depth).collect();
        Nested::new(entries, depths).map(Self::Map)
    }

    /// An optional value that is there.
    pub(crate) fn some(value: Self) -> Result<Self, Problem> {
        let depth = value.depth();
        Nested::new(value, [depth]).map(|value| Self::Optional(Some(value)))
    }

    fn depth(&self) -> u8 {
        match self {
            Self::List(items) => items.depth,
            Self::Map(entries) => entries.depth,
            Self::Optional(Some(value)) => value.depth,
            _ => 0,
        }
    }

    /// The kind, as programs name it; never the value.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
        }
    }

    /// The kinds of several, for an error.
    pub(crate) fn kinds<'v>(values: impl IntoIterator<Item = &'v Self>) -> String {
        values.into_iter().map(Self::kind).collect::<Vec<_>>().join(", ")
    }

    /// It as a key.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(flag) => Key::Bool(*flag),
            Self::Int(number) => Key::Int(*number),
            Self::Uint(number) => i64::try_from(*number).map_or(Key::Uint(*number), Key::Int),
            Self::Double(number) => Key::Int(whole(*number)?),
            Self::Text(text) => Key::Text(Arc::clone(text)),
            _ => return None,
        })
    }

    /// Whether it is empty, zero, false or none.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Optional(None) => true,
            Self::Bool(flag) => !flag,
            Self::Int(number) => *number == 0,
            Self::Uint(number) => *number == 0,
            Self::Double(number) => *number == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::Duration(length) => length.is_zero(),
            Self::Timestamp(moment) => *moment == Timestamp::UNIX_EPOCH,
            Self::Optional(Some(_)) | Self::Type(_) => false,
        }
    }

    /// The order of two values that have one.
    pub(crate) fn order(&self, other: &Self, budget: &mut Budget) -> Result<Option<Ordering>, Problem> {
        budget.look(self.length().min(other.length()))?;
        Ok(match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Text(one), Self::Text(two)) => Some(one.as_str().cmp(two.as_str())),
            (Self::Bytes(one), Self::Bytes(two)) => Some(one.as_slice().cmp(two.as_slice())),
            (Self::Duration(one), Self::Duration(two)) => Some(one.cmp(two)),
            (Self::Timestamp(one), Self::Timestamp(two)) => Some(one.cmp(two)),
            _ => numbers(self, other),
        })
    }

    /// How many bytes of text it is itself.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Whether two values are the same; those of different kinds are not, but for numbers.
    pub(crate) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Problem> {
        budget.look(self.length().min(other.length()))?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) | (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => one.as_str() == two.as_str(),
            (Self::Bytes(one), Self::Bytes(two)) => one.as_slice() == two.as_slice(),
            (Self::Duration(one), Self::Duration(two)) => one == two,
            (Self::Timestamp(one), Self::Timestamp(two)) => one == two,
            (Self::Type(one), Self::Type(two)) => one == two,
            (Self::Optional(Some(one)), Self::Optional(Some(two))) => one.equals(two, budget)?,
            (Self::List(one), Self::List(two)) => {
                let mut is_same = one.len() == two.len();
                for (one, two) in one.iter().zip(two.iter()) {
                    is_same = is_same && one.equals(two, budget)?;
                }
                is_same
            }
            (Self::Map(one), Self::Map(two)) => {
                let mut is_same = one.len() == two.len();
                for ((one_key, one), (two_key, two)) in one.iter().zip(two.iter()) {
                    is_same = is_same && one_key == two_key && one.equals(two, budget)?;
                }
                is_same
            }
            _ => numbers(self, other) == Some(Ordering::Equal),
        })
    }
}

/// The order of two numbers of whatever kinds.
fn numbers(one: &Value, two: &Value) -> Option<Ordering> {
    Some(match (one, two) {
        (Value::Int(one), Value::Int(two)) => one.cmp(two),
        (Value::Uint(one), Value::Uint(two)) => one.cmp(two),
        (Value::Int(one), Value::Uint(two)) => i128::from(*one).cmp(&i128::from(*two)),
        (Value::Uint(one), Value::Int(two)) => i128::from(*one).cmp(&i128::from(*two)),
        (Value::Double(one), Value::Double(two)) => return one.partial_cmp(two),
        (Value::Double(one), Value::Int(two)) => return of_double(*one, i128::from(*two)),
        (Value::Double(one), Value::Uint(two)) => return of_double(*one, i128::from(*two)),
        (Value::Int(one), Value::Double(two)) => return of_double(*two, i128::from(*one)).map(Ordering::reverse),
        (Value::Uint(one), Value::Double(two)) => return of_double(*two, i128::from(*one)).map(Ordering::reverse),
        _ => return None,
    })
}

/// The order of a double and a whole number, without losing digits of the latter.
fn of_double(one: f64, two: i128) -> Option<Ordering> {
    #[expect(clippy::cast_possible_truncation, reason = "what is larger is the largest, and is still larger")]
    let whole = one.trunc() as i128;
    let fraction = one.fract();
    if one.is_nan() {
        return None;
    }
    Some(whole.cmp(&two).then(fraction.partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}

/// A double that is a whole number.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // What is not below it does not fit.
    const END: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "range and fraction are checked")]
    let whole = (number.fract() == 0.0 && (-END..END).contains(&number)).then_some(number as i64);
    whole
}

impl Key {
    /// It as a value.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Text(text) => Value::Text(Arc::clone(text)),
        }
    }

    /// A text as a key.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::new(Wiped::new(text.to_owned())))
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) => 1,
            Self::Uint(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => one.cmp(two),
            (Self::Int(one), Self::Int(two)) => one.cmp(two),
            (Self::Uint(one), Self::Uint(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.as_str().cmp(two.as_str()),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}
