//! Values beside the index: what is damaged is refused by file and offset and found by the scrub, files of values are few,
//! go when nothing needs them, and stay while a snapshot does; a store from before there were any comes to have them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{DIRECTORY, SMALL};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::suite::key;
use tresor_storage::{Batch, Condition, Store, StoreError, Version};
use tresor_storage_file::{FileStore, Limits};

const KEYS: u64 = 300;
/// Everything goes to the index at once, and it keeps its name.
const LIMITS: Limits = Limits { generation_bytes: 1, generation_bytes_min: 1, rebuild_bytes_min: u64::MAX, ..SMALL };

fn name(at: u64) -> String {
    format!("{:x}", SeededEntropy::new(at).next())
}

/// Every second one is small enough to lie in the index.
fn value(at: u64) -> Vec<u8> {
    let length = if at.is_multiple_of(2) { 40 } else { 700 };
    (0..length).map(|byte: u64| (byte ^ at).to_le_bytes()[0]).collect()
}

fn open(doors: &TestDoors, limits: Limits) -> Result<FileStore, StoreError> {
    FileStore::open(&doors.doors, Path::new(DIRECTORY), limits)
}

fn fill(store: &FileStore, version: u64) {
    let writes = (0..KEYS).map(|at| (key(&name(at)), Some(value(at + version))));
    store.apply(Batch::new(Version(version), writes.collect())).unwrap();
}

fn is_filled(store: &FileStore, version: u64) -> bool {
    let snapshot = store.snapshot().unwrap();
    (0..KEYS).all(|at| snapshot.read(&key(&name(at))).unwrap().unwrap().bytes == value(at + version))
}

fn value_files(doors: &TestDoors) -> Vec<String> {
    let names = doors.disk.names(Path::new(DIRECTORY)).unwrap();
    names.into_iter().filter(|name| name.starts_with("values-")).collect()
}

/// The files of a store that is closed; one of them has all values that do not lie in the index.
fn files() -> (BTreeMap<PathBuf, Vec<u8>>, PathBuf) {
    let doors = TestDoors::new(1);
    let store = open(&doors, LIMITS).unwrap();
    fill(&store, 1);
    drop(store);
    let names = value_files(&doors);
    assert_eq!(names.len(), 1, "{names:?}");
    (doors.disk.dump(), Path::new(DIRECTORY).join(&names[0]))
}

fn with(files: &BTreeMap<PathBuf, Vec<u8>>, change: impl Fn(&Path, &mut Vec<u8>)) -> TestDoors {
    let doors = TestDoors::new(1);
    for (path, bytes) in files {
        let mut bytes = bytes.clone();
        change(path, &mut bytes);
        doors.disk.open(path, Open::New).unwrap().write_all_at(0, &bytes).unwrap();
    }
    doors
}

/// Lets the scrub go on with somebody who asks for health now and then, until a pass has ended.
fn scrub(doors: &TestDoors, store: &FileStore) -> Condition {
    let passes = store.scrubbed().passes;
    doors.clock.advance(Duration::from_secs(24 * 60 * 60));
    for _ in 0..200 {
        doors.clock.advance(Duration::from_secs(1));
        store.condition();
        if store.scrubbed().passes > passes {
            return store.condition();
        }
    }
    panic!("the scrub never ends: {:?}", store.scrubbed());
}

#[test]
fn a_bit_that_flips_in_a_value_is_refused_by_file_and_offset_and_the_scrub_finds_it() {
    let (files, values) = files();
    let length = files[&values].len();
    assert!(length > 100_000, "{length}");
    for at in (8..length).step_by(2999) {
        let flip = |path: &Path, bytes: &mut Vec<u8>| {
            if path == values {
                bytes[at] ^= 1 << (at % 8);
            }
        };
        let doors = with(&files, flip);
        let store = open(&doors, LIMITS).unwrap();
        let snapshot = store.snapshot().unwrap();
        let mut refused = Vec::new();
        for number in 0..KEYS {
            match snapshot.read(&key(&name(number))) {
                Ok(found) => assert_eq!(found.unwrap().bytes, value(number + 1), "byte {at}: key {number}"),
                Err(StoreError::Damaged { name, what }) => refused.push((name, what)),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        let [(file, what)] = refused.as_slice() else { panic!("byte {at}: {refused:?}") };
        let offset: usize =
            what.strip_prefix("at offset ").and_then(|rest| rest.split(':').next()).unwrap().parse().unwrap();
        assert!(Path::new(file) == values && offset <= at && at < offset + 700, "byte {at}: {file}: {what}");
        assert_eq!(store.condition(), Condition::Impaired);
        // All else goes on; what is written in its place, or deleted, is damaged no more.
        let damaged = (0..KEYS).map(|at| key(&name(at))).find(|key| snapshot.read(key).is_err()).unwrap();
        let other = if damaged == key(&name(1)) { 3 } else { 1 };
        store.apply(Batch::new(Version(2), [(key(&name(other)), Some(value(7)))].into())).unwrap();
        assert_eq!(store.condition(), Condition::Impaired);
        let instead = (at % 2 == 0).then(|| value(5));
        store.apply(Batch::new(Version(3), [(damaged.clone(), instead.clone())].into())).unwrap();
        assert_eq!((store.condition(), store.scrubbed().damage), (Condition::Writable, None), "byte {at}");
        assert_eq!(store.snapshot().unwrap().read(&damaged).unwrap().map(|stored| stored.bytes), instead);
        // Who looks at what was before is told as before, and nobody else is.
        assert!(matches!(snapshot.read(&damaged), Err(StoreError::Damaged { .. })));
        assert_eq!([(); 2].map(|()| scrub(&doors, &store))[1], Condition::Writable, "byte {at}");
        // Somebody else, who reads nothing.
        let doors = with(&files, flip);
        let store = open(&doors, LIMITS).unwrap();
        let conditions = [(); 2].map(|()| scrub(&doors, &store));
        assert_eq!(conditions[1], Condition::Impaired, "byte {at}");
        let damage = store.scrubbed().damage.unwrap();
        assert_eq!((&damage.file, damage.offset, damage.others), (&values, offset as u64, 0));
        let place = damage.place();
        assert!(place.starts_with("`values-") && place.ends_with(&format!("at offset {offset}")), "{place}");
    }
    let whole = with(&files, |_, _| ());
    let store = open(&whole, LIMITS).unwrap();
    assert_eq!([(); 2].map(|()| scrub(&whole, &store))[1], Condition::Writable);
    // However many there are, all of them are found in one pass.
    let many = with(&files, |path, bytes| {
        if path == values {
            (1000..length).step_by(9000).for_each(|at| bytes[at] ^= 1);
        }
    });
    let store = open(&many, LIMITS).unwrap();
    assert_eq!([(); 2].map(|()| scrub(&many, &store))[1], Condition::Impaired);
    assert_eq!(store.scrubbed().damage.unwrap().others + 1, (1000..length).step_by(9000).count());
}

#[test]
fn a_file_of_values_that_is_missing_cut_or_something_else_is_refused_by_name() {
    let (files, values) = files();
    let refusal = |doors: TestDoors| match open(&doors, LIMITS) {
        Err(StoreError::Damaged { name, what }) => {
            assert_eq!(Path::new(&name), values);
            what
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    };
    let doors = with(&files, |_, _| ());
    doors.disk.remove(&values).unwrap();
    assert!(refusal(doors).contains("missing"));
    for length in [0, 7, 8, 5000] {
        let cut = with(&files, |path, bytes| {
            if path == values {
                bytes.truncate(length)
            }
        });
        assert!(refusal(cut).contains(&format!("at offset {length}")));
    }
    assert!(
        refusal(with(&files, |path, bytes| if path == values {
            bytes[0] ^= 1
        }))
        .contains("at offset 0")
    );
    // An index that is missing takes nothing with it.
    let doors = with(&files, |_, _| ());
    let is_index = |name: &String| name.starts_with("index-");
    let index = doors.disk.names(Path::new(DIRECTORY)).unwrap().into_iter().find(is_index).unwrap();
    doors.disk.remove(&Path::new(DIRECTORY).join(index)).unwrap();
    assert!(matches!(open(&doors, LIMITS), Err(StoreError::Damaged { .. })));
    assert_eq!(value_files(&doors).len(), 1);
}

#[test]
fn files_of_values_are_few_however_often_the_store_is_opened_and_what_nothing_needs_goes() {
    let limits = Limits { rebuild_bytes_min: 1, ..LIMITS };
    let doors = TestDoors::new(1);
    let mut held = None;
    for version in 1..=200 {
        let store = open(&doors, limits).unwrap();
        fill(&store, version);
        assert!(is_filled(&store, version), "version {version}");
        let names = value_files(&doors);
        assert!(names.len() < 80, "version {version}: {names:?}");
        if version == 200 {
            held = Some(store.snapshot().unwrap());
        }
        drop(store);
        // A snapshot holds on to the store.
        if version < 200 {
            assert!(is_filled(&open(&doors, limits).unwrap(), version));
        }
    }
    let first = held.unwrap();
    drop(first);
    let store = open(&doors, limits).unwrap();
    let (snapshot, before) = (store.snapshot().unwrap(), value_files(&doors));
    let writes = (0..KEYS).map(|at| (key(&name(at)), None));
    store.apply(Batch::new(Version(201), writes.collect())).unwrap();
    for version in 202..=210 {
        store.apply(Batch::new(Version(version), [(key("x"), Some(vec![1; 300]))].into())).unwrap();
    }
    let after = value_files(&doors);
    assert!(before.iter().all(|name| !after.contains(name)), "{before:?}, {after:?}");
    // Out of files that have no name any more.
    assert!((0..KEYS).all(|at| snapshot.read(&key(&name(at))).unwrap().unwrap().bytes == value(at + 200)));
}

#[test]
fn what_a_process_that_ended_left_beside_the_index_is_removed_at_the_next_opening() {
    let doors = TestDoors::new(1);
    let store = open(&doors, LIMITS).unwrap();
    fill(&store, 1);
    drop(store);
    let stray = Path::new(DIRECTORY).join("values-000000ff.db");
    doors.disk.open(&stray, Open::New).unwrap().write_all_at(0, b"of no commit").unwrap();
    let store = open(&doors, LIMITS).unwrap();
    assert_eq!(value_files(&doors).len(), 1);
    fill(&store, 2);
    assert!(is_filled(&store, 2));
    // Its name is not used again: somebody may still hold the file.
    assert!(value_files(&doors).contains(&"values-00000100.db".to_owned()), "{:?}", value_files(&doors));
}

#[test]
fn a_store_from_before_values_lay_beside_is_read_as_it_is_and_comes_to_have_them_beside() {
    let doors = TestDoors::new(1);
    let store = open(&doors, Limits { beside_bytes: usize::MAX, ..LIMITS }).unwrap();
    fill(&store, 1);
    drop(store);
    assert!(value_files(&doors).is_empty());
    let store = open(&doors, Limits { rebuild_bytes_min: 1, ..LIMITS }).unwrap();
    assert!(is_filled(&store, 1));
    for version in 2..=40 {
        store.apply(Batch::new(Version(version), [(key("x"), Some(vec![7; 20_000]))].into())).unwrap();
    }
    assert!(is_filled(&store, 1));
    let files = doors.disk.dump();
    let large = value(3);
    let holds = |name: &String| {
        let bytes = &files[&Path::new(DIRECTORY).join(name)];
        bytes.windows(large.len()).any(|found| found == large)
    };
    assert!(value_files(&doors).iter().any(holds), "it was built anew, and what is not small lies beside it");
}
