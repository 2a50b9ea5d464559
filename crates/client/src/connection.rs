//! Requests: headers, the repetitions, and the one redirect that we follow ourselves.
//!
//! reqwest's own redirects are off because they drop the body and the token; a standby answers 307 and expects both
//! again. Deliberately absent: forwarding to plain HTTP from HTTPS, which would hand the token to the network.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::config::{ClientConfig, Verification};
use crate::error::ClientError;
use crate::pace::Pace;
use crate::path::{encode_parameter, encode_path};
use crate::response::{ApiResponse, describes_something};

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// List: sent as GET with `list=true`, which every proxy lets through.
    List,
    /// List at any depth: sent as GET with `scan=true`.
    Scan,
    /// Create.
    Post,
    /// Create or replace.
    Put,
    /// Change some fields.
    Patch,
    /// Remove.
    Delete,
}

impl Method {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get | Self::List | Self::Scan => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn verb(self) -> reqwest::Method {
        match self {
            Self::Get | Self::List | Self::Scan => reqwest::Method::GET,
            Self::Post => reqwest::Method::POST,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
        }
    }
}

/// How long something may take that is as large as what a server stores.
const UNBOUNDED: Duration = Duration::from_secs(24 * 60 * 60);

/// What goes with a request.
#[derive(Clone, Copy)]
pub(crate) enum Sent<'b> {
    Nothing,
    /// Nothing, and the connection is to go on as a WebSocket, agreed on by this key.
    Upgrade(&'b str),
    /// Nothing, and the answer may be long.
    ForAsLongAsItTakes,
    Json(&'b str),
    File(&'b Path, &'b Arc<AtomicU64>),
}

/// The longest wait that a server may ask for; what takes longer is for people to decide.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(10);

/// A whole answer.
struct Answered {
    status: StatusCode,
    body: Vec<u8>,
    /// The request's id.
    id: Option<String>,
    /// How long the server asks to wait.
    wait: Option<Duration>,
}

/// A connection to one server, as one identity.
pub struct Client {
    http: reqwest::Client,
    /// The address as the user wrote it, for messages.
    shown: String,
    /// The address that reqwest gets: it carries the expected name of the certificate.
    sent: String,
    headers: HeaderMap,
    retries_max: u32,
    retry_wait: Duration,
    answer_bytes_max: usize,
    follows_redirect: bool,
    pace: Option<Pace>,
}

impl Client {
    /// Prepares the connection; sends nothing, but resolves the host when a TLS server name is set.
    ///
    /// # Errors
    /// When the address, a file, a header or the token is unusable.
    pub async fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let headers = headers(&config)?;
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tresor/", env!("CARGO_PKG_VERSION")));
        if !config.timeout.is_zero() {
            builder = builder.timeout(config.timeout);
        }
        let (mut base, socket) = match config.address.strip_prefix("unix://") {
            Some(socket) => ("http://localhost".to_owned(), Some(socket.to_owned())),
            None => (config.address.trim_end_matches('/').to_owned(), None),
        };
        if !base.contains("://") {
            return Err(ClientError::local(format!("address `{base}` has no scheme such as https://")));
        }
        let url = parse_url(&base)?;
        if let Some(socket) = socket {
            builder = builder.unix_socket(socket);
        } else if let Some(proxy) = &config.proxy {
            let proxy = reqwest::Proxy::all(proxy)
                .map_err(|error| ClientError::local(format!("proxy `{proxy}`: {}", describe(&error))))?;
            builder = builder.proxy(proxy);
        } else if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        if config.verification == Verification::Skipped {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if config.speaks_http_1 {
            builder = builder.http1_only();
        }
        let authorities = authorities(&config)?;
        if !authorities.is_empty() {
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(identity) = identity(&config)? {
            builder = builder.identity(identity);
        }
        let shown = base.clone();
        let mut headers = headers;
        if let Some(name) = config.tls_server_name.as_deref().filter(|name| !name.is_empty() && url.scheme() == "https")
        {
            let (renamed, address) = rename_host(&url, name).await?;
            if let Some(host) = url.host_str() {
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                headers.insert(reqwest::header::HOST, header_value("host", &format!("{host}{port}"))?);
            }
            builder = builder.resolve(name, address).http1_only();
            base = renamed;
        }
        let http = builder.build().map_err(|error| ClientError::local(describe(&error)))?;
        let ClientConfig { retries_max, retry_wait, answer_bytes_max, follows_redirect, rate_limit, .. } = config;
        let pace = rate_limit.map(Pace::new);
        Ok(Self { http, shown, sent: base, headers, retries_max, retry_wait, answer_bytes_max, follows_redirect, pace })
    }

    /// The URL of a request as messages show it.
    ///
    /// # Errors
    /// When the path has a relative segment.
    pub fn url(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<String, ClientError> {
        url_below(&self.shown, method, path, query)
    }

    /// Sends one request and waits for its answer.
    ///
    /// `path` is the logical path without `/v1/`. Repeats after a 412, after a 5xx other than 501, and after a 429 that
    /// asks for a short wait.
    ///
    /// # Errors
    /// [`ClientError::Local`] when no answer came, [`ClientError::Server`] when the server refused.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<ApiResponse, ClientError> {
        let shown = self.url(method, path, query)?;
        let target = parse_url(&url_below(&self.sent, method, path, query)?)?;
        let (sent, mut attempt) = (body.map(Value::to_string), 0);
        loop {
            let Answered { status, body, id, wait } = self.send_once(method, &target, &shown, sent.as_deref()).await?;
            let wait = match wait.filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
                Some(wait) => (wait <= ASKED_WAIT_MAX).then_some(wait),
                None => is_worth_repeating(status).then(|| self.retry_wait + (self.retry_wait / 2) * attempt),
            };
            if let Some(wait) = wait.filter(|_| attempt < self.retries_max) {
                tokio::time::sleep(wait).await;
                attempt += 1;
                continue;
            }
            if status.is_success() || (status == StatusCode::NOT_FOUND && describes_something(&body)) {
                return Ok(ApiResponse::new(status.as_u16(), body));
            }
            return Err(ClientError::refused(status.as_u16(), &body, shown, method.name(), id));
        }
    }

    /// Writes JSON to a path, once.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn write(&self, path: &str, json: &str) -> Result<ApiResponse, ClientError> {
        let (target, shown) = self.located(Method::Post, path, &[])?;
        let Answered { status, body, id, .. } = self.send_once(Method::Post, &target, &shown, Some(json)).await?;
        if status.is_success() {
            return Ok(ApiResponse::new(status.as_u16(), body));
        }
        Err(ClientError::refused(status.as_u16(), &body, shown, "POST", id))
    }

    /// Fetches an answer that is no JSON, and hands it on as it comes.
    ///
    /// # Errors
    /// As [`Client::request`]; also what `take` says, and when the answer breaks off.
    pub async fn download(
        &self,
        path: &str,
        query: &[(&str, &str)],
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), ClientError> {
        let (target, shown) = self.located(Method::Get, path, query)?;
        let mut response = self.open(Method::Get, &target, &shown, Sent::ForAsLongAsItTakes).await?;
        let failed = |error: reqwest::Error| ClientError::local(format!("GET {shown}: {}", describe(&error)));
        let (status, id) = (response.status(), request_id(&response));
        if !status.is_success() {
            let bytes = response.bytes().await.map_err(failed)?;
            return Err(ClientError::refused(status.as_u16(), &bytes, shown, "GET", id));
        }
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            take(&bytes).map_err(ClientError::local)?;
        }
        Ok(())
    }

    /// Writes a file to a path as it is; `moved` counts the bytes that were handed on.
    ///
    /// # Errors
    /// As [`Client::request`]; also when the file cannot be read.
    pub async fn upload(&self, path: &str, file: &Path, moved: &Arc<AtomicU64>) -> Result<(), ClientError> {
        let (target, shown) = self.located(Method::Post, path, &[])?;
        let response = self.open(Method::Post, &target, &shown, Sent::File(file, moved)).await?;
        let (status, id) = (response.status(), request_id(&response));
        let failed = |error: reqwest::Error| ClientError::local(format!("POST {shown}: {}", describe(&error)));
        let bytes = response.bytes().await.map_err(failed)?;
        if status.is_success() { Ok(()) } else { Err(ClientError::refused(status.as_u16(), &bytes, shown, "POST", id)) }
    }

    /// Where a request goes, and how messages show that.
    pub(crate) fn located(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(Url, String), ClientError> {
        Ok((parse_url(&url_below(&self.sent, method, path, query)?)?, self.url(method, path, query)?))
    }

    async fn send_once(
        &self,
        method: Method,
        target: &Url,
        shown: &str,
        body: Option<&str>,
    ) -> Result<Answered, ClientError> {
        let mut response = self.open(method, target, shown, body.map_or(Sent::Nothing, Sent::Json)).await?;
        let (status, id, wait) = (response.status(), request_id(&response), retry_after(&response));
        let failed =
            |error: reqwest::Error| ClientError::local(format!("{} {shown}: {}", method.name(), describe(&error)));
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.map_err(failed)? {
            if bytes.len() + more.len() > self.answer_bytes_max {
                return Err(ClientError::local(format!("{} {shown}: the answer is too long", method.name())));
            }
            bytes.extend_from_slice(&more);
        }
        Ok(Answered { status, body: bytes, id, wait })
    }

    /// Sends a request, once more where it is sent elsewhere; its answer begins.
    pub(crate) async fn open(
        &self,
        method: Method,
        target: &Url,
        shown: &str,
        sent: Sent<'_>,
    ) -> Result<reqwest::Response, ClientError> {
        let mut target = target.clone();
        let mut headers = self.headers.clone();
        let mut redirected = !self.follows_redirect;
        loop {
            if let Some(wait) = self.pace.as_ref().map(Pace::wait).filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait).await;
            }
            let mut request = self.http.request(method.verb(), target.clone()).headers(headers.clone());
            request = match sent {
                Sent::Nothing => request,
                Sent::Upgrade(key) => request
                    .header(reqwest::header::CONNECTION, "Upgrade")
                    .header(reqwest::header::UPGRADE, "websocket")
                    .header(reqwest::header::SEC_WEBSOCKET_VERSION, "13")
                    .header(reqwest::header::SEC_WEBSOCKET_KEY, key),
                Sent::Json(body) => {
                    let kind =
                        if method == Method::Patch { "application/merge-patch+json" } else { "application/json" };
                    request.header(reqwest::header::CONTENT_TYPE, kind).body(body.to_owned())
                }
                Sent::ForAsLongAsItTakes => request.timeout(UNBOUNDED),
                Sent::File(path, moved) => {
                    let unreadable = |error| ClientError::local(format!("reading `{}`: {error}", path.display()));
                    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
                    let length = file.metadata().await.map_err(unreadable)?.len();
                    request
                        .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
                        .header(reqwest::header::CONTENT_LENGTH, length)
                        .body(counted(file, Arc::clone(moved)))
                        .timeout(UNBOUNDED)
                }
            };
            let failed =
                |error: reqwest::Error| ClientError::local(format!("{} {shown}: {}", method.name(), describe(&error)));
            let response = request.send().await.map_err(failed)?;
            if let (false, Some(location)) = (redirected, redirect_of(&response)) {
                let next = target.join(location).map_err(|_| {
                    ClientError::local(format!("{} {shown}: redirect to an invalid URL", method.name()))
                })?;
                if target.scheme() == "https" && next.scheme() != "https" {
                    return Err(ClientError::local(format!(
                        "{} {shown}: redirect would downgrade the connection to plain HTTP",
                        method.name()
                    )));
                }
                headers.remove(reqwest::header::HOST);
                target = next;
                redirected = true;
                continue;
            }
            return Ok(response);
        }
    }
}

/// A file as a body whose parts are counted when they are asked for.
fn counted(file: tokio::fs::File, moved: Arc<AtomicU64>) -> reqwest::Body {
    moved.store(0, Ordering::Relaxed);
    let parts = futures_util::stream::try_unfold((file, moved), |(mut file, moved)| async move {
        let mut part = vec![0; 64 * 1024];
        let length = file.read(&mut part).await?;
        part.truncate(length);
        moved.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
        Ok::<_, std::io::Error>((length > 0).then_some((part, (file, moved))))
    });
    reqwest::Body::wrap_stream(parts)
}

/// The id of the request, as the server calls it.
pub(crate) fn request_id(response: &reqwest::Response) -> Option<String> {
    let id = response.headers().get("x-request-id")?.to_str().ok()?;
    // It is shown to people: whatever it is, it is no text of somebody else's.
    let is_id = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_id.then(|| id.to_owned())
}

/// How long a server asks to wait, in seconds.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn is_worth_repeating(status: StatusCode) -> bool {
    status == StatusCode::PRECONDITION_FAILED || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

fn redirect_of(response: &reqwest::Response) -> Option<&str> {
    match response.status().as_u16() {
        301 | 302 | 307 | 308 => response.headers().get(reqwest::header::LOCATION)?.to_str().ok(),
        _ => None,
    }
}

fn url_below(base: &str, method: Method, path: &str, query: &[(&str, &str)]) -> Result<String, ClientError> {
    let path = encode_path(path.trim_start_matches('/')).map_err(ClientError::local)?;
    let mut url = format!("{base}/v1/{path}");
    let listing = match method {
        Method::List => Some(("list", "true")),
        Method::Scan => Some(("scan", "true")),
        _ => None,
    };
    for (index, (name, value)) in listing.iter().chain(query).enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(&format!("{}={}", encode_parameter(name), encode_parameter(value)));
    }
    Ok(url)
}

fn parse_url(text: &str) -> Result<Url, ClientError> {
    Url::parse(text).map_err(|error| ClientError::local(format!("invalid address `{text}`: {error}")))
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The same URL under the name that the certificate must carry, and the socket address of the real host.
async fn rename_host(url: &Url, name: &str) -> Result<(String, std::net::SocketAddr), ClientError> {
    if name.parse::<IpAddr>().is_ok() {
        return Err(ClientError::local(format!("TLS server name `{name}` is an address, not a host name")));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let address = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|error| ClientError::local(format!("lookup of `{host}`: {error}")))?
        .next()
        .ok_or_else(|| ClientError::local(format!("lookup of `{host}`: no address")))?;
    let mut renamed = url.clone();
    renamed.set_host(Some(name)).map_err(|error| ClientError::local(format!("TLS server name `{name}`: {error}")))?;
    Ok((renamed.as_str().trim_end_matches('/').to_owned(), address))
}

fn headers(config: &ClientConfig) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    if let Some(token) = &config.token {
        let mut value = header_value("token", token.expose())?;
        value.set_sensitive(true);
        headers.insert("x-vault-token", value);
    }
    if let Some(namespace) = config.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        headers.insert("x-vault-namespace", header_value("namespace", namespace)?);
    }
    if let Some(ttl) = config.wrap_ttl.as_deref().filter(|ttl| !ttl.is_empty()) {
        headers.insert("x-vault-wrap-ttl", header_value("wrap ttl", ttl)?);
    }
    for (name, value) in &config.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| ClientError::local(format!("invalid header name `{name}`")))?;
        headers.append(parsed, header_value(name, value)?);
    }
    Ok(headers)
}

fn header_value(what: &str, value: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(value)
        .map_err(|_| ClientError::local(format!("{what} has characters that no header may carry")))
}

fn authorities(config: &ClientConfig) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let mut certificates = Vec::new();
    if let Some(pem) = &config.ca_certificate {
        let unusable = |error| ClientError::local(format!("certificates of the authority: {}", describe(&error)));
        certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)?;
        if certificates.is_empty() {
            return Err(ClientError::local("no certificate of an authority is given"));
        }
    } else if let Some(file) = &config.ca_certificate_file {
        certificates = certificates_in(file)?;
        if certificates.is_empty() {
            return Err(ClientError::local(format!("no certificate in `{}`", file.display())));
        }
    } else if let Some(directory) = &config.ca_certificate_directory {
        let unreadable = |error| ClientError::local(format!("reading `{}`: {error}", directory.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        for file in files {
            certificates.extend(certificates_in(&file)?);
        }
        if certificates.is_empty() {
            return Err(ClientError::local(format!("no certificate in `{}`", directory.display())));
        }
    }
    Ok(certificates)
}

fn certificates_in(file: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    reqwest::Certificate::from_pem_bundle(&read(file)?)
        .map_err(|error| ClientError::local(format!("certificates of `{}`: {}", file.display(), describe(&error))))
}

fn identity(config: &ClientConfig) -> Result<Option<reqwest::Identity>, ClientError> {
    let mut pem;
    match (&config.client_identity, &config.client_certificate_file, &config.client_key_file) {
        (None, None, None) => return Ok(None),
        (Some((certificate, key)), None, None) => {
            let key = key.expose();
            // As large as it becomes, so that the key is not moved about.
            pem = Vec::with_capacity(certificate.len() + 1 + key.len());
            pem.extend(certificate.bytes());
            pem.push(b'\n');
            pem.extend(key.bytes());
        }
        (None, Some(certificate), Some(key)) => {
            pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
        }
        _ => return Err(ClientError::local("both client certificate and client key must be given")),
    }
    let identity = reqwest::Identity::from_pem(&pem)
        .map_err(|error| ClientError::local(format!("client certificate and key: {}", describe(&error))));
    drop(tresor_secret::SecretBytes::new(pem));
    identity.map(Some)
}

fn read(file: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(file).map_err(|error| ClientError::local(format!("reading `{}`: {error}", file.display())))
}

/// The innermost cause says what happened; the layers above it repeat the URL.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
