//! The memory table: what was written since the index last took over, by key and version.
//!
//! A generation is filled, then frozen, then written to the index and dropped. Snapshots share it and see of it what is
//! not newer than they are. It is split into many maps with a lock each, so that readers hardly ever meet the writer.
//! Deliberately absent: any order across maps, and durability (the log has everything that is here).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tresor_storage::machine::Applied;
use tresor_storage::{RawKey, Stored, Version};

use crate::takeover::Change;

/// Keys are keyed hashes, so any of their bytes spreads them evenly.
const MAPS: usize = 64;
/// What an entry takes besides key and value, about.
const ENTRY_BYTES: u64 = 128;

/// A value at one version; `None` is deleted.
type Versioned = (u64, Option<Vec<u8>>);

struct Slot {
    newest: Versioned,
    /// What snapshots may still see, oldest first; empty for most keys.
    older: Vec<Versioned>,
}

impl Slot {
    fn at(&self, version: u64) -> Option<&Versioned> {
        if self.newest.0 <= version {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|(written, _)| *written <= version)
    }
}

/// What a generation knows of a key.
pub(crate) enum Known<T> {
    /// It was written here.
    Written(T),
    /// It was deleted here.
    Deleted,
    /// Nothing: look further back.
    Nothing,
}

/// Writes of consecutive batches.
pub(crate) struct Generation {
    maps: Vec<RwLock<BTreeMap<RawKey, Slot>>>,
    bytes: AtomicU64,
}

/// A generation that nothing is added to any more, and what a machine holds with it.
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    pub(crate) end: Applied,
}

fn place(key: &RawKey) -> usize {
    key.as_bytes().get(1).or(key.as_bytes().first()).map_or(0, |byte| usize::from(*byte) % MAPS)
}

impl Default for Generation {
    fn default() -> Self {
        let maps = std::iter::repeat_with(RwLock::default).take(MAPS).collect();
        Self { maps, bytes: AtomicU64::new(0) }
    }
}

/// About how much memory a write takes; a deletion counts as what it is taken to set free in the index.
pub(crate) fn weight(key: &RawKey, value: Option<&[u8]>, deleted_bytes: u64) -> u64 {
    ENTRY_BYTES + key.as_bytes().len() as u64 + value.map_or(deleted_bytes, |value| value.len() as u64)
}

impl Generation {
    /// Adds a batch. `deleted_bytes` is what a deletion is taken to set free in the index.
    pub(crate) fn insert(&self, version: Version, writes: BTreeMap<RawKey, Option<Vec<u8>>>, deleted_bytes: u64) {
        let mut added = 0;
        for (key, value) in writes {
            added += weight(&key, value.as_deref(), deleted_bytes);
            let Some(map) = self.maps.get(place(&key)) else { continue };
            let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
            match map.entry(key) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(Slot { newest: (version.0, value), older: Vec::new() });
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let slot = entry.get_mut();
                    let before = std::mem::replace(&mut slot.newest, (version.0, value));
                    slot.older.push(before);
                }
            }
        }
        self.bytes.fetch_add(added, Ordering::Relaxed);
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn look<T>(&self, key: &RawKey, version: Version, see: impl FnOnce(u64, &[u8]) -> T) -> Known<T> {
        let Some(map) = self.maps.get(place(key)) else { return Known::Nothing };
        let map = map.read().unwrap_or_else(PoisonError::into_inner);
        match map.get(key).and_then(|slot| slot.at(version.0)) {
            Some((written, Some(bytes))) => Known::Written(see(*written, bytes)),
            Some((_, None)) => Known::Deleted,
            None => Known::Nothing,
        }
    }

    /// What it has of a key for a snapshot of this version.
    pub(crate) fn read(&self, key: &RawKey, version: Version) -> Known<Stored> {
        self.look(key, version, |written, bytes| Stored { version: Version(written), bytes: bytes.to_vec() })
    }

    /// Which batch wrote the value that a snapshot of this version sees.
    pub(crate) fn written(&self, key: &RawKey, version: Version) -> Known<Version> {
        self.look(key, version, |written, _| Version(written))
    }

    /// Adds the keys that it knows something of.
    pub(crate) fn keys(&self, keys: &mut Vec<RawKey>) {
        for map in &self.maps {
            keys.extend(map.read().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        }
    }

    /// Shows the newest of every key, in the order of keys. For a frozen one: the locks are held meanwhile.
    pub(crate) fn in_order<T>(&self, see: impl FnOnce(&[Change<'_>]) -> T) -> T {
        let maps: Vec<_> = self.maps.iter().map(|map| map.read().unwrap_or_else(PoisonError::into_inner)).collect();
        let all = maps.iter().flat_map(|map| map.iter());
        let mut all: Vec<Change<'_>> = all.map(|(key, slot)| (key, slot.newest.0, slot.newest.1.as_deref())).collect();
        all.sort_unstable_by_key(|(key, ..)| *key);
        see(&all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_is_handed_over_and_not_copied() {
        let value = vec![7; 4096];
        let place = value.as_ptr();
        let key = RawKey::new(b"key").unwrap();
        let generation = Generation::default();
        generation.insert(Version(1), [(key.clone(), Some(value))].into(), 0);
        match generation.look(&key, Version(1), |_, bytes| bytes.as_ptr()) {
            Known::Written(found) => assert_eq!(found, place),
            Known::Deleted | Known::Nothing => unreachable!("it was written"),
        }
    }
}
