//! What exists only while the node is unsealed, in one value that exists only while the node is unsealed.
//!
//! Sealing drops it. Everything that changes the store goes through [`Unsealed::commit`]. A cache is a function of
//! storage and of nothing else: it follows the barrier's feed, so nobody reads a commit that a cache does not know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tresor_barrier::{
    Barrier, BarrierError, Changed, CommitError, FollowError, Follower, KeyPrefix, Lane, SlotChange, Txn,
};
use tresor_engine::Mounted;
use tresor_engine::view::NOT_WRITTEN;
use tresor_env::tasks::FINISH_BOUND;
use tresor_env::{Doors, SteadyClock, Tasks};
use tresor_model::{Fault, Refusal};
use tresor_record::Record;
use tresor_storage::{Condition, StoreError};

use crate::audits::Audits;
use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cluster::membership::Membership;
use crate::edge::Edge;
use crate::errands::Errands;
use crate::events::{self, Events};
use crate::gate::Gate;
use crate::keyring::Keyring;
use crate::leases::clock::CommonTime;
use crate::leases::secrets::Leases;
use crate::lockout::Lockouts;
use crate::metrics::Metrics;
use crate::namespaces::{Spaces, realms};
use crate::node::{Node, Registry};
use crate::opening::AutoSeal;
use crate::pipeline::{RunningUses, Turns, uncertain};
use crate::quotas::Quotas;
use crate::quotas::rates::Rates;
use crate::role::{self, Duties};
use crate::seal_health::SealHealth;
use crate::settings::Settings;
use crate::shareholders::{self, Shareholders};
use crate::snapshots::Snapshots;
use crate::storage::Storage;
use crate::tokens::Tokens;
use crate::wrapping::Wrapping;
use crate::{keys, leases};

/// What a client is told when the disk is nearly full, or is.
const NO_SPACE: &str = "storage is read-only: its disk has too little free space";
/// What a client is told when the disk has failed.
const DISK_FAILED: &str = "storage is read-only: its disk failed, and the server must be restarted";
/// What a client is told while the store's index cannot be written.
const INDEX_BEHIND: &str = "storage is read-only: its disk fails, and is tried again each second";
/// What a client is told when a page of the store's index is not what was written.
const DAMAGED: &str = "storage is read-only: a part of it is damaged, and the server's log says which";
/// What a client is told when a write needs a value that is not what was written.
const IMPAIRED: &str = "what this would change in storage is damaged, and the server's log says where";

/// The parts that system engines are handed: narrow, and none knows the whole.
#[derive(Clone)]
pub struct Handles {
    /// The namespaces, each with its mounts and policies.
    pub spaces: Arc<Spaces>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The leases of what engines handed out.
    pub leases: Arc<Leases>,
    /// Names that are locked after wrong passwords.
    pub lockouts: Arc<Lockouts>,
    /// Answers behind tokens.
    pub wrapping: Arc<Wrapping>,
    /// Who was counted as a client.
    pub clients: Arc<Clients>,
    /// The lease-count quotas.
    pub quotas: Arc<Quotas>,
    /// The quotas on rates.
    pub rates: Arc<Rates>,
    /// From where browsers may ask, and which headers are recorded.
    pub edge: Arc<Edge>,
    /// Requests that the server makes itself.
    pub errands: Arc<Errands>,
    /// Those who listen to what happens.
    pub events: Arc<Events>,
    /// The audit devices.
    pub audits: Arc<Audits>,
    /// Snapshots of what is stored.
    pub snapshots: Arc<Snapshots>,
    /// Changes of who belongs to the cluster.
    pub membership: Arc<Membership>,
    /// The terms of the key ring.
    pub keyring: Arc<Keyring>,
    /// Whether the seal could open the store by itself.
    pub seal_health: Arc<SealHealth>,
    /// What those who hold shares may do.
    pub shareholders: Arc<Shareholders>,
    /// How the store is doing.
    pub storage: Arc<Storage>,
    /// The other nodes.
    pub cluster: Arc<dyn Cluster>,
    /// What is counted and timed.
    pub metrics: Arc<Metrics>,
    /// The operator's choices.
    pub settings: Arc<Settings>,
}

/// The services of an unsealed node.
pub struct Unsealed {
    /// The encrypting store.
    pub(crate) barrier: Barrier,
    /// Time that never goes back.
    pub(crate) clock: SteadyClock,
    /// The doors.
    pub(crate) doors: Doors,
    /// What system engines see too.
    pub(crate) handles: Handles,
    /// The server's own engines by path; the mounts find them, and only this keeps them.
    _server: BTreeMap<String, Arc<dyn Mounted>>,
    /// The cluster's name and id.
    pub(crate) cluster: ClusterRecord,
    /// Who is inside.
    pub(crate) gate: Gate,
    /// Whose turn it is to change what many want to change.
    pub(crate) turns: Turns,
    /// Counted uses of limited tokens that are going on.
    pub(crate) uses: RunningUses,
    /// The caches, told of each batch by the barrier; only this keeps them so.
    caches: Arc<Caches>,
    /// What the node does in its cluster.
    pub(crate) duties: Duties,
    tasks: Tasks,
}

/// What is kept in memory and is a function of what is stored.
struct Caches {
    handles: Handles,
    /// The time that the cluster has in common.
    time: CommonTime,
    /// The version with which audit devices were changed last, here or by another node, and the one that the broker was brought
    /// to. What keeps a device from opening must keep nobody from reading.
    devices_changed: AtomicU64,
    devices_followed: AtomicU64,
}

impl Follower for Caches {
    fn wants(&self) -> Vec<KeyPrefix> {
        let Handles { spaces, quotas, rates, edge, audits, tokens, clients, .. } = &self.handles;
        let tables = [quotas.wants(), rates.wants(), edge.wants(), audits.wants(), clients.wants()];
        tables.into_iter().chain(spaces.wants()).chain(tokens.wants()).chain([self.time.wants()]).collect()
    }

    fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), FollowError> {
        let Handles { spaces, quotas, rates, edge, audits, tokens, clients, .. } = &self.handles;
        self.time.follow(changed, txn)?;
        tokens.follow(changed, txn)?;
        spaces.follow(changed, txn)?;
        quotas.reload_if_touched(changed, txn)?;
        rates.reload_if_touched(changed, txn)?;
        edge.reload_if_touched(changed, txn)?;
        clients.reload_if_touched(changed, txn)?;
        if changed.touches(&audits.wants()) {
            self.devices_changed.fetch_max(txn.read_version().0, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// What names the cluster.
#[derive(Record, Clone)]
#[record(kind = "cluster", version = 1)]
pub struct ClusterRecord {
    /// For people.
    pub name: String,
    /// A UUID.
    pub id: String,
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitFault {
    /// Something that it read has changed since: do it again.
    #[error("the transaction read what was changed meanwhile")]
    Conflict,
    /// Something that it counts has reached its limit.
    #[error("a limit is reached")]
    OutOfBounds,
    /// The node is being sealed.
    #[error("the node is sealed")]
    Sealed,
    /// Everything else.
    #[error(transparent)]
    Other(Fault),
}

impl From<CommitFault> for Fault {
    fn from(fault: CommitFault) -> Self {
        match fault {
            CommitFault::Conflict => {
                Self::Refusal(Refusal::Unavailable("too many conflicting changes, try again".into()))
            }
            CommitFault::OutOfBounds => Self::Refusal(Refusal::Throttled("a lease count quota is exceeded".into())),
            CommitFault::Sealed => Self::Refusal(Refusal::Sealed),
            CommitFault::Other(fault) => fault,
        }
    }
}

impl Unsealed {
    /// Loads everything from an opened barrier: audit devices, policies, mounts.
    ///
    /// # Errors
    /// When the store fails or the node was initialised only half.
    #[expect(clippy::too_many_arguments, reason = "a node is made of exactly these")]
    pub(crate) async fn open(
        barrier: Barrier,
        storage: Storage,
        nodes: Arc<dyn Cluster>,
        doors: Doors,
        clock: SteadyClock,
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
        registry: &Registry,
    ) -> Result<Arc<Self>, Fault> {
        let tasks = Tasks::new();
        let mut txn = barrier.begin().map_err(Fault::internal)?;
        let loaded = txn.read_version();
        let bytes = txn
            .read(&keys::cluster().map_err(Fault::internal)?)
            .map_err(Fault::internal)?
            .ok_or_else(|| Fault::internal("the store was initialised, but its first records are missing"))?;
        let cluster = ClusterRecord::decode(&bytes).map_err(Fault::internal)?;
        metrics.is_called(&cluster.name);
        leases::clock::resume(&mut txn, &clock)?;
        let audits = Arc::new(Audits::load(&mut txn, &barrier, &doors, &settings, nodes.is_enabled()).await?);
        let (factories, entropy) = (registry.factories.clone(), &*doors.entropy);
        let spaces = Arc::new(Spaces::load(&mut txn, &barrier, factories, Arc::clone(&settings), entropy)?);
        let quotas = Arc::new(Quotas::load(&mut txn)?);
        let rates = Arc::new(Rates::load(&mut txn, &*doors.entropy)?);
        let edge = Arc::new(Edge::load(&mut txn)?);
        let clients = Arc::new(Clients::begin(&mut txn)?);
        let tokens = Arc::new(Tokens::load(&barrier, &mut txn, Arc::clone(&spaces), Arc::clone(&quotas))?);
        let leases = Arc::new(Leases::new(Arc::clone(&spaces), Arc::clone(&tokens), settings.irrevocable_kept));
        let wrapping = Arc::new(Wrapping::new(&barrier, Arc::clone(&spaces), Arc::clone(&tokens)));
        let storage = Arc::new(storage);
        let snapshots = Arc::new(Snapshots::new(&barrier, &doors, &cluster));
        let (shown, entropy) = (Arc::clone(&storage), Arc::clone(&doors.entropy));
        let membership = Arc::new(Membership::new(Arc::clone(&nodes), &barrier, shown, clock.clone(), entropy));
        let keyring = Arc::new(Keyring::new(&barrier, clock.clone(), Arc::clone(&spaces), Arc::clone(&settings)));
        let shareholders = Arc::new(Shareholders::new(shareholders::Means {
            barrier: barrier.clone(),
            storage: Arc::clone(&storage),
            cluster: Arc::clone(&nodes),
            clock: clock.clone(),
            entropy: Arc::clone(&doors.entropy),
            spaces: Arc::clone(&spaces),
            tokens: Arc::clone(&tokens),
            settings: Arc::clone(&settings),
        }));
        let gate = Gate::default();
        let events = Arc::new(Events::new(events::Means {
            barrier: barrier.clone(),
            spaces: Arc::clone(&spaces),
            tokens: Arc::clone(&tokens),
            nodes: Arc::clone(&nodes),
            clock: clock.clone(),
            entropy: Arc::clone(&doors.entropy),
            gate: gate.clone(),
            source: format!("tresor://{}", cluster.id),
            ledger: settings.ledger.clone(),
        }));
        let handles = Handles {
            errands: Arc::default(),
            events,
            audits,
            keyring,
            seal_health: Arc::default(),
            shareholders,
            spaces,
            tokens,
            leases,
            lockouts: Arc::default(),
            wrapping,
            clients,
            quotas,
            rates,
            edge,
            snapshots,
            membership,
            storage,
            cluster: nodes,
            metrics,
            settings,
        };
        drop(txn);
        let server = (registry.server)(&handles).into_iter().map(|own| (own.path.to_owned(), own.engine)).collect();
        handles.spaces.attach(&server);
        let time = CommonTime::new(clock.clone(), handles.cluster.has_log() || !handles.cluster.is_enabled())?;
        let caches = Arc::new(Caches {
            handles: handles.clone(),
            time,
            devices_changed: AtomicU64::new(0),
            devices_followed: AtomicU64::new(0),
        });
        let follower: Arc<dyn Follower> = Arc::<Caches>::clone(&caches);
        barrier.follow_with(&follower, loaded).map_err(Fault::internal)?;
        let duties = Duties::new(Arc::clone(&handles.cluster));
        let unsealed = Arc::new(Self {
            clock,
            barrier,
            doors,
            handles,
            _server: server,
            cluster,
            gate,
            turns: Turns::new(),
            uses: RunningUses::default(),
            caches,
            duties,
            tasks,
        });
        Ok(unsealed)
    }

    /// A task that ends with the node's being open.
    pub(crate) fn look_after(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// From now on the node does what its standing in the cluster asks for.
    pub(crate) fn follow_standing(self: &Arc<Self>) {
        let cluster = Arc::clone(&self.handles.cluster);
        self.tasks.spawn(role::follow(Arc::downgrade(self), cluster, self.clock.clone(), self.gate.clone()));
    }

    /// From now on the node is told when its keys are not those of what is stored any more.
    pub(crate) fn follow_keys(&self, node: Weak<Node>) {
        let (estranged, gate) = (self.barrier.estranged(), self.gate.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = gate.closed() => {}
                () = estranged => {
                    if let Some(node) = node.upgrade() {
                        node.is_estranged().await;
                    }
                }
            }
        });
    }

    /// A transaction on what is stored now.
    pub(crate) fn begin(&self) -> Result<Txn, Fault> {
        if self.barrier.is_stopped() {
            return Err(Refusal::Sealed.into());
        }
        let mut txn = self.barrier.begin().map_err(tresor_engine::view::fault)?;
        if self.handles.events.is_listened_to() {
            txn.is_listened_to();
        }
        Ok(txn)
    }

    /// Commits; every cache follows before anybody can read what was committed, audit devices before this returns. Then, and
    /// only then, those who listen are told of it.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<(), CommitFault> {
        self.commit_in(Lane::Requests, txn).await
    }

    /// As [`Unsealed::commit`], in its lane.
    pub(crate) async fn commit_in(&self, lane: Lane, mut txn: Txn) -> Result<(), CommitFault> {
        let told = txn.take_told();
        let committed = self.barrier.commit_in(lane, txn).await.map_err(|error| match error {
            CommitError::Conflict => CommitFault::Conflict,
            CommitError::OutOfBounds => CommitFault::OutOfBounds,
            CommitError::Stopped => CommitFault::Sealed,
            // Too few nodes answered in time: another leader's log will say.
            CommitError::Unknown if self.handles.cluster.is_enabled() => CommitFault::Other(uncertain()),
            CommitError::Failed(error) => match &*error {
                BarrierError::Store(StoreError::LowSpace { .. } | StoreError::NoSpace { .. }) => {
                    CommitFault::Other(Refusal::Unavailable(NO_SPACE.into()).into())
                }
                BarrierError::SealedRealm => CommitFault::Other(realms::sealed().into()),
                BarrierError::Store(StoreError::Unreachable { .. } | StoreError::Taken { .. }) => {
                    CommitFault::Other(Refusal::Unavailable(NOT_WRITTEN.into()).into())
                }
                BarrierError::Store(StoreError::Elsewhere { .. }) => CommitFault::Other(Refusal::Elsewhere.into()),
                BarrierError::Store(StoreError::Stopped { .. }) => {
                    CommitFault::Other(Refusal::Unavailable(DISK_FAILED.into()).into())
                }
                BarrierError::Store(StoreError::Behind { .. }) => {
                    CommitFault::Other(Refusal::Unavailable(INDEX_BEHIND.into()).into())
                }
                BarrierError::Store(StoreError::Damaged { .. }) => {
                    let is_impaired = self.handles.storage.condition() == Condition::Impaired;
                    let why = if is_impaired { IMPAIRED } else { DAMAGED };
                    CommitFault::Other(Refusal::Unavailable(why.into()).into())
                }
                _ => CommitFault::Other(Fault::internal(CommitError::Failed(error))),
            },
            other => CommitFault::Other(Fault::internal(other)),
        })?;
        self.handles.events.publish(told);
        if committed.changed.is_empty() {
            return Ok(());
        }
        // The commit stands. Devices that cannot be brought to it now are when the background task tries again; the
        // caller hears of it.
        self.follow_devices(&Changed::Names(committed.changed)).map_err(CommitFault::Other)
    }

    /// Brings caches and devices to what is stored, where that failed when it was committed, or where another node wrote it.
    pub(crate) async fn catch_up(&self) -> Result<(), Fault> {
        self.barrier.catch_up().await.map_err(Fault::internal)?;
        self.bring_devices()
    }

    /// Brings audit devices to what is applied here, now that it is everything; whether records are taken where they are to be.
    pub(crate) fn devices_follow(&self) -> bool {
        match self.bring_devices() {
            Ok(()) => {
                self.handles.audits.are_known();
                true
            }
            Err(fault) => {
                tracing::warn!(cause = ?fault, "audit devices could not follow what another node wrote; tried again");
                self.handles.audits.is_enabled()
            }
        }
    }

    fn bring_devices(&self) -> Result<(), Fault> {
        let Caches { devices_changed, devices_followed, .. } = &*self.caches;
        if devices_followed.load(Ordering::Acquire) < devices_changed.load(Ordering::Acquire) {
            let mut txn = self.begin()?;
            // What is followed at this moment is not shown yet: then this is the state from before, and it is done again.
            let seen = txn.read_version().0;
            self.handles.audits.reload(&mut txn)?;
            devices_followed.fetch_max(seen, Ordering::AcqRel);
        }
        Ok(())
    }

    fn follow_devices(&self, changed: &Changed) -> Result<(), Fault> {
        // Hardly ever is one touched, and reading can fail.
        if !self.handles.audits.is_touched_by(changed) {
            return Ok(());
        }
        let mut txn = self.begin()?;
        self.handles.audits.reload(&mut txn)
    }

    /// The caches that are not what they would be if they were loaded now.
    pub(crate) fn stale_caches(&self) -> Result<Vec<&'static str>, Fault> {
        let mut txn = self.begin()?;
        let agreements = [
            ("namespaces, their mounts and policies", self.handles.spaces.agrees(&mut txn)?),
            ("quotas", self.handles.quotas.agrees(&mut txn)?),
            ("quotas on rates", self.handles.rates.agrees(&mut txn)?),
            ("origins and audited headers", self.handles.edge.agrees(&mut txn)?),
            ("whether clients are counted", self.handles.clients.agrees(&mut txn)?),
            ("marks of tokens", self.handles.tokens.agrees(&mut txn)?),
            ("audit devices", self.handles.audits.agrees(&mut txn)?),
            ("numbers of leases by path", self.handles.leases.numbers_agree(&mut txn, &self.handles.spaces.every())?),
        ];
        Ok(agreements.into_iter().filter(|(_, agrees)| !agrees).map(|(name, _)| name).collect())
    }

    /// Stores other key slots. The node serves whether or not that succeeds: the next unsealing tries again.
    pub(crate) async fn change_slots(&self, change: SlotChange) {
        let stored = async {
            match self.barrier.change_slots(change).await {
                Ok(()) => {
                    let key = self.handles.settings.auto_seal.as_ref().map(AutoSeal::key_id);
                    tracing::info!(key, "the store's key slots were changed to what is configured");
                }
                Err(error) => {
                    tracing::error!(%error, "the store's key slots stay as they were; the next unsealing tries again");
                }
            }
        };
        self.at_most("the key slots", stored).await;
    }

    /// Lets nobody in, tells those inside, waits for them with a bound; then ends the background work, every commit,
    /// and the audit devices. Afterwards nothing of this node writes any more, and another may be opened.
    pub(crate) async fn stop(&self) {
        self.gate.close();
        self.at_most("requests", self.gate.deserted()).await;
        self.tasks.finish(self.clock.sleep(FINISH_BOUND)).await;
        self.duties.finish(self.clock.sleep(FINISH_BOUND)).await;
        self.at_most("a commit", self.barrier.stop()).await;
        self.handles.audits.close().await;
    }

    /// Waits with a bound: what hangs (a disk, say) must keep neither the keys in memory nor the node from sealing.
    async fn at_most(&self, what: &str, end: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = end => {}
            () = self.clock.sleep(FINISH_BOUND) => tracing::warn!(what, "did not wait for what still runs"),
        }
    }
}
