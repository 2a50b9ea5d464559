//! JSON in and out: bounded while it is read, spelled as Go spells it when it is written.
//!
//! Reading goes through `serde_json` into [`Body`], number texts kept digit by digit; limits are checked while
//! parsing, so a hostile body costs no more than its limits allow (FZ-03). Errors name a place, never a value.
//! Writing is our own: key order is part of the contract, and `<`, `>`, `&` are escaped as clients of a Go server
//! are used to. Deliberately absent: `serde` types of answers.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use tresor_model::{Body, Map, Number};

/// Bounds of one JSON document.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// How deep values may nest.
    pub depth_max: u32,
    /// How many values there may be in all.
    pub values_max: u32,
    /// How many entries one object may have.
    pub entries_max: usize,
    /// How many elements one list may have.
    pub elements_max: usize,
    /// How long one string may be, in bytes.
    pub string_bytes_max: usize,
    /// How many strings there may be in all, names of entries among them.
    pub strings_max: u32,
    /// How many bytes all strings may have, names of entries among them.
    pub text_bytes_max: usize,
    /// How long the text of one number may be, in bytes.
    pub number_bytes_max: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self {
            depth_max: 64,
            values_max: 100_000,
            entries_max: 100_000,
            elements_max: 100_000,
            string_bytes_max: 32 * 1024 * 1024,
            strings_max: u32::MAX,
            text_bytes_max: usize::MAX,
            number_bytes_max: 512,
        }
    }
}

/// Why a body is not taken; always the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON.
    #[error("failed to parse JSON input: malformed at line {line}, column {column}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("failed to parse JSON input: the body must be an object")]
    NotAnObject,
    /// Nested too deep.
    #[error("failed to parse JSON input: nested too deep")]
    TooDeep,
    /// Too many values.
    #[error("failed to parse JSON input: too many values")]
    TooManyValues,
    /// One object has too many entries.
    #[error("failed to parse JSON input: an object has too many entries")]
    TooManyEntries,
    /// One list has too many elements.
    #[error("failed to parse JSON input: a list has too many elements")]
    TooManyElements,
    /// One string is too long.
    #[error("failed to parse JSON input: a string is too long")]
    TooLongString,
    /// Too many strings.
    #[error("failed to parse JSON input: too many strings")]
    TooManyStrings,
    /// All strings together are too long.
    #[error("failed to parse JSON input: the strings are too long together")]
    TooMuchText,
    /// One number is too long.
    #[error("failed to parse JSON input: a number is too long")]
    TooLongNumber,
    /// A name stands twice in one object: two readers would pick different values.
    #[error("failed to parse JSON input: a name stands twice in an object")]
    RepeatedName,
}

/// The key under which `serde_json` hands over the text of a number. A client may send an object with the same key,
/// which must stay an object: the library's own key is no part of the document.
const NUMBER_KEY: &str = "$serde_json::private::Number";

struct Budget<'d> {
    document: &'d [u8],
    limits: JsonLimits,
    values: Cell<u32>,
    strings: Cell<u32>,
    text_bytes: Cell<usize>,
    exceeded: Cell<Option<Exceeded>>,
}

#[derive(Clone, Copy)]
enum Exceeded {
    Depth,
    Values,
    Entries,
    Elements,
    String,
    Strings,
    Text,
    Number,
    Name,
}

impl Budget<'_> {
    fn refuse<E: serde::de::Error>(&self, what: Exceeded) -> E {
        self.exceeded.set(Some(what));
        E::custom("limit")
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let values = self.values.get() + 1;
        self.values.set(values);
        if values > self.limits.values_max { Err(self.refuse(Exceeded::Values)) } else { Ok(()) }
    }

    fn check<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        let (strings, bytes) = (self.strings.get().saturating_add(1), self.text_bytes.get().saturating_add(text.len()));
        self.strings.set(strings);
        self.text_bytes.set(bytes);
        if text.len() > self.limits.string_bytes_max {
            Err(self.refuse(Exceeded::String))
        } else if strings > self.limits.strings_max {
            Err(self.refuse(Exceeded::Strings))
        } else if bytes > self.limits.text_bytes_max {
            Err(self.refuse(Exceeded::Text))
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy)]
struct BodySeed<'b> {
    budget: &'b Budget<'b>,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = Body;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body, D::Error> {
        self.budget.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'b> BodySeed<'b> {
    fn deeper<E: serde::de::Error>(self) -> Result<BodySeed<'b>, E> {
        if self.depth >= self.budget.limits.depth_max {
            return Err(self.budget.refuse(Exceeded::Depth));
        }
        Ok(BodySeed { budget: self.budget, depth: self.depth + 1 })
    }
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Body, E> {
        Ok(Body::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Body, E> {
        Ok(Body::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Body, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Body, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Body, E> {
        Number::parse(&value.to_string()).map(Body::Number).ok_or_else(|| E::custom("number"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Body, E> {
        self.budget.check(text)?;
        Ok(text.into())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Body, E> {
        self.budget.check(&text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Body, A::Error> {
        let seed = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            if list.len() >= self.budget.limits.elements_max {
                return Err(self.budget.refuse(Exceeded::Elements));
            }
            list.push(item);
        }
        Ok(Body::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Body, A::Error> {
        let seed = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = entries.next_key_seed(NameSeed(self.budget))? {
            let Name::Sent(name) = name else {
                let text = entries.next_value::<String>()?;
                if text.len() > self.budget.limits.number_bytes_max {
                    return Err(self.budget.refuse(Exceeded::Number));
                }
                return Number::parse(&text).map(Body::Number).ok_or_else(|| A::Error::custom("number"));
            };
            self.budget.check(&name)?;
            if map.contains(&name) {
                return Err(self.budget.refuse(Exceeded::Name));
            }
            if map.len() >= self.budget.limits.entries_max {
                return Err(self.budget.refuse(Exceeded::Entries));
            }
            let value = entries.next_value_seed(seed)?;
            map.insert(name, value);
        }
        Ok(Body::Map(map))
    }
}

/// The key of an entry.
enum Name {
    /// As the client sent it.
    Sent(String),
    /// The library's own: a number follows.
    Number,
}

struct NameSeed<'b>(&'b Budget<'b>);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    /// A name without escapes is borrowed from the document; the library's own from the program.
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name, E> {
        let is_sent = self.0.document.as_ptr_range().contains(&name.as_ptr());
        Ok(if name == NUMBER_KEY && !is_sent { Name::Number } else { Name::Sent(name.to_owned()) })
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name::Sent(name.to_owned()))
    }
}

/// Reads a body: an object, or nothing at all (also `null`), which is an empty object.
///
/// # Errors
/// [`JsonError`], always the caller's fault.
pub fn decode(bytes: &[u8], limits: &JsonLimits) -> Result<Map, JsonError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match decode_value(bytes, limits)? {
        Body::Map(map) => Ok(map),
        Body::Null => Ok(Map::new()),
        _ => Err(JsonError::NotAnObject),
    }
}

/// Reads one value of any kind.
///
/// # Errors
/// As [`decode`].
pub fn decode_value(bytes: &[u8], limits: &JsonLimits) -> Result<Body, JsonError> {
    let budget = Budget {
        document: bytes,
        limits: *limits,
        values: Cell::new(0),
        strings: Cell::new(0),
        text_bytes: Cell::new(0),
        exceeded: Cell::new(None),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = BodySeed { budget: &budget, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|body| deserializer.end().map(|()| body));
    read.map_err(|error| match budget.exceeded.get() {
        Some(Exceeded::Depth) => JsonError::TooDeep,
        Some(Exceeded::Values) => JsonError::TooManyValues,
        Some(Exceeded::Entries) => JsonError::TooManyEntries,
        Some(Exceeded::Elements) => JsonError::TooManyElements,
        Some(Exceeded::String) => JsonError::TooLongString,
        Some(Exceeded::Strings) => JsonError::TooManyStrings,
        Some(Exceeded::Text) => JsonError::TooMuchText,
        Some(Exceeded::Number) => JsonError::TooLongNumber,
        Some(Exceeded::Name) => JsonError::RepeatedName,
        None => JsonError::Malformed { line: error.line(), column: error.column() },
    })
}

/// Appends a value, compact.
pub fn encode(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::Null => out.extend_from_slice(b"null"),
        Body::Bool(true) => out.extend_from_slice(b"true"),
        Body::Bool(false) => out.extend_from_slice(b"false"),
        Body::Number(number) => out.extend_from_slice(number.as_str().as_bytes()),
        Body::String(text) => encode_text(text.as_str(), out),
        Body::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                encode(item, out);
            }
            out.push(b']');
        }
        Body::Map(map) => encode_map(map, out),
    }
}

/// Appends an object, compact, keys in order.
pub fn encode_map(map: &Map, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    for (name, value) in map.iter() {
        object.body(name, value);
    }
    object.end();
}

/// Appends a string with Go's escapes.
pub fn encode_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    // Runs of what needs no escape are copied as they are; nearly every text is one.
    let mut rest = text;
    while let Some(at) = first_letter(rest.as_bytes()) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut letters = tail.chars();
        if let Some(letter) = letters.next() {
            encode_letter(letter, out);
        }
        rest = letters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Where the first letter is that may need an escape. Chunks without any are passed at once, in a few instructions of the
/// processor each.
fn first_letter(text: &[u8]) -> Option<usize> {
    let (chunks, _) = text.as_chunks::<16>();
    let is_plain = |chunk: &&[u8; 16]| !chunk.iter().fold(false, |any, byte| any | may_need_escape(*byte));
    let plain = chunks.iter().take_while(is_plain).count() * 16;
    let rest = text.get(plain..).unwrap_or_default();
    let needs_look = |byte: &u8| NEEDS_LOOK.get(usize::from(*byte)).copied().unwrap_or(true);
    rest.iter().position(needs_look).map(|at| plain + at)
}

/// [`may_need_escape`] of each byte, for the ends of texts, which are most of short ones.
const NEEDS_LOOK: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = may_need_escape(byte);
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Whether a letter that begins with this byte may be one that is escaped: 0xe2 begins the two line separators, and the
/// position of such a byte is always the beginning of a letter.
const fn may_need_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == b'<') | (byte == b'>') | (byte == b'&') | (byte == 0xe2)
}

fn encode_letter(letter: char, out: &mut Vec<u8>) {
    match letter {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes an object key by key, in the order of the calls.
pub struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> ObjectWriter<'o> {
    /// Opens the object.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes a key, and gives the place for its value.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        encode_text(name, self.out);
        self.out.push(b':');
        self.out
    }

    /// Writes a key with a value.
    pub fn body(&mut self, name: &str, value: &Body) {
        encode(value, self.key(name));
    }

    /// Writes a key with a string.
    pub fn text(&mut self, name: &str, value: &str) {
        encode_text(value, self.key(name));
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str) -> String {
        let map = decode(text.as_bytes(), &JsonLimits::default()).unwrap();
        let mut out = Vec::new();
        encode_map(&map, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_keep_every_digit() {
        let text = r#"{"a":123456789012345678901234567890,"b":1.10,"c":-0,"d":1E400}"#;
        assert!(round(text).starts_with(r#"{"a":123456789012345678901234567890,"b":1.10"#));
    }

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        assert_eq!(round(r#"{"a":"<b>&\u2028\u0001\"ü"}"#), r#"{"a":"\u003cb\u003e\u0026\u2028\u0001\"ü"}"#);
    }

    #[test]
    fn nothing_and_null_are_an_empty_object() {
        for text in ["", " \n", "null", "{}"] {
            assert_eq!(round(text), "{}");
        }
        assert_eq!(decode(b"[1]", &JsonLimits::default()), Err(JsonError::NotAnObject));
        assert_eq!(decode(b"{\"a\":}", &JsonLimits::default()), Err(JsonError::Malformed { line: 1, column: 6 }));
        assert!(decode(b"{} x", &JsonLimits::default()).is_err());
        assert!(decode(b"{\"a\":\"\xff\"}", &JsonLimits::default()).is_err());
    }

    #[test]
    fn an_object_that_looks_like_the_library_numbers_stays_an_object() {
        for text in [
            r#"{"a":{"$serde_json::private::Number":"5"}}"#,
            r#"{"$serde_json::private::Number":"5"}"#,
            r#"{"$serde_json::private::Number":5,"b":[6]}"#,
        ] {
            assert_eq!(round(text), text);
        }
        let escaped = r#"{"\u0024serde_json::private::Number":"5"}"#;
        assert_eq!(round(escaped), r#"{"$serde_json::private::Number":"5"}"#);
    }

    #[test]
    fn fz_03_limits_hold_while_parsing() {
        let limits = JsonLimits {
            depth_max: 4,
            values_max: 12,
            entries_max: 4,
            elements_max: 8,
            string_bytes_max: 8,
            strings_max: 7,
            text_bytes_max: 20,
            number_bytes_max: 30,
        };
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(decode(deep.as_bytes(), &limits), Err(JsonError::TooDeep));
        assert_eq!(decode(br#"{"a":[1,2,3,4,5],"b":[1,2,3,4,5]}"#, &limits), Err(JsonError::TooManyValues));
        assert_eq!(decode(br#"{"a":[1,2,3,4,5,6,7,8,9]}"#, &limits), Err(JsonError::TooManyElements));
        assert_eq!(decode(br#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, &limits), Err(JsonError::TooManyEntries));
        assert!(decode(br#"{"a":[1,2,3,4,5,6,7,8]}"#, &limits).is_ok());
        assert_eq!(decode(br#"{"a":"123456789"}"#, &limits), Err(JsonError::TooLongString));
        assert_eq!(decode(br#"{"a":["","","","","","",""]}"#, &limits), Err(JsonError::TooManyStrings));
        assert_eq!(decode(br#"{"a":["12345678","12345678","1234"]}"#, &limits), Err(JsonError::TooMuchText));
        assert_eq!(decode(br#"{"a":1234567890123456789012345678901}"#, &limits), Err(JsonError::TooLongNumber));
        assert_eq!(decode(br#"{"a":{"b":1,"b":1}}"#, &limits), Err(JsonError::RepeatedName));
    }

    proptest! {
        #[test]
        fn fz_03_any_bytes_are_an_object_or_an_error(bytes: Vec<u8>) {
            let _ = decode(&bytes, &JsonLimits::default());
        }

        #[test]
        fn runs_are_escaped_as_letters_are(text in "(\\PC|[\u{0}-\u{20}\"<>&\\\\/\u{2020}-\u{2030}âä]){0,40}") {
            let (mut runs, mut letters) = (Vec::new(), b"\"".to_vec());
            encode_text(&text, &mut runs);
            text.chars().for_each(|letter| encode_letter(letter, &mut letters));
            letters.push(b'"');
            prop_assert_eq!(String::from_utf8(runs).unwrap(), String::from_utf8(letters).unwrap());
        }

        #[test]
        fn what_is_written_is_read_back(text in "\\PC{0,40}") {
            let map = Map::new().with("t", text.as_str());
            let mut out = Vec::new();
            encode_map(&map, &mut out);
            let read = decode(&out, &JsonLimits::default()).unwrap();
            prop_assert_eq!(read.text("t"), Some(text.as_str()));
        }
    }
}
