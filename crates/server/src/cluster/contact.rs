//! How this node is reached, and that the others know it.
//!
//! The log names an address beside each key. When the operator configures another one, the node tells the leader, who
//! knows by its key that it is the one; before it is heard it may have to tell everybody, since who leads cannot reach it
//! at an address of before. Deliberately absent: finding the others when all addresses have changed at once, which the core
//! does ([`hints`](super::hints)); names in place of addresses are resolved at each attempt to connect, and so go on working.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tresor_consensus::{Change, Consensus, Contact, NodeId};
use tresor_env::Clock;

use super::inbox::{ANSWERED, CONTACT};
use super::port::Port;

/// How long a node may take to write a contact down.
const WITHIN: Duration = Duration::from_secs(5);
/// After how long it is told again.
const AGAIN: Duration = Duration::from_secs(2);

/// Host and port of an address with or without a scheme, as it is told to others.
fn host_and_port(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.trim_end_matches('/')
}

/// An address that others can use; nothing when it says "everywhere", which leads nowhere.
pub(crate) fn reachable(address: SocketAddr) -> Option<String> {
    (!address.ip().is_unspecified()).then(|| address.to_string())
}

/// An address that an operator configured for others, without its scheme; text when it is none.
pub(crate) fn advertised(address: &str) -> Result<String, String> {
    let bare = host_and_port(address);
    let wrong = |why: &str| {
        Err(format!("`{address}` {why}: it is a host, or an address, and a port, such as `https://10.0.0.1:8201`"))
    };
    let Some((host, port)) = bare.rsplit_once(':') else { return wrong("has no port") };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return wrong("has no port");
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['/', '{', ' ']) {
        return wrong("names no host");
    }
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return wrong("leads nowhere, as an address that others use");
    }
    Ok(bare.to_owned())
}

/// Sees to it that the members know how this node is reached.
pub(crate) struct Teller {
    pub(crate) me: NodeId,
    pub(crate) contact: Contact,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Teller {
    /// Tells the others whenever the log says something else.
    pub(crate) async fn keep(self, consensus: Arc<Consensus>, port: Arc<Port>) {
        loop {
            let told = port.told().read(|told| *told);
            port.settle();
            if !self.is_unknown(&consensus) {
                port.told().wait_for(|now| (*now != told).then_some(())).await;
                continue;
            }
            let status = consensus.status().read(|status| *status);
            if self.tell(&consensus, &port).await {
                tracing::info!(address = self.contact.address, "the cluster is told how this node is reached");
            }
            // Whoever wrote it down may not be the leader for long enough.
            tokio::select! {
                biased;
                () = self.clock.sleep(AGAIN) => {}
                () = consensus.status().wait_for(|now| (now.leader != status.leader).then_some(())) => {}
                () = port.told().wait_until(|| (!self.is_unknown(&consensus)).then_some(())) => {}
            }
        }
    }

    /// Whether the log names this node, and not as it is.
    fn is_unknown(&self, consensus: &Consensus) -> bool {
        let members = consensus.members();
        members.nodes.get(&self.me).is_some_and(|member| member.contact != self.known(&member.contact))
    }

    /// How this node is to be known; an address that it cannot tell stays as it is.
    fn known(&self, before: &Contact) -> Contact {
        let address = if self.contact.address.is_empty() { &before.address } else { &self.contact.address };
        let api_address =
            if self.contact.api_address.is_empty() { &before.api_address } else { &self.contact.api_address };
        Contact { address: address.clone(), api_address: api_address.clone(), ..self.contact.clone() }
    }

    /// Whether somebody wrote it down.
    async fn tell(&self, consensus: &Consensus, port: &Port) -> bool {
        let members = consensus.members();
        let Some(before) = members.nodes.get(&self.me) else { return false };
        let contact = self.known(&before.contact);
        let status = consensus.status().read(|status| *status);
        if status.is_leader() {
            return consensus.change(Change::Contact(self.me, contact)).await.is_ok();
        }
        let mut message = contact.spelled();
        message.push(CONTACT);
        let message = Bytes::from(message);
        let others = members.nodes.keys().copied().filter(|id| *id != self.me);
        let asked: Vec<NodeId> = status.leader.map_or_else(|| others.collect(), |leader| vec![leader]);
        for id in asked {
            let answer = port.request(id, message.clone(), WITHIN).await;
            if answer.is_ok_and(|answer| answer.as_ref() == [ANSWERED]) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_for_others_leads_somewhere() {
        for (told, known) in [
            ("https://10.0.0.1:8201", "10.0.0.1:8201"),
            ("http://vault-0.internal:8201/", "vault-0.internal:8201"),
            ("[2001:db8::1]:8201", "[2001:db8::1]:8201"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(advertised(told).unwrap(), known);
        }
        for wrong in [
            "",
            "https://10.0.0.1",
            "0.0.0.0:8201",
            "https://[::]:8201",
            ":8201",
            "h:0",
            "h:99999",
            "a/b:1",
            "{{ GetPrivateIP }}:8201",
        ] {
            assert!(advertised(wrong).is_err(), "{wrong}");
        }
    }
}
