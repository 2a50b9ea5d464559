//! Taking back leases that somebody waits for.
//!
//! That one is to be taken back is committed first, and it is not taken for over before its engine has done so: it only falls
//! due a little after the longest that this may take. So whoever is killed in between leaves no lease whose account is gone: the
//! next process, or the next leader, takes it back. An engine that refuses leaves the lease as it was; where nobody knows what
//! was done, it stays due. Deliberately absent: orders about very many leases ([`jobs`](super::jobs)).

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tresor_barrier::Txn;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Refusal, Timestamp};

use super::intents::{ACT_DEADLINE, falls_due};
use super::record::LeaseState;
use super::secrets::{Leases, Means, move_to, read_in, write};
use crate::namespaces::ids;
use crate::unsealed::{CommitFault, Unsealed};

/// How many engines are asked at the same time.
const AT_ONCE: usize = 16;
/// How often the end of a lease is written again when that conflicts.
const TRIES: usize = 16;

impl Leases {
    /// Stores that a lease of a namespace is about to be taken back; false when there is none.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn order_at_once(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        id: &str,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let Some(mut record) = read_in(txn, namespace, id)? else { return Ok(false) };
        let due = falls_due(now);
        if record.state == LeaseState::Live && due < record.due {
            move_to(txn, &mut record, due)?;
            write(txn, &record)?;
        }
        Ok(true)
    }
}

/// Takes back what was ordered; each lease by itself, so what one comes to changes nothing for another.
///
/// # Errors
/// The first engine's that did not take one back; a refusal when it takes too long, when the node is sealed, and when another
/// node leads meanwhile: then it goes on in the background.
pub(crate) async fn taken_back(
    unsealed: &Unsealed,
    namespace: &NamespaceId,
    ids: &[String],
    deadline: Duration,
) -> Result<(), Fault> {
    let until = unsealed.doors.clock.monotonic().saturating_add(deadline.min(ACT_DEADLINE));
    let mut first = Ok(());
    for ids in ids.chunks(AT_ONCE) {
        for done in join_all(ids.iter().map(|id| one(unsealed, namespace, id, until))).await {
            first = first.and(done);
        }
    }
    first
}

/// Whose turn it is to take a lease back: of several that want it at once the first asks its engine, and the others find that it
/// is over.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Turns {
    fn of(&self, id: &str) -> Arc<Semaphore> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(known.entry(id.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

async fn one(unsealed: &Unsealed, namespace: &NamespaceId, id: &str, until: Duration) -> Result<(), Fault> {
    let turn = unsealed.handles.leases.turns.of(&ids::within(namespace, id.to_owned()));
    let left = until.saturating_sub(unsealed.doors.clock.monotonic());
    let _mine = tokio::select! {
        biased;
        mine = turn.acquire() => mine.map_err(Fault::internal)?,
        () = unsealed.gate.closed() => return Err(Refusal::Sealed.into()),
        () = unsealed.clock.sleep(left) => return goes_on("it is not revoked yet"),
    };
    let mut was_taken_back = false;
    for _ in 0..TRIES {
        let mut txn = unsealed.begin()?;
        let means = Means::by(&mut txn, unsealed.clock.now(), &unsealed.doors);
        let asked =
            AssertUnwindSafe(unsealed.handles.leases.revoke(means, namespace, id, was_taken_back)).catch_unwind();
        let left = until.saturating_sub(unsealed.doors.clock.monotonic());
        let taken = tokio::select! {
            biased;
            taken = asked => taken.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))),
            () = unsealed.gate.closed() => return Err(Refusal::Sealed.into()),
            () = unsealed.clock.sleep(left) => return goes_on("it is not revoked yet"),
        };
        if let Err(fault) = taken {
            // What the engine wrote goes with its transaction.
            drop(txn);
            if !was_taken_back
                && matches!(fault, Fault::Refusal(_))
                && let Err(why) = as_it_was(unsealed, namespace, id).await
            {
                tracing::warn!(cause = ?why, lease = id, "a lease that its engine did not revoke is tried again soon");
            }
            return Err(fault);
        }
        match unsealed.commit(txn).await {
            Ok(()) => return Ok(()),
            // It is not what it was any more, whatever the engine says the next time.
            Err(CommitFault::Conflict) => was_taken_back = true,
            Err(CommitFault::Other(Fault::Refusal(Refusal::Elsewhere))) => return goes_on("another node leads by now"),
            Err(other) => return Err(other.into()),
        }
    }
    goes_on("too many conflicting changes")
}

fn goes_on(why: &str) -> Result<(), Fault> {
    Err(Refusal::Unavailable(format!("{why}; it goes on in the background").into()).into())
}

/// An engine refused: the lease lives for as long as it was to.
async fn as_it_was(unsealed: &Unsealed, namespace: &NamespaceId, id: &str) -> Result<(), Fault> {
    for _ in 0..TRIES {
        let mut txn = unsealed.begin()?;
        // It may be renewed, or over, meanwhile.
        let record = read_in(&mut txn, namespace, id)?;
        let record = record.filter(|record| record.state == LeaseState::Live && record.due < record.expires);
        let Some(mut record) = record else { return Ok(()) };
        let expires = record.expires;
        move_to(&mut txn, &mut record, expires)?;
        write(&mut txn, &record)?;
        match unsealed.commit(txn).await {
            Err(CommitFault::Conflict) => {}
            done => return done.map_err(Fault::from),
        }
    }
    goes_on("too many conflicting changes")
}
