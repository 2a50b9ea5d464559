//! The sealed store: what can be known without keys, and how it is opened.
//!
//! The key ring is sealed by the root key; the root key is stored nowhere in the clear: it is wrapped independently
//! by each *key slot*, and any one slot opens. Today there is one kind of slot, Shamir's; its wrapping key is what is
//! split into shares. Everything here is proven by opening (AEAD), never by comparing. Deliberately absent: keeping
//! the root key: it lives only while the ring is being opened.

use std::sync::Arc;

use tresor_crypto::aead::{AeadKey, OpenError};
use tresor_crypto::keyring::KeyRing;
use tresor_crypto::shamir::{Threshold, split};
use tresor_crypto::token_text::random_uuid;
use tresor_env::{Doors, Timestamp};
use tresor_record::{Part, Record, RecordError};
use tresor_secret::{DataKey, SecretBytes, UnsealShare};
use tresor_storage::{Batch, RawKey, Store, StoreError};
use zeroize::Zeroizing;

use crate::barrier::Barrier;
use crate::shares::UnsealKey;

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
    /// What is stored is no seal.
    #[error(transparent)]
    Record(#[from] RecordError),
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

    /// Makes ring and slot in one batch, and gives out the shares, once. The barrier that comes with them is for the
    /// first records.
    ///
    /// # Errors
    /// [`InitError`]; afterwards the store is initialised wholly or not at all.
    pub fn initialize(&self, threshold: Threshold, now: Timestamp) -> Result<(Vec<UnsealShare>, Barrier), InitError> {
        let snapshot = self.store.snapshot()?;
        if snapshot.read(&header("slots"))?.is_some() {
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
        let writes = [
            (header("slots"), Some(SlotTable { slots: vec![slot] }.encode().to_vec())),
            (header("ring"), Some(sealed_ring)),
        ];
        self.store.apply(&Batch { version: snapshot.version().next(), writes: writes.into() })?;
        let shares = split(&SecretBytes::new(wrapping.expose().to_vec()), threshold, entropy);
        Ok((shares, Barrier::new(Arc::clone(&self.store), ring, self.doors.clone())))
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
