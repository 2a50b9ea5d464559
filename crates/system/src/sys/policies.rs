//! `sys/policies/acl` and its older spelling `sys/policy`: texts are stored and returned byte for byte.

use tresor_engine::{Cx, Reply, Widened};
use tresor_model::{Fault, Shape, map};
use tresor_policy::PolicyName;
use tresor_wire::input::{EmptyInput, Input};

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
    let text = sys.handles.policies.table().policy(&name)?.text.clone();
    Some((name, text))
}

pub(super) async fn list(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Reply, Fault> {
    Ok(Reply::keys(names(sys)))
}

pub(super) async fn list_legacy(sys: &Sys, _cx: Cx<'_>, _input: EmptyInput) -> Result<Reply, Fault> {
    let data = map! { "keys" => names(sys), "policies" => names(sys) };
    Ok(Reply { shape: Shape::Mirrored(data), ..Reply::default() })
}

pub(super) async fn read(sys: &Sys, _cx: Cx<'_>, input: ByName) -> Result<Reply, Fault> {
    let Some((name, text)) = text(sys, &input.name) else { return Ok(Reply::absent()) };
    Ok(Reply::data(map! { "name" => name, "policy" => text }))
}

pub(super) async fn read_legacy(sys: &Sys, _cx: Cx<'_>, input: ByName) -> Result<Reply, Fault> {
    let Some((name, text)) = text(sys, &input.name) else { return Ok(Reply::absent()) };
    Ok(Reply { shape: Shape::Mirrored(map! { "name" => name, "rules" => text }), ..Reply::default() })
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Reply, Fault> {
    let name = parse_name(&input.name)?;
    let text = input.policy.or(input.rules).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Fault::invalid("'policy' parameter not supplied or empty"))?;
    let text = decode(text);
    sys.handles.policies.write(cx.view.widen(Widened::assertion()), &name, &text)?;
    Ok(Reply::nothing())
}

/// Clients may send the text in base64; no policy is valid base64, which has no braces, quotes or spaces.
fn decode(text: String) -> String {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Reply, Fault> {
    let name = parse_name(&input.name)?;
    sys.handles.policies.delete(cx.view.widen(Widened::assertion()), &name)?;
    Ok(Reply::nothing())
}
