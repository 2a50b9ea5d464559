//! `config/root`: by which keys AWS is asked, and where.
//!
//! The secret key is never shown; what is not sent stays. Here is also when the key is rotated by itself; what that is, is
//! in [`rotate`](crate::rotate). Without keys those count that the machine gives the server ([`machine`](crate::machine)), for a
//! mount that may have them. Deliberately absent: a role that is assumed with a token of our own.

use std::time::Duration;

use tresor_credential::timing::Times;
use tresor_credential::{Moment, Rotation, Template, Timing};
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Nothing, View, Warned};
use tresor_env::outgoing::Base;
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::SecretString;
use tresor_sigv4::Keys;
use tresor_wire::input::{CommaList, EmptyInput, Input, Seconds};
use tresor_wire::output::Output;

use crate::Aws;
use crate::iam::Iam;
use crate::machine;
use crate::query::{Client, Doors, Endpoint, Whose};
use crate::rotate;
use crate::sts::Sts;

const NAME: &str = "config/root";

/// How users and sessions are called when nothing else is configured.
const TEMPLATE: &str = r#"{{ if (eq .Type "STS") }}{{ printf "vault-%s-%s" (unix_time) (random 20) | truncate 32 }}{{ else }}{{ printf "vault-%s-%s-%s" (printf "%s-%s" (.DisplayName) (.PolicyName) | truncate 42) (unix_time) (random 20) | truncate 64 }}{{ end }}"#;
/// What templates can name.
const FIELDS: [&str; 3] = ["Type", "DisplayName", "PolicyName"];
/// How often AWS is asked again when nothing is configured.
const RETRIES: u32 = 3;
/// And how often at most.
const RETRIES_MAX: u32 = 10;

/// By which keys AWS is asked, and where: all that an act, or taking something back, needs.
#[derive(Part)]
pub(crate) struct Access {
    /// Empty: the keys are those that the machine gives.
    pub(crate) access_key: String,
    pub(crate) secret_key: SecretString,
    /// The keys that rotating makes of these have the same number; keys that somebody wrote have another.
    pub(crate) lineage: String,
    pub(crate) region: String,
    pub(crate) iam_endpoint: String,
    pub(crate) sts_endpoint: String,
    pub(crate) sts_region: String,
    pub(crate) sts_fallback_endpoints: Vec<String>,
    pub(crate) sts_fallback_regions: Vec<String>,
    pub(crate) max_retries: i64,
}

/// The configuration.
#[derive(Record)]
#[record(kind = "aws-root", version = 2, previous = RootV1)]
pub(crate) struct Root {
    pub(crate) access: Access,
    /// Empty: the engine's own.
    pub(crate) username_template: String,
    timing: Timing,
    is_rotation_disabled: bool,
    /// Since when the key counts for the times of its rotations.
    pub(crate) counts_since: Option<Timestamp>,
}

/// The configuration when keys were rotated by order alone.
#[derive(Record)]
#[record(kind = "aws-root", version = 1)]
struct RootV1 {
    access: Access,
    username_template: String,
}

impl From<RootV1> for Root {
    fn from(older: RootV1) -> Self {
        Self {
            access: older.access,
            username_template: older.username_template,
            timing: Timing::default(),
            is_rotation_disabled: false,
            counts_since: None,
        }
    }
}

/// The part of AWS that a region is in: what the names of its servers end with, and where its IAM and STS are.
struct Partition {
    suffix: &'static str,
    iam: &'static str,
    iam_region: &'static str,
}

fn partition(region: &str) -> Partition {
    match region {
        _ if region.starts_with("cn-") => {
            Partition { suffix: "amazonaws.com.cn", iam: "iam.cn-north-1.amazonaws.com.cn", iam_region: "cn-north-1" }
        }
        _ if region.starts_with("us-gov-") => {
            Partition { suffix: "amazonaws.com", iam: "iam.us-gov.amazonaws.com", iam_region: "us-gov-west-1" }
        }
        _ => Partition { suffix: "amazonaws.com", iam: "iam.amazonaws.com", iam_region: "us-east-1" },
    }
}

/// An address as it was written, by TLS where it does not say how.
fn address(written: &str) -> String {
    if written.contains("://") { written.to_owned() } else { format!("https://{written}") }
}

impl Access {
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            access_key: self.access_key.clone(),
            secret_key: SecretString::new(self.secret_key.expose().clone()),
            lineage: self.lineage.clone(),
            region: self.region.clone(),
            iam_endpoint: self.iam_endpoint.clone(),
            sts_endpoint: self.sts_endpoint.clone(),
            sts_region: self.sts_region.clone(),
            sts_fallback_endpoints: self.sts_fallback_endpoints.clone(),
            sts_fallback_regions: self.sts_fallback_regions.clone(),
            max_retries: self.max_retries,
        }
    }

    /// The configured one, or that of the machine, where the mount may know it.
    fn region(&self, doors: &Doors) -> String {
        match &doors.machine {
            _ if !self.region.is_empty() => self.region.clone(),
            Some(machine) => machine.region(),
            None => machine::REGION.to_owned(),
        }
    }

    pub(crate) fn keys(&self) -> Whose {
        if self.access_key.is_empty() {
            return Whose::Machine;
        }
        let secret_key = SecretString::new(self.secret_key.expose().clone());
        Whose::Own(Keys { access_key: self.access_key.clone(), secret_key, session_token: None })
    }

    fn client(&self, doors: &Doors, keys: Whose) -> Client {
        let retries = u32::try_from(self.max_retries).unwrap_or(RETRIES).min(RETRIES_MAX);
        Client { doors: doors.clone(), keys, retries }
    }

    /// IAM, asked with keys.
    pub(crate) fn iam(&self, doors: &Doors, keys: impl Into<Whose>) -> Iam {
        let region = self.region(doors);
        let partition = partition(&region);
        let endpoint = match self.iam_endpoint.as_str() {
            "" => Endpoint {
                address: format!("https://{}", partition.iam),
                region: partition.iam_region.to_owned(),
                service: "iam",
            },
            own => Endpoint { address: address(own), region, service: "iam" },
        };
        Iam { client: self.client(doors, keys.into()), endpoint }
    }

    /// STS, asked with keys: at the one endpoint that is configured, or of the region, and then at those to fall back on.
    pub(crate) fn sts(&self, doors: &Doors, keys: impl Into<Whose>) -> Sts {
        let region = if self.sts_region.is_empty() { self.region(doors) } else { self.sts_region.clone() };
        let at = |address: String, region: &str| Endpoint { address, region: region.to_owned(), service: "sts" };
        let first = match self.sts_endpoint.as_str() {
            "" => at(format!("https://sts.{region}.{}", partition(&region).suffix), &region),
            own => at(address(own), &region),
        };
        let others = self.sts_fallback_endpoints.iter().zip(&self.sts_fallback_regions);
        let others = others.map(|(own, region)| at(address(own), region));
        Sts { client: self.client(doors, keys.into()), endpoints: std::iter::once(first).chain(others).collect() }
    }
}

impl Root {
    pub(crate) fn load(view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(NAME)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// What counts when nothing is configured.
    fn empty() -> Self {
        Self {
            access: Access {
                access_key: String::new(),
                secret_key: SecretString::new(String::new()),
                lineage: String::new(),
                region: String::new(),
                iam_endpoint: String::new(),
                sts_endpoint: String::new(),
                sts_region: String::new(),
                sts_fallback_endpoints: Vec::new(),
                sts_fallback_regions: Vec::new(),
                max_retries: -1,
            },
            username_template: String::new(),
            timing: Timing::default(),
            is_rotation_disabled: false,
            counts_since: None,
        }
    }

    /// As it has to be for AWS to be asked: with keys, or on a mount that may have those of the machine.
    pub(crate) fn usable(cx: &mut Cx<'_>) -> Result<Self, Fault> {
        let root = Self::load(&mut cx.view)?.unwrap_or_else(Self::empty);
        if root.access.access_key.is_empty() && cx.surroundings().is_none() {
            return Err(machine::keyless(machine::NOT_THE_SERVERS).into());
        }
        Ok(root)
    }

    /// With a key of its own, which can be rotated.
    pub(crate) fn with_own_key(view: &mut View<'_>) -> Result<Self, Fault> {
        let root = Self::load(view)?.filter(|root| !root.access.access_key.is_empty());
        let text = "Cannot call config/rotate-root when either access_key or secret_key is empty";
        root.ok_or_else(|| Fault::invalid(text))
    }

    pub(crate) fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.write(NAME, &self.encode())
    }

    /// When the key is rotated by itself; `None` is never.
    pub(crate) fn rotation(&self) -> Result<Option<Rotation>, Fault> {
        let rotation = self.timing.rotation().map_err(Fault::internal)?;
        Ok(rotation.filter(|_| !self.is_rotation_disabled))
    }

    /// Takes what was sent of the times, and begins to count anew where that makes a difference.
    fn change_times(&mut self, sent: Times, now: Timestamp) -> Result<(), Fault> {
        let changed = self.timing.change_or_disable(&mut self.is_rotation_disabled, sent, rotate::PERIOD_MIN);
        if changed.map_err(|error| Fault::invalid(error.to_string()))? {
            self.counts_since = Some(now);
        }
        if !self.timing.is_never() && self.access.access_key.is_empty() {
            return Err(Fault::invalid("no access_key is configured that could be rotated"));
        }
        Ok(())
    }

    fn template(&self) -> &str {
        if self.username_template.is_empty() { TEMPLATE } else { &self.username_template }
    }

    /// A name for what is made, within what AWS allows.
    pub(crate) fn name(&self, cx: &Cx<'_>, kind: Naming, role: &str) -> Result<String, Fault> {
        let invalid = |error| Fault::invalid(format!("unable to generate a username from the template: {error}"));
        let template = Template::parse(self.template(), &FIELDS).map_err(invalid)?;
        let (display_name, role) = (plain(cx.caller.display_name), plain(role));
        let (kind, chars_max) = match kind {
            Naming::User | Naming::Session => ("IAM", 64),
            Naming::Federated => ("STS", 32),
        };
        let fields = [("Type", kind), ("DisplayName", &display_name), ("PolicyName", &role)];
        let name = template.render(&fields, Moment { now: cx.now, entropy: cx.entropy }).map_err(invalid)?;
        let is_fit = !name.is_empty() && name.chars().count() <= chars_max;
        let limit = || {
            format!(
                "the username generated by the template exceeds the {kind} username length limits of {chars_max} chars"
            )
        };
        if is_fit { Ok(name.to_string()) } else { Err(Fault::invalid(limit())) }
    }
}

/// What a name is for.
#[derive(Clone, Copy)]
pub(crate) enum Naming {
    /// A user.
    User,
    /// A session of a role.
    Session,
    /// A session of who asks.
    Federated,
}

/// A text of letters that names of AWS may have.
pub(crate) fn plain(text: &str) -> String {
    let is_fit = |letter: char| letter.is_ascii_alphanumeric() || "+=,.@_-".contains(letter);
    text.chars().map(|letter| if is_fit(letter) { letter } else { '_' }).collect()
}

/// What to change; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The access key that AWS is asked with; empty: that of the machine, on a mount of the root namespace.
    access_key: Option<String>,
    /// Its secret key; needed again with another access key.
    secret_key: Option<SecretString>,
    /// The region; empty: that of the server's environment, or `us-east-1`.
    region: Option<String>,
    /// Where IAM is; AWS's own when it is empty.
    iam_endpoint: Option<String>,
    /// Where STS is; that of the region when it is empty.
    sts_endpoint: Option<String>,
    /// The region of STS, when it is another.
    sts_region: Option<String>,
    /// Where else STS is asked when it does not answer.
    sts_fallback_endpoints: Option<CommaList>,
    /// The regions of these, one for each.
    sts_fallback_regions: Option<CommaList>,
    /// How often AWS is asked again when it does not answer; -1 is the engine's own number.
    max_retries: Option<i64>,
    /// How users and sessions are called.
    username_template: Option<String>,
    /// A role that is assumed with a token of this server, which issues none: refused.
    #[input(default = "")]
    role_arn: String,
    /// For whom that token would be: refused.
    #[input(default = "")]
    identity_token_audience: String,
    /// How long it would live: refused.
    identity_token_ttl: Option<Seconds>,
    /// When the key is rotated by itself.
    #[input(flatten)]
    times: Times,
}

/// The configuration, without the secret key.
#[derive(Output)]
pub(crate) struct Shown {
    /// The access key that AWS is asked with.
    access_key: String,
    /// The region.
    region: String,
    /// Where IAM is.
    iam_endpoint: String,
    /// Where STS is.
    sts_endpoint: String,
    /// The region of STS.
    sts_region: String,
    /// Where else STS is asked.
    sts_fallback_endpoints: Vec<String>,
    /// The regions of these.
    sts_fallback_regions: Vec<String>,
    /// How often AWS is asked again.
    max_retries: i64,
    /// How users and sessions are called.
    username_template: String,
    /// How often the key is rotated.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When it is.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How long after that it may still begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// Whether it is not rotated by itself.
    disable_automated_rotation: bool,
    /// How that is tried again.
    #[output(flatten)]
    retries: RetriesShown,
}

pub(crate) async fn read(_engine: &Aws, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Shown>>, Fault> {
    let Some(root) = Root::load(&mut cx.view)? else { return Ok(None) };
    let username_template = root.template().to_owned();
    let access = root.access;
    Ok(Some(Data(Shown {
        access_key: access.access_key,
        region: access.region,
        iam_endpoint: access.iam_endpoint,
        sts_endpoint: access.sts_endpoint,
        sts_region: access.sts_region,
        sts_fallback_endpoints: access.sts_fallback_endpoints,
        sts_fallback_regions: access.sts_fallback_regions,
        max_retries: access.max_retries,
        username_template,
        rotation_period: root.timing.shown_period().filter(|period| !period.is_zero()),
        rotation_schedule: root.timing.shown_schedule(),
        rotation_window: root.timing.shown_window(),
        disable_automated_rotation: root.is_rotation_disabled,
        retries: cx.view.retries(rotate::WAKE_DUE)?.into(),
    })))
}

/// Whether keys that come from there are heard by nobody else; a refusal where it is no server.
fn check_address(name: &str, written: &str) -> Result<bool, Fault> {
    let address = address(written);
    let base = Base::parse(&address).filter(|base| base.as_str().ends_with(base.authority()));
    let base = base.ok_or_else(|| Fault::invalid(format!("{name} must be a host, or https://HOST")))?;
    Ok(base.is_private())
}

pub(crate) async fn write(_engine: &Aws, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let is_federated = !input.role_arn.is_empty() || !input.identity_token_audience.is_empty();
    if is_federated || input.identity_token_ttl.is_some_and(|ttl| !ttl.0.is_zero()) {
        let text = "role_arn and identity_token_* need an issuer of identity tokens that AWS can ask, and this server is none: \
                    send access_key and secret_key, or neither for the keys of the machine";
        return Err(Fault::invalid(text));
    }
    let mut root = Root::load(&mut cx.view)?.unwrap_or_else(Root::empty);
    let access = &mut root.access;
    let is_other = input.access_key.as_ref().is_some_and(|sent| *sent != access.access_key);
    let is_given_up = input.access_key.as_ref().is_some_and(String::is_empty);
    if is_other && !is_given_up && input.secret_key.is_none() {
        return Err(Fault::invalid("another access_key needs its secret_key"));
    }
    if is_given_up {
        access.secret_key = SecretString::new(String::new());
    }
    if is_other {
        access.lineage = tresor_crypto::token_text::random_uuid(cx.entropy);
        root.counts_since = Some(cx.now);
    }
    access.access_key = input.access_key.unwrap_or_else(|| std::mem::take(&mut access.access_key));
    if let Some(secret_key) = input.secret_key {
        access.secret_key = secret_key;
    }
    let change = |place: &mut String, sent: Option<String>| {
        if let Some(sent) = sent {
            *place = sent;
        }
    };
    change(&mut access.region, input.region);
    change(&mut access.iam_endpoint, input.iam_endpoint);
    change(&mut access.sts_endpoint, input.sts_endpoint);
    change(&mut access.sts_region, input.sts_region);
    if let Some(sent) = input.sts_fallback_endpoints {
        access.sts_fallback_endpoints = sent.0;
    }
    if let Some(sent) = input.sts_fallback_regions {
        access.sts_fallback_regions = sent.0;
    }
    if access.sts_fallback_endpoints.len() != access.sts_fallback_regions.len() {
        return Err(Fault::invalid(
            "sts_fallback_endpoints and sts_fallback_regions need as many entries as each other",
        ));
    }
    access.max_retries = input.max_retries.unwrap_or(access.max_retries);
    let own = [("iam_endpoint", &access.iam_endpoint), ("sts_endpoint", &access.sts_endpoint)];
    let fallback = access.sts_fallback_endpoints.iter().map(|address| ("sts_fallback_endpoints", address));
    let mut warnings = Vec::new();
    for (name, written) in own.into_iter().chain(fallback).filter(|(_, written)| !written.is_empty()) {
        if !check_address(name, written)? {
            warnings.push(format!("keys come from this server in the clear: {name} is http://"));
        }
    }
    change(&mut root.username_template, input.username_template);
    for kind in [Naming::User, Naming::Federated] {
        root.name(&cx, kind, "role")?;
    }
    cx.view.retry_anew(rotate::WAKE_DUE, input.times.rotation_policy.as_deref())?;
    root.change_times(input.times, cx.now)?;
    root.store(&mut cx.view)?;
    rotate::plan_next(&mut cx.view, &root, cx.now)?;
    cx.view.tell(|| Happened::new("aws/config-write", NAME));
    Ok(Warned(Nothing, warnings))
}
