//! How large the store's parts are: in proportion to what is live, so that a small store takes little of the disk.
//!
//! What is not in the index yet lies in the log, and each time the index takes a generation over it needs room for new
//! pages beside those of before. Both go with the size of a generation: a twenty-fourth of what is live, within bounds.
//! Deliberately absent: the clock. A store that shrank is brought into shape by the upkeep that follows its last write.

use tresor_storage::StoreError;

use crate::Limits;
use crate::machine::{Inner, View};

/// A generation is the part of what is live that such a number of generations would hold.
const GENERATIONS_LIVE: u64 = 24;
/// So many full files of values would hold what is live.
const VALUE_FILES_LIVE: u64 = 16;

impl Limits {
    /// How large a generation grows beside so many live bytes before the index takes it over.
    pub(crate) fn generation_bytes_at(&self, live_bytes: u64) -> u64 {
        (live_bytes / GENERATIONS_LIVE).max(self.generation_bytes_min).min(self.generation_bytes)
    }

    /// How long a file of values beside the index becomes before the next one is begun.
    pub(crate) fn value_file_bytes_at(&self, live_bytes: u64) -> u64 {
        (live_bytes / VALUE_FILES_LIVE).max(self.generation_bytes_min)
    }

    /// How large a segment of the log is then at most.
    pub(crate) fn segment_bytes_at(&self, live_bytes: u64) -> u64 {
        let generation = self.generation_bytes_at(live_bytes).next_power_of_two();
        generation.clamp(self.segments.first, self.segments.max.max(self.segments.first))
    }
}

impl Inner {
    /// Whether the active generation is to be handed over. While the index is busy with another one it grows on, so that
    /// a small store under load is not taken over in crumbs.
    pub(crate) fn is_full(&self, view: &View) -> bool {
        let bytes = view.active.bytes();
        let enough = self.limits.generation_bytes_at(view.index.facts.live_bytes);
        bytes >= self.limits.generation_bytes || bytes >= enough && view.frozen.is_empty()
    }

    /// Fits the log's segments to what is live.
    pub(crate) fn fit_segments(&self, live_bytes: u64) {
        self.journal.fit_segments(self.limits.segment_bytes_at(live_bytes));
    }

    /// Hands the active generation over when it is full, or when the log's segments are too large for what is live: they
    /// can go only when the index has what lies in them. Tells whether there was anything to do.
    pub(crate) fn settle(&self) -> Result<bool, StoreError> {
        let is_oversized = self.journal.is_oversized();
        let view = {
            // Nobody adds to the generation meanwhile.
            let applied = self.applied();
            let view = self.view();
            let has_something = view.active.bytes() > 0;
            if has_something && view.frozen.is_empty() && (is_oversized || self.is_full(&view)) {
                self.change_view(|view| view.freeze(&applied));
                return Ok(true);
            }
            view
        };
        let has_taken_over = view.active.bytes() == 0 && view.frozen.is_empty();
        Ok(is_oversized && has_taken_over && self.journal.purge(view.index.facts.position.index)?)
    }
}
