//! What a client needs to know before its first request.
//!
//! Plain values only: reading them from flags, files or the environment belongs to whoever builds the client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tresor_secret::{SecretString, TokenSecret};

/// Whether the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verification {
    /// The chain, the validity and the name are checked.
    #[default]
    Full,
    /// Nothing is checked: anybody in between can read everything.
    Skipped,
}

/// How to reach a server, and as whom.
pub struct ClientConfig {
    /// Base URL: `https://host:port`, optionally with a path prefix, or `unix:///path/of/socket`.
    pub address: String,
    /// PEM file of certificate authorities to trust instead of the system's.
    pub ca_certificate_file: Option<PathBuf>,
    /// Such authorities themselves, in PEM.
    pub ca_certificate: Option<String>,
    /// Directory of such PEM files.
    pub ca_certificate_directory: Option<PathBuf>,
    /// PEM file of the certificate chain that this client presents.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub client_key_file: Option<PathBuf>,
    /// The certificate chain and its private key themselves, in PEM.
    pub client_identity: Option<(String, Arc<SecretString>)>,
    /// The name expected in the server's certificate, when it is not the host of the address.
    pub tls_server_name: Option<String>,
    /// Whether the server's certificate is checked.
    pub verification: Verification,
    /// The namespace of every request.
    pub namespace: Option<String>,
    /// The token of every request.
    pub token: Option<TokenSecret>,
    /// How long wrapped answers should live (`60`, `5m`); wraps every answer when set.
    pub wrap_ttl: Option<String>,
    /// URL of the proxy that every request goes through; without one, those of the usual variables of the process.
    pub proxy: Option<String>,
    /// Whether nothing but HTTP/1.1 is spoken, as WebSockets need.
    pub speaks_http_1: bool,
    /// How long one attempt may take; zero means without limit.
    pub timeout: Duration,
    /// Whether the one redirect of a standby is followed.
    pub follows_redirect: bool,
    /// How many requests are sent at most.
    pub rate_limit: Option<RateLimit>,
    /// How often a request is repeated after a 412 or a 5xx other than 501.
    pub retries_max: u32,
    /// How long to wait before the first repetition; the second waits half as long again.
    pub retry_wait: Duration,
    /// The longest answer that is taken, in bytes.
    pub answer_bytes_max: usize,
    /// More headers for every request.
    pub headers: Vec<(String, String)>,
}

/// How many requests are sent at most, over a longer time and at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests in a second.
    pub per_second: f64,
    /// Requests at once, after a time without any.
    pub burst: u32,
}

impl RateLimit {
    /// Reads `RATE` or `RATE:BURST`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rate, burst) = text.split_once(':').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let per_second: f64 = rate.trim().parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)?;
        let burst: u32 = match burst {
            Some(burst) => burst.trim().parse().ok()?,
            // As many as in a second.
            None => format!("{per_second:.0}").parse().ok()?,
        };
        Some(Self { per_second, burst: burst.max(1) })
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            address: "https://127.0.0.1:8200".to_owned(),
            ca_certificate_file: None,
            ca_certificate: None,
            ca_certificate_directory: None,
            client_certificate_file: None,
            client_key_file: None,
            client_identity: None,
            tls_server_name: None,
            verification: Verification::Full,
            namespace: None,
            token: None,
            wrap_ttl: None,
            proxy: None,
            speaks_http_1: false,
            timeout: Duration::from_secs(60),
            follows_redirect: true,
            rate_limit: None,
            retries_max: 2,
            answer_bytes_max: usize::MAX,
            retry_wait: Duration::from_secs(1),
            headers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_with_its_burst_or_without() {
        assert_eq!(RateLimit::parse("10"), Some(RateLimit { per_second: 10.0, burst: 10 }));
        assert_eq!(RateLimit::parse("0.5:3"), Some(RateLimit { per_second: 0.5, burst: 3 }));
        assert_eq!(RateLimit::parse("0.2"), Some(RateLimit { per_second: 0.2, burst: 1 }));
        for wrong in ["", "0", "-1", "x", "1:", "1:x", "inf"] {
            assert_eq!(RateLimit::parse(wrong), None, "{wrong}");
        }
    }
}
