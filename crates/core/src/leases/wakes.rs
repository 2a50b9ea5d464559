//! When engines are called by the server: what they set a time for, and the task that calls them.
//!
//! A time lies in a record of its mount's, and in an index like that of what ends; the task looks at its first directory, so
//! nothing runs and nothing is kept in memory per mount. A time that has come is set anew in the transaction that calls the
//! engine, to a little after the deadline of what the engine may plan: so a crash in the middle makes that due again, and
//! settling sets the next time, or takes it away. What the process or the leader before left unsettled has its time at once
//! ([`unsettled`](super::unsettled)). A failure is tried again, later each time. Removing a mount takes its
//! times away. Deliberately absent: what is done about a name, which is the engine's.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tresor_barrier::Txn;
use tresor_engine::outside::Plan;
use tresor_engine::view::Call;
use tresor_engine::{Failed, View};
use tresor_model::ids::{MountId, NamespaceId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;

use super::crew::{self, Crew};
use super::intents::{ACT_DEADLINE, falls_due};
use super::secrets::{Means, own_context};
use super::{PAUSE_MAX, index, outage, parked, pause_after, stands, targets, unsettled};
use crate::besides::BESIDES;
use crate::gate::Gate;
use crate::keys;
use crate::mounts::TakingBack;
use crate::namespaces::ids;
use crate::pipeline::act_once;
use crate::rotations;
use crate::unsealed::{CommitFault, Unsealed};

/// How many engines are called at a time, and of one mount.
const AT_ONCE: usize = 64;
const OF_MOUNT: usize = 8;
/// The longest that an engine may take before it has planned.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long after the first failure it is tried again; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// How long after it was in vain an engine is looked for again.
const UNREACHED: Duration = Duration::from_secs(60);
/// How often a transaction that conflicts is done again.
const ATTEMPTS_MAX: usize = 16;

/// A time that is set.
#[derive(Record)]
#[record(kind = "wake", version = 2, previous = WakeRecordV1)]
pub(super) struct WakeRecord {
    /// When.
    pub(super) at: Timestamp,
    /// How often in a row the engine failed; zero when the engine set the time itself.
    pub(super) failed: u64,
    /// Whether it is for something that the engine began and that is not settled.
    pub(super) is_unsettled: bool,
}

/// A time when what is not settled was not told apart.
#[derive(Record)]
#[record(kind = "wake", version = 1)]
struct WakeRecordV1 {
    at: Timestamp,
    failed: u64,
}

impl From<WakeRecordV1> for WakeRecord {
    fn from(older: WakeRecordV1) -> Self {
        Self { at: older.at, failed: older.failed, is_unsettled: false }
    }
}

/// A name in the index: one segment, whatever the engine's name is.
fn flat(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn unflat(name: &str) -> String {
    name.replace("%2f", "/").replace("%25", "%")
}

/// What stands for a name in the index of all mounts.
fn entry(mount: &str, name: &str) -> String {
    format!("{mount}:{}", flat(name))
}

/// The mount and the name that an entry stands for.
pub(super) fn named(entry: &str) -> (&str, String) {
    let (mount, name) = entry.split_once(':').unwrap_or((entry, ""));
    (mount, unflat(name))
}

pub(super) fn read(txn: &mut Txn, mount: &str, name: &str) -> Result<Option<WakeRecord>, Fault> {
    let key = keys::wakes(mount).and_then(|at| at.key(&flat(name))).map_err(tresor_engine::view::fault)?;
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
    WakeRecord::decode(&bytes).map(Some).map_err(Fault::internal)
}

pub(super) fn put(txn: &mut Txn, mount: &str, name: &str, wake: Option<WakeRecord>) -> Result<(), Fault> {
    let key = keys::wakes(mount).and_then(|at| at.key(&flat(name))).map_err(tresor_engine::view::fault)?;
    let (ends, entry) = (keys::wake_ends().map_err(Fault::internal)?, entry(mount, name));
    if let Some(before) = read(txn, mount, name)? {
        index::leave(txn, &ends, before.at, &entry)?;
    }
    match wake {
        Some(wake) => {
            index::enter(txn, &ends, wake.at, &entry)?;
            txn.write(&key, &wake.encode()).map_err(Fault::internal)
        }
        None => txn.delete(&key).map_err(Fault::internal),
    }
}

fn of(namespace: &NamespaceId, mount: &MountId) -> String {
    ids::within(namespace, mount.as_str().to_owned())
}

/// Sets a time, moves it or takes it away, as an engine says.
pub(crate) fn set(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    name: &str,
    call: Call,
) -> Result<(), Fault> {
    let wake = |at, is_unsettled| Some(WakeRecord { at: index::rounded(at), failed: 0, is_unsettled });
    let wake = match call {
        Call::Never => None,
        Call::At(at) => wake(at, false),
        Call::Unsettled(at) => wake(at, true),
    };
    put(txn, &of(namespace, mount), name, wake)
}

/// The time that is set.
pub(crate) fn at(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    name: &str,
) -> Result<Option<Timestamp>, Fault> {
    Ok(read(txn, &of(namespace, mount), name)?.map(|wake| wake.at))
}

/// Takes away some of the times of a removed mount; true when none is left.
pub(super) fn forget(
    txn: &mut Txn,
    namespace: &NamespaceId,
    mount: &MountId,
    budget: &mut usize,
) -> Result<bool, Fault> {
    let (id, mount) = (mount.clone(), of(namespace, mount));
    let names = txn.list(&keys::wakes(&mount).map_err(Fault::internal)?, None, *budget + 1);
    for name in names.map_err(Fault::internal)? {
        if *budget == 0 {
            return Ok(false);
        }
        put(txn, &mount, &unflat(&name), None)?;
        *budget -= 1;
    }
    Ok(*budget > 0 && rotations::forget(txn, namespace, &id, budget)?)
}

/// Takes the times of a mount along into another namespace.
pub(crate) fn carry(txn: &mut Txn, from: &NamespaceId, to: &NamespaceId, mount: &MountId) -> Result<(), Fault> {
    rotations::carry(txn, from, to, mount)?;
    let (before, after) = (of(from, mount), of(to, mount));
    for name in
        crate::cached::every_name(txn, &keys::wakes(&before).map_err(Fault::internal)?).map_err(Fault::internal)?
    {
        let name = unflat(&name);
        let wake = read(txn, &before, &name)?;
        put(txn, &before, &name, None)?;
        put(txn, &after, &name, wake)?;
    }
    Ok(())
}

/// The task that calls engines whose time has come.
pub(super) async fn run(node: Weak<Unsealed>, gate: Gate) {
    let (mut crew, mut failed) = (Crew::default(), 0_u32);
    unsettled::hasten(&node, &gate).await;
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let begun = begin(&unsealed, &mut crew).await;
        failed = if begun.is_err() { failed.saturating_add(1) } else { 0 };
        let pause = match begun {
            Ok(true) => Duration::ZERO,
            Ok(false) => PAUSE_MAX,
            Err(fault) => {
                outage::tell(&unsealed, &fault, "engines whose time has come will be called later");
                pause_after(failed)
            }
        };
        let clock = unsealed.clock.clone();
        drop(unsealed);
        if crew.rest(&gate, crew::pause(&clock, pause), true).await.is_none() {
            return;
        }
    }
}

/// Calls some of those whose time has come; whether there were any.
async fn begin(unsealed: &Arc<Unsealed>, crew: &mut Crew<()>) -> Result<bool, Fault> {
    let mut txn = unsealed.begin()?;
    let (now, ends) = (unsealed.clock.now(), keys::wake_ends().map_err(Fault::internal)?);
    let Some(bucket) = index::first_due(&mut txn, &ends, now)? else { return Ok(false) };
    let aside = keys::set_aside().map_err(Fault::internal)?;
    let Some(entries) = index::page(&mut txn, &bucket, &aside, AT_ONCE * 2, now)? else {
        unsealed.commit(txn).await?;
        return Ok(true);
    };
    let (entries, has_parked) = parked::park(&unsealed.handles.spaces, &mut txn, &bucket, entries)?;
    if has_parked {
        stands(unsealed.commit(txn).await)?;
        return Ok(true);
    }
    let second = bucket.as_str().trim_end_matches('/').rsplit('/').next().and_then(index::second_of);
    let second = Timestamp::from_seconds(second.unwrap_or(0));
    let mut has_begun = false;
    for entry in entries {
        let mount = entry.split_once(':').map_or(entry.as_str(), |(mount, _)| mount).to_owned();
        if crew.len() >= AT_ONCE || crew.of(&mount) >= OF_MOUNT || crew.is_at(&mount, &entry) {
            continue;
        }
        has_begun = true;
        let unsealed = Arc::clone(unsealed);
        crew.begin(&mount, &entry.clone(), async move {
            if let Err(fault) = one(&unsealed, second, &entry).await {
                outage::tell(&unsealed, &fault, "an engine whose time has come will be called later");
            }
        });
    }
    Ok(has_begun)
}

/// One entry of the index.
async fn one(unsealed: &Unsealed, second: Timestamp, entry: &str) -> Result<(), Fault> {
    let mut txn = unsealed.begin()?;
    let now = unsealed.clock.now();
    let (mount, name) = named(entry);
    let wake = read(&mut txn, mount, &name)?.filter(|wake| wake.at == second);
    let called = called(unsealed, mount);
    let (Some(wake), Some(called)) = (wake, &called) else {
        // Set anew since, or of a mount that is gone: the entry is a leftover. One that nobody reaches for now (it moves, or
        // could not be loaded) may come back.
        if let Some(wake) = read(&mut txn, mount, &name)?.filter(|wake| wake.at == second)
            && is_stored(unsealed, &mut txn, mount)?
        {
            let at = index::rounded(now.plus(UNREACHED));
            put(&mut txn, mount, &name, Some(WakeRecord { at, ..wake }))?;
            return stands(unsealed.commit(txn).await);
        }
        let ends = keys::wake_ends().map_err(Fault::internal)?;
        index::leave(&mut txn, &ends, second, entry)?;
        return stands(unsealed.commit(txn).await);
    };
    let standing = unsealed.handles.cluster.standing();
    let failed = wake.failed + 1;
    let is_unsettled = wake.is_unsettled;
    put(&mut txn, mount, &name, Some(WakeRecord { at: falls_due(now), failed, is_unsettled }))?;
    let stirred = if called.facts.seal_entropy { unsealed.handles.settings.stir().await } else { Ok(()) };
    let planned = if let Err(fault) = stirred {
        Err(fault)
    } else {
        let Means { txn, entropy, workers, ways, .. } = Means::by(&mut txn, now, &unsealed.doors);
        let view = View::of_mount(txn, called.contents.clone(), &called.facts, &BESIDES);
        let cx = own_context(view, &called.facts, now, entropy, workers, ways);
        let engine = AssertUnwindSafe(called.engine.awake(cx, &name)).catch_unwind();
        tokio::select! {
            biased;
            () = unsealed.gate.closed() => return Ok(()),
            planned = engine => planned.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))),
            () = unsealed.clock.sleep(DEADLINE) => Err(Fault::internal("the engine took too long")),
        }
    };
    let plan = match planned {
        Ok(reply) => reply.outside,
        Err(fault) => {
            drop(txn);
            return later(unsealed, called, mount, &name, failed, &Failed::nothing_done(fault), None).await;
        }
    };
    let Some(plan) = plan else {
        consume(&mut txn, mount, &name)?;
        return stands(unsealed.commit(txn).await);
    };
    let Plan { act, failed: note, lease, target } = *plan;
    if lease.is_some() {
        return Err(Fault::internal("nobody asked for what an engine leases"));
    }
    match unsealed.commit(txn).await {
        Ok(()) => {}
        other => return stands(other),
    }
    let target_name = targets::name(&called.facts, &target);
    let acted = match unsealed.handles.leases.targets().down(&target_name).filter(|down| down.until > now) {
        Some(down) => {
            let text = format!("the target does not answer: {}", down.reason);
            Err(Failed::nothing_done(Refusal::Unavailable(text.into()).into()))
        }
        None => match unsealed.handles.leases.targets().permit(&called.facts, &target, &*unsealed.doors.clock).await {
            Ok(_permit) => {
                let acted = act_once(unsealed, act, standing, ACT_DEADLINE).await;
                match &acted {
                    Err(why) if why.is_the_targets() => {
                        let (reason, failed) = (why.fault.for_operators(), unsealed.clock.now());
                        unsealed.handles.leases.targets().is_down(&target_name, &name, &reason, now, failed);
                    }
                    _ => unsealed.handles.leases.targets().is_up(&target_name, &name, unsealed.clock.now()),
                }
                acted
            }
            Err(busy) => Err(Failed::nothing_done(busy)),
        },
    };
    let settle = match acted {
        Ok(settle) => settle,
        Err(why) => return later(unsealed, called, mount, &name, failed, &why, note.as_deref()).await,
    };
    for _ in 0..ATTEMPTS_MAX {
        let mut txn = unsealed.begin()?;
        if !is_still_there(unsealed, &mut txn, called)? {
            return Ok(());
        }
        settle(&mut View::of_mount(&mut txn, called.contents.clone(), &called.facts, &BESIDES), unsealed.clock.now())?;
        consume(&mut txn, mount, &name)?;
        match unsealed.commit(txn).await {
            Err(CommitFault::Conflict) => {}
            Ok(()) => {
                if is_unsettled {
                    tracing::info!(mount = %called.facts.path, name, "what was begun at an engine and not settled is finished");
                }
                return Ok(());
            }
            other => return other.map_err(Fault::from),
        }
    }
    Err(CommitFault::Conflict.into())
}

/// The mount whose engine is called, while it is mounted.
fn called(unsealed: &Unsealed, mount: &str) -> Option<TakingBack> {
    let (namespace, id) = (ids::home(mount), MountId::new(ids::bare(mount)));
    let space = unsealed.handles.spaces.with_id(&namespace)?;
    let mount = Arc::clone(space.mounts.table().with_id(&id)?);
    let engine = space.mounts.engine(&mount)?;
    Some(TakingBack { facts: mount.facts.clone(), contents: mount.contents.clone(), engine })
}

fn is_stored(unsealed: &Unsealed, txn: &mut Txn, mount: &str) -> Result<bool, Fault> {
    let Some(space) = unsealed.handles.spaces.with_id(&ids::home(mount)) else { return Ok(false) };
    Ok(space.mounts.read(txn, &MountId::new(ids::bare(mount)))?.is_some())
}

fn is_still_there(unsealed: &Unsealed, txn: &mut Txn, called: &TakingBack) -> Result<bool, Fault> {
    let space = unsealed.handles.spaces.of(&called.facts.namespace)?;
    Ok(space.mounts.read(txn, &called.facts.id)?.is_some())
}

/// Takes a time away that has come, unless the engine set another.
fn consume(txn: &mut Txn, mount: &str, name: &str) -> Result<(), Fault> {
    match read(txn, mount, name)? {
        Some(wake) if wake.failed > 0 => put(txn, mount, name, None),
        _ => Ok(()),
    }
}

/// Notes a failure; the engine is called again later, unless it says when itself.
async fn later(
    unsealed: &Unsealed,
    called: &TakingBack,
    mount: &str,
    name: &str,
    failed: u64,
    why: &Failed,
    note: Option<&NoteOf>,
) -> Result<(), Fault> {
    let reason = why.fault.for_operators();
    tracing::warn!(mount = %called.facts.path, name, reason, failed, "what is due at an engine was not done");
    for _ in 0..ATTEMPTS_MAX {
        let mut txn = unsealed.begin()?;
        let now = unsealed.clock.now();
        if !is_still_there(unsealed, &mut txn, called)? {
            return Ok(());
        }
        let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let pause = BACKOFF.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let at = index::rounded(now.plus(pause));
        put(&mut txn, mount, name, Some(WakeRecord { at, failed, is_unsettled: false }))?;
        let mut view = View::of_mount(&mut txn, called.contents.clone(), &called.facts, &BESIDES);
        match note {
            Some(note) => note(&mut view, now, why)?,
            // It was not even begun, so nobody says when it would be due next.
            None => view.not_rotated(name, now, now.plus(BACKOFF_MAX))?,
        }
        match unsealed.commit(txn).await {
            Err(CommitFault::Conflict) => {}
            other => return other.map_err(Fault::from),
        }
    }
    Err(CommitFault::Conflict.into())
}

type NoteOf = dyn Fn(&mut View<'_>, Timestamp, &Failed) -> Result<(), Fault> + Send + Sync;
