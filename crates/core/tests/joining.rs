//! Joining as pure logic: who is admitted, and that nothing can be changed on the way (RFT-01, RFT-10).
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use tresor_barrier::{JoinKey, SealedStore};
use tresor_core::cluster::Contact;
use tresor_core::cluster::join::{Admitted, Applicant, JoinRefused, Leader, is_welcome, prove, welcome};
use tresor_core::cluster::roster::Roster;
use tresor_crypto::hash::HmacKey;
use tresor_crypto::shamir::Threshold;
use tresor_env::Timestamp;
use tresor_env::doubles::TestDoors;
use tresor_storage::MemoryStore;

struct Cluster {
    join: JoinKey,
    challenges: HmacKey,
}

/// The keys of two clusters.
static CLUSTERS: LazyLock<[Cluster; 2]> = LazyLock::new(|| [cluster(1), cluster(2)]);

fn cluster(seed: u64) -> Cluster {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let sealed = SealedStore::open(Arc::new(MemoryStore::new()), TestDoors::new(seed).doors).unwrap();
    let prepared = sealed.prepare(Threshold::new(1, 1).unwrap(), None, Timestamp::EPOCH).unwrap();
    let barrier = prepared.barrier();
    Cluster { join: barrier.join_key(), challenges: barrier.challenge_key() }
}

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
const TERM: u64 = 7;
const HOUR: Duration = Duration::from_secs(3600);

fn leader() -> Leader<'static> {
    let Cluster { join, challenges } = &CLUSTERS[0];
    Leader { challenges, join, term: TERM, now: NOW }
}

fn contact(name: &str, key: u8) -> Contact {
    Contact {
        name: name.to_owned(),
        key: [key; 32],
        cluster_address: format!("{name}:8201"),
        api_address: format!("https://{name}:8200"),
    }
}

fn applicant(contact: Contact, wants_vote: bool) -> Applicant {
    Applicant::new(contact, wants_vote).unwrap()
}

/// All that a node sends.
#[derive(Clone)]
struct Sent {
    challenge: Vec<u8>,
    contact: Contact,
    wants_vote: bool,
    proof: Vec<u8>,
}

impl Sent {
    fn by(contact: Contact, wants_vote: bool) -> Self {
        let challenge = leader().challenge([3; 16], &contact.name, &contact.key);
        let proof = prove(&CLUSTERS[0].join, &challenge, &applicant(contact.clone(), wants_vote)).to_vec();
        Self { challenge, contact, wants_vote, proof }
    }

    fn to(&self, leader: &Leader<'_>, members: &[Contact], roster: &Roster) -> Result<Admitted, JoinRefused> {
        let applicant = applicant(self.contact.clone(), self.wants_vote);
        leader.admit(&self.challenge, applicant, &self.proof, members, roster)
    }

    fn refused(&self, leader: &Leader<'_>) -> Option<JoinRefused> {
        self.to(leader, &[], &Roster::default()).err()
    }
}

#[test]
fn who_could_open_the_store_is_admitted() {
    let sent = Sent::by(contact("b", 2), true);
    let admitted = sent.to(&leader(), &[contact("a", 1)], &Roster::default()).unwrap();
    assert_eq!((admitted.contact(), admitted.wants_vote(), admitted.is_known()), (&sent.contact, true, false));
    let without = Sent::by(contact("b", 2), false).to(&leader(), &[], &Roster::default()).unwrap();
    assert!(!without.wants_vote());
}

#[test]
fn an_answer_that_comes_again_changes_nothing() {
    let sent = Sent::by(contact("b", 2), true);
    let members = [contact("a", 1), contact("b", 2)];
    assert!(sent.to(&leader(), &members, &Roster::default()).unwrap().is_known());
    // RFT-01: nor does one that asks for something else, proven or not.
    let mut moved = contact("b", 2);
    moved.cluster_address = "elsewhere:1".to_owned();
    for sent in [Sent::by(contact("b", 2), false), Sent::by(moved, true)] {
        assert!(sent.to(&leader(), &members, &Roster::default()).unwrap().is_known());
    }
}

#[test]
fn nobody_takes_the_place_of_a_member() {
    let members = [contact("a", 1), contact("b", 2)];
    let refused = |contact| Sent::by(contact, true).to(&leader(), &members, &Roster::default()).err();
    assert_eq!(refused(contact("b", 9)), Some(JoinRefused::NameTaken));
    assert_eq!(refused(contact("c", 2)), Some(JoinRefused::KeyTaken));
    assert_eq!(refused(contact("a", 2)), Some(JoinRefused::NameTaken));
}

#[test]
fn who_was_removed_stays_outside_with_its_key() {
    let mut roster = Roster::default();
    roster.remove(&[2; 32], "b", NOW);
    let refused = |contact| Sent::by(contact, true).to(&leader(), &[], &roster).err();
    assert_eq!(refused(contact("b", 2)), Some(JoinRefused::Removed));
    assert_eq!(refused(contact("other", 2)), Some(JoinRefused::Removed));
    assert_eq!(refused(contact("b", 3)), None);
}

#[test]
fn a_challenge_is_of_this_cluster_this_term_and_the_last_minutes() {
    let sent = Sent::by(contact("b", 2), true);
    let [_, other] = &*CLUSTERS;
    let at = |seconds: i64| Timestamp::from_seconds(NOW.seconds() + seconds);
    assert_eq!(sent.refused(&Leader { now: at(600), ..leader() }), None);
    assert_eq!(sent.refused(&Leader { now: at(601), ..leader() }), Some(JoinRefused::Expired));
    assert_eq!(sent.refused(&Leader { now: at(-1), ..leader() }), Some(JoinRefused::Expired));
    assert_eq!(sent.refused(&Leader { term: TERM + 1, ..leader() }), Some(JoinRefused::OtherTerm));
    assert_eq!(sent.refused(&Leader { challenges: &other.challenges, ..leader() }), Some(JoinRefused::NotGiven));
    assert_eq!(sent.refused(&Leader { join: &other.join, ..leader() }), Some(JoinRefused::Unproven));
}

#[test]
fn only_who_has_proven_that_it_may_is_told_why_not() {
    use JoinRefused::{Expired, KeyTaken, NameTaken, NotGiven, OtherTerm, Removed, Unproven};
    for refused in [NotGiven, OtherTerm, Expired, Unproven] {
        assert_eq!(refused.public(), "the join was refused");
    }
    for refused in [NameTaken, KeyTaken, Removed] {
        assert!(refused.public().contains(&refused.to_string()));
    }
}

#[test]
fn what_cannot_be_a_member_is_refused_by_name() {
    let with = |change: fn(&mut Contact)| {
        let mut contact = contact("b", 2);
        change(&mut contact);
        Applicant::new(contact, true).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(with(|_| {}), "");
    assert_eq!(with(|contact| contact.api_address.clear()), "");
    assert_eq!(with(|contact| contact.cluster_address = "[::1]:8201".to_owned()), "");
    for name in [String::new(), "a b".to_owned(), "a/b".to_owned(), "ä".to_owned(), "a".repeat(257)] {
        assert!(Applicant::new(Contact { name, ..contact("b", 2) }, true).is_err());
    }
    for address in ["", "b", ":1", "b:0", "b:70000", "https://b:1", "b :1", "b\n:1"] {
        let cluster_address = address.to_owned();
        assert!(Applicant::new(Contact { cluster_address, ..contact("b", 2) }, true).is_err(), "{address}");
    }
    assert!(with(|contact| contact.api_address = "b:8200".to_owned()).contains("api_addr"));
}

#[test]
fn a_false_leader_plants_no_keys() {
    let [own, other] = &*CLUSTERS;
    let challenge = leader().challenge([3; 16], "b", &[2; 32]);
    let members = [contact("a", 1), contact("b", 2)];
    let tag = welcome(&own.join, &challenge, &members);
    assert!(is_welcome(&own.join, &challenge, &members, &tag));
    let planted = [contact("a", 9), contact("b", 2)];
    let fewer = [contact("a", 1)];
    let mut moved = members.clone();
    moved[0].cluster_address = "elsewhere:8201".to_owned();
    for false_members in [&planted[..], &fewer, &moved, &[]] {
        assert!(!is_welcome(&own.join, &challenge, false_members, &tag));
    }
    assert!(!is_welcome(&own.join, &leader().challenge([4; 16], "b", &[2; 32]), &members, &tag));
    assert!(!is_welcome(&own.join, &challenge, &members, &welcome(&other.join, &challenge, &members)));
    // A proof of a node is no welcome of a leader.
    let proof = prove(&own.join, &challenge, &applicant(contact("b", 2), true));
    assert!(!is_welcome(&own.join, &challenge, &members, &proof));
}

#[test]
fn lists_of_nodes_are_bounded() {
    let key = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    };
    let mut roster = Roster::default();
    for number in 0..2000 {
        roster.remove(&key(number), "n", NOW);
        assert_eq!(roster.await_vote(&key(number), NOW), number < 64);
    }
    assert!(!roster.was_removed(&key(0)) && roster.was_removed(&key(1999)) && roster.awaits_vote(&key(63)));
    assert!(roster.await_vote(&key(63), NOW), "who waits already waits on");
    // Who never became a member makes room; who was removed waits no more.
    roster.remove(&key(1), "n", NOW);
    assert!(!roster.awaits_vote(&key(1)) && roster.settle(&key(2)) && !roster.settle(&key(2)));
    assert!(!roster.forget_strangers(NOW, HOUR, |_| false));
    assert!(roster.forget_strangers(NOW.plus(HOUR), HOUR, |member| member == key(3)));
    assert!(roster.awaits_vote(&key(3)) && !roster.awaits_vote(&key(4)));
}

proptest! {
    /// RFT-10: whoever relays an answer can change nothing of it.
    #[test]
    fn every_field_is_bound(which in 0..7_u8, at: prop::sample::Index, bit in 0..8_u8, text in "[a-z]{1,8}") {
        let sent = Sent::by(contact("node", 2), true);
        let mut changed = sent.clone();
        let flip = |bytes: &mut [u8]| bytes[at.index(bytes.len())] ^= 1 << bit;
        match which {
            0 => flip(&mut changed.challenge),
            1 => flip(&mut changed.proof),
            2 => flip(&mut changed.contact.key),
            3 => changed.wants_vote = false,
            4 => changed.contact.name.push_str(&text),
            5 => changed.contact.cluster_address.insert_str(0, &text),
            _ => changed.contact.api_address.push_str(&text),
        }
        prop_assert!(sent.refused(&leader()).is_none());
        prop_assert!(changed.refused(&leader()).is_some());
    }

    /// Fields have their lengths in what is signed: none runs into the next.
    #[test]
    fn fields_do_not_run_together(cut in 1..4_usize) {
        let sent = Sent::by(contact("node", 2), true);
        let mut changed = sent.clone();
        let moved: String = changed.contact.api_address.drain(..cut).collect();
        changed.contact.cluster_address.push_str(&moved);
        let applicant = Applicant::new(changed.contact, true);
        let is_refused = applicant.map_or(true, |applicant| {
            leader().admit(&sent.challenge, applicant, &sent.proof, &[], &Roster::default()).is_err()
        });
        prop_assert!(is_refused);
    }

    #[test]
    fn any_bytes_are_refused(challenge: Vec<u8>, proof: Vec<u8>) {
        let sent = Sent { challenge, contact: contact("b", 2), wants_vote: true, proof };
        prop_assert_eq!(sent.refused(&leader()), Some(JoinRefused::NotGiven));
    }
}
