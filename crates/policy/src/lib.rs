//! ACL policies: text to rules, rules to a matcher, a request to a decision. Pure functions.
//!
//! Everything is denied that no rule grants. The most specific pattern that matches decides alone ([`matcher`] holds
//! the order); rules of the same pattern in several policies are united, and a denial among them wins. Enforcement,
//! `sys/capabilities` and explanations ask one function (LST-06). What policies say is looked through (`lint`) and tried
//! (`cases`) here too; password policies share the grammar and nothing else. Deliberately absent: storage, tokens and a
//! clock; the time, and the identity that fills in templates, are data.

mod capability;
mod cases;
mod decision;
mod default;
mod explain;
mod keys_filter;
mod lint;
mod matcher;
mod name;
mod overlap;
mod parameters;
mod parse;
mod password;
mod template;
mod wrapping;

pub use capability::{Capabilities, Capability};
pub use cases::{Broken, Case, CaseError, Cases};
pub use decision::{
    AskedPath, Decision, Denial, Granting, Holder, Listing, PolicySet, Reason, Request, ResultantRule, Rules, Source,
};
pub use default::DEFAULT_POLICY_TEXT;
pub use explain::{Explanation, Matched, rule_text};
pub use keys_filter::KeysFilter;
pub use lint::{Finding, KV2_SEGMENTS, Severity, lint};
pub use name::{NameError, PolicyName};
pub use parameters::{Objection, Parameters, matches_glob};
pub use parse::{Policy, PolicyError, Rule};
pub use password::{Draw, PasswordError, PasswordPolicy};
pub use template::{Alias, Group, Identity, Template, Trusted, Unbalanced};
/// The time, as holders of policies know it.
pub use tresor_model::Timestamp;
pub use wrapping::{WRAPPING_POLICY, WRAPPING_POLICY_TEXT};
