//! The sealed store: what can be known without keys, and how it is opened.
//!
//! The key ring is sealed by the root key; the root key is stored nowhere in the clear: it is wrapped independently
//! by each *key slot*, and any one slot opens. Today there is one kind of slot, Shamir's; its wrapping key is what is
//! split into shares. Everything here is proven by opening (AEAD), never by comparing. Deliberately absent: keeping
//! the root key: it lives only while the ring is being opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_crypto::aead::{AeadKey, OpenError};
use tresor_crypto::keyring::KeyRing;
use tresor_crypto::shamir::{Threshold, split};
use tresor_crypto::token_text::random_uuid;
use tresor_env::{Doors, Timestamp};
use tresor_record::{Part, Record, RecordError};
use tresor_secret::{DataKey, SecretBytes, UnsealShare};
use tresor_storage::{Condition, RawKey, Scrubbed, Store, StoreError};
use zeroize::Zeroizing;

use crate::barrier::{Barrier, CommitError};
use crate::shares::UnsealKey;
use crate::txn::Txn;

/// Contexts of what is sealed outside the ring.
const RING_CONTEXT: &[u8] = b"key-ring";

/// What can be known of the seal without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealFacts {
    /// Whether there is anything to open.
    pub initialized: bool,
    /// How many shares there are.
    pub shares: u8,
    /// How many open.
    pub threshold: u8,
}

/// Why initialising failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was done before.
    #[error("the store is initialised already")]
    AlreadyInitialized,
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
    headers: BTreeMap<RawKey, Vec<u8>>,
}

impl Initialization {
    /// The barrier to be, to put the first records together with.
    #[must_use]
    pub const fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Stores ring, slot and the first records in one batch, and gives out the shares, once. Blocking.
    ///
    /// # Errors
    /// [`InitError`]; the store is initialised wholly or not at all.
    pub fn store(self, first: Txn) -> Result<(Vec<UnsealShare>, Barrier), InitError> {
        let mut changes = first.into_changes();
        // Whoever was faster has written the slots: both cannot succeed.
        changes.reads.extend(self.headers.keys().map(|header| (header.clone(), None)));
        changes.headers = self.headers;
        self.barrier.commit_first(changes).map_err(|error| match error {
            CommitError::Conflict => InitError::AlreadyInitialized,
            other => InitError::Commit(other),
        })?;
        Ok((self.shares, self.barrier))
    }
}

/// What wraps the root key.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    /// A key that is split into shares.
    #[part(tag = 1)]
    Shamir { shares: u8, threshold: u8 },
}

#[derive(Part)]
struct Slot {
    id: String,
    kind: SlotKind,
    created: Timestamp,
    wrapped: Zeroizing<Vec<u8>>,
}

#[derive(Record)]
#[record(kind = "key-slots", version = 1)]
struct SlotTable {
    slots: Vec<Slot>,
}

/// A store of which nothing is known but what lies outside the barrier.
pub struct SealedStore {
    store: Arc<dyn Store>,
    doors: Doors,
}

#[expect(clippy::expect_used, reason = "the two names are short")]
fn header(name: &str) -> RawKey {
    RawKey::new(&[&[0], name.as_bytes()].concat()).expect("a header's name is a short key")
}

/// Whether a raw key is that of the table of slots, without which nothing can be unsealed.
#[must_use]
pub fn is_slots(key: &RawKey) -> bool {
    *key == header("slots")
}

fn slot_context(slot_id: &str, kind: SlotKind) -> Vec<u8> {
    let SlotKind::Shamir { shares, threshold } = kind;
    [b"slot:shamir:".as_slice(), &[shares, threshold], slot_id.as_bytes()].concat()
}

impl SealedStore {
    /// Takes a store, and checks that what lies outside the barrier can be read.
    ///
    /// # Errors
    /// When the store fails or is no store of ours.
    pub fn open(store: Arc<dyn Store>, doors: Doors) -> Result<Self, UnsealError> {
        let sealed = Self { store, doors };
        sealed.slots()?;
        Ok(sealed)
    }

    fn slots(&self) -> Result<Option<SlotTable>, UnsealError> {
        let stored = self.store.snapshot()?.read(&header("slots"))?;
        Ok(stored.map(|stored| SlotTable::decode(&stored.bytes)).transpose()?)
    }

    /// What can be known now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn facts(&self) -> Result<SealFacts, UnsealError> {
        let slots = self.slots()?;
        let shamir = slots.as_ref().and_then(|table| table.slots.first()).map(|slot| slot.kind);
        let (shares, threshold) = match shamir {
            Some(SlotKind::Shamir { shares, threshold }) => (shares, threshold),
            None => (0, 0),
        };
        Ok(SealFacts { initialized: slots.is_some(), shares, threshold })
    }

    /// Whether the store can be written to.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.store.condition()
    }

    /// What became of looking for damage in it.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        self.store.scrubbed()
    }

    /// Makes ring, slot and shares, and stores nothing yet: [`Initialization::store`] does, together with the first
    /// records.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn prepare(&self, threshold: Threshold, now: Timestamp) -> Result<Initialization, InitError> {
        let (slots, ring_at) = (header("slots"), header("ring"));
        if self.store.snapshot()?.read(&slots)?.is_some() {
            return Err(InitError::AlreadyInitialized);
        }
        let entropy = &*self.doors.entropy;
        let random = || {
            let mut key = Zeroizing::new([0_u8; 32]);
            entropy.fill(&mut *key);
            DataKey::new(*key)
        };
        let (root, wrapping) = (random(), random());
        let ring = KeyRing::generate(entropy, now);
        let kind = SlotKind::Shamir { shares: threshold.shares(), threshold: threshold.threshold() };
        let id = random_uuid(entropy);
        let wrapped = AeadKey::new(&wrapping).seal(0, &slot_context(&id, kind), root.expose(), entropy);
        let slot = Slot { id, kind, created: now, wrapped: Zeroizing::new(wrapped) };
        let sealed_ring = AeadKey::new(&root).seal(0, RING_CONTEXT, &ring.encode(), entropy);
        let headers = [(slots, SlotTable { slots: vec![slot] }.encode().to_vec()), (ring_at, sealed_ring)];
        let shares = split(&SecretBytes::new(wrapping.expose().to_vec()), threshold, entropy);
        let barrier = Barrier::new(Arc::clone(&self.store), ring, self.doors.clone());
        Ok(Initialization { shares, barrier, headers: headers.into() })
    }

    /// Opens the barrier with a combined key.
    ///
    /// # Errors
    /// [`UnsealError::WrongKey`] when no slot opens; anything else is damage.
    pub fn unseal_with(&self, key: &UnsealKey) -> Result<Barrier, UnsealError> {
        let table = self.slots()?.ok_or(UnsealError::NotInitialized)?;
        let wrapping = AeadKey::new(&key.0);
        let root =
            table.slots.iter().find_map(|slot| wrapping.open(&slot_context(&slot.id, slot.kind), &slot.wrapped).ok());
        let root = root.and_then(|root| <[u8; 32]>::try_from(root.as_slice()).ok()).map(DataKey::new);
        let root = root.ok_or(UnsealError::WrongKey)?;
        let stored = self.store.snapshot()?.read(&header("ring"))?.ok_or(UnsealError::NotInitialized)?;
        let ring = KeyRing::decode(&AeadKey::new(&root).open(RING_CONTEXT, &stored.bytes)?)?;
        Ok(Barrier::new(Arc::clone(&self.store), ring, self.doors.clone()))
    }
}
