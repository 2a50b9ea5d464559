//! A durable log of numbered entries: segmented, preallocated, checksummed, one write and one sync per append.
//!
//! It is what a write waits for, and its entry is at the same time the entry of the replicated log, so that nothing is
//! synced twice: entries may be appended before they are applied, a suffix can be truncated, a prefix purged, and a small
//! record (a vote) is kept beside them. At opening, a torn end, which only what was not synced can have, is cut off;
//! damage below what is known to be durable is refused by file and offset. Deliberately absent: what entries mean,
//! threads (who owns the log runs its [`upkeep`](Log::plan) where waiting is allowed), and encryption.

mod frame;
mod log;
mod recovery;
mod segment;
mod state;
mod upkeep;

use std::path::{Path, PathBuf};

pub use frame::BODY_BYTES_MAX;
pub use log::{Entry, Group, Log};
pub use recovery::Visit;
pub use state::RECORD_BYTES_MAX;
pub use upkeep::{Done, Plan};

/// How large segments are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The first one, so that an idle log is small; each further one is twice as large.
    pub first: u64,
    /// At most; it can be changed ([`Log::set_segment_bytes_max`]). A larger append still gets a segment that it fits into.
    pub max: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { first: 64 * 1024, max: 4 * 1024 * 1024 }
    }
}

/// Why the log cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What is on the disk was changed by somebody else, or by a failing disk.
    #[error("`{path}` is damaged at offset {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The disk failed before anything of this call could count.
    #[error("`{path}` cannot be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The disk failed while entries were written or synced. Whether they are there, opening again will tell; until then
    /// nothing is written any more.
    #[error("`{path}` failed while it was written: what became of it is known when it is opened again")]
    Uncertain {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// It failed before, and must be opened again.
    #[error("the log failed before and must be opened again")]
    Stopped,
    /// An entry does not follow the last one, or was asked for and is not there.
    #[error("entry {index} is not in the log, which holds {first} to {last}")]
    OutOfRange {
        /// The entry.
        index: u64,
        /// The first that is there.
        first: u64,
        /// The last that is there.
        last: u64,
    },
    /// An entry or record is larger than can be.
    #[error("{length} bytes are too many for one entry")]
    TooLarge {
        /// Its length.
        length: usize,
    },
}

impl LogError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: &str) -> Self {
        Self::Damaged { path: path.to_path_buf(), offset, what: what.to_owned() }
    }
}
