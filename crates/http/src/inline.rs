//! A login in the headers of a request (inline authentication), as OpenBao's clients send it.
//!
//! `X-Vault-Inline-Auth-Path` names where to log in; each `X-Vault-Inline-Auth-Parameter-NAME` is a field of the login, as
//! base64 (for URLs, without padding) of `{"key": ..., "value": ...}`. None of these headers is seen by anybody else
//! (AUD-06). Deliberately absent: logging in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use tresor_model::request::{Inline, InlineLogin};
use tresor_model::{Body, Map, Path, Refusal, Verb};
use tresor_wire::json::{JsonLimits, decode};
use zeroize::Zeroizing;

use crate::decode::{invalid, parsed_namespace, single};

/// What all of these headers begin with.
pub(crate) const HEADERS: &str = "x-vault-inline-auth-";
const PATH: &str = "x-vault-inline-auth-path";
const OPERATION: &str = "x-vault-inline-auth-operation";
const NAMESPACE: &str = "x-vault-inline-auth-namespace";
const PARAMETER: &str = "x-vault-inline-auth-parameter-";

/// The login that comes with a request.
pub(crate) fn login(
    headers: &HeaderMap,
    namespace: &str,
    chroot: &str,
    has_token: bool,
    limits: &JsonLimits,
) -> Result<Inline, Refusal> {
    let Some(path) = single(headers, PATH)? else { return Ok(Inline::Not) };
    if has_token {
        return Err(invalid("cannot layer inline authentication with token authentication"));
    }
    let verb = match single(headers, OPERATION)?.unwrap_or("update") {
        "update" | "create" => Verb::Write,
        "read" => Verb::Read,
        _ => return Err(invalid("expected a valid login operation in X-Vault-Inline-Auth-Operation")),
    };
    let path = path.trim_matches('/');
    let path =
        Path::from_decoded(path.strip_prefix("v1/").unwrap_or(path)).map_err(|error| invalid(error.to_string()))?;
    let namespace = match single(headers, NAMESPACE)? {
        Some(named) => parsed_namespace(named, chroot)?,
        None => namespace.to_owned(),
    };
    let mut body = Map::new();
    for name in headers.keys().filter(|name| name.as_str().starts_with(PARAMETER)) {
        let (key, value) = parameter(single(headers, name.as_str())?.unwrap_or_default(), limits)?;
        body.insert(key, value);
    }
    Ok(Inline::Asked(Box::new(InlineLogin { path, verb, namespace, body })))
}

/// One field of the login.
fn parameter(text: &str, limits: &JsonLimits) -> Result<(String, Body), Refusal> {
    let bytes =
        URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("failed raw url-safe base64 decoding header value"))?;
    let bytes = Zeroizing::new(bytes);
    let mut pair = decode(&bytes, limits).map_err(|_| invalid("failed json decoding header value"))?;
    let key = pair.remove("key").ok_or_else(|| invalid("decoded header lacked `key` field"))?;
    let key = key.as_str().ok_or_else(|| invalid("decoded header had incorrect type for `key` field"))?.to_owned();
    let value = pair.remove("value").ok_or_else(|| invalid("decoded header lacked `value` field"))?;
    if !pair.is_empty() {
        return Err(invalid("unexpected field in decoded request parameter"));
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn read(sent: &[(&'static str, &str)], has_token: bool) -> Result<Inline, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        login(&headers, "team/", "", has_token, &JsonLimits::default())
    }

    #[test]
    fn a_login_is_below_the_namespace_that_the_listener_is_confined_to() {
        for (named, expected) in [("root", "a/"), ("", "a/"), ("b", "a/b/"), ("/a/", "a/a/")] {
            let mut headers = HeaderMap::new();
            headers.append(PATH, "auth/approle/login".parse().unwrap());
            headers.append(NAMESPACE, named.parse().unwrap());
            let read = login(&headers, "a/", "a/", false, &JsonLimits::default());
            let Ok(Inline::Asked(login)) = read else { panic!("not read") };
            assert_eq!(login.namespace, expected, "{named}");
        }
    }

    fn spelled(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    #[test]
    fn a_login_is_read_from_its_headers_and_everything_else_is_refused() {
        assert!(matches!(read(&[("x-vault-inline-auth-parameter-a", "x")], false), Ok(Inline::Not)));
        let (role, secret) = (spelled(r#"{"key":"role_id","value":"r"}"#), spelled(r#"{"value":[1],"key":"b"}"#));
        let sent = [
            (PATH, "/auth/approle/login"),
            ("x-vault-inline-auth-parameter-1", role.as_str()),
            ("x-vault-inline-auth-parameter-z", secret.as_str()),
        ];
        let Ok(Inline::Asked(login)) = read(&sent, false) else { panic!("not read") };
        assert_eq!(
            (login.path.as_str(), login.verb, login.namespace.as_str()),
            ("auth/approle/login", Verb::Write, "team/")
        );
        assert_eq!(login.body.text("role_id"), Some("r"));
        assert!(matches!(login.body.get("b"), Some(Body::List(_))));
        assert!(read(&sent, true).is_err_and(|refusal| refusal.to_string().contains("cannot layer")));
        for (name, value) in [
            (OPERATION, "delete"),
            (PATH, "a/../b"),
            ("x-vault-inline-auth-parameter-1", "%%"),
            ("x-vault-inline-auth-parameter-1", &spelled("[1]")),
            ("x-vault-inline-auth-parameter-1", &spelled(r#"{"key":"a"}"#)),
            ("x-vault-inline-auth-parameter-1", &spelled(r#"{"key":1,"value":2}"#)),
            ("x-vault-inline-auth-parameter-1", &spelled(r#"{"key":"a","value":2,"more":3}"#)),
        ] {
            let mut sent = vec![(PATH, "auth/a/login"), (name, value)];
            if name == PATH {
                sent.remove(0);
            }
            assert!(read(&sent, false).is_err(), "{name}: {value}");
        }
        assert!(read(&[(PATH, "auth/a/login"), (PATH, "auth/b/login")], false).is_err());
    }
}
