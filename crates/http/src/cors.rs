//! Requests of other sites' pages, which browsers ask about before they make them (Fetch standard, CORS protocol).
//!
//! An origin that may not ask is refused before anything of its request is read, and what a browser asks beforehand is
//! answered here: neither is a request to an endpoint, so neither leaves a record. Deliberately absent: which origins may ask
//! ([`Serve::origin`](crate::Serve)).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, CONTENT_TYPE,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use tresor_model::Origin;

use crate::body::ResponseBody;
use crate::{Options, Serve, quirks};

const METHODS: [&str; 8] = ["DELETE", "GET", "OPTIONS", "POST", "PUT", "PATCH", "LIST", "SCAN"];

/// How a request of a page goes on.
pub(crate) enum Asked {
    /// As any other; its answer gets these headers.
    On(HeaderMap),
    /// It is answered already.
    Answered(http::Response<ResponseBody>),
}

pub(crate) fn ask(serve: &dyn Serve, options: &Options, head: &Parts) -> Asked {
    let Some(value) = head.headers.get(ORIGIN) else { return Asked::On(HeaderMap::new()) };
    let origin = value.to_str().map_or(Origin::Refused, |origin| match &options.origins {
        Some(origins) => origins.judge(origin),
        None => serve.origin(origin),
    });
    let (headers, with_credentials) = match origin {
        Origin::NotAsked => return Asked::On(HeaderMap::new()),
        Origin::Refused => {
            let body = br#"{"errors":["origin not allowed"]}"#.to_vec();
            return Asked::Answered(answer(StatusCode::FORBIDDEN, body, HeaderMap::new()));
        }
        Origin::Allowed { headers, with_credentials } => (headers, with_credentials),
    };
    let mut allowed = HeaderMap::new();
    allowed.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
    allowed.insert(VARY, HeaderValue::from_name(ORIGIN));
    if with_credentials {
        allowed.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if head.method != Method::OPTIONS {
        return Asked::On(allowed);
    }
    let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| method.to_str().ok());
    if !method.is_some_and(|method| METHODS.contains(&method)) {
        return Asked::Answered(answer(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), HeaderMap::new()));
    }
    let mut set = |name: HeaderName, text: &str| HeaderValue::from_str(text).map(|value| allowed.insert(name, value));
    // A configured name that no header can have is told to nobody.
    drop(set(ACCESS_CONTROL_ALLOW_HEADERS, &headers.join(",")));
    drop(set(ACCESS_CONTROL_ALLOW_METHODS, &METHODS.join(",")));
    drop(set(ACCESS_CONTROL_MAX_AGE, "300"));
    Asked::Answered(answer(StatusCode::OK, Vec::new(), allowed))
}

fn answer(status: StatusCode, body: Vec<u8>, headers: HeaderMap) -> http::Response<ResponseBody> {
    let is_empty = body.is_empty();
    let mut response = http::Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_empty {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(quirks::JSON));
    }
    response
}
