//! `sys/policies/password`: what generated passwords are like, and passwords.

use tresor_core::password_policies::{POLICIES, PasswordPolicyRecord};
use tresor_engine::{Cx, Data, Keys, Nothing};
use tresor_model::Fault;
use tresor_policy::PasswordPolicy;
use tresor_wire::input::Input;
use tresor_wire::output::Output;

use super::Sys;
use super::named::{self, ByName};
use super::policies::decode;
use crate::pages::Page;

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

pub(super) async fn list(_sys: &Sys, cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    named::list(&POLICIES, cx, &input)
}

pub(super) async fn read(_sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Data<PolicyShown>, Fault> {
    Ok(Data(PolicyShown { policy: named::read(&POLICIES, cx, &input)?.text }))
}

pub(super) async fn write(_sys: &Sys, cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    if input.name.split('/').any(str::is_empty) {
        return Err(Fault::invalid("the name of a password policy has nothing between two slashes"));
    }
    let text = input.policy.filter(|text| !text.is_empty()).ok_or_else(|| Fault::invalid("missing policy"))?;
    let (text, entropy) = (decode(text), cx.entropy);
    let refuse = |error| Fault::invalid(format!("invalid password policy: {error}"));
    let policy = PasswordPolicy::parse(&text).map_err(refuse)?;
    policy.try_out(&mut |out| entropy.fill(out)).map_err(refuse)?;
    named::write(&POLICIES, cx, &input.name, &PasswordPolicyRecord { text })
}

pub(super) async fn delete(_sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    named::delete(&POLICIES, cx, &input)
}

pub(super) async fn generate(_sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Data<Generated>, Fault> {
    let entropy = cx.entropy;
    let policy = PasswordPolicy::parse(&named::read(&POLICIES, cx, &input)?.text).map_err(Fault::internal)?;
    let password = policy.generate(&mut |out| entropy.fill(out)).map_err(Fault::internal)?;
    Ok(Data(Generated { password }))
}
