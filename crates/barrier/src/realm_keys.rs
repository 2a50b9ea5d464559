//! Changes of a realm's keys by who has its ring in memory: a new term, another root key, other shares.
//!
//! Each is another seal, which is stored in the place of the one before as anything else is; the ring in memory follows when it
//! is there ([`Barrier::follow_realm`]), before anything is sealed by a new term. They are made of the seal that is stored and of
//! the keys in memory, so whoever stores one relies on the seal that it was made of. Deliberately absent: the keys of the store
//! ([`rekey`](crate::rekey)), and where seals lie.

use std::sync::Arc;

use tresor_crypto::aead::{AeadKey, OpenError};
use tresor_env::Timestamp;
use tresor_model::ids::RealmId;
use tresor_record::Record;

use crate::barrier::{Barrier, BarrierError};
use crate::keys::{Keys, SealingTerm, random};
use crate::realms::{RealmRoot, RealmSeal, context};
use crate::rekey::{NewShares, RekeyError};
use crate::seal::UnsealError;
use crate::shares::UnsealKey;

/// A seal that is to be stored, and the root key that opens its ring.
pub struct NextSeal {
    /// What is to be stored.
    pub seal: RealmSeal,
    /// What memory follows it by.
    pub root: RealmRoot,
}

impl Barrier {
    fn realm_keys(&self, id: &RealmId) -> Result<Arc<Keys>, BarrierError> {
        Ok(self.vault().realms.with_id(id.as_str())?.keys())
    }

    /// The term of a realm's ring that seals.
    ///
    /// # Errors
    /// [`BarrierError::SealedRealm`].
    pub fn realm_term(&self, id: &RealmId) -> Result<SealingTerm, BarrierError> {
        let keys = self.realm_keys(id)?;
        Ok(SealingTerm { term: keys.ring.active_term(), installed: keys.ring.installed() })
    }

    /// How many values this node sealed by that term since they were last counted; none of a realm that is sealed.
    #[must_use]
    pub fn uncounted_seals_in(&self, id: &RealmId) -> u64 {
        self.vault().realms.with_id(id.as_str()).map_or(0, |realm| realm.uncounted())
    }

    /// So many are counted elsewhere now.
    pub fn seals_are_counted_in(&self, id: &RealmId, count: u64) {
        if let Ok(realm) = self.vault().realms.with_id(id.as_str()) {
            realm.counted(count);
        }
    }

    /// A new term of a realm's ring.
    ///
    /// # Errors
    /// [`RekeyError`], when the realm is sealed.
    pub fn rotated_realm(&self, id: &RealmId, seal: &RealmSeal, now: Timestamp) -> Result<NextSeal, RekeyError> {
        let (keys, entropy) = (self.realm_keys(id)?, &*self.vault().doors.entropy);
        let ring = keys.ring.rotated(entropy, now);
        let ring = AeadKey::new(&keys.root).seal(0, &context(id), &ring.encode(), entropy);
        Ok(NextSeal { seal: seal.with(seal.slots().to_vec(), ring), root: RealmRoot(Arc::clone(&keys.root)) })
    }

    /// Another root key of a realm, for who opens it now; or for other shares, in the place of those.
    ///
    /// # Errors
    /// [`RekeyError`], when the realm is sealed or its seal is damaged.
    pub fn rekeyed_realm(
        &self,
        id: &RealmId,
        seal: &RealmSeal,
        shares: Option<&NewShares>,
        now: Timestamp,
    ) -> Result<NextSeal, RekeyError> {
        let (keys, entropy) = (self.realm_keys(id)?, &*self.vault().doors.entropy);
        let root = random(entropy);
        let shares = shares.map(|new| (&new.wrapping, new.threshold()));
        let slots = seal
            .slot_table()
            .map_err(BarrierError::from)?
            .rewrapped(&keys.root, &root, shares, now, entropy)
            .ok_or(RekeyError::OldSlot)?;
        let ring = AeadKey::new(&root).seal(0, &context(id), &keys.ring.encode(), entropy);
        Ok(NextSeal { seal: seal.with(slots.encode().to_vec(), ring), root: RealmRoot(Arc::new(root)) })
    }

    /// Whether what shares were put together to opens the realm.
    ///
    /// # Errors
    /// When the realm is sealed, or its seal is damaged.
    pub fn is_realm_opened_by(&self, id: &RealmId, seal: &RealmSeal, key: &UnsealKey) -> Result<bool, BarrierError> {
        let root = seal.slot_table()?.open_by_shares(&key.0);
        let keys = self.realm_keys(id)?;
        Ok(root.is_some_and(|root| root.is_same(&keys.root)))
    }

    /// Takes the ring of a realm as it is stored now, when it is what the one in memory became. Of a sealed one there is none.
    ///
    /// # Errors
    /// [`UnsealError`] when this root key does not open it, or when it is another's.
    pub fn follow_realm(&self, id: &RealmId, seal: &RealmSeal, root: &RealmRoot) -> Result<(), UnsealError> {
        let Ok(realm) = self.vault().realms.with_id(id.as_str()) else { return Ok(()) };
        let next = seal.open_ring(id, Arc::clone(&root.0))?;
        if !next.ring.continues(&realm.keys().ring) {
            return Err(OpenError::Forged.into());
        }
        realm.become_(Arc::new(next));
        Ok(())
    }
}
