//! What lies below the barrier: opaque values under short opaque keys, changed one batch at a time.
//!
//! A batch is atomic, durable when [`Store::apply`] returns, and numbered; it is at the same time what one entry of
//! the replicated log will be. Reading is done on a snapshot, which blocks nobody. Deliberately absent: names,
//! order, plaintext and conflicts; those are the barrier's.

pub mod machine;
#[cfg(any(test, feature = "suite"))]
pub mod machine_suite;
mod memory;
mod memory_machine;
pub mod pieces;
mod spelled;
pub mod state;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use machine::Machine;
use machine::{Export, Install};
pub use memory::MemoryStore;
pub use memory_machine::MemoryMachine;
pub use watch::{Coming, Watcher, Watchers};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;

/// The number of a batch: the first is 1, and there is never a gap. 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An opaque key of at most [`KEY_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey(Arc<[u8]>);

impl RawKey {
    /// Takes the bytes; `None` when there are none or too many.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= KEY_BYTES_MAX).then(|| Self(bytes.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Changes that become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number: one more than the store's.
    pub version: Version,
    /// New values by key; `None` deletes.
    pub writes: BTreeMap<RawKey, Option<Vec<u8>>>,
    /// What its maker has to say to those who watch the stores that take it, opaque like everything here. It is kept with
    /// the entries of a log that nodes share, and nowhere else.
    pub note: Vec<u8>,
    /// Whether a read that allows it may do without this batch, as its maker says. Only who made it knows: it is written
    /// down nowhere, so of a batch that comes from a disk or another node it is not known, and no read does without that.
    pub is_dispensable: bool,
}

impl Batch {
    /// A batch without a note, which no read does without.
    #[must_use]
    pub const fn new(version: Version, writes: BTreeMap<RawKey, Option<Vec<u8>>>) -> Self {
        Self { version, writes, note: Vec::new(), is_dispensable: false }
    }
}

/// A value, and the batch that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The batch.
    pub version: Version,
    /// The value.
    pub bytes: Vec<u8>,
}

/// The store as it was at one version.
pub trait Snapshot: Send + Sync {
    /// The version.
    fn version(&self) -> Version;

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails or is damaged.
    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError>;

    /// The batch that wrote a key's value; as [`Snapshot::read`] tells it, without the value.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    fn written(&self, key: &RawKey) -> Result<Option<Version>, StoreError> {
        Ok(self.read(key)?.map(|stored| stored.version))
    }
}

/// Whether a store can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Writable,
    /// It is read-only until there is more space: as soon as there is, it writes again by itself.
    LowSpace {
        /// What is free.
        free_bytes: u64,
        /// What must stay free.
        reserve_bytes: u64,
    },
    /// Its index cannot be written: it takes writes only until its memory is full, tries again by itself, and is as
    /// before when that works.
    Behind,
    /// Values are not what was written: those cannot be read before they are written or deleted, and all else is read and
    /// written.
    Impaired,
    /// A page of its index is not what was written: what lies there cannot be read, and nothing is written any more.
    Damaged,
    /// Its disk failed; it is read-only until it is opened again.
    Stopped,
    /// The server that keeps it does not answer: it is neither read nor written until it does.
    Unreachable,
    /// Another process has it now: this one neither reads nor writes it any more.
    Taken,
    /// Others share it, and do not agree with this process on who writes: it reads and writes nothing.
    Fenced,
}

/// What a store found when it looked through all that it holds, which it does now and then when there is nothing else to
/// do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many times it came to the end, since it was opened.
    pub passes: u64,
    /// How many pages the last of those compared.
    pub pages: u64,
    /// How long ago that was.
    pub ended_ago: Option<Duration>,
    /// What is damaged; whoever comes across it first tells.
    pub damage: Option<Damage>,
}

/// What of a store is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// In how many places more something is.
    pub others: usize,
}

impl Damage {
    /// The place for those who need not know where the store lies.
    #[must_use]
    pub fn place(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let others = if self.others > 0 { format!(", and {} places more", self.others) } else { String::new() };
        format!("`{name}` at offset {}{others}", self.offset)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is damaged: at offset {}: {}", self.file.display(), self.offset, self.what)?;
        if self.others > 0 { write!(f, "; and {} places more", self.others) } else { Ok(()) }
    }
}

/// What comes of a batch that others have to agree to.
pub type Agreement = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Completes when a server has said something.
pub type Word = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store. Calls block; callers run them where blocking is allowed.
pub trait Store: Send + Sync {
    /// The store as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Applies a batch: atomic, and durable when this returns. One caller at a time.
    ///
    /// # Errors
    /// After [`StoreError::Uncertain`] nobody knows whether the batch is there before the store is opened again, and the
    /// store shows it to nobody until then. After a refusal ([`StoreError::is_refusal`]), [`StoreError::VersionGap`] for a
    /// batch that is not the next one among them, it is not there. After any other error, the store says by its version
    /// whether it is.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// Proposes a batch where others have to agree to it, which keeps no thread waiting: it ends as [`Store::apply`] does.
    /// Where nobody else is asked the batch comes back, to be applied.
    ///
    /// # Errors
    /// The batch.
    fn propose(&self, batch: Batch) -> Result<Agreement, Batch> {
        Err(batch)
    }

    /// From now on, `watcher` is told of each change, whoever makes it, for as long as it lives.
    fn watch(&self, watcher: Weak<dyn Watcher>);

    /// How many times this store has waited for the disk to make something durable.
    fn syncs(&self) -> u64;

    /// Whether it can be written to.
    fn condition(&self) -> Condition {
        Condition::Writable
    }

    /// Where another process may have taken the store while this one stood still: completes when its server has said whose it is, or
    /// does not answer. Nothing where it said so lately, and where nobody can take it.
    fn vouched(&self) -> Option<Word> {
        None
    }

    /// Refuses what is in memory where it may be of before.
    ///
    /// # Errors
    /// [`StoreError`].
    fn trusted(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What became of looking through everything; nothing where there is no need.
    fn scrubbed(&self) -> Scrubbed {
        Scrubbed::default()
    }

    /// The process is about to end: whoever waits for a server that does not answer is told so soon.
    fn hurry(&self) {}

    /// Its state as it is now, to be kept elsewhere. It is read while writes go on.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails, or when it cannot be exported.
    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Err(unsupported("its state cannot be exported"))
    }

    /// Begins to take over a state that was exported, here or elsewhere. At its end everything is as it was there, under a
    /// version that is newer than all of both; snapshots from before stay as they are.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails, or when it cannot be replaced.
    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        Err(unsupported("its state cannot be replaced"))
    }
}

fn unsupported(what: &str) -> StoreError {
    StoreError::Io { name: "store".to_owned(), source: std::io::Error::new(std::io::ErrorKind::Unsupported, what) }
}

impl StoreError {
    /// Whether a batch was turned away before anything was done.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::VersionGap { .. }
                | Self::Elsewhere { .. }
                | Self::Stopped { .. }
                | Self::LowSpace { .. }
                | Self::Behind { .. }
                | Self::Unreachable { .. }
                | Self::Taken { .. }
        )
    }
}

/// Why a store cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is on the disk was changed by somebody else, or by a failing disk.
    #[error("store `{name}` is damaged: {what}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong, perhaps with an offset.
        what: String,
    },
    /// The disk is full.
    #[error("no space is left for store `{name}`")]
    NoSpace {
        /// The file.
        name: String,
    },
    /// There is so little space left that nothing more is written, before the disk is full in the middle of something.
    #[error(
        "store `{name}` is read-only: {free_bytes} bytes are free on its disk, and {reserve_bytes} are kept in reserve"
    )]
    LowSpace {
        /// The file.
        name: String,
        /// What is free.
        free_bytes: u64,
        /// What must stay free.
        reserve_bytes: u64,
    },
    /// The disk failed while a batch was made durable: whether it is there is known when the store is opened again.
    #[error("store `{name}` failed while it was written; what became of it is known when it is opened again")]
    Uncertain {
        /// The file.
        name: String,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The index could not take over what waits in memory, which is full. The store tries again by itself.
    #[error("store `{name}` takes no writes before its index can be written again: {why}")]
    Behind {
        /// The file.
        name: String,
        /// What failed last.
        why: String,
    },
    /// Its disk failed before; nothing is written until it is opened again.
    #[error("store `{name}` takes no writes until it is opened again: {why}")]
    Stopped {
        /// The file.
        name: String,
        /// What failed.
        why: String,
    },
    /// Another process has it open.
    #[error("store `{name}` is in use by another process")]
    Locked {
        /// The file.
        name: String,
    },
    /// A stream that is to become a store's state is damaged, cut off, or none.
    #[error("what is to become store `{name}` cannot be taken over: at byte {offset}: {what}")]
    Foreign {
        /// The store.
        name: String,
        /// Where in the stream.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The server that keeps it is not reached, or says no. Nothing was written.
    #[error("store `{name}` is not reached: {why}")]
    Unreachable {
        /// The store.
        name: String,
        /// What the server says, or why it says nothing.
        why: String,
    },
    /// Another process has opened it meanwhile, and has it to itself: this one neither reads nor writes it any more.
    #[error("store `{name}` was opened by another process meanwhile: this one neither reads nor writes it any more")]
    Taken {
        /// The store.
        name: String,
    },
    /// Another node of the cluster writes at the moment, or none does. Nothing was written.
    #[error("store `{name}` is written by another node")]
    Elsewhere {
        /// The store.
        name: String,
    },
    /// The batch is not the next one.
    #[error("batch {batch} does not follow version {store}")]
    VersionGap {
        /// The batch's number.
        batch: u64,
        /// The store's version.
        store: u64,
    },
    /// The disk failed.
    #[error("store `{name}` cannot be read or written")]
    Io {
        /// The file.
        name: String,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
}
