//! What the tests of the store share: a small store on a simulated disk, a history, and what it amounts to.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::path::Path;

use tresor_env::doubles::TestDoors;
use tresor_storage::suite::key;
use tresor_storage::{Batch, Store, StoreError, Version};
use tresor_storage_file::{FileStore, Limits, Sizes};

pub const DIRECTORY: &str = "data";
pub const KEYS: u64 = 6;
/// So small that a few batches fill segments and generations.
pub const SMALL: Limits = Limits {
    segments: Sizes { first: 1024, max: 8192 },
    generation_bytes: 3000,
    generation_bytes_min: 3000,
    frozen_max: 2,
    beside_bytes: 150,
    cache_bytes: 1024 * 1024,
    rebuild_bytes_min: 4096,
    rebuild_step_bytes: 1024,
    reserve_bytes: 1000,
};

pub fn open(doors: &TestDoors) -> Result<FileStore, StoreError> {
    FileStore::open(&doors.doors, Path::new(DIRECTORY), SMALL)
}

/// Values by key, each with the batch that wrote it.
pub type Values = BTreeMap<String, (u64, Vec<u8>)>;

/// The batch of a version: writes, overwrites and deletions.
pub fn workload(version: u64) -> Batch {
    let writes = (0..KEYS).map(|at| {
        let value = (version % 3 != at % 3).then(|| format!("{version}-{at}-").repeat(50).into_bytes());
        (key(&format!("k{at}")), value)
    });
    Batch::new(Version(version), writes.collect())
}

/// What the store holds after so many batches.
pub fn model(batches: u64) -> Values {
    let mut model = BTreeMap::new();
    for version in 1..=batches {
        for (key, value) in workload(version).writes {
            let name = String::from_utf8(key.as_bytes().to_vec()).unwrap();
            match value {
                Some(value) => model.insert(name, (version, value)),
                None => model.remove(&name),
            };
        }
    }
    model
}

pub fn contents(store: &FileStore) -> Result<(u64, Values), StoreError> {
    let snapshot = store.snapshot()?;
    let mut found = BTreeMap::new();
    for at in 0..KEYS {
        let name = format!("k{at}");
        if let Some(stored) = snapshot.read(&key(&name))? {
            found.insert(name, (stored.version.0, stored.bytes));
        }
    }
    Ok((snapshot.version().0, found))
}
