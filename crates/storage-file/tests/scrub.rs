//! The scrub finds what is damaged before somebody needs it, and takes nothing for damaged that is not: neither what a
//! crash leaves where nothing refers to it, nor what is written while it goes on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{DIRECTORY, SMALL, contents, model, open, workload};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::suite::key;
use tresor_storage::{Batch, Condition, Store, StoreError, Version};
use tresor_storage_file::{FileStore, Limits};

const PAGE: usize = 4096;
const KEYS: u64 = 3000;

/// Everything goes to the index at once, values lie in it, and it keeps its name.
const LIMITS: Limits = Limits {
    generation_bytes: 1,
    generation_bytes_min: 1,
    rebuild_bytes_min: u64::MAX,
    beside_bytes: usize::MAX,
    ..SMALL
};

fn name(at: u64) -> String {
    format!("{:x}", SeededEntropy::new(at).next())
}

fn filled() -> (TestDoors, FileStore, PathBuf) {
    let doors = TestDoors::new(1);
    let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).unwrap();
    let writes = (0..KEYS).map(|at| (key(&name(at)), Some(vec![at.to_le_bytes()[0]; 600])));
    store.apply(Batch::new(Version(1), writes.collect())).unwrap();
    let index = doors.disk.names(Path::new(DIRECTORY)).unwrap().into_iter().find(|name| name.ends_with(".db"));
    let index = Path::new(DIRECTORY).join(index.unwrap());
    (doors, store, index)
}

/// Lets time pass, with somebody who asks for health now and then, until a pass has ended.
fn scrub(doors: &TestDoors, store: &FileStore) -> Condition {
    let passes = store.scrubbed().passes;
    doors.clock.advance(Duration::from_secs(24 * 60 * 60));
    for _ in 0..100 {
        doors.clock.advance(Duration::from_secs(1));
        store.condition();
        if store.scrubbed().passes > passes {
            return store.condition();
        }
    }
    panic!("the scrub never ends: {:?}", store.scrubbed());
}

fn flip(doors: &TestDoors, index: &Path, at: usize) {
    let file = doors.disk.open(index, Open::OrCreate).unwrap();
    let mut byte = [0];
    file.read_exact_at(at as u64, &mut byte).unwrap();
    file.write_all_at(at as u64, &[byte[0] ^ 16]).unwrap();
}

#[test]
fn what_is_damaged_is_told_by_file_and_offset_before_anybody_reads_it() {
    for is_met in [false, true] {
        let (doors, store, index) = filled();
        // The first pass began when there was nothing yet.
        assert_eq!([(); 2].map(|()| scrub(&doors, &store)), [Condition::Writable; 2]);
        assert!(store.scrubbed().pages > 400, "{:?}", store.scrubbed());
        let store = if is_met {
            store
        } else {
            drop(store);
            FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).unwrap()
        };
        let bytes = doors.disk.dump()[&index].clone();
        // Where a record lies; what was written on the way there may be elsewhere too.
        let wanted = name(KEYS / 2).into_bytes();
        let holds =
            |page: &usize| bytes[page * PAGE..(page + 1) * PAGE].windows(wanted.len()).any(|found| found == wanted);
        let places: Vec<usize> = (0..bytes.len() / PAGE).filter(holds).map(|page| page * PAGE).collect();
        places.iter().for_each(|at| flip(&doors, &index, at + 2000));
        // The pass that began when the store was opened may have been there before.
        assert_eq!([(); 2].map(|()| scrub(&doors, &store))[1], Condition::Damaged, "met before: {is_met}");
        let damage = store.scrubbed().damage.unwrap().to_string();
        let is_named = places.iter().any(|at| damage.contains(&format!("offset {at}:")));
        assert!(damage.contains(index.to_str().unwrap()) && is_named, "{damage}: {places:?}");
        let write = Batch::new(Version(2), [(key("more"), Some(vec![1]))].into());
        assert!(matches!(store.apply(write), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn whatever_readers_would_come_across_the_scrub_finds_and_nothing_else_stops_writers() {
    let (doors, store, index) = filled();
    drop(store);
    let files = doors.disk.dump();
    let entropy = SeededEntropy::new(5);
    let hook = std::panic::take_hook();
    // The engine panics at pages that it is refused, which is caught.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut found, mut unused) = (0, 0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..60 {
            let at = usize::try_from(entropy.next()).unwrap() % files[&index].len();
            let opened = || {
                let doors = TestDoors::new(1);
                for (path, bytes) in &files {
                    doors.disk.open(path, Open::New).unwrap().write_all_at(0, bytes).unwrap();
                }
                flip(&doors, &index, at);
                FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).ok().map(|store| (doors, store))
            };
            let (Some((doors, scrubbed)), Some((_, read))) = (opened(), opened()) else { continue };
            let condition = scrub(&doors, &scrubbed);
            let snapshot = read.snapshot().unwrap();
            let is_met = (0..KEYS).any(|at| snapshot.read(&key(&name(at))).is_err());
            assert!(condition == Condition::Damaged || !is_met, "byte {at}: {condition:?}");
            found += u32::from(is_met);
            unused += u32::from(condition == Condition::Writable);
        }
    }));
    std::panic::set_hook(hook);
    outcome.unwrap();
    println!("{found} found, {unused} in pages that nothing refers to");
    assert!(found > 10 && unused > 3, "{found} found, {unused} unused");
}

#[test]
fn what_a_power_cut_leaves_is_no_damage_and_writing_goes_on_during_a_pass() {
    for seed in 0..60 {
        let doors = TestDoors::new(seed);
        doors.disk.fail_from_step(Some(60 + seed * 11));
        if let Ok(store) = open(&doors) {
            let _ = (1..60).try_for_each(|version| store.apply(workload(version)));
        }
        let entropy = SeededEntropy::new(seed);
        doors.disk.crash_by_sector(|| entropy.next().is_multiple_of(2));
        let store = open(&doors).unwrap();
        assert_eq!(scrub(&doors, &store), Condition::Writable, "seed {seed}");
        let version = contents(&store).unwrap().0;
        for version in version + 1..=version + 30 {
            store.apply(workload(version)).unwrap();
            doors.clock.advance(Duration::from_secs(if version % 7 == 0 { 24 * 60 * 60 } else { 1 }));
            assert_eq!(store.condition(), Condition::Writable, "seed {seed}");
        }
        assert_eq!(scrub(&doors, &store), Condition::Writable, "seed {seed}");
        assert_eq!(contents(&store).unwrap(), (version + 30, model(version + 30)), "seed {seed}");
        assert_eq!(store.scrubbed().damage, None);
    }
}
