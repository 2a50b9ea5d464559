//! This node among those that share its store: which of them writes, and the port where they pass requests on.
//!
//! Each node says in a table of the store's server how it is reached, and proves that it could open the store; who does not is
//! nobody here. So the port lets in whoever shares the store and is unsealed, and a node that is sealed knows nobody. The keys of
//! nodes are drawn at their start and lie nowhere. Deliberately absent: who writes when, which the store's lock says, and any
//! answer of a node that stands by to what another one can answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tresor_core::cluster::announced::{announce, heard};
use tresor_core::cluster::{
    About, Cluster, ClusterError, Contact, Forwarded, JoinKey, Member, Message, Needed, Standing,
};
use tresor_env::tasks::{FINISH_BOUND, run_blocking};
use tresor_env::{BoxFuture, Doors, Signal, Tasks};
use tresor_peers::{Lane, Members, NodeId, NodeKey, Peers, PeersError, PublicKey, Timing};
use tresor_storage_postgresql::{Lock, Part, PostgresStore, Seen};
use tresor_wire::API_LEVEL;

use crate::cluster::inbox::{Inbox, answered, asking};
use crate::cluster::reachable;

/// A node that was heard so long ago counts as one that could take over.
const HEARD_LATELY: Duration = Duration::from_secs(5);
/// For how long after it was heard the port lets a node in.
const LET_IN_FOR: Duration = Duration::from_secs(15);
/// For how long a node that stepped down lets others try.
const ASIDE: Duration = Duration::from_secs(10);
/// How long it waits for one of them.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);

/// How a node is reached.
pub(crate) struct SharingOpening {
    /// Where other nodes reach it from here.
    pub(crate) listen: SocketAddr,
    /// Host and port that the others are told; the address that it really listens on when absent.
    pub(crate) address: Option<String>,
    /// Its API, with scheme.
    pub(crate) api_address: String,
}

/// Why a node cannot share a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SharingError {
    /// The cluster port.
    #[error(transparent)]
    Port(#[from] PeersError),
    /// No key could be drawn.
    #[error("no key could be drawn for this node")]
    Key,
    /// The store is one process's.
    #[error("the store is not shared")]
    NotShared,
}

/// This node among those that share its store, to its end.
pub(crate) struct Sharing {
    contact: Contact,
    store: Arc<PostgresStore>,
    lock: Arc<Lock>,
    seen: Arc<Others>,
    inbox: Arc<Inbox>,
    doors: Doors,
    tasks: Tasks,
}

/// The others, as this node sees them while it is unsealed.
struct Others {
    me: i64,
    /// Where this node is reached.
    address: String,
    lock: Arc<Lock>,
    peers: Peers,
    /// What they prove that they could open the store by.
    key: Mutex<Option<JoinKey>>,
    view: Signal<View>,
    /// Whom the port lets in.
    admitted: Mutex<BTreeMap<i64, Contact>>,
}

#[derive(Clone, PartialEq, Eq)]
struct View {
    standing: Standing,
    leader: Option<i64>,
    others: BTreeMap<i64, Other>,
}

#[derive(Clone, PartialEq, Eq)]
struct Other {
    contact: Contact,
    release: String,
    heard_ago: Duration,
}

impl Sharing {
    /// Opens the port, and takes part from the first unsealing on.
    pub(crate) async fn open(
        doors: &Doors,
        opening: SharingOpening,
        store: Arc<PostgresStore>,
    ) -> Result<Arc<Self>, SharingError> {
        let lock = Arc::clone(store.lock().ok_or(SharingError::NotShared)?);
        let key = NodeKey::draw(&*doors.entropy).ok_or(SharingError::Key)?;
        let inbox = Arc::<Inbox>::default();
        let peers = Peers::new(doors, &key, Arc::<Inbox>::clone(&inbox), Timing::default())?;
        let listens = peers.listen(opening.listen).await?;
        let api = &opening.api_address;
        let contact = Contact {
            name: api.split_once("://").map_or(api.as_str(), |(_, place)| place).trim_end_matches('/').to_owned(),
            key: *key.public().bytes(),
            cluster_address: opening.address.or_else(|| reachable(listens)).unwrap_or_default(),
            api_address: opening.api_address.clone(),
        };
        let seen = Arc::new(Others {
            me: lock.me(),
            address: contact.cluster_address.clone(),
            lock: Arc::clone(&lock),
            peers,
            key: Mutex::default(),
            view: Signal::new(View { standing: Standing::Leaderless, leader: None, others: BTreeMap::new() }),
            admitted: Mutex::default(),
        });
        let others = Arc::downgrade(&seen);
        inbox.find_by(Box::new(move |node| {
            let others = others.upgrade()?;
            let of = |(process, contact): (&i64, &Contact)| {
                (node_id(*process).0 == node.0).then(|| contact.cluster_address.clone())
            };
            others.admitted().iter().find_map(of)
        }));
        let tasks = Tasks::new();
        tasks.spawn(Arc::clone(&seen).follow());
        Ok(Arc::new(Self { contact, store, lock, seen, inbox, doors: doors.clone(), tasks }))
    }

    /// How it is known and reached.
    pub(crate) const fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Lets another node write, and does not write any more.
    pub(crate) async fn leave(&self) {
        self.lock.leave(&*self.doors.clock).await;
    }

    /// Ends everything that this node does among others.
    pub(crate) async fn close(&self) {
        self.lock.part_for_good(&*self.doors.clock).await;
        self.tasks.finish(Box::pin(std::future::ready(()))).await;
        self.inbox.close(self.doors.clock.sleep(FINISH_BOUND)).await;
        // Without members it cannot fail for two that have one key.
        drop(self.seen.peers.set_members(Members::default()));
    }

    fn standing_now(&self) -> Standing {
        self.seen.view.read(|view| view.standing.clone())
    }

    async fn stand_aside(&self) -> Result<(), ClusterError> {
        let (leads, has_others) = self.seen.view.read(|view| {
            let could = view.others.values().any(|other| other.heard_ago <= HEARD_LATELY);
            (view.standing.leads(), could)
        });
        if !leads {
            return Err(ClusterError::NotLeader);
        }
        if !has_others {
            return Err(ClusterError::NotTakenOver);
        }
        let clock = &self.doors.clock;
        self.lock.step_aside(clock.monotonic() + ASIDE);
        let taken = self.seen.view.wait_for(|view| matches!(view.standing, Standing::Follows(_)).then_some(()));
        tokio::select! {
            biased;
            () = taken => {
                // Whoever that is may go at once.
                self.lock.come_back();
                Ok(())
            }
            () = clock.sleep(TAKEN_OVER_WITHIN) => {
                self.lock.come_back();
                Err(ClusterError::NotTakenOver)
            }
        }
    }
}

/// The number of a process as the port knows it.
const fn node_id(process: i64) -> NodeId {
    NodeId(u64::from_be_bytes(process.to_be_bytes()))
}

impl Others {
    fn key(&self) -> MutexGuard<'_, Option<JoinKey>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admitted(&self) -> MutexGuard<'_, BTreeMap<i64, Contact>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what the lock shows.
    async fn follow(self: Arc<Self>) {
        let mut looks = 0;
        loop {
            looks = self.lock.seen().wait_for(|seen| (seen.looks != looks).then_some(seen.looks)).await;
            self.settle();
        }
    }

    /// Takes what the lock shows now for what is.
    fn settle(&self) {
        // Held throughout, so that what is older is never taken for what is newer.
        let mut admitted = self.admitted();
        let seen = self.lock.seen().read(Seen::clone);
        let others = self.proven(&seen);
        let lately = others.iter().filter(|(_, other)| other.heard_ago <= LET_IN_FOR);
        let contacts: BTreeMap<i64, Contact> =
            lately.map(|(process, other)| (*process, other.contact.clone())).collect();
        if *admitted != contacts {
            self.admit(&contacts);
            *admitted = contacts;
        }
        drop(admitted);
        let leader = seen.holder.filter(|holder| *holder != self.me);
        let standing = match (seen.part, leader.and_then(|leader| others.get(&leader))) {
            (Part::Active { term }, _) => Standing::Leads { term: u64::try_from(term).unwrap_or(0) },
            (Part::Standby, Some(leader)) => Standing::Follows(leader.contact.clone()),
            (Part::Standby | Part::Coming { .. }, _) => Standing::Leaderless,
        };
        self.view.update(|view| *view = View { standing, leader, others });
    }

    /// Those who have proven that they could open the store.
    fn proven(&self, seen: &Seen) -> BTreeMap<i64, Other> {
        let key = self.key();
        let Some(key) = &*key else { return BTreeMap::new() };
        let other = |(process, said): (&i64, &tresor_storage_postgresql::Process)| {
            let (contact, release) = heard(key, *process, &said.contact)?;
            Some((*process, Other { contact, release, heard_ago: said.heard_ago }))
        };
        let others: BTreeMap<i64, Other> =
            seen.processes.iter().filter(|(process, _)| **process != self.me).filter_map(other).collect();
        // Of those that were at one place only the last one is there.
        let is_there = |other: &Other| {
            let address = &other.contact.cluster_address;
            let later = |them: &Other| them.contact.cluster_address == *address && them.heard_ago < other.heard_ago;
            *address != self.address && !others.values().any(later)
        };
        others.iter().filter(|(_, other)| is_there(other)).map(|(process, other)| (*process, other.clone())).collect()
    }

    fn admit(&self, contacts: &BTreeMap<i64, Contact>) {
        let members = contacts.iter().map(|(process, contact)| {
            let addresses = vec![contact.cluster_address.clone()];
            (node_id(*process), tresor_peers::Member { key: PublicKey::new(contact.key), addresses })
        });
        let set = Members::new(members).map_err(|error| error.to_string());
        let set = set.and_then(|members| self.peers.set_members(members).map_err(|error| error.to_string()));
        if let Err(error) = set {
            tracing::error!(error, "the nodes that share the store cannot be let in; those of before are");
        }
    }
}

impl Cluster for Sharing {
    fn is_enabled(&self) -> bool {
        true
    }

    fn has_log(&self) -> bool {
        false
    }

    fn open_with(&self, key: JoinKey) {
        let said = announce(&key, self.lock.me(), &self.contact, API_LEVEL);
        *self.seen.key() = Some(key);
        self.lock.announce(Some(said));
        self.seen.settle();
    }

    fn me(&self) -> Contact {
        self.contact.clone()
    }

    fn standing(&self) -> Standing {
        self.standing_now()
    }

    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            self.seen.view.wait_for(|view| (view.standing != known).then(|| view.standing.clone())).await
        })
    }

    fn confirm(&self, _: Needed, within: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(async move {
            let confirmed = async {
                if self.standing_now().leads() {
                    return self.store.confirm().await.map_err(|_| ClusterError::NoLeader);
                }
                let store = Arc::clone(&self.store);
                let refreshed = run_blocking(&*self.doors.workers, move || store.refresh()).await;
                match refreshed {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(ClusterError::NoLeader),
                }
            };
            tokio::select! {
                biased;
                confirmed = confirmed => confirmed.map(|()| 0),
                () = self.doors.clock.sleep(within.max(TAKEN_OVER_WITHIN)) => Err(ClusterError::NoLeader),
            }
        })
    }

    fn ask_leader(
        &self,
        about: About,
        message: Message,
        within: Duration,
    ) -> BoxFuture<'_, Result<Message, ClusterError>> {
        let (leads, leader) = self.seen.view.read(|view| (view.standing.leads(), view.leader));
        let error = if leads { ClusterError::NotLeader } else { ClusterError::NoLeader };
        let Some(leader) = leader.filter(|_| !leads) else { return Box::pin(std::future::ready(Err(error))) };
        let asked = self.seen.peers.ask(node_id(leader), Lane::Requests, asking(about, message), within);
        Box::pin(async move { answered(asked.await) })
    }

    fn answer_with(&self, handler: Arc<dyn Forwarded>) {
        self.inbox.answer_with(handler);
    }

    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(self.stand_aside())
    }

    fn set_sealed(&self, is_sealed: bool) {
        if is_sealed {
            self.lock.announce(None);
            *self.seen.key() = None;
            self.seen.settle();
        }
    }

    fn members(&self) -> Vec<Member> {
        let view = self.seen.view.read(View::clone);
        let me = Member {
            contact: self.contact.clone(),
            is_voter: true,
            is_leader: view.standing.leads(),
            heard_ago: Some(Duration::ZERO),
            matched: None,
            version: Some(API_LEVEL.to_owned()),
        };
        let others = view.others.into_iter().map(|(process, other)| Member {
            contact: other.contact,
            is_voter: other.heard_ago <= HEARD_LATELY,
            is_leader: view.leader == Some(process),
            heard_ago: Some(other.heard_ago),
            matched: None,
            version: Some(other.release),
        });
        [me].into_iter().chain(others).collect()
    }

    fn refusal(&self) -> ClusterError {
        ClusterError::Refused("nodes that share a store are in its cluster while they run".to_owned())
    }
}
