//! Reading through the cache gives what the store holds: at every snapshot, beside commits, after failures, and nothing
//! once the barrier is closed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tresor_barrier::{Area, Barrier, CommitError, SealedStore, StorageKey, Txn};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_model::ids::NamespaceId;
use tresor_storage::{Batch, MemoryStore, RawKey, Snapshot, Store, StoreError, Stored, Version};

const NAMES: u8 = 6;

/// A store that counts reads, and that fails when it is told to.
struct Watched {
    inner: MemoryStore,
    reads: Arc<AtomicU64>,
    failures: AtomicU64,
}

struct WatchedSnapshot(Box<dyn Snapshot>, Arc<AtomicU64>);

impl Snapshot for WatchedSnapshot {
    fn version(&self) -> Version {
        self.0.version()
    }

    fn read(&self, key: &RawKey) -> Result<Option<Stored>, StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.read(key)
    }
}

impl Store for Watched {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(WatchedSnapshot(self.inner.snapshot()?, Arc::clone(&self.reads))))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(StoreError::NoSpace { name: "watched".to_owned() });
        }
        self.inner.apply(batch)
    }

    fn watch(&self, watcher: std::sync::Weak<dyn tresor_storage::Watcher>) {
        self.inner.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        self.inner.syncs()
    }
}

fn watched() -> (Arc<Watched>, Barrier) {
    let store = Arc::new(Watched { inner: MemoryStore::new(), reads: Arc::default(), failures: AtomicU64::default() });
    let sealed = SealedStore::open(store.clone(), TestDoors::new(7).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    (store, prepared.store(first).now_or_never().unwrap().unwrap().1)
}

fn key(name: u8) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Logical, &format!("d{}/n{name}", name % 2)).unwrap()
}

fn read(txn: &mut Txn, name: u8) -> Option<u8> {
    txn.read(&key(name)).unwrap().map(|bytes| bytes[0])
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Read(usize, u8),
    Contains(usize, u8),
    Write(u8, u8),
    Change(u8, u8),
    Delete(u8),
    Fail(u8),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Begin),
        (0..8_usize, 0..NAMES).prop_map(|(txn, name)| Step::Read(txn, name)),
        (0..8_usize, 0..NAMES).prop_map(|(txn, name)| Step::Read(txn, name)),
        (0..8_usize, 0..NAMES).prop_map(|(txn, name)| Step::Contains(txn, name)),
        (0..NAMES, any::<u8>()).prop_map(|(name, value)| Step::Write(name, value)),
        (0..NAMES, any::<u8>()).prop_map(|(name, value)| Step::Change(name, value)),
        (0..NAMES).prop_map(Step::Delete),
        (0..NAMES).prop_map(Step::Fail),
        (0..8_usize).prop_map(Step::End),
    ]
}

proptest! {
    #[test]
    fn every_snapshot_shows_what_was_stored_then(steps in proptest::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (store, barrier) = watched();
            let mut now: BTreeMap<u8, u8> = BTreeMap::new();
            let mut open: Vec<(Txn, BTreeMap<u8, u8>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Begin => open.push((barrier.begin().unwrap(), now.clone())),
                    Step::Read(at, name) => if let Some((txn, then)) = open.get_mut(at) {
                        prop_assert_eq!(read(txn, name), then.get(&name).copied());
                    },
                    Step::Contains(at, name) => if let Some((txn, then)) = open.get_mut(at) {
                        prop_assert_eq!(txn.contains(&key(name)).unwrap(), then.contains_key(&name));
                    },
                    Step::Write(name, value) | Step::Change(name, value) => {
                        let mut txn = barrier.begin().unwrap();
                        if let Step::Change(..) = step {
                            prop_assert_eq!(read(&mut txn, name), now.get(&name).copied());
                        }
                        txn.write(&key(name), &[value]).unwrap();
                        barrier.commit(txn).await.unwrap();
                        now.insert(name, value);
                    }
                    Step::Delete(name) => {
                        let mut txn = barrier.begin().unwrap();
                        prop_assert_eq!(read(&mut txn, name), now.remove(&name));
                        txn.delete(&key(name)).unwrap();
                        barrier.commit(txn).await.unwrap();
                    }
                    Step::Fail(name) => {
                        store.failures.store(1, Ordering::SeqCst);
                        let mut txn = barrier.begin().unwrap();
                        read(&mut txn, name);
                        txn.write(&key(name), &[0]).unwrap();
                        prop_assert!(matches!(barrier.commit(txn).await, Err(CommitError::Failed(_))));
                    }
                    Step::End(at) => if at < open.len() { drop(open.swap_remove(at)) },
                }
            }
            // What is listed comes by the same way.
            let mut txn = barrier.begin().unwrap();
            for directory in 0..2 {
                let prefix = tresor_barrier::KeyPrefix::new(
                    &NamespaceId::root(), Area::Logical, &format!("d{directory}/")).unwrap();
                let listed = txn.list(&prefix, None, 100).unwrap();
                let expected: Vec<String> =
                    now.keys().filter(|name| *name % 2 == directory).map(|name| format!("n{name}")).collect();
                prop_assert_eq!(listed, expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_a_writer_see_whole_commits_and_nothing_that_is_outdated() {
    const COMMITS: u64 = 400;
    let (_, barrier) = watched();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let write = |number: u64| {
        let mut txn = barrier.begin().unwrap();
        for name in 0..NAMES {
            txn.write(&key(name), &number.to_be_bytes()).unwrap();
        }
        barrier.commit(txn)
    };
    write(0).await.unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (barrier, acknowledged) = (barrier.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut last = 0;
                while last < COMMITS {
                    let at_least = acknowledged.load(Ordering::SeqCst);
                    let mut txn = barrier.begin().unwrap();
                    let mut seen = Vec::new();
                    for name in 0..NAMES {
                        let bytes = txn.read(&key(name)).unwrap().unwrap();
                        seen.push(u64::from_be_bytes(bytes[..].try_into().unwrap()));
                        tokio::task::yield_now().await;
                    }
                    assert!(seen.iter().all(|number| *number == seen[0]), "half a commit: {seen:?}");
                    assert!(seen[0] >= at_least, "{} was acknowledged, {} was read", at_least, seen[0]);
                    last = seen[0];
                }
            })
        })
        .collect();
    for number in 1..=COMMITS {
        write(number).await.unwrap();
        acknowledged.store(number, Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_read_is_not_read_from_the_store_again_until_it_changes() {
    let (store, barrier) = watched();
    let write = |value: u8| {
        let mut txn = barrier.begin().unwrap();
        txn.write(&key(1), &[value]).unwrap();
        barrier.commit(txn)
    };
    write(1).await.unwrap();
    let reads = |value: Option<u8>, name: u8| {
        let before = store.reads.load(Ordering::SeqCst);
        assert_eq!(read(&mut barrier.begin().unwrap(), name), value);
        store.reads.load(Ordering::SeqCst) - before
    };
    assert_eq!((reads(Some(1), 1), reads(Some(1), 1)), (1, 0));
    assert_eq!((reads(None, 2), reads(None, 2)), (1, 0), "that nothing is there is known too");
    write(2).await.unwrap();
    assert_eq!((reads(Some(2), 1), reads(Some(2), 1), reads(None, 2)), (1, 0, 0));
}

#[tokio::test]
async fn what_was_read_and_changed_is_not_read_from_the_store_again() {
    let (store, barrier) = watched();
    let begin = |is_read: bool, value: u8| {
        let mut txn = barrier.begin().unwrap();
        if is_read {
            read(&mut txn, 1);
        }
        txn.write(&key(1), &[value]).unwrap();
        txn
    };
    let reads = |value: u8| {
        let before = store.reads.load(Ordering::SeqCst);
        assert_eq!(read(&mut barrier.begin().unwrap(), 1), Some(value));
        store.reads.load(Ordering::SeqCst) - before
    };
    for value in 1..4 {
        barrier.commit(begin(true, value)).await.unwrap();
        assert_eq!(reads(value), 0);
    }
    // In one batch, the last of them counts.
    for is_read in [true, false] {
        let (one, other) = (begin(is_read, 8), begin(false, 9));
        let (one, other) = tokio::join!(barrier.commit(one), barrier.commit(other));
        assert_eq!(one.unwrap().version, other.unwrap().version);
        assert_eq!(reads(9), 1);
    }
    store.failures.store(1, Ordering::SeqCst);
    assert!(barrier.commit(begin(true, 7)).await.is_err());
    // What was not committed is nowhere.
    reads(9);
}

#[tokio::test]
async fn a_conflict_is_seen_although_everything_was_read_from_memory() {
    let (_, barrier) = watched();
    for round in 0..3_u8 {
        let (mut one, mut other) = (barrier.begin().unwrap(), barrier.begin().unwrap());
        for txn in [&mut one, &mut other] {
            read(txn, 1);
            txn.write(&key(1), &[round]).unwrap();
        }
        barrier.commit(one).await.unwrap();
        assert!(matches!(barrier.commit(other).await, Err(CommitError::Conflict)));
    }
}

#[tokio::test]
async fn readers_of_the_same_version_share_a_snapshot_and_leave_none_behind() {
    let (store, barrier) = watched();
    let (one, other) = (barrier.begin().unwrap(), barrier.begin().unwrap());
    assert_eq!(Arc::strong_count(&store.reads), 2, "the store's own, and one snapshot's");
    drop((one, other));
    assert_eq!(Arc::strong_count(&store.reads), 1);
}
