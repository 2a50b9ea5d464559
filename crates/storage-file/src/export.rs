//! A machine's state as a stream: its index and its memory table as they were at one version, in the order of keys.
//!
//! Memory holds the keys of what was in the memory table, and one page of the index at a time. Deliberately absent: any
//! pause for writers; what the index sets free meanwhile it cannot use again before the stream ends.

use std::collections::VecDeque;
use std::iter::Peekable;

use tresor_storage::machine::{Applied, Export};
use tresor_storage::state::Chunks;
use tresor_storage::{RawKey, Snapshot, StoreError, Stored};

use crate::machine::{FileMachine, FileSnapshot};

/// About how much of the index is in memory at once.
const PAGE_BYTES: usize = 256 * 1024;

/// The values that a snapshot sees, in the order of their keys.
struct Values {
    snapshot: FileSnapshot,
    /// What the memory table knows something of.
    in_memory: Peekable<std::vec::IntoIter<RawKey>>,
    page: VecDeque<(RawKey, Stored)>,
    /// Up to which key the index was read.
    read_to: Option<RawKey>,
    is_read: bool,
}

impl Values {
    fn of(snapshot: FileSnapshot) -> Self {
        let mut keys = Vec::new();
        snapshot.view.active.keys(&mut keys);
        snapshot.view.frozen.iter().for_each(|frozen| frozen.generation.keys(&mut keys));
        keys.sort_unstable();
        keys.dedup();
        let in_memory = keys.into_iter().peekable();
        Self { snapshot, in_memory, page: VecDeque::new(), read_to: None, is_read: false }
    }

    fn turn_page(&mut self) -> Result<(), StoreError> {
        self.page = self.snapshot.view.index.page(self.read_to.as_ref(), PAGE_BYTES)?;
        self.is_read = self.page.is_empty();
        self.read_to = self.page.back().map(|(key, _)| key.clone()).or(self.read_to.take());
        Ok(())
    }

    fn next_value(&mut self) -> Result<Option<(RawKey, Stored)>, StoreError> {
        loop {
            if self.page.is_empty() && !self.is_read {
                self.turn_page()?;
            }
            let indexed = self.page.front().map(|(key, _)| key);
            let is_first = |key: &RawKey| indexed.is_none_or(|indexed| key <= indexed);
            let Some(key) = self.in_memory.next_if(is_first) else { return Ok(self.page.pop_front()) };
            if indexed == Some(&key) {
                self.page.pop_front();
            }
            if let Some(stored) = self.snapshot.read(&key)? {
                return Ok(Some((key, stored)));
            }
        }
    }
}

impl Iterator for Values {
    type Item = Result<(RawKey, Stored), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_value().transpose()
    }
}

impl FileMachine {
    pub(crate) fn export(&self) -> Box<dyn Export> {
        // Together: what was applied last is what the snapshot sees. Nobody is asked to tend the machine meanwhile, which
        // would wait for this.
        let (snapshot, state): (FileSnapshot, Applied) = {
            let applied = self.0.applied();
            (self.0.seen(), applied.clone())
        };
        Box::new(Chunks::new(state, Values::of(snapshot)))
    }
}
