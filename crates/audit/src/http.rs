//! The `http` device: each line as the body of a POST to a server that collects them.
//!
//! A line counts as taken when the server answers with a status of success; with everything else, or no answer in time, it is
//! sent again. Where the address or a header is a secret, or a certificate is in a file, the configuration may say where it
//! lies (`env://NAME`, `file://PATH`), and SIGHUP makes the device look there again; a device that is enabled through the API
//! may not, since it would read any file and send it anywhere (PLG-06). Deliberately absent: redirects, which would carry what
//! is sent elsewhere.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tresor_env::outgoing::{Ask, Outgoing, OutgoingRequest, Trust, Untrustable};
use tresor_env::{BoxFuture, Doors};
use tresor_wire::json::{JsonLimits, decode_value};
use zeroize::Zeroizing;

use crate::broker::{Options, References};
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
        &["batch", "ca_cert", "client_cert", "client_key", "headers", "uri", "write_timeout"]
    }

    fn check(&self, config: &DeviceConfig, _: &Options) -> Result<(), AuditError> {
        Named::of(config).map(drop)
    }

    fn open(&self, doors: &Doors, config: &DeviceConfig, options: &Options) -> Result<Arc<dyn AuditSink>, AuditError> {
        let (named, doors, references) = (Named::of(config)?, doors.clone(), options.references.clone());
        let ready = Mutex::new(Arc::new(named.ready(&doors, references.as_ref())?));
        Ok(Arc::new(HttpSink { named, doors, references, ready }))
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

    /// All that is there.
    fn whole(&self, references: Option<&References>) -> Result<Zeroizing<String>, AuditError> {
        match self {
            Self::Here(text) => Ok(text.clone()),
            Self::Elsewhere(place) => {
                let read = references.and_then(|references| references(place));
                read.ok_or(AuditError::option("a variable or file that an option names cannot be read"))
            }
        }
    }

    /// The first line of it: files end in a line feed.
    fn line(&self, references: Option<&References>) -> Result<Zeroizing<String>, AuditError> {
        let whole = self.whole(references)?;
        Ok(Zeroizing::new(whole.lines().next().unwrap_or_default().to_owned()))
    }
}

/// Where the options say that a device sends to, and how.
struct Named {
    uri: Given,
    headers: Vec<(String, Given)>,
    authorities: Option<Given>,
    /// A certificate and its key.
    identity: Option<(Given, Given)>,
    is_batch: bool,
    time_max: Duration,
}

impl Named {
    fn of(config: &DeviceConfig) -> Result<Self, AuditError> {
        let sent = |name: &str| config.option(name).filter(|text| !text.is_empty());
        let given = |name: &str| sent(name).map(|text| Given::of(text, config)).transpose();
        let uri = given("uri")?.ok_or(AuditError::option("`uri` is required"))?;
        if matches!(&uri, Given::Here(uri) if !is_address(uri)) {
            return Err(AuditError::option(NO_ADDRESS));
        }
        let identity = match (given("client_cert")?, given("client_key")?) {
            (None, None) => None,
            (Some(certificate), Some(key @ Given::Elsewhere(_))) => Some((certificate, key)),
            // Whoever lists devices sees what their options say.
            (_, Some(Given::Here(_))) => {
                return Err(AuditError::option("`client_key` says where the key lies: `file://PATH` or `env://NAME`"));
            }
            _ => return Err(AuditError::option("`client_cert` and `client_key` go together")),
        };
        let headers = sent("headers");
        Ok(Self {
            uri,
            headers: headers.map_or_else(|| Ok(Vec::new()), |headers| named_headers(headers, config))?,
            authorities: given("ca_cert")?,
            identity,
            is_batch: config.switch("batch", false)?,
            time_max: config.write_timeout_or(WRITE_TIMEOUT)?,
        })
    }

    /// What that leads to now.
    fn ready(&self, doors: &Doors, references: Option<&References>) -> Result<Ready, AuditError> {
        let uri = self.uri.line(references)?;
        if !is_address(&uri) {
            return Err(AuditError::option(NO_ADDRESS));
        }
        let header = |(name, value): &(String, Given)| Ok((name.clone(), value.line(references)?));
        let headers = self.headers.iter().map(header).collect::<Result<_, AuditError>>()?;
        let authorities = self.authorities.as_ref().map(|given| given.whole(references)).transpose()?;
        let identity = self.identity.as_ref().map(|(certificate, key)| {
            let (certificate, key) = (certificate.whole(references)?, key.whole(references)?);
            Ok::<_, AuditError>(Zeroizing::new(format!("{}\n{}", &*certificate, &*key)))
        });
        let trust = Trust { authorities, identity: identity.transpose()?, anybody: false, server_name: None };
        let way = match (&trust.authorities, &trust.identity) {
            (None, None) => Arc::clone(&doors.outgoing),
            _ => doors.outgoing.trusting(&trust).map_err(|Untrustable| AuditError::option(UNUSABLE))?,
        };
        Ok(Ready { uri, headers, way })
    }
}

const NO_ADDRESS: &str = "`uri` must be an address such as `https://logs.example/ingest`";
const UNUSABLE: &str =
    "`ca_cert`, `client_cert` or `client_key` is no PEM of that, or certificate and key do not go together";

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

/// What requests are made of.
struct Ready {
    uri: Zeroizing<String>,
    headers: Vec<(String, Zeroizing<String>)>,
    way: Arc<dyn Outgoing>,
}

struct HttpSink {
    named: Named,
    doors: Doors,
    references: Option<References>,
    ready: Mutex<Arc<Ready>>,
}

impl HttpSink {
    async fn post(&self, lines: &[u8]) -> Result<(), SinkError> {
        let ready = Arc::clone(&self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        let mut headers: Vec<(Cow<'static, str>, Zeroizing<String>)> =
            ready.headers.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone())).collect();
        if !ready.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let kind = match (self.named.is_batch, lines.first()) {
                (true, _) => "application/x-ndjson",
                (false, Some(b'{')) => "application/json",
                (false, _) => "text/plain",
            };
            headers.push(("content-type".into(), Zeroizing::new(kind.to_owned())));
        }
        let request = OutgoingRequest {
            ask: Ask::Post(Zeroizing::new(lines.to_vec())),
            url: (*ready.uri).clone(),
            headers,
            time_max: self.named.time_max,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        match ready.way.ask(request).await {
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
            if self.named.is_batch {
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

    /// Files and variables may say something else by now; what cannot be used leaves everything as it was.
    fn reopen(&self) {
        if let Ok(ready) = self.named.ready(&self.doors, self.references.as_ref()) {
            *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(ready);
        }
    }
}
