//! Who belongs to the cluster: for each node its pinned key and where it is reached.
//!
//! Invariant: a key belongs to one node, so whoever proves a key has proven who it is. Deliberately absent: votes and
//! roles, which are the consensus's.

use std::collections::BTreeMap;
use std::fmt;

use crate::key::PublicKey;

/// A node of the cluster: the same for its life, whatever its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a node is known and reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key that it must prove.
    pub key: PublicKey,
    /// Host and port of its cluster port, and where else it may be; tried in turn. May change, those of all nodes at once
    /// too.
    pub addresses: Vec<String>,
}

/// Two nodes were said to have one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nodes {0} and {1} have the same key")]
pub struct KeyTwice(pub NodeId, pub NodeId);

/// All nodes of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    nodes: BTreeMap<NodeId, Member>,
    keys: BTreeMap<PublicKey, NodeId>,
}

impl Members {
    /// A membership of these nodes; of a node that is named twice the last word counts.
    ///
    /// # Errors
    /// [`KeyTwice`] when two of them have one key.
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Member)>) -> Result<Self, KeyTwice> {
        let nodes: BTreeMap<NodeId, Member> = nodes.into_iter().collect();
        let mut keys = BTreeMap::new();
        for (node, member) in &nodes {
            if let Some(other) = keys.insert(member.key, *node) {
                return Err(KeyTwice(other, *node));
            }
        }
        Ok(Self { nodes, keys })
    }

    /// How a node is known and reached.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.nodes.get(&node)
    }

    /// Whose key this is.
    #[must_use]
    pub fn holder(&self, key: &PublicKey) -> Option<NodeId> {
        self.keys.get(key).copied()
    }

    /// All nodes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.nodes.iter().map(|(node, member)| (*node, member))
    }
}
