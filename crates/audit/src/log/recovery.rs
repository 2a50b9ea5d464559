//! What a directory of segments still holds after any crash.
//!
//! Decided here: of what was not durable, a loss of power may have taken anything, in the last segment or, when the
//! turn to it was not durable yet, in the one before; there the log ends. Frames and openings say how much was durable
//! when they were written: damage below that is not torn but damaged, and refused by name and offset, unless a later
//! segment says that a failed sync left it in doubt. Deliberately absent: repair.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_crypto::hash::HmacKey;
use tresor_env::disk::{Disk, DiskFile, Open};
use tresor_secret::DataKey;

use super::sealing::SegmentKey;
use super::segment::{
    self, FRAME_HEADER_BYTES, FRAMES_AT, FrameHeader, HEADER_BYTES, Header, OPENING_BYTES, Opening, Tag,
};
use super::{Segment, damaged, unavailable};
use crate::error::AuditError;

/// How much of a segment is read at once while it is checked.
const READ_BYTES: usize = 1 << 20;

/// What is left in the directory.
#[derive(Default)]
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
    /// How many records are missing that a failed sync had left in doubt.
    pub(super) lost_records: u64,
}

/// A segment and how it follows the one before.
struct Link {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    header: Header,
    opening: Opening,
}

/// Reads a directory. `wanted` is the lowest sequence that a device still needs; segments before it may be missing.
pub(super) fn recover(
    disk: &dyn Disk,
    directory: &Path,
    key: &DataKey,
    header_key: &HmacKey,
    wanted: Option<u64>,
) -> Result<Found, AuditError> {
    let (chain, mut leftovers, last_number) = chain(disk, directory, key, header_key)?;
    if let (Some(wanted), Some(oldest)) = (wanted, chain.last())
        && oldest.opening.first_sequence > wanted
    {
        return Err(damaged(oldest.opening.previous_number, 0));
    }
    let mut found = Found { next_sequence: 1, last_number, ..Found::default() };
    // From the newest backwards, until a later one vouches for all that are left.
    let mut proven = false;
    let mut successor: Option<&Opening> = None;
    for (index, link) in chain.iter().enumerate() {
        let (number, first_sequence) = (link.header.number, link.opening.first_sequence);
        if let Some(next) = successor
            && proven
            && next.doubtful_from >= next.first_sequence
        {
            if link.length < next.previous_end {
                return Err(damaged(number, link.length));
            }
            let end = next.previous_end;
            found.segments.push(Segment { number, first_sequence, end, durable_end: end });
            successor = Some(&link.opening);
            continue;
        }
        let walked = walk(link, key, successor.map_or(link.length, |next| next.previous_end.min(link.length)))?;
        let was_durable = successor.is_some_and(|next| next.previous_durable > 0);
        match successor {
            Some(next) if walked.end == next.previous_end => {}
            Some(next) if walked.next_sequence >= next.doubtful_from => {
                found.lost_records += next.first_sequence.saturating_sub(walked.next_sequence);
            }
            Some(next) if proven || walked.end < next.previous_durable => return Err(damaged(number, walked.end)),
            Some(_) => {
                // Neither the turn nor anything after it was durable: the log ends here.
                refuse_durable_damage(link, key, &walked)?;
                leftovers.extend(chain.iter().take(index).map(|newer| newer.path.clone()));
                found.segments.clear();
                end_at(link, &walked, &mut found)?;
            }
            None => {
                refuse_durable_damage(link, key, &walked)?;
                end_at(link, &walked, &mut found)?;
            }
        }
        found.segments.push(Segment { number, first_sequence, end: walked.end, durable_end: walked.end });
        proven = proven || was_durable || walked.claimed > 0;
        successor = Some(&link.opening);
    }
    found.segments.reverse();
    leftovers.sort_unstable();
    leftovers.dedup();
    for path in leftovers.into_iter().rev() {
        disk.remove(&path).map_err(unavailable)?;
    }
    Ok(found)
}

/// Makes a segment the last one.
fn end_at(link: &Link, walked: &Walked, found: &mut Found) -> Result<(), AuditError> {
    if walked.end < link.length {
        found.cut_bytes += link.length - walked.end;
        link.file.set_length(walked.end).map_err(unavailable)?;
    }
    // What no frame says to be durable may be there in the kernel's memory alone, which takes it for written after a failed
    // sync: it is written again.
    let proven = walked.claimed.min(walked.end);
    let mut bytes = vec![0; usize::try_from(walked.end - proven).unwrap_or(usize::MAX)];
    link.file.read_exact_at(proven, &mut bytes).map_err(unavailable)?;
    link.file.write_all_at(proven, &bytes).map_err(unavailable)?;
    link.file.sync().map_err(unavailable)?;
    found.tag = walked.tag;
    found.next_sequence = walked.next_sequence;
    Ok(())
}

/// The segments that follow each other, newest first; what belongs to nothing; the highest number of all.
fn chain(
    disk: &dyn Disk,
    directory: &Path,
    key: &DataKey,
    header_key: &HmacKey,
) -> Result<(Vec<Link>, Vec<PathBuf>, u64), AuditError> {
    let names = disk.names(directory).map_err(unavailable)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    let last_number = numbers.last().copied().unwrap_or(0);
    let mut chain: Vec<Link> = Vec::new();
    let mut leftovers = Vec::new();
    // After one that a failed sync lost, whichever is next.
    let mut is_any_next = false;
    for number in numbers.into_iter().rev() {
        let path = directory.join(segment::name(number));
        let file = disk.open(&path, Open::OrCreate).map_err(unavailable)?;
        let length = file.length().map_err(unavailable)?;
        let header = read_header(&*file, header_key).map_err(unavailable)?.filter(|header| header.number == number);
        let Some(header) = header else {
            // The creation of one was torn, or it was not ours.
            let is_torn = length <= HEADER_BYTES as u64;
            if !is_torn || chain.last().is_some_and(|next| next.opening.previous_number == number) {
                return Err(damaged(number, 0));
            }
            leftovers.push(path);
            continue;
        };
        let opening = read_opening(&*file, &header, header_key).map_err(unavailable)?;
        let is_expected = chain.last().is_none_or(|next| is_any_next || next.opening.previous_number == number);
        match opening {
            Some(opening) if is_expected => {
                is_any_next = false;
                chain.push(Link { path, file, length, header, opening });
            }
            // Never used, or removed and back with a crash.
            _ if !is_expected || length == HEADER_BYTES as u64 && chain.is_empty() => leftovers.push(path),
            _ if is_any_next => leftovers.push(path),
            _ => {
                if holds(&*file, &header, key, length, HEADER_BYTES as u64, |frame| frame.durable_end > 0)?
                    || is_vouched_for(&chain, key)?
                {
                    return Err(damaged(number, HEADER_BYTES as u64));
                }
                is_any_next = chain.last().is_some_and(|next| next.opening.doubtful_from < next.opening.first_sequence);
                if !is_any_next {
                    leftovers.extend(chain.drain(..).map(|newer| newer.path));
                }
                leftovers.push(path);
            }
        }
    }
    Ok((chain, leftovers, last_number))
}

/// Whether anything in these segments says that what was before them is durable.
fn is_vouched_for(newer: &[Link], key: &DataKey) -> Result<bool, AuditError> {
    for link in newer {
        if link.opening.previous_durable > 0 || walk(link, key, link.length)?.claimed > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The header at the start of a segment; `None` when it is not one of this log.
pub(super) fn read_header(file: &dyn DiskFile, header_key: &HmacKey) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    Ok(read_whole(file, 0, &mut bytes)?.and_then(|()| Header::decode(&bytes, header_key)))
}

/// The opening behind the header; `None` when it is not the one that was written.
pub(super) fn read_opening(file: &dyn DiskFile, header: &Header, header_key: &HmacKey) -> io::Result<Option<Opening>> {
    let mut bytes = [0; OPENING_BYTES];
    Ok(read_whole(file, HEADER_BYTES as u64, &mut bytes)?.and_then(|()| Opening::decode(&bytes, header, header_key)))
}

fn read_whole(file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<Option<()>> {
    match file.read_exact_at(offset, out) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// How far a segment's frames follow each other.
struct Walked {
    end: u64,
    tag: Tag,
    next_sequence: u64,
    /// The most that a frame says to have been durable.
    claimed: u64,
}

/// Walks a segment frame by frame up to the first that does not open.
fn walk(link: &Link, key: &DataKey, limit: u64) -> Result<Walked, AuditError> {
    let segment_key = link.header.segment_key(key);
    let mut walked = Walked {
        end: FRAMES_AT,
        tag: link.opening.previous_tag,
        next_sequence: link.opening.first_sequence,
        claimed: 0,
    };
    while walked.end < limit {
        let Some((header, sealed)) = read_frame(&*link.file, walked.end, limit).map_err(unavailable)? else { break };
        if header.sequence != walked.next_sequence {
            break;
        }
        let Some((_, tag)) = segment::open_frame(&segment_key, &header, &walked.tag, &sealed) else { break };
        walked.end += header.frame_length() as u64;
        walked.tag = tag;
        walked.next_sequence += 1;
        walked.claimed = walked.claimed.max(header.durable_end);
    }
    Ok(walked)
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
fn refuse_durable_damage(link: &Link, key: &DataKey, walked: &Walked) -> Result<(), AuditError> {
    let vouches = |frame: &FrameHeader| {
        // Every frame takes some bytes, so a later sequence cannot be further off than the bytes between.
        let distance = frame.sequence.wrapping_sub(walked.next_sequence);
        distance != 0 && distance <= link.length - walked.end && frame.durable_end > walked.end
    };
    if walked.end < link.length
        && (walked.claimed > walked.end || holds(&*link.file, &link.header, key, link.length, walked.end, vouches)?)
    {
        return Err(damaged(link.header.number, walked.end));
    }
    Ok(())
}

/// Whether behind `after` there is a frame that opens and of which `wanted` is true.
fn holds(
    file: &dyn DiskFile,
    header: &Header,
    key: &DataKey,
    length: u64,
    after: u64,
    wanted: impl Fn(&FrameHeader) -> bool,
) -> Result<bool, AuditError> {
    let segment_key: SegmentKey = header.segment_key(key);
    let mut start = after + 1;
    while start < length {
        let window = usize::try_from(length - start).unwrap_or(usize::MAX).min(READ_BYTES);
        let mut bytes = vec![0; window];
        file.read_exact_at(start, &mut bytes).map_err(unavailable)?;
        for (index, candidate) in bytes.windows(FRAME_HEADER_BYTES).enumerate() {
            let offset = start + index as u64;
            let Some(frame) = FrameHeader::decode(candidate) else { continue };
            if offset < 16 || frame.durable_end > offset || !wanted(&frame) {
                continue;
            }
            let mut previous = [0; 16];
            file.read_exact_at(offset - 16, &mut previous).map_err(unavailable)?;
            let Some((frame, sealed)) = read_frame(file, offset, length).map_err(unavailable)? else { continue };
            if segment::open_frame(&segment_key, &frame, &previous, &sealed).is_some() {
                return Ok(true);
            }
        }
        start += window.saturating_sub(FRAME_HEADER_BYTES - 1).max(1) as u64;
    }
    Ok(false)
}
