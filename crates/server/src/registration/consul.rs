//! An agent of Consul: the service with its tags, and a check that is critical unless it hears of the node in time.
//!
//! An agent that was restarted knows nothing any more, and is told everything again. Deliberately absent: everything else that
//! Consul can do.

use std::sync::Arc;
use std::time::Duration;

use tresor_env::Outgoing;
use tresor_env::outgoing::{Ask, Base, OutgoingRequest, escaped};
use tresor_model::{Map, map};
use tresor_secret::SecretString;
use tresor_wire::json::encode_map;
use zeroize::Zeroizing;

use super::{ANSWER_BYTES_MAX, EXCHANGE_MAX, Standing, done};
use crate::config::ConsulConfig;

/// One agent, and what it was told.
pub(super) struct Consul {
    outgoing: Arc<dyn Outgoing>,
    base: String,
    token: Option<Arc<SecretString>>,
    /// What this node's entry is called.
    id: String,
    service: String,
    tags: Vec<String>,
    host: String,
    port: u16,
    check_timeout: Duration,
    known: Option<(Standing, Duration)>,
}

impl Consul {
    /// Nothing is told yet. `api` is the address that clients are told.
    pub(super) fn new(config: &ConsulConfig, api: &str, outgoing: Arc<dyn Outgoing>) -> Result<Self, String> {
        let (host, port) =
            host_and_port(api).ok_or_else(|| format!("service_registration: `api_addr` `{api}` names no host"))?;
        Ok(Self {
            outgoing,
            base: config.base.trim_end_matches('/').to_owned(),
            token: config.token.clone(),
            id: format!("{}:{host}:{port}", config.service),
            service: config.service.clone(),
            tags: config.tags.clone(),
            host: config.service_address.clone().unwrap_or(host),
            port,
            check_timeout: config.check_timeout,
            known: None,
        })
    }

    pub(super) async fn tell(&mut self, standing: Standing, now: Duration) -> Result<(), String> {
        match self.known {
            Some((known, at)) if known == standing => {
                // Twice within the time, so that one that is lost costs nothing.
                if now.saturating_sub(at) + super::LOOK < self.check_timeout / 2 {
                    return Ok(());
                }
                // What it does not know any more it is told next time.
                self.known = None;
                let path = format!("agent/check/update/{}", escaped(&self.check()));
                self.put(&path, Some(self.state(standing))).await?;
            }
            _ => {
                self.known = None;
                self.put("agent/service/register", Some(self.registration(standing))).await?;
            }
        }
        self.known = Some((standing, now));
        Ok(())
    }

    pub(super) async fn leave(&mut self) -> Result<(), String> {
        self.put(&format!("agent/service/deregister/{}", escaped(&self.id)), None).await
    }

    fn check(&self) -> String {
        format!("{}:vault-sealed-check", self.id)
    }

    fn state(&self, standing: Standing) -> Map {
        let (status, output) =
            if standing.sealed { ("critical", "Vault Sealed") } else { ("passing", "Vault Unsealed") };
        map! { "Status" => status, "Output" => output }
    }

    fn registration(&self, standing: Standing) -> Map {
        let mut tags = self.tags.clone();
        tags.push(if standing.active { "active" } else { "standby" }.to_owned());
        if standing.initialized {
            tags.push("initialized".to_owned());
        }
        let check = self.state(standing);
        let check = check
            .with("CheckID", self.check())
            .with("Name", "Vault Sealed Status")
            .with("Notes", "It passes while the server is unsealed.")
            .with("TTL", format!("{}ms", self.check_timeout.as_millis()));
        map! {
            "ID" => self.id.as_str(),
            "Name" => self.service.as_str(),
            "Tags" => tags,
            "Port" => u64::from(self.port),
            "Address" => self.host.as_str(),
            "EnableTagOverride" => false,
            "Check" => check,
        }
    }

    async fn put(&self, path: &str, body: Option<Map>) -> Result<(), String> {
        let mut bytes = Zeroizing::new(Vec::new());
        if let Some(body) = body {
            encode_map(&body, &mut bytes);
        }
        let mut headers = vec![("content-type".into(), Zeroizing::new("application/json".to_owned()))];
        if let Some(token) = &self.token {
            headers.push(("x-consul-token".into(), Zeroizing::new(token.expose().to_owned())));
        }
        let request = OutgoingRequest {
            ask: Ask::Put(bytes),
            url: format!("{}/v1/{path}", self.base),
            headers,
            time_max: EXCHANGE_MAX,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        done(self.outgoing.ask(request).await)
    }
}

/// Where an address leads; without a port, where its scheme does.
fn host_and_port(api: &str) -> Option<(String, u16)> {
    let base = Base::parse(api)?;
    let default = if api.starts_with("https") { 443 } else { 80 };
    let (host, port) = match base.authority().rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (base.authority(), default),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_where_clients_are_told_that_it_is() {
        for (api, expected) in [
            ("https://vault.example.com", Some(("vault.example.com", 443))),
            ("http://10.0.0.1:8200/", Some(("10.0.0.1", 8200))),
            ("https://[2001:db8::1]:8200", Some(("2001:db8::1", 8200))),
            ("https://[2001:db8::1]", Some(("2001:db8::1", 443))),
            ("vault.example.com", None),
        ] {
            assert_eq!(host_and_port(api), expected.map(|(host, port)| (host.to_owned(), port)), "{api}");
        }
    }
}
