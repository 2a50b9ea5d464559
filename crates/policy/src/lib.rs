//! ACL policies: text to rules, rules to a matcher, a request to a decision. Pure functions.
//!
//! Everything is denied that no rule grants. The most specific pattern that matches decides alone ([`matcher`] holds
//! the order); rules of the same pattern in several policies are united, and a denial among them wins. Enforcement,
//! `sys/capabilities` and explanations ask one function (LST-06). Deliberately absent: storage, tokens, time, and
//! the values of templates: a rule with a placeholder grants nothing until somebody supplies a value (DR-11).

mod capability;
mod decision;
mod default;
mod matcher;
mod name;
mod parameters;
mod parse;
mod wrapping;

pub use capability::{Capabilities, Capability};
pub use decision::{AskedPath, Decision, Denial, Granting, PolicySet, Request};
pub use default::DEFAULT_POLICY_TEXT;
pub use name::{NameError, PolicyName};
pub use parameters::{Parameters, matches_glob};
pub use parse::{Policy, PolicyError, Rule};
pub use wrapping::{WRAPPING_POLICY, WRAPPING_POLICY_TEXT};
