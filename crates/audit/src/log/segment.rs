//! The bytes of a segment: a header, an opening that binds it to its predecessor, then sealed frames, each bound to the
//! last.
//!
//! Header: magic, number, salt of the segment's own key, and a keyed hash over that; it is durable before the segment is
//! used. Opening: first sequence, number, end and durable end of the predecessor, tag of the last frame before, from
//! which sequence on a failed sync left earlier records in doubt, and a keyed hash; it is written with the first frame.
//! Frame: length of the sealed part (u32), sequence (u64), how far *this segment* was durable when the frame was written
//! (u64; 0 for not even its opening), sealed record. All numbers little-endian. Frame and place are authenticated with
//! the record: a frame moved, removed, repeated or exchanged does not open. Deliberately absent: files (`log.rs`), and
//! recovery decisions (`recovery.rs`).

use tresor_crypto::hash::HmacKey;
use tresor_secret::DataKey;
use tresor_secret::Wiped;

use super::sealing::{SegmentKey, TAG_BYTES};

/// Length of a segment's header in bytes.
pub(super) const HEADER_BYTES: usize = 80;
/// Length of a segment's opening in bytes.
pub(super) const OPENING_BYTES: usize = 88;
/// Where a segment's first frame begins.
pub(super) const FRAMES_AT: u64 = (HEADER_BYTES + OPENING_BYTES) as u64;
/// Length of a frame before its sealed part.
pub(super) const FRAME_HEADER_BYTES: usize = 20;
/// The largest sealed part; requests are bounded far below.
pub(super) const SEALED_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"TRSAUDL2";
const DIGEST_BYTES: usize = 32;

/// The tag of a frame, which the next one is bound to.
pub(super) type Tag = [u8; TAG_BYTES];

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The segment's number, as in its name.
    pub(super) number: u64,
    /// What its key is derived with.
    pub(super) salt: [u8; 32],
}

impl Header {
    /// The bytes on disk.
    pub(super) fn encode(&self, key: &HmacKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        let digest = key.sign(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// The header of these bytes, when they are one that this log wrote.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], key: &HmacKey) -> Option<Self> {
        let (content, digest) = bytes.split_at_checked(HEADER_BYTES - DIGEST_BYTES)?;
        if !tresor_secret::ct_eq(&key.sign(content), digest) {
            return None;
        }
        let mut rest = content.strip_prefix(MAGIC)?;
        Some(Self { number: u64::from_le_bytes(take(&mut rest)?), salt: take(&mut rest)? })
    }

    /// The key of the segment.
    pub(super) fn segment_key(&self, key: &DataKey) -> SegmentKey {
        SegmentKey::derive(key, self.number, &self.salt)
    }
}

/// How a segment follows the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// The sequence of the segment's first frame.
    pub(super) first_sequence: u64,
    /// The predecessor's number; 0 for none.
    pub(super) previous_number: u64,
    /// Where the predecessor's last valid frame ends; what follows there is torn.
    pub(super) previous_end: u64,
    /// How much of the predecessor was durable.
    pub(super) previous_durable: u64,
    /// The tag of the last frame before this segment.
    pub(super) previous_tag: Tag,
    /// Records before this segment, from this sequence on, may be missing because a sync failed; `first_sequence` when
    /// there is no such doubt.
    pub(super) doubtful_from: u64,
}

impl Opening {
    /// The bytes on disk.
    pub(super) fn encode(&self, header: &Header, key: &HmacKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OPENING_BYTES);
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.previous_number.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.previous_durable.to_le_bytes());
        bytes.extend_from_slice(&self.previous_tag);
        bytes.extend_from_slice(&self.doubtful_from.to_le_bytes());
        let digest = key.sign_parts(&[&header.number.to_le_bytes(), &header.salt, &bytes]);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// The opening of these bytes, when they are the one that this log wrote for this segment.
    pub(super) fn decode(bytes: &[u8; OPENING_BYTES], header: &Header, key: &HmacKey) -> Option<Self> {
        let (mut rest, digest) = bytes.split_at_checked(OPENING_BYTES - DIGEST_BYTES)?;
        let expected = key.sign_parts(&[&header.number.to_le_bytes(), &header.salt, rest]);
        if !tresor_secret::ct_eq(&expected, digest) {
            return None;
        }
        Some(Self {
            first_sequence: u64::from_le_bytes(take(&mut rest)?),
            previous_number: u64::from_le_bytes(take(&mut rest)?),
            previous_end: u64::from_le_bytes(take(&mut rest)?),
            previous_durable: u64::from_le_bytes(take(&mut rest)?),
            previous_tag: take(&mut rest)?,
            doubtful_from: u64::from_le_bytes(take(&mut rest)?),
        })
    }
}

/// What stands before a frame's sealed part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the sealed part in bytes.
    pub(super) sealed_length: usize,
    /// The record's sequence.
    pub(super) sequence: u64,
    /// Every byte of the segment before this one was durable when the frame was written.
    pub(super) durable_end: u64,
}

impl FrameHeader {
    /// The header at the start of these bytes, when its length is possible.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let sealed_length = usize::try_from(u32::from_le_bytes(take(&mut bytes)?)).ok()?;
        let possible = (TAG_BYTES..=SEALED_BYTES_MAX).contains(&sealed_length);
        let sequence = u64::from_le_bytes(take(&mut bytes)?);
        let durable_end = u64::from_le_bytes(take(&mut bytes)?);
        possible.then_some(Self { sealed_length, sequence, durable_end })
    }

    /// The length of the whole frame in bytes.
    pub(super) const fn frame_length(&self) -> usize {
        FRAME_HEADER_BYTES + self.sealed_length
    }
}

/// How long the frame of a record is.
pub(super) const fn frame_length(record_bytes: usize) -> u64 {
    (FRAME_HEADER_BYTES + SegmentKey::sealed_length(record_bytes)) as u64
}

/// Appends a record's frame. `None` when it is too long for one; nothing is appended then.
pub(super) fn seal_frame(
    key: &SegmentKey,
    sequence: u64,
    durable_end: u64,
    previous: &Tag,
    record: &[u8],
    out: &mut Vec<u8>,
) -> Option<Tag> {
    let sealed_length = SegmentKey::sealed_length(record.len());
    let length = u32::try_from(sealed_length).ok().filter(|_| sealed_length <= SEALED_BYTES_MAX)?;
    out.reserve(FRAME_HEADER_BYTES + sealed_length);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&durable_end.to_le_bytes());
    key.seal(sequence, &associated(sequence, durable_end, previous), record, out);
    last_tag(out)
}

/// Opens a frame; `None` when it is not what was written there.
pub(super) fn open_frame(
    key: &SegmentKey,
    header: &FrameHeader,
    previous: &Tag,
    sealed: &[u8],
) -> Option<(Wiped<Vec<u8>>, Tag)> {
    let place = associated(header.sequence, header.durable_end, previous);
    let record = key.open(header.sequence, &place, sealed)?;
    Some((record, last_tag(sealed)?))
}

/// The last bytes of a sealed part.
pub(super) fn last_tag(sealed: &[u8]) -> Option<Tag> {
    sealed.last_chunk().copied()
}

fn associated(sequence: u64, durable_end: u64, previous: &Tag) -> [u8; 16 + TAG_BYTES] {
    let mut associated = [0; 16 + TAG_BYTES];
    let parts = sequence.to_le_bytes().into_iter().chain(durable_end.to_le_bytes()).chain(*previous);
    associated.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    associated
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// The name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number of a segment's file, when the name is one.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (self::name(number) == name).then_some(number)
}
