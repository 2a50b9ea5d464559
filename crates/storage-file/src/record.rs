//! How a batch is spelled as the body of a log entry.
//!
//! ```text
//! kind (1) | term (8) | writes, as `Batch::put` spells them
//! ```
//!
//! Little-endian. The entry's index is the batch's version; the term is 0 as long as there is one node. Deliberately absent: a checksum (the log's frame has it) and a version of its own
//! (the kind has it).

use tresor_storage::{Batch, Version};

const KIND_BATCH: u8 = 1;

/// Appends a batch to a buffer.
pub(crate) fn encode(batch: &Batch, out: &mut Vec<u8>) {
    out.push(KIND_BATCH);
    out.extend_from_slice(&0_u64.to_le_bytes());
    batch.put(out);
}

/// How many bytes [`encode`] appends.
pub(crate) fn size(batch: &Batch) -> usize {
    9 + batch.bytes()
}

/// The batch of an entry; `None` when it is none.
pub(crate) fn decode(index: u64, body: &[u8]) -> Option<Batch> {
    let (&KIND_BATCH, rest) = body.split_first()? else { return None };
    let (_term, writes) = rest.split_first_chunk::<8>()?;
    Batch::read(Version(index), writes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use tresor_storage::RawKey;

    use super::*;

    #[test]
    fn a_batch_comes_back_and_no_prefix_of_it_does() {
        let key = |name: &str| RawKey::new(name.as_bytes()).unwrap();
        let writes = [(key("a"), Some(vec![7; 300])), (key("b"), None), (key("c"), Some(Vec::new()))].into();
        let batch = Batch::new(Version(9), writes);
        let mut body = Vec::new();
        encode(&batch, &mut body);
        assert_eq!(body.len(), size(&batch));
        assert_eq!(decode(9, &body), Some(batch));
        for length in 0..body.len() {
            assert_eq!(decode(9, &body[..length]), None);
        }
    }
}
