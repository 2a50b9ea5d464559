//! What is in a realm is under keys of its own, and without them it can be neither named, read nor written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use tresor_barrier::{
    Area, Barrier, BarrierError, Changed, CommitError, FollowError, Follower, KeyPrefix, PointKey, Progress, RealmSeal,
    SealedStore, ShareCollector, StorageKey, Txn, UnsealError, UnsealKey,
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

/// What a follower of all names was told, batch by batch; nothing where everything may be other.
#[derive(Default)]
struct Told(Mutex<Vec<Option<Vec<String>>>>);

impl Told {
    fn at(barrier: &Barrier) -> Arc<Self> {
        let told = Arc::new(Self::default());
        let follower: Arc<dyn Follower> = Arc::<Self>::clone(&told);
        barrier.follow_with(&follower, barrier.begin().unwrap().read_version()).unwrap();
        told
    }

    fn last(&self) -> Option<Vec<String>> {
        self.0.lock().unwrap().last().cloned().flatten()
    }
}

impl Follower for Told {
    fn wants(&self) -> Vec<KeyPrefix> {
        vec![KeyPrefix::everywhere(Area::Logical, "").unwrap()]
    }

    fn follow(&self, changed: &Changed, _: &mut Txn) -> Result<(), FollowError> {
        let names = match changed {
            Changed::Names(names) => Some(names.iter().map(|name| name.as_str().to_owned()).collect()),
            Changed::Everything => None,
        };
        self.0.lock().unwrap().push(names);
        Ok(())
    }
}

#[tokio::test]
async fn another_node_follows_a_realm_by_its_root_key_alone_which_it_is_handed_for_one_question() {
    let (doors, store) = (TestDoors::new(3), Arc::new(MemoryStore::default()));
    let sealed = SealedStore::open(Arc::<MemoryStore>::clone(&store), doors.doors.clone()).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, NOW).unwrap();
    let first = prepared.barrier().begin().unwrap();
    let (store_shares, leader) = prepared.store(first).await.unwrap();
    let (seal, shares) = leader.new_realm(&realm(), Threshold::new(2, 2).unwrap(), NOW);
    leader.open_realm(&realm(), &seal, &key(&seal, &shares)).unwrap();
    let mut collector = ShareCollector::default();
    let facts = sealed.facts().unwrap();
    let share = UnsealShare::new(store_shares[0].expose().to_vec());
    let Progress::Complete(whole) = collector.submit(share, &facts, &SeededEntropy::new(9)).unwrap() else {
        panic!("one share is enough")
    };
    let other = sealed.unseal_with(&whole).unwrap().into_barrier();
    let (at_leader, at_other) = (Told::at(&leader), Told::at(&other));
    let both = |name: &str| {
        let mut txn = leader.begin().unwrap();
        txn.write(&record(&inside(), name), b"in").unwrap();
        txn.write(&record(&NamespaceId::root(), name), b"out").unwrap();
        leader.commit(txn)
    };
    let names = |name: &str, namespaces: &[NamespaceId]| -> Vec<String> {
        namespaces.iter().map(|namespace| record(namespace, name).as_str().to_owned()).collect()
    };
    // Names in a realm are told to who has its ring, and are nothing to anybody else.
    both("one").await.unwrap();
    let mut told = at_leader.last().unwrap();
    told.sort();
    let mut all = names("one", &[NamespaceId::root(), inside()]);
    all.sort();
    assert_eq!((told, at_other.last()), (all, Some(names("one", &[NamespaceId::root()]))));

    // The root key answers one question, of one realm in one state, and to who has the ring of the store.
    let root = leader.realm_root(&realm()).unwrap();
    let answer = leader.hand_over(&realm(), 0, &root, b"question");
    assert!(other.receive(&realm(), 0, &answer, b"another").is_err());
    assert!(other.receive(&realm(), 1, &answer, b"question").is_err());
    assert!(other.receive(&RealmId::new("rEaLm2"), 0, &answer, b"question").is_err());
    let stranger = open(&Arc::new(MemoryStore::default()), &TestDoors::new(4)).await;
    assert!(stranger.receive(&realm(), 0, &answer, b"question").is_err());
    let root = other.receive(&realm(), 0, &answer, b"question").unwrap();
    assert!(matches!(other.open_realm_by(&RealmId::new("rEaLm2"), &seal, &root), Err(UnsealError::Ring(_))));
    other.open_realm_by(&realm(), &seal, &root).unwrap();
    assert_eq!(&*other.begin().unwrap().read(&record(&inside(), "one")).unwrap().unwrap(), b"in");
    both("two").await.unwrap();
    assert_eq!(at_other.last().unwrap().len(), 2);
    other.close_realm(&realm());
    assert!(other.realm_root(&realm()).is_none());
}

#[tokio::test]
async fn what_is_in_realms_is_erased_unread_and_nothing_else() {
    let (doors, store) = (TestDoors::new(5), Arc::new(MemoryStore::default()));
    let barrier = open(&store, &doors).await;
    let second = RealmId::new("rEaLm2");
    for id in [realm(), second.clone()] {
        let (seal, shares) = barrier.new_realm(&id, Threshold::new(1, 1).unwrap(), NOW);
        barrier.open_realm(&id, &seal, &key(&seal, &shares)).unwrap();
    }
    let neighbour = NamespaceId::in_realm("aB3xYz", &second);
    // More than is deleted together.
    for number in 0..200 {
        for namespace in [inside(), neighbour.clone(), NamespaceId::root()] {
            write(&barrier, &namespace, &format!("d/{number}")).await.unwrap();
        }
    }
    let of =
        |id: &RealmId| store.dump().iter().filter(|(at, _)| at.as_bytes().ends_with(id.as_str().as_bytes())).count();
    let (own, others, all) = (of(&realm()), of(&second), store.dump().len());
    barrier.close_realm(&realm());
    let erased = barrier.erase_realms(&[realm()].into()).await.unwrap();
    assert_eq!((erased, of(&realm()), of(&second)), (own as u64, 0, others));
    assert_eq!(store.dump().len(), all - own);
    assert_eq!(barrier.erase_realms(&[realm()].into()).await.unwrap(), 0);
    let mut txn = barrier.begin().unwrap();
    for namespace in [neighbour, NamespaceId::root()] {
        assert!(txn.contains(&record(&namespace, "d/199")).unwrap());
    }
    barrier.stop().await;
    assert!(matches!(barrier.erase_realms(&[second].into()).await, Err(CommitError::Stopped)));
}
