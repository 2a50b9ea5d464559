//! What the process before this one was about to make or to take back when it ended: engines are asked to take it back as
//! soon as this one serves, and not only when its deadline has passed.
//!
//! Only a node without others does so: there the process before has ended, or the store takes nothing of it any more. What was
//! to be made is asked for once more than it needs, and what the engine writes then is dropped: the intent stands until it falls
//! due, and is taken back then as ever, since what was asked of a target may come true late. One walk over what is due until
//! the latest of it is. Times are whole seconds: what the process before began in the very second in which this one serves is
//! taken for its own, and waits for its deadline. Deliberately absent: what this process began, and trying again.

use std::panic::AssertUnwindSafe;
use std::sync::Weak;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tresor_barrier::{KeyPrefix, Lane, Txn};
use tresor_model::{Fault, Timestamp};

use super::intents::falls_due;
use super::record::{LeaseRecord, LeaseState};
use super::secrets::{Means, numbered};
use super::{Readable, index, parked, readable, stands};
use crate::gate::Gate;
use crate::keys;
use crate::unsealed::Unsealed;

/// How many leases are looked at in one transaction, and how many engines are asked at the same time.
const LEASES: usize = 64;
const AT_ONCE: usize = 16;
/// The longest that an engine may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The walk.
pub(super) async fn run(node: Weak<Unsealed>, gate: Gate) {
    let Some(unsealed) = node.upgrade() else { return };
    if unsealed.handles.cluster.is_enabled() {
        return;
    }
    let began = unsealed.clock.now();
    drop(unsealed);
    let mut at = Place::default();
    loop {
        let Some(unsealed) = node.upgrade().filter(|_| !gate.is_closed()) else { return };
        match step(&unsealed, began, &mut at).await {
            Ok(true) => {}
            Ok(false) => return,
            // It falls due by itself.
            Err(fault) => {
                tracing::warn!(%fault, cause = ?fault, "what was interrupted is taken back later");
                return;
            }
        }
        drop(unsealed);
        tresor_env::tasks::breathe().await;
    }
}

/// Where the walk is: behind this second, and within the next one behind this lease.
#[derive(Default)]
struct Place {
    second: Option<String>,
    lease: Option<String>,
}

/// Looks at some leases; false when all were looked at.
async fn step(unsealed: &Unsealed, began: Timestamp, at: &mut Place) -> Result<bool, Fault> {
    let mut txn = unsealed.begin()?;
    let Some((second, bucket)) = next(&mut txn, began, at)? else { return Ok(false) };
    let names = txn.list(&bucket, at.lease.as_deref(), LEASES).map_err(Fault::internal)?;
    let (is_last, last) = (names.len() < LEASES, names.last().cloned());
    let (mut intents, mut ordered, now) = (Vec::new(), 0_usize, unsealed.clock.now());
    for number in names {
        if parked::is_sealed(&unsealed.handles.spaces, &number) {
            continue;
        }
        let key = keys::lease(&number).map_err(Fault::internal)?;
        let Readable::Yes(record) = readable::<LeaseRecord>(txn.read(&key))? else { continue };
        match record.state {
            LeaseState::Intended if record.issued < began => intents.push(number),
            // Somebody ordered that it is taken back at once.
            LeaseState::Live if record.due < record.expires && record.due < falls_due(began) => {
                unsealed.handles.leases.retire_record(&mut txn, *record, false, now)?;
                ordered += 1;
            }
            _ => {}
        }
    }
    if ordered > 0 {
        stands(unsealed.commit_in(Lane::Background, txn).await)?;
    }
    for some in intents.chunks(AT_ONCE) {
        join_all(some.iter().map(|number| take_back(unsealed, number))).await;
    }
    if is_last {
        (at.second, at.lease) = (Some(second), None);
    } else {
        at.lease = last;
    }
    Ok(true)
}

/// The second to look at.
fn next(txn: &mut Txn, began: Timestamp, at: &Place) -> Result<Option<(String, KeyPrefix)>, Fault> {
    let ends = keys::lease_ends().map_err(Fault::internal)?;
    let latest = falls_due(began).seconds();
    let seconds = txn.list(&ends, at.second.as_deref(), 1).map_err(Fault::internal)?;
    let is_early = |name: &String| index::second_of(name).is_some_and(|second| second <= latest);
    let Some(second) = seconds.into_iter().find(is_early) else { return Ok(None) };
    let bucket = ends.below(&second).map_err(Fault::internal)?;
    Ok(Some((second, bucket)))
}

/// Asks an engine to take back what an intent was about.
async fn take_back(unsealed: &Unsealed, number: &str) {
    let asked = async {
        let mut txn = unsealed.begin()?;
        let Some(mut record) = numbered(&mut txn, number)? else { return Ok(()) };
        if record.state != LeaseState::Intended {
            return Ok(());
        }
        let means = Means::by(&mut txn, unsealed.clock.now(), &unsealed.doors);
        unsealed.handles.leases.take_back(means, &mut record, false).await
    };
    let asked = tokio::select! {
        biased;
        asked = AssertUnwindSafe(asked).catch_unwind() => asked.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))),
        () = unsealed.gate.closed() => return,
        () = unsealed.clock.sleep(DEADLINE) => Err(Fault::internal("the engine took too long")),
    };
    match asked {
        Ok(()) => tracing::info!(lease = number, "what was being made when the server ended is taken back"),
        Err(fault) => {
            tracing::warn!(%fault, lease = number, "what was being made when the server ended is taken back later")
        }
    }
}
