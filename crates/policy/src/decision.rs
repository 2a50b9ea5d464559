//! A request to a decision: the one function that enforcement, capabilities and explanations ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tresor_hcl::Position;
use tresor_model::{Body, Map, Operation, Timestamp};

use crate::capability::{Capabilities, Capability};
use crate::keys_filter::KeysFilter;
use crate::matcher::{Matcher, Pattern, specificity};
use crate::parameters::{Constraints, Objection, Parameters, matches_glob};
use crate::parse::{Policy, Rule};
use crate::template::Identity;

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
    /// Whether the operation asks for `sudo`.
    pub is_protected: bool,
    /// The type of the event that somebody is to be told of; `None` for requests.
    pub event_type: Option<&'a str>,
}

/// What rules of one pattern come to together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permission {
    pub(crate) capabilities: Capabilities,
    constraints: Constraints,
    pub(crate) min_wrapping_ttl: u64,
    pub(crate) max_wrapping_ttl: u64,
    pagination_limit: Option<usize>,
    keys_filter: Option<KeysFilter>,
    /// Of the rules that grant `subscribe`.
    event_types: BTreeSet<String>,
    pub(crate) sources: Vec<Source>,
}

/// A rule that takes part in what a pattern comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The policy that it stands in.
    pub policy: String,
    /// Where in the policy's text.
    pub position: Position,
    /// What it grants by itself.
    pub grants: Capabilities,
}

/// The policies that grant what was asked, for the record of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granting<'p> {
    sources: &'p [Source],
    needed: Option<Capability>,
    is_root: bool,
}

impl<'p> Granting<'p> {
    /// Nobody grants it by a rule: help, which needs nothing.
    const NOBODY: Self = Self { sources: &[], needed: None, is_root: false };

    /// The policy `root`.
    const ROOT: Self = Self { is_root: true, ..Self::NOBODY };

    /// Their names: of the policies that the deciding pattern stands in, those that grant the needed capability.
    pub fn names(self) -> impl Iterator<Item = &'p str> {
        let mut last = None;
        let grants = move |source: &'p Source| {
            let is_new = last.replace(&source.policy) != Some(&source.policy);
            (is_new && self.needed.is_some_and(|needed| source.grants.contains(needed)))
                .then_some(source.policy.as_str())
        };
        self.is_root.then_some("root").into_iter().chain(self.sources.iter().filter_map(grants))
    }
}

/// What the deciding rule says of a listing that it allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing<'p> {
    /// How many names are given at most, whatever is asked for.
    pub limit: Option<usize>,
    /// Which names are shown.
    pub keys_filter: Option<&'p KeysFilter>,
}

/// Whose policies are compiled, and when.
#[derive(Clone, Copy)]
pub struct Holder<'h> {
    /// What templates are filled with; of nobody, templated rules grant and deny nothing.
    pub identity: Option<&'h Identity>,
    /// The time.
    pub now: Timestamp,
}

/// Compiled policies.
#[derive(Clone, Debug)]
pub enum PolicySet {
    /// The policy `root` is among them.
    Root,
    /// Rules.
    Rules(Rules),
}

/// What the rules of one pattern come to.
pub struct ResultantRule<'p> {
    /// The pattern.
    pub pattern: &'p str,
    /// What may be done: words in order, or the denial alone.
    pub capabilities: Vec<Capability>,
    /// What may be sent, with which values; no values are all.
    pub allowed: &'p BTreeMap<String, Vec<String>>,
    /// What must not be sent.
    pub denied: &'p BTreeMap<String, Vec<String>>,
    /// What must be sent.
    pub required: &'p BTreeSet<String>,
    /// The least life that an answer must be wrapped for, in seconds; 0 means none.
    pub min_wrapping_ttl: u64,
    /// The longest life that an answer may be wrapped for, in seconds; 0 means none.
    pub max_wrapping_ttl: u64,
}

/// Compiled rules.
#[derive(Clone, Debug)]
pub struct Rules {
    matcher: Matcher<Permission>,
    /// Patterns with capital letters, which a path in lower case does not find.
    capitals: Vec<String>,
    /// When the first rule or policy among them ends.
    expires: Option<Timestamp>,
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
        /// What holds for a listing.
        listing: Listing<'p>,
    },
    /// It may not.
    Denied(Denial<'p>),
}

/// Why it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial<'p> {
    /// No pattern matches.
    NoRule,
    /// The most specific pattern decides against it.
    Rule {
        /// The pattern.
        pattern: &'p str,
        /// The rules that it comes from.
        sources: &'p [Source],
        /// What it has against it.
        reason: Reason<'p>,
    },
}

/// What a rule has against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'p> {
    /// It says deny.
    Explicit,
    /// It does not grant the capability.
    Missing(Capability),
    /// A parameter may not be sent, or must be.
    Parameters(Objection<'p>),
    /// The answer must be wrapped for at least and at most so many seconds; 0 means no bound.
    Wrapping {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A listing must ask for at most so many names.
    Pagination(usize),
    /// The path is protected, and the rule does not grant `sudo`.
    Protected,
    /// It does not name the type of the event.
    EventType,
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
    /// Compiles policies for somebody; none denies everything.
    #[must_use]
    pub fn compile(policies: &[Arc<Policy>], holder: &Holder<'_>) -> Self {
        if policies.iter().any(|policy| policy.is_root) {
            Self::Root
        } else {
            Self::Rules(Rules::compile(policies, holder))
        }
    }

    /// Until when it is what it would be if it were compiled then; `None` when time changes nothing.
    #[must_use]
    pub const fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Root => None,
            Self::Rules(rules) => rules.expires,
        }
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        match self {
            Self::Root => {
                Decision::Allowed { sudo: true, pattern: None, granting: Granting::ROOT, listing: Listing::default() }
            }
            Self::Rules(rules) => rules.decide(request),
        }
    }

    /// What may be done on a path, as `sys/capabilities` shows it: `root`, `deny`, or the words in order. Whether the
    /// path can be listed, its directory tells, as when it is listed.
    #[must_use]
    pub fn capabilities(&self, path: AskedPath<'_>, directory: AskedPath<'_>) -> Vec<Capability> {
        match self {
            Self::Root => vec![Capability::Root],
            Self::Rules(rules) => rules.capabilities(path, directory),
        }
    }

    /// Every pattern and what it comes to. Root's are not written down.
    pub fn patterns(&self) -> impl Iterator<Item = ResultantRule<'_>> {
        let rules = match self {
            Self::Root => None,
            Self::Rules(rules) => Some(rules),
        };
        rules.into_iter().flat_map(|rules| rules.matcher.iter()).map(|(pattern, permission)| {
            let words: Vec<Capability> = permission.capabilities.iter().collect();
            ResultantRule {
                pattern,
                capabilities: if words.is_empty() { vec![Capability::Deny] } else { words },
                allowed: &permission.constraints.allowed,
                denied: &permission.constraints.denied,
                required: &permission.constraints.required,
                min_wrapping_ttl: permission.min_wrapping_ttl,
                max_wrapping_ttl: permission.max_wrapping_ttl,
            }
        })
    }

    /// Whether everything may be done.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        matches!(self, Self::Root)
    }

    /// Whether something at or below a path may be used in any way: what decides whether a mount is shown.
    #[must_use]
    pub fn reaches_below(&self, path: &str) -> bool {
        match self {
            Self::Root => true,
            Self::Rules(rules) => rules.reaches_below(path),
        }
    }
}

impl Rules {
    fn compile(policies: &[Arc<Policy>], holder: &Holder<'_>) -> Self {
        let mut patterns: BTreeMap<String, Permission> = BTreeMap::new();
        let mut expires: Option<Timestamp> = None;
        let mut lasts = |end: Option<Timestamp>| {
            let Some(end) = end else { return true };
            let is_over = end <= holder.now;
            expires = if is_over { expires } else { Some(expires.map_or(end, |known| known.min(end))) };
            !is_over
        };
        for policy in policies {
            if !lasts(policy.expires) {
                continue;
            }
            for rule in &policy.rules {
                if !lasts(rule.expires) {
                    continue;
                }
                let pattern = match (&rule.template, holder.identity) {
                    (None, _) => rule.pattern.clone(),
                    (Some(template), Some(identity)) => {
                        let denies = rule.capabilities.contains(Capability::Deny);
                        let Some(filled) = template.fill(identity, policy.trusted, denies) else { continue };
                        filled
                    }
                    // A placeholder that nobody fills in grants nothing, and denies nothing (DR-11).
                    (Some(_), None) => continue,
                };
                patterns.entry(pattern).or_default().unite(&policy.name, rule);
            }
        }
        let capitals = patterns.keys().filter(|pattern| pattern.to_lowercase() != **pattern).cloned().collect();
        Self { matcher: Matcher::new(patterns), capitals, expires }
    }

    /// The permission that a path comes to. For LIST and SCAN the directory's own patterns come first, with their slash;
    /// the path without it is a fallback for directories that no pattern names (LST-01).
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

    /// Every pattern that matches a path, the most specific first, with what it comes to.
    pub(crate) fn matching(&self, path: AskedPath<'_>) -> Vec<(&str, &Permission)> {
        let read =
            |text: &str| Pattern::new(&path.folds_after.map_or_else(|| text.to_owned(), |at| fold_after(text, at)));
        let mut found: Vec<(Pattern, (&str, &Permission))> = self
            .matcher
            .iter()
            .map(|(text, permission)| (read(text), (text, permission)))
            .filter(|(pattern, _)| pattern.matches(path.text))
            .collect();
        found.sort_by(|(a, _), (b, _)| specificity(b, a));
        found.into_iter().map(|(_, found)| found).collect()
    }

    fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        let Some(needed) = Capability::needed_by(request.operation) else {
            let (granting, listing) = (Granting::NOBODY, Listing::default());
            return Decision::Allowed { sudo: false, pattern: None, granting, listing };
        };
        let Some((pattern, permission)) = self.permission(request.path, request.operation.is_of_directory()) else {
            return Decision::Denied(Denial::NoRule);
        };
        let sources = permission.sources.as_slice();
        match permission.objection(request, needed) {
            Some(reason) => Decision::Denied(Denial::Rule { pattern, sources, reason }),
            None => Decision::Allowed {
                sudo: permission.capabilities.contains(Capability::Sudo),
                pattern: Some(pattern),
                granting: Granting { sources, needed: Some(needed), is_root: false },
                listing: if request.operation.is_of_directory() { permission.listing() } else { Listing::default() },
            },
        }
    }

    fn capabilities(&self, path: AskedPath<'_>, directory: AskedPath<'_>) -> Vec<Capability> {
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

    fn reaches_below(&self, path: &str) -> bool {
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
    /// Adds a rule of the same pattern.
    fn unite(&mut self, policy: &str, rule: &Rule) {
        let least = |a: u64, b: u64| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
        self.capabilities = self.capabilities.union(rule.capabilities);
        self.constraints.merge(&rule.constraints);
        self.min_wrapping_ttl = least(self.min_wrapping_ttl, rule.min_wrapping_ttl);
        self.max_wrapping_ttl = least(self.max_wrapping_ttl, rule.max_wrapping_ttl);
        self.pagination_limit = [self.pagination_limit, rule.pagination_limit].into_iter().flatten().min();
        // The first filter stands, as in the reference: there is no filter that both come to.
        self.keys_filter = self.keys_filter.take().or_else(|| rule.keys_filter.clone());
        if rule.capabilities.contains(Capability::Subscribe) {
            self.event_types.extend(rule.event_types.iter().cloned());
        }
        let (policy, position, grants) = (policy.to_owned(), rule.position, rule.capabilities);
        self.sources.push(Source { policy, position, grants });
    }

    /// What it has against a request that needs a capability.
    fn objection(&self, request: &Request<'_>, needed: Capability) -> Option<Reason<'_>> {
        if self.capabilities.contains(Capability::Deny) {
            return Some(Reason::Explicit);
        }
        if !self.capabilities.contains(needed) {
            return Some(Reason::Missing(needed));
        }
        if request.operation == Operation::Subscribe {
            return (!self.is_told_of(request.event_type)).then_some(Reason::EventType);
        }
        if !self.permits_wrapping(request.wrap_ttl_seconds) {
            return Some(Reason::Wrapping { min: self.min_wrapping_ttl, max: self.max_wrapping_ttl });
        }
        let none = Map::new();
        let parameters = request.parameters.unwrap_or(Parameters { sent: &none, from_query: &[], fields: &[] });
        let objection = if request.operation.carries_parameters() {
            self.constraints.objection(&parameters).map(Reason::Parameters)
        } else if request.operation.is_of_directory() {
            self.objection_to_page(&parameters)
        } else {
            None
        };
        let lacks_sudo = request.is_protected && !self.capabilities.contains(Capability::Sudo);
        objection.or_else(|| lacks_sudo.then_some(Reason::Protected))
    }

    /// Of a listing that is bounded, `limit` must not ask for more: no form of it is "all" (ACL-10). Without one, or with
    /// `0` or `max`, the bound is the limit.
    fn objection_to_page(&self, parameters: &Parameters<'_>) -> Option<Reason<'_>> {
        let bound = self.pagination_limit?;
        let asked = match parameters.sent.get("limit") {
            None | Some(Body::Null) if self.constraints.requires("limit") => {
                return Some(Reason::Parameters(Objection::Missing("limit")));
            }
            None | Some(Body::Null) => return None,
            Some(Body::String(text)) if text.as_str() == "max" => return None,
            Some(Body::String(text)) => text.as_str().trim().parse().ok(),
            Some(Body::Number(number)) => number.as_i64(),
            Some(_) => None,
        };
        let fits = asked.and_then(|asked| usize::try_from(asked).ok()).is_some_and(|asked| asked <= bound);
        (!fits).then_some(Reason::Pagination(bound))
    }

    /// Whether events of a type are told: of one that is not known, none is.
    fn is_told_of(&self, event_type: Option<&str>) -> bool {
        event_type.is_some_and(|kind| self.event_types.iter().any(|pattern| matches_glob(pattern, kind)))
    }

    const fn listing(&self) -> Listing<'_> {
        Listing { limit: self.pagination_limit, keys_filter: self.keys_filter.as_ref() }
    }

    fn permits_wrapping(&self, asked: Option<u64>) -> bool {
        let (min, max) = (self.min_wrapping_ttl, self.max_wrapping_ttl);
        if min == 0 && max == 0 {
            return true;
        }
        asked.is_some_and(|ttl| ttl >= min && (max == 0 || ttl <= max) && (max == 0 || max >= min))
    }
}
