//! The numbers of a node: what is counted and timed as requests go through it, and what is looked up when somebody reads.
//!
//! Names are those that dashboards know. What has a label has few values of it, or a bounded number. A sealed node has
//! numbers, too. Deliberately absent: how numbers are spelled (`tresor-metrics`), who may read them, and names of the
//! reference that have no meaning here.

mod deeds;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tresor_audit::Standing;
use tresor_barrier::Txn;
use tresor_env::Clock;
use tresor_metrics::{Counter, LABELS_MAX, Labelled, Naming, Reading, Timer, Value};
use tresor_model::{Fault, Operation, Timestamp};

use crate::cluster::Member;
use crate::mounts::record::StoredClass;
use crate::namespaces::Space;
use crate::node::Node;
use crate::running::Running;
use crate::unsealed::Handles;
use deeds::Deeds;

/// How many leases that could not be revoked are counted; there are hardly ever more.
const IRREVOCABLE_MAX: usize = 1000;

/// What requests to one mount took, by what they did.
#[derive(Default)]
struct Routes {
    create: Timer,
    read: Timer,
    update: Timer,
    delete: Timer,
    list: Timer,
}

impl Routes {
    /// Help and the like are not counted.
    const fn of(&self, operation: Operation) -> Option<&Timer> {
        Some(match operation {
            Operation::Create => &self.create,
            Operation::Read => &self.read,
            Operation::Update | Operation::Patch => &self.update,
            Operation::Delete => &self.delete,
            Operation::List => &self.list,
            _ => return None,
        })
    }

    fn named(&self) -> [(&'static str, &Timer); 5] {
        let Self { create, read, update, delete, list } = self;
        [("create", create), ("read", read), ("update", update), ("delete", delete), ("list", list)]
    }
}

/// The numbers of a node.
pub struct Metrics {
    clock: Arc<dyn Clock>,
    naming: Naming,
    /// Requests that run now.
    pub(crate) running: Running,
    /// How the cluster is called, while that is known.
    cluster_name: Mutex<String>,
    /// Requests, from their admission to their answer.
    pub(crate) handle_request: Timer,
    /// Logins.
    pub(crate) handle_login_request: Timer,
    /// Finding out who asks, and what they may.
    pub(crate) check_token: Timer,
    /// Records of requests, and of responses.
    pub(crate) log_request: Timer,
    pub(crate) log_request_failure: Counter,
    pub(crate) log_response: Timer,
    pub(crate) log_response_failure: Counter,
    /// Requests that were passed on to the node that leads.
    pub(crate) forward: Timer,
    pub(crate) forward_errors: Counter,
    /// Work that was due and had to wait for storage.
    pub(crate) storage_put_off: Counter,
    /// Requests that a quota refused.
    pub(crate) rate_limit_violation: Labelled<Counter>,
    pub(crate) lease_count_violation: Counter,
    routes: Labelled<Routes>,
    deeds: Deeds,
    /// Tokens that were made, and leases, by the path of the mount that made them.
    pub(crate) tokens_made: Labelled<Counter>,
    pub(crate) leases_made: Labelled<Counter>,
    /// Opening, up to serving; letting go of what is unsealed, and all of sealing.
    pub(crate) unseal: Timer,
    pub(crate) pre_seal: Timer,
    pub(crate) seal_internal: Timer,
    /// Becoming active, terms that ended, and those in which this node could not serve.
    pub(crate) post_unseal: Timer,
    pub(crate) leadership_lost: Timer,
    pub(crate) leadership_setup_failed: Counter,
}

impl Metrics {
    pub(crate) fn new(clock: Arc<dyn Clock>, naming: Naming) -> Self {
        Self {
            clock,
            naming,
            running: Running::default(),
            cluster_name: Mutex::default(),
            handle_request: Timer::default(),
            handle_login_request: Timer::default(),
            check_token: Timer::default(),
            log_request: Timer::default(),
            log_request_failure: Counter::default(),
            log_response: Timer::default(),
            log_response_failure: Counter::default(),
            forward: Timer::default(),
            forward_errors: Counter::default(),
            storage_put_off: Counter::default(),
            rate_limit_violation: Labelled::default(),
            lease_count_violation: Counter::default(),
            routes: Labelled::default(),
            deeds: Deeds::new(),
            tokens_made: Labelled::default(),
            leases_made: Labelled::default(),
            unseal: Timer::default(),
            pre_seal: Timer::default(),
            seal_internal: Timer::default(),
            post_unseal: Timer::default(),
            leadership_lost: Timer::default(),
            leadership_setup_failed: Counter::default(),
        }
    }

    /// A moment that something is timed from.
    pub(crate) fn moment(&self) -> Duration {
        self.clock.monotonic()
    }

    /// How long it is since then.
    pub(crate) fn since(&self, moment: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(moment)
    }

    pub(crate) fn is_called(&self, cluster_name: &str) {
        cluster_name.clone_into(&mut self.cluster_name.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A handler of a mount took so long.
    pub(crate) fn routed(&self, mount_path: &str, operation: Operation, took: Duration) {
        let routes = self.routes.of(mount_path);
        if let Some(timer) = routes.of(operation) {
            timer.observe(took);
        }
    }

    /// A route of a mount of this kind took so long.
    pub(crate) fn done(&self, kind: &str, pattern: &str, operation: Operation, took: Duration) {
        self.deeds.observe(kind, pattern, operation, took);
    }

    /// The requests that run now, in order of their beginning.
    #[must_use]
    pub const fn running(&self) -> &Running {
        &self.running
    }

    /// How an operator wants them to be called.
    #[must_use]
    pub const fn naming(&self) -> &Naming {
        &self.naming
    }

    /// All numbers that are wanted, those of an unsealed node among them when this is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn readings(&self, open: Option<(&Handles, &mut Txn)>) -> Result<Vec<Reading>, Fault> {
        let now = self.clock.monotonic();
        let cluster = self.cluster_name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = self.counted(now);
        let in_flight = u64::try_from(self.running.count()).unwrap_or(u64::MAX);
        let is_active = open.as_ref().is_some_and(|(handles, _)| handles.cluster.standing().leads());
        for (name, value) in [
            ("core.unsealed", u64::from(open.is_some())),
            ("core.active", u64::from(is_active)),
            ("core.in_flight_requests", in_flight),
        ] {
            all.push(Reading::gauge(name, value).with("cluster", cluster.as_str()));
        }
        if let Some((handles, txn)) = open {
            let first = all.len();
            looked_up(handles, txn, (self.clock.wall(), now), &mut all)?;
            for reading in all.iter_mut().skip(first).filter(|reading| !reading.name.starts_with("raft")) {
                reading.labels.push(("cluster", cluster.clone()));
            }
        }
        Ok(self.naming.apply(all))
    }

    /// What was counted and timed as it happened.
    fn counted(&self, now: Duration) -> Vec<Reading> {
        let timers = [
            ("core.handle_request", &self.handle_request),
            ("core.handle_login_request", &self.handle_login_request),
            ("core.check_token", &self.check_token),
            ("audit.log_request", &self.log_request),
            ("audit.log_response", &self.log_response),
            ("ha.rpc.client.forward", &self.forward),
            ("core.unseal", &self.unseal),
            ("core.pre_seal", &self.pre_seal),
            ("core.seal_internal", &self.seal_internal),
            ("core.post_unseal", &self.post_unseal),
            ("core.leadership_lost", &self.leadership_lost),
        ];
        let counters = [
            ("audit.log_request_failure", &self.log_request_failure),
            ("audit.log_response_failure", &self.log_response_failure),
            ("ha.rpc.client.forward.errors", &self.forward_errors),
            ("storage.put_off", &self.storage_put_off),
            ("quota.lease_count.violation", &self.lease_count_violation),
            ("core.leadership_setup_failed", &self.leadership_setup_failed),
        ];
        let timed = |timer: &Timer| Value::Timer(timer.read(now));
        let mut all: Vec<Reading> = timers.iter().map(|(name, timer)| Reading::new(*name, timed(timer))).collect();
        all.extend(counters.iter().map(|(name, counter)| Reading::new(*name, Value::Counter(counter.read(now)))));
        all.extend(self.deeds.all().map(|(name, timer)| Reading::new(name, timed(timer))));
        for (name, made) in [("token.creation", &self.tokens_made), ("secret.lease.creation", &self.leases_made)] {
            for (mount, counter) in made.all() {
                let reading = Reading::new(name, Value::Counter(counter.read(now)));
                all.push(reading.with("mount_point", mount));
            }
        }
        for (name, counter) in self.rate_limit_violation.all() {
            let reading = Reading::new("quota.rate_limit.violation", Value::Counter(counter.read(now)));
            all.push(reading.with("name", name));
        }
        for (mount, routes) in self.routes.all() {
            for (operation, timer) in routes.named() {
                let reading = timer.read(now);
                if reading.count > 0 {
                    let name = format!("route.{operation}.{}", mount.replace('/', "-"));
                    all.push(Reading::new(name, Value::Timer(reading)));
                }
            }
        }
        all
    }
}

impl Node {
    /// How an operator wants numbers to be called.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        self.metrics.naming()
    }

    /// All numbers of this node, be it sealed or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn readings(&self) -> Result<Vec<Reading>, Fault> {
        match self.unsealed() {
            None => self.metrics.readings(None),
            Some(unsealed) => {
                let mut txn = unsealed.begin()?;
                self.metrics.readings(Some((&unsealed.handles, &mut txn)))
            }
        }
    }
}

/// What is looked up in an unsealed node.
fn looked_up(
    handles: &Handles,
    txn: &mut Txn,
    (wall, now): (Timestamp, Duration),
    all: &mut Vec<Reading>,
) -> Result<(), Fault> {
    namespaces(handles, txn, all)?;
    let irrevocable = handles.leases.irrevocable(txn, handles.spaces.root(), None, IRREVOCABLE_MAX)?.len();
    let locked: usize = handles.lockouts.locked(wall).values().map(Vec::len).sum();
    all.push(Reading::gauge("core.locked_users", u64::try_from(locked).unwrap_or(u64::MAX)));
    all.push(Reading::gauge("expire.num_leases", handles.tokens.live_everywhere(txn)?));
    all.push(Reading::gauge("expire.num_irrevocable_leases", u64::try_from(irrevocable).unwrap_or(u64::MAX)));
    for quota in handles.quotas.stored(txn)?.into_values().take(LABELS_MAX) {
        let counter = handles.tokens.counted(txn, &quota)?;
        all.push(Reading::gauge("quota.lease_count.counter", counter).with("name", quota.name.as_str()));
        all.push(Reading::gauge("quota.lease_count.max", quota.max_leases).with("name", quota.name));
    }
    if handles.settings.auto_seal.is_some() {
        let is_healthy = handles.seal_health.unhealthy_since().is_none();
        all.push(Reading::gauge("seal.healthy", u64::from(is_healthy)));
    }
    let audit = handles.audits.standing();
    all.push(Reading::gauge("audit.log.accepting", u64::from(audit.log.accepting)));
    audit_devices(handles, &audit, now, all);
    for device in audit.devices.into_iter().take(LABELS_MAX) {
        all.push(Reading::gauge("audit.device.lag_records", device.lag_records).with("device", device.path.as_str()));
        all.push(Reading::gauge("audit.device.lag_bytes", device.lag_bytes).with("device", device.path));
    }
    snapshots(handles, wall, all);
    let runtime = handles.settings.process.runtime();
    all.push(Reading::gauge("runtime.sys_bytes", runtime.resident_bytes));
    all.push(Reading::gauge("runtime.num_tasks", runtime.tasks));
    all.push(Reading::gauge("runtime.num_threads", runtime.threads));
    if handles.cluster.has_log() {
        members(handles, all);
    }
    Ok(())
}

/// What audit devices counted and timed.
fn audit_devices(handles: &Handles, standing: &Standing, now: Duration, all: &mut Vec<Reading>) {
    let counter = |counter: &Counter| Value::Counter(counter.read(now));
    let fallback = |path: &str| standing.devices.iter().any(|device| device.path == path && device.is_fallback);
    all.push(Reading::new("audit.fallback.miss", counter(handles.audits.missed())));
    for (path, numbers) in handles.audits.numbers().into_iter().take(LABELS_MAX) {
        let name = path.trim_end_matches('/').replace('/', "-");
        let timers = [("log_request", &numbers.log_request), ("log_response", &numbers.log_response)];
        for (what, timer) in timers {
            all.push(Reading::new(format!("audit.{name}.{what}"), Value::Timer(timer.read(now))));
        }
        let failures = [("log_request", &numbers.log_request_failure), ("log_response", &numbers.log_response_failure)];
        for (what, failed) in failures {
            all.push(Reading::new(format!("audit.{name}.{what}_failure"), counter(failed)));
        }
        if fallback(&path) {
            all.push(Reading::new("audit.fallback.success", counter(&numbers.lines)));
        }
    }
}

/// What there is in namespaces: all mounts together, and tokens, leases and mounts of the first of them in order of path.
fn namespaces(handles: &Handles, txn: &mut Txn, all: &mut Vec<Reading>) -> Result<(), Fault> {
    let spaces = handles.spaces.every();
    all.push(Reading::gauge("namespaces", u64::try_from(spaces.len()).unwrap_or(u64::MAX)));
    let mut entries = BTreeMap::from(
        [("auth", false), ("auth", true), ("logical", false), ("logical", true)].map(|key| (key, 0_u64)),
    );
    for mount in
        spaces.iter().map(|space| space.mounts.table()).flat_map(|table| table.iter().cloned().collect::<Vec<_>>())
    {
        let class = if mount.record.class == StoredClass::Auth { "auth" } else { "logical" };
        *entries.entry((class, mount.record.local)).or_default() += 1;
    }
    for ((class, is_local), count) in entries {
        let reading = Reading::gauge("core.mount_table.num_entries", count).with("type", class);
        all.push(reading.with("local", is_local.to_string()));
    }
    for space in spaces.iter().take(LABELS_MAX) {
        in_one(handles, txn, space, all)?;
    }
    Ok(())
}

/// What there is in one namespace.
fn in_one(handles: &Handles, txn: &mut Txn, space: &Space, all: &mut Vec<Reading>) -> Result<(), Fault> {
    let name = if space.is_root() { "root" } else { space.path.as_str() };
    let live = handles.tokens.live(txn, &space.id)?;
    let (mut tokens, mut mounts) = (BTreeMap::<String, u64>::new(), 0_u64);
    for mount in space.mounts.table().iter() {
        mounts += 1;
        if mount.record.class == StoredClass::Auth {
            *tokens.entry(mount.record.kind.clone()).or_default() += live.get(&mount.record.id).copied().unwrap_or(0);
        }
    }
    let mut gauge = |what: &'static str, number| all.push(Reading::gauge(what, number).with("namespace", name));
    gauge("namespace.mounts", mounts);
    gauge("namespace.leases", live.values().sum());
    gauge("token.count", tokens.values().sum());
    for (kind, count) in tokens {
        all.push(Reading::gauge("token.count.by_auth", count).with("auth_method", kind).with("namespace", name));
    }
    Ok(())
}

/// How old the newest snapshot of the schedule is, and whether the last attempt failed; nothing where none is asked for.
fn snapshots(handles: &Handles, now: Timestamp, all: &mut Vec<Reading>) {
    if handles.settings.snapshots.is_none() {
        return;
    }
    let scheduled = handles.snapshots.scheduled();
    if let Some(taken) = scheduled.taken {
        all.push(Reading::gauge("snapshot.scheduled.age_seconds", now.since(taken).as_secs()));
    }
    all.push(Reading::gauge("snapshot.scheduled.failing", u64::from(scheduled.error.is_some())));
}

/// What is known of the nodes of the cluster.
fn members(handles: &Handles, all: &mut Vec<Reading>) {
    let (members, indexes) = (handles.cluster.members(), handles.cluster.indexes());
    all.push(Reading::gauge("raft.peers", u64::try_from(members.len()).unwrap_or(u64::MAX)));
    all.push(Reading::gauge("raft_storage.stats.commit_index", indexes.committed));
    all.push(Reading::gauge("raft_storage.stats.applied_index", indexes.applied));
    let pending = indexes.committed.saturating_sub(indexes.applied);
    all.push(Reading::gauge("raft_storage.stats.fsm_pending", pending));
    all.extend(handles.cluster.figures());
    // The rest only the leader knows.
    if !handles.cluster.standing().leads() {
        return;
    }
    let me = handles.cluster.me();
    for member in members.iter().filter(|member| member.contact.key != me.key).take(LABELS_MAX) {
        follower(member, indexes.applied, all);
    }
    if let Ok(judged) = handles.membership.judged() {
        let is_healthy = judged.servers.iter().all(|server| server.is_healthy);
        all.push(Reading::gauge("autopilot.healthy", u64::from(is_healthy)));
        let tolerance = u64::try_from(judged.failure_tolerance).unwrap_or(u64::MAX);
        all.push(Reading::gauge("autopilot.failure_tolerance", tolerance));
        for server in judged.servers.into_iter().take(LABELS_MAX) {
            let reading = Reading::gauge("autopilot.node.healthy", u64::from(server.is_healthy));
            all.push(reading.with("node_id", server.contact.name));
        }
    }
}

fn follower(member: &Member, applied: u64, all: &mut Vec<Reading>) {
    let peer = member.contact.name.as_str();
    if let Some(ago) = member.heard_ago {
        let millis = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        all.push(Reading::gauge("raft_storage.follower.last_heartbeat_ms", millis).with("peer_id", peer));
    }
    if let Some(matched) = member.matched {
        let delta = applied.saturating_sub(matched.index);
        all.push(Reading::gauge("raft_storage.follower.applied_index_delta", delta).with("peer_id", peer));
    }
}
