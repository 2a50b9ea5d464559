//! Agreement between nodes: one log, the same on each, whose committed entries feed a machine on each.
//!
//! An adapter around a consensus library: what a node stores is our log, what entries mean is the machine's
//! ([`tresor_storage::Machine`]), what carries messages is [`Peers`], and all time is the clock door's: who campaigns
//! and when, who is asked before, when a leader stops to call itself one, how leadership is handed over. No type of the
//! library is seen outside. Deliberately absent: connections, what is stored, and who may be a member.

mod alone;
mod answer;
mod campaign;
mod consensus;
mod feed;
mod figures;
mod hand_over;
mod log_store;
mod members;
mod message;
mod network;
mod peers;
mod reads;
mod recover;
mod restore;
mod runtime;
mod spelled;
mod status;
mod store;
#[cfg(test)]
mod suite;
mod types;
mod unfinished;

use std::time::Duration;

pub use consensus::{Consensus, Opening};
pub use members::{Change, Member, Members};
pub use peers::{Contact, Lane, MESSAGE_BYTES_MAX, Nobody, NodeId, PeerError, Peers};
pub use reads::Confirmed;
pub use recover::Survivor;
pub use status::{Indexes, Progress, Role, Status};
pub use store::RaftStore;
use tresor_storage::StoreError;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often a leader makes itself heard.
    pub heartbeat: Duration,
    /// How long a node hears nothing before it campaigns, at least; up to twice as long, by chance.
    pub election: Duration,
    /// How long a message without entries may take.
    pub urgent: Duration,
    /// How long a message with entries, or a chunk, may take: the other's disk included.
    pub entries: Duration,
    /// How long a proposal or a confirmation may take.
    pub proposal: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(400),
            urgent: Duration::from_millis(300),
            entries: Duration::from_secs(5),
            proposal: Duration::from_secs(10),
        }
    }
}

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its log does not.
    #[error("the log does not open")]
    Log(#[from] tresor_log::LogError),
    /// Its machine cannot be read.
    #[error("the machine cannot be read")]
    Machine(#[from] StoreError),
    /// What the log or the machine holds was not written by this version.
    #[error("`{what}` is not spelled as this version spells it")]
    Spelling {
        /// What.
        what: &'static str,
    },
    /// The nodes that are left, as an operator names them, cannot be the members.
    #[error("the named nodes cannot become the members: {0}")]
    Survivors(String),
    /// The library refuses what it found.
    #[error("the node does not start: {0}")]
    Inconsistent(String),
}

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsensusError {
    /// This node does not lead. It is certain that nothing was done.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// Nobody knows whether it was done, or ever will be.
    #[error("it took too long; whether it was done is not known")]
    Uncertain,
    /// It was not confirmed in time by enough nodes that there is a leader. Nothing was done.
    #[error("too few nodes answer")]
    NoQuorum,
    /// The change of members makes no sense.
    #[error("the members cannot be changed: {0}")]
    Members(String),
    /// The node stopped, because its disk failed or because it was closed.
    #[error("the node stopped: {0}")]
    Stopped(String),
}
