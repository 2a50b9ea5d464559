//! The task that revokes: it asks engines to take back what is due, with patience.
//!
//! What is due goes from the index of ends into a queue of whoever is asked to take it back, a target of a mount
//! (`targets`); each queue has its own room, so one that is slow, or down, or has a hundred thousand leases due, keeps no
//! other waiting. A target that does not answer is tried by one lease at a time, in turn, less and less often; that counts for
//! no lease, all wait in the queue untouched, unless it answers for others meanwhile. What an engine says of one lease does
//! count: it is tried again, later each time, and after a while the lease is set apart as irrevocable, with the reason, for an operator; nothing is dropped silently. Only
//! where the operator said for how long such leases are kept it is due once more, and forgotten with a report.
//! Each lease is a transaction of its own, so what an engine writes stands together with the end of its lease. A store that
//! fails is no failure of the engine. Deliberately absent: deciding what ends.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tresor_barrier::{KeyPrefix, Lane, Txn};
use tresor_engine::outside::is_unreachable;
use tresor_env::BoxFuture;
use tresor_model::{Fault, Timestamp};

use super::crew::{self, Crew};
use super::hurry::Hurry;
use super::record::{Attempts, JobWork, LeaseRecord, LeaseState};
use super::secrets::{Means, give_up, move_to, take_from_irrevocable, write};
use super::targets::{Down, Queue};
use super::{
    Doing, Pace, Progress, Readable, Traffic, abandoned, after, index, outage, parked, pause_after, readable, retried,
    stands, targets,
};
use crate::gate::Gate;
use crate::keys;
use crate::unsealed::Unsealed;

/// How many leases are taken from the index at a time, at most.
const PAGE_MAX: usize = 64;
/// How many leases are asked about at the same time, and of one target.
const AT_ONCE: usize = 256;
const OF_TARGET: usize = 16;
/// How many queues are looked at in one round.
const QUEUES: usize = 64;
/// The longest that an engine may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often revoking may fail before the lease is set apart.
pub(super) const ATTEMPTS_MAX: u64 = 6;
/// How long after the first failure it is tried again; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(10);

/// What asking about a lease came to.
enum Asked {
    /// Its engine answered, whatever it said; or nobody had to be asked.
    Answered,
    /// The target does not answer, for this reason; when it was asked.
    Unreachable(String, Timestamp),
    /// It does not answer for this one lease, which will be tried later.
    Withheld,
    /// The store failed.
    StoreFailed(Fault),
}

/// The task, until the node is sealed or gone.
pub(super) async fn run(node: Weak<Unsealed>, gate: Gate) {
    let (mut crew, mut traffic, mut failed) = (Crew::default(), Traffic::new(), 0_u32);
    let mut behind = None;
    while let Some(unsealed) = node.upgrade() {
        if gate.is_closed() {
            return;
        }
        let begun = unsealed.doors.clock.monotonic();
        let hurry = Arc::clone(unsealed.handles.leases.hurry());
        let wanted = hurry.wanted();
        let pace = traffic.pace(&gate, begun);
        let (progress, has_sorted) = round(&unsealed, pace, &mut crew, &mut behind).await;
        let took = unsealed.doors.clock.monotonic().saturating_sub(begun);
        // What goes forward goes on; only when nothing does is it left alone for a while.
        let (mut went, mut broke) = (has_sorted, false);
        let (pause, is_idle) = match progress {
            Ok(Progress::More) => (took.saturating_mul(pace.rest).min(super::PAUSE_MAX), false),
            Ok(Progress::Idle) => (super::PAUSE_MAX, true),
            Err(fault) => {
                outage::tell(&unsealed, &fault, "revoking will go on later");
                broke = true;
                (pause_after(failed), false)
            }
        };
        // What failed is not tried again at once.
        let (pause, is_idle) = if failed > 0 { (pause.max(pause_after(failed)), false) } else { (pause, is_idle) };
        let (weak, clock) = (Arc::downgrade(&unsealed), unsealed.clock.clone());
        drop(unsealed);
        let pause = crew::pause(&clock, pause);
        let pause = if is_idle { or_wanted(pause, Arc::clone(&hurry), wanted) } else { pause };
        let Some(done) = crew.rest(&gate, pause, is_idle).await else { return };
        // Whoever waits looks when nothing of a target is under way: until then it was in vain.
        let has_ended = done.iter().any(|(queue, _)| crew.of(queue) == 0);
        for (queue, (lease, asked)) in done {
            let is_well = note(&weak, &Queue::named(&queue).target, &lease, asked);
            (went, broke) = (went || is_well, broke || !is_well);
        }
        if has_ended {
            hurry.end();
        }
        failed = if broke && !went { failed.saturating_add(1) } else { 0 };
    }
}

/// A pause that ends earlier where somebody waits.
fn or_wanted(pause: BoxFuture<'static, ()>, hurry: Arc<Hurry>, seen: u64) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = pause => {}
            () = hurry.wanted_after(seen) => {}
        }
    })
}

/// Remembers how a target is doing; false when the store failed.
fn note(node: &Weak<Unsealed>, target: &str, lease: &str, asked: Asked) -> bool {
    let Some(unsealed) = node.upgrade() else { return true };
    let (targets, now) = (unsealed.handles.leases.targets(), unsealed.clock.now());
    match asked {
        Asked::Answered => targets.is_up(target, lease, now),
        Asked::Unreachable(reason, begun) => {
            tracing::warn!(target, reason, "a target does not answer; what it has waits to be revoked");
            targets.is_down(target, lease, &reason, begun, now);
        }
        Asked::Withheld => {}
        Asked::StoreFailed(fault) => {
            outage::tell(&unsealed, &fault, "a lease will be revoked later");
            return false;
        }
    }
    true
}

/// Sorts what is due into the queues, and asks about as many of each as it has room for; also says whether any was sorted.
async fn round(
    unsealed: &Arc<Unsealed>,
    pace: Pace,
    crew: &mut Crew<(String, Asked)>,
    behind: &mut Option<String>,
) -> (Result<Progress, Fault>, bool) {
    let sorted = sort(unsealed, pace).await;
    let begun = begin(unsealed, pace, crew, behind);
    let has_sorted = matches!(sorted, Ok(Progress::More));
    let has_more = has_sorted || matches!(begun, Ok(Progress::More));
    let progress = if has_more { Progress::More } else { Progress::Idle };
    (after(progress, sorted.err().or(begun.err())), has_sorted)
}

fn begin(
    unsealed: &Arc<Unsealed>,
    pace: Pace,
    crew: &mut Crew<(String, Asked)>,
    after: &mut Option<String>,
) -> Result<Progress, Fault> {
    let mut txn = unsealed.begin()?;
    let (now, queues) = (unsealed.clock.now(), keys::queues().map_err(Fault::internal)?);
    let page = txn.list(&queues, after.as_deref(), QUEUES).map_err(Fault::internal)?;
    // The next round goes on behind them: of very many queues each has its turn.
    *after = page.last().filter(|_| page.len() == QUEUES).cloned();
    let (mut progress, mut left) = (Progress::Idle, PAGE_MAX.min(pace.step_max));
    for queue in page {
        let own = Queue::named(queue.trim_end_matches('/'));
        let (name, down) = (own.name.as_str(), unsealed.handles.leases.targets().down(&own.target));
        let under_way = crew.of(name);
        // What is sealed stays where it is in its queue.
        if parked::is_sealed(&unsealed.handles.spaces, name) {
            continue;
        }
        // Nobody is asked once more for each of what may be a hundred thousand. When a while has gone by, one is asked again.
        let in_vain = down.as_ref().filter(|down| own.is_forced && down.speaks_for_all());
        let hopeless = in_vain.filter(|down| down.until > now).map(|down| down.reason.clone());
        let room = match &down {
            // Those are not waited for.
            Some(_) if own.is_forced && (hopeless.is_some() || in_vain.is_none()) => {
                OF_TARGET.saturating_sub(under_way)
            }
            Some(down) if down.until > now => 0,
            Some(_) => 1_usize.saturating_sub(under_way),
            None => OF_TARGET.saturating_sub(under_way),
        };
        let room = room.min(left).min(AT_ONCE.saturating_sub(crew.len()));
        if room == 0 {
            continue;
        }
        let at = queues.below(&queue).map_err(Fault::internal)?;
        let turn = down.as_ref().filter(|_| !own.is_forced).map(Down::turn);
        let mut numbers = txn.list(&at, turn, room + under_way).map_err(Fault::internal)?;
        if numbers.is_empty() && turn.is_some() {
            numbers = txn.list(&at, None, room + under_way).map_err(Fault::internal)?;
        }
        for number in numbers {
            if crew.is_at(name, &number) || crew.of(name) >= under_way + room {
                continue;
            }
            (progress, left) = (Progress::More, left.saturating_sub(1));
            let (unsealed, at, lane, hopeless) = (Arc::clone(unsealed), at.clone(), pace.lane, hopeless.clone());
            crew.begin(name, &number.clone(), async move {
                let asked = one(&unsealed, lane, &at, &number, hopeless).await.unwrap_or_else(Asked::StoreFailed);
                (number, asked)
            });
        }
    }
    Ok(progress)
}

/// Moves some of what is due from the index into the queues; from then on nobody sees it. Each lease is a transaction of its
/// own: a store that fails often fails some of them, and not all.
async fn sort(unsealed: &Unsealed, pace: Pace) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    let (bucket, numbers) = {
        let mut txn = unsealed.begin()?;
        let ends = keys::lease_ends().map_err(Fault::internal)?;
        let Some(bucket) = index::first_due(&mut txn, &ends, now)? else { return Ok(Progress::Idle) };
        let aside = keys::set_aside().map_err(Fault::internal)?;
        let Some(numbers) = index::page(&mut txn, &bucket, &aside, PAGE_MAX.min(pace.step_max), now)? else {
            for space in unsealed.handles.spaces.every() {
                let entropy = &*unsealed.doors.entropy;
                unsealed.handles.leases.order(&mut txn, &space, JobWork::TidyLeases, "", now, entropy)?;
            }
            stands(unsealed.commit_in(pace.lane, txn).await)?;
            return Ok(Progress::More);
        };
        let (numbers, has_parked) = parked::park(&unsealed.handles.spaces, &mut txn, &bucket, numbers)?;
        if has_parked {
            stands(unsealed.commit_in(pace.lane, txn).await)?;
            return Ok(Progress::More);
        }
        (bucket, numbers)
    };
    let second = bucket.as_str().trim_end_matches('/').rsplit('/').next().and_then(index::second_of);
    let second = Timestamp::from_seconds(second.unwrap_or(0));
    let (mut progress, mut failed) = (Progress::Idle, None);
    let sorting = numbers.iter().map(|number| sort_one(unsealed, pace.lane, &bucket, second, number));
    for done in join_all(sorting).await {
        match done {
            Ok(()) => progress = Progress::More,
            Err(fault) => failed = Some(fault),
        }
    }
    after(progress, failed)
}

/// One entry of the index.
async fn sort_one(
    unsealed: &Unsealed,
    lane: Lane,
    bucket: &KeyPrefix,
    second: Timestamp,
    number: &str,
) -> Result<(), Fault> {
    let (mut txn, mut doing) = (unsealed.begin()?, Doing::new(1));
    let now = unsealed.clock.now();
    let key = keys::lease(number).map_err(Fault::internal)?;
    match readable::<LeaseRecord>(txn.read(&key))? {
        Readable::Yes(record) if record.due == second => enqueue(unsealed, &mut txn, *record, &mut doing, now)?,
        // Renewed or gone since: the entry is a leftover.
        Readable::Yes(_) | Readable::Gone => {}
        Readable::No(reason) => {
            let aside = keys::set_aside().map_err(Fault::internal)?;
            index::set_aside(&mut txn, &aside, number, reason, now)?;
        }
    }
    txn.leave(&bucket.key(number).map_err(Fault::internal)?);
    stands(unsealed.commit_in(lane, txn).await)?;
    doing.tell(unsealed, "").await;
    Ok(())
}

fn enqueue(
    unsealed: &Unsealed,
    txn: &mut Txn,
    mut record: LeaseRecord,
    doing: &mut Doing,
    now: Timestamp,
) -> Result<(), Fault> {
    match &record.state {
        LeaseState::Irrevocable(attempts) => {
            // An operator who has changed the mind since keeps it.
            if unsealed.handles.leases.irrevocable_kept().is_some() {
                take_from_irrevocable(txn, &record)?;
                abandoned::forget(&unsealed.handles.leases, txn, &record, &attempts.reason, doing, now)?;
            }
            return Ok(());
        }
        LeaseState::Revoking(_) => {}
        LeaseState::Live | LeaseState::Intended => {
            unsealed.handles.leases.end_of_life(txn, &mut record, now)?;
            write(txn, &record)?;
        }
    }
    // What a damaged block leads to is found by tidying.
    txn.enter_if_readable(&targets::queue(&record)?);
    Ok(())
}

/// One entry of a queue; where that is `hopeless`, for this reason, nobody is asked.
async fn one(
    unsealed: &Unsealed,
    lane: Lane,
    queue: &KeyPrefix,
    number: &str,
    hopeless: Option<String>,
) -> Result<Asked, Fault> {
    let mut txn = unsealed.begin()?;
    let now = unsealed.clock.now();
    let entry = queue.key(number).map_err(Fault::internal)?;
    let key = keys::lease(number).map_err(Fault::internal)?;
    match readable::<LeaseRecord>(txn.read(&key))? {
        Readable::Yes(record) if matches!(record.state, LeaseState::Revoking(_)) && record.due <= now => {
            txn.leave(&entry);
            let Some(reason) = hopeless else { return revoke(unsealed, lane, *record, txn).await };
            let mut doing = Doing::new(1);
            abandoned::forget(&unsealed.handles.leases, &mut txn, &record, &reason, &mut doing, now)?;
            stands(unsealed.commit_in(lane, txn).await)?;
            doing.tell(unsealed, "").await;
            return Ok(Asked::Withheld);
        }
        // It is to be tried later; or this process tells an earlier time than the one that sorted it.
        Readable::Yes(record) if matches!(record.state, LeaseState::Revoking(_)) => {
            let ends = keys::lease_ends().map_err(Fault::internal)?;
            index::enter(&mut txn, &ends, record.due, number)?;
        }
        // It is gone, or stands elsewhere by now.
        Readable::Yes(_) | Readable::Gone => {}
        Readable::No(reason) => {
            let aside = keys::set_aside().map_err(Fault::internal)?;
            index::set_aside(&mut txn, &aside, number, reason, now)?;
        }
    }
    txn.leave(&entry);
    stands(unsealed.commit_in(lane, txn).await).map(|()| Asked::Answered)
}

async fn revoke(unsealed: &Unsealed, lane: Lane, mut record: LeaseRecord, mut txn: Txn) -> Result<Asked, Fault> {
    let now = unsealed.clock.now();
    let leases = &unsealed.handles.leases;
    let (id, target) = (record.id.as_str().to_owned(), record.target.clone());
    let means = Means::by(&mut txn, now, &unsealed.doors);
    let asked = AssertUnwindSafe(leases.take_back(means, &mut record, false)).catch_unwind();
    let taken = tokio::select! {
        biased;
        taken = asked => taken.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))),
        // Sealing: it is asked again after the next unsealing.
        () = unsealed.gate.closed() => return Ok(Asked::Answered),
        () = unsealed.clock.sleep(DEADLINE) => {
            let text = "the engine took too long";
            Err(if target.is_empty() { Fault::internal(text) } else { Fault::upstream(text) })
        }
    };
    match taken {
        Ok(()) => stands(unsealed.commit_in(lane, txn).await).map(|()| Asked::Answered),
        Err(fault) => {
            // What the engine wrote goes with its transaction; that it failed is written in another.
            drop(txn);
            failed(unsealed, lane, &id, &fault, now).await
        }
    }
}

async fn failed(unsealed: &Unsealed, lane: Lane, id: &str, fault: &Fault, begun: Timestamp) -> Result<Asked, Fault> {
    let (now, reason) = (unsealed.clock.now(), fault.for_operators());
    let mut txn = unsealed.begin()?;
    let leases = &unsealed.handles.leases;
    let Some(mut record) = super::secrets::read(&mut txn, id)? else { return Ok(Asked::Answered) };
    let LeaseState::Revoking(before) = &record.state else { return Ok(Asked::Answered) };
    let mut asked = if is_unreachable(fault) { Asked::Unreachable(reason.clone(), begun) } else { Asked::Answered };
    let mut doing = Doing::new(1);
    let withheld = || leases.targets().take_doubt(&targets::name_of(&record), record.number());
    if before.is_forced {
        abandoned::forget(leases, &mut txn, &record, &reason, &mut doing, now)?;
    } else if is_unreachable(fault) && !withheld() {
        // It stays where it is in its queue.
        return Ok(asked);
    } else {
        if is_unreachable(fault) {
            asked = Asked::Withheld;
        }
        let attempts = Attempts { failed: before.failed + 1, reason: reason.clone(), is_forced: false };
        tracing::warn!(lease = id, reason, failed = attempts.failed, "a lease could not be revoked");
        if attempts.failed >= ATTEMPTS_MAX {
            let kept = leases.irrevocable_kept();
            give_up(&mut txn, &mut record, attempts, kept.map(|kept| now.plus(kept)))?;
        } else {
            let doublings = u32::try_from(attempts.failed.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
            let later = now.plus(BACKOFF.saturating_mul(1 << doublings));
            move_to(&mut txn, &mut record, index::rounded(later))?;
            record.state = LeaseState::Revoking(attempts);
            write(&mut txn, &record)?;
            retried::note(&mut txn, &record, now)?;
        }
    }
    targets::leave_queue(&mut txn, &record)?;
    stands(unsealed.commit_in(lane, txn).await)?;
    doing.tell(unsealed, "").await;
    Ok(asked)
}
