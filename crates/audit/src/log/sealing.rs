//! The keys of the local log: one per segment, derived with a salt of its own, so that no key seals more records than
//! one segment holds; and one for headers and cursors.
//!
//! Invariant: a segment's key seals each sequence at most once, because a segment whose write failed is left for good,
//! and a log that is opened begins a new one; so the sequence is the nonce. Deliberately absent: rotation; a segment
//! lives until the devices have passed it, and the caller's key is of the audit log alone.

use tresor_crypto::aead::SequenceKey;
use tresor_crypto::hash::{HmacKey, derive, to_hex};
use tresor_secret::DataKey;
use tresor_secret::Wiped;

/// Length of the tag that a sealed record ends with, in bytes.
pub(super) const TAG_BYTES: usize = SequenceKey::OVERHEAD_BYTES;

/// The key of one segment's records.
pub(super) struct SegmentKey(SequenceKey);

impl SegmentKey {
    /// The key of a segment.
    pub(super) fn derive(key: &DataKey, number: u64, salt: &[u8; 32]) -> Self {
        Self(SequenceKey::new(&derive(key, &format!("audit segment {number} {}", to_hex(salt)))))
    }

    /// How long a record is when it is sealed.
    pub(super) const fn sealed_length(record_bytes: usize) -> usize {
        record_bytes.saturating_add(TAG_BYTES)
    }

    /// Appends a record, sealed for one place.
    pub(super) fn seal(&self, sequence: u64, place: &[u8], record: &[u8], out: &mut Vec<u8>) {
        self.0.seal_onto(out, sequence, place, record);
    }

    /// Opens a record; `None` when it was not sealed for this place.
    pub(super) fn open(&self, sequence: u64, place: &[u8], sealed: &[u8]) -> Option<Wiped<Vec<u8>>> {
        self.0.open(sequence, place, sealed).ok()
    }
}

/// The key of headers and cursors, which are not secret but must be ours.
pub(super) fn header_key(key: &DataKey) -> HmacKey {
    HmacKey::new(derive(key, "audit headers and cursors").expose())
}
