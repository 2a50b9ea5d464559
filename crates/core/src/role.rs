//! What an unsealed node does in its cluster: it stands by, or it is active, and does what only one node may do.
//!
//! A node that begins to lead is promoted: its caches have followed everything, its clock goes on from the time that was told,
//! it has written something and read it again, and what runs only on the leader runs. One that cannot do all that in time lets
//! another lead. While it leads it goes on writing and reading now and then, and when it cannot any more, steps down as well.
//! When it does not lead any more, what ran only on the leader ends at once; what that was about to write is refused by the
//! store. Deliberately absent: who leads ([`Cluster`]), and any lock that says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tresor_barrier::SlotChange;
use tresor_env::{BoxFuture, Doors, Signal, SteadyClock, Tasks, Timestamp};
use tresor_model::{Fault, Refusal};
use tresor_storage::Condition;

use crate::cluster::{Cluster, Standing, membership};
use crate::gate::Gate;
use crate::namespaces::keeping;
use crate::snapshots::schedule;
use crate::unsealed::{CommitFault, Unsealed};
use crate::{audits, clients, keyring, leases, releases};

/// The longest that a promotion may take.
pub(crate) const PROMOTION_BOUND: Duration = Duration::from_secs(5);
/// How often a leader writes and reads, and how long that may take.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_BOUND: Duration = Duration::from_secs(5);
/// A node that leads again so soon after it gave leadership up has nobody beside it who could serve better.
const NOBODY_BETTER: Duration = Duration::from_secs(60);
/// The same of a node that has damaged values and can do all else.
const NOBODY_WHOLE: Duration = Duration::from_secs(60 * 60);
/// How long a node that cannot let another lead waits before it tries again to serve.
const RETRY: Duration = Duration::from_secs(1);
/// How often a node that stands by looks after what it has in memory.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers reads, and passes everything else on to the leader.
    Standby,
    /// It leads, and does everything.
    Active {
        /// In which term.
        term: u64,
        /// Since when.
        since: Timestamp,
    },
}

/// The role of one unsealed node, and what runs because of it.
pub(crate) struct Duties {
    cluster: Arc<dyn Cluster>,
    role: Signal<Role>,
    /// Whether the first word on its role was spoken.
    is_settled: Signal<bool>,
    /// What runs only while the node leads.
    tasks: Tasks,
    /// When the node last gave leadership up because it could not serve.
    gave_up: Mutex<Option<Duration>>,
    /// Since when the node neither follows a leader nor serves as one; nothing while it does.
    leaderless: Mutex<Option<Duration>>,
    /// Key slots that are to be stored once this node may write.
    slots: Mutex<Option<SlotChange>>,
}

/// Why a node does not serve although it leads.
#[derive(Debug, thiserror::Error)]
enum NotPromoted {
    #[error("it took longer than {} seconds", PROMOTION_BOUND.as_secs())]
    Late,
    #[error("{}", .0.for_operators())]
    Failed(Fault),
    #[error("values in its store are damaged")]
    Impaired,
}

/// Why a leader stops to lead.
enum Ended {
    /// It does not lead any more, or in another term.
    Changed(Standing),
    /// It cannot write, or read what it wrote.
    Unwell(NotPromoted),
}

impl Duties {
    pub(crate) fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self {
            cluster,
            role: Signal::new(Role::Standby),
            is_settled: Signal::new(false),
            tasks: Tasks::new(),
            gave_up: Mutex::new(None),
            leaderless: Mutex::new(None),
            slots: Mutex::new(None),
        }
    }

    /// What the node does now.
    pub(crate) fn role(&self) -> Role {
        self.role.read(|role| *role)
    }

    /// Whether the node is active.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.role(), Role::Active { .. })
    }

    /// Completes when the node is active.
    pub(crate) async fn active(&self) {
        self.role.wait_for(|role| matches!(role, Role::Active { .. }).then_some(())).await;
    }

    /// Completes when the node has found its role for the first time.
    pub(crate) async fn settled(&self) {
        self.is_settled.wait_for(|is_settled| is_settled.then_some(())).await;
    }

    /// Other key slots are to be stored, by this node if it ever leads.
    pub(crate) fn keep_slots(&self, change: SlotChange) {
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = Some(change);
    }

    /// Waits for what runs only on the leader, with a bound.
    pub(crate) async fn finish(&self, bound: BoxFuture<'static, ()>) {
        self.tasks.finish(bound).await;
        self.become_(Role::Standby);
    }

    /// How long the node has neither followed a leader nor served as one; nothing while it does.
    pub(crate) fn leaderless_for(&self, doors: &Doors) -> Option<Duration> {
        let since = *self.leaderless();
        since.map(|since| doors.clock.monotonic().saturating_sub(since))
    }

    fn leaderless(&self) -> MutexGuard<'_, Option<Duration>> {
        self.leaderless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands(&self, standing: &Standing, doors: &Doors) {
        let mut leaderless = self.leaderless();
        *leaderless = match standing {
            Standing::Follows(_) => None,
            // Who begins to lead has to be promoted yet.
            Standing::Leads { .. } | Standing::Leaderless => leaderless.or(Some(doors.clock.monotonic())),
        };
    }

    fn gave_up(&self) -> MutexGuard<'_, Option<Duration>> {
        self.gave_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gave_up_within(&self, bound: Duration, doors: &Doors) -> bool {
        let now = doors.clock.monotonic();
        self.gave_up().is_some_and(|at| now.saturating_sub(at) < bound)
    }

    fn become_(&self, role: Role) {
        if matches!(role, Role::Active { .. }) {
            *self.leaderless() = None;
        }
        self.role.update(|known| *known = role);
        self.is_settled.update(|is_settled| *is_settled = true);
    }
}

/// Follows the node's standing until it is sealed or gone. It holds the node only while it works.
pub(crate) async fn follow(node: Weak<Unsealed>, cluster: Arc<dyn Cluster>, clock: SteadyClock, gate: Gate) {
    let mut standing = cluster.standing();
    while !gate.is_closed() {
        match node.upgrade() {
            Some(unsealed) => unsealed.duties.stands(&standing, &unsealed.doors),
            None => return,
        }
        let next = match standing {
            Standing::Leads { term } => lead(&node, &cluster, &clock, &gate, term).await,
            ref other => stand_by(&node, &cluster, &clock, &gate, other.clone()).await,
        };
        let Some(next) = next else { return };
        standing = next;
    }
}

/// Until the standing is another one; nothing when the node is sealed or gone.
async fn stand_by(
    node: &Weak<Unsealed>,
    cluster: &Arc<dyn Cluster>,
    clock: &SteadyClock,
    gate: &Gate,
    known: Standing,
) -> Option<Standing> {
    {
        let unsealed = node.upgrade()?;
        // Without a log what a node led with is as near to the time as the mark, which another one writes by now.
        if let Err(fault) = leases::clock::stand_by(&unsealed)
            && cluster.has_log()
        {
            tracing::warn!(cause = ?fault, "what time it is in the cluster could not be read; the leader will tell it");
        }
        unsealed.handles.spaces.stand_by();
        unsealed.duties.become_(Role::Standby);
    }
    loop {
        let tended = async {
            let Some(unsealed) = node.upgrade() else { return };
            // Without a log nothing is heard of what others write, until the node leads.
            if cluster.has_log()
                && let Err(fault) = leases::tend(&unsealed).await
            {
                tracing::warn!(cause = ?fault, "what is in memory could not be brought to what is stored; tried again");
            }
            clients::keep_up(&unsealed).await;
            if let Err(fault) = keeping::keep_up(&unsealed).await {
                tracing::warn!(cause = ?fault, "the keys of namespaces could not be brought to the leader's; tried again");
            }
            let pause = clock.sleep(TEND_EVERY);
            drop(unsealed);
            pause.await;
        };
        tokio::select! {
            biased;
            () = gate.closed() => return None,
            standing = cluster.changed(known.clone()) => return Some(standing),
            () = tended => {}
        }
    }
}

/// Leads as long as the node can; nothing when it is sealed or gone.
async fn lead(
    node: &Weak<Unsealed>,
    cluster: &Arc<dyn Cluster>,
    clock: &SteadyClock,
    gate: &Gate,
    term: u64,
) -> Option<Standing> {
    let unsealed = node.upgrade()?;
    let standing = Standing::Leads { term };
    let promoting = unsealed.handles.metrics.moment();
    let promoted = tokio::select! {
        biased;
        () = gate.closed() => return None,
        changed = cluster.changed(standing.clone()) => return Some(changed),
        promoted = promote(&unsealed) => promoted.map_err(NotPromoted::Failed),
        () = clock.sleep(PROMOTION_BOUND) => Err(NotPromoted::Late),
    };
    let metrics = Arc::clone(&unsealed.handles.metrics);
    metrics.post_unseal.observe(metrics.since(promoting));
    let ended = match promoted {
        Ok(()) => {
            let leading = metrics.moment();
            begin(&unsealed, term);
            drop(unsealed);
            let ended = tokio::select! {
                biased;
                () = gate.closed() => return None,
                changed = cluster.changed(standing.clone()) => Ended::Changed(changed),
                unwell = watch(node, cluster, clock) => Ended::Unwell(unwell?),
            };
            let unsealed = node.upgrade()?;
            unsealed.duties.become_(Role::Standby);
            unsealed.handles.shareholders.forget_all();
            // Aborted where it stands, as by a crash: each step is idempotent.
            unsealed.duties.tasks.finish(Box::pin(std::future::ready(()))).await;
            metrics.leadership_lost.observe(metrics.since(leading));
            tracing::info!(term, "the node is active no more");
            ended
        }
        Err(why) => {
            metrics.leadership_setup_failed.add(1);
            unsealed.duties.become_(Role::Standby);
            drop(unsealed);
            Ended::Unwell(why)
        }
    };
    let why = match ended {
        Ended::Changed(changed) => return Some(changed),
        // It hears of it a moment later.
        Ended::Unwell(NotPromoted::Failed(Fault::Refusal(Refusal::Elsewhere))) => {
            let pause = clock.sleep(RETRY);
            return tokio::select! {
                biased;
                () = gate.closed() => None,
                changed = cluster.changed(standing) => Some(changed),
                () = pause => Some(cluster.standing()),
            };
        }
        Ended::Unwell(why) => why,
    };
    tracing::error!(term, %why, "the node leads and cannot serve; it lets another lead");
    {
        let unsealed = node.upgrade()?;
        *unsealed.duties.gave_up() = Some(unsealed.doors.clock.monotonic());
    }
    if let Err(error) = cluster.step_down().await {
        tracing::warn!(%error, "no other node leads; this one tries again to serve");
        let pause = clock.sleep(RETRY);
        tokio::select! {
            biased;
            () = gate.closed() => return None,
            changed = cluster.changed(standing) => return Some(changed),
            () = pause => {}
        }
    }
    Some(cluster.standing())
}

/// Does what must be done before the node may be active.
async fn promote(unsealed: &Unsealed) -> Result<(), Fault> {
    unsealed.catch_up().await?;
    unsealed.handles.audits.are_known();
    unsealed.clock.lead(has_others(&*unsealed.duties.cluster));
    leases::clock::resume(&mut unsealed.begin()?, &unsealed.clock)?;
    // A node that nobody can take over from serves as far as it can, and so does each in turn when all have full disks.
    if has_others(&*unsealed.duties.cluster) && !unsealed.duties.gave_up_within(NOBODY_BETTER, &unsealed.doors) {
        probe(unsealed).await?;
    }
    audits::declared::reconcile_to_lead(unsealed).await?;
    let slots = unsealed.duties.slots.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(change) = slots {
        unsealed.change_slots(change).await;
    }
    let opened = unsealed.handles.spaces.take_over(unsealed.clock.now(), &*unsealed.doors.entropy).await;
    if let Err(fault) = opened {
        tracing::warn!(cause = ?fault, "a namespace that was open could not be opened here yet; tried again");
    }
    Ok(())
}

/// Whether another node could lead.
fn has_others(cluster: &dyn Cluster) -> bool {
    cluster.is_enabled() && cluster.members().iter().any(|member| member.is_voter && !member.is_leader)
}

/// Writes something, and reads it again.
async fn probe(unsealed: &Unsealed) -> Result<(), Fault> {
    let mut txn = unsealed.begin()?;
    let told = leases::clock::tell(&mut txn, unsealed.clock.now())?;
    match unsealed.commit(txn).await {
        // Somebody else wrote it.
        Ok(()) | Err(CommitFault::Conflict) => {}
        Err(other) => return Err(other.into()),
    }
    if leases::clock::has_told(&mut unsealed.begin()?, told)? {
        Ok(())
    } else {
        Err(Fault::internal("what was written is not what is read"))
    }
}

/// Starts what runs only on the leader.
fn begin(unsealed: &Arc<Unsealed>, term: u64) {
    let duties = &unsealed.duties;
    leases::start(unsealed, &duties.tasks);
    schedule::start(unsealed, &duties.tasks);
    membership::start(unsealed, &duties.tasks);
    keyring::start(unsealed, &duties.tasks);
    clients::start(unsealed, &duties.tasks);
    let weak = Arc::downgrade(unsealed);
    duties.tasks.spawn(async move {
        let Some(unsealed) = weak.upgrade() else { return };
        // The next leader tries again.
        if let Err(fault) = releases::note(&unsealed).await {
            tracing::warn!(%fault, "the release of this node could not be written down");
        }
    });
    let barrier = unsealed.barrier.clone();
    duties.tasks.spawn(async move {
        // What a restore left that broke off is in nobody's way.
        if let Err(error) = barrier.clear_pieces().await {
            tracing::warn!(%error, "pieces of a snapshot that was not restored are left");
        }
    });
    duties.become_(Role::Active { term, since: unsealed.clock.now() });
    if duties.cluster.is_enabled() {
        tracing::info!(term, "the node is active");
    }
}

/// Writes and reads now and then; completes when that fails, or with nothing when the node is gone.
async fn watch(node: &Weak<Unsealed>, cluster: &Arc<dyn Cluster>, clock: &SteadyClock) -> Option<NotPromoted> {
    if !cluster.is_enabled() {
        return std::future::pending().await;
    }
    loop {
        clock.sleep(PROBE_EVERY).await;
        // A node that nobody can take over from goes on as far as it can.
        if !has_others(&**cluster) {
            continue;
        }
        let unsealed = node.upgrade()?;
        let is_impaired = unsealed.handles.storage.condition() == Condition::Impaired;
        if is_impaired && !unsealed.duties.gave_up_within(NOBODY_WHOLE, &unsealed.doors) {
            return Some(NotPromoted::Impaired);
        }
        let probed = tokio::select! {
            biased;
            probed = probe(&unsealed) => probed.map_err(NotPromoted::Failed),
            () = clock.sleep(PROBE_BOUND) => Err(NotPromoted::Late),
        };
        if let Err(why) = probed {
            return Some(why);
        }
    }
}
