//! A policy's text to its rules. Refused with line and column: unknown keys, duplicate attributes, unknown
//! capabilities (ACL-14): what a reviewer reads is what is enforced.

use std::collections::{BTreeMap, BTreeSet};

use tresor_hcl::{Object, ParseError, Position, Value, ValueKind};

use crate::capability::{Capabilities, Capability};
use crate::parameters::Constraints;

/// A parsed policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// Whether it is `root`, which needs no rules.
    pub(crate) is_root: bool,
}

/// One path rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The pattern, without a leading slash.
    pub pattern: String,
    /// What is granted.
    pub capabilities: Capabilities,
    /// What may be sent.
    pub constraints: Constraints,
    /// The least TTL that an answer must be wrapped for, in seconds; 0 means none.
    pub min_wrapping_ttl: u64,
    /// The longest TTL that an answer may be wrapped for, in seconds; 0 means none.
    pub max_wrapping_ttl: u64,
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
        Self { name: "root".to_owned(), rules: Vec::new(), is_root: true }
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
                    let labels: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
                    path_rules(&labels, &item.value, &mut rules)?;
                }
                _ => return Err(PolicyError::UnknownKey { key: key.name.clone(), position: key.position }),
            }
        }
        Ok(Self { name: name.to_owned(), rules, is_root: false })
    }
}

/// The rules below `path`: one for `path "x" { }`, many for JSON's `"path": {"x": {}, "y": {}}`.
fn path_rules(labels: &[&str], value: &Value, rules: &mut Vec<Rule>) -> Result<(), PolicyError> {
    match (labels, &value.kind) {
        ([pattern], ValueKind::Object(object)) => {
            rules.push(rule(pattern, object, value.position)?);
            Ok(())
        }
        ([_], ValueKind::List(items)) | ([], ValueKind::List(items)) => {
            items.iter().try_for_each(|item| path_rules(labels, item, rules))
        }
        ([], ValueKind::Object(object)) => object.items.iter().try_for_each(|item| {
            let labels: Vec<&str> = item.keys.iter().map(|label| label.name.as_str()).collect();
            path_rules(&labels, &item.value, rules)
        }),
        _ => Err(PolicyError::Invalid { reason: "`path` takes one pattern and a block", position: value.position }),
    }
}

fn rule(pattern: &str, object: &Object, position: Position) -> Result<Rule, PolicyError> {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern).to_owned();
    let placeholders = (pattern.matches("{{").count(), pattern.matches("}}").count());
    if placeholders.0 != placeholders.1 {
        return Err(PolicyError::Invalid { reason: "unbalanced `{{` and `}}` in the pattern", position });
    }
    let mut rule = Rule {
        pattern,
        capabilities: Capabilities::default(),
        constraints: Constraints::default(),
        min_wrapping_ttl: 0,
        max_wrapping_ttl: 0,
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

fn seconds(key: &str, value: &Value) -> Result<u64, PolicyError> {
    let duration = tresor_wire::duration::parse_go(&value.as_string(key)?);
    duration
        .map(|duration| duration.as_secs())
        .ok_or(PolicyError::Invalid { reason: "not a duration", position: value.position })
}
