//! The usual answer of the API as people and programs want to see it: a table of its parts, the envelope in the
//! reference's key order, or one field.

use serde_json::{Map, Value};

use crate::output::{Document, cell, duration, quoted_list};

const ENVELOPE: &[&str] =
    &["request_id", "lease_id", "lease_duration", "renewable", "data", "warnings", "auth", "wrap_info"];
const AUTH: &[&str] = &[
    "client_token",
    "accessor",
    "policies",
    "token_policies",
    "identity_policies",
    "metadata",
    "orphan",
    "entity_id",
    "lease_duration",
    "renewable",
    "mfa_requirement",
];
const WRAP: &[&str] = &["token", "accessor", "ttl", "creation_time", "creation_path", "wrapped_accessor"];

/// An answer of the API.
pub(crate) struct Envelope {
    fields: Map<String, Value>,
}

impl Envelope {
    /// Takes an answer. One without an envelope, as a few system endpoints send it, counts as data.
    pub(crate) fn new(answer: Value) -> Self {
        match answer {
            Value::Object(fields) if fields.contains_key("request_id") || fields.contains_key("data") => {
                Self { fields }
            }
            Value::Object(fields) if ENVELOPE.iter().any(|&part| part != "renewable" && fields.contains_key(part)) => {
                Self { fields }
            }
            other => Self { fields: Map::from_iter([("data".to_owned(), other)]) },
        }
    }

    fn part(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|part| !part.is_null())
    }

    /// The `data` part, if there is one.
    pub(crate) fn data(&self) -> Option<&Value> {
        self.part("data")
    }

    /// A field of `data`.
    pub(crate) fn data_field(&self, name: &str) -> Option<&Value> {
        self.data()?.get(name)
    }

    /// A field of `auth`.
    pub(crate) fn auth_field(&self, name: &str) -> Option<&Value> {
        self.part("auth")?.get(name)
    }

    /// Whether the answer is a wrapping token for the real one.
    pub(crate) fn is_wrapped(&self) -> bool {
        self.part("wrap_info").is_some_and(|wrap| wrap.get("token").is_some_and(|token| token.as_str() != Some("")))
    }

    /// The names that a list answer holds.
    pub(crate) fn keys(&self) -> Option<Vec<String>> {
        let keys = self.data_field("keys")?.as_array()?;
        Some(keys.iter().map(cell).collect())
    }

    /// The warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let entries = self.part("warnings").and_then(Value::as_array);
        entries.into_iter().flatten().map(cell).collect()
    }

    /// The envelope with its keys in order, absent parts `auth` and `wrap_info` left out.
    pub(crate) fn document(&self) -> Document {
        let mut entries = Vec::new();
        for &name in ENVELOPE {
            let part = self.fields.get(name).cloned();
            let entry = match (name, part) {
                ("auth" | "wrap_info", None | Some(Value::Null)) => continue,
                ("auth", Some(auth)) => Document::ordered(&auth, AUTH),
                ("wrap_info", Some(wrap)) => Document::ordered(&wrap, WRAP),
                (_, Some(part)) => part.into(),
                ("request_id" | "lease_id", None) => Value::String(String::new()).into(),
                ("lease_duration", None) => Value::from(0).into(),
                ("renewable", None) => Value::Bool(false).into(),
                (_, None) => Value::Null.into(),
            };
            entries.push((name.to_owned(), entry));
        }
        for (name, part) in &self.fields {
            if !ENVELOPE.contains(&name.as_str()) {
                entries.push((name.clone(), part.clone().into()));
            }
        }
        Document::Object(entries)
    }

    /// Rows of key and value for people.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut row = |key: &str, value: String| rows.push(vec![key.to_owned(), value]);
        let lease = self.part("lease_duration").and_then(Value::as_u64).unwrap_or(0);
        if lease > 0 {
            match self.part("lease_id").and_then(Value::as_str) {
                Some(id) if !id.is_empty() => {
                    row("lease_id", id.to_owned());
                    row("lease_duration", duration(lease));
                    row("lease_renewable", cell(self.part("renewable").unwrap_or(&Value::Bool(false))));
                }
                _ => row("refresh_interval", duration(lease)),
            }
        }
        if self.part("auth").is_some() {
            for field in ["token", "token_accessor", "token_duration", "token_renewable"] {
                row(
                    field,
                    match (field, self.auth_field("lease_duration").and_then(Value::as_u64)) {
                        ("token_duration", Some(seconds)) if seconds > 0 => duration(seconds),
                        ("token_duration", _) => "∞".to_owned(),
                        _ => cell(&self.field(field).unwrap_or(Value::Null)),
                    },
                );
            }
            for (field, part) in [
                ("token_policies", "token_policies"),
                ("identity_policies", "identity_policies"),
                ("policies", "policies"),
            ] {
                row(field, quoted_list(self.auth_field(part)));
            }
            if let Some(metadata) = self.auth_field("metadata").and_then(Value::as_object) {
                for (name, value) in metadata {
                    row(&format!("token_meta_{name}"), cell(value));
                }
            }
        }
        if let Some(wrap) = self.part("wrap_info") {
            let text = |name: &str| wrap.get(name).map(cell).unwrap_or_default();
            row("wrapping_token:", text("token"));
            row("wrapping_accessor:", text("accessor"));
            row("wrapping_token_ttl:", duration(wrap.get("ttl").and_then(Value::as_u64).unwrap_or(0)));
            row("wrapping_token_creation_time:", readable_time(&text("creation_time")));
            row("wrapping_token_creation_path:", text("creation_path"));
            if !text("wrapped_accessor").is_empty() {
                row("wrapped_accessor:", text("wrapped_accessor"));
            }
        }
        match self.data() {
            Some(Value::Object(fields)) => rows.extend(data_rows(fields)),
            Some(other) => rows.push(vec!["data".to_owned(), cell(other)]),
            None => {}
        }
        rows
    }

    /// One field by the name that the table gives it.
    pub(crate) fn field(&self, name: &str) -> Option<Value> {
        let value = match name {
            "token" if self.part("auth").is_some() => self.auth_field("client_token").cloned(),
            "token_accessor" if self.part("auth").is_some() => self.auth_field("accessor").cloned(),
            "token_renewable" if self.part("auth").is_some() => self.auth_field("renewable").cloned(),
            "token_policies" | "identity_policies" | "policies" if self.part("auth").is_some() => {
                self.auth_field(name).cloned()
            }
            // Scripts count with it: seconds, where the table has what people read.
            "token_duration" | "lease_duration" if self.part("auth").is_some() => {
                self.auth_field("lease_duration").cloned()
            }
            "wrapping_token" => self.part("wrap_info").and_then(|wrap| wrap.get("token")).cloned(),
            "wrapping_accessor" => self.part("wrap_info").and_then(|wrap| wrap.get("accessor")).cloned(),
            "wrapping_token_ttl" => self.part("wrap_info").and_then(|wrap| wrap.get("ttl")).cloned(),
            "wrapping_token_creation_time" => {
                self.part("wrap_info").and_then(|wrap| wrap.get("creation_time")).cloned()
            }
            "wrapping_token_creation_path" => {
                self.part("wrap_info").and_then(|wrap| wrap.get("creation_path")).cloned()
            }
            "wrapped_accessor" => self.part("wrap_info").and_then(|wrap| wrap.get("wrapped_accessor")).cloned(),
            _ => None,
        };
        let metadata = || self.auth_field("metadata")?.get(name.strip_prefix("token_meta_")?).cloned();
        let envelope = || match name {
            "data" => self.data().cloned(),
            "refresh_interval" => self.part("lease_duration").cloned(),
            "lease_id" | "lease_duration" => self.part(name).cloned(),
            "lease_renewable" => self.part("renewable").cloned(),
            _ => None,
        };
        value
            .or_else(|| self.data_field(name).cloned())
            .or_else(metadata)
            .or_else(envelope)
            .filter(|value| !value.is_null())
    }
}

/// Rows of a map, durations shown as such.
pub(crate) fn data_rows(fields: &Map<String, Value>) -> Vec<Vec<String>> {
    let shown = |name: &str, value: &Value| match value.as_u64() {
        Some(seconds) if is_duration(name) => duration(seconds),
        _ => cell(value),
    };
    fields.iter().map(|(name, value)| vec![name.clone(), shown(name, value)]).collect()
}

fn is_duration(name: &str) -> bool {
    let kinds = ["period", "ttl", "duration"];
    kinds.iter().any(|kind| name == *kind || name.strip_suffix(kind).is_some_and(|rest| rest.ends_with('_')))
        || name == "lease_max"
        || name == "ttl_max"
}

/// `2024-01-02T03:04:05Z` as `2024-01-02 03:04:05 +0000 UTC`; other forms stay.
fn readable_time(time: &str) -> String {
    match time.strip_suffix('Z') {
        Some(rest) => format!("{} +0000 UTC", rest.replace('T', " ")),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_envelope_is_data() {
        let envelope = Envelope::new(json!({"sealed": false, "renewable": true}));
        assert_eq!(envelope.data_field("sealed"), Some(&json!(false)));
        assert!(Envelope::new(json!({"auth": {"client_token": "t"}})).data().is_none());
    }

    #[test]
    fn rows_show_the_lease_then_the_data() {
        let envelope = Envelope::new(
            json!({"request_id": "r", "lease_id": "", "lease_duration": 2_764_800, "data": {"b": 1, "ttl": 60, "a": "x"}}),
        );
        assert_eq!(envelope.rows(), [["refresh_interval", "768h"], ["a", "x"], ["b", "1"], ["ttl", "1m"]]);
        assert_eq!(envelope.field("ttl"), Some(json!(60)));
        assert_eq!(envelope.field("absent"), None);
    }

    #[test]
    fn a_field_that_is_a_time_is_seconds_and_its_row_is_for_people() {
        let login =
            Envelope::new(json!({"lease_duration": 0, "auth": {"client_token": "t", "lease_duration": 18_000}}));
        assert_eq!(login.field("token_duration"), Some(json!(18_000)));
        assert_eq!(login.field("lease_duration"), Some(json!(18_000)));
        assert!(login.rows().contains(&vec!["token_duration".to_owned(), "5h".to_owned()]));
        let lease = Envelope::new(json!({"lease_id": "a/1", "lease_duration": 60, "data": {"x": 1}}));
        assert_eq!(lease.field("lease_duration"), Some(json!(60)));
        assert!(lease.rows().contains(&vec!["lease_duration".to_owned(), "1m".to_owned()]));
    }

    #[test]
    fn tokens_without_end_say_so() {
        let envelope = Envelope::new(
            json!({"request_id": "r", "auth": {"client_token": "t", "lease_duration": 0, "policies": ["root"]}}),
        );
        assert_eq!(envelope.field("token"), Some(json!("t")));
        assert_eq!(envelope.field("token_duration"), Some(json!(0)));
        assert!(envelope.rows().contains(&vec!["token_duration".to_owned(), "∞".to_owned()]));
        assert!(envelope.rows().contains(&vec!["policies".to_owned(), "[\"root\"]".to_owned()]));
    }
}
