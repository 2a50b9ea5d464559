//! The open barrier: keys, the store behind them, and the queue to the committer. It exists only while unsealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tresor_crypto::aead::OpenError;
use tresor_crypto::hash::HmacKey;
use tresor_crypto::keyring::KeyRing;
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Tasks};
use tresor_model::ids::REALM_CHARACTERS;
use tresor_record::RecordError;
use tresor_secret::DataKey;
use tresor_secret::Wiped;
use tresor_storage::machine::{Export, Install};
use tresor_storage::{RawKey, Snapshot, Store, StoreError, Version, pieces};

use crate::cache::{Known, Plaintext, ReadCache};
use crate::committer;
use crate::feed::{Feed, FollowError, Follower, Shared, Watching};
use crate::key::{KeyError, PointKey, StorageKey};
use crate::keys::{CurrentKeys, Keys};
use crate::lanes::{Job, Lane, Lanes, Queues};
use crate::realms::{self, Realm, Realms};
use crate::seal::{SlotChange, stored_ring};
use crate::txn::{Changes, Txn};

/// How many pieces of a state are deleted together.
const PIECES_PER_BATCH: u32 = 256;
/// How much of a key says which neighbourhood a point lies in.
const NEIGHBOURHOOD_BYTES: usize = 8;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The text is no name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored was not sealed by this barrier for this place.
    #[error("a stored record cannot be opened")]
    Open(#[from] OpenError),
    /// A directory block is no directory block.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is in a realm whose keys are not in memory.
    #[error("it is in a namespace that is sealed")]
    SealedRealm,
}

impl BarrierError {
    /// Whether what is stored is damaged: trying again will not help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Record(_) | Self::Store(StoreError::Damaged { .. }))
    }

    /// Whether the store is on a server that is not reached, or another process's: asked again later, or somebody else, it may
    /// answer.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unreachable { .. } | StoreError::Taken { .. }))
    }

    /// Whether another node writes the store by now: asked there, it answers.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Store(StoreError::Elsewhere { .. }))
    }
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// What it read has changed.
    #[error("the transaction read what was changed meanwhile")]
    Conflict,
    /// The barrier is being closed.
    #[error("the barrier is closed")]
    Stopped,
    /// A tally would have left its bounds; nothing of the transaction was written.
    #[error("a count would leave its bounds")]
    OutOfBounds,
    /// The store failed while it was written: only the store knows whether it was.
    #[error("the store failed during the commit; its outcome is unknown")]
    Unknown,
    /// Something in memory cannot follow what was written, this transaction perhaps: nobody sees it, and nothing more
    /// is written, until it can.
    #[error("what was committed cannot be followed yet")]
    Unfollowed(#[source] Arc<FollowError>),
    /// It was not written.
    #[error(transparent)]
    Failed(Arc<BarrierError>),
}

/// A commit that stands.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The batch it went with; for a transaction without writes, what it read.
    pub version: Version,
    /// What it changed, as far as directories list it.
    pub changed: Vec<StorageKey>,
}

/// Keys and store: all that reading needs.
pub(crate) struct Vault {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: CurrentKeys,
    names: HmacKey,
    pub(crate) doors: Doors,
    pub(crate) cache: ReadCache,
    pub(crate) feed: Feed,
    /// What is sealed by other keys.
    pub(crate) realms: Arc<Realms>,
}

impl Vault {
    /// What a record was at a snapshot, opened only when its value is wanted.
    pub(crate) fn known(
        &self,
        snapshot: &dyn Snapshot,
        at: &RawKey,
        wanted: Wanted,
    ) -> Result<Option<Known>, BarrierError> {
        let version = snapshot.version();
        match self.cache.get(at, version) {
            Some(None) => return Ok(None),
            Some(Some(known)) if wanted == Wanted::Presence || known.plaintext.is_some() => return Ok(Some(known)),
            _ => {}
        }
        let known = match wanted {
            Wanted::Presence => snapshot.written(at)?.map(|version| Known { version, plaintext: None }),
            Wanted::Value => match snapshot.read(at)? {
                None => None,
                Some(stored) => {
                    let plaintext = self.open(at, &stored.bytes).map(Plaintext::new)?;
                    Some(Known { version: stored.version, plaintext: Some(plaintext) })
                }
            },
        };
        self.cache.put(at, version, known.clone());
        Ok(known)
    }

    /// Where a record lies.
    pub(crate) fn record_key(&self, name: &str) -> Result<RawKey, BarrierError> {
        self.raw_key(1, &[name.as_bytes()])
    }

    /// Where a block of a directory lies.
    pub(crate) fn block_key(&self, directory: &str, block: u64) -> Result<RawKey, BarrierError> {
        self.raw_key(2, &[directory.as_bytes(), &[0], &block.to_be_bytes()])
    }

    /// Where a record lies that no directory lists.
    pub(crate) fn point_key(&self, point: &PointKey) -> Result<RawKey, BarrierError> {
        let whole = point.as_str().as_bytes();
        let Some(neighbourhood) = point.neighbourhood() else { return self.raw_key(3, &[whole]) };
        let realm = self.realm_of(whole)?;
        let sign =
            |parts: &[&[u8]]| realm.as_ref().map_or_else(|| self.names.sign_parts(parts), |own| own.sign_parts(parts));
        // What is left of the hash of the name is more than can be found to collide.
        let (neighbourhood, name) = (sign(&[&[0], neighbourhood.as_bytes()]), sign(&[whole]));
        let mut hash = name;
        let (beginning, rest) = hash.split_at_mut(NEIGHBOURHOOD_BYTES);
        beginning.copy_from_slice(neighbourhood.split_at(NEIGHBOURHOOD_BYTES).0);
        rest.copy_from_slice(name.split_at(name.len() - NEIGHBOURHOOD_BYTES).0);
        Ok(spelled(5, &hash, realms::of_name(whole)))
    }

    /// Where a tally lies.
    pub(crate) fn tally_key(&self, name: &str) -> Result<RawKey, BarrierError> {
        self.raw_key(4, &[name.as_bytes()])
    }

    /// A raw key from the parts of a name, of which the first begins with its namespace.
    fn raw_key(&self, kind: u8, parts: &[&[u8]]) -> Result<RawKey, BarrierError> {
        let whole = parts.first().copied().unwrap_or_default();
        let hash = match self.realm_of(whole)? {
            None => self.names.sign_parts(parts),
            Some(realm) => realm.sign_parts(parts),
        };
        Ok(spelled(kind, &hash, realms::of_name(whole)))
    }

    /// The realm that a name is in, if it is in one.
    fn realm_of(&self, name: &[u8]) -> Result<Option<Arc<Realm>>, BarrierError> {
        realms::of_name(name).map(|id| self.realms.with_id(id)).transpose()
    }

    /// Whether what lies there is in a realm whose ring is not in memory.
    pub(crate) fn is_sealed(&self, at: &RawKey) -> bool {
        realms::of_raw_key(at).is_some_and(|id| self.realms.with_id(id).is_err())
    }

    pub(crate) fn seal(&self, at: &RawKey, plaintext: &[u8]) -> Result<Vec<u8>, BarrierError> {
        let entropy = &*self.doors.entropy;
        match realms::of_raw_key(at) {
            None => Ok(self.keys.seal(at, plaintext, entropy)),
            Some(id) => Ok(self.realms.with_id(id)?.seal(at, plaintext, entropy)),
        }
    }

    pub(crate) fn open(&self, at: &RawKey, sealed: &[u8]) -> Result<Wiped<Vec<u8>>, BarrierError> {
        match realms::of_raw_key(at) {
            None => Ok(self.keys.open(at, sealed)?),
            Some(id) => self.realms.with_id(id)?.open(at, sealed),
        }
    }
}

/// The length of a raw key that is in no realm.
pub(crate) const RAW_KEY_BYTES: usize = 33;

/// A raw key: what kind of thing lies there, a keyed hash of its name, and the realm that it is in.
fn spelled(kind: u8, hash: &[u8; 32], realm: Option<&str>) -> RawKey {
    let mut bytes = [kind; RAW_KEY_BYTES + REALM_CHARACTERS];
    let (own, end) = bytes.split_at_mut(RAW_KEY_BYTES);
    own.split_at_mut(1).1.copy_from_slice(hash);
    match realm.map(str::as_bytes).filter(|realm| realm.len() == end.len()) {
        None => short_key(own),
        Some(realm) => {
            end.copy_from_slice(realm);
            short_key(&bytes)
        }
    }
}

#[expect(clippy::expect_used, reason = "39 bytes are within the store's limit")]
pub(crate) fn short_key(bytes: &[u8]) -> RawKey {
    RawKey::new(bytes).expect("a keyed hash is a short key")
}

/// What somebody wants to know of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whether it is there, and since when.
    Presence,
    /// What it says.
    Value,
}

pub(crate) fn hmac_key(ring: &KeyRing, label: &str) -> HmacKey {
    HmacKey::new(ring.derive_subkey(label).expose())
}

struct Inner {
    vault: Arc<Vault>,
    queues: Queues,
    stopped: Arc<AtomicBool>,
    /// Told of what the store is about to hold, for as long as this barrier lives.
    _watching: Arc<Watching>,
    _tasks: Tasks,
}

/// The open barrier; cloning shares it. When the last clone is gone, so are the keys.
#[derive(Clone)]
pub struct Barrier(Arc<Inner>);

impl Barrier {
    /// Opens the barrier with its keys and starts its committer; must be called within a runtime.
    pub(crate) fn new(store: Arc<dyn Store>, keys: Arc<Keys>, doors: Doors) -> Self {
        Self::with_realms(store, keys, doors, Arc::default())
    }

    fn with_realms(store: Arc<dyn Store>, keys: Arc<Keys>, doors: Doors, realms: Arc<Realms>) -> Self {
        let names = hmac_key(&keys.ring, "names");
        let (cache, keys) = (ReadCache::new(), CurrentKeys::new(keys));
        let vault = Arc::new(Vault { store, keys, names, doors, cache, feed: Feed::default(), realms });
        let watching = Arc::new(Watching(Arc::downgrade(&vault)));
        let watcher = Arc::<Watching>::downgrade(&watching);
        vault.store.watch(watcher);
        let (queues, lanes) = Lanes::new();
        let stopped = Arc::new(AtomicBool::new(false));
        let tasks = Tasks::new();
        tasks.spawn(committer::run(Arc::clone(&vault), lanes, Arc::clone(&stopped)));
        Self(Arc::new(Inner { vault, queues, stopped, _watching: watching, _tasks: tasks }))
    }

    /// A transaction on what is stored now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn begin(&self) -> Result<Txn, BarrierError> {
        let snapshot: Shared = self.0.vault.feed.snapshot(&*self.0.vault.store)?;
        Ok(Txn::new(Arc::clone(&self.0.vault), snapshot))
    }

    /// Commits a transaction: durable when this returns. One that wrote nothing has nothing to commit.
    ///
    /// # Errors
    /// [`CommitError`]; after a conflict, the whole request is to be done again on a new transaction.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.commit_in(Lane::Requests, txn).await
    }

    /// Commits a transaction in its lane.
    ///
    /// # Errors
    /// As [`Barrier::commit`].
    pub async fn commit_in(&self, lane: Lane, txn: Txn) -> Result<Committed, CommitError> {
        if self.is_stopped() {
            return Err(CommitError::Stopped);
        }
        if txn.names_what_is_sealed() {
            return Err(CommitError::Failed(Arc::new(BarrierError::SealedRealm)));
        }
        if txn.is_empty_of_writes() {
            return Ok(Committed { version: txn.read_version(), changed: Vec::new() });
        }
        self.enqueue(lane, txn.into_changes()).await
    }

    pub(crate) async fn enqueue(&self, lane: Lane, changes: Changes) -> Result<Committed, CommitError> {
        let (answer, committed) = oneshot::channel();
        self.0.queues.send(lane, Job { changes, answer }).await.map_err(|_| CommitError::Stopped)?;
        committed.await.map_err(|_| CommitError::Stopped)?
    }

    /// From now on, `follower`, which was loaded at a version, follows each batch before anybody can read it, for as long as
    /// it lives. If something was written since, it follows everything at once. Blocking.
    ///
    /// # Errors
    /// [`CommitError::Unfollowed`].
    pub fn follow_with(&self, follower: &Arc<dyn Follower>, loaded: Version) -> Result<(), CommitError> {
        let vault = &self.0.vault;
        vault.feed.register(vault, follower, loaded).map_err(CommitError::Unfollowed)
    }

    /// Lets everybody follow these names once more: something else than what is stored has changed of what they lead to.
    ///
    /// # Errors
    /// [`CommitError::Unfollowed`]; it is tried again as what could not be followed is.
    pub async fn follow_anew(&self, names: Vec<StorageKey>) -> Result<(), CommitError> {
        self.0.vault.feed.is_to_follow(names);
        self.catch_up().await
    }

    /// Tries again to follow what could not be followed.
    ///
    /// # Errors
    /// [`CommitError::Unfollowed`].
    pub async fn catch_up(&self) -> Result<(), CommitError> {
        if self.0.vault.feed.is_behind() {
            self.enqueue(Lane::Requests, Changes::default()).await.map(drop)
        } else {
            Ok(())
        }
    }

    /// Stores other key slots, unless somebody else did in the meantime.
    ///
    /// # Errors
    /// [`CommitError`]; the slots are as they were, or as they are to be.
    pub async fn change_slots(&self, change: SlotChange) -> Result<(), CommitError> {
        self.enqueue_headers(change.into_changes()).await
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Commits what lies outside the barrier.
    pub(crate) async fn enqueue_headers(&self, changes: Changes) -> Result<(), CommitError> {
        if self.is_stopped() {
            return Err(CommitError::Stopped);
        }
        self.enqueue(Lane::Requests, changes).await.map(drop)
    }

    /// Commits at once, with what lies outside the barrier: for initialising, when there is nobody else yet.
    pub(crate) async fn commit_first(&self, changes: Changes) -> Result<(), CommitError> {
        let outcomes = committer::commit(&self.0.vault, vec![changes]).await;
        outcomes.into_iter().next().unwrap_or(Err(CommitError::Unknown)).map(drop)
    }

    /// A key for one purpose, the same for the life of the store.
    #[must_use]
    pub fn derive_subkey(&self, label: &str) -> DataKey {
        self.0.vault.keys.load().ring.derive_subkey(label)
    }

    /// What is stored as it is now, sealed, as a stream. Blocking.
    ///
    /// # Errors
    /// When the store fails, or cannot.
    pub fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        self.0.vault.store.export()
    }

    /// Begins to take over what is stored elsewhere. It takes the place of what is here at its end, whatever this barrier
    /// knows: it must have stopped by then. Blocking.
    ///
    /// # Errors
    /// When the store fails, or cannot.
    pub fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        self.0.vault.store.restore()
    }

    /// A barrier with the same keys over the same store, whose state was replaced, when these keys open it; this one must have
    /// stopped.
    #[must_use]
    pub fn anew(&self) -> Option<Self> {
        let vault = &self.0.vault;
        let anew = Self::new(Arc::clone(&vault.store), vault.keys.load(), vault.doors.clone());
        let now = anew.0.vault.store.snapshot().ok()?;
        stored_ring(&*now).ok()??;
        anew.0.vault.keys.follow(&*now).ok().map(|()| anew)
    }

    /// Completes when what is stored was replaced by what other keys open: this barrier shows nothing of it, and writes no
    /// more. It does not keep the keys.
    pub fn estranged(&self) -> impl Future<Output = ()> + Send + use<> {
        let estranged = Arc::clone(&self.0.vault.feed.estranged);
        async move { estranged.wait_for(|is_estranged| is_estranged.then_some(())).await }
    }

    /// Deletes the pieces of a state that was never taken over.
    ///
    /// # Errors
    /// [`CommitError`]; what is left is found again.
    pub async fn clear_pieces(&self) -> Result<(), CommitError> {
        let failed = |error: StoreError| CommitError::Failed(Arc::new(error.into()));
        let vault = Arc::clone(&self.0.vault);
        let counted = run_blocking(&*self.0.vault.doors.workers, move || pieces::count(&*vault.store.snapshot()?));
        let mut count = counted.await.map_err(|_| CommitError::Unknown)?.map_err(failed)?;
        while count > 0 {
            // From the end, so that what is left has no gap.
            let from = count.saturating_sub(PIECES_PER_BATCH);
            let headers = (from..count).map(|number| (pieces::key(number), None)).collect();
            self.enqueue(Lane::Requests, Changes { headers, ..Changes::default() }).await?;
            count = from;
        }
        Ok(())
    }

    /// A barrier with the same keys over another store, which holds, or will hold, what a snapshot of this one held.
    #[must_use]
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        let vault = &self.0.vault;
        Self::with_realms(store, vault.keys.load(), vault.doors.clone(), Arc::clone(&vault.realms))
    }

    /// Whether a value can be opened, wherever it lies now. What lies outside the barrier is none of its values, and of what is
    /// in a sealed realm nobody can say.
    ///
    /// # Errors
    /// When it is not what was sealed under this key.
    pub fn check(&self, at: &RawKey, sealed: &[u8]) -> Result<(), BarrierError> {
        if crate::seal::is_header(at) {
            return Ok(());
        }
        match self.0.vault.open(at, sealed) {
            Ok(_) | Err(BarrierError::SealedRealm) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A key of keyed hashes for one purpose, the same for the life of the store.
    #[must_use]
    pub fn derive_hmac_key(&self, label: &str) -> HmacKey {
        hmac_key(&self.0.vault.keys.load().ring, label)
    }

    /// Refuses every further commit, and waits for the one that is being written: afterwards this barrier never writes
    /// again, and another may be opened on the same store.
    pub async fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        let (drained, waiting) = oneshot::channel();
        if self.0.queues.drain(drained).await.is_ok() {
            // A committer that is gone writes nothing either.
            drop(waiting.await);
        }
        self.0.vault.cache.close();
    }

    /// Whether [`Barrier::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }
}
