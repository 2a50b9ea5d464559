//! The reserve of free space: below it the store is read-only, before the disk is full in the middle of something.
//!
//! The disk is asked at most so often; a store that was refused writes again as soon as there is space, without anybody
//! telling it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tresor_storage::{Condition, StoreError};

use crate::machine::{FileMachine, Inner};

/// How long what the disk said is believed.
const BELIEVED: Duration = Duration::from_millis(200);
const NEVER: u64 = u64::MAX;

/// What the disk said last.
pub(crate) struct Space {
    asked_at: AtomicU64,
    free: AtomicU64,
}

impl Space {
    pub(crate) const fn new() -> Self {
        Self { asked_at: AtomicU64::new(NEVER), free: AtomicU64::new(u64::MAX) }
    }
}

impl Inner {
    fn free_bytes(&self) -> u64 {
        let now = u64::try_from(self.doors.clock.monotonic().as_nanos()).unwrap_or(0);
        let asked_at = self.space.asked_at.load(Ordering::Relaxed);
        let believed = u64::try_from(BELIEVED.as_nanos()).unwrap_or(0);
        if asked_at == NEVER || now.saturating_sub(asked_at) >= believed {
            // A disk that cannot say is written to: it will say so itself when it is full.
            let free = self.doors.disk.free_bytes(&self.directory).unwrap_or(u64::MAX);
            self.space.free.store(free, Ordering::Relaxed);
            self.space.asked_at.store(now, Ordering::Relaxed);
        }
        self.space.free.load(Ordering::Relaxed)
    }

    /// Refuses a write of so many bytes when the reserve would be touched.
    pub(crate) fn refuse_when_low(&self, bytes: u64) -> Result<(), StoreError> {
        let free_bytes = self.free_bytes();
        if free_bytes >= self.limits.reserve_bytes.saturating_add(bytes) {
            return Ok(());
        }
        Err(StoreError::LowSpace { name: self.name.clone(), free_bytes, reserve_bytes: self.limits.reserve_bytes })
    }

    pub(crate) fn condition(&self) -> Condition {
        let free_bytes = self.free_bytes();
        let behind = self.tending.behind();
        if self.view().index.index.damaged_at().is_some() {
            Condition::Damaged
        } else if self.tending.stopped().is_some() || self.journal.has_failed() {
            Condition::Stopped
        } else if free_bytes < self.limits.reserve_bytes || behind.as_ref().is_some_and(|behind| behind.is_full) {
            Condition::LowSpace { free_bytes, reserve_bytes: self.limits.reserve_bytes }
        } else if behind.is_some() {
            Condition::Behind
        } else if self.is_impaired() {
            Condition::Impaired
        } else {
            Condition::Writable
        }
    }
}

impl FileMachine {
    /// Waits while the memory table is full; says why nothing is taken.
    pub(crate) fn admit(&self) -> Result<(), StoreError> {
        self.0.wait_for_room()?;
        self.0.view().index.index.refuse_when_damaged()
    }

    /// Whether it can be written to.
    pub(crate) fn condition(&self) -> Condition {
        // Whoever asks may be the first to come by since it was full.
        if self.0.tending.behind().is_some() || self.0.is_scrub_due() {
            self.0.request_upkeep();
        }
        self.0.condition()
    }
}
