//! What a node says of itself beside a shared store counts only if somebody said it who could open the store (HA-2).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tresor_barrier::{JoinKey, SealedStore};
use tresor_core::cluster::Contact;
use tresor_core::cluster::announced::{announce, heard};
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_storage::MemoryStore;

async fn key_of_a_store(seed: u64) -> JoinKey {
    let sealed = SealedStore::open(Arc::new(MemoryStore::new()), TestDoors::new(seed).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    prepared.barrier().join_key()
}

#[tokio::test]
async fn only_who_could_open_the_store_is_heard_and_only_where_it_spoke() {
    let (join, other) = (key_of_a_store(1).await, key_of_a_store(2).await);
    let contact = Contact {
        name: "a".to_owned(),
        key: [7; 32],
        cluster_address: "10.0.0.1:8201".to_owned(),
        api_address: "https://10.0.0.1:8200".to_owned(),
    };
    let said = announce(&join, 5, &contact, "1.17.0");
    assert_eq!(heard(&join, 5, &said), Some((contact, "1.17.0".to_owned())));
    assert_eq!(heard(&join, 6, &said), None, "another place");
    assert_eq!(heard(&other, 5, &said), None, "another store");
    for at in 0..said.len() {
        let mut changed = said.clone();
        changed.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        assert_eq!(heard(&join, 5, &changed), None, "byte {at}");
        assert_eq!(heard(&join, 5, said.get(..at).unwrap()), None, "up to {at}");
    }
}
