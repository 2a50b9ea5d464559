//! The `http` device: each line as the body of a POST to a server that collects them.
//!
//! A line counts as taken when the server answers with a status of success; with everything else, or no answer in time, it is
//! sent again. Where the address or a header is a secret, the configuration may say where it lies (`env://NAME`,
//! `file://PATH`); a device that is enabled through the API may not, since it would read any file and send it anywhere
//! (PLG-06). Deliberately absent: redirects, which would carry what is sent elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tresor_env::outgoing::{Ask, OutgoingRequest};
use tresor_env::{BoxFuture, Doors};
use tresor_wire::json::{JsonLimits, decode_value};
use zeroize::Zeroizing;

use crate::broker::Options;
use crate::device::DeviceConfig;
use crate::error::AuditError;
use crate::record::Lines;
use crate::sink::{AuditSink, SinkError, SinkKind, Undelivered};

/// How long an answer may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may be; nobody reads it.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How many headers may be sent.
const HEADERS_MAX: usize = 64;
/// Headers that are the connection's.
const OWN_HEADERS: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "upgrade"];

/// Makes `http` devices.
#[derive(Clone, Copy, Default)]
pub struct HttpSinkKind;

impl SinkKind for HttpSinkKind {
    fn name(&self) -> &'static str {
        "http"
    }

    fn option_names(&self) -> &'static [&'static str] {
        &["batch", "headers", "uri", "write_timeout"]
    }

    fn check(&self, config: &DeviceConfig, options: &Options) -> Result<(), AuditError> {
        Named::of(config, options).map(drop)
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        let named = Named::of(config, options)?;
        let uri = named.uri.resolved(options)?;
        if !is_address(&uri) {
            return Err(AuditError::option("`uri` must be an address such as `https://logs.example/ingest`"));
        }
        let mut headers = Vec::new();
        for (name, value) in named.headers {
            headers.push((name, value.resolved(options)?));
        }
        Ok(Arc::new(HttpSink {
            doors: doors.clone(),
            uri,
            headers,
            is_batch: named.is_batch,
            time_max: named.time_max,
        }))
    }
}

/// A value of an option, or where it lies.
enum Given {
    Here(Zeroizing<String>),
    Elsewhere(String),
}

impl Given {
    fn of(text: &str, config: &DeviceConfig) -> Result<Self, AuditError> {
        if !["env://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Here(Zeroizing::new(text.to_owned())));
        }
        if config.declared {
            Ok(Self::Elsewhere(text.to_owned()))
        } else {
            Err(AuditError::option("only a device that the configuration declares may name variables and files"))
        }
    }

    fn resolved(self, options: &Options) -> Result<Zeroizing<String>, AuditError> {
        match self {
            Self::Here(text) => Ok(text),
            Self::Elsewhere(place) => {
                let read = options.references.as_ref().and_then(|references| references(&place));
                read.ok_or(AuditError::option("a variable or file that an option names cannot be read"))
            }
        }
    }
}

/// Where the options say that a device sends to, and how.
struct Named {
    uri: Given,
    headers: Vec<(String, Given)>,
    is_batch: bool,
    time_max: Duration,
}

impl Named {
    fn of(config: &DeviceConfig, _: &Options) -> Result<Self, AuditError> {
        let uri = config.option("uri").filter(|uri| !uri.is_empty()).ok_or(AuditError::option("`uri` is required"))?;
        let uri = Given::of(uri, config)?;
        if matches!(&uri, Given::Here(uri) if !is_address(uri)) {
            return Err(AuditError::option("`uri` must be an address such as `https://logs.example/ingest`"));
        }
        let headers = config.option("headers").filter(|headers| !headers.is_empty());
        Ok(Self {
            uri,
            headers: headers.map_or_else(|| Ok(Vec::new()), |headers| named_headers(headers, config))?,
            is_batch: config.switch("batch", false)?,
            time_max: config.write_timeout_or(WRITE_TIMEOUT)?,
        })
    }
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|character| character.is_ascii_graphic()))
}

/// A JSON object of lists: each value is sent in a header of its own.
fn named_headers(text: &str, config: &DeviceConfig) -> Result<Vec<(String, Given)>, AuditError> {
    let shape = || AuditError::option("`headers` must be a JSON object of lists of texts");
    let body = decode_value(text.as_bytes(), &JsonLimits::default()).map_err(|_| shape())?;
    let mut headers = Vec::new();
    for (name, values) in body.as_map().ok_or_else(shape)?.iter() {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_own = OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name));
        if name.is_empty() || !name.bytes().all(is_token) || is_own {
            return Err(AuditError::option("a name in `headers` is none, or belongs to the connection"));
        }
        for value in values.as_list().ok_or_else(shape)? {
            let value = value.as_str().ok_or_else(shape)?;
            if value.chars().any(char::is_control) {
                return Err(AuditError::option("a value in `headers` must be printable"));
            }
            headers.push((name.to_owned(), Given::of(value, config)?));
        }
    }
    if headers.len() > HEADERS_MAX {
        return Err(AuditError::option(format!("`headers` has more than {HEADERS_MAX} values")));
    }
    Ok(headers)
}

struct HttpSink {
    doors: Doors,
    uri: Zeroizing<String>,
    headers: Vec<(String, Zeroizing<String>)>,
    is_batch: bool,
    time_max: Duration,
}

impl HttpSink {
    async fn post(&self, lines: &[u8]) -> Result<(), SinkError> {
        let mut headers: Vec<(Cow<'static, str>, Zeroizing<String>)> =
            self.headers.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone())).collect();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let kind = match (self.is_batch, lines.first()) {
                (true, _) => "application/x-ndjson",
                (false, Some(b'{')) => "application/json",
                (false, _) => "text/plain",
            };
            headers.push(("content-type".into(), Zeroizing::new(kind.to_owned())));
        }
        let request = OutgoingRequest {
            ask: Ask::Post(Zeroizing::new(lines.to_vec())),
            url: (*self.uri).clone(),
            headers,
            time_max: self.time_max,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        match self.doors.outgoing.ask(request).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(SinkError(format!("the server answered {}", answer.status).into())),
            Err(error) => Err(SinkError(error.to_string().into())),
        }
    }
}

impl AuditSink for HttpSink {
    fn deliver(&self, lines: Arc<Lines>) -> BoxFuture<'_, Result<(), Undelivered>> {
        Box::pin(async move {
            if lines.bytes().is_empty() {
                return Ok(());
            }
            if self.is_batch {
                return Ok(self.post(lines.bytes()).await?);
            }
            for (taken, record) in lines.iter().enumerate() {
                for line in record.split_inclusive(|byte| *byte == b'\n') {
                    let posted = self.post(line).await;
                    posted.map_err(|error| Undelivered { taken, doubtful_bytes: 0, error })?;
                }
            }
            Ok(())
        })
    }

    /// What the server answered for is its own.
    fn sync(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn probe(&self, line: Arc<Lines>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move { self.deliver(line).await.map_err(|undelivered| undelivered.error) })
    }

    /// A connection is nothing that rotates.
    fn reopen(&self) {}
}
