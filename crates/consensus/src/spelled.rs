//! How entries, votes and members are spelled as bytes, in the log, in the machine and in messages.
//!
//! ```text
//! entry: kind (1) | term (8) | batch: version (8), note, writes | members: see `members` | nothing
//!                            | restore: version (8), pieces (4)
//! ```
//!
//! Little-endian. Members were spelled without the addresses of their APIs at first, which is read still. Where bytes come from a disk or a peer, reading them gives `None` at the first one that is wrong.
//! Deliberately absent: checksums (the log's frames and the connections have them).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::EntryPayload;
use tresor_storage::{Batch, Version};

use crate::peers::{Contact, NodeId};
use crate::types::{Entry, LogId, Membership, Proposal, Proposer, StoredMembership, Vote, log_id};

const BATCH: u8 = 2;
/// Members, without the addresses of their APIs: not written any more.
const MEMBERS_1: u8 = 3;
const NOTHING: u8 = 4;
const MEMBERS: u8 = 5;
const RESTORE: u8 = 6;
/// In front of the members that a machine keeps; at first there was nothing, and what followed began with 0 or 1.
const STORED_MEMBERS: u8 = 2;
/// A higher term or index than any log has.
pub(crate) const COUNTED_MAX: u64 = u64::MAX >> 1;
/// More nodes than any cluster has.
const NODES_MAX: u32 = 1024;

/// Bytes that are read from the front.
pub(crate) struct Reader<'b>(pub(crate) &'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    /// A number that counts on: a term or an index. One that cannot be counted on from is none.
    pub(crate) fn counted(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number <= COUNTED_MAX)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<String> {
        Some(std::str::from_utf8(self.bytes()?).ok()?.to_owned())
    }

    /// So many of something, none of which is smaller than a byte.
    pub(crate) fn many<T>(&mut self, most: u32, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32().filter(|count| *count <= most)?;
        (0..count).map(|_| one(self)).collect()
    }

    pub(crate) fn optional<T>(&mut self, one: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? { one(self).map(Some) } else { Some(None) }
    }

    /// What was read, if nothing is left.
    pub(crate) fn whole<T>(self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }

    pub(crate) fn log_id(&mut self) -> Option<LogId> {
        Some(log_id(self.counted()?, self.counted()?))
    }

    pub(crate) fn vote(&mut self) -> Option<Vote> {
        let (term, voted_for, committed) = (self.counted()?, self.optional(Self::node)?, self.bool()?);
        let mut vote = Vote::default();
        (vote.leader_id.term, vote.leader_id.voted_for, vote.committed) = (term, voted_for, committed);
        Some(vote)
    }

    pub(crate) fn node(&mut self) -> Option<NodeId> {
        self.u64().map(NodeId)
    }

    /// As it was at first.
    fn contact_1(&mut self) -> Option<Contact> {
        let (name, address, key) = (self.text()?, self.text()?, self.bytes()?.to_vec());
        Some(Contact { name, address, api_address: String::new(), key })
    }

    fn contact(&mut self) -> Option<Contact> {
        let first = self.contact_1()?;
        Some(Contact { api_address: self.text()?, ..first })
    }

    fn membership(&mut self, mut contact: impl FnMut(&mut Self) -> Option<Contact>) -> Option<Membership> {
        let configurations = self.many(2, |reader| reader.many(NODES_MAX, Self::node))?;
        let nodes = self.many(NODES_MAX, |reader| Some((reader.node()?, contact(reader)?)))?;
        let configurations: Vec<BTreeSet<NodeId>> =
            configurations.into_iter().map(|configuration| configuration.into_iter().collect()).collect();
        let nodes: BTreeMap<NodeId, Contact> = nodes.into_iter().collect();
        let are_known = configurations.iter().flatten().all(|voter| nodes.contains_key(voter));
        are_known.then(|| Membership::new(configurations, nodes))
    }

    /// An entry with this index, which is all that is left.
    pub(crate) fn entry(mut self, index: u64) -> Option<Entry> {
        let (kind, term) = (self.byte()?, self.counted()?);
        let payload = match kind {
            BATCH => {
                let version = Version(self.u64()?);
                let note = self.bytes()?.to_vec();
                let batch = Batch { note, ..Batch::read(version, self.0)? };
                return Some(Entry {
                    log_id: log_id(term, index),
                    payload: EntryPayload::Normal(Proposal::Batch(Arc::new(batch), Proposer::default())),
                });
            }
            RESTORE => EntryPayload::Normal(Proposal::Restore { version: Version(self.u64()?), pieces: self.u32()? }),
            MEMBERS => EntryPayload::Membership(self.membership(Self::contact)?),
            MEMBERS_1 => EntryPayload::Membership(self.membership(Self::contact_1)?),
            NOTHING => EntryPayload::Blank,
            _ => return None,
        };
        self.whole(Entry { log_id: log_id(term, index), payload })
    }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, number: usize) {
    // What is counted is bounded far below.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_u64(out, id.leader_id.term);
    put_u64(out, id.index);
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    put_u64(out, vote.leader_id.term);
    put_optional(out, vote.leader_id.voted_for, |out, node| put_u64(out, node.0));
    out.push(u8::from(vote.committed));
}

impl Contact {
    /// As bytes: for what is told between nodes, and kept, beside the log.
    #[must_use]
    pub fn spelled(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_contact(&mut out, self);
        out
    }

    /// What [`Contact::spelled`] made, and what follows it.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut reader = Reader(bytes);
        let contact = reader.contact()?;
        Some((contact, reader.0))
    }
}

fn put_contact(out: &mut Vec<u8>, contact: &Contact) {
    put_bytes(out, contact.name.as_bytes());
    put_bytes(out, contact.address.as_bytes());
    put_bytes(out, &contact.key);
    put_bytes(out, contact.api_address.as_bytes());
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configurations = membership.get_joint_config();
    put_u32(out, configurations.len());
    for configuration in configurations {
        put_u32(out, configuration.len());
        configuration.iter().for_each(|node| put_u64(out, node.0));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    put_u32(out, nodes.len());
    for (id, contact) in nodes {
        put_u64(out, id.0);
        put_contact(out, contact);
    }
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(match &entry.payload {
        EntryPayload::Normal(Proposal::Batch(..)) => BATCH,
        EntryPayload::Normal(Proposal::Restore { .. }) => RESTORE,
        EntryPayload::Membership(_) => MEMBERS,
        EntryPayload::Blank => NOTHING,
    });
    put_u64(out, entry.log_id.leader_id.term);
    match &entry.payload {
        EntryPayload::Normal(Proposal::Restore { version, pieces }) => {
            put_u64(out, version.0);
            out.extend_from_slice(&pieces.to_le_bytes());
        }
        EntryPayload::Normal(Proposal::Batch(batch, _)) => {
            put_u64(out, batch.version.0);
            put_bytes(out, &batch.note);
            batch.put(out);
        }
        EntryPayload::Membership(membership) => put_membership(out, membership),
        EntryPayload::Blank => {}
    }
}

/// About how many bytes an entry takes.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Proposal::Batch(batch, _)) => 21 + batch.note.len() + batch.bytes(),
        _ => 1024,
    }
}

/// Members, and where in the log they stand, as the machine keeps them.
pub(crate) fn stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut out = vec![STORED_MEMBERS];
    put_optional(&mut out, *stored.log_id(), put_log_id);
    put_membership(&mut out, stored.membership());
    out
}

/// The members that a machine keeps; none when it has none yet.
pub(crate) fn read_stored_membership(bytes: &[u8]) -> Option<StoredMembership> {
    if bytes.is_empty() {
        return Some(StoredMembership::default());
    }
    let (mut reader, is_first) = match bytes.strip_prefix(&[STORED_MEMBERS]) {
        Some(rest) => (Reader(rest), false),
        None => (Reader(bytes), true),
    };
    let at = reader.optional(Reader::log_id)?;
    let members = reader.membership(if is_first { Reader::contact_1 } else { Reader::contact })?;
    reader.whole(StoredMembership::new(at, members))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn contact(name: &str) -> Contact {
        let (address, api_address) = (format!("{name}:8201"), format!("https://{name}:8200"));
        Contact { name: name.to_owned(), address, api_address, key: vec![1, 2, 3] }
    }

    #[test]
    fn members_without_the_addresses_of_their_apis_are_read() {
        // One voter, and one node: as entry 7 of term 2, and as a machine kept them. By the build of 2026-11-29.
        let members = "01000000010000000900000000000000\
                       010000000900000000000000010000006e06000000683a38323031 03000000010203";
        let hex = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
        let nine = Contact { name: "n".to_owned(), address: "h:8201".to_owned(), ..Contact::default() };
        let nine = Contact { key: vec![1, 2, 3], ..nine };
        let expected = Membership::new(vec![[NodeId(9)].into()], BTreeMap::from([(NodeId(9), nine)]));
        let entry = Reader(&hex(&format!("03 0200000000000000 {members}"))).entry(7).unwrap();
        assert!(matches!(entry.payload, EntryPayload::Membership(members) if members == expected));
        let stored = read_stored_membership(&hex(&format!("01 02000000000000000700000000000000 {members}"))).unwrap();
        assert_eq!(stored, StoredMembership::new(Some(log_id(2, 7)), expected));
    }

    #[test]
    fn every_entry_comes_back_and_no_prefix_of_it_does() {
        let batch = tresor_storage::suite::batch(7, &[("a", Some(b"1")), ("b", None)]);
        let nodes: BTreeMap<_, _> = [(NodeId(1), contact("one")), (NodeId(2), contact("two"))].into();
        let joint = Membership::new(vec![[NodeId(1)].into(), [NodeId(1), NodeId(2)].into()], nodes);
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal::Batch(Arc::new(batch), Proposer::default())),
            EntryPayload::Normal(Proposal::Restore { version: Version(7), pieces: 9 }),
            EntryPayload::Membership(joint.clone()),
        ] {
            let entry = Entry { log_id: log_id(3, 9), payload };
            let mut out = Vec::new();
            put_entry(&mut out, &entry);
            let back = Reader(&out).entry(9).unwrap();
            let mut again = Vec::new();
            put_entry(&mut again, &back);
            assert_eq!(again, out);
            assert_eq!(back.log_id, entry.log_id);
            for length in 0..out.len() {
                assert!(Reader(&out[..length]).entry(9).is_none(), "{length}");
            }
        }
        let stored = StoredMembership::new(Some(log_id(2, 5)), joint);
        let bytes = stored_membership(&stored);
        assert_eq!(read_stored_membership(&bytes), Some(stored));
        assert!((1..bytes.len()).all(|length| read_stored_membership(&bytes[..length]).is_none()));
        assert_eq!(read_stored_membership(b""), Some(StoredMembership::default()));
    }
}
