//! Constraints on the parameters of writes: which may, must not, and must be sent.
//!
//! Names are compared in lower case. A forbidden value is forbidden in every spelling that a handler may fold to it
//! (case, blanks, an element of a list or of a comma list: ACL-04); an allowed value is compared exactly.

use std::collections::{BTreeMap, BTreeSet};

use tresor_model::{Body, Map};
use tresor_wire::input::FieldSpec;

/// What a write sends, and by which names its handler reads it.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    /// The fields of body and query.
    pub sent: &'a Map,
    /// The names among them that came from the query.
    pub from_query: &'a [String],
    /// What the operation declares.
    pub fields: &'a [FieldSpec],
}

/// One field that was sent.
struct Sent<'a> {
    /// Its name as sent, in lower case; after it, the name that the handler reads it by, where that is another one.
    names: Vec<String>,
    body: &'a Body,
    /// Whether the handler sees it: `null` counts as not sent, and few fields may come from the query.
    arrives: bool,
}

impl<'a> Parameters<'a> {
    fn each(&self) -> Vec<Sent<'a>> {
        self.sent.iter().map(|(name, body)| self.one(name, body)).collect()
    }

    fn one(&self, name: &str, body: &'a Body) -> Sent<'a> {
        let declared = self.fields.iter().find(|field| field.name == name || field.aliases.contains(&name));
        let from_query = self.from_query.iter().any(|sent| sent == name);
        let own = name.trim().to_lowercase();
        let read_by = declared.map(|field| field.name.to_lowercase()).filter(|known| *known != own);
        let names = std::iter::once(own).chain(read_by).collect();
        let arrives = *body != Body::Null && (!from_query || declared.is_some_and(|field| field.query));
        Sent { names, body, arrives }
    }
}

/// Constraints of one rule; names in lower case. An empty list of values stands for every value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    pub(crate) allowed: BTreeMap<String, Vec<String>>,
    pub(crate) denied: BTreeMap<String, Vec<String>>,
    pub(crate) required: BTreeSet<String>,
}

/// What is wrong with what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection<'c> {
    /// A parameter must be sent.
    Missing(&'c str),
    /// A parameter, or its value, must not; its name when the rule names it.
    Refused(Option<&'c str>),
}

/// Whether a value fits a pattern, in which each `*` matches anything.
#[must_use]
pub fn matches_glob(pattern: &str, value: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == value };
    let Some(mut left) = value.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(last)
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

    /// The first parameter that must be sent and is not, or that is sent and must not be.
    pub(crate) fn objection<'c>(&'c self, parameters: &Parameters<'_>) -> Option<Objection<'c>> {
        if self.is_empty() {
            return None;
        }
        let sent = parameters.each();
        let is_sent = |name: &String| sent.iter().any(|one| one.arrives && one.names.contains(name));
        if let Some(missing) = self.required.iter().find(|name| !is_sent(name)) {
            return Some(Objection::Missing(missing));
        }
        let refused = sent.iter().find(|one| self.refuses(one))?;
        // The name as the rule has it, where it has it: what was sent is the caller's text.
        let known = refused.names.iter().find_map(|name| {
            let named =
                |rules: &'c BTreeMap<String, Vec<String>>| rules.get_key_value(name).map(|(name, _)| name.as_str());
            named(&self.denied).or_else(|| named(&self.allowed))
        });
        Some(Objection::Refused(known))
    }

    /// Whether a listing must say how many names it wants.
    pub(crate) fn requires(&self, name: &str) -> bool {
        self.required.contains(name)
    }

    fn refuses(&self, sent: &Sent<'_>) -> bool {
        let is_denied = |name: &String| {
            self.denied.get(name).is_some_and(|values| values.is_empty() || is_denied(values, sent.body))
        };
        let known: Vec<&Vec<String>> = sent.names.iter().filter_map(|name| self.allowed.get(name)).collect();
        let is_allowed = if known.is_empty() {
            self.allowed.is_empty() || self.allowed.contains_key("*")
        } else {
            known.iter().any(|values| values.is_empty() || is_allowed(values, sent.body))
        };
        self.denied.contains_key("*") || sent.names.iter().any(is_denied) || !is_allowed
    }
}
