//! The model to HTTP: envelopes in the reference's key order, byte for byte where clients compare bytes.

use std::borrow::Cow;

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use tresor_audit::Audited;
use tresor_model::{ByteStream, Fault, Map, Refusal, RequestId, Response, Shape, Throttle};
use tresor_wire::envelope::envelope;
use tresor_wire::json::{encode_map, encode_text};

use crate::body::ResponseBody;
use crate::websocket::Offer;
use crate::{Options, Outcome, quirks, status};

/// Status, media type and body of an answer.
pub struct Answer {
    status: StatusCode,
    content_type: Cow<'static, str>,
    body: Vec<u8>,
    /// Instead of `body`.
    stream: Option<ByteStream>,
}

/// Encodes an answer that may leave.
pub(crate) fn answer(
    audited: Audited<Outcome>,
    id: &RequestId,
    options: &Options,
    asked: &Uri,
    is_head: bool,
    offer: Option<Offer>,
) -> http::Response<ResponseBody> {
    let mut outcome = audited.into_inner();
    let messages = match &mut outcome {
        Ok(response) if matches!(response.shape, Shape::Messages(_)) => Some(std::mem::take(&mut response.shape)),
        _ => None,
    };
    let of_engine = outcome.as_mut().map_or_else(|_| Vec::new(), |response| std::mem::take(&mut response.headers));
    let will_pass = matches!(outcome, Err(Fault::Refusal(Refusal::Unavailable(_) | Refusal::Elsewhere)));
    let location = match &outcome {
        Err(Fault::Refusal(Refusal::Redirect(base))) => location(base, asked),
        _ => None,
    };
    let is_of_inline_login = matches!(&outcome, Err(fault) if quirks::is_of_inline_login(fault));
    let behind = outcome.as_ref().ok().and_then(|response| response.behind);
    let renewal = outcome.as_ref().ok().and_then(|response| renew_after(response, id));
    let answer = match outcome {
        Ok(response) => success(response, id),
        Err(fault) => failure(&fault, id),
    };
    let is_empty = answer.body.is_empty() && answer.stream.is_none();
    let body = match answer.stream {
        _ if is_head => ResponseBody::whole(Vec::new()),
        Some(stream) => ResponseBody::parts(stream),
        None => ResponseBody::whole(answer.body),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    add(headers, of_engine);
    let mut set = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
    set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        set(HeaderName::from_static("x-request-id"), id);
    }
    if let Some(seconds) = renewal {
        set(HeaderName::from_static("x-tresor-renew-after"), HeaderValue::from(seconds));
    }
    if will_pass {
        set(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if is_of_inline_login {
        set(HeaderName::from_static("x-vault-inline-auth-failed"), HeaderValue::from_static("true"));
    }
    if let Some(behind) = behind {
        set(HeaderName::from_static("x-tresor-behind"), HeaderValue::from(behind));
    }
    if let (false, Ok(content_type)) = (is_empty, HeaderValue::from_str(&answer.content_type)) {
        set(CONTENT_TYPE, content_type);
    }
    if let Some(location) = location {
        set(LOCATION, location);
    }
    if options.is_tls {
        set(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    }
    if let (Some(Shape::Messages(messages)), Some(offer)) = (messages, offer) {
        offer.take(messages, &mut response);
    }
    response
}

/// What belongs to the connection, or says how the body is to be read: not for an engine to say.
const OF_THE_MESSAGE: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Adds what an engine sets and its mount lets out, before what the server says itself, which stands in its place.
fn add(headers: &mut HeaderMap, of_engine: Vec<(String, String)>) {
    for (name, value) in of_engine {
        if let (false, Ok(name), Ok(value)) =
            (OF_THE_MESSAGE.contains(&name.as_str()), HeaderName::try_from(name.as_str()), HeaderValue::try_from(value))
        {
            headers.append(name, value);
        }
    }
}

/// Says what the client has left of a quota on its rate, and when whoever was refused may come again.
pub(crate) fn show_rest(throttled: &Throttle, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, number: u64| headers.insert(name, HeaderValue::from(number));
    if let Some(limit) = throttled.limit {
        set(HeaderName::from_static("x-ratelimit-limit"), limit);
        set(HeaderName::from_static("x-ratelimit-remaining"), throttled.remaining);
        set(HeaderName::from_static("x-ratelimit-reset"), throttled.seconds_until_more);
    }
    if throttled.refusal.is_some() {
        set(RETRY_AFTER, throttled.seconds_until_more);
    }
}

/// The same path and query at another address.
fn location(base: &str, asked: &Uri) -> Option<HeaderValue> {
    let target = asked.path_and_query().map_or("/", |target| target.as_str());
    HeaderValue::try_from(format!("{}{target}", base.trim_end_matches('/'))).ok()
}

fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    Answer { status, content_type: quirks::JSON.into(), body, stream: None }
}

/// The one place where a failure's cause is logged; the client gets the public text and finds the rest by the id.
fn failure(fault: &Fault, id: &RequestId) -> Answer {
    if let Fault::Failure(failure) = fault {
        tracing::error!(request_id = %id, side = ?failure.side, cause = %chain(&*failure.cause), "request failed");
    }
    let mut body = br#"{"errors":["#.to_vec();
    encode_text(&quirks::error_text(fault), &mut body);
    body.extend_from_slice(b"]}");
    json(status::of(fault), body)
}

/// The same for an answer that breaks off while it leaves.
pub(crate) fn log_failure(fault: &Fault) {
    match fault {
        Fault::Failure(failure) => tracing::error!(cause = %chain(&*failure.cause), "an answer breaks off"),
        Fault::Refusal(refusal) => tracing::warn!(%refusal, "an answer breaks off"),
    }
}

/// An error and what it came from.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    std::iter::once(error).chain(causes).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// In how many seconds it is best to renew what an answer hands out: between a half and two thirds of its life, so that there
/// is time to try again. Where in between, the id of the request decides, which nobody chose: a thousand clients that began
/// in the same second do not come back in the same second. `None` where nothing can be renewed.
fn renew_after(response: &Response, id: &RequestId) -> Option<u64> {
    let of_token = response.auth.as_ref().map(|auth| (auth.lease_duration, auth.renewable));
    let of_lease = response.lease.as_ref().map(|lease| (lease.duration, lease.renewable));
    let (life, _) = of_token.or(of_lease).filter(|(life, renewable)| *renewable && !life.is_zero())?;
    let part = id.as_str().get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let life = life.as_millis();
    let millis = life / 2 + life / 6 * u128::from(part) / 0xffff;
    u64::try_from(millis / 1_000).ok()
}

fn success(response: Response, id: &RequestId) -> Answer {
    if response.wrap_info.is_some() {
        return json(StatusCode::OK, envelope(&response, id, None, None));
    }
    if let Shape::Stream { content_type, stream } = response.shape {
        return Answer {
            status: StatusCode::OK,
            content_type: content_type.into(),
            body: Vec::new(),
            stream: Some(stream),
        };
    }
    let has_more = !response.warnings.is_empty() || response.auth.is_some() || response.lease.is_some();
    match &response.shape {
        Shape::Nothing if has_more => json(StatusCode::OK, envelope(&response, id, None, None)),
        Shape::Nothing => json(StatusCode::NO_CONTENT, Vec::new()),
        Shape::Enveloped(data) => json(StatusCode::OK, envelope(&response, id, Some(data), None)),
        Shape::Mirrored(data) => json(StatusCode::OK, envelope(&response, id, Some(data), Some(data))),
        Shape::Absent(None) if !has_more => json(StatusCode::NOT_FOUND, quirks::NOTHING.to_vec()),
        Shape::Absent(data) => json(StatusCode::NOT_FOUND, envelope(&response, id, data.as_ref(), None)),
        Shape::Accepted(data) => json(StatusCode::ACCEPTED, envelope(&response, id, data.as_ref(), None)),
        Shape::Flat(report) => json(StatusCode::OK, flat(report)),
        Shape::Health { code, report } => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            // These two statuses cannot have a body.
            let body = if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
                Vec::new()
            } else {
                flat(report)
            };
            json(status, body)
        }
        Shape::Raw { content_type, bytes } => {
            let status = if bytes.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
            Answer { status, content_type: content_type.clone(), body: bytes.clone(), stream: None }
        }
        // It was taken out above.
        Shape::Stream { .. } | Shape::Messages(_) => json(StatusCode::OK, Vec::new()),
    }
}

fn flat(report: &Map) -> Vec<u8> {
    let mut body = Vec::new();
    encode_map(report, &mut body);
    body
}
