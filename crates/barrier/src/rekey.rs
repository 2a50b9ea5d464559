//! Changes of keys by a barrier that is open: a new term of the ring, a new root key, other shares, other slots.
//!
//! Each is one batch that stands or does not: slots, ring and root key are never of different times, so after a crash either
//! the old shares open, or the new ones. What was read is relied on, so of two changes at once one is done again. The keys in
//! memory follow what was committed ([`keys`](crate::keys)). Deliberately absent: who may ask for it, and shares on their way.

use std::collections::BTreeMap;

use tresor_crypto::shamir::{Threshold, split};
use tresor_env::Timestamp;
use tresor_record::{Record, RecordError};
use tresor_secret::{DataKey, SecretBytes, UnsealShare};
use tresor_storage::{RawKey, Version};

use crate::barrier::{Barrier, BarrierError, CommitError};
use crate::keys::{SealingTerm, random, root_header, sealed_ring, sealed_root};
use crate::seal::header;
use crate::shares::UnsealKey;
use crate::slots::{SlotTable, StaticKey, StaticSlot, StoredKey};
use crate::txn::Changes;

/// What lies outside the barrier, as it is to be stored.
type Headers = BTreeMap<RawKey, Option<Vec<u8>>>;

/// How often a change is tried that met another one.
const ATTEMPTS: usize = 8;

/// Why keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// The store failed, or what is stored is damaged.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// It was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A slot cannot be wrapped anew: it was made by a release that kept nothing for that.
    #[error("a key slot was made by an older release: unseal once by shares before the root key is changed")]
    OldSlot,
    /// There is no such slot.
    #[error("there is no such key slot")]
    NoSlot,
    /// The slot of shares is in every store.
    #[error("the key slot of shares cannot be removed: rekey instead")]
    LastSlot,
    /// Nobody has shares, and no other slot opens.
    #[error("nothing else opens the store: make shares first, or add another key slot")]
    NothingElse,
    /// There are as many as there may be.
    #[error("there are too many key slots")]
    TooMany,
    /// Another key has this id.
    #[error("another key has this id: a static key's id never means another key")]
    OtherKey,
}

/// Shares that are to open the store; they open nothing yet.
pub struct NewShares {
    pub(crate) wrapping: DataKey,
    threshold: Threshold,
}

impl NewShares {
    /// How many there are, and how many are to open.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Whether this is what they are put together to.
    #[must_use]
    pub fn are_of(&self, key: &UnsealKey) -> bool {
        self.wrapping.is_same(&key.0)
    }
}

/// What is known of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Its name.
    pub id: String,
    /// What opens it: `shamir`, `static`, or a service by its kind.
    pub kind: String,
    /// The id of the key that opens it without people; none for the slot of shares.
    pub key_id: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl Barrier {
    /// The term that seals.
    #[must_use]
    pub fn sealing_term(&self) -> SealingTerm {
        let keys = self.vault().keys.load();
        SealingTerm { term: keys.ring.active_term(), installed: keys.ring.installed() }
    }

    /// How many values this node sealed by that term since they were last counted.
    #[must_use]
    pub fn uncounted_seals(&self) -> u64 {
        self.vault().keys.uncounted()
    }

    /// So many are counted elsewhere now.
    pub fn seals_are_counted(&self, count: u64) {
        self.vault().keys.counted(count);
    }

    /// Lets a new term seal from now on.
    ///
    /// # Errors
    /// [`RekeyError`]; the ring is as it was, or has one more term.
    pub async fn rotate(&self, now: Timestamp) -> Result<(), RekeyError> {
        self.change(|held| {
            let ring = held.keys.ring.rotated(held.entropy, now);
            Ok([(header("ring"), Some(sealed_ring(&held.keys.root, &ring, held.entropy)))].into())
        })
        .await
    }

    /// Another root key, for everybody who opens it now.
    ///
    /// # Errors
    /// [`RekeyError`]; everything is as it was, or as it is to be.
    pub async fn rotate_root(&self, now: Timestamp) -> Result<(), RekeyError> {
        self.change(|held| {
            let root = random(held.entropy);
            let slots = held.slots.rewrapped(&held.keys.root, &root, None, now, held.entropy);
            Ok(held.of(&slots.ok_or(RekeyError::OldSlot)?, &root))
        })
        .await
    }

    /// Makes shares, which open nothing before [`Barrier::let_open`].
    #[must_use]
    pub fn new_shares(&self, threshold: Threshold) -> (NewShares, Vec<UnsealShare>) {
        let entropy = &*self.vault().doors.entropy;
        let wrapping = random(entropy);
        let shares = split(&SecretBytes::new(wrapping.expose().to_vec()), threshold, entropy);
        (NewShares { wrapping, threshold }, shares)
    }

    /// Whether what shares were put together to opens this store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn is_opened_by(&self, key: &UnsealKey) -> Result<bool, BarrierError> {
        let root = self.slots()?.0.open_by_shares(&key.0);
        Ok(root.is_some_and(|root| root.is_same(&self.vault().keys.load().root)))
    }

    /// From now on these shares open, with another root key, and those of before do not.
    ///
    /// # Errors
    /// [`RekeyError`]; the old ones open, or the new ones.
    pub async fn let_open(&self, new: &NewShares, now: Timestamp) -> Result<(), RekeyError> {
        self.change(|held| {
            let root = random(held.entropy);
            let shares = Some((&new.wrapping, new.threshold));
            let slots = held.slots.rewrapped(&held.keys.root, &root, shares, now, held.entropy);
            Ok(held.of(&slots.ok_or(RekeyError::OldSlot)?, &root))
        })
        .await
    }

    /// The slots.
    ///
    /// # Errors
    /// When the store fails.
    pub fn slot_facts(&self) -> Result<Vec<SlotFacts>, BarrierError> {
        Ok(self.slots()?.0.facts())
    }

    /// A static key opens as well from now on.
    ///
    /// # Errors
    /// [`RekeyError`].
    pub async fn add_slot(&self, key: &StaticKey, now: Timestamp) -> Result<(), RekeyError> {
        self.change(|held| held.changed(held.slots.with_key(&held.keys.root, key, now, held.entropy)?)).await
    }

    /// The slots as they are to be from now on.
    ///
    /// # Errors
    /// [`RekeyError`].
    pub async fn bring_slots(&self, wanted: &StaticSlot<'_>, now: Timestamp) -> Result<(), RekeyError> {
        self.change(|held| held.changed(held.slots.with_static(&held.keys.root, wanted, now, held.entropy))).await
    }

    /// The keys that lie in the slots, sealed by services.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored_keys(&self) -> Result<Vec<StoredKey>, BarrierError> {
        Ok(self.slots()?.0.stored_keys())
    }

    /// A slot opens no more.
    ///
    /// # Errors
    /// [`RekeyError`].
    pub async fn remove_slot(&self, id: &str) -> Result<(), RekeyError> {
        self.change(|held| held.changed(Some(held.slots.without(id)?))).await
    }

    /// The slots that a static key opens.
    ///
    /// # Errors
    /// When the store fails.
    pub fn slots_opened_by(&self, key: &StaticKey) -> Result<Vec<String>, BarrierError> {
        Ok(self.slots()?.0.opened_by(key, &self.vault().keys.load().root))
    }

    fn slots(&self) -> Result<(SlotTable, Version), BarrierError> {
        let vault = self.vault();
        let stored = vault.feed.snapshot(&*vault.store)?.read(&header("slots"))?;
        let stored = stored.ok_or(RecordError::Truncated { kind: SlotTable::KIND })?;
        Ok((SlotTable::decode(&stored.bytes)?, stored.version))
    }

    /// Commits what is made of the keys of now, again when somebody was faster.
    async fn change(&self, make: impl Fn(&Held<'_>) -> Result<Headers, RekeyError>) -> Result<(), RekeyError> {
        let mut met = CommitError::Conflict;
        for _ in 0..ATTEMPTS {
            let changes = self.changes(&make)?;
            if changes.headers.is_empty() {
                return Ok(());
            }
            match self.enqueue_headers(changes).await {
                Err(CommitError::Conflict) => met = CommitError::Conflict,
                other => return Ok(other?),
            }
        }
        Err(met.into())
    }

    fn changes(&self, make: &impl Fn(&Held<'_>) -> Result<Headers, RekeyError>) -> Result<Changes, RekeyError> {
        let vault = self.vault();
        // The keys are those of this snapshot, or newer: then the commit meets a conflict.
        let snapshot = vault.feed.snapshot(&*vault.store).map_err(BarrierError::from)?;
        let mut reads = BTreeMap::new();
        for at in [header("slots"), header("ring"), root_header()] {
            let written = snapshot.written(&at).map_err(BarrierError::from)?;
            reads.insert(at, written);
        }
        let (slots, _) = self.slots()?;
        let keys = vault.keys.load();
        let headers = make(&Held { slots: &slots, keys: &keys, entropy: &*vault.doors.entropy })?;
        Ok(Changes { reads, headers, ..Changes::default() })
    }
}

/// What a change is made of.
struct Held<'k> {
    slots: &'k SlotTable,
    keys: &'k crate::keys::Keys,
    entropy: &'k dyn tresor_env::Entropy,
}

impl Held<'_> {
    /// What is stored with another root key.
    fn of(&self, slots: &SlotTable, root: &DataKey) -> Headers {
        let ring = &self.keys.ring;
        [
            (header("slots"), Some(slots.encode().to_vec())),
            (header("ring"), Some(sealed_ring(root, ring, self.entropy))),
            (root_header(), Some(sealed_root(root, ring, self.entropy))),
        ]
        .into()
    }

    /// What is stored with other slots of the same root key.
    fn changed(&self, slots: Option<SlotTable>) -> Result<Headers, RekeyError> {
        Ok(slots.map(|slots| (header("slots"), Some(slots.encode().to_vec()))).into_iter().collect())
    }
}
