//! A disk that fails or is full for a while: what the log took stays, writers wait or are refused, and when the disk works
//! again the store goes on by itself, without being opened again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use common::{DIRECTORY, SMALL, contents, model, open, workload};
use tresor_env::doubles::TestDoors;
use tresor_storage::{Condition, Store, StoreError};
use tresor_storage_file::{FIRST_INDEX_NAME, FileStore, Limits};

/// A store whose index keeps its name.
fn open_unrebuilt(doors: &TestDoors) -> FileStore {
    let limits = Limits { rebuild_bytes_min: u64::MAX, ..SMALL };
    FileStore::open(&doors.doors, Path::new(DIRECTORY), limits).unwrap()
}

/// Applies batches until one is refused; the last that was not.
fn fill(store: &FileStore, from: u64) -> (u64, StoreError) {
    for version in from..from + 100 {
        if let Err(error) = store.apply(workload(version)) {
            return (version - 1, error);
        }
    }
    panic!("nothing was refused");
}

#[test]
fn an_index_that_fails_for_a_while_is_made_up_for_by_memory_and_goes_on_without_a_restart() {
    for (kind, is_full) in [(ErrorKind::StorageFull, true), (ErrorKind::Other, false)] {
        let doors = TestDoors::new(1);
        let store = open_unrebuilt(&doors);
        for version in 1..=20 {
            store.apply(workload(version)).unwrap();
        }
        doors.disk.fail_below(Path::new(DIRECTORY).join(FIRST_INDEX_NAME), kind);
        let (last, refused) = fill(&store, 21);
        assert!(last > 22, "memory took nothing: {last}");
        match (&refused, store.condition()) {
            (StoreError::NoSpace { .. }, Condition::LowSpace { .. }) if is_full => {}
            (StoreError::Behind { .. }, Condition::Behind) if !is_full => {}
            other => panic!("{other:?}"),
        }
        // Another try, and it is the same; nothing is written of a batch that is refused.
        doors.clock.advance(Duration::from_secs(2));
        assert!(matches!(store.apply(workload(last + 1)), Err(StoreError::NoSpace { .. } | StoreError::Behind { .. })));
        assert_eq!(store.snapshot().unwrap().version().0, last);
        doors.disk.heal();
        assert!(store.apply(workload(last + 1)).is_err(), "it is not tried more than once a second");
        doors.clock.advance(Duration::from_secs(2));
        for version in last + 1..=last + 40 {
            store.apply(workload(version)).unwrap();
        }
        assert_eq!(store.condition(), Condition::Writable);
        assert_eq!(contents(&store).unwrap(), (last + 40, model(last + 40)));
        doors.disk.crash(|_| 0);
        drop(store);
        assert_eq!(contents(&open_unrebuilt(&doors)).unwrap(), (last + 40, model(last + 40)));
    }
}

#[test]
fn whoever_asks_or_reads_is_enough_for_it_to_go_on() {
    for asks in [true, false] {
        let doors = TestDoors::new(1);
        let store = open_unrebuilt(&doors);
        doors.disk.fail_below(Path::new(DIRECTORY).join(FIRST_INDEX_NAME), ErrorKind::Other);
        let (last, _) = fill(&store, 1);
        doors.disk.heal();
        doors.clock.advance(Duration::from_secs(2));
        if asks {
            assert_eq!(store.condition(), Condition::Writable);
        } else {
            assert_eq!(contents(&store).unwrap(), (last, model(last)));
        }
        let steps = doors.disk.steps();
        store.apply(workload(last + 1)).unwrap();
        assert_eq!(doors.disk.steps() - steps, 3, "nothing was left for the writer to do");
    }
}

/// Applies batches; one that is refused and not there is tried again, as a client would. How many became durable, and
/// whether the store stopped.
fn insist(store: &FileStore, doors: &TestDoors, until: u64) -> (u64, bool) {
    for version in store.snapshot().unwrap().version().0 + 1..=until {
        let mut tries = 0;
        while let Err(error) = store.apply(workload(version)) {
            if matches!(error, StoreError::Uncertain { .. } | StoreError::Stopped { .. }) {
                return (version - 1, true);
            }
            tries += 1;
            assert!(tries < 10, "{error}");
            doors.clock.advance(Duration::from_secs(2));
        }
        assert_eq!(store.snapshot().unwrap().version().0, version, "acknowledged and not shown");
    }
    (until, false)
}

#[test]
fn a_disk_that_fails_once_at_any_step_is_gone_on_with_or_stops_the_store_and_power_loss_changes_neither() {
    const BATCHES: u64 = 30;
    let (mut step, mut healed, mut stopped, mut unopened) = (1, 0, 0, 0);
    loop {
        let kind = if step % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let doors = TestDoors::new(1);
        doors.disk.fail_at_step(step, kind);
        let acknowledged = match open(&doors) {
            Ok(store) => {
                let (acknowledged, has_stopped) = insist(&store, &doors, BATCHES);
                let (version, found) = contents(&store).unwrap();
                assert_eq!((version, &found), (acknowledged, &model(acknowledged)), "{kind:?} at step {step}");
                healed += u64::from(!has_stopped);
                stopped += u64::from(has_stopped);
                acknowledged
            }
            Err(_) => {
                unopened += 1;
                0
            }
        };
        if doors.disk.steps() < step {
            break;
        }
        doors.disk.crash(|_| 0);
        let store = open(&doors).unwrap_or_else(|error| panic!("{kind:?} at step {step}: {error}"));
        let (version, found) = contents(&store).unwrap();
        assert!(version == acknowledged || version == acknowledged + 1, "{kind:?} at step {step}: {version}");
        assert_eq!(found, model(version), "{kind:?} at step {step}");
        step += 1;
    }
    println!("{step} steps: {healed} gone on with, {stopped} stopped, {unopened} not opened");
    assert!(step > 200 && healed > stopped, "{healed} of {step} were gone on with, {stopped} stopped");
}

/// What a sync could not make durable the kernel goes on showing, to the next process as well, until the power goes. What
/// that process has shown stays, of the log, the index and its sums, whatever it did meanwhile.
#[test]
fn a_disk_that_fails_once_is_not_believed_by_the_next_process() {
    const BATCHES: u64 = 14;
    let (mut step, mut is_over) = (1, false);
    while !is_over {
        for more in [0, 8] {
            let what = format!("step {step}, {more} more");
            let doors = TestDoors::new(1);
            doors.disk.fail_at_step(step, ErrorKind::Other);
            let acknowledged = open(&doors).map_or(0, |store| insist(&store, &doors, BATCHES).0);
            is_over = doors.disk.steps() < step;
            doors.disk.fail_at_step(u64::MAX, ErrorKind::Other);
            doors.disk.kill_process();
            let store = open(&doors).unwrap_or_else(|error| panic!("{what}: {error}"));
            let shown = contents(&store).unwrap().0;
            assert!(shown == acknowledged || shown == acknowledged + 1, "{what}: {shown} of {acknowledged}");
            for version in shown + 1..=shown + more {
                store.apply(workload(version)).unwrap();
            }
            doors.disk.crash(|_| 0);
            drop(store);
            let store = open(&doors).unwrap_or_else(|error| panic!("{what}, after power loss: {error}"));
            assert_eq!(contents(&store).unwrap(), (shown + more, model(shown + more)), "{what}");
        }
        step += 1;
    }
    assert!(step > 200);
}

#[test]
fn a_swap_of_indexes_that_fails_anywhere_is_made_up_for_and_never_stops_the_store() {
    // Where the building of the second index ends: its names are first seen then.
    let second = Path::new(DIRECTORY).join("index-00000002.db");
    let applied_before_swap = {
        let doors = TestDoors::new(1);
        let store = open(&doors).unwrap();
        let swapped = (1..200).find(|version| {
            store.apply(workload(*version)).unwrap();
            doors.disk.dump().contains_key(&second)
        });
        swapped.unwrap() - 1
    };
    let mut healed = 0;
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        // Every call of the batch in which it is swapped, the last ones among them.
        for later in 4.. {
            let doors = TestDoors::new(1);
            let store = open(&doors).unwrap();
            for version in 1..=applied_before_swap {
                store.apply(workload(version)).unwrap();
            }
            let step = doors.disk.steps() + later;
            doors.disk.fail_at_step(step, kind);
            let (last, has_stopped) = insist(&store, &doors, applied_before_swap + 1);
            if doors.disk.steps() < step {
                break;
            }
            // Only what the log itself could not write, or note of its purge, stops it.
            let has_stopped = has_stopped || store.condition() == Condition::Stopped;
            healed += u64::from(!has_stopped);
            if has_stopped {
                let refused = store.apply(workload(last + 1)).unwrap_err().to_string();
                assert!(refused.contains("log"), "{kind:?} at {later}: {refused}");
            } else {
                let (last, has_stopped) = insist(&store, &doors, last + 30);
                assert!(!has_stopped, "{kind:?} at {later}");
                assert_eq!(contents(&store).unwrap(), (last, model(last)), "{kind:?} at {later}");
            }
            let (version, found) = contents(&store).unwrap();
            doors.disk.crash(|_| 0);
            drop(store);
            let (again, found_again) = contents(&open(&doors).unwrap()).unwrap();
            assert!(again >= version, "{kind:?} at {later}: {again} of {version}");
            assert_eq!(found_again, model(again), "{kind:?} at {later}");
            assert_eq!(found, model(version), "{kind:?} at {later}");
        }
    }
    assert!(healed > 10, "{healed}");
}
