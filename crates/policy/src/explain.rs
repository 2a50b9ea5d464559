//! Why a request is allowed or denied, in words and in facts, and what would grant it.
//!
//! The decision is the one of [`PolicySet::decide`], asked once: there is no second evaluation that could differ. What is
//! added is what else matched and was not asked, and the rule that would change the answer. Deliberately absent: tokens,
//! how a policy got attached, mounts.

use tresor_model::Operation;

use crate::capability::{Capabilities, Capability};
use crate::decision::{AskedPath, Decision, Denial, PolicySet, Reason, Request, Source};
use crate::parameters::Objection;

/// A decision and its reasons.
#[derive(Debug)]
pub struct Explanation<'p> {
    /// The decision, as enforcement makes it.
    pub decision: Decision<'p>,
    /// What the operation needs; nothing for help, and `sudo` beside it on protected paths.
    pub needed: Option<Capability>,
    /// The pattern that decided.
    pub rule: Option<Matched<'p>>,
    /// Patterns that match too and decide nothing, the most specific first.
    pub shadowed: Vec<Matched<'p>>,
    /// A rule that grants it when it is added to any policy of the caller; none where nothing has to be added, or
    /// nothing that is added helps.
    pub would_grant: Option<String>,
}

/// A pattern that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'p> {
    /// The pattern.
    pub pattern: &'p str,
    /// What its rules come to together.
    pub capabilities: Capabilities,
    /// Its rules.
    pub sources: &'p [Source],
}

impl PolicySet {
    /// Decides, and says why.
    #[must_use]
    pub fn explain<'p>(&'p self, request: &Request<'_>) -> Explanation<'p> {
        let decision = self.decide(request);
        let needed = Capability::needed_by(request.operation);
        let decided_by = match &decision {
            Decision::Allowed { pattern, .. } => *pattern,
            Decision::Denied(Denial::Rule { pattern, .. }) => Some(*pattern),
            Decision::Denied(Denial::NoRule) => None,
        };
        let mut shadowed = self.matching(request.path);
        if request.operation.is_of_directory()
            && let Some(text) = request.path.text.strip_suffix('/')
        {
            // The path without its slash decides only when nothing matches with it.
            let without = self.matching(AskedPath { text, ..request.path });
            let new: Vec<_> = without.into_iter().filter(|found| !shadowed.contains(found)).collect();
            shadowed.extend(new);
        }
        let is_decider = |found: &Matched<'_>| Some(found.pattern) == decided_by;
        let rule = shadowed.iter().copied().find(|found| is_decider(found));
        shadowed.retain(|found| !is_decider(found));
        let would_grant = remedy(&decision, request, needed);
        Explanation { decision, needed, rule, shadowed, would_grant }
    }

    fn matching(&self, path: AskedPath<'_>) -> Vec<Matched<'_>> {
        let Self::Rules(rules) = self else { return Vec::new() };
        let matched = rules.matching(path).into_iter().map(|(pattern, permission)| Matched {
            pattern,
            capabilities: permission.capabilities,
            sources: &permission.sources,
        });
        matched.collect()
    }
}

/// The rule that would grant a denied request. One for the pattern that decided is united with it, so nothing that the
/// caller has on that path is lost; a pattern of its own would decide alone.
fn remedy(decision: &Decision<'_>, request: &Request<'_>, needed: Option<Capability>) -> Option<String> {
    let Decision::Denied(denial) = decision else { return None };
    let needed = needed?;
    let (pattern, reason) = match denial {
        Denial::NoRule => (request.path.text, None),
        Denial::Rule { pattern, reason, .. } => (*pattern, Some(reason)),
    };
    let capabilities: &[Capability] = match reason {
        // What is denied stays denied whatever is added; and no addition loosens what a rule asks for.
        Some(Reason::Explicit | Reason::Parameters(_) | Reason::Wrapping { .. } | Reason::Pagination(_)) => {
            return None;
        }
        Some(Reason::Protected) => &[Capability::Sudo],
        Some(Reason::EventType) => &[needed],
        Some(Reason::Missing(_)) | None if request.is_protected => &[needed, Capability::Sudo],
        Some(Reason::Missing(_)) | None => &[needed],
    };
    // The text of a pattern that is no path, or of a path with characters that end a text, is not shown as a rule.
    if pattern.contains(['"', '\\', '\n']) || (reason.is_none() && pattern.ends_with('*')) {
        return None;
    }
    let rule = rule_text(pattern, capabilities);
    if request.operation != Operation::Subscribe {
        return Some(rule);
    }
    let kind = request.event_type.filter(|kind| !kind.contains(['"', '\\', '\n', '*']))?;
    Some(rule.replacen("]\n}", &format!("]\n  subscribe_event_types = [\"{kind}\"]\n}}"), 1))
}

/// A rule as it is written.
#[must_use]
pub fn rule_text(pattern: &str, capabilities: &[Capability]) -> String {
    let words: Vec<String> = capabilities.iter().map(|one| format!("\"{}\"", one.name())).collect();
    format!("path \"{pattern}\" {{\n  capabilities = [{}]\n}}\n", words.join(", "))
}

impl Explanation<'_> {
    /// The word for what decided, for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match &self.decision {
            Decision::Allowed { pattern: Some(_), .. } => "granted",
            Decision::Allowed { pattern: None, .. } if self.needed.is_none() => "free",
            Decision::Allowed { pattern: None, .. } => "root",
            Decision::Denied(Denial::NoRule) => "no-rule",
            Decision::Denied(Denial::Rule { reason, .. }) => match reason {
                Reason::Explicit => "denied",
                Reason::Missing(_) => "missing-capability",
                Reason::Parameters(_) => "parameters",
                Reason::Wrapping { .. } => "wrapping",
                Reason::EventType => "event-type",
                Reason::Pagination(_) => "pagination",
                Reason::Protected => "protected",
            },
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn sentence(&self, operation: Operation, path: &str) -> String {
        let what = format!("`{}` on `{path}`", operation.name());
        match &self.decision {
            Decision::Allowed { pattern: Some(pattern), .. } => {
                format!("{what} is granted by the rule for `{pattern}`")
            }
            Decision::Allowed { pattern: None, .. } if self.needed.is_none() => format!("{what} needs no rule"),
            Decision::Allowed { pattern: None, .. } => format!("{what} is granted by the policy `root`"),
            Decision::Denied(Denial::NoRule) => format!("{what} is denied: no rule of these policies matches the path"),
            Decision::Denied(Denial::Rule { pattern, reason, .. }) => {
                let decides = format!("{what} is denied: the rule for `{pattern}`, the most specific that matches,");
                match reason {
                    Reason::Explicit => format!("{decides} says `deny`, which no other rule lifts"),
                    Reason::Missing(capability) => format!("{decides} does not grant `{}`", capability.name()),
                    Reason::Parameters(Objection::Missing(name)) => {
                        format!("{decides} requires the parameter `{name}`")
                    }
                    Reason::Parameters(Objection::Refused(Some(name))) => {
                        format!("{decides} does not allow what the parameter `{name}` holds")
                    }
                    Reason::Parameters(Objection::Refused(None)) => {
                        format!("{decides} does not allow one of the parameters that are sent")
                    }
                    Reason::Wrapping { min, max: 0 } => {
                        format!("{decides} asks for a wrapped answer, for at least {min} s")
                    }
                    Reason::Wrapping { min, max } => {
                        format!("{decides} asks for a wrapped answer, for {min} to {max} s")
                    }
                    Reason::Pagination(bound) => format!("{decides} lets list at most {bound} names at a time"),
                    Reason::EventType => {
                        format!("{decides} does not name this type of event in `subscribe_event_types`")
                    }
                    Reason::Protected => format!("{decides} does not grant `sudo`, and the path is protected"),
                }
            }
        }
    }
}
