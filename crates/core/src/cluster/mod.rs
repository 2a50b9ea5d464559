//! The door to the other nodes: who leads, who belongs to the cluster, and messages to the leader.
//!
//! The core knows nodes by their names, keys and addresses. What agrees, and what carries messages, is behind this door
//! (`tresor-server` puts consensus and the cluster port there). [`Alone`] is the door of every store that has no other nodes.
//! Deliberately absent: entries, votes, and anything that is stored.

pub mod announced;
pub mod autopilot;
pub mod finding;
pub mod join;
pub mod joining;
pub mod membership;
pub mod roster;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use tresor_barrier::JoinKey;
use tresor_env::BoxFuture;
use tresor_metrics::Reading;
use tresor_model::fault::{Failure, Side};
use tresor_model::{Fault, Refusal};

use self::join::Admitted;

/// What a node is in its cluster now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads: a majority has answered it lately, and it has everything that was ever acknowledged.
    Leads {
        /// In which term. Nobody else ever leads in it.
        term: u64,
    },
    /// It follows a leader that it has heard lately.
    Follows(Contact),
    /// It knows of no leader.
    Leaderless,
}

impl Standing {
    /// Whether the node leads.
    #[must_use]
    pub const fn leads(&self) -> bool {
        matches!(self, Self::Leads { .. })
    }
}

/// How a node is known and reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The name that the operator gave it, or one that was made of its key.
    pub name: String,
    /// The public half of its key, which it has for life.
    pub key: [u8; 32],
    /// Host and port of its cluster port; may change.
    pub cluster_address: String,
    /// Its API, with scheme; empty where it is not known. May change.
    pub api_address: String,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").field("name", &self.name).field("at", &self.cluster_address).finish_non_exhaustive()
    }
}

/// Where a member is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Which one, by its key.
    pub key: [u8; 32],
    /// Host and port of its cluster port.
    pub cluster_address: String,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub contact: Contact,
    /// Whether it votes, and does so whatever becomes of a change that is under way.
    pub is_voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// When the leader last heard it: known on the leader alone.
    pub heard_ago: Option<Duration>,
    /// Up to which entry it has the log: known on the leader alone.
    pub matched: Option<Entry>,
    /// The level of the API that its release has: known on the leader alone, and not at once.
    pub version: Option<String>,
}

/// An entry of the log, by its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that wrote it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

/// A change of the members. Nodes are called by their names.
#[derive(Debug)]
pub enum Change {
    /// A new node, which has proven that it may be one, gets the log, and has no vote.
    Add(Admitted),
    /// A node gets a vote.
    Promote(String),
    /// A node loses its vote, and goes on getting the log.
    Demote(String),
    /// A node is one no more.
    Remove(String),
}

/// What has to be applied before a request may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Everything.
    Everything,
    /// Everything but what was written to the data of secrets engines behind the last change of anything else: tokens, leases,
    /// policies, mounts, what auth methods keep, keys, the time. So who may do what is as new as ever, and what is read is
    /// what was stored at some moment since that change.
    AllButData,
}

/// How far a node has come with the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The last entry that it has.
    pub last: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// The entry that says who the members are.
    pub members: u64,
}

/// Why the cluster did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no leader that a majority confirms. Nothing was done.
    #[error("the cluster has no leader, or too few of its nodes answer")]
    NoLeader,
    /// What is needed has not arrived here in time. Nothing was done.
    #[error("this node lags behind the leader")]
    Behind,
    /// The message was not sent. Nothing was done.
    #[error("the leader is not reached: {0}")]
    Unreachable(String),
    /// The message may have arrived, or the change may be made: nobody knows.
    #[error("no answer came; whether it was done is not known")]
    Uncertain,
    /// This node does not lead. Nothing was done.
    #[error("this node does not lead")]
    NotLeader,
    /// No other node took over in time: this one leads on.
    #[error("no other node took over in time; this one leads on")]
    NotTakenOver,
    /// The change makes no sense, or another is under way.
    #[error("the members cannot be changed: {0}")]
    Refused(String),
    /// The node was closed, or its disk failed.
    #[error("the node stopped: {0}")]
    Stopped(String),
}

impl From<ClusterError> for Fault {
    fn from(error: ClusterError) -> Self {
        let text = error.to_string();
        match error {
            // Nothing was done, and may be done where it can.
            ClusterError::NotLeader => Self::Refusal(Refusal::Elsewhere),
            ClusterError::NoLeader
            | ClusterError::Behind
            | ClusterError::Unreachable(_)
            | ClusterError::NotTakenOver => Self::Refusal(Refusal::Unavailable(text.into())),
            ClusterError::Refused(_) => Self::invalid(text),
            ClusterError::Uncertain => {
                let public = Some(text.into());
                Self::Failure(Failure { cause: Box::new(error), side: Side::Ours, public })
            }
            ClusterError::Stopped(_) => Self::internal(error),
        }
    }
}

/// What nodes forward to each other, secrets among it; zeroized when dropped.
pub type Message = tresor_record::Encoded;

/// What a message to the leader is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A request that is passed on.
    Request,
    /// Keys that are in the leader's memory only.
    Keys,
    /// Which clients a node has served; the leader says which are stored.
    Clients,
}

/// The cluster, as the core sees it. What no door says otherwise is so where there are no other nodes, or where they come and go by
/// themselves.
pub trait Cluster: Send + Sync {
    /// Whether there can be other nodes at all.
    fn is_enabled(&self) -> bool;

    /// Whether the nodes agree on a log that each has for itself: then every node answers reads, and nodes join and leave.
    /// Where there are other nodes and no log, they share a store, and whoever leads answers everything.
    fn has_log(&self) -> bool {
        self.is_enabled()
    }

    /// The node was unsealed. All that could open the store have this key in common, until the node is sealed.
    fn open_with(&self, _: JoinKey) {}

    /// This node.
    fn me(&self) -> Contact;

    /// What it is now.
    fn standing(&self) -> Standing;

    /// Whether its store failed it, so that it neither leads nor follows before it is started again, while others go on.
    fn is_out_of_service(&self) -> bool {
        false
    }

    /// Completes when it is something else than `known`.
    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing>;

    /// Afterwards what is needed of everything that was acknowledged anywhere before is applied here; how many entries of the
    /// log are not. What is needed has so long to arrive.
    ///
    /// # Errors
    /// [`ClusterError::NoLeader`], [`ClusterError::Stopped`], or [`ClusterError::Behind`].
    fn confirm(&self, needed: Needed, within: Duration) -> BoxFuture<'_, Result<u64, ClusterError>>;

    /// Sends a message to the leader, and gives its answer. Nothing is sent twice: after [`ClusterError::Unreachable`] and
    /// [`ClusterError::NoLeader`] it is for the caller to try again.
    ///
    /// # Errors
    /// [`ClusterError`]; [`ClusterError::NotLeader`] when this node leads meanwhile.
    fn ask_leader(&self, _: About, _: Message, _: Duration) -> BoxFuture<'_, Result<Message, ClusterError>> {
        Box::pin(std::future::ready(Err(ClusterError::NotLeader)))
    }

    /// Who answers what other nodes ask, from now on.
    fn answer_with(&self, _: Arc<dyn Forwarded>) {}

    /// Lets another node lead, and completes when it does.
    ///
    /// # Errors
    /// When there is no other that could, or this node does not lead.
    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Err(self.refusal())))
    }

    /// A sealed node takes the log and votes, and does not campaign while there are others.
    fn set_sealed(&self, _is_sealed: bool) {}

    /// The members, as this node knows them.
    fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    /// Why nobody changes the members, where nobody does.
    fn refusal(&self) -> ClusterError {
        ClusterError::Refused("the storage has no other nodes".to_owned())
    }

    /// Changes the members; on the leader only.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn change(&self, _: Change) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Err(self.refusal())))
    }

    /// Whether this node belongs to a cluster: it founded one, or a leader has sent it entries.
    fn is_member(&self) -> bool {
        true
    }

    /// Whether it belonged to a cluster and was removed, as far as it can know: it may not have been told.
    fn is_removed(&self) -> bool {
        false
    }

    /// This node's signature that a node was removed from the cluster for good.
    fn sign_removal(&self, _of: &[u8; 32]) -> Vec<u8> {
        Vec::new()
    }

    /// Somebody says that this node was removed; whether it is a member, as far as this node knows, and signed that.
    fn hear_of_removal(&self, _by: &[u8; 32], _signature: &[u8]) -> bool {
        false
    }

    /// Lets these nodes send entries to this one, which belongs to no cluster yet, until the log says who the members are.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] when it belongs to one.
    fn adopt(&self, _members: Vec<Contact>) -> Result<(), ClusterError> {
        Err(self.refusal())
    }

    /// Where the members are, this node among them: what the log says, or what they have said themselves since.
    fn whereabouts(&self) -> Vec<Whereabouts> {
        Vec::new()
    }

    /// Somebody, whose word is good for nothing else, says where members are: they are looked for there, too, until the log
    /// says something new of them. Who is there has to prove the key that is known.
    fn hint(&self, _source: &str, _said: Vec<Whereabouts>) {}

    /// How far it has come.
    fn indexes(&self) -> Indexes {
        Indexes::default()
    }

    /// What agreeing took on this node so far, by the names that dashboards know.
    fn figures(&self) -> Vec<Reading> {
        Vec::new()
    }
}

/// Answers what other nodes forward.
pub trait Forwarded: Send + Sync {
    /// Answers a message of a member, whose cluster address this is, as the port knows it; empty where it does not. It runs to its
    /// end, whether or not the other still waits.
    fn answer(&self, from: &str, message: Message) -> BoxFuture<'static, Message>;

    /// Answers a member that asks for keys which are in memory only.
    fn hand_over(&self, message: Message) -> Message;

    /// Answers a member that tells which clients it has served.
    fn take_report(&self, message: Message) -> Message;
}

/// The cluster of a store without other nodes: this one leads it for ever.
#[derive(Default)]
pub struct Alone {
    /// Where clients reach this node; empty when unknown.
    pub api_address: String,
}

impl Cluster for Alone {
    fn is_enabled(&self) -> bool {
        false
    }

    fn me(&self) -> Contact {
        let api_address = self.api_address.clone();
        Contact { name: String::new(), key: [0; 32], cluster_address: String::new(), api_address }
    }

    fn standing(&self) -> Standing {
        Standing::Leads { term: 0 }
    }

    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing> {
        let standing = self.standing();
        if known == standing { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(standing)) }
    }

    fn confirm(&self, _: Needed, _: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(std::future::ready(Ok(0)))
    }
}
