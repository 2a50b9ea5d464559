//! A reader of HCL 1 and of its JSON form: what the reference's configuration and policies are written in.
//!
//! The crates that exist read HCL 2, which misreads real files (quoted keys, one-line blocks, octal numbers, `${}`).
//! Both forms become one tree in which an object is a list of items, so repeated blocks and duplicate keys survive
//! and whoever decodes decides about them. Invariants: total (any text is a document or an error with a position);
//! depth and size are bounded; errors never carry the text of a value, which may be a secret. Deliberately absent:
//! interpolation, functions, writing.

mod access;
mod error;
mod json;
mod lexer;
mod parser;

pub use access::{AccessError, Block, Expected};
pub use error::{ParseError, Problem};

/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// How deep objects and lists may nest.
pub const DEPTH_MAX: usize = 64;

/// A place in a document, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// An object: items in the order of the document.
#[derive(Clone, PartialEq, Default)]
pub struct Object {
    /// The items.
    pub items: Vec<Item>,
}

/// One item: `key = value`, or `key "label" { .. }`.
#[derive(Clone, PartialEq)]
pub struct Item {
    /// The key and its labels.
    pub keys: Vec<Key>,
    /// The value.
    pub value: Value,
}

/// A key or label.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Where it is.
    pub position: Position,
}

/// A value.
#[derive(Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it starts.
    pub position: Position,
}

/// What a value is.
#[derive(Clone, PartialEq)]
pub enum ValueKind {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Nothing (JSON only).
    Null,
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(Object),
}

/// Reads a document in either form: JSON when its first character is `{`.
///
/// # Errors
/// [`ParseError`] with the position.
pub fn parse(text: &str) -> Result<Object, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(ParseError { position: Position { line: 1, column: 1 }, problem: Problem::TooLarge });
    }
    if text.trim_start().starts_with('{') { json::parse(text) } else { parser::parse(text) }
}
