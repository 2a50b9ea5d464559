//! HTTP to the model: canonical path, verb, bounded body, credentials taken out of the headers.
//!
//! Everything that is refused here is refused before anything is known of the caller, and costs no more than its
//! limits allow (DR-20). What names at least a place below `/v1/` and a method enters the pipeline with its refusal, to
//! be recorded there. Deliberately absent: trust in forwarding headers.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Buf;
use http::{HeaderMap, Method, Version, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Body;
use tresor_env::Clock;
use tresor_model::{
    Body as Value, Connection, Known, Map, Path, Refusal, Request, RequestId, Throttle, Verb, WhenBehind,
};
use tresor_secret::TokenSecret;
use tresor_wire::form;

use crate::upload::{self, Feed};
use crate::{HeldBody, Options, inline, quirks};

pub(crate) fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::Invalid(text.into())
}

/// What of a request is still on its way, or is held for it.
pub(crate) struct Arriving<'s> {
    /// What its body holds of the budget.
    pub(crate) held: HeldBody,
    /// Where a body goes that is no JSON.
    pub(crate) feed: Option<Feed>,
    /// Whether a body that is written to a path is no JSON.
    pub(crate) takes_upload: &'s (dyn Fn(Verb, &Path) -> bool + Sync),
    /// What quotas say of a request, of which so much is known.
    pub(crate) throttle: &'s (dyn Fn(&Request, Known) -> Throttle + Sync),
    /// What they said.
    pub(crate) throttled: Throttle,
}

pub(crate) async fn request<B>(
    id: RequestId,
    head: &Parts,
    body: Pin<&mut B>,
    connection: Connection,
    options: &Options,
    clock: &dyn Clock,
    arriving: &mut Arriving<'_>,
) -> Result<Request, Refusal>
where
    B: Body,
    B::Data: Buf,
{
    check_framing(head, options)?;
    // Anything outside `/v1/` does not exist (yet). An address that ends in a slash gives two of them in front.
    let target = options.numbers.target(&head.method, head.uri.path())?.trim_start_matches('/');
    let raw = target.strip_prefix("v1/").ok_or_else(|| Refusal::NoRoute(target.to_owned()))?;
    // What is wrong with the query is told later; without a readable query, what is asked is what the method says.
    let (query, bad_query) = match query(head.uri.query().unwrap_or("")) {
        Ok(query) => (query, None),
        Err(refusal) => (Vec::new(), Some(refusal)),
    };
    let verb = verb(&head.method, &query)?;
    let (path, bad_path) = match Path::parse(raw) {
        Ok(path) => {
            let refused = options.numbers.refusal(&path);
            (path, refused)
        }
        Err(error) => (Path::default(), Some(invalid(error.to_string()))),
    };
    let mut request = Request {
        // Quotas are about namespaces, too; what is wrong with the header is told later.
        namespace: namespace(&head.headers, options, &path).unwrap_or_else(|_| options.chroot.clone()),
        headers: other_headers(&head.headers),
        ..Request::new(id, verb, Path::default(), connection)
    };
    request.path = if verb.is_of_directory() { path.into_directory() } else { path };
    // Before anything is read or looked at that costs more: whoever asks too often costs next to nothing (DOS-03).
    if is_throttled(&mut request, Known::Head, arriving)? {
        return Ok(request);
    }
    request.refusal = match bad_path.or(bad_query) {
        Some(refusal) => Some(refusal),
        None => fill(&mut request, head, body, query, options, clock, arriving).await.err(),
    };
    if arriving.throttled.awaits_body {
        is_throttled(&mut request, Known::Body, arriving)?;
    }
    Ok(request)
}

/// Asks the quotas about a request of which so much is known. One that they refuse is an error, or says so itself where it is to
/// be recorded.
fn is_throttled(request: &mut Request, known: Known, arriving: &mut Arriving<'_>) -> Result<bool, Refusal> {
    arriving.throttled = (arriving.throttle)(request, known);
    let Some(refusal) = &arriving.throttled.refusal else { return Ok(false) };
    if !arriving.throttled.is_recorded {
        return Err(refusal.clone());
    }
    request.refusal = Some(refusal.clone());
    Ok(true)
}

/// Reads everything but path and verb into the request. At the first thing that is wrong it stops: what is there by
/// then is what the record of the refused request says.
async fn fill<B>(
    request: &mut Request,
    head: &Parts,
    body: Pin<&mut B>,
    query: Vec<(String, String)>,
    options: &Options,
    clock: &dyn Clock,
    arriving: &mut Arriving<'_>,
) -> Result<(), Refusal>
where
    B: Body,
    B::Data: Buf,
{
    request.token = token(&head.headers)?;
    request.wrap_ttl = wrap_ttl(&head.headers)?;
    request.when_behind = when_behind(&head.headers)?;
    request.namespace = namespace(&head.headers, options, &request.path)?;
    let has_token = request.token.is_some();
    request.inline = inline::login(&head.headers, &request.namespace, &options.chroot, has_token, &options.json)?;
    if request.verb == Verb::Patch && !is_merge_patch(&head.headers) {
        return Err(Refusal::UnsupportedMedia);
    }
    if (arriving.takes_upload)(request.verb, &request.path) {
        let (feed, upload) = upload::channel();
        (arriving.feed, request.upload) = (Some(feed), upload);
    } else if matches!(request.verb, Verb::Write | Verb::Patch) {
        let bytes_max = match request.token {
            Some(_) => options.body_bytes_max,
            None => options.body_bytes_max.min(options.anonymous_body_bytes_max),
        };
        let bytes = read_body(head, body, bytes_max, options.body_timeout, clock, &mut arriving.held).await?;
        request.body = fields(&head.headers, &bytes, options)?;
    }
    request.from_query = add_query(&mut request.body, query, request.verb);
    add_format(request);
    Ok(())
}

/// What two readers of one request could understand differently (RFC 9112, sections 3.2 and 6.1).
fn check_framing(head: &Parts, options: &Options) -> Result<(), Refusal> {
    let hosts = head.headers.get_all(header::HOST).iter().count();
    if options.is_host_required && head.version == Version::HTTP_11 && hosts != 1 {
        return Err(invalid("exactly one Host header is needed"));
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) && head.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(invalid("Content-Length and Transfer-Encoding exclude each other"));
    }
    Ok(())
}

/// Whether the connection must not be used again. A proxy that measured a chunked body by another header would see
/// the next request where this one still goes on, so after such a body there is none.
pub(crate) fn must_close(head: &Parts) -> bool {
    head.version <= Version::HTTP_11 && head.headers.contains_key(header::TRANSFER_ENCODING)
}

/// How much of a refused request's body is read before the refusal is sent.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads the rest of a body that nobody wants, within bounds. A client that waits for permission to send it gets none.
pub(crate) async fn discard<B>(head: &Parts, mut body: Pin<&mut B>, clock: &dyn Clock)
where
    B: Body,
    B::Data: Buf,
{
    if head.headers.contains_key(header::EXPECT) {
        return;
    }
    let mut timeout = clock.sleep(DISCARD_TIME_MAX);
    let mut left = DISCARD_BYTES_MAX;
    loop {
        let mut unread = body.as_mut();
        let next = pin!(unread.frame());
        match futures_util::future::select(next, &mut timeout).await {
            futures_util::future::Either::Left((Some(Ok(frame)), _)) => {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
            _ => return,
        }
    }
}

fn verb(method: &Method, query: &[(String, String)]) -> Result<Verb, Refusal> {
    match method.as_str() {
        "GET" | "HEAD" if query.iter().any(|(name, _)| name == "help") => Ok(Verb::Help),
        "GET" | "HEAD" if says(query, "list")? => Ok(Verb::List),
        "GET" | "HEAD" if says(query, "scan")? => Ok(Verb::Scan),
        "GET" | "HEAD" => Ok(Verb::Read),
        "LIST" => Ok(Verb::List),
        "SCAN" => Ok(Verb::Scan),
        "POST" | "PUT" => Ok(Verb::Write),
        "PATCH" => Ok(Verb::Patch),
        "DELETE" => Ok(Verb::Delete),
        // OPTIONS among them: cross-origin requests are not allowed until somebody configures them.
        _ => Err(Refusal::Unsupported),
    }
}

/// Whether a GET is a LIST or a SCAN: the first one of that name in the query says so.
fn says(query: &[(String, String)], word: &str) -> Result<bool, Refusal> {
    match query.iter().find(|(name, _)| name == word).map(|(_, value)| value.as_str()) {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(invalid(format!("`{word}` in the query must be a boolean"))),
    }
}

/// The query's pairs, decoded once.
fn query(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_component(name)?, decode_component(value)?))
        })
        .collect()
}

fn decode_component(text: &str) -> Result<String, Refusal> {
    form::decoded(text.as_bytes()).map_err(|error| invalid(format!("query: {error}")))
}

/// What a body says: a form where it is one, else JSON.
fn fields(headers: &HeaderMap, bytes: &[u8], options: &Options) -> Result<Map, Refusal> {
    if form::is_form(media_type(headers), bytes) {
        return form::decode(bytes, &options.json)
            .map_err(|error| invalid(format!("failed to parse form input: {error}")));
    }
    tresor_wire::json::decode(bytes, &options.json).map_err(|error| invalid(error.to_string()))
}

/// Adds the query's parameters as fields; a name that stands twice becomes a list. What has a body has its fields
/// there: its query says nothing, and is never stored as if it were data.
fn add_query(fields: &mut Map, query: Vec<(String, String)>, verb: Verb) -> Vec<String> {
    if matches!(verb, Verb::Write | Verb::Patch) {
        return Vec::new();
    }
    let mut grouped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in query {
        let steers = matches!(name.as_str(), "help" | "list" | "scan") && verb != Verb::Delete;
        if !steers {
            grouped.entry(name).or_default().push(value);
        }
    }
    let names = grouped.keys().cloned().collect();
    for (name, mut values) in grouped {
        let value = if values.len() == 1 { Value::from(values.remove(0)) } else { Value::from(values) };
        fields.insert(name, value);
    }
    names
}

/// What collectors of numbers say in a header, as if they had said it in the query.
fn add_format(request: &mut Request) {
    if request.verb != Verb::Read || request.path.trimmed() != "sys/metrics" || request.body.contains("format") {
        return;
    }
    let accept: &[String] = request.headers.get("accept").map_or(&[], Vec::as_slice);
    if let Some(format) = quirks::format_of_numbers(accept) {
        request.body.insert("format", format);
        request.from_query.push("format".to_owned());
    }
}

/// The one value of a header; several are refused, since two readers would pick different ones.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(invalid(format!("header {name} is sent more than once")));
    }
    first.map(|value| value.to_str().map_err(|_| invalid("invalid header value"))).transpose()
}

fn token(headers: &HeaderMap) -> Result<Option<TokenSecret>, Refusal> {
    let own = single(headers, "x-vault-token")?.map(str::trim).filter(|text| !text.is_empty());
    let bearer = single(headers, header::AUTHORIZATION.as_str())?.and_then(|text| {
        let (scheme, rest) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim()).filter(|text| !text.is_empty())
    });
    let text = match (own, bearer) {
        (Some(own), Some(bearer)) if own != bearer => return Err(invalid("two different tokens are sent")),
        (own, bearer) => own.or(bearer),
    };
    text.map(|text| TokenSecret::parse(text).map_err(|_| invalid("invalid header value"))).transpose()
}

fn wrap_ttl(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(text) = single(headers, "x-vault-wrap-ttl")?.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // Zero asks for nothing, as in the reference.
    let ttl = tresor_wire::duration::parse_go(text).ok_or_else(|| invalid("X-Vault-Wrap-TTL is not a duration"))?;
    Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

fn when_behind(headers: &HeaderMap) -> Result<WhenBehind, Refusal> {
    let values = headers.get_all("x-vault-inconsistent").iter();
    let values = values.map(|value| value.to_str().map_err(|_| invalid("invalid header value")));
    WhenBehind::read(values.collect::<Result<Vec<_>, _>>()?).map_err(invalid)
}

/// What is asked of the node, and answers whatever namespace a listener is confined to: whoever balances load asks it.
const OF_THE_NODE: [&str; 3] = ["sys/health", "sys/leader", "sys/seal-status"];

fn namespace(headers: &HeaderMap, options: &Options, path: &Path) -> Result<String, Refusal> {
    let named = single(headers, "x-vault-namespace")?.unwrap_or("");
    let is_of_the_node = OF_THE_NODE.contains(&path.trimmed());
    match parsed_namespace(named, &options.chroot)? {
        whole if is_of_the_node && whole == options.chroot => Ok(String::new()),
        whole => Ok(whole),
    }
}

/// A namespace as it is named in a header, below the one that the listener is confined to.
pub(crate) fn parsed_namespace(text: &str, chroot: &str) -> Result<String, Refusal> {
    let text = text.trim().trim_matches('/');
    if text.is_empty() || text == "root" {
        return Ok(chroot.to_owned());
    }
    let path = Path::from_decoded(text).map_err(|error| invalid(error.to_string()))?;
    Ok([chroot, path.into_directory().as_str()].concat())
}

/// What the body says that it is; nothing where it says nothing readable.
fn media_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn is_merge_patch(headers: &HeaderMap) -> bool {
    let media = media_type(headers).split(';').next();
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/merge-patch+json"))
}

/// What proxies say of whom they speak for: no proxy is trusted, so nobody gets to see it (TLS-04).
fn is_claim_of_a_proxy(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "via")
}

/// Headers without credentials and without claims of proxies, names in lower case.
fn other_headers(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let is_credential =
            matches!(name.as_str(), "x-vault-token" | "authorization" | "cookie" | "proxy-authorization")
                || name.as_str().starts_with(inline::HEADERS);
        if let (false, Ok(value)) = (is_credential || is_claim_of_a_proxy(name.as_str()), value.to_str()) {
            kept.entry(name.as_str().to_owned()).or_default().push(value.to_owned());
        }
    }
    kept
}

/// Reads the body within its bounds of size and time.
async fn read_body<B>(
    head: &Parts,
    mut body: Pin<&mut B>,
    bytes_max: usize,
    timeout: Duration,
    clock: &dyn Clock,
    held: &mut HeldBody,
) -> Result<Vec<u8>, Refusal>
where
    B: Body,
    B::Data: Buf,
{
    let announced =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(Refusal::TooLarge);
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024));
    let mut timeout = clock.sleep(timeout);
    loop {
        let mut unread = body.as_mut();
        let next = pin!(unread.frame());
        let frame = match futures_util::future::select(next, &mut timeout).await {
            futures_util::future::Either::Left((frame, _)) => frame,
            futures_util::future::Either::Right(_) => return Err(Refusal::TooSlow),
        };
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|_| invalid("the request's body broke off"))?;
        if let Ok(mut data) = frame.into_data() {
            if bytes.len() + data.remaining() > bytes_max {
                return Err(Refusal::TooLarge);
            }
            if !held.grow_to(bytes.len() + data.remaining()) {
                return Err(Refusal::Unavailable("too many large requests at once, try again".into()));
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                let length = chunk.len();
                bytes.extend_from_slice(chunk);
                data.advance(length);
            }
        }
    }
}
