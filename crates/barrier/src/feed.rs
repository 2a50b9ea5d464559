//! The feed of changes: what is kept in memory and is a function of what is stored follows each batch before anybody
//! can read the batch.
//!
//! While a batch is being written and followed, readers get the snapshot from before it; so there is no moment at which
//! storage says one thing and a cache another. A follower that fails keeps everybody at the last state that all could
//! follow, until a later try succeeds: old answers, never torn ones. Deliberately absent: what followers keep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tresor_storage::{Snapshot, Store, StoreError};

use crate::barrier::Vault;
use crate::key::StorageKey;
use crate::txn::Txn;

/// Why a follower could not follow.
pub type FollowError = Box<dyn std::error::Error + Send + Sync>;

/// Something in memory that is a function of what is stored.
pub trait Follower: Send + Sync {
    /// Follows the changes of a batch, as far as directories list them; `txn` reads what is stored after it. Called for
    /// one batch after the other, where blocking is allowed. The same changes may come again.
    ///
    /// # Errors
    /// What kept it from following; it is called again with these changes and later ones.
    fn follow(&self, changed: &[StorageKey], txn: &mut Txn) -> Result<(), FollowError>;
}

/// A snapshot that readers share.
pub(crate) type Shared = Arc<Box<dyn Snapshot>>;

/// Who follows, and what may be read meanwhile.
#[derive(Default)]
pub(crate) struct Feed(Mutex<State>);

#[derive(Default)]
struct State {
    followers: Vec<Weak<dyn Follower>>,
    /// What is read while a batch is written and followed.
    held: Option<Shared>,
    /// What was changed and not followed yet.
    behind: Vec<StorageKey>,
    /// The newest snapshot that somebody reads, so that those who read at the same time share it.
    latest: Weak<Box<dyn Snapshot>>,
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, follower: Weak<dyn Follower>) {
        self.state().followers.push(follower);
    }

    /// What may be read now. It is shared with whoever reads it already, and nobody keeps it for longer than it is used.
    pub(crate) fn snapshot(&self, store: &dyn Store) -> Result<Shared, StoreError> {
        let mut state = self.state();
        if let Some(held) = &state.held {
            return Ok(Arc::clone(held));
        }
        if let Some(shared) = state.latest.upgrade() {
            return Ok(shared);
        }
        let fresh: Shared = Arc::new(store.snapshot()?);
        state.latest = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    /// A batch is about to be written: until it is followed, everybody reads what was before it.
    pub(crate) fn hold(&self, before: &Shared, changed: impl IntoIterator<Item = StorageKey>) {
        let mut state = self.state();
        state.held.get_or_insert_with(|| Arc::clone(before));
        state.behind.extend(changed);
    }

    /// Whether a batch could not be followed yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.state().held.is_some()
    }

    /// Lets everybody follow what was written, then shows it.
    pub(crate) fn follow(&self, vault: &Arc<Vault>) -> Result<(), FollowError> {
        let (followers, behind) = {
            let mut state = self.state();
            state.followers.retain(|follower| follower.strong_count() > 0);
            // Copied, not taken: when a follower panics, the next try must still know what to follow.
            (state.followers.clone(), state.behind.clone())
        };
        if !behind.is_empty() && !followers.is_empty() {
            let snapshot: Shared = Arc::new(vault.store.snapshot()?);
            for follower in followers.iter().filter_map(Weak::upgrade) {
                follower.follow(&behind, &mut Txn::new(Arc::clone(vault), Arc::clone(&snapshot)))?;
            }
        }
        let mut state = self.state();
        state.behind.clear();
        state.held = None;
        // From now on, nobody is given a snapshot from before the batch.
        state.latest = Weak::new();
        Ok(())
    }
}
