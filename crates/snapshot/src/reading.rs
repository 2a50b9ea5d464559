//! Reading a snapshot, in whatever pieces it comes, and verifying it without a key.
//!
//! Memory holds one chunk. Everything that is wrong is told with its place in the file.

use tresor_env::Timestamp;
use tresor_sha256::State;
use tresor_storage::machine::CHUNK_BYTES_MAX;
use tresor_storage::state::{Amount, Reading};

use crate::{Applied, DIGEST_BYTES, HEADER_BYTES_MAX, Header, MAGIC, Wrong};

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its beginning.
    Header(Header),
    /// A chunk of the state.
    Chunk(Vec<u8>),
    /// Its end, with the digest that was found right, and the seal.
    End {
        /// Of everything before.
        digest: [u8; DIGEST_BYTES],
        /// What the cluster made of the digest.
        seal: [u8; DIGEST_BYTES],
    },
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Magic and the header's length.
    Magic,
    /// So many bytes.
    Header(usize),
    ChunkLength,
    Chunk(usize),
    End,
    Nothing,
}

/// Reads a snapshot.
pub struct Reader {
    next: Next,
    /// What came and is not a whole part yet.
    held: Vec<u8>,
    /// Where in the file that begins.
    offset: u64,
    digest: State,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { next: Next::Magic, held: Vec::new(), offset: 0, digest: State::new() }
    }

    const fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { offset: self.offset, what }
    }

    /// Where the next part begins.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    const fn wanted(&self) -> usize {
        match self.next {
            Next::Magic => MAGIC.len() + 4,
            Next::Header(length) | Next::Chunk(length) => length,
            Next::ChunkLength => 4,
            Next::End => 2 * DIGEST_BYTES,
            Next::Nothing => 0,
        }
    }

    /// Takes more bytes, and shows each part that they complete.
    ///
    /// # Errors
    /// [`Wrong`], as `E`, when they are none of a snapshot; otherwise what `see` says.
    pub fn take<E: From<Wrong>>(
        &mut self,
        mut bytes: &[u8],
        mut see: impl FnMut(Part) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if self.next == Next::Nothing {
                return if bytes.is_empty() { Ok(()) } else { Err(self.wrong("there is more behind its end").into()) };
            }
            let missing = self.wanted() - self.held.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if now.len() < missing {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.held);
            let part = self.part(&whole)?;
            self.offset += whole.len() as u64;
            if let Some(part) = part {
                see(part)?;
            }
        }
    }

    fn part(&mut self, whole: &[u8]) -> Result<Option<Part>, Wrong> {
        let was = self.next;
        if was != Next::End {
            self.digest.update(whole);
        }
        match was {
            Next::Magic => {
                let Some((&MAGIC, length)) = whole.split_first_chunk::<8>() else {
                    return Err(self.wrong("it is no snapshot"));
                };
                let length = number(length);
                if length > HEADER_BYTES_MAX {
                    return Err(self.wrong("its header is too long"));
                }
                self.next = Next::Header(length);
                Ok(None)
            }
            Next::Header(_) => {
                self.next = Next::ChunkLength;
                header(whole).map(|header| Some(Part::Header(header))).ok_or(self.wrong("its header cannot be read"))
            }
            Next::ChunkLength => {
                self.next = match number(whole) {
                    0 => Next::End,
                    length if length > CHUNK_BYTES_MAX => return Err(self.wrong("a chunk is too long")),
                    length => Next::Chunk(length),
                };
                Ok(None)
            }
            Next::Chunk(_) => {
                self.next = Next::ChunkLength;
                Ok(Some(Part::Chunk(whole.to_vec())))
            }
            Next::End => {
                self.next = Next::Nothing;
                let digest = self.digest.clone().finish();
                match whole.split_first_chunk::<DIGEST_BYTES>() {
                    Some((found, seal)) if *found == digest => {
                        let seal = seal.try_into().map_err(|_| self.wrong("its seal is cut off"))?;
                        Ok(Some(Part::End { digest, seal }))
                    }
                    _ => Err(self.wrong("its checksum is not that of what it holds")),
                }
            }
            Next::Nothing => Ok(None),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(&self) -> Result<(), Wrong> {
        if self.next == Next::Nothing { Ok(()) } else { Err(self.wrong("it is cut off")) }
    }
}

fn number(bytes: &[u8]) -> usize {
    let four = bytes.first_chunk::<4>().copied().unwrap_or_default();
    usize::try_from(u32::from_le_bytes(four)).unwrap_or(usize::MAX)
}

fn header(bytes: &[u8]) -> Option<Header> {
    fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        Some((String::from_utf8(text.to_vec()).ok()?, rest))
    }
    let (cluster_id, rest) = text(bytes)?;
    let (cluster_name, rest) = text(rest)?;
    let seconds = i64::from_le_bytes(rest.try_into().ok()?);
    let is_printable = |text: &str| !text.chars().any(char::is_control);
    let taken = Timestamp::from_nanos(seconds.checked_mul(1_000_000_000)?);
    (is_printable(&cluster_id) && is_printable(&cluster_name)).then_some(Header { cluster_id, cluster_name, taken })
}

/// What a whole snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says of itself.
    pub header: Header,
    /// Whose state it is.
    pub state: Applied,
    /// How much it holds.
    pub amount: Amount,
    /// Its checksum.
    pub digest: [u8; DIGEST_BYTES],
    /// How many bytes it has.
    pub bytes: u64,
}

/// Verifies a snapshot to its end, value by value, without a key.
pub struct Verifier {
    reader: Reader,
    header: Option<Header>,
    state: Reading,
    digest: Option<[u8; DIGEST_BYTES]>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { reader: Reader::new(), header: None, state: Reading::new(None), digest: None }
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// [`Wrong`] when they are none of a snapshot.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.take_each(bytes, |_, _| {})
    }

    /// Takes more bytes, and shows each value that they complete: its key, and how long it is.
    ///
    /// # Errors
    /// [`Wrong`] when they are none of a snapshot.
    pub fn take_each(&mut self, bytes: &[u8], mut see: impl FnMut(&[u8], usize)) -> Result<(), Wrong> {
        let Self { reader, header, state, digest } = self;
        reader.take(bytes, |part| {
            match part {
                Part::Header(found) => *header = Some(found),
                Part::Chunk(chunk) => state.take(&chunk, |key, value| {
                    see(key.as_bytes(), value.bytes.len());
                    Ok::<(), Wrong>(())
                })?,
                Part::End { digest: found, .. } => *digest = Some(found),
            }
            Ok(())
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<Verified, Wrong> {
        self.reader.finish()?;
        let cut_off = self.reader.wrong("it is cut off");
        let (state, amount) = self.state.finish()?;
        let (header, digest) = self.header.zip(self.digest).ok_or(cut_off)?;
        Ok(Verified { header, state: state.clone(), amount, digest, bytes: self.reader.offset() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;
    use tresor_storage::machine::{Export, Position};
    use tresor_storage::state::Chunks;
    use tresor_storage::{RawKey, Stored, Version};

    use super::*;
    use crate::Writer;

    fn expected() -> Header {
        let taken = Timestamp::from_nanos(1_790_000_000_000_000_000);
        Header { cluster_id: "an-id".to_owned(), cluster_name: "ours".to_owned(), taken }
    }

    fn snapshot() -> Vec<u8> {
        let applied = Applied { position: Position { term: 0, index: 9 }, version: Version(9), membership: Vec::new() };
        let values = (0_u64..300).map(|at| {
            let stored = Stored { version: Version(at % 9), bytes: vec![u8::try_from(at % 251).unwrap(); 900] };
            Ok((RawKey::new(&at.to_be_bytes()).unwrap(), stored))
        });
        let mut chunks = Chunks::new(applied, values);
        let (mut writer, mut bytes) = Writer::begin(&expected());
        while let Some(chunk) = chunks.next().unwrap() {
            bytes.extend(writer.chunk(&chunk));
        }
        bytes.extend(writer.end(|digest| digest.map(|byte| !byte)));
        bytes
    }

    fn verified(pieces: &[&[u8]]) -> Result<Verified, Wrong> {
        let mut verifier = Verifier::new();
        pieces.iter().try_for_each(|piece| verifier.take(piece))?;
        verifier.finish()
    }

    #[test]
    fn a_snapshot_is_what_it_was_in_whatever_pieces_it_comes() {
        let bytes = snapshot();
        let whole = verified(&[&bytes]).unwrap();
        assert_eq!((whole.header.clone(), whole.state.version), (expected(), Version(9)));
        assert_eq!(whole.amount, Amount { count: 300, bytes: 300 * 908 });
        assert_eq!(whole.bytes, bytes.len() as u64);
        for size in [1, 7, 4096, 100_001] {
            assert_eq!(verified(&bytes.chunks(size).collect::<Vec<_>>()), Ok(whole.clone()), "{size}");
        }
        let mut seen = None;
        let see = |part| {
            if let Part::End { digest, seal } = part {
                seen = Some((digest, seal));
            }
            Ok::<(), Wrong>(())
        };
        Reader::new().take(&bytes, see).unwrap();
        let (digest, seal) = seen.unwrap();
        assert_eq!((digest, seal), (whole.digest, whole.digest.map(|byte| !byte)));
    }

    #[test]
    fn fz_12_a_snapshot_that_was_changed_cut_or_lengthened_anywhere_is_refused_with_a_place() {
        let bytes = snapshot();
        for at in (0..bytes.len() - DIGEST_BYTES).step_by(211).chain([0, 8, 12, 40]) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            let wrong = verified(&[&changed]).expect_err(&format!("byte {at}"));
            // What a length says is found wrong where it leads.
            assert!(wrong.offset <= at as u64 + 4, "byte {at}: {wrong}");
        }
        for length in (0..bytes.len()).step_by(997).chain([bytes.len() - 1, bytes.len() - 64]) {
            assert!(verified(&[&bytes[..length]]).is_err(), "cut at {length}");
        }
        assert!(verified(&[&bytes, b"x"]).is_err());
        assert_eq!(verified(&[b"PK\x03\x04 is an archive"]).unwrap_err().what, "it is no snapshot");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_refused_and_never_a_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_, mut bytes) = Writer::begin(&expected());
            prop_assert!(verified(&[&tail]).is_err());
            bytes.extend(tail);
            prop_assert!(verified(&[&bytes]).is_err());
        }
    }
}
