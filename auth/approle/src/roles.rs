//! Roles as a whole: the endpoints that list, show, write and delete them, and the id that programs log in with.

use std::time::Duration;

use tresor_engine::token_fields::{TokenFields, TokenSettingsShown, newest};
use tresor_engine::{Cx, Data, Keys, Nothing};
use tresor_model::Fault;
use tresor_wire::input::{Cidrs, CommaList, Input, Limit, PathParameters, Seconds};
use tresor_wire::output::Output;

use crate::role::{ROLES, Role, checked_name};
use crate::{AppRole, sweep};

/// A role by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    pub(crate) role_name: String,
}

/// A page of the roles.
#[derive(Input)]
pub(crate) struct Page {
    /// List names after this one.
    #[input(query)]
    after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    limit: Limit,
}

/// A role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    role_name: String,
    /// What programs log in with; drawn when it is not sent.
    role_id: Option<String>,
    /// Whether a secret id is asked for.
    bind_secret_id: Option<bool>,
    /// Addresses that logins may come from.
    secret_id_bound_cidrs: Option<Cidrs>,
    /// An older name of `secret_id_bound_cidrs`.
    bound_cidr_list: Option<Cidrs>,
    /// How often a secret id can be used; 0 is no limit.
    secret_id_num_uses: Option<i64>,
    /// How long a secret id lives; 0 is no limit.
    secret_id_ttl: Option<Seconds>,
    /// Whether secret ids stay in this cluster; fixed when the role is made.
    local_secret_ids: Option<bool>,
    /// What the tokens are like.
    #[input(flatten)]
    token: TokenFields,
    /// An older name of `token_policies`.
    policies: Option<CommaList>,
    /// An older name of `token_period`.
    period: Option<Seconds>,
}

/// What is shown of a role.
#[derive(Output)]
pub(crate) struct RoleShown {
    /// Whether a secret id is asked for.
    bind_secret_id: bool,
    /// Addresses that logins may come from.
    secret_id_bound_cidrs: Option<Vec<String>>,
    /// How often a secret id can be used.
    secret_id_num_uses: u64,
    /// How long a secret id lives.
    secret_id_ttl: Duration,
    /// Whether secret ids stay in this cluster.
    local_secret_ids: bool,
    /// What the tokens are like.
    #[output(flatten)]
    token: TokenSettingsShown,
    /// The older name of `token_policies`, where it was used.
    #[output(optional)]
    policies: Option<Vec<String>>,
    /// The older name of `token_period`, where it was used.
    #[output(optional)]
    period: Option<Duration>,
}

/// The id of a role.
#[derive(Output)]
pub(crate) struct RoleIdShown {
    /// What programs log in with.
    role_id: String,
}

/// A new id for a role.
#[derive(Input)]
pub(crate) struct WriteId {
    /// The role.
    #[input(path)]
    role_name: String,
    /// What programs log in with.
    role_id: Option<String>,
}

/// Whether secret ids stay in this cluster.
#[derive(Output)]
pub(crate) struct LocalSecretIdsShown {
    /// Whether secret ids stay in this cluster.
    local_secret_ids: bool,
}

/// What is shown of addresses where none are no restriction.
pub(crate) fn shown_ranges(ranges: &[String]) -> Option<Vec<String>> {
    (!ranges.is_empty()).then(|| ranges.to_vec())
}

pub(crate) fn exists(_method: &AppRole, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    Ok(Role::named(&mut cx, parameters.get("role_name").map_or("", String::as_str))?.is_some())
}

pub(crate) async fn list(_method: &AppRole, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(ROLES, input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_method: &AppRole, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<RoleShown>>, Fault> {
    let Some(role) = Role::named(&mut cx, &input.role_name)? else { return Ok(None) };
    let is_older = |name: &str| role.older_names.contains(name);
    Ok(Some(Data(RoleShown {
        bind_secret_id: role.binds_secret_id,
        secret_id_bound_cidrs: shown_ranges(&role.secret_id_bound_cidrs),
        secret_id_num_uses: role.secret_id_num_uses,
        secret_id_ttl: role.secret_id_ttl,
        local_secret_ids: role.has_local_secret_ids,
        policies: is_older("policies").then(|| role.token.policies.clone()),
        period: (is_older("period") && !role.token.period.is_zero()).then_some(role.token.period),
        token: role.token.show(),
    })))
}

/// How often something can be used, as it was sent.
pub(crate) fn uses(name: &str, sent: i64) -> Result<u64, Fault> {
    u64::try_from(sent).map_err(|_| Fault::invalid(format!("{name} cannot be negative")))
}

pub(crate) async fn write(_method: &AppRole, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = checked_name(&input.role_name)?;
    let known = Role::load(&mut cx.view, name)?;
    let previous_id = known.as_ref().map(|role| role.role_id.clone());
    if known.as_ref().is_some_and(|role| input.local_secret_ids.is_some_and(|sent| sent != role.has_local_secret_ids)) {
        return Err(Fault::invalid("local_secret_ids can only be modified during role creation"));
    }
    let mut role = known.unwrap_or_else(|| Role::fresh(&cx));
    role.has_local_secret_ids = input.local_secret_ids.unwrap_or(role.has_local_secret_ids);
    if let Some(role_id) = input.role_id {
        role.role_id = role_id;
    }
    role.binds_secret_id = input.bind_secret_id.unwrap_or(role.binds_secret_id);
    if let Some(ranges) = input.secret_id_bound_cidrs.or(input.bound_cidr_list) {
        role.secret_id_bound_cidrs = ranges.0.iter().map(ToString::to_string).collect();
    }
    if let Some(sent) = input.secret_id_num_uses {
        role.secret_id_num_uses = uses("secret_id_num_uses", sent)?;
    }
    role.secret_id_ttl = input.secret_id_ttl.map_or(role.secret_id_ttl, |sent| sent.0);
    let mut sent = input.token;
    sent.token_policies = newest(&mut role.older_names, "policies", sent.token_policies, input.policies);
    sent.token_period = newest(&mut role.older_names, "period", sent.token_period, input.period);
    role.token.change(sent)?;
    role.store(&mut cx, name, previous_id.as_deref())?;
    Ok(Nothing)
}

pub(crate) async fn delete(_method: &AppRole, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    if let Some(role) = Role::named(&mut cx, &input.role_name)? {
        role.delete(&mut cx, &input.role_name)?;
        sweep::abandon(&mut cx.view, &role.number)?;
    }
    Ok(Nothing)
}

pub(crate) async fn read_id(
    _method: &AppRole,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Option<Data<RoleIdShown>>, Fault> {
    Ok(Role::named(&mut cx, &input.role_name)?.map(|role| Data(RoleIdShown { role_id: role.role_id })))
}

pub(crate) async fn write_id(_method: &AppRole, mut cx: Cx<'_>, input: WriteId) -> Result<Nothing, Fault> {
    let mut role = Role::known(&mut cx, &input.role_name)?;
    let sent = input.role_id.filter(|role_id| !role_id.is_empty());
    let previous = std::mem::replace(&mut role.role_id, sent.ok_or_else(|| Fault::invalid("missing role_id"))?);
    role.store(&mut cx, &input.role_name, Some(&previous))?;
    Ok(Nothing)
}

pub(crate) async fn read_local_secret_ids(
    _method: &AppRole,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Option<Data<LocalSecretIdsShown>>, Fault> {
    let role = Role::named(&mut cx, &input.role_name)?;
    Ok(role.map(|role| Data(LocalSecretIdsShown { local_secret_ids: role.has_local_secret_ids })))
}
