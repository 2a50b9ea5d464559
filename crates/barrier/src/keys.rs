//! The keys of an open barrier, which may change while it is open: a new term of the key ring, a new root key.
//!
//! What is stored decides. Whoever changes keys commits them like anything else; when the batch is there, on the node that
//! made it and on every other, these follow it ([`feed`](crate::feed)) before anything can be sealed by the new term. So no
//! node ever meets a value whose term it does not have. A root key that was changed lies in the store for those who have the
//! ring, sealed by a key that is derived from its base. Invariant: keys are only followed forward: a ring that lacks a term of
//! the one in memory is another's. Deliberately absent: who opens the root key ([`slots`](crate::slots)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tresor_crypto::aead::{AeadKey, OpenError};
use tresor_crypto::keyring::KeyRing;
use tresor_env::{Entropy, Timestamp};
use tresor_record::RecordError;
use tresor_secret::{DataKey, Wiped};
use tresor_storage::{RawKey, Snapshot};
use zeroize::Zeroizing;

use crate::seal::{UnsealError, header, stored_ring};

/// Contexts of what is sealed outside the ring.
const RING_CONTEXT: &[u8] = b"key-ring";
const ROOT_CONTEXT: &[u8] = b"root-key";
/// The purpose for which the key is derived that seals the root key.
const ROOT_LABEL: &str = "root key";

/// Root key and ring of one moment.
pub(crate) struct Keys {
    pub(crate) root: Arc<DataKey>,
    pub(crate) ring: KeyRing,
}

/// The keys of now.
pub(crate) struct CurrentKeys {
    current: ArcSwap<Keys>,
    /// How many values the active term has sealed here and nobody has counted yet.
    sealed: AtomicU64,
}

/// The sealing term as it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealingTerm {
    /// Its number.
    pub term: u32,
    /// When it was made.
    pub installed: Timestamp,
}

/// A fresh key.
pub(crate) fn random(entropy: &dyn Entropy) -> DataKey {
    let mut key = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *key);
    DataKey::new(*key)
}

/// A ring as it is stored.
pub(crate) fn sealed_ring(root: &DataKey, ring: &KeyRing, entropy: &dyn Entropy) -> Vec<u8> {
    AeadKey::new(root).seal(0, RING_CONTEXT, &ring.encode(), entropy)
}

/// The ring that a root key opens.
pub(crate) fn open_ring(root: &DataKey, sealed: &[u8]) -> Result<KeyRing, UnsealError> {
    Ok(KeyRing::decode(&AeadKey::new(root).open(RING_CONTEXT, sealed)?)?)
}

/// Where a root key lies for those who have the ring.
pub(crate) fn root_header() -> RawKey {
    header("root")
}

/// A root key as it is stored for those who have the ring.
pub(crate) fn sealed_root(root: &DataKey, ring: &KeyRing, entropy: &dyn Entropy) -> Vec<u8> {
    wrapped(root, &ring.derive_subkey(ROOT_LABEL), ROOT_CONTEXT, entropy)
}

fn open_root(ring: &KeyRing, sealed: &[u8]) -> Result<DataKey, UnsealError> {
    unwrapped(&ring.derive_subkey(ROOT_LABEL), ROOT_CONTEXT, sealed)
}

/// A key sealed by another one.
pub(crate) fn wrapped(key: &DataKey, by: &DataKey, context: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    AeadKey::new(by).seal(0, context, key.expose(), entropy)
}

/// The key that was sealed by another one.
pub(crate) fn unwrapped(by: &DataKey, context: &[u8], sealed: &[u8]) -> Result<DataKey, UnsealError> {
    let opened = AeadKey::new(by).open(context, sealed)?;
    let key = <[u8; 32]>::try_from(opened.as_slice());
    key.map(DataKey::new).map_err(|_| RecordError::Impossible { kind: "root-key" }.into())
}

impl CurrentKeys {
    pub(crate) fn new(keys: Arc<Keys>) -> Self {
        Self { current: ArcSwap::new(keys), sealed: AtomicU64::new(0) }
    }

    pub(crate) fn load(&self) -> Arc<Keys> {
        self.current.load_full()
    }

    pub(crate) fn seal(&self, at: &RawKey, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        self.current.load().ring.seal_value(at.as_bytes(), plaintext, entropy)
    }

    pub(crate) fn open(&self, at: &RawKey, sealed: &[u8]) -> Result<Wiped<Vec<u8>>, OpenError> {
        self.current.load().ring.open_value(at.as_bytes(), sealed)
    }

    /// How many values were sealed since they were last counted.
    pub(crate) fn uncounted(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }

    /// So many were counted.
    pub(crate) fn counted(&self, count: u64) {
        // A new term may have begun meanwhile, with a count of its own.
        let _ =
            self.sealed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sealed| Some(sealed.saturating_sub(count)));
    }

    /// Takes what is stored now, when it is what these keys became.
    ///
    /// # Errors
    /// When the store fails, or when what is stored is opened by other keys.
    pub(crate) fn follow(&self, now: &dyn Snapshot) -> Result<(), UnsealError> {
        let Some(sealed) = stored_ring(now)? else { return Ok(()) };
        let known = self.load();
        let (root, ring) = match open_ring(&known.root, &sealed) {
            Ok(ring) => (Arc::clone(&known.root), ring),
            Err(UnsealError::Ring(refused)) => {
                let Some(stored) = now.read(&root_header())? else { return Err(refused.into()) };
                let root = open_root(&known.ring, &stored.bytes)?;
                let ring = open_ring(&root, &sealed)?;
                (Arc::new(root), ring)
            }
            Err(other) => return Err(other),
        };
        if !ring.continues(&known.ring) {
            return Err(OpenError::Forged.into());
        }
        self.replace(Arc::new(Keys { root, ring }));
        Ok(())
    }

    /// Goes on with these keys, which continue those of before.
    pub(crate) fn replace(&self, next: Arc<Keys>) {
        if next.ring.active_term() != self.current.load().ring.active_term() {
            self.sealed.store(0, Ordering::Relaxed);
        }
        self.current.store(next);
    }
}
