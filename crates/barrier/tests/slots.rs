//! Key slots: shares and a static key open beside each other, keys are changed, and no crash leaves nobody who opens.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use tresor_barrier::{
    Area, Barrier, CommitError, Progress, SealFacts, SealedKey, SealedStore, ShareCollector, StaticKey, StaticKeyError,
    StaticKeys, StaticSlot, StorageKey, UnsealError, UnsealKey,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_model::ids::NamespaceId;
use tresor_secret::{DataKey, UnsealShare};
use tresor_storage::{Batch, MemoryStore, RawKey, Store};
use tresor_storage_file::{FileStore, Limits};

const NOW: Timestamp = Timestamp::EPOCH;

/// The bytes of a key, from its id.
fn bytes(id: &str) -> [u8; 32] {
    std::array::from_fn(|at| id.as_bytes()[0].wrapping_mul(7).wrapping_add(u8::try_from(at).unwrap()))
}

fn key(id: &str) -> StaticKey {
    StaticKey::new(id.to_owned(), DataKey::new(bytes(id)))
}

fn keys(current: &str, previous: Option<&str>) -> StaticKeys {
    StaticKeys { current: key(current), previous: previous.map(key) }
}

/// The id of the key that opens without people.
fn id(facts: &SealFacts) -> Option<&str> {
    facts.without_people.first().map(|key| key.id.as_str())
}

fn record() -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Logical, "kept").unwrap()
}

/// Initialises with one share and, where one is named, a static key; the store holds one record.
async fn initialize(sealed: &SealedStore, static_key: Option<&str>) -> Result<UnsealShare, String> {
    let static_key = static_key.map(key);
    let threshold = Threshold::new(1, 1).unwrap();
    let prepared = sealed.prepare(threshold, static_key.as_ref(), NOW).map_err(|error| error.to_string())?;
    let mut first = prepared.barrier().begin().unwrap();
    first.write(&record(), b"value").unwrap();
    let (mut shares, barrier) = prepared.store(first).await.map_err(|error| error.to_string())?;
    barrier.stop().await;
    Ok(shares.remove(0))
}

fn combined(sealed: &SealedStore, share: &[u8]) -> UnsealKey {
    let entropy = SeededEntropy::new(9);
    let share = UnsealShare::new(share.to_vec());
    match ShareCollector::default().submit(share, &sealed.facts().unwrap(), &entropy) {
        Ok(Progress::Complete(key)) => key,
        _ => panic!("one share is enough"),
    }
}

fn reads(barrier: &Barrier) -> bool {
    barrier.begin().unwrap().read(&record()).unwrap().is_some_and(|value| &*value == b"value")
}

/// Opens, and brings the slots to what is wanted.
async fn change(sealed: &SealedStore, opened: tresor_barrier::Opened, wanted: &StaticSlot<'_>) -> Result<bool, String> {
    let change = opened.with_static(wanted, NOW);
    let barrier = opened.into_barrier();
    assert!(reads(&barrier) && sealed.facts().unwrap().initialized);
    let Some(change) = change else { return Ok(false) };
    let changed = barrier.change_slots(change).await.map_err(|error| error.to_string());
    barrier.stop().await;
    changed.map(|()| true)
}

fn memory() -> (Arc<MemoryStore>, SealedStore) {
    let store = Arc::new(MemoryStore::new());
    let sealed = SealedStore::open(store.clone(), TestDoors::new(4).doors).unwrap();
    (store, sealed)
}

fn problem(sealed: &SealedStore, keys: &StaticKeys) -> StaticKeyError {
    match sealed.unseal_by(keys) {
        Err(UnsealError::StaticKey(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opens"),
    }
}

#[tokio::test]
async fn shares_and_a_static_key_open_each_by_itself() {
    let (_, sealed) = memory();
    let share = initialize(&sealed, Some("a")).await.unwrap();
    let facts = sealed.facts().unwrap();
    assert_eq!((facts.shares, facts.threshold, id(&facts)), (1, 1, Some("a")));
    assert!(reads(&sealed.unseal_by(&keys("a", None)).unwrap().into_barrier()));
    assert!(reads(&sealed.unseal_with(&combined(&sealed, share.expose())).unwrap().into_barrier()));
    // A key of one kind opens no slot of the other.
    assert!(matches!(sealed.unseal_with(&combined(&sealed, &bytes("a"))), Err(UnsealError::WrongKey)));
    let disguised = DataKey::new(share.expose().try_into().unwrap());
    let disguised = StaticKeys { current: StaticKey::new("a".to_owned(), disguised), previous: None };
    assert_eq!(problem(&sealed, &disguised), StaticKeyError::WrongKey { id: "a".to_owned() });
}

#[tokio::test]
async fn a_key_that_does_not_open_is_named_by_its_id() {
    let (_, sealed) = memory();
    initialize(&sealed, Some("a")).await.unwrap();
    let unknown = StaticKeyError::UnknownId { stored: "a".to_owned(), current: "b".to_owned() };
    assert_eq!(problem(&sealed, &keys("b", None)), unknown);
    assert_eq!(problem(&sealed, &keys("b", Some("c"))), unknown);
    let other = StaticKeys { current: StaticKey::new("a".to_owned(), DataKey::new([1; 32])), previous: None };
    assert_eq!(problem(&sealed, &other), StaticKeyError::WrongKey { id: "a".to_owned() });
    let (_, without) = memory();
    initialize(&without, None).await.unwrap();
    assert_eq!(problem(&without, &keys("a", None)), StaticKeyError::NoSlot);
}

#[tokio::test]
async fn a_rotated_key_opens_alone_and_shares_still_do() {
    let (_, sealed) = memory();
    let share = initialize(&sealed, Some("a")).await.unwrap();
    let opened = sealed.unseal_by(&keys("b", Some("a"))).unwrap();
    assert!(change(&sealed, opened, &StaticSlot::Of(&key("b"))).await.unwrap());
    assert_eq!(id(&sealed.facts().unwrap()), Some("b"));
    assert!(matches!(problem(&sealed, &keys("a", None)), StaticKeyError::UnknownId { .. }));
    // Once it is so, nothing is left to change, whether or not the previous key is still there.
    for previous in [None, Some("a")] {
        let opened = sealed.unseal_by(&keys("b", previous)).unwrap();
        assert!(!change(&sealed, opened, &StaticSlot::Of(&key("b"))).await.unwrap());
    }
    assert!(sealed.unseal_with(&combined(&sealed, share.expose())).is_ok());
}

#[tokio::test]
async fn shares_bring_the_slots_to_what_is_wanted() {
    let (_, sealed) = memory();
    let share = initialize(&sealed, None).await.unwrap();
    let by_shares = || sealed.unseal_with(&combined(&sealed, share.expose())).unwrap();
    assert!(!change(&sealed, by_shares(), &StaticSlot::Unwanted).await.unwrap());
    assert!(change(&sealed, by_shares(), &StaticSlot::Of(&key("a"))).await.unwrap());
    assert!(sealed.unseal_by(&keys("a", None)).is_ok());
    // The key was lost, and another one was given its id.
    let other = || StaticKey::new("a".to_owned(), DataKey::new([5; 32]));
    assert!(change(&sealed, by_shares(), &StaticSlot::Of(&other())).await.unwrap());
    assert!(sealed.unseal_by(&StaticKeys { current: other(), previous: None }).is_ok());
    assert!(matches!(problem(&sealed, &keys("a", None)), StaticKeyError::WrongKey { .. }));
    assert!(change(&sealed, by_shares(), &StaticSlot::Unwanted).await.unwrap());
    assert_eq!(problem(&sealed, &StaticKeys { current: other(), previous: None }), StaticKeyError::NoSlot);
    assert_eq!(id(&sealed.facts().unwrap()), None);
    assert!(reads(&by_shares().into_barrier()));
}

#[tokio::test]
async fn of_two_changes_of_slots_the_later_one_is_refused() {
    let (_, sealed) = memory();
    initialize(&sealed, Some("a")).await.unwrap();
    let opened = || sealed.unseal_by(&keys("a", None)).unwrap();
    let (first, second) = (opened(), opened());
    let to = |opened: &tresor_barrier::Opened, id: &str| opened.with_static(&StaticSlot::Of(&key(id)), NOW).unwrap();
    let (to_b, to_c) = (to(&first, "b"), to(&second, "c"));
    let (first, second) = (first.into_barrier(), second.into_barrier());
    first.change_slots(to_b).await.unwrap();
    assert!(matches!(second.change_slots(to_c).await, Err(CommitError::Conflict)));
    assert_eq!(id(&sealed.facts().unwrap()), Some("b"));
    // A barrier that was closed changes nothing.
    let opened = sealed.unseal_by(&keys("b", None)).unwrap();
    let change = to(&opened, "d");
    let barrier = opened.into_barrier();
    barrier.stop().await;
    assert!(matches!(barrier.change_slots(change).await, Err(CommitError::Stopped)));
}

#[tokio::test]
async fn sea_01_a_static_slot_that_was_tampered_with_opens_nothing() {
    let (store, sealed) = memory();
    initialize(&sealed, Some("a")).await.unwrap();
    let at = RawKey::new(b"\0slots").unwrap();
    let whole = store.snapshot().unwrap().read(&at).unwrap().unwrap().bytes;
    let put = |bytes: Vec<u8>| {
        let version = store.snapshot().unwrap().version().next();
        store.apply(Batch::new(version, [(at.clone(), Some(bytes))].into())).unwrap();
    };
    let mut accepted = 0;
    for place in 0..whole.len() {
        let mut forged = whole.clone();
        forged[place] ^= 1;
        put(forged);
        accepted += usize::from(sealed.unseal_by(&keys("a", None)).is_ok());
    }
    // What is not this slot is not looked at here: the count of slots, the slot of shares, the time this one was made.
    let of_this_slot = 36 + 1 + 60;
    assert!(accepted < whole.len() - of_this_slot, "{accepted} of {}", whole.len());
    // The same wrapping under another id: the id is bound to it.
    let text = whole.windows(2).rposition(|pair| pair == [1, b'a']).expect("the id follows its length");
    let mut renamed = whole.clone();
    renamed[text + 1] = b'b';
    put(renamed);
    assert_eq!(id(&sealed.facts().unwrap()), Some("b"));
    let renamed = StaticKeys { current: StaticKey::new("b".to_owned(), DataKey::new(bytes("a"))), previous: None };
    assert_eq!(problem(&sealed, &renamed), StaticKeyError::WrongKey { id: "b".to_owned() });
    for garbage in [Vec::new(), vec![0; whole.len()], whole[..whole.len() - 1].to_vec()] {
        put(garbage);
        assert!(sealed.unseal_by(&keys("a", None)).is_err());
    }
}

#[tokio::test]
async fn no_byte_of_a_static_key_reaches_the_store_or_an_error() {
    let (store, sealed) = memory();
    initialize(&sealed, Some("a")).await.unwrap();
    let opened = sealed.unseal_by(&keys("b", Some("a"))).unwrap();
    change(&sealed, opened, &StaticSlot::Of(&key("b"))).await.unwrap();
    let mut seen: Vec<Vec<u8>> = store.dump().into_iter().map(|(at, value)| [at.as_bytes(), &value].concat()).collect();
    seen.push(format!("{:?} {}", problem(&sealed, &keys("a", None)), problem(&sealed, &keys("a", None))).into_bytes());
    for id in ["a", "b"] {
        let list = format!("{:?}", &bytes(id)[..8]);
        for spelled in [bytes(id)[..8].to_vec(), hex::encode(&bytes(id)[..8]).into_bytes(), list.into_bytes()] {
            assert!(!seen.iter().any(|text| text.windows(spelled.len()).any(|window| window == spelled)));
        }
    }
}

/// What a life comes to before its disk fails.
#[derive(Default)]
struct Reached {
    share: Option<Vec<u8>>,
    /// The id of the static key that was told to open last; none were told to.
    told: Vec<Option<&'static str>>,
}

/// Initialises with the key `a`, changes to `b`, to shares alone, and to `c`.
async fn live(doors: &TestDoors, reached: &mut Reached) -> Result<(), String> {
    let store =
        FileStore::open(&doors.doors, Path::new("data"), Limits::default()).map_err(|error| error.to_string())?;
    let sealed = SealedStore::open(Arc::new(store), doors.doors.clone()).map_err(|error| error.to_string())?;
    let share = initialize(&sealed, Some("a")).await?.expose().to_vec();
    reached.share = Some(share.clone());
    reached.told.push(Some("a"));
    let opened = sealed.unseal_by(&keys("b", Some("a"))).map_err(|error| error.to_string())?;
    change(&sealed, opened, &StaticSlot::Of(&key("b"))).await?;
    reached.told.push(Some("b"));
    let by_shares = || sealed.unseal_with(&combined(&sealed, &share)).map_err(|error| error.to_string());
    change(&sealed, by_shares()?, &StaticSlot::Unwanted).await?;
    reached.told.push(None);
    change(&sealed, by_shares()?, &StaticSlot::Of(&key("c"))).await?;
    reached.told.push(Some("c"));
    Ok(())
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_a_store_that_shares_and_the_key_of_its_slot_open() {
    let all = [Some("a"), Some("b"), None, Some("c")];
    let mut whole = Reached::default();
    live(&TestDoors::new(7), &mut whole).await.unwrap();
    assert_eq!(whole.told, all);
    // The same seed gives the same shares, so that what was not answered can be opened as well.
    let share = whole.share.unwrap();
    for step in 1.. {
        let doors = TestDoors::new(7);
        doors.disk.fail_from_step(Some(step));
        let mut reached = Reached::default();
        let lived = live(&doors, &mut reached).await;
        doors.disk.fail_from_step(None);
        let choices = SeededEntropy::new(step);
        doors.disk.crash(|length| match (step + choices.next()) % 3 {
            0 => 0,
            1 => length,
            _ => usize::try_from(choices.next()).unwrap_or(0) % (length + 1),
        });
        let store = FileStore::open(&doors.doors, Path::new("data"), Limits::default()).unwrap();
        let sealed = SealedStore::open(Arc::new(store), doors.doors.clone()).unwrap();
        let facts = sealed.facts().unwrap();
        if !facts.initialized {
            assert!(reached.told.is_empty(), "step {step}: what was initialised is not");
            initialize(&sealed, Some("a")).await.unwrap();
            continue;
        }
        let by_shares =
            sealed.unseal_with(&combined(&sealed, &share)).unwrap_or_else(|error| panic!("{step}: {error}"));
        assert!(reads(&by_shares.into_barrier()), "step {step}");
        // What was told last, or what was being done after that.
        let told = reached.told.len();
        let found = all.iter().position(|named| *named == id(&facts)).unwrap() + 1;
        assert!(found == told || found == told + 1, "step {step}: {found} and {told}");
        if let Some(id) = id(&facts) {
            assert!(reads(&sealed.unseal_by(&keys(id, None)).unwrap().into_barrier()), "step {step}");
        }
        if lived.is_ok() {
            assert!(step > 20, "a life has only {step} steps");
            return;
        }
    }
}

/// A key as a service would have sealed it, for a slot.
fn of_service(slot: &str, sealed: &[u8], key: u8) -> StaticKey {
    let (service, key_id, version) = ("transit".to_owned(), "unseal".to_owned(), "v1".to_owned());
    let sealed = SealedKey { slot: slot.to_owned(), service, key_id, version, sealed: sealed.to_vec() };
    StaticKey::of_service(sealed, DataKey::new([key; 32]))
}

async fn initialize_by_service(sealed: &SealedStore) -> UnsealShare {
    let key = of_service("slot-one", b"vault:v1:abc", 5);
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), Some(&key), NOW).unwrap();
    let mut first = prepared.barrier().begin().unwrap();
    first.write(&record(), b"value").unwrap();
    let (mut shares, barrier) = prepared.store(first).await.unwrap();
    barrier.stop().await;
    shares.remove(0)
}

#[tokio::test]
async fn a_key_that_lies_in_its_slot_opens_when_a_service_opened_it() {
    let (_, sealed) = memory();
    let share = initialize_by_service(&sealed).await;
    let facts = sealed.facts().unwrap();
    assert_eq!((facts.without_people[0].kind.as_str(), id(&facts)), ("transit", Some("unseal")));
    let stored = || sealed.stored_keys().unwrap();
    assert_eq!((stored().len(), stored()[0].sealed().sealed.as_slice()), (1, b"vault:v1:abc".as_slice()));
    let opened = |key: u8| stored()[0].opened_to(DataKey::new([key; 32]));
    assert!(opened(6).is_none(), "another key is not taken for it");
    let keys = StaticKeys { current: opened(5).unwrap(), previous: None };
    let by_service = sealed.unseal_by(&keys).unwrap();
    assert!(by_service.with_static(&StaticSlot::Of(&keys.current), NOW).is_none(), "nothing is left to change");
    assert!(reads(&by_service.into_barrier()));
    // A key that lies with the machine under the same id is another one.
    let disguised = StaticKeys { current: StaticKey::new("unseal".to_owned(), DataKey::new([5; 32])), previous: None };
    assert!(matches!(problem(&sealed, &disguised), StaticKeyError::UnknownId { .. }));
    // The next version takes its place, beside keys of other nodes.
    let next = of_service("slot-two", b"vault:v2:abc", 8);
    let by_shares = sealed.unseal_with(&combined(&sealed, share.expose())).unwrap();
    assert!(change(&sealed, by_shares, &StaticSlot::Beside(&next)).await.unwrap());
    let slots: Vec<String> = stored().iter().map(|key| key.sealed().slot.clone()).collect();
    assert_eq!(slots, ["slot-two"]);
}

#[tokio::test]
async fn sea_01_a_sealed_key_that_was_put_in_place_of_another_opens_nothing_and_becomes_no_slot() {
    let (store, sealed) = memory();
    initialize_by_service(&sealed).await;
    let at = RawKey::new(b"\0slots").unwrap();
    let whole = store.snapshot().unwrap().read(&at).unwrap().unwrap().bytes;
    let text = whole.windows(12).position(|window| window == b"vault:v1:abc").unwrap();
    let mut forged = whole.clone();
    forged[text + 11] = b'x';
    let version = store.snapshot().unwrap().version().next();
    store.apply(Batch::new(version, [(at, Some(forged))].into())).unwrap();
    let stored = sealed.stored_keys().unwrap();
    assert_eq!(stored[0].sealed().sealed, b"vault:v1:abx");
    // Neither the right key nor the one that the forger knows.
    for key in [5, 6] {
        assert!(stored[0].opened_to(DataKey::new([key; 32])).is_none());
    }
}
