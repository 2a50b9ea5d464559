//! Taking over another state, where no other node has the log.
//!
//! It gets no entry, which would be of no use to who does not have that state: it takes the place of what the machine
//! holds, at the entry that was applied last, and then everything up to that entry leaves the log. So whoever joins later
//! is given the state, and not the entries of before; a node that ends in between lets go of them when it is opened. While
//! it is done nothing is proposed, and nobody becomes a member. Deliberately absent: a cluster of several.

use std::sync::atomic::Ordering;

use tresor_env::tasks::run_blocking;
use tresor_storage::StoreError;
use tresor_storage::machine::Install;

use crate::ConsensusError;
use crate::consensus::{Consensus, Core, LOOK_AGAIN};

/// Why a state was not taken over.
pub(crate) enum NotReplaced {
    /// The node is not in a position to.
    Refused(ConsensusError),
    /// The machine found something wrong.
    Machine(StoreError),
}

impl From<ConsensusError> for NotReplaced {
    fn from(error: ConsensusError) -> Self {
        Self::Refused(error)
    }
}

/// While it lives, nothing is proposed.
struct Alone<'c>(&'c Core);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.is_replacing.store(false, Ordering::Release);
    }
}

impl Consensus {
    /// Whether there is no other member, and this node leads.
    pub(crate) fn is_alone(&self) -> bool {
        self.core.is_alone()
    }

    /// Lets a state that the machine has read to its end take the place of what it holds.
    pub(crate) async fn replace(&self, install: Box<dyn Install>) -> Result<(), NotReplaced> {
        let core = &self.core;
        if core.is_replacing.swap(true, Ordering::AcqRel) {
            return Err(ConsensusError::Members("another state is being taken over".to_owned()).into());
        }
        let _alone = Alone(core);
        // What was asked for before is done when this is answered, a new member among it.
        let asked = self.confirm_in_turn().await?;
        if core.members_now().await?.nodes.len() != 1 {
            return Err(ConsensusError::Members("other nodes have the log".to_owned()).into());
        }
        let last = core.log.last().map_or(0, |last| last.index + 1).max(asked);
        self.applied(last).await;
        let finished = run_blocking(&*core.wire.doors.workers, move || install.finish()).await;
        finished.map_err(|_| NotReplaced::Refused(ConsensusError::Uncertain))?.map_err(NotReplaced::Machine)?;
        core.forget(last).await.map_err(NotReplaced::Refused)
    }
}

impl Core {
    pub(crate) fn is_alone(&self) -> bool {
        let nodes = self.raft.server_metrics().borrow().membership_config.membership().nodes().count();
        self.leads() && nodes == 1
    }

    /// Whether it stopped, and nobody beside it could have taken anything: what it has is all that was ever acknowledged.
    pub(crate) fn has_the_last_word(&self) -> bool {
        let members = self.wire.contacts.members();
        self.has_stopped() && members.votes(self.wire.me) && members.nodes.len() == 1
    }

    /// Lets everything up to an entry leave the log, which the machine has.
    async fn forget(&self, index: u64) -> Result<(), ConsensusError> {
        let stopped = |error: openraft::error::Fatal<_>| ConsensusError::Stopped(error.to_string());
        let Some(upto) = index.checked_sub(1) else { return Ok(()) };
        while self.raft.data_metrics().borrow().purged.is_none_or(|purged| purged.index < upto) {
            // The library purges what is in a state that it had built, which it does beside.
            self.raft.trigger().snapshot().await.map_err(stopped)?;
            self.raft.trigger().purge_log(upto).await.map_err(stopped)?;
            self.wire.doors.clock.sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}
