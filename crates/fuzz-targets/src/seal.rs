//! FZ-11: what the barrier reads before it trusts anything: key slots, key ring, sealed values, what a cluster shows. Total; what was not
//! sealed for a place never opens there.

use std::sync::Arc;

use tresor_barrier::{Offer, Progress, SealFacts, SealedStore, ShareCollector, UnsealKey};
use tresor_crypto::aead::AeadKey;
use tresor_crypto::keyring::KeyRing;
use tresor_env::Timestamp;
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_secret::{DataKey, UnsealShare};
use tresor_storage::{Batch, MemoryStore, RawKey, Store, Version};

/// Key slots, a ring, a sealed value.
pub fn seal(bytes: &[u8]) {
    slots(bytes);
    offer(bytes);
    let entropy = SeededEntropy::new(5);
    if let Ok(ring) = KeyRing::decode(bytes) {
        let written = ring.encode();
        let again = KeyRing::decode(&written).expect("what is written is a ring");
        assert_eq!((again.active_term(), &*again.encode()), (ring.active_term(), &*written));
        let sealed = ring.seal_value(b"at", b"value", &entropy);
        assert!(again.open_value(b"at", &sealed).is_ok() && again.open_value(b"elsewhere", &sealed).is_err());
    }
    let ring = KeyRing::generate(&entropy, Timestamp::EPOCH);
    assert!(ring.open_value(b"at", bytes).is_err(), "opened what was never sealed");
    let sealed = ring.seal_value(b"at", bytes, &entropy);
    assert_eq!(ring.open_value(b"at", &sealed).ok().as_deref().map(Vec::as_slice), Some(bytes));
    changed(&ring, &sealed, bytes);
}

/// The sealed value with one byte changed, cut, or grown.
fn changed(ring: &KeyRing, sealed: &[u8], bytes: &[u8]) {
    let (at, with) = match bytes {
        [at, with, ..] => (usize::from(*at) % sealed.len(), (*with).max(1)),
        _ => (0, 1),
    };
    let mut flipped = sealed.to_vec();
    flipped.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
    assert!(ring.open_value(b"at", &flipped).is_err(), "opened with byte {at} changed");
    assert!(ring.open_value(b"at", sealed.get(..at).unwrap_or_default()).is_err(), "opened when cut at {at}");
    assert!(ring.open_value(b"at", &[sealed, &[with]].concat()).is_err(), "opened when grown");
    assert!(AeadKey::new(&DataKey::new([7; 32])).open(b"at", sealed).is_err(), "opened by another key");
}

/// What a leader showed a node that wants to join.
fn offer(bytes: &[u8]) {
    let Ok(offer) = Offer::decode(bytes) else { return };
    let written = offer.encode();
    let again = Offer::decode(&written).expect("what is written is an offer");
    assert_eq!((again.facts(), again.encode()), (offer.facts(), written));
    let facts = offer.facts();
    // A store that opens by itself may have no shares yet.
    let has_none = facts.threshold == 0 && facts.shares == 0;
    assert!(has_none || facts.threshold > 0 && facts.threshold <= facts.shares, "shares could never be enough");
    assert!(offer.open_with(&made_up(&facts)).is_err(), "a key that was made up opens a slot");
}

/// The key that a share of one is.
fn made_up(facts: &SealFacts) -> UnsealKey {
    let facts = SealFacts { shares: 1, threshold: 1, ..facts.clone() };
    let share = UnsealShare::new(vec![9; 32]);
    let Ok(Progress::Complete(key)) = ShareCollector::default().submit(share, &facts, &SeededEntropy::new(5)) else {
        panic!("one share of one is enough");
    };
    key
}

/// A store whose key slots are these bytes.
fn slots(bytes: &[u8]) {
    let store = Arc::new(MemoryStore::new());
    let key = RawKey::new(b"\0slots").expect("a short key");
    store.apply(Batch::new(Version(1), [(key, Some(bytes.to_vec()))].into())).expect("memory takes it");
    let Ok(sealed) = SealedStore::open(store, TestDoors::new(1).doors) else { return };
    let facts = sealed.facts().expect("it was readable a moment ago");
    assert!(sealed.unseal_with(&made_up(&facts)).is_err(), "a key that was made up opens a slot");
}
