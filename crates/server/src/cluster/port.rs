//! The way to the other nodes, as the consensus sees it: the members of the log are those who may connect.
//!
//! A node that the log does not name yet, as it knows the log, also knows those that let it in: the members may have
//! changed since the entries that it has, and whoever leads must reach it. The same holds for a node that was away while
//! others came ([`vouched`](super::vouched)). Deliberately absent: what messages mean.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tresor_consensus::{Contact, Lane, Members as Logged, NodeId, PeerError};
use tresor_env::{BoxFuture, Signal};
use tresor_peers::{AskError, Member, Members, Parting, Peers, PublicKey, Trouble};

use super::adopted::Adopted;
use super::hints::{Hints, Voice};
use super::vouched::{Said, Vouched};

/// Who the members are, and which entry of the log says so.
#[derive(Clone, Default)]
struct Known {
    index: u64,
    contacts: BTreeMap<NodeId, Contact>,
}

/// The other nodes.
pub(crate) struct Port {
    me: NodeId,
    peers: Peers,
    adopted: Adopted,
    /// As the log has them.
    members: Mutex<Known>,
    /// Whom they let in beside.
    vouched: Mutex<Vouched>,
    /// Where else they may be.
    hints: Mutex<Hints>,
    /// How often the members were told.
    told: Signal<u64>,
}

impl Port {
    pub(crate) fn new(me: NodeId, peers: Peers, adopted: Adopted) -> Self {
        let port = Self {
            me,
            peers,
            adopted,
            members: Mutex::default(),
            vouched: Mutex::default(),
            hints: Mutex::default(),
            told: Signal::default(),
        };
        port.admit();
        port
    }

    /// Lets these nodes connect until the log names this one.
    pub(crate) fn adopt(&self, contacts: Vec<Contact>) -> std::io::Result<()> {
        self.adopted.keep(contacts)?;
        self.admit();
        Ok(())
    }

    /// Forgets who let this node in, once the log names it.
    pub(crate) fn settle(&self) {
        let is_named = self.members().contains_key(&self.me);
        if is_named && let Err(error) = self.adopted.forget() {
            tracing::warn!(%error, "the list of who let this node in cannot be removed");
        }
    }

    /// Tells each change of the members, as the log has them.
    pub(crate) const fn told(&self) -> &Signal<u64> {
        &self.told
    }

    fn members(&self) -> BTreeMap<NodeId, Contact> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).contacts.clone()
    }

    /// The members, and who let this node in while the log does not name it.
    fn pinned(&self) -> BTreeMap<NodeId, Contact> {
        let mut members = self.members();
        if !members.contains_key(&self.me) {
            for contact in self.adopted.contacts() {
                if let Some(key) = key(&contact) {
                    members.insert(super::node_id(&key), contact);
                }
            }
        }
        members
    }

    /// Those whose word counts.
    pub(crate) fn pinned_others(&self) -> Vec<NodeId> {
        self.pinned().into_keys().filter(|id| *id != self.me).collect()
    }

    /// Whether the word of who has this key counts.
    pub(crate) fn pins(&self, key: &PublicKey) -> bool {
        self.pinned().values().any(|contact| self::key(contact) == Some(*key))
    }

    /// Takes what members say of who else is one: these may connect, too.
    pub(crate) fn take_vouched(&self, said: impl IntoIterator<Item = (NodeId, Said)>) {
        let pinned = self.pinned();
        let index = self.members.lock().unwrap_or_else(PoisonError::into_inner).index;
        let mut is_any_new = false;
        for (voice, said) in said {
            let mut vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
            if pinned.contains_key(&voice) && vouched.take(voice, said, index) {
                tracing::info!(by = %voice, "there are members that this node does not know, as another one says");
                is_any_new = true;
            }
        }
        if is_any_new {
            self.admit();
        }
    }

    fn admit(&self) {
        let mut members = self.pinned();
        for (id, contact) in self.vouched.lock().unwrap_or_else(PoisonError::into_inner).contacts() {
            if id != self.me {
                members.entry(id).or_insert_with(|| contact.clone());
            }
        }
        let hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let known = members.iter().filter_map(|(id, contact)| {
            let member = Member { key: key(contact)?, addresses: hints.places(*id, &contact.address) };
            Some((tresor_peers::NodeId(id.0), member))
        });
        let set = Members::new(known).map_err(|error| error.to_string());
        let set = set.and_then(|members| self.peers.set_members(members).map_err(|error| error.to_string()));
        if let Err(error) = set {
            tracing::error!(error, "the members of the cluster cannot be let in; those of before are");
        }
    }

    /// Takes hints about members, and tries to find them there, too.
    pub(crate) fn take_hints(&self, voice: &Voice, said: impl IntoIterator<Item = (NodeId, String)>) {
        let members = self.members();
        let mut is_any_new = false;
        for (node, address) in said {
            let is_elsewhere = members.get(&node).is_some_and(|member| member.address != address);
            if is_elsewhere && node != self.me {
                let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
                if hints.take(node, voice.clone(), address.clone()) {
                    tracing::info!(%node, ?voice, address, "a member may be elsewhere than the log says");
                    is_any_new = true;
                }
            }
        }
        if is_any_new {
            self.admit();
        }
    }

    /// Where a member is: what it said itself, or else the log.
    pub(crate) fn place(&self, node: NodeId, logged: &Contact) -> String {
        let hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        hints.own(node).unwrap_or(&logged.address).clone()
    }

    /// Sends the core's messages, and this node's own, to another node.
    pub(crate) fn request(
        &self,
        to: NodeId,
        message: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, AskError>> {
        self.peers.ask(tresor_peers::NodeId(to.0), tresor_peers::Lane::Requests, message, within)
    }

    /// How many other members there are, and how many of them say that this node is none.
    pub(crate) fn refusals(&self) -> (usize, usize) {
        let troubles = self.peers.troubles();
        let is_refusal = |trouble: &Option<Trouble>| {
            matches!(trouble, Some(Trouble::NotAdmitted | Trouble::Parted(Parting::Removed)))
        };
        (troubles.len(), troubles.values().filter(|trouble| is_refusal(trouble)).count())
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        // Without members it cannot fail for two that have one key.
        drop(self.peers.set_members(Members::default()));
    }
}

impl tresor_consensus::Peers for Port {
    fn ask(
        &self,
        to: NodeId,
        _: &Contact,
        lane: Lane,
        message: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, PeerError>> {
        let lane = match lane {
            Lane::Urgent => tresor_peers::Lane::Urgent,
            Lane::Entries => tresor_peers::Lane::Entries,
            Lane::Bulk => tresor_peers::Lane::Bulk,
        };
        let asked = self.peers.ask(tresor_peers::NodeId(to.0), lane, message.into(), deadline);
        Box::pin(async move {
            match asked.await {
                Ok(answer) => Ok(answer.into()),
                Err(error @ (AskError::NotAMember | AskError::TooLong { .. } | AskError::Unreachable(_))) => {
                    Err(PeerError::Unreachable(error.to_string()))
                }
                Err(error @ (AskError::TimedOut | AskError::Lost(_))) => Err(PeerError::Lost(error.to_string())),
                Err(error @ AskError::Declined) => Err(PeerError::Refused(error.to_string())),
            }
        })
    }

    fn know(&self, members: &Logged) {
        let now = Known { index: members.index, contacts: members.contacts() };
        let before = std::mem::replace(&mut *self.members.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).settle(&before.contacts, &now.contacts);
        let pinned = self.pinned();
        let mut vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.settle(now.index, |voice| pinned.contains_key(&voice));
        drop(vouched);
        self.admit();
        self.told.update(|told| *told += 1);
    }
}

/// The key that a node must prove; a contact that was kept has one.
pub(crate) fn key(contact: &Contact) -> Option<PublicKey> {
    Some(PublicKey::new(contact.key.as_slice().try_into().ok()?))
}
