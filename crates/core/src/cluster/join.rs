//! How a node proves that it may join, and the leader that it is of the cluster: pure functions of their arguments.
//!
//! The leader's *challenge* is a keyed hash over term, time, nonce and who asks, so nothing is kept for it. Who could open
//! the store proves it over the challenge and over every field that is asked for: whoever relays can change none. The
//! leader's *welcome* proves the same over the members, or a false one could plant its keys. Nothing secret is handed
//! out: all that a node gets is that its key is one of the members'. Deliberately absent: a clock, entropy, messages,
//! and what a cluster does with who was admitted ([`membership`](super::membership)).

use std::fmt;
use std::time::Duration;

use tresor_barrier::JoinKey;
use tresor_crypto::hash::HmacKey;
use tresor_env::Timestamp;

use super::Contact;
use super::roster::Roster;

/// How long a challenge is taken: time enough for a slow network, not for people.
const CHALLENGE_LIFE: Duration = Duration::from_secs(600);
/// The longest name of a node.
const NAME_BYTES_MAX: usize = 256;
/// The longest address.
const ADDRESS_BYTES_MAX: usize = 300;
/// The version of what is hashed, as the first byte of a challenge.
const VERSION: u8 = 1;
const CHALLENGE_BYTES: usize = 1 + 8 + 8 + 16 + 32;
const TAG_BYTES: usize = 32;

/// A node that wants to join, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    contact: Contact,
    wants_vote: bool,
}

/// Why this can be no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnApplicant {
    /// The name.
    #[error("`server_id` is 1 to 256 letters, digits, `.`, `_` and `-`")]
    Name,
    /// The address of the cluster port.
    #[error("`cluster_addr` is the host and port that other nodes reach")]
    ClusterAddress,
    /// The address of the API.
    #[error("`api_addr` is the address of the node's API, with its scheme")]
    ApiAddress,
}

impl Applicant {
    /// Checks what is asked for.
    ///
    /// # Errors
    /// [`NotAnApplicant`].
    pub fn new(contact: Contact, wants_vote: bool) -> Result<Self, NotAnApplicant> {
        if !is_name(&contact.name) {
            return Err(NotAnApplicant::Name);
        }
        if !is_cluster_address(&contact.cluster_address) {
            return Err(NotAnApplicant::ClusterAddress);
        }
        let api = &contact.api_address;
        if !is_short(api) || !(api.is_empty() || api.starts_with("https://") || api.starts_with("http://")) {
            return Err(NotAnApplicant::ApiAddress);
        }
        Ok(Self { contact, wants_vote })
    }

    /// What it is to be called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.contact.name
    }

    /// What is signed of it, each field with its length.
    fn message(&self, challenge: &[u8]) -> Vec<u8> {
        let mut message = b"tresor join 1".to_vec();
        push(&mut message, challenge);
        push_contact(&mut message, &self.contact);
        message.push(u8::from(self.wants_vote));
        message
    }
}

fn is_short(address: &str) -> bool {
    address.len() <= ADDRESS_BYTES_MAX && !address.chars().any(|c| c.is_control() || c == ' ')
}

/// Whether this is host and port of a cluster port.
#[must_use]
pub fn is_cluster_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    is_short(text) && !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether a node may be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Why a node was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// It is no challenge of this cluster, or was given to somebody else.
    #[error("the challenge was not given to this node")]
    NotGiven,
    /// Another leader gave it, or this one in another term.
    #[error("the challenge was given in another term")]
    OtherTerm,
    /// It was given too long ago, or is from a time to come.
    #[error("the challenge is not of the last minutes")]
    Expired,
    /// It does not know the key, or what it asked for was changed on the way.
    #[error("the proof is not of this key and of what is asked for")]
    Unproven,
    /// Another node is called so.
    #[error("another node has this name: remove that one first, or choose another name")]
    NameTaken,
    /// The node is a member by another name.
    #[error("the node is a member by another name")]
    KeyTaken,
    /// The node was removed.
    #[error("the node was removed from the cluster: it joins again once its directory is empty")]
    Removed,
}

impl JoinRefused {
    /// What the node is told. Only who has proven that it could open the store is told more than that it was refused.
    #[must_use]
    pub fn public(self) -> String {
        match self {
            Self::NotGiven | Self::OtherTerm | Self::Expired | Self::Unproven => "the join was refused".to_owned(),
            Self::NameTaken | Self::KeyTaken | Self::Removed => format!("the join was refused: {self}"),
        }
    }
}

/// A node that has proven that it may be a member: made by [`Leader::admit`] alone.
#[derive(Debug)]
pub struct Admitted {
    contact: Contact,
    wants_vote: bool,
    is_known: bool,
}

impl Admitted {
    /// How it is reached.
    #[must_use]
    pub const fn contact(&self) -> &Contact {
        &self.contact
    }

    /// The same, for the list of members.
    #[must_use]
    pub fn into_contact(self) -> Contact {
        self.contact
    }

    /// Whether it is to have a vote.
    #[must_use]
    pub const fn wants_vote(&self) -> bool {
        self.wants_vote
    }

    /// Whether it is a member already: then nothing is to change, whatever it asks for.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.is_known
    }
}

/// What the leader of a term knows at one moment.
pub struct Leader<'l> {
    /// The key of challenges.
    pub challenges: &'l HmacKey,
    /// The key that is proven.
    pub join: &'l JoinKey,
    /// Its term.
    pub term: u64,
    /// The moment.
    pub now: Timestamp,
}

impl fmt::Debug for Leader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("term", &self.term).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Leader<'_> {
    /// What a node is given before it proves anything.
    #[must_use]
    pub fn challenge(&self, nonce: [u8; 16], name: &str, key: &[u8; 32]) -> Vec<u8> {
        let mut challenge = vec![VERSION];
        challenge.extend(self.term.to_be_bytes());
        challenge.extend(self.now.seconds().to_be_bytes());
        challenge.extend(nonce);
        let tag = self.challenges.sign(&given(&challenge, name, key));
        challenge.extend(tag);
        challenge
    }

    /// Whether a node becomes, or is, a member.
    ///
    /// # Errors
    /// [`JoinRefused`].
    pub fn admit(
        &self,
        challenge: &[u8],
        applicant: Applicant,
        proof: &[u8],
        members: &[Contact],
        roster: &Roster,
    ) -> Result<Admitted, JoinRefused> {
        let contact = &applicant.contact;
        let is_whole = challenge.len() == CHALLENGE_BYTES && challenge.first() == Some(&VERSION);
        let (head, tag) = challenge.split_at(challenge.len().saturating_sub(TAG_BYTES));
        if !self.challenges.verifies(&given(head, &contact.name, &contact.key), tag) || !is_whole {
            return Err(JoinRefused::NotGiven);
        }
        if number(head, 1) != Some(self.term) {
            return Err(JoinRefused::OtherTerm);
        }
        let issued = number(head, 9).and_then(|seconds| i64::try_from(seconds).ok()).map(Timestamp::from_seconds);
        if !issued.is_some_and(|issued| issued <= self.now && self.now.since(issued) <= CHALLENGE_LIFE) {
            return Err(JoinRefused::Expired);
        }
        if !self.join.verifies(&applicant.message(challenge), proof) {
            return Err(JoinRefused::Unproven);
        }
        let by_name = members.iter().find(|member| member.name == contact.name);
        let by_key = members.iter().find(|member| member.key == contact.key);
        let is_known = match (by_name, by_key) {
            (Some(by_name), _) if by_name.key != contact.key => return Err(JoinRefused::NameTaken),
            (None, Some(_)) => return Err(JoinRefused::KeyTaken),
            (Some(_), _) => true,
            (None, None) if roster.was_removed(&contact.key) => return Err(JoinRefused::Removed),
            (None, None) => false,
        };
        Ok(Admitted { contact: applicant.contact, wants_vote: applicant.wants_vote, is_known })
    }
}

/// The proof of a node that could open the store.
#[must_use]
pub fn prove(join: &JoinKey, challenge: &[u8], applicant: &Applicant) -> [u8; 32] {
    join.sign(&applicant.message(challenge))
}

/// The leader's proof that these are the members.
#[must_use]
pub fn welcome(join: &JoinKey, challenge: &[u8], members: &[Contact]) -> [u8; 32] {
    join.sign(&welcomed(challenge, members))
}

/// Whether these are the members of the cluster whose challenge it was.
#[must_use]
pub fn is_welcome(join: &JoinKey, challenge: &[u8], members: &[Contact], welcome: &[u8]) -> bool {
    join.verifies(&welcomed(challenge, members), welcome)
}

fn welcomed(challenge: &[u8], members: &[Contact]) -> Vec<u8> {
    let mut message = b"tresor joined 1".to_vec();
    push(&mut message, challenge);
    message.extend((members.len() as u64).to_be_bytes());
    members.iter().for_each(|member| push_contact(&mut message, member));
    message
}

/// What the tag of a challenge is of.
fn given(head: &[u8], name: &str, key: &[u8; 32]) -> Vec<u8> {
    let mut message = b"tresor challenge 1".to_vec();
    push(&mut message, head);
    push(&mut message, name.as_bytes());
    push(&mut message, key);
    message
}

pub(super) fn push_contact(message: &mut Vec<u8>, contact: &Contact) {
    let Contact { name, key, cluster_address, api_address } = contact;
    for field in [name.as_bytes(), key, cluster_address.as_bytes(), api_address.as_bytes()] {
        push(message, field);
    }
}

pub(super) fn push(message: &mut Vec<u8>, field: &[u8]) {
    message.extend((field.len() as u64).to_be_bytes());
    message.extend(field);
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}
