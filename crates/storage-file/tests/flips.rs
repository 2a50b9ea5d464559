//! Bits that flip in the index, in every kind of page: each is harmless, or whoever needs the page is refused by name and
//! offset. No record vanishes, none is another one, and a page that is damaged is no page that is written over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{DIRECTORY, SMALL};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::{Batch, Condition, RawKey, Snapshot, Store, StoreError, Version};
use tresor_storage_file::{FileStore, Limits};

const KEYS: u64 = 6000;
const PAGE: usize = 4096;
/// One page of sums lies before so many pages, and one page before all.
const GROUP: usize = 512;
/// Flips in each kind of page.
const FLIPS: usize = 60;

/// The index has its file to itself, and everything is in it: the memory table is always handed over at once.
const LIMITS: Limits = Limits { generation_bytes: 1, generation_bytes_min: 1, rebuild_bytes_min: u64::MAX, ..SMALL };

fn key(at: u64) -> RawKey {
    let seed = SeededEntropy::new(at);
    RawKey::new(&[seed.next(), seed.next(), seed.next()].map(u64::to_be_bytes).concat()).unwrap()
}

/// Mostly small; a few take pages of their own.
fn value(at: u64) -> Vec<u8> {
    let length = if at.is_multiple_of(500) { 9000 } else { 100 + at % 100 };
    (0..length).map(|byte| (byte ^ at).to_le_bytes()[0]).collect()
}

fn open(doors: &TestDoors) -> Result<FileStore, StoreError> {
    FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS)
}

fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let doors = TestDoors::new(1);
    let store = open(&doors).unwrap();
    // In one go, so that few pages are free ones that were in use before.
    let writes = (0..KEYS).map(|at| (key(at), Some(value(at)))).collect();
    store.apply(Batch::new(Version(1), writes)).unwrap();
    drop(store);
    doors.disk.dump()
}

/// What a page is, by its place and by what it begins with.
fn kind_of(number: usize, page: &[u8]) -> &'static str {
    match number.checked_sub(1).map(|number| number % (GROUP + 1)) {
        None => "superblock",
        Some(0) => "sums",
        Some(1) if number == 2 => "header of the engine",
        Some(_) if page.iter().all(|byte| *byte == 0) => "never written",
        Some(_) => match page[0] {
            1 => "leaf",
            2 => "branch",
            _ => "inside of a long page, or free",
        },
    }
}

/// What became of a flip.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Class {
    Harmless,
    RefusedAtOpening,
    RefusedAtReading,
}

/// Reads everything that is there and some that never was: right or refused.
fn read_all(snapshot: &dyn Snapshot, what: &str) -> usize {
    let mut refused = 0;
    for at in 0..KEYS + 200 {
        match snapshot.read(&key(at)) {
            Ok(found) => {
                let expected = (at < KEYS).then(|| value(at));
                assert_eq!(found.map(|stored| stored.bytes), expected, "{what}: key {at}");
            }
            Err(StoreError::Damaged { name, what: why }) => {
                assert!(name.ends_with(".db") && why.contains("offset"), "{what}: {name}: {why}");
                refused += 1;
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }
    refused
}

fn flip(files: &BTreeMap<PathBuf, Vec<u8>>, index: &Path, at: usize, bit: u8) -> Class {
    let what = format!("byte {at}, bit {bit}");
    let doors = TestDoors::new(1);
    for (path, bytes) in files {
        let mut bytes = bytes.clone();
        if path == index {
            bytes[at] ^= 1 << bit;
        }
        doors.disk.open(path, Open::New).unwrap().write_all_at(0, &bytes).unwrap();
    }
    let store = match open(&doors) {
        Ok(store) => store,
        Err(StoreError::Damaged { .. }) => return Class::RefusedAtOpening,
        Err(other) => panic!("{what}: {other}"),
    };
    let refused = read_all(&*store.snapshot().unwrap(), &what);
    let version = store.snapshot().unwrap().version();
    let write = Batch::new(version.next(), [(key(KEYS + 1000), Some(vec![1]))].into());
    if refused == 0 {
        // What nobody reads may still be in the way of a write, which then says so.
        let applied = store.apply(write);
        let is_right = match &applied {
            Ok(()) | Err(StoreError::Damaged { .. }) => true,
            // Of a panic that got past the fence around the engine.
            Err(StoreError::Stopped { why, .. }) => !why.contains("panicked"),
            Err(_) => false,
        };
        assert!(is_right, "{what}: {applied:?}");
        read_all(&*store.snapshot().unwrap(), &what);
        return Class::Harmless;
    }
    assert!(matches!(store.apply(write), Err(StoreError::Damaged { .. })), "{what}: it is written to");
    assert_eq!(store.condition(), Condition::Damaged, "{what}");
    Class::RefusedAtReading
}

#[test]
fn a_flipped_bit_in_any_kind_of_page_hides_no_record() {
    let files = files();
    let index = files.keys().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap().clone();
    let mut pages: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, page) in files[&index].chunks(PAGE).enumerate() {
        pages.entry(kind_of(number, page)).or_default().push(number);
    }
    let hook = std::panic::take_hook();
    // The engine panics at pages that it is refused, which is caught.
    std::panic::set_hook(Box::new(|_| {}));
    let entropy = SeededEntropy::new(11);
    let below = |limit: usize| usize::try_from(entropy.next()).unwrap_or(0) % limit;
    let mut classes: BTreeMap<&str, BTreeMap<Class, usize>> = BTreeMap::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for (kind, numbers) in &pages {
            for _ in 0..FLIPS {
                let number = numbers[below(numbers.len())];
                // Of the header only the beginning is used.
                let within = below(if number == 2 { 320 } else { PAGE });
                let class = flip(&files, &index, number * PAGE + within, below(8).to_le_bytes()[0]);
                *classes.entry(kind).or_default().entry(class).or_default() += 1;
            }
        }
    }));
    std::panic::set_hook(hook);
    if let Err(problem) = outcome {
        let what = problem.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("{what}\nso far: {classes:?}");
    }
    for (kind, classes) in &classes {
        println!("{kind} ({} pages): {classes:?}", pages[kind].len());
    }
    for kind in ["leaf", "branch"] {
        let refused = classes[kind].iter().filter(|(class, _)| **class != Class::Harmless).map(|(_, count)| count);
        assert!(refused.sum::<usize>() * 2 > FLIPS, "flips in pages of kind {kind} were hardly met: {classes:?}");
    }
}
