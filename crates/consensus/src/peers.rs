//! The door to the other nodes: messages there and answers back.
//!
//! Deliberately absent: connections, certificates and what is in a message; those who carry it take it as bytes.

use std::fmt;
use std::time::Duration;

use tresor_env::BoxFuture;

use crate::members::Members;

/// The longest message: one batch of the committer, and what is around it.
pub const MESSAGE_BYTES_MAX: usize = 80 << 20;

/// A node of the cluster, for its life, whatever its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// How a node is reached and known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The name that an operator gave it.
    pub name: String,
    /// Host and port; may change.
    pub address: String,
    /// Where its clients reach it, with scheme; empty where that is not known. May change.
    pub api_address: String,
    /// Its public key, as those who carry messages spell it.
    pub key: Vec<u8>,
}

/// What kind of message it is: none may delay one of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent.
    Urgent,
    /// Entries of the log.
    Entries,
    /// A chunk of a state, one of many.
    Bulk,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// It was certainly not delivered.
    #[error("the node is not reached: {0}")]
    Unreachable(String),
    /// Nobody knows whether it was.
    #[error("no answer came: {0}")]
    Lost(String),
    /// The node does not take messages from here.
    #[error("the node refuses: {0}")]
    Refused(String),
}

/// Messages to other nodes. Whoever implements it hands what arrives to [`crate::Consensus::answer`].
pub trait Peers: Send + Sync + 'static {
    /// Sends a message to a node and waits for its answer, at most `deadline`. Nothing is sent twice.
    fn ask(
        &self,
        to: NodeId,
        contact: &Contact,
        lane: Lane,
        message: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, PeerError>>;

    /// Who may send messages from now on, and how they are reached.
    fn know(&self, members: &Members);
}

/// The others of a node that is alone.
pub struct Nobody;

impl Peers for Nobody {
    fn ask(
        &self,
        _: NodeId,
        _: &Contact,
        _: Lane,
        _: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, PeerError>> {
        Box::pin(std::future::ready(Err(PeerError::Unreachable("there is nobody".to_owned()))))
    }

    fn know(&self, _: &Members) {}
}
