//! `config`: which directory, how it is reached, and as whom the engine acts there.
//!
//! The password is never shown, and a write that leaves it out leaves it as it is. A configuration that is deleted, or gets
//! another address, stays as a *former* one, hidden, so that what was made with it can still be taken back by it.

mod older;

use std::sync::Arc;
use std::time::Duration;

use tresor_credential::Timing;
use tresor_credential::timing::{Sent, Times};
use tresor_directory::{Certificates, Dialer, Tls, Version, addresses};
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Nothing, View, Warned};
use tresor_env::{Clock, Net};
use tresor_model::{Body, Fault, Map, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::SecretString;
use tresor_wire::input::{EmptyInput, Input, PathParameters, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use self::older::ConfigV2;
use crate::directory::{Directory, Manager};
use crate::secrets::copy;
use crate::{Ldap, root};

/// How long a password is when nobody says.
const LENGTH: u64 = 64;
/// How long it can be.
const LENGTH_MAX: u64 = 4096;
/// How long a password of before is still tried after a rotation.
const LAST_PASSWORD: Duration = Duration::from_secs(600);
/// The least time between two rotations of the engine's own password.
const PERIOD_MIN: Duration = Duration::from_secs(10);

/// How a directory keeps passwords.
#[derive(Part, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// As `userPassword`.
    #[part(tag = 1)]
    OpenLdap,
    /// Active Directory: as `unicodePwd`.
    #[part(tag = 2)]
    ActiveDirectory,
    /// RACF: as `racfPassword`.
    #[part(tag = 3)]
    RacfPassword,
    /// RACF: as `racfPassPhrase`.
    #[part(tag = 4)]
    RacfPhrase,
}

impl Schema {
    const fn name(self) -> &'static str {
        match self {
            Self::OpenLdap => "openldap",
            Self::ActiveDirectory => "ad",
            Self::RacfPassword | Self::RacfPhrase => "racf",
        }
    }

    const fn user_attribute(self) -> &'static str {
        match self {
            Self::OpenLdap => "cn",
            Self::ActiveDirectory => "userPrincipalName",
            Self::RacfPassword | Self::RacfPhrase => "racfid",
        }
    }
}

/// The configuration as it is stored.
#[derive(Record)]
#[record(kind = "ldap-config", version = 3, previous = ConfigV2)]
pub(crate) struct Config {
    /// Which of the mount's configurations it is: another address is another one.
    pub(crate) number: u64,
    /// Kept for what was made with it only.
    pub(crate) is_former: bool,
    url: String,
    pub(crate) bind_name: String,
    pub(crate) password: SecretString,
    /// The password before, and since when it is that.
    pub(crate) last_password: Option<SecretString>,
    pub(crate) rotated: Option<Timestamp>,
    /// A password that is being given to the engine's own account, or perhaps was.
    pub(crate) candidate: Option<SecretString>,
    pub(crate) schema: Schema,
    password_policy: String,
    /// Zero is the usual one.
    length: u64,
    base: String,
    user_attribute: String,
    upn_domain: String,
    request_timeout: Duration,
    connection_timeout: Duration,
    start_tls: bool,
    insecure_tls: bool,
    authority: String,
    client_certificate: String,
    client_key: SecretString,
    tls_oldest: String,
    tls_newest: String,
    pub(crate) skip_import: bool,
    pub(crate) timing: Timing,
    pub(crate) is_rotation_disabled: bool,
    /// Whether each account acts for itself, and nobody else is configured.
    pub(crate) is_self_managed: bool,
    /// How long accounts live that are made, where their role does not say it; zero is as the mount says.
    pub(crate) ttl: Duration,
    /// How long they live at most.
    pub(crate) max_ttl: Duration,
}

/// What to change; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The name that the engine binds as.
    binddn: Option<String>,
    /// Its password.
    #[input(secret)]
    bindpass: Option<SecretString>,
    /// Addresses of the directory, separated by commas, tried in order.
    url: Option<String>,
    /// How the directory keeps passwords: `openldap`, `ad` or `racf`.
    schema: Option<String>,
    /// What RACF is given: `password` or `phrase`.
    credential_type: Option<String>,
    /// The policy by which passwords are made.
    password_policy: Option<String>,
    /// How long passwords are, without a policy.
    length: Option<u64>,
    /// Below which entry accounts are looked for.
    userdn: Option<String>,
    /// The attribute that names an account.
    userattr: Option<String>,
    /// The domain behind the names of those who log in (Active Directory).
    upndomain: Option<String>,
    /// How long one answer may take.
    request_timeout: Option<Seconds>,
    /// How long connecting to one address may take.
    connection_timeout: Option<Seconds>,
    /// Whether `ldap://` becomes TLS before anything is said.
    starttls: Option<bool>,
    /// Whether whoever answers is taken for the directory.
    insecure_tls: Option<bool>,
    /// The authority of the directory's certificate, in PEM.
    certificate: Option<String>,
    /// The engine's own certificate, in PEM.
    client_tls_cert: Option<String>,
    /// Its key, in PEM.
    #[input(secret)]
    client_tls_key: Option<SecretString>,
    /// The oldest version of TLS: `tls12` or `tls13`.
    tls_min_version: Option<String>,
    /// The newest version of TLS.
    tls_max_version: Option<String>,
    /// Whether static roles take over accounts without giving them another password.
    skip_static_role_import_rotation: Option<bool>,
    /// Whether accounts of static roles change their passwords as themselves; then there is no `binddn`.
    self_managed: Option<bool>,
    /// How long accounts live that are made by roles that do not say it; zero is as long as the mount says.
    ttl: Option<Seconds>,
    /// How long they live at most, where their role does not say it.
    max_ttl: Option<Seconds>,
    /// When the engine's own password is rotated.
    #[input(flatten)]
    times: Times,
    /// What else was sent; nothing of it counts, and whoever sent it is told.
    #[input(rest)]
    others: Map,
}

/// What is shown: never a password or key.
#[derive(Output)]
pub(crate) struct Shown {
    /// The name that the engine binds as.
    binddn: String,
    /// Addresses of the directory.
    url: String,
    /// How the directory keeps passwords.
    schema: &'static str,
    /// What RACF is given.
    credential_type: &'static str,
    /// The policy by which passwords are made, if there is one.
    #[output(optional)]
    password_policy: Option<String>,
    /// How long passwords are, if somebody said.
    #[output(optional)]
    length: Option<u64>,
    /// Below which entry accounts are looked for.
    userdn: String,
    /// The attribute that names an account.
    userattr: String,
    /// The domain behind names.
    upndomain: String,
    /// How long one answer may take.
    request_timeout: Duration,
    /// How long connecting may take.
    connection_timeout: Duration,
    /// Whether `ldap://` becomes TLS.
    starttls: bool,
    /// Whether certificates are not verified.
    insecure_tls: bool,
    /// The authority of the directory's certificate.
    certificate: String,
    /// The engine's own certificate.
    client_tls_cert: String,
    /// The oldest version of TLS.
    tls_min_version: String,
    /// The newest version of TLS.
    tls_max_version: String,
    /// Whether static roles take over accounts as they are.
    skip_static_role_import_rotation: bool,
    /// Whether accounts change their passwords as themselves.
    self_managed: bool,
    /// How long accounts live that are made.
    ttl: Duration,
    /// How long they live at most.
    max_ttl: Duration,
    /// When the engine's own password was rotated.
    #[output(optional)]
    last_bind_password_rotation: Option<String>,
    /// How often it is rotated.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When it is rotated.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How late that may begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// Whether it is not rotated by itself.
    disable_automated_rotation: bool,
    /// How that is tried again.
    #[output(flatten)]
    retries: RetriesShown,
}

/// When something is rotated, as it was sent.
pub(crate) fn timing(period: Option<Seconds>, schedule: Option<String>, window: Option<Seconds>) -> Sent {
    Sent { period: period.map(|sent| sent.0), schedule, window: window.map(|sent| sent.0) }
}

impl Config {
    fn fresh(number: u64) -> Self {
        let none = || SecretString::new(String::new());
        Self {
            number,
            is_former: false,
            url: "ldap://127.0.0.1".to_owned(),
            bind_name: String::new(),
            password: none(),
            last_password: None,
            rotated: None,
            candidate: None,
            schema: Schema::OpenLdap,
            password_policy: String::new(),
            length: 0,
            base: String::new(),
            user_attribute: String::new(),
            upn_domain: String::new(),
            request_timeout: Duration::from_secs(90),
            connection_timeout: Duration::from_secs(30),
            start_tls: false,
            insecure_tls: false,
            authority: String::new(),
            client_certificate: String::new(),
            client_key: none(),
            tls_oldest: "tls12".to_owned(),
            tls_newest: "tls12".to_owned(),
            skip_import: false,
            timing: Timing::default(),
            is_rotation_disabled: false,
            is_self_managed: false,
            ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
        }
    }

    /// What is stored, be it a former one.
    fn stored(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read("config")? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// The configuration, where there is one.
    pub(crate) fn load(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        Ok(Self::stored(view)?.filter(|config| !config.is_former))
    }

    /// The configuration; a refusal where there is none.
    pub(crate) fn known(view: &mut View<'_>) -> Result<Self, Fault> {
        Self::load(view)?.ok_or_else(|| Fault::invalid("missing LDAP configuration"))
    }

    /// The configuration, where somebody acts for others; a refusal to do this where nobody does.
    pub(crate) fn managing(view: &mut View<'_>, deed: &str) -> Result<Self, Fault> {
        let config = Self::known(view)?;
        config.manages(deed)?;
        Ok(config)
    }

    /// A refusal to do this where nobody acts for others.
    pub(crate) fn manages(&self, deed: &str) -> Result<(), Fault> {
        if self.is_self_managed {
            return Err(Fault::invalid(format!("{deed} needs a binddn, and the configuration is self_managed")));
        }
        Ok(())
    }

    /// What is asked of the directory waits under this name.
    pub(crate) fn target(&self) -> String {
        self.url.clone()
    }

    /// The one that something was made with, or else what comes nearest to it.
    pub(crate) fn made_with(view: &mut View<'_>, number: u64) -> Result<Option<Self>, Fault> {
        let stored = Self::stored(view)?;
        if stored.as_ref().is_some_and(|config| config.number == number) {
            return Ok(stored);
        }
        match view.read(&former(number))? {
            Some(bytes) => Self::decode(&bytes).map(Some).map_err(Fault::internal),
            None => Ok(stored),
        }
    }

    pub(crate) fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.write("config", &self.encode())
    }

    /// The passwords to bind with, the likeliest first: in doubt whether a candidate was set, both are tried.
    fn passwords(&self, now: Timestamp) -> Vec<SecretString> {
        let is_recent = self.rotated.is_some_and(|rotated| now.since(rotated) < LAST_PASSWORD);
        let last = self.last_password.as_ref().filter(|_| is_recent);
        [Some(&self.password), self.candidate.as_ref(), last].into_iter().flatten().map(copy).collect()
    }

    /// How the directory is asked.
    pub(crate) fn directory(
        &self,
        net: &Arc<dyn Net>,
        clock: &Arc<dyn Clock>,
        now: Timestamp,
    ) -> Result<Directory, Fault> {
        let wrong = |error: tresor_directory::DirectoryError| Fault::invalid(error.to_string());
        let addresses = addresses(&self.url).map_err(wrong)?;
        let needs_tls = self.start_tls || addresses.iter().any(|address| address.is_secure);
        let tls = needs_tls.then(|| self.tls(clock)).transpose()?;
        let name = if self.upn_domain.is_empty() || self.bind_name.contains(['=', '@']) {
            self.bind_name.clone()
        } else {
            format!("{}@{}", self.bind_name, self.upn_domain)
        };
        Ok(Directory {
            dialer: Dialer {
                net: Arc::clone(net),
                clock: Arc::clone(clock),
                addresses,
                tls,
                start_tls: self.start_tls,
                connection_timeout: self.connection_timeout,
                request_timeout: self.request_timeout,
            },
            manager: Manager { name, passwords: self.passwords(now) },
            acts_as_itself: false,
            base: self.base.clone(),
            user_attribute: if self.user_attribute.is_empty() {
                self.schema.user_attribute().to_owned()
            } else {
                self.user_attribute.clone()
            },
            upn_domain: self.upn_domain.clone(),
            schema: self.schema,
        })
    }

    fn tls(&self, clock: &Arc<dyn Clock>) -> Result<Tls, Fault> {
        let version =
            |text: &str, name: &str| Version::parse(text).ok_or_else(|| Fault::invalid(format!("invalid '{name}'")));
        let oldest = version(&self.tls_oldest, "tls_min_version")?;
        let newest = version(&self.tls_newest, "tls_max_version")?;
        if newest < oldest {
            return Err(Fault::invalid("'tls_max_version' must be greater than or equal to 'tls_min_version'"));
        }
        let certificates = Certificates {
            authority: &self.authority,
            own: &self.client_certificate,
            key: Some(&self.client_key),
            anybody: self.insecure_tls,
        };
        Tls::new(certificates, (oldest, newest), clock).map_err(|error| Fault::invalid(error.to_string()))
    }

    /// A new password as the configuration wants it, or by another policy than its own.
    pub(crate) fn new_password(&self, cx: &mut Cx<'_>, policy: &str) -> Result<SecretString, Fault> {
        let policy = if policy.is_empty() { &self.password_policy } else { policy };
        if !policy.is_empty() {
            return cx.password(policy);
        }
        let length = if self.length == 0 { LENGTH } else { self.length };
        let length = usize::try_from(length).map_err(Fault::internal)?;
        let text = tresor_crypto::token_text::random_base62(length, cx.entropy);
        Ok(SecretString::new(text.to_string()))
    }

    /// When the engine's own password is rotated next.
    pub(crate) fn next_rotation(&self, last: Timestamp, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let rotation = self.timing.rotation().map_err(Fault::internal)?.filter(|_| !self.is_rotation_disabled);
        Ok(rotation.map(|rotation| rotation.due(last, now)))
    }

    fn show(self, retries: RetriesShown) -> Shown {
        Shown {
            binddn: self.bind_name,
            url: self.url,
            schema: self.schema.name(),
            credential_type: if self.schema == Schema::RacfPhrase { "phrase" } else { "password" },
            password_policy: (!self.password_policy.is_empty()).then_some(self.password_policy),
            length: (self.length > 0).then_some(self.length),
            userdn: self.base,
            userattr: self.user_attribute,
            upndomain: self.upn_domain,
            request_timeout: self.request_timeout,
            connection_timeout: self.connection_timeout,
            starttls: self.start_tls,
            insecure_tls: self.insecure_tls,
            certificate: self.authority,
            client_tls_cert: self.client_certificate,
            tls_min_version: self.tls_oldest,
            tls_max_version: self.tls_newest,
            skip_static_role_import_rotation: self.skip_import,
            self_managed: self.is_self_managed,
            ttl: self.ttl,
            max_ttl: self.max_ttl,
            last_bind_password_rotation: self.rotated.map(rfc3339),
            rotation_period: self.timing.shown_period().filter(|period| !period.is_zero()),
            rotation_schedule: self.timing.shown_schedule(),
            rotation_window: self.timing.shown_window(),
            disable_automated_rotation: self.is_rotation_disabled,
            retries,
        }
    }

    fn change(&mut self, sent: Write) -> Result<(), Fault> {
        let set = |place: &mut String, sent: Option<String>| {
            if let Some(sent) = sent {
                *place = sent;
            }
        };
        // Whoever is another, or has another password, is not who a rotation began for.
        if sent.bindpass.is_some() || sent.binddn.as_ref().is_some_and(|name| *name != self.bind_name) {
            (self.candidate, self.last_password) = (None, None);
        }
        set(&mut self.url, sent.url);
        set(&mut self.bind_name, sent.binddn);
        set(&mut self.password_policy, sent.password_policy);
        set(&mut self.base, sent.userdn);
        set(&mut self.user_attribute, sent.userattr);
        set(&mut self.upn_domain, sent.upndomain);
        set(&mut self.authority, sent.certificate);
        set(&mut self.client_certificate, sent.client_tls_cert);
        set(&mut self.tls_oldest, sent.tls_min_version);
        set(&mut self.tls_newest, sent.tls_max_version);
        self.password = sent.bindpass.unwrap_or_else(|| copy(&self.password));
        self.client_key = sent.client_tls_key.unwrap_or_else(|| copy(&self.client_key));
        self.length = sent.length.unwrap_or(self.length);
        self.request_timeout = sent.request_timeout.map_or(self.request_timeout, |sent| sent.0);
        self.connection_timeout = sent.connection_timeout.map_or(self.connection_timeout, |sent| sent.0);
        self.start_tls = sent.starttls.unwrap_or(self.start_tls);
        self.insecure_tls = sent.insecure_tls.unwrap_or(self.insecure_tls);
        self.skip_import = sent.skip_static_role_import_rotation.unwrap_or(self.skip_import);
        self.is_self_managed = sent.self_managed.unwrap_or(self.is_self_managed);
        self.ttl = sent.ttl.map_or(self.ttl, |sent| sent.0);
        self.max_ttl = sent.max_ttl.map_or(self.max_ttl, |sent| sent.0);
        let changed = self.timing.change_or_disable(&mut self.is_rotation_disabled, sent.times, PERIOD_MIN);
        changed.map_err(|error| Fault::invalid(error.to_string()))?;
        self.schema = schema(sent.schema.as_deref(), sent.credential_type.as_deref(), self.schema)?;
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        if self.is_self_managed {
            self.check_self_managed()?;
        } else if self.bind_name.is_empty() || self.password.is_empty() {
            return Err(Fault::invalid("binddn and bindpass are required"));
        }
        if !self.password_policy.is_empty() && self.length > 0 {
            return Err(Fault::invalid("cannot set both 'password_policy' and 'length'"));
        }
        if self.length > LENGTH_MAX {
            return Err(Fault::invalid(format!("length is at most {LENGTH_MAX}")));
        }
        if !self.max_ttl.is_zero() && self.ttl > self.max_ttl {
            return Err(Fault::invalid("ttl may not be more than max_ttl"));
        }
        addresses(&self.url).map_err(|error| Fault::invalid(error.to_string()))?;
        Ok(())
    }

    fn check_self_managed(&self) -> Result<(), Fault> {
        let why = match self.schema {
            _ if !self.bind_name.is_empty() || !self.password.is_empty() => "has no binddn and no bindpass",
            _ if !self.timing.is_never() => "has no password of its own that could be rotated",
            Schema::RacfPassword | Schema::RacfPhrase => "belongs to the schemas openldap and ad",
            Schema::OpenLdap | Schema::ActiveDirectory => return Ok(()),
        };
        Err(Fault::invalid(format!("a self_managed configuration {why}")))
    }
}

fn schema(name: Option<&str>, credential: Option<&str>, before: Schema) -> Result<Schema, Fault> {
    let schema = match name {
        None => before,
        Some("openldap") => Schema::OpenLdap,
        Some("ad") => Schema::ActiveDirectory,
        Some("racf") if before == Schema::RacfPhrase => Schema::RacfPhrase,
        Some("racf") => Schema::RacfPassword,
        Some("") => return Err(Fault::invalid("schema is required")),
        Some(_) => {
            let text = "the configured schema is not valid. Supported schemas: [openldap racf ad]";
            return Err(Fault::invalid(text));
        }
    };
    match (schema, credential) {
        (_, None) | (Schema::OpenLdap | Schema::ActiveDirectory, Some("password")) => Ok(schema),
        (Schema::RacfPassword | Schema::RacfPhrase, Some("password")) => Ok(Schema::RacfPassword),
        (Schema::RacfPassword | Schema::RacfPhrase, Some("phrase")) => Ok(Schema::RacfPhrase),
        (_, Some("phrase")) => Err(Fault::invalid("credential_type `phrase` belongs to the schema racf")),
        (_, Some(_)) => Err(Fault::invalid("credential_type must be password or phrase")),
    }
}

fn former(number: u64) -> String {
    format!("former/{number}")
}

pub(crate) fn exists(_engine: &Ldap, mut cx: Cx<'_>, _parameters: &PathParameters) -> Result<bool, Fault> {
    Ok(Config::load(&mut cx.view)?.is_some())
}

pub(crate) async fn read(_engine: &Ldap, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Shown>>, Fault> {
    let retries = cx.view.retries(root::WAKE)?;
    Ok(Config::load(&mut cx.view)?.map(|config| Data(config.show(retries.into()))))
}

pub(crate) async fn write(_engine: &Ldap, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let mut warnings = Vec::new();
    let sent = input.others.iter().filter(|(_, value)| **value != Body::Null);
    let names: Vec<&str> = sent.map(|(name, _)| name).collect();
    if !names.is_empty() {
        // Configurations of the auth method of this name have fields about logins and groups.
        warnings.push(format!("Endpoint ignored these unrecognized parameters: [{}]", names.join(" ")));
    }
    let is_password_sent = input.bindpass.is_some();
    let stored = Config::stored(&mut cx.view)?;
    let mut config = match &stored {
        Some(stored) if !stored.is_former => Config::decode(&stored.encode()).map_err(Fault::internal)?,
        Some(former) => Config::fresh(former.number + 1),
        None => Config::fresh(1),
    };
    let was_self_managed = config.is_self_managed;
    cx.view.retry_anew(root::WAKE, input.times.rotation_policy.as_deref())?;
    config.change(input)?;
    if config.is_self_managed != was_self_managed && stored.as_ref().is_some_and(|stored| !stored.is_former) {
        // What it lends and made is brought back by whom it has.
        return Err(Fault::invalid("self_managed cannot be changed: delete the configuration first"));
    }
    if config.user_attribute.is_empty() {
        config.user_attribute = config.schema.user_attribute().to_owned();
    }
    config.check()?;
    // That certificates and versions make sense.
    config.directory(cx.net, cx.clock, cx.now)?;
    if let Some(stored) = stored.filter(|stored| stored.is_former || stored.url != config.url) {
        if !stored.is_former && !is_password_sent && !config.is_self_managed {
            // Not refused: Terraform sends a password that did not change with no write, because it may have been rotated,
            // and then nobody can send it.
            warnings.push("the stored bindpass is sent to another url from now on".to_owned());
        }
        cx.view.write(&former(stored.number), &stored.encode())?;
        config.number = stored.number + 1;
    }
    root::plan_next(&mut cx.view, &config, cx.now)?;
    config.store(&mut cx.view)?;
    cx.view.tell(|| Happened::new("ldap/config-write", "config"));
    Ok(Warned(Nothing, warnings))
}

pub(crate) async fn delete(_engine: &Ldap, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    if let Some(mut config) = Config::load(&mut cx.view)? {
        config.is_former = true;
        config.store(&mut cx.view)?;
        cx.view.no_wake(root::WAKE)?;
        cx.view.retry_by(root::WAKE, "")?;
        cx.view.tell(|| Happened::new("ldap/config-delete", "config"));
    }
    Ok(Nothing)
}
