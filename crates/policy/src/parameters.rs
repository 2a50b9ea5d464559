//! Constraints on the parameters of writes: which may, must not, and must be sent.
//!
//! Names are compared in lower case. A forbidden value is forbidden in every spelling that a handler may fold to it
//! (case, blanks, an element of a list or of a comma list: ACL-04); an allowed value is compared exactly.

use std::collections::{BTreeMap, BTreeSet};

use tresor_model::{Body, Map};

/// Constraints of one rule; names in lower case. An empty list of values stands for every value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    pub(crate) allowed: BTreeMap<String, Vec<String>>,
    pub(crate) denied: BTreeMap<String, Vec<String>>,
    pub(crate) required: BTreeSet<String>,
}

/// `*` at either end of a value matches anything there.
fn matches_glob(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() == 1 => true,
        (Some(rest), Some(_)) => rest.strip_suffix('*').is_some_and(|inner| value.contains(inner)),
        (Some(suffix), None) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => pattern == value,
    }
}

/// A scalar as text; lists and maps have none.
fn scalar(body: &Body) -> Option<String> {
    match body {
        Body::String(text) => Some(text.as_str().to_owned()),
        Body::Number(number) => Some(number.as_str().to_owned()),
        Body::Bool(value) => Some(value.to_string()),
        Body::Null => Some(String::new()),
        Body::List(_) | Body::Map(_) => None,
    }
}

fn is_allowed(values: &[String], body: &Body) -> bool {
    match body {
        Body::List(items) => items.iter().all(|item| is_allowed(values, item)),
        Body::Map(_) => false,
        other => scalar(other).is_some_and(|text| values.iter().any(|pattern| matches_glob(pattern, &text))),
    }
}

fn is_denied(values: &[String], body: &Body) -> bool {
    let folded = |text: &str| {
        let text = text.trim().to_lowercase();
        values.iter().any(|pattern| matches_glob(&pattern.to_lowercase(), &text))
    };
    match body {
        Body::List(items) => items.iter().any(|item| is_denied(values, item)),
        // A structure may hide the value anywhere: where a value is forbidden, a structure is.
        Body::Map(_) => true,
        other => scalar(other).is_some_and(|text| folded(&text) || text.split(',').any(folded)),
    }
}

impl Constraints {
    pub(crate) fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty() && self.required.is_empty()
    }

    /// Adds the constraints of a rule of the same pattern.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (kept, more) in [(&mut self.allowed, &other.allowed), (&mut self.denied, &other.denied)] {
            for (name, values) in more {
                match kept.get_mut(name) {
                    None => {
                        kept.insert(name.clone(), values.clone());
                    }
                    // Every value, on either side, stays every value.
                    Some(known) if known.is_empty() || values.is_empty() => known.clear(),
                    Some(known) => known.extend(values.iter().cloned()),
                }
            }
        }
        self.required.extend(other.required.iter().cloned());
    }

    /// Whether these parameters may be sent.
    pub(crate) fn permit(&self, parameters: &Map) -> bool {
        if self.is_empty() {
            return true;
        }
        let sent: Vec<(String, &Body)> =
            parameters.iter().map(|(name, body)| (name.trim().to_lowercase(), body)).collect();
        if !self.required.iter().all(|name| sent.iter().any(|(known, _)| known == name)) {
            return false;
        }
        let is_refused = |(name, body): &(String, &Body)| {
            let denied = self.denied.get(name).is_some_and(|values| values.is_empty() || is_denied(values, body));
            let allowed = self.allowed.is_empty()
                || match self.allowed.get(name) {
                    Some(values) => values.is_empty() || is_allowed(values, body),
                    None => self.allowed.contains_key("*"),
                };
            denied || self.denied.contains_key("*") || !allowed
        };
        !sent.iter().any(is_refused)
    }
}
