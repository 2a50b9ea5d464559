//! Showing proofs to whoever asks for one: in a TLS handshake, and over plain HTTP, on a listener or on the port that authorities ask.
//!
//! What is shown is meant for strangers. Nothing else is to be had here: a handshake for a proof ends with it, and the port that is
//! opened for HTTP answers no other path. Deliberately absent: what is laid out, and when.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{Acceptor, ClientHello};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tresor_env::net::Listener as Bound;
use tresor_env::tasks::run_computing;
use tresor_env::{BoxFuture, Doors, Tasks};

use super::authority::Way;
use super::cache::{Cache, Proof};
use crate::config::{AcmeConfig, AcmeName};

/// The protocol of a handshake that asks for a proof (RFC 8737, 6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";
/// How long a proof counts: an authority that did not look by then never will.
const PROOF_LIFE: Duration = Duration::from_secs(3600);
/// How many may ask at once at a port that is opened for it, and for how long each.
const ASKING_MAX: usize = 32;
const ASKING_TIME: Duration = Duration::from_secs(10);

/// The proofs of one listener's names.
#[derive(Clone)]
pub(crate) struct Shown {
    names: Arc<[AcmeName]>,
    by_http: bool,
    by_tls: bool,
    cache: Cache,
    doors: Doors,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shown").field(&self.names).finish()
    }
}

/// What a handshake for an address calls it (RFC 8738, 6).
fn server_name(name: &AcmeName) -> String {
    match name {
        AcmeName::Dns(name) => name.clone(),
        AcmeName::Address(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        AcmeName::Address(IpAddr::V6(address)) => {
            let digits = address.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|offered| offered.eq([PROTOCOL]))
}

impl Shown {
    pub(crate) fn new(config: &AcmeConfig, cache: &Cache, doors: &Doors) -> Self {
        Self {
            names: config.names.clone().into(),
            by_http: config.by_http,
            by_tls: config.by_tls,
            cache: cache.clone(),
            doors: doors.clone(),
        }
    }

    /// Whether anything is shown over HTTP.
    pub(crate) const fn is_by_http(&self) -> bool {
        self.by_http
    }

    /// What counts of what is laid out for a name.
    async fn proof(&self, name: &AcmeName) -> Option<Proof> {
        let proof = self.cache.laid_out(name).await?;
        (self.doors.clock.wall().since(proof.made) < PROOF_LIFE).then_some(proof)
    }

    /// Shakes hands; nothing is left to serve when that showed a proof.
    pub(crate) async fn shake_hands<S>(&self, stream: S, config: Arc<ServerConfig>) -> io::Result<Option<TlsStream<S>>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = begun.client_hello();
        if !asks_for_proof(&hello) {
            return begun.into_stream(config).await.map(Some);
        }
        let asked = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let of_proof = self.of_tls(&asked).await.ok_or(io::ErrorKind::PermissionDenied)?;
        let mut shown = begun.into_stream(of_proof).await?;
        tracing::info!(name = asked, "a proof was shown in a handshake");
        shown.shutdown().await?;
        Ok(None)
    }

    /// How a handshake proves a name.
    async fn of_tls(&self, asked: &str) -> Option<Arc<ServerConfig>> {
        let name = self.names.iter().filter(|_| self.by_tls).find(|name| server_name(name) == asked)?.clone();
        let proof = self.proof(&name).await?;
        let made = run_computing(&*self.doors.workers, move || handshake(&name, &proof.shown)).await;
        match made {
            Ok(Ok(config)) => return Some(Arc::new(config)),
            Ok(Err(error)) => tracing::error!(error, "a proof for a handshake cannot be made"),
            Err(error) => tracing::warn!(%error, "a proof for a handshake cannot be made"),
        }
        None
    }
}

/// A certificate for one name that nobody signed, with the hash of what proves it (RFC 8737, 3).
fn handshake(name: &AcmeName, shown: &str) -> Result<ServerConfig, String> {
    let made = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.text()])?;
        let digest = tresor_crypto::hash::sha256(shown.as_bytes());
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?.der().clone(), key.serialize_der()))
    };
    let (certificate, key) = made().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let provider = aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    // Shown as it is: what makes it a proof is what nobody takes in a certificate for anything else.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], signer));
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

impl tresor_http::Proofs for Shown {
    fn proof<'a>(&'a self, host: &'a str, token: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let asked = AcmeName::of_host(host)?;
            let name = self.names.iter().filter(|_| self.by_http).find(|name| **name == asked)?;
            let proof = Self::proof(self, name).await.filter(|proof| proof.token == token)?;
            tracing::info!(name = name.text(), "a proof was shown over HTTP");
            Some(proof.shown)
        })
    }
}

/// The port that authorities ask, open while an order runs.
pub(crate) struct Doorstep {
    bound: Box<dyn Bound>,
    way: Way,
    shown: Shown,
}

impl Doorstep {
    /// Opens it; nothing where somebody has it already, who then shows the proof or leads to who does.
    pub(crate) async fn open(way: Way, ip: IpAddr, shown: &Shown) -> Option<Self> {
        let address = SocketAddr::new(ip, if way == Way::Http { 80 } else { 443 });
        match shown.doors.net.listen(address).await {
            Ok(bound) => Some(Self { bound, way, shown: shown.clone() }),
            Err(error) => {
                tracing::debug!(%address, %error, "the port that authorities ask is not opened");
                None
            }
        }
    }

    /// Shows proofs for as long as it is polled.
    pub(crate) async fn serve(self) {
        let (tasks, places) = (Tasks::new(), Arc::new(Semaphore::new(ASKING_MAX)));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = self.bound.accept().await else {
                self.shown.doors.clock.sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (way, shown) = (self.way, self.shown.clone());
            tasks.spawn(async move {
                let time = shown.doors.clock.sleep(ASKING_TIME);
                tokio::select! {
                    () = answer(way, &shown, stream) => {}
                    () = time => {}
                }
                drop(place);
            });
        }
    }
}

async fn answer(way: Way, shown: &Shown, stream: Box<dyn tresor_env::net::Stream>) {
    match way {
        Way::Tls => {
            let nothing = handshake(&AcmeName::Dns("localhost".to_owned()), "");
            if let Ok(nothing) = nothing {
                // Who does not ask for a proof is shown a certificate that nobody trusts, and nothing behind it.
                drop(shown.shake_hands(stream, Arc::new(nothing)).await);
            }
        }
        Way::Http => {
            let service = service_fn(|request| async move {
                Ok::<_, std::convert::Infallible>(tresor_http::show_proof(shown, request).await)
            });
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_the_name_that_leads_back_to_it() {
        let name = |address: &str| server_name(&AcmeName::Address(address.parse().unwrap()));
        assert_eq!(name("127.0.0.2"), "2.0.0.127.in-addr.arpa");
        assert_eq!(name("2001:db8::1"), format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    }
}
