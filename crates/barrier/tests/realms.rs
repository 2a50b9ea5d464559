//! What is in a realm is under keys of its own, and without them it can be neither named, read nor written.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use tresor_barrier::{
    Area, Barrier, BarrierError, CommitError, KeyPrefix, PointKey, Progress, RealmSeal, SealedStore, ShareCollector,
    StorageKey, UnsealError, UnsealKey,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_model::ids::{NamespaceId, RealmId};
use tresor_secret::UnsealShare;
use tresor_storage::{MemoryStore, Store};

const NOW: Timestamp = Timestamp::EPOCH;

fn realm() -> RealmId {
    RealmId::new("rEaLm1")
}

fn inside() -> NamespaceId {
    NamespaceId::in_realm("aB3xYz", &realm())
}

fn record(namespace: &NamespaceId, name: &str) -> StorageKey {
    StorageKey::new(namespace, Area::Logical, name).unwrap()
}

fn key(seal: &RealmSeal, shares: &[UnsealShare]) -> UnsealKey {
    let (entropy, mut collector) = (SeededEntropy::new(9), ShareCollector::default());
    let facts = seal.facts().unwrap();
    for share in shares {
        match collector.submit(UnsealShare::new(share.expose().to_vec()), &facts, &entropy).unwrap() {
            Progress::Complete(key) => return key,
            Progress::Collecting { .. } => {}
        }
    }
    panic!("too few shares")
}

async fn open(store: &Arc<MemoryStore>, doors: &TestDoors) -> Barrier {
    let sealed = SealedStore::open(Arc::<MemoryStore>::clone(store), doors.doors.clone()).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, NOW).unwrap();
    let first = prepared.barrier().begin().unwrap();
    prepared.store(first).await.unwrap().1
}

async fn write(barrier: &Barrier, namespace: &NamespaceId, name: &str) -> Result<(), CommitError> {
    let mut txn = barrier.begin().unwrap();
    let point = PointKey::new(namespace, Area::Tokens, name).unwrap();
    let named = |error: BarrierError| CommitError::Failed(Arc::new(error));
    txn.write(&record(namespace, name), name.as_bytes()).map_err(named)?;
    txn.write(&point.clone().beside("one moment"), b"beside").map_err(named)?;
    txn.write(&point, b"point").map_err(named)?;
    txn.count(&point, "label", 1, &(0..=9));
    barrier.commit(txn).await.map(drop)
}

fn is_sealed<T>(outcome: Result<T, BarrierError>) -> bool {
    matches!(outcome, Err(BarrierError::SealedRealm))
}

#[tokio::test]
async fn without_its_ring_nothing_of_a_realm_can_be_named_and_all_else_is_as_ever() {
    let (doors, store) = (TestDoors::new(1), Arc::new(MemoryStore::default()));
    let barrier = open(&store, &doors).await;
    let (seal, shares) = barrier.new_realm(&realm(), Threshold::new(3, 2).unwrap(), NOW);
    assert!(matches!(write(&barrier, &inside(), "x").await, Err(CommitError::Failed(_))), "it comes sealed");
    let (_, others) = barrier.new_realm(&realm(), Threshold::new(3, 2).unwrap(), NOW);
    let wrong = barrier.open_realm(&realm(), &seal, &key(&seal, &others));
    assert!(matches!(wrong, Err(UnsealError::WrongKey)));
    let elsewhere = barrier.open_realm(&RealmId::new("rEaLm2"), &seal, &key(&seal, &shares));
    assert!(matches!(elsewhere, Err(UnsealError::Ring(_))), "a ring is bound to its realm");
    barrier.open_realm(&realm(), &seal, &key(&seal, &shares)).unwrap();
    write(&barrier, &inside(), "d/x").await.unwrap();
    write(&barrier, &NamespaceId::root(), "d/x").await.unwrap();
    let prefix = KeyPrefix::new(&inside(), Area::Logical, "d/").unwrap();
    assert_eq!(barrier.begin().unwrap().list(&prefix, None, 9).unwrap(), ["x"]);

    // A transaction that began before the ring was forgotten does not stand, whatever it has written.
    let mut begun = barrier.begin().unwrap();
    begun.write(&record(&inside(), "late"), b"late").unwrap();
    let mut counted = barrier.begin().unwrap();
    barrier.close_realm(&realm());
    assert!(barrier.commit(begun).await.is_err());
    counted.count(&PointKey::new(&inside(), Area::Tokens, "d/x").unwrap(), "label", 1, &(0..=9));
    counted.write(&record(&NamespaceId::root(), "beside"), b"").unwrap();
    assert!(matches!(barrier.commit(counted).await, Err(CommitError::Failed(_))));

    let mut txn = barrier.begin().unwrap();
    let point = PointKey::new(&inside(), Area::Tokens, "d/x").unwrap();
    assert!(is_sealed(txn.read(&record(&inside(), "d/x"))) && is_sealed(txn.contains(&record(&inside(), "d/x"))));
    assert!(is_sealed(txn.read(&point)) && is_sealed(txn.read(&point.clone().beside("one moment"))));
    assert!(is_sealed(txn.write(&point, b"")) && is_sealed(txn.delete(&point)) && is_sealed(txn.tally(&point)));
    assert!(is_sealed(txn.list(&prefix, None, 9)) && is_sealed(txn.glance(&prefix, "")));
    txn.enter(&prefix.key("bare").unwrap());
    assert!(matches!(barrier.commit(txn).await, Err(CommitError::Failed(_))));
    let mut txn = barrier.begin().unwrap();
    assert_eq!(&*txn.read(&record(&NamespaceId::root(), "d/x")).unwrap().unwrap(), b"d/x");
    write(&barrier, &NamespaceId::root(), "d/y").await.unwrap();

    // Who has the ring again has all that was there, and nothing of what did not stand.
    barrier.open_realm(&realm(), &seal, &key(&seal, &shares)).unwrap();
    let mut txn = barrier.begin().unwrap();
    assert_eq!(&*txn.read(&record(&inside(), "d/x")).unwrap().unwrap(), b"d/x");
    assert_eq!(&*txn.read(&point.clone().beside("one moment")).unwrap().unwrap(), b"beside");
    assert_eq!(txn.tally(&point).unwrap().get("label"), Some(&1));
    assert!(txn.read(&record(&inside(), "late")).unwrap().is_none());
}

#[tokio::test]
async fn the_outer_ring_opens_nothing_of_a_realm() {
    let (doors, store) = (TestDoors::new(2), Arc::new(MemoryStore::default()));
    let barrier = open(&store, &doors).await;
    let (seal, shares) = barrier.new_realm(&realm(), Threshold::new(1, 1).unwrap(), NOW);
    barrier.open_realm(&realm(), &seal, &key(&seal, &shares)).unwrap();
    let before = store.dump();
    write(&barrier, &inside(), "d/x").await.unwrap();
    let after = store.dump();
    let own: Vec<_> = after.iter().filter(|(at, _)| at.as_bytes().ends_with(realm().as_str().as_bytes())).collect();
    // The record, two points, a tally, and the blocks of three directories.
    assert_eq!(own.len(), 7);
    let others = after.iter().filter(|entry| !before.contains(entry)).count() - own.len();
    assert_eq!(others, 1, "the directory of all namespaces");
    for (at, value) in &own {
        barrier.check(at, value).unwrap();
        // As if it lay outside the realm, where the outer ring is asked: it was never sealed by that.
        let outside = tresor_storage::RawKey::new(at.as_bytes().get(..33).unwrap()).unwrap();
        assert!(matches!(barrier.check(&outside, value), Err(BarrierError::Open(_))));
    }
    // Sealed, nobody can say what it is; and it is no damage.
    barrier.close_realm(&realm());
    for (at, value) in &own {
        barrier.check(at, value).unwrap();
    }
    assert!(store.snapshot().unwrap().version().0 > 0);
    assert!(!format!("{seal:?}").contains('['), "{seal:?}");
}
