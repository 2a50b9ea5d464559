//! The durable store passes the suite, survives a crash at every step of the disk, and never misreads damage.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{MemoryDisk, SeededEntropy};
use tresor_storage::suite::key;
use tresor_storage::{Batch, Store, StoreError, Version};
use tresor_storage_file::{FILE_NAME, FileStore};

const DIRECTORY: &str = "data";

#[test]
fn the_file_store_passes_the_suite() {
    tresor_storage::suite::run(&mut || {
        let disk = MemoryDisk::new();
        let store: Arc<dyn Store> = Arc::new(FileStore::open(&disk, Path::new(DIRECTORY)).unwrap());
        store
    });
}

#[test]
fn one_batch_costs_a_fixed_small_number_of_syncs() {
    let disk = MemoryDisk::new();
    let store = FileStore::open(&disk, Path::new(DIRECTORY)).unwrap();
    store.apply(&workload(1)).unwrap();
    let before = store.syncs();
    for version in 2..=11 {
        store.apply(&workload(version)).unwrap();
    }
    assert_eq!(store.syncs() - before, 10);
}

#[test]
fn a_second_process_is_refused() {
    let disk = MemoryDisk::new();
    let first = FileStore::open(&disk, Path::new(DIRECTORY)).unwrap();
    assert!(matches!(FileStore::open(&disk, Path::new(DIRECTORY)), Err(StoreError::Locked { .. })));
    drop(first);
    FileStore::open(&disk, Path::new(DIRECTORY)).unwrap();
}

fn workload(version: u64) -> Batch {
    let writes = (0..6).map(|at| {
        let value = (version % 3 != at % 3).then(|| format!("{version}-{at}-").repeat(50).into_bytes());
        (key(&format!("k{at}")), value)
    });
    Batch { version: Version(version), writes: writes.collect() }
}

/// What the store holds after so many batches.
fn model(batches: u64) -> BTreeMap<String, Vec<u8>> {
    let mut model = BTreeMap::new();
    for version in 1..=batches {
        for (key, value) in workload(version).writes {
            let name = String::from_utf8(key.as_bytes().to_vec()).unwrap();
            match value {
                Some(value) => model.insert(name, value),
                None => model.remove(&name),
            };
        }
    }
    model
}

fn contents(store: &FileStore) -> (u64, BTreeMap<String, Vec<u8>>) {
    let snapshot = store.snapshot().unwrap();
    let found = (0..6).filter_map(|at| {
        let name = format!("k{at}");
        snapshot.read(&key(&name)).unwrap().map(|stored| (name, stored.bytes))
    });
    (snapshot.version().0, found.collect())
}

#[test]
fn pt_11_a_crash_at_every_step_loses_nothing_acknowledged_and_tears_nothing() {
    const BATCHES: u64 = 8;
    let mut step = 1;
    loop {
        let disk = MemoryDisk::new();
        disk.fail_from_step(Some(step));
        let mut acknowledged = 0;
        let finished = FileStore::open(&disk, Path::new(DIRECTORY)).is_ok_and(|store| {
            (1..=BATCHES).all(|version| {
                let applied = store.apply(&workload(version)).is_ok();
                acknowledged += u64::from(applied);
                applied
            })
        });
        for seed in 0..3 {
            let entropy = SeededEntropy::new(seed * 1000 + step);
            disk.crash(|length| match entropy.next() % 3 {
                0 => 0,
                1 => length,
                _ => usize::try_from(entropy.next()).unwrap_or(0) % (length + 1),
            });
            let store =
                FileStore::open(&disk, Path::new(DIRECTORY)).unwrap_or_else(|error| panic!("step {step}: {error}"));
            let (version, found) = contents(&store);
            assert!(version >= acknowledged && version <= BATCHES, "step {step}: {version} of {acknowledged}");
            assert_eq!(found, model(version), "step {step}");
        }
        if finished {
            break;
        }
        step += 1;
    }
    assert!(step > 50, "the workload has only {step} steps");
}

#[test]
fn damage_is_refused_or_harmless_and_never_a_panic() {
    let disk = MemoryDisk::new();
    let store = FileStore::open(&disk, Path::new(DIRECTORY)).unwrap();
    for version in 1..=4 {
        store.apply(&workload(version)).unwrap();
    }
    drop(store);
    let path = Path::new(DIRECTORY).join(FILE_NAME);
    let whole = disk.dump()[&path].clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut opened = 0;
    for at in (0..whole.len()).step_by(257).chain(0..512) {
        let damaged = MemoryDisk::new();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        damaged.open(&path, Open::New).unwrap().write_all_at(0, &bytes).unwrap();
        let Ok(store) = FileStore::open(&damaged, Path::new(DIRECTORY)) else { continue };
        let Ok(snapshot) = store.snapshot() else { continue };
        opened += 1;
        for name in 0..6 {
            drop(snapshot.read(&key(&format!("k{name}"))));
        }
    }
    for length in [0, 1, 100, 4096, whole.len() / 2] {
        let damaged = MemoryDisk::new();
        damaged.open(&path, Open::New).unwrap().write_all_at(0, &whole[..length]).unwrap();
        drop(FileStore::open(&damaged, Path::new(DIRECTORY)));
    }
    std::panic::set_hook(hook);
    assert!(opened > 0, "not every flipped bit lies in what is used");
}

#[test]
fn an_empty_file_is_damage_and_not_a_new_store() {
    let disk = MemoryDisk::new();
    drop(FileStore::open(&disk, Path::new(DIRECTORY)).unwrap());
    let path = Path::new(DIRECTORY).join(FILE_NAME);
    disk.open(&path, Open::OrCreate).unwrap().set_length(0).unwrap();
    match FileStore::open(&disk, Path::new(DIRECTORY)) {
        Err(StoreError::Damaged { name, .. }) => assert_eq!(Path::new(&name), path),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("an emptied store was taken for a new one"),
    }
    assert!(disk.dump()[&path].is_empty(), "the evidence was written over");
}
