//! Whom a listener believes about where requests come from: `x_forwarded_for_*` and `proxy_protocol_*`.
//!
//! Deliberately absent: certificates of clients in headers of a proxy, which are refused: nothing here would look at them.

use ipnet::IpNet;
use tresor_hcl::{Position, Value};
use tresor_http::ForwardedFor;

use super::ConfigError;
use super::load::Source;
use crate::proxied::{ProxyProtocol, Unauthorized};

/// What a listener says of that, as far as it was read.
pub(super) struct Proxies {
    forwarded_for: ForwardedFor,
    behaviour: Option<(Unauthorized, Position)>,
    balancers: Vec<IpNet>,
}

impl Proxies {
    pub(super) const fn new() -> Self {
        let forwarded_for = ForwardedFor {
            authorized: Vec::new(),
            hop_skips: 0,
            reject_not_authorized: true,
            reject_not_present: true,
        };
        Self { forwarded_for, behaviour: None, balancers: Vec::new() }
    }

    /// Reads a key, if it is one of these.
    pub(super) fn read(&mut self, source: &Source<'_>, key: &str, value: &Value) -> Result<bool, ConfigError> {
        match key {
            "x_forwarded_for_authorized_addrs" => self.forwarded_for.authorized = ranges(source, key, value)?,
            "x_forwarded_for_hop_skips" => {
                let skips = value.as_integer(key).map_err(|error| source.wrong(&error))?;
                let wrong = |_| source.error(value.position, format!("`{key}` cannot be negative"));
                self.forwarded_for.hop_skips = usize::try_from(skips).map_err(wrong)?;
            }
            "x_forwarded_for_reject_not_authorized" => {
                self.forwarded_for.reject_not_authorized = source.flag(key, value)?;
            }
            "x_forwarded_for_reject_not_present" => self.forwarded_for.reject_not_present = source.flag(key, value)?,
            "proxy_protocol_authorized_addrs" => self.balancers = ranges(source, key, value)?,
            "proxy_protocol_behavior" => {
                let unauthorized = match source.text(key, value)?.as_str() {
                    "use_always" => Unauthorized::Believed,
                    "allow_authorized" => Unauthorized::Ignored,
                    "deny_unauthorized" => Unauthorized::Refused,
                    _ => {
                        let text = format!("`{key}` is `use_always`, `allow_authorized` or `deny_unauthorized`");
                        return Err(source.error(value.position, text));
                    }
                };
                self.behaviour = Some((unauthorized, value.position));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What all of it comes to. As in the reference, headers count where somebody is authorized to send them.
    pub(super) fn judged(
        self,
        source: &Source<'_>,
    ) -> Result<(Option<ForwardedFor>, Option<ProxyProtocol>), ConfigError> {
        let forwarded_for = Some(self.forwarded_for).filter(|believed| !believed.authorized.is_empty());
        let Some((unauthorized, position)) = self.behaviour else { return Ok((forwarded_for, None)) };
        if unauthorized != Unauthorized::Believed && self.balancers.is_empty() {
            let text = "`proxy_protocol_authorized_addrs` must say who is authorized";
            return Err(source.error(position, text));
        }
        Ok((forwarded_for, Some(ProxyProtocol { unauthorized, authorized: self.balancers })))
    }
}

/// Addresses and ranges of them, as a list or with commas between.
fn ranges(source: &Source<'_>, key: &str, value: &Value) -> Result<Vec<IpNet>, ConfigError> {
    let entries = match value.as_string_list(key) {
        Ok(entries) => entries,
        Err(_) => vec![source.text(key, value)?],
    };
    let entries = entries.iter().flat_map(|entry| entry.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let range = |entry: &str| {
        let alone = || entry.parse::<std::net::IpAddr>().ok().map(|address| address.to_canonical().into());
        let wrong =
            || source.error(value.position, format!("`{key}` lists addresses and ranges such as \"10.0.0.0/8\""));
        entry.parse().ok().or_else(alone).ok_or_else(wrong)
    };
    entries.map(range).collect()
}
