//! `auth/token/roles/`: token roles as they are written and shown.
//!
//! Deliberately absent: what a role allows (`tresor_core::tokens::roles`); and identities, so an alias can be allowed and not
//! used yet.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_core::tokens::roles::TokenRole;
use tresor_engine::token_fields::{newest, shown_ranges};
use tresor_engine::{Cx, Data, Keys, Nothing, Warned, Widened};
use tresor_model::Fault;
use tresor_wire::input::{Cidrs, CommaList, EmptyInput, Input, PathParameters, Seconds};
use tresor_wire::output::Output;

use super::TokenStore;

/// A role by name.
#[derive(Input)]
pub(super) struct ByName {
    /// The name.
    #[input(path)]
    role_name: String,
}

/// A role to write; what is not sent stays.
#[derive(Input)]
pub(super) struct Write {
    /// The name.
    #[input(path)]
    role_name: String,
    /// Policies that its tokens may have.
    allowed_policies: Option<CommaList>,
    /// The same, by patterns with `*`.
    allowed_policies_glob: Option<CommaList>,
    /// Policies that none of its tokens has.
    disallowed_policies: Option<CommaList>,
    /// The same, by patterns with `*`.
    disallowed_policies_glob: Option<CommaList>,
    /// Make orphans.
    orphan: Option<bool>,
    /// Whether its tokens can be renewed; they can unless it is said.
    renewable: Option<bool>,
    /// The end of the path that makes its tokens, by which they can be revoked.
    path_suffix: Option<String>,
    /// Aliases that its tokens may be of, or patterns.
    allowed_entity_aliases: Option<CommaList>,
    /// Kind of its tokens.
    token_type: Option<String>,
    /// Period of its tokens.
    token_period: Option<Seconds>,
    /// An older name of `token_period`.
    period: Option<Seconds>,
    /// Longest life of its tokens, whatever the mount says.
    token_explicit_max_ttl: Option<Seconds>,
    /// An older name of `token_explicit_max_ttl`.
    explicit_max_ttl: Option<Seconds>,
    /// Addresses that its tokens may be used from.
    token_bound_cidrs: Option<Cidrs>,
    /// An older name of `token_bound_cidrs`.
    bound_cidrs: Option<Cidrs>,
    /// How often its tokens may be used; 0 means as often as one likes.
    token_num_uses: Option<u64>,
    /// Leave the policy `default` out.
    token_no_default_policy: Option<bool>,
}

/// A role as it is shown.
#[derive(Output)]
pub(super) struct RoleShown {
    /// Its name.
    name: String,
    /// Policies that its tokens may have.
    allowed_policies: Vec<String>,
    /// The same, by patterns.
    allowed_policies_glob: Vec<String>,
    /// Policies that none of its tokens has.
    disallowed_policies: Vec<String>,
    /// The same, by patterns.
    disallowed_policies_glob: Vec<String>,
    /// Whether it makes orphans.
    orphan: bool,
    /// Whether its tokens can be renewed.
    renewable: bool,
    /// The end of the path that makes its tokens.
    path_suffix: String,
    /// Aliases that its tokens may be of.
    allowed_entity_aliases: Option<Vec<String>>,
    /// Kind of its tokens.
    token_type: String,
    /// Period of its tokens.
    token_period: Duration,
    /// The same, where its older name was used.
    period: Duration,
    /// Longest life of its tokens.
    token_explicit_max_ttl: Duration,
    /// The same, where its older name was used.
    explicit_max_ttl: Duration,
    /// Addresses that its tokens may be used from.
    #[output(optional)]
    token_bound_cidrs: Option<Vec<String>>,
    /// The same, where its older name was used.
    #[output(optional)]
    bound_cidrs: Option<Vec<String>>,
    /// How often its tokens may be used.
    #[output(optional)]
    token_num_uses: Option<u64>,
    /// Whether the policy `default` is left out.
    token_no_default_policy: bool,
}

/// The role of this name.
pub(super) fn load(cx: &mut Cx<'_>, name: &str) -> Result<Option<TokenRole>, Fault> {
    let namespace = &cx.mount.namespace;
    TokenRole::load(cx.view.widen(Widened::assertion()), namespace, name)
}

pub(super) async fn list(_store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    let namespace = &cx.mount.namespace;
    Ok(Keys(TokenRole::names(cx.view.widen(Widened::assertion()), namespace)?))
}

pub(super) fn exists(_store: &TokenStore, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("role_name").map_or("", String::as_str);
    Ok(load(&mut cx, name)?.is_some())
}

pub(super) async fn delete(_store: &TokenStore, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let namespace = &cx.mount.namespace;
    TokenRole::delete(cx.view.widen(Widened::assertion()), namespace, &input.role_name)?;
    Ok(Nothing)
}

pub(super) async fn read(_store: &TokenStore, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<RoleShown>>, Fault> {
    let Some(role) = load(&mut cx, &input.role_name)? else { return Ok(None) };
    let by_older_name = |name: &str| role.older_names.contains(name);
    let ranges = |is_shown: bool| (is_shown && !role.bound_cidrs.is_empty()).then(|| shown_ranges(&role.bound_cidrs));
    Ok(Some(Data(RoleShown {
        name: input.role_name,
        period: if by_older_name("period") { role.period } else { Duration::ZERO },
        explicit_max_ttl: if by_older_name("explicit_max_ttl") { role.explicit_max_ttl } else { Duration::ZERO },
        bound_cidrs: ranges(by_older_name("bound_cidrs")),
        token_bound_cidrs: ranges(true),
        allowed_policies: role.allowed_policies,
        allowed_policies_glob: role.allowed_policies_glob,
        disallowed_policies: role.disallowed_policies,
        disallowed_policies_glob: role.disallowed_policies_glob,
        orphan: role.orphan,
        renewable: role.renewable,
        path_suffix: role.path_suffix,
        allowed_entity_aliases: role.allowed_entity_aliases,
        token_type: role.token_type,
        token_period: role.period,
        token_explicit_max_ttl: role.explicit_max_ttl,
        token_num_uses: (role.num_uses > 0).then_some(role.num_uses),
        token_no_default_policy: role.no_default_policy,
    })))
}

pub(super) async fn write(_store: &TokenStore, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let mut role = match load(&mut cx, &input.role_name)? {
        Some(role) => role,
        None => TokenRole { renewable: true, token_type: "default-service".to_owned(), ..TokenRole::default() },
    };
    let mut warnings = Vec::new();
    for (older, is_older_sent, newer, is_newer_sent) in [
        ("period", input.period.is_some(), "token_period", input.token_period.is_some()),
        ("bound_cidrs", input.bound_cidrs.is_some(), "token_bound_cidrs", input.token_bound_cidrs.is_some()),
        (
            "explicit_max_ttl",
            input.explicit_max_ttl.is_some(),
            "token_explicit_max_ttl",
            input.token_explicit_max_ttl.is_some(),
        ),
    ] {
        if is_older_sent && is_newer_sent {
            warnings
                .push(format!("Both '{newer}' and deprecated '{older}' value supplied, ignoring the deprecated value"));
        }
    }
    let older = &mut role.older_names;
    let period = newest(older, "period", input.token_period, input.period);
    let explicit_max = newest(older, "explicit_max_ttl", input.token_explicit_max_ttl, input.explicit_max_ttl);
    let ranges = newest(older, "bound_cidrs", input.token_bound_cidrs, input.bound_cidrs);
    role.period = period.map_or(role.period, |period| period.0);
    role.explicit_max_ttl = explicit_max.map_or(role.explicit_max_ttl, |max| max.0);
    if let Some(ranges) = ranges {
        role.bound_cidrs = ranges.0.iter().map(ToString::to_string).collect();
    }
    for (sent, kept) in [
        (input.allowed_policies, &mut role.allowed_policies),
        (input.allowed_policies_glob, &mut role.allowed_policies_glob),
        (input.disallowed_policies, &mut role.disallowed_policies),
        (input.disallowed_policies_glob, &mut role.disallowed_policies_glob),
    ] {
        if let Some(sent) = sent {
            *kept = folded(&sent.0);
        }
    }
    role.orphan = input.orphan.unwrap_or(role.orphan);
    role.renewable = input.renewable.unwrap_or(role.renewable);
    role.num_uses = input.token_num_uses.unwrap_or(role.num_uses);
    role.no_default_policy = input.token_no_default_policy.unwrap_or(role.no_default_policy);
    if let Some(aliases) = input.allowed_entity_aliases {
        role.allowed_entity_aliases = Some(folded(&aliases.0));
    }
    if let Some(suffix) = input.path_suffix {
        role.path_suffix = checked_suffix(suffix)?;
    }
    if let Some(kind) = input.token_type {
        if !matches!(kind.as_str(), "service" | "batch" | "default-service" | "default-batch") {
            return Err(Fault::invalid(format!("invalid 'token_type' value {kind:?}")));
        }
        role.token_type = kind;
    }
    let max = cx.mount.max_lease_ttl;
    if role.explicit_max_ttl > max {
        warnings.push(format!(
            "Given explicit max TTL of {} is greater than system/mount allowed value of {} seconds",
            role.explicit_max_ttl.as_secs(),
            max.as_secs()
        ));
    }
    let namespace = &cx.mount.namespace;
    role.store(cx.view.widen(Widened::assertion()), namespace, &input.role_name)?;
    Ok(Warned(Nothing, warnings))
}

/// Names in lower case, each once, in order.
fn folded(names: &[String]) -> Vec<String> {
    let names: BTreeSet<String> = names.iter().map(|name| name.trim().to_lowercase()).collect();
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// A part of a path: letters, digits, dots and dashes, with something else than a dot at both ends.
fn checked_suffix(suffix: String) -> Result<String, Fault> {
    let fits = suffix.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'));
    let ends = |end: char| end.is_ascii_alphanumeric() || end == '_';
    if suffix.is_empty() || (fits && suffix.starts_with(ends) && suffix.ends_with(ends) && !suffix.contains("..")) {
        return Ok(suffix);
    }
    Err(Fault::invalid("given role path suffix contains invalid characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_one_part_of_a_path() {
        for fits in ["", "v1", "a.b-c_d"] {
            assert!(checked_suffix(fits.to_owned()).is_ok(), "{fits}");
        }
        for refused in ["..", ".", "a/b", "a b", "-a", "a..b", "a.", "\u{e9}"] {
            assert!(checked_suffix(refused.to_owned()).is_err(), "{refused}");
        }
    }
}
