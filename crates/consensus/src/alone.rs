//! A cluster of one: what its log has durably is committed, so a batch is applied and answered where it was written down.
//!
//! The library comes to the same by three tasks and a thread more, which a single writer would wait for; it does so
//! afterwards, and finds the batch applied. Invariant: this node is the only member by the last members that its log has,
//! which is what the library counts by, and has been proposed to, so it leads. Deliberately absent: everything but batches, and
//! a machine without room or that lacks an entry before: what is not applied here is applied when the library asks.

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

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
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
                    if self.members().is_alone
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
