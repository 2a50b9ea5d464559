//! One TLS connection that stays open, and the requests on it: prepared bytes out, an answer in.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answer::Answer;

/// Where a server listens, and by which certificate it is known.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    connector: TlsConnector,
}

impl Endpoint {
    /// The server with this certificate at this address.
    pub(crate) fn new(address: SocketAddr, certificate: CertificateDer<'static>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::from(self.address.ip());
        let stream = self.connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        Ok(Connection { stream, received: Vec::with_capacity(64 * 1024) })
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl Connection {
    /// Sends a prepared request and waits for its answer; the answer's bytes stay in place until the next one.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, String> {
        self.received.clear();
        self.stream.write_all(request).await.map_err(|error| format!("sending: {error}"))?;
        self.stream.flush().await.map_err(|error| format!("sending: {error}"))?;
        loop {
            let read = self.stream.read_buf(&mut self.received).await.map_err(|error| format!("receiving: {error}"))?;
            if let Some(answer) = Answer::parse(&self.received)? {
                return Ok(answer);
            }
            if read == 0 {
                return Err("the server closed the connection".to_owned());
            }
        }
    }

    /// What the last answer said.
    pub(crate) fn body(&self, answer: &Answer) -> Vec<u8> {
        answer.body(&self.received)
    }

    /// One call with JSON, for preparing.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.exchange(&request(method, path, token, &body)).await?;
        Ok((answer.status, serde_json::from_slice(&self.body(&answer)).unwrap_or(Value::Null)))
    }

    /// One call that must succeed.
    pub(crate) async fn succeed(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        match self.call(method, path, token, body).await? {
            (200..=299, value) => Ok(value),
            (status, value) => Err(format!("{method} {path}: {status} {value}")),
        }
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    let mut head = format!("{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n");
    if !token.is_empty() {
        head.push_str(&format!("X-Vault-Token: {token}\r\nX-Vault-Request: true\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head.push_str(body);
    head.into_bytes()
}
