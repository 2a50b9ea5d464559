//! The sealed store: what can be known without keys, and how it is opened.
//!
//! The key ring is sealed by the root key; the root key is stored nowhere in the clear: key slots wrap it ([`slots`]).
//! Everything here is proven by opening (AEAD), never by comparing. Deliberately absent: changes of keys while the store is
//! open ([`rekey`]).
//!
//! [`slots`]: crate::slots
//! [`rekey`]: crate::rekey

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tresor_crypto::aead::OpenError;
use tresor_crypto::keyring::KeyRing;
use tresor_crypto::shamir::{Threshold, split};
use tresor_env::{Doors, Timestamp};
use tresor_record::{Record, RecordError};
use tresor_secret::{DataKey, SecretBytes, UnsealShare};
use tresor_storage::{Condition, RawKey, Scrubbed, Snapshot, Store, StoreError, Version, Word};

use crate::barrier::{Barrier, CommitError};
use crate::keys::{Keys, open_ring, random, sealed_ring};
use crate::offer::Offer;
use crate::shares::UnsealKey;
use crate::slots::{KeyName, SlotTable, StaticKey, StaticKeyError, StaticKeys, StaticSlot, StoredKey};
use crate::txn::{Changes, Txn};

/// What can be known of the seal without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealFacts {
    /// Whether there is anything to open.
    pub initialized: bool,
    /// How many shares there are.
    pub shares: u8,
    /// How many open.
    pub threshold: u8,
    /// The keys that open as well, without people.
    pub without_people: Vec<KeyName>,
}

/// Why initialising failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was done before.
    #[error("the store is initialised already")]
    AlreadyInitialized,
    /// Something was stored, and what would open it is gone.
    #[error("the store was written to before, and what opens it is gone: restore it, or take an empty one")]
    NotEmpty,
    /// Neither shares nor a key that lies with the machine are to open it.
    #[error("nothing would open the store: it needs shares or a static key")]
    OpensByNothing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Ring, slots and first records could not be stored together.
    #[error(transparent)]
    Commit(CommitError),
}

/// Why unsealing failed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// No slot opens with this key.
    #[error("the key opens no slot")]
    WrongKey,
    /// No slot opens with the static key.
    #[error(transparent)]
    StaticKey(#[from] StaticKeyError),
    /// The store was never initialised.
    #[error("the store is not initialised")]
    NotInitialized,
    /// The key is right, and what it should open is damaged.
    #[error("the key ring cannot be opened")]
    Ring(#[from] OpenError),
    /// What is stored is no seal or ring.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store about to be initialised: shares and keys are made, and nothing is stored.
pub struct Initialization {
    shares: Vec<UnsealShare>,
    barrier: Barrier,
    headers: BTreeMap<RawKey, Option<Vec<u8>>>,
}

impl Initialization {
    /// The barrier to be, to put the first records together with.
    #[must_use]
    pub const fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Stores ring, slots and the first records in one batch, and gives out the shares, once.
    ///
    /// # Errors
    /// [`InitError`]; the store is initialised wholly or not at all.
    pub async fn store(self, first: Txn) -> Result<(Vec<UnsealShare>, Barrier), InitError> {
        let mut changes = first.into_changes();
        // Whoever was faster has written the slots: both cannot succeed.
        changes.reads.extend(self.headers.keys().map(|header| (header.clone(), None)));
        changes.headers = self.headers;
        self.barrier.commit_first(changes).await.map_err(|error| match error {
            CommitError::Conflict => InitError::AlreadyInitialized,
            other => InitError::Commit(other),
        })?;
        Ok((self.shares, self.barrier))
    }
}

/// A store that was just opened, while its root key is at hand.
pub struct Opened {
    root: Arc<DataKey>,
    slots: SlotTable,
    slots_version: Version,
    /// Whether the slots know more than what is stored.
    is_completed: bool,
    barrier: Barrier,
    doors: Doors,
}

impl Opened {
    /// What has to be stored so that the static key of the operator's choice opens from now on; nothing when it is so.
    #[must_use]
    pub fn with_static(&self, wanted: &StaticSlot<'_>, now: Timestamp) -> Option<SlotChange> {
        let made = self.slots.with_static(&self.root, wanted, now, &*self.doors.entropy);
        let table = made.as_ref().or_else(|| self.is_completed.then_some(&self.slots))?;
        Some(SlotChange { table: table.encode().to_vec(), seen: self.slots_version })
    }

    /// The open barrier.
    #[must_use]
    pub fn into_barrier(self) -> Barrier {
        self.barrier
    }
}

/// Key slots that are to be stored in place of others.
pub struct SlotChange {
    /// The encoded table: wrapped keys, nothing secret.
    table: Vec<u8>,
    /// The table that this one was made from.
    seen: Version,
}

impl SlotChange {
    /// What is committed: only while the slots are as they were.
    pub(crate) fn into_changes(self) -> Changes {
        let slots = header("slots");
        Changes {
            reads: [(slots.clone(), Some(self.seen))].into(),
            headers: [(slots, Some(self.table))].into(),
            ..Changes::default()
        }
    }
}

/// A store of which nothing is known but what lies outside the barrier.
pub struct SealedStore {
    store: Arc<dyn Store>,
    doors: Doors,
    /// What was known of the seal last.
    known: Mutex<Option<SealFacts>>,
}

#[expect(clippy::expect_used, reason = "the names are short")]
pub(crate) fn header(name: &str) -> RawKey {
    RawKey::new(&[&[0], name.as_bytes()].concat()).expect("a header's name is a short key")
}

/// Whether a raw key is that of something outside the barrier.
pub(crate) fn is_header(key: &RawKey) -> bool {
    key.as_bytes().first() == Some(&0)
}

/// Whether a raw key is that of the table of slots, without which nothing can be unsealed.
#[must_use]
pub fn is_slots(key: &RawKey) -> bool {
    *key == header("slots")
}

/// The sealed ring in a store.
pub(crate) fn stored_ring(snapshot: &dyn Snapshot) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(snapshot.read(&header("ring"))?.map(|stored| stored.bytes))
}

/// What can be known of a table of slots.
pub(crate) fn facts_of(slots: &SlotTable) -> SealFacts {
    let (shares, threshold) = slots.shares_and_threshold();
    SealFacts { initialized: true, shares, threshold, without_people: slots.without_people() }
}

impl SealedStore {
    /// Takes a store, and checks that what lies outside the barrier can be read.
    ///
    /// # Errors
    /// When the store fails or is no store of ours.
    pub fn open(store: Arc<dyn Store>, doors: Doors) -> Result<Self, UnsealError> {
        let sealed = Self { store, doors, known: Mutex::new(None) };
        sealed.slots()?;
        Ok(sealed)
    }

    /// The slots, and since when they are so.
    fn slots(&self) -> Result<Option<(SlotTable, Version)>, UnsealError> {
        let stored = self.store.snapshot()?.read(&header("slots"))?;
        Ok(stored.map(|stored| SlotTable::decode(&stored.bytes).map(|table| (table, stored.version))).transpose()?)
    }

    /// The key ring as it is stored, sealed: whoever opened one opens whatever has the same.
    ///
    /// # Errors
    /// When the store fails.
    pub fn ring(&self) -> Result<Option<Vec<u8>>, UnsealError> {
        Ok(stored_ring(&*self.store.snapshot()?)?)
    }

    /// What can be known now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn facts(&self) -> Result<SealFacts, UnsealError> {
        let slots = self.slots();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = match (slots, &*known) {
            (Ok(Some((slots, _))), _) => facts_of(&slots),
            (Ok(None), _) => SealFacts { initialized: false, shares: 0, threshold: 0, without_people: Vec::new() },
            // Whoever asks how this server is doing wants an answer above all.
            (
                Err(UnsealError::Store(
                    StoreError::Unreachable { .. } | StoreError::Taken { .. } | StoreError::Elsewhere { .. },
                )),
                Some(known),
            ) => return Ok(known.clone()),
            (Err(error), _) => return Err(error),
        };
        *known = Some(facts.clone());
        Ok(facts)
    }

    /// The keys that lie in the slots, sealed by services.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored_keys(&self) -> Result<Vec<StoredKey>, UnsealError> {
        Ok(self.slots()?.map(|(slots, _)| slots.stored_keys()).unwrap_or_default())
    }

    /// What a node is shown that wants to join the cluster of this store: as it is stored. Nothing when the store was
    /// never initialised.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offer(&self) -> Result<Option<Offer>, UnsealError> {
        let Some((slots, _)) = self.slots()? else { return Ok(None) };
        Ok(self.ring()?.map(|ring| Offer::new(slots, ring)))
    }

    /// Whether the store can be written to.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.store.condition()
    }

    /// Completes when the store's server has said whose it is, where that is in doubt.
    #[must_use]
    pub fn vouched(&self) -> Option<Word> {
        self.store.vouched()
    }

    /// What became of looking for damage in it.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        self.store.scrubbed()
    }

    /// Makes ring, slots and shares, and stores nothing yet: [`Initialization::store`] does, together with the first
    /// records. A static key that is given opens the store as well.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn prepare(
        &self,
        threshold: impl Into<Option<Threshold>>,
        static_key: Option<&StaticKey>,
        now: Timestamp,
    ) -> Result<Initialization, InitError> {
        let threshold = threshold.into();
        if threshold.is_none() && static_key.is_none() {
            return Err(InitError::OpensByNothing);
        }
        let (slots, ring_at) = (header("slots"), header("ring"));
        let snapshot = self.store.snapshot()?;
        if snapshot.read(&slots)?.is_some() {
            return Err(InitError::AlreadyInitialized);
        }
        // A first batch may have been an empty one, to begin with; none follows but what initialises.
        if snapshot.version() > Version(1) {
            return Err(InitError::NotEmpty);
        }
        let entropy = &*self.doors.entropy;
        let (root, wrapping) = (random(entropy), random(entropy));
        let ring = KeyRing::generate(entropy, now);
        let table = SlotTable::of(&root, &wrapping, threshold, static_key, now, entropy);
        let sealed = sealed_ring(&root, &ring, entropy);
        let headers = [(slots, Some(table.encode().to_vec())), (ring_at, Some(sealed))];
        let shared = |threshold| split(&SecretBytes::new(wrapping.expose().to_vec()), threshold, entropy);
        let shares = threshold.map(shared).unwrap_or_default();
        let keys = Arc::new(Keys { root: Arc::new(root), ring });
        let barrier = Barrier::new(Arc::clone(&self.store), keys, self.doors.clone());
        Ok(Initialization { shares, barrier, headers: headers.into() })
    }

    /// Opens the store with a combined key.
    ///
    /// # Errors
    /// [`UnsealError::WrongKey`] when no slot opens; anything else is damage.
    pub fn unseal_with(&self, key: &UnsealKey) -> Result<Opened, UnsealError> {
        let mut opened = self.open_by(|slots| slots.open_by_shares(&key.0).ok_or(UnsealError::WrongKey))?;
        opened.is_completed = opened.slots.complete(&key.0, &opened.root, &*self.doors.entropy);
        Ok(opened)
    }

    /// Opens the store with a key that needs no people.
    ///
    /// # Errors
    /// [`UnsealError::StaticKey`] when no slot opens; anything else is damage.
    pub fn unseal_by(&self, keys: &StaticKeys) -> Result<Opened, UnsealError> {
        let mut opened = self.open_by(|slots| Ok(slots.open_by_static(keys)?))?;
        opened.is_completed = opened.slots.complete(keys.current.key(), &opened.root, &*self.doors.entropy);
        Ok(opened)
    }

    fn open_by(&self, root_of: impl FnOnce(&SlotTable) -> Result<DataKey, UnsealError>) -> Result<Opened, UnsealError> {
        let (slots, slots_version) = self.slots()?.ok_or(UnsealError::NotInitialized)?;
        let root = Arc::new(root_of(&slots)?);
        let ring = open_ring(&root, &self.ring()?.ok_or(UnsealError::NotInitialized)?)?;
        let keys = Arc::new(Keys { root: Arc::clone(&root), ring });
        let barrier = Barrier::new(Arc::clone(&self.store), keys, self.doors.clone());
        let doors = self.doors.clone();
        Ok(Opened { root, slots, slots_version, is_completed: false, barrier, doors })
    }
}
