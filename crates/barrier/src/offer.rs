//! What a cluster shows to a node that wants to join it, and the key by which that node proves that it may.
//!
//! An [`Offer`] is what lies outside the barrier, as it is stored: the key slots and the sealed key ring. It is
//! ciphertext that every member's disk has; whoever opens any slot of it gets a [`JoinKey`] and nothing else of the ring.
//! It is opened by the code that unseals a store. Deliberately absent: what is proven with the key, and to whom
//! (`tresor-core`).

use tresor_crypto::hash::HmacKey;
use tresor_crypto::keyring::KeyRing;
use tresor_record::{Record, RecordError};

use crate::barrier::{Barrier, hmac_key};
use crate::keys::open_ring;
use crate::seal::{SealFacts, UnsealError, facts_of};
use crate::shares::UnsealKey;
use crate::slots::{SlotTable, StaticKeys, StoredKey};

/// The purposes that the two keys are derived from the ring for.
const JOIN_LABEL: &str = "cluster join";
const CHALLENGE_LABEL: &str = "cluster join challenge";

/// The longest offer that is read. A slot takes some 150 bytes, a term of the ring some 60.
const OFFER_BYTES_MAX: usize = 1024 * 1024;

/// What has the key ring in common: those who could open the cluster's store, and its members while they are unsealed.
pub struct JoinKey(HmacKey);

impl JoinKey {
    fn of(ring: &KeyRing) -> Self {
        Self(hmac_key(ring, JOIN_LABEL))
    }

    /// A keyed hash of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.0.sign(message)
    }

    /// Whether a keyed hash is that of the message; takes as long whichever byte differs.
    #[must_use]
    pub fn verifies(&self, message: &[u8], code: &[u8]) -> bool {
        self.0.verifies(message, code)
    }
}

impl Barrier {
    /// The key by which nodes prove that they may join.
    #[must_use]
    pub fn join_key(&self) -> JoinKey {
        JoinKey(self.derive_hmac_key(JOIN_LABEL))
    }

    /// The key of the challenges that are given to them: the members' alone.
    #[must_use]
    pub fn challenge_key(&self) -> HmacKey {
        self.derive_hmac_key(CHALLENGE_LABEL)
    }
}

/// The key slots and the sealed ring of a cluster.
pub struct Offer {
    slots: SlotTable,
    ring: Vec<u8>,
}

/// An offer on its way: both parts as they are stored.
#[derive(Record)]
#[record(kind = "offer", version = 1)]
struct Sent {
    slots: Vec<u8>,
    ring: Vec<u8>,
}

impl Offer {
    pub(crate) const fn new(slots: SlotTable, ring: Vec<u8>) -> Self {
        Self { slots, ring }
    }

    /// The bytes to be sent; nothing secret.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Sent { slots: self.slots.encode().to_vec(), ring: self.ring.clone() }.encode().to_vec()
    }

    /// Reads what was sent, by whomever.
    ///
    /// # Errors
    /// [`RecordError`] when it is no offer.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > OFFER_BYTES_MAX {
            return Err(RecordError::Impossible { kind: Sent::KIND });
        }
        let Sent { slots, ring } = Sent::decode(bytes)?;
        let slots = SlotTable::decode(&slots)?;
        // Whoever is asked for shares is told how many, and counts them up to there.
        let (shares, threshold) = slots.shares_and_threshold();
        if (threshold == 0) != (shares == 0) || threshold > shares {
            return Err(RecordError::Impossible { kind: Sent::KIND });
        }
        Ok(Self { slots, ring })
    }

    /// What can be known of the seal without keys.
    #[must_use]
    pub fn facts(&self) -> SealFacts {
        facts_of(&self.slots)
    }

    /// The keys that lie in the slots, sealed by services.
    #[must_use]
    pub fn stored_keys(&self) -> Vec<StoredKey> {
        self.slots.stored_keys()
    }

    /// The key to join with, by what shares were put together to.
    ///
    /// # Errors
    /// [`UnsealError::WrongKey`] when no slot opens; anything else is damage, or another's doing.
    pub fn open_with(&self, key: &UnsealKey) -> Result<JoinKey, UnsealError> {
        self.open(self.slots.open_by_shares(&key.0).ok_or(UnsealError::WrongKey)?)
    }

    /// The key to join with, by a key that needs no people.
    ///
    /// # Errors
    /// [`UnsealError::StaticKey`] when no slot opens; anything else is damage, or another's doing.
    pub fn open_by(&self, keys: &StaticKeys) -> Result<JoinKey, UnsealError> {
        self.open(self.slots.open_by_static(keys)?)
    }

    fn open(&self, root: tresor_secret::DataKey) -> Result<JoinKey, UnsealError> {
        Ok(JoinKey::of(&open_ring(&root, &self.ring)?))
    }
}
