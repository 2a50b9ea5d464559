//! Logging in, and asking again at renewals: GitHub says whose the token is; what the user belongs to there decides about the
//! claim.

use std::collections::{BTreeMap, BTreeSet};

use tresor_engine::{Cx, Holder, Login, TokenTerms};
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
    let config = configured(&mut cx)?;
    let (user, policies) = admitted(&mut cx, &config, &token).await?;
    Ok(Login {
        alias: user.clone(),
        display_name: user.clone(),
        metadata: BTreeMap::from([("username".to_owned(), user), ("org".to_owned(), config.organization.clone())]),
        policies,
        terms: config.token.terms()?,
        kept: Some(keep(&config, &token)),
        refusal: "login from this address is not allowed",
    })
}

/// Asks GitHub again before a token is renewed: who left the organisation, or belongs to other teams by now, is not what the
/// token says any more. The token of GitHub is asked with as it was; one that was taken back there renews nothing.
pub(crate) async fn renewal(cx: &mut Cx<'_>, holder: &Holder<'_>) -> Result<TokenTerms, Fault> {
    let kept = holder.kept.ok_or_else(|| Fault::invalid("it is not known who logged in: log in again"))?;
    let config = configured(cx)?;
    let token =
        kept_for(&config, kept).ok_or_else(|| Fault::invalid("base_url was changed since the login: log in again"))?;
    let (_, policies) = admitted(cx, &config, &token).await?;
    if !holder.has(&policies) {
        return Err(Fault::invalid("policies have changed, not renewing"));
    }
    config.token.terms()
}

/// A token of GitHub and the server that it was given for, which is the only one that it is ever sent to.
fn keep(config: &Config, token: &SecretString) -> SecretString {
    SecretString::new(format!("{}\n{}", config.base_url, token.expose().trim()))
}

/// The token, if the server is still the one it was given for.
fn kept_for(config: &Config, kept: &SecretString) -> Option<SecretString> {
    let (server, token) = kept.expose().split_once('\n')?;
    (server == config.base_url).then(|| SecretString::new(token.to_owned()))
}

fn configured(cx: &mut Cx<'_>) -> Result<Config, Fault> {
    Config::load(cx)?.ok_or_else(|| Fault::invalid("configuration has not been set"))
}

/// Whom GitHub says that a token belongs to, if that is somebody of the organisation, and the policies of teams and name.
async fn admitted(cx: &mut Cx<'_>, config: &Config, token: &SecretString) -> Result<(String, Vec<String>), Fault> {
    let user = ask::user(cx, config, token).await?;
    if !ask::belongs(cx, config, token).await? {
        return Err(Fault::invalid("user is not part of required org"));
    }
    let mut teams: BTreeSet<String> = ask::teams(cx, config, token).await?.into_iter().collect();
    teams.insert(EVERYBODY.to_owned());
    let mut policies = config.token.policies.clone();
    policies.extend(policies_of::<Teams>(cx, teams)?);
    policies.extend(policies_of::<Users>(cx, [user.clone()])?);
    policies.sort_unstable();
    policies.dedup();
    Ok((user, policies))
}
