//! The door to HTTP servers of others, which engines and auth methods ask: one request, one bounded answer.
//!
//! What is sent goes to that server and to no other: redirects are answers like all others. Deliberately absent: cookies,
//! streaming, and trying again, which is for whoever knows what was asked.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::BoxFuture;

/// The beginning of a server's addresses: scheme, host, perhaps a port and a path, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base<'t> {
    text: &'t str,
    is_private: bool,
}

impl<'t> Base<'t> {
    /// Reads one; who asks there asks nobody else, and shows no name or password in the address.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let host_and_port = rest.split('/').next().unwrap_or_default();
        let host = match host_and_port.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host_and_port,
        };
        let is_plain =
            !host.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\".contains(&byte));
        let is_private = match scheme {
            "https" => true,
            "http" => is_this_machine(host),
            _ => return None,
        };
        is_plain.then_some(Self { text: text.trim_end_matches('/'), is_private })
    }

    /// Without a slash at its end.
    #[must_use]
    pub const fn as_str(self) -> &'t str {
        self.text
    }

    /// Host and port, as the header `host` has them.
    #[must_use]
    pub fn authority(self) -> &'t str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// Whether nobody else hears what is said there: by TLS, or because it is this very machine.
    #[must_use]
    pub const fn is_private(self) -> bool {
        self.is_private
    }
}

/// Whether an address leads to this very machine or to who stands beside it on the same wire, such as those that tell machines of
/// clouds who they are: nobody else on a way there has anything to do with it.
#[must_use]
pub fn is_beside(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    if is_this_machine(host) || host == METADATA_HOST {
        return true;
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local() || address == METADATA_OF_ALIBABA,
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local() || METADATA_ADDRESSES.contains(&address),
        Err(_) => false,
    }
}

/// Who tells machines of Google's cloud who they are, by name.
const METADATA_HOST: &str = "metadata.google.internal";
/// The same of Alibaba's, whose address is no link-local one.
const METADATA_OF_ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// The same of AWS's, of its containers, and of Google's, where addresses are long.
const METADATA_ADDRESSES: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A text as one part of an address or of a form: everything but letters, digits and `-._~` is spelled by its bytes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 0xf] {
                out.push(char::from_digit(half.into(), 16).unwrap_or_default().to_ascii_uppercase());
            }
        }
    }
    out
}

/// How a server is asked.
pub enum Ask {
    /// GET.
    Get,
    /// POST, with this body.
    Post(Zeroizing<Vec<u8>>),
    /// PUT, with this body.
    Put(Zeroizing<Vec<u8>>),
    /// PATCH, with this body.
    Patch(Zeroizing<Vec<u8>>),
    /// DELETE.
    Delete,
}

/// What is sent.
pub struct OutgoingRequest {
    /// How.
    pub ask: Ask,
    /// Where: an absolute address, `https://...`.
    pub url: String,
    /// Headers; their values may be secrets.
    pub headers: Vec<(Cow<'static, str>, Zeroizing<String>)>,
    /// How long the whole exchange may take.
    pub time_max: Duration,
    /// How many bytes the answer's body may have.
    pub body_bytes_max: usize,
}

/// What came back.
pub struct OutgoingAnswer {
    /// The status.
    pub status: u16,
    /// The body, whole.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why nothing came back. None of it says what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingError {
    /// The address or a header is none.
    Unsendable,
    /// The server could not be reached, so nothing was sent; the text is for the log.
    Unreached(String),
    /// The connection broke, or what was said was no HTTP; the text is for the log.
    Failed(String),
    /// It took too long.
    TooSlow,
    /// The answer was larger than the bound.
    TooLarge,
}

impl fmt::Display for OutgoingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsendable => f.write_str("the request cannot be sent as it is"),
            Self::Unreached(text) | Self::Failed(text) => f.write_str(text),
            Self::TooSlow => f.write_str("the server took too long to answer"),
            Self::TooLarge => f.write_str("the server's answer is larger than any that was expected"),
        }
    }
}

impl std::error::Error for OutgoingError {}

/// Whom a way trusts, and who it says it is, where that is not what the machine has for everybody.
#[derive(Default)]
pub struct Trust {
    /// PEM: the authorities that servers are verified by, instead of the machine's own.
    pub authorities: Option<Zeroizing<String>>,
    /// PEM: a certificate and its private key, for servers that want to know who asks.
    pub identity: Option<Zeroizing<String>>,
    /// Whether whoever answers is taken for the server. Whoever configures that is warned (TLS-01).
    pub anybody: bool,
    /// The name that the server's certificate is of, where that is not the one in its address.
    pub server_name: Option<ServerName>,
}

/// A server that is known in TLS by another name than its address has.
#[derive(Clone, Debug)]
pub struct ServerName {
    /// The name of its certificate.
    pub name: String,
    /// Its host, and its port where it has one, as its address names them.
    pub host: String,
}

/// What was to be trusted or shown is no certificate, or no key that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untrustable;

/// A way to HTTP servers of others.
pub trait Outgoing: Send + Sync {
    /// Another way, with this trust.
    ///
    /// # Errors
    /// [`Untrustable`].
    fn trusting(&self, trust: &Trust) -> Result<Arc<dyn Outgoing>, Untrustable> {
        let _ = trust;
        Err(Untrustable)
    }

    /// Asks, once.
    ///
    /// # Errors
    /// [`OutgoingError`]; the server may have done what was asked all the same.
    fn ask(&self, request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>>;
}

/// No way to anywhere, for what never asks.
pub struct NoWayOut;

impl Outgoing for NoWayOut {
    fn ask(&self, _request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>> {
        Box::pin(async { Err(OutgoingError::Unreached("there is no way to other servers".to_owned())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_server_and_nothing_else() {
        for (text, authority, is_private) in [
            ("https://github.example.com/api/v3/", "github.example.com", true),
            ("https://github.example.com:8443", "github.example.com:8443", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://[::1]:80/api", "[::1]:80", true),
            ("http://localhost/api/v3/", "localhost", true),
            ("http://github.example.com", "github.example.com", false),
            ("http://localhost.example.com", "localhost.example.com", false),
        ] {
            let base =
                Base::parse(text).map(|base| (base.authority(), base.is_private(), base.as_str().ends_with('/')));
            assert_eq!(base, Some((authority, is_private, false)), "{text}");
        }
        for bad in [
            "",
            "github.example.com",
            "http://127.0.0.1@example.com/",
            "https://user:pass@example.com/",
            "https://",
            "https:///x",
            "ftp://example.com",
            "https://example.com/?x=",
            "https://example.com/#",
            "https://example.com\\@other",
            "https://exam ple.com/",
            "https://example.com/\n",
        ] {
            assert_eq!(Base::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_beside_a_server_is_told_from_what_is_elsewhere() {
        for url in [
            "http://127.0.0.1:8200/v1/x",
            "http://127.8.9.1",
            "https://localhost:8200",
            "http://[::1]:80/api",
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.170.2/v2/x?y",
            "http://100.100.100.200/latest/meta-data",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/latest",
            "http://metadata.google.internal/computeMetadata",
        ] {
            assert!(is_beside(url), "{url}");
        }
        for url in [
            "https://vault.example/169.254.169.254",
            "https://localhost.example",
            "https://10.0.0.1",
            "https://169.253.1.1",
            "https://[fd00::1]/",
            "https://kms.eu-central-1.amazonaws.com/?x=http://127.0.0.1",
            "",
        ] {
            assert!(!is_beside(url), "{url}");
        }
    }

    #[test]
    fn a_part_of_an_address_cannot_lead_elsewhere() {
        assert_eq!(escaped("/a b+ü&=%-._~"), "%2Fa%20b%2B%C3%BC%26%3D%25-._~");
    }
}
