//! What other nodes send, and who answers it: the consensus, the core, or this file.
//!
//! What comes in the lane of requests ends with a byte that says what it is, and so does its answer: the end of a long
//! message is where a byte costs nothing. Deliberately absent: trust in what a message says about its sender, whom the
//! port knows for certain.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use tresor_consensus::{Change, Consensus, Contact, NodeId};
use tresor_core::cluster::join::is_cluster_address;
use tresor_core::cluster::{About, ClusterError, Forwarded, Message};
use tresor_env::{BoxFuture, Tasks};
use tresor_peers::{AskError, Declined, Handler, Lane};
use tresor_wire::API_LEVEL;

use super::hints::Voice;
use super::port::Port;
use super::vouched::Said;

/// The core's message.
const FORWARDED: u8 = 1;
/// The sender's contact is another one.
pub(crate) const CONTACT: u8 = 2;

/// Which release the node is of, by the level of its API.
pub(crate) const RELEASE: u8 = 3;
/// Who the members are, as the node knows them.
pub(crate) const MEMBERS: u8 = 4;
/// The core asks for keys that only memory has.
const KEYS: u8 = 5;
/// The core tells which clients it has served.
const CLIENTS: u8 = 6;

/// What stands before it is the answer.
pub(crate) const ANSWERED: u8 = 1;
/// Nothing was done: nobody is here who could.
pub(crate) const NOBODY: u8 = 2;

/// Where a node is reached, as far as it is known.
pub(crate) type Places = Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// Answers what other nodes send. Where nodes share a store there is no consensus, and messages of the core are all there is.
#[derive(Default)]
pub(crate) struct Inbox {
    /// There is none while the node is being opened; it holds the port, and not the other way round.
    consensus: OnceLock<Weak<Consensus>>,
    /// The same: it holds this.
    port: OnceLock<Weak<Port>>,
    /// Where a node is, if there is no consensus that says it.
    places: OnceLock<Places>,
    forwarded: Mutex<Option<Arc<dyn Forwarded>>>,
    /// What is forwarded runs to its end, whether or not anybody waits for it.
    tasks: Tasks,
}

impl Inbox {
    pub(crate) fn begin(&self, consensus: &Arc<Consensus>, port: &Arc<Port>) {
        // There is one of each.
        drop(self.consensus.set(Arc::downgrade(consensus)));
        drop(self.port.set(Arc::downgrade(port)));
    }

    /// Nodes are found so, since there is no consensus.
    pub(crate) fn find_by(&self, places: Places) {
        // There is one.
        drop(self.places.set(places));
    }

    /// Where a node is reached; nothing where it is not known.
    fn place_of(&self, node: NodeId) -> String {
        let place = match self.consensus() {
            Some(consensus) => consensus.members().nodes.get(&node).map(|member| member.contact.address.clone()),
            None => self.places.get().and_then(|places| places(node)),
        };
        place.unwrap_or_default()
    }

    pub(crate) fn answer_with(&self, handler: Arc<dyn Forwarded>) {
        *self.forwarded.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Takes nothing more of what is forwarded, and waits for what runs, with a bound.
    pub(crate) async fn close(&self, bound: BoxFuture<'static, ()>) {
        drop(self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.tasks.finish(bound).await;
    }

    fn consensus(&self) -> Option<Arc<Consensus>> {
        self.consensus.get()?.upgrade()
    }

    async fn answer_request(&self, from: NodeId, message: Bytes) -> Result<Bytes, Declined> {
        let Some((kind, length)) = message.last().map(|kind| (*kind, message.len() - 1)) else { return Err(Declined) };
        let mut message = Message::new(Vec::from(message));
        message.truncate(length);
        match kind {
            FORWARDED => {
                let handler = self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(handler) = handler else { return Ok(said(NOBODY)) };
                let answer = handler.answer(&self.place_of(from), message);
                Ok(ending_with(self.tasks.see_through(answer).await, ANSWERED))
            }
            KEYS => {
                let handler = self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(handler) = handler else { return Ok(said(NOBODY)) };
                Ok(ending_with(handler.hand_over(message), ANSWERED))
            }
            CLIENTS => {
                let handler = self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(handler) = handler else { return Ok(said(NOBODY)) };
                Ok(ending_with(handler.take_report(message), ANSWERED))
            }
            CONTACT => {
                let Some((contact, [])) = Contact::read(&message) else { return Err(Declined) };
                let Some(consensus) = self.consensus() else { return Ok(said(NOBODY)) };
                let address = contact.address.clone();
                if take_contact(&consensus, from, contact).await {
                    return Ok(said(ANSWERED));
                }
                // Nobody writes it down now; who leads next may have to be reached there.
                if let Some(port) = self.port.get().and_then(Weak::upgrade)
                    && is_cluster_address(&address)
                {
                    port.take_hints(&Voice::Itself, [(from, address)]);
                }
                Ok(said(NOBODY))
            }
            RELEASE if message.is_empty() => Ok(ending_with(Message::new(API_LEVEL.as_bytes().to_vec()), ANSWERED)),
            MEMBERS if message.is_empty() => {
                let Some(consensus) = self.consensus() else { return Ok(said(NOBODY)) };
                Ok(ending_with(Message::new(Said::spelled(&consensus.members())), ANSWERED))
            }
            _ => Err(Declined),
        }
    }
}

/// What the core asks the leader, as it is sent.
pub(crate) fn asking(about: About, message: Message) -> Bytes {
    let kind = match about {
        About::Request => FORWARDED,
        About::Keys => KEYS,
        About::Clients => CLIENTS,
    };
    ending_with(message, kind)
}

/// What the core makes of what became of a message of its own.
pub(crate) fn answered(asked: Result<Bytes, AskError>) -> Result<Message, ClusterError> {
    let answer = asked.map_err(|error| match error {
        AskError::NotAMember | AskError::TooLong { .. } | AskError::Unreachable(_) => {
            ClusterError::Unreachable(error.to_string())
        }
        // Also when the answer was too long, or whoever made it failed.
        AskError::TimedOut | AskError::Lost(_) | AskError::Declined => ClusterError::Uncertain,
    })?;
    let mut answer = Message::new(Vec::from(answer));
    match answer.pop() {
        Some(ANSWERED) => Ok(answer),
        _ => Err(ClusterError::Unreachable("it does not serve yet".to_owned())),
    }
}

fn said(what: u8) -> Bytes {
    Bytes::copy_from_slice(&[what])
}

/// A message of the core with the byte that says what it is; zeroized when nobody needs it any more.
pub(crate) fn ending_with(mut message: Message, kind: u8) -> Bytes {
    if message.len() == message.capacity() {
        // Growing in place could leave a copy behind that nobody zeroizes.
        let mut larger = Message::new(Vec::with_capacity(message.len() + 1));
        larger.extend_from_slice(&message);
        message = larger;
    }
    message.push(kind);
    Bytes::from_owner(message)
}

/// Takes a member's new contact, as the leader; tells whether it stands.
async fn take_contact(consensus: &Consensus, from: NodeId, contact: Contact) -> bool {
    // Another key would be another node.
    if consensus.members().nodes.get(&from).is_none_or(|member| member.contact.key != contact.key) {
        return false;
    }
    match consensus.change(Change::Contact(from, contact)).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(node = %from, %error, "the node's contact is not changed");
            false
        }
    }
}

impl Handler for Inbox {
    fn answer(&self, from: tresor_peers::NodeId, lane: Lane, message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>> {
        let from = NodeId(from.0);
        match lane {
            Lane::Urgent | Lane::Entries | Lane::Bulk => match self.consensus() {
                Some(consensus) => {
                    let answer = consensus.answer(from, message.into());
                    Box::pin(async move { Ok(answer.await.into()) })
                }
                None => Box::pin(std::future::ready(Err(Declined))),
            },
            Lane::Requests => Box::pin(self.answer_request(from, message)),
        }
    }
}
