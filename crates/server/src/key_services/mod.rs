//! The services that keep the key of a seal: how each is asked to seal and to open.
//!
//! `operator import` asks the secret managers of the same clouds by the same ways. Here is what they have in common: the way to them, with tokens and certificates as they are where they lie now, so that
//! one that was renewed is used; and what their refusals are. Nothing that a service says is repeated with a secret in it.
//! Deliberately absent: what is done with what they open, and trying again (`tresor-core`).

mod alicloudkms;
mod aws_keys;
mod awskms;
mod azurekeyvault;
mod gcpckms;
mod kmip;
mod oci_machine;
mod oci_signed;
mod ocikms;
mod pkcs11;
mod transit;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tresor_core::{AutoKey, ServiceError};
use tresor_env::outgoing::{Ask, Base, OutgoingError, OutgoingRequest, ServerName, Trust, Untrustable};
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Outgoing, Tasks};
use tresor_model::{Body, Map};
use tresor_secret::DataKey;
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use crate::config::{KeyPlace, SealWay, ServiceTls, StaticSealConfig};
use crate::place;
use crate::static_seal::ConfiguredKeys;
use alicloudkms::AliCloudKms;
pub(crate) use aws_keys::AwsKeys;
pub(crate) use awskms::AwsKms;
pub(crate) use azurekeyvault::AzureKeyVault;
pub(crate) use azurekeyvault::token as azure_token;
pub(crate) use gcpckms::GcpKms;
pub(crate) use gcpckms::{project_of as google_project, token as google_token};
use kmip::Kmip;
use ocikms::OciKms;
use pkcs11::Pkcs11;
pub(crate) use pkcs11::{Hsm, blame};
use transit::Transit;

/// How long one answer may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How large it may be.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest ciphertext of a key.
const CIPHERTEXT_BYTES_MAX: usize = 8192;
/// By what name the slot goes along as associated data, where a service has names for that.
const BOUND_TO: &str = "tresor-key-slot";
/// More of a message is shown to nobody.
const MESSAGE_CHARS_MAX: usize = 300;

/// What opens the store; what a service needs in the background runs from now on, as one of these tasks.
pub(crate) fn start(way: &SealWay, doors: &Doors, tasks: &Tasks) -> AutoKey {
    match way {
        SealWay::Static(config) => of_static(config),
        SealWay::AwsKms(config) => AutoKey::Service(Arc::new(AwsKms::new((**config).clone(), doors.clone()))),
        SealWay::GcpKms(config) => AutoKey::Service(Arc::new(GcpKms::new(config.clone(), doors.clone()))),
        SealWay::AzureKeyVault(config) => AutoKey::Service(Arc::new(AzureKeyVault::new(config.clone(), doors.clone()))),
        SealWay::AliCloudKms(config) => AutoKey::Service(Arc::new(AliCloudKms::new(config.clone(), doors.clone()))),
        SealWay::OciKms(config) => AutoKey::Service(Arc::new(OciKms::new(config.clone(), doors.clone()))),
        SealWay::Kmip(config) => AutoKey::Service(Arc::new(Kmip::new(config.clone(), doors.clone()))),
        SealWay::Pkcs11(config) => AutoKey::Service(Arc::new(Pkcs11::new(config.clone(), doors.clone()))),
        SealWay::Transit(config) => {
            let transit = Arc::new(Transit::new(config.clone(), doors.clone()));
            if config.renews && config.token.is_some() {
                tasks.spawn(Arc::clone(&transit).keep_renewed());
            }
            AutoKey::Service(transit)
        }
    }
}

fn of_static(config: &StaticSealConfig) -> AutoKey {
    let variables = |name: &str| std::env::var_os(name);
    let key_id = config.current.id.clone();
    AutoKey::Static { key_id, source: Arc::new(ConfiguredKeys { config: config.clone(), variables }) }
}

/// The way to a service.
pub(crate) struct Reach {
    pub(crate) doors: Doors,
    pub(crate) tls: ServiceTls,
    /// Its host, as its address names it.
    pub(crate) host: String,
}

/// What a service answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// What it says in JSON.
    pub(crate) body: Map,
    /// Whether it says that; else nothing is in it.
    pub(crate) is_json: bool,
}

impl Reach {
    /// The way to a service whose certificate everybody can judge.
    fn to(endpoint: &str, doors: Doors) -> Self {
        let host = Base::parse(endpoint).map(|base| base.authority().to_owned()).unwrap_or_default();
        Self { doors, tls: ServiceTls::default(), host }
    }

    /// Asks once; an answer that is no JSON has nothing in it.
    async fn ask(
        &self,
        ask: Ask,
        url: String,
        headers: Vec<(std::borrow::Cow<'static, str>, Zeroizing<String>)>,
    ) -> Result<Answered, ServiceError> {
        self.ask_for(ask, url, headers, BODY_BYTES_MAX).await
    }

    /// The same for an answer of at most so many bytes.
    pub(crate) async fn ask_for(
        &self,
        ask: Ask,
        url: String,
        headers: Vec<(std::borrow::Cow<'static, str>, Zeroizing<String>)>,
        body_bytes_max: usize,
    ) -> Result<Answered, ServiceError> {
        let request = OutgoingRequest { ask, url, headers, time_max: TIME_MAX, body_bytes_max };
        let answer = self.way().await?.ask(request).await.map_err(|error| match error {
            OutgoingError::Unsendable => ServiceError::Unprepared("it cannot be asked as it is configured".to_owned()),
            OutgoingError::TooLarge => ServiceError::Unexpected("more than was asked for"),
            error => ServiceError::Unanswered(error.to_string()),
        })?;
        let body = json::decode(&answer.body, &JsonLimits::default());
        let is_json = body.is_ok();
        Ok(Answered { status: answer.status, body: body.unwrap_or_default(), is_json })
    }

    async fn way(&self) -> Result<Arc<dyn Outgoing>, ServiceError> {
        let (tls, host) = (self.tls.clone(), self.host.clone());
        if tls.authorities.is_none() && tls.client.is_none() && tls.server_name.is_none() && !tls.anybody {
            return Ok(Arc::clone(&self.doors.outgoing));
        }
        let trust = run_blocking(&*self.doors.workers, move || trust(&tls, host)).await;
        let trust = trust.map_err(|panicked| ServiceError::Unprepared(panicked.to_string()))??;
        self.doors.outgoing.trusting(&trust).map_err(|Untrustable| {
            ServiceError::Unprepared("a certificate, or the key that goes with it, is none".to_owned())
        })
    }

    /// What stands in a file now that an orchestrator keeps, who knows who may read it.
    async fn file(&self, path: &Path) -> Result<Zeroizing<String>, ServiceError> {
        let path = path.to_owned();
        let read = run_blocking(&*self.doors.workers, move || text_of(&path)).await;
        let text = read.map_err(|panicked| ServiceError::Unprepared(panicked.to_string()))??;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// A secret as it is where it lies now, without blanks around it.
    async fn secret(&self, place: &KeyPlace) -> Result<Zeroizing<String>, ServiceError> {
        let from = place.clone();
        let read = run_blocking(&*self.doors.workers, move || place::read(&from, |name| std::env::var_os(name))).await;
        let read = read.map_err(|panicked| ServiceError::Unprepared(panicked.to_string()))?;
        let bytes = read.map_err(|error| ServiceError::Unprepared(error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() {
            return Err(ServiceError::Unprepared(format!("{place} holds no text")));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// Blocking.
fn text_of(path: &Path) -> Result<Zeroizing<String>, ServiceError> {
    let unreadable = |error| ServiceError::Unprepared(format!("`{}` cannot be read: {error}", path.display()));
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}

/// Blocking.
fn trust(tls: &ServiceTls, host: String) -> Result<Trust, ServiceError> {
    let identity = tls.client.as_ref().map(|(certificate, key)| {
        let (certificate, key) = (text_of(certificate)?, text_of(key)?);
        Ok(Zeroizing::new([certificate.as_str(), "\n", key.as_str()].concat()))
    });
    Ok(Trust {
        authorities: tls.authorities.as_deref().map(text_of).transpose()?,
        identity: identity.transpose()?,
        anybody: tls.anybody,
        server_name: tls.server_name.clone().map(|name| ServerName { name, host }),
    })
}

/// A body of JSON.
pub(crate) fn json_body(body: &Map) -> Zeroizing<Vec<u8>> {
    // As large as it can become, so that it is not moved about.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
    json::encode_map(body, &mut bytes);
    bytes
}

/// Why an answer is none that was hoped for; nothing of what is `withheld` is in it, whatever the service says.
pub(crate) fn refusal(status: u16, said: Option<&str>, withheld: &[&str]) -> ServiceError {
    let said = said.filter(|said| !withheld.iter().any(|secret| !secret.is_empty() && said.contains(secret)));
    let line: String = said
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MESSAGE_CHARS_MAX)
        .collect();
    let text = if line.is_empty() { format!("status {status}") } else { format!("status {status}, {line}") };
    if status == 429 || status >= 472 { ServiceError::Unanswered(text) } else { ServiceError::Refused(text) }
}

/// A text somewhere in an answer.
pub(crate) fn text_at<'b>(body: &'b Map, path: &[&str]) -> Option<&'b str> {
    let (last, maps) = path.split_last()?;
    let inner = maps.iter().try_fold(body, |map, name| map.get(name).and_then(Body::as_map))?;
    inner.text(last)
}

/// Random bytes from a service that gives at most so many at once.
async fn gathered<'s, F>(
    count: usize,
    bytes_max: usize,
    ask: impl Fn(usize) -> F + Send + 's,
) -> Result<Zeroizing<Vec<u8>>, ServiceError>
where
    F: Future<Output = Result<Zeroizing<Vec<u8>>, ServiceError>> + Send + 's,
{
    let mut bytes = Zeroizing::new(Vec::with_capacity(count));
    while bytes.len() < count {
        let part = (count - bytes.len()).min(bytes_max);
        let given = ask(part).await?;
        if given.len() != part {
            return Err(ServiceError::Unexpected("with another number of bytes than it was asked for"));
        }
        bytes.extend_from_slice(&given);
    }
    Ok(bytes)
}

/// Bytes that a service spells in base64.
pub(crate) fn bytes_of(text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
    let bytes = STANDARD.decode(text.unwrap_or_default()).map(Zeroizing::new);
    bytes.map_err(|_| ServiceError::Unexpected("with something that is no base64"))
}

/// A ciphertext of a key, if it can be one.
fn ciphertext(sealed: Vec<u8>) -> Option<Vec<u8>> {
    Some(sealed).filter(|sealed| !sealed.is_empty() && sealed.len() <= CIPHERTEXT_BYTES_MAX)
}

/// A key that a service opened, which stands somewhere in its answer.
fn key_at(answer: &Map, path: &[&str]) -> Result<DataKey, ServiceError> {
    let bytes = bytes_of(text_at(answer, path));
    key_of(&bytes.map_err(|_| ServiceError::Unexpected("with something that is no key"))?)
}

/// A key that a service opened.
fn key_of(bytes: &[u8]) -> Result<DataKey, ServiceError> {
    let key = <[u8; 32]>::try_from(bytes).map(DataKey::new);
    key.map_err(|_| ServiceError::Unexpected("with something that is no key"))
}
