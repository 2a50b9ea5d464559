//! How a batch's writes are spelled as bytes, in the log of one node and in that of a cluster.
//!
//! ```text
//! number of writes (4) | per write: key length (1), value length or all ones (4), key, value
//! ```
//!
//! Little-endian. Deliberately absent: the version, which whoever writes it down has anyway, the note, which
//! only a cluster's log keeps, and checksums.

use std::collections::BTreeMap;

use crate::{Batch, RawKey, Version};

const DELETED: u32 = u32::MAX;

impl Batch {
    /// Appends the writes to a buffer.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.writes.len()).unwrap_or(DELETED).to_le_bytes());
        for (key, value) in &self.writes {
            let key = key.as_bytes();
            // Keys are at most 64 bytes, values far below 4 GiB: the log refuses a larger body.
            out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
            let length = value.as_ref().map_or(DELETED, |value| u32::try_from(value.len()).unwrap_or(DELETED));
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value.as_deref().unwrap_or_default());
        }
    }

    /// How many bytes [`Batch::put`] appends.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let write =
            |(key, value): (&RawKey, &Option<Vec<u8>>)| 5 + key.as_bytes().len() + value.as_ref().map_or(0, Vec::len);
        4 + self.writes.iter().map(write).sum::<usize>()
    }

    /// The batch of these writes; `None` when they are none.
    #[must_use]
    pub fn read(version: Version, writes: &[u8]) -> Option<Self> {
        let (count, mut rest) = writes.split_first_chunk::<4>()?;
        let mut writes = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (&key_length, after) = rest.split_first()?;
            let (value_length, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(usize::from(key_length))?;
            let value_length = u32::from_le_bytes(*value_length);
            let (value, after) = if value_length == DELETED {
                (None, after)
            } else {
                let (value, after) = after.split_at_checked(usize::try_from(value_length).ok()?)?;
                (Some(value.to_vec()), after)
            };
            writes.insert(RawKey::new(key)?, value);
            rest = after;
        }
        rest.is_empty().then_some(Self::new(version, writes))
    }
}
