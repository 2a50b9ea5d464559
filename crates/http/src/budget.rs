//! What the bodies of all requests of a listener may hold in memory at once.
//!
//! A body counts from the moment that its bytes arrive until its request is done, whether or not its client still
//! waits. The first bytes of each are free, so that small requests (logging in, unsealing) are served whatever others
//! send; connections bound those. Deliberately absent: waiting; bodies that are half there and wait for one another
//! would hold what they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of each body are not counted.
const FREE_BYTES: usize = 16 * 1024;

/// The budget of a listener.
#[derive(Debug)]
pub struct BodyBudget {
    bytes_max: usize,
    held: AtomicUsize,
}

impl BodyBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, held: AtomicUsize::new(0) })
    }
}

/// What the body of one request holds of a budget; given back when this is dropped.
#[derive(Debug)]
pub struct HeldBody {
    budget: Arc<BodyBudget>,
    counted: usize,
}

impl HeldBody {
    pub(crate) fn of(budget: &Arc<BodyBudget>) -> Self {
        Self { budget: Arc::clone(budget), counted: 0 }
    }

    /// Lets the body grow to so many bytes; false when there is no room.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(self.counted);
        let fits = |held: usize| held.checked_add(more).filter(|held| *held <= self.budget.bytes_max);
        let has_grown = more == 0 || self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if has_grown {
            self.counted += more;
        }
        has_grown
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_01_bodies_share_a_budget_and_small_ones_are_free() {
        let budget = BodyBudget::new(1000);
        let (mut first, mut second) = (HeldBody::of(&budget), HeldBody::of(&budget));
        assert!(first.grow_to(FREE_BYTES) && first.grow_to(FREE_BYTES + 600));
        assert!(second.grow_to(FREE_BYTES + 400) && !second.grow_to(FREE_BYTES + 401));
        assert!(HeldBody::of(&budget).grow_to(FREE_BYTES));
        drop(first);
        assert!(second.grow_to(FREE_BYTES + 1000));
        drop(second);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
