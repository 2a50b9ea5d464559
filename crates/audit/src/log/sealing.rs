//! The keys of the local log: one per segment, derived with a salt of its own, so that no key seals more records than
//! one segment holds; and one for headers and cursors.
//!
//! Deliberately absent: rotation; a segment lives until the devices have passed it, and the caller's key is of the
//! audit log alone.

use tresor_crypto::aead::AeadKey;
use tresor_crypto::hash::{HmacKey, derive, to_hex};
use tresor_env::Entropy;
use tresor_secret::DataKey;
use zeroize::Zeroizing;

/// Length of the tag that a sealed record ends with, in bytes.
pub(super) const TAG_BYTES: usize = 16;

/// The audit log's keys have no terms.
const TERM: u32 = 0;

/// The key of one segment's records.
pub(super) struct SegmentKey(AeadKey);

impl SegmentKey {
    /// The key of a segment.
    pub(super) fn derive(key: &DataKey, number: u64, salt: &[u8; 32]) -> Self {
        Self(AeadKey::new(&derive(key, &format!("audit segment {number} {}", to_hex(salt)))))
    }

    /// Seals a record for one place.
    pub(super) fn seal(&self, place: &[u8], record: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        self.0.seal(TERM, place, record, entropy)
    }

    /// Opens a record; `None` when it was not sealed for this place.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.0.open(place, sealed).ok()
    }
}

/// The key of headers and cursors, which are not secret but must be ours.
pub(super) fn header_key(key: &DataKey) -> HmacKey {
    HmacKey::new(derive(key, "audit headers and cursors").expose())
}
