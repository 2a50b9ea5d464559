//! `sys/policies/acl` and its older spelling `sys/policy`: texts are stored and returned byte for byte.

use tresor_engine::{Cx, Data, Keys, Mirrored, Nothing, Widened};
use tresor_model::Fault;
use tresor_policy::{NameError, PolicyName, WRAPPING_POLICY, WRAPPING_POLICY_TEXT};
use tresor_wire::input::{EmptyInput, Input};
use tresor_wire::output::Output;

use super::Sys;

/// A policy by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name; case does not matter.
    #[input(path)]
    name: String,
}

/// A policy to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name; case does not matter.
    #[input(path)]
    name: String,
    /// Its text, HCL or JSON, perhaps in base64.
    policy: Option<String>,
    /// An older name of `policy`.
    rules: Option<String>,
}

/// A policy.
#[derive(Output)]
pub(super) struct PolicyShown {
    /// Its name.
    name: String,
    /// Its text as it was sent.
    policy: String,
}

/// A policy in its older spelling.
#[derive(Output)]
pub(super) struct LegacyPolicy {
    /// Its name.
    name: String,
    /// Its text as it was sent.
    rules: String,
}

/// All names in their older spelling.
#[derive(Output)]
pub(super) struct LegacyNames {
    /// The names.
    keys: Vec<String>,
    /// The same names.
    policies: Vec<String>,
}

fn parse_name(name: &str) -> Result<PolicyName, Fault> {
    PolicyName::parse(name).map_err(|error| Fault::invalid(error.to_string()))
}

fn names(sys: &Sys) -> Vec<String> {
    let mut names: Vec<String> = sys.handles.policies.table().names().map(str::to_owned).collect();
    names.push("root".to_owned());
    names.sort_unstable();
    names
}

/// The text of a policy; `root` exists and has none.
fn text(sys: &Sys, name: &str) -> Option<(String, String)> {
    let name = name.trim().to_lowercase();
    if name == "root" {
        return Some((name, String::new()));
    }
    if name == WRAPPING_POLICY {
        return Some((name, WRAPPING_POLICY_TEXT.to_owned()));
    }
    let text = sys.handles.policies.table().policy(&name)?.text.clone();
    Some((name, text))
}

pub(super) async fn list(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(names(sys)))
}

pub(super) async fn list_legacy(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<LegacyNames>, Fault> {
    Ok(Mirrored(LegacyNames { keys: names(sys), policies: names(sys) }))
}

pub(super) async fn read(sys: &Sys, _cx: Cx<'_>, input: ByName) -> Result<Option<Data<PolicyShown>>, Fault> {
    Ok(text(sys, &input.name).map(|(name, policy)| Data(PolicyShown { name, policy })))
}

pub(super) async fn read_legacy(
    sys: &Sys,
    _cx: Cx<'_>,
    input: ByName,
) -> Result<Option<Mirrored<LegacyPolicy>>, Fault> {
    Ok(text(sys, &input.name).map(|(name, rules)| Mirrored(LegacyPolicy { name, rules })))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = parse_name(&input.name)?;
    let text = input.policy.or(input.rules).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Fault::invalid("'policy' parameter not supplied or empty"))?;
    let text = decode(text);
    sys.handles.policies.write(cx.view.widen(Widened::assertion()), &name, &text)?;
    Ok(Nothing)
}

/// Clients may send the text in base64; no policy is valid base64, which has no braces, quotes or spaces.
fn decode(text: String) -> String {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let name = PolicyName::parse(&input.name).map_err(|error| match error {
        NameError::Root => Fault::invalid("cannot delete \"root\" policy"),
        NameError::Wrapping => Fault::invalid(format!("cannot delete \"{WRAPPING_POLICY}\" policy")),
        other => Fault::invalid(other.to_string()),
    })?;
    sys.handles.policies.delete(cx.view.widen(Widened::assertion()), &name)?;
    Ok(Nothing)
}
