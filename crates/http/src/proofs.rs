//! What authorities of certificates ask for over plain HTTP, to see whose a name is (RFC 8555, 8.3).
//!
//! It is no request to an endpoint: nothing of the server is touched, so there is no record. Deliberately absent: what is shown, which is
//! meant for strangers.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use tresor_env::BoxFuture;

use crate::body::ResponseBody;

/// The folder that authorities ask in.
const FOLDER: &str = "/.well-known/acme-challenge/";
/// The longest that is asked for.
const TOKEN_BYTES_MAX: usize = 256;

/// What there is to show.
pub trait Proofs: std::fmt::Debug + Send + Sync {
    /// What proves that this server has the name of this host, if it is asked for by the right token.
    fn proof<'a>(&'a self, host: &'a str, token: &'a str) -> BoxFuture<'a, Option<String>>;
}

/// Answers whoever asks for a proof; nothing where something else is asked for, or there is none.
pub(crate) async fn show(proofs: &dyn Proofs, head: &Parts) -> Option<http::Response<ResponseBody>> {
    if head.method != Method::GET {
        return None;
    }
    let token = head.uri.path().strip_prefix(FOLDER)?;
    let host = head.uri.host().or_else(|| head.headers.get(HOST)?.to_str().ok())?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(is_token) {
        return None;
    }
    let proof = proofs.proof(host, token).await?;
    let mut answer = http::Response::new(ResponseBody::whole(proof.into_bytes()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}

/// The same where nothing else is answered.
pub async fn show_proof<B>(proofs: &dyn Proofs, request: http::Request<B>) -> http::Response<ResponseBody> {
    let (head, _) = request.into_parts();
    show(proofs, &head).await.unwrap_or_else(|| {
        let mut nothing = http::Response::new(ResponseBody::whole(Vec::new()));
        *nothing.status_mut() = StatusCode::NOT_FOUND;
        nothing
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt;

    use super::*;

    #[derive(Debug)]
    struct One;

    impl Proofs for One {
        fn proof<'a>(&'a self, host: &'a str, token: &'a str) -> BoxFuture<'a, Option<String>> {
            Box::pin(std::future::ready((host == "a:80" && token == "t_-1").then(|| "t_-1.x".to_owned())))
        }
    }

    async fn asked(method: &str, uri: &str, host: &str) -> (u16, Vec<u8>) {
        let request = http::Request::builder().method(method).uri(uri).header(HOST, host).body(()).unwrap();
        let answer = show_proof(&One, request).await;
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_proof_is_shown_to_who_asks_for_it_by_host_and_token_and_nothing_else() {
        let folder = "/.well-known/acme-challenge/";
        assert_eq!(asked("GET", &format!("{folder}t_-1"), "a:80").await, (200, b"t_-1.x".to_vec()));
        for (method, uri, host) in [
            ("POST", format!("{folder}t_-1"), "a:80"),
            ("GET", format!("{folder}t_-1"), "b"),
            ("GET", format!("{folder}other"), "a:80"),
            ("GET", format!("{folder}t_-1/"), "a:80"),
            ("GET", folder.to_owned(), "a:80"),
            ("GET", format!("{folder}..%2ft_-1"), "a:80"),
            ("GET", "/v1/sys/health".to_owned(), "a:80"),
        ] {
            assert_eq!(asked(method, &uri, host).await, (404, Vec::new()), "{method} {uri} {host}");
        }
    }
}
