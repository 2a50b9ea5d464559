//! The node's life: uninitialised, sealed, unsealed; one task owns it, everybody else reads a snapshot.
//!
//! Initialising, entering shares, opening by itself and sealing are messages to that task, so they never overlap.
//! Sealing is dropping: the task swaps the snapshot, stops what was unsealed, and lets go of it. Deliberately absent: how
//! a node opens ([`opening`](crate::opening)), what it does in its cluster ([`role`](crate::role)) and the endpoints that
//! speak of all this (`tresor-system`).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tresor_barrier::{InitError, SealFacts, SealedStore, ShareCollector, StaticKeys, UnsealKey};
use tresor_crypto::shamir::Threshold;
use tresor_crypto::token_text;
use tresor_engine::{EngineFactory, Mounted, Place};
use tresor_env::tasks::FINISH_BOUND;
use tresor_env::{BoxFuture, Doors, SteadyClock, Tasks, Timestamp};
use tresor_model::ids::{NamespaceId, RequestId};
use tresor_model::{Fault, Map, Refusal, Response, Verb};
use tresor_pgp::Recipient;
use tresor_record::Record;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_storage::{Condition, Damage, Store};
use tresor_wire::input::FieldSpec;
use tresor_wire::output::OutputSpec;

use crate::audits::DeclaredDevice;
use crate::augmentation::Augmentation;
use crate::cluster::joining::{self, Offered, Wish};
use crate::cluster::{Cluster, Contact};
use crate::farewell::Farewell;
use crate::first::First;
use crate::metrics::Metrics;
use crate::mounts::Mounts;
use crate::opening::{self, AutoSeal, ByItself, NotOpened, OpeningProblem};
use crate::policies::Policies;
use crate::role::Role;
use crate::running::Running;
use crate::settings::Settings;
use crate::snapshots::Staged;
use crate::tokens::{self, NewToken};
use crate::unsealed::{ClusterRecord, Handles, Unsealed};
use crate::{audits, keys, releases, restore};

/// What the assembly hands to the node: every engine there is, and the server's own endpoints.
pub struct Registry {
    /// One per mountable type.
    pub factories: Vec<EngineFactory>,
    /// Builds the server's own engines for an unsealed node.
    pub server: fn(&Handles) -> Vec<SystemMount>,
    /// The endpoints that answer in every state of the node.
    pub always: &'static [AlwaysRoute],
    /// The paths where what is written is no JSON, but comes as it is, however long it is.
    pub uploads: &'static [&'static str],
    /// The endpoints that listeners may open to everybody, in every state of the node and without an audit record.
    pub opened: &'static [AlwaysRoute],
}

/// One of the server's own engines.
pub struct SystemMount {
    /// Where, ending in a slash: one of `mounts::SERVER_MOUNTS`.
    pub path: &'static str,
    /// The engine.
    pub engine: Arc<dyn Mounted>,
}

/// An endpoint that answers in every state of the node, without a token and without an audit record. The list of
/// them is short, lies in one file of `tresor-system`, and is pinned by a golden test.
pub struct AlwaysRoute {
    /// The whole path.
    pub path: &'static str,
    /// The verb.
    pub verb: Verb,
    /// One line of help.
    pub summary: &'static str,
    /// On which node of a cluster it runs.
    pub place: Place,
    /// Its input fields.
    pub fields: &'static [FieldSpec],
    /// The fields of its answer.
    pub answer_fields: &'static [OutputSpec],
    /// Answers.
    pub answer: for<'a> fn(&'a Node, Map) -> BoxFuture<'a, Result<Response, Fault>>,
}

/// What initialising gives out, once.
pub struct Initialized {
    /// The shares of the unseal key, in order.
    pub shares: Vec<UnsealShare>,
    /// The first token.
    pub root_token: TokenSecret,
}

/// What is known of the seal at one moment.
#[derive(Clone, Debug)]
pub struct SealStanding {
    /// Shares, threshold, and whether the store is initialised.
    pub facts: SealFacts,
    /// What the node is to open with by itself, by kind; shares open it as well.
    pub auto_seal: Option<&'static str>,
    /// Whether the store's key slots are of another kind than what is configured: the next unsealing changes them.
    pub migration: bool,
    /// Why it did not open by itself.
    pub opening_problem: Option<OpeningProblem>,
    /// Whether the node is sealed.
    pub sealed: bool,
    /// Shares entered so far.
    pub progress: u8,
    /// Names the running attempt; empty when none runs.
    pub nonce: String,
    /// Name and id of the cluster; known while unsealed.
    pub cluster: Option<(String, String)>,
    /// Why the local audit log takes no records, so that requests are refused; `None` while it does.
    pub audit_refusal: Option<String>,
    /// Whether the node was removed from its cluster, as far as it knows.
    pub removed: bool,
    /// Whether the store can be written to; when it cannot, requests that write are refused.
    pub storage: Condition,
    /// What of it is damaged, where that is its condition.
    pub damage: Option<Damage>,
}

pub(crate) enum State {
    Sealed,
    Unsealed(Arc<Unsealed>),
}

pub(crate) enum Command {
    Initialize {
        threshold: Option<Threshold>,
        root_token: Option<TokenSecret>,
        first: First,
        answer: oneshot::Sender<Result<Initialized, Fault>>,
    },
    Unseal {
        share: UnsealShare,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    Reset {
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    Seal {
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Shares are to open what a leader showed.
    WaitForShares {
        offered: Offered,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// A leader let the node into its cluster.
    Adopt {
        members: Vec<Contact>,
        facts: SealFacts,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Try to join, once, or until it is done.
    Join {
        wish: Arc<Wish>,
        is_kept_up: bool,
        answer: oneshot::Sender<Result<bool, Fault>>,
    },
    /// Open the store with what shares were put together to, and with what its slot is to be.
    OpenWith {
        key: UnsealKey,
        slot: Option<Result<StaticKeys, NotOpened>>,
        /// How often the node had been sealed on purpose when the last share was entered.
        sealings: Option<u64>,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    Restore {
        staged: Staged,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Other keys open what is stored now: a leader restored the snapshot of another cluster.
    Estranged,
    /// Whether opening by itself is not to be tried.
    IsHeld {
        answer: oneshot::Sender<Result<bool, Fault>>,
    },
    /// Open by itself with this; answers whether there is nothing more to try.
    Open {
        keys: Result<Option<StaticKeys>, NotOpened>,
        answer: oneshot::Sender<Result<bool, Fault>>,
    },
}

/// The node.
pub struct Node {
    pub(crate) state: ArcSwap<State>,
    /// Progress and nonce of the running attempt, published by the owner task.
    attempt: ArcSwap<(u8, String)>,
    /// Why the node did not open by itself, published by the owner task.
    opening_problem: ArcSwap<Option<OpeningProblem>>,
    /// How far it has come with joining a cluster, published by the owner task.
    pub(crate) joining: ArcSwap<joining::Standing>,
    pub(crate) store: Arc<SealedStore>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) doors: Doors,
    pub(crate) clock: SteadyClock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) registry: Registry,
    commands: mpsc::Sender<Command>,
    inbox: Mutex<Option<mpsc::Receiver<Command>>>,
    farewell: Farewell,
    /// Told when the node is sealed though nobody asked for that.
    pub(crate) given_up: Notify,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether this process makes the first requests of the store.
    pub(crate) initializes_itself: AtomicBool,
    pub(crate) tasks: Tasks,
}

/// How many lifecycle messages may wait.
const COMMANDS_MAX: usize = 64;

impl Node {
    /// Opens the store and starts the owner task; the node comes up sealed (or uninitialised).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(
        store: Arc<dyn Store>,
        cluster: Arc<dyn Cluster>,
        doors: Doors,
        settings: Settings,
        registry: Registry,
    ) -> Result<Arc<Self>, Fault> {
        let mut doors = doors;
        if let Some(augmentation) = settings.augmentation() {
            doors.entropy = Arc::<Augmentation>::clone(augmentation);
        }
        let store = SealedStore::open(store, doors.clone()).map_err(Fault::internal)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let node = Arc::new(Self {
            state: ArcSwap::from_pointee(State::Sealed),
            attempt: ArcSwap::from_pointee((0, String::new())),
            opening_problem: ArcSwap::from_pointee(None),
            joining: ArcSwap::from_pointee(joining::Standing::Outside),
            store: Arc::new(store),
            cluster,
            clock: SteadyClock::new(Arc::clone(&doors.clock)),
            initializes_itself: AtomicBool::new(false),
            metrics: Arc::new(Metrics::new(Arc::clone(&doors.clock), settings.metrics.clone())),
            doors,
            settings: Arc::new(settings),
            registry,
            commands,
            inbox: Mutex::new(Some(inbox)),
            farewell: Farewell::default(),
            given_up: Notify::new(),
            tasks: Tasks::new(),
        });
        let inbox = node.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(inbox) = inbox {
            node.tasks.spawn(own(Arc::downgrade(&node), inbox));
        }
        Ok(node)
    }

    /// The services, while unsealed.
    pub(crate) fn unsealed(&self) -> Option<Arc<Unsealed>> {
        match &**self.state.load() {
            State::Unsealed(unsealed) => Some(Arc::clone(unsealed)),
            State::Sealed => None,
        }
    }

    /// The door to the other nodes.
    #[must_use]
    pub fn cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// What the node does in its cluster; nothing while it is sealed.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.unsealed().map(|unsealed| unsealed.duties.role())
    }

    /// How long an unsealed node has neither followed a leader nor served as one; nothing while it does.
    #[must_use]
    pub fn leaderless_for(&self) -> Option<Duration> {
        self.unsealed()?.duties.leaderless_for(&self.doors)
    }

    /// Somebody asks how the node is; whether it is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.farewell.probed(self.doors.clock.monotonic())
    }

    /// Says from now on that the node is about to stop; how long it should go on serving for those who look.
    #[must_use]
    pub fn say_farewell(&self) -> Duration {
        let notice = self.farewell.say(self.doors.clock.monotonic());
        let can_be_replaced = self.unsealed().is_some() && self.cluster.members().len() > 1;
        if can_be_replaced { notice } else { Duration::ZERO }
    }

    /// Time, as the node tells it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Unpredictable bytes.
    #[must_use]
    pub fn entropy(&self) -> &dyn tresor_env::Entropy {
        &*self.doors.entropy
    }

    /// The requests that run now.
    #[must_use]
    pub fn running(&self) -> &Running {
        self.metrics.running()
    }

    /// The operator's choices.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The caches that differ from what is stored, by name: always none while nothing is being committed. For
    /// checkers; costs a reload of everything.
    ///
    /// # Errors
    /// When the node is sealed or the store cannot be read.
    pub fn stale_caches(&self) -> Result<Vec<&'static str>, Fault> {
        self.unsealed().ok_or(Refusal::Sealed)?.stale_caches()
    }

    /// A fresh id for a request.
    #[must_use]
    pub fn next_request_id(&self) -> RequestId {
        RequestId::new(token_text::random_uuid(&*self.doors.entropy))
    }

    /// What is known of the seal now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn standing(&self) -> Result<SealStanding, Fault> {
        let facts = self.facts()?;
        let attempt = self.attempt.load();
        let unsealed = self.unsealed();
        let auto_seal = self.settings.auto_seal.as_ref().map(AutoSeal::kind);
        let has_slot = match auto_seal {
            Some(kind) => facts.without_people.iter().any(|key| key.kind == kind),
            None => facts.without_people.is_empty(),
        };
        let storage = self.store.condition();
        let is_damaged = matches!(storage, Condition::Impaired | Condition::Damaged);
        Ok(SealStanding {
            auto_seal,
            migration: facts.threshold > 0 && !has_slot,
            opening_problem: **self.opening_problem.load(),
            facts,
            sealed: unsealed.is_none(),
            progress: attempt.0,
            nonce: attempt.1.clone(),
            audit_refusal: unsealed.as_ref().and_then(|unsealed| unsealed.handles.audits.refusal()),
            removed: self.cluster.is_removed(),
            storage,
            damage: is_damaged.then(|| self.store.scrubbed().damage).flatten(),
            cluster: unsealed.map(|unsealed| (unsealed.cluster.name.clone(), unsealed.cluster.id.clone())),
        })
    }

    /// What is known of the seal: of the store, or of one that is to arrive.
    pub(crate) fn facts(&self) -> Result<SealFacts, Fault> {
        let facts = self.store.facts().map_err(Fault::internal)?;
        if facts.initialized {
            return Ok(facts);
        }
        let joining = self.joining.load();
        Ok(match joining.facts() {
            Some(shown) => shown.clone(),
            None => SealFacts { initialized: self.is_one_of_several(), ..facts },
        })
    }

    /// Whether there is a store that shares could open.
    pub(crate) fn has_store(&self) -> bool {
        self.store.facts().is_ok_and(|facts| facts.initialized)
    }

    /// From now on shares open what a leader showed.
    pub(crate) async fn wait_for_shares(&self, offered: Offered) -> Result<(), Fault> {
        self.ask(|answer| Command::WaitForShares { offered, answer }).await
    }

    /// Takes these as the members of the cluster that the node was let into.
    pub(crate) async fn adopt(&self, members: Vec<Contact>, facts: SealFacts) -> Result<(), Fault> {
        self.ask(|answer| Command::Adopt { members, facts, answer }).await
    }

    /// Opens the store that was joined.
    pub(crate) async fn open_with(&self, key: UnsealKey, sealings: Option<u64>) -> Result<(), Fault> {
        let slot = opening::prepare_slot(self).await?;
        self.ask(|answer| Command::OpenWith { key, slot, sealings, answer }).await
    }

    /// Initialises the store: key ring, key slots, first records, root token. The node stays sealed, unless it opens by
    /// itself; one that does needs no shares.
    ///
    /// # Errors
    /// A refusal when it is initialised already, or when it is to open by itself and the key cannot be read.
    pub async fn initialize(
        &self,
        threshold: impl Into<Option<Threshold>>,
        root_token: Option<TokenSecret>,
    ) -> Result<Initialized, Fault> {
        let (threshold, first) = (threshold.into(), First::Operators);
        self.ask(|answer| Command::Initialize { threshold, root_token, first, answer }).await
    }

    /// Bytes as only the owner of a key reads them.
    ///
    /// # Errors
    /// When encrypting fails.
    pub fn encrypt_to(&self, recipient: &Recipient, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        recipient.encrypt(plain, &*self.doors.entropy).map_err(Fault::internal)
    }

    /// Takes one share; with the last one needed the node unseals before this returns.
    ///
    /// # Errors
    /// A refusal when the share is malformed, or when all shares together open nothing.
    pub async fn enter_share(&self, share: UnsealShare) -> Result<(), Fault> {
        self.store_is_known().await?;
        self.ask(|answer| Command::Unseal { share, answer }).await
    }

    /// Forgets the shares entered so far.
    ///
    /// # Errors
    /// When the node is going down.
    pub async fn reset_shares(&self) -> Result<(), Fault> {
        self.ask(|answer| Command::Reset { answer }).await
    }

    /// Seals: drops every key and service before this returns.
    ///
    /// # Errors
    /// When the node is going down.
    pub async fn seal(&self) -> Result<(), Fault> {
        self.ask(|answer| Command::Seal { answer }).await
    }

    /// Seals, and lets a staged snapshot take the place of what is stored. The shares of the cluster that took it unseal,
    /// or a static key of its time.
    ///
    /// # Errors
    /// When it cannot take the place; the node is sealed all the same, and what was stored is there.
    pub(crate) async fn restore(&self, staged: Option<Staged>) -> Result<(), Fault> {
        let staged = staged.ok_or_else(|| Fault::internal("no snapshot is staged"))?;
        self.ask(|answer| Command::Restore { staged, answer }).await
    }

    /// Its keys are not those of what is stored any more; the owner is told, and not waited for.
    pub(crate) async fn is_estranged(&self) {
        // An owner that is gone has sealed the node.
        drop(self.commands.send(Command::Estranged).await);
    }

    /// Opens the node by itself, where the operator configured that. When this returns it was tried once; as long as it
    /// fails, it is tried again in the background.
    pub async fn open_by_itself(self: &Arc<Self>) {
        if self.settings.auto_seal.is_none() {
            return opening::tell_of_no_way(self);
        }
        let is_settled = tokio::select! {
            biased;
            settled = self.try_to_open() => settled.unwrap_or(true),
            // What hangs must not keep the server from answering that it is sealed.
            () = self.sleep(FINISH_BOUND) => false,
        };
        if !is_settled {
            self.tasks.spawn(opening::keep_trying(Arc::downgrade(self)));
        }
    }

    /// One attempt; whether there is nothing more to try. While a service is asked, whoever wants something of the node's owner has
    /// it.
    pub(crate) async fn try_to_open(&self) -> Result<bool, Fault> {
        if self.ask(|answer| Command::IsHeld { answer }).await? {
            return Ok(true);
        }
        let keys = opening::prepare(self).await;
        self.ask(|answer| Command::Open { keys, answer }).await
    }

    /// Completes once so much time has passed.
    pub(crate) fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }

    /// Reopens what rotation tools have moved away (SIGHUP).
    pub fn reopen_audit_files(&self) {
        if let Some(unsealed) = self.unsealed() {
            unsealed.handles.audits.reopen();
        }
    }

    /// The configuration was read anew, and declares these audit devices.
    ///
    /// # Errors
    /// When the node leads and cannot store what is declared.
    pub async fn declare_audit_devices(&self, devices: Vec<DeclaredDevice>) -> Result<(), Fault> {
        self.settings.audit_devices.replace(devices);
        match self.unsealed().filter(|unsealed| unsealed.duties.is_active()) {
            Some(unsealed) => audits::declared::reconcile(&unsealed).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Command,
    ) -> Result<T, Fault> {
        let (answer, receiver) = oneshot::channel();
        let gone = || Fault::Refusal(Refusal::Unavailable("the server is shutting down".into()));
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }

    pub(crate) fn publish_attempt(&self, progress: u8, nonce: String) {
        self.attempt.store(Arc::new((progress, nonce)));
    }

    pub(crate) fn publish_problem(&self, problem: Option<OpeningProblem>) {
        self.opening_problem.store(Arc::new(problem));
    }
}

/// The owner task: the only place that changes the node's state.
async fn own(node: std::sync::Weak<Node>, mut inbox: mpsc::Receiver<Command>) {
    let mut collector = ShareCollector::default();
    let mut by_itself = ByItself::default();
    let (mut offered, mut sealings) = (None, 0);
    while let Some(command) = inbox.recv().await {
        let Some(node) = node.upgrade() else { return };
        // A caller that went away does not undo what was done.
        match command {
            Command::Initialize { threshold, root_token, first, answer } => {
                let initialized = initialize(&node, threshold, root_token, first).await;
                if initialized.is_ok() && !by_itself.attempt(&node).await {
                    node.tasks.spawn(opening::keep_trying(Arc::downgrade(&node)));
                }
                drop(answer.send(initialized));
            }
            Command::IsHeld { answer } => drop(answer.send(Ok(by_itself.is_held()))),
            Command::Open { keys, answer } => {
                drop(answer.send(Ok(by_itself.attempt_with(&node, keys).await)));
            }
            Command::Unseal { share, answer } => match opening::enter(&node, &mut collector, share) {
                Ok(None) => drop(answer.send(Ok(()))),
                Ok(Some(key)) => opening::open(&node, key, offered.as_ref(), sealings, answer).await,
                Err(fault) => drop(answer.send(Err(fault))),
            },
            Command::WaitForShares { offered: new, answer } => {
                let begun = joining::begin_to_wait(&node, &new).map(|is_other| {
                    if is_other {
                        collector.reset();
                    }
                    offered = Some(new);
                });
                drop(answer.send(begun));
            }
            Command::Adopt { members, facts, answer } => drop(answer.send(joining::adopt(&node, members, facts))),
            Command::Join { wish, is_kept_up, answer } => {
                node.tasks.spawn(joining::on_demand(Arc::downgrade(&node), wish, is_kept_up, answer));
            }
            Command::OpenWith { sealings: Some(before), answer, .. } if before != sealings => {
                let text = "the node was sealed while it was opened: enter the shares again";
                drop(answer.send(Err(Refusal::Unavailable(text.into()).into())));
            }
            Command::OpenWith { key, slot, answer, .. } => {
                offered = None;
                drop(answer.send(opening::by_shares(&node, &key, slot).await));
            }
            Command::Reset { answer } => {
                collector.reset();
                node.publish_attempt(0, String::new());
                drop(answer.send(Ok(())));
            }
            Command::Seal { answer } => {
                by_itself.hold(&node);
                sealings += 1;
                seal(&node).await;
                drop(answer.send(Ok(())));
            }
            Command::Restore { staged, answer } => {
                drop(answer.send(restore::by(&node, staged, &mut collector, &mut by_itself).await));
            }
            Command::Estranged => {
                tracing::warn!("what is stored was replaced by what other keys open: the node is sealed");
                close(&node).await;
                restore::stay_sealed(&node, &mut collector, &mut by_itself).await;
            }
        }
    }
}

/// Lets go of everything that was unsealed.
async fn seal(node: &Node) {
    let began = node.metrics.moment();
    node.cluster.set_sealed(true);
    if close(node).await.is_some() {
        node.metrics.seal_internal.observe(node.metrics.since(began));
        tracing::info!("node is sealed");
    }
}

/// The same, while it goes on to be what it is in its cluster; what it let go of.
pub(crate) async fn close(node: &Node) -> Option<Arc<Unsealed>> {
    let before = node.state.swap(Arc::new(State::Sealed));
    let State::Unsealed(unsealed) = &*before else { return None };
    let began = node.metrics.moment();
    unsealed.stop().await;
    node.metrics.pre_seal.observe(node.metrics.since(began));
    Some(Arc::clone(unsealed))
}

async fn initialize(
    node: &Arc<Node>,
    threshold: Option<Threshold>,
    root_token: Option<TokenSecret>,
    first: First,
) -> Result<Initialized, Fault> {
    let refuse = opening::not_initialised;
    // The store of another cluster may arrive. And a service is asked for no store that there is.
    if node.joining.load().facts().is_some() || node.has_store() {
        return Err(refuse(InitError::AlreadyInitialized));
    }
    let keys = opening::first_keys(node).await?;
    node.settings.stir().await?;
    let static_key = keys.as_ref().map(|keys| &keys.current);
    let prepared = node.store.prepare(threshold, static_key, node.now()).map_err(refuse)?;
    drop(keys);
    let barrier = prepared.barrier();
    let entropy = &*node.doors.entropy;
    let now = node.now();
    let namespace = NamespaceId::root();
    let mut txn = barrier.begin().map_err(Fault::internal)?;
    let mut name = node.settings.cluster_name.clone();
    if name.is_empty() {
        name = format!("tresor-cluster-{}", token_text::random_base62(8, entropy).as_str().to_lowercase());
    }
    let cluster = ClusterRecord { name, id: token_text::random_uuid(entropy) };
    txn.write(&keys::cluster().map_err(Fault::internal)?, &cluster.encode()).map_err(Fault::internal)?;
    releases::write(&mut txn, node.settings.release, now)?;
    Policies::write_defaults(&mut txn, &namespace)?;
    let mount = Mounts::write_defaults(&mut txn, &namespace, now, entropy)?;
    let root = NewToken {
        id: root_token,
        namespace,
        parent: None,
        policies: vec!["root".to_owned()],
        metadata: BTreeMap::new(),
        display_name: "root".to_owned(),
        path: "auth/token/root".to_owned(),
        mount,
        ttl: first.token_ttl(),
        renewal_ttl: Duration::ZERO,
        max_ttl: Duration::ZERO,
        explicit_max_ttl: Duration::ZERO,
        period: Duration::ZERO,
        num_uses: 0,
        renewable: false,
        bound_cidrs: Vec::new(),
        kept: None,
    };
    first.mark(&mut txn, now)?;
    let root_token = tokens::mint_first(barrier, &mut txn, root, now, entropy)?;
    // Keys and first records in one batch: a crash leaves a store that is initialised, or one that can be.
    let (shares, barrier) = prepared.store(txn).await.map_err(refuse)?;
    barrier.stop().await;
    tracing::info!("store is initialised");
    Ok(Initialized { shares, root_token })
}
