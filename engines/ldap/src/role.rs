//! Dynamic roles: what an account is like that is made for whoever asks, and how it goes again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_credential::{Moment, Template};
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_wire::input::{Input, PathParameters, Seconds};
use tresor_wire::output::Output;

use crate::name::{self, is_name, within_folder};
use crate::{Ldap, ldif};

/// How accounts are called when nobody says.
const USERNAME_TEMPLATE: &str = "v_{{.DisplayName}}_{{.RoleName}}_{{random 10}}_{{unix_time}}";
/// What can stand in the template of a name.
const USERNAME_FIELDS: &[&str] = &["DisplayName", "RoleName"];

/// A role as it is stored.
#[derive(Record)]
#[record(kind = "ldap-role", version = 1)]
pub(crate) struct Role {
    pub(crate) creation: String,
    pub(crate) deletion: String,
    pub(crate) rollback: String,
    username_template: String,
    pub(crate) default_ttl: Duration,
    pub(crate) max_ttl: Duration,
}

/// A role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    name: String,
    /// LDIF that makes an account; may be in base64.
    creation_ldif: Option<String>,
    /// LDIF that removes it.
    deletion_ldif: Option<String>,
    /// LDIF that undoes what was made when the rest could not be.
    rollback_ldif: Option<String>,
    /// How the account is called.
    username_template: Option<String>,
    /// How long it lives, unless it is renewed.
    default_ttl: Option<Seconds>,
    /// How long it lives at most.
    max_ttl: Option<Seconds>,
}

/// A role by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    pub(crate) name: String,
}

/// What is shown of a role.
#[derive(Output)]
pub(crate) struct Shown {
    /// LDIF that makes an account.
    creation_ldif: String,
    /// LDIF that removes it.
    deletion_ldif: String,
    /// LDIF that undoes what was made.
    rollback_ldif: String,
    /// How the account is called.
    username_template: String,
    /// How long it lives.
    default_ttl: Duration,
    /// How long it lives at most.
    max_ttl: Duration,
}

impl Role {
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&format!("role/{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// The name of an account that is made now.
    pub(crate) fn username(&self, cx: &Cx<'_>, role: &str) -> Result<String, Fault> {
        let text = if self.username_template.is_empty() { USERNAME_TEMPLATE } else { &self.username_template };
        let wrong = |error| Fault::invalid(format!("failed to generate username: {error}"));
        let template = Template::parse(text, USERNAME_FIELDS).map_err(wrong)?;
        let values = [("DisplayName", cx.caller.display_name), ("RoleName", within_folder(role))];
        let name = template.render(&values, Moment { now: cx.now, entropy: cx.entropy }).map_err(wrong)?;
        if name.trim().is_empty() {
            return Err(Fault::invalid("failed to generate username: it is empty"));
        }
        Ok(name.to_string())
    }
}

/// LDIF as it was meant: some send it in base64, so that it survives their tools.
fn plain(sent: String) -> String {
    let decoded = STANDARD.decode(sent.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.filter(|text| !text.is_empty()).unwrap_or(sent)
}

pub(crate) fn exists(_engine: &Ldap, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("name").map(String::as_str).unwrap_or_default();
    Ok(Role::load(&mut cx.view, name)?.is_some())
}

pub(crate) async fn list(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(&format!("role/{}", name::folder(&input.name)), None, None)?))
}

pub(crate) async fn read(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    Ok(Role::load(&mut cx.view, &input.name)?.map(|role| {
        Data(Shown {
            creation_ldif: role.creation,
            deletion_ldif: role.deletion,
            rollback_ldif: role.rollback,
            username_template: role.username_template,
            default_ttl: role.default_ttl,
            max_ttl: role.max_ttl,
        })
    }))
}

pub(crate) async fn write(_engine: &Ldap, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let known = Role::load(&mut cx.view, &input.name)?;
    let kind = if known.is_none() { "ldap/role-create" } else { "ldap/role-update" };
    if known.is_none() {
        name::check(&input.name)?;
    }
    let mut role = known.unwrap_or_else(|| Role {
        creation: String::new(),
        deletion: String::new(),
        rollback: String::new(),
        username_template: String::new(),
        default_ttl: Duration::ZERO,
        max_ttl: Duration::ZERO,
    });
    role.creation = input.creation_ldif.map_or(role.creation, plain);
    role.deletion = input.deletion_ldif.map_or(role.deletion, plain);
    role.rollback = input.rollback_ldif.map_or(role.rollback, plain);
    role.username_template = input.username_template.unwrap_or(role.username_template);
    role.default_ttl = input.default_ttl.map_or(role.default_ttl, |sent| sent.0);
    role.max_ttl = input.max_ttl.map_or(role.max_ttl, |sent| sent.0);
    if !role.max_ttl.is_zero() && role.default_ttl > role.max_ttl {
        return Err(Fault::invalid("default_ttl may not be more than max_ttl"));
    }
    let moment = Moment { now: cx.now, entropy: cx.entropy };
    for (name, text, is_required) in [
        ("creation_ldif", &role.creation, true),
        ("deletion_ldif", &role.deletion, true),
        ("rollback_ldif", &role.rollback, false),
    ] {
        if text.is_empty() && is_required {
            return Err(Fault::invalid(format!("missing {name}")));
        }
        if !text.is_empty() {
            ldif::check(text, moment).map_err(|error| Fault::invalid(format!("invalid {name}: {error}")))?;
        }
    }
    role.username(&cx, &input.name)?;
    cx.view.write(&format!("role/{}", input.name), &role.encode())?;
    cx.view.tell(|| Happened::named(kind, "role", &input.name));
    Ok(Nothing)
}

pub(crate) async fn delete(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let place = format!("role/{}", input.name);
    if is_name(&input.name) && cx.view.read(&place)?.is_some() {
        cx.view.delete(&place)?;
        cx.view.tell(|| Happened::named("ldap/role-delete", "role", &input.name));
    }
    Ok(Nothing)
}
