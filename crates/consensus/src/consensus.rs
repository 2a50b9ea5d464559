//! A node of a cluster: what the rest of the house sees of agreement.
//!
//! Deliberately absent: forwarding. Who proposes to a node that does not lead is told who does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState, SnapshotPolicy};
use tokio::sync::mpsc;
use tresor_env::{BoxFuture, Doors, Signal, Tasks};
use tresor_log::Sizes;
use tresor_metrics::Reading;
use tresor_storage::machine::{Effect, Position};
use tresor_storage::{Batch, Machine};

use crate::answer::Incoming;
use crate::campaign::{self, Contacts};
use crate::feed::{Feed, position};
use crate::figures::Figures;
use crate::log_store::LogStore;
use crate::members::{Change, Members};
use crate::network::{Network, Wire};
use crate::peers::{Contact, NodeId, Peers};
use crate::reads::{self, Asked, Confirmed, WAITING_MAX, Waiting};
use crate::recover::{self, Survivor};
use crate::status::{Indexes, Progress, Role, Status};
use crate::types::{LogId, Proposal, Proposer, Raft};
use crate::{ConsensusError, OpenError, Pace, unfinished};

/// How often who waits for something looks again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Which node it is.
    pub me: NodeId,
    /// Where its log lies.
    pub directory: PathBuf,
    /// How large the log's segments are.
    pub sizes: Sizes,
    /// How long things take.
    pub pace: Pace,
    /// Whether it is sealed: see [`Consensus::set_sealed`].
    pub is_sealed: bool,
    /// Who the members are from now on, whatever its log says; none: who its log says.
    pub survivors: Vec<Survivor>,
}

/// What all parts of a node share.
pub(crate) struct Core {
    pub(crate) wire: Arc<Wire>,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    /// Where it lies.
    pub(crate) directory: PathBuf,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) is_sealed: AtomicBool,
    /// Whether it is handing leadership over.
    pub(crate) is_leaving: AtomicBool,
    pub(crate) is_closed: Arc<AtomicBool>,
    pub(crate) reads: mpsc::Sender<Waiting>,
    pub(crate) incoming: Mutex<Option<Incoming>>,
    committed: Arc<AtomicU64>,
    applied: Arc<Signal<Position>>,
    status: Signal<Status>,
}

/// A node.
pub struct Consensus {
    pub(crate) core: Arc<Core>,
    tasks: Tasks,
}

impl Consensus {
    /// Opens a node, with what its machine has and its log behind that. It is one of a cluster when its log says so, or
    /// when a leader sends it entries, or after [`Consensus::bootstrap`].
    ///
    /// # Errors
    /// [`OpenError`] when log or machine cannot be read, or do not fit together.
    pub async fn open(
        doors: &Doors,
        opening: Opening,
        machine: Arc<dyn Machine>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, OpenError> {
        let Opening { me, directory, sizes, pace, is_sealed, survivors } = opening;
        let feed = Feed::new(Arc::clone(&machine), doors);
        let log = LogStore::open(me, doors, &directory, sizes, Some(feed.clone()))?;
        let held = machine.applied().position;
        // What was before a state that was taken over; its process may have ended before it said so.
        log.purge_void(held, machine.begins_behind())?;
        if log.begins_behind(held.index) {
            let what = format!("the log begins later than behind entry {}, which is the machine's last", held.index);
            return Err(OpenError::Inconsistent(what));
        }
        if log.is_pristine() && held.index > 0 {
            return Err(OpenError::Inconsistent("the log of the machine is missing".to_owned()));
        }
        let (is_closed, committed) = (Arc::clone(&feed.is_closed), Arc::clone(&feed.committed));
        let applied = Arc::clone(&feed.applied);
        if !survivors.is_empty() {
            recover::recover(me, &survivors, &log, feed.clone()).await?;
        }
        let wire = Arc::new(Wire {
            me,
            pace,
            doors: doors.clone(),
            peers,
            contacts: Contacts::new(me),
            is_handed_over: AtomicBool::new(false),
            figures: Figures::default(),
        });
        let network = Network(Arc::clone(&wire));
        let raft = Raft::new(me, Arc::new(configuration()), network, log.clone(), feed).await;
        let raft = raft.map_err(|error| OpenError::Inconsistent(error.to_string()))?;
        let (reads, waiting) = mpsc::channel(WAITING_MAX);
        let core = Arc::new(Core {
            wire,
            raft,
            log,
            directory,
            machine,
            is_sealed: AtomicBool::new(is_sealed),
            is_leaving: AtomicBool::new(false),
            is_closed,
            reads,
            incoming: Mutex::new(None),
            committed,
            applied,
            status: Signal::default(),
        });
        // Who asks next is told whether there are others.
        let members = core.raft.with_raft_state(|state| {
            let members = state.membership_state.effective();
            (*members.log_id(), members.membership().clone())
        });
        let (at, members) = members.await.map_err(|error| OpenError::Inconsistent(error.to_string()))?;
        core.take_members(at, &members);
        core.log.take_members(at, &members);
        let tasks = Tasks::new();
        tasks.spawn(campaign::run(Arc::clone(&core)));
        tasks.spawn(reads::run(Arc::clone(&core), waiting));
        tasks.spawn(unfinished::run(Arc::clone(&core)));
        if !survivors.is_empty() {
            tasks.spawn(recover::tell(Arc::clone(&core)));
        }
        Ok(Self { core, tasks })
    }

    /// Founds a cluster with these voters, this node among them; the others are opened without being told.
    ///
    /// # Errors
    /// [`ConsensusError::Members`] when the node belongs to a cluster already, or is not among them.
    pub async fn bootstrap(&self, voters: BTreeMap<NodeId, Contact>) -> Result<(), ConsensusError> {
        self.core.raft.initialize(voters).await.map_err(|error| match error {
            RaftError::APIError(error) => ConsensusError::Members(error.to_string()),
            RaftError::Fatal(error) => ConsensusError::Stopped(error.to_string()),
        })
    }

    /// Completes when a node that is the only voter has applied all that was ever acknowledged, which takes no time-out; at
    /// once for any other.
    ///
    /// # Errors
    /// [`ConsensusError::Stopped`] when it does not come to that.
    pub async fn settled(&self) -> Result<(), ConsensusError> {
        let members = self.core.members_now().await?;
        let me = self.core.wire.me;
        if !members.votes(me) || members.voters_beside(me).next().is_some() {
            return Ok(());
        }
        let role = |status: &Status| matches!(status.role, Role::Leader | Role::Stopped).then_some(status.role);
        match self.core.status.wait_for(role).await {
            Role::Leader => Ok(()),
            _ => Err(ConsensusError::Stopped("its disk failed, or it was closed".to_owned())),
        }
    }

    /// Whether there are members beside this node.
    ///
    /// # Errors
    /// [`ConsensusError::Stopped`].
    pub async fn has_others(&self) -> Result<bool, ConsensusError> {
        Ok(self.core.members_now().await?.nodes.keys().any(|id| *id != self.core.wire.me))
    }

    /// Founds a cluster of this node alone, if it belongs to none.
    pub(crate) async fn found(&self, me: Contact) -> Result<(), ConsensusError> {
        if self.is_pristine() {
            self.bootstrap([(self.core.wire.me, me)].into()).await?;
        }
        self.settled().await
    }

    /// Whether the node has never belonged to a cluster.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.core.log.is_pristine()
    }

    /// What another node sent; completes with what it is answered.
    #[must_use]
    pub fn answer(&self, from: NodeId, message: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        Box::pin(Arc::clone(&self.core).answer(from, message))
    }

    /// Proposes a batch, and completes when it is applied here. On the leader only.
    ///
    /// # Errors
    /// [`ConsensusError::NotLeader`] or [`ConsensusError::Stopped`] when it is certain that it never will be, otherwise
    /// [`ConsensusError::Uncertain`].
    pub async fn propose(&self, batch: Arc<Batch>) -> Result<Effect, ConsensusError> {
        let (proposer, told) = Proposer::new();
        let proposed = self.propose_within(Proposal::Batch(batch, proposer), self.core.wire.pace.proposal);
        tokio::select! {
            biased;
            Ok(effect) = told => Ok(effect),
            proposed = proposed => proposed,
        }
    }

    pub(crate) async fn propose_within(&self, proposal: Proposal, bound: Duration) -> Result<Effect, ConsensusError> {
        let core = &self.core;
        if core.is_leaving.load(Ordering::Acquire) {
            return Err(ConsensusError::NotLeader { leader: None });
        }
        if self.has_stopped() {
            return Err(ConsensusError::Stopped("its disk failed, or it was closed".to_owned()));
        }
        let proposed = core.raft.client_write_ff(proposal).await;
        let answered = proposed.map_err(|error| ConsensusError::Stopped(error.to_string()))?;
        let answered = tokio::select! {
            biased;
            answered = answered => answered,
            () = core.wire.doors.clock.sleep(bound) => return Err(ConsensusError::Uncertain),
        };
        match answered {
            Ok(Ok(done)) => Ok(done.data),
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => Err(ConsensusError::NotLeader { leader: to.leader_id }),
            Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_) => Err(ConsensusError::Uncertain),
        }
    }

    /// Completes with the index of an entry: a read that begins now and sees it applied is not stale. From any node.
    ///
    /// # Errors
    /// When there is no leader that a majority confirms, for longer than a change of leaders takes.
    pub async fn confirm(&self) -> Result<u64, ConsensusError> {
        self.confirm_asked(Asked::Index).await.map(|confirmed| confirmed.index)
    }

    /// The same, and which entry a read has to see that does without all that it may do without.
    ///
    /// # Errors
    /// As [`Consensus::confirm`].
    pub async fn confirm_both(&self) -> Result<Confirmed, ConsensusError> {
        self.confirm_asked(Asked::Both).await
    }

    async fn confirm_asked(&self, asked: Asked) -> Result<Confirmed, ConsensusError> {
        if (self.core.status().is_leader() && self.core.is_alone()) || self.core.has_the_last_word() {
            // What was acknowledged was acknowledged here, and is applied; nobody else could have taken over.
            return Ok(Confirmed::default());
        }
        let confirmed = self.confirm_in_turn(asked).await;
        if self.core.status().is_leader() && !self.core.leads() {
            // Another one confirmed it: whoever asks next whether this one leads is told so.
            self.core.tell_status();
        }
        confirmed
    }

    /// Whether its disk failed, and it is a cluster by itself: what it has can be read still, and nothing written.
    #[must_use]
    pub fn has_the_last_word(&self) -> bool {
        self.core.has_the_last_word()
    }

    /// The same, behind everything that this node was asked for before.
    pub(crate) async fn confirm_in_turn(&self, asked: Asked) -> Result<Confirmed, ConsensusError> {
        let wire = &self.core.wire;
        let until = wire.now() + wire.pace.election * 4;
        loop {
            let (waiting, confirmed) = Waiting::new(asked);
            let sent = self.core.reads.send(waiting).await;
            let stopped = |()| ConsensusError::Stopped("it was closed".to_owned());
            sent.map_err(drop).map_err(stopped)?;
            let confirmed = confirmed.await.map_err(drop).map_err(stopped)?;
            if matches!(confirmed, Ok(_) | Err(ConsensusError::Stopped(_))) || wire.now() >= until {
                return confirmed;
            }
            wire.doors.clock.sleep(LOOK_AGAIN).await;
        }
    }

    /// What agreeing took on this node so far.
    #[must_use]
    pub fn figures(&self) -> Vec<Reading> {
        self.core.wire.figures.read(self.core.wire.now())
    }

    /// Completes when an entry is applied here.
    pub async fn applied(&self, index: u64) {
        self.core.applied.wait_for(|applied| (applied.index >= index).then_some(())).await;
    }

    /// What this node is now; what it becomes wakes whoever waits.
    #[must_use]
    pub fn status(&self) -> &Signal<Status> {
        &self.core.status
    }

    /// Whether the node is sealed: then it takes the log and votes, and does not campaign unless it is alone, because
    /// as the leader it could serve nobody. Who leads and becomes sealed hands over first.
    pub fn set_sealed(&self, is_sealed: bool) {
        self.core.is_sealed.store(is_sealed, Ordering::Release);
    }

    /// The members, as this node has them.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        self.core.wire.contacts.members()
    }

    /// How the other nodes are doing, as far as this one knows as the leader; nothing when it does not lead.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<NodeId, Progress> {
        let (now, term) = (self.core.wire.now(), self.core.status().term);
        let answered = self.core.wire.contacts.answered_at(term);
        let metrics = self.core.raft.data_metrics();
        let metrics = metrics.borrow();
        let progress = |(id, matched): (&NodeId, &Option<LogId>)| {
            let heard_ago = answered.get(id).map(|at| now.saturating_sub(*at));
            (*id, Progress { heard_ago, matched: matched.map(position).unwrap_or_default() })
        };
        let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != self.core.wire.me);
        others.map(progress).collect()
    }

    /// How far this node has come with the log.
    #[must_use]
    pub fn indexes(&self) -> Indexes {
        let applied = self.core.applied.read(|applied| *applied);
        let last = self.core.log.last().map(position).unwrap_or_default();
        Indexes {
            // A state that was taken over has no entries.
            last: if last.index < applied.index { applied } else { last },
            committed: self.core.committed.load(Ordering::Acquire).max(applied.index),
            applied: applied.index,
        }
    }

    /// Changes the members, and completes when a majority has taken the change; changes are made one after the other. On the
    /// leader only; a leader that is to lose its vote hands over and says so.
    ///
    /// # Errors
    /// [`ConsensusError::Members`] when it makes no sense, or another change is under way for too long;
    /// [`ConsensusError::Uncertain`] when it took too long: then it may be done still.
    pub async fn change(&self, change: Change) -> Result<(), ConsensusError> {
        let wire = &self.core.wire;
        let until = wire.now() + wire.pace.proposal;
        loop {
            let changed = self.change_at_once(change.clone()).await;
            if !matches!(changed, Err(NotChanged::Busy)) || wire.now() >= until {
                return changed.map_err(NotChanged::told);
            }
            wire.doors.clock.sleep(LOOK_AGAIN).await;
        }
    }

    async fn change_at_once(&self, change: Change) -> Result<(), NotChanged> {
        let core = &self.core;
        let members = {
            let metrics = core.raft.server_metrics();
            let known = Arc::clone(&metrics.borrow().membership_config);
            Members::of(*known.log_id(), known.membership())
        };
        let (unseats, node) = (change.unseats(), change.node());
        let steps = change.asked(&members).map_err(ConsensusError::Members)?;
        if unseats && node == core.wire.me && core.leads() {
            let leader = self.hand_over().await?;
            return Err(ConsensusError::NotLeader { leader: Some(leader) }.into());
        }
        for step in steps {
            self.step(step).await?;
        }
        Ok(())
    }

    async fn step(&self, step: ChangeMembers<NodeId, Contact>) -> Result<(), NotChanged> {
        let core = &self.core;
        let changed = tokio::select! {
            biased;
            changed = core.raft.change_membership(step, true) => changed,
            () = core.wire.doors.clock.sleep(core.wire.pace.proposal) => return Err(ConsensusError::Uncertain.into()),
        };
        match changed {
            Ok(_) => {
                // Whoever asks next is to see it.
                let effective = core.raft.with_raft_state(|state| {
                    let effective = state.membership_state.effective();
                    (*effective.log_id(), effective.membership().clone())
                });
                let (at, membership) = effective.await.map_err(|_| ConsensusError::Uncertain)?;
                core.take_members(at, &membership);
                Ok(())
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ConsensusError::NotLeader { leader: to.leader_id }.into())
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) => NotChanged::Busy,
                other => ConsensusError::Members(other.to_string()).into(),
            }),
            Err(RaftError::Fatal(_)) => Err(ConsensusError::Uncertain.into()),
        }
    }

    /// How many times the log has waited for the disk to make entries durable.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.core.log.syncs()
    }

    /// Whether it does nothing any more, because its disk failed or because it was closed.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.core.has_stopped()
    }

    /// The machine that is fed here.
    #[must_use]
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.core.machine
    }

    /// Stops the node: nothing is proposed, answered or applied by it any more when this completes.
    pub async fn close(&self) {
        self.core.is_closed.store(true, Ordering::Release);
        // Whether its task ended well, those who waited for it were told.
        drop(self.core.raft.shutdown().await);
        self.tasks.finish(Box::pin(std::future::ready(()))).await;
        self.core.status.update(|status| status.role = Role::Stopped);
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        self.core.is_closed.store(true, Ordering::Release);
    }
}

/// Why the members were not changed.
enum NotChanged {
    /// Another change is under way.
    Busy,
    Failed(ConsensusError),
}

impl NotChanged {
    fn told(self) -> ConsensusError {
        match self {
            Self::Busy => ConsensusError::Members("another change is under way".to_owned()),
            Self::Failed(error) => error,
        }
    }
}

impl From<ConsensusError> for NotChanged {
    fn from(error: ConsensusError) -> Self {
        Self::Failed(error)
    }
}

/// What the library is told: time is ours (`runtime.rs`), and a state is taken from the machine when it is needed.
fn configuration() -> openraft::Config {
    openraft::Config {
        cluster_name: String::new(),
        // These three only have to be in this order.
        heartbeat_interval: 1,
        election_timeout_min: 2,
        election_timeout_max: 3,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..openraft::Config::default()
    }
}

impl Core {
    pub(crate) fn status(&self) -> Status {
        self.status.read(|status| *status)
    }

    pub(crate) fn is_alone(&self) -> bool {
        let nodes = self.raft.server_metrics().borrow().membership_config.membership().nodes().count();
        self.leads() && nodes == 1
    }

    /// Whether it stopped, and nobody beside it could have taken anything: what it has is all that was ever acknowledged.
    pub(crate) fn has_the_last_word(&self) -> bool {
        let members = self.wire.contacts.members();
        self.has_stopped() && members.votes(self.wire.me) && members.nodes.len() == 1
    }

    /// The members as the library has them when it comes to this question; what it tells without being asked lags behind,
    /// and is nothing at first.
    pub(crate) async fn members_now(&self) -> Result<Members, ConsensusError> {
        let members = self.raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            Members::of(*effective.log_id(), effective.membership())
        });
        members.await.map_err(|error| ConsensusError::Stopped(error.to_string()))
    }

    /// Whether the library has ended; it says so here alone.
    pub(crate) fn has_stopped(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Shutdown
    }

    /// Says what the node is now, if that is something else than before.
    pub(crate) fn tell_status(&self) {
        let now = self.wire.now();
        let (state, term, current) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.state, metrics.vote.leader_id.term, metrics.current_leader)
        };
        let lately = self.wire.pace.election * 2;
        let role = match state {
            _ if self.has_stopped() => Role::Stopped,
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Shutdown => Role::Stopped,
            ServerState::Leader => {
                // With an entry of its own term it has applied every one that was committed before.
                let is_ready = self.applied.read(|applied| applied.term == term);
                let may = is_ready && !self.is_leaving.load(Ordering::Acquire);
                if may && self.wire.contacts.is_assured(now, lately) { Role::Leader } else { Role::Candidate }
            }
        };
        let heard = self.wire.contacts.leader_heard();
        let is_heard = heard.is_some_and(|at| now.saturating_sub(at) <= lately);
        let leader = match role {
            Role::Leader => Some(self.wire.me),
            Role::Follower | Role::Learner => current.filter(|id| is_heard && *id != self.wire.me),
            Role::Candidate | Role::Stopped => None,
        };
        let status = Status { role, term, leader };
        if status != self.status() {
            self.status.update(|told| *told = status);
        }
    }
}
