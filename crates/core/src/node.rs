//! The node's life: uninitialised, sealed, unsealed; one task owns it, everybody else reads a snapshot.
//!
//! Initialising, entering shares and sealing are messages to that task, so they never overlap. Sealing is dropping:
//! the task swaps the snapshot, stops what was unsealed, and lets go of it. Deliberately absent: standbys (the
//! cluster issue adds states here) and the endpoints that speak of all this (`tresor-system`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tresor_barrier::{InitError, Progress, SealFacts, SealedStore, ShareCollector, UnsealError};
use tresor_crypto::shamir::Threshold;
use tresor_crypto::token_text;
use tresor_engine::{EngineFactory, Mounted};
use tresor_env::tasks::run_blocking;
use tresor_env::{BoxFuture, Doors, SteadyClock, Tasks, Timestamp};
use tresor_model::ids::{NamespaceId, RequestId};
use tresor_model::{Fault, Map, Refusal, Response, Verb};
use tresor_record::Record;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_storage::{Condition, Store};
use tresor_wire::input::FieldSpec;
use tresor_wire::output::OutputSpec;

use crate::mounts::Mounts;
use crate::policies::Policies;
use crate::settings::Settings;
use crate::snapshots::Staged;
use crate::storage::Storage;
use crate::tokens::{self, NewToken};
use crate::unsealed::{ClusterRecord, Handles, Unsealed};
use crate::{keys, restore};

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
    /// Shares, threshold, kind, and whether the store is initialised.
    pub facts: SealFacts,
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
    /// Whether the store can be written to; when it cannot, requests that write are refused.
    pub storage: Condition,
}

pub(crate) enum State {
    Sealed,
    Unsealed(Arc<Unsealed>),
}

enum Command {
    Initialize {
        threshold: Threshold,
        root_token: Option<TokenSecret>,
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
    Restore {
        staged: Staged,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
}

/// The node.
pub struct Node {
    state: ArcSwap<State>,
    /// Progress and nonce of the running attempt, published by the owner task.
    attempt: ArcSwap<(u8, String)>,
    store: Arc<SealedStore>,
    pub(crate) doors: Doors,
    clock: SteadyClock,
    settings: Arc<Settings>,
    pub(crate) registry: Registry,
    commands: mpsc::Sender<Command>,
    inbox: Mutex<Option<mpsc::Receiver<Command>>>,
    tasks: Tasks,
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
        doors: Doors,
        settings: Settings,
        registry: Registry,
    ) -> Result<Arc<Self>, Fault> {
        let store = SealedStore::open(store, doors.clone()).map_err(Fault::internal)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let node = Arc::new(Self {
            state: ArcSwap::from_pointee(State::Sealed),
            attempt: ArcSwap::from_pointee((0, String::new())),
            store: Arc::new(store),
            clock: SteadyClock::new(Arc::clone(&doors.clock)),
            doors,
            settings: Arc::new(settings),
            registry,
            commands,
            inbox: Mutex::new(Some(inbox)),
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

    /// Time, as the node tells it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
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
        let facts = self.store.facts().map_err(Fault::internal)?;
        let attempt = self.attempt.load();
        let unsealed = self.unsealed();
        Ok(SealStanding {
            facts,
            sealed: unsealed.is_none(),
            progress: attempt.0,
            nonce: attempt.1.clone(),
            audit_refusal: unsealed.as_ref().and_then(|unsealed| unsealed.handles.audits.refusal()),
            storage: self.store.condition(),
            cluster: unsealed.map(|unsealed| (unsealed.cluster.name.clone(), unsealed.cluster.id.clone())),
        })
    }

    /// Initialises the store: key ring, key slot, first records, root token. The node stays sealed.
    ///
    /// # Errors
    /// A refusal when it is initialised already.
    pub async fn initialize(
        &self,
        threshold: Threshold,
        root_token: Option<TokenSecret>,
    ) -> Result<Initialized, Fault> {
        self.ask(|answer| Command::Initialize { threshold, root_token, answer }).await
    }

    /// Takes one share; with the last one needed the node unseals before this returns.
    ///
    /// # Errors
    /// A refusal when the share is malformed, or when all shares together open nothing.
    pub async fn enter_share(&self, share: UnsealShare) -> Result<(), Fault> {
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

    /// Seals, and lets a staged snapshot take the place of what is stored. The shares of the cluster that took it unseal.
    ///
    /// # Errors
    /// When it cannot take the place; the node is sealed all the same, and what was stored is there.
    pub(crate) async fn restore(&self, staged: Option<Staged>) -> Result<(), Fault> {
        let staged = staged.ok_or_else(|| Fault::internal("no snapshot is staged"))?;
        self.ask(|answer| Command::Restore { staged, answer }).await
    }

    /// Reopens what rotation tools have moved away (SIGHUP).
    pub fn reopen_audit_files(&self) {
        if let Some(unsealed) = self.unsealed() {
            unsealed.handles.audits.reopen();
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Command) -> Result<T, Fault> {
        let (answer, receiver) = oneshot::channel();
        let gone = || Fault::Refusal(Refusal::Unavailable("the server is shutting down".into()));
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }

    fn publish_attempt(&self, progress: u8, nonce: String) {
        self.attempt.store(Arc::new((progress, nonce)));
    }
}

/// The owner task: the only place that changes the node's state.
async fn own(node: std::sync::Weak<Node>, mut inbox: mpsc::Receiver<Command>) {
    let mut collector = ShareCollector::default();
    while let Some(command) = inbox.recv().await {
        let Some(node) = node.upgrade() else { return };
        // A caller that went away does not undo what was done.
        match command {
            Command::Initialize { threshold, root_token, answer } => {
                drop(answer.send(initialize(&node, threshold, root_token).await))
            }
            Command::Unseal { share, answer } => drop(answer.send(take_share(&node, &mut collector, share).await)),
            Command::Reset { answer } => {
                collector.reset();
                node.publish_attempt(0, String::new());
                drop(answer.send(Ok(())));
            }
            Command::Seal { answer } => {
                seal(&node).await;
                drop(answer.send(Ok(())));
            }
            Command::Restore { staged, answer } => {
                // Nothing that knows what was stored may outlive it, so it is sealed first; shares that were entered
                // are of what was stored, too.
                seal(&node).await;
                collector.reset();
                node.publish_attempt(0, String::new());
                let restored = restore::swap_in(&node.doors, node.settings.audit_directory.as_deref(), staged).await;
                drop(answer.send(restored));
            }
        }
    }
}

/// Lets go of everything that was unsealed.
async fn seal(node: &Node) {
    let before = node.state.swap(Arc::new(State::Sealed));
    if let State::Unsealed(unsealed) = &*before {
        unsealed.stop().await;
        tracing::info!("node is sealed");
    }
}

async fn take_share(node: &Arc<Node>, collector: &mut ShareCollector, share: UnsealShare) -> Result<(), Fault> {
    if node.unsealed().is_some() {
        return Ok(());
    }
    let facts = node.store.facts().map_err(Fault::internal)?;
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
            Ok(())
        }
        Progress::Complete(key) => {
            collector.reset();
            node.publish_attempt(0, String::new());
            let barrier = node.store.unseal_with(&key).map_err(|error| match error {
                UnsealError::WrongKey => Fault::invalid("unseal failed, invalid key"),
                other => Fault::internal(other),
            })?;
            let settings = Arc::clone(&node.settings);
            // The node's own clock: time does not go back over a sealing either.
            let clock = node.clock.clone();
            let storage = Storage::new(Arc::clone(&node.store));
            let doors = node.doors.clone();
            let unsealed = Unsealed::open(barrier, storage, doors, clock, settings, &node.registry).await?;
            node.state.store(Arc::new(State::Unsealed(unsealed)));
            tracing::info!("node is unsealed");
            Ok(())
        }
    }
}

async fn initialize(
    node: &Arc<Node>,
    threshold: Threshold,
    root_token: Option<TokenSecret>,
) -> Result<Initialized, Fault> {
    let refuse = |error| match error {
        InitError::AlreadyInitialized => Fault::invalid("Vault is already initialized"),
        other => Fault::internal(other),
    };
    let prepared = node.store.prepare(threshold, node.now()).map_err(refuse)?;
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
        ttl: None,
        renewal_ttl: std::time::Duration::ZERO,
        max_ttl: std::time::Duration::ZERO,
        explicit_max_ttl: std::time::Duration::ZERO,
        period: std::time::Duration::ZERO,
        num_uses: 0,
        renewable: false,
        bound_cidrs: Vec::new(),
    };
    let root_token = tokens::mint_first(barrier, &mut txn, root, now, entropy)?;
    // Keys and first records in one batch: a crash leaves a store that is initialised, or one that can be.
    let (shares, barrier) = run_blocking(&*node.doors.workers, move || prepared.store(txn))
        .await
        .map_err(Fault::internal)?
        .map_err(refuse)?;
    barrier.stop().await;
    tracing::info!("store is initialised");
    Ok(Initialized { shares, root_token })
}
