//! `seal "kmip"`: a server of keys keeps the key, and is asked by KMIP over TLS.
//!
//! The slot's id goes along as associated data, so what is moved to another slot does not open. Each request has a connection of its
//! own, with certificates as they are where they lie now. What was sealed says by which key, so it opens when another one is
//! configured. Deliberately absent: the messages (`tresor-kmip`).

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_env::{BoxFuture, Doors};
use tresor_kmip::{ANSWER_BYTES_MAX, AnswerError, Asked, HEAD_BYTES, NONCE_BYTES, TAG_BYTES};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::{Reach, key_of};
use crate::config::{KeyPlace, KmipConfig, ServiceTls, suite_name};

/// The longest text that goes into an error.
const SAID_CHARS_MAX: usize = 200;

/// A server of keys.
pub(super) struct Kmip {
    config: KmipConfig,
    reach: Reach,
}

impl Kmip {
    pub(super) fn new(config: KmipConfig, doors: Doors) -> Self {
        Self { config, reach: Reach { doors, tls: ServiceTls::default(), host: String::new() } }
    }

    /// What TLS begins with.
    async fn tls(&self) -> Result<ClientConfig, ServiceError> {
        let config = &self.config;
        let unusable = |what: &str, path: &std::path::Path| {
            ServiceError::Unprepared(format!("`{}` holds no {what} in PEM", path.display()))
        };
        let unmade = |error: rustls::Error| ServiceError::Unprepared(format!("TLS cannot be begun: {error}"));
        let mut provider = aws_lc_rs::default_provider();
        if !config.suites.is_empty() {
            provider.cipher_suites.retain(|suite| suite_name(suite).is_none_or(|name| config.suites.contains(&name)));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(unmade)?;
        let builder = match &config.authorities {
            None => builder.with_platform_verifier().map_err(unmade)?,
            Some(path) => {
                let text = self.reach.file(path).await?;
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                    let certificate = certificate.map_err(|_| unusable("certificate", path))?;
                    roots.add(certificate).map_err(|_| unusable("certificate of an authority", path))?;
                }
                if roots.is_empty() {
                    return Err(unusable("certificate", path));
                }
                builder.with_root_certificates(roots)
            }
        };
        let text = self.reach.file(&config.certificate).await?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| unusable("certificate", &config.certificate))?;
        let pem = self.reach.secret(&KeyPlace::File(config.key.clone())).await?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable("private key", &config.key))?;
        builder.with_client_auth_cert(chain, key).map_err(unmade)
    }

    /// Says something, and reads the answer.
    async fn exchange(&self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let tls = self.tls().await?;
        let KmipConfig { endpoint, server_name, .. } = &self.config;
        let name = ServerName::try_from(server_name.clone());
        let name = name.map_err(|_| ServiceError::Unprepared(format!("`{server_name}` is no name of a server")))?;
        let away = |error: std::io::Error| {
            let text: String =
                error.to_string().chars().filter(|letter| !letter.is_control()).take(SAID_CHARS_MAX).collect();
            ServiceError::Unanswered(text)
        };
        let talk = async {
            let net = &self.reach.doors.net;
            let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
            let mut stream = None;
            for address in net.resolve(endpoint).await.map_err(away)? {
                match net.connect(address).await {
                    Ok(connected) => {
                        stream = Some(connected);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            let Some(stream) = stream else { return Err(away(last)) };
            let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(away)?;
            stream.write_all(request).await.map_err(away)?;
            stream.flush().await.map_err(away)?;
            let mut head = [0; HEAD_BYTES];
            stream.read_exact(&mut head).await.map_err(away)?;
            let length = tresor_kmip::length(head).map_err(|error| blame(&error))?;
            // As large as it can become, so that it is not moved about.
            let mut answer = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
            answer.extend_from_slice(&head);
            answer.resize(HEAD_BYTES + length, 0);
            if let Some(rest) = answer.get_mut(HEAD_BYTES..) {
                stream.read_exact(rest).await.map_err(away)?;
            }
            Ok(answer)
        };
        tokio::select! {
            biased;
            answer = talk => answer,
            () = self.reach.doors.clock.sleep(self.config.time_max) => {
                Err(ServiceError::Unanswered("it took too long".to_owned()))
            }
        }
    }
}

/// Whose fault it is. What the server says in words is not repeated: it may be what it was asked.
fn blame(error: &AnswerError) -> ServiceError {
    match error {
        AnswerError::Refused(refusal) if refusal.is_passing() => ServiceError::Unanswered(error.to_string()),
        AnswerError::Refused(_) => ServiceError::Refused(error.to_string()),
        AnswerError::Garbled(_) | AnswerError::Unexpected => ServiceError::Unexpected("no message that was asked for"),
    }
}

/// What is sealed is bound to.
fn bound_to(slot: &str) -> Vec<u8> {
    format!("tresor key slot {slot}").into_bytes()
}

/// What is stored: what came out, between what it began with and what authenticates it, behind the key's id, which is as long as the
/// two bytes before it say.
fn spelled(key: &str, nonce: &[u8], data: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(key.len()).ok()?;
    Some([&length.to_be_bytes()[..], key.as_bytes(), nonce, data, tag].concat())
}

/// What is stored, in its parts: the key's id, the nonce, what came out, and what authenticates it.
type Parts<'s> = (&'s str, &'s [u8], &'s [u8], &'s [u8]);

fn parts(sealed: &[u8]) -> Option<Parts<'_>> {
    let (length, rest) = sealed.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let (nonce, rest) = rest.split_at_checked(NONCE_BYTES)?;
    let (data, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
    Some((std::str::from_utf8(key).ok()?, nonce, data, tag))
}

impl KeyService for Kmip {
    fn kind(&self) -> &'static str {
        "kmip"
    }

    fn key_id(&self) -> &str {
        &self.config.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let mut nonce = [0; NONCE_BYTES];
            self.reach.doors.entropy.fill(&mut nonce);
            let asked = Asked { key: &self.config.key_id, nonce: &nonce, bound_to: &bound_to(name) };
            let answer = self.exchange(&tresor_kmip::encrypt(&asked, key)).await?;
            let made = tresor_kmip::encrypted(&answer).map_err(|error| blame(&error))?;
            let sealed = spelled(&made.key, &nonce, &made.data, &made.tag).filter(|_| made.data.len() == key.len());
            let sealed = sealed.ok_or(ServiceError::Unexpected("without a ciphertext"))?;
            Ok(Sealed { version: format!("AES_GCM {}", made.key), sealed })
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let damaged = || ServiceError::Unprepared("the key slot is damaged".to_owned());
            let (key, nonce, data, tag) = parts(&sealed.sealed).ok_or_else(damaged)?;
            let asked = Asked { key, nonce, bound_to: &bound_to(&sealed.slot) };
            let answer = self.exchange(&tresor_kmip::decrypt(&asked, data, tag)).await?;
            key_of(&tresor_kmip::decrypted(&answer).map_err(|error| blame(&error))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again_and_damage_is_told() {
        let stored = spelled("key", &[1; NONCE_BYTES], b"made", &[2; TAG_BYTES]).unwrap_or_default();
        assert_eq!(parts(&stored), Some(("key", &[1; NONCE_BYTES][..], b"made".as_slice(), &[2; TAG_BYTES][..])));
        for length in 0..stored.len() - b"made".len() {
            assert_eq!(parts(stored.get(..length).unwrap_or_default()), None, "{length}");
        }
        assert_eq!(parts(&[0xff, 0xff, 1]), None);
    }
}
