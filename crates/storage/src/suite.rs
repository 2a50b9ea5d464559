//! The suite that every store passes: the model in memory, the durable one, and whatever comes after it.
//!
//! Each check gets a fresh, empty store. What a store must survive (crashes, damage) is tested where its disk is.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a failing check ends the test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{Batch, Coming, RawKey, Snapshot, Store, StoreError, Version, Watcher};

/// A key from a short name.
#[must_use]
pub fn key(name: &str) -> RawKey {
    RawKey::new(name.as_bytes()).unwrap()
}

/// A batch from names and values.
#[must_use]
pub fn batch(version: u64, writes: &[(&str, Option<&[u8]>)]) -> Batch {
    let writes = writes.iter().map(|(name, value)| (key(name), value.map(<[u8]>::to_vec))).collect();
    Batch::new(Version(version), writes)
}

/// Runs every check.
pub fn run(fresh: &mut dyn FnMut() -> Arc<dyn Store>) {
    values_come_back_with_the_version_that_wrote_them(&*fresh());
    a_batch_that_is_not_the_next_one_is_refused(&*fresh());
    a_snapshot_does_not_move(&*fresh());
    values_of_every_size_come_back(&*fresh());
    a_state_comes_back_in_any_store_and_is_newer_than_all_before(fresh);
    who_watches_is_told_before_anybody_sees_and_after(&*fresh());
    any_history_equals_the_model(fresh);
}

/// What somebody who watches is told, in order: before what, and at which version the store was then; after.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<(Option<Version>, Version)>>);

/// What stands in [`Told`] for an end.
pub const ENDED: (Option<Version>, Version) = (None, Version(u64::MAX));

impl Watcher for Told {
    fn before(&self, coming: Coming<'_>, now: &dyn Fn() -> Box<dyn Snapshot>) {
        let coming = match coming {
            Coming::Batch(batch) => Some(batch.version),
            Coming::State => None,
        };
        self.0.lock().unwrap().push((coming, now().version()));
    }

    fn after(&self) {
        self.0.lock().unwrap().push(ENDED);
    }
}

fn who_watches_is_told_before_anybody_sees_and_after(store: &dyn Store) {
    let told = Arc::new(Told::default());
    store.watch(Arc::<Told>::downgrade(&told));
    for version in 1..=2 {
        store.apply(batch(version, &[("a", Some(b"1"))])).unwrap();
    }
    let expected = vec![(Some(Version(1)), Version(0)), ENDED, (Some(Version(2)), Version(1)), ENDED];
    assert_eq!(*told.0.lock().unwrap(), expected);
    if let Ok(state) = exported(store) {
        restore(store, state).unwrap();
        // Where it comes in pieces, those are told before.
        let told = told.0.lock().unwrap();
        assert!(told.starts_with(&expected), "{told:?}");
        let is_of_state =
            |last: &[(Option<Version>, Version)]| matches!(last, [(None, before), ENDED] if before.0 >= 2);
        assert!(told.windows(2).next_back().is_some_and(is_of_state), "{told:?}");
    }
}

fn read(store: &dyn Store, name: &str) -> Option<(u64, Vec<u8>)> {
    store.snapshot().unwrap().read(&key(name)).unwrap().map(|stored| (stored.version.0, stored.bytes))
}

fn values_come_back_with_the_version_that_wrote_them(store: &dyn Store) {
    assert_eq!(store.snapshot().unwrap().version(), Version(0));
    store.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b""))])).unwrap();
    store.apply(batch(2, &[("a", Some(b"2")), ("c", None)])).unwrap();
    assert_eq!(read(store, "a"), Some((2, b"2".to_vec())));
    assert_eq!(read(store, "b"), Some((1, Vec::new())));
    assert_eq!(read(store, "c"), None);
    store.apply(batch(3, &[("a", None)])).unwrap();
    assert_eq!(read(store, "a"), None);
    assert_eq!(store.snapshot().unwrap().version(), Version(3));
}

fn a_batch_that_is_not_the_next_one_is_refused(store: &dyn Store) {
    store.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    for wrong in [0, 1, 3] {
        let refused = store.apply(batch(wrong, &[("a", Some(b"x"))]));
        assert!(matches!(refused, Err(StoreError::VersionGap { .. })), "{wrong}");
    }
    assert_eq!(read(store, "a"), Some((1, b"1".to_vec())));
}

fn a_snapshot_does_not_move(store: &dyn Store) {
    store.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b"1"))])).unwrap();
    let before = store.snapshot().unwrap();
    store.apply(batch(2, &[("a", Some(b"2")), ("b", None), ("c", Some(b"2"))])).unwrap();
    assert_eq!(before.version(), Version(1));
    assert_eq!(before.read(&key("a")).unwrap().unwrap().bytes, b"1");
    assert_eq!(before.read(&key("b")).unwrap().unwrap().bytes, b"1");
    assert_eq!(before.read(&key("c")).unwrap(), None);
}

/// Takes a state as chunks.
///
/// # Errors
/// What the store finds.
pub fn exported(store: &dyn Store) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut export = store.export()?;
    std::iter::from_fn(|| export.next().transpose()).collect()
}

/// Lets a store take over a state.
///
/// # Errors
/// What it finds wrong.
pub fn restore(store: &dyn Store, chunks: Vec<Vec<u8>>) -> Result<(), StoreError> {
    let mut install = store.restore()?;
    chunks.into_iter().try_for_each(|chunk| install.take(chunk))?;
    install.finish()
}

fn a_state_comes_back_in_any_store_and_is_newer_than_all_before(fresh: &mut dyn FnMut() -> Arc<dyn Store>) {
    let (old, busy) = (fresh(), fresh());
    old.apply(batch(1, &[("a", Some(b"1")), ("gone", Some(b"1"))])).unwrap();
    old.apply(batch(2, &[("b", Some(&[7; 3_000_000])), ("gone", None)])).unwrap();
    let mut export = old.export().unwrap();
    for version in 3..30 {
        old.apply(batch(version, &[("a", Some(&[5; 2000])), ("b", None), ("c", Some(b"later"))])).unwrap();
    }
    let state: Vec<Vec<u8>> = std::iter::from_fn(|| export.next().unwrap()).collect();
    for version in 1..=40 {
        busy.apply(batch(version, &[("a", Some(b"busy")), ("own", Some(&[6; 2000]))])).unwrap();
    }
    for (store, newest) in [(old, 29), (busy, 40)] {
        let before = store.snapshot().unwrap();
        let was = before.read(&key("a")).unwrap();
        restore(&*store, state.clone()).unwrap();
        let version = store.snapshot().unwrap().version().0;
        assert!(version > newest, "{version}");
        assert_eq!(read(&*store, "a"), Some((1, b"1".to_vec())));
        assert_eq!(read(&*store, "b"), Some((2, vec![7; 3_000_000])));
        for gone in ["gone", "c", "own"] {
            assert_eq!(read(&*store, gone), None, "{gone}");
        }
        assert_eq!(before.read(&key("a")).unwrap(), was, "a snapshot from before");
        store.apply(batch(version + 1, &[("a", Some(b"next"))])).unwrap();
        assert_eq!(read(&*store, "a"), Some((version + 1, b"next".to_vec())));
        let cut = state.get(..state.len() - 1).unwrap_or_default().to_vec();
        assert!(matches!(restore(&*store, cut), Err(StoreError::Foreign { .. })));
        assert_eq!(read(&*store, "a"), Some((version + 1, b"next".to_vec())), "what was refused changed something");
    }
}

fn values_of_every_size_come_back(store: &dyn Store) {
    for (version, size) in (1_u64..).zip([0_usize, 1, 255, 4096, 65_537, 3_000_000]) {
        let value: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        store.apply(batch(version, &[("large", Some(&value))])).unwrap();
        assert_eq!(read(store, "large"), Some((version, value)));
    }
}

fn any_history_equals_the_model(fresh: &mut dyn FnMut() -> Arc<dyn Store>) {
    let batches =
        prop::collection::vec(prop::collection::btree_map(0_u8..12, prop::option::of(0_u8..255), 1..6), 1..12);
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 16, ..Config::default() });
    let stores = std::cell::RefCell::new(fresh);
    runner
        .run(&batches, |history| {
            let store = (stores.borrow_mut())();
            let mut model: BTreeMap<RawKey, Option<(Version, Vec<u8>)>> = BTreeMap::new();
            let mut kept: Vec<(u64, _, Box<dyn Snapshot>)> = Vec::new();
            for (version, writes) in (1_u64..).zip(&history) {
                let writes = writes
                    .iter()
                    .map(|(name, value)| (key(&format!("k{name}")), value.map(|byte| vec![byte])))
                    .collect();
                let next = Batch::new(Version(version), writes);
                store.apply(next.clone()).unwrap();
                for (key, value) in next.writes {
                    model.insert(key, value.map(|bytes| (Version(version), bytes)));
                }
                for (version, old, snapshot) in &kept {
                    let snapshot: &dyn Snapshot = &**snapshot;
                    prop_assert_eq!(snapshot.version(), Version(*version));
                    for (key, expected) in old {
                        let found = snapshot.read(key).unwrap().map(|stored| (stored.version, stored.bytes));
                        prop_assert_eq!(&found, expected);
                    }
                }
                let snapshot = store.snapshot().unwrap();
                for (key, expected) in &model {
                    let found = snapshot.read(key).unwrap().map(|stored| (stored.version, stored.bytes));
                    prop_assert_eq!(&found, expected);
                    let written = snapshot.written(key).unwrap();
                    prop_assert_eq!(written, expected.as_ref().map(|(version, _)| *version));
                }
                kept.push((version, model.clone(), snapshot));
            }
            Ok(())
        })
        .unwrap();
}
