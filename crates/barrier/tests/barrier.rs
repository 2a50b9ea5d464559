//! The barrier from outside: transactions, conflicts, listings, group commit, sealing, shares, secrecy.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use futures_util::FutureExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tresor_barrier::{
    Area, Barrier, BarrierError, CommitError, InitError, KeyError, KeyPrefix, Progress, SealedStore, ShareCollector,
    ShareError, StorageKey, Txn,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::doubles::TestDoors;
use tresor_env::{Doors, Timestamp};
use tresor_model::ids::NamespaceId;
use tresor_secret::UnsealShare;
use tresor_storage::{Batch, MemoryStore, RawKey, Store, Version};
use tresor_storage_file::{FileStore, Limits};

fn key(name: &str) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Logical, name).unwrap()
}

fn prefix(name: &str) -> KeyPrefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Logical, name).unwrap()
}

fn open(store: Arc<dyn Store>, doors: &Doors) -> Barrier {
    let sealed = SealedStore::open(store, doors.clone()).unwrap();
    initialize(&sealed, Threshold::new(1, 1).unwrap()).unwrap().1
}

fn initialize(sealed: &SealedStore, threshold: Threshold) -> Result<(Vec<UnsealShare>, Barrier), InitError> {
    let prepared = sealed.prepare(threshold, None, Timestamp::EPOCH)?;
    let first = prepared.barrier().begin().unwrap();
    prepared.store(first).now_or_never().unwrap()
}

fn memory() -> (Arc<MemoryStore>, Barrier) {
    let store = Arc::new(MemoryStore::new());
    let barrier = open(store.clone(), &TestDoors::new(1).doors);
    (store, barrier)
}

async fn put(barrier: &Barrier, name: &str, value: &[u8]) {
    let mut txn = barrier.begin().unwrap();
    txn.write(&key(name), value).unwrap();
    barrier.commit(txn).await.unwrap();
}

fn names(txn: &mut Txn, directory: &str) -> Vec<String> {
    txn.list(&prefix(directory), None, 1000).unwrap()
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_and_nobody_elses() {
    let (_, barrier) = memory();
    put(&barrier, "a/x", b"1").await;
    let mut txn = barrier.begin().unwrap();
    txn.write(&key("a/y/z"), b"2").unwrap();
    txn.delete(&key("a/x")).unwrap();
    assert_eq!(names(&mut txn, "a/"), ["y/"]);
    assert!(txn.read(&key("a/x")).unwrap().is_none());
    let mut other = barrier.begin().unwrap();
    assert_eq!(names(&mut other, "a/"), ["x"]);
    barrier.commit(txn).await.unwrap();
    assert_eq!(names(&mut other, "a/"), ["x"], "a snapshot does not move");
    let mut later = barrier.begin().unwrap();
    assert_eq!((names(&mut later, "a/"), names(&mut later, "a/y/")), (vec!["y/".to_owned()], vec!["z".to_owned()]));
    assert_eq!(&*later.read(&key("a/y/z")).unwrap().unwrap(), b"2");
}

#[tokio::test]
async fn a_transaction_whose_reading_is_stale_conflicts_and_a_blind_one_does_not() {
    let (_, barrier) = memory();
    put(&barrier, "n", b"1").await;
    let mut reader = barrier.begin().unwrap();
    reader.read(&key("n")).unwrap();
    reader.write(&key("m"), b"from n").unwrap();
    let mut missing = barrier.begin().unwrap();
    assert!(missing.read(&key("new")).unwrap().is_none());
    missing.write(&key("new"), b"mine").unwrap();
    let mut blind = barrier.begin().unwrap();
    blind.write(&key("n"), b"3").unwrap();
    put(&barrier, "n", b"2").await;
    put(&barrier, "new", b"theirs").await;
    assert!(matches!(barrier.commit(reader).await, Err(CommitError::Conflict)));
    assert!(matches!(barrier.commit(missing).await, Err(CommitError::Conflict)));
    barrier.commit(blind).await.unwrap();
    assert_eq!(&*barrier.begin().unwrap().read(&key("n")).unwrap().unwrap(), b"3");
}

#[tokio::test]
async fn a_transaction_that_relies_on_a_record_conflicts_with_its_removal() {
    let (_, barrier) = memory();
    put(&barrier, "mount", b"1").await;
    let mut relying = barrier.begin().unwrap();
    assert!(relying.contains(&key("mount")).unwrap());
    relying.write(&key("below/mount"), b"1").unwrap();
    let mut removal = barrier.begin().unwrap();
    removal.delete(&key("mount")).unwrap();
    assert!(!removal.contains(&key("mount")).unwrap(), "its own removal counts");
    barrier.commit(removal).await.unwrap();
    assert!(matches!(barrier.commit(relying).await, Err(CommitError::Conflict)));
    assert!(!barrier.begin().unwrap().contains(&key("mount")).unwrap());
}

#[tokio::test]
async fn two_that_create_beside_each_other_do_not_conflict_but_a_listing_does() {
    let (_, barrier) = memory();
    let mut transactions: Vec<Txn> = (0..50).map(|_| barrier.begin().unwrap()).collect();
    for (at, txn) in transactions.iter_mut().enumerate() {
        txn.write(&key(&format!("d/{at:02}")), b"x").unwrap();
    }
    let mut lister = barrier.begin().unwrap();
    assert!(names(&mut lister, "d/").is_empty());
    lister.write(&key("summary"), b"none").unwrap();
    for txn in transactions {
        barrier.commit(txn).await.unwrap();
    }
    assert_eq!(names(&mut barrier.begin().unwrap(), "d/").len(), 50);
    assert!(matches!(barrier.commit(lister).await, Err(CommitError::Conflict)));
}

#[tokio::test]
async fn writers_that_wait_share_one_sync() {
    for writers in [1_u64, 64, 256] {
        let doors = TestDoors::new(2);
        let store = Arc::new(FileStore::open(&doors.doors, Path::new("data"), Limits::default()).unwrap());
        let barrier = open(store.clone(), &doors.doors);
        let before = store.syncs();
        let commits = (0..writers).map(|at| {
            let mut txn = barrier.begin().unwrap();
            txn.write(&key(&format!("w/{at}")), b"x").unwrap();
            let barrier = barrier.clone();
            async move { barrier.commit(txn).await.unwrap() }
        });
        futures_join_all(commits).await;
        let syncs = store.syncs() - before;
        assert!(syncs <= 1 + writers / 32, "{writers} writers took {syncs} syncs");
        assert_eq!(names(&mut barrier.begin().unwrap(), "w/").len(), usize::try_from(writers).unwrap());
    }
}

/// All futures at once, polled in one task.
async fn futures_join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(move |cx| {
        pending.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn nothing_readable_reaches_the_store() {
    let (store, barrier) = memory();
    put(&barrier, "canary-directory/canary-name", b"canary-value-1234567890").await;
    for (at, bytes) in store.dump() {
        let all = [at.as_bytes(), &bytes].concat();
        for canary in ["canary-directory", "canary-name", "canary-value"] {
            for spelled in [canary.to_owned(), hex::encode(canary)] {
                assert!(!all.windows(spelled.len()).any(|window| window == spelled.as_bytes()), "{canary}");
            }
        }
    }
}

#[tokio::test]
async fn a_value_moved_in_the_store_is_refused() {
    let (store, barrier) = memory();
    let before: Vec<_> = store.dump().into_iter().map(|(at, _)| at).collect();
    put(&barrier, "a", b"of a").await;
    put(&barrier, "b", b"of b").await;
    let records: Vec<_> =
        store.dump().into_iter().filter(|(at, _)| at.as_bytes()[0] == 1 && !before.contains(at)).collect();
    let version = store.snapshot().unwrap().version().next();
    let swapped =
        [(records[0].0.clone(), Some(records[1].1.clone())), (records[1].0.clone(), Some(records[0].1.clone()))];
    store.apply(Batch::new(version, swapped.into())).unwrap();
    let mut txn = barrier.begin().unwrap();
    assert!(txn.read(&key("a")).is_err() && txn.read(&key("b")).is_err());
}

#[tokio::test]
async fn a_damaged_directory_fails_its_own_writers_and_nobody_else() {
    let (store, barrier) = memory();
    put(&barrier, "sound/a", b"x").await;
    let before: Vec<_> = store.dump().into_iter().map(|(at, _)| at).collect();
    put(&barrier, "damaged/a", b"x").await;
    let new: Vec<_> = store.dump().into_iter().map(|(at, _)| at).filter(|at| !before.contains(at)).collect();
    let block = new.into_iter().find(|at| at.as_bytes()[0] == 2).unwrap();
    let version = store.snapshot().unwrap().version().next();
    store.apply(Batch::new(version, [(block, Some(b"damage".to_vec()))].into())).unwrap();

    let outcomes = std::sync::Mutex::new(std::collections::BTreeMap::new());
    // The failing one has changed much of the batch when it comes to the damage: none of it may stay.
    let jobs = [vec!["sound/b"], vec!["aaa/new", "damaged/b", "sound/c"], vec!["sound/d", "aaa/other"]];
    let commits = jobs.iter().map(|names| {
        let mut txn = barrier.begin().unwrap();
        names.iter().for_each(|name| txn.write(&key(name), b"x").unwrap());
        let (barrier, outcomes) = (barrier.clone(), &outcomes);
        async move {
            let outcome = barrier.commit(txn).await;
            outcomes.lock().unwrap().insert(names[0], outcome);
        }
    });
    futures_join_all(commits).await;
    let outcomes = outcomes.into_inner().unwrap();
    assert!(matches!(outcomes["aaa/new"], Err(CommitError::Failed(_))), "{:?}", outcomes["aaa/new"]);
    let (first, last) = (outcomes["sound/b"].as_ref().unwrap(), outcomes["sound/d"].as_ref().unwrap());
    assert_eq!(first.version, last.version, "one batch");
    let mut txn = barrier.begin().unwrap();
    assert_eq!(names(&mut txn, "sound/"), ["a", "b", "d"]);
    assert_eq!(names(&mut txn, "aaa/"), ["other"]);
    assert!(txn.read(&key("aaa/new")).unwrap().is_none());
}

#[test]
fn a_name_has_a_bounded_number_of_segments() {
    let name = |segments: usize| StorageKey::new(&NamespaceId::root(), Area::Logical, &vec!["a"; segments].join("/"));
    assert!(name(64).is_ok());
    for segments in [100, 2000] {
        assert!(matches!(name(segments), Err(BarrierError::Key(KeyError::TooDeep))));
    }
    let below = prefix("d/").key(&"/".repeat(100).replace('/', "/x"));
    assert!(matches!(below, Err(BarrierError::Key(KeyError::TooDeep))));
    assert!(matches!(prefix("d/").below(&"x/".repeat(100)), Err(BarrierError::Key(KeyError::TooDeep))));
}

#[tokio::test]
async fn a_stopped_barrier_commits_nothing() {
    let (_, barrier) = memory();
    let mut txn = barrier.begin().unwrap();
    txn.write(&key("a"), b"x").unwrap();
    barrier.stop().await;
    assert!(matches!(barrier.commit(txn).await, Err(CommitError::Stopped)));
}

fn copy(share: &UnsealShare) -> UnsealShare {
    UnsealShare::new(share.expose().to_vec())
}

#[test]
fn a_store_that_lost_what_opens_it_is_not_initialised_over() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let key = RawKey::new(b"what is left of it").unwrap();
    store.apply(Batch::new(Version(1), [(key.clone(), Some(b"sealed".to_vec()))].into())).unwrap();
    store.apply(Batch::new(Version(2), [(key, Some(b"anew".to_vec()))].into())).unwrap();
    let sealed = SealedStore::open(store, TestDoors::new(3).doors).unwrap();
    assert!(matches!(initialize(&sealed, Threshold::new(1, 1).unwrap()), Err(InitError::NotEmpty)));
}

#[tokio::test]
async fn shares_open_the_store_again_and_wrong_ones_do_not() {
    let doors = TestDoors::new(3).doors;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), doors.clone()).unwrap();
    assert!(!sealed.facts().unwrap().initialized);
    let threshold = Threshold::new(5, 3).unwrap();
    let slower = sealed.prepare(threshold, None, Timestamp::EPOCH).unwrap();
    let (shares, barrier) = initialize(&sealed, threshold).unwrap();
    assert!(matches!(initialize(&sealed, threshold), Err(InitError::AlreadyInitialized)));
    let first = slower.barrier().begin().unwrap();
    assert!(
        matches!(slower.store(first).now_or_never().unwrap(), Err(InitError::AlreadyInitialized)),
        "the slower of two is too late"
    );
    put(&barrier, "a", b"kept").await;
    let facts = sealed.facts().unwrap();
    let mut collector = ShareCollector::default();
    let mut submit = |share: &UnsealShare| collector.submit(copy(share), &facts, &*doors.entropy);

    let Ok(Progress::Collecting { progress: 1, nonce }) = submit(&shares[4]) else { panic!("one share is not enough") };
    assert!(!nonce.is_empty());
    assert!(
        matches!(submit(&shares[4]), Ok(Progress::Collecting { progress: 1, .. })),
        "a repeated share does not count"
    );
    assert!(matches!(submit(&UnsealShare::new(vec![1; 32])), Err(ShareError::WrongLength)));
    assert!(matches!(submit(&shares[2]), Ok(Progress::Collecting { progress: 2, .. })));
    let Ok(Progress::Complete(right)) = submit(&shares[3]) else { panic!("three shares are enough") };
    let reopened = sealed.unseal_with(&right).unwrap().into_barrier();
    assert_eq!(&*reopened.begin().unwrap().read(&key("a")).unwrap().unwrap(), b"kept");

    let mut foreign = vec![9; 33];
    foreign[32] = 77;
    submit(&shares[0]).unwrap();
    submit(&shares[1]).unwrap();
    let Ok(Progress::Complete(wrong)) = submit(&UnsealShare::new(foreign)) else { panic!("it cannot know yet") };
    assert!(matches!(sealed.unseal_with(&wrong), Err(tresor_barrier::UnsealError::WrongKey)));
    assert!(matches!(submit(&shares[0]), Ok(Progress::Collecting { progress: 1, .. })), "a failed attempt starts anew");
}

#[tokio::test]
async fn sea_02_no_nonce_is_used_twice() {
    let (store, barrier) = memory();
    let mut sealed = std::collections::BTreeSet::new();
    // A sealed value starts with its format and term (five bytes), then its nonce.
    let nonce = |bytes: &[u8]| bytes[5..17].to_vec();
    let mut count = 0;
    for round in 0..300 {
        for name in ["a", "b/c", "b/d"] {
            put(&barrier, name, b"the same value each time").await;
        }
        for (_, bytes) in store.dump().into_iter().filter(|(at, _)| at.as_bytes()[0] == 1) {
            sealed.insert(nonce(&bytes));
        }
        count += 3;
        assert!(sealed.len() >= count, "round {round}: {} of {count}", sealed.len());
    }
}

#[tokio::test]
async fn sea_03_no_stored_byte_can_be_changed_or_moved() {
    let doors = TestDoors::new(1).doors;
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), doors.clone()).unwrap();
    let (shares, barrier) = initialize(&sealed, Threshold::new(1, 1).unwrap()).unwrap();
    let facts = sealed.facts().unwrap();
    let Ok(Progress::Complete(right)) = ShareCollector::default().submit(copy(&shares[0]), &facts, &*doors.entropy)
    else {
        panic!("one share is enough")
    };
    put(&barrier, "dir/a", b"of a").await;
    put(&barrier, "dir/b", b"of b").await;
    let whole = store.dump();
    // Opened anew each time: an open barrier remembers what it read.
    let broken = || {
        let Ok(opened) = sealed.unseal_with(&right) else { return false };
        let barrier = opened.into_barrier();
        let mut txn = barrier.begin().unwrap();
        let reads = [txn.read(&key("dir/a")).is_err(), txn.read(&key("dir/b")).is_err()];
        reads.iter().any(|failed| *failed) || txn.list(&prefix("dir/"), None, 10).is_err()
    };
    let write = |at: &tresor_storage::RawKey, bytes: &[u8]| {
        let version = store.snapshot().unwrap().version().next();
        store.apply(Batch::new(version, [(at.clone(), Some(bytes.to_vec()))].into())).unwrap();
    };
    assert!(!broken());
    let mut seen = 0;
    for (at, bytes) in &whole {
        for changed in (0..bytes.len()).step_by(3) {
            let mut forged = bytes.clone();
            forged[changed] ^= 0x10;
            write(at, &forged);
            // Records of other directories, and what lies outside the barrier, are not read here.
            seen += usize::from(broken());
            write(at, bytes);
        }
    }
    assert!(seen >= 3 * 8, "two records and a block at least: {seen}");
    assert!(!broken());
}

#[tokio::test]
async fn sea_01_a_slot_or_ring_that_is_not_ours_opens_nothing() {
    let doors = TestDoors::new(5).doors;
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), doors.clone()).unwrap();
    let (shares, barrier) = initialize(&sealed, Threshold::new(1, 1).unwrap()).unwrap();
    drop(barrier);
    let facts = sealed.facts().unwrap();
    let outside: Vec<_> = store.dump().into_iter().filter(|(at, _)| at.as_bytes()[0] == 0).collect();
    assert_eq!(outside.len(), 2, "the slots and the ring");
    // The time when the slot was made is told, not relied on: its eight bytes may say something else.
    let mut accepted = 0;
    for (at, bytes) in &outside {
        let flipped = |place: usize| {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            forged
        };
        let mut forgeries: Vec<Vec<u8>> = (0..bytes.len()).map(flipped).collect();
        forgeries.extend([
            Vec::new(),
            vec![0; bytes.len()],
            bytes[..bytes.len() - 1].to_vec(),
            [bytes.as_slice(), b"x"].concat(),
        ]);
        for forged in forgeries {
            let version = store.snapshot().unwrap().version().next();
            store.apply(Batch::new(version, [(at.clone(), Some(forged.clone()))].into())).unwrap();
            let entered = ShareCollector::default().submit(copy(&shares[0]), &facts, &*doors.entropy);
            let Ok(Progress::Complete(unseal_key)) = entered else { panic!("one share is enough") };
            accepted += usize::from(sealed.unseal_with(&unseal_key).is_ok());
        }
        let version = store.snapshot().unwrap().version().next();
        store.apply(Batch::new(version, [(at.clone(), Some(bytes.clone()))].into())).unwrap();
    }
    assert!(accepted <= 8, "{accepted}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn listings_equal_a_sorted_model(
        steps in prop::collection::vec((0_usize..40, prop::bool::weighted(0.7), prop::bool::weighted(0.3)), 1..120),
        limit in 1_usize..7,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_, barrier) = memory();
            let mut model = std::collections::BTreeSet::new();
            let mut txn = barrier.begin().unwrap();
            for (at, is_write, commit) in steps {
                let name = format!("{}{}{}", ["", "a/", "a/b/", "c//"][at % 4], "n", at / 4);
                if is_write {
                    txn.write(&key(&name), b"x").unwrap();
                    model.insert(name);
                } else {
                    txn.delete(&key(&name)).unwrap();
                    model.remove(&name);
                }
                if commit {
                    barrier.commit(txn).await.unwrap();
                    txn = barrier.begin().unwrap();
                }
            }
            for directory in ["", "a/", "a/b/", "c/", "c//"] {
                let expected: std::collections::BTreeSet<String> = model
                    .iter()
                    .filter_map(|name| name.strip_prefix(directory))
                    .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(child, _)| format!("{child}/")))
                    .collect();
                let mut found: Vec<String> = Vec::new();
                loop {
                    let page = txn.list(&prefix(directory), found.last().map(String::as_str), limit).unwrap();
                    assert!(page.len() <= limit);
                    if page.is_empty() {
                        break;
                    }
                    found.extend(page);
                }
                assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{directory:?}");
            }
        });
    }
}

/// A store that somebody else writes to once, just before us.
struct Shared {
    inner: MemoryStore,
    is_armed: std::sync::atomic::AtomicBool,
}

impl Store for Shared {
    fn snapshot(&self) -> Result<Box<dyn tresor_storage::Snapshot>, tresor_storage::StoreError> {
        self.inner.snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), tresor_storage::StoreError> {
        if self.is_armed.swap(false, std::sync::atomic::Ordering::SeqCst) {
            self.inner.apply(Batch::new(batch.version, std::collections::BTreeMap::new()))?;
        }
        self.inner.apply(batch)
    }

    fn watch(&self, watcher: std::sync::Weak<dyn tresor_storage::Watcher>) {
        self.inner.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_batch_whose_number_somebody_else_took_is_not_acknowledged() {
    let store = Arc::new(Shared { inner: MemoryStore::new(), is_armed: false.into() });
    let barrier = open(store.clone(), &TestDoors::new(1).doors);
    store.is_armed.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut txn = barrier.begin().unwrap();
    txn.write(&key("a"), b"x").unwrap();
    assert!(matches!(barrier.commit(txn).await, Err(CommitError::Failed(_))));
    assert!(barrier.begin().unwrap().read(&key("a")).unwrap().is_none());
    put(&barrier, "a", b"again").await;
}
