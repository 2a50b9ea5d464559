//! What clients asked and were told, and whether one order explains it.
//!
//! Every write has a version, and versions are the order: so a history is linearizable when what each read and each
//! acknowledged write saw is not older than what anybody was told before it began.

use std::collections::BTreeMap;

use tresor_storage::machine::Position;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// It was acknowledged.
    Yes,
    /// It was certainly not done.
    No,
    /// Nobody knows.
    Perhaps,
}

/// A write, by its number, which is its value too.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) ended: Wrote,
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) writes: BTreeMap<u64, Write>,
    /// Of each key, the newest version that anybody was told of by now.
    told: BTreeMap<String, u64>,
    /// What machines held where.
    held: BTreeMap<u64, (Position, u64)>,
    pub(crate) acknowledged: usize,
    pub(crate) reads: usize,
}

impl History {
    /// The newest version of a key that an operation that begins now must see.
    pub(crate) fn begin(&self, key: &str) -> u64 {
        self.told.get(key).copied().unwrap_or(0)
    }

    fn tell(&mut self, key: &str, version: u64) {
        let told = self.told.entry(key.to_owned()).or_default();
        *told = version.max(*told);
    }

    pub(crate) fn begin_write(&mut self, key: &str, version: u64) -> u64 {
        let number = self.writes.len() as u64;
        self.writes.insert(number, Write { key: key.to_owned(), version, ended: Wrote::Perhaps });
        number
    }

    pub(crate) fn end_write(&mut self, number: u64, ended: Wrote, begun: u64) {
        let write = self.writes.get_mut(&number).unwrap();
        write.ended = ended;
        let (key, version) = (write.key.clone(), write.version);
        if ended == Wrote::Yes {
            assert!(version > begun, "write {number} of {key} has version {version}, and {begun} was told before it");
            self.acknowledged += 1;
            self.tell(&key, version);
        }
    }

    /// A read ended: which write it saw, and at which version.
    pub(crate) fn end_read(&mut self, key: &str, seen: Option<(u64, u64)>, begun: u64) {
        self.reads += 1;
        let version = seen.map_or(0, |(_, version)| version);
        assert!(version >= begun, "a read of {key} sees version {version}, and {begun} was told before it");
        if let Some((number, version)) = seen {
            self.explain(key, number, version);
            self.tell(key, version);
        }
    }

    /// A value must have been written as the version that it has.
    fn explain(&self, key: &str, number: u64, version: u64) {
        let write = self.writes.get(&number).unwrap_or_else(|| panic!("nobody wrote {number}"));
        assert!(write.key == key && write.version == version, "{key} is {number} at {version}, which was {write:?}");
        assert!(write.ended != Wrote::No, "{key} is {number}, which was certainly not done");
    }

    /// What a machine holds after an entry, by its digest: every machine must hold the same.
    pub(crate) fn hold(&mut self, position: Position, digest: u64) {
        let known = self.held.entry(position.index).or_insert((position, digest));
        assert_eq!(*known, (position, digest), "machines differ after entry {}", position.index);
    }

    /// At the end: what is stored under each write's own name must be what was acknowledged and nothing that was not
    /// done.
    pub(crate) fn settle(&self, is_there: impl Fn(u64) -> bool) {
        for (number, write) in &self.writes {
            match write.ended {
                Wrote::Yes => assert!(is_there(*number), "write {number} was acknowledged and is lost: {write:?}"),
                Wrote::No => assert!(!is_there(*number), "write {number} was refused and is there: {write:?}"),
                Wrote::Perhaps => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(story: impl FnOnce(&mut History) + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(|| story(&mut History::default())).is_err()
    }

    #[test]
    fn a_stale_read_a_lost_write_and_different_machines_are_found() {
        let written = |history: &mut History| {
            let number = history.begin_write("a", 3);
            history.end_write(number, Wrote::Yes, 0);
        };
        assert!(!fails(|history| {
            written(history);
            history.end_read("a", Some((0, 3)), history.begin("a"));
            history.settle(|_| true);
        }));
        assert!(fails(|history| {
            written(history);
            history.end_read("a", None, history.begin("a"));
        }));
        assert!(fails(|history| {
            written(history);
            history.settle(|_| false);
        }));
        assert!(fails(|history| {
            history.hold(Position { term: 1, index: 2 }, 5);
            history.hold(Position { term: 1, index: 2 }, 6);
        }));
        assert!(fails(|history| {
            let number = history.begin_write("a", 3);
            history.end_write(number, Wrote::No, 0);
            history.end_read("a", Some((number, 3)), 0);
        }));
    }
}
