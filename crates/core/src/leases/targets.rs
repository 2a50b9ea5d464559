//! Whom engines ask outside the server, and how each of them is doing.
//!
//! A target is what an engine calls one (a connection), mount by mount. So many acts at a time are asked of one, and so many
//! wait; what comes beyond is refused, so a slow target takes its own room and nobody else's. One that does not answer is
//! *down*: it is asked once in a while, by one revocation, until it answers. Kept in memory: another leader finds out anew.
//! Deliberately absent: what is asked of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tresor_barrier::{StorageKey, Txn};
use tresor_engine::MountFacts;
use tresor_env::Clock;
use tresor_model::{Fault, Refusal, Timestamp};

use super::record::LeaseRecord;
use crate::keys;
use crate::namespaces::ids;

/// How many acts are asked of one target at a time, and how many may wait for their turn, and how long.
const ACTS: usize = 16;
const WAITING_MAX: usize = 256;
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a target that is down is left alone after the first failure; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Beyond so many, those of which nothing is known any more are forgotten.
const KNOWN: usize = 1024;

/// A target that does not answer.
#[derive(Clone, Debug)]
pub struct Down {
    /// Since when.
    pub since: Timestamp,
    /// How often it was asked in vain.
    pub failed: u32,
    /// What came of it the last time.
    pub reason: String,
    /// When it is asked again.
    pub until: Timestamp,
}

#[derive(Default)]
struct Target {
    acts: Option<Arc<Semaphore>>,
    down: Option<Down>,
}

/// The targets of a node that leads.
#[derive(Default)]
pub(crate) struct Targets(Mutex<BTreeMap<String, Target>>);

/// Held while an act runs.
pub(crate) struct Permit(#[expect(dead_code, reason = "dropping it is what it is for")] OwnedSemaphorePermit);

/// The name of a target among those of all mounts: what it is called does not matter, so it may be cut and folded.
pub(crate) fn name(facts: &MountFacts, target: &str) -> String {
    named(&ids::within(&facts.namespace, facts.id.as_str().to_owned()), target)
}

/// The same, of a mount that is named as in indices of all namespaces.
pub(crate) fn named(mount: &str, target: &str) -> String {
    let target: String = target.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).take(128).collect();
    format!("{mount}:{target}")
}

/// Where what is taken back from the target of a lease waits.
pub(super) fn queue(record: &LeaseRecord) -> Result<(String, StorageKey), Fault> {
    let name = named(&ids::within(&record.home(), record.mount.as_str().to_owned()), &record.target);
    let at = keys::queues().and_then(|queues| queues.below(&format!("{name}/")));
    let entry = at.and_then(|at| at.key(record.number())).map_err(Fault::internal)?;
    Ok((name, entry))
}

/// Takes a lease out of its queue, if it stands there.
pub(super) fn leave_queue(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    txn.leave(&queue(record)?.1);
    Ok(())
}

impl Targets {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Target>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the target takes one more act.
    ///
    /// # Errors
    /// A refusal when too many wait already, or when it takes too long; nothing was done.
    pub(crate) async fn permit(&self, facts: &MountFacts, target: &str, clock: &dyn Clock) -> Result<Permit, Fault> {
        let acts = {
            let mut known = self.known();
            if known.len() > KNOWN {
                known.retain(|_, target| {
                    target.down.is_some() || target.acts.as_ref().is_some_and(|acts| Arc::strong_count(acts) > 1)
                });
            }
            let target = known.entry(name(facts, target)).or_default();
            Arc::clone(target.acts.get_or_insert_with(|| Arc::new(Semaphore::new(ACTS))))
        };
        let busy = || {
            let text = "too many requests are waiting for this target; nothing was done";
            Fault::Refusal(Refusal::Unavailable(text.into()))
        };
        // Each that waits or acts holds the semaphore itself, too.
        if Arc::strong_count(&acts) > ACTS + WAITING_MAX {
            return Err(busy());
        }
        tokio::select! {
            biased;
            permit = Arc::clone(&acts).acquire_owned() => permit.map(Permit).map_err(Fault::internal),
            () = clock.sleep(PATIENCE) => Err(busy()),
        }
    }

    /// It answered.
    pub(crate) fn is_up(&self, name: &str) {
        if let Some(target) = self.known().get_mut(name) {
            target.down = None;
        }
    }

    /// It did not answer. What was asked at the same time as what is known already says nothing new: sixteen that fail
    /// together are one failure.
    pub(crate) fn is_down(&self, name: &str, reason: &str, now: Timestamp) {
        let mut known = self.known();
        let target = known.entry(name.to_owned()).or_default();
        if let Some(down) = target.down.as_mut().filter(|down| now < down.until) {
            reason.clone_into(&mut down.reason);
            return;
        }
        let (since, failed) = target.down.as_ref().map_or((now, 0), |down| (down.since, down.failed));
        let pause = BACKOFF.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
        target.down = Some(Down { since, failed: failed + 1, reason: reason.to_owned(), until: now.plus(pause) });
    }

    /// What is known of one that does not answer.
    pub(crate) fn down(&self, name: &str) -> Option<Down> {
        self.known().get(name)?.down.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_that_is_down_is_left_alone_longer_each_time() {
        let (targets, began) = (Targets::default(), Timestamp::from_seconds(1_000));
        assert!(targets.down("a:b").is_none());
        let (mut pauses, mut now) = (Vec::new(), began);
        for _ in 0..10 {
            // All that were asked together fail together.
            for _ in 0..16 {
                targets.is_down("a:b", "no route", now);
            }
            let until = targets.down("a:b").unwrap().until;
            pauses.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(targets.down("a:b").unwrap().since, began);
        assert!(targets.down("a:c").is_none());
        targets.is_up("a:b");
        assert!(targets.down("a:b").is_none());
    }
}
