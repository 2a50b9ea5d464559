//! Step 9 of a request that does something outside the server: its intent, the act, and the settling.
//!
//! The intent is committed with what the handler wrote, as everything else that a request writes, and done again when that
//! conflicts. The act runs once, without a transaction, while this node leads in the same term. Settling is a transaction of
//! its own, done again when it conflicts; when it cannot be committed, or its token or mount is gone by then, what was made
//! is taken back, and nobody is told of it. Deliberately absent: asking again (whoever asked may), and taking back, which is
//! `leases::revoke`'s.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tresor_barrier::Txn;
use tresor_engine::outside::{Left, NoteFailure, Plan, Settle};
use tresor_engine::{Failed, Reply, View};
use tresor_env::BoxFuture;
use tresor_model::ids::LeaseId;
use tresor_model::request::Inline;
use tresor_model::{Fault, LeaseTerms, Refusal, Request, Timestamp};

use super::authorize::Authorized;
use super::execute::{Said, TOO_LONG, made, say};
use super::route::Routed;
use super::wrap;
use crate::besides::BESIDES;
use crate::cluster::Standing;
use crate::leases::intents::ACT_DEADLINE;
use crate::leases::secrets::Means;
use crate::leases::targets::Permit;
use crate::mounts::Mount;
use crate::unsealed::{CommitFault, Unsealed};

/// How often settling is done again when it conflicts.
const SETTLE_MAX: usize = 64;

/// What is known before, and goes with the answer.
pub(super) struct Asked {
    pub(super) wrapping: Option<wrap::Wanted>,
    /// Hints that the handler's input gave rise to.
    pub(super) warnings: Vec<String>,
}

/// What is about to be done.
pub(super) struct Planned {
    act: BoxFuture<'static, Result<Settle, Failed>>,
    failed: Option<NoteFailure>,
    lease: Option<LeaseId>,
    asked: Asked,
    /// In which term.
    standing: Standing,
    permit: Permit,
}

/// What came of it.
pub(super) struct Made {
    pub(super) outcome: Result<Said, Fault>,
    /// The lease that the answer shows.
    pub(super) lease: Option<LeaseId>,
}

/// Writes the intent, once the target takes one more.
pub(super) async fn intend(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    plan: Plan,
    asked: Asked,
    now: Timestamp,
) -> Result<Planned, Fault> {
    let Plan { act, failed, lease, target } = plan;
    if lease.is_some() && matches!(request.inline, Inline::Done) {
        return Err(Fault::invalid("requests with inline authentication cannot generate leases"));
    }
    let mount = mount(authorized)?;
    let standing = unsealed.handles.cluster.standing();
    let permit = unsealed.handles.leases.targets().permit(&mount.facts, &target, &*unsealed.doors.clock).await?;
    let lease = match lease {
        Some(claim) => {
            let owner = authorized.principal().ok_or_else(|| Fault::internal("a lease without a token"))?.token();
            let (means, path) = (Means::by(txn, now, &unsealed.doors), request.path.as_str());
            Some(unsealed.handles.leases.intend(means, &mount.facts, path, owner, claim, &target)?)
        }
        None => None,
    };
    Ok(Planned { act, failed, lease, asked, standing, permit })
}

/// Acts, and settles.
pub(super) async fn carry_out(
    unsealed: &Unsealed,
    request: &Request,
    authorized: &Authorized<'_>,
    planned: Planned,
) -> Made {
    let Planned { act, failed, lease, asked, standing, permit } = planned;
    // No longer than whoever asked waits for it.
    let asked_for = request.connection.request_time_max.unwrap_or(unsealed.handles.settings.request_time_max);
    let acted = act_once(unsealed, act, standing, asked_for.min(ACT_DEADLINE)).await;
    drop(permit);
    let done = match acted {
        Ok(settle) => {
            let settled = settled(unsealed, request, authorized, &*settle, lease.as_ref(), &asked).await;
            settled.map_err(|fault| (Failed::partly_done(fault), None))
        }
        Err(why) => Err((why, failed)),
    };
    match done {
        Ok(said) => {
            made(unsealed, authorized, &said.0);
            Made { outcome: Ok(said), lease }
        }
        Err((why, note)) => {
            give_up(unsealed, authorized, lease.as_ref(), note.as_deref(), &why).await;
            Made { outcome: Err(why.fault), lease: None }
        }
    }
}

/// Runs an act, while this node leads in the term that it was planned in, and not for too long.
pub(crate) async fn act_once(
    unsealed: &Unsealed,
    act: BoxFuture<'static, Result<Settle, Failed>>,
    standing: Standing,
    deadline: Duration,
) -> Result<Settle, Failed> {
    let unavailable = |text: &'static str| Err(Failed::in_doubt(Refusal::Unavailable(text.into()).into()));
    // Whoever ends it is asked first: a process that stood still goes no step further.
    tokio::select! {
        biased;
        () = unsealed.gate.closed() => Err(Failed::in_doubt(Refusal::Sealed.into())),
        _ = unsealed.handles.cluster.changed(standing) => {
            unavailable("another node leads by now; what was begun is taken back")
        }
        () = unsealed.clock.sleep(deadline) => unavailable(TOO_LONG),
        acted = AssertUnwindSafe(act).catch_unwind() => {
            acted.unwrap_or_else(|_| Err(Failed::in_doubt(Fault::internal("an act outside the server panicked"))))
        }
    }
}

/// Settles, as often as it conflicts.
async fn settled(
    unsealed: &Unsealed,
    request: &Request,
    authorized: &Authorized<'_>,
    settle: &SettleOf,
    lease: Option<&LeaseId>,
    asked: &Asked,
) -> Result<Said, Fault> {
    for _ in 0..SETTLE_MAX {
        let mut txn = unsealed.begin()?;
        let now = unsealed.clock.now();
        let mount = mount(authorized)?;
        let mut reply = settle_on(unsealed, &mut txn, mount, settle, now)?;
        if lease.is_some() && reply.lease.is_some() {
            return Err(Fault::internal("two leases come out of one act"));
        }
        if let Some(id) = lease {
            reply.advice = Some(lives(unsealed, &mut txn, authorized, mount, id, now)?);
        }
        if reply.says_something() {
            reply.warnings.splice(0..0, asked.warnings.iter().cloned());
        }
        let said = say(unsealed, &mut txn, request, authorized, reply, asked.wrapping.clone(), now).await?;
        match unsealed.commit(txn).await {
            Ok(()) => return Ok(said),
            Err(CommitFault::Conflict) => {}
            Err(CommitFault::Other(Fault::Refusal(Refusal::Elsewhere))) => {
                // Not to be done again elsewhere.
                let text = "another node leads by now; what was made is taken back";
                return Err(Refusal::Unavailable(text.into()).into());
            }
            Err(other) => return Err(other.into()),
        }
    }
    Err(CommitFault::Conflict.into())
}

type SettleOf = dyn Fn(&mut View<'_>, Timestamp) -> Result<Reply, Fault> + Send + Sync;
type NoteOf = dyn Fn(&mut View<'_>, Timestamp, &Failed) -> Result<(), Fault> + Send + Sync;

/// Lets the engine write, if its mount is what it was.
fn settle_on(
    unsealed: &Unsealed,
    txn: &mut Txn,
    mount: &Mount,
    settle: &SettleOf,
    now: Timestamp,
) -> Result<Reply, Fault> {
    is_there(unsealed, txn, mount)?;
    settle(&mut View::of_mount(txn, mount.contents.clone(), &mount.facts, &BESIDES), now)
}

/// A refusal when a mount was removed or moved meanwhile.
fn is_there(unsealed: &Unsealed, txn: &mut Txn, mount: &Mount) -> Result<(), Fault> {
    let space = unsealed.handles.spaces.of(&mount.facts.namespace)?;
    let stored = space.mounts.read(txn, &mount.record.id)?;
    if stored.is_some_and(|stored| stored.path == mount.record.path) {
        return Ok(());
    }
    Err(Refusal::NoRoute(mount.record.path.clone()).into())
}

/// From this transaction on the lease lives.
fn lives(
    unsealed: &Unsealed,
    txn: &mut Txn,
    authorized: &Authorized<'_>,
    mount: &Mount,
    lease: &LeaseId,
    now: Timestamp,
) -> Result<LeaseTerms, Fault> {
    let owner = authorized.principal().ok_or_else(|| Fault::internal("a lease without a token"))?.token();
    unsealed.handles.leases.settle(txn, &mount.facts, owner, lease, now)
}

/// Gives up what is not to be. When that cannot be committed either, the intent falls due by itself.
async fn give_up(
    unsealed: &Unsealed,
    authorized: &Authorized<'_>,
    lease: Option<&LeaseId>,
    note: Option<&NoteOf>,
    why: &Failed,
) {
    let hangs_on_it = lease.is_some() || note.is_some();
    if !hangs_on_it && matches!(why.left, Left::Nothing) {
        // The answer says why; here it would show what was asked, of a workflow the paths of its requests.
        return;
    }
    tracing::warn!(reason = why.fault.for_operators(), left = ?why.left, "something outside the server was not done");
    if !hangs_on_it {
        return;
    }
    let noted = in_one(unsealed, |txn, now| {
        if let Some(lease) = lease {
            unsealed.handles.leases.give_up(txn, lease, why.left, now)?;
        }
        let mount = mount(authorized)?;
        match note {
            Some(note) if is_there(unsealed, txn, mount).is_ok() => {
                let mut view = View::of_mount(txn, mount.contents.clone(), &mount.facts, &BESIDES);
                note(&mut view, now, why)
            }
            _ => Ok(()),
        }
    });
    if let Err(fault) = noted.await {
        tracing::warn!(cause = ?fault, "an intent could not be given up; it falls due by itself");
    }
}

/// Ends a lease whose answer could not be recorded, so that nobody has it.
pub(super) async fn take_back(unsealed: &Unsealed, routed: &Routed, lease: &LeaseId) {
    let (leases, namespace) = (&unsealed.handles.leases, &routed.space.id);
    let ended = in_one(unsealed, |txn, now| leases.retire(txn, namespace, lease.as_str(), false, now));
    if let Err(fault) = ended.await {
        tracing::warn!(cause = ?fault, lease = lease.as_str(), "a lease that nobody has ends in its own time only");
    }
}

/// Commits some work, as often as it conflicts.
async fn in_one(unsealed: &Unsealed, work: impl Fn(&mut Txn, Timestamp) -> Result<(), Fault>) -> Result<(), Fault> {
    for _ in 0..SETTLE_MAX {
        let mut txn = unsealed.begin()?;
        work(&mut txn, unsealed.clock.now())?;
        match unsealed.commit(txn).await {
            Ok(()) => return Ok(()),
            Err(CommitFault::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(CommitFault::Conflict.into())
}

fn mount<'a>(authorized: &Authorized<'a>) -> Result<&'a Arc<Mount>, Fault> {
    authorized.routed().mount.as_ref().ok_or_else(|| Fault::internal("an act without a mount"))
}
