//! The task that revokes: it asks engines to take back what is due, with patience.
//!
//! Each lease is a transaction of its own, so what an engine writes stands together with the end of its lease, and one
//! that fails or hangs concerns no other. A failure is tried again, later each time, and after a while the lease is set
//! apart as irrevocable, with the reason, for an operator; nothing is dropped silently. A store that fails is no
//! failure of the engine: it is tried again and counts for nothing. Deliberately absent: deciding what ends.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tresor_barrier::Lane;
use tresor_env::BoxFuture;
use tresor_model::{Fault, Timestamp};

use super::record::{Attempts, JobWork, LeaseRecord, LeaseState};
use super::secrets::{Means, forget, give_up, move_to, write};
use super::{Pace, Progress, Readable, after, index, readable};
use crate::keys;
use crate::unsealed::{CommitFault, Unsealed};

/// How many leases are taken from the index at a time, at most.
const PAGE_MAX: usize = 64;
/// How many engines are asked at the same time.
const AT_ONCE: usize = 32;
/// The longest that an engine may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often revoking may fail before the lease is set apart.
pub(super) const ATTEMPTS_MAX: u64 = 6;
/// How long after the first failure it is tried again; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(10);

/// Asks for what is due.
///
/// # Errors
/// When the store fails.
pub(super) async fn due(unsealed: &Unsealed, pace: Pace) -> Result<Progress, Fault> {
    let now = unsealed.clock.now();
    let (bucket, numbers) = {
        let mut txn = unsealed.begin()?;
        let ends = keys::lease_ends().map_err(Fault::internal)?;
        let Some(bucket) = index::first_due(&mut txn, &ends, now)? else { return Ok(Progress::Idle) };
        let page = PAGE_MAX.min(pace.step_max / 2);
        let aside = keys::set_aside().map_err(Fault::internal)?;
        let Some(numbers) = index::page(&mut txn, &bucket, &aside, page, now)? else {
            for space in unsealed.handles.spaces.every() {
                let entropy = &*unsealed.doors.entropy;
                unsealed.handles.leases.order(&mut txn, &space, JobWork::TidyLeases, "", now, entropy)?;
            }
            stands(unsealed.commit_in(pace.lane, txn).await)?;
            return Ok(Progress::More);
        };
        (bucket, numbers)
    };
    let second = bucket.as_str().trim_end_matches('/').rsplit('/').next().and_then(index::second_of);
    let second = Timestamp::from_seconds(second.unwrap_or(0));
    let (mut progress, mut failed) = (Progress::Idle, None);
    for some in numbers.chunks(AT_ONCE) {
        let mut asked: Vec<BoxFuture<'_, Result<(), Fault>>> = Vec::new();
        for number in some {
            asked.push(Box::pin(one(unsealed, pace.lane, second, number)));
        }
        for done in join_all(asked).await {
            match done {
                Ok(()) => progress = Progress::More,
                Err(fault) => failed = Some(fault),
            }
        }
    }
    after(progress, failed)
}

/// One entry of the index.
async fn one(unsealed: &Unsealed, lane: Lane, second: Timestamp, number: &str) -> Result<(), Fault> {
    let mut txn = unsealed.begin()?;
    let now = unsealed.clock.now();
    let ends = keys::lease_ends().map_err(Fault::internal)?;
    let entry = ends.below(&index::bucket_name(second.seconds())).and_then(|at| at.key(number));
    let entry = entry.map_err(Fault::internal)?;
    let key = keys::lease(number).map_err(Fault::internal)?;
    match readable::<LeaseRecord>(txn.read(&key))? {
        Readable::Yes(record) if record.due == second => revoke(unsealed, lane, *record, txn).await,
        // Renewed or gone since: the entry is a leftover.
        Readable::Yes(_) | Readable::Gone => {
            txn.leave(&entry);
            stands(unsealed.commit_in(lane, txn).await)
        }
        Readable::No(reason) => {
            let aside = keys::set_aside().map_err(Fault::internal)?;
            index::set_aside(&mut txn, &aside, number, reason, now)?;
            txn.leave(&entry);
            stands(unsealed.commit_in(lane, txn).await)
        }
    }
}

async fn revoke(
    unsealed: &Unsealed,
    lane: Lane,
    mut record: LeaseRecord,
    mut txn: tresor_barrier::Txn,
) -> Result<(), Fault> {
    let now = unsealed.clock.now();
    let leases = &unsealed.handles.leases;
    leases.end_of_life(&mut txn, &mut record)?;
    let means = Means::by(&mut txn, now, &unsealed.doors);
    let asked = AssertUnwindSafe(leases.take_back(means, &record)).catch_unwind();
    let taken = tokio::select! {
        biased;
        taken = asked => taken.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))),
        // Sealing: it is asked again after the next unsealing.
        () = unsealed.gate.closed() => return Ok(()),
        () = unsealed.clock.sleep(DEADLINE) => Err(Fault::internal("the engine took too long")),
    };
    match taken {
        Ok(()) => stands(unsealed.commit_in(lane, txn).await),
        Err(fault) => {
            // What the engine wrote goes with its transaction; that it failed is written in another.
            drop(txn);
            failed(unsealed, lane, record.id.as_str(), &fault.for_operators()).await
        }
    }
}

async fn failed(unsealed: &Unsealed, lane: Lane, id: &str, reason: &str) -> Result<(), Fault> {
    let now = unsealed.clock.now();
    let mut txn = unsealed.begin()?;
    let Some(mut record) = super::secrets::read(&mut txn, id)? else { return Ok(()) };
    unsealed.handles.leases.end_of_life(&mut txn, &mut record)?;
    let LeaseState::Revoking(before) = &record.state else { return Ok(()) };
    let attempts = Attempts { failed: before.failed + 1, reason: reason.to_owned(), is_forced: before.is_forced };
    tracing::warn!(lease = id, reason, failed = attempts.failed, "a lease could not be revoked");
    if attempts.is_forced {
        tracing::error!(lease = id, reason, "a lease is forgotten without being revoked, as was ordered");
        forget(&mut txn, &record)?;
    } else if attempts.failed >= ATTEMPTS_MAX {
        give_up(&mut txn, &mut record, attempts)?;
    } else {
        let doublings = u32::try_from(attempts.failed.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let later = now.plus(BACKOFF.saturating_mul(1 << doublings));
        move_to(&mut txn, &mut record, index::rounded(later))?;
        record.state = LeaseState::Revoking(attempts);
        write(&mut txn, &record)?;
    }
    stands(unsealed.commit_in(lane, txn).await)
}

/// Somebody else was faster: it is looked at again.
fn stands(outcome: Result<(), CommitFault>) -> Result<(), Fault> {
    match outcome {
        Ok(()) | Err(CommitFault::Conflict) => Ok(()),
        Err(other) => Err(other.into()),
    }
}
