//! What was read lately, in the clear: bounded in bytes, right for every snapshot, gone when the barrier is closed.
//!
//! An entry says what a record is from one version on. Invariants: a batch is announced here ([`ReadCache::expire`])
//! before the store applies it, which removes what it changes; a reader whose snapshot is older than the announced
//! change of a record cannot put that record back; a reader uses only what holds at its snapshot. So an entry that is
//! there is right for every snapshot from its version on. A batch that fails after it was announced costs misses and
//! nothing else. What was read, changed and committed is here at once: it is read again, as a rule, by who changes it next.
//! Deliberately absent: what is written without having been read, and large values.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tresor_record::{Record, RecordError};
use tresor_secret::Wiped;
use tresor_storage::{RawKey, Version};

/// How many bytes are kept at most, what an entry costs beside its value included.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest value that is kept.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// What an entry costs beside its value: its key twice, its place in the map and in the queue.
const ENTRY_BYTES: usize = 256;
/// The largest value whose decoded form is kept beside it.
const DECODED_BYTES_MAX: usize = 16 * 1024;
/// How much larger a decoded form is taken to be than its bytes: texts of their own, and what holds them.
const DECODED_FACTOR: usize = 3;
/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// How many announced changes each part remembers.
const EXPIRED_MAX: usize = 1024;

/// A record in the clear, shared by those who read it; wiped when the last of them is done.
#[derive(Clone)]
pub struct Plaintext(Arc<Shown>);

struct Shown {
    bytes: Wiped<Vec<u8>>,
    /// What the bytes are, once somebody asked; goes with them.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Plaintext {
    pub(crate) fn new(bytes: Wiped<Vec<u8>>) -> Self {
        Self(Arc::new(Shown { bytes, decoded: OnceLock::new() }))
    }

    /// The record that the bytes are. It is decoded once for all who read this plaintext: for what is read with every
    /// request. Of secrets, a decoded form that wipes itself is the record's own affair.
    ///
    /// # Errors
    /// [`RecordError`] when they are no such record.
    pub fn record<R: Record + Send + Sync + 'static>(&self) -> Result<Arc<R>, RecordError> {
        if let Some(known) = self.0.decoded.get()
            && let Ok(known) = Arc::clone(known).downcast::<R>()
        {
            return Ok(known);
        }
        let record = Arc::new(R::decode(&self.0.bytes)?);
        if self.0.bytes.len() <= DECODED_BYTES_MAX {
            // Whoever comes second keeps his own.
            drop(self.0.decoded.set(Arc::<R>::clone(&record)));
        }
        Ok(record)
    }

    /// How much memory it takes at most, its decoded form included.
    fn bytes_max(&self) -> usize {
        let decoded = if self.len() <= DECODED_BYTES_MAX { DECODED_FACTOR * self.len() } else { 0 };
        self.len() + decoded
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// A record that is there.
#[derive(Clone)]
pub(crate) struct Known {
    /// The batch that wrote it.
    pub(crate) version: Version,
    /// What it says; `None` when it was not opened.
    pub(crate) plaintext: Option<Plaintext>,
}

/// The cache of one barrier.
pub(crate) struct ReadCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
}

#[derive(Default)]
struct Shard {
    /// By a part of the key: it is a keyed hash, so that part tells records apart as well as chance can.
    entries: BTreeMap<u64, Entry>,
    /// The order in which entries come up for removal; one whose number is not the entry's is of an earlier one.
    queue: VecDeque<(u64, u64)>,
    queued: u64,
    bytes: usize,
    expired: Expired,
    is_closed: bool,
}

struct Entry {
    key: RawKey,
    /// The first version that this holds at.
    since: Version,
    /// `None` when there is no such record.
    known: Option<Known>,
    number: u64,
    was_used: bool,
}

/// The changes that were announced lately.
#[derive(Default)]
struct Expired {
    at: BTreeMap<u64, Version>,
    order: VecDeque<(Version, u64)>,
    /// Changes up to this version may be forgotten: who read before it may not put anything here.
    forgotten: Version,
}

impl ReadCache {
    /// An empty cache.
    pub(crate) fn new() -> Self {
        Self::with_bytes_max(BYTES_MAX)
    }

    pub(crate) fn with_bytes_max(bytes: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), shard_bytes_max: bytes / SHARDS }
    }

    /// What is known of a record at a snapshot's version: that it is there, or (`Some(None)`) that it is not.
    #[expect(clippy::option_option, reason = "not known is not the same as not there")]
    pub(crate) fn get(&self, key: &RawKey, snapshot: Version) -> Option<Option<Known>> {
        let place = place(key);
        let mut shard = self.shard(place);
        let entry = shard.entries.get_mut(&place).filter(|entry| entry.key == *key && entry.since <= snapshot)?;
        entry.was_used = true;
        Some(entry.known.clone())
    }

    /// Takes what a reader found at its snapshot, unless it has changed since.
    pub(crate) fn put(&self, key: &RawKey, snapshot: Version, known: Option<Known>) {
        let place = place(key);
        let size = known.as_ref().and_then(|known| known.plaintext.as_ref()).map_or(0, |plaintext| plaintext.len());
        if size <= VALUE_BYTES_MAX {
            let since = known.as_ref().map_or(snapshot, |known| known.version);
            let bytes_max = self.shard_bytes_max;
            self.shard(place).put(place, key, snapshot, since, known, bytes_max);
        }
    }

    /// Announces a batch that is about to be applied: what it changes is not known any more.
    pub(crate) fn expire<'k>(&self, version: Version, keys: impl Iterator<Item = &'k RawKey>) {
        for key in keys {
            let place = place(key);
            let mut shard = self.shard(place);
            shard.remove(place);
            shard.expired.note(place, version);
        }
    }

    /// Forgets everything, and what readers before `version` bring: somebody else changed the store.
    pub(crate) fn distrust(&self, version: Version) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.clear();
            shard.expired.forgotten = shard.expired.forgotten.max(version);
        }
    }

    /// Forgets what lies under some keys.
    pub(crate) fn forget(&self, is_meant: impl Fn(&RawKey) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let places: Vec<u64> =
                shard.entries.iter().filter(|(_, entry)| is_meant(&entry.key)).map(|(place, _)| *place).collect();
            places.into_iter().for_each(|place| shard.remove(place));
        }
    }

    /// Forgets everything for good.
    pub(crate) fn close(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.clear();
            shard.is_closed = true;
        }
    }

    fn shard(&self, place: u64) -> MutexGuard<'_, Shard> {
        let [shard, ..] = place.to_be_bytes();
        // The index is below the number of shards, so the first is only for the compiler.
        let [first, ..] = &self.shards;
        lock(self.shards.get(usize::from(shard) % SHARDS).unwrap_or(first))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Eight bytes of the keyed hash; the kind of record is what the hash begins with.
fn place(key: &RawKey) -> u64 {
    let (kind, hash) = key.as_bytes().split_first().unwrap_or((&0, &[]));
    let part = hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    part ^ u64::from(*kind)
}

impl Shard {
    fn put(
        &mut self,
        place: u64,
        key: &RawKey,
        snapshot: Version,
        since: Version,
        known: Option<Known>,
        bytes_max: usize,
    ) {
        if self.is_closed || self.expired.is_after(place, snapshot) {
            return;
        }
        // Of two readers the one with the longer validity, and then the one who opened the record, knows more.
        let knows_more = |old: &Entry| {
            old.key == *key
                && (old.since <= since)
                && (old.known.as_ref().is_none_or(|old| old.plaintext.is_some())
                    || known.as_ref().is_some_and(|new| new.plaintext.is_none()))
        };
        if self.entries.get(&place).is_some_and(knows_more) {
            return;
        }
        self.remove(place);
        self.queued += 1;
        let entry = Entry { key: key.clone(), since, known, number: self.queued, was_used: false };
        self.bytes += entry.bytes();
        self.queue.push_back((self.queued, place));
        self.entries.insert(place, entry);
        self.make_room(bytes_max);
    }

    /// Removes what was not used since it came up last, until everything fits.
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some((number, place)) = self.queue.pop_front()
        {
            match self.entries.get_mut(&place) {
                Some(entry) if entry.number == number && entry.was_used => {
                    entry.was_used = false;
                    self.queue.push_back((number, place));
                }
                Some(entry) if entry.number == number => self.remove(place),
                _ => {}
            }
        }
        // Entries that were replaced leave their places in the queue behind.
        if self.queue.len() > 2 * self.entries.len() + EXPIRED_MAX {
            let entries = &self.entries;
            self.queue.retain(|(number, place)| entries.get(place).is_some_and(|entry| entry.number == *number));
        }
    }

    fn remove(&mut self, place: u64) {
        if let Some(entry) = self.entries.remove(&place) {
            self.bytes -= entry.bytes();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.queue.clear();
        self.bytes = 0;
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let plaintext = self.known.as_ref().and_then(|known| known.plaintext.as_ref());
        ENTRY_BYTES + plaintext.map_or(0, Plaintext::bytes_max)
    }
}

impl Expired {
    fn note(&mut self, place: u64, version: Version) {
        self.at.insert(place, version);
        self.order.push_back((version, place));
        while self.order.len() > EXPIRED_MAX
            && let Some((oldest, place)) = self.order.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
            if self.at.get(&place) == Some(&oldest) {
                self.at.remove(&place);
            }
        }
    }

    /// Whether a record may have been changed after this snapshot.
    fn is_after(&self, place: u64, snapshot: Version) -> bool {
        snapshot < self.forgotten || self.at.get(&place).is_some_and(|version| snapshot < *version)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(number: u64) -> RawKey {
        RawKey::new(&[&[1][..], &number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &[0; 24]].concat()).unwrap()
    }

    fn known(version: u64, bytes: usize) -> Option<Known> {
        let plaintext = Plaintext::new(Wiped::new(vec![7; bytes]));
        Some(Known { version: Version(version), plaintext: Some(plaintext) })
    }

    fn version_at(cache: &ReadCache, number: u64, snapshot: u64) -> Option<Option<u64>> {
        cache.get(&key(number), Version(snapshot)).map(|known| known.map(|known| known.version.0))
    }

    #[test]
    fn what_is_known_holds_from_its_version_on() {
        let cache = ReadCache::new();
        cache.put(&key(1), Version(9), known(5, 10));
        cache.put(&key(2), Version(9), None);
        assert_eq!(version_at(&cache, 1, 4), None, "written later");
        assert_eq!(version_at(&cache, 1, 5), Some(Some(5)));
        assert_eq!(version_at(&cache, 1, 100), Some(Some(5)));
        assert_eq!(version_at(&cache, 2, 8), None, "may have been there before");
        assert_eq!(version_at(&cache, 2, 9), Some(None));
    }

    #[test]
    fn a_reader_from_before_a_change_puts_nothing_back() {
        let cache = ReadCache::new();
        cache.put(&key(1), Version(9), known(5, 10));
        cache.expire(Version(10), [key(1)].iter());
        assert_eq!(version_at(&cache, 1, 9), None);
        cache.put(&key(1), Version(9), known(5, 10));
        assert_eq!(version_at(&cache, 1, 10), None);
        // Others than the changed one stay welcome.
        cache.put(&key(2), Version(9), known(3, 10));
        assert_eq!(version_at(&cache, 2, 9), Some(Some(3)));
        cache.put(&key(1), Version(10), known(10, 10));
        assert_eq!(version_at(&cache, 1, 10), Some(Some(10)));
    }

    #[test]
    fn changes_that_are_forgotten_refuse_every_older_reader() {
        let cache = ReadCache::new();
        let many: Vec<RawKey> = (0..40 * EXPIRED_MAX as u64).map(key).collect();
        for (version, key) in (10..).zip(&many) {
            cache.expire(Version(version), [key].into_iter());
        }
        cache.put(&key(0), Version(9), known(5, 10));
        assert_eq!(version_at(&cache, 0, 9), None);
        for shard in &cache.shards {
            assert!(lock(shard).expired.order.len() <= EXPIRED_MAX);
        }
    }

    #[test]
    fn bytes_are_bounded_and_what_is_used_stays() {
        let cache = ReadCache::with_bytes_max(16 * 20 * 1024);
        cache.put(&key(0), Version(1), known(1, 1000));
        for number in 1..2000 {
            cache.put(&key(number), Version(1), known(1, 1000));
            assert_eq!(version_at(&cache, 0, 1), Some(Some(1)), "after {number}");
        }
        for shard in &cache.shards {
            let shard = lock(shard);
            assert!(shard.bytes <= 20 * 1024 && shard.queue.len() <= 2 * shard.entries.len() + EXPIRED_MAX);
            assert_eq!(shard.bytes, shard.entries.values().map(Entry::bytes).sum::<usize>());
        }
        cache.put(&key(5000), Version(1), known(1, VALUE_BYTES_MAX + 1));
        assert_eq!(version_at(&cache, 5000, 1), None, "too large to be kept");
    }

    #[test]
    fn a_closed_cache_holds_nothing_and_takes_nothing() {
        let cache = ReadCache::new();
        cache.put(&key(1), Version(1), known(1, 10));
        let held = cache.get(&key(1), Version(1)).unwrap().unwrap().plaintext.unwrap();
        cache.close();
        assert_eq!(version_at(&cache, 1, 1), None);
        cache.put(&key(1), Version(1), known(1, 10));
        assert_eq!(version_at(&cache, 1, 1), None);
        assert_eq!(Arc::strong_count(&held.0), 1, "only the reader has it still");
    }

    #[test]
    fn somebody_elses_change_empties_it() {
        let cache = ReadCache::new();
        cache.put(&key(1), Version(1), known(1, 10));
        cache.distrust(Version(2));
        cache.put(&key(2), Version(1), known(1, 10));
        assert_eq!((version_at(&cache, 1, 5), version_at(&cache, 2, 5)), (None, None));
        cache.put(&key(2), Version(2), known(1, 10));
        assert_eq!(version_at(&cache, 2, 5), Some(Some(1)));
    }
}
