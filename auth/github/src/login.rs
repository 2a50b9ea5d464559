//! Logging in: GitHub says whose the token is; what the user belongs to there decides about the claim.

use std::collections::{BTreeMap, BTreeSet};

use tresor_engine::{Cx, Login};
use tresor_model::Fault;
use tresor_secret::SecretString;
use tresor_wire::input::Input;

use crate::config::Config;
use crate::maps::{Teams, Users, policies_of};
use crate::{GitHub, ask};

/// The team that everybody of the organisation belongs to.
const EVERYBODY: &str = "default";

/// A token of GitHub.
#[derive(Input)]
pub(crate) struct Credentials {
    /// The token.
    #[input(secret)]
    token: Option<SecretString>,
}

pub(crate) async fn login(_method: &GitHub, mut cx: Cx<'_>, input: Credentials) -> Result<Login, Fault> {
    let token = input.token.filter(|token| !token.expose().trim().is_empty());
    let token = token.ok_or_else(|| Fault::invalid("missing token"))?;
    let config = Config::load(&mut cx)?.ok_or_else(|| Fault::invalid("configuration has not been set"))?;
    let user = ask::user(&cx, &config, &token).await?;
    if !ask::belongs(&cx, &config, &token).await? {
        return Err(Fault::invalid("user is not part of required org"));
    }
    let mut teams: BTreeSet<String> = ask::teams(&cx, &config, &token).await?.into_iter().collect();
    teams.insert(EVERYBODY.to_owned());
    let mut policies = config.token.policies.clone();
    policies.extend(policies_of::<Teams>(&mut cx, teams)?);
    policies.extend(policies_of::<Users>(&mut cx, [user.clone()])?);
    policies.sort_unstable();
    policies.dedup();
    Ok(Login {
        alias: user.clone(),
        display_name: user.clone(),
        metadata: BTreeMap::from([("username".to_owned(), user), ("org".to_owned(), config.organization.clone())]),
        policies,
        terms: config.token.terms()?,
        refusal: "login from this address is not allowed",
    })
}
