//! HTTP to the model and back: the only crate that knows HTTP.
//!
//! [`handle`] takes one HTTP request and gives one HTTP response; sockets and TLS are above it (`tresor-server`), the
//! pipeline below ([`Serve`]). Invariant: only an [`Audited`] answer is encoded. Deliberately absent: routes; every
//! path below `/v1/` is the pipeline's.

mod body;
mod budget;
mod confined;
mod cors;
mod decode;
mod encode;
mod forwarded;
mod inline;
mod proofs;
mod quirks;
mod request_log;
mod status;
mod upload;
mod wanted;
mod websocket;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::body::Body;
use tresor_audit::{Audited, Exempt};
use tresor_env::{BoxFuture, Clock};
use tresor_model::{Connection, Fault, Known, Origin, Path, Refusal, Request, RequestId, Response, Throttle, Verb};
use tresor_wire::json::JsonLimits;

pub use body::ResponseBody;
pub use budget::{BodyBudget, HeldBody};
pub use confined::{ListenerOrigins, Numbers};
pub use encode::Answer;
pub use forwarded::ForwardedFor;
pub use proofs::{Proofs, show_proof};
pub use request_log::RequestLog;
pub use wanted::WantedHeaders;
pub use websocket::{Agreed, Talk};

/// What a request comes to.
pub type Outcome = Result<Response, Fault>;

/// What serves requests: the node.
pub trait Serve: Send + Sync {
    /// Serves one request.
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>>;

    /// Serves one request that must keep its part of the budget for bodies until it is done, even when nobody waits
    /// for the answer any more.
    fn serve_holding(&self, request: Request, held: HeldBody) -> BoxFuture<'_, Audited<Outcome>> {
        let answer = self.serve(request);
        Box::pin(async move {
            let _held = held;
            answer.await
        })
    }

    /// Whether a body that is written to a path is no JSON, but comes as it is.
    fn takes_upload(&self, verb: Verb, path: &Path) -> bool {
        let _ = (verb, path);
        false
    }

    /// Whether a page of this origin may ask through its reader's browser.
    fn origin(&self, origin: &str) -> Origin {
        let _ = origin;
        Origin::NotAsked
    }

    /// The headers that answers below `/ui` have.
    fn page_headers(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Serves what the listener lets everybody ask; nothing when it is not to be had so.
    fn serve_opened<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Option<Audited<Outcome>>> {
        let _ = request;
        Box::pin(std::future::ready(None))
    }

    /// What quotas on rates say of a request, of which so much is known.
    fn throttle(&self, request: &Request, known: Known) -> Throttle {
        let _ = (request, known);
        Throttle::default()
    }

    /// A fresh id for a request.
    fn next_request_id(&self) -> RequestId;
}

/// How many bytes the bodies of a listener may hold at once, unless one alone may be larger than half of that.
pub const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bounds and facts of a listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The largest body of a request without a token, in bytes: logins and unseal shares are short.
    pub anonymous_body_bytes_max: usize,
    /// What all bodies may hold at once; clones share it.
    pub bodies: Arc<BodyBudget>,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bounds of JSON documents.
    pub json: JsonLimits,
    /// Whether the connection is TLS, so that browsers are told to stay there.
    pub is_tls: bool,
    /// Headers that an operator wants in answers.
    pub headers: WantedHeaders,
    /// The paths that everybody may read through this listener.
    pub opened: Vec<&'static str>,
    /// Whether requests came over a wire, where HTTP/1.1 demands exactly one `Host`.
    pub is_host_required: bool,
    /// Whether, and how loudly, each answered request is logged.
    pub request_log: RequestLog,
    /// The proxies that are believed about where requests come from.
    pub forwarded_for: Option<ForwardedFor>,
    /// The namespace below which all requests are, whatever they name: empty for the root namespace, else ending in a slash.
    pub chroot: String,
    /// What it does about `sys/metrics`.
    pub numbers: Numbers,
    /// Whose pages may ask through it; `None` is what is stored.
    pub origins: Option<ListenerOrigins>,
    /// What authorities of certificates are shown.
    pub proofs: Option<Arc<dyn Proofs>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 * 1024 * 1024,
            anonymous_body_bytes_max: 1024 * 1024,
            bodies: BodyBudget::new(BODIES_BYTES_MAX),
            body_timeout: Duration::from_secs(30),
            json: JsonLimits::default(),
            is_tls: false,
            opened: Vec::new(),
            headers: WantedHeaders::default(),
            is_host_required: false,
            request_log: RequestLog::default(),
            forwarded_for: None,
            chroot: String::new(),
            numbers: Numbers::default(),
            origins: None,
            proofs: None,
        }
    }
}

/// Serves one HTTP request. A panic below costs this request and nothing else.
pub async fn handle<B>(
    serve: &dyn Serve,
    clock: &dyn Clock,
    mut connection: Connection,
    options: &Options,
    request: http::Request<B>,
) -> http::Response<ResponseBody>
where
    B: Body,
    B::Data: Buf,
{
    let (mut head, body) = request.into_parts();
    if let Some(proofs) = &options.proofs
        && let Some(answer) = proofs::show(&**proofs, &head).await
    {
        return answer;
    }
    let offer = websocket::offered(&mut head);
    let client = match &options.forwarded_for {
        Some(believed) => believed.client(&mut head.headers, connection.peer_address),
        None => Ok(connection.peer_address),
    };
    let unproven = client.map(|client| connection.peer_address = client).err();
    let logging = options.request_log.begin(clock, &connection);
    let of_origin = match cors::ask(serve, options, &head) {
        cors::Asked::On(headers) => headers,
        cors::Asked::Answered(answer) => return answer,
    };
    let id = serve.next_request_id();
    let mut body = pin!(body);
    let is_head = head.method == http::Method::HEAD;
    let takes_upload = |verb, path: &Path| serve.takes_upload(verb, path);
    let held = HeldBody::of(&options.bodies);
    let throttle = |request: &Request, known| serve.throttle(request, known);
    let mut arriving = decode::Arriving {
        held,
        feed: None,
        takes_upload: &takes_upload,
        throttle: &throttle,
        throttled: Throttle::default(),
    };
    let decoded = match unproven {
        Some(refusal) => Err(refusal),
        None => decode::request(id.clone(), &head, body.as_mut(), connection, options, clock, &mut arriving).await,
    };
    let decoded = decoded.map(|request| Request { takes_messages: offer.is_some(), ..request });
    let decode::Arriving { held, feed, throttled, .. } = arriving;
    let refusal = match &decoded {
        Ok(request) => request.refusal.as_ref(),
        Err(refusal) => Some(refusal),
    };
    // A client that is still sending would otherwise meet a closed connection instead of the refusal.
    if refusal.is_some_and(|refusal| *refusal != Refusal::TooSlow) {
        decode::discard(&head, body.as_mut(), clock).await;
    }
    let audited = match decoded {
        Ok(request) if is_opened(options, &request) => {
            let opened = AssertUnwindSafe(serve.serve_opened(&request)).catch_unwind().await;
            match opened {
                Ok(Some(audited)) => audited,
                Ok(None) => serve.serve_holding(request, held).await,
                Err(_) => refused(Fault::internal("serving a request panicked")),
            }
        }
        Ok(request) => {
            let served = AssertUnwindSafe(serve.serve_holding(request, held)).catch_unwind();
            let served = match feed {
                None => served.await,
                Some(feed) => {
                    let (served, is_read) =
                        alongside(served, feed.hand_on(body.as_mut(), options.body_timeout, clock)).await;
                    if !is_read {
                        decode::discard(&head, body, clock).await;
                    }
                    served
                }
            };
            served.unwrap_or_else(|_| refused(Fault::internal("serving a request panicked")))
        }
        Err(refusal) => refused(refusal.into()),
    };
    let mut response = encode::answer(audited, &id, options, &head.uri, is_head, offer);
    encode::show_rest(&throttled, response.headers_mut());
    response.headers_mut().extend(of_origin);
    if is_of_page(head.uri.path()) {
        wanted::add(serve.page_headers(), response.headers_mut());
    }
    let status = response.status();
    options.headers.put(status, response.headers_mut());
    if decode::must_close(&head) {
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    if let Some(logging) = logging {
        logging.end(clock, &id, method_name(&head.method), head.uri.path(), response.status().as_u16());
    }
    tracing::debug!(request_id = %id, method = method_name(&head.method), status = response.status().as_u16(), "request answered");
    response
}

/// Whether a path is where a UI's pages are.
fn is_of_page(path: &str) -> bool {
    path.strip_prefix("/ui").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether everybody may make this request through this listener.
fn is_opened(options: &Options, request: &Request) -> bool {
    !options.opened.is_empty()
        && request.verb == Verb::Read
        && request.refusal.is_none()
        && request.namespace.is_empty()
        && options.opened.contains(&request.path.trimmed())
}

/// Serves while the body is handed on; tells whether it was handed on to its end.
async fn alongside<T>(served: impl Future<Output = T>, handed_on: impl Future<Output = bool>) -> (T, bool) {
    match futures_util::future::select(pin!(served), pin!(handed_on)).await {
        Either::Left((served, _)) => (served, false),
        Either::Right((is_read, served)) => (served.await, is_read),
    }
}

/// A method that is none of ours is the client's text, and has no place in a log.
fn method_name(method: &http::Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "LIST" | "SCAN" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}

/// The answer to a request that did not get as far as the pipeline.
fn refused(fault: Fault) -> Audited<Outcome> {
    Audited::exempt(Err(fault), Exempt::NeverAdmitted)
}
