//! The real way to HTTP servers of others: HTTPS with the machine's own authorities, bounded in size and time, and no
//! redirects, which would carry what was sent elsewhere.
//!
//! A proxy that the environment names stands on the way to everybody but this machine itself and who is beside it.
//! It is here, not in `env-os`, because the one HTTP client of the house is a part of the server already. Deliberately
//! absent: cookies and caches, which would carry something from one request to another.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tresor_env::BoxFuture;
use tresor_env::outgoing::{
    Ask, Outgoing, OutgoingAnswer, OutgoingError, OutgoingRequest, ServerName, Trust, Untrustable, is_beside,
};
use zeroize::Zeroizing;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Ways over the network.
#[derive(Default)]
pub struct Https {
    /// Made when it is first needed: most servers never ask anybody.
    client: OnceLock<Option<reqwest::Client>>,
    /// The same for whoever is beside this machine: by no proxy.
    direct: OnceLock<Option<reqwest::Client>>,
    /// The server that is known by another name.
    renamed: Option<ServerName>,
}

/// Finds the one server of a client at its own host, by whichever name it is asked for.
struct Renamed(String);

impl reqwest::dns::Resolve for Renamed {
    fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<std::net::SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let found: reqwest::dns::Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// A host, and its port where it has one, as addresses name them.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// An address with the other name of its server in it: what TLS verifies.
fn renamed(url: &str, server: &ServerName) -> String {
    let port = host_and_port(&server.host).1.map_or(String::new(), |port| format!(":{port}"));
    url.replacen(&format!("://{}", server.host), &format!("://{}{port}", server.name), 1)
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_MAX)
        .user_agent(concat!("tresor/", env!("CARGO_PKG_VERSION")))
}

/// Whether the environment names a proxy.
fn has_proxy() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().any(is_set)
}

impl Https {
    /// The client for an address.
    fn client(&self, url: &str) -> Option<&reqwest::Client> {
        let made = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| tracing::error!("no HTTP client: {}", without_address(error))).ok()
        };
        if is_beside(url) && has_proxy() {
            return self.direct.get_or_init(|| made(builder().no_proxy())).as_ref();
        }
        self.client.get_or_init(|| made(builder())).as_ref()
    }
}

/// A client with a trust of its own.
fn trusting(builder: reqwest::ClientBuilder, trust: &Trust) -> Result<reqwest::Client, Untrustable> {
    let unusable = |_| Untrustable;
    let mut builder = builder;
    if let Some(pem) = &trust.authorities {
        let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)?;
        if authorities.is_empty() {
            return Err(Untrustable);
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(pem) = &trust.identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(unusable)?);
    }
    if trust.anybody {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(ServerName { host, .. }) = &trust.server_name {
        let host = host_and_port(host).0.trim_matches(['[', ']']).to_owned();
        builder = builder.dns_resolver(Arc::new(Renamed(host))).http1_only();
    }
    builder.build().map_err(unusable)
}

/// A client for one server, for whoever needs more of an answer than the door gives.
pub(crate) fn client(url: &str, trust: &Trust) -> Result<reqwest::Client, Untrustable> {
    let builder = if is_beside(url) && has_proxy() { builder().no_proxy() } else { builder() };
    trusting(builder, trust)
}

/// What went wrong, without the address that was asked, which could hold a secret.
pub(crate) fn without_address(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

fn failed(error: reqwest::Error) -> OutgoingError {
    // Connecting may be too slow, too; then it is still sure that nothing was sent.
    if error.is_connect() {
        OutgoingError::Unreached(without_address(error))
    } else if error.is_timeout() {
        OutgoingError::TooSlow
    } else if error.is_builder() {
        OutgoingError::Unsendable
    } else {
        OutgoingError::Failed(without_address(error))
    }
}

impl Outgoing for Https {
    fn trusting(&self, trust: &Trust) -> Result<Arc<dyn Outgoing>, Untrustable> {
        let direct = if has_proxy() { Some(trusting(builder().no_proxy(), trust)?) } else { None };
        let client = OnceLock::from(Some(trusting(builder(), trust)?));
        Ok(Arc::new(Self { client, direct: OnceLock::from(direct), renamed: trust.server_name.clone() }))
    }

    fn ask(&self, request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>> {
        Box::pin(async move {
            let client = self
                .client(&request.url)
                .ok_or_else(|| OutgoingError::Unreached("there is no HTTP client".to_owned()))?;
            let url = self.renamed.as_ref().map_or(request.url.clone(), |name| renamed(&request.url, name));
            let mut sent = match request.ask {
                Ask::Get => client.get(&url),
                Ask::Post(body) => client.post(&url).body(bytes::Bytes::from_owner(body)),
                Ask::Put(body) => client.put(&url).body(bytes::Bytes::from_owner(body)),
                Ask::Patch(body) => client.patch(&url).body(bytes::Bytes::from_owner(body)),
                Ask::Delete => client.delete(&url),
            };
            if let Some(ServerName { host, .. }) = &self.renamed {
                sent = sent.header(reqwest::header::HOST, host);
            }
            for (name, value) in &request.headers {
                let mut value = reqwest::header::HeaderValue::from_str(value).map_err(|_| OutgoingError::Unsendable)?;
                value.set_sensitive(true);
                sent = sent.header(name.as_ref(), value);
            }
            let mut answer = sent.timeout(request.time_max).send().await.map_err(failed)?;
            let status = answer.status().as_u16();
            let mut body = Zeroizing::new(Vec::new());
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                if body.len() + chunk.len() > request.body_bytes_max {
                    return Err(OutgoingError::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(OutgoingAnswer { status, body })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A fake server that says this to the first that comes, and gives what it was told.
    async fn exchange(says: Vec<u8>, time_max: Duration) -> (Result<OutgoingAnswer, OutgoingError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/user?page=1", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"\r\n\r\n") {
                told.push(stream.read_u8().await.unwrap());
            }
            // Whoever has heard enough goes away in the middle.
            drop(stream.write_all(&says).await);
            if says.is_empty() {
                drop(stream.read_u8().await);
            }
            String::from_utf8(told).unwrap()
        };
        let headers = vec![("authorization".into(), Zeroizing::new("Bearer x".to_owned()))];
        let request = OutgoingRequest { ask: Ask::Get, url, headers, time_max, body_bytes_max: 1000 };
        let https = Https::default();
        tokio::join!(https.ask(request), server)
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn one_request_is_sent_and_its_answer_comes_back_within_bounds() {
        let long = Duration::from_secs(20);
        let (got, told) = exchange(answer("200 OK", b"{}"), long).await;
        let got = got.unwrap();
        assert_eq!((got.status, got.body.as_slice()), (200, b"{}".as_slice()));
        assert!(told.starts_with("GET /user?page=1 HTTP/1.1\r\n") && told.contains("authorization: Bearer x\r\n"));
        let (got, _) = exchange(answer("302 Found\r\nlocation: http://127.0.0.1:9/", b""), long).await;
        assert_eq!(got.unwrap().status, 302);
        let (got, _) = exchange(answer("200 OK", &[b'x'; 1001]), long).await;
        assert_eq!(got.err(), Some(OutgoingError::TooLarge));
        let (got, _) = exchange(b"no HTTP\r\n\r\n".to_vec(), long).await;
        assert!(matches!(got, Err(OutgoingError::Failed(text)) if !text.contains("127.0.0.1")));
        let (got, _) = exchange(Vec::new(), Duration::from_millis(50)).await;
        assert_eq!(got.err(), Some(OutgoingError::TooSlow));
    }

    #[tokio::test]
    async fn a_server_of_another_name_is_asked_at_its_own_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"\r\n\r\n") {
                told.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(&answer("200 OK", b"{}")).await.unwrap();
            String::from_utf8(told).unwrap()
        };
        let name = ServerName { name: "vault.invalid".to_owned(), host: host.clone() };
        let url = format!("http://{host}/v1/a");
        assert!(renamed(&url, &name).starts_with("http://vault.invalid:"), "{}", renamed(&url, &name));
        let https = Https::default().trusting(&Trust { server_name: Some(name), ..Trust::default() }).unwrap();
        let time_max = Duration::from_secs(20);
        let request = OutgoingRequest { ask: Ask::Get, url, headers: Vec::new(), time_max, body_bytes_max: 9 };
        let (got, told) = tokio::join!(https.ask(request), server);
        assert_eq!(got.map(|answer| answer.status), Ok(200));
        assert!(told.contains(&format!("host: {host}\r\n")), "{told}");
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_server_that_is_not_there() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = format!("http://{free}/user");
        let time_max = Duration::from_secs(20);
        let request = OutgoingRequest { ask: Ask::Delete, url, headers: Vec::new(), time_max, body_bytes_max: 1 };
        assert!(matches!(Https::default().ask(request).await, Err(OutgoingError::Unreached(_))));
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_not_sent() {
        for (url, header) in [("no address", "x"), ("http://127.0.0.1:9/", "two\nlines")] {
            let headers = vec![("authorization".into(), Zeroizing::new(header.to_owned()))];
            let request = OutgoingRequest {
                ask: Ask::Get,
                url: url.to_owned(),
                headers,
                time_max: Duration::from_secs(1),
                body_bytes_max: 1,
            };
            assert_eq!(Https::default().ask(request).await.err(), Some(OutgoingError::Unsendable));
        }
    }
}
