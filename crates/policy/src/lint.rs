//! What a policy says that its author hardly meant: findings with their place.
//!
//! Nothing here changes what is enforced. Deliberately absent: whether mounts exist; which of them are KV version 2 is
//! handed in, or read off the rules themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use tresor_hcl::Position;
use tresor_model::{Operation, Timestamp};

use crate::capability::Capability;
use crate::decision::{AskedPath, Holder, PolicySet, Request};
use crate::matcher::{Pattern, specificity};
use crate::overlap::{common, covers};
use crate::parse::{Policy, Rule};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may well be meant.
    Note,
    /// It is hardly meant.
    Warning,
    /// The text is no policy.
    Error,
}

impl Severity {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub position: Position,
    /// How much it matters.
    pub severity: Severity,
    /// What kind it is, for programs.
    pub kind: &'static str,
    /// What, for people.
    pub text: String,
}

/// What the first segment below a mount of KV version 2 can be.
pub const KV2_SEGMENTS: [&str; 8] =
    ["config", "data", "delete", "destroy", "detailed-metadata", "metadata", "subkeys", "undelete"];

/// How many rules are compared with each other.
const COMPARED_MAX: usize = 300;

/// Looks a policy's text through. `kv2` are the paths of mounts that hold KV version 2, each ending in a slash.
#[must_use]
pub fn lint(text: &str, kv2: &[String]) -> Vec<Finding> {
    let policy = match Policy::parse("", text) {
        Ok(policy) => policy,
        Err(error) => {
            let text = error.to_string();
            // The place stands in front of what people read.
            let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text).to_owned();
            return vec![Finding { position: error.position(), severity: Severity::Error, kind: "no-policy", text }];
        }
    };
    let mut kv2: BTreeSet<String> = kv2.iter().cloned().collect();
    kv2.extend(policy.rules.iter().filter_map(|rule| likely_kv2(&rule.pattern)));
    // As it is before anything in it has ended.
    let holder = Holder { identity: None, now: Timestamp::from_nanos(i64::MIN) };
    let set = PolicySet::compile(&[Arc::new(policy.clone())], &holder);
    let mut findings: Vec<Finding> = policy.rules.iter().flat_map(|rule| of_rule(rule, &kv2)).collect();
    for (at, rule) in policy.rules.iter().enumerate() {
        let earlier = policy.rules.iter().take(at).find(|earlier| earlier.pattern == rule.pattern);
        if let Some(earlier) = earlier {
            let text = format!(
                "`{}` has a rule at {} already; both are united, and a `deny` wins",
                rule.pattern, earlier.position
            );
            findings.push(finding(rule, Severity::Note, "repeated", text));
        }
        if at < COMPARED_MAX {
            findings.extend(policy.rules.iter().take(COMPARED_MAX).filter_map(|other| shadow(rule, other, &set)));
        }
    }
    findings.sort_by_key(|finding| finding.position);
    findings
}

fn finding(rule: &Rule, severity: Severity, kind: &'static str, text: impl Into<String>) -> Finding {
    Finding { position: rule.position, severity, kind, text: text.into() }
}

/// The mount of a pattern that names `data/` or `metadata/` below one segment.
fn likely_kv2(pattern: &str) -> Option<String> {
    let (mount, rest) = pattern.split_once('/')?;
    let first = rest.split('/').next()?;
    let is_system = matches!(mount, "sys" | "auth" | "identity" | "cubbyhole" | "+" | "");
    (!is_system && rest.contains('/') && matches!(first, "data" | "metadata")).then(|| format!("{mount}/"))
}

fn of_rule(rule: &Rule, kv2: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |kind, text: String| found.push(finding(rule, Severity::Warning, kind, text));
    let pattern = rule.pattern.as_str();
    let granted: Vec<Capability> = Capability::ALL.into_iter().filter(|one| rule.capabilities.contains(*one)).collect();
    if granted.is_empty() {
        warn("grants-nothing", "the rule grants nothing, and hides what less specific rules grant".to_owned());
    }
    if granted.contains(&Capability::Deny) && granted.len() > 1 {
        warn("deny-and-more", "`deny` makes the other capabilities of this rule mean nothing".to_owned());
    }
    for placeholder in rule.template.iter().flat_map(|template| template.unknown()) {
        warn("unknown-placeholder", format!("`{{{{{placeholder}}}}}` names nothing, so the rule never applies"));
    }
    if pattern.starts_with("v1/") {
        warn("api-prefix", "paths are written without `v1/`, so the rule matches nothing".to_owned());
    }
    let body = pattern.strip_suffix('*').unwrap_or(pattern);
    if rule.template.is_none() && body.contains('*') {
        warn(
            "dead-glob",
            "`*` is a wildcard at the end only; elsewhere it is a letter (`+` stands for one segment)".to_owned(),
        );
    }
    if body.split('/').any(|segment| segment.contains('+') && segment != "+") {
        warn(
            "dead-wildcard",
            "`+` is a wildcard as a whole segment only; beside other letters it is a letter".to_owned(),
        );
    }
    if pattern.ends_with("+*") {
        warn("plus-glob", "`+*` is refused by other servers; write `+/*` for what lies below a segment".to_owned());
    }
    let lists = rule.capabilities.contains(Capability::List) || rule.capabilities.contains(Capability::Scan);
    if pattern.ends_with('/')
        && granted.iter().any(|one| !matches!(one, Capability::List | Capability::Scan | Capability::Deny))
    {
        warn("only-the-directory", format!("only listings ask of `{pattern}`; what lies below it is `{pattern}*`"));
    }
    if rule.pagination_limit.is_some() && !lists {
        warn("no-listing", "`pagination_limit` has no effect without `list` or `scan`".to_owned());
    }
    let subscribes = granted.contains(&Capability::Subscribe);
    if subscribes && rule.event_types.is_empty() {
        warn("no-event-types", "`subscribe` tells of nothing without `subscribe_event_types`".to_owned());
    }
    if !subscribes && !rule.event_types.is_empty() {
        warn("no-subscription", "`subscribe_event_types` has no effect without `subscribe`".to_owned());
    }
    found.extend(kv2.iter().filter_map(|mount| of_kv2(rule, mount)));
    found
}

/// What is wrong with a rule below a mount of KV version 2.
fn of_kv2(rule: &Rule, mount: &str) -> Option<Finding> {
    let rest = rule.pattern.strip_prefix(mount)?;
    let first = rest.split('/').next().unwrap_or_default();
    if first.is_empty() || matches!(first, "*" | "+" | "+*") {
        return None;
    }
    let name = first.strip_suffix('*').unwrap_or(first);
    let is_open = first.ends_with('*');
    if !KV2_SEGMENTS.iter().any(|known| *known == name || (is_open && known.starts_with(name))) {
        let text = format!(
            "`{mount}` holds KV version 2, whose secrets lie below `{mount}data/` (lists and versions below \
             `{mount}metadata/`): write `{mount}data/{rest}`"
        );
        return Some(finding(rule, Severity::Warning, "kv2-path", text));
    }
    let grants = |one| rule.capabilities.contains(one);
    if name == "data" && grants(Capability::List) && !rule.capabilities.contains(Capability::Deny) {
        let text = format!("KV version 2 lists below `{mount}metadata/`: `list` has no effect below `{mount}data/`");
        return Some(finding(rule, Severity::Warning, "kv2-list", text));
    }
    let acts = matches!(name, "delete" | "undelete" | "destroy");
    if acts && !grants(Capability::Update) && !grants(Capability::Deny) && !grants(Capability::Subscribe) {
        let text =
            format!("versions are deleted and brought back by writing to `{mount}{name}/`, which needs `update`");
        return Some(finding(rule, Severity::Warning, "kv2-action", text));
    }
    None
}

/// What a rule says that a more specific one takes from it.
fn shadow(rule: &Rule, other: &Rule, set: &PolicySet) -> Option<Finding> {
    let (own, better) = (Pattern::new(&rule.pattern), Pattern::new(&other.pattern));
    if rule.template.is_some() || other.template.is_some() || !specificity(&better, &own).is_gt() {
        return None;
    }
    let path = common(&rule.pattern, &other.pattern).filter(|path| own.matches(path) && better.matches(path))?;
    // Of rules of one pattern the first speaks for all; and a third rule may decide on that path.
    let request = Request {
        path: AskedPath::exact(&path),
        operation: Operation::Read,
        parameters: None,
        wrap_ttl_seconds: None,
        is_protected: false,
        event_type: None,
    };
    let decider = set.explain(&request).rule.filter(|decider| decider.pattern == other.pattern)?;
    if decider.sources.first().map(|source| source.position) != Some(other.position) {
        return None;
    }
    let is_within = covers(&rule.pattern, &other.pattern);
    let at = other.position;
    let by = &other.pattern;
    if rule.capabilities.contains(Capability::Deny) {
        if decider.capabilities.contains(Capability::Deny) {
            return None;
        }
        // An exception to a denial is often meant; one that only crosses it hardly ever.
        let severity = if is_within { Severity::Note } else { Severity::Warning };
        let text = format!(
            "this `deny` does not hold for `{path}`: the rule for `{by}` ({at}) is more specific and decides alone"
        );
        return Some(finding(rule, severity, "shadowed-deny", text));
    }
    if decider.capabilities.contains(Capability::Deny) {
        return None;
    }
    let lost: Vec<&str> =
        rule.capabilities.iter().filter(|one| !decider.capabilities.contains(*one)).map(Capability::name).collect();
    if lost.is_empty() {
        return None;
    }
    let lost = lost.join("`, `");
    let text = format!(
        "`{lost}` of this rule is not granted on `{path}`: the rule for `{by}` ({at}) is more specific and decides alone"
    );
    Some(finding(rule, Severity::Warning, "shadowed", text))
}
