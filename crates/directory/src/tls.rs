//! TLS to a directory: which certificates are trusted, which versions are spoken, who we are.
//!
//! Trust is the system's, or an authority of the operator's own in its place. Deliberately absent: TLS 1.0 and 1.1, which
//! may be named as the oldest version and are not spoken.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tresor_env::Clock;
use tresor_secret::SecretString;

use crate::error::DirectoryError;

/// A version of TLS, as settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.0.
    Tls10,
    /// 1.1.
    Tls11,
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl Version {
    /// Reads `tls10` to `tls13`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tls10" => Some(Self::Tls10),
            "tls11" => Some(Self::Tls11),
            "tls12" => Some(Self::Tls12),
            "tls13" => Some(Self::Tls13),
            _ => None,
        }
    }
}

/// Who is trusted, and who we are; PEM.
#[derive(Clone, Copy, Default)]
pub struct Certificates<'c> {
    /// The authority in the place of the system's; empty is the system's.
    pub authority: &'c str,
    /// Our certificate, with those that lead to its authority; empty is none.
    pub own: &'c str,
    /// Its key.
    pub key: Option<&'c SecretString>,
    /// Whether whoever answers is taken for the directory.
    pub anybody: bool,
}

/// How TLS is spoken to a directory.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

fn unusable(what: &str, error: impl fmt::Display) -> DirectoryError {
    DirectoryError::Settings(format!("{what}: {error}"))
}

impl Tls {
    /// Prepares it.
    ///
    /// # Errors
    /// [`DirectoryError::Settings`] when a certificate, key or range of versions makes no sense.
    pub fn new(
        certificates: Certificates<'_>,
        (oldest, newest): (Version, Version),
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, DirectoryError> {
        let spoken = |version: Version| (oldest..=newest).contains(&version);
        let versions: Vec<&'static SupportedProtocolVersion> = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(v, _)| spoken(*v))
            .map(|(_, v)| v)
            .collect();
        if versions.is_empty() {
            return Err(DirectoryError::Settings("only TLS 1.2 and 1.3 are spoken".to_owned()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(certificates, &provider)?;
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(clock))))
            .with_protocol_versions(&versions)
            .map_err(|error| unusable("TLS", error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match certificates.key.filter(|key| !key.is_empty()) {
            None if certificates.own.is_empty() => builder.with_no_client_auth(),
            Some(key) if !certificates.own.is_empty() => {
                let chain = chain(certificates.own, "client_tls_cert")?;
                // The parser's own words could quote the key.
                let no_key = |_| DirectoryError::Settings("client_tls_key: not a private key in PEM".to_owned());
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(no_key)?;
                let pair = builder.with_client_auth_cert(chain, key);
                pair.map_err(|error| unusable("failed to parse client X509 key pair", error))?
            }
            _ => {
                let text = "both client_tls_cert and client_tls_key must be set";
                return Err(DirectoryError::Settings(text.to_owned()));
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

fn chain(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, DirectoryError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(DirectoryError::Settings(format!("{what}: no certificate in PEM"))),
        Err(error) => Err(unusable(what, error)),
    }
}

fn verifier(
    certificates: Certificates<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, DirectoryError> {
    if certificates.anybody {
        return Ok(Arc::new(Anybody(Arc::clone(provider))));
    }
    if certificates.authority.is_empty() {
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(provider));
        return Ok(Arc::new(system.map_err(|error| unusable("the system's certificates", error))?));
    }
    let mut roots = RootCertStore::empty();
    for certificate in chain(certificates.authority, "certificate")? {
        roots.add(certificate).map_err(|error| unusable("failed to parse certificate", error))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| unusable("certificate", error))?)
}

/// Takes every certificate; that whoever shows it has its key is still verified.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What time certificates are held against.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.wall().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
