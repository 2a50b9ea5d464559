//! Writing a snapshot, part by part.

use tresor_sha256::State;

use crate::{DIGEST_BYTES, HEADER_BYTES_MAX, Header, MAGIC};

/// Spells a snapshot; what it gives out goes into the file in that order.
pub struct Writer(State);

fn push_text(text: &str, out: &mut Vec<u8>) {
    // Names of clusters are short; one that is not is shown by its beginning.
    let bytes = text.as_bytes().get(..text.len().min(HEADER_BYTES_MAX / 4)).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Writer {
    /// Begins one, with the bytes that it begins with.
    #[must_use]
    pub fn begin(header: &Header) -> (Self, Vec<u8>) {
        let mut spelled = Vec::new();
        push_text(&header.cluster_id, &mut spelled);
        push_text(&header.cluster_name, &mut spelled);
        spelled.extend_from_slice(&header.taken.seconds().to_le_bytes());
        let mut writer = Self(State::new());
        let length = u32::try_from(spelled.len()).unwrap_or(0).to_le_bytes();
        let bytes = writer.noted([&MAGIC[..], &length, &spelled].concat());
        (writer, bytes)
    }

    fn noted(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.0.update(&bytes);
        bytes
    }

    /// The bytes of the next chunk of the state.
    #[must_use]
    pub fn chunk(&mut self, chunk: &[u8]) -> Vec<u8> {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.noted([&length[..], chunk].concat())
    }

    /// The bytes of the end; `seal` makes the seal of a digest.
    #[must_use]
    pub fn end(mut self, seal: impl FnOnce(&[u8; DIGEST_BYTES]) -> [u8; DIGEST_BYTES]) -> Vec<u8> {
        let end = self.noted(vec![0; 4]);
        let digest = self.0.finish();
        [&end[..], &digest, &seal(&digest)].concat()
    }
}
