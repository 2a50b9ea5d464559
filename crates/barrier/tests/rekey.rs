//! Keys change while the store is open, for everybody who has it open; and no crash leaves nobody who opens.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use tresor_barrier::{
    Area, Barrier, Progress, RekeyError, SealedStore, ShareCollector, StaticKey, StaticKeys, StaticSlot, StorageKey,
    UnsealError, UnsealKey,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_model::ids::NamespaceId;
use tresor_secret::{DataKey, UnsealShare};
use tresor_storage::{MemoryStore, RawKey, Store};
use tresor_storage_file::{FileStore, Limits};

const NOW: Timestamp = Timestamp::EPOCH;

fn record(name: &str) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Logical, name).unwrap()
}

fn key(id: &str) -> StaticKey {
    StaticKey::new(id.to_owned(), DataKey::new([id.as_bytes()[0]; 32]))
}

async fn write(barrier: &Barrier, name: &str) -> Result<(), String> {
    let mut txn = barrier.begin().unwrap();
    txn.write(&record(name), name.as_bytes()).unwrap();
    barrier.commit(txn).await.map(drop).map_err(|error| error.to_string())
}

fn reads(barrier: &Barrier, name: &str) -> bool {
    barrier.begin().unwrap().read(&record(name)).unwrap().is_some_and(|value| &*value == name.as_bytes())
}

fn combined(sealed: &SealedStore, shares: &[UnsealShare]) -> UnsealKey {
    let (entropy, mut collector) = (SeededEntropy::new(9), ShareCollector::default());
    let facts = sealed.facts().unwrap();
    for share in shares {
        match collector.submit(UnsealShare::new(share.expose().to_vec()), &facts, &entropy).unwrap() {
            Progress::Complete(key) => return key,
            Progress::Collecting { .. } => {}
        }
    }
    panic!("too few shares")
}

async fn initialize(sealed: &SealedStore, static_key: Option<&StaticKey>) -> Result<Vec<UnsealShare>, String> {
    let threshold = Threshold::new(3, 2).unwrap();
    let prepared = sealed.prepare(threshold, static_key, NOW).map_err(|error| error.to_string())?;
    let mut first = prepared.barrier().begin().unwrap();
    first.write(&record("first"), b"first").unwrap();
    let (shares, barrier) = prepared.store(first).await.map_err(|error| error.to_string())?;
    barrier.stop().await;
    Ok(shares)
}

fn open(sealed: &SealedStore, shares: &[UnsealShare]) -> Barrier {
    sealed.unseal_with(&combined(sealed, shares)).unwrap().into_barrier()
}

fn memory() -> (Arc<MemoryStore>, SealedStore) {
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), TestDoors::new(4).doors).unwrap();
    (store, sealed)
}

#[tokio::test]
async fn a_new_term_seals_on_every_node_and_the_old_ones_still_open() {
    let (store, sealed) = memory();
    let shares = initialize(&sealed, None).await.unwrap();
    let (leader, other) = (open(&sealed, &shares), open(&sealed, &shares));
    assert_eq!(leader.sealing_term().term, 1);
    leader.rotate(Timestamp::from_seconds(9)).await.unwrap();
    for barrier in [&leader, &other] {
        assert_eq!(barrier.sealing_term().term, 2);
        assert_eq!(barrier.sealing_term().installed, Timestamp::from_seconds(9));
    }
    write(&leader, "second").await.unwrap();
    assert!(leader.uncounted_seals() > 0);
    let terms: Vec<u32> = store
        .dump()
        .into_iter()
        .filter(|(at, _)| at.as_bytes()[0] == 1)
        .map(|(_, value)| u32::from_be_bytes(value[1..5].try_into().unwrap()))
        .collect();
    assert!(terms.contains(&1) && terms.contains(&2), "{terms:?}");
    for barrier in [&leader, &other, &open(&sealed, &shares)] {
        assert!(reads(barrier, "first") && reads(barrier, "second"));
    }
}

#[tokio::test]
async fn two_nodes_that_rotate_at_once_make_two_terms() {
    let (_, sealed) = memory();
    let shares = initialize(&sealed, None).await.unwrap();
    let (one, other) = (open(&sealed, &shares), open(&sealed, &shares));
    for barrier in [&one, &other, &one] {
        barrier.rotate(NOW).await.unwrap();
    }
    assert_eq!((one.sealing_term().term, other.sealing_term().term), (4, 4));
}

#[tokio::test]
async fn sea_04_after_a_rekey_the_returned_shares_open_and_the_old_ones_do_not() {
    let (store, sealed) = memory();
    let shares = initialize(&sealed, Some(&key("a"))).await.unwrap();
    let (leader, other) = (open(&sealed, &shares), open(&sealed, &shares));
    let wrong = combined(&sealed, &[UnsealShare::new(vec![7; 33]), UnsealShare::new(vec![9; 33])]);
    assert!(leader.is_opened_by(&combined(&sealed, &shares)).unwrap());
    assert!(!leader.is_opened_by(&wrong).unwrap());
    let ring = RawKey::new(b"\0ring").unwrap();
    let before = store.snapshot().unwrap().read(&ring).unwrap().unwrap().bytes;
    let (new, new_shares) = leader.new_shares(Threshold::new(5, 3).unwrap());
    // They open nothing yet.
    assert!(!new.are_of(&combined(&sealed, &shares)));
    leader.let_open(&new, NOW).await.unwrap();
    assert_eq!((sealed.facts().unwrap().shares, sealed.facts().unwrap().threshold), (5, 3));
    assert_ne!(store.snapshot().unwrap().read(&ring).unwrap().unwrap().bytes, before, "the root key is another one");
    let old = sealed.unseal_with(&combined(&sealed, &shares));
    assert!(matches!(old, Err(UnsealError::WrongKey)));
    // Whoever had it open goes on, and keys may change again, from any node.
    assert!(new.are_of(&combined(&sealed, &new_shares[1..4])));
    other.rotate(NOW).await.unwrap();
    write(&leader, "second").await.unwrap();
    let static_keys = StaticKeys { current: key("a"), previous: None };
    let reopened = [open(&sealed, &new_shares[2..]), sealed.unseal_by(&static_keys).unwrap().into_barrier()];
    for barrier in [&leader, &other, &reopened[0], &reopened[1]] {
        assert!(reads(barrier, "first") && reads(barrier, "second"));
    }
}

#[tokio::test]
async fn sea_04_another_root_key_leaves_every_share_and_static_key_as_it_is() {
    let (_, sealed) = memory();
    let shares = initialize(&sealed, Some(&key("a"))).await.unwrap();
    let (leader, other) = (open(&sealed, &shares), open(&sealed, &shares));
    for _ in 0..3 {
        leader.rotate_root(NOW).await.unwrap();
    }
    other.rotate_root(NOW).await.unwrap();
    let static_keys = StaticKeys { current: key("a"), previous: None };
    assert!(reads(&open(&sealed, &shares[1..]), "first"));
    assert!(reads(&sealed.unseal_by(&static_keys).unwrap().into_barrier(), "first"));
}

#[tokio::test]
async fn slots_come_and_go_one_by_one() {
    let (_, sealed) = memory();
    let shares = initialize(&sealed, None).await.unwrap();
    let barrier = open(&sealed, &shares);
    let opens = |id: &str| sealed.unseal_by(&StaticKeys { current: key(id), previous: None }).is_ok();
    barrier.add_slot(&key("a"), NOW).await.unwrap();
    barrier.add_slot(&key("b"), NOW).await.unwrap();
    barrier.add_slot(&key("b"), NOW).await.unwrap();
    assert!(opens("a") && opens("b"));
    let another = StaticKey::new("a".to_owned(), DataKey::new([0; 32]));
    assert!(matches!(barrier.add_slot(&another, NOW).await, Err(RekeyError::OtherKey)));
    let slots = barrier.slot_facts().unwrap();
    assert_eq!(slots.len(), 3);
    assert_eq!(barrier.slots_opened_by(&key("b")).unwrap(), [slots[2].id.clone()]);
    assert!(barrier.slots_opened_by(&another).unwrap().is_empty());
    barrier.rotate_root(NOW).await.unwrap();
    assert!(opens("a") && opens("b"));
    assert!(matches!(barrier.remove_slot(&slots[0].id).await, Err(RekeyError::LastSlot)));
    barrier.remove_slot(&slots[1].id).await.unwrap();
    assert!(matches!(barrier.remove_slot(&slots[1].id).await, Err(RekeyError::NoSlot)));
    assert!(!opens("a") && opens("b"));
    // A node with a key of its own leaves the others' alone.
    let opened = sealed.unseal_with(&combined(&sealed, &shares)).unwrap();
    let change = opened.with_static(&StaticSlot::Beside(&key("c")), NOW).unwrap();
    opened.into_barrier().change_slots(change).await.unwrap();
    assert!(opens("b") && opens("c"));
    let opened = sealed.unseal_by(&StaticKeys { current: key("b"), previous: None }).unwrap();
    assert!(opened.with_static(&StaticSlot::Beside(&key("b")), NOW).is_none());
}

/// Changes everything once; the sets of shares that may open, the last of which was told to.
async fn live(doors: &TestDoors, told: &mut Vec<Vec<UnsealShare>>) -> Result<(), String> {
    let store =
        FileStore::open(&doors.doors, Path::new("data"), Limits::default()).map_err(|error| error.to_string())?;
    let sealed = SealedStore::open(Arc::new(store), doors.doors.clone()).map_err(|error| error.to_string())?;
    told.push(initialize(&sealed, None).await?);
    let barrier = sealed.unseal_with(&combined(&sealed, &told[0])).map_err(|error| error.to_string())?.into_barrier();
    barrier.rotate(NOW).await.map_err(|error| error.to_string())?;
    write(&barrier, "second").await?;
    let (new, shares) = barrier.new_shares(Threshold::new(3, 2).unwrap());
    barrier.let_open(&new, NOW).await.map_err(|error| error.to_string())?;
    told.push(shares);
    barrier.rotate_root(NOW).await.map_err(|error| error.to_string())?;
    write(&barrier, "third").await
}

#[tokio::test]
async fn pt_11_at_whatever_step_the_power_goes_the_old_shares_open_or_the_new_ones() {
    let mut sets = Vec::new();
    live(&TestDoors::new(7), &mut sets).await.unwrap();
    let mut ends = [0; 2];
    // The same seed gives the same shares, so that what was not answered can be opened as well.
    for step in 1.. {
        let doors = TestDoors::new(7);
        doors.disk.fail_from_step(Some(step));
        let mut told = Vec::new();
        let lived = live(&doors, &mut told).await;
        doors.disk.fail_from_step(None);
        let choices = SeededEntropy::new(step);
        doors.disk.crash(|length| match (step + choices.next()) % 3 {
            0 => 0,
            1 => length,
            _ => usize::try_from(choices.next()).unwrap_or(0) % (length + 1),
        });
        let store = FileStore::open(&doors.doors, Path::new("data"), Limits::default()).unwrap();
        let sealed = SealedStore::open(Arc::new(store), doors.doors.clone()).unwrap();
        if !sealed.facts().unwrap().initialized {
            assert!(told.is_empty(), "step {step}: what was initialised is not");
            continue;
        }
        let opening: Vec<usize> =
            (0..2).filter(|set| sealed.unseal_with(&combined(&sealed, &sets[*set])).is_ok()).collect();
        let [opening] = opening[..] else { panic!("step {step}: {opening:?} open") };
        assert!(opening + 1 >= told.len(), "step {step}: the shares that were told do not open");
        assert!(reads(&open(&sealed, &sets[opening]), "first"), "step {step}");
        ends[opening] += 1;
        if lived.is_ok() {
            assert!(ends.iter().all(|count| *count > 2), "{ends:?}");
            return;
        }
    }
}
