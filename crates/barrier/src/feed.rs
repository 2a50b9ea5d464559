//! The feed of changes: what is kept in memory and is a function of what is stored follows each batch before anybody
//! can read the batch, whoever made it: this node, or the one that leads.
//!
//! It watches the store. While a batch is being written and followed, readers get the snapshot from before it; so there is
//! no moment at which storage says one thing and a cache another. A follower that fails keeps everybody at the last state
//! that all could follow, until a later try succeeds: old answers, never torn ones. Deliberately absent: what followers
//! keep.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tresor_env::Signal;
use tresor_model::ids::NamespaceId;
use tresor_storage::{Coming, Snapshot, Store, StoreError, Version, Watcher};

use crate::barrier::Vault;
use crate::key::{KeyPrefix, StorageKey};
use crate::note;
use crate::seal::{UnsealError, header, stored_ring};
use crate::txn::Txn;

/// Why a follower could not follow.
pub type FollowError = Box<dyn std::error::Error + Send + Sync>;

/// What has changed, as far as directories list it and somebody follows it.
#[derive(Clone)]
pub enum Changed {
    /// What these names say.
    Names(Vec<StorageKey>),
    /// Perhaps everything: another state has taken the place of what was stored.
    Everything,
}

impl Changed {
    /// Whether something below a prefix may have changed.
    #[must_use]
    pub fn touches(&self, prefix: &KeyPrefix) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| name.is_below(prefix)),
            Self::Everything => true,
        }
    }

    /// In which namespaces something below a prefix may have changed; `None` when it may be any.
    #[must_use]
    pub fn namespaces(&self, prefix: &KeyPrefix) -> Option<BTreeSet<NamespaceId>> {
        match self {
            Self::Names(names) => {
                Some(names.iter().filter(|name| name.is_below(prefix)).map(StorageKey::namespace).collect())
            }
            Self::Everything => None,
        }
    }

    fn join(&mut self, later: &Self) {
        match (&mut *self, later) {
            (Self::Names(names), Self::Names(more)) => names.extend_from_slice(more),
            _ => *self = Self::Everything,
        }
    }

    const fn is_nothing(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }
}

/// Something in memory that is a function of what is stored.
pub trait Follower: Send + Sync {
    /// Below what it has to be told of changes; asked once. Every release that may lead a cluster must name at least what
    /// the others follow.
    fn wants(&self) -> Vec<KeyPrefix>;

    /// Follows the changes of a batch; `txn` reads what is stored after it. Called for one batch after the other, where
    /// blocking is allowed. The same changes may come again.
    ///
    /// # Errors
    /// What kept it from following; it is called again with these changes and later ones.
    fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), FollowError>;
}

/// A snapshot that readers share.
pub(crate) type Shared = Arc<Box<dyn Snapshot>>;

/// Who follows, and what may be read meanwhile.
#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    /// Held while followers follow.
    following: Mutex<()>,
    /// Whether what is stored is opened by other keys now: nobody is to see it through this barrier.
    pub(crate) estranged: Arc<Signal<bool>>,
}

#[derive(Default)]
struct State {
    followers: Vec<Weak<dyn Follower>>,
    /// Below what they follow.
    wanted: Arc<[KeyPrefix]>,
    /// What is read while a batch is written and followed.
    held: Option<Shared>,
    /// What a batch changes that is being written.
    coming: Option<Changed>,
    /// Whether what is being written may hold other keys.
    keys_are_coming: bool,
    /// What was changed and not followed yet, batch by batch.
    behind: Vec<Changed>,
    /// Why.
    failure: Option<Arc<FollowError>>,
    /// The newest snapshot that somebody reads, so that those who read at the same time share it.
    latest: Weak<Box<dyn Snapshot>>,
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Below what somebody follows.
    pub(crate) fn wanted(&self) -> Arc<[KeyPrefix]> {
        Arc::clone(&self.state().wanted)
    }

    /// Takes a follower that was loaded at a version; if the store has come further since, everything is followed.
    pub(crate) fn register(
        &self,
        vault: &Arc<Vault>,
        follower: &Arc<dyn Follower>,
        loaded: Version,
    ) -> Result<(), Arc<FollowError>> {
        {
            let mut state = self.state();
            state.wanted = state.wanted.iter().cloned().chain(follower.wants()).collect();
            state.followers.push(Arc::downgrade(follower));
        }
        // From here on it is told of each batch.
        let now = vault.store.snapshot().map_err(|error| Arc::new(FollowError::from(error)))?.version();
        if now == loaded {
            return Ok(());
        }
        self.state().behind.push(Changed::Everything);
        self.follow(vault)
    }

    /// What may be read now. It is shared with whoever reads it already, and nobody keeps it for longer than it is used.
    pub(crate) fn snapshot(&self, store: &dyn Store) -> Result<Shared, StoreError> {
        store.trusted()?;
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

    /// Why what was written is not shown.
    pub(crate) fn failure(&self) -> Option<Arc<FollowError>> {
        self.state().failure.clone()
    }

    /// These names are to be followed once more.
    pub(crate) fn is_to_follow(&self, names: Vec<StorageKey>) {
        self.state().behind.push(Changed::Names(names));
    }

    /// Whether a batch could not be followed yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.state().behind.is_empty()
    }

    /// Something is about to be written: until it is followed, everybody reads what was before it.
    fn hold(&self, changed: Changed, now: &dyn Fn() -> Box<dyn Snapshot>) {
        let mut state = self.state();
        if state.held.is_none() {
            state.held = Some(state.latest.upgrade().unwrap_or_else(|| Arc::new(now())));
        }
        // Of an earlier one nobody said the end: whoever wrote it panicked.
        let unended = state.coming.replace(changed);
        state.behind.extend(unended);
    }

    /// Lets everybody follow what was written, then shows it.
    pub(crate) fn follow(&self, vault: &Arc<Vault>) -> Result<(), Arc<FollowError>> {
        let _turn = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if self.estranged.read(|is_estranged| *is_estranged) {
            return Err(Arc::new("what is stored is opened by other keys now".into()));
        }
        let (followers, behind) = {
            let mut state = self.state();
            state.followers.retain(|follower| follower.strong_count() > 0);
            // Copied, not taken: when a follower panics, the next try must still know what to follow.
            (state.followers.clone(), state.behind.clone())
        };
        let count = behind.len();
        let followed = tell(vault, &followers, behind).map_err(Arc::new);
        let mut state = self.state();
        state.failure = followed.as_ref().err().cloned();
        followed?;
        // What came meanwhile stays.
        state.behind = state.behind.split_off(count);
        if state.behind.is_empty() && state.coming.is_none() {
            state.held = None;
            // From now on, nobody is given a snapshot from before the batch.
            state.latest = Weak::new();
        }
        Ok(())
    }
}

fn tell(vault: &Arc<Vault>, followers: &[Weak<dyn Follower>], behind: Vec<Changed>) -> Result<(), FollowError> {
    let mut batches = behind.into_iter();
    let Some(mut changed) = batches.next() else { return Ok(()) };
    batches.for_each(|later| changed.join(&later));
    if changed.is_nothing() || followers.is_empty() {
        return Ok(());
    }
    let snapshot: Shared = Arc::new(vault.store.snapshot()?);
    for follower in followers.iter().filter_map(Weak::upgrade) {
        follower.follow(&changed, &mut Txn::new(Arc::clone(vault), Arc::clone(&snapshot)))?;
    }
    Ok(())
}

/// Whether there are keys that others may take the place of: a store that is being initialised has none.
fn has_ring(now: &dyn Snapshot) -> bool {
    stored_ring(now).is_ok_and(|ring| ring.is_some())
}

/// What tells the feed and the cache of a barrier; the barrier keeps it.
pub(crate) struct Watching(pub(crate) Weak<Vault>);

impl Watcher for Watching {
    fn before(&self, coming: Coming<'_>, now: &dyn Fn() -> Box<dyn Snapshot>) {
        let Some(vault) = self.0.upgrade() else { return };
        let changed = match coming {
            Coming::Batch(batch) => note::opened(&vault, batch),
            Coming::State => Changed::Everything,
        };
        vault.feed.hold(changed, now);
        match coming {
            Coming::Batch(batch) => {
                vault.cache.expire(batch.version, batch.writes.keys());
                if batch.writes.contains_key(&header("ring")) {
                    let had_keys = has_ring(&*now());
                    vault.feed.state().keys_are_coming = had_keys;
                }
            }
            Coming::State => {
                let now = now();
                vault.cache.distrust(now.version().next());
                vault.feed.state().keys_are_coming = has_ring(&*now);
            }
        }
    }

    fn after(&self) {
        let Some(vault) = self.0.upgrade() else { return };
        let keys_may_be_other = {
            let mut state = vault.feed.state();
            let ended = state.coming.take();
            state.behind.extend(ended);
            std::mem::take(&mut state.keys_are_coming)
        };
        if keys_may_be_other {
            match vault.store.snapshot().map_err(UnsealError::from).and_then(|now| vault.keys.follow(&*now)) {
                // A store that cannot be read shows nothing either.
                Ok(()) | Err(UnsealError::Store(_)) => {}
                Err(_) => vault.feed.estranged.update(|is_estranged| *is_estranged = true),
            }
        }
        // What cannot be followed now is kept from everybody, and tried again.
        drop(vault.feed.follow(&vault));
    }
}
