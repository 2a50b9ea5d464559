//! Snapshot files: a store's state in a file that an operator keeps.
//!
//! ```text
//! magic (8) | header length (4) | header | chunk length (4) | chunk | ... | 0 (4) | digest (32) | seal (32)
//! header: id of the cluster | its name | when it was taken, in seconds (8); texts after their lengths (2)
//! ```
//!
//! Little-endian; chunks are those of `tresor_storage::state`, so values are sealed as they are stored. The digest is
//! SHA-256 over everything before it: whoever has the file can verify it. The seal is a keyed hash of the digest, under a
//! key that the cluster derives for it and that nobody has without its shares: so a cluster knows its own snapshots from
//! those of others, and from those that were changed by somebody who knows the format. Pure: files, sockets and keys are
//! the callers'. Deliberately absent: compression (sealed values have nothing to compress), and the audit log, which is
//! each node's own.

mod reading;
mod writing;

use tresor_env::Timestamp;
pub use tresor_storage::machine::Applied;
pub use tresor_storage::state::{Amount, Wrong};

pub use reading::{Part, Reader, Verified, Verifier};
pub use writing::Writer;

const MAGIC: [u8; 8] = *b"TRSNAP\0\x01";
/// The longest header.
const HEADER_BYTES_MAX: usize = 4096;
const DIGEST_BYTES: usize = 32;

/// What a snapshot says of itself before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which cluster it is of.
    pub cluster_id: String,
    /// What people call it.
    pub cluster_name: String,
    /// When it was taken.
    pub taken: Timestamp,
}
