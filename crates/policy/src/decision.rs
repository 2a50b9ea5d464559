//! A request to a decision: the one function that enforcement, capabilities and explanations ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_model::{Map, Operation};

use crate::capability::{Capabilities, Capability};
use crate::matcher::{Matcher, Pattern, specificity};
use crate::parameters::{Constraints, Parameters};
use crate::parse::Policy;

/// A canonical path, without a leading slash; LIST and SCAN ask with the directory's slash.
#[derive(Clone, Copy, Debug)]
pub struct AskedPath<'a> {
    /// The path.
    pub text: &'a str,
    /// When case does not matter in the path's names: after how many leading segments. Patterns are then read as if
    /// they were written in lower case from there on (ACL-03).
    pub folds_after: Option<usize>,
}

impl<'a> AskedPath<'a> {
    /// A path whose case matters.
    #[must_use]
    pub const fn exact(text: &'a str) -> Self {
        Self { text, folds_after: None }
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Of what.
    pub path: AskedPath<'a>,
    /// The operation.
    pub operation: Operation,
    /// The parameters, where the operation carries any.
    pub parameters: Option<Parameters<'a>>,
    /// How long the answer is to be wrapped for.
    pub wrap_ttl_seconds: Option<u64>,
}

/// What rules of one pattern come to together.
#[derive(Clone, Debug, Default)]
struct Permission {
    capabilities: Capabilities,
    constraints: Constraints,
    min_wrapping_ttl: u64,
    max_wrapping_ttl: u64,
    policies: Vec<String>,
    /// What each of the policies grants by itself, in the same order.
    grants: Vec<Capabilities>,
}

/// The policies that grant what was asked, for the record of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granting<'p> {
    policies: &'p [String],
    grants: &'p [Capabilities],
    needed: Option<Capability>,
    is_root: bool,
}

impl<'p> Granting<'p> {
    /// Nobody grants it by a rule: help, which needs nothing.
    const NOBODY: Self = Self { policies: &[], grants: &[], needed: None, is_root: false };

    /// The policy `root`.
    const ROOT: Self = Self { is_root: true, ..Self::NOBODY };

    /// Their names: of the policies that the deciding pattern stands in, those that grant the needed capability.
    pub fn names(self) -> impl Iterator<Item = &'p str> {
        let grants = move |(name, own): (&'p String, &Capabilities)| {
            self.needed.is_some_and(|needed| own.contains(needed)).then_some(name.as_str())
        };
        self.is_root.then_some("root").into_iter().chain(self.policies.iter().zip(self.grants).filter_map(grants))
    }
}

/// Compiled policies.
#[derive(Clone, Debug)]
pub struct PolicySet {
    is_root: bool,
    matcher: Matcher<Permission>,
    /// Patterns with capital letters, which a path in lower case does not find.
    capitals: Vec<String>,
}

/// What was decided, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// It may be done.
    Allowed {
        /// Whether protected paths may be used.
        sudo: bool,
        /// The pattern that granted it; `None` for root and for help.
        pattern: Option<&'p str>,
        /// The policies that grant it.
        granting: Granting<'p>,
    },
    /// It may not.
    Denied(Denial<'p>),
}

/// Why it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial<'p> {
    /// No pattern matches.
    NoRule,
    /// The most specific pattern says deny.
    Explicit {
        /// The pattern.
        pattern: &'p str,
        /// The policies that it stands in.
        policies: &'p [String],
    },
    /// The most specific pattern does not grant the capability.
    Missing {
        /// The pattern.
        pattern: &'p str,
        /// The policies that it stands in.
        policies: &'p [String],
        /// What it lacks.
        capability: Capability,
    },
    /// A parameter may not be sent, or must be.
    Parameters {
        /// The pattern.
        pattern: &'p str,
    },
    /// The answer must be wrapped, or not for so long.
    Wrapping {
        /// The pattern.
        pattern: &'p str,
    },
}

impl Decision<'_> {
    /// Whether it may be done, and then, whether with sudo.
    #[must_use]
    pub const fn allowed_with_sudo(&self) -> Option<bool> {
        match self {
            Self::Allowed { sudo, .. } => Some(*sudo),
            Self::Denied(_) => None,
        }
    }
}

impl PolicySet {
    /// Compiles policies; none denies everything.
    #[must_use]
    pub fn compile(policies: &[Arc<Policy>]) -> Self {
        let mut patterns: BTreeMap<String, Permission> = BTreeMap::new();
        for policy in policies {
            // A placeholder that nobody fills in grants nothing, and denies nothing (DR-11).
            for rule in policy.rules.iter().filter(|rule| !rule.pattern.contains("{{")) {
                let merged = patterns.entry(rule.pattern.clone()).or_default();
                merged.capabilities = merged.capabilities.union(rule.capabilities);
                merged.constraints.merge(&rule.constraints);
                let least = |a: u64, b: u64| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
                merged.min_wrapping_ttl = least(merged.min_wrapping_ttl, rule.min_wrapping_ttl);
                merged.max_wrapping_ttl = least(merged.max_wrapping_ttl, rule.max_wrapping_ttl);
                if merged.policies.last() != Some(&policy.name) {
                    merged.policies.push(policy.name.clone());
                    merged.grants.push(Capabilities::default());
                }
                if let Some(own) = merged.grants.last_mut() {
                    *own = own.union(rule.capabilities);
                }
            }
        }
        let capitals = patterns.keys().filter(|pattern| pattern.to_lowercase() != **pattern).cloned().collect();
        Self { is_root: policies.iter().any(|policy| policy.is_root), matcher: Matcher::new(patterns), capitals }
    }

    /// The permission that a path comes to. For LIST and SCAN the directory's own patterns come first, with their slash; the
    /// path without it is a fallback for directories that no pattern names (LST-01).
    fn permission(&self, path: AskedPath<'_>, is_of_directory: bool) -> Option<(&str, &Permission)> {
        match self.most_specific(path) {
            None if is_of_directory => self.most_specific(AskedPath { text: path.text.strip_suffix('/')?, ..path }),
            found => found,
        }
    }

    fn most_specific(&self, path: AskedPath<'_>) -> Option<(&str, &Permission)> {
        let mut best = self.matcher.find(path.text);
        let Some(segments) = path.folds_after else { return best };
        for written in &self.capitals {
            let folded = Pattern::new(&fold_after(written, segments));
            if folded.text() == written || !folded.matches(path.text) {
                continue;
            }
            let Some(permission) = self.matcher.at(written) else { continue };
            let is_better = best.is_none_or(|(text, known)| {
                let known_pattern = Pattern::new(&fold_after(text, segments));
                let is_denial = permission.capabilities.contains(Capability::Deny);
                match specificity(&folded, &known_pattern) {
                    std::cmp::Ordering::Equal => is_denial && !known.capabilities.contains(Capability::Deny),
                    order => order.is_gt(),
                }
            });
            if is_better {
                best = Some((written, permission));
            }
        }
        best
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        if self.is_root {
            return Decision::Allowed { sudo: true, pattern: None, granting: Granting::ROOT };
        }
        let Some(needed) = Capability::needed_by(request.operation) else {
            return Decision::Allowed { sudo: false, pattern: None, granting: Granting::NOBODY };
        };
        let Some((pattern, permission)) = self.permission(request.path, request.operation.is_of_directory()) else {
            return Decision::Denied(Denial::NoRule);
        };
        let policies = permission.policies.as_slice();
        if permission.capabilities.contains(Capability::Deny) {
            return Decision::Denied(Denial::Explicit { pattern, policies });
        }
        if !permission.capabilities.contains(needed) {
            return Decision::Denied(Denial::Missing { pattern, policies, capability: needed });
        }
        if !permission.permits_wrapping(request.wrap_ttl_seconds) {
            return Decision::Denied(Denial::Wrapping { pattern });
        }
        if request.operation.carries_parameters() {
            let none = Map::new();
            let nothing = Parameters { sent: &none, from_query: &[], fields: &[] };
            if !permission.constraints.permit(&request.parameters.unwrap_or(nothing)) {
                return Decision::Denied(Denial::Parameters { pattern });
            }
        }
        let granting = Granting { policies, grants: &permission.grants, needed: Some(needed), is_root: false };
        Decision::Allowed { sudo: permission.capabilities.contains(Capability::Sudo), pattern: Some(pattern), granting }
    }

    /// What may be done on a path, as `sys/capabilities` shows it: `root`, `deny`, or the words in order. Whether the
    /// path can be listed, its directory tells, as when it is listed.
    #[must_use]
    pub fn capabilities(&self, path: AskedPath<'_>, directory: AskedPath<'_>) -> Vec<Capability> {
        if self.is_root {
            return vec![Capability::Root];
        }
        let of = |found: Option<(&str, &Permission)>| found.map(|(_, found)| found.capabilities).unwrap_or_default();
        let (own, below) = (of(self.permission(path, false)), of(self.permission(directory, true)));
        let granted: Vec<Capability> = Capability::ALL
            .into_iter()
            .filter(|one| match one {
                Capability::Deny => false,
                one @ (Capability::List | Capability::Scan) => below.iter().any(|granted| granted == *one),
                one => own.iter().any(|granted| granted == *one),
            })
            .collect();
        if granted.is_empty() { vec![Capability::Deny] } else { granted }
    }

    /// Every pattern and what it comes to: words in order, or the denial alone. Root's are not written down.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, Vec<Capability>)> {
        self.matcher.iter().map(|(pattern, permission)| {
            let words: Vec<Capability> = permission.capabilities.iter().collect();
            (pattern, if words.is_empty() { vec![Capability::Deny] } else { words })
        })
    }

    /// Whether everything may be done.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.is_root
    }

    /// Whether something at or below a path may be used in any way: what decides whether a mount is shown.
    #[must_use]
    pub fn reaches_below(&self, path: &str) -> bool {
        if self.is_root {
            return true;
        }
        let usable = |permission: &Permission| permission.capabilities.iter().any(|one| one != Capability::Deny);
        if self.permission(AskedPath::exact(path), true).is_some_and(|(_, permission)| usable(permission)) {
            return true;
        }
        self.matcher.iter().any(|(pattern, permission)| usable(permission) && may_lie_below(pattern, path))
    }
}

/// A pattern in lower case, but for its first segments.
fn fold_after(pattern: &str, segments: usize) -> String {
    let start = pattern.match_indices('/').nth(segments.saturating_sub(1)).map_or(pattern.len(), |(at, _)| at + 1);
    let (head, tail) = pattern.split_at(if segments == 0 { 0 } else { start });
    format!("{head}{}", tail.to_lowercase())
}

/// Whether a pattern can match something that starts with `path`.
fn may_lie_below(pattern: &str, path: &str) -> bool {
    let literal_end = pattern.split('/').scan(0, |start, segment| {
        let at = *start;
        *start += segment.len() + 1;
        Some((at, segment))
    });
    let wildcard = literal_end.into_iter().find(|(_, segment)| *segment == "+").map(|(at, _)| at);
    let literal = match wildcard {
        Some(at) => pattern.get(..at).unwrap_or(pattern),
        None => pattern.strip_suffix('*').unwrap_or(pattern),
    };
    let has_wildcard = wildcard.is_some() || pattern.ends_with('*');
    literal.starts_with(path)
        || (has_wildcard && path.starts_with(literal) && (wildcard.is_some() || pattern.ends_with('*')))
}

impl Permission {
    fn permits_wrapping(&self, asked: Option<u64>) -> bool {
        let (min, max) = (self.min_wrapping_ttl, self.max_wrapping_ttl);
        if min == 0 && max == 0 {
            return true;
        }
        asked.is_some_and(|ttl| ttl >= min && (max == 0 || ttl <= max) && (max == 0 || max >= min))
    }
}
