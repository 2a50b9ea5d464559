//! A store with tiny limits beside a model: whatever is written, held, exported, taken over, cut off or refused by the disk,
//! and however often it is opened, each value is the one that was written, and no file lies around that nothing refers to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use common::{DIRECTORY, SMALL};
use proptest::prelude::*;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::suite::{exported, key, restore};
use tresor_storage::{Batch, Condition, Snapshot, Store, StoreError, Version};
use tresor_storage_file::{FileStore, Limits, Sizes};

const KEYS: u8 = 24;
/// What lies on either side of the bound, nothing at all, and what is far larger than a file or a step.
const LENGTHS: [usize; 9] = [0, 1, 60, 127, 128, 129, 700, 5000, 40_000];
const LIMITS: Limits = Limits {
    segments: Sizes { first: 1024, max: 64 * 1024 },
    generation_bytes: 6000,
    generation_bytes_min: 1500,
    beside_bytes: 128,
    rebuild_bytes_min: 4096,
    rebuild_step_bytes: 900,
    ..SMALL
};

type Model = BTreeMap<u8, (u64, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Step {
    /// Keys, each with the length of its value by number, or none.
    Write(Vec<(u8, Option<usize>)>),
    /// The same keys again and again.
    Churn(u8, usize, u8),
    Hold,
    LetGo,
    Open,
    LosePower(u64),
    /// One step of the disk fails, so many from now.
    Fail(u64, bool),
    Install(Vec<(u8, usize)>),
    Export,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![30 => 0_usize..8, 1 => Just(8_usize)];
    let write = prop::collection::vec((0..KEYS, prop::option::weighted(0.8, length())), 1..8);
    let step = prop_oneof![
        12 => write.prop_map(Step::Write),
        3 => (0..KEYS, 4_usize..8, 4_u8..30).prop_map(|(first, length, times)| Step::Churn(first, length, times)),
        2 => Just(Step::Hold),
        1 => Just(Step::LetGo),
        1 => Just(Step::Open),
        2 => any::<u64>().prop_map(Step::LosePower),
        4 => (1_u64..60, any::<bool>()).prop_map(|(step, is_full)| Step::Fail(step, is_full)),
        1 => prop::collection::vec((0..KEYS, length()), 0..20).prop_map(Step::Install),
        1 => Just(Step::Export),
        2 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 10..60)
}

fn name(at: u8) -> String {
    format!("{at:02}")
}

fn value(version: u64, at: u8, length: usize) -> Vec<u8> {
    let seed = version * 31 + u64::from(at);
    (0..LENGTHS[length]).map(|byte| (byte as u64 ^ seed).to_le_bytes()[0]).collect()
}

fn batch(version: u64, writes: &[(u8, Option<usize>)]) -> Batch {
    let writes = writes.iter().map(|(at, length)| (key(&name(*at)), length.map(|length| value(version, *at, length))));
    Batch::new(Version(version), writes.collect())
}

fn learn(model: &mut Model, version: u64, writes: &[(u8, Option<usize>)]) {
    // A key that is there twice is what it is the last time.
    for (at, length) in writes.iter().copied().collect::<BTreeMap<_, _>>() {
        match length {
            Some(length) => model.insert(at, (version, value(version, at, length))),
            None => model.remove(&at),
        };
    }
}

fn open(doors: &TestDoors) -> FileStore {
    FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).unwrap_or_else(|error| panic!("{error}"))
}

/// The same on a disk that may fail once.
fn open_at_last(doors: &TestDoors) -> FileStore {
    match FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS) {
        Err(StoreError::Io { .. } | StoreError::NoSpace { .. }) => open(doors),
        opened => opened.unwrap_or_else(|error| panic!("{error}")),
    }
}

/// What a snapshot shows; an error where it was refused a value.
fn contents(snapshot: &dyn Snapshot) -> Result<Model, StoreError> {
    let mut found = Model::new();
    for at in 0..KEYS {
        if let Some(stored) = snapshot.read(&key(&name(at)))? {
            found.insert(at, (stored.version.0, stored.bytes));
        }
    }
    Ok(found)
}

struct Held {
    snapshot: Box<dyn Snapshot>,
    model: Model,
    /// The disk may have failed since, and then it is refused what it has not read.
    may_be_refused: bool,
}

impl Held {
    fn check(&self) {
        match contents(&*self.snapshot) {
            Ok(found) => assert_eq!(found, self.model),
            Err(StoreError::Io { .. } | StoreError::NoSpace { .. }) if self.may_be_refused => {}
            Err(error) => panic!("a snapshot is refused what it sees: {error}"),
        }
    }
}

struct Run {
    doors: TestDoors,
    store: Option<FileStore>,
    version: u64,
    model: Model,
    held: Vec<Held>,
}

impl Run {
    fn store(&self) -> &FileStore {
        self.store.as_ref().unwrap()
    }

    /// Lets go of the store and opens it again; a write of which the outcome is not known is there or not.
    fn open(&mut self, before: impl FnOnce(&TestDoors), in_doubt: Option<&[(u8, Option<usize>)]>) {
        self.held.drain(..).for_each(|held| held.check());
        self.store = None;
        before(&self.doors);
        let store = open_at_last(&self.doors);
        if let Some(writes) = in_doubt
            && store.snapshot().unwrap().version().0 > self.version
        {
            self.version += 1;
            learn(&mut self.model, self.version, writes);
        }
        self.store = Some(store);
        self.check();
    }

    fn check(&self) {
        let snapshot = self.store().snapshot().unwrap();
        assert_eq!(snapshot.version().0, self.version);
        assert_eq!(contents(&*snapshot).unwrap_or_else(|error| panic!("{error}")), self.model);
    }

    /// Writes; what is refused is tried again as a client would, and a store that has stopped is opened again.
    fn write(&mut self, writes: &[(u8, Option<usize>)]) {
        for _ in 0..6 {
            let done = self.store().apply(batch(self.version + 1, writes));
            match done {
                Ok(()) => {
                    self.version += 1;
                    learn(&mut self.model, self.version, writes);
                    return;
                }
                Err(StoreError::Uncertain { .. } | StoreError::Stopped { .. }) => {
                    let before = self.version;
                    self.open(|_| (), Some(writes));
                    if self.version > before {
                        return;
                    }
                }
                Err(StoreError::Damaged { name, what }) => panic!("{name}: {what}"),
                Err(_) => self.doors.clock.advance(Duration::from_secs(2)),
            }
        }
        panic!("it never goes on");
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(writes) => self.write(writes),
            Step::Churn(first, length, times) => {
                for time in 0..*times {
                    let at = (first + time % 4) % KEYS;
                    self.write(&[(at, Some(*length))]);
                }
            }
            Step::Hold if self.held.len() < 6 => {
                let (snapshot, model) = (self.store().snapshot().unwrap(), self.model.clone());
                self.held.push(Held { snapshot, model, may_be_refused: false });
            }
            Step::Hold => {}
            Step::LetGo => {
                if !self.held.is_empty() {
                    self.held.remove(0).check();
                }
            }
            Step::Open => self.open(|_| (), None),
            Step::LosePower(seed) => {
                let entropy = SeededEntropy::new(*seed);
                self.open(|doors| doors.disk.crash_by_sector(|| entropy.next().is_multiple_of(2)), None);
            }
            Step::Fail(after, is_full) => {
                let kind = if *is_full { ErrorKind::StorageFull } else { ErrorKind::Other };
                self.doors.disk.fail_at_step(self.doors.disk.steps() + after, kind);
                self.held.iter_mut().for_each(|held| held.may_be_refused = true);
            }
            Step::Install(writes) => self.install(writes),
            Step::Export => {
                let store = open(&TestDoors::new(1));
                restore(&store, exported(self.store()).unwrap()).unwrap();
                assert_eq!(contents(&*store.snapshot().unwrap()).unwrap(), self.model);
            }
            Step::Wait => {
                self.doors.clock.advance(Duration::from_secs(40_000));
                self.store().condition();
            }
        }
    }

    /// What failed may have been done before it did.
    fn adopt(&mut self, model: Model) {
        let version = self.store().snapshot().unwrap().version().0;
        if version != self.version {
            (self.version, self.model) = (version, model);
        }
    }

    fn install(&mut self, writes: &[(u8, usize)]) {
        let other = open(&TestDoors::new(1));
        let writes: Vec<_> = writes.iter().map(|(at, length)| (*at, Some(*length))).collect();
        other.apply(batch(1, &writes)).unwrap();
        let mut model = Model::new();
        learn(&mut model, 1, &writes);
        match restore(self.store(), exported(&other).unwrap()) {
            Ok(()) => (self.version, self.model) = (self.version.max(1) + 1, model),
            Err(_) if self.store().condition() == Condition::Stopped => {
                self.held.clear();
                self.store = None;
                self.store = Some(open_at_last(&self.doors));
                self.adopt(model);
            }
            Err(StoreError::Damaged { name, what }) => panic!("{name}: {what}"),
            Err(_) => self.adopt(model),
        }
    }
}

fn value_files(doors: &TestDoors) -> BTreeMap<String, usize> {
    let files = doors.disk.dump().into_iter();
    let named = files.map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes.len()));
    named.filter(|(name, _)| name.starts_with("values-")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_a_store_holds_equals_a_map_whatever_becomes_of_it(steps in steps()) {
        let doors = TestDoors::new(1);
        let store = Some(open(&doors));
        let mut run = Run { doors, store, version: 0, model: Model::new(), held: Vec::new() };
        for step in &steps {
            run.take(step);
            run.check();
        }
        // Power that goes shows what was not durable of what is in use.
        run.open(|doors| doors.disk.crash(|_| 0), None);
        run.doors.disk.fail_at_step(u64::MAX, ErrorKind::Other);
        for _ in 0..40 {
            run.write(&[(0, Some(6)), (1, Some(6)), (2, Some(6))]);
        }
        let live: usize = run.model.values().map(|(_, bytes)| bytes.len() + 2).sum();
        let files = value_files(&run.doors);
        prop_assert!(files.len() < 80, "{} files", files.len());
        let found: usize = files.values().sum();
        prop_assert!(found < live * 2 + 60_000, "{found} beside {live} live: {files:?}");
        // Nothing is there that an opening would remove.
        run.held.clear();
        run.store = None;
        let limits = Limits { rebuild_bytes_min: u64::MAX, ..LIMITS };
        run.store = Some(FileStore::open(&run.doors.doors, Path::new(DIRECTORY), limits).unwrap());
        run.check();
        let again = value_files(&run.doors);
        prop_assert!(files.keys().all(|name| again.contains_key(name)), "{files:?}, then {again:?}");
    }
}
