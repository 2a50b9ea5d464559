//! Confirmed reads: which entry a read has to wait for, so that it sees whatever was acknowledged before it began, or all of
//! that but what it may do without.
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

/// What a read has to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The last entry that was acknowledged when it was confirmed: a read that sees it applied is not stale.
    pub index: u64,
    /// The last entry up to there that no read does without; all behind it are batches whose maker called them dispensable.
    /// Where that is not known, or nobody asked, it is `index`.
    pub indispensable: u64,
}

impl Confirmed {
    /// Of which nothing is known to be dispensable.
    pub(crate) const fn all(index: u64) -> Self {
        Self { index, indispensable: index }
    }
}

/// What a node wants to know, and the messages that ask for it: a leader of before `indispensable` knows one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// The last entry.
    Index,
    /// The last one that no read does without, too.
    Both,
}

/// Somebody who waits.
pub(crate) struct Waiting {
    asked: Asked,
    told: oneshot::Sender<Result<Confirmed, ConsensusError>>,
}

impl Waiting {
    pub(crate) fn new(asked: Asked) -> (Self, oneshot::Receiver<Result<Confirmed, ConsensusError>>) {
        let (told, confirmed) = oneshot::channel();
        (Self { asked, told }, confirmed)
    }
}

/// Confirms for everybody who waits, one round after the other.
pub(crate) async fn run(core: Arc<Core>, mut inbox: mpsc::Receiver<Waiting>) {
    while let Some(first) = inbox.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = inbox.try_recv() {
            waiting.push(next);
        }
        let asked = waiting.iter().map(|one| one.asked).max().unwrap_or(Asked::Index);
        let confirmed = core.confirm_once(asked).await;
        for one in waiting {
            // Who does not wait any more need not know.
            drop(one.told.send(confirmed.clone()));
        }
    }
}

impl Core {
    /// Whether the library takes this node for the leader.
    pub(crate) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow().state == ServerState::Leader
    }

    async fn confirm_once(&self, asked: Asked) -> Result<Confirmed, ConsensusError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(ConsensusError::Stopped("it was closed".to_owned()));
        }
        if !self.leads() {
            return self.ask_the_leader(asked).await;
        }
        let confirmed = tokio::select! {
            biased;
            confirmed = self.raft.get_read_log_id() => confirmed,
            () = self.wire.doors.clock.sleep(self.wire.pace.urgent * 2) => return Err(ConsensusError::NoQuorum),
        };
        match confirmed {
            Ok((id, _)) => {
                let index = id.map_or(0, |id| id.index + 1);
                Ok(Confirmed { index, indispensable: self.log.indispensable_upto(index) })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(ConsensusError::NoQuorum),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                Err(ConsensusError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::Fatal(error)) => Err(ConsensusError::Stopped(error.to_string())),
        }
    }

    async fn ask_the_leader(&self, asked: Asked) -> Result<Confirmed, ConsensusError> {
        let leader = self.raft.server_metrics().borrow().current_leader;
        let members = self.wire.contacts.members();
        let member = leader.and_then(|id| Some((id, members.nodes.get(&id)?)));
        let Some((id, member)) = member.filter(|(id, _)| *id != self.wire.me) else {
            return Err(ConsensusError::NotLeader { leader: None });
        };
        let mut answer = self.wire.ask(id, &member.contact, &Message::Confirm(asked)).await;
        if asked == Asked::Both && matches!(answer, Ok(Answer::Refused(_))) {
            // It may be of a release that knows no such question.
            answer = self.wire.ask(id, &member.contact, &Message::Confirm(Asked::Index)).await;
        }
        match answer {
            Ok(Answer::ConfirmedBoth(confirmed)) => Ok(confirmed),
            Ok(Answer::Confirmed(Some(index))) => Ok(Confirmed::all(index)),
            Ok(Answer::Confirmed(None)) => Err(ConsensusError::NotLeader { leader: None }),
            Ok(_) | Err(_) => Err(ConsensusError::NoQuorum),
        }
    }
}
