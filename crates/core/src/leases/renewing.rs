//! Renewals that are under way at engines: of one lease, one at a time asks, and whoever comes meanwhile shares the answer.
//!
//! What an engine was told is known for as long as somebody is at it, so that whoever waited, or conflicts with who was
//! faster and does its request again, does not ask once more. Kept in memory, on the leader, and bounded by the requests
//! that run. Deliberately absent: what is stored of a renewal; each request writes its own, and one that finds an end that
//! will do writes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Semaphore, SemaphorePermit};
use tresor_model::{Fault, Timestamp};

/// Beyond so many, those that nobody is at any more are forgotten.
const KNOWN: usize = 64;

/// The renewals that are under way, by the numbers of their leases.
#[derive(Default)]
pub(crate) struct Renewals(Mutex<BTreeMap<String, Weak<Renewal>>>);

/// The renewal of one lease.
pub(crate) struct Renewal {
    turn: Semaphore,
    /// The end that its engine agreed to last.
    told: Mutex<Option<Timestamp>>,
}

impl Renewals {
    /// The renewal of a lease, with everybody who is at it.
    pub(crate) fn of(&self, number: &str) -> Arc<Renewal> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > KNOWN {
            known.retain(|_, renewal| renewal.strong_count() > 0);
        }
        if let Some(renewal) = known.get(number).and_then(Weak::upgrade) {
            return renewal;
        }
        let renewal = Arc::new(Renewal { turn: Semaphore::new(1), told: Mutex::new(None) });
        known.insert(number.to_owned(), Arc::downgrade(&renewal));
        renewal
    }
}

impl Renewal {
    /// Waits until nobody else asks.
    ///
    /// # Errors
    /// Never: nobody closes it.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.turn.acquire().await.map_err(Fault::internal)
    }

    /// Whether the engine agreed to just this end, or a later one, while somebody waited here.
    pub(crate) fn has_told(&self, end: Timestamp) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|told| told >= end)
    }

    /// The engine agreed to an end.
    pub(crate) fn tell(&self, end: Timestamp) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }
}
