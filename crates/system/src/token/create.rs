//! Making tokens: children of the caller's token, and orphans.
//!
//! A child never has more than its parent: policies, addresses and life are subsets unless the caller has `sudo` on
//! the path (ACL-11, PT-05). A root token is made by a root token only.

use std::collections::BTreeMap;

use tresor_core::tokens::terms::{Limits, decide};
use tresor_core::tokens::{NewToken, auth_block};
use tresor_engine::answer::Token;
use tresor_engine::{Cx, Warned, Widened};
use tresor_model::Fault;
use tresor_policy::WRAPPING_POLICY;
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{CommaList, Input, Seconds};

use super::TokenStore;

/// What the token is to be.
#[derive(Input)]
pub(super) struct Create {
    /// The token itself; for callers with `sudo` only.
    id: Option<SecretString>,
    /// Its policies; without any, those of the caller.
    policies: Option<CommaList>,
    /// What is known of the holder.
    #[input(alias = "metadata")]
    meta: Option<BTreeMap<String, String>>,
    /// Make an orphan; for callers with `sudo` only.
    #[input(default = "false")]
    no_parent: bool,
    /// Leave the policy `default` out.
    #[input(default = "false")]
    no_default_policy: bool,
    /// Whether it can be renewed.
    #[input(default = "true")]
    renewable: bool,
    /// Its life.
    #[input(alias = "lease")]
    ttl: Option<Seconds>,
    /// Its kind; only `service` is available.
    #[input(name = "type", default = "")]
    kind: String,
    /// Its longest life.
    explicit_max_ttl: Option<Seconds>,
    /// Shown in audit records.
    #[input(default = "")]
    display_name: String,
    /// How often it may be used; 0 means as often as one likes.
    #[input(default = "0")]
    num_uses: i64,
    /// Renewable for ever by so much; for callers with `sudo` only.
    period: Option<Seconds>,
    /// Needs identities.
    entity_alias: Option<String>,
}

pub(super) async fn child(store: &TokenStore, cx: Cx<'_>, input: Create) -> Result<Warned<Token>, Fault> {
    let orphan = input.no_parent;
    if orphan && !cx.caller.has_sudo {
        return Err(Fault::invalid("root or sudo privileges required to create orphan token"));
    }
    create(store, cx, input, orphan)
}

pub(super) async fn orphan(store: &TokenStore, cx: Cx<'_>, input: Create) -> Result<Warned<Token>, Fault> {
    create(store, cx, input, true)
}

fn create(store: &TokenStore, mut cx: Cx<'_>, input: Create, orphan: bool) -> Result<Warned<Token>, Fault> {
    let parent = store.find_caller(&mut cx)?;
    let sudo = cx.caller.has_sudo;
    if parent.uses_left.is_some() {
        return Err(Fault::invalid("restricted use token cannot generate child tokens"));
    }
    match input.kind.as_str() {
        "" | "service" | "default-service" => {}
        "batch" | "default-batch" => return Err(Fault::invalid("batch tokens are not available")),
        _ => return Err(Fault::invalid("invalid 'type' value")),
    }
    if input.entity_alias.is_some_and(|alias| !alias.is_empty()) {
        return Err(Fault::invalid("'entity_alias' is only allowed in combination with token roles"));
    }
    let num_uses = u64::try_from(input.num_uses).map_err(|_| Fault::invalid("number of uses cannot be negative"))?;
    let period = input.period.map(|period| period.0).unwrap_or_default();
    if !period.is_zero() && !sudo {
        return Err(Fault::invalid("root or sudo privileges required to create periodic token"));
    }
    let id = match input.id.filter(|id| !id.expose().is_empty()) {
        None => None,
        Some(_) if !sudo => return Err(Fault::invalid("root or sudo privileges required to specify token id")),
        Some(id) => Some(checked_id(&id)?),
    };
    let policies = policies(
        &input.policies.map(|list| list.0).unwrap_or_default(),
        input.no_default_policy,
        &parent.record.policies,
        sudo,
    )?;
    let is_root = policies.iter().any(|policy| policy == "root");

    let mut warnings = Vec::new();
    let explicit_max_ttl = input.explicit_max_ttl.map(|ttl| ttl.0).unwrap_or_default();
    let limits = Limits {
        mount_default: cx.mount.default_lease_ttl,
        mount_max: cx.mount.max_lease_ttl,
        max: std::time::Duration::ZERO,
        explicit_max: explicit_max_ttl,
        period,
    };
    let wish = input.ttl.map(|ttl| ttl.0).filter(|ttl| !ttl.is_zero());
    // Only a root token without an end of its own can have children without an end, and only root ones.
    let endless =
        is_root && wish.is_none() && period.is_zero() && explicit_max_ttl.is_zero() && parent.record.expires.is_none();
    if is_root && !endless && wish.is_none() && period.is_zero() && parent.record.expires.is_some() {
        return Err(Fault::invalid("expiring root tokens cannot create non-expiring root tokens"));
    }
    let ttl = if endless {
        None
    } else {
        let life = decide(wish, &limits, cx.now, cx.now);
        warnings.extend(life.warnings);
        Some(life.ttl)
    };
    let display_name = if input.display_name.is_empty() {
        "token".to_owned()
    } else {
        format!("token-{}", tidy_name(&input.display_name))
    };
    let (now, entropy) = (cx.now, cx.entropy);
    let new = NewToken {
        id,
        namespace: cx.mount.namespace.clone(),
        parent: (!orphan).then(|| parent.clone()),
        policies,
        metadata: input.meta.unwrap_or_default(),
        display_name,
        path: if orphan && !input.no_parent {
            "auth/token/create-orphan".to_owned()
        } else {
            "auth/token/create".to_owned()
        },
        mount: cx.mount.id.clone(),
        ttl,
        renewal_ttl: wish.unwrap_or_default(),
        max_ttl: std::time::Duration::ZERO,
        explicit_max_ttl,
        period,
        num_uses,
        renewable: input.renewable,
        bound_cidrs: parent.record.bound_cidrs.clone(),
    };
    let (token, found) = store.handles.tokens.mint(cx.view.widen(Widened::assertion()), new, now, entropy)?;
    Ok(Warned(Token::new(auth_block(Some(token), &found, now), Widened::assertion()), warnings))
}

fn checked_id(id: &SecretString) -> Result<TokenSecret, Fault> {
    let text = id.expose();
    if text.starts_with("s.") || text.starts_with("hvs.") || text.starts_with("hvb.") || text.starts_with("hvr.") {
        return Err(Fault::invalid("custom token ID cannot have the 'hvs.' prefix"));
    }
    if text.contains('.') {
        return Err(Fault::invalid("custom token ID cannot contain the '.' character"));
    }
    TokenSecret::parse(text).map_err(|_| Fault::invalid("custom token ID is malformed"))
}

/// The policies of the new token: a subset of the parent's, unless the caller has `sudo`.
fn policies(asked: &[String], no_default: bool, parent: &[String], sudo: bool) -> Result<Vec<String>, Fault> {
    let mut policies: Vec<String> =
        asked.iter().map(|policy| policy.trim().to_lowercase()).filter(|policy| !policy.is_empty()).collect();
    if policies.iter().any(|policy| policy == WRAPPING_POLICY) {
        return Err(Fault::invalid(format!("cannot assign policy \"{WRAPPING_POLICY}\"")));
    }
    let parent_is_root = parent.iter().any(|policy| policy == "root");
    let inherits = policies.is_empty();
    if inherits {
        policies = parent.to_vec();
    }
    if policies.iter().any(|policy| policy == "root") {
        if !parent_is_root {
            return Err(Fault::invalid("root tokens may not be created without parent token being root"));
        }
        return Ok(vec!["root".to_owned()]);
    }
    let parent_has_default = parent_is_root || sudo || parent.iter().any(|policy| policy == "default");
    if no_default {
        policies.retain(|policy| policy != "default");
    } else if parent_has_default {
        policies.push("default".to_owned());
    }
    policies.sort_unstable();
    policies.dedup();
    if !parent_is_root && !sudo && !policies.iter().all(|policy| parent.contains(policy)) {
        return Err(Fault::invalid("child policies must be subset of parent"));
    }
    Ok(policies)
}

/// What is not a letter, digit or dash becomes a dash, as the reference shows names.
fn tidy_name(name: &str) -> String {
    name.chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '-' })
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn acl_11_a_child_never_has_more_than_its_parent() {
        assert!(policies(&names("default"), false, &names("a"), false).is_err());
        assert_eq!(policies(&[], false, &names("a"), false).unwrap(), names("a"));
        assert_eq!(policies(&names("a"), false, &names("a default"), false).unwrap(), names("a default"));
        assert!(policies(&names("b"), true, &names("a default"), false).is_err());
        assert_eq!(policies(&names("b"), true, &names("a"), true).unwrap(), names("b"));
        assert!(policies(&names("root"), true, &names("a"), true).is_err());
        assert_eq!(policies(&[], false, &names("root"), true).unwrap(), names("root"));
        assert_eq!(policies(&names("p"), false, &names("root"), true).unwrap(), names("default p"));
    }
}
