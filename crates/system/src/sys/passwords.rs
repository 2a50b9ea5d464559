//! `sys/policies/password`: what generated passwords are like, and passwords.

use tresor_core::password_policies as stored;
use tresor_engine::{Cx, Data, Keys, Nothing, Widened};
use tresor_model::{Fault, Refusal};
use tresor_policy::PasswordPolicy;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;
use super::policies::decode;
use crate::pages::Page;

/// A password policy by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name.
    #[input(path)]
    name: String,
}

/// A password policy to write.
#[derive(Input)]
pub(super) struct Write {
    /// Its name.
    #[input(path)]
    name: String,
    /// Its text, HCL or JSON, perhaps in base64: `length`, and rules of kind `charset`.
    policy: Option<String>,
}

/// A password policy.
#[derive(Output)]
pub(super) struct PolicyShown {
    /// Its text as it was sent.
    policy: String,
}

/// A password.
#[derive(Output)]
pub(super) struct Generated {
    /// It.
    #[output(secret)]
    password: String,
}

fn absent() -> Fault {
    Refusal::Absent("policy does not exist".into()).into()
}

pub(super) async fn list(_sys: &Sys, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    let namespace = cx.mount.namespace.clone();
    let txn = cx.view.widen(Widened::assertion());
    Ok(Keys(stored::names(txn, &namespace, input.after.as_deref(), input.limit.0)?))
}

pub(super) async fn read(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Data<PolicyShown>, Fault> {
    let namespace = cx.mount.namespace.clone();
    let policy = stored::read(cx.view.widen(Widened::assertion()), &namespace, &input.name)?;
    Ok(Data(PolicyShown { policy: policy.ok_or_else(absent)? }))
}

pub(super) async fn write(_sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let text = input.policy.filter(|text| !text.is_empty()).ok_or_else(|| Fault::invalid("missing policy"))?;
    let (text, entropy) = (decode(text), cx.entropy);
    let refuse = |error| Fault::invalid(format!("invalid password policy: {error}"));
    let policy = PasswordPolicy::parse(&text).map_err(refuse)?;
    policy.try_out(&mut |out| entropy.fill(out)).map_err(refuse)?;
    let namespace = cx.mount.namespace.clone();
    stored::write(cx.view.widen(Widened::assertion()), &namespace, &input.name, text)?;
    Ok(Nothing)
}

pub(super) async fn delete(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let namespace = cx.mount.namespace.clone();
    stored::delete(cx.view.widen(Widened::assertion()), &namespace, &input.name)?;
    Ok(Nothing)
}

pub(super) async fn generate(_sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Data<Generated>, Fault> {
    let (namespace, entropy) = (cx.mount.namespace.clone(), cx.entropy);
    let text = stored::read(cx.view.widen(Widened::assertion()), &namespace, &input.name)?;
    let policy = PasswordPolicy::parse(&text.ok_or_else(absent)?).map_err(Fault::internal)?;
    let password = policy.generate(&mut |out| entropy.fill(out)).map_err(Fault::internal)?;
    Ok(Data(Generated { password }))
}
