//! Whether what was seen of one secret can have been one thing at one time: its versions are in the order of time.
//!
//! A secret's versions are counted, so the order of its writes is known, and no search is needed: what ended before something
//! began must not have seen a later version. Deliberately absent: writes whose answer nobody saw; they may have happened.

use std::collections::BTreeMap;

/// A write that was acknowledged, or a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When it began and ended, counted over all beginnings and ends.
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// The version that it made or showed; 0 for none.
    pub(crate) version: u64,
    /// What was in it; 0 where that was not looked at.
    pub(crate) number: u64,
    pub(crate) is_write: bool,
}

/// What was seen of one secret.
#[derive(Default)]
pub(crate) struct Versions {
    seen: Vec<Seen>,
    /// Reads that chose to do without what was written last.
    stale: Vec<Seen>,
    /// From some end on, at least so many versions were made.
    passed: Vec<(u64, u64)>,
    contents: BTreeMap<u64, u64>,
}

impl Versions {
    /// The latest version that anybody saw.
    pub(crate) fn latest(&self) -> u64 {
        self.seen.iter().map(|seen| seen.version).max().unwrap_or_default()
    }

    /// A write that was to follow this version was refused, which is right if there was a later one by then.
    pub(crate) fn refused(&mut self, ended: u64, version: u64) {
        self.passed.push((ended, version + 1));
    }

    /// Adds what was seen; text when it cannot be.
    pub(crate) fn note(&mut self, new: Seen) -> Result<(), String> {
        let is_behind = |(ended, least): &&(u64, u64)| new.started > *ended && new.version < *least;
        if let Some((_, least)) = self.passed.iter().find(is_behind) {
            return Err(format!("a write was refused as if there were version {least}: {new:?}"));
        }
        for old in &self.seen {
            let (earlier, later) = if old.ended < new.started {
                (old, &new)
            } else if new.ended < old.started {
                (&new, old)
            } else {
                if old.is_write && new.is_write && old.version == new.version {
                    return Err(format!("two writes made version {}", new.version));
                }
                continue;
            };
            if later.version < earlier.version || (later.is_write && later.version == earlier.version) {
                return Err(format!(
                    "version {} was seen after version {}: {later:?}, {earlier:?}",
                    later.version, earlier.version
                ));
            }
        }
        // What such a read showed was there by then.
        let is_behind = |old: &&Seen| old.ended < new.started && new.version < old.version;
        if let Some(old) = self.stale.iter().find(is_behind) {
            return Err(format!("version {} was seen after version {}: {new:?}, {old:?}", new.version, old.version));
        }
        self.note_contents(&new)?;
        self.seen.push(new);
        Ok(())
    }

    /// Adds a read that may be stale, but must show what had been seen when something began (`since`) that no read does without;
    /// text when it cannot be.
    pub(crate) fn note_stale(&mut self, new: Seen, since: u64) -> Result<(), String> {
        if let Some(old) = self.seen.iter().find(|old| old.ended < since && new.version < old.version) {
            return Err(format!(
                "a stale read is older than what no read does without, begun at {since}: {new:?}, {old:?}"
            ));
        }
        self.note_contents(&new)?;
        self.stale.push(new);
        Ok(())
    }

    fn note_contents(&mut self, new: &Seen) -> Result<(), String> {
        let known = self.contents.entry(new.version).or_insert(new.number);
        if *known == 0 {
            *known = new.number;
        }
        if new.number != 0 && *known != new.number {
            return Err(format!("version {} is {} and {}", new.version, new.number, *known));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(started: u64, ended: u64, version: u64, is_write: bool) -> Seen {
        Seen { started, ended, version, number: version * 10, is_write }
    }

    #[test]
    fn what_overlaps_may_be_in_any_order_and_nothing_else() {
        let mut versions = Versions::default();
        for fine in [seen(1, 2, 1, true), seen(3, 8, 2, true), seen(4, 5, 1, false), seen(6, 7, 2, false)] {
            assert_eq!(versions.note(fine), Ok(()));
        }
        assert!(versions.note(seen(9, 10, 1, false)).is_err(), "a stale read");
        assert!(versions.note(seen(9, 10, 2, true)).is_err(), "a version that was made before");
        assert!(versions.note(Seen { number: 7, ..seen(9, 10, 2, false) }).is_err(), "another content");
        assert!(versions.note(seen(3, 10, 2, true)).is_err(), "made twice");
        assert_eq!(versions.note_stale(seen(9, 10, 1, false), 7), Ok(()), "it chose to be");
        assert!(versions.note_stale(seen(9, 10, 1, false), 8).is_err(), "older than that");
        versions.refused(12, 2);
        assert!(versions.note(seen(13, 14, 2, false)).is_err(), "refused for nothing");
        assert_eq!(versions.note(seen(13, 14, 3, false)), Ok(()));
        assert_eq!(versions.note_stale(seen(13, 16, 4, false), 13), Ok(()));
        assert!(versions.note(seen(17, 18, 3, false)).is_err(), "what a stale read showed is there");
    }
}
