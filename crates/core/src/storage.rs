//! What operators may know of the store. Deliberately absent: anything that reads or changes what is stored.

use std::sync::Arc;

use tresor_barrier::{Offer, SealFacts, SealedStore};
use tresor_model::Fault;
use tresor_storage::{Condition, Scrubbed, Word};

/// How the store is doing.
pub struct Storage(Arc<SealedStore>);

impl Storage {
    pub(crate) const fn new(store: Arc<SealedStore>) -> Self {
        Self(store)
    }

    /// What a node is shown that wants to join the cluster of this store.
    pub(crate) fn offer(&self) -> Result<Offer, Fault> {
        let offer = self.0.offer().map_err(Fault::internal)?;
        offer.ok_or_else(|| Fault::internal("an open store has no key slots"))
    }

    /// What can be known of the seal without keys.
    pub(crate) fn facts(&self) -> Result<SealFacts, Fault> {
        self.0.facts().map_err(Fault::internal)
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.0.condition()
    }

    /// Completes when its server has said whose it is, where that is in doubt: this process may have stood still.
    pub(crate) fn vouched(&self) -> Option<Word> {
        self.0.vouched()
    }

    /// What became of looking for damage in it.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        self.0.scrubbed()
    }
}
