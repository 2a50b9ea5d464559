//! TLS to a server, verified as far as the configuration asks.
//!
//! What `sslmode` leaves unverified is what its users know it to be; whoever configures that is warned (TLS-01).
//! Deliberately absent: who vouches for a server (`crate::tls`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use tresor_env::net::Stream;
use tresor_secret::SecretString;

use super::dsn::Ssl;
use crate::tls::{Verified, begin, certificates};

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
        let builder = begin(&match (ssl, authority) {
            (Ssl::Full, Some(authority)) => Verified::Fully("tls_ca", authority),
            (Ssl::Full | Ssl::Authority, None) => {
                return Err("this sslmode verifies the server, and needs tls_ca".into());
            }
            (_, Some(authority)) => Verified::ByAuthority("tls_ca", authority),
            (_, None) => Verified::Not,
        })?;
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
