//! Token roles: which tokens may be made by whom, apart from what the maker may do.
//!
//! Whoever may write to `auth/token/create/ROLE` gets what the role allows, be it more than the caller has; except `root`, which
//! only root has to give. Deliberately absent: making tokens, which is the token engine's.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_policy::matches_glob;
use tresor_record::Record;

use crate::cached::every_name;
use crate::keys;

/// A token role as it is stored.
#[derive(Record, Default)]
#[record(kind = "token-role", version = 1)]
pub struct TokenRole {
    /// Policies that its tokens may have.
    pub allowed_policies: Vec<String>,
    /// The same, by patterns with `*`.
    pub allowed_policies_glob: Vec<String>,
    /// Policies that none of its tokens has.
    pub disallowed_policies: Vec<String>,
    /// The same, by patterns with `*`.
    pub disallowed_policies_glob: Vec<String>,
    /// Whether it makes orphans.
    pub orphan: bool,
    /// Whether its tokens can be renewed.
    pub renewable: bool,
    /// The end of the path that makes its tokens.
    pub path_suffix: String,
    /// Kind of its tokens, by its word on the wire.
    pub token_type: String,
    /// Aliases that its tokens may be of, or patterns.
    pub allowed_entity_aliases: Option<Vec<String>>,
    /// Period of its tokens; zero means none.
    pub period: Duration,
    /// Longest life of its tokens, whatever the mount says; zero means none.
    pub explicit_max_ttl: Duration,
    /// How often its tokens may be used; zero means no limit.
    pub num_uses: u64,
    /// Addresses that its tokens may be used from; empty means everywhere.
    pub bound_cidrs: Vec<String>,
    /// Whether the policy `default` is left out.
    pub no_default_policy: bool,
    /// Which settings were written by their older names; they are shown by those too.
    pub older_names: BTreeSet<String>,
}

impl TokenRole {
    /// The role of this name.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn load(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = txn.read(&key(namespace, name)?).map_err(fault)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// Stores it under this name.
    ///
    /// # Errors
    /// A refusal of a name that cannot be stored, and of what no batch token has.
    pub fn store(&self, txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
        self.check()?;
        txn.write(&key(namespace, name)?, &self.encode()).map_err(fault)
    }

    /// Removes the role of this name; removing nothing is fine.
    ///
    /// # Errors
    /// As [`TokenRole::store`].
    pub fn delete(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
        txn.delete(&key(namespace, name)?).map_err(fault)
    }

    /// The names of all roles, in order.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn names(txn: &mut Txn, namespace: &NamespaceId) -> Result<Vec<String>, Fault> {
        let prefix = keys::token_roles(namespace).map_err(fault)?;
        every_name(txn, &prefix).map_err(fault)
    }

    /// Whether it says itself which policies its tokens may have.
    #[must_use]
    pub fn limits_policies(&self) -> bool {
        let lists = [
            &self.allowed_policies,
            &self.allowed_policies_glob,
            &self.disallowed_policies,
            &self.disallowed_policies_glob,
        ];
        lists.iter().any(|list| !list.is_empty())
    }

    /// The policies of a token, of those that are asked for, or of the parent's.
    ///
    /// # Errors
    /// A refusal of what it does not allow.
    pub fn policies(&self, asked: &[String], no_default: bool, parent: &[String]) -> Result<Vec<String>, Fault> {
        let is_disallowed = |policy: &str| is_among(policy, &self.disallowed_policies, &self.disallowed_policies_glob);
        let adds_default = !no_default && !self.no_default_policy && !is_disallowed("default");
        let is_limited = !self.allowed_policies.is_empty() || !self.allowed_policies_glob.is_empty();
        let allowed = sanitized(&self.allowed_policies, adds_default);
        let mut policies = if !asked.is_empty() {
            sanitized(asked, adds_default)
        } else if is_limited {
            allowed.clone()
        } else {
            sanitized(parent, adds_default)
        };
        if is_limited && !policies.iter().all(|policy| is_among(policy, &allowed, &self.allowed_policies_glob)) {
            return Err(Fault::invalid(format!(
                "token policies ({}) must be subset of the role's allowed policies ({}) or glob policies ({})",
                quoted(&policies),
                quoted(&allowed),
                quoted(&self.allowed_policies_glob)
            )));
        }
        if let Some(policy) = policies.iter().find(|policy| is_disallowed(policy)) {
            return Err(Fault::invalid(format!("token policy {policy:?} is disallowed by this role")));
        }
        if no_default {
            policies.retain(|policy| policy != "default");
        }
        Ok(policies)
    }

    /// Whether a token of this alias may be made.
    #[must_use]
    pub fn allows_alias(&self, alias: &str) -> bool {
        let alias = alias.to_lowercase();
        self.allowed_entity_aliases.iter().flatten().any(|allowed| matches_glob(allowed, &alias))
    }

    fn check(&self) -> Result<(), Fault> {
        let tokens = match self.token_type.as_str() {
            "batch" if !self.orphan => "non-orphan tokens",
            "batch" if !self.period.is_zero() => "periodic tokens",
            "batch" if self.renewable => "renewable tokens",
            "batch" if !self.explicit_max_ttl.is_zero() => "tokens with an explicit max TTL",
            _ => return Ok(()),
        };
        Err(Fault::invalid(format!("'token_type' cannot be 'batch' when role is set to generate {tokens}")))
    }
}

/// The lesser of two longest lives, of which zero is none.
#[must_use]
pub fn lesser(one: Duration, other: Duration) -> Duration {
    if one.is_zero() || other.is_zero() { one.max(other) } else { one.min(other) }
}

/// Names of policies as they are compared: `root` is alone.
fn sanitized(policies: &[String], adds_default: bool) -> Vec<String> {
    let mut policies: Vec<String> =
        policies.iter().map(|policy| policy.trim().to_lowercase()).filter(|policy| !policy.is_empty()).collect();
    if policies.iter().any(|policy| policy == "root") {
        return vec!["root".to_owned()];
    }
    if adds_default {
        policies.push("default".to_owned());
    }
    policies.sort_unstable();
    policies.dedup();
    policies
}

fn is_among(policy: &str, names: &[String], globs: &[String]) -> bool {
    names.iter().any(|name| name == policy) || globs.iter().any(|glob| matches_glob(glob, policy))
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn key(namespace: &NamespaceId, name: &str) -> Result<StorageKey, Fault> {
    keys::token_roles(namespace).and_then(|at| at.key(name)).map_err(fault)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_role_gives_what_it_allows_and_nothing_else() {
        let role =
            TokenRole { allowed_policies: names("a b"), allowed_policies_glob: names("dev-*"), ..TokenRole::default() };
        assert_eq!(role.policies(&[], false, &names("x")).unwrap(), names("a b default"));
        assert_eq!(role.policies(&names("A dev-1"), true, &names("x")).unwrap(), names("a dev-1"));
        for refused in ["x", "prod-1", "a x", "root"] {
            assert!(role.policies(&names(refused), false, &names("root")).is_err(), "{refused}");
        }
        let role = TokenRole {
            disallowed_policies: names("a"),
            disallowed_policies_glob: names("p*"),
            ..TokenRole::default()
        };
        assert_eq!(role.policies(&names("b"), false, &names("a")).unwrap(), names("b default"));
        assert_eq!(role.policies(&[], false, &names("c")).unwrap(), names("c default"));
        for refused in ["a", "prod", "b a"] {
            assert!(role.policies(&names(refused), false, &names("root")).is_err(), "{refused}");
        }
        assert!(role.policies(&[], false, &names("a")).is_err(), "what the parent has is asked for, too");
        let role = TokenRole { disallowed_policies: names("default"), ..TokenRole::default() };
        assert_eq!(role.policies(&names("b"), false, &[]).unwrap(), names("b"));
    }

    #[test]
    fn of_two_longest_lives_the_lesser_counts_and_zero_is_none() {
        let [none, short, long] = [0, 5, 9].map(Duration::from_secs);
        assert_eq!(
            [lesser(none, none), lesser(none, long), lesser(short, none), lesser(long, short)],
            [none, long, short, short]
        );
    }
}
