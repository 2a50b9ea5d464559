//! How a node opens: by shares that people enter, or by itself with a key that lies with the machine (the static seal) or
//! that a service opens ([`key_service`](crate::key_service)).
//!
//! All end in [`serve`]. The key is read whenever it is needed and kept nowhere in between, so a sealed node holds
//! none. A node that could not open by itself tries again, later each time; once it was opened, or sealed by somebody,
//! it stays as it was left. Deliberately absent: where keys lie (`tresor-server` reads files and variables), and shares.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tresor_barrier::{
    Barrier, CommitError, InitError, Progress, SealFacts, ShareCollector, SlotChange, StaticKeyError, StaticKeys,
    StaticSlot, StoredKey, UnsealError, UnsealKey,
};
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, SteadyClock};
use tresor_model::{Fault, Refusal};
use tresor_secret::UnsealShare;

use crate::augmentation::Augmentation;
use crate::cluster::joining::{self, Offered};
use crate::key_service::{self, KeyService, Randomness, Wanted};
use crate::node::{Node, State};
use crate::role::PROMOTION_BOUND;
use crate::seal_health::{self, SealChecks};
use crate::storage::Storage;
use crate::unsealed::Unsealed;

/// The longest that a key is waited for: it may lie on a file system that hangs.
const KEY_BOUND: Duration = Duration::from_secs(3);
/// The longest that a service is waited for, whatever it is asked.
const SERVICE_BOUND: Duration = Duration::from_secs(10);
/// How soon a node that could not open by itself tries again at first, and at the latest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Where the keys of the static seal lie.
pub trait StaticKeySource: Send + Sync {
    /// Reads them. Blocking.
    ///
    /// # Errors
    /// Why they cannot be read: a text for the log, with the ids of keys and where they were looked for.
    fn read(&self) -> Result<StaticKeys, Box<dyn std::error::Error + Send + Sync>>;
}

/// The operator's wish that the node opens by itself.
#[derive(Clone)]
pub struct AutoSeal {
    /// What it opens with.
    pub key: AutoKey,
    /// When it is looked at while nobody needs it; never, without.
    pub checks: Option<SealChecks>,
    /// The node's entropy with that of the seal in it, where the operator demands it.
    pub augmentation: Option<Arc<Augmentation>>,
}

/// What a node opens with by itself.
#[derive(Clone)]
pub enum AutoKey {
    /// A key that lies with the machine.
    Static {
        /// The id of the key that is to open the store.
        key_id: String,
        /// Where it lies.
        source: Arc<dyn StaticKeySource>,
    },
    /// A key that lies in its slot, sealed by a service.
    Service(Arc<dyn KeyService>),
}

impl AutoSeal {
    /// Its kind, the type of its stanza.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.key {
            AutoKey::Static { .. } => "static",
            AutoKey::Service(service) => service.kind(),
        }
    }

    /// The id of its key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        match &self.key {
            AutoKey::Static { key_id, .. } => key_id,
            AutoKey::Service(service) => service.key_id(),
        }
    }
}

/// Why a node did not open by itself: what strangers may know of it; the log says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpeningProblem {
    /// The key is not where it should be, or is none.
    KeyUnreadable,
    /// The service that opens the key does not answer.
    ServiceAway,
    /// The service that opens the key says no, or nonsense.
    ServiceRefuses,
    /// The store was initialised without such a seal: shares are needed once.
    NoSlot,
    /// The same, and there are no shares: only the seal that the store was initialised with opens it.
    NoWay,
    /// The store opens with a key of another id.
    OtherKey,
    /// The key is not the one that had its id before.
    WrongKey,
    /// The key was right, and the requests that a server made of itself at first were not all made.
    HalfInitialized,
    /// The key was right, and what it opens cannot be served.
    NotServed,
}

impl fmt::Display for OpeningProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyUnreadable => "fails and is tried again: the key of the seal cannot be read",
            Self::ServiceAway => "fails and is tried again: the service that keeps the key of the seal does not answer",
            Self::ServiceRefuses => {
                "fails and is tried again: the service that keeps the key of the seal refuses to open"
            }
            Self::NoSlot => "waits for shares: the store is to be unsealed by them once",
            Self::NoWay => "waits for another configuration: the store has no shares, and opens by the seal that it was made with alone",
            Self::OtherKey => "fails and is tried again: the store opens with a key of another id",
            Self::WrongKey => "fails and is tried again: the key is not the one that had its id before",
            Self::HalfInitialized => HALF_INITIALIZED,
            Self::NotServed => "fails and is tried again: the key is right, and the store cannot be served",
        })
    }
}

/// Why a node did not open by itself: for strangers, and for the log.
pub(crate) struct NotOpened {
    pub(crate) problem: OpeningProblem,
    pub(crate) cause: String,
}

impl NotOpened {
    pub(crate) fn new(problem: OpeningProblem, cause: &impl fmt::Display) -> Self {
        Self { problem, cause: cause.to_string() }
    }
}

/// What the owner of a node's state remembers of its opening by itself.
#[derive(Default)]
pub(crate) struct ByItself {
    /// Somebody sealed the node: it opens by itself no more, until the process is started again.
    is_held: bool,
    /// What was logged last, so that trying again says nothing new.
    told: String,
}

impl ByItself {
    /// The node was sealed on purpose.
    pub(crate) fn hold(&mut self, node: &Node) {
        self.is_held = true;
        node.publish_problem(None);
    }

    /// Whether the node was sealed on purpose, so that nothing is to be tried.
    pub(crate) const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Tries, unless there is no reason to. Whether it is settled: no attempt is needed any more.
    pub(crate) async fn attempt(&mut self, node: &Arc<Node>) -> bool {
        if self.is_held {
            return true;
        }
        let keys = prepare(node).await;
        self.attempt_with(node, keys).await
    }

    /// The same with what was prepared for it.
    pub(crate) async fn attempt_with(&mut self, node: &Arc<Node>, keys: Result<Option<StaticKeys>, NotOpened>) -> bool {
        // Shares may have opened it meanwhile.
        if self.is_held || node.unsealed().is_some() {
            return true;
        }
        let done = match keys {
            Ok(Some(keys)) => by_itself(node, keys).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                node.publish_problem(None);
                true
            }
            Err(NotOpened { problem, cause }) => {
                if cause != self.told {
                    tell(problem, &cause);
                }
                self.told = cause;
                node.publish_problem(Some(problem));
                false
            }
        }
    }
}

/// Says in the log why the node is still sealed, and what its operator does.
fn tell(problem: OpeningProblem, cause: &str) {
    if problem == OpeningProblem::HalfInitialized {
        return tracing::error!(
            "the store stays sealed: a server began to initialise itself by its `initialize` stanzas, and failed or was ended \
             before every request was made. Unless another node is making them now: stop the server, mend what failed, \
             remove the store that `storage` names, and start the server, which then begins anew"
        );
    }
    tracing::warn!(cause, "the node does not open by itself yet; it tries again, and shares open it");
}

/// Tries again until it is settled.
pub(crate) async fn keep_trying(node: Weak<Node>) {
    let mut pause = PAUSES.0;
    loop {
        let Some(waiting) = node.upgrade().map(|node| node.sleep(pause)) else { return };
        waiting.await;
        let Some(node) = node.upgrade() else { return };
        if node.try_to_open().await.unwrap_or(true) {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// The keys that a store is to be initialised with, where it is to open by itself; the fault says in public only that there
/// are none.
pub(crate) async fn first_keys(node: &Node) -> Result<Option<StaticKeys>, Fault> {
    let Some(seal) = &node.settings().auto_seal else { return Ok(None) };
    match read_keys(&node.doors, &node.clock, seal, &[], Wanted::Slot).await {
        Ok(keys) => Ok(Some(keys)),
        Err(NotOpened { cause, .. }) => {
            let kind = seal.kind();
            tracing::error!(cause, "the key of the {kind} seal cannot be read");
            let text = format!("the key of the {kind} seal cannot be read: the server's log says why");
            Err(Refusal::Unavailable(text.into()).into())
        }
    }
}

/// The keys that a seal has now. `stored` are those that lie in slots.
pub(crate) async fn read_keys(
    doors: &Doors,
    clock: &SteadyClock,
    seal: &AutoSeal,
    stored: &[StoredKey],
    wanted: Wanted,
) -> Result<StaticKeys, NotOpened> {
    let id = seal.key_id();
    let made_of = Randomness { entropy: &*doors.entropy, augmentation: seal.augmentation.as_deref() };
    match &seal.key {
        AutoKey::Static { source, .. } => {
            let source = Arc::clone(source);
            let read = tokio::select! {
                biased;
                read = run_blocking(&*doors.workers, move || source.read()) => match read {
                    Ok(read) => read.map_err(|error| error.to_string()),
                    Err(panicked) => Err(format!("the key `{id}` of the static seal cannot be read: {panicked}")),
                },
                () = clock.sleep(KEY_BOUND) => Err(format!("the key `{id}` of the static seal cannot be read in time")),
            };
            read.map_err(|cause| NotOpened { problem: OpeningProblem::KeyUnreadable, cause })
        }
        AutoKey::Service(service) => tokio::select! {
            biased;
            read = key_service::read(&**service, stored, wanted, made_of) => read,
            () = clock.sleep(SERVICE_BOUND) => {
                let cause = format!("the key `{id}` of the seal `{}`: it does not answer in time", service.kind());
                Err(NotOpened { problem: OpeningProblem::ServiceAway, cause })
            }
        },
    }
}

/// Takes a share; gives the key when there are enough.
pub(crate) fn enter(
    node: &Node,
    collector: &mut ShareCollector,
    share: UnsealShare,
) -> Result<Option<UnsealKey>, Fault> {
    if node.unsealed().is_some() {
        return Ok(None);
    }
    let facts = node.facts()?;
    if !facts.initialized {
        return Err(Fault::invalid("server is not initialized"));
    }
    let progress = match collector.submit(share, &facts, &*node.doors.entropy) {
        Ok(progress) => progress,
        Err(error) => {
            if collector.is_empty() {
                node.publish_attempt(0, String::new());
            }
            return Err(Fault::invalid(error.to_string()));
        }
    };
    match progress {
        Progress::Collecting { progress, nonce } => {
            node.publish_attempt(progress, nonce);
            Ok(None)
        }
        Progress::Complete(key) => {
            node.publish_attempt(0, String::new());
            Ok(Some(key))
        }
    }
}

/// Opens what is stored; or joins the cluster whose store the key opens, in the background, because others answer then.
pub(crate) async fn open(
    node: &Arc<Node>,
    key: UnsealKey,
    offered: Option<&Offered>,
    sealings: u64,
    answer: oneshot::Sender<Result<(), Fault>>,
) {
    let Some(offered) = offered.filter(|_| !node.has_store()) else {
        if node.settings().auto_seal.is_none() {
            return drop(answer.send(by_shares(node, &key, None).await));
        }
        // A service is asked for nobody who has no shares, and nobody else waits for it.
        if let Err(fault) = proves(node, &key) {
            return drop(answer.send(Err(fault)));
        }
        let strong = Arc::clone(node);
        return node.tasks.spawn(async move { drop(answer.send(strong.open_with(key, Some(sealings)).await)) });
    };
    let wish = Arc::clone(&offered.wish);
    match offered.offer.open_with(&key) {
        Ok(_) => node.tasks.spawn(joining::by_shares(Arc::downgrade(node), wish, key, answer)),
        Err(error) => {
            // What was shown may be out of date, or of somebody else.
            node.tasks.spawn(joining::seek(Arc::downgrade(node), wish));
            drop(answer.send(Err(not_by_shares(error))));
        }
    }
}

/// What the slot of the configured seal is to be when shares open the node: read before, so that the root key waits for nothing, and
/// not by the node's owner, so that nobody else waits for a service that hangs.
pub(crate) async fn prepare_slot(node: &Node) -> Result<Option<Result<StaticKeys, NotOpened>>, Fault> {
    let Some(seal) = &node.settings().auto_seal else { return Ok(None) };
    let stored = node.store.stored_keys().map_err(Fault::internal)?;
    Ok(Some(read_keys(&node.doors, &node.clock, seal, &stored, Wanted::Slot).await))
}

/// Whether shares were put together to what opens the store.
pub(crate) fn proves(node: &Node, key: &UnsealKey) -> Result<(), Fault> {
    node.store.unseal_with(key).map(drop).map_err(not_by_shares)
}

fn not_by_shares(error: UnsealError) -> Fault {
    match error {
        UnsealError::WrongKey => Fault::invalid("unseal failed, invalid key"),
        other => Fault::internal(other),
    }
}

/// Opens the node with what shares were put together to, and brings the store's slots to what is configured. Who joins with
/// shares may find it open: others entered theirs meanwhile.
pub(crate) async fn by_shares(
    node: &Arc<Node>,
    key: &UnsealKey,
    slot: Option<Result<StaticKeys, NotOpened>>,
) -> Result<(), Fault> {
    if node.unsealed().is_some() {
        return Ok(());
    }
    let opened = node.store.unseal_with(key).map_err(not_by_shares)?;
    let wanted = match &slot {
        None => wanted_slot(node, None),
        Some(Ok(keys)) => wanted_slot(node, Some(keys)),
        // What is there may be right: it stays.
        Some(Err(NotOpened { cause, .. })) => {
            tracing::warn!(cause, "the store's key slots stay as they are");
            StaticSlot::AsIs
        }
    };
    let change = opened.with_static(&wanted, node.now());
    drop(slot);
    serve(node, opened.into_barrier(), change).await?;
    node.publish_problem(None);
    Ok(())
}

/// Which key is to open the store from now on without people. A node that is alone has the slots of its own configuration and no other;
/// where there are others, each leaves theirs alone: they may be configured otherwise, and an operator removes what is not needed.
fn wanted_slot<'k>(node: &Node, keys: Option<&'k StaticKeys>) -> StaticSlot<'k> {
    let cluster = &*node.cluster;
    // Of nodes that share a store, those that are sealed are not seen.
    let has_others = cluster.is_enabled() && (!cluster.has_log() || cluster.members().len() > 1);
    match keys.map(|keys| &keys.current) {
        None if has_others => StaticSlot::AsIs,
        None => StaticSlot::Unwanted,
        Some(key) if has_others => StaticSlot::Beside(key),
        Some(key) => StaticSlot::Of(key),
    }
}

/// Says why a store stays sealed that nothing opens which is configured; once, when the server starts.
pub(crate) fn tell_of_no_way(node: &Node) {
    let Ok(facts) = node.store.facts() else { return };
    if node.settings().auto_seal.is_some() || !facts.initialized || facts.threshold > 0 {
        return;
    }
    let kinds: Vec<String> = facts.without_people.iter().map(|key| format!("`{}` ({})", key.kind, key.id)).collect();
    tracing::error!(
        seals = kinds.join(", "),
        "the store has no shares, and no `seal` is configured: only one of the seals that it has a slot of opens it"
    );
    node.publish_problem(Some(OpeningProblem::NoWay));
}

/// What an attempt is made with; nothing where there is no reason for one. A service may take its time.
pub(crate) async fn prepare(node: &Node) -> Result<Option<StaticKeys>, NotOpened> {
    let Some(seal) = &node.settings().auto_seal else { return Ok(None) };
    let not_served = |error: &dyn fmt::Display| NotOpened::new(OpeningProblem::NotServed, &error.to_string());
    let facts = node.store.facts().map_err(|error| not_served(&error))?;
    // Initialising opens the node by itself.
    if node.unsealed().is_some() || !facts.initialized {
        return Ok(None);
    }
    let stored = node.store.stored_keys().map_err(|error| not_served(&error))?;
    match read_keys(&node.doors, &node.clock, seal, &stored, Wanted::Opening).await {
        Ok(keys) => Ok(Some(keys)),
        Err(error) => Err(without_shares(&facts, error)),
    }
}

/// Where there are no shares, none are waited for.
fn without_shares(facts: &SealFacts, error: NotOpened) -> NotOpened {
    if error.problem != OpeningProblem::NoSlot || facts.threshold > 0 {
        return error;
    }
    let kinds: Vec<String> = facts.without_people.iter().map(|key| format!("`{}` ({})", key.kind, key.id)).collect();
    let text = format!(
        "the store has no shares and no key slot of the seal that is configured: only those of {} open it",
        kinds.join(", ")
    );
    NotOpened::new(OpeningProblem::NoWay, &text)
}

async fn by_itself(node: &Arc<Node>, keys: StaticKeys) -> Result<(), NotOpened> {
    let Some(seal) = &node.settings().auto_seal else { return Ok(()) };
    let not_served = |error: &dyn fmt::Display| NotOpened::new(OpeningProblem::NotServed, &error.to_string());
    let opened = node.store.unseal_by(&keys).map_err(|error| {
        let problem = match &error {
            UnsealError::StaticKey(StaticKeyError::NoSlot) => OpeningProblem::NoSlot,
            UnsealError::StaticKey(StaticKeyError::UnknownId { .. }) => OpeningProblem::OtherKey,
            UnsealError::StaticKey(StaticKeyError::WrongKey { .. }) => OpeningProblem::WrongKey,
            _ => OpeningProblem::NotServed,
        };
        let facts = node.store.facts();
        let error = NotOpened::new(problem, &error);
        facts.map_or_else(|unread| not_served(&unread), |facts| without_shares(&facts, error))
    })?;
    let change = opened.with_static(&wanted_slot(node, Some(&keys)), node.now());
    drop(keys);
    serve(node, opened.into_barrier(), change).await.map_err(|why| match why {
        NotServed::HalfInitialized => NotOpened::new(OpeningProblem::HalfInitialized, &HALF_INITIALIZED),
        NotServed::Other(fault) => not_served(&fault.for_operators()),
    })?;
    tracing::info!(key = seal.key_id(), seal = seal.kind(), "the node opened by itself");
    Ok(())
}

/// Opens the node with keys that it has had all the time.
pub(crate) async fn with(node: &Arc<Node>, barrier: Barrier) -> Result<(), Fault> {
    Ok(serve(node, barrier, None).await?)
}

/// Why a store is not opened whose first requests were not all made: which of them had their effect nobody knows.
const HALF_INITIALIZED: &str = "self-initialisation began and was not done: remove the store to begin anew";

/// Why what the right key opens is not served.
enum NotServed {
    /// The requests that a server made of itself at first were not all made.
    HalfInitialized,
    /// Everything else.
    Other(Fault),
}

impl From<Fault> for NotServed {
    fn from(fault: Fault) -> Self {
        Self::Other(fault)
    }
}

impl From<NotServed> for Fault {
    fn from(why: NotServed) -> Self {
        match why {
            NotServed::HalfInitialized => Refusal::Unavailable(HALF_INITIALIZED.into()).into(),
            NotServed::Other(fault) => fault,
        }
    }
}

/// Loads what an unsealed node has and serves; then stores the key slots as they are to be.
async fn serve(node: &Arc<Node>, barrier: Barrier, change: Option<SlotChange>) -> Result<(), NotServed> {
    let settings = Arc::clone(&node.settings);
    let began = node.metrics.moment();
    // The node's own clock: time does not go back over a sealing either.
    let clock = node.clock.clone();
    let storage = Storage::new(Arc::clone(&node.store));
    if node.is_half_initialized(&mut barrier.begin().map_err(Fault::internal)?)? {
        barrier.stop().await;
        return Err(NotServed::HalfInitialized);
    }
    let (nodes, doors) = (Arc::clone(&node.cluster), node.doors.clone());
    let metrics = Arc::clone(&node.metrics);
    let join_key = barrier.join_key();
    let unsealed = Unsealed::open(barrier, storage, nodes, doors, clock, settings, metrics, &node.registry).await?;
    if let Some(change) = change {
        unsealed.duties.keep_slots(change);
    }
    unsealed.follow_standing();
    unsealed.follow_keys(Arc::downgrade(node));
    unsealed.handles.errands.go_to(Arc::downgrade(node));
    seal_health::start(&unsealed);
    node.cluster.open_with(join_key);
    node.cluster.set_sealed(false);
    // Who asks next finds a node that does what it can, and what hangs keeps nobody from asking.
    tokio::select! {
        biased;
        () = unsealed.duties.settled() => {}
        () = unsealed.clock.sleep(PROMOTION_BOUND) => {}
    }
    node.state.store(Arc::new(State::Unsealed(Arc::clone(&unsealed))));
    node.metrics.unseal.observe(node.metrics.since(began));
    tracing::info!("node is unsealed");
    Ok(())
}

/// Why a store was not initialised.
pub(crate) fn not_initialised(error: InitError) -> Fault {
    match error {
        InitError::AlreadyInitialized => Fault::invalid("Vault is already initialized"),
        InitError::NotEmpty => Fault::invalid(error.to_string()),
        InitError::Commit(CommitError::Failed(cause)) if cause.is_elsewhere() => {
            let why = "another server writes the store: it was initialised meanwhile, or is another cluster's";
            Refusal::Unavailable(why.into()).into()
        }
        other => Fault::internal(other),
    }
}
