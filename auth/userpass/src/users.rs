//! Users: their records and the endpoints that manage them.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tresor_engine::{Cx, Data, Keys, Nothing, TokenTerms};
use tresor_model::{Fault, TokenType};
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
    pub(crate) policies: Vec<String>,
    ttl: Duration,
    max_ttl: Duration,
    explicit_max_ttl: Duration,
    period: Duration,
    num_uses: u64,
    bound_cidrs: Vec<String>,
    no_default_policy: bool,
    token_type: String,
    /// Which settings were written by their older names; they are shown by those too.
    older_names: BTreeSet<String>,
}

impl User {
    pub(crate) fn load(cx: &mut Cx<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = cx.view.read(&format!("user/{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    fn store(&self, cx: &mut Cx<'_>, name: &str) -> Result<(), Fault> {
        cx.view.write(&format!("user/{name}"), &self.encode())
    }

    /// What was sent of a setting that has an older name too: the newer one wins, and the one that was used is the
    /// one that is shown.
    fn newest<T>(&mut self, older_name: &str, sent: Option<T>, sent_by_older_name: Option<T>) -> Option<T> {
        if sent.is_some() {
            self.older_names.remove(older_name);
        } else if sent_by_older_name.is_some() {
            self.older_names.insert(older_name.to_owned());
        }
        sent.or(sent_by_older_name)
    }

    /// The wishes for a token; a range that cannot be read admits nobody.
    pub(crate) fn terms(&self) -> Result<TokenTerms, Fault> {
        let bound_cidrs = self
            .bound_cidrs
            .iter()
            .map(|range| range.parse::<IpNet>())
            .collect::<Result<_, _>>()
            .map_err(Fault::internal)?;
        Ok(TokenTerms {
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            explicit_max_ttl: self.explicit_max_ttl,
            period: self.period,
            num_uses: self.num_uses,
            bound_cidrs,
            no_default_policy: self.no_default_policy,
            token_type: (!self.token_type.is_empty()).then_some(TokenType::Service),
        })
    }

    fn show(self) -> UserShown {
        let is_older = |name: &str| self.older_names.contains(name);
        UserShown {
            policies: is_older("policies").then(|| self.policies.clone()),
            ttl: is_older("ttl").then_some(self.ttl),
            max_ttl: is_older("max_ttl").then_some(self.max_ttl),
            bound_cidrs: is_older("bound_cidrs").then(|| self.bound_cidrs.clone()),
            token_bound_cidrs: self.bound_cidrs,
            token_explicit_max_ttl: self.explicit_max_ttl,
            token_max_ttl: self.max_ttl,
            token_no_default_policy: self.no_default_policy,
            token_num_uses: self.num_uses,
            token_period: self.period,
            token_policies: self.policies,
            token_ttl: self.ttl,
            token_type: if self.token_type.is_empty() { "default".to_owned() } else { self.token_type },
        }
    }
}

/// What is shown of a user: never the password.
#[derive(Output)]
pub(crate) struct UserShown {
    /// Addresses that the user and the tokens may come from.
    token_bound_cidrs: Vec<String>,
    /// Longest life of the tokens, whatever the mount says.
    token_explicit_max_ttl: Duration,
    /// Longest life of the tokens.
    token_max_ttl: Duration,
    /// Whether the policy `default` is left out.
    token_no_default_policy: bool,
    /// How often the tokens may be used.
    token_num_uses: u64,
    /// Period of the tokens.
    token_period: Duration,
    /// Policies of the tokens.
    token_policies: Vec<String>,
    /// Life of the tokens.
    token_ttl: Duration,
    /// Kind of the tokens.
    token_type: String,
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
    /// Policies of the tokens.
    token_policies: Option<CommaList>,
    /// An older name of `token_policies`.
    policies: Option<CommaList>,
    /// Life of the tokens.
    token_ttl: Option<Seconds>,
    /// An older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// Longest life of the tokens.
    token_max_ttl: Option<Seconds>,
    /// An older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
    /// Longest life of the tokens, whatever the mount says.
    token_explicit_max_ttl: Option<Seconds>,
    /// Period of the tokens.
    #[input(alias = "period")]
    token_period: Option<Seconds>,
    /// How often the tokens may be used.
    token_num_uses: Option<u64>,
    /// Addresses that users and tokens may come from.
    token_bound_cidrs: Option<Cidrs>,
    /// An older name of `token_bound_cidrs`.
    bound_cidrs: Option<Cidrs>,
    /// Leave the policy `default` out.
    token_no_default_policy: Option<bool>,
    /// Kind of the tokens.
    token_type: Option<String>,
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
    Ok(!name.is_empty() && User::load(&mut cx, name)?.is_some())
}

pub(crate) async fn list(_method: &Userpass, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("user/", None, None)?))
}

pub(crate) async fn read(_method: &Userpass, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<UserShown>>, Fault> {
    Ok(User::load(&mut cx, &input.username)?.map(|user| Data(user.show())))
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

fn checked_policies(policies: CommaList) -> Result<Vec<String>, Fault> {
    let mut policies: Vec<String> = policies.0.iter().map(|policy| policy.to_lowercase()).collect();
    policies.sort_unstable();
    policies.dedup();
    if policies.iter().any(|policy| policy == "root") {
        return Err(Fault::invalid("users cannot have the root policy"));
    }
    Ok(policies)
}

pub(crate) async fn write(_method: &Userpass, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = checked_name(&input.username)?;
    let known = User::load(&mut cx, name)?;
    let hash = hashed(&cx, input.password, input.password_hash).await?;
    let mut user = match (known, hash) {
        (Some(user), None) => user,
        (Some(user), Some(password_hash)) => User { password_hash, ..user },
        (None, None) => return Err(Fault::invalid("missing password")),
        (None, Some(password_hash)) => User {
            password_hash,
            policies: Vec::new(),
            ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            explicit_max_ttl: Duration::ZERO,
            period: Duration::ZERO,
            num_uses: 0,
            bound_cidrs: Vec::new(),
            no_default_policy: false,
            token_type: String::new(),
            older_names: BTreeSet::new(),
        },
    };
    if let Some(policies) = user.newest("policies", input.token_policies, input.policies) {
        user.policies = checked_policies(policies)?;
    }
    let ttl = user.newest("ttl", input.token_ttl, input.ttl);
    let max_ttl = user.newest("max_ttl", input.token_max_ttl, input.max_ttl);
    for (sent, kept) in [
        (ttl, &mut user.ttl),
        (max_ttl, &mut user.max_ttl),
        (input.token_explicit_max_ttl, &mut user.explicit_max_ttl),
        (input.token_period, &mut user.period),
    ] {
        if let Some(sent) = sent {
            *kept = sent.0;
        }
    }
    if !user.max_ttl.is_zero() && user.ttl > user.max_ttl {
        return Err(Fault::invalid("'token_ttl' cannot be greater than 'token_max_ttl'"));
    }
    user.num_uses = input.token_num_uses.unwrap_or(user.num_uses);
    user.no_default_policy = input.token_no_default_policy.unwrap_or(user.no_default_policy);
    if let Some(ranges) = user.newest("bound_cidrs", input.token_bound_cidrs, input.bound_cidrs) {
        user.bound_cidrs = ranges.0.iter().map(ToString::to_string).collect();
    }
    if let Some(kind) = input.token_type {
        user.token_type = match kind.as_str() {
            "" | "default" | "default-service" => String::new(),
            "service" => kind,
            "batch" | "default-batch" => return Err(Fault::invalid("batch tokens are not available")),
            _ => return Err(Fault::invalid("invalid 'token_type' value")),
        };
    }
    user.store(&mut cx, name)?;
    Ok(Nothing)
}

/// The user that a change is for; there must be one.
fn known(cx: &mut Cx<'_>, name: &str) -> Result<User, Fault> {
    User::load(cx, checked_name(name)?)?.ok_or_else(|| Fault::invalid("username does not exist"))
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
    if let Some(policies) = user.newest("policies", input.token_policies, input.policies) {
        user.policies = checked_policies(policies)?;
    }
    user.store(&mut cx, &input.username)?;
    Ok(Nothing)
}
