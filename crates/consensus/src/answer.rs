//! What other nodes send, and what they are answered.
//!
//! Deliberately absent: trust in what a message says about itself. Who sent it, whoever carried it knows; what is wrong
//! with it is answered with a refusal, and nothing stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::Snapshot;
use tresor_env::tasks::run_blocking;
use tresor_storage::machine::{Applied, CHUNK_BYTES_MAX, Install};

use crate::consensus::Core;
use crate::feed::{Meta, meta};
use crate::message::{Answer, Message};
use crate::peers::NodeId;
use crate::reads::{Asked, Confirmed, Waiting};
use crate::types::{LogId, State, Vote};

/// A state that is on its way in.
pub(crate) struct Incoming {
    from: NodeId,
    transfer: u64,
    next: u64,
    meta: Meta,
    install: Box<dyn Install>,
}

fn refused(why: impl std::fmt::Display) -> Answer {
    Answer::Refused(why.to_string())
}

impl Core {
    pub(crate) async fn answer(self: Arc<Self>, from: NodeId, message: Vec<u8>) -> Vec<u8> {
        let answer = match Message::read(&message) {
            _ if self.is_closed.load(Ordering::Acquire) => refused("the node is closing"),
            None => refused("the message is not spelled as this version spells it"),
            Some(message) => self.answer_to(from, message).await,
        };
        answer.spelled()
    }

    async fn answer_to(&self, from: NodeId, message: Message) -> Answer {
        let timer = match &message {
            Message::Append { .. } => Some(&self.wire.figures.appended),
            Message::Vote { .. } => Some(&self.wire.figures.voted),
            Message::End { .. } => Some(&self.wire.figures.installed),
            _ => None,
        };
        let begun = self.wire.now();
        let answer = self.handle(from, message).await;
        if let Some(timer) = timer {
            timer.observe(self.wire.now().saturating_sub(begun));
        }
        answer
    }

    async fn handle(&self, from: NodeId, message: Message) -> Answer {
        match message {
            Message::Append { is_assured, vote, previous, committed, entries } => {
                let request = AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed };
                self.append(from, is_assured, request).await
            }
            Message::WouldVote { last } => {
                Answer::Would(!self.hears_leader(self.wire.now()) && last >= self.log.last())
            }
            Message::Vote { is_handed_over, vote, last } => self.vote(from, is_handed_over, vote, last).await,
            Message::Lead { last } => Answer::Would(self.lead(from, last).await),
            Message::Confirm(asked) => match (self.confirm_for_others(asked).await, asked) {
                (Some(confirmed), Asked::Both) => Answer::ConfirmedBoth(confirmed),
                (confirmed, _) => Answer::Confirmed(confirmed.map(|confirmed| confirmed.index)),
            },
            Message::Begin { transfer, state } => self.begin(from, transfer, state).await,
            Message::Chunk { transfer, number, chunk } => self.chunk(from, transfer, number, chunk).await,
            Message::End { transfer, vote } => self.end(from, transfer, vote).await,
        }
    }

    async fn append(
        &self,
        from: NodeId,
        is_assured: bool,
        request: AppendEntriesRequest<crate::types::Types>,
    ) -> Answer {
        let vote = request.vote;
        if vote.leader_id.voted_for != Some(from) {
            return refused("it leads for somebody else");
        }
        let is_current = vote >= self.raft.server_metrics().borrow().vote;
        let heard = || {
            if is_assured {
                self.wire.contacts.heard_leader(self.wire.now());
            }
        };
        if is_current {
            heard();
        }
        match self.raft.append_entries(request).await {
            Ok(answer) => {
                // Its entries were being written down until now.
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    heard();
                }
                Answer::Appended(answer)
            }
            Err(error) => refused(error),
        }
    }

    async fn vote(&self, from: NodeId, is_handed_over: bool, vote: Vote, last: Option<LogId>) -> Answer {
        if vote.leader_id.voted_for != Some(from) || vote.committed {
            return refused("it campaigns for somebody else");
        }
        if !is_handed_over && self.hears_leader(self.wire.now()) {
            return refused("there is a leader");
        }
        match self.raft.vote(VoteRequest { vote, last_log_id: last }).await {
            Ok(answer) => {
                let (is_granted, last) = (answer.vote_granted, answer.last_log_id);
                if is_granted {
                    // It gets the time to win before this node campaigns itself.
                    self.wire.contacts.heard_leader(self.wire.now());
                }
                Answer::Voted { vote: answer.vote, is_granted, last }
            }
            Err(error) => refused(error),
        }
    }

    /// Campaigns because the leader asks for it, if it can.
    async fn lead(&self, from: NodeId, last: Option<LogId>) -> bool {
        let is_leader = self.raft.server_metrics().borrow().current_leader == Some(from);
        let votes = self.wire.contacts.members().votes(self.wire.me);
        if !is_leader || !votes || self.is_sealed.load(Ordering::Acquire) || self.log.last() < last {
            return false;
        }
        self.wire.is_handed_over.store(true, Ordering::Release);
        self.wire.figures.campaigns.add(1);
        self.raft.trigger().elect().await.is_ok()
    }

    async fn confirm_for_others(&self, asked: Asked) -> Option<Confirmed> {
        if !self.leads() {
            return None;
        }
        let (waiting, confirmed) = Waiting::new(asked);
        self.reads.send(waiting).await.ok()?;
        confirmed.await.ok()?.ok()
    }

    fn incoming(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn begin(&self, from: NodeId, transfer: u64, state: Applied) -> Answer {
        let Some(meta) = meta(&state) else { return refused("the members are spelled in another way") };
        // One at a time: what came before is let go first.
        drop(self.incoming().take());
        let machine = Arc::clone(&self.machine);
        let begun = run_blocking(&*self.wire.doors.workers, move || machine.install(&state)).await;
        match begun {
            Ok(Ok(install)) => {
                *self.incoming() = Some(Incoming { from, transfer, next: 0, meta, install });
                Answer::Taken
            }
            Ok(Err(error)) => refused(error),
            Err(error) => refused(error),
        }
    }

    /// The state that a part belongs to; whoever takes it out puts it back.
    fn take_incoming(&self, from: NodeId, transfer: u64) -> Option<Incoming> {
        let mut incoming = self.incoming();
        let is_it = incoming.as_ref().is_some_and(|it| it.from == from && it.transfer == transfer);
        if is_it { incoming.take() } else { None }
    }

    async fn chunk(&self, from: NodeId, transfer: u64, number: u64, chunk: Vec<u8>) -> Answer {
        let Some(mut incoming) = self.take_incoming(from, transfer) else { return refused("no such state is awaited") };
        if incoming.next != number || chunk.len() > CHUNK_BYTES_MAX {
            return refused("it is not the next chunk");
        }
        let taken = run_blocking(&*self.wire.doors.workers, move || {
            let taken = incoming.install.take(chunk);
            (taken, incoming)
        });
        match taken.await {
            Ok((Ok(()), mut rest)) => {
                rest.next += 1;
                *self.incoming() = Some(rest);
                Answer::Taken
            }
            Ok((Err(error), _)) => refused(error),
            Err(error) => refused(error),
        }
    }

    async fn end(&self, from: NodeId, transfer: u64, vote: Vote) -> Answer {
        let Some(incoming) = self.take_incoming(from, transfer) else { return refused("no such state is awaited") };
        if vote.leader_id.voted_for != Some(from) || !vote.committed {
            return refused("it leads for somebody else");
        }
        let state = Box::new(State::In(incoming.install));
        let snapshot = Snapshot { meta: incoming.meta, snapshot: state };
        match self.raft.install_full_snapshot(vote, snapshot).await {
            Ok(answer) => Answer::Installed(answer.vote),
            Err(error) => refused(error),
        }
    }
}
