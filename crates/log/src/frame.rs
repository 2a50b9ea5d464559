//! One frame: how an entry lies in a segment.
//!
//! ```text
//! checksum (8) | checksum of the predecessor (8) | index (8) | kind and length (4) | synced (4) | body | up to 7 zeros
//! ```
//!
//! Little-endian. The checksum (XXH3, seeded with the segment's number) covers everything after itself, so a frame names
//! its segment, its place in the order and its predecessor: recycled or stale bytes never pass for an entry. `synced`
//! says up to where the segment was durable when the frame was written; by it a torn end is told from damage.
//! Deliberately absent: encryption (bodies are sealed already) and any protection against somebody who can write here.

use twox_hash::XxHash3_64;

/// Bytes before a body.
pub(crate) const HEADER_BYTES: usize = 32;
/// The most that a body may have.
pub const BODY_BYTES_MAX: usize = (1 << KIND_SHIFT) - 1;
/// The bytes of an opening; its body: magic and format, predecessor, where it ends, how long this file is.
pub(crate) const OPENING_BYTES: usize = HEADER_BYTES + 32;
/// What every segment begins with, after the frame's header.
const MAGIC: [u8; 8] = *b"TRLOG\0\0\x01";
const KIND_SHIFT: u32 = 30;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry.
    Entry,
    /// Says that everything before it is durable; the next entry is written over it.
    Mark,
    /// The first of a segment.
    Opening,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: u64,
    pub(crate) previous: u64,
    pub(crate) index: u64,
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    pub(crate) synced: u64,
}

/// What an opening says of the segment before, and of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Its number; 0 when there is none.
    pub(crate) predecessor: u64,
    /// Where it ends: what lies behind is not part of the log.
    pub(crate) predecessor_end: u64,
    /// How long this segment's file is, and will be for as long as it is in use.
    pub(crate) capacity: u64,
}

/// The bytes that a frame with such a body takes.
pub(crate) const fn frame_bytes(body: usize) -> usize {
    HEADER_BYTES + body.next_multiple_of(8)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn half_word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

impl Header {
    /// Reads a header; `None` when it cannot be one. Nothing is checked yet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let packed = half_word(bytes, 24)?;
        let kind = match packed >> KIND_SHIFT {
            0 => Kind::Entry,
            1 => Kind::Mark,
            2 => Kind::Opening,
            _ => return None,
        };
        Some(Self {
            checksum: word(bytes, 0)?,
            previous: word(bytes, 8)?,
            index: word(bytes, 16)?,
            kind,
            length: usize::try_from(packed & ((1 << KIND_SHIFT) - 1)).ok()?,
            synced: u64::from(half_word(bytes, 28)?),
        })
    }

    /// Reads the frame at the start of `bytes`, if it is one of this segment whatever its place: the header and the body.
    pub(crate) fn open(bytes: &[u8], segment: u64) -> Option<(Self, &[u8])> {
        let header = Self::parse(bytes)?;
        let frame = bytes.get(..HEADER_BYTES.checked_add(header.length)?)?;
        let (_, body) = frame.split_at_checked(HEADER_BYTES)?;
        (checksum(frame, segment) == header.checksum).then_some((header, body))
    }
}

fn checksum(frame: &[u8], segment: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(segment, frame.get(8..).unwrap_or_default())
}

/// Fills in the header of a frame whose body is there, and gives its checksum.
#[expect(clippy::cast_possible_truncation, reason = "bodies and segments are bounded far below 4 GiB")]
pub(crate) fn close(frame: &mut [u8], kind: Kind, index: u64, previous: u64, synced: u64, segment: u64) -> u64 {
    let length = frame.len().saturating_sub(HEADER_BYTES) as u32;
    let kind: u32 = match kind {
        Kind::Entry => 0,
        Kind::Mark => 1,
        Kind::Opening => 2,
    };
    put(frame, 8, &previous.to_le_bytes());
    put(frame, 16, &index.to_le_bytes());
    put(frame, 24, &(length | kind << KIND_SHIFT).to_le_bytes());
    put(frame, 28, &(synced as u32).to_le_bytes());
    let sum = checksum(frame, segment);
    put(frame, 0, &sum.to_le_bytes());
    sum
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// An opening frame and its checksum.
pub(crate) fn opening(opening: Opening, index: u64, previous: u64, segment: u64) -> ([u8; OPENING_BYTES], u64) {
    let mut frame = [0; OPENING_BYTES];
    put(&mut frame, HEADER_BYTES, &MAGIC);
    put(&mut frame, HEADER_BYTES + 8, &opening.predecessor.to_le_bytes());
    put(&mut frame, HEADER_BYTES + 16, &opening.predecessor_end.to_le_bytes());
    put(&mut frame, HEADER_BYTES + 24, &opening.capacity.to_le_bytes());
    let sum = close(&mut frame, Kind::Opening, index, previous, 0, segment);
    (frame, sum)
}

/// The opening that a segment begins with, if it does.
pub(crate) fn parse_opening(bytes: &[u8], segment: u64) -> Option<(Header, Opening)> {
    let (header, body) = Header::open(bytes, segment)?;
    let is_opening = header.kind == Kind::Opening && body.starts_with(&MAGIC);
    let opening = Opening { predecessor: word(body, 8)?, predecessor_end: word(body, 16)?, capacity: word(body, 24)? };
    is_opening.then_some((header, opening))
}

/// A mark that lies at `at`.
pub(crate) fn mark(index: u64, previous: u64, at: u64, segment: u64) -> [u8; HEADER_BYTES] {
    let mut frame = [0; HEADER_BYTES];
    close(&mut frame, Kind::Mark, index, previous, at, segment);
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_bit_of_a_frame_and_its_segment_are_bound() {
        let mut frame = vec![0; HEADER_BYTES];
        frame.extend_from_slice(b"a body");
        close(&mut frame, Kind::Entry, 7, 99, 56, 3);
        let (header, body) = Header::open(&frame, 3).unwrap();
        assert_eq!((header.index, header.previous, header.synced, body), (7, 99, 56, &b"a body"[..]));
        assert!(Header::open(&frame, 4).is_none());
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::open(&flipped, 3).is_none(), "bit {bit}");
        }
        assert!(Header::open(&[0; 64], 3).is_none(), "zeros are no frame");
    }

    #[test]
    fn an_opening_names_the_segment_before() {
        let before = Opening { predecessor: 4, predecessor_end: 4096, capacity: 65536 };
        let (bytes, _) = opening(before, 10, 5, 5);
        let (header, found) = parse_opening(&bytes, 5).unwrap();
        assert_eq!((header.index, header.previous, found), (10, 5, before));
    }
}
