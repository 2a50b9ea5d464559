//! Messages between the nodes of a cluster.
//!
//! A node has a key for life ([`NodeKey`]); the membership pins the public half of it beside the node's address
//! ([`Members`]). [`Peers`] listens on the cluster port and asks other nodes, over mutual TLS 1.3 in which both sides are
//! verified against the pinned keys alone. Each kind of message ([`Lane`]) has a connection of its own, so that chunks of
//! a snapshot delay no heartbeat. Deliberately absent: what messages mean, who decides about the membership, and names,
//! authorities or anything else of the system's trust.

mod accept;
mod certificate;
pub mod frame;
#[cfg(test)]
mod hostile;
mod key;
mod lane;
mod line;
mod members;
mod peers;
mod pulse;
mod serve;
mod stream;
mod tls;
mod trouble;

pub use key::{NodeKey, NodeKeyError, PublicKey};
pub use lane::Lane;
pub use members::{KeyTwice, Member, Members, NodeId};
pub use peers::{Declined, Handler, Peers, PeersError, Timing};
pub use trouble::{AskError, Parting, Trouble};
