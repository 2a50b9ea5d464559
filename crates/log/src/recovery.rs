//! Opening a log: which segments are in use, that nothing durable is missing or damaged, and where the end is.
//!
//! The newest segment with an opening is the last in use, and each opening names the segment before it and where that
//! one ends: all that must be there and whole. In the last one the first frame that cannot be read is either a torn end
//! (only what was not synced can be torn) or damage. It is damage if anything behind it was written after a sync that
//! covered it; every frame says that of itself, and after each sync a mark is left that says nothing else.
//!
//! What can be read need not be durable: the process before may have been killed before its sync, or its sync failed, and
//! the kernel goes on showing what it has in memory. So what lies behind the last word of a sync is written again in its
//! place and synced before anybody sees the log. Written, because a kernel whose sync failed takes the pages for written;
//! in its place, because it may as well be durable and acknowledged already: the same bytes over themselves tear nothing.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use tresor_env::disk::Open;
use tresor_env::{Disk, DiskFile};

use crate::frame::{self, Header, Kind, OPENING_BYTES, Opening, frame_bytes};
use crate::log::Log;
use crate::segment::Segment;
use crate::state::{STATE_NAME, StateFile};
use crate::upkeep::{Retired, UNFINISHED_SUFFIX, Vacant, segment_path};
use crate::{LogError, Sizes};

/// What is shown every entry while a log is opened.
pub type Visit<'v, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'v;

/// A segment's file and what it opens with.
struct Opened {
    number: u64,
    file: Arc<dyn DiskFile>,
    length: u64,
    header: Header,
    opening: Opening,
}

/// A file that does not open as a segment, or one that does.
enum Found {
    InUse(Opened),
    Vacant(Vacant),
}

impl Log {
    /// Opens the log in a directory, or makes one; `visit` is shown every entry that is there, in order.
    ///
    /// # Errors
    /// [`LogError::Damaged`] naming file and offset, or what the disk says, or what `visit` says.
    pub fn open<E: From<LogError>>(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        sizes: Sizes,
        visit: &mut Visit<'_, E>,
    ) -> Result<Self, E> {
        let mut log = Self::prepare(disk, directory, sizes)?;
        let numbers = segment_numbers(&**disk, directory)?;
        log.number = numbers.last().copied().unwrap_or(0);
        let chain = log.find_chain(&numbers)?;
        let used: BTreeSet<u64> = chain.iter().map(|opened| opened.number).collect();
        let vacant = log.vacant.as_ref().map(|vacant| vacant.number);
        for number in numbers.iter().filter(|number| !used.contains(number) && vacant != Some(**number)) {
            let path = segment_path(directory, *number);
            let length = disk.open(&path, Open::Existing).and_then(|file| file.length());
            let length = length.map_err(|source| LogError::io(&path, source))?;
            log.retired.push(Retired { path, length });
        }
        log.read_chain(chain, visit)?;
        log.drop_purged();
        Ok(log)
    }

    fn prepare(disk: &Arc<dyn Disk>, directory: &Path, sizes: Sizes) -> Result<Self, LogError> {
        let io = |source| LogError::io(directory, source);
        disk.create_directory(directory).map_err(io)?;
        let names = disk.names(directory).map_err(io)?;
        let has_state = names.iter().any(|name| name == STATE_NAME);
        if !has_state && names.iter().any(|name| segment_number(name).is_some()) {
            return Err(LogError::damaged(&directory.join(STATE_NAME), 0, "the file is missing"));
        }
        for unfinished in names.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX)) {
            disk.remove(&directory.join(unfinished)).map_err(io)?;
        }
        // A process that ended before it could say so may have left a file whose name is not durable: entries in there
        // would go with the name.
        disk.sync_directory(directory).map_err(io)?;
        Ok(Self {
            disk: Arc::clone(disk),
            directory: directory.to_path_buf(),
            sizes,
            state: StateFile::open(&**disk, directory, !has_state)?,
            segments: VecDeque::new(),
            vacant: None,
            retired: Vec::new(),
            chain: 0,
            next: 1,
            number: 0,
            is_closed: false,
            has_failed: false,
            syncs: 0,
            buffer: Vec::new(),
            frames: Vec::new(),
        })
    }

    /// The segments in use, the oldest first.
    fn find_chain(&mut self, numbers: &[u64]) -> Result<VecDeque<Opened>, LogError> {
        let mut chain: VecDeque<Opened> = VecDeque::new();
        for number in numbers.iter().rev() {
            match self.look_at(*number)? {
                Found::InUse(opened) => {
                    chain.push_front(opened);
                    break;
                }
                Found::Vacant(vacant) => self.vacant = Some(vacant),
            }
        }
        while let Some(oldest) = chain.front() {
            let is_oldest_needed = oldest.header.index <= self.purged();
            if is_oldest_needed {
                break;
            }
            let before = oldest.opening.predecessor;
            let path = segment_path(&self.directory, before);
            if before == 0 || before >= oldest.number || !numbers.contains(&before) {
                return Err(LogError::damaged(&path, 0, "the file is missing"));
            }
            match self.look_at(before)? {
                Found::InUse(opened) => chain.push_front(opened),
                Found::Vacant(_) => return Err(LogError::damaged(&path, 0, "the first frame cannot be read")),
            }
        }
        Ok(chain)
    }

    /// Opens a file, and sees what it is.
    fn look_at(&self, number: u64) -> Result<Found, LogError> {
        let path = segment_path(&self.directory, number);
        let io = |source| LogError::io(&path, source);
        let file = self.disk.open(&path, Open::OrCreate).map_err(io)?;
        let length = file.length().map_err(io)?;
        let mut first = [0; OPENING_BYTES];
        if length < first.len() as u64 {
            return Err(LogError::damaged(&path, length, "the file is shorter than any segment"));
        }
        file.read_exact_at(0, &mut first).map_err(io)?;
        if let Some((header, opening)) = frame::parse_opening(&first, number) {
            if length < opening.capacity {
                return Err(LogError::damaged(&path, length, "the file is shorter than it was"));
            }
            return Ok(Found::InUse(Opened { number, file, length, header, opening }));
        }
        let bytes = read_all(&path, &*file, length)?;
        match evidence(&bytes, 0, number).0 {
            Evidence::Synced => Err(LogError::damaged(&path, 0, "the first frame cannot be read")),
            Evidence::Stale | Evidence::Nothing => Ok(Found::Vacant(Vacant { number, path, file, length })),
        }
    }

    /// Reads the segments in use from the oldest on.
    fn read_chain<E: From<LogError>>(&mut self, chain: VecDeque<Opened>, visit: &mut Visit<'_, E>) -> Result<(), E> {
        let mut was_unproven = false;
        let ends: Vec<Option<(u64, Header)>> =
            chain.iter().skip(1).map(|next| Some((next.opening.predecessor_end, next.header))).chain([None]).collect();
        for (opened, end) in chain.into_iter().zip(ends) {
            let path = segment_path(&self.directory, opened.number);
            let bytes = read_all(&path, &*opened.file, opened.length)?;
            let purged = self.purged();
            let mut segment =
                Segment::new(opened.number, path, opened.file, opened.opening.capacity, opened.header.index);
            let mut checksum = opened.header.checksum;
            let limit = end.map_or(u64::MAX, |(end, _)| end);
            let mut synced = 0;
            while segment.end < limit {
                let at = usize::try_from(segment.end).unwrap_or(usize::MAX);
                let found = bytes.get(at..).and_then(|rest| Header::open(rest, opened.number));
                let Some((header, body)) = found.filter(|(header, _)| {
                    header.kind == Kind::Entry && header.index == segment.last + 1 && header.previous == checksum
                }) else {
                    break;
                };
                if header.index > purged {
                    visit(header.index, body)?;
                }
                segment.note(header.index, body.len());
                checksum = header.checksum;
                synced = header.synced;
            }
            match end {
                Some((end, next)) if segment.end != end || segment.last != next.index || checksum != next.previous => {
                    return Err(LogError::damaged(&segment.path, segment.end, "an entry cannot be read").into());
                }
                Some(_) => {}
                None => {
                    let (found, told) = evidence(&bytes, segment.end, opened.number);
                    if found == Evidence::Synced {
                        return Err(LogError::damaged(&segment.path, segment.end, "an entry cannot be read").into());
                    }
                    // Frames that must not be met again lie behind the end.
                    self.is_closed = found == Evidence::Stale;
                    was_unproven = make_durable(&segment, &bytes, synced.max(told))?;
                }
            }
            (self.chain, self.next) = (checksum, segment.last + 1);
            self.segments.push_back(segment);
        }
        if was_unproven {
            self.mark();
        }
        Ok(())
    }
}

/// Makes durable what a segment holds behind `synced`, up to where it is known to be; tells whether there was anything.
fn make_durable(segment: &Segment, bytes: &[u8], synced: u64) -> Result<bool, LogError> {
    let range = usize::try_from(synced).unwrap_or(usize::MAX)..usize::try_from(segment.end).unwrap_or(usize::MAX);
    let Some(unproven) = bytes.get(range).filter(|unproven| !unproven.is_empty()) else { return Ok(false) };
    let written = segment.file.write_all_at(synced, unproven).and_then(|()| segment.file.sync());
    written.map_err(|source| LogError::io(&segment.path, source)).map(|()| true)
}

fn read_all(path: &Path, file: &dyn DiskFile, length: u64) -> Result<Vec<u8>, LogError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(0, &mut bytes).map_err(|source| LogError::io(path, source))?;
    Ok(bytes)
}

/// No log gets here; of bytes that are no header few pass for one.
const INDEX_MAX: u64 = 1 << 48;

/// What lies behind the last frame that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Nothing that is a frame of this segment, or a mark at the very end.
    Nothing,
    /// Frames of a group that was never synced.
    Stale,
    /// A frame that was written after a sync of what cannot be read.
    Synced,
}

/// Looks for frames of this segment from `end` on. Unless that shows damage, it also tells up to where they say that the
/// segment was synced.
fn evidence(bytes: &[u8], end: u64, number: u64) -> (Evidence, u64) {
    let start = usize::try_from(end).unwrap_or(usize::MAX);
    let (mut found, mut synced) = (Evidence::Nothing, 0);
    let mut at = start;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= frame_bytes(0)) {
        at += 8;
        // A header's length and `synced` must fit where it lies; few bytes that are none pass, and their checksum tells.
        let lies_at = (at - 8) as u64;
        let Some(header) = Header::parse(rest).filter(|header| header.synced <= lies_at && header.length < rest.len())
        else {
            continue;
        };
        if header.index > INDEX_MAX || header.checksum == 0 || Header::open(rest, number).is_none() {
            continue;
        }
        if header.synced > end {
            return (Evidence::Synced, end);
        }
        synced = synced.max(header.synced);
        if header.kind != Kind::Mark {
            found = Evidence::Stale;
        }
    }
    (found, synced)
}

/// The numbers of the segments in a directory, in order.
fn segment_numbers(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.names(directory).map_err(|source| LogError::io(directory, source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| *number > 0)
}
