//! Keys that the machine gives the server, for a configuration without any: of its environment, of a role that a token of
//! somebody else's assumes, of a profile of the files that AWS's tools share, of the container it runs in, of the machine's
//! metadata; the first place that has some counts.
//!
//! They are looked for once per request, so keys that were exchanged outside are found by the next one, and nothing is kept
//! that ends. A place that the environment names and that has none is an error, and no reason to look further: who names one
//! means it. Deliberately absent: what profiles mean (`tresor-sigv4`), and caching.

use std::sync::{Arc, OnceLock};

use tresor_env::{Clock, Outgoing, Surroundings};
use tresor_sigv4::assumed::{self, Sts};
use tresor_sigv4::chain::{Chain, Source};
use tresor_sigv4::profile::{self, Shared};
use tresor_sigv4::web_identity::{self, Role};
use tresor_sigv4::{Keys, told};
use zeroize::Zeroizing;

use crate::query::AwsError;

/// The region where nobody says another one.
pub(crate) const REGION: &str = "us-east-1";

/// Why a mount has no keys that may not have the server's.
pub(crate) const NOT_THE_SERVERS: &str = "keys of the server's own are for mounts of the root namespace";

/// What a machine gives, for one request.
pub(crate) struct Machine {
    around: Arc<dyn Surroundings>,
    outgoing: Arc<dyn Outgoing>,
    clock: Arc<dyn Clock>,
    found: OnceLock<Keys>,
}

/// Why there are no keys.
pub(crate) fn keyless(why: impl std::fmt::Display) -> AwsError {
    AwsError::Keyless(format!("no access_key is configured in config/root, and {why}"))
}

impl Machine {
    pub(crate) fn new(around: Arc<dyn Surroundings>, outgoing: Arc<dyn Outgoing>, clock: Arc<dyn Clock>) -> Self {
        Self { around, outgoing, clock, found: OnceLock::new() }
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.around.variable(name)
    }

    /// The region that the environment says.
    pub(crate) fn region(&self) -> String {
        self.region_or(None)
    }

    /// The same, or else what a profile says.
    fn region_or(&self, said: Option<String>) -> String {
        let around = self.variable("AWS_REGION").or_else(|| self.variable("AWS_DEFAULT_REGION"));
        around.map(|around| around.to_string()).or(said).unwrap_or_else(|| REGION.to_owned())
    }

    /// STS, for whoever wants a role.
    fn sts(&self, region: &str) -> Sts {
        Sts::of(region, self.variable("AWS_ENDPOINT_URL_STS").map(|own| own.to_string()))
    }

    /// The keys.
    pub(crate) async fn keys(&self) -> Result<&Keys, AwsError> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let keys = self.look().await?;
        Ok(self.found.get_or_init(|| keys))
    }

    async fn look(&self) -> Result<Keys, AwsError> {
        if let Some(keys) = self.of_environment()? {
            // Whoever names a profile whose role the environment's keys assume means that role.
            return match self.chain_of_environment().await {
                Some(chain) => self.follow(chain).await,
                None => Ok(keys),
            };
        }
        if let Some(keys) = self.of_web_identity().await? {
            return Ok(keys);
        }
        if let Some(chain) = self.chain().await? {
            return self.follow(chain).await;
        }
        match self.of_container().await? {
            Some(keys) => Ok(keys),
            None => self.of_metadata().await,
        }
    }

    fn of_environment(&self) -> Result<Option<Keys>, AwsError> {
        let (id, secret) = (self.variable("AWS_ACCESS_KEY_ID"), self.variable("AWS_SECRET_ACCESS_KEY"));
        match (id, secret) {
            (None, None) => Ok(None),
            (Some(id), Some(secret)) => Ok(Some(Keys::new(&id, secret, self.variable("AWS_SESSION_TOKEN")))),
            (Some(_), None) => Err(keyless("the environment has AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY")),
            (None, Some(_)) => Err(keyless("the environment has AWS_SECRET_ACCESS_KEY without AWS_ACCESS_KEY_ID")),
        }
    }

    /// Keys of a role, by the token in the file that the environment names; the file is read anew each time.
    async fn of_web_identity(&self) -> Result<Option<Keys>, AwsError> {
        let Some(path) = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
        let refused = |why: &dyn std::fmt::Display| keyless(format!("the web identity {:?}: {why}", path.as_str()));
        let arn = self.variable("AWS_ROLE_ARN").ok_or_else(|| refused(&"the environment has no AWS_ROLE_ARN"))?;
        let session = self.variable("AWS_ROLE_SESSION_NAME");
        let session = session.map_or_else(|| web_identity::SESSION.to_owned(), |session| session.to_string());
        let text = self.around.file(&path).await.map_err(|why| refused(&why))?;
        let text = text.ok_or_else(|| refused(&"the file is not there"))?;
        let endpoint = self.sts(&self.region()).endpoint;
        let role = Role { arn: arn.to_string(), session };
        let found = web_identity::assume(&*self.outgoing, &endpoint, &role, text).await;
        found.map(Some).map_err(|why| refused(&why))
    }

    /// One of the shared files; `None` when there is none, and nobody says that there is.
    async fn shared_file(&self, variable: &str, usual: &str) -> Result<Option<Zeroizing<String>>, AwsError> {
        let named = self.variable(variable);
        let is_named = named.is_some();
        let usual = || self.variable("HOME").map(|home| Zeroizing::new(format!("{}/.aws/{usual}", &*home)));
        let Some(path) = named.or_else(usual) else { return Ok(None) };
        let broken = |why: &dyn std::fmt::Display| keyless(format!("the file {:?}: {why}", path.as_str()));
        match self.around.file(&path).await.map_err(|why| broken(&why))? {
            None if is_named => Err(broken(&"it is not there")),
            text => Ok(text),
        }
    }

    /// What the profile that counts says about keys.
    async fn chain(&self) -> Result<Option<Chain>, AwsError> {
        let config = self.shared_file("AWS_CONFIG_FILE", "config").await?.unwrap_or_default();
        let credentials = self.shared_file("AWS_SHARED_CREDENTIALS_FILE", "credentials").await?.unwrap_or_default();
        let named = self.variable("AWS_PROFILE");
        let is_meant = named.is_some() || self.variable("AWS_SHARED_CREDENTIALS_FILE").is_some();
        let name = named.as_ref().map_or(profile::DEFAULT, |name| name.as_str());
        let shared = Shared::read(&config, &credentials);
        match shared.chain(name).map_err(keyless)? {
            None if is_meant && shared.has(name) => {
                Err(keyless(format!("the profile {name:?} has neither keys nor a way to some")))
            }
            None if is_meant => Err(keyless(format!("no file of AWS's tools has a profile {name:?}"))),
            chain => Ok(chain),
        }
    }

    /// What the profile says that is named, if it begins with the keys of the environment.
    async fn chain_of_environment(&self) -> Option<Chain> {
        drop(self.variable("AWS_PROFILE")?);
        let chain = self.chain().await.ok().flatten()?;
        matches!(chain.source, Source::Environment).then_some(chain)
    }

    /// The keys that a profile leads to.
    async fn follow(&self, chain: Chain) -> Result<Keys, AwsError> {
        let sts = self.sts(&self.region_or(chain.region));
        let named = |what: &str| keyless(format!("`credential_source` is `{what}`, which has none"));
        let first = match chain.source {
            Source::Keys(keys) => keys,
            Source::Environment => self.of_environment()?.ok_or_else(|| named("Environment"))?,
            Source::Container => self.of_container().await?.ok_or_else(|| named("EcsContainer"))?,
            Source::Machine => self.of_metadata().await?,
            Source::WebIdentity { role, token_file } => {
                let refused = |why: &dyn std::fmt::Display| keyless(format!("the web identity {token_file:?}: {why}"));
                let text = self.around.file(&token_file).await.map_err(|why| refused(&why))?;
                let text = text.ok_or_else(|| refused(&"the file is not there"))?;
                let found = web_identity::assume(&*self.outgoing, &sts.endpoint, &role, text).await;
                found.map_err(|why| refused(&why))?
            }
        };
        let found = assumed::through(&*self.outgoing, &sts, first, &chain.roles, self.clock.wall()).await;
        found.map_err(keyless)
    }

    /// Keys of the container, where the environment says that there are some.
    async fn of_container(&self) -> Result<Option<Keys>, AwsError> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let relative = relative.map(|path| format!("{}/{}", told::AGENT, path.trim_start_matches('/')));
        let full = || self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(|full| full.to_string());
        let Some(url) = relative.or_else(full) else { return Ok(None) };
        let refused = |why: String| keyless(format!("the container's credentials: {why}"));
        let token = match self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let text = self.around.file(&path).await.map_err(|why| refused(why.to_string()))?;
                let text = text.ok_or_else(|| refused("the file of its token is not there".to_owned()))?;
                Some(Zeroizing::new(text.trim().to_owned()))
            }
            None => self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        told::by_container(&*self.outgoing, url, token).await.map(Some).map_err(refused)
    }

    /// Keys of the role that the machine has.
    async fn of_metadata(&self) -> Result<Keys, AwsError> {
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true")) {
            return Err(keyless("nothing around the server has keys"));
        }
        let base = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = base.as_ref().map_or(told::METADATA, |base| base.as_str());
        let found = told::by_machine(&*self.outgoing, base).await;
        found.map_err(|why| keyless(format!("the machine's metadata: {why}")))
    }
}
