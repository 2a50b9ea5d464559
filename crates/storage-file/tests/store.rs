//! The durable store passes the suite whatever its sizes, waits for the disk once a batch, keeps its disk bounded, and
//! is read-only before the disk is full.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{DIRECTORY, SMALL, contents, model, open, workload};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::TestDoors;
use tresor_storage::suite::{batch, key};
use tresor_storage::{Batch, Condition, Store, StoreError, Version};
use tresor_storage_file::{FIRST_INDEX_NAME, FileStore, LOG_DIRECTORY, Limits, Sizes};

#[test]
fn the_file_store_passes_the_suite() {
    for limits in [Limits::default(), SMALL, Limits { generation_bytes: 1, generation_bytes_min: 1, ..SMALL }] {
        tresor_storage::suite::run(&mut || {
            let store = FileStore::open(&TestDoors::new(1).doors, Path::new(DIRECTORY), limits).unwrap();
            let store: Arc<dyn Store> = Arc::new(store);
            store
        });
    }
}

#[test]
fn one_batch_costs_one_sync_and_nothing_else_is_waited_for() {
    let doors = TestDoors::new(1);
    let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), Limits::default()).unwrap();
    store.apply(workload(1)).unwrap();
    let (syncs, steps) = (store.syncs(), doors.disk.steps());
    for version in 2..=11 {
        store.apply(workload(version)).unwrap();
    }
    assert_eq!(store.syncs() - syncs, 10);
    assert_eq!(doors.disk.steps() - steps, 30, "a write, a sync and an unsynced mark each");
}

#[test]
fn a_second_process_is_refused() {
    let doors = TestDoors::new(1);
    let first = open(&doors).unwrap();
    assert!(matches!(open(&doors), Err(StoreError::Locked { .. })));
    drop(first);
    let second = open(&doors).unwrap();
    let held = second.snapshot().unwrap();
    drop(second);
    assert!(matches!(open(&doors), Err(StoreError::Locked { .. })), "a snapshot still reads the files");
    drop(held);
    open(&doors).unwrap();
}

#[test]
fn what_was_applied_is_there_after_opening_again_wherever_it_lies() {
    let doors = TestDoors::new(1);
    for version in 1..=60 {
        let store = open(&doors).unwrap();
        assert_eq!(contents(&store).unwrap(), (version - 1, model(version - 1)));
        store.apply(workload(version)).unwrap();
    }
    let store = open(&doors).unwrap();
    for version in 61..=200 {
        store.apply(workload(version)).unwrap();
    }
    drop(store);
    assert_eq!(contents(&open(&doors).unwrap()).unwrap(), (200, model(200)));
}

#[test]
fn opening_reads_a_bounded_part_of_the_log_whatever_came_before() {
    let log_bytes = |batches: u64| {
        let doors = TestDoors::new(1);
        let store = open(&doors).unwrap();
        for version in 1..=batches {
            store.apply(workload(version)).unwrap();
        }
        let log = Path::new(DIRECTORY).join(LOG_DIRECTORY);
        doors.disk.dump().iter().filter(|(path, _)| path.starts_with(&log)).map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    let bound = 8 * 8192;
    assert!(log_bytes(30) < bound && log_bytes(1500) < bound, "{} and {}", log_bytes(30), log_bytes(1500));
}

fn disk_bytes(doors: &TestDoors) -> usize {
    let files = doors.disk.dump();
    let occupied = files.keys().map(|path| doors.disk.open(path, Open::Existing).unwrap().occupied().unwrap());
    usize::try_from(occupied.sum::<u64>()).unwrap()
}

/// The usual limits, a thirty-second of their size: so is the floor below which the disk does not follow (16 MiB).
const SCALED: Limits = Limits {
    segments: Sizes { first: 4096, max: 128 * 1024 },
    generation_bytes: 128 * 1024,
    generation_bytes_min: 32 * 1024,
    rebuild_bytes_min: 128 * 1024,
    rebuild_step_bytes: 128 * 1024,
    ..SMALL
};
const SCALED_FLOOR: usize = 512 * 1024;

/// Writes and deletes values of about 1 KiB under keys that lie anywhere.
struct Churner {
    store: FileStore,
    version: u64,
}

impl Churner {
    fn name(at: u64) -> String {
        format!("{:x}-{at}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn value(seed: u64) -> Vec<u8> {
        vec![u8::try_from(seed % 251).unwrap(); 1000]
    }

    fn write(&mut self, writes: impl Iterator<Item = (u64, Option<Vec<u8>>)>) {
        self.version += 1;
        let writes = writes.map(|(at, value)| (key(&Self::name(at)), value)).collect();
        self.store.apply(Batch::new(Version(self.version), writes)).unwrap();
    }

    fn read(&self, at: u64) -> Option<Vec<u8>> {
        self.store.snapshot().unwrap().read(&key(&Self::name(at))).unwrap().map(|stored| stored.bytes)
    }
}

#[test]
fn the_disk_holds_at_most_twice_what_is_live_after_churn_and_after_deleting_nearly_all() {
    const KEYS: u64 = 10_000;
    let doors = TestDoors::new(1);
    let open = || FileStore::open(&doors.doors, Path::new(DIRECTORY), SCALED).unwrap();
    let mut churner = Churner { store: open(), version: 0 };
    // Ten times what is live.
    for round in 0..10 {
        for at in 0..KEYS / 10 {
            let keys = (0..10).map(|next| (at * 7 + next * 1009) % KEYS);
            churner.write(keys.map(|at| (at, Some(Churner::value(round + at)))));
        }
    }
    let live = (0..KEYS).filter(|at| churner.read(*at).is_some()).count() * 1020;
    assert!(live > 8 << 20, "{live}");
    assert!(disk_bytes(&doors) < 2 * live, "{} for {live} live bytes", disk_bytes(&doors));
    let before = churner.store.snapshot().unwrap();
    let seen = churner.read(10);
    for at in (0..KEYS).step_by(10).filter(|at| at % 200 != 0) {
        churner.write((at..at + 10).map(|at| (at, None)));
    }
    // A snapshot of before goes on seeing everything, out of files that have no name any more.
    assert_eq!(before.read(&key(&Churner::name(10))).unwrap().map(|stored| stored.bytes), seen);
    drop(before);
    let live = (0..KEYS).filter(|at| churner.read(*at).is_some()).count() * 1020;
    assert!(live > 200 * 1024 && live < SCALED_FLOOR, "{live}");
    // Nobody writes any more: nothing but the upkeep of what was written last has brought it there.
    let bound = (2 * live).max(SCALED_FLOOR);
    assert!(disk_bytes(&doors) <= bound, "{} for {live} live bytes", disk_bytes(&doors));
    let expected: Vec<_> = (0..KEYS).map(|at| churner.read(at)).collect();
    drop(churner);
    let churner = Churner { store: open(), version: 0 };
    assert!((0..KEYS).all(|at| churner.read(at) == expected[usize::try_from(at).unwrap()]));
}

#[test]
fn what_a_large_value_made_the_disk_take_is_given_back_when_it_is_deleted() {
    let doors = TestDoors::new(1);
    let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), SCALED).unwrap();
    store.apply(batch(1, &[("large", Some(&vec![7; 3 << 20])), ("small", Some(b"1"))])).unwrap();
    assert!(disk_bytes(&doors) > 3 << 20);
    store.apply(batch(2, &[("large", None)])).unwrap();
    // Whoever writes next finds the next segment ready; the one that the value needed goes.
    store.apply(batch(3, &[("small", Some(b"3"))])).unwrap();
    assert!(disk_bytes(&doors) <= SCALED_FLOOR, "{}", disk_bytes(&doors));
    assert_eq!(store.snapshot().unwrap().read(&key("small")).unwrap().unwrap().bytes, b"3");
}

#[test]
fn below_the_reserve_it_is_read_only_and_writes_again_by_itself() {
    let doors = TestDoors::new(1);
    let store = open(&doors).unwrap();
    store.apply(workload(1)).unwrap();
    assert_eq!(store.condition(), Condition::Writable);
    doors.disk.set_free_bytes(999);
    doors.clock.advance(Duration::from_secs(1));
    let steps = doors.disk.steps();
    match store.apply(workload(2)) {
        Err(StoreError::LowSpace { free_bytes: 999, reserve_bytes: 1000, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(doors.disk.steps(), steps, "nothing was written");
    assert_eq!(store.condition(), Condition::LowSpace { free_bytes: 999, reserve_bytes: 1000 });
    assert_eq!(contents(&store).unwrap(), (1, model(1)), "it can be read");
    doors.disk.set_free_bytes(1_000_000);
    doors.clock.advance(Duration::from_secs(1));
    assert_eq!(store.condition(), Condition::Writable);
    store.apply(workload(2)).unwrap();
    assert_eq!(contents(&store).unwrap(), (2, model(2)));
}

#[test]
fn an_idle_store_is_small() {
    let doors = TestDoors::new(1);
    let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), Limits::default()).unwrap();
    store.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    assert!(disk_bytes(&doors) < 2 * 1024 * 1024, "{}", disk_bytes(&doors));
}

#[test]
fn an_empty_or_missing_index_is_damage_and_not_a_new_store() {
    let doors = TestDoors::new(1);
    let store = open(&doors).unwrap();
    for version in 1..=60 {
        store.apply(workload(version)).unwrap();
    }
    drop(store);
    let index = doors.disk.names(Path::new(DIRECTORY)).unwrap().into_iter().find(|name| name.starts_with("index"));
    let path = Path::new(DIRECTORY).join(index.unwrap());
    doors.disk.open(&path, Open::OrCreate).unwrap().set_length(0).unwrap();
    match open(&doors) {
        Err(StoreError::Damaged { name, .. }) => assert_eq!(Path::new(&name), path),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("an emptied store was taken for a new one"),
    }
    assert!(doors.disk.dump()[&path].is_empty(), "the evidence was written over");
    doors.disk.remove(&path).unwrap();
    match open(&doors) {
        Err(StoreError::Damaged { name, .. }) => assert!(name.ends_with(FIRST_INDEX_NAME), "{name}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a store without its index was taken for a new one"),
    }
}
