//! The yardstick: a bare HTTP and TLS server, of the same versions, settings and allocator as ours, that answers 256
//! bytes to everything. Its process runs beside the servers that are measured, on their core; before each run of a load it
//! is asked for a second. What a server gives, as a part of what this gives, says the same on a busy machine and on a quiet
//! one, on a fast and on a slow one.
//!
//! Deliberately absent: everything that a server is for.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::contender::{Contender, Program};
use crate::loads::{Kind, Prepared, Tokens};
use crate::measure::{Measured, measure};
use crate::options::Options;

/// How the program is called when it is to be the bare server.
pub(crate) const COMMAND: &str = "bare";
/// How many bytes it answers.
const BODY_BYTES: usize = 256;
/// How many clients it has.
pub(crate) const CLIENTS: usize = 64;
/// How long it runs before each run of a load.
const DURATION: Duration = Duration::from_secs(1);

/// The bare server's process.
pub(crate) struct Yardstick(Contender);

impl Yardstick {
    /// Starts it.
    pub(crate) async fn set(options: &Options) -> Result<Self, String> {
        Contender::start(Program::Bare, options).await.map(Self)
    }

    /// What it gives now.
    pub(crate) async fn measure(&self) -> Result<Measured, String> {
        let prepared = Prepared::new(Kind::Bare, &Tokens::default());
        let measured = measure(&self.0, CLIENTS, prepared, DURATION, None).await?;
        match measured.refused {
            Some(why) => Err(format!("the bare server: {why}")),
            None => Ok(Measured { of_bare: 1.0, ..measured }),
        }
    }
}

/// Serves until it is killed: address, certificate, key.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [address, certificate, key] = arguments else {
        return Err("address, certificate and key are needed".to_owned());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let tls = configure(Path::new(certificate), Path::new(key))?;
    runtime.map_err(|error| error.to_string())?.block_on(serve(address, tls))
}

fn configure(certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn serve(address: &str, tls: ServerConfig) -> Result<(), String> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(address).await.map_err(|error| error.to_string())?;
    let body = Bytes::from(vec![b'a'; BODY_BYTES]);
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            // A client that breaks off is none of a yardstick's business.
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|_request| {
                let mut answer = hyper::Response::new(Full::new(body.clone()));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new());
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
