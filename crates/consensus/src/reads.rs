//! Confirmed reads: which entry a read has to wait for, so that it sees whatever was acknowledged before it began.
//!
//! The leader asks a majority whether it leads still, once for everybody who waits by then; any other node asks the
//! leader. Deliberately absent: the reading.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::ServerState;
use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::ConsensusError;
use crate::consensus::Core;
use crate::message::{Answer, Message};

/// How many may wait before others wait to wait.
pub(crate) const WAITING_MAX: usize = 1024;

/// Somebody who waits.
pub(crate) type Waiting = oneshot::Sender<Result<u64, ConsensusError>>;

/// Confirms for everybody who waits, one round after the other.
pub(crate) async fn run(core: Arc<Core>, mut inbox: mpsc::Receiver<Waiting>) {
    while let Some(first) = inbox.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = inbox.try_recv() {
            waiting.push(next);
        }
        let confirmed = core.confirm_once().await;
        for one in waiting {
            // Who does not wait any more need not know.
            drop(one.send(confirmed.clone()));
        }
    }
}

impl Core {
    /// Whether the library takes this node for the leader.
    pub(crate) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow().state == ServerState::Leader
    }

    async fn confirm_once(&self) -> Result<u64, ConsensusError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(ConsensusError::Stopped("it was closed".to_owned()));
        }
        if !self.leads() {
            return self.ask_the_leader().await;
        }
        let confirmed = tokio::select! {
            biased;
            confirmed = self.raft.get_read_log_id() => confirmed,
            () = self.wire.doors.clock.sleep(self.wire.pace.urgent * 2) => return Err(ConsensusError::NoQuorum),
        };
        match confirmed {
            Ok((id, _)) => Ok(id.map_or(0, |id| id.index + 1)),
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(ConsensusError::NoQuorum),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                Err(ConsensusError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::Fatal(error)) => Err(ConsensusError::Stopped(error.to_string())),
        }
    }

    async fn ask_the_leader(&self) -> Result<u64, ConsensusError> {
        let leader = self.raft.server_metrics().borrow().current_leader;
        let members = self.wire.contacts.members();
        let member = leader.and_then(|id| Some((id, members.nodes.get(&id)?)));
        let Some((id, member)) = member.filter(|(id, _)| *id != self.wire.me) else {
            return Err(ConsensusError::NotLeader { leader: None });
        };
        match self.wire.ask(id, &member.contact, &Message::Confirm).await {
            Ok(Answer::Confirmed(Some(index))) => Ok(index),
            Ok(Answer::Confirmed(None)) => Err(ConsensusError::NotLeader { leader: None }),
            Ok(_) | Err(_) => Err(ConsensusError::NoQuorum),
        }
    }
}
