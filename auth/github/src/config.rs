//! `config`: which organisation may log in, and by which server.

use std::collections::BTreeSet;
use std::time::Duration;

use tresor_engine::token_fields::{TokenFields, TokenSettings, TokenSettingsShown, newest};
use tresor_engine::{Cx, Data, Nothing};
use tresor_model::Fault;
use tresor_record::Record;
use tresor_wire::input::{EmptyInput, Input, Seconds};
use tresor_wire::output::Output;

use crate::{GitHub, ask};

/// The configuration.
#[derive(Record)]
#[record(kind = "github-config", version = 1)]
pub(crate) struct Config {
    pub(crate) organization: String,
    /// What GitHub calls it by: names can be given to others.
    pub(crate) organization_id: u64,
    /// The server; empty is github.com.
    pub(crate) base_url: String,
    pub(crate) token: TokenSettings,
    /// Which settings were written by their older names; they are shown by those too.
    older_names: BTreeSet<String>,
}

/// What to change; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The organisation whose members may log in.
    organization: Option<String>,
    /// Its number; asked of GitHub when it is not sent.
    organization_id: Option<u64>,
    /// The API of a GitHub Enterprise server, such as `https://github.example.com/api/v3`.
    base_url: Option<String>,
    /// What the tokens are like.
    #[input(flatten)]
    token: TokenFields,
    /// An older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// An older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
}

/// The configuration.
#[derive(Output)]
pub(crate) struct Shown {
    /// The organisation whose members may log in.
    organization: String,
    /// Its number.
    organization_id: u64,
    /// The server; empty is github.com.
    base_url: String,
    /// What the tokens are like.
    #[output(flatten)]
    token: TokenSettingsShown,
    /// The older name of `token_ttl`, where it was used.
    #[output(optional)]
    ttl: Option<Duration>,
    /// The older name of `token_max_ttl`, where it was used.
    #[output(optional)]
    max_ttl: Option<Duration>,
}

impl Config {
    pub(crate) fn load(cx: &mut Cx<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = cx.view.read("config")? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }
}

pub(crate) async fn read(_method: &GitHub, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Shown>>, Fault> {
    let Some(config) = Config::load(&mut cx)? else { return Ok(None) };
    let is_older = |name: &str| config.older_names.contains(name);
    Ok(Some(Data(Shown {
        ttl: is_older("ttl").then_some(config.token.ttl),
        max_ttl: is_older("max_ttl").then_some(config.token.max_ttl),
        organization: config.organization,
        organization_id: config.organization_id,
        base_url: config.base_url,
        token: config.token.show(),
    })))
}

pub(crate) async fn write(_method: &GitHub, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let mut config = Config::load(&mut cx)?.unwrap_or_else(|| Config {
        organization: String::new(),
        organization_id: 0,
        base_url: String::new(),
        token: TokenSettings::default(),
        older_names: BTreeSet::new(),
    });
    if let Some(base_url) = input.base_url {
        ask::check_base(&base_url)?;
        config.base_url = base_url;
    }
    if let Some(organization) = input.organization.filter(|name| *name != config.organization) {
        config.organization = organization;
        // The number was that of the other one.
        config.organization_id = 0;
    }
    if config.organization.is_empty() {
        return Err(Fault::invalid("organization is a required parameter"));
    }
    let mut sent = input.token;
    sent.token_ttl = newest(&mut config.older_names, "ttl", sent.token_ttl, input.ttl);
    sent.token_max_ttl = newest(&mut config.older_names, "max_ttl", sent.token_max_ttl, input.max_ttl);
    config.token.change(sent)?;
    config.organization_id = input.organization_id.unwrap_or(config.organization_id);
    if config.organization_id == 0 {
        config.organization_id = ask::organization_id(&cx, &config).await?;
    }
    cx.view.write("config", &config.encode())?;
    Ok(Nothing)
}
