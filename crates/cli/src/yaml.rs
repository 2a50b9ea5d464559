//! A YAML writer for JSON values: block style, sorted keys, text quoted whenever another type could be read from it.

use serde_json::Value;

/// A value as a YAML document that ends with a newline.
pub(crate) fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write_block(&mut out, value, 0),
        Value::Array(entries) if !entries.is_empty() => write_block(&mut out, value, 0),
        _ => {
            write_scalar(&mut out, value, 0);
            out.push('\n');
        }
    }
    out
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        _ => false,
    }
}

fn write_block(out: &mut String, value: &Value, level: usize) {
    let indent = "  ".repeat(level);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                out.push_str(&indent);
                out.push_str(&scalar_text(name));
                out.push(':');
                write_entry(out, field, level);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                out.push_str(&indent);
                out.push('-');
                if is_block(entry) {
                    let mut inner = String::new();
                    write_block(&mut inner, entry, level + 1);
                    out.push(' ');
                    out.push_str(inner.trim_start());
                } else {
                    out.push(' ');
                    write_scalar(out, entry, level + 1);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn write_entry(out: &mut String, value: &Value, level: usize) {
    if is_block(value) {
        out.push('\n');
        // Lists stand at the level of their key.
        write_block(out, value, if value.is_array() { level } else { level + 1 });
    } else {
        out.push(' ');
        write_scalar(out, value, level + 1);
        out.push('\n');
    }
}

fn write_scalar(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::String(text) if is_literal_block(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    out.push_str(&"  ".repeat(level.max(1)));
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => out.push_str(&scalar_text(text)),
        other => out.push_str(&other.to_string()),
    }
}

/// Text with several plain lines, which the literal style repeats exactly.
fn is_literal_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && text.chars().all(|character| character == '\n' || character == '\t' || !character.is_control())
}

fn scalar_text(text: &str) -> String {
    if text.chars().any(|character| character.is_control() || matches!(character, '\u{feff}' | '\u{2028}' | '\u{2029}'))
    {
        return Value::String(text.to_owned()).to_string();
    }
    if needs_quotes(text) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

fn needs_quotes(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    if text.trim() != text || text.ends_with(':') || text.contains(": ") || text.contains(" #") {
        return true;
    }
    if "!&*{}[]|>@`\"'%#,?:-=~<".contains(first) {
        return true;
    }
    if matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "---" | "..."
    ) {
        return true;
    }
    // Everything that starts like a number may be one, a date or a time in some reader.
    first.is_ascii_digit() || first == '+' || first == '.'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn layout_is_block_style_with_sorted_keys() {
        let value =
            json!({"b": {"list": ["x", {"k": 1, "l": [true]}], "empty": [], "none": null}, "a": "text", "m": {}});
        let expected = "a: text\nb:\n  empty: []\n  list:\n  - x\n  - k: 1\n    l:\n    - true\n  none: null\nm: {}\n";
        assert_eq!(render(&value), expected);
        assert_eq!(render(&json!(["a", "b/"])), "- a\n- b/\n");
        assert_eq!(render(&json!({})), "{}\n");
    }

    #[test]
    fn text_that_looks_like_another_type_is_quoted() {
        for text in
            ["", "true", "null", "12", "1.5", "2024-01-01T00:00:00Z", "a: b", "a #b", "- x", " x", "x:", "@x", "no"]
        {
            let line = render(&json!({ "k": text }));
            assert_eq!(line, format!("k: \"{text}\"\n"), "{text}");
        }
        assert_eq!(render(&json!({"k": "s.abc/d-e f"})), "k: s.abc/d-e f\n");
        assert_eq!(render(&json!({"k": "a\u{1}"})), "k: \"a\\u0001\"\n");
    }

    #[test]
    fn several_lines_use_the_literal_style() {
        assert_eq!(render(&json!({"k": {"pem": "one\n two\n"}})), "k:\n  pem: |\n    one\n     two\n");
        assert_eq!(render(&json!({"pem": "one\n\ntwo"})), "pem: |-\n  one\n\n  two\n");
    }
}
