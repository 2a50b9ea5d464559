//! What a node that wants to join is shown: whoever could open the store gets the members' key from it, nobody else does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use proptest::prelude::*;
use tresor_barrier::{
    Offer, Progress, SealFacts, SealedStore, ShareCollector, StaticKey, StaticKeys, UnsealError, UnsealKey,
};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_record::Record;
use tresor_secret::{DataKey, UnsealShare};
use tresor_storage::MemoryStore;

/// An offer as it is spelled.
#[derive(Record)]
#[record(kind = "offer", version = 1)]
struct Sent {
    slots: Vec<u8>,
    ring: Vec<u8>,
}

const STATIC: [u8; 32] = [7; 32];

fn static_keys(bytes: [u8; 32]) -> StaticKeys {
    StaticKeys { current: StaticKey::new("k".to_owned(), DataKey::new(bytes)), previous: None }
}

fn combined(shares: &[Vec<u8>], facts: &SealFacts) -> UnsealKey {
    let mut collector = ShareCollector::default();
    for share in shares {
        let share = UnsealShare::new(share.clone());
        if let Ok(Progress::Complete(key)) = collector.submit(share, facts, &SeededEntropy::new(1)) {
            return key;
        }
    }
    panic!("too few shares");
}

/// A store that three shares and a static key open; its shares, its offer, and what its members' key makes of a message.
async fn cluster(seed: u64) -> (Vec<Vec<u8>>, Vec<u8>, [u8; 32]) {
    let sealed = SealedStore::open(Arc::new(MemoryStore::new()), TestDoors::new(seed).doors).unwrap();
    assert!(sealed.offer().unwrap().is_none());
    let keys = static_keys(STATIC);
    let threshold = Threshold::new(3, 2).unwrap();
    let prepared = sealed.prepare(threshold, Some(&keys.current), Timestamp::EPOCH).unwrap();
    let first = prepared.barrier().begin().unwrap();
    let (shares, barrier) = prepared.store(first).await.unwrap();
    let signed = barrier.join_key().sign(b"message");
    assert_ne!(barrier.challenge_key().sign(b"message"), signed);
    barrier.stop().await;
    let shares = shares.iter().map(|share| share.expose().to_vec()).collect();
    (shares, sealed.offer().unwrap().unwrap().encode(), signed)
}

#[tokio::test]
async fn whoever_opens_a_slot_has_the_members_key() {
    let (shares, bytes, signed) = cluster(4).await;
    let offer = Offer::decode(&bytes).unwrap();
    let facts = offer.facts();
    assert!(facts.initialized && (facts.shares, facts.threshold) == (3, 2));
    assert_eq!(facts.without_people.first().map(|key| key.id.as_str()), Some("k"));
    let by_shares = offer.open_with(&combined(&shares[1..], &facts)).unwrap();
    let by_itself = offer.open_by(&static_keys(STATIC)).unwrap();
    assert_eq!((by_shares.sign(b"message"), by_itself.sign(b"message")), (signed, signed));
    assert!(by_shares.verifies(b"message", &signed) && !by_shares.verifies(b"other", &signed));
}

#[tokio::test]
async fn nobody_else_has() {
    let (_, bytes, _) = cluster(4).await;
    let (strangers, other, _) = cluster(5).await;
    let offer = Offer::decode(&bytes).unwrap();
    let key = combined(&strangers, &offer.facts());
    assert!(matches!(offer.open_with(&key), Err(UnsealError::WrongKey)));
    assert!(matches!(offer.open_by(&static_keys([8; 32])), Err(UnsealError::StaticKey(_))));
    // Slots of one cluster with the ring of another: the key of both is right, and opens nothing.
    let mixed = Sent { slots: Sent::decode(&bytes).unwrap().slots, ring: Sent::decode(&other).unwrap().ring };
    let mixed = mixed.encode();
    let mixed = Offer::decode(&mixed).unwrap();
    assert!(matches!(mixed.open_by(&static_keys(STATIC)), Err(UnsealError::Ring(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_an_offer_or_an_error(bytes: Vec<u8>) {
        let _ = Offer::decode(&bytes);
    }
}
