//! Results for programs: JSON with the reference's key order, YAML with sorted keys; and single values for people.
//!
//! Numbers are printed as the server sent them. Deliberately absent: tables (`table.rs`).

use serde_json::Value;

use crate::yaml;

/// The output format of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// JSON, two spaces per level.
    Json,
    /// YAML with sorted keys.
    Yaml,
    /// The body of the answer as it came.
    Raw,
}

impl Format {
    /// Reads a format's name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "" | "table" | "pretty" => Some(Self::Table),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }
}

/// JSON whose objects keep the order in which they were put together.
pub(crate) enum Document {
    Object(Vec<(String, Document)>),
    List(Vec<Document>),
    Value(Value),
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl Document {
    /// An object with the named keys first, in this order, then the rest sorted. Absent keys are left out.
    pub(crate) fn ordered(value: &Value, first: &[&str]) -> Self {
        let Value::Object(fields) = value else { return Self::Value(value.clone()) };
        let mut entries: Vec<(String, Self)> = Vec::new();
        for &name in first {
            if let Some(field) = fields.get(name) {
                entries.push((name.to_owned(), Self::Value(field.clone())));
            }
        }
        for (name, field) in fields {
            if !first.contains(&name.as_str()) {
                entries.push((name.clone(), Self::Value(field.clone())));
            }
        }
        Self::Object(entries)
    }

    /// The same without the order.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Object(entries) => {
                Value::Object(entries.into_iter().map(|(name, entry)| (name, entry.into_value())).collect())
            }
            Self::List(entries) => Value::Array(entries.into_iter().map(Self::into_value).collect()),
            Self::Value(value) => value,
        }
    }

    /// JSON with two spaces per level.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, 0);
        out
    }

    fn write_json(&self, out: &mut String, level: usize) {
        let line = |out: &mut String, level: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(level));
        };
        match self {
            Self::Object(entries) if entries.is_empty() => out.push_str("{}"),
            Self::List(entries) if entries.is_empty() => out.push_str("[]"),
            Self::Object(entries) => {
                for (index, (name, entry)) in entries.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    line(out, level + 1);
                    out.push_str(&Value::String(name.clone()).to_string());
                    out.push_str(": ");
                    entry.write_json(out, level + 1);
                }
                line(out, level);
                out.push('}');
            }
            Self::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    line(out, level + 1);
                    entry.write_json(out, level + 1);
                }
                line(out, level);
                out.push(']');
            }
            Self::Value(value) => {
                let pretty = format!("{value:#}");
                out.push_str(&pretty.replace('\n', &format!("\n{}", "  ".repeat(level))));
            }
        }
    }
}

/// A document in a machine format, without the final newline; `None` for the formats of people.
pub(crate) fn render(document: Document, format: Format) -> Option<String> {
    match format {
        Format::Json => Some(document.to_json()),
        Format::Yaml => Some(yaml::render(&document.into_value()).trim_end_matches('\n').to_owned()),
        Format::Table | Format::Raw => None,
    }
}

/// A value as a table cell shows it: maps as `map[a:1 b:2]`, lists as `[a b]`, null as `<nil>`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(entries) => format!("[{}]", entries.iter().map(cell).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs: Vec<String> = fields.iter().map(|(name, field)| format!("{name}:{}", cell(field))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A list of texts as `["a" "b"]`.
pub(crate) fn quoted_list(value: Option<&Value>) -> String {
    let entries = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    format!("[{}]", entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

/// Seconds as `1h30m`, without the zero parts at the end.
pub(crate) fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, 0, 0) => format!("{hours}h"),
        (hours, minutes, 0) => format!("{hours}h{minutes}m"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A heading between equal signs, at least as wide as what stands below it.
pub(crate) fn banner(title: &str, width: usize) -> String {
    let mut signs = width.saturating_sub(title.chars().count() + 2);
    if signs == 0 {
        signs = 4;
    }
    let side = "=".repeat(signs.div_ceil(2));
    format!("{side} {title} {side}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn json_keeps_the_chosen_order_and_the_numbers_as_sent() {
        let value: Value = serde_json::from_str(r#"{"b":1.50,"a":{"y":[1,2],"x":{}},"c":[]}"#).unwrap();
        let document = Document::ordered(&value, &["c", "b", "absent"]);
        let expected = "{\n  \"c\": [],\n  \"b\": 1.50,\n  \"a\": {\n    \"x\": {},\n    \"y\": [\n      1,\n      2\n    ]\n  }\n}";
        assert_eq!(document.to_json(), expected);
    }

    #[test]
    fn durations_lose_zero_parts() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (90, "1m30s"),
            (3600, "1h"),
            (3660, "1h1m"),
            (2_764_800, "768h"),
            (3601, "1h0m1s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn cells_show_structures_on_one_line() {
        assert_eq!(cell(&json!({"b": [1, "x"], "a": null})), "map[a:<nil> b:[1 x]]");
        assert_eq!(quoted_list(Some(&json!(["default", "p"]))), r#"["default" "p"]"#);
    }

    #[test]
    fn banners_are_as_wide_as_what_they_head() {
        assert_eq!(banner("Secret Path", 17), "== Secret Path ==");
        assert_eq!(banner("Metadata", 24), "======= Metadata =======");
        assert_eq!(banner("Data", 3), "== Data ==");
        assert_eq!(banner("Data", 12), "=== Data ===");
    }
}
