//! What a listener has of its own: whether it serves numbers, or nothing else, and whose pages may ask through it.
//!
//! Deliberately absent: what numbers there are, and what is stored of origins for all listeners.

use http::Method;
use tresor_model::{Origin, Origins, Path, Refusal};

/// Where the numbers are asked for, below `/v1/`.
const METRICS: &str = "sys/metrics";
/// The same as the target of a request.
const METRICS_TARGET: &str = "/v1/sys/metrics";

/// What a listener does about `sys/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// It is an endpoint like every other.
    #[default]
    Served,
    /// There is no such endpoint.
    Refused,
    /// There is nothing else, and it is here.
    Only {
        /// The target of the requests.
        path: String,
    },
}

impl Numbers {
    /// Nothing but numbers, at this path; where they are elsewhere, when it is empty.
    #[must_use]
    pub fn only_at(path: &str) -> Self {
        Self::Only { path: if path.is_empty() { METRICS_TARGET.to_owned() } else { path.to_owned() } }
    }

    /// What a request to a target is a request to.
    pub(crate) fn target<'t>(&self, method: &Method, target: &'t str) -> Result<&'t str, Refusal> {
        let Self::Only { path } = self else { return Ok(target) };
        if target != path {
            return Err(Refusal::NoRoute(target.trim_start_matches('/').to_owned()));
        }
        if method == Method::GET || method == Method::HEAD { Ok(METRICS_TARGET) } else { Err(Refusal::Unsupported) }
    }

    /// Why a request to a path is refused, where it is.
    pub(crate) fn refusal(&self, path: &Path) -> Option<Refusal> {
        let is_refused = *self == Self::Refused && path.trimmed() == METRICS;
        is_refused.then(|| Refusal::NoRoute(METRICS.to_owned()))
    }
}

/// Whose pages may ask through one listener, whatever is stored for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerOrigins {
    /// The origins; `*` alone is every one.
    pub allowed: Vec<String>,
    /// Headers that they may send beside those that the API itself has.
    pub headers: Vec<String>,
    /// Whether browsers may send along what they keep for this server.
    pub with_credentials: bool,
}

impl ListenerOrigins {
    pub(crate) fn judge(&self, origin: &str) -> Origin {
        let (allowed, headers) = (self.allowed.as_slice(), self.headers.as_slice());
        Origins { allowed, headers, with_credentials: self.with_credentials }.judge(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_for_numbers_has_nothing_else() {
        let target = |numbers: &Numbers, method, at| numbers.target(&method, at).map(str::to_owned);
        for at in ["/v1/sys/metrics", "/v1/sys/health", "/metrics"] {
            assert_eq!(target(&Numbers::Served, Method::POST, at).as_deref(), Ok(at));
        }
        let only = Numbers::only_at("");
        assert_eq!(target(&only, Method::GET, METRICS_TARGET).as_deref(), Ok(METRICS_TARGET));
        assert_eq!(target(&only, Method::POST, METRICS_TARGET), Err(Refusal::Unsupported));
        for at in ["/v1/sys/health", "/", "/v1/sys/metrics/", "/v1/sys//metrics", "/metrics"] {
            assert!(matches!(target(&only, Method::GET, at), Err(Refusal::NoRoute(_))), "{at}");
        }
        assert_eq!(target(&Numbers::only_at("/metrics"), Method::HEAD, "/metrics").as_deref(), Ok(METRICS_TARGET));
        assert!(target(&Numbers::only_at("/metrics"), Method::GET, METRICS_TARGET).is_err());
    }
}
