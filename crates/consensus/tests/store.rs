//! A node that is alone, as a store: the suite that every store passes, and what is left of it after a crash.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tresor_consensus::{Consensus, Contact, Nobody, NodeId, OpenError, Opening, Pace, RaftStore};
use tresor_env::Doors;
use tresor_env::doubles::TestDoors;
use tresor_log::Sizes;
use tresor_storage::suite::{batch, exported, key, restore};
use tresor_storage::{Condition, MemoryMachine, MemoryStore, Store, StoreError, pieces};

/// A node on a disk that is a double, with real time and threads.
fn open(runtime: &Runtime, world: &TestDoors, machine: &MemoryMachine) -> (Arc<Consensus>, RaftStore) {
    try_open(runtime, world, machine).unwrap()
}

fn try_open(
    runtime: &Runtime,
    world: &TestDoors,
    machine: &MemoryMachine,
) -> Result<(Arc<Consensus>, RaftStore), OpenError> {
    let real = tresor_env_os::doors();
    let doors =
        Doors { disk: world.disk.of_process(), clock: real.clock, workers: real.workers, ..world.doors.clone() };
    let opening = Opening {
        me: NodeId(1),
        directory: PathBuf::from("/data/log"),
        sizes: Sizes { first: 4096, max: 64 * 1024 },
        pace: Pace::default(),
        is_sealed: true,
        survivors: Vec::new(),
    };
    let node = runtime.block_on(async {
        let node = Consensus::open(&doors, opening, Arc::new(machine.clone()), Arc::new(Nobody)).await?;
        node.settled().await.unwrap();
        Ok::<_, OpenError>(Arc::new(node))
    })?;
    let store = RaftStore::new(Arc::clone(&node), Contact::default());
    Ok((node, store))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_node_that_is_alone_passes_the_suite_of_stores() {
    let runtime = runtime();
    let _known = runtime.enter();
    tresor_storage::suite::run(&mut || {
        let (_, store) = open(&runtime, &TestDoors::new(1), &MemoryMachine::new());
        Arc::new(store)
    });
}

#[test]
fn what_was_applied_is_there_after_a_loss_of_power_and_cost_a_sync_each() {
    let (runtime, world, machine) = (runtime(), TestDoors::new(2), MemoryMachine::new());
    let _known = runtime.enter();
    let (node, store) = open(&runtime, &world, &machine);
    // The first one also founds the cluster.
    store.apply(batch(1, &[("k", Some(&[7]))])).unwrap();
    let before = store.syncs();
    for version in 2..=20 {
        store.apply(batch(version, &[("k", Some(&[7]))])).unwrap();
    }
    assert_eq!(store.syncs() - before, 19);
    drop((node, store));
    world.disk.kill_process();
    world.disk.crash_by_sector(|| false);
    let (_, store) = open(&runtime, &world, &machine.reopened());
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.version().0, 20);
    assert_eq!(snapshot.read(&key("k")).unwrap().unwrap().bytes, [7]);
}

#[test]
fn a_node_whose_disk_fails_says_so_and_takes_nothing_more() {
    let (runtime, world, machine) = (runtime(), TestDoors::new(3), MemoryMachine::new());
    let _known = runtime.enter();
    let (_node, store) = open(&runtime, &world, &machine);
    store.apply(batch(1, &[("k", Some(b"1"))])).unwrap();
    world.disk.fail_from_step(Some(world.disk.steps()));
    let failed = store.apply(batch(2, &[("k", Some(b"2"))]));
    assert!(matches!(failed, Err(StoreError::Uncertain { .. })), "{failed:?}");
    let refused = store.apply(batch(2, &[("k", Some(b"2"))]));
    assert!(matches!(refused, Err(StoreError::Stopped { .. })), "{refused:?}");
    assert_eq!(store.condition(), Condition::Stopped);
    assert_eq!(store.snapshot().unwrap().version().0, 1);
}

#[test]
fn a_machine_and_a_log_that_do_not_fit_together_are_refused() {
    let (runtime, world, machine) = (runtime(), TestDoors::new(4), MemoryMachine::new());
    let _known = runtime.enter();
    let (node, store) = open(&runtime, &world, &machine);
    for version in 1..=40 {
        store.apply(batch(version, &[("k", Some(&[7; 3000]))])).unwrap();
        machine.persist();
    }
    // The log goes up to what the machine has.
    let waited = std::time::Instant::now();
    while world.disk.dump().contains_key(&PathBuf::from("/data/log/0000000000000001.segment")) {
        assert!(waited.elapsed().as_secs() < 20, "the log is not purged");
        store.apply(batch(store.snapshot().unwrap().version().0 + 1, &[("k", Some(&[7; 3000]))])).unwrap();
        machine.persist();
    }
    drop((node, store));
    world.disk.kill_process();
    let lost = try_open(&runtime, &world, &MemoryMachine::new());
    assert!(matches!(lost, Err(OpenError::Inconsistent(_))), "{:?}", lost.err());
    let elsewhere = try_open(&runtime, &TestDoors::new(5), &machine.reopened());
    assert!(matches!(elsewhere, Err(OpenError::Inconsistent(_))), "{:?}", elsewhere.err());
    drop(open(&runtime, &world, &machine.reopened()));
}

#[test]
fn a_state_that_was_taken_over_is_there_after_a_loss_of_power_and_what_was_before_is_not() {
    let (runtime, world, machine) = (runtime(), TestDoors::new(6), MemoryMachine::new());
    let _known = runtime.enter();
    let elsewhere = MemoryStore::new();
    elsewhere.apply(batch(1, &[("there", Some(b"1")), ("large", Some(&[7; 5_000_000]))])).unwrap();
    let state = exported(&elsewhere).unwrap();
    let (node, store) = open(&runtime, &world, &machine);
    for version in 1..=3 {
        store.apply(batch(version, &[("here", Some(b"1"))])).unwrap();
    }
    restore(&store, state.clone()).unwrap();
    let next = store.snapshot().unwrap().version().next();
    store.apply(batch(next.0, &[("then", Some(b"1"))])).unwrap();
    drop((node, store));
    world.disk.kill_process();
    world.disk.crash_by_sector(|| false);
    let (node, store) = open(&runtime, &world, &machine.reopened());
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.version(), next);
    let is_there = |name: &str| snapshot.read(&key(name)).unwrap().is_some();
    assert_eq!(["here", "there", "large", "then"].map(is_there), [false, true, true, true]);
    assert_eq!(pieces::count(&*snapshot).unwrap(), 0);
    drop((node, store));
    world.disk.kill_process();
}

#[test]
fn one_state_is_taken_in_at_a_time_and_what_broke_off_leaves_nothing_in_the_way() {
    let (runtime, world, machine) = (runtime(), TestDoors::new(7), MemoryMachine::new());
    let _known = runtime.enter();
    let elsewhere = MemoryStore::new();
    elsewhere.apply(batch(1, &[("there", Some(b"1"))])).unwrap();
    let state = exported(&elsewhere).unwrap();
    let (node, store) = open(&runtime, &world, &machine);
    store.apply(batch(1, &[("here", Some(b"1"))])).unwrap();
    let begun = store.restore().unwrap();
    let busy = |error: &StoreError| matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy);
    assert!(store.restore().err().as_ref().is_some_and(busy));
    drop(begun);
    // A process that ends in the middle.
    let begun = store.restore().unwrap();
    world.disk.kill_process();
    drop((begun, node, store));
    assert!(world.disk.dump().contains_key(&PathBuf::from("/data/log/restore.unfinished")));
    let (node, store) = open(&runtime, &world, &machine.reopened());
    restore(&store, state).unwrap();
    assert!(store.snapshot().unwrap().read(&key("there")).unwrap().is_some());
    drop((node, store));
    world.disk.kill_process();
}
