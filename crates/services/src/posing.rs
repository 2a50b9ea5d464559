//! A server that speaks HTTPS by a certificate of which something may be wrong, as of somebody who poses as it, and notes whether
//! anybody tells it anything all the same.
//!
//! Deliberately absent: what it answers, which is always the same.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::certificates::Certificates;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing, for whoever trusts its authority.
    None,
    /// Nobody vouches for it but itself.
    SelfSigned,
    /// It is somebody else's.
    OtherName,
    /// Its time is over.
    Expired,
}

/// A server that runs until it is dropped.
pub struct Posing {
    port: u16,
    authority: String,
    told: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Posing {
    /// Starts one, at `localhost`.
    ///
    /// # Errors
    /// Text that says what did not work.
    pub fn start(flaw: Flaw) -> Result<Self, String> {
        let certificates = match flaw {
            Flaw::None | Flaw::SelfSigned => Certificates::of("localhost")?,
            Flaw::OtherName => Certificates::of("elsewhere.example")?,
            Flaw::Expired => Certificates::expired("localhost")?,
        };
        let (own, key) = match flaw {
            Flaw::SelfSigned => {
                let made = || -> Result<_, rcgen::Error> {
                    let key = KeyPair::generate()?;
                    let own = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
                    Ok((own.pem(), key.serialize_pem()))
                };
                made().map_err(|error| error.to_string())?
            }
            _ => (certificates.own, certificates.key),
        };
        let chain = vec![CertificateDer::from_pem_slice(own.as_bytes()).map_err(|error| error.to_string())?];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let config = Arc::new(config.map_err(|error| error.to_string())?);

        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let (told, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, end) = (Arc::clone(&told), Arc::clone(&is_over));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (config, counter) = (Arc::clone(&config), Arc::clone(&counter));
                thread::spawn(move || answer(client, config, &counter));
            }
        });
        Ok(Self { port, authority: certificates.authority, told, is_over })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The certificate of who would vouch for it, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// How many bytes it was told in confidence.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Posing {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Who waits for the next connection is woken by one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Hears one request out and answers it.
fn answer(mut client: TcpStream, config: Arc<ServerConfig>, told: &AtomicUsize) {
    let Ok(mut tls) = ServerConnection::new(config) else { return };
    if client.set_read_timeout(Some(Duration::from_secs(30))).is_err() {
        return;
    }
    let mut stream = Stream::new(&mut tls, &mut client);
    let (mut heard, mut chunk) = (Vec::new(), [0_u8; 4096]);
    while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(length) if length > 0 => {
                told.fetch_add(length, Ordering::Relaxed);
                heard.extend_from_slice(chunk.get(..length).unwrap_or_default());
            }
            _ => return,
        }
    }
    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"));
    stream.conn.send_close_notify();
    drop(stream.flush());
}
