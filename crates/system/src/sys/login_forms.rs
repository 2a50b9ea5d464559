//! `sys/config/ui/login/default-auth`, and what comes of it in a namespace: `sys/internal/ui/default-auth-methods`, which everybody
//! may ask, since it is for a page where one logs in.
//!
//! Deliberately absent: any effect on who may log in, and by what.

use tresor_core::login_forms::{self as stored, LoginForm};
use tresor_engine::{Cx, Data, Nothing, Widened};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{CommaList, EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// The types that a page knows a form for.
const TYPES: [&str; 9] = ["github", "jwt", "ldap", "oidc", "okta", "radius", "saml", "token", "userpass"];

/// One by its name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    name: String,
}

/// One to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    name: String,
    /// The path of the namespace that it is about; nothing, or `root`, is the root namespace.
    #[input(default = "")]
    namespace_path: String,
    /// The type of the method that is offered first.
    #[input(default = "")]
    default_auth_type: String,
    /// The types that are offered besides.
    #[input(default = "")]
    backup_auth_types: CommaList,
    /// Whether namespaces below do without it.
    #[input(default = "false")]
    disable_inheritance: bool,
}

/// One as it is shown.
#[derive(Output)]
pub(super) struct FormShown {
    /// The type of the method that is offered first.
    default_auth_type: String,
    /// The types that are offered besides.
    backup_auth_types: Vec<String>,
    /// Whether namespaces below do without it.
    disable_inheritance: bool,
    /// The path of the namespace that it is about.
    #[output(optional)]
    namespace_path: Option<String>,
}

/// All of them.
#[derive(Output)]
pub(super) struct Listed {
    /// Their names.
    keys: Vec<String>,
    /// What is known of each.
    key_info: Map,
}

fn path_shown(form: &LoginForm) -> String {
    if form.path.is_empty() { "root".to_owned() } else { form.path.clone() }
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Listed>>, Fault> {
    let all = stored::all(cx.view.widen(Widened::assertion()))?;
    let keys: Vec<String> = all.keys().cloned().collect();
    let info = all.into_iter().map(|(name, form)| {
        let facts = map! {
            "name" => name.as_str(), "namespace_path" => path_shown(&form), "disable_inheritance" => form.is_own,
        };
        (name, Body::from(facts))
    });
    let key_info = info.collect();
    Ok((!keys.is_empty()).then_some(Data(Listed { keys, key_info })))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<FormShown>>, Fault> {
    let found = stored::read(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(found.map(|form| {
        let namespace_path = Some(path_shown(&form));
        Data(FormShown { namespace_path, ..shown(form) })
    }))
}

fn shown(form: LoginForm) -> FormShown {
    FormShown {
        default_auth_type: form.default_type,
        backup_auth_types: form.backup_types,
        disable_inheritance: form.is_own,
        namespace_path: None,
    }
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !input.name.bytes().all(is_name) {
        return Err(Fault::invalid("a name is made of letters, numbers, underscores and dashes"));
    }
    let (default_type, backup_types) = (input.default_auth_type, input.backup_auth_types.0);
    if default_type.is_empty() && backup_types.is_empty() {
        return Err(Fault::invalid("default_auth_type or backup_auth_types must be set"));
    }
    let said = backup_types.iter().chain(Some(&default_type).filter(|kind| !kind.is_empty()));
    if let Some(other) = said.into_iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(Fault::invalid(format!("`{other}` is none of {}", TYPES.join(", "))));
    }
    let path = match input.namespace_path.trim_matches('/') {
        "" | "root" => String::new(),
        path => format!("{path}/"),
    };
    let space = sys.handles.spaces.at(&path).ok_or_else(|| Fault::invalid("namespace_path leads to no namespace"))?;
    let form =
        LoginForm { namespace: space.id.clone(), path, default_type, backup_types, is_own: input.disable_inheritance };
    stored::write(cx.view.widen(Widened::assertion()), &input.name, &form)?;
    Ok(Nothing)
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    stored::delete(cx.view.widen(Widened::assertion()), &input.name)?;
    Ok(Nothing)
}

pub(super) async fn in_force(sys: &Sys, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<FormShown>>, Fault> {
    let space = sys.space(&cx)?;
    let found = stored::in_force(cx.view.widen(Widened::assertion()), &space)?;
    Ok(found.map(|form| Data(shown(form))))
}
