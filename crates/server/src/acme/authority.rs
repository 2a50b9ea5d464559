//! One certificate from an authority, by ACME (RFC 8555): account, order, proof, certificate.
//!
//! The library makes and reads the messages; they travel by the HTTP client of the house, and what is waited for is told by the clock
//! door. Deliberately absent: when a certificate is due, and how a proof is shown.

use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error,
    ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};
use tresor_env::Doors;
use tresor_env::outgoing::Trust;
use tresor_env::tasks::{run_blocking, run_computing};
use zeroize::Zeroizing;

use super::cache::{Cache, Proof};
use super::errors::{AcmeError, plain};
use crate::config::{AcmeConfig, AcmeKey, AcmeName};
use crate::{outgoing, place};

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long an authority may take to look at a proof, or to make a certificate.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long it is given before it is asked again, at first and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By what is shown in a TLS handshake (RFC 8737).
    Tls,
    /// By what is shown over plain HTTP (RFC 8555, 8.3).
    Http,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls => "by a handshake",
            Self::Http => "by HTTP",
        })
    }
}

impl Way {
    const fn kind(self) -> ChallengeType {
        match self {
            Self::Tls => ChallengeType::TlsAlpn01,
            Self::Http => ChallengeType::Http01,
        }
    }
}

/// An authority, for one listener.
pub(crate) struct Authority<'k> {
    pub(crate) config: &'k AcmeConfig,
    /// Which of its directories.
    pub(crate) directory: &'k str,
    pub(crate) cache: &'k Cache,
    pub(crate) doors: &'k Doors,
}

impl Authority<'_> {
    /// A certificate chain and its key, in one PEM. What the name is proven by is laid out meanwhile.
    pub(crate) async fn order(&self, name: &AcmeName, way: Way) -> Result<Zeroizing<String>, AcmeError> {
        let ordered = self.order_once(name, way).await;
        match ordered {
            // An authority that forgot us, as one for tests does with each start, is told anew who we are.
            Err(error) if error.is_about_account() => {
                self.cache.remove(self.cache.account(self.directory)).await?;
                self.order_once(name, way).await
            }
            other => other,
        }
    }

    async fn order_once(&self, name: &AcmeName, way: Way) -> Result<Zeroizing<String>, AcmeError> {
        let account = self.account().await?;
        let identifier = match name {
            AcmeName::Dns(name) => Identifier::Dns(name.clone()),
            AcmeName::Address(address) => Identifier::Ip(*address),
        };
        let mut order = account.new_order(&NewOrder::new(&[identifier])).await?;
        let proven = self.prove(&mut order, name, way).await;
        self.cache.take_away(name).await;
        proven?;
        let (key, request) = self.key_and_request(name).await?;
        order.finalize_csr(&request).await?;
        let begun = self.doors.clock.monotonic();
        let mut pause = PAUSE;
        loop {
            if let Some(chain) = order.certificate().await? {
                return Ok(Zeroizing::new([chain.as_str(), "\n", key.as_str()].concat()));
            }
            self.rest(begun, &mut pause).await?;
        }
    }

    /// The account, which is made when there is none.
    async fn account(&self) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(self.client().await?));
        let kept = self.cache.account(self.directory);
        if let Some(bytes) = self.cache.read(kept.clone()).await? {
            match serde_json::from_slice::<AccountCredentials>(&bytes) {
                Ok(credentials) => return Ok(builder.from_credentials(credentials).await?),
                Err(_) => tracing::warn!("the account in `tls_acme_cache_path` makes no sense; another is made"),
            }
        }
        let contact = self.config.email.iter().map(|email| format!("mailto:{email}")).collect::<Vec<_>>();
        let contact = contact.iter().map(String::as_str).collect::<Vec<_>>();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external().await?;
        let (account, credentials) = builder.create(&wanted, self.directory.to_owned(), external.as_ref()).await?;
        let bytes = serde_json::to_vec(&credentials).map(Zeroizing::new);
        self.cache.write(kept, bytes.map_err(|error| AcmeError::Own(error.to_string()))?).await?;
        tracing::info!(directory = self.directory, "an account was made with the authority of certificates");
        Ok(account)
    }

    /// The account outside of ACME that the one in it is to belong to.
    async fn external(&self) -> Result<Option<ExternalAccountKey>, AcmeError> {
        let Some((id, from)) = &self.config.external else { return Ok(None) };
        let place = from.clone();
        let read = run_blocking(&*self.doors.workers, move || place::read(&place, |name| std::env::var_os(name))).await;
        let configured =
            |error: &dyn std::fmt::Display| AcmeError::Configured(format!("`tls_acme_eab_mac_key`: {error}"));
        let bytes = read.map_err(|error| AcmeError::Own(error.to_string()))?.map_err(|error| configured(&error))?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim().trim_end_matches('=');
        let key = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).ok().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| configured(&"it is base64 as addresses have it"))?;
        Ok(Some(ExternalAccountKey::new(id.clone(), &key)))
    }

    async fn client(&self) -> Result<Client, AcmeError> {
        let mut trust = Trust::default();
        if let Some(file) = &self.config.authorities {
            let path = file.clone();
            let read = run_blocking(&*self.doors.workers, move || std::fs::read_to_string(path)).await;
            let read = read.map_err(|error| AcmeError::Own(error.to_string()))?;
            let unreadable = |error| AcmeError::Configured(format!("{}: {error}", file.display()));
            trust.authorities = Some(Zeroizing::new(read.map_err(unreadable)?));
        }
        let unusable = |_| AcmeError::Configured("`tls_acme_ca_root` holds no certificates in PEM".to_owned());
        let client = outgoing::client(self.directory, &trust).map_err(unusable)?;
        let is_plain = self.directory.starts_with("http://");
        Ok(Client { client, scheme: if is_plain { "http" } else { "https" } })
    }

    /// Lays out a proof of each name of an order, and waits until the authority has looked.
    async fn prove(&self, order: &mut Order, name: &AcmeName, way: Way) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => return Err(AcmeError::Unconvinced("it was asked before".to_owned())),
            }
            let mut challenge = authorization.challenge(way.kind()).ok_or(AcmeError::NoWay)?;
            let proof = Proof {
                made: self.doors.clock.wall(),
                token: plain(&challenge.token),
                shown: plain(challenge.key_authorization().as_str()),
            };
            self.cache.lay_out(name, &proof).await?;
            challenge.set_ready().await?;
        }
        let begun = self.doors.clock.monotonic();
        let mut pause = PAUSE;
        loop {
            match order.refresh().await?.status {
                OrderStatus::Ready | OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(unconvinced(order).await),
                OrderStatus::Pending | OrderStatus::Processing => self.rest(begun, &mut pause).await?,
            }
        }
    }

    /// Lets the authority work on.
    async fn rest(&self, begun: Duration, pause: &mut Duration) -> Result<(), AcmeError> {
        if self.doors.clock.monotonic().saturating_sub(begun) > PATIENCE {
            return Err(AcmeError::TooSlow);
        }
        self.doors.clock.sleep(*pause).await;
        *pause = pause.saturating_mul(2).min(PAUSE_MAX);
        Ok(())
    }

    /// A new key, in PEM, and the request for a certificate over it.
    async fn key_and_request(&self, name: &AcmeName) -> Result<(Zeroizing<String>, Vec<u8>), AcmeError> {
        let (kind, name) = (self.config.key, name.text());
        let make = move || -> Result<_, rcgen::Error> {
            let key = generate(kind)?;
            let mut params = CertificateParams::new(vec![name])?;
            params.distinguished_name = DistinguishedName::new();
            let request = params.serialize_request(&key)?.der().to_vec();
            Ok((Zeroizing::new(key.serialize_pem()), request))
        };
        let made =
            run_computing(&*self.doors.workers, make).await.map_err(|error| AcmeError::Own(error.to_string()))?;
        made.map_err(|error| AcmeError::Own(error.to_string()))
    }
}

fn generate(kind: AcmeKey) -> Result<KeyPair, rcgen::Error> {
    match kind {
        AcmeKey::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        AcmeKey::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        AcmeKey::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        AcmeKey::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        AcmeKey::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

/// Why an order came to nothing: what the authority says of its own look at the name.
async fn unconvinced(order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return AcmeError::Unconvinced(plain(&problem.to_string()));
        }
    }
    AcmeError::Unconvinced("it does not say why".to_owned())
}

/// How messages travel: to where the directory's own scheme leads, and nowhere else.
struct Client {
    client: reqwest::Client,
    scheme: &'static str,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, scheme) = (self.client.clone(), self.scheme);
        Box::pin(async move {
            let other = |text: String| Error::Other(text.into());
            let (head, body) = request.into_parts();
            if head.uri.scheme_str() != Some(scheme) {
                return Err(other("it leads to an address without TLS".to_owned()));
            }
            let Ok(bytes) = body.collect().await.map(Collected::to_bytes);
            let mut headers = head.headers;
            // The client says who it is.
            headers.remove(hyper::header::USER_AGENT);
            let mut sent = client.request(head.method, head.uri.to_string()).headers(headers).timeout(REQUEST_MAX);
            if !bytes.is_empty() {
                sent = sent.body(bytes);
            }
            let failed = |error| other(outgoing::without_address(error));
            let mut answer = sent.send().await.map_err(failed)?;
            let mut parts = hyper::Response::new(()).into_parts().0;
            parts.status = answer.status();
            parts.headers = std::mem::take(answer.headers_mut());
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                    return Err(other("its answer is too large".to_owned()));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
        })
    }
}
