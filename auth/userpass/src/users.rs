//! Users: their records and the endpoints that manage them.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_engine::token_fields::{TokenFields, TokenSettings, TokenSettingsShown, checked_policies, newest};
use tresor_engine::{Cx, Data, Keys, Nothing, View};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_secret::SecretString;
use tresor_wire::input::{Cidrs, CommaList, EmptyInput, Input, PathParameters, Seconds};
use tresor_wire::output::Output;

use crate::{Userpass, password};

/// A user as it is stored.
#[derive(Record)]
#[record(kind = "userpass-user", version = 1)]
pub(crate) struct User {
    pub(crate) password_hash: SecretString,
    pub(crate) token: TokenSettings,
    /// Which settings were written by their older names; they are shown by those too.
    older_names: BTreeSet<String>,
}

impl User {
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(&format!("user/{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    fn store(&self, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
        cx.view.write(&format!("user/{name}"), &self.encode())
    }

    fn show(self) -> UserShown {
        let is_older = |name: &str| self.older_names.contains(name);
        UserShown {
            policies: is_older("policies").then(|| self.token.policies.clone()),
            ttl: is_older("ttl").then_some(self.token.ttl),
            max_ttl: is_older("max_ttl").then_some(self.token.max_ttl),
            bound_cidrs: is_older("bound_cidrs").then(|| self.token.bound_cidrs.clone()),
            token: self.token.show(),
        }
    }
}

/// What is shown of a user: never the password.
#[derive(Output)]
pub(crate) struct UserShown {
    /// What the tokens are like.
    #[output(flatten)]
    token: TokenSettingsShown,
    /// The older name of `token_policies`, where it was used.
    #[output(optional)]
    policies: Option<Vec<String>>,
    /// The older name of `token_ttl`, where it was used.
    #[output(optional)]
    ttl: Option<Duration>,
    /// The older name of `token_max_ttl`, where it was used.
    #[output(optional)]
    max_ttl: Option<Duration>,
    /// The older name of `token_bound_cidrs`, where it was used.
    #[output(optional)]
    bound_cidrs: Option<Vec<String>>,
}

/// A user by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The name.
    #[input(path)]
    username: String,
}

/// A user to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The name.
    #[input(path)]
    username: String,
    /// The password; required for a new user.
    #[input(secret)]
    password: Option<SecretString>,
    /// A bcrypt hash in the place of the password.
    #[input(secret)]
    password_hash: Option<SecretString>,
    /// What the tokens are like.
    #[input(flatten)]
    token: TokenFields,
    /// An older name of `token_policies`.
    policies: Option<CommaList>,
    /// An older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// An older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
    /// An older name of `token_period`.
    period: Option<Seconds>,
    /// An older name of `token_bound_cidrs`.
    bound_cidrs: Option<Cidrs>,
}

/// A new password.
#[derive(Input)]
pub(crate) struct WritePassword {
    /// The name.
    #[input(path)]
    username: String,
    /// The password.
    #[input(secret)]
    password: Option<SecretString>,
    /// A bcrypt hash in the place of the password.
    #[input(secret)]
    password_hash: Option<SecretString>,
}

/// New policies.
#[derive(Input)]
pub(crate) struct WritePolicies {
    /// The name.
    #[input(path)]
    username: String,
    /// Policies of the tokens.
    token_policies: Option<CommaList>,
    /// An older name of `token_policies`.
    policies: Option<CommaList>,
}

pub(crate) fn exists(_method: &Userpass, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("username").map_or("", String::as_str);
    Ok(!name.is_empty() && User::load(&mut cx.view, name)?.is_some())
}

pub(crate) async fn list(_method: &Userpass, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("user/", None, None)?))
}

pub(crate) async fn read(_method: &Userpass, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<UserShown>>, Fault> {
    Ok(User::load(&mut cx.view, &input.username)?.map(|user| Data(user.show())))
}

pub(crate) async fn delete(_method: &Userpass, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    cx.view.delete(&format!("user/{}", checked_name(&input.username)?))?;
    Ok(Nothing)
}

fn checked_name(name: &str) -> Result<&str, Fault> {
    let fits = !name.is_empty()
        && name.chars().all(|letter| letter.is_alphanumeric() || "-_.@+ ".contains(letter))
        && !name.ends_with('.');
    if fits { Ok(name) } else { Err(Fault::invalid("invalid username")) }
}

async fn hashed(
    cx: &Cx<'_>,
    plain: Option<SecretString>,
    hash: Option<SecretString>,
) -> Result<Option<SecretString>, Fault> {
    match (plain, hash) {
        (Some(_), Some(_)) => Err(Fault::invalid("'password' and 'password_hash' cannot be supplied together")),
        (Some(plain), None) => password::hash(cx, plain).await.map(Some),
        (None, Some(hash)) => password::accept(cx, hash).await.map(Some),
        (None, None) => Ok(None),
    }
}

pub(crate) async fn write(_method: &Userpass, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = checked_name(&input.username)?;
    let known = User::load(&mut cx.view, name)?;
    let hash = hashed(&cx, input.password, input.password_hash).await?;
    let mut user = match (known, hash) {
        (Some(user), None) => user,
        (Some(user), Some(password_hash)) => User { password_hash, ..user },
        (None, None) => return Err(Fault::invalid("missing password")),
        (None, Some(password_hash)) => {
            User { password_hash, token: TokenSettings::default(), older_names: BTreeSet::new() }
        }
    };
    let (mut sent, older) = (input.token, &mut user.older_names);
    sent.token_policies = newest(older, "policies", sent.token_policies, input.policies);
    sent.token_ttl = newest(older, "ttl", sent.token_ttl, input.ttl);
    sent.token_max_ttl = newest(older, "max_ttl", sent.token_max_ttl, input.max_ttl);
    sent.token_bound_cidrs = newest(older, "bound_cidrs", sent.token_bound_cidrs, input.bound_cidrs);
    sent.token_period = sent.token_period.or(input.period);
    user.token.change(sent)?;
    user.store(&mut cx, name)?;
    Ok(Nothing)
}

/// The user that a change is for; there must be one.
fn known(cx: &mut Cx<'_>, name: &str) -> Result<User, Fault> {
    User::load(&mut cx.view, checked_name(name)?)?.ok_or_else(|| Fault::invalid("username does not exist"))
}

pub(crate) async fn write_password(_method: &Userpass, mut cx: Cx<'_>, input: WritePassword) -> Result<Nothing, Fault> {
    let mut user = known(&mut cx, &input.username)?;
    let hash = hashed(&cx, input.password, input.password_hash).await?;
    user.password_hash = hash.ok_or_else(|| Fault::invalid("missing password"))?;
    user.store(&mut cx, &input.username)?;
    Ok(Nothing)
}

pub(crate) async fn write_policies(_method: &Userpass, mut cx: Cx<'_>, input: WritePolicies) -> Result<Nothing, Fault> {
    let mut user = known(&mut cx, &input.username)?;
    if let Some(policies) = newest(&mut user.older_names, "policies", input.token_policies, input.policies) {
        user.token.policies = checked_policies(policies)?;
    }
    user.store(&mut cx, &input.username)?;
    Ok(Nothing)
}
