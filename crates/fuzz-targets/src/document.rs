//! FZ-05 below policies and configuration: HCL and its JSON form. Total, bounded, and the same tree when it is printed
//! and read again.

use std::fmt::Write as _;

use tresor_hcl::{DEPTH_MAX, DOCUMENT_BYTES_MAX, Object, Position, Value, ValueKind, parse};

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "=",
    ":",
    ",",
    "a",
    "\"b\"",
    "\"${",
    "}\"",
    "<<EOT\n",
    "<<-E\n",
    "EOT\n",
    "\n",
    "0x10",
    "0x-8000000000000000",
    "-",
    "0640",
    "1.5e3",
    "-9223372036854775808",
    "true",
    "null",
    "#",
    "//",
    "/*",
    "*/",
    "\\u00e9",
    "\"\\U0010ffff\"",
    "\u{feff}",
    "é",
];

/// A document.
pub fn hcl(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(text) {
        Ok(object) => {
            let printed = print(&object);
            if printed.len() <= DOCUMENT_BYTES_MAX {
                let again = parse(&printed).unwrap_or_else(|error| panic!("{error} in what was printed: {printed}"));
                assert!(is_same(&object, &again), "printed and read, it is another one: {printed}");
            }
            positions(&object, text, 0);
            drop(["listener", "path", "a"].map(|key| object.labelled_blocks(key).map(drop)));
        }
        Err(error) => within(error.position, text),
    }
}

/// A place within the text; the line after the last one is where a document ends too early.
pub(crate) fn within(position: Position, text: &str) {
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(&position.line) && position.column >= 1, "{position} is no place");
}

fn positions(object: &Object, text: &str, depth: usize) {
    assert!(depth <= DEPTH_MAX);
    for item in &object.items {
        item.keys.iter().for_each(|key| within(key.position, text));
        value_positions(&item.value, text, depth);
    }
}

fn value_positions(value: &Value, text: &str, depth: usize) {
    within(value.position, text);
    match &value.kind {
        ValueKind::Object(object) => positions(object, text, depth + 1),
        ValueKind::List(items) => items.iter().for_each(|item| value_positions(item, text, depth + 1)),
        _ => {}
    }
}

/// The document in one spelling: JSON when it holds a null, which only that form can, else HCL.
pub(crate) fn print(object: &Object) -> String {
    let mut out = String::new();
    if has_null(object) {
        print_value(&ValueKind::Object(object.clone()), true, &mut out);
    } else {
        print_items(object, &mut out);
    }
    out
}

fn has_null(object: &Object) -> bool {
    fn inside(value: &Value) -> bool {
        match &value.kind {
            ValueKind::Null => true,
            ValueKind::List(items) => items.iter().any(inside),
            ValueKind::Object(object) => has_null(object),
            _ => false,
        }
    }
    object.items.iter().any(|item| inside(&item.value))
}

fn print_items(object: &Object, out: &mut String) {
    for item in &object.items {
        for key in &item.keys {
            print_text(&key.name, out);
            out.push(' ');
        }
        if item.keys.len() == 1 {
            out.push_str("= ");
        }
        print_value(&item.value.kind, false, out);
        out.push('\n');
    }
}

fn print_value(kind: &ValueKind, is_json: bool, out: &mut String) {
    match kind {
        ValueKind::String(text) => print_text(text, out),
        ValueKind::Integer(number) => write!(out, "{number}").expect("a string takes everything"),
        ValueKind::Float(number) => write!(out, "{number:?}").expect("a string takes everything"),
        ValueKind::Bool(value) => write!(out, "{value}").expect("a string takes everything"),
        ValueKind::Null => out.push_str("null"),
        ValueKind::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                print_value(&item.kind, is_json, out);
            }
            out.push(']');
        }
        ValueKind::Object(object) if is_json => {
            out.push('{');
            for (at, item) in object.items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                item.keys.iter().for_each(|key| print_text(&key.name, out));
                out.push(':');
                print_value(&item.value.kind, true, out);
            }
            out.push('}');
        }
        ValueKind::Object(object) => {
            out.push_str("{\n");
            print_items(object, out);
            out.push('}');
        }
    }
}

fn print_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // A dollar before a brace would begin an interpolation.
            '$' | '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(letter)).expect("a string takes everything"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The same tree, wherever its parts stand.
fn is_same(a: &Object, b: &Object) -> bool {
    a.items.len() == b.items.len()
        && a.items.iter().zip(&b.items).all(|(a, b)| {
            a.keys.len() == b.keys.len()
                && a.keys.iter().zip(&b.keys).all(|(a, b)| a.name == b.name)
                && is_same_value(&a.value.kind, &b.value.kind)
        })
}

fn is_same_value(a: &ValueKind, b: &ValueKind) -> bool {
    match (a, b) {
        (ValueKind::Object(a), ValueKind::Object(b)) => is_same(a, b),
        (ValueKind::List(a), ValueKind::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(&a.kind, &b.kind))
        }
        (a, b) => a == b,
    }
}
