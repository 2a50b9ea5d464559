//! The pace of writers: the more waits for the index, the slower they become, so that none has to wait for long.
//!
//! A writer that is faster than the index must wait for it in the end. Without this all of the waiting would fall to the
//! one that finds the memory table full. Nothing is measured for it: the waiting grows with what is behind, until writers
//! are as fast as the index is. Deliberately absent: any waiting while the index keeps up, or while nobody works at it.

use std::sync::PoisonError;
use std::time::Duration;

use tresor_storage::Batch;

use crate::machine::{Inner, View};
use crate::memory::weight;

/// How long writing a generation takes at the slowest, just before the memory table is full.
const SLOWEST_GENERATION: Duration = Duration::from_millis(1200);
/// Waiting for less than this is put off.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Nobody waits longer at once; who is owed more does not get it.
const WAIT_MAX: Duration = Duration::from_millis(25);

/// How long a write of so many bytes takes beside what waits for the index: nothing up to half of what may wait, and
/// from there on more with the square.
fn wait(waiting: u64, waiting_max: u64, bytes: u64, generation_bytes: u64) -> Duration {
    let half = (waiting_max / 2).max(1);
    let permille = waiting.saturating_sub(half).saturating_mul(1000).checked_div(half).unwrap_or(0).min(1000);
    let slowest = SLOWEST_GENERATION.as_micros().saturating_mul(bytes.into()) / u128::from(generation_bytes.max(1));
    let micros = slowest.saturating_mul(u128::from(permille * permille)) / 1_000_000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(WAIT_MAX)
}

impl View {
    /// About how many bytes the index does not have yet.
    fn waiting(&self) -> u64 {
        self.active.bytes() + self.frozen.iter().map(|frozen| frozen.generation.bytes()).sum::<u64>()
    }
}

impl Inner {
    /// Makes the writer of a batch as slow as what waits for the index demands.
    pub(crate) fn pace(&self, batch: &Batch) {
        let view = self.view();
        if view.frozen.is_empty() {
            return;
        }
        // A deletion is a few bytes, and as much work as a value.
        let deleted_bytes = view.index.facts.mean_bytes();
        let bytes = batch.writes.iter().map(|(key, value)| weight(key, value.as_deref(), deleted_bytes)).sum();
        let generation_bytes = self.limits.generation_bytes;
        let waiting_max = generation_bytes.saturating_mul(self.limits.frozen_max as u64);
        let wait = wait(view.waiting(), waiting_max, bytes, generation_bytes);
        let mut state = self.tending.state();
        if !state.is_running || state.is_closing {
            return;
        }
        state.owed = (state.owed + wait).min(WAIT_MAX);
        if state.owed >= WAIT_MIN {
            let owed = std::mem::take(&mut state.owed);
            // Ends early when the index took something over.
            drop(self.tending.changed.wait_timeout(state, owed).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_become_slower_with_what_waits_and_none_waits_for_long() {
        const MB: u64 = 1 << 20;
        let wait = |waiting| wait(waiting * MB, 12 * MB, 64 << 10, 4 * MB);
        assert_eq!([0, 4, 6].map(wait), [Duration::ZERO; 3], "half of it waits for nothing");
        let waits: Vec<Duration> = (6..=12).map(wait).collect();
        assert!(waits.is_sorted_by(|less, more| less < more), "{waits:?}");
        assert!(wait(7) < Duration::from_millis(1) && wait(12) > Duration::from_millis(15), "{waits:?}");
        assert_eq!(wait(12), wait(50));
        assert_eq!(super::wait(12 * MB, 12 * MB, 64 * MB, 4 * MB), WAIT_MAX);
    }
}
