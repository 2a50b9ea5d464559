//! A cluster of one: what its log has durably is committed, so a batch is applied and answered where it was written down.
//!
//! The library comes to the same by three tasks and a thread more, which a single writer would wait for; it does so
//! afterwards, and finds the batch applied. Invariant: this node is the only member by the last members that its log has,
//! which is what the library counts by, and has been proposed to, so it leads. Deliberately absent: everything but batches, and
//! a machine without room or that lacks an entry before: what is not applied here is applied when the library asks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::EntryPayload;
use tresor_storage::Machine;

use crate::feed::Feed;
use crate::peers::NodeId;
use crate::types::{Entry, LogId, Membership, Proposal};

/// Applies what is committed by being written down.
pub(crate) struct Alone {
    me: NodeId,
    feed: Feed,
    members: Mutex<Members>,
}

/// Whether this node is the only member, by the members that stand at this entry; not, as long as nobody said it.
#[derive(Default)]
struct Members {
    at: Option<LogId>,
    is_alone: bool,
}

impl Alone {
    pub(crate) fn new(me: NodeId, feed: Feed) -> Self {
        Self { me, feed, members: Mutex::default() }
    }

    /// The machine that it is done to.
    pub(crate) fn machine(&self) -> Arc<dyn Machine> {
        Arc::clone(&self.feed.machine)
    }

    /// Whether the node is being closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.feed.is_closed.load(Ordering::Acquire)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else is to have the log.
    pub(crate) fn is_alone(&self) -> bool {
        self.members().is_alone
    }

    /// Who the members are from an entry on.
    pub(crate) fn take_members(&self, at: Option<LogId>, membership: &Membership) {
        let mut known = self.members();
        if at >= known.at {
            let is_alone = membership.nodes().all(|(id, _)| *id == self.me);
            *known = Members { at, is_alone: is_alone && membership.voter_ids().eq([self.me]) };
        }
    }

    /// Entries were written down durably, the last that there are. Called where waiting is allowed.
    pub(crate) fn written(&self, entries: &[Entry]) {
        for entry in entries {
            match &entry.payload {
                EntryPayload::Membership(members) => self.take_members(Some(entry.log_id), members),
                EntryPayload::Normal(Proposal::Batch(_, proposer)) if proposer.is_somebody() => {
                    if self.is_alone()
                        && let Some(effect) = self.feed.apply_at_once(entry)
                    {
                        proposer.tell(effect);
                    }
                }
                EntryPayload::Normal(_) | EntryPayload::Blank => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use tresor_env::doubles::TestDoors;
    use tresor_storage::machine::Effect;
    use tresor_storage::suite::batch;
    use tresor_storage::{Machine, MemoryMachine};

    use super::*;
    use crate::peers::Contact;
    use crate::types::{Proposer, log_id};

    fn entry(index: u64, payload: EntryPayload<crate::types::Types>) -> Entry {
        Entry { log_id: log_id(1, index), payload }
    }

    /// Members, of whom the first so many vote.
    fn members(ids: &[u64], voters: usize) -> Membership {
        let nodes: BTreeMap<_, _> = ids.iter().map(|id| (NodeId(*id), Contact::default())).collect();
        Membership::new(vec![ids.iter().take(voters).copied().map(NodeId).collect()], nodes)
    }

    #[test]
    fn a_batch_is_applied_at_once_by_the_only_member_that_has_all_before_it() {
        let machine = MemoryMachine::new();
        let feed = Feed::new(Arc::new(machine.clone()), &TestDoors::new(1).doors);
        let alone = Alone::new(NodeId(1), feed.clone());
        // What becomes of a batch that is proposed here, with nothing before it.
        let propose = |index: u64, version: u64| {
            let (proposer, mut told) = Proposer::new();
            let proposal = Proposal::Batch(Arc::new(batch(version, &[("k", Some(b"1"))])), proposer);
            alone.written(&[entry(index, EntryPayload::Normal(proposal))]);
            told.try_recv().ok()
        };
        assert_eq!(propose(0, 1), None, "nobody said who the members are");
        alone.take_members(None, &members(&[1], 1));
        assert_eq!(propose(1, 1), None, "the machine lacks an entry");
        assert_eq!(propose(0, 1), Some(Effect::Applied));
        assert_eq!((machine.applied().position.index, feed.applied.read(|applied| applied.index)), (1, 1));
        assert_eq!(propose(1, 1), Some(Effect::Fenced(tresor_storage::Version(1))));
        for others in [members(&[1, 2], 1), members(&[1, 2], 2), members(&[2, 1], 1)] {
            alone.written(&[entry(2, EntryPayload::Membership(others))]);
            assert_eq!(propose(2, 2), None, "another node is to have it");
        }
        // What is known of an earlier entry is known too late.
        alone.take_members(Some(log_id(1, 1)), &members(&[1], 1));
        assert_eq!(propose(2, 2), None);
        alone.written(&[entry(3, EntryPayload::Membership(members(&[1], 1)))]);
        assert_eq!(propose(2, 2), Some(Effect::Applied));
        let elsewhere = Proposal::Batch(Arc::new(batch(3, &[])), Proposer::default());
        alone.written(&[entry(3, EntryPayload::Normal(elsewhere))]);
        assert_eq!(machine.applied().position.index, 3, "who leads from elsewhere says what is committed");
    }
}
