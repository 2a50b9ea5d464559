//! Whom the members that this node knows let in, beside those that it knows: it was away while others came.
//!
//! A node that knows of no leader for a while asks every member that its log names who the members are today. What one of them
//! answers, over a connection on which it proved its key, it *vouches* for: these nodes may connect here, too, as long as the
//! log names the one that said so, and until it is as new as what was said. So a false answer gives no more than who gave it
//! has: everything that a node may do here whom a member vouched for, that member may do itself, and no longer than itself; who
//! was removed, and is still believed because this node's log does not say so yet, can so do what it could without this. Nobody
//! is believed who was only vouched for, so a false answer does not spread. Votes and entries are judged as always: what a log
//! says is agreed on, not told here. Deliberately absent: a file (whoever starts asks again), and help for a node of whose log
//! no member is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tresor_consensus::{Consensus, Contact, Members, NodeId};
use tresor_core::cluster::join::is_cluster_address;
use tresor_env::Clock;

use super::inbox::{ANSWERED, MEMBERS};
use super::port::{Port, key};

/// For how long there must have been no leader; choosing another takes less.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a member may take to answer.
const WITHIN: Duration = Duration::from_secs(2);
/// The most members that an answer may name.
const MEMBERS_MAX: usize = 1024;

/// What a member says of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The entry of the log that says so.
    index: u64,
    contacts: BTreeMap<NodeId, Contact>,
}

impl Said {
    /// What this node says itself.
    pub(crate) fn spelled(members: &Members) -> Vec<u8> {
        let mut out = members.index.to_le_bytes().to_vec();
        out.extend(members.contacts().values().flat_map(Contact::spelled));
        out
    }

    /// Nothing, when anything of it is wrong.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (index, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut contacts = BTreeMap::new();
        while !rest.is_empty() {
            let (contact, after) = Contact::read(rest)?;
            let is_sound = is_cluster_address(&contact.address) && contacts.len() < MEMBERS_MAX;
            contacts.insert(super::node_id(&key(&contact).filter(|_| is_sound)?), contact);
            rest = after;
        }
        Some(Self { index: u64::from_le_bytes(*index), contacts })
    }
}

/// What the members said, each of which says one thing.
#[derive(Debug, Default)]
pub(crate) struct Vouched(BTreeMap<NodeId, Said>);

impl Vouched {
    /// Takes what a member says, if the log does not know it yet (it is at `index`); whether it is new.
    pub(crate) fn take(&mut self, voice: NodeId, said: Said, index: u64) -> bool {
        if said.index <= index || self.0.get(&voice).is_some_and(|before| said.index < before.index) {
            return false;
        }
        self.0.insert(voice, said.clone()) != Some(said)
    }

    /// Forgets what the log says by now, at `index`, and what those said whom it does not name any more.
    pub(crate) fn settle(&mut self, index: u64, is_known: impl Fn(NodeId) -> bool) {
        self.0.retain(|voice, said| is_known(*voice) && said.index > index);
    }

    /// Everybody that somebody vouched for.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = (NodeId, &Contact)> {
        self.0.values().flat_map(|said| &said.contacts).map(|(id, contact)| (*id, contact))
    }
}

/// Asks the others who the members are, as long as no leader is known.
pub(crate) async fn keep(consensus: Arc<Consensus>, port: Arc<Port>, clock: Arc<dyn Clock>) {
    let is_led = |status: &tresor_consensus::Status| status.leader.is_some().then_some(());
    loop {
        consensus.status().wait_for(|status| status.leader.is_none().then_some(())).await;
        tokio::select! {
            biased;
            () = consensus.status().wait_for(is_led) => continue,
            () = clock.sleep(SILENCE) => {}
        }
        let ask = |id: NodeId| {
            let asked = port.request(id, Bytes::from_static(&[MEMBERS]), WITHIN);
            async move { Some((id, Said::read(asked.await.ok()?.strip_suffix(&[ANSWERED])?)?)) }
        };
        let said = futures_util::future::join_all(port.pinned_others().into_iter().map(ask)).await;
        port.take_vouched(said.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contact(front: u8) -> Contact {
        let address = format!("10.0.0.{front}:8201");
        Contact { name: format!("n{front}"), address, api_address: String::new(), key: vec![front; 32] }
    }

    fn said(index: u64, contacts: &[Contact]) -> Vec<u8> {
        let mut bytes = index.to_le_bytes().to_vec();
        bytes.extend(contacts.iter().flat_map(Contact::spelled));
        bytes
    }

    fn named(vouched: &Vouched) -> Vec<String> {
        vouched.contacts().map(|(_, contact)| contact.name.clone()).collect()
    }

    #[test]
    fn what_is_spelled_wrong_says_nothing() {
        let sound = said(7, &[contact(1), contact(2)]);
        assert_eq!(Said::read(&sound).unwrap().contacts.len(), 2);
        let first = said(7, &[contact(1)]).len();
        for length in (0..sound.len()).filter(|length| ![8, first].contains(length)) {
            assert_eq!(Said::read(&sound[..length]), None, "{length} bytes");
        }
        let none = |contact| assert_eq!(Said::read(&said(7, &[contact])), None);
        none(Contact { key: vec![1; 31], ..contact(1) });
        none(Contact { address: "nowhere".to_owned(), ..contact(1) });
        let many = |count: u16| (0..count).map(|n| Contact { key: n.to_be_bytes().repeat(16), ..contact(1) });
        assert!(Said::read(&said(7, &many(1024).collect::<Vec<_>>())).is_some());
        assert_eq!(Said::read(&said(7, &many(1025).collect::<Vec<_>>())), None, "no cluster has so many");
    }

    #[test]
    fn what_the_log_knows_or_an_older_answer_says_counts_nothing() {
        let read = |index, contacts: &[Contact]| Said::read(&said(index, contacts)).unwrap();
        let mut vouched = Vouched::default();
        assert!(!vouched.take(NodeId(1), read(7, &[contact(3)]), 7), "the log is as new");
        assert!(vouched.take(NodeId(1), read(8, &[contact(3)]), 7));
        assert!(!vouched.take(NodeId(1), read(8, &[contact(3)]), 7), "it said so before");
        assert!(vouched.take(NodeId(1), read(9, &[contact(4)]), 7), "the newer answer counts in its place");
        assert!(!vouched.take(NodeId(1), read(8, &[contact(3)]), 7), "this is the older one again");
        assert_eq!(named(&vouched), ["n4"]);
        assert!(vouched.take(NodeId(2), read(u64::MAX, &[contact(5)]), 7));
        vouched.settle(8, |_| true);
        assert_eq!(named(&vouched), ["n4", "n5"]);
        vouched.settle(9, |_| true);
        assert_eq!(named(&vouched), ["n5"], "the log knows it by itself");
        vouched.settle(9, |voice| voice != NodeId(2));
        assert!(named(&vouched).is_empty(), "what a removed member said counts as little as it does");
    }
}
