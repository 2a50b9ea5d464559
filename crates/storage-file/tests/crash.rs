//! A crash at every step of the disk, torn and reordered by sectors, and a disk that fails once at every step: nothing
//! acknowledged is lost, nothing is torn, and damage is never misread.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::ErrorKind;

use common::{contents, model, open, workload};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_storage::{Store, StoreError};

const BATCHES: u64 = 24;

/// Applies batches until one fails; how many were acknowledged.
fn live(doors: &TestDoors) -> u64 {
    let Ok(store) = open(doors) else { return 0 };
    (1..=BATCHES).take_while(|version| store.apply(workload(*version)).is_ok()).count() as u64
}

fn check(doors: &TestDoors, acknowledged: u64, what: &str) {
    let store = open(doors).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (version, found) = contents(&store).unwrap();
    assert!(version >= acknowledged && version <= acknowledged + 1, "{what}: {version} of {acknowledged}");
    assert_eq!(found, model(version), "{what}");
    // It goes on from there.
    for next in version + 1..version + 8 {
        store.apply(workload(next)).unwrap();
    }
    drop(store);
    let store = open(doors).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(contents(&store).unwrap(), (version + 7, model(version + 7)), "{what}");
}

#[test]
fn pt_11_a_crash_at_every_step_loses_nothing_acknowledged_and_tears_nothing() {
    let mut step = 1;
    loop {
        let mut is_over = false;
        for seed in [step % 2, 2 + step / 2 % 2] {
            let doors = TestDoors::new(1);
            doors.disk.fail_from_step(Some(step));
            let acknowledged = live(&doors);
            is_over = !doors.disk.is_failing();
            let entropy = SeededEntropy::new(seed * 1000 + step);
            match seed {
                0 => doors.disk.crash(|_| 0),
                1 => doors.disk.crash(|length| match entropy.next() % 3 {
                    0 => 0,
                    1 => length,
                    _ => usize::try_from(entropy.next()).unwrap_or(0) % (length + 1),
                }),
                2 => doors.disk.crash_by_sector(|| entropy.next().is_multiple_of(2)),
                _ => {
                    doors.disk.fail_from_step(None);
                    doors.disk.kill_process();
                }
            }
            check(&doors, acknowledged, &format!("step {step}, seed {seed}"));
        }
        if is_over {
            break;
        }
        step += 1;
    }
    assert!(step > 200, "the workload has only {step} steps");
}

#[test]
fn a_disk_that_fails_once_at_any_step_loses_nothing_acknowledged() {
    let mut step = 1;
    loop {
        let kind = if step % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let doors = TestDoors::new(1);
        doors.disk.fail_at_step(step, kind);
        let acknowledged = live(&doors);
        if doors.disk.steps() < step {
            break;
        }
        doors.disk.kill_process();
        check(&doors, acknowledged, &format!("{kind:?} at step {step}"));
        step += 1;
    }
    assert!(step > 200);
}

#[test]
fn after_a_failed_sync_the_store_stops_and_shows_nothing_of_the_batch_until_it_is_opened_again() {
    let doors = TestDoors::new(1);
    let store = open(&doors).unwrap();
    store.apply(workload(1)).unwrap();
    doors.disk.fail_at_step(doors.disk.steps() + 2, ErrorKind::Other);
    assert!(matches!(store.apply(workload(2)), Err(StoreError::Uncertain { .. })));
    assert!(matches!(store.apply(workload(2)), Err(StoreError::Stopped { .. })));
    assert_eq!(store.condition(), tresor_storage::Condition::Stopped);
    assert_eq!(contents(&store).unwrap(), (1, model(1)));
    drop(store);
    check(&doors, 1, "opened again");
}

#[test]
fn damage_is_refused_or_harmless_and_never_a_panic() {
    let doors = TestDoors::new(1);
    assert_eq!(live(&doors), BATCHES);
    let files = doors.disk.dump();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut whole, mut refused, mut lost) = (0, 0, 0);
    for (path, bytes) in &files {
        let cuts = (0..8).map(|eighth| (bytes.len() * eighth / 8, true));
        let flips = (0..bytes.len()).step_by(if bytes.len() > 100_000 { 1021 } else { 61 }).map(|at| (at, false));
        for (at, is_cut) in cuts.chain(flips).filter(|(at, _)| *at < bytes.len()) {
            let damaged = TestDoors::new(1);
            for (other, bytes) in &files {
                let mut bytes = bytes.clone();
                match (other == path, is_cut) {
                    (true, true) => bytes.truncate(at),
                    (true, false) => bytes[at] ^= 0x10,
                    (false, _) => {}
                }
                damaged.disk.open(other, Open::New).unwrap().write_all_at(0, &bytes).unwrap();
            }
            match open(&damaged).and_then(|store| contents(&store)) {
                Ok((version, found)) => {
                    assert_eq!(version, BATCHES, "{} at {at}", path.display());
                    let model = model(BATCHES);
                    for (name, value) in &found {
                        assert_eq!(Some(value), model.get(name), "{} at {at}", path.display());
                    }
                    lost += usize::from(found.len() < model.len());
                    whole += 1;
                }
                Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => refused += 1,
                Err(other) => panic!("{}: {other}", path.display()),
            }
        }
    }
    std::panic::set_hook(hook);
    assert!(whole > 0 && refused > 20, "{whole} whole, {refused} refused");
    assert_eq!(lost, 0, "a value is missing that was not reported");
}
