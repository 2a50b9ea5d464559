//! This node among others: the log that they agree on, the port where they talk to it, and the core's door to both.
//!
//! Who the members are is what the log says; whoever is none is refused by the port. Deliberately absent: who may become
//! a member, which the core decides, and what is stored.

mod adopted;
mod contact;
mod door;
mod hints;
pub(crate) mod inbox;
mod peers_file;
mod port;
mod releases;
#[cfg(test)]
mod tests;
mod vouched;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tresor_consensus::{Consensus, ConsensusError, Contact, NodeId, OpenError, Opening, Pace, RaftStore};
use tresor_core::cluster::Cluster;
use tresor_env::tasks::FINISH_BOUND;
use tresor_env::{Clock, Doors, Signal, Tasks};
use tresor_peers::{NodeKey, Peers, PeersError, PublicKey, Timing};
use tresor_storage::Machine;
use tresor_storage_file::Sizes;

use self::adopted::Adopted;
use self::inbox::Inbox;
use self::peers_file::{PeersFile, PeersFileError};
use self::port::Port;
use self::releases::Releases;

pub(crate) use self::contact::{advertised, reachable};

/// Where the log of a node lies within its directory.
pub(crate) const RAFT_DIRECTORY: &str = "raft";

/// How often a leader that is sealed tries to let another lead.
const GIVE_WAY_AGAIN: Duration = Duration::from_secs(1);

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct NodeOpening {
    /// Its data directory.
    pub directory: PathBuf,
    /// What the operator calls it; named after its key when absent.
    pub name: Option<String>,
    /// Where other nodes reach it from here: the cluster port. Nowhere when it is to be alone.
    pub listen: Option<SocketAddr>,
    /// Host and port that the others are told; the address that it really listens on when absent.
    pub address: Option<String>,
    /// Its API, with scheme; empty where it is not known.
    pub api_address: String,
}

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] tresor_peers::NodeKeyError),
    /// The cluster port.
    #[error(transparent)]
    Port(#[from] PeersError),
    /// The log, or the machine.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// What an operator says of the members.
    #[error(transparent)]
    PeersFile(#[from] PeersFileError),
    /// It cannot serve.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// It is configured to be alone, and is not.
    #[error(
        "this node belongs to a cluster with other nodes, and `disable_clustering` keeps it from them: without that \
         setting it starts as one of them"
    )]
    NotAlone,
}

/// This node of a cluster, to its end.
pub struct Nodes {
    me: NodeId,
    key: NodeKey,
    contact: Contact,
    /// A member has said that this node was removed.
    is_told_removed: AtomicBool,
    consensus: Arc<Consensus>,
    port: Arc<Port>,
    releases: Arc<Releases>,
    inbox: Arc<Inbox>,
    clock: Arc<dyn Clock>,
    is_sealed: Arc<Signal<bool>>,
    tasks: Tasks,
}

impl Nodes {
    /// Opens a node: its key, the port, the log. What was ever acknowledged by a node that is alone is there when this
    /// returns; any other one finds its leader by itself. It counts as sealed.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open(doors: &Doors, opening: NodeOpening, machine: Arc<dyn Machine>) -> Result<Arc<Self>, NodeError> {
        let NodeOpening { directory, name, listen, address, api_address } = opening;
        let key = NodeKey::open(&*doors.disk, &directory, &*doors.entropy)?;
        let me = node_id(&key.public());
        let inbox = Arc::new(Inbox::default());
        let peers = Peers::new(doors, &key, Arc::<Inbox>::clone(&inbox), Timing::default())?;
        let listens = match listen {
            Some(address) => Some(peers.listen(address).await?),
            None => None,
        };
        let contact = Contact {
            name: name.unwrap_or_else(|| me.to_string()),
            address: address.or_else(|| reachable(listens?)).unwrap_or_default(),
            api_address,
            key: key.public().bytes().to_vec(),
        };
        let adopted = Adopted::open(&doors.disk, &directory);
        let port = Arc::new(Port::new(me, peers, adopted));
        let directory = directory.join(RAFT_DIRECTORY);
        let peers_file = PeersFile::read(&*doors.disk, &directory)?;
        let opening = Opening {
            me,
            directory,
            sizes: Sizes::default(),
            pace: Pace::default(),
            is_sealed: true,
            survivors: peers_file.as_ref().map(|file| file.survivors.clone()).unwrap_or_default(),
        };
        let consensus = Consensus::open(doors, opening, machine, Arc::<Port>::clone(&port)).await?;
        if let Some(file) = peers_file {
            file.put_away(&*doors.disk)?;
        }
        let consensus = Arc::new(consensus);
        inbox.begin(&consensus, &port);
        // What was acknowledged is to be seen before anybody asks.
        consensus.settled().await?;
        if listen.is_none() && consensus.has_others().await? {
            return Err(NodeError::NotAlone);
        }
        let tasks = Tasks::new();
        let told = contact::Teller { me, contact: contact.clone(), clock: Arc::clone(&doors.clock) };
        tasks.spawn(told.keep(Arc::clone(&consensus), Arc::clone(&port)));
        let (clock, is_sealed) = (Arc::clone(&doors.clock), Arc::new(Signal::new(true)));
        tasks.spawn(give_way_while_sealed(me, Arc::clone(&consensus), Arc::clone(&is_sealed), Arc::clone(&clock)));
        tasks.spawn(vouched::keep(Arc::clone(&consensus), Arc::clone(&port), Arc::clone(&clock)));
        let releases = Arc::<Releases>::default();
        let asking = Arc::clone(&releases).keep(me, Arc::clone(&consensus), Arc::clone(&port), Arc::clone(&clock));
        tasks.spawn(asking);
        let nodes = Arc::new(Self {
            me,
            key,
            contact,
            is_told_removed: AtomicBool::new(false),
            consensus,
            port,
            releases,
            inbox,
            clock,
            is_sealed,
            tasks,
        });
        nodes.tasks.spawn(say_when_removed(Arc::downgrade(&nodes), Arc::clone(&nodes.clock)));
        Ok(nodes)
    }

    /// What is agreed on, as a store.
    #[must_use]
    pub fn store(&self) -> RaftStore {
        RaftStore::new(Arc::clone(&self.consensus), self.contact.clone())
    }

    /// How it is known and reached.
    #[must_use]
    pub const fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Lets another node lead, if this one does and another votes; so nobody waits for a node that goes away.
    pub async fn leave(&self) {
        match give_way(self.me, &self.consensus).await {
            Some(Ok(leader)) => tracing::info!(%leader, "another node leads now"),
            Some(Err(error)) => tracing::warn!(%error, "no other node took over; one will when this one is gone"),
            None => {}
        }
    }

    /// Ends everything that this node does among others: nothing is proposed, answered or applied by it any more when
    /// this completes.
    pub async fn close(&self) {
        self.tasks.finish(Box::pin(std::future::ready(()))).await;
        self.inbox.close(self.clock.sleep(FINISH_BOUND)).await;
        tokio::select! {
            () = self.consensus.close() => {}
            // It waits for a disk that hangs; what it was writing is nothing that anybody was told.
            () = self.clock.sleep(FINISH_BOUND) => {}
        }
        self.port.close();
    }
}

/// How often a node looks whether it was removed.
const LOOK: Duration = Duration::from_secs(5);

/// Tells the operator once when the others know this node no more.
async fn say_when_removed(nodes: Weak<Nodes>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(LOOK).await;
        let Some(nodes) = nodes.upgrade() else { return };
        if nodes.is_removed() {
            tracing::error!("this node was removed from its cluster: it joins again once its directory is empty");
            return;
        }
    }
}

/// Lets another node lead, if this one does and another votes.
async fn give_way(me: NodeId, consensus: &Consensus) -> Option<Result<NodeId, ConsensusError>> {
    let members = consensus.members();
    let has_others = members.nodes.iter().any(|(id, member)| member.is_voter && *id != me);
    if !has_others || !consensus.status().read(|status| status.is_leader()) {
        return None;
    }
    Some(consensus.hand_over().await)
}

/// Lets another node lead as soon as this one is sealed, and as long as it is: it serves nobody. Where all are sealed the next
/// one that is opened is to lead.
async fn give_way_while_sealed(
    me: NodeId,
    consensus: Arc<Consensus>,
    is_sealed: Arc<Signal<bool>>,
    clock: Arc<dyn Clock>,
) {
    loop {
        is_sealed.wait_for(|is_sealed| is_sealed.then_some(())).await;
        if let Some(Ok(leader)) = give_way(me, &consensus).await {
            tracing::info!(%leader, "another node leads now, since this one is sealed");
        }
        clock.sleep(GIVE_WAY_AGAIN).await;
    }
}

/// Keys are evenly distributed, so the front of one tells nodes apart.
fn node_id(key: &PublicKey) -> NodeId {
    let mut front = [0; 8];
    front.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
    NodeId(u64::from_be_bytes(front))
}
