//! What a node is at the moment.
//!
//! A node calls itself the leader only while a majority has answered it lately and it has applied an entry of its own
//! term: then it has everything that was ever committed. Deliberately absent: history.

use std::time::Duration;

use tresor_storage::machine::Position;

use crate::peers::NodeId;

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has no vote, or no members yet.
    #[default]
    Learner,
    /// It votes, and follows or waits.
    Follower,
    /// It would lead, and is not known to.
    Candidate,
    /// It leads.
    Leader,
    /// It does nothing any more, because its disk failed or because it was closed.
    Stopped,
}

/// How another node is doing, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How long ago it was sent something that it answered; `None` when it has not answered since this node leads.
    pub heard_ago: Option<Duration>,
    /// Up to which entry it has the log.
    pub matched: Position,
}

/// How far a node has come with the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The last entry that it has.
    pub last: Position,
    /// The last entry that it knows to be committed, and has begun to apply.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
}

/// What a node knows of itself and of the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// In which term.
    pub term: u64,
    /// Who leads, if that one was heard lately.
    pub leader: Option<NodeId>,
}

impl Status {
    /// Whether the node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}
