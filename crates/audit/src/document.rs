//! A line's JSON, looked into and copied in part without building a tree of it.
//!
//! It reads what `record.rs` wrote: valid JSON without blanks. So it is short, and total all the same: whatever the bytes,
//! it ends and never panics. Deliberately absent: reading what others wrote.

use std::borrow::Cow;
use std::fmt;

/// How many steps a pointer may have.
const STEPS_MAX: usize = 32;

/// Where something stands in a line, as RFC 6901 writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer to something in a line; the whole line is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let steps = text.strip_prefix('/')?.split('/').map(step).collect::<Option<Vec<_>>>()?;
        (steps.len() <= STEPS_MAX).then_some(Self(steps))
    }
}

/// A step without its escapes.
fn step(text: &str) -> Option<String> {
    let escapes_are_known = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    escapes_are_known.then(|| text.replace("~1", "/").replace("~0", "~"))
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

/// A value.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a>(&'a [u8]);

/// What a value is.
pub(crate) enum Kind<'a> {
    Object(Fields<'a>),
    List(Items<'a>),
    /// A text as it is written, without its quotes.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Word(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn kind(self) -> Kind<'a> {
        let inner = self.0.get(1..self.0.len().saturating_sub(1)).unwrap_or_default();
        match self.0.first() {
            Some(b'{') => Kind::Object(Fields(Items(inner))),
            Some(b'[') => Kind::List(Items(inner)),
            Some(b'"') => Kind::Text(inner),
            _ => Kind::Word(self.0),
        }
    }

    /// What a pointer leads to.
    pub(crate) fn at(self, pointer: &Pointer) -> Option<Self> {
        pointer.0.iter().try_fold(self, |value, step| match value.kind() {
            Kind::Object(mut fields) => fields.find(|(name, _)| unescaped(name) == *step).map(|(_, value)| value),
            Kind::List(mut items) => items.nth(step.parse().ok()?),
            Kind::Text(_) | Kind::Word(_) => None,
        })
    }

    /// Copies it without what these lead to.
    pub(crate) fn copy_without(self, pointers: &[&Pointer], out: &mut Vec<u8>) {
        let steps: Vec<&[String]> = pointers.iter().map(|pointer| pointer.0.as_slice()).collect();
        self.copy(&steps, out);
    }

    fn copy(self, steps: &[&[String]], out: &mut Vec<u8>) {
        let mut is_first = true;
        let mut part = |name: &[u8], step: &str, value: Self, out: &mut Vec<u8>| {
            let deeper: Vec<&[String]> = steps
                .iter()
                .filter_map(|steps| steps.split_first().filter(|(first, _)| *first == step).map(|(_, rest)| rest))
                .collect();
            if deeper.iter().any(|steps| steps.is_empty()) {
                return;
            }
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            out.extend_from_slice(name);
            if deeper.is_empty() { out.extend_from_slice(value.0) } else { value.copy(&deeper, out) }
        };
        match self.kind() {
            Kind::Object(fields) => {
                out.push(b'{');
                for (name, value) in fields {
                    let mut written = Vec::with_capacity(name.len() + 3);
                    written.push(b'"');
                    written.extend_from_slice(name);
                    written.extend_from_slice(b"\":");
                    part(&written, &unescaped(name), value, out);
                }
                out.push(b'}');
            }
            Kind::List(items) => {
                out.push(b'[');
                items.enumerate().for_each(|(number, value)| part(b"", &number.to_string(), value, out));
                out.push(b']');
            }
            Kind::Text(_) | Kind::Word(_) => out.extend_from_slice(self.0),
        }
    }

    /// As a text of its own: a string without quotes and escapes, everything else as it is written.
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self.kind() {
            Kind::Text(inner) => unescaped(inner),
            _ => String::from_utf8_lossy(self.0),
        }
    }
}

/// The values of a list, one behind the other with commas between them.
pub(crate) struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    fn take_value(&mut self) -> Option<Value<'a>> {
        let rest = self.0.strip_prefix(b",").unwrap_or(self.0);
        let length = length_of_value(rest);
        let (value, rest) = rest.split_at_checked(length).filter(|(value, _)| !value.is_empty())?;
        self.0 = rest;
        Some(Value(value))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.take_value()
    }
}

/// Names, as they are written, and values of an object.
pub(crate) struct Fields<'a>(Items<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let Kind::Text(name) = self.0.take_value()?.kind() else { return None };
        self.0.0 = self.0.0.strip_prefix(b":")?;
        Some((name, self.0.take_value()?))
    }
}

/// How many bytes the first value has.
fn length_of_value(bytes: &[u8]) -> usize {
    let (mut depth, mut is_in_text, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        if is_in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    is_in_text = false;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => is_in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' if depth == 0 => return at,
            _ => {}
        }
    }
    bytes.len()
}

/// A text without its escapes.
pub(crate) fn unescaped(written: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(written);
    if !text.contains('\\') {
        return text;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.extend(character.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        plain.push(match rest.next() {
            Some('n') => u16::from(b'\n'),
            Some('t') => u16::from(b'\t'),
            Some('r') => u16::from(b'\r'),
            Some('b') => 8,
            Some('f') => 12,
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
            }
            Some(other) => u16::try_from(u32::from(other)).unwrap_or(0xfffd),
            None => 0xfffd,
        });
    }
    Cow::Owned(String::from_utf16_lossy(&plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"a":{"b":"x\"}]","c":[1,{"d":null},"e\u003c\n"],"f/g":-1.5e3},"h":"","i":[],"j":{}}"#;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    fn at(text: &str) -> Option<String> {
        Value::new(LINE.as_bytes()).at(&pointer(text)).map(|value| value.text().into_owned())
    }

    fn without(pointers: &[&str]) -> String {
        let pointers: Vec<Pointer> = pointers.iter().map(|text| pointer(text)).collect();
        let mut out = Vec::new();
        Value::new(LINE.as_bytes()).copy_without(&pointers.iter().collect::<Vec<_>>(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_pointer_leads_to_what_stands_there_or_to_nothing() {
        for (to, text) in [
            ("/a/b", "x\"}]"),
            ("/a/c/0", "1"),
            ("/a/c/1/d", "null"),
            ("/a/c/2", "e<\n"),
            ("/a/f~1g", "-1.5e3"),
            ("/h", ""),
            ("/i", "[]"),
            ("/j", "{}"),
        ] {
            assert_eq!(at(to).as_deref(), Some(text), "{to}");
        }
        for nowhere in ["/a/x", "/a/c/3", "/a/c/-", "/h/0", "/i/0", "/j/a", "/"] {
            assert_eq!(at(nowhere), None, "{nowhere}");
        }
        for none in ["", "a", "a/b", "/~2", "/a~", &"/a".repeat(33)] {
            assert_eq!(Pointer::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_copy_lacks_what_was_pointed_at_and_nothing_else() {
        assert_eq!(without(&[]), LINE);
        assert_eq!(without(&["/x", "/a/x/y", "/h/z"]), LINE);
        assert_eq!(without(&["/a"]), r#"{"h":"","i":[],"j":{}}"#);
        assert_eq!(without(&["/a/c", "/a/f~1g", "/h", "/j", "/a/c/0"]), r#"{"a":{"b":"x\"}]"},"i":[]}"#);
        assert_eq!(
            without(&["/a/c/0", "/a/c/2", "/a/b"]),
            r#"{"a":{"c":[{"d":null}],"f/g":-1.5e3},"h":"","i":[],"j":{}}"#
        );
        assert_eq!(without(&["/a", "/h", "/i", "/j"]), "{}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much_for_it(bytes: Vec<u8>, at in 0_usize..90, byte: u8) {
            let mut changed = LINE.as_bytes().to_vec();
            if let Some(place) = changed.get_mut(at) { *place = byte; }
            for bytes in [&bytes, &changed] {
                for to in ["/a/c/1/d", "/0/0", "/h"] {
                    drop(Value::new(bytes).at(&pointer(to)).map(|value| value.text().into_owned()));
                    Value::new(bytes).copy_without(&[&pointer(to)], &mut Vec::new());
                }
            }
        }
    }
}
