//! A history for tests on real files: every value follows from the batch that wrote it, so whoever knows how many batches
//! were applied knows all that must be there.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use tresor_env::doubles::SeededEntropy;
use tresor_storage::{Batch, RawKey, Store, Version};
use tresor_storage_file::{FileStore, Limits, Sizes};

/// Keys come in blocks; each batch writes one of them, in turn.
pub const BLOCKS: u64 = 64;
pub const BLOCK: u64 = 8;

/// So small that upkeep is always about something.
pub const SMALL: Limits = Limits {
    segments: Sizes { first: 16 * 1024, max: 256 * 1024 },
    generation_bytes: 128 * 1024,
    generation_bytes_min: 128 * 1024,
    frozen_max: 2,
    beside_bytes: 150,
    cache_bytes: 1024 * 1024,
    rebuild_bytes_min: 256 * 1024,
    rebuild_step_bytes: 64 * 1024,
    reserve_bytes: 0,
};

/// What a batch writes under a key: it follows from both.
pub fn value(version: u64, at: u64) -> Option<Vec<u8>> {
    let seed = SeededEntropy::new(version * 1_000_003 + at);
    let size = usize::try_from(seed.next() % 2000).unwrap();
    (!seed.next().is_multiple_of(5))
        .then(|| (0..size).map(|byte| byte.to_le_bytes()[0] ^ size.to_le_bytes()[0]).collect())
}

pub fn key(at: u64) -> RawKey {
    let seed = SeededEntropy::new(at);
    RawKey::new(&[1_u64, seed.next(), seed.next()].map(u64::to_be_bytes).concat()).unwrap()
}

pub fn batch(version: u64) -> Batch {
    let first = version % BLOCKS * BLOCK;
    let writes = (first..first + BLOCK).map(|at| (key(at), value(version, at))).collect();
    Batch::new(Version(version), writes)
}

/// What must be there after so many batches: the batch that wrote it and the value.
pub fn expected(version: u64, at: u64) -> Option<(u64, Vec<u8>)> {
    let behind = (version + BLOCKS - at / BLOCK) % BLOCKS;
    let written = version.checked_sub(behind).filter(|written| *written > 0)?;
    value(written, at).map(|bytes| (written, bytes))
}

/// Every value is that of the last batch that wrote its block.
pub fn check(store: &FileStore) -> Result<u64, String> {
    let snapshot = store.snapshot().map_err(|error| error.to_string())?;
    let version = snapshot.version().0;
    for at in 0..BLOCKS * BLOCK {
        let found = snapshot.read(&key(at)).map_err(|error| error.to_string())?;
        if found.map(|stored| (stored.version.0, stored.bytes)) != expected(version, at) {
            return Err(format!("key {at} is not what version {version} has"));
        }
    }
    Ok(version)
}
