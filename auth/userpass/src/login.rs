//! Logging in: a claim for the core when name and password belong together, one refusal for everything else.

use std::collections::BTreeMap;

use tresor_engine::{Cx, Login};
use tresor_model::{Fault, Refusal};
use tresor_secret::SecretString;
use tresor_wire::input::Input;

use crate::users::User;
use crate::{Userpass, password};

/// The one answer to every login that does not succeed.
const REFUSED: &str = "invalid username or password";

/// Name and password.
#[derive(Input)]
pub(crate) struct Credentials {
    /// The name.
    #[input(path)]
    username: String,
    /// The password.
    #[input(secret)]
    password: Option<SecretString>,
}

pub(crate) async fn login(_method: &Userpass, mut cx: Cx<'_>, input: Credentials) -> Result<Login, Fault> {
    let password = input.password.filter(|password| !password.expose().is_empty());
    let password = password.ok_or_else(|| Fault::invalid("missing password"))?;
    let user = User::load(&mut cx.view, &input.username)?;
    let right = password::verify(&cx, password, user.as_ref().map(|user| &user.password_hash)).await?;
    let user = user.filter(|_| right).ok_or_else(|| Fault::Refusal(Refusal::Unproven(REFUSED.into())))?;
    Ok(Login {
        alias: input.username.clone(),
        display_name: input.username.clone(),
        kept: None,
        refusal: REFUSED,
        metadata: BTreeMap::from([("username".to_owned(), input.username)]),
        terms: user.token.terms()?,
        policies: user.token.policies,
    })
}
