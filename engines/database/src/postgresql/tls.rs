//! TLS to a server, verified as far as the configuration asks.
//!
//! What `sslmode` leaves unverified is what its users know it to be; whoever configures that is warned (TLS-01).
//! Deliberately absent: the system's authorities, which would vouch for anybody; the one that counts is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use tresor_env::net::Stream;
use tresor_secret::SecretString;

use super::dsn::Ssl;

/// How the server proves who it is, and we do.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Reads what was configured.
    ///
    /// # Errors
    /// Text that names the field.
    pub(crate) fn new(
        ssl: Ssl,
        authority: Option<&str>,
        certificate: Option<&str>,
        key: Option<&SecretString>,
    ) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier = verifier(ssl, authority, &provider)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match (certificate, key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate).ok_or("tls_certificate holds no certificate in PEM")?;
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
                let key = key.map_err(|_| "private_key holds no private key in PEM")?;
                builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
            }
            _ => return Err("tls_certificate and private_key go together".into()),
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The way to one host.
    pub(super) fn to(&self, name: &str) -> ToHost {
        ToHost { connector: self.0.clone(), name: ServerName::try_from(name.to_owned()).ok() }
    }
}

fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let every: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    every.ok().filter(|every| !every.is_empty())
}

fn verifier(
    ssl: Ssl,
    authority: Option<&str>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let by_authority = match authority {
        None => None,
        Some(text) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(text).ok_or("tls_ca holds no certificate in PEM")? {
                roots.add(certificate).map_err(|_| "tls_ca holds no certificate of an authority")?;
            }
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            Some(built.map_err(|error| error.to_string())?)
        }
    };
    match (ssl, by_authority) {
        (Ssl::Full, Some(verifier)) => Ok(verifier),
        (Ssl::Full | Ssl::Authority, None) => Err("this sslmode verifies the server, and needs tls_ca".into()),
        (_, authority) => Ok(Arc::new(Lax { authority, provider: Arc::clone(provider) })),
    }
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
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(TlsError::InvalidCertificate(
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
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The way to one host.
pub(super) struct ToHost {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Plain> for ToHost {
    type Stream = Enciphered;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Enciphered>> + Send>>;

    fn connect(self, stream: Plain) -> Self::Future {
        Box::pin(async move {
            let name = self.name.ok_or_else(|| io::Error::other("the host has no name for TLS"))?;
            self.connector.connect(name, stream).await.map(Enciphered)
        })
    }
}

/// A stream as the network door gives it.
pub(super) struct Plain(pub(super) Box<dyn Stream>);

/// A stream within TLS.
pub(super) struct Enciphered(client::TlsStream<Plain>);

impl TlsStream for Enciphered {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

macro_rules! reads_and_writes {
    ($($stream:ty),*) => {$(
        impl AsyncRead for $stream {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                out: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_read(cx, out)
            }
        }

        impl AsyncWrite for $stream {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write(cx, bytes)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_shutdown(cx)
            }
        }
    )*};
}

reads_and_writes!(Plain, Enciphered);
