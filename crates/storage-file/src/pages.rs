//! The index's file: every page of it has a checksum, which lies in the same file and is compared whenever the page is read.
//!
//! The engine above trusts the pages that it reads: a flipped bit in a key or a branch would hide a record, and "not
//! found" is an answer that somebody acts on. So a page that is not what was written is never handed up; whoever needs it
//! is refused, and everybody else goes on.
//!
//! ```text
//! superblock | group: sums of 512 pages (4 KiB), then those pages | group | ...
//! ```
//!
//! Sums are written before each sync and with it, so they cost no sync of their own. A crash may leave a page and its sum
//! from different times, but only of pages that no finished commit refers to, because the engine never writes over a page
//! that is in use. The one exception is its header, the first page, which has checksums of its own. Deliberately absent:
//! any protection against somebody who can write here (values are sealed above).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tresor_env::DiskFile;
use twox_hash::XxHash3_64;

/// What the engine calls a page; it reads and writes one or more of them at once.
const PAGE_BYTES: u64 = 4096;
/// Pages whose sums fill a page.
const GROUP_PAGES: u64 = PAGE_BYTES / 8;
const GROUP_BYTES: u64 = GROUP_PAGES * PAGE_BYTES;
/// Sums of so many groups are kept in memory, which is 2 MiB for 1 GiB of pages.
const GROUPS_KEPT: usize = 512;
/// What the file begins with.
const MAGIC: [u8; 8] = *b"TRIDX\0\0\x01";
/// No page begins with this, so the engine stops at one that was filled with it.
const REFUSED: u8 = 0xff;
/// No page lies there.
const NOWHERE: u64 = u64::MAX;

/// What became of the pages of a group that were compared with their sums.
#[derive(Default)]
pub(crate) struct Compared {
    /// How many there are.
    pub(crate) pages: u64,
    /// Those that are not what their sum says, and that nobody read or wrote since the file was opened. A crash leaves such
    /// pages where nothing refers to them, so whether they are damaged is known when everything was read.
    pub(crate) suspects: Vec<u64>,
}

/// A bit for each page of a group.
type Marks = [u64; GROUP_PAGES as usize / 64];

/// The sums of a group of pages.
struct Group {
    sums: Vec<u64>,
    is_changed: bool,
}

/// The file.
pub(crate) struct Pages {
    name: String,
    file: Arc<dyn DiskFile>,
    groups: Mutex<BTreeMap<u64, Group>>,
    /// Which pages were what their sum says, read or written, since the file was opened; by group.
    met: Mutex<BTreeMap<u64, Marks>>,
    /// Where in the file the first page lies that was refused.
    damaged_at: AtomicU64,
    /// Whether the disk has failed: the engine does nothing more then.
    has_failed: AtomicBool,
    /// Whether nothing is read or written through this any more.
    is_closed: AtomicBool,
}

/// Where a byte of the engine's lies in the file.
const fn place(offset: u64) -> u64 {
    PAGE_BYTES + (offset / GROUP_BYTES + 1) * PAGE_BYTES + offset
}

/// Where the sums of a group lie.
const fn sums_place(group: u64) -> u64 {
    PAGE_BYTES + group * (GROUP_BYTES + PAGE_BYTES)
}

/// How long the file is for so many bytes of the engine's.
const fn whole_length(length: u64) -> u64 {
    PAGE_BYTES + length.div_ceil(GROUP_BYTES) * PAGE_BYTES + length
}

fn sum(page: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(page, bytes)
}

fn superblock() -> [u8; PAGE_BYTES as usize] {
    let mut bytes = [0; PAGE_BYTES as usize];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    let checksum = sum(0, &MAGIC).to_le_bytes();
    bytes[MAGIC.len()..MAGIC.len() + checksum.len()].copy_from_slice(&checksum);
    bytes
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Pages {
    /// Makes the file, which is empty.
    pub(crate) fn create(name: &str, file: Arc<dyn DiskFile>) -> io::Result<Arc<Self>> {
        file.write_all_at(0, &superblock())?;
        Ok(Arc::new(Self::new(name, file)))
    }

    /// Takes a file that is there; `None` when it is none of these.
    pub(crate) fn open(name: &str, file: Arc<dyn DiskFile>) -> io::Result<Option<Arc<Self>>> {
        let mut first = superblock();
        if file.length()? < PAGE_BYTES {
            return Ok(None);
        }
        file.read_exact_at(0, &mut first)?;
        Ok((first == superblock()).then(|| Arc::new(Self::new(name, file))))
    }

    fn new(name: &str, file: Arc<dyn DiskFile>) -> Self {
        let (damaged_at, has_failed) = (AtomicU64::new(NOWHERE), AtomicBool::new(false));
        let (name, is_closed) = (name.to_owned(), AtomicBool::new(false));
        let (groups, met) = (Mutex::default(), Mutex::default());
        Self { name, file, groups, met, damaged_at, has_failed, is_closed }
    }

    /// Where the first page lies that was not what was written, when there was one.
    pub(crate) fn damaged_at(&self) -> Option<u64> {
        Some(self.damaged_at.load(Ordering::Acquire)).filter(|at| *at != NOWHERE)
    }

    /// Whether the disk has failed below the engine.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Notes whether the disk has failed.
    pub(crate) fn noting<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            self.has_failed.store(true, Ordering::Release);
        }
        done
    }

    /// How much of the disk the file takes.
    pub(crate) fn occupied(&self) -> io::Result<u64> {
        self.file.occupied()
    }

    /// Nothing is read or written through this any more: another has taken over the file.
    pub(crate) fn close(&self) {
        self.has_failed.store(true, Ordering::Release);
        self.is_closed.store(true, Ordering::Release);
    }

    fn check_open(&self) -> io::Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(io::Error::other("the index was opened again after a failure"));
        }
        Ok(())
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<u64, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the sum of a page, which is read if it is not in memory.
    fn with_sum<T>(
        &self,
        groups: &mut BTreeMap<u64, Group>,
        page: u64,
        work: impl FnOnce(&mut Group, usize) -> T,
    ) -> io::Result<T> {
        let number = page / GROUP_PAGES;
        let at = as_usize(page % GROUP_PAGES);
        if let Some(group) = groups.get_mut(&number) {
            return Ok(work(group, at));
        }
        if groups.len() >= GROUPS_KEPT {
            groups.retain(|_, group| group.is_changed);
        }
        let mut bytes = superblock();
        let sums = if self.file.length()? < sums_place(number) + PAGE_BYTES {
            vec![0; as_usize(GROUP_PAGES)]
        } else {
            self.file.read_exact_at(sums_place(number), &mut bytes)?;
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
        };
        let group = groups.entry(number).or_insert(Group { sums, is_changed: false });
        Ok(work(group, at))
    }

    /// The parts of a range that lie together in the file: where, and which bytes of the range.
    fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let end = offset + length as u64;
        let mut at = offset;
        std::iter::from_fn(move || {
            let until = end.min((at / GROUP_BYTES + 1) * GROUP_BYTES);
            let part = (at < until).then(|| (place(at), as_usize(at - offset)..as_usize(until - offset)));
            at = until;
            part
        })
    }

    /// How many bytes there are for the engine.
    pub(crate) fn length(&self) -> io::Result<u64> {
        self.check_open()?;
        let length = self.file.length()?.saturating_sub(PAGE_BYTES);
        let groups = length / (GROUP_BYTES + PAGE_BYTES);
        let rest = length % (GROUP_BYTES + PAGE_BYTES);
        Ok(groups * GROUP_BYTES + rest.saturating_sub(PAGE_BYTES))
    }

    /// Reads whole pages, or a part of the header. A page that is not what was written is not shown: in its place is
    /// what no page begins with.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_open()?;
        for (at, range) in Self::parts(offset, out.len()) {
            self.file.read_exact_at(at, out.get_mut(range).unwrap_or_default())?;
        }
        if offset + out.len() as u64 <= PAGE_BYTES {
            return Ok(());
        }
        let (first, is_whole) = whole_pages(offset, out.len());
        let mut damaged = if is_whole { None } else { Some(first) };
        for (page, bytes) in (first..).zip(out.chunks(PAGE_BYTES as usize)) {
            let expected = self.with_sum(&mut self.groups(), page, |group, at| group.sums.get(at).copied())?;
            if expected != Some(sum(page, bytes)) {
                damaged = damaged.or(Some(page));
            }
        }
        match damaged {
            Some(page) => {
                self.refuse(page);
                out.fill(REFUSED);
            }
            None => self.note_met(first, out.len(), true),
        }
        Ok(())
    }

    /// Notes that a page is damaged, and says so.
    fn refuse(&self, page: u64) {
        let at = place(page * PAGE_BYTES);
        tracing::error!(file = %self.name, offset = at, "a page of the index is not what was written");
        let _ = self.damaged_at.compare_exchange(NOWHERE, at, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Notes that pages are what their sums say, or that nobody knows.
    fn note_met(&self, first: u64, length: usize, are_met: bool) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        for page in first..first + (length as u64).div_ceil(PAGE_BYTES) {
            let (at, bit) = (as_usize(page % GROUP_PAGES / 64), 1 << (page % 64));
            if let Some(marks) = met.entry(page / GROUP_PAGES).or_default().get_mut(at) {
                *marks = if are_met { *marks | bit } else { *marks & !bit };
            }
        }
    }

    fn is_met(&self, page: u64) -> bool {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = met.get(&(page / GROUP_PAGES)).and_then(|marks| marks.get(as_usize(page % GROUP_PAGES / 64)));
        marks.is_some_and(|marks| marks >> (page % 64) & 1 == 1)
    }

    /// Compares a group of pages with their sums; `None` behind the last. For whoever else does not write meanwhile: a page
    /// that was met and is not what it was is refused from now on.
    pub(crate) fn compare(&self, group: u64) -> io::Result<Option<Compared>> {
        let end = self.length()?.min((group + 1) * GROUP_BYTES);
        let Some(length) = end.checked_sub(group * GROUP_BYTES).filter(|length| *length > 0) else { return Ok(None) };
        let mut bytes = vec![0; as_usize(length)];
        self.file.read_exact_at(place(group * GROUP_BYTES), &mut bytes)?;
        let mut compared = Compared { pages: length.div_ceil(PAGE_BYTES), ..Compared::default() };
        for (page, bytes) in (group * GROUP_PAGES..).zip(bytes.chunks(PAGE_BYTES as usize)) {
            let expected = self.with_sum(&mut self.groups(), page, |group, at| group.sums.get(at).copied())?;
            // The engine's header has checksums of its own; a page that was never written has none.
            let was_written = expected != Some(0) || bytes.iter().any(|byte| *byte != 0);
            if page == 0 || !was_written || expected == Some(sum(page, bytes)) {
                continue;
            }
            if self.is_met(page) {
                self.refuse(page);
            } else {
                compared.suspects.push(page);
            }
        }
        Ok(Some(compared))
    }

    /// Writes whole pages, or a part of the header.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_open()?;
        let (first, is_whole) = whole_pages(offset, bytes.len());
        if !is_whole && offset + bytes.len() as u64 > PAGE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only whole pages are written"));
        }
        for (at, range) in Self::parts(offset, bytes.len()) {
            self.file.write_all_at(at, bytes.get(range).unwrap_or_default())?;
        }
        if !is_whole {
            return Ok(());
        }
        let mut groups = self.groups();
        for (page, bytes) in (first..).zip(bytes.chunks(PAGE_BYTES as usize)) {
            self.with_sum(&mut groups, page, |group, at| {
                if let Some(place) = group.sums.get_mut(at) {
                    *place = sum(page, bytes);
                }
                group.is_changed = true;
            })?;
        }
        drop(groups);
        self.note_met(first, bytes.len(), true);
        Ok(())
    }

    /// Truncates or extends what there is for the engine.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        let before = self.length()?;
        self.file.set_length(whole_length(length))?;
        let mut groups = self.groups();
        groups.retain(|group, _| group * GROUP_BYTES < length);
        // What is gone has no sum any more: it would be that of zeros when the file grows again.
        let end = before.min(length.next_multiple_of(GROUP_BYTES));
        for page in length.div_ceil(PAGE_BYTES)..end.div_ceil(PAGE_BYTES) {
            self.with_sum(&mut groups, page, |group, at| {
                if let Some(place) = group.sums.get_mut(at) {
                    *place = 0;
                }
                group.is_changed = true;
            })?;
        }
        drop(groups);
        self.met.lock().unwrap_or_else(PoisonError::into_inner).retain(|group, _| group * GROUP_BYTES < length);
        self.note_met(length.div_ceil(PAGE_BYTES), as_usize(end.saturating_sub(length)), false);
        Ok(())
    }

    /// Writes the sums that changed, without making them durable.
    pub(crate) fn write_sums(&self) -> io::Result<()> {
        self.check_open()?;
        let mut groups = self.groups();
        for (number, group) in groups.iter_mut().filter(|(_, group)| group.is_changed) {
            let bytes: Vec<u8> = group.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            self.file.write_all_at(sums_place(*number), &bytes)?;
            group.is_changed = false;
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.write_sums()?;
        self.file.sync()
    }
}

/// The first page of a range, and whether the range is whole pages.
fn whole_pages(offset: u64, length: usize) -> (u64, bool) {
    let is_whole = offset.is_multiple_of(PAGE_BYTES) && (length as u64).is_multiple_of(PAGE_BYTES);
    (offset / PAGE_BYTES, is_whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::path::Path;

    use tresor_env::Disk;
    use tresor_env::disk::Open;
    use tresor_env::doubles::MemoryDisk;

    use super::*;

    const PAGE: usize = PAGE_BYTES as usize;

    #[test]
    fn pages_of_any_group_come_back_and_the_length_is_what_was_set() {
        let disk = MemoryDisk::new();
        let file = disk.open(Path::new("i"), Open::New).unwrap();
        let pages = Pages::create("i", Arc::clone(&file)).unwrap();
        assert_eq!(pages.length().unwrap(), 0);
        for length in [PAGE_BYTES, GROUP_BYTES - PAGE_BYTES, GROUP_BYTES, GROUP_BYTES + PAGE_BYTES, 3 * GROUP_BYTES] {
            pages.set_length(length).unwrap();
            assert_eq!(pages.length().unwrap(), length);
        }
        // Pages that lie in two groups, written at once.
        let bytes: Vec<u8> = (0..4 * PAGE).map(|at| (at / 7).to_le_bytes()[0]).collect();
        let across = GROUP_BYTES - 2 * PAGE_BYTES;
        pages.write(across, &bytes).unwrap();
        pages.sync().unwrap();
        let reopened = Pages::open("i", file).unwrap().unwrap();
        let mut found = vec![0; 4 * PAGE];
        reopened.read(across, &mut found).unwrap();
        assert_eq!(found, bytes);
        assert_eq!(reopened.damaged_at(), None);
        let mut one = vec![0; PAGE];
        reopened.read(GROUP_BYTES, &mut one).unwrap();
        assert_eq!(one, bytes[2 * PAGE..3 * PAGE]);
    }

    #[test]
    fn a_page_that_is_not_what_was_written_is_not_shown_and_its_place_is_told() {
        let disk = MemoryDisk::new();
        let file = disk.open(Path::new("i"), Open::New).unwrap();
        let pages = Pages::create("i", Arc::clone(&file)).unwrap();
        pages.set_length(4 * PAGE_BYTES).unwrap();
        pages.write(PAGE_BYTES, &[1; 3 * PAGE]).unwrap();
        pages.sync().unwrap();
        for (at, is_sum) in [(place(2 * PAGE_BYTES) + 100, false), (sums_place(0) + 16, true)] {
            let mut byte = [0];
            file.read_exact_at(at, &mut byte).unwrap();
            file.write_all_at(at, &[byte[0] ^ 4]).unwrap();
            let reopened = Pages::open("i", Arc::clone(&file)).unwrap().unwrap();
            let mut found = vec![0; PAGE];
            reopened.read(PAGE_BYTES, &mut found).unwrap();
            assert_eq!((found[0], reopened.damaged_at()), (1, None));
            reopened.read(2 * PAGE_BYTES, &mut found).unwrap();
            assert_eq!((found[0], reopened.damaged_at()), (REFUSED, Some(place(2 * PAGE_BYTES))), "{is_sum}");
            file.write_all_at(at, &byte).unwrap();
        }
        // A page that another one was written over, whole as it is.
        let mut other = vec![0; PAGE];
        file.read_exact_at(place(PAGE_BYTES), &mut other).unwrap();
        pages.write(3 * PAGE_BYTES, &[2; PAGE]).unwrap();
        file.write_all_at(place(3 * PAGE_BYTES), &other).unwrap();
        pages.read(3 * PAGE_BYTES, &mut other).unwrap();
        assert_eq!(other[0], REFUSED);
        assert!(Pages::open("e", disk.open(Path::new("e"), Open::New).unwrap()).unwrap().is_none());
    }

    #[test]
    fn nothing_is_written_through_one_that_was_closed() {
        let disk = MemoryDisk::new();
        let file = disk.open(Path::new("i"), Open::New).unwrap();
        let pages = Pages::create("i", Arc::clone(&file)).unwrap();
        pages.set_length(2 * PAGE_BYTES).unwrap();
        pages.close();
        assert!(pages.write(PAGE_BYTES, &[1; PAGE]).is_err() && pages.sync().is_err());
        assert!(pages.set_length(0).is_err() && pages.read(0, &mut [0; 8]).is_err());
    }
}
