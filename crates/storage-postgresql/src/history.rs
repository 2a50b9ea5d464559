//! What the one writer knows in memory: how far the store is, and what was there before for those who read an older state.
//!
//! A snapshot is a version and the values that were overwritten since. They come back with the answer to each batch, are
//! kept while a snapshot is older, and are bounded. Deliberately absent: the server, and waiting for it.

use std::collections::{BTreeMap, BTreeSet};

use tresor_storage::{RawKey, Stored, Version};

/// How many bytes of values that were overwritten are kept for older snapshots.
const OLD_BYTES_MAX: usize = 256 << 20;

/// A state of the store: a generation as it was at a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) generation: i64,
    pub(crate) version: Version,
}

/// What a batch overwrote.
#[derive(Debug)]
pub(crate) enum Old {
    /// These values.
    Values(BTreeMap<RawKey, Option<Stored>>),
    /// The values of these keys, and nobody has them any more: the answer was lost, or there were too many.
    Lost(BTreeSet<RawKey>),
    /// Others wrote, and nobody here knows what.
    Unknown,
}

impl Old {
    fn bytes(&self) -> usize {
        match self {
            Self::Values(values) => {
                let of = |(key, old): (&RawKey, &Option<Stored>)| {
                    key.as_bytes().len() + old.as_ref().map_or(0, |old| old.bytes.len())
                };
                values.iter().map(of).sum()
            }
            Self::Lost(_) | Self::Unknown => 0,
        }
    }

    /// The values of all keys that a batch writes: those that were there, and none of the others.
    pub(crate) fn of<'k>(keys: impl Iterator<Item = &'k RawKey>, mut there: BTreeMap<RawKey, Stored>) -> Self {
        Self::Values(keys.map(|key| (key.clone(), there.remove(key))).collect())
    }
}

/// What a key held at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// It has not changed since.
    AsNow,
    /// This.
    Then(Option<Stored>),
    /// Nobody knows any more.
    Lost,
}

/// How far the store is, and what was there before.
#[derive(Debug)]
pub(crate) struct History {
    now: Moment,
    /// Snapshots that are in use, and how often.
    in_use: BTreeMap<Moment, usize>,
    /// By the batch that overwrote it.
    old: BTreeMap<Moment, Old>,
    old_bytes: usize,
}

impl History {
    pub(crate) const fn new(now: Moment) -> Self {
        Self { now, in_use: BTreeMap::new(), old: BTreeMap::new(), old_bytes: 0 }
    }

    pub(crate) const fn now(&self) -> Moment {
        self.now
    }

    /// A snapshot of now is used.
    pub(crate) fn begin(&mut self) -> Moment {
        *self.in_use.entry(self.now).or_default() += 1;
        self.now
    }

    /// A snapshot is not used any more.
    pub(crate) fn end(&mut self, moment: Moment) {
        let is_last = match self.in_use.get_mut(&moment) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        if is_last {
            self.in_use.remove(&moment);
            self.forget(moment.generation);
        }
    }

    /// A batch is there.
    pub(crate) fn advance(&mut self, version: Version, old: Old) {
        self.now.version = version;
        self.old_bytes += old.bytes();
        self.old.insert(self.now, old);
        self.forget(self.now.generation);
        while self.old_bytes > OLD_BYTES_MAX && self.lose_oldest() {}
    }

    /// Another generation counts.
    pub(crate) fn switch(&mut self, now: Moment) {
        let before = self.now.generation;
        self.now = now;
        self.forget(before);
    }

    /// The store is further than was known, by what others wrote: of what is older, only what has not changed is known.
    pub(crate) fn jump(&mut self, now: Moment) {
        let before = self.now.generation;
        self.old.insert(Moment { generation: before, ..now }, Old::Unknown);
        self.now = now;
        self.forget(before);
    }

    /// The generations that somebody reads.
    pub(crate) fn generations(&self) -> BTreeSet<i64> {
        self.in_use.keys().map(|moment| moment.generation).chain([self.now.generation]).collect()
    }

    /// What a key held at a moment that is in use.
    pub(crate) fn at(&self, moment: Moment, key: &RawKey) -> Was {
        for (_, old) in self.old.range(after(moment)..=last_of(moment.generation)) {
            match old {
                Old::Values(values) => {
                    if let Some(was) = values.get(key) {
                        return Was::Then(was.clone());
                    }
                }
                Old::Lost(keys) if keys.contains(key) => return Was::Lost,
                Old::Lost(_) => {}
                Old::Unknown => return Was::Lost,
            }
        }
        Was::AsNow
    }

    /// Drops what no snapshot of a generation is old enough for.
    fn forget(&mut self, generation: i64) {
        let first = Moment { generation, version: Version(0) };
        let oldest = self.in_use.range(first..=last_of(generation)).next().map(|(moment, _)| *moment);
        let until = oldest.unwrap_or(last_of(generation));
        while let Some(moment) = self.old.range(first..=until).next().map(|(moment, _)| *moment) {
            if let Some(old) = self.old.remove(&moment) {
                self.old_bytes = self.old_bytes.saturating_sub(old.bytes());
            }
        }
    }

    /// Lets go of the values of the oldest batch that has some.
    fn lose_oldest(&mut self) -> bool {
        let Some(old) = self.old.values_mut().find(|old| matches!(old, Old::Values(_))) else { return false };
        self.old_bytes = self.old_bytes.saturating_sub(old.bytes());
        if let Old::Values(values) = old {
            *old = Old::Lost(std::mem::take(values).into_keys().collect());
        }
        true
    }
}

const fn after(moment: Moment) -> Moment {
    Moment { generation: moment.generation, version: moment.version.next() }
}

const fn last_of(generation: i64) -> Moment {
    Moment { generation, version: Version(u64::MAX) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(name: &str) -> RawKey {
        RawKey::new(name.as_bytes()).unwrap()
    }

    fn stored(version: u64, bytes: &[u8]) -> Stored {
        Stored { version: Version(version), bytes: bytes.to_vec() }
    }

    fn overwrote(what: &[(&str, Option<Stored>)]) -> Old {
        Old::Values(what.iter().map(|(name, old)| (key(name), old.clone())).collect())
    }

    fn history() -> History {
        History::new(Moment { generation: 1, version: Version(4) })
    }

    #[test]
    fn a_snapshot_sees_the_first_value_that_was_overwritten_since() {
        let mut history = history();
        let at = history.begin();
        history.advance(Version(5), overwrote(&[("a", Some(stored(2, b"old")))]));
        history.advance(Version(6), overwrote(&[("a", Some(stored(5, b"new"))), ("b", None)]));
        assert_eq!(history.at(at, &key("a")), Was::Then(Some(stored(2, b"old"))));
        assert_eq!(history.at(at, &key("b")), Was::Then(None));
        assert_eq!(history.at(at, &key("c")), Was::AsNow);
        let later = history.begin();
        assert_eq!(history.at(later, &key("a")), Was::AsNow);
    }

    #[test]
    fn nothing_is_kept_that_no_snapshot_needs() {
        let mut history = history();
        history.advance(Version(5), overwrote(&[("a", None)]));
        assert!(history.old.is_empty(), "nobody reads");
        let (first, second) = (history.begin(), history.begin());
        history.advance(Version(6), overwrote(&[("a", Some(stored(5, b"x")))]));
        let third = history.begin();
        history.advance(Version(7), overwrote(&[("a", Some(stored(6, b"y")))]));
        history.end(first);
        assert_eq!(history.old.len(), 2, "the second is as old");
        history.end(second);
        assert_eq!(history.old.len(), 1);
        history.end(third);
        assert!(history.old.is_empty() && history.old_bytes == 0 && history.in_use.is_empty());
    }

    #[test]
    fn another_generation_leaves_snapshots_of_the_one_before_as_they_are() {
        let mut history = history();
        let before = history.begin();
        history.advance(Version(5), overwrote(&[("a", Some(stored(1, b"1")))]));
        history.switch(Moment { generation: -7, version: Version(9) });
        history.advance(Version(10), overwrote(&[("a", Some(stored(3, b"else"))), ("b", None)]));
        assert_eq!(history.at(before, &key("a")), Was::Then(Some(stored(1, b"1"))));
        assert_eq!(history.at(before, &key("b")), Was::AsNow);
        assert_eq!(history.generations(), BTreeSet::from([1, -7]));
        history.end(before);
        assert_eq!(history.generations(), BTreeSet::from([-7]));
        assert!(history.old.is_empty());
    }

    #[test]
    fn of_what_others_wrote_nothing_is_known_to_who_reads_what_was_before() {
        let mut history = history();
        let before = history.begin();
        history.advance(Version(5), overwrote(&[("a", Some(stored(1, b"1")))]));
        history.jump(Moment { generation: 1, version: Version(9) });
        assert_eq!(history.at(before, &key("a")), Was::Then(Some(stored(1, b"1"))), "it was overwritten here");
        assert_eq!(history.at(before, &key("b")), Was::Lost);
        let after = history.begin();
        assert_eq!(history.at(after, &key("b")), Was::AsNow);
        history.jump(Moment { generation: 4, version: Version(11) });
        assert_eq!(history.at(after, &key("b")), Was::Lost, "also where another generation counts");
        history.end(before);
        history.end(after);
        assert!(history.old.is_empty());
    }

    #[test]
    fn what_is_lost_is_said_to_be_lost() {
        let mut history = history();
        let at = history.begin();
        history.advance(Version(5), Old::Lost(BTreeSet::from([key("a")])));
        assert_eq!(history.at(at, &key("a")), Was::Lost);
        assert_eq!(history.at(at, &key("b")), Was::AsNow);
        let large = vec![0; OLD_BYTES_MAX / 2 + 1];
        history.advance(Version(6), overwrote(&[("b", Some(stored(1, &large)))]));
        assert_ne!(history.at(at, &key("b")), Was::Lost);
        history.advance(Version(7), overwrote(&[("c", Some(stored(1, &large)))]));
        assert_eq!(history.at(at, &key("b")), Was::Lost, "too many");
        assert_ne!(history.at(at, &key("c")), Was::Lost);
    }
}
