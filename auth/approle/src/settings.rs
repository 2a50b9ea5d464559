//! Single settings of a role, each under a path of its own, so that a policy can grant them apart.
//!
//! Deliberately absent: what a setting means (`role`), and checks of what tokens can have (`token_fields`).

use std::time::Duration;

use tresor_engine::route::RouteBuilder;
use tresor_engine::token_fields::{self, TokenFields, newest};
use tresor_engine::{Cx, Data, Nothing, Warned};
use tresor_model::Fault;
use tresor_wire::input::{Cidrs, CommaList, Input, Seconds};
use tresor_wire::output::Output;

use crate::AppRole;
use crate::role::Role;
use crate::roles::{ByName, shown_ranges, uses};

/// One setting.
pub(crate) trait Setting {
    /// How it is sent.
    type Change: Input + Send + 'static;
    /// How it is shown.
    type Shown: Output;

    /// What to say to those who read it.
    const HINT: Option<&'static str> = None;

    /// The role that a change is for.
    fn role_name(change: &Self::Change) -> &str;
    /// Changes it; to nothing is a refusal.
    fn change(role: &mut Role, change: Self::Change) -> Result<(), Fault>;
    /// Shows it.
    fn show(role: &Role) -> Self::Shown;
    /// Makes it what it is when nobody says.
    fn reset(role: &mut Role) -> Result<(), Fault>;
}

async fn read<S: Setting>(
    _method: &AppRole,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Option<Warned<Data<S::Shown>>>, Fault> {
    let hints: Vec<String> = S::HINT.into_iter().map(str::to_owned).collect();
    Ok(Role::named(&mut cx, &input.role_name)?.map(|role| Warned(Data(S::show(&role)), hints)))
}

async fn write<S: Setting>(_method: &AppRole, mut cx: Cx<'_>, input: S::Change) -> Result<Nothing, Fault> {
    let name = S::role_name(&input).to_owned();
    let mut role = Role::known(&mut cx, &name)?;
    S::change(&mut role, input)?;
    role.store(&mut cx, &name, Some(&role.role_id))?;
    Ok(Nothing)
}

async fn delete<S: Setting>(_method: &AppRole, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    if let Some(mut role) = Role::named(&mut cx, &input.role_name)? {
        S::reset(&mut role)?;
        role.store(&mut cx, &input.role_name, Some(&role.role_id))?;
    }
    Ok(Nothing)
}

/// Adds the paths of all settings.
pub(crate) fn routes(routes: RouteBuilder<AppRole>) -> RouteBuilder<AppRole> {
    macro_rules! settings {
        ($($setting:ident at $pattern:literal: $summary:literal),* $(,)?) => {
            routes$(
                .at(concat!("role/{role_name:folded}/", $pattern), $summary)
                .read(read::<$setting>)
                .write(write::<$setting>)
                .delete(delete::<$setting>)
            )*
        };
    }
    settings! {
        Policies at "policies": "The policies of a role's tokens.",
        SecretIdNumUses at "secret-id-num-uses": "How often a role's secret ids can be used.",
        SecretIdTtl at "secret-id-ttl": "How long a role's secret ids live.",
        TokenTtl at "token-ttl": "How long a role's tokens live.",
        TokenMaxTtl at "token-max-ttl": "How long a role's tokens live at most.",
        TokenNumUses at "token-num-uses": "How often a role's tokens can be used.",
        TokenBoundCidrs at "token-bound-cidrs": "Where a role's tokens may come from.",
        SecretIdBoundCidrs at "secret-id-bound-cidrs": "Where logins of a role may come from.",
        BoundCidrList at "bound-cidr-list": "The older name of secret-id-bound-cidrs.",
        BindSecretId at "bind-secret-id": "Whether a role's logins need a secret id.",
        Period at "period": "The period of a role's tokens.",
    }
}

/// A setting with one name.
macro_rules! setting {
    (
        $about:tt
        $setting:ident, $change:ident, $shown:ident { $field:ident: $sent:ty => $kept:ty }
        show $show:expr;
        change $set:expr;
        else $default:expr;
        $(hint $hint:expr;)?
    ) => {
        #[doc = $about]
        pub(crate) struct $setting;

        #[doc = $about]
        #[derive(Input)]
        pub(crate) struct $change {
            /// The role.
            #[input(path)]
            role_name: String,
            #[doc = $about]
            $field: Option<$sent>,
        }

        #[doc = $about]
        #[derive(Output)]
        pub(crate) struct $shown {
            #[doc = $about]
            $field: $kept,
        }

        impl Setting for $setting {
            type Change = $change;
            type Shown = $shown;

            $(const HINT: Option<&'static str> = Some($hint);)?

            fn role_name(change: &Self::Change) -> &str {
                &change.role_name
            }

            fn change(role: &mut Role, change: Self::Change) -> Result<(), Fault> {
                let missing = || Fault::invalid(concat!("missing ", stringify!($field)));
                let set: fn(&mut Role, $sent) -> Result<(), Fault> = $set;
                set(role, change.$field.ok_or_else(missing)?)
            }

            fn show(role: &Role) -> Self::Shown {
                let show: fn(&Role) -> $kept = $show;
                $shown { $field: show(role) }
            }

            fn reset(role: &mut Role) -> Result<(), Fault> {
                let set: fn(&mut Role, $sent) -> Result<(), Fault> = $set;
                set(role, $default)
            }
        }
    };
}

fn set_ranges(role: &mut Role, sent: &Cidrs) {
    role.secret_id_bound_cidrs = sent.0.iter().map(ToString::to_string).collect();
}

setting! {
    "How often a secret id can be used; 0 is no limit."
    SecretIdNumUses, ChangeSecretIdNumUses, SecretIdNumUsesShown { secret_id_num_uses: i64 => u64 }
    show |role| role.secret_id_num_uses;
    change |role, sent| {
        role.secret_id_num_uses = uses("secret_id_num_uses", sent)?;
        Ok(())
    };
    else 0;
}

setting! {
    "How long a secret id lives; 0 is no limit."
    SecretIdTtl, ChangeSecretIdTtl, SecretIdTtlShown { secret_id_ttl: Seconds => Duration }
    show |role| role.secret_id_ttl;
    change |role, sent| {
        role.secret_id_ttl = sent.0;
        Ok(())
    };
    else Seconds::default();
}

setting! {
    "Life of the tokens."
    TokenTtl, ChangeTokenTtl, TokenTtlShown { token_ttl: Seconds => Duration }
    show |role| role.token.ttl;
    change |role, sent| role.token.change(TokenFields { token_ttl: Some(sent), ..TokenFields::default() });
    else Seconds::default();
}

setting! {
    "Longest life of the tokens."
    TokenMaxTtl, ChangeTokenMaxTtl, TokenMaxTtlShown { token_max_ttl: Seconds => Duration }
    show |role| role.token.max_ttl;
    change |role, sent| role.token.change(TokenFields { token_max_ttl: Some(sent), ..TokenFields::default() });
    else Seconds::default();
}

setting! {
    "How often the tokens may be used; 0 is no limit."
    TokenNumUses, ChangeTokenNumUses, TokenNumUsesShown { token_num_uses: u64 => u64 }
    show |role| role.token.num_uses;
    change |role, sent| role.token.change(TokenFields { token_num_uses: Some(sent), ..TokenFields::default() });
    else 0;
}

setting! {
    "Addresses that logins and tokens may come from."
    TokenBoundCidrs, ChangeTokenBoundCidrs, TokenBoundCidrsShown { token_bound_cidrs: Cidrs => Option<Vec<String>> }
    show |role| shown_ranges(&token_fields::shown_ranges(role.token.named_ranges()));
    change |role, sent| role.token.change(TokenFields { token_bound_cidrs: Some(sent), ..TokenFields::default() });
    else Cidrs::default();
}

setting! {
    "Addresses that logins may come from."
    SecretIdBoundCidrs, ChangeSecretIdBoundCidrs, SecretIdBoundCidrsShown {
        secret_id_bound_cidrs: Cidrs => Option<Vec<String>>
    }
    show |role| shown_ranges(&role.secret_id_bound_cidrs);
    change |role, sent| {
        set_ranges(role, &sent);
        Ok(())
    };
    else Cidrs::default();
}

setting! {
    "Addresses that logins may come from."
    BoundCidrList, ChangeBoundCidrList, BoundCidrListShown { bound_cidr_list: Cidrs => Option<Vec<String>> }
    show |role| shown_ranges(&role.secret_id_bound_cidrs);
    change |role, sent| {
        set_ranges(role, &sent);
        Ok(())
    };
    else Cidrs::default();
    hint "The \"bound_cidr_list\" field is deprecated and will be removed. Please use \"secret_id_bound_cidrs\" instead.";
}

setting! {
    "Whether logins need a secret id."
    BindSecretId, ChangeBindSecretId, BindSecretIdShown { bind_secret_id: bool => bool }
    show |role| role.binds_secret_id;
    change |role, sent| {
        role.binds_secret_id = sent;
        Ok(())
    };
    else true;
}

/// The policies of the tokens, by either name.
pub(crate) struct Policies;

/// New policies.
#[derive(Input)]
pub(crate) struct ChangePolicies {
    /// The role.
    #[input(path)]
    role_name: String,
    /// Policies of the tokens.
    token_policies: Option<CommaList>,
    /// An older name of `token_policies`.
    policies: Option<CommaList>,
}

/// The policies.
#[derive(Output)]
pub(crate) struct PoliciesShown {
    /// Policies of the tokens.
    token_policies: Vec<String>,
    /// The older name of `token_policies`, where it was used.
    #[output(optional)]
    policies: Option<Vec<String>>,
}

impl Setting for Policies {
    type Change = ChangePolicies;
    type Shown = PoliciesShown;

    fn role_name(change: &Self::Change) -> &str {
        &change.role_name
    }

    fn change(role: &mut Role, change: Self::Change) -> Result<(), Fault> {
        let sent = newest(&mut role.older_names, "policies", change.token_policies, change.policies);
        let token_policies = Some(sent.ok_or_else(|| Fault::invalid("missing token_policies"))?);
        role.token.change(TokenFields { token_policies, ..TokenFields::default() })
    }

    fn show(role: &Role) -> Self::Shown {
        let policies = role.token.policies.clone();
        PoliciesShown {
            policies: role.older_names.contains("policies").then(|| policies.clone()),
            token_policies: policies,
        }
    }

    fn reset(role: &mut Role) -> Result<(), Fault> {
        role.older_names.remove("policies");
        role.token.policies.clear();
        Ok(())
    }
}

/// The period of the tokens, by either name.
pub(crate) struct Period;

/// A new period.
#[derive(Input)]
pub(crate) struct ChangePeriod {
    /// The role.
    #[input(path)]
    role_name: String,
    /// Period of the tokens.
    token_period: Option<Seconds>,
    /// An older name of `token_period`.
    period: Option<Seconds>,
}

/// The period.
#[derive(Output)]
pub(crate) struct PeriodShown {
    /// Period of the tokens.
    token_period: Duration,
    /// The older name of `token_period`, where it was used.
    #[output(optional)]
    period: Option<Duration>,
}

impl Setting for Period {
    type Change = ChangePeriod;
    type Shown = PeriodShown;

    fn role_name(change: &Self::Change) -> &str {
        &change.role_name
    }

    fn change(role: &mut Role, change: Self::Change) -> Result<(), Fault> {
        let sent = newest(&mut role.older_names, "period", change.token_period, change.period);
        let token_period = Some(sent.ok_or_else(|| Fault::invalid("missing period"))?);
        role.token.change(TokenFields { token_period, ..TokenFields::default() })
    }

    fn show(role: &Role) -> Self::Shown {
        let period = role.token.period;
        let is_older = role.older_names.contains("period") && !period.is_zero();
        PeriodShown { token_period: period, period: is_older.then_some(period) }
    }

    fn reset(role: &mut Role) -> Result<(), Fault> {
        role.older_names.remove("period");
        role.token.period = Duration::ZERO;
        Ok(())
    }
}
