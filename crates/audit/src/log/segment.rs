//! The bytes of a segment: a header that binds it to its predecessor, then sealed frames, each bound to the last.
//!
//! Header: magic, number, first sequence, salt of the segment's own key, number and end of the predecessor, tag of
//! the predecessor's last frame, and a keyed hash over all of that. Frame: length of the sealed part (u32), sequence
//! (u64), how far the log was durable when the frame was written (u64), sealed record. All numbers little-endian.
//! Frame and place are authenticated with the record: a frame moved, removed, repeated or exchanged does not open.
//! Deliberately absent: files (`log.rs`), and recovery decisions (`recovery.rs`).

use tresor_crypto::hash::HmacKey;
use tresor_env::Entropy;
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::sealing::{SegmentKey, TAG_BYTES};

/// Length of a segment's header in bytes.
pub(super) const HEADER_BYTES: usize = 120;
/// Length of a frame before its sealed part.
pub(super) const FRAME_HEADER_BYTES: usize = 20;
/// The largest sealed part; requests are bounded far below.
pub(super) const SEALED_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"TRSAUDL1";

/// The tag of a frame, which the next one is bound to.
pub(super) type Tag = [u8; TAG_BYTES];

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The segment's number, as in its name.
    pub(super) number: u64,
    /// The sequence of its first frame.
    pub(super) first_sequence: u64,
    /// What its key is derived with.
    pub(super) salt: [u8; 32],
    /// The predecessor's number; 0 for none.
    pub(super) previous_number: u64,
    /// Where the predecessor's last valid frame ends; what follows there is torn.
    pub(super) previous_end: u64,
    /// The tag of the last frame before this segment.
    pub(super) previous_tag: Tag,
}

impl Header {
    /// The bytes on disk.
    pub(super) fn encode(&self, key: &HmacKey) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.previous_number.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.previous_tag);
        let digest = key.sign(&bytes);
        bytes.extend_from_slice(&digest);
        let mut header = [0; HEADER_BYTES];
        header.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        header
    }

    /// The header of these bytes, when they are one that this log wrote.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], key: &HmacKey) -> Option<Self> {
        let (content, digest) = bytes.split_at_checked(HEADER_BYTES - 32)?;
        if !tresor_secret::ct_eq(&key.sign(content), digest) {
            return None;
        }
        let mut rest = content.strip_prefix(MAGIC)?;
        Some(Self {
            number: u64::from_le_bytes(take(&mut rest)?),
            first_sequence: u64::from_le_bytes(take(&mut rest)?),
            salt: take(&mut rest)?,
            previous_number: u64::from_le_bytes(take(&mut rest)?),
            previous_end: u64::from_le_bytes(take(&mut rest)?),
            previous_tag: take(&mut rest)?,
        })
    }

    /// The key of the segment.
    pub(super) fn segment_key(&self, key: &DataKey) -> SegmentKey {
        SegmentKey::derive(key, self.number, &self.salt)
    }
}

/// What stands before a frame's sealed part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the sealed part in bytes.
    pub(super) sealed_length: usize,
    /// The record's sequence.
    pub(super) sequence: u64,
    /// Every record below this sequence was durable when the frame was written.
    pub(super) durable_below: u64,
}

impl FrameHeader {
    /// The header at the start of these bytes, when its length is possible.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let sealed_length = usize::try_from(u32::from_le_bytes(take(&mut bytes)?)).ok()?;
        let possible = (TAG_BYTES..=SEALED_BYTES_MAX).contains(&sealed_length);
        let sequence = u64::from_le_bytes(take(&mut bytes)?);
        let durable_below = u64::from_le_bytes(take(&mut bytes)?);
        (possible && durable_below <= sequence).then_some(Self { sealed_length, sequence, durable_below })
    }

    /// The length of the whole frame in bytes.
    pub(super) const fn frame_length(&self) -> usize {
        FRAME_HEADER_BYTES + self.sealed_length
    }
}

/// A frame of one record.
pub(super) struct Frame {
    /// The bytes on disk.
    pub(super) bytes: Vec<u8>,
    /// Its tag.
    pub(super) tag: Tag,
}

/// Seals a record into a frame. `None` when it is too long for one.
pub(super) fn seal_frame(
    key: &SegmentKey,
    sequence: u64,
    durable_below: u64,
    previous: &Tag,
    record: &[u8],
    entropy: &dyn Entropy,
) -> Option<Frame> {
    let sealed = key.seal(&associated(sequence, durable_below, previous), record, entropy);
    let tag = last_tag(&sealed)?;
    let length = u32::try_from(sealed.len()).ok().filter(|_| sealed.len() <= SEALED_BYTES_MAX)?;
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + sealed.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&durable_below.to_le_bytes());
    bytes.extend_from_slice(&sealed);
    Some(Frame { bytes, tag })
}

/// Opens a frame; `None` when it is not what was written there.
pub(super) fn open_frame(
    key: &SegmentKey,
    header: &FrameHeader,
    previous: &Tag,
    sealed: &[u8],
) -> Option<(Zeroizing<Vec<u8>>, Tag)> {
    let record = key.open(&associated(header.sequence, header.durable_below, previous), sealed)?;
    Some((record, last_tag(sealed)?))
}

/// The last bytes of a sealed part.
pub(super) fn last_tag(sealed: &[u8]) -> Option<Tag> {
    sealed.last_chunk().copied()
}

fn associated(sequence: u64, durable_below: u64, previous: &Tag) -> [u8; 16 + TAG_BYTES] {
    let mut associated = [0; 16 + TAG_BYTES];
    let parts = sequence.to_le_bytes().into_iter().chain(durable_below.to_le_bytes()).chain(*previous);
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
