//! The library's parameters: what an entry, a node and a state are to it.
//!
//! Deliberately absent: behaviour.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::RaftTypeConfig;
use tokio::sync::oneshot;
use tresor_storage::machine::{Effect, Export, Install};
use tresor_storage::{Batch, Version};

use crate::peers::{Contact, NodeId};
use crate::runtime::Runtime;

/// What is on its way into the log.
#[derive(Clone)]
pub(crate) enum Proposal {
    Batch(Arc<Batch>, Proposer),
    /// See [`Change::Restore`](tresor_storage::machine::Change::Restore).
    Restore {
        version: Version,
        pieces: u32,
    },
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(batch, _) => write!(f, "batch {}", batch.version.0),
            Self::Restore { version, pieces } => write!(f, "restore {} from {pieces} pieces", version.0),
        }
    }
}

/// Who waits for what becomes of a batch; nobody where it came from another node, or from the disk.
#[derive(Clone, Default)]
pub(crate) struct Proposer(Option<Arc<Mutex<Option<oneshot::Sender<Effect>>>>>);

impl Proposer {
    /// Somebody, who is told once at most.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Effect>) {
        let (sender, told) = oneshot::channel();
        (Self(Some(Arc::new(Mutex::new(Some(sender))))), told)
    }

    /// Whether somebody waits.
    pub(crate) const fn is_somebody(&self) -> bool {
        self.0.is_some()
    }

    /// Tells what became of it.
    pub(crate) fn tell(&self, effect: Effect) {
        let waiting = self.0.as_ref().and_then(|sender| sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Who does not wait any more need not know.
        let _ = waiting.map(|sender| sender.send(effect));
    }
}

/// A state on its way.
pub(crate) enum State {
    /// Only what it holds is told: the machine is asked for the rest when somebody needs it.
    Named,
    /// To another node.
    Out(Box<dyn Export>),
    /// From another node.
    In(Box<dyn Install>),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("state")
    }
}

/// What the library is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = Effect;
    type NodeId = NodeId;
    type Node = Contact;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = State;
    type AsyncRuntime = Runtime;
    type Responder = openraft::impls::OneshotResponder<Self>;
}

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Membership = openraft::Membership<NodeId, Contact>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Contact>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type Raft = openraft::Raft<Types>;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, NodeId::default()), index)
}
