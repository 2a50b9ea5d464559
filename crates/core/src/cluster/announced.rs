//! What a node says of itself where nodes share a store and have no log: how it is reached, with a proof that it could open the
//! store.
//!
//! It lies beside what is stored, where whoever runs the database can write as well; so nothing of it counts without the proof,
//! or requests would be passed on to whom that one names. The proof covers the place where it lies. Deliberately absent: that
//! place, and who leads.

use tresor_barrier::JoinKey;
use tresor_record::Record;

use super::Contact;
use super::join::{push, push_contact};

/// The longest announcement that is read.
const BYTES_MAX: usize = 4096;

#[derive(Record)]
#[record(kind = "announced node", version = 1)]
struct Announced {
    name: String,
    key: Vec<u8>,
    cluster_address: String,
    api_address: String,
    release: String,
    proof: Vec<u8>,
}

/// Says how a node is reached, and of which release it is.
#[must_use]
pub fn announce(join: &JoinKey, place: i64, contact: &Contact, release: &str) -> Vec<u8> {
    let Contact { name, key, cluster_address, api_address } = contact.clone();
    let proof = join.sign(&message(place, contact, release)).to_vec();
    let announced =
        Announced { name, key: key.to_vec(), cluster_address, api_address, release: release.to_owned(), proof };
    announced.encode().to_vec()
}

/// Who is reached how, and of which release it is, as it said itself; nothing when nobody who could open the store said so.
#[must_use]
pub fn heard(join: &JoinKey, place: i64, bytes: &[u8]) -> Option<(Contact, String)> {
    if bytes.len() > BYTES_MAX {
        return None;
    }
    let Announced { name, key, cluster_address, api_address, release, proof } = Announced::decode(bytes).ok()?;
    let contact = Contact { name, key: key.as_slice().try_into().ok()?, cluster_address, api_address };
    join.verifies(&message(place, &contact, &release), &proof).then_some((contact, release))
}

/// What is signed, each field with its length.
fn message(place: i64, contact: &Contact, release: &str) -> Vec<u8> {
    let mut message = b"tresor announced 1".to_vec();
    push(&mut message, &place.to_be_bytes());
    push_contact(&mut message, contact);
    push(&mut message, release.as_bytes());
    message
}
