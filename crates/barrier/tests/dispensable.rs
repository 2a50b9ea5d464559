//! Which batches a read may do without: those in which every transaction writes data that decides nothing, as whoever began it
//! said before, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tresor_barrier::{Area, Barrier, KeyPrefix, PointKey, SealedStore, StorageKey, Txn};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_model::ids::NamespaceId;
use tresor_storage::{Coming, MemoryStore, Snapshot, Store, Watcher};

/// What batches said, one after the other.
#[derive(Default)]
struct Seen(Mutex<Vec<bool>>);

impl Watcher for Seen {
    fn before(&self, coming: Coming<'_>, _: &dyn Fn() -> Box<dyn Snapshot>) {
        let Coming::Batch(batch) = coming else { panic!("nothing else comes") };
        self.0.lock().unwrap().push(batch.is_dispensable);
    }

    fn after(&self) {}
}

impl Seen {
    fn take(&self) -> Vec<bool> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn open() -> (Barrier, Arc<Seen>) {
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), TestDoors::new(1).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    let barrier = prepared.store(first).await.unwrap().1;
    let seen = Arc::new(Seen::default());
    let watcher: Arc<dyn Watcher> = seen.clone();
    store.watch(Arc::downgrade(&watcher));
    (barrier, seen)
}

fn below(rest: &str) -> KeyPrefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Logical, rest).unwrap()
}

fn key(area: Area, rest: &str) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), area, rest).unwrap()
}

fn point(area: Area, rest: &str) -> PointKey {
    PointKey::new(&NamespaceId::root(), area, rest).unwrap()
}

/// What the batch of one transaction says.
async fn said(write: impl FnOnce(&mut Txn)) -> bool {
    let (barrier, seen) = open().await;
    let mut txn = barrier.begin().unwrap();
    write(&mut txn);
    barrier.commit(txn).await.unwrap();
    let said = seen.take();
    assert_eq!(said.len(), 1);
    said[0]
}

#[tokio::test]
async fn only_what_lies_below_the_directory_is_dispensable_and_only_when_somebody_says_so() {
    let data = |txn: &mut Txn| {
        txn.write(&key(Area::Logical, "m/a/b"), b"1").unwrap();
        txn.write(&point(Area::Logical, "m/p"), b"1").unwrap();
        txn.enter(&key(Area::Logical, "m/names/n"));
    };
    assert!(
        said(|txn| {
            txn.writes_data_below(&below("m/"));
            data(txn);
        })
        .await
    );
    assert!(!said(data).await, "nobody says so");
    assert!(
        !said(|txn| {
            data(txn);
            txn.writes_data_below(&below("m/"));
        })
        .await
    );
    let others: [&dyn Fn(&mut Txn); 8] = [
        &|txn| txn.write(&key(Area::Logical, "mm/a"), b"1").unwrap(),
        &|txn| txn.write(&key(Area::Core, "m/a"), b"1").unwrap(),
        &|txn| txn.write(&point(Area::Tokens, "m/a"), b"1").unwrap(),
        &|txn| txn.delete(&point(Area::Tokens, "m/a")).unwrap(),
        &|txn| txn.enter(&key(Area::Leases, "ends/a")),
        &|txn| txn.count(&point(Area::Leases, "live"), "a", 1, &(0..=9)),
        &|txn| txn.count_listed(&key(Area::Leases, "paths/a"), 1),
        &|txn| txn.forget_tally(&point(Area::Leases, "live")),
    ];
    for (at, other) in others.iter().enumerate() {
        let said = said(|txn| {
            txn.writes_data_below(&below("m/"));
            data(txn);
            other(txn);
        })
        .await;
        assert!(!said, "other {at}");
    }
}

#[tokio::test]
async fn a_batch_is_as_indispensable_as_the_least_dispensable_transaction_in_it() {
    let (barrier, seen) = open().await;
    let begin = |rest: &str, is_data: bool| {
        let mut txn = barrier.begin().unwrap();
        if is_data {
            txn.writes_data_below(&below("m/"));
        }
        txn.write(&key(Area::Logical, rest), b"1").unwrap();
        txn
    };
    let together = [begin("m/a", true), begin("m/b", false), begin("m/c", true)];
    for committed in join_all(together.map(|txn| barrier.commit(txn))).await {
        committed.unwrap();
    }
    let said = seen.take();
    // The committer may have taken the first by itself.
    assert!(said.contains(&false) && said.len() < 3, "{said:?}");
    assert_eq!(said.last(), Some(&false), "{said:?}");
    // What does not stand is not in it.
    let (first, second) = (begin("m/a", true), {
        let mut txn = barrier.begin().unwrap();
        assert!(txn.read(&key(Area::Logical, "m/a")).unwrap().is_some());
        txn.write(&key(Area::Core, "x"), b"1").unwrap();
        txn
    });
    barrier.commit(first).await.unwrap();
    assert!(barrier.commit(second).await.is_err());
    assert_eq!(seen.take(), [true]);
}
