//! TLS to a server, verified as far as the configuration asks.
//!
//! What `sslmode` leaves unverified is what its users know it to be; whoever configures that is warned (TLS-01).
//! Deliberately absent: who vouches for a server (`tresor-verified`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};
use tresor_env::net::Stream;
use tresor_secret::SecretString;
use tresor_verified::{Verified, begin, end};

use crate::dsn::Ssl;

/// What the parts of TLS are called where they are configured.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The authorities' certificates.
    pub authority: &'static str,
    /// Our certificate.
    pub certificate: &'static str,
    /// Its key.
    pub key: &'static str,
}

/// How the server proves who it is, and we do.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Reads what was configured, in PEM.
    ///
    /// # Errors
    /// Text that names the field.
    pub fn new(
        ssl: Ssl,
        names: Names,
        authority: Option<&str>,
        certificate: Option<&str>,
        key: Option<&SecretString>,
    ) -> Result<Self, String> {
        let builder = begin(&match (ssl, authority) {
            (Ssl::Full, Some(authority)) => Verified::Fully(names.authority, authority),
            (Ssl::Full | Ssl::Authority, None) => {
                return Err(format!("this sslmode verifies the server, and needs {}", names.authority));
            }
            (_, Some(authority)) => Verified::ByAuthority(names.authority, authority),
            (_, None) => Verified::Not,
        })?;
        let key = key.map(|key| key.expose().as_str());
        let config = end(builder, (names.certificate, certificate), (names.key, key))?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The way to one host.
    pub(crate) fn to(&self, name: &str) -> ToHost {
        ToHost { connector: self.0.clone(), name: ServerName::try_from(name.to_owned()).ok() }
    }
}

/// The way to one host.
pub(crate) struct ToHost {
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
pub(crate) struct Plain(pub(crate) Box<dyn Stream>);

/// A stream within TLS.
pub(crate) struct Enciphered(client::TlsStream<Plain>);

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
