//! What operators may know of the store. Deliberately absent: anything that reads or changes what is stored.

use std::sync::Arc;

use tresor_barrier::SealedStore;
use tresor_storage::{Condition, Scrubbed};

/// How the store is doing.
pub struct Storage(Arc<SealedStore>);

impl Storage {
    pub(crate) const fn new(store: Arc<SealedStore>) -> Self {
        Self(store)
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.0.condition()
    }

    /// What became of looking for damage in it.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        self.0.scrubbed()
    }
}
