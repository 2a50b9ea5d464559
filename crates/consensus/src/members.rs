//! Who the members are, and changes of that.
//!
//! Deliberately absent: who decides about a change, and when (that is an operator, or the autopilot).

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;

use crate::peers::{Contact, NodeId};
use crate::types::{LogId, Membership};

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// How it is reached.
    pub contact: Contact,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it does so whatever becomes of a change that is under way.
    pub is_seated: bool,
}

/// The members, as this node has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// By id.
    pub nodes: BTreeMap<NodeId, Member>,
    /// The entry that says so; 0 before any does.
    pub index: u64,
    /// Sets of voters, of each of which there must be a majority: two while a change is under way.
    configurations: Vec<BTreeSet<NodeId>>,
}

impl Members {
    pub(crate) fn of(at: Option<LogId>, membership: &Membership) -> Self {
        let configurations = membership.get_joint_config().clone();
        let is_voter = |id: &NodeId| configurations.iter().any(|voters| voters.contains(id));
        let is_seated = |id: &NodeId| configurations.iter().all(|voters| voters.contains(id));
        let node = |(id, contact): (&NodeId, &Contact)| {
            (*id, Member { contact: contact.clone(), is_voter: is_voter(id), is_seated: is_seated(id) })
        };
        Self { nodes: membership.nodes().map(node).collect(), index: at.map_or(0, |at| at.index + 1), configurations }
    }

    /// Whether a change of the voters is half done.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.configurations.len() > 1
    }

    /// Whether these are enough to decide.
    #[must_use]
    pub fn is_quorum(&self, of: &BTreeSet<NodeId>) -> bool {
        let agrees = |voters: &BTreeSet<NodeId>| voters.intersection(of).count() > voters.len() / 2;
        !self.configurations.is_empty() && self.configurations.iter().all(agrees)
    }

    /// Whether a node votes.
    #[must_use]
    pub fn votes(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|member| member.is_voter)
    }

    /// The voters but one.
    pub(crate) fn voters_beside(&self, me: NodeId) -> impl Iterator<Item = (NodeId, &Contact)> {
        let others = self.nodes.iter().filter(move |(id, member)| member.is_voter && **id != me);
        others.map(|(id, member)| (*id, &member.contact))
    }

    /// How each is reached and known.
    #[must_use]
    pub fn contacts(&self) -> BTreeMap<NodeId, Contact> {
        self.nodes.iter().map(|(id, member)| (*id, member.contact.clone())).collect()
    }
}

/// A change of the members.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new node gets the log, and has no vote.
    Add(NodeId, Contact),
    /// A node gets a vote.
    Promote(NodeId),
    /// A node loses its vote, and goes on getting the log.
    Demote(NodeId),
    /// A node is one no more.
    Remove(NodeId),
    /// A node is reached elsewhere, or has another key.
    Contact(NodeId, Contact),
}

impl Change {
    /// Whom it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        match self {
            Self::Add(id, _) | Self::Promote(id) | Self::Demote(id) | Self::Remove(id) | Self::Contact(id, _) => *id,
        }
    }

    /// Whether it takes a node's vote.
    pub(crate) const fn unseats(&self) -> bool {
        matches!(self, Self::Demote(_) | Self::Remove(_))
    }

    /// As the library says it, one change after the other; text when it makes no sense.
    ///
    /// A voter that is removed loses its vote first and stays a member for that long. The library can do both at once, but
    /// takes everybody along then whose own demotion is half done.
    pub(crate) fn asked(self, members: &Members) -> Result<Vec<ChangeMembers<NodeId, Contact>>, String> {
        let id = self.node();
        let member = members.nodes.get(&id);
        // Operators know a member by its name.
        let called = member.map_or_else(|| id.to_string(), |member| member.contact.name.clone());
        if matches!(self, Self::Add(..)) == member.is_some() {
            return Err(if member.is_some() {
                format!("{called} is a member")
            } else {
                format!("{called} is no member")
            });
        }
        // Here, since what was looked at before may have changed since: two nodes may join at once.
        if let Self::Add(_, contact) | Self::Contact(_, contact) = &self
            && members.nodes.iter().any(|(other, member)| *other != id && member.contact.name == contact.name)
        {
            return Err(format!("another node is called {}", contact.name));
        }
        let is_voter = member.is_some_and(|member| member.is_voter);
        let voters = members.nodes.values().filter(|member| member.is_voter).count();
        if self.unseats() && is_voter && voters == 1 {
            return Err(format!("{called} has the only vote"));
        }
        Ok(match self {
            Self::Add(id, contact) => vec![ChangeMembers::AddNodes([(id, contact)].into())],
            Self::Promote(_) if is_voter => return Err(format!("{called} votes already")),
            Self::Promote(id) => vec![ChangeMembers::AddVoterIds([id].into())],
            Self::Demote(_) if !is_voter => return Err(format!("{called} has no vote")),
            Self::Demote(id) => vec![ChangeMembers::RemoveVoters([id].into())],
            Self::Remove(id) if is_voter => {
                vec![ChangeMembers::RemoveVoters([id].into()), ChangeMembers::RemoveNodes([id].into())]
            }
            Self::Remove(id) => vec![ChangeMembers::RemoveNodes([id].into())],
            Self::Contact(id, contact) => vec![ChangeMembers::SetNodes([(id, contact)].into())],
        })
    }
}
