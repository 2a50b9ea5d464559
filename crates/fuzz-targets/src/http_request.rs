//! FZ-02, FZ-03, FZ-18: a whole HTTP request to the model: method, target, query, headers, body.
//!
//! What the pipeline gets is canonical and free of credentials, whatever was sent; everything else is refused with a
//! 4xx in the reference's shape, which says nothing of a token.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use tresor_audit::{Audited, Exempt};
use tresor_env::BoxFuture;
use tresor_env::doubles::TestDoors;
use tresor_http::{Options, Outcome, Serve};
use tresor_model::{Connection, Request, RequestId, Response, Verb};
use tresor_wire::json::JsonLimits;

pub(crate) const WORDS: &[&str] = &[
    "GET /v1/",
    "LIST /v1/a",
    "PATCH /v1/a",
    "HEAD /v1/a",
    "DELETE /v1/a",
    "OPTIONS /v1/a",
    "?list=true",
    "&help=1",
    "?a=%2",
    "?a=1&a=2",
    "..",
    "%2e%2e/",
    "\nX-Vault-Token: canary-token-1\n",
    "\nAuthorization: Bearer canary-token-2\n",
    "\nX-Vault-Namespace: a/../b\n",
    "\nX-Vault-Wrap-TTL: 1e9h\n",
    "\nContent-Type: application/merge-patch+json\n",
    "\nContent-Length: 18446744073709551616\n",
    "\nCookie: canary-cookie\n",
    "\n\n",
    "{\"a\":1}",
    "[",
    "{\"a\":",
];

const OPTIONS_BODY_MAX: usize = 200;

/// Takes what it is asked and answers nothing.
#[derive(Default)]
struct Recorder(Mutex<Option<Request>>);

impl Serve for Recorder {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        let outcome = match &request.refusal {
            Some(refusal) => Err(refusal.clone().into()),
            None => {
                *self.0.lock().unwrap() = Some(request);
                Ok(Response::default())
            }
        };
        Box::pin(async { Audited::exempt(outcome, Exempt::NeverAdmitted) })
    }

    fn next_request_id(&self) -> RequestId {
        RequestId::new("one")
    }
}

/// A request, written as HTTP/1.1 writes it, with bare line feeds.
pub fn http_request(bytes: &[u8]) {
    let Some(request) = parse(bytes) else { return };
    let sent = request.headers().clone();
    let method = request.method().clone();
    let recorder = Recorder::default();
    let doors = TestDoors::new(1);
    let connection = Connection::plain(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    let options = Options {
        body_bytes_max: OPTIONS_BODY_MAX,
        json: JsonLimits {
            depth_max: 8,
            values_max: 40,
            entries_max: 40,
            elements_max: 40,
            string_bytes_max: 100,
            strings_max: 60,
            text_bytes_max: 1000,
            number_bytes_max: 30,
        },
        ..Options::default()
    };
    let answering = tresor_http::handle(&recorder, &*doors.doors.clock, connection, &options, request);
    let answer = answering.now_or_never().expect("a body that is there needs no waiting");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().now_or_never().expect("it is there").expect("it cannot fail").to_bytes();
    let taken = recorder.0.lock().unwrap().take();
    match taken {
        Some(request) => {
            assert_eq!(status, 204);
            check(&request, &method, &sent);
        }
        None => refused(status, &body, &method, &sent),
    }
}

fn parse(bytes: &[u8]) -> Option<http::Request<Full<Bytes>>> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = http::Request::new(Full::new(Bytes::copy_from_slice(body)));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn check(request: &Request, method: &Method, sent: &http::HeaderMap) {
    crate::path::check(&request.path);
    let credentials = ["x-vault-token", "authorization", "cookie", "proxy-authorization"];
    assert!(credentials.iter().all(|name| !request.headers.contains_key(*name)), "a credential among the headers");
    assert!(request.headers.keys().all(|name| name.to_ascii_lowercase() == *name));
    assert!(request.from_query.iter().all(|name| request.body.contains(name)), "a field that is not there");
    let namespace = &request.namespace;
    assert!(namespace.is_empty() || (namespace.ends_with('/') && !namespace.starts_with('/')), "{namespace:?}");
    assert!(namespace.split('/').all(|segment| segment != "." && segment != ".."));
    match request.verb {
        Verb::Write | Verb::Patch => {}
        Verb::List | Verb::Scan => assert!(request.path.is_directory() && method != Method::POST),
        Verb::Read | Verb::Help | Verb::Delete => {}
    }
    if !matches!(request.verb, Verb::Write | Verb::Patch) {
        assert!(request.body.names().all(|name| request.from_query.iter().any(|sent| sent == name)), "a body was read");
    }
    if let Some(token) = &request.token {
        let token = token.expose();
        let is_sent = sent.values().any(|value| value.to_str().is_ok_and(|text| text.ends_with(token)));
        assert!(is_sent && !token.trim().is_empty(), "a token that nobody sent");
    }
}

fn refused(status: u16, body: &[u8], method: &Method, sent: &http::HeaderMap) {
    assert!([400, 404, 405, 408, 413, 415].contains(&status), "{status}");
    if method == Method::HEAD {
        assert!(body.is_empty());
        return;
    }
    let json: serde_json::Value = serde_json::from_slice(body).expect("a refusal is JSON");
    assert!(json.get("errors").is_some_and(serde_json::Value::is_array), "not in the reference's shape");
    let text = String::from_utf8_lossy(body);
    for name in ["x-vault-token", "authorization", "cookie"] {
        let values = sent.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let shown = values.filter(|value| value.contains("canary")).any(|value| text.contains(value));
        assert!(!shown, "a refusal shows `{name}`");
    }
}
