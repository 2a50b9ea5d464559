//! Making tokens: children of the caller's token, and orphans.
//!
//! A child never has more than its parent: policies, addresses and life are subsets unless the caller has `sudo` on
//! the path (ACL-11, PT-05). A root token is made by a root token only.

use std::collections::BTreeMap;

use tresor_core::tokens::roles::{TokenRole, lesser};
use tresor_core::tokens::terms::{Limits, decide};
use tresor_core::tokens::{NewToken, auth_block};
use tresor_engine::answer::Token;
use tresor_engine::{Cx, Warned, Widened};
use tresor_model::{Fault, TokenType};
use tresor_policy::WRAPPING_POLICY;
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{CommaList, Input, Seconds};

use super::{TokenStore, roles};

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
    /// Its kind: `service` or `batch`.
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

/// What the token is to be, and the role it is made by.
#[derive(Input)]
pub(super) struct CreateByRole {
    /// The role.
    #[input(path)]
    role_name: String,
    /// The rest.
    #[input(flatten)]
    create: Create,
}

/// By which path a token is made.
#[derive(Clone, Copy)]
enum By<'r> {
    /// Its parent decides.
    Parent,
    /// The same, and it gets none.
    Orphan,
    /// A role decides, which has this name.
    Role(&'r str, &'r TokenRole),
}

pub(super) async fn child(store: &TokenStore, cx: Cx<'_>, input: Create) -> Result<Warned<Token>, Fault> {
    create(store, cx, input, By::Parent)
}

pub(super) async fn orphan(store: &TokenStore, cx: Cx<'_>, input: Create) -> Result<Warned<Token>, Fault> {
    create(store, cx, input, By::Orphan)
}

pub(super) async fn by_role(store: &TokenStore, mut cx: Cx<'_>, input: CreateByRole) -> Result<Warned<Token>, Fault> {
    let name = input.role_name;
    let role = roles::load(&mut cx, &name)?.ok_or_else(|| Fault::invalid(format!("unknown role {name}")))?;
    create(store, cx, input.create, By::Role(&name, &role))
}

fn create(store: &TokenStore, mut cx: Cx<'_>, input: Create, by: By<'_>) -> Result<Warned<Token>, Fault> {
    let parent = store.find_caller(&mut cx)?;
    let sudo = cx.caller.has_sudo;
    // Policies of a namespace above mean nothing here: whoever comes from there may decide, or may not.
    let is_from_above = parent.record.namespace != cx.mount.namespace;
    if is_from_above && !sudo {
        let text = "root or sudo privileges required to directly generate a token in a child namespace";
        return Err(Fault::invalid(text));
    }
    let held: &[String] = if is_from_above { &[] } else { &parent.record.policies };
    let role = if let By::Role(_, role) = by { Some(role) } else { None };
    if parent.is_batch() {
        return Err(Fault::invalid("batch tokens cannot create more tokens"));
    }
    if parent.uses_left.is_some() {
        return Err(Fault::invalid("restricted use token cannot generate child tokens"));
    }
    let kind = kind(&input, role)?;
    if let Some(alias) = input.entity_alias.as_ref().filter(|alias| !alias.is_empty()) {
        return Err(Fault::invalid(match role {
            None => "'entity_alias' is only allowed in combination with token role",
            Some(role) if !role.allows_alias(alias) => "invalid 'entity_alias' value",
            Some(_) => "'entity_alias' needs identities, which are not available",
        }));
    }
    let num_uses = u64::try_from(input.num_uses).map_err(|_| Fault::invalid("number of uses cannot be negative"))?;
    let num_uses = match role.map_or(0, |role| role.num_uses) {
        0 => num_uses,
        most if num_uses == 0 => most,
        most => num_uses.min(most),
    };
    let mut period = input.period.map(|period| period.0).unwrap_or_default();
    if !period.is_zero() && !sudo {
        return Err(Fault::invalid("root or sudo privileges required to create periodic token"));
    }
    let id = match input.id.filter(|id| !id.expose().is_empty()) {
        None => None,
        Some(_) if !sudo => return Err(Fault::invalid("root or sudo privileges required to specify token id")),
        Some(_) if kind == TokenType::Batch => return Err(Fault::invalid("batch tokens cannot have \"id\" set")),
        Some(_) if !cx.mount.namespace.is_root() => {
            return Err(Fault::invalid("token IDs can only be manually specified in the root namespace"));
        }
        Some(id) => Some(checked_id(&id)?),
    };
    let asked = input.policies.map(|list| list.0).unwrap_or_default();
    if is_from_above && asked.iter().any(|policy| policy.trim().eq_ignore_ascii_case("root")) {
        return Err(Fault::invalid("root tokens may not be created from a parent namespace"));
    }
    let policies = match role.filter(|role| role.limits_policies()) {
        Some(role) => role.policies(&asked, input.no_default_policy, held)?,
        None => policies(&asked, input.no_default_policy, held, sudo)?,
    };
    let is_root = assignable(&policies, held, kind)?;
    let orphan = match by {
        By::Role(_, role) => role.orphan,
        By::Orphan => true,
        By::Parent if input.no_parent && !sudo => {
            return Err(Fault::invalid("root or sudo privileges required to create orphan token"));
        }
        By::Parent => input.no_parent,
    };

    let mut warnings = Vec::new();
    let mut explicit_max_ttl = input.explicit_max_ttl.map(|ttl| ttl.0).unwrap_or_default();
    if let Some(role) = role.filter(|_| kind == TokenType::Service) {
        for (what, own, of_role) in
            [("Explicit max TTL", &mut explicit_max_ttl, role.explicit_max_ttl), ("Period", &mut period, role.period)]
        {
            let is_said_twice = !own.is_zero() && !of_role.is_zero();
            *own = lesser(*own, of_role);
            if is_said_twice {
                warnings.push(format!(
                    "{what} specified both during creation call and in role; using the lesser value of {} seconds",
                    own.as_secs()
                ));
            }
        }
    }
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
    let known = store.handles.spaces.of(&cx.mount.namespace)?.policies.table();
    let absent = policies.iter().filter(|name| *name != "root" && known.policy(name, now).is_none());
    warnings.extend(absent.map(|name| format!("Policy \"{name}\" does not exist")));
    let ranges = role.map(|role| &role.bound_cidrs).filter(|ranges| !ranges.is_empty());
    let new = NewToken {
        id,
        namespace: cx.mount.namespace.clone(),
        parent: (!orphan).then(|| parent.clone()),
        policies,
        metadata: input.meta.unwrap_or_default(),
        display_name,
        path: match by {
            By::Parent => "auth/token/create".to_owned(),
            By::Orphan => "auth/token/create-orphan".to_owned(),
            By::Role(name, role) if role.path_suffix.is_empty() => format!("auth/token/create/{name}"),
            By::Role(name, role) => format!("auth/token/create/{name}/{}", role.path_suffix),
        },
        mount: cx.mount.id.clone(),
        ttl,
        renewal_ttl: wish.unwrap_or_default(),
        max_ttl: std::time::Duration::ZERO,
        explicit_max_ttl,
        period,
        num_uses,
        renewable: input.renewable && role.is_none_or(|role| role.renewable),
        bound_cidrs: ranges.unwrap_or(&parent.record.bound_cidrs).clone(),
        kept: None,
    };
    let tokens = &store.handles.tokens;
    let (token, found) = match kind {
        TokenType::Service => tokens.mint(cx.view.widen(Widened::assertion()), new, now, entropy)?,
        TokenType::Batch => tokens.mint_batch(new, now, entropy)?,
    };
    Ok(Warned(Token::new(auth_block(Some(token), &found, now), Widened::assertion()), warnings))
}

/// The kind that is asked for, as far as its role leaves a choice; what no batch token has is refused.
fn kind(input: &Create, role: Option<&TokenRole>) -> Result<TokenType, Fault> {
    let kind = match (role.map_or("", |role| role.token_type.as_str()), input.kind.as_str()) {
        (forced @ ("service" | "batch"), _) => forced,
        ("default-batch", "") => "batch",
        (_, asked) => asked,
    };
    match kind {
        "" | "service" => return Ok(TokenType::Service),
        "batch" => {}
        _ => return Err(Fault::invalid("invalid 'token_type' value")),
    }
    let is_set = |seconds: Option<Seconds>| seconds.is_some_and(|seconds| !seconds.0.is_zero());
    let reason = if is_set(input.explicit_max_ttl) {
        "explicit_max_ttl"
    } else if input.num_uses != 0 || role.is_some_and(|role| role.num_uses > 0) {
        "num_uses"
    } else if is_set(input.period) {
        "period"
    } else {
        return Ok(TokenType::Batch);
    };
    Err(Fault::invalid(format!("batch tokens cannot have {reason:?} set")))
}

/// Whether it becomes a root token; refuses what nobody can be given.
fn assignable(policies: &[String], parent: &[String], kind: TokenType) -> Result<bool, Fault> {
    if policies.iter().any(|policy| policy == WRAPPING_POLICY) {
        return Err(Fault::invalid(format!("cannot assign policy \"{WRAPPING_POLICY}\"")));
    }
    if !policies.iter().any(|policy| policy == "root") {
        return Ok(false);
    }
    if !parent.iter().any(|policy| policy == "root") {
        return Err(Fault::invalid("root tokens may not be created without parent token being root"));
    }
    if kind == TokenType::Batch {
        return Err(Fault::invalid("batch tokens cannot be root tokens"));
    }
    Ok(true)
}

fn checked_id(id: &SecretString) -> Result<TokenSecret, Fault> {
    let text = id.expose();
    if text.starts_with("s.") || text.starts_with("hvs.") || text.starts_with("hvb.") || text.starts_with("hvr.") {
        return Err(Fault::invalid("custom token ID cannot have the 'hvs.' prefix"));
    }
    if text.contains('.') {
        return Err(Fault::invalid("custom token ID cannot have a '.' in the value"));
    }
    TokenSecret::parse(text).map_err(|_| Fault::invalid("custom token ID is malformed"))
}

/// The policies of the new token: a subset of the parent's, unless the caller has `sudo`.
fn policies(asked: &[String], no_default: bool, parent: &[String], sudo: bool) -> Result<Vec<String>, Fault> {
    let mut policies: Vec<String> =
        asked.iter().map(|policy| policy.trim().to_lowercase()).filter(|policy| !policy.is_empty()).collect();
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
