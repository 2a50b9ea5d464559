//! What fuzz targets need of the codec of entries, which is nobody else's business (feature `fuzz`).

use crate::codec;
use crate::entry::{Admission, Head, RequestEntry, ResponseEntry};

/// Decodes these bytes as an entry of the local log and, when they are one, writes it again.
#[must_use]
pub fn recode(bytes: &[u8]) -> Option<Vec<u8>> {
    let entry = codec::decode(bytes)?;
    let (time, head, error) = (entry.time, &Head::new(&entry.auth, &entry.request), entry.error.clone());
    let written = match &entry.response {
        Some(response) => codec::encode_response(&ResponseEntry { time, head, response, error }),
        None => codec::encode_request(&RequestEntry { time, head, error, admission: Admission::Ordinary }),
    };
    Some(written.to_vec())
}

/// The bytes of an answer's entry, to start from.
#[must_use]
pub fn encode(entry: &ResponseEntry<'_>) -> Vec<u8> {
    codec::encode_response(entry).to_vec()
}
