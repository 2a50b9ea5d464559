//! The feed of changes: nobody reads a batch before every follower has followed it.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tresor_barrier::{
    Area, Barrier, Changed, CommitError, FollowError, Follower, KeyPrefix, SealedStore, StorageKey, Txn,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_model::ids::NamespaceId;
use tresor_storage::MemoryStore;

fn key(name: &str) -> StorageKey {
    StorageKey::new(&NamespaceId::root(), Area::Tokens, name).unwrap()
}

fn open() -> Barrier {
    let sealed = SealedStore::open(Arc::new(MemoryStore::new()), TestDoors::new(1).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    prepared.store(first).now_or_never().unwrap().unwrap().1
}

/// A record's value at some moment.
type Seen = Option<Vec<u8>>;

/// What was followed: the record as the batch left it, and as everybody else saw it at that moment.
struct Watcher {
    barrier: Barrier,
    fails: AtomicBool,
    seen: Mutex<Vec<(Seen, Seen)>>,
}

fn value(txn: &mut Txn) -> Seen {
    txn.read(&key("a")).unwrap().map(|plaintext| plaintext.to_vec())
}

impl Follower for Watcher {
    fn wants(&self) -> Vec<KeyPrefix> {
        vec![KeyPrefix::new(&NamespaceId::root(), Area::Tokens, "").unwrap()]
    }

    fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), FollowError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("the memory of a follower is full".into());
        }
        assert!(matches!(changed, Changed::Names(names) if *names == [key("a")]));
        let others = value(&mut self.barrier.begin().unwrap());
        self.seen.lock().unwrap().push((value(txn), others));
        Ok(())
    }
}

fn watched() -> (Barrier, Arc<Watcher>) {
    let barrier = open();
    let (fails, seen) = (AtomicBool::new(false), Mutex::default());
    let watcher = Arc::new(Watcher { barrier: barrier.clone(), fails, seen });
    let follower: Arc<dyn Follower> = Arc::<Watcher>::clone(&watcher);
    barrier.follow_with(&follower, barrier.begin().unwrap().read_version()).unwrap();
    (barrier, watcher)
}

async fn put(barrier: &Barrier, text: &[u8]) -> Result<(), CommitError> {
    let mut txn = barrier.begin().unwrap();
    txn.write(&key("a"), text).unwrap();
    barrier.commit(txn).await.map(drop)
}

#[tokio::test]
async fn a_batch_is_followed_before_anybody_can_read_it() {
    let (barrier, watcher) = watched();
    put(&barrier, b"1").await.unwrap();
    put(&barrier, b"2").await.unwrap();
    let (one, two) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    assert_eq!(*watcher.seen.lock().unwrap(), [(one.clone(), None), (two.clone(), one)]);
    assert_eq!(value(&mut barrier.begin().unwrap()), two);
}

#[tokio::test]
async fn what_cannot_be_followed_is_shown_to_nobody_until_it_can() {
    let (barrier, watcher) = watched();
    put(&barrier, b"1").await.unwrap();
    watcher.fails.store(true, Ordering::Relaxed);
    assert!(matches!(put(&barrier, b"2").await, Err(CommitError::Unfollowed(_))));
    assert_eq!(value(&mut barrier.begin().unwrap()), Some(b"1".to_vec()), "an old answer, and no torn one");
    assert!(matches!(put(&barrier, b"3").await, Err(CommitError::Unfollowed(_))), "nothing is added to it");
    assert!(matches!(barrier.catch_up().await, Err(CommitError::Unfollowed(_))));
    watcher.fails.store(false, Ordering::Relaxed);
    barrier.catch_up().await.unwrap();
    assert_eq!(value(&mut barrier.begin().unwrap()), Some(b"2".to_vec()), "the commit stood all the while");
    put(&barrier, b"4").await.unwrap();
    assert_eq!(value(&mut barrier.begin().unwrap()), Some(b"4".to_vec()));
}

#[tokio::test]
async fn what_was_written_while_a_follower_was_loaded_is_followed_at_once() {
    struct Counting(Mutex<Vec<bool>>);
    impl Follower for Counting {
        fn wants(&self) -> Vec<KeyPrefix> {
            Vec::new()
        }

        fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), FollowError> {
            assert_eq!(value(txn), Some(b"2".to_vec()));
            self.0.lock().unwrap().push(matches!(changed, Changed::Everything));
            Ok(())
        }
    }
    let barrier = open();
    put(&barrier, b"1").await.unwrap();
    let loaded = barrier.begin().unwrap().read_version();
    put(&barrier, b"2").await.unwrap();
    let counting = Arc::new(Counting(Mutex::default()));
    let follower: Arc<dyn Follower> = Arc::<Counting>::clone(&counting);
    barrier.follow_with(&follower, loaded).unwrap();
    assert_eq!(*counting.0.lock().unwrap(), [true]);
    barrier.follow_with(&follower, barrier.begin().unwrap().read_version()).unwrap();
    put(&barrier, b"3").await.unwrap();
    assert_eq!(*counting.0.lock().unwrap(), [true], "it does not want to hear of others' names");
}
