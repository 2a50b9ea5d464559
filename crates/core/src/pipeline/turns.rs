//! Turns: requests that conflicted over one thing are done again one after another, first come, first served.
//!
//! A first attempt waits for nobody. Of many that want to change the same thing, each commit lets one win; if the
//! others all tried again at once, the unluckiest would lose until it gave up. In turns, each has to beat only those
//! that come anew. Invariants: whoever has a turn never waits for another one, so nobody waits in a circle; two things
//! may share a turn, which costs time and nothing else. Deliberately absent: any promise; the commit decides.

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many turns are given at once, for different things.
const TURNS: usize = 64;

/// The turns of a node.
pub(crate) struct Turns([Semaphore; TURNS]);

/// Held while one's turn lasts.
pub(crate) type Turn<'t> = Option<SemaphorePermit<'t>>;

impl Turns {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Semaphore::new(1)))
    }

    /// Waits for one's turn to change `thing`.
    pub(crate) async fn take(&self, thing: &str) -> Turn<'_> {
        // FNV-1a: the same thing has the same turn in every run.
        let hash = thing
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let at = usize::try_from(hash % TURNS as u64).unwrap_or(0);
        // Nobody closes a semaphore; without one there would be no turns, and the commit would decide all the same.
        self.0.get(at)?.acquire().await.ok()
    }
}
