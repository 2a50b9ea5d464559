//! A policy's text to its rules. Refused with line and column: unknown keys, duplicate attributes, unknown
//! capabilities (ACL-14): what a reviewer reads is what is enforced.

use std::collections::{BTreeMap, BTreeSet};

use tresor_hcl::{Key, Object, ParseError, Position, Value, ValueKind};
use tresor_model::Timestamp;

use crate::capability::{Capabilities, Capability};
use crate::keys_filter::KeysFilter;
use crate::parameters::Constraints;
use crate::template::{Template, Trusted};

/// What no pattern may have: whether the `+` would be a wildcard is not clear.
const FORBIDDEN: &str = "+*";

/// A parsed policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// From when on it grants and denies nothing.
    pub expires: Option<Timestamp>,
    /// What the values of its placeholders may have in them.
    pub trusted: Trusted,
    /// Whether it is `root`, which needs no rules.
    pub(crate) is_root: bool,
}

/// One path rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The pattern as it is written, without a leading slash.
    pub pattern: String,
    /// Where it stands.
    pub position: Position,
    /// The pattern when it has placeholders.
    pub template: Option<Template>,
    /// What is granted.
    pub capabilities: Capabilities,
    /// What may be sent.
    pub constraints: Constraints,
    /// The least TTL that an answer must be wrapped for, in seconds; 0 means none.
    pub min_wrapping_ttl: u64,
    /// The longest TTL that an answer may be wrapped for, in seconds; 0 means none.
    pub max_wrapping_ttl: u64,
    /// How many names a listing may give at most.
    pub pagination_limit: Option<usize>,
    /// Which names of a listing are shown.
    pub keys_filter: Option<KeysFilter>,
    /// The types of events that `subscribe` is about; `*` in one stands for anything.
    pub event_types: Vec<String>,
    /// From when on the rule grants and denies nothing.
    pub expires: Option<Timestamp>,
}

impl Policy {
    /// What it says of a namespace that was made after it was written: the rules that mean whatever is there, now and later,
    /// as they are; the others grant nothing there, and still stand in the way of wider ones, so that this never says more
    /// than the whole policy.
    #[must_use]
    pub fn of_what_came_later(&self) -> Self {
        let later = |rule: &Rule| Rule { capabilities: rule.of_what_came_later(), ..rule.clone() };
        Self { rules: self.rules.iter().map(later).collect(), ..self.clone() }
    }
}

impl Rule {
    /// Whether the pattern means whatever is there: everything, or everything at the first place.
    #[must_use]
    pub fn means_whatever_is_there(&self) -> bool {
        self.pattern == "*" || self.pattern == "+" || self.pattern.starts_with("+/")
    }

    fn of_what_came_later(&self) -> Capabilities {
        let denial = Capabilities::default().with(Capability::Deny);
        match self.capabilities.contains(Capability::Deny) {
            _ if self.means_whatever_is_there() => self.capabilities,
            true => denial,
            false => Capabilities::default(),
        }
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No document.
    #[error("{0}")]
    Syntax(ParseError),
    /// A key that policies do not have.
    #[error("{position}: unknown key `{key}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it is.
        position: Position,
    },
    /// An attribute that stands twice.
    #[error("{position}: `{key}` is set twice")]
    Duplicate {
        /// The key.
        key: String,
        /// Where the second one is.
        position: Position,
    },
    /// A capability that does not exist.
    #[error("{position}: path \"{pattern}\": invalid capability `{word}`")]
    UnknownCapability {
        /// The rule.
        pattern: String,
        /// The word.
        word: String,
        /// Where it is.
        position: Position,
    },
    /// Wildcards that mean nothing where they stand.
    #[error("{position}: path \"{pattern}\": invalid use of wildcards ('{FORBIDDEN}' is forbidden)")]
    Wildcards {
        /// The rule.
        pattern: String,
        /// Where it is.
        position: Position,
    },
    /// A value of the wrong kind.
    #[error("{0}")]
    Wrong(tresor_hcl::AccessError),
    /// Something else that a rule cannot have.
    #[error("{position}: {reason}")]
    Invalid {
        /// What.
        reason: &'static str,
        /// Where.
        position: Position,
    },
}

impl From<tresor_hcl::AccessError> for PolicyError {
    fn from(error: tresor_hcl::AccessError) -> Self {
        Self::Wrong(error)
    }
}

impl Policy {
    /// The policy `root`.
    #[must_use]
    pub fn root() -> Self {
        Self { name: "root".to_owned(), rules: Vec::new(), expires: None, trusted: Trusted::default(), is_root: true }
    }

    /// Parses a policy's text; an empty text is a policy without rules.
    ///
    /// # Errors
    /// [`PolicyError`] with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let document = tresor_hcl::parse(text).map_err(PolicyError::Syntax)?;
        let mut rules = Vec::new();
        for item in &document.items {
            let Some((key, labels)) = item.keys.split_first() else { continue };
            match key.name.as_str() {
                "name" if labels.is_empty() => {
                    item.value.as_string("name")?;
                }
                "path" => {
                    path_rules(labels, &item.value, &mut rules)?;
                }
                _ => return Err(PolicyError::UnknownKey { key: key.name.clone(), position: key.position }),
            }
        }
        Ok(Self { name: name.to_owned(), rules, expires: None, trusted: Trusted::default(), is_root: false })
    }

    /// Refuses what nobody may write any more, and what is stored may still have.
    ///
    /// # Errors
    /// [`PolicyError::Wildcards`].
    pub fn check_as_new(&self) -> Result<(), PolicyError> {
        match self.rules.iter().find(|rule| rule.pattern.contains(FORBIDDEN)) {
            Some(Rule { pattern, position, .. }) => {
                Err(PolicyError::Wildcards { pattern: pattern.clone(), position: *position })
            }
            None => Ok(()),
        }
    }
}

impl PolicyError {
    /// Where the mistake is.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self {
            Self::Syntax(error) => error.position,
            Self::Wrong(error) => error.position,
            Self::UnknownKey { position, .. }
            | Self::Duplicate { position, .. }
            | Self::UnknownCapability { position, .. }
            | Self::Wildcards { position, .. }
            | Self::Invalid { position, .. } => *position,
        }
    }
}

/// The rules below `path`: one for `path "x" { }`, many for JSON's `"path": {"x": {}, "y": {}}`.
fn path_rules(labels: &[Key], value: &Value, rules: &mut Vec<Rule>) -> Result<(), PolicyError> {
    match (labels, &value.kind) {
        ([pattern], ValueKind::Object(object)) => {
            rules.push(rule(pattern, object)?);
            Ok(())
        }
        ([_], ValueKind::List(items)) | ([], ValueKind::List(items)) => {
            items.iter().try_for_each(|item| path_rules(labels, item, rules))
        }
        ([], ValueKind::Object(object)) => {
            object.items.iter().try_for_each(|item| path_rules(&item.keys, &item.value, rules))
        }
        _ => Err(PolicyError::Invalid { reason: "`path` takes one pattern and a block", position: value.position }),
    }
}

fn rule(label: &Key, object: &Object) -> Result<Rule, PolicyError> {
    let position = label.position;
    let pattern = label.name.strip_prefix('/').unwrap_or(&label.name).to_owned();
    let template = Template::parse(&pattern)
        .map_err(|_| PolicyError::Invalid { reason: "unbalanced `{{` and `}}` in the pattern", position })?;
    let mut rule = Rule {
        pattern,
        position,
        template,
        capabilities: Capabilities::default(),
        constraints: Constraints::default(),
        min_wrapping_ttl: 0,
        max_wrapping_ttl: 0,
        pagination_limit: None,
        keys_filter: None,
        event_types: Vec::new(),
        expires: None,
    };
    let mut seen = BTreeSet::new();
    for item in &object.items {
        let Some(key) = item.keys.first().filter(|_| item.keys.len() == 1) else {
            return Err(PolicyError::Invalid { reason: "a rule has attributes only", position: item.value.position });
        };
        if !seen.insert(key.name.as_str()) {
            return Err(PolicyError::Duplicate { key: key.name.clone(), position: key.position });
        }
        attribute(&mut rule, &key.name, key.position, &item.value)?;
    }
    if rule.max_wrapping_ttl != 0 && rule.min_wrapping_ttl > rule.max_wrapping_ttl {
        return Err(PolicyError::Invalid {
            reason: "`max_wrapping_ttl` cannot be less than `min_wrapping_ttl`",
            position,
        });
    }
    if rule.keys_filter.is_some() && !rule.capabilities.contains(Capability::List) {
        return Err(PolicyError::Invalid {
            reason: "`list_scan_response_keys_filter_path` needs the capability `list`",
            position,
        });
    }
    Ok(rule)
}

fn attribute(rule: &mut Rule, key: &str, position: Position, value: &Value) -> Result<(), PolicyError> {
    match key {
        "capabilities" => {
            let ValueKind::List(words) = &value.kind else {
                return Err(value.as_string_list(key).map(drop).err().map_or_else(
                    || PolicyError::Invalid { reason: "`capabilities` must be a list", position },
                    PolicyError::Wrong,
                ));
            };
            for word in words {
                let text = word.as_string(key)?;
                rule.capabilities =
                    rule.capabilities.with(Capability::parse(&text).ok_or_else(|| PolicyError::UnknownCapability {
                        pattern: rule.pattern.clone(),
                        word: text,
                        position: word.position,
                    })?);
            }
        }
        "policy" => {
            use Capability::{Create, Delete, Deny, List, Read, Sudo, Update};
            let granted: &[Capability] = match value.as_string(key)?.as_str() {
                "deny" => &[Deny],
                "read" => &[Read, List],
                "write" => &[Create, Read, Update, Delete, List],
                "sudo" => &[Create, Read, Update, Delete, List, Sudo],
                _ => {
                    return Err(PolicyError::Invalid {
                        reason: "`policy` is `deny`, `read`, `write` or `sudo`",
                        position,
                    });
                }
            };
            rule.capabilities = granted.iter().fold(rule.capabilities, |set, capability| set.with(*capability));
        }
        "allowed_parameters" => rule.constraints.allowed = parameters(key, value)?,
        "denied_parameters" => rule.constraints.denied = parameters(key, value)?,
        "required_parameters" => {
            rule.constraints.required =
                value.as_string_list(key)?.iter().map(|name| name.trim().to_lowercase()).collect();
        }
        "min_wrapping_ttl" => rule.min_wrapping_ttl = seconds(key, value)?,
        "max_wrapping_ttl" => rule.max_wrapping_ttl = seconds(key, value)?,
        "pagination_limit" => {
            let limit = usize::try_from(value.as_integer(key)?).ok().filter(|limit| *limit > 0);
            let invalid = PolicyError::Invalid { reason: "`pagination_limit` must be above zero", position };
            rule.pagination_limit = Some(limit.ok_or(invalid)?);
        }
        "list_scan_response_keys_filter_path" => {
            let position = value.position;
            rule.keys_filter = match KeysFilter::parse(&value.as_string(key)?) {
                Ok(filter) => Some(filter),
                Err(reason) => return Err(PolicyError::Invalid { reason, position }),
            };
        }
        "subscribe_event_types" => {
            rule.event_types = value.as_string_list(key)?.iter().map(|kind| kind.trim().to_owned()).collect();
            if rule.event_types.iter().any(String::is_empty) {
                return Err(PolicyError::Invalid { reason: "`subscribe_event_types` has an empty type", position });
            }
        }
        "expiration" => {
            let invalid = PolicyError::Invalid { reason: "`expiration` must be a time in RFC 3339", position };
            rule.expires = Some(tresor_wire::time::parse_rfc3339(&value.as_string(key)?).ok_or(invalid)?);
        }
        "comment" => drop(value.as_string(key)?),
        _ => return Err(PolicyError::UnknownKey { key: key.to_owned(), position }),
    }
    Ok(())
}

fn parameters(key: &str, value: &Value) -> Result<BTreeMap<String, Vec<String>>, PolicyError> {
    let mut parameters = BTreeMap::new();
    for item in &value.as_object(key)?.items {
        let Some(name) = item.keys.first() else { continue };
        let values = item.value.as_string_list(key)?;
        if parameters.insert(name.name.trim().to_lowercase(), values).is_some() {
            return Err(PolicyError::Duplicate { key: name.name.clone(), position: name.position });
        }
    }
    Ok(parameters)
}

pub(crate) fn seconds(key: &str, value: &Value) -> Result<u64, PolicyError> {
    let duration = tresor_wire::duration::parse_go(&value.as_string(key)?);
    duration
        .map(|duration| duration.as_secs())
        .ok_or(PolicyError::Invalid { reason: "not a duration", position: value.position })
}
