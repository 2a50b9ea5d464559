//! Realms: parts of what is stored that are sealed by a key ring of their own.
//!
//! Which realm a record is in its name says: the id of its namespace does ([`realm_in`]). Names of a realm are hashed, and
//! values, blocks and tallies of it sealed, under its own ring and under no other; its raw keys end in its id, so a value says
//! whose it is to who has no key. Its root key is wrapped by shares of its own ([`RealmSeal`]). While its ring is not in memory
//! nothing of it can be named, read or written ([`BarrierError::SealedRealm`]), and the rest is as ever. Its root key is handed
//! to other nodes sealed for one question of theirs ([`Barrier::hand_over`]), and stored nowhere. Deliberately absent:
//! where seals are stored, who enters shares, and everything that is done about a sealed realm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tresor_crypto::aead::AeadKey;
use tresor_crypto::hash::HmacKey;
use tresor_crypto::keyring::KeyRing;
use tresor_crypto::shamir::Threshold;
use tresor_env::{Entropy, Timestamp};
use tresor_model::ids::{REALM_CHARACTERS, RealmId, realm_in};
use tresor_record::{Part, Record, RecordError};
use tresor_secret::{DataKey, UnsealShare, Wiped};
use tresor_storage::RawKey;

use crate::barrier::{Barrier, BarrierError, RAW_KEY_BYTES, hmac_key};
use crate::keys::{CurrentKeys, Keys, random, unwrapped, wrapped};
use crate::seal::{SealFacts, UnsealError, facts_of};
use crate::shares::UnsealKey;
use crate::slots::SlotTable;

/// What the ring of a realm is bound to, with the realm's id behind it.
const RING_CONTEXT: &[u8] = b"realm-key-ring:";
/// What a root key on its way to another node is bound to, with realm, epoch and question behind it.
const HANDED_CONTEXT: &[u8] = b"realm-root-key:";
/// The purpose for which the key is derived that seals it on its way.
const HANDED_LABEL: &str = "root keys of realms for other nodes";

/// The seal of a realm as it is stored: wrapped keys, nothing that opens anything by itself.
#[derive(Part, Clone, PartialEq, Eq)]
pub struct RealmSeal {
    /// The encoded key slots.
    slots: Vec<u8>,
    /// The ring, sealed by the root key that the slots wrap.
    ring: Vec<u8>,
    /// How often the realm was sealed: keys that were opened before are to be dropped.
    epoch: u64,
}

impl fmt::Debug for RealmSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealmSeal(epoch {})", self.epoch)
    }
}

impl RealmSeal {
    /// What can be known of it without keys.
    ///
    /// # Errors
    /// When what is stored is no seal.
    pub fn facts(&self) -> Result<SealFacts, RecordError> {
        Ok(facts_of(&self.slot_table()?))
    }

    /// How often it was sealed.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The same, sealed once more.
    #[must_use]
    pub fn sealed_again(&self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self.clone() }
    }

    /// The same, with other slots and another ring.
    pub(crate) fn with(&self, slots: Vec<u8>, ring: Vec<u8>) -> Self {
        Self { slots, ring, epoch: self.epoch }
    }

    pub(crate) fn slots(&self) -> &[u8] {
        &self.slots
    }

    pub(crate) fn slot_table(&self) -> Result<SlotTable, RecordError> {
        SlotTable::decode(&self.slots)
    }

    fn open(&self, id: &RealmId, key: &UnsealKey) -> Result<Keys, UnsealError> {
        let root = self.slot_table()?.open_by_shares(&key.0).ok_or(UnsealError::WrongKey)?;
        self.open_ring(id, Arc::new(root))
    }

    pub(crate) fn open_ring(&self, id: &RealmId, root: Arc<DataKey>) -> Result<Keys, UnsealError> {
        let ring = KeyRing::decode(&AeadKey::new(&root).open(&context(id), &self.ring)?)?;
        Ok(Keys { root, ring })
    }
}

/// The root key of a realm, as good as its shares. It is in memory only; cloning shares it.
#[derive(Clone)]
pub struct RealmRoot(pub(crate) Arc<DataKey>);

pub(crate) fn context(id: &RealmId) -> Vec<u8> {
    [RING_CONTEXT, id.as_str().as_bytes()].concat()
}

fn handed(id: &RealmId, epoch: u64, question: &[u8]) -> Vec<u8> {
    [HANDED_CONTEXT, id.as_str().as_bytes(), b":", &epoch.to_be_bytes(), question].concat()
}

/// A realm whose ring is in memory.
pub(crate) struct Realm {
    keys: CurrentKeys,
    names: HmacKey,
    epoch: u64,
}

impl Realm {
    /// Where something of the realm lies.
    pub(crate) fn sign_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.names.sign_parts(parts)
    }

    pub(crate) fn seal(&self, at: &RawKey, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.keys.seal(at, plaintext, entropy)
    }

    pub(crate) fn open(&self, at: &RawKey, sealed: &[u8]) -> Result<Wiped<Vec<u8>>, BarrierError> {
        Ok(self.keys.open(at, sealed)?)
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load()
    }

    /// Goes on with these keys.
    pub(crate) fn become_(&self, keys: Arc<Keys>) {
        self.keys.replace(keys);
    }

    pub(crate) fn uncounted(&self) -> u64 {
        self.keys.uncounted()
    }

    pub(crate) fn counted(&self, count: u64) {
        self.keys.counted(count);
    }
}

/// The realms whose rings are in memory, by id.
pub(crate) struct Realms(ArcSwap<BTreeMap<Box<str>, Arc<Realm>>>);

impl Default for Realms {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(BTreeMap::new()))
    }
}

impl Realms {
    /// The realm with this id.
    pub(crate) fn with_id(&self, id: &str) -> Result<Arc<Realm>, BarrierError> {
        self.0.load().get(id).cloned().ok_or(BarrierError::SealedRealm)
    }

    fn put(&self, id: &RealmId, realm: Realm) {
        let realm = Arc::new(realm);
        self.0.rcu(|open| {
            let mut open = BTreeMap::clone(open);
            open.insert(id.as_str().into(), Arc::clone(&realm));
            open
        });
    }

    fn take_out(&self, id: &RealmId) {
        self.0.rcu(|open| {
            let mut open = BTreeMap::clone(open);
            open.remove(id.as_str());
            open
        });
    }
}

/// The realm that a name is in.
pub(crate) fn of_name(name: &[u8]) -> Option<&str> {
    let namespace = name.split(|byte| *byte == b'/').next()?;
    realm_in(std::str::from_utf8(namespace).ok()?)
}

/// The realm that what lies under a raw key is in.
pub(crate) fn of_raw_key(at: &RawKey) -> Option<&str> {
    let bytes = at.as_bytes();
    let is_of_realm = bytes.len() == RAW_KEY_BYTES + REALM_CHARACTERS && !crate::seal::is_header(at);
    if is_of_realm { std::str::from_utf8(bytes.get(RAW_KEY_BYTES..)?).ok() } else { None }
}

impl Barrier {
    /// Makes the keys of a realm, and shares of what opens them: they are given out once. The realm stays sealed.
    #[must_use]
    pub fn new_realm(&self, id: &RealmId, threshold: Threshold, now: Timestamp) -> (RealmSeal, Vec<UnsealShare>) {
        let entropy = &*self.vault().doors.entropy;
        let (root, (new, shares)) = (random(entropy), self.new_shares(threshold));
        let slots = SlotTable::of(&root, &new.wrapping, Some(threshold), None, now, entropy);
        let ring = KeyRing::generate(entropy, now);
        let ring = AeadKey::new(&root).seal(0, &context(id), &ring.encode(), entropy);
        (RealmSeal { slots: slots.encode().to_vec(), ring, epoch: 0 }, shares)
    }

    /// Takes the ring of a realm into memory.
    ///
    /// # Errors
    /// [`UnsealError::WrongKey`] when the key opens nothing; anything else is damage.
    pub fn open_realm(&self, id: &RealmId, seal: &RealmSeal, key: &UnsealKey) -> Result<(), UnsealError> {
        self.take_in(id, seal.epoch, seal.open(id, key)?);
        Ok(())
    }

    /// The same by its root key.
    ///
    /// # Errors
    /// [`UnsealError::Ring`] when it is another's, or was changed since.
    pub fn open_realm_by(&self, id: &RealmId, seal: &RealmSeal, root: &RealmRoot) -> Result<(), UnsealError> {
        self.take_in(id, seal.epoch, seal.open_ring(id, Arc::clone(&root.0))?);
        Ok(())
    }

    fn take_in(&self, id: &RealmId, epoch: u64, keys: Keys) {
        let names = hmac_key(&keys.ring, "names");
        self.vault().realms.put(id, Realm { keys: CurrentKeys::new(Arc::new(keys)), names, epoch });
    }

    /// The root key of a realm whose ring is in memory.
    #[must_use]
    pub fn realm_root(&self, id: &RealmId) -> Option<RealmRoot> {
        self.vault().realms.with_id(id.as_str()).ok().map(|realm| RealmRoot(Arc::clone(&realm.keys().root)))
    }

    /// The root key of a realm for a node that asked for it, and whose barrier is open: nothing else opens it, nor does it answer
    /// another question.
    #[must_use]
    pub fn hand_over(&self, id: &RealmId, epoch: u64, root: &RealmRoot, question: &[u8]) -> Vec<u8> {
        let entropy = &*self.vault().doors.entropy;
        wrapped(&root.0, &self.derive_subkey(HANDED_LABEL), &handed(id, epoch, question), entropy)
    }

    /// The root key of a realm that another node handed over.
    ///
    /// # Errors
    /// When it is no answer to this question, or another cluster's.
    pub fn receive(&self, id: &RealmId, epoch: u64, sealed: &[u8], question: &[u8]) -> Result<RealmRoot, UnsealError> {
        let root = unwrapped(&self.derive_subkey(HANDED_LABEL), &handed(id, epoch, question), sealed)?;
        Ok(RealmRoot(Arc::new(root)))
    }

    /// Forgets the ring of a realm, and what was read of it lately.
    pub fn close_realm(&self, id: &RealmId) {
        self.vault().realms.take_out(id);
        self.vault().cache.forget(|at| of_raw_key(at) == Some(id.as_str()));
    }

    /// How often the realm was sealed before the ring that is in memory was opened; nothing when there is none.
    #[must_use]
    pub fn realm_epoch(&self, id: &RealmId) -> Option<u64> {
        self.vault().realms.with_id(id.as_str()).ok().map(|realm| realm.epoch)
    }
}
