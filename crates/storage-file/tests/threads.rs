//! The store with its upkeep on a thread of its own, on real files: closing waits for it, and what it clears away does not
//! pile up while writers go on.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/blocks.rs"]
mod blocks;

use std::path::Path;

use blocks::{SMALL, batch, check};
use tresor_storage::Store;
use tresor_storage_file::{FileStore, LOG_DIRECTORY};

fn open(directory: &Path) -> FileStore {
    FileStore::open(&tresor_env_os::doors(), directory, SMALL).unwrap()
}

#[test]
fn a_store_can_be_opened_again_at_once_whatever_its_upkeep_was_doing() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut version = 0;
    for round in 0..40 {
        let store = open(folder.path());
        assert_eq!(check(&store), Ok(version));
        for _ in 0..round * 2 {
            version += 1;
            store.apply(batch(version)).unwrap();
        }
        drop(store);
    }
}

#[test]
fn segments_behind_the_index_do_not_pile_up_while_writers_go_on() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = open(folder.path());
    let log = folder.path().join(LOG_DIRECTORY);
    let bytes = || -> u64 {
        // Files come and go meanwhile.
        let files = std::fs::read_dir(&log).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
        files.map(|file| file.len()).sum()
    };
    let mut most = 0;
    for version in 1..=1500 {
        store.apply(batch(version)).unwrap();
        most = most.max(bytes());
    }
    // What waits for the index, the segment that it ends in and the one that it begins in, the next one, and as much
    // again that was purged a moment ago: of 10 MB that were written.
    let waiting = (u64::try_from(SMALL.frozen_max).unwrap() + 2) * SMALL.generation_bytes;
    let bound = 2 * (waiting + 3 * SMALL.segments.max);
    assert!(most < bound, "the log took {most} bytes, and {bound} are enough");
}
