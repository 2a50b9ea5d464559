//! A state that is exported is the state at one version while writes go on, and one that is taken over takes the place of
//! what was wholly or not at all, whatever fails and whenever the power goes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{DIRECTORY, SMALL, contents, model, open, workload};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::machine::{Applied, Change, Entry, Machine, Position};
use tresor_storage::suite::{exported, restore};
use tresor_storage::{Store, StoreError, Version};
use tresor_storage_file::{FileMachine, FileStore, Journal, Limits};

/// A log of whoever feeds the machine; it is told what may go.
#[derive(Default)]
struct Told(Mutex<u64>);

impl Journal for Told {
    fn tidy(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn fit_segments(&self, _bytes_max: u64) {}

    fn is_oversized(&self) -> bool {
        false
    }

    fn purge(&self, index: u64) -> Result<bool, StoreError> {
        *self.0.lock().unwrap() = index;
        Ok(true)
    }

    fn has_failed(&self) -> bool {
        false
    }
}

fn machine(doors: &TestDoors, limits: Limits) -> (FileMachine, Arc<Told>) {
    let told = Arc::new(Told::default());
    let opened = FileMachine::open(&doors.doors, Path::new(DIRECTORY), limits).unwrap();
    (opened.start(told.clone()).unwrap(), told)
}

#[test]
fn the_file_machine_passes_the_suite() {
    for limits in [Limits::default(), SMALL, Limits { generation_bytes: 1, generation_bytes_min: 1, ..SMALL }] {
        tresor_storage::machine_suite::run(&mut || Arc::new(machine(&TestDoors::new(1), limits).0));
    }
}

#[test]
fn a_machine_remembers_term_number_and_members_of_what_its_index_holds() {
    let doors = TestDoors::new(1);
    let mut entries = Vec::new();
    for index in 1..=120 {
        let change = match index % 10 {
            0 => Change::Membership(format!("members of {index}").into_bytes()),
            5 => Change::Nothing,
            _ => Change::Batch(Arc::new(workload(
                1 + entries.iter().filter(|entry: &&Entry| matches!(entry.change, Change::Batch(_))).count() as u64,
            ))),
        };
        entries.push(Entry { position: Position { term: index / 7, index }, change });
    }
    let (first, told) = machine(&doors, SMALL);
    let mut at = Vec::new();
    for entry in &entries {
        first.apply(entry).unwrap();
        at.push(first.applied());
    }
    let persisted = first.persisted();
    assert_eq!(*told.0.lock().unwrap(), persisted.index, "the log was told something else");
    assert!(persisted.index > 60 && persisted.index < 120, "{persisted:?}");
    drop(first);
    let (second, _) = machine(&doors, SMALL);
    let held: Applied = second.applied();
    assert_eq!(held, at[usize::try_from(persisted.index).unwrap() - 1]);
    assert!(!held.membership.is_empty());
    for entry in &entries[usize::try_from(held.position.index).unwrap()..] {
        second.apply(entry).unwrap();
    }
    assert_eq!(Some(&second.applied()), at.last());
}

/// What `state` holds as a store of its own shows it.
fn restored(state: Vec<Vec<u8>>) -> FileStore {
    let store = open(&TestDoors::new(1)).unwrap();
    restore(&store, state).unwrap();
    store
}

#[test]
fn a_state_is_that_of_one_version_wherever_its_values_lie_and_the_index_is_swapped_meanwhile() {
    let doors = TestDoors::new(1);
    let store = open(&doors).unwrap();
    let mut exports = Vec::new();
    for version in 1..=150 {
        store.apply(workload(version)).unwrap();
        if version % 13 == 0 {
            let mut export = store.export().unwrap();
            let first = export.next().unwrap().unwrap();
            exports.push((version, vec![first], export));
        }
        for (_, chunks, export) in &mut exports {
            chunks.extend(export.next().unwrap());
        }
    }
    for (version, mut chunks, mut export) in exports {
        chunks.extend(std::iter::from_fn(|| export.next().unwrap()));
        let found = contents(&restored(chunks)).unwrap();
        assert_eq!(found, (version + 1, model(version)));
    }
}

/// A state of 40 batches, and a store that has 30 others.
fn state() -> Vec<Vec<u8>> {
    let store = open(&TestDoors::new(1)).unwrap();
    (1..=40).for_each(|version| store.apply(workload(version)).unwrap());
    exported(&store).unwrap()
}

const BEFORE: u64 = 30;

fn before(doors: &TestDoors) -> FileStore {
    let store = open(doors).unwrap();
    (1..=BEFORE).for_each(|version| store.apply(workload(version)).unwrap());
    store
}

/// The store holds all of the one or all of the other, and goes on from there. Tells whether it was restored.
fn check(doors: &TestDoors, what: &str) -> bool {
    let store = open(doors).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = contents(&store).unwrap();
    let is_restored = found.0 == 41;
    assert_eq!(found.1, model(if is_restored { 40 } else { BEFORE }), "{what}: {}", found.0);
    assert!(is_restored || found.0 == BEFORE, "{what}: {}", found.0);
    let names = tresor_env::Disk::names(&*doors.disk, Path::new(DIRECTORY)).unwrap();
    assert!(!names.iter().any(|name| name.ends_with(".unfinished")), "{what}: {names:?}");
    for next in found.0 + 1..found.0 + 12 {
        store.apply(workload(next)).unwrap();
    }
    drop(store);
    let store = open(doors).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(contents(&store).unwrap(), (found.0 + 11, model(found.0 + 11)), "{what}");
    is_restored
}

#[test]
fn pt_11_power_that_goes_at_any_step_of_taking_over_a_state_leaves_the_one_or_the_other() {
    let state = state();
    let (mut step, mut old, mut new) = (1, 0, 0);
    loop {
        let mut is_over = false;
        for seed in 0..3 {
            let doors = TestDoors::new(1);
            let store = before(&doors);
            let first = doors.disk.steps();
            doors.disk.fail_from_step(Some(first + step));
            let done = restore(&store, state.clone());
            is_over = !doors.disk.is_failing();
            drop(store);
            let entropy = SeededEntropy::new(seed * 1000 + step);
            match seed {
                0 => doors.disk.crash(|_| 0),
                1 => doors.disk.crash_by_sector(|| entropy.next().is_multiple_of(2)),
                _ => {
                    doors.disk.fail_from_step(None);
                    doors.disk.kill_process();
                }
            }
            let is_restored = check(&doors, &format!("step {step}, seed {seed}"));
            assert!(is_restored || done.is_err(), "step {step}, seed {seed}: it was said to be done");
            old += u64::from(!is_restored);
            new += u64::from(is_restored);
        }
        if is_over {
            break;
        }
        step += 1;
    }
    println!("{step} steps: {old} as before, {new} restored");
    assert!(step > 30 && old > 30 && new >= 3, "{step} steps: {old} and {new}");
}

#[test]
fn a_disk_that_fails_once_while_a_state_is_taken_over_loses_neither_and_it_can_be_tried_again() {
    let state = state();
    let mut step = 1;
    loop {
        let kind = if step % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let doors = TestDoors::new(1);
        let store = before(&doors);
        let first = doors.disk.steps();
        doors.disk.fail_at_step(first + step, kind);
        let done = restore(&store, state.clone());
        if doors.disk.steps() < first + step {
            break;
        }
        if done.is_err() && store.condition() != tresor_storage::Condition::Stopped {
            assert_eq!(contents(&store).unwrap(), (BEFORE, model(BEFORE)), "{kind:?} at step {step}");
            restore(&store, state.clone()).unwrap_or_else(|error| panic!("{kind:?} at step {step}: {error}"));
            assert_eq!(contents(&store).unwrap(), (41, model(40)), "{kind:?} at step {step}");
        }
        drop(store);
        doors.disk.crash(|_| 0);
        check(&doors, &format!("{kind:?} at step {step}"));
        step += 1;
    }
    assert!(step > 30);
}

#[test]
fn a_state_that_is_damaged_or_cut_is_refused_by_its_place_and_changes_nothing() {
    let state = state();
    let doors = TestDoors::new(1);
    let store = before(&doors);
    let whole: usize = state.iter().map(Vec::len).sum();
    for (at, chunk) in state.iter().enumerate() {
        for place in [0, chunk.len() / 2, chunk.len() - 1] {
            let mut changed = state.clone();
            changed[at][place] ^= 1;
            match restore(&store, changed) {
                Err(StoreError::Foreign { name, offset, .. }) => {
                    assert_eq!(name, DIRECTORY);
                    assert!(usize::try_from(offset).unwrap() < whole);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(matches!(store.restore().unwrap().finish(), Err(StoreError::Foreign { .. })));
    // One at a time; the place is free again when it is given up.
    let held = store.restore().unwrap();
    assert!(store.restore().is_err());
    drop(held);
    assert_eq!(contents(&store).unwrap(), (BEFORE, model(BEFORE)));
    assert!(!check(&doors_after(doors, store), "refused"));
}

fn doors_after(doors: TestDoors, store: FileStore) -> TestDoors {
    drop(store);
    doors
}

#[test]
fn a_store_whose_log_is_gone_is_still_damage_after_a_state_was_taken_over() {
    let doors = TestDoors::new(1);
    let store = before(&doors);
    restore(&store, state()).unwrap();
    for version in 42..=90 {
        store.apply(workload(version)).unwrap();
    }
    assert_eq!(store.snapshot().unwrap().version(), Version(90));
    drop(store);
    let log = Path::new(DIRECTORY).join(tresor_storage_file::LOG_DIRECTORY);
    for name in tresor_env::Disk::names(&*doors.disk, &log).unwrap() {
        tresor_env::Disk::remove(&*doors.disk, &log.join(name)).unwrap();
    }
    assert!(matches!(open(&doors), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_install_that_fails_while_an_index_waits_that_was_built_leaves_neither_forgotten() {
    // The first step at which an index has its new name and could not take its place.
    let prepared = |step: u64| {
        let doors = TestDoors::new(1);
        let store = open(&doors).unwrap();
        doors.disk.fail_at_step(doors.disk.steps() + step, ErrorKind::Other);
        let mut version = 0;
        while version < 150 && store.apply(workload(version + 1)).is_ok() {
            version += 1;
            let names = tresor_env::Disk::names(&*doors.disk, Path::new(DIRECTORY)).unwrap();
            let whole = names.iter().filter(|name| name.starts_with("index-") && name.ends_with(".db")).count();
            if whole == 2 && store.condition() == tresor_storage::Condition::Behind {
                return Some((doors, store, version));
            }
        }
        None
    };
    let step = (1..4000).find(|step| prepared(*step).is_some()).unwrap();
    let state = state();
    let mut failed = 0;
    for at in 1.. {
        let (doors, store, before) = prepared(step).unwrap();
        let first = doors.disk.steps();
        doors.disk.fail_at_step(first + at, ErrorKind::Other);
        let done = restore(&store, state.clone());
        if doors.disk.steps() < first + at {
            break;
        }
        if done.is_err() && store.condition() != tresor_storage::Condition::Stopped {
            failed += 1;
            doors.clock.advance(std::time::Duration::from_secs(2));
            for version in before + 1..before + 60 {
                store.apply(workload(version)).unwrap_or_else(|error| panic!("step {at}: {error}"));
                doors.clock.advance(std::time::Duration::from_secs(2));
            }
            drop(store);
            doors.disk.crash(|_| 0);
            let store = open(&doors).unwrap_or_else(|error| panic!("step {at}: {error}"));
            assert_eq!(contents(&store).unwrap(), (before + 59, model(before + 59)), "step {at}");
        }
    }
    assert!(failed > 10, "{failed}");
}
