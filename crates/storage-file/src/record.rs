//! How a batch is spelled as the body of a log entry.
//!
//! ```text
//! kind (1) | term (8) | number of writes (4) | per write: key length (1), value length or all ones (4), key, value
//! ```
//!
//! Little-endian. The entry's index is the batch's version; the term is 0 as long as there is one node. This is the
//! entry that a cluster will replicate. Deliberately absent: a checksum (the log's frame has it) and a version of its own
//! (the kind has it).

use std::collections::BTreeMap;

use tresor_storage::{Batch, RawKey, Version};

const KIND_BATCH: u8 = 1;
const DELETED: u32 = u32::MAX;

/// Appends a batch to a buffer.
pub(crate) fn encode(batch: &Batch, out: &mut Vec<u8>) {
    out.push(KIND_BATCH);
    out.extend_from_slice(&0_u64.to_le_bytes());
    out.extend_from_slice(&u32::try_from(batch.writes.len()).unwrap_or(DELETED).to_le_bytes());
    for (key, value) in &batch.writes {
        let key = key.as_bytes();
        // Keys are at most 64 bytes, values far below 4 GiB: the log refuses a larger body.
        out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        let length = value.as_ref().map_or(DELETED, |value| u32::try_from(value.len()).unwrap_or(DELETED));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

/// How many bytes [`encode`] appends at most.
pub(crate) fn size(batch: &Batch) -> usize {
    13 + batch
        .writes
        .iter()
        .map(|(key, value)| 5 + key.as_bytes().len() + value.as_ref().map_or(0, Vec::len))
        .sum::<usize>()
}

/// The batch of an entry; `None` when it is none.
pub(crate) fn decode(index: u64, body: &[u8]) -> Option<Batch> {
    let (&KIND_BATCH, rest) = body.split_first()? else { return None };
    let (_term, rest) = rest.split_first_chunk::<8>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
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
    rest.is_empty().then_some(Batch { version: Version(index), writes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_batch_comes_back_and_no_prefix_of_it_does() {
        let key = |name: &str| RawKey::new(name.as_bytes()).unwrap();
        let writes = [(key("a"), Some(vec![7; 300])), (key("b"), None), (key("c"), Some(Vec::new()))].into();
        let batch = Batch { version: Version(9), writes };
        let mut body = Vec::new();
        encode(&batch, &mut body);
        assert_eq!(body.len(), size(&batch));
        assert_eq!(decode(9, &body), Some(batch));
        for length in 0..body.len() {
            assert_eq!(decode(9, &body[..length]), None);
        }
    }
}
