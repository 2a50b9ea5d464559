//! Who a server of others proves to be in TLS: by the authority that a configuration gives, or by nobody.
//!
//! Deliberately absent: the system's authorities, which would vouch for anybody; the one that counts is given.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// How far a server is verified; where somebody vouches, by the field that says who, in PEM.
pub enum Verified<'t> {
    /// It is vouched for, by the name that it is asked by.
    Fully(&'static str, &'t str),
    /// It is vouched for, whatever its name.
    ByAuthority(&'static str, &'t str),
    /// Not at all: anybody may pose as it.
    Not,
}

/// What TLS to a server begins with.
///
/// # Errors
/// Text that names the field.
pub fn begin(verified: &Verified<'_>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match verified {
        Verified::Fully(field, authority) => by_authority(field, authority, &provider)?,
        Verified::ByAuthority(field, authority) => {
            let authority = Some(by_authority(field, authority, &provider)?);
            Arc::new(Lax { authority, provider: Arc::clone(&provider) })
        }
        Verified::Not => Arc::new(Lax { authority: None, provider: Arc::clone(&provider) }),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// What TLS to a server ends with: a certificate of our own and its key, both in PEM by the fields that say them, or neither.
///
/// # Errors
/// Text that names the field.
pub fn end(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: (&'static str, Option<&str>),
    key: (&'static str, Option<&str>),
) -> Result<ClientConfig, String> {
    match (certificate.1, key.1) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(shown), Some(pem)) => {
            let chain = certificates(shown).ok_or_else(|| format!("{} holds no certificate in PEM", certificate.0))?;
            let pem = PrivateKeyDer::from_pem_slice(pem.as_bytes());
            let pem = pem.map_err(|_| format!("{} holds no private key in PEM", key.0))?;
            builder.with_client_auth_cert(chain, pem).map_err(|error| error.to_string())
        }
        _ => Err(format!("{} and {} go together", certificate.0, key.0)),
    }
}

/// The certificates of a PEM; `None` where there are none.
pub fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let every: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    every.ok().filter(|every| !every.is_empty())
}

fn by_authority(field: &str, text: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text).ok_or_else(|| format!("{field} holds no certificate in PEM"))? {
        roots.add(certificate).map_err(|_| format!("{field} holds no certificate of an authority"))?;
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map_err(|error| error.to_string())
}

/// Verifies the authority and not the name, or nothing.
#[derive(Debug)]
struct Lax {
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lax {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
