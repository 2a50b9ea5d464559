//! What the tests of the log share: a small log on a simulated disk.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use tresor_env::Disk;
use tresor_env::doubles::MemoryDisk;
use tresor_log::{Log, LogError, Sizes};

pub const DIRECTORY: &str = "log";
/// So small that a few entries fill a segment.
pub const SMALL: Sizes = Sizes { first: 1024, max: 4096 };

pub type Seen = Vec<(u64, Vec<u8>)>;

pub fn open(disk: &Arc<MemoryDisk>) -> Result<(Log, Seen), LogError> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    let mut seen = Vec::new();
    let log = Log::open(&disk, Path::new(DIRECTORY), SMALL, &mut |index, body: &[u8]| {
        seen.push((index, body.to_vec()));
        Ok::<(), LogError>(())
    })?;
    Ok((log, seen))
}

/// Bytes that tell which entry they belong to.
pub fn body(index: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((index * 31 + at as u64) % 251).unwrap()).collect()
}

pub fn bodies(indices: RangeInclusive<u64>, size: usize) -> Seen {
    indices.map(|index| (index, body(index, size))).collect()
}
