//! A store that is fed: what the committed entries of a replicated log are applied to.
//!
//! Who owns the log decides what is committed; the machine applies it in order, in memory at first, and says up to where
//! it would still have everything if the power went, so that the log behind that may go. The state travels to another
//! node as a stream of chunks. Deliberately absent: the log, and how entries are agreed upon.

use std::sync::{Arc, Weak};

use crate::{Agreement, Batch, Condition, Scrubbed, Snapshot, StoreError, Version, Watcher};

/// The longest chunk of a state, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Where an entry stands in the log. The first has index 1; the default stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term of the leader that wrote it.
    pub term: u64,
    /// Its number in the log.
    pub index: u64,
}

/// What an entry changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: the first entry of a leader.
    Nothing,
    /// What is stored. Shared, because the log has it too.
    Batch(Arc<Batch>),
    /// The state whose [pieces](crate::pieces) are stored by now takes the place of everything.
    Restore {
        /// Its number, as if it were a batch: one that is not the next changes nothing.
        version: Version,
        /// How many pieces there are.
        pieces: u32,
    },
    /// Who the members are, spelled by who owns the log.
    Membership(Vec<u8>),
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// What it changes.
    pub change: Change,
}

/// What became of an entry. Every machine that is fed the same entries answers the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is applied.
    Applied,
    /// It was a batch that does not follow the version named here, which the machine has: it changed nothing. That is how
    /// the batches of a leader that was deposed meanwhile come to nothing. Or it was pieces that are no state.
    Fenced(Version),
}

/// What a state holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry.
    pub position: Position,
    /// The last batch.
    pub version: Version,
    /// The last membership; empty before the first.
    pub membership: Vec<u8>,
}

/// A state, chunk by chunk, as it was when it was asked for, whatever is applied meanwhile.
pub trait Export: Send {
    /// What it holds.
    fn state(&self) -> &Applied;

    /// The next chunk, of at most [`CHUNK_BYTES_MAX`] bytes; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails or is damaged.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError>;
}

/// A state on its way in. Dropping it leaves the machine as it is.
pub trait Install: Send {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when it is not the next chunk of a state; otherwise when the disk fails.
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError>;

    /// Takes the state's place, durably and atomically: after a crash the machine holds either all of it or what it held
    /// before.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when chunks are missing; otherwise when the disk fails. The machine is as it was.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;

    /// Does that where other nodes have to agree, which keeps no thread waiting; where nobody else is asked it comes back, to
    /// be finished.
    ///
    /// # Errors
    /// It itself.
    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>>;
}

/// A store that is fed committed entries. Calls block; callers run them where blocking is allowed.
pub trait Machine: Send + Sync {
    /// What it holds now; after opening, what [`Machine::persisted`] told.
    fn applied(&self) -> Applied;

    /// Applies the entry that follows what it holds; in memory is enough. One caller at a time. Members may be brought for
    /// the place of the last entry, too; they are kept on the disk soon, with everything before: a node that was let in is to
    /// find there what opens it, also when all nodes lost their power and none may lead before it is opened.
    ///
    /// # Errors
    /// When it cannot, for lack of room or because its disk failed: the entry is not applied, and may be brought again.
    fn apply(&self, entry: &Entry) -> Result<Effect, StoreError>;

    /// The last entry that it has whatever happens: the log up to there may go. Never falls.
    fn persisted(&self) -> Position;

    /// The state as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn export(&self) -> Result<Box<dyn Export>, StoreError>;

    /// Begins to take over a state that was exported elsewhere, which holds `state`.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn install(&self, state: &Applied) -> Result<Box<dyn Install>, StoreError>;

    /// The last entry of before the state that it took over last, if it did: entries up to there are void. As what
    /// [`Machine::persisted`] tells, it has this whatever happens.
    fn begins_behind(&self) -> u64;

    /// What is stored as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// From now on, `watcher` is told of each change, for as long as it lives.
    fn watch(&self, watcher: Weak<dyn Watcher>);

    /// Whether it can take more.
    fn condition(&self) -> Condition {
        Condition::Writable
    }

    /// What became of looking through everything; nothing where there is no need.
    fn scrubbed(&self) -> Scrubbed {
        Scrubbed::default()
    }
}
