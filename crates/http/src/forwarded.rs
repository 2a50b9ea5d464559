//! `X-Forwarded-For`: where a request comes from, as a proxy says that an operator believes.
//!
//! Nobody is believed by default. Deliberately absent: `Forwarded` and headers of that kind, and certificates in headers.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use tresor_model::Refusal;

use crate::decode::invalid;

const NAME: &str = "x-forwarded-for";

/// Whom a listener believes, and what it does with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedFor {
    /// The proxies.
    pub authorized: Vec<IpNet>,
    /// How many addresses are left out from the end: those of proxies in front of the one that is connected.
    pub hop_skips: usize,
    /// A header from elsewhere makes a request a wrong one; otherwise it is taken out.
    pub reject_not_authorized: bool,
    /// A request without the header is a wrong one; otherwise it comes from where it is connected.
    pub reject_not_present: bool,
}

impl ForwardedFor {
    /// The client of a request that came over a connection of `peer`.
    pub(crate) fn client(&self, headers: &mut HeaderMap, peer: IpAddr) -> Result<IpAddr, Refusal> {
        if !headers.contains_key(NAME) {
            let text = "missing x-forwarded-for header and configured to reject when not present";
            return if self.reject_not_present { Err(invalid(text)) } else { Ok(peer) };
        }
        if !self.authorized.iter().any(|range| range.contains(&peer)) {
            headers.remove(NAME);
            let text = "client address not authorized for x-forwarded-for and configured to reject connection";
            return if self.reject_not_authorized { Err(invalid(text)) } else { Ok(peer) };
        }
        let no_address = || invalid("the x-forwarded-for header is no list of addresses");
        let mut hops = Vec::new();
        for header in headers.get_all(NAME) {
            hops.extend(header.to_str().map_err(|_| no_address())?.split(','));
        }
        let chosen = hops.len().checked_sub(1).and_then(|last| last.checked_sub(self.hop_skips));
        let Some(hop) = chosen.and_then(|at| hops.get(at)) else {
            return Err(invalid(format!(
                "malformed x-forwarded-for configuration or request, hops to skip ({}) would skip before earliest chain \
                 link (chain length {})",
                self.hop_skips,
                hops.len()
            )));
        };
        address(hop.trim()).ok_or_else(no_address)
    }
}

/// An address; some proxies put brackets around it, or a port behind it.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    let plain = plain.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    plain.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn believed(hop_skips: usize, rejects: bool) -> ForwardedFor {
        ForwardedFor {
            authorized: vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()],
            hop_skips,
            reject_not_authorized: rejects,
            reject_not_present: rejects,
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn client(believed: &ForwardedFor, peer: &str, values: &[&str]) -> Result<String, String> {
        let client = believed.client(&mut headers(values), peer.parse().unwrap());
        client.map(|client| client.to_string()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn crt_07_tls_04_only_a_proxy_that_is_believed_says_where_a_request_comes_from() {
        let strict = believed(0, true);
        for (values, said) in [
            (&["1.2.3.4"][..], "1.2.3.4"),
            (&["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
            (&["9.9.9.9", "1.2.3.4 "], "1.2.3.4"),
            (&["1.2.3.4:5678"], "1.2.3.4"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(client(&strict, "10.1.1.1", values).as_deref(), Ok(said), "{values:?}");
            assert_eq!(client(&strict, "fd00::1", values).as_deref(), Ok(said), "{values:?}");
            assert!(client(&strict, "11.1.1.1", values).unwrap_err().contains("not authorized"), "{values:?}");
            assert_eq!(client(&believed(0, false), "11.1.1.1", values).as_deref(), Ok("11.1.1.1"), "{values:?}");
        }
        for values in [&[""][..], &["unknown"], &["1.2.3.4, "], &["1.2.3.4", "x"], &["1.2.3"], &["1.2.3.4 5"]] {
            assert!(client(&strict, "10.1.1.1", values).unwrap_err().contains("no list of addresses"), "{values:?}");
        }
        assert!(client(&strict, "10.1.1.1", &[]).unwrap_err().contains("missing x-forwarded-for"));
        assert_eq!(client(&believed(0, false), "10.1.1.1", &[]).as_deref(), Ok("10.1.1.1"));
        let skips = believed(1, true);
        assert_eq!(client(&skips, "10.1.1.1", &["1.2.3.4, 2.3.4.5", "3.4.5.6"]).as_deref(), Ok("2.3.4.5"));
        assert!(client(&skips, "10.1.1.1", &["1.2.3.4"]).unwrap_err().contains("hops to skip (1)"));
        // What is not believed is not recorded either.
        let mut seen = headers(&["1.2.3.4"]);
        drop(believed(0, false).client(&mut seen, "11.1.1.1".parse().unwrap()));
        assert!(seen.is_empty());
    }

    proptest! {
        #[test]
        fn fz_15_a_client_is_what_a_believed_proxy_says_or_the_peer(
            values in prop::collection::vec("[0-9a-f:., \\[\\]]{0,24}", 0..4),
            is_believed in any::<bool>(), skips in 0_usize..4, rejects in any::<bool>(),
        ) {
            let peer = if is_believed { "10.1.1.1" } else { "11.1.1.1" };
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            if let Ok(said) = client(&believed(skips, rejects), peer, &texts) {
                let is_named = texts.iter().flat_map(|text| text.split(',')).filter_map(|hop| address(hop.trim()));
                let is_named = is_named.map(|named| named.to_string()).any(|named| named == said);
                let is_right = if is_believed && !texts.is_empty() { is_named } else { said == peer };
                prop_assert!(is_right);
            }
        }
    }
}
