//! The durable store: a log that a write waits for, a memory table, and an index behind them that nobody waits for.
//!
//! [`FileMachine`] is what entries are applied to, and [`FileStore`] is one behind a log of its own: one append with one
//! sync, then an insertion into the memory table. When that is large enough it is frozen, and the index (redb on the disk
//! door) takes it over in one lazy commit, off the request path; then the log behind it is purged. A snapshot is the
//! memory table filtered by version, the frozen generations and a read transaction of the index: it costs two reference
//! counts and blocks nobody. Opening replays the log behind the index, which is bounded by the memory table, whatever the
//! size of the store. Deliberately absent: batching (the barrier's committer batches) and knowledge of what is stored.

mod backend;
mod beside;
mod export;
mod index;
mod install;
mod journal;
mod machine;
mod memory;
mod open;
mod pace;
mod pages;
mod rebuild;
mod record;
mod scrub;
mod shape;
mod space;
mod store;
mod takeover;
mod tend;
mod view;

pub use journal::{Journal, LogElsewhere};
pub use machine::FileMachine;
pub use open::Opened;
pub use store::FileStore;
pub use tresor_log::Sizes;
use tresor_storage::StoreError;

/// How much of what the store takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The log's segments.
    pub segments: Sizes,
    /// How large the memory table grows at most before the index takes it over; beside little live data less (`shape.rs`).
    pub generation_bytes: u64,
    /// How little that is at least.
    pub generation_bytes_min: u64,
    /// How many of those may wait for the index before writers wait.
    pub frozen_max: usize,
    /// A value of so many bytes lies beside the index, not in it.
    pub beside_bytes: usize,
    /// Memory that the index may use to cache pages.
    pub cache_bytes: usize,
    /// A smaller index is never built anew to free space.
    pub rebuild_bytes_min: u64,
    /// How much is copied in one go when it is.
    pub rebuild_step_bytes: usize,
    /// Below so many free bytes nothing is written any more.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segments: Sizes::default(),
            generation_bytes: 4 * 1024 * 1024,
            generation_bytes_min: 1024 * 1024,
            frozen_max: 3,
            beside_bytes: 128,
            cache_bytes: 8 * 1024 * 1024,
            rebuild_bytes_min: 4 * 1024 * 1024,
            rebuild_step_bytes: 2 * 1024 * 1024,
            reserve_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The directory of the log within that of the store.
pub const LOG_DIRECTORY: &str = "log";
/// The first generation of the index; later ones count on.
pub const FIRST_INDEX_NAME: &str = "index-00000001.db";
/// The file whose lock says that the directory is in use.
pub const LOCK_NAME: &str = "tresor.lock";

fn from_io(name: &str, source: std::io::Error) -> StoreError {
    let name = name.to_owned();
    match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { name },
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::NoSpace { name },
        _ => StoreError::Io { name, source },
    }
}
