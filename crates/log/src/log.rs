//! The log: appending, reading, truncating, purging.
//!
//! One owner writes; a group of entries is encoded once into one buffer, written at one place and synced once.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_env::Disk;

use crate::frame::{self, BODY_BYTES_MAX, HEADER_BYTES, Kind, OPENING_BYTES, Opening};
use crate::segment::Segment;
use crate::state::{RECORD_BYTES_MAX, StateFile};
use crate::upkeep::{self, Retired, Vacant};
use crate::{LogError, Sizes};

/// How much memory the buffer keeps between groups.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// The most that one group may have; offsets within a segment are 4 bytes.
const GROUP_BYTES_MAX: usize = 1 << 31;

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub index: u64,
    /// What was appended.
    pub body: Vec<u8>,
}

/// The log.
pub struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) state: StateFile,
    /// Those in use, the oldest first; entries are appended to the last.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) vacant: Option<Vacant>,
    pub(crate) retired: Vec<Retired>,
    /// The checksum of the last frame.
    pub(crate) chain: u64,
    /// The index of the next entry.
    pub(crate) next: u64,
    /// The highest number that a segment's file has or is to get.
    pub(crate) number: u64,
    /// Whether the last segment may not be written to any more.
    pub(crate) is_closed: bool,
    pub(crate) has_failed: bool,
    pub(crate) syncs: u64,
    /// The group that is being put together: room for an opening, then frames.
    pub(crate) buffer: Vec<u8>,
    /// Where each frame of the group begins and ends in the buffer.
    pub(crate) frames: Vec<(usize, usize)>,
}

/// Entries that are appended together.
pub struct Group<'l>(&'l mut Log);

impl Group<'_> {
    /// Adds an entry, which `encode` appends to the buffer.
    pub fn entry(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let buffer = &mut self.0.buffer;
        let start = buffer.len();
        buffer.resize(start + HEADER_BYTES, 0);
        encode(buffer);
        self.0.frames.push((start, buffer.len()));
        buffer.resize(buffer.len().next_multiple_of(8), 0);
    }

    /// Makes the entries durable: one write, one sync.
    ///
    /// # Errors
    /// [`LogError::Uncertain`] when the disk failed on the way; after any other error nothing was appended.
    pub fn commit(self) -> Result<(), LogError> {
        self.0.append_group()
    }
}

impl Log {
    /// The first entry that is there, if there is any; otherwise the next one.
    #[must_use]
    pub fn first(&self) -> u64 {
        let begins = self.segments.front().map_or(self.next, |segment| segment.before + 1);
        begins.max(self.state.state.purged + 1)
    }

    /// The last entry that was appended; what was purged counts.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Up to which entry the log was purged.
    #[must_use]
    pub const fn purged(&self) -> u64 {
        self.state.state.purged
    }

    /// How many bytes its segments' files have, those that wait to be used again or removed among them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let used: u64 = self.segments.iter().map(|segment| segment.capacity).sum();
        let retired: u64 = self.retired.iter().map(|old| old.length).sum();
        used + retired + self.vacant.as_ref().map_or(0, |vacant| vacant.length)
    }

    /// How many bytes wait to be used again or removed, or are ready for the next entries: what is not in use.
    #[must_use]
    pub fn spare_bytes(&self) -> u64 {
        self.bytes() - self.segments.iter().map(|segment| segment.capacity).sum::<u64>()
    }

    /// Changes how large segments are from now on; those that are more than twice as large are left as soon as the next
    /// one is ready.
    pub fn set_segment_bytes_max(&mut self, bytes: u64) {
        self.sizes.max = bytes.max(self.sizes.first);
    }

    /// Whether a segment in use is far larger than segments are now: because it was made for a large entry, or in other
    /// times.
    #[must_use]
    pub fn is_oversized(&self) -> bool {
        self.segments.iter().any(|segment| self.is_too_large(segment.capacity))
    }

    /// Whether entries go to a segment that is far larger than segments are now.
    #[must_use]
    pub fn ends_oversized(&self) -> bool {
        self.segments.back().is_some_and(|last| self.is_too_large(last.capacity))
    }

    pub(crate) const fn is_too_large(&self, bytes: u64) -> bool {
        bytes > 2 * self.sizes.max
    }

    /// How many times an append has waited for the disk.
    #[must_use]
    pub const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Whether it takes nothing more until it is opened again.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Begins a group of entries, the first of which follows the last one.
    #[must_use]
    pub fn group(&mut self) -> Group<'_> {
        self.buffer.clear();
        self.buffer.resize(OPENING_BYTES, 0);
        self.frames.clear();
        Group(self)
    }

    /// Appends bodies as one group.
    ///
    /// # Errors
    /// As [`Group::commit`].
    pub fn append(&mut self, bodies: &[&[u8]]) -> Result<(), LogError> {
        let mut group = self.group();
        for body in bodies {
            group.entry(|buffer| buffer.extend_from_slice(body));
        }
        group.commit()
    }

    fn append_group(&mut self) -> Result<(), LogError> {
        if self.has_failed {
            return Err(LogError::Stopped);
        }
        let Some(longest) = self.frames.iter().map(|(start, end)| end - start - HEADER_BYTES).max() else {
            return Ok(());
        };
        if longest > BODY_BYTES_MAX || self.buffer.len() > GROUP_BYTES_MAX {
            return Err(LogError::TooLarge { length: longest });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let frames = std::mem::take(&mut self.frames);
        let appended = self.append_frames(&mut buffer, &frames);
        // A group that was far larger than most does not keep its memory.
        buffer.truncate(BUFFER_BYTES_KEPT);
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        (self.buffer, self.frames) = (buffer, frames);
        appended
    }

    fn append_frames(&mut self, buffer: &mut [u8], frames: &[(usize, usize)]) -> Result<(), LogError> {
        let length = (buffer.len() - OPENING_BYTES) as u64;
        let fits = self.segments.back().is_some_and(|segment| segment.end + length <= segment.capacity);
        let is_left = self.is_closed || self.ends_oversized() && self.vacant.is_some();
        let begun = if fits && !is_left { None } else { Some(self.begin_segment(length)?) };
        let (number, at, skip) = match (&begun, self.segments.back()) {
            (Some((segment, _)), _) => (segment.number, 0, 0),
            (None, Some(segment)) => (segment.number, segment.end, OPENING_BYTES),
            (None, None) => return Err(LogError::Stopped),
        };
        let mut chain = self.chain;
        if let (Some((_, opening)), Some(place)) = (&begun, buffer.get_mut(..OPENING_BYTES)) {
            let (bytes, sum) = frame::opening(*opening, self.next - 1, self.chain, number);
            place.copy_from_slice(&bytes);
            chain = sum;
        }
        let mut index = self.next;
        for (start, end) in frames {
            if let Some(frame) = buffer.get_mut(*start..*end) {
                chain = frame::close(frame, Kind::Entry, index, chain, at, number);
            }
            index += 1;
        }
        let file = begun.as_ref().map(|(segment, _)| segment).or(self.segments.back()).map(|s| Arc::clone(&s.file));
        let bytes = buffer.get(skip..).unwrap_or_default();
        let written = file.map_or(Ok(()), |file| file.write_all_at(at, bytes).and_then(|()| file.sync()));
        if let Some((segment, _)) = begun {
            self.segments.push_back(segment);
            self.is_closed = false;
        }
        self.syncs += 1;
        written.map_err(|source| self.fail(source))?;
        if let Some(segment) = self.segments.back_mut() {
            for (index, (start, end)) in (self.next..).zip(frames) {
                segment.note(index, end - start - HEADER_BYTES);
            }
        }
        (self.chain, self.next) = (chain, index);
        self.mark();
        Ok(())
    }

    /// Leaves word, for whoever opens the log after a crash, that all this is durable. It is not synced: what it proves
    /// is proven by its being there, and it is overwritten by the next entry.
    pub(crate) fn mark(&mut self) {
        let Some(segment) = self.segments.back() else { return };
        if segment.end + HEADER_BYTES as u64 <= segment.capacity {
            let mark = frame::mark(self.next - 1, self.chain, segment.end, segment.number);
            // The entries are durable whether or not this works; but a disk that fails is not written to again.
            self.has_failed |= segment.file.write_all_at(segment.end, &mark).is_err();
        }
    }

    fn fail(&mut self, source: std::io::Error) -> LogError {
        self.has_failed = true;
        let path = self.segments.back().map_or_else(|| self.directory.clone(), |segment| segment.path.clone());
        LogError::Uncertain { path, source }
    }

    /// Takes the next segment into use, with room for so many bytes of frames; nothing is written to it yet.
    fn begin_segment(&mut self, length: u64) -> Result<(Segment, Opening), LogError> {
        let needed = length + OPENING_BYTES as u64;
        // One that is too short is not made longer: what a failed sync left of that would later pass for its length.
        let vacant = match self.vacant.take_if(|vacant| vacant.length >= needed) {
            Some(vacant) => vacant,
            None => {
                let (number, size) = (self.take_number(), self.next_size().max(needed));
                let path = upkeep::segment_path(&self.directory, number);
                let made = upkeep::create(&*self.disk, &self.directory, number, path, size)?;
                // Its number is lower, so it cannot be the next one any more.
                let short = self.vacant.take();
                self.retired.extend(short.map(|short| Retired { path: short.path, length: short.length }));
                made
            }
        };
        let (predecessor, predecessor_end) = self.segments.back().map_or((0, 0), |last| (last.number, last.end));
        let opening = Opening { predecessor, predecessor_end, capacity: vacant.length };
        Ok((Segment::new(vacant.number, vacant.path, vacant.file, vacant.length, self.next - 1), opening))
    }

    /// A number that no file has.
    pub(crate) const fn take_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(crate) fn next_size(&self) -> u64 {
        let last = self.segments.back().map_or(0, |last| last.capacity);
        last.saturating_mul(2).clamp(self.sizes.first, self.sizes.max)
    }

    /// Whether the last segment is so full that the next should be made ready.
    pub(crate) fn wants_segment(&self) -> bool {
        self.vacant.as_ref().is_none_or(|vacant| self.is_too_large(vacant.length))
            && self.segments.back().is_some_and(|last| last.end > last.capacity / 2 || self.is_too_large(last.capacity))
    }

    /// Leaves the segment that entries go to for the next one, durably, so that a purge can set it free.
    ///
    /// # Errors
    /// [`LogError::Uncertain`] when the disk failed on the way; after any other error everything is as it was.
    pub fn roll(&mut self) -> Result<(), LogError> {
        if self.has_failed {
            return Err(LogError::Stopped);
        }
        if self.segments.back().is_none_or(|last| last.last == last.before) {
            return Ok(());
        }
        self.open_segment()
    }

    /// Entries from `from` to before `until`, as many as fit into so many bytes, but one at least.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when the first of them is not there; otherwise when the disk fails or is damaged.
    pub fn read(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let until = until.min(self.next);
        if from < self.first() || from >= until {
            return Err(LogError::OutOfRange { index: from, first: self.first(), last: self.last() });
        }
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        for segment in self.segments.iter().filter(|segment| segment.last >= from && segment.before + 1 < until) {
            let mut is_full = false;
            segment.walk(from, &mut |_, header, body| {
                is_full = header.index >= until || !entries.is_empty() && bytes + body.len() > bytes_max;
                if !is_full {
                    bytes += body.len();
                    entries.push(Entry { index: header.index, body: body.to_vec() });
                }
                !is_full
            })?;
            if is_full {
                break;
            }
        }
        Ok(entries)
    }

    /// Removes every entry from `from` on, durably, so that others can take their numbers.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when it was purged already; [`LogError::Uncertain`] when the disk failed on the way.
    pub fn truncate(&mut self, from: u64) -> Result<(), LogError> {
        if self.has_failed {
            return Err(LogError::Stopped);
        }
        if from >= self.next {
            return Ok(());
        }
        if from < self.first() {
            return Err(LogError::OutOfRange { index: from, first: self.first(), last: self.last() });
        }
        let at = self.segments.iter().rposition(|segment| segment.before < from).unwrap_or(0);
        let Some(segment) = self.segments.get(at) else { return Ok(()) };
        let mut place = None;
        segment.walk(from, &mut |at, header, _| {
            place = Some((at, header.previous));
            false
        })?;
        let (end, chain) = place.ok_or_else(|| LogError::damaged(&segment.path, segment.end, "an entry is missing"))?;
        for dropped in self.segments.drain(at + 1..) {
            self.retired.push(Retired { path: dropped.path, length: dropped.capacity });
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.cut(from, end);
        }
        (self.chain, self.next) = (chain, from);
        // What lies behind the cut is certain to be gone once a segment exists that says where this one ends.
        self.is_closed = true;
        let opened = self.open_segment();
        // Until then nothing that lies behind may be removed, nor written over.
        self.has_failed |= opened.is_err();
        opened
    }

    /// Begins a segment that has no entry yet, durably.
    fn open_segment(&mut self) -> Result<(), LogError> {
        let (mut segment, opening) = self.begin_segment(HEADER_BYTES as u64)?;
        let (bytes, chain) = frame::opening(opening, self.next - 1, self.chain, segment.number);
        segment.end = OPENING_BYTES as u64;
        let written = segment.file.write_all_at(0, &bytes).and_then(|()| segment.file.sync());
        self.segments.push_back(segment);
        written.map_err(|source| self.fail(source))?;
        self.chain = chain;
        self.is_closed = false;
        self.mark();
        Ok(())
    }

    /// Whether purging up to `index` would set any file free.
    #[must_use]
    pub fn is_worth_purging(&self, index: u64) -> bool {
        self.segments.len() > 1 && self.segments.front().is_some_and(|first| first.last <= index)
    }

    /// Removes every entry up to `index`, durably; when that is more than there are, the next entry follows `index`.
    ///
    /// # Errors
    /// When the disk fails; entries may be gone already then.
    pub fn purge(&mut self, index: u64) -> Result<(), LogError> {
        if self.has_failed {
            return Err(LogError::Stopped);
        }
        if index <= self.purged() {
            // What was the last segment then may be another one now.
            self.drop_purged();
            return Ok(());
        }
        if let Err(error) = self.state.save(|state| state.purged = index) {
            self.has_failed = true;
            return Err(error);
        }
        self.drop_purged();
        Ok(())
    }

    /// Lets go of segments without any entry that is left.
    pub(crate) fn drop_purged(&mut self) {
        let purged = self.purged();
        let is_beyond = self.next <= purged;
        while self.segments.front().is_some_and(|first| first.last <= purged && (is_beyond || self.segments.len() > 1))
        {
            if let Some(gone) = self.segments.pop_front() {
                self.retired.push(Retired { path: gone.path, length: gone.capacity });
            }
        }
        if is_beyond {
            (self.next, self.chain) = (purged + 1, 0);
        }
    }

    /// The owner's record.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        &self.state.state.record
    }

    /// Replaces the owner's record, durably.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], or when the disk fails.
    pub fn set_record(&mut self, record: &[u8]) -> Result<(), LogError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(LogError::TooLarge { length: record.len() });
        }
        if self.has_failed {
            return Err(LogError::Stopped);
        }
        let saved = self.state.save(|state| state.record = record.to_vec());
        self.has_failed |= saved.is_err();
        saved
    }
}
