//! The key ring: data keys by term, of which the newest seals and all open, and a base key that never rotates.
//!
//! A ring is a value: rotating gives a new one. Names and hashes of the store depend on the base key, so they stay
//! the same when data keys rotate. Deliberately absent: how the ring itself is sealed (`tresor-barrier`).

use std::collections::BTreeMap;

use tresor_env::{Entropy, Timestamp};
use tresor_record::{Encoded, Part, Record, RecordError};
use tresor_secret::{DataKey, SecretBytes, Wiped};
use zeroize::Zeroizing;

use crate::aead::{AeadKey, OpenError, term_of};
use crate::hash::derive;

/// One data key.
struct Term {
    key: DataKey,
    prepared: AeadKey,
    installed: Timestamp,
}

/// The ring.
pub struct KeyRing {
    base: DataKey,
    terms: BTreeMap<u32, Term>,
    active: u32,
}

#[derive(Part)]
struct StoredTerm {
    term: u32,
    key: SecretBytes,
    installed: Timestamp,
}

#[derive(Record)]
#[record(kind = "key-ring", version = 1)]
struct StoredRing {
    base: SecretBytes,
    terms: Vec<StoredTerm>,
}

fn random_key(entropy: &dyn Entropy) -> DataKey {
    let mut key = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *key);
    DataKey::new(*key)
}

fn duplicate(key: &DataKey) -> DataKey {
    DataKey::new(*key.expose())
}

impl KeyRing {
    /// A fresh ring with one term.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy, now: Timestamp) -> Self {
        let ring = Self { base: random_key(entropy), terms: BTreeMap::new(), active: 0 };
        ring.rotated(entropy, now)
    }

    /// The same ring with one more term, which seals from now on.
    #[must_use]
    pub fn rotated(&self, entropy: &dyn Entropy, now: Timestamp) -> Self {
        let mut terms: BTreeMap<u32, Term> = self
            .terms
            .iter()
            .map(|(number, term)| {
                (
                    *number,
                    Term { key: duplicate(&term.key), prepared: AeadKey::new(&term.key), installed: term.installed },
                )
            })
            .collect();
        let active = self.active + 1;
        let key = random_key(entropy);
        terms.insert(active, Term { prepared: AeadKey::new(&key), key, installed: now });
        Self { base: duplicate(&self.base), terms, active }
    }

    /// Whether this is the other ring, or what it became: the same base, and all its terms.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        let has = |(number, term): (&u32, &Term)| self.terms.get(number).is_some_and(|own| own.key.is_same(&term.key));
        self.base.is_same(&other.base) && other.terms.iter().all(has)
    }

    /// The term that seals.
    #[must_use]
    pub const fn active_term(&self) -> u32 {
        self.active
    }

    /// When the sealing term was made.
    #[must_use]
    pub fn installed(&self) -> Timestamp {
        self.terms.get(&self.active).map(|term| term.installed).unwrap_or_default()
    }

    /// A key for one purpose that stays the same over rotations.
    #[must_use]
    pub fn derive_subkey(&self, label: &str) -> DataKey {
        derive(&self.base, label)
    }

    /// Seals a value for one place by the active term.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a ring is made with its active term and never loses it")]
    pub fn seal_value(&self, context: &[u8], plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let term = self.terms.get(&self.active).expect("the active term is in the ring: checked when it is made");
        term.prepared.seal(self.active, context, plaintext, entropy)
    }

    /// Opens a value sealed for this place by any term of the ring.
    ///
    /// # Errors
    /// [`OpenError`] when it was not.
    pub fn open_value(&self, context: &[u8], sealed: &[u8]) -> Result<Wiped<Vec<u8>>, OpenError> {
        let term = term_of(sealed)?;
        self.terms.get(&term).ok_or(OpenError::UnknownTerm(term))?.prepared.open(context, sealed)
    }

    /// The bytes to be sealed by the root key.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let terms = self
            .terms
            .iter()
            .map(|(number, term)| StoredTerm {
                term: *number,
                key: SecretBytes::new(term.key.expose().to_vec()),
                installed: term.installed,
            })
            .collect();
        StoredRing { base: SecretBytes::new(self.base.expose().to_vec()), terms }.encode()
    }

    /// Reads a ring back; every key has its length, terms count from one without a gap.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no ring.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let impossible = || RecordError::Impossible { kind: StoredRing::KIND };
        let key = |bytes: &SecretBytes| {
            <[u8; 32]>::try_from(bytes.expose().as_slice()).map(DataKey::new).map_err(|_| impossible())
        };
        let stored = StoredRing::decode(bytes)?;
        let base = key(&stored.base)?;
        let mut terms = BTreeMap::new();
        for (expected, term) in (1_u32..).zip(&stored.terms) {
            if term.term != expected {
                return Err(impossible());
            }
            let key = key(&term.key)?;
            terms.insert(term.term, Term { prepared: AeadKey::new(&key), key, installed: term.installed });
        }
        let active = *terms.keys().next_back().ok_or_else(impossible)?;
        Ok(Self { base, terms, active })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    #[test]
    fn old_terms_open_after_a_rotation_and_names_stay() {
        let entropy = SeededEntropy::new(4);
        let ring = KeyRing::generate(&entropy, Timestamp::EPOCH);
        let sealed = ring.seal_value(b"at", b"old", &entropy);
        let next = ring.rotated(&entropy, Timestamp::from_seconds(9));
        assert_eq!((next.active_term(), next.installed()), (2, Timestamp::from_seconds(9)));
        let read = KeyRing::decode(&next.encode()).unwrap();
        assert_eq!(*read.open_value(b"at", &sealed).unwrap(), b"old");
        let new = read.seal_value(b"at", b"new", &entropy);
        assert_eq!(ring.open_value(b"at", &new).err(), Some(OpenError::UnknownTerm(2)));
        assert_eq!(read.derive_subkey("names").expose(), ring.derive_subkey("names").expose());
    }

    proptest! {
        #[test]
        fn fz_11_any_bytes_are_a_ring_or_an_error(bytes: Vec<u8>) {
            let _ = KeyRing::decode(&bytes);
        }
    }
}
