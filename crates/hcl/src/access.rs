//! Reading typed values from the tree, with the leniency of the reference and errors that name a place.

use std::fmt;

use crate::{Item, Object, Position, Value, ValueKind};

/// What a value should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list of texts.
    StringList,
    /// An object.
    Object,
}

/// A value of the wrong kind; never with the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// The key.
    pub key: String,
    /// Where its value is.
    pub position: Position,
    /// What it should have been.
    pub expected: Expected,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.expected {
            Expected::String => "a string",
            Expected::Integer => "a whole number",
            Expected::Boolean => "true or false",
            Expected::StringList => "a list of strings",
            Expected::Object => "a block",
        };
        write!(f, "{}: `{}` must be {expected}", self.position, self.key)
    }
}

impl std::error::Error for AccessError {}

/// A block: its labels, its contents, and where it is.
pub struct Block<'o> {
    /// The labels after the type.
    pub labels: Vec<&'o str>,
    /// The contents.
    pub object: &'o Object,
    /// Where it is.
    pub position: Position,
}

impl Object {
    /// The items under a key, in order.
    pub fn items_named<'o>(&'o self, key: &'o str) -> impl Iterator<Item = &'o Item> {
        self.items.iter().filter(move |item| item.keys.first().is_some_and(|first| first.name == key))
    }

    /// The last value under a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.items
            .iter()
            .rev()
            .find(|item| item.keys.len() == 1 && item.keys.first().is_some_and(|first| first.name == key))
            .map(|item| &item.value)
    }

    /// Blocks of one type with exactly one label, however they are spelled: `type "label" { }`, `type = { label = { } }`,
    /// and in JSON objects of objects, or lists of them.
    ///
    /// # Errors
    /// [`AccessError`] when something else stands there.
    pub fn labelled_blocks<'o>(&'o self, key: &'o str) -> Result<Vec<Block<'o>>, AccessError> {
        let mut blocks = Vec::new();
        for item in self.items_named(key) {
            let labels: Vec<&str> = item.keys.iter().skip(1).map(|label| label.name.as_str()).collect();
            gather(key, labels, &item.value, &mut blocks)?;
        }
        Ok(blocks)
    }
}

fn gather<'o>(
    key: &str,
    labels: Vec<&'o str>,
    value: &'o Value,
    blocks: &mut Vec<Block<'o>>,
) -> Result<(), AccessError> {
    match &value.kind {
        ValueKind::List(items) => items.iter().try_for_each(|item| gather(key, labels.clone(), item, blocks)),
        ValueKind::Object(object) if labels.is_empty() => object.items.iter().try_for_each(|item| {
            let labels = item.keys.iter().map(|label| label.name.as_str()).collect();
            gather(key, labels, &item.value, blocks)
        }),
        ValueKind::Object(object) => {
            blocks.push(Block { labels, object, position: value.position });
            Ok(())
        }
        _ => Err(AccessError { key: key.to_owned(), position: value.position, expected: Expected::Object }),
    }
}

impl Value {
    fn wrong<T>(&self, key: &str, expected: Expected) -> Result<T, AccessError> {
        Err(AccessError { key: key.to_owned(), position: self.position, expected })
    }

    /// Text; numbers and booleans by their spelling.
    ///
    /// # Errors
    /// [`AccessError`] for lists, objects and null.
    pub fn as_string(&self, key: &str) -> Result<String, AccessError> {
        match &self.kind {
            ValueKind::String(text) => Ok(text.clone()),
            ValueKind::Integer(number) => Ok(number.to_string()),
            ValueKind::Float(number) => Ok(number.to_string()),
            ValueKind::Bool(value) => Ok(value.to_string()),
            ValueKind::Null | ValueKind::List(_) | ValueKind::Object(_) => self.wrong(key, Expected::String),
        }
    }

    /// A whole number, also in quotes.
    ///
    /// # Errors
    /// [`AccessError`] for everything else.
    pub fn as_integer(&self, key: &str) -> Result<i64, AccessError> {
        let number = match &self.kind {
            ValueKind::Integer(number) => Some(*number),
            ValueKind::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map_or_else(|| self.wrong(key, Expected::Integer), Ok)
    }

    /// A truth value: `true`, `"true"`, `1`, `"1"` and their opposites.
    ///
    /// # Errors
    /// [`AccessError`] for everything else.
    pub fn as_bool(&self, key: &str) -> Result<bool, AccessError> {
        let value = match &self.kind {
            ValueKind::Bool(value) => Some(*value),
            ValueKind::Integer(0) => Some(false),
            ValueKind::Integer(1) => Some(true),
            ValueKind::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" => Some(true),
                "false" | "0" | "f" | "" => Some(false),
                _ => None,
            },
            _ => None,
        };
        value.map_or_else(|| self.wrong(key, Expected::Boolean), Ok)
    }

    /// A list of texts.
    ///
    /// # Errors
    /// [`AccessError`] for everything else.
    pub fn as_string_list(&self, key: &str) -> Result<Vec<String>, AccessError> {
        match &self.kind {
            ValueKind::List(items) => items
                .iter()
                .map(|item| item.as_string(key).or_else(|_| item.wrong(key, Expected::StringList)))
                .collect(),
            _ => self.wrong(key, Expected::StringList),
        }
    }

    /// An object.
    ///
    /// # Errors
    /// [`AccessError`] for everything else.
    pub fn as_object(&self, key: &str) -> Result<&Object, AccessError> {
        match &self.kind {
            ValueKind::Object(object) => Ok(object),
            _ => self.wrong(key, Expected::Object),
        }
    }
}
