//! What a directory of segments still holds after any crash.
//!
//! Decided here: a segment that has a successor is complete (it was synced before the successor was made, whose
//! header names its end); of the last one, a torn end is cut off, because only what was not durable can be torn.
//! Damage below what a later frame calls durable is not torn but damaged, and refused by name and offset. Deliberately
//! absent: repair.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{Disk, DiskFile, Open};
use tresor_secret::DataKey;

use super::segment::{self, FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, Header, Tag};
use super::{Segment, damaged, unavailable};
use crate::error::AuditError;

/// How much of a segment is read at once while it is checked.
const READ_BYTES: usize = 1 << 20;

/// What is left in the directory.
pub(super) struct Found {
    /// The segments that are still there and hold records, oldest first.
    pub(super) segments: Vec<Segment>,
    /// The tag of the last frame.
    pub(super) tag: Tag,
    /// The sequence after the last frame; 1 in an empty log.
    pub(super) next_sequence: u64,
    /// The highest number that a file in the directory has.
    pub(super) last_number: u64,
    /// How many bytes of a torn end were cut off.
    pub(super) cut_bytes: u64,
}

/// Reads a directory. `wanted` is the lowest sequence that a device still needs; segments before it may be missing.
pub(super) fn recover(
    disk: &dyn Disk,
    directory: &Path,
    key: &DataKey,
    header_key: &HmacKey,
    wanted: Option<u64>,
) -> Result<Found, AuditError> {
    let names = disk.names(directory).map_err(unavailable)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    let last_number = numbers.last().copied().unwrap_or(0);
    let mut found = Found { segments: Vec::new(), tag: [0; 16], next_sequence: 1, last_number, cut_bytes: 0 };

    // From the newest backwards: what is after a gap is the log, what is before it was removed but came back.
    let mut headers: Vec<(Header, Arc<dyn DiskFile>)> = Vec::new();
    let mut leftovers = Vec::new();
    for number in numbers.iter().rev().copied() {
        let path = directory.join(segment::name(number));
        let file = disk.open(&path, Open::OrCreate).map_err(unavailable)?;
        let length = file.length().map_err(unavailable)?;
        let expected = headers.last().map(|(header, _)| header.previous_number);
        match read_header(&*file, header_key).map_err(unavailable)?.filter(|header| header.number == number) {
            Some(header) if expected.is_none_or(|expected| expected == number) => headers.push((header, file)),
            // Its creation was torn, or it was removed and came back with a crash.
            Some(_) => leftovers.push(path),
            None if length <= HEADER_BYTES as u64 && expected != Some(number) => leftovers.push(path),
            None => return Err(damaged(number, 0)),
        }
    }
    headers.reverse();
    if let (Some(wanted), Some((oldest, _))) = (wanted, headers.first())
        && oldest.first_sequence > wanted
    {
        return Err(damaged(oldest.previous_number, 0));
    }
    for path in leftovers {
        disk.remove(&path).map_err(unavailable)?;
    }

    for (index, (header, file)) in headers.iter().enumerate() {
        let length = file.length().map_err(unavailable)?;
        if let Some((successor, _)) = headers.get(index + 1) {
            if length < successor.previous_end {
                return Err(damaged(header.number, length));
            }
            found.segments.push(Segment {
                number: header.number,
                first_sequence: header.first_sequence,
                end: successor.previous_end,
            });
        } else {
            let last = check_last(&**file, header, key, length)?;
            found.cut_bytes = length - last.end;
            if last.end < length {
                file.set_length(last.end).map_err(unavailable)?;
            }
            file.sync().map_err(unavailable)?;
            found.tag = last.tag;
            found.next_sequence = last.next_sequence;
            found.segments.push(Segment {
                number: header.number,
                first_sequence: header.first_sequence,
                end: last.end,
            });
        }
    }
    Ok(found)
}

/// The header at the start of a segment; `None` when it is not one of this log.
pub(super) fn read_header(file: &dyn DiskFile, header_key: &HmacKey) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact_at(0, &mut bytes) {
        Ok(()) => Ok(Header::decode(&bytes, header_key)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

struct Last {
    end: u64,
    tag: Tag,
    next_sequence: u64,
}

/// Walks the last segment frame by frame up to the first that does not open.
fn check_last(file: &dyn DiskFile, header: &Header, key: &DataKey, length: u64) -> Result<Last, AuditError> {
    let segment_key = header.segment_key(key);
    let mut last = Last { end: HEADER_BYTES as u64, tag: header.previous_tag, next_sequence: header.first_sequence };
    while last.end < length {
        let Some(frame) = read_frame(file, last.end, length).map_err(unavailable)? else { break };
        let (frame_header, sealed) = &frame;
        if frame_header.sequence != last.next_sequence {
            break;
        }
        let Some((_, tag)) = segment::open_frame(&segment_key, frame_header, &last.tag, sealed) else { break };
        last.end += frame_header.frame_length() as u64;
        last.tag = tag;
        last.next_sequence += 1;
    }
    if last.end < length {
        refuse_durable_damage(file, header, key, &last, length)?;
    }
    Ok(last)
}

/// Reads the frame at an offset; `None` when what is there cannot be a whole frame.
pub(super) fn read_frame(file: &dyn DiskFile, offset: u64, end: u64) -> io::Result<Option<(FrameHeader, Vec<u8>)>> {
    let mut head = [0; FRAME_HEADER_BYTES];
    let left = end.saturating_sub(offset);
    if left < FRAME_HEADER_BYTES as u64 {
        return Ok(None);
    }
    file.read_exact_at(offset, &mut head)?;
    let Some(header) = FrameHeader::decode(&head) else { return Ok(None) };
    if header.frame_length() as u64 > left {
        return Ok(None);
    }
    let mut sealed = vec![0; header.sealed_length];
    file.read_exact_at(offset + FRAME_HEADER_BYTES as u64, &mut sealed)?;
    Ok(Some((header, sealed)))
}

/// Looks behind a frame that does not open for a later one that does: when that one was written knowing that the
/// damaged one was durable, no crash can have torn it.
fn refuse_durable_damage(
    file: &dyn DiskFile,
    header: &Header,
    key: &DataKey,
    last: &Last,
    length: u64,
) -> Result<(), AuditError> {
    let segment_key = header.segment_key(key);
    let mut start = last.end + 1;
    while start < length {
        let window = usize::try_from(length - start).unwrap_or(usize::MAX).min(READ_BYTES);
        let mut bytes = vec![0; window];
        file.read_exact_at(start, &mut bytes).map_err(unavailable)?;
        for (index, candidate) in bytes.windows(FRAME_HEADER_BYTES).enumerate() {
            let Some(frame_header) = FrameHeader::decode(candidate) else { continue };
            // Every frame takes some bytes, so a later sequence cannot be further off than the bytes between.
            let distance = frame_header.sequence.wrapping_sub(last.next_sequence);
            if distance == 0 || distance > length - last.end || frame_header.durable_below <= last.next_sequence {
                continue;
            }
            let offset = start + index as u64;
            let mut previous = [0; 16];
            file.read_exact_at(offset - 16, &mut previous).map_err(unavailable)?;
            let Some((frame_header, sealed)) = read_frame(file, offset, length).map_err(unavailable)? else {
                continue;
            };
            if segment::open_frame(&segment_key, &frame_header, &previous, &sealed).is_some() {
                return Err(damaged(header.number, last.end));
            }
        }
        start += window.saturating_sub(FRAME_HEADER_BYTES - 1).max(1) as u64;
    }
    Ok(())
}
