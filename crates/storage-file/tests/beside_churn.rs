//! What values beside the index take of the disk, whatever a store was before, however it is opened, and whatever fails:
//! within a bound of what is live, and nothing stays that nobody refers to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use common::{DIRECTORY, SMALL};
use tresor_env::disk::Disk;
use tresor_env::doubles::TestDoors;
use tresor_storage::suite::{exported, key, restore};
use tresor_storage::{Batch, Condition, Store, Version};
use tresor_storage_file::{FIRST_INDEX_NAME, FileStore, Limits, Sizes};

/// In proportion as a store is, only smaller.
const LIMITS: Limits = Limits {
    segments: Sizes { first: 4096, max: 64 * 1024 },
    generation_bytes: 64 * 1024,
    generation_bytes_min: 16 * 1024,
    rebuild_bytes_min: 64 * 1024,
    rebuild_step_bytes: 32 * 1024,
    beside_bytes: 128,
    reserve_bytes: 0,
    ..SMALL
};

fn open(doors: &TestDoors) -> FileStore {
    FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).unwrap()
}

fn value_files(doors: &TestDoors) -> Vec<String> {
    let names = doors.disk.names(Path::new(DIRECTORY)).unwrap();
    names.into_iter().filter(|name| name.starts_with("values-")).collect()
}

/// How much the files of values take.
fn beside(doors: &TestDoors) -> usize {
    let is_values = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("values-");
    doors.disk.dump().iter().filter(|(path, _)| is_values(path)).map(|(_, bytes)| bytes.len()).sum()
}

fn value(version: u64, length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte as u64 ^ version).to_le_bytes()[0]).collect()
}

/// Writes under so many keys, one after another, values of one length.
fn write(store: &FileStore, version: u64, keys: std::ops::Range<u64>, length: Option<usize>) {
    let writes: BTreeMap<_, _> =
        keys.map(|at| (key(&format!("key {at}")), length.map(|length| value(version + at, length)))).collect();
    store.apply(Batch::new(Version(version), writes)).unwrap();
}

/// Overwrites all keys in turn, so many times.
fn churn(doors: &TestDoors, store: &FileStore, from: u64, batches: u64) -> usize {
    let mut most = 0;
    for version in from..from + batches {
        let first = version % 50 * 8;
        write(store, version, first..first + 8, Some(1000));
        if version >= from + 50 {
            most = most.max(beside(doors));
        }
    }
    most
}

/// What is live when all keys are there.
const LIVE: usize = 400 * 1010;

#[test]
fn a_store_that_began_with_next_to_nothing_is_kept_in_shape_when_it_has_grown() {
    let small = open(&TestDoors::new(1));
    write(&small, 1, 0..1, Some(10));
    let state = exported(&small).unwrap();
    let doors = TestDoors::new(1);
    let store = open(&doors);
    restore(&store, state).unwrap();
    let from = store.snapshot().unwrap().version().0 + 1;
    let most = churn(&doors, &store, from, 600);
    assert!(most < LIVE * 5 / 2, "{most} beside {LIVE} live");
}

#[test]
fn a_store_that_is_opened_more_often_than_half_of_it_is_written_is_kept_in_shape() {
    let doors = TestDoors::new(1);
    let (mut version, mut most) = (1, 0);
    for _ in 0..60 {
        let store = open(&doors);
        for _ in 0..12 {
            let first = version % 50 * 8;
            write(&store, version, first..first + 8, Some(1000));
            version += 1;
        }
        most = most.max(beside(&doors));
    }
    assert!(most < LIVE * 5 / 2, "{most} beside {LIVE} live");
}

#[test]
fn what_is_deleted_at_once_leaves_the_disk_with_a_few_writes() {
    let doors = TestDoors::new(1);
    let store = open(&doors);
    for version in 1..=40 {
        write(&store, version, version * 2..version * 2 + 2, Some(50_000));
    }
    write(&store, 41, 10..100, None);
    for version in 42..=300 {
        write(&store, version, 1000..1001, Some(500));
    }
    let (found, live) = (beside(&doors), 8 * 50_000);
    assert!(found < live * 2, "{found} beside {live} live");
}

#[test]
fn files_of_a_small_store_are_few_however_often_it_is_opened() {
    let doors = TestDoors::new(1);
    let limits = Limits { generation_bytes: 1, generation_bytes_min: 1, rebuild_bytes_min: 4 << 20, ..LIMITS };
    for version in 1..=200 {
        let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), limits).unwrap();
        write(&store, version, 0..2, Some(200));
        drop(store);
        assert!(value_files(&doors).len() < 70, "opened {version} times: {:?}", value_files(&doors));
    }
}

#[test]
fn an_index_that_fails_for_long_leaves_no_pile_of_values() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let doors = TestDoors::new(1);
        let limits = Limits { rebuild_bytes_min: u64::MAX, ..SMALL };
        let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), limits).unwrap();
        (1..=20).for_each(|version| store.apply(common::workload(version)).unwrap());
        let before = value_files(&doors).len();
        doors.disk.fail_below(Path::new(DIRECTORY).join(FIRST_INDEX_NAME), kind);
        let last = (21..).find(|version| store.apply(common::workload(*version)).is_err()).unwrap() - 1;
        for _ in 0..50 {
            doors.clock.advance(Duration::from_secs(2));
            store.condition();
        }
        assert!(value_files(&doors).len() <= before + 3, "{:?}", value_files(&doors));
        doors.disk.heal();
        for at in 1..=10 {
            // Each time it fails once more, in the middle of a commit or before.
            doors.clock.advance(Duration::from_secs(2));
            doors.disk.fail_at_step(doors.disk.steps() + at, kind);
            store.condition();
        }
        doors.clock.advance(Duration::from_secs(2));
        assert_eq!(store.condition(), Condition::Writable);
        let after = value_files(&doors);
        for version in last + 1..=last + 20 {
            store.apply(common::workload(version)).unwrap();
        }
        assert_eq!(common::contents(&store).unwrap(), (last + 20, common::model(last + 20)));
        drop(store);
        let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), limits).unwrap();
        let found = value_files(&doors);
        assert!(after.iter().all(|name| found.contains(name)), "nothing referred to some: {after:?}, then {found:?}");
        assert_eq!(common::contents(&store).unwrap(), (last + 20, common::model(last + 20)));
    }
}

#[test]
fn a_state_that_gets_no_name_leaves_no_values() {
    let other = open(&TestDoors::new(1));
    write(&other, 1, 0..100, Some(1000));
    let state = exported(&other).unwrap();
    for step in 1.. {
        let doors = TestDoors::new(1);
        let store = open(&doors);
        write(&store, 1, 0..100, Some(500));
        let before = value_files(&doors);
        doors.disk.fail_at_step(doors.disk.steps() + step, ErrorKind::Other);
        let steps = doors.disk.steps();
        let done = restore(&store, state.clone());
        if doors.disk.steps() < steps + step {
            done.unwrap();
            break;
        }
        if done.is_err() && store.condition() == Condition::Writable {
            assert_eq!(value_files(&doors), before, "step {step}");
        }
    }
}
