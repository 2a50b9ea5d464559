//! Whom engines ask outside the server, and how each of them is doing.
//!
//! A target is what an engine calls one (a connection), mount by mount. So many acts at a time are asked of one, and so many
//! wait; what comes beyond is refused, so a slow target takes its own room and nobody else's. One that does not answer is
//! *down*: it is asked once in a while, by one revocation after the other in turn, until it answers. A lease for which it was
//! asked in vain while it answered another is in *doubt*: when that happens again it is that lease's fault, not the target's,
//! so one lease whose credentials are refused keeps no other waiting. Kept in memory: another leader finds out anew.
//! Deliberately absent: what is asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tresor_barrier::{StorageKey, Txn};
use tresor_engine::MountFacts;
use tresor_env::Clock;
use tresor_model::{Fault, Refusal, Timestamp};

use super::record::{LeaseRecord, LeaseState};
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
/// So many leases, asked about in vain since it last answered, speak for all others of a target.
const SPEAK_FOR_ALL: usize = 16;
/// So many leases of a target are in doubt at most.
const DOUBTS_MAX: usize = 256;

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
    /// For which leases it was asked in vain, the first of them.
    in_vain: BTreeSet<String>,
    /// For which it was asked last.
    last: String,
}

impl Down {
    /// Whether it was asked for so many leases that nobody has to be asked for another one.
    pub(super) fn speaks_for_all(&self) -> bool {
        self.in_vain.len() >= SPEAK_FOR_ALL
    }

    /// Behind which lease of its queue the next one stands that has its turn.
    pub(super) fn turn(&self) -> &str {
        &self.last
    }
}

#[derive(Default)]
struct Target {
    acts: Option<Arc<Semaphore>>,
    down: Option<Down>,
    /// When it last answered.
    answered: Option<Timestamp>,
    /// Leases for which it was asked in vain while it answered others.
    doubtful: BTreeSet<String>,
}

impl Target {
    fn doubts(&mut self, lease: String) {
        if self.doubtful.len() < DOUBTS_MAX {
            self.doubtful.insert(lease);
        }
    }
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
    let target = target.chars().enumerate();
    // Two colons mean something else: see [`Queue`].
    let target = target.map(|(at, c)| if c == '/' || c.is_control() || (at == 0 && c == ':') { '_' } else { c });
    format!("{mount}:{}", target.take(128).collect::<String>())
}

/// Where leases wait to be taken back from a target. Those that are forgotten if it does not do it wait in one of their own,
/// since they do not wait until it answers again.
pub(super) struct Queue {
    /// Its name among those of all mounts.
    pub(super) name: String,
    /// The name of the target.
    pub(super) target: String,
    /// Whether what stands there is forgotten if it is not taken back at once.
    pub(super) is_forced: bool,
}

impl Queue {
    /// By its name.
    pub(super) fn named(name: &str) -> Self {
        // What a mount is called has no colon.
        let is_forced = name.split_once(':').is_some_and(|(_, target)| target.starts_with(':'));
        let target = if is_forced { name.replacen("::", ":", 1) } else { name.to_owned() };
        Self { name: name.to_owned(), target, is_forced }
    }

    fn of(record: &LeaseRecord, is_forced: bool) -> Self {
        let mount = ids::within(&record.home(), record.mount.as_str().to_owned());
        let target = named(&mount, &record.target);
        let name = if is_forced { target.replacen(':', "::", 1) } else { target.clone() };
        Self { name, target, is_forced }
    }

    fn entry(&self, record: &LeaseRecord) -> Result<StorageKey, Fault> {
        let at = keys::queues().and_then(|queues| queues.below(&format!("{}/", self.name)));
        at.and_then(|at| at.key(record.number())).map_err(Fault::internal)
    }
}

/// The name of the target of a lease.
pub(super) fn name_of(record: &LeaseRecord) -> String {
    Queue::of(record, false).target
}

/// Where a lease waits to be taken back.
pub(super) fn queue(record: &LeaseRecord) -> Result<StorageKey, Fault> {
    let is_forced = matches!(&record.state, LeaseState::Revoking(attempts) if attempts.is_forced);
    Queue::of(record, is_forced).entry(record)
}

/// Takes a lease out of the queue in which it stands, if any.
pub(super) fn leave_queue(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    for is_forced in [false, true] {
        txn.leave(&Queue::of(record, is_forced).entry(record)?);
    }
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

    /// It answered for a lease.
    pub(super) fn is_up(&self, name: &str, lease: &str, now: Timestamp) {
        let mut known = self.known();
        let target = known.entry(name.to_owned()).or_default();
        target.answered = Some(now);
        for other in target.down.take().map(|down| down.in_vain).unwrap_or_default() {
            target.doubts(other);
        }
        target.doubtful.remove(lease);
    }

    /// It did not answer for a lease, about which it was asked at `begun`. What was asked at the same time as what is known
    /// already says nothing new: sixteen that fail together are one failure.
    pub(super) fn is_down(&self, name: &str, lease: &str, reason: &str, begun: Timestamp, now: Timestamp) {
        let mut known = self.known();
        let target = known.entry(name.to_owned()).or_default();
        if target.down.is_none() && target.answered.is_some_and(|answered| answered >= begun) {
            // It answered others meanwhile.
            target.doubts(lease.to_owned());
            return;
        }
        if let Some(down) = target.down.as_mut() {
            if down.in_vain.len() < SPEAK_FOR_ALL {
                down.in_vain.insert(lease.to_owned());
            }
            lease.clone_into(&mut down.last);
            if now < down.until {
                reason.clone_into(&mut down.reason);
                return;
            }
        }
        let before = target.down.take();
        let (since, failed) = before.as_ref().map_or((now, 0), |down| (down.since, down.failed));
        let in_vain = before.map_or_else(|| BTreeSet::from([lease.to_owned()]), |down| down.in_vain);
        let pause = BACKOFF.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
        let (reason, until, last) = (reason.to_owned(), now.plus(pause), lease.to_owned());
        target.down = Some(Down { since, failed: failed + 1, reason, until, in_vain, last });
    }

    /// Whether it is in doubt that the target is to blame when it does not answer for a lease; that is told once.
    pub(super) fn take_doubt(&self, name: &str, lease: &str) -> bool {
        self.known().get_mut(name).is_some_and(|target| target.doubtful.remove(lease))
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
            for lease in 0..16 {
                targets.is_down("a:b", &lease.to_string(), "no route", now, now);
            }
            let until = targets.down("a:b").unwrap().until;
            pauses.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(targets.down("a:b").unwrap().since, began);
        assert!(targets.down("a:c").is_none());
        targets.is_up("a:b", "0", now);
        assert!(targets.down("a:b").is_none());
    }

    #[test]
    fn a_lease_is_in_doubt_once_when_others_are_answered() {
        let (targets, now) = (Targets::default(), Timestamp::from_seconds(1_000));
        targets.is_down("a:b", "bad", "no entry", now, now);
        assert!(!targets.take_doubt("a:b", "bad"));
        assert_eq!(targets.down("a:b").unwrap().turn(), "bad");
        assert!(!targets.down("a:b").unwrap().speaks_for_all());
        targets.is_up("a:b", "good", now);
        // It was asked before the other one was answered, and fails after it.
        targets.is_down("a:b", "slow", "no entry", now, now.plus(Duration::from_secs(1)));
        assert!(targets.down("a:b").is_none());
        for lease in ["bad", "slow"] {
            assert_eq!([targets.take_doubt("a:b", lease), targets.take_doubt("a:b", lease)], [true, false]);
        }
        assert!(!targets.take_doubt("a:b", "good"));
        for lease in 0..SPEAK_FOR_ALL {
            targets.is_down("a:b", &lease.to_string(), "no route", now.plus(BACKOFF), now.plus(BACKOFF));
        }
        assert!(targets.down("a:b").unwrap().speaks_for_all());
    }

    #[test]
    fn what_is_forgotten_if_it_fails_has_a_queue_of_its_own() {
        for (target, forced) in [("pg", "m::pg"), (":pg", "m::_pg"), ("a::b", "m::a::b"), ("", "m::")] {
            let plain = named("m", target);
            let (queue, own) = (Queue::named(&plain), Queue::named(forced));
            assert_eq!((queue.target.as_str(), queue.is_forced), (plain.as_str(), false), "{target}");
            assert_eq!((own.target.as_str(), own.is_forced), (plain.as_str(), true), "{target}");
        }
    }
}
