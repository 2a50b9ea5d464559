//! What came of an exchange, in one line: status, headers that are not the usual ones, errors or the shape of the body.
//!
//! A shape is names and kinds: `s` a string, `""` an empty one, `n` a number, `0`, `true`, `false`, `null`, `[..]` the kinds
//! of its values, `{name:..}`. `envelope{..}` is the usual eight fields, of which only those are shown that are not empty.
//! Names that differ with each run (ids, versions) are `*`.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

const ENVELOPE: &[(&str, &str)] = &[
    ("auth", "null"),
    ("data", "null"),
    ("lease_duration", "0"),
    ("lease_id", "\"\""),
    ("renewable", "false"),
    ("request_id", "s"),
    ("warnings", "null"),
    ("wrap_info", "null"),
];

/// An answer, in one line; `named` puts names in the place of what was kept.
pub(super) fn of(head: &str, body: &str, named: &dyn Fn(&str) -> String) -> String {
    let headers: BTreeMap<String, &str> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim())))
        .collect();
    let mut line = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let kind = headers.get("content-type").copied().unwrap_or_default();
    if !body.is_empty() && kind != "application/json" {
        line.push_str(&format!(" type:{}", kind.replace(' ', "")));
    }
    let cache = headers.get("cache-control").copied().unwrap_or("none");
    if cache != "no-store" {
        line.push_str(&format!(" cache:{cache}"));
    }
    for name in ["location", "retry-after", "allow"] {
        if let Some(value) = headers.get(name) {
            line.push_str(&format!(" {name}:{}", named(value)));
        }
    }
    if body.is_empty() {
        return line;
    }
    let Ok(value) = serde_json::from_str::<Value>(body) else { return format!("{line} text") };
    let texts = |list: &[Value]| {
        let spelled = list.iter().map(|text| {
            let text = text.as_str().unwrap_or_default();
            serde_json::to_string(&alone(&named(text))).unwrap()
        });
        format!("[{}]", spelled.collect::<Vec<_>>().join(", "))
    };
    let fields = value.as_object();
    if let Some(errors) = fields.filter(|fields| fields.len() == 1).and_then(|fields| fields.get("errors")?.as_array())
    {
        return format!("{line} errors {}", texts(errors));
    }
    line.push_str(&format!(" {}", whole(&value)));
    if let Some(warnings) = value["warnings"].as_array().filter(|warnings| !warnings.is_empty()) {
        line.push_str(&format!(" warnings {}", texts(warnings)));
    }
    line
}

/// Whether an answer is the recorded one; a star at its end stands for any errors, warnings or body.
pub(super) fn fits(recorded: &str, got: &str) -> bool {
    match recorded.strip_suffix('*') {
        Some(beginning) => got.strip_prefix(beginning).is_some_and(|rest| !rest.is_empty() && rest != "[]"),
        None => got == recorded,
    }
}

/// The text of a list of one, which some servers put into a frame.
fn alone(text: &str) -> String {
    let inner = text.strip_prefix("1 error occurred:\n\t* ").and_then(|text| text.strip_suffix("\n\n"));
    inner.unwrap_or(text).to_owned()
}

fn whole(value: &Value) -> String {
    let Some(fields) = value.as_object().filter(|fields| ENVELOPE.iter().all(|(name, _)| fields.contains_key(*name)))
    else {
        return shape(value);
    };
    let shown: BTreeMap<&str, String> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), shape(value)))
        .filter(|(name, shape)| !ENVELOPE.contains(&(name, shape)))
        .collect();
    format!("envelope{}", joined(shown))
}

fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => {
            if number.as_f64().is_some_and(|number| number.abs() > 0.0) { "n" } else { "0" }.to_owned()
        }
        Value::String(text) => if text.is_empty() { "\"\"" } else { "s" }.to_owned(),
        Value::Array(values) => {
            let kinds: BTreeSet<String> = values.iter().map(shape).collect();
            format!("[{}]", kinds.into_iter().collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => {
            let changing = Regex::new(r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+\.[0-9]+\.[0-9]+)$").unwrap();
            let mut shown = BTreeMap::new();
            for (name, value) in fields {
                let name = if changing.is_match(name) { "*" } else { name };
                shown.entry(name).or_insert_with(|| shape(value));
            }
            joined(shown)
        }
    }
}

fn joined(fields: BTreeMap<&str, String>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(name, shape)| format!("{name}:{shape}")).collect();
    format!("{{{}}}", fields.join(","))
}
