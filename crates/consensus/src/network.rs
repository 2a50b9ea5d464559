//! The other nodes, as the library talks to them.
//!
//! The library tries again at once whatever fails, and waits as long as it takes: so each message has its deadline here,
//! and a failure is told a moment later. Deliberately absent: connections.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;
use openraft::{AnyError, OptionalSend, StorageIOError};
use tresor_env::Doors;
use tresor_env::tasks::run_blocking;
use tresor_storage::machine::Export;

use crate::Pace;
use crate::campaign::Contacts;
use crate::figures::{Figures, Sent};
use crate::message::{Answer, Message};
use crate::peers::{Contact, Lane, NodeId, PeerError, Peers};
use crate::types::{State, Types, Vote};

/// Entries in a message for which it gets its deadline once more.
const BYTES_PER_DEADLINE: usize = 4 << 20;

/// What all links of a node share.
pub(crate) struct Wire {
    pub(crate) me: NodeId,
    pub(crate) pace: Pace,
    pub(crate) doors: Doors,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) contacts: Contacts,
    /// Whether the campaign that is under way was asked for by the leader.
    pub(crate) is_handed_over: AtomicBool,
    pub(crate) figures: Figures,
}

/// Why a message did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the answer is none to what was asked")]
    Answer,
    #[error("refused: {0}")]
    Refused(String),
}

impl Wire {
    /// Sends a message and waits for its answer.
    pub(crate) async fn ask(&self, to: NodeId, contact: &Contact, message: &Message) -> Result<Answer, Unheard> {
        let bytes = message.spelled();
        let (lane, deadline) = match message {
            Message::Append { entries, .. } if !entries.is_empty() => {
                let times = 1 + u32::try_from(bytes.len() / BYTES_PER_DEADLINE).unwrap_or(u32::MAX);
                (Lane::Entries, self.pace.entries * times)
            }
            Message::Begin { .. } | Message::Chunk { .. } | Message::End { .. } => (Lane::Bulk, self.pace.entries),
            // It waits for others in turn.
            Message::Confirm(_) => (Lane::Urgent, self.pace.urgent * 2),
            _ => (Lane::Urgent, self.pace.urgent),
        };
        let answer = self.peers.ask(to, contact, lane, bytes, deadline).await?;
        match Answer::read(&answer).ok_or(Unheard::Answer)? {
            Answer::Refused(why) => Err(Unheard::Refused(why)),
            answer => Ok(answer),
        }
    }

    /// Before a failure is told.
    async fn pause(&self) {
        self.doors.clock.sleep(self.pace.heartbeat / 2).await;
    }

    pub(crate) fn now(&self) -> Duration {
        self.doors.clock.monotonic()
    }
}

/// Makes links.
pub(crate) struct Network(pub(crate) Arc<Wire>);

/// To one node.
pub(crate) struct Link {
    wire: Arc<Wire>,
    to: NodeId,
    contact: Contact,
    sent: Arc<Sent>,
}

type Failed = RPCError<NodeId, Contact, RaftError<NodeId>>;

fn unheard(error: &Unheard) -> Failed {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, to: NodeId, contact: &Contact) -> Link {
        let sent = self.0.figures.sent_to(&contact.name);
        Link { wire: Arc::clone(&self.0), to, contact: contact.clone(), sent }
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failed> {
        let sent = self.wire.now();
        let AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed } = request;
        let is_assured = self.wire.contacts.is_assured(sent, self.wire.pace.election);
        let number = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let message = Message::Append { is_assured, vote, previous, committed, entries };
        let answer = self.wire.ask(self.to, &self.contact, &message).await;
        let error = match answer {
            Ok(Answer::Appended(answer)) => {
                let took = self.wire.now().saturating_sub(sent);
                if number > 0 {
                    self.sent.entries.observe(took);
                    self.sent.number.add(number);
                } else {
                    self.sent.heartbeat.observe(took);
                }
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    self.wire.contacts.answered(self.to, vote.leader_id.term, sent);
                }
                return Ok(answer);
            }
            Ok(_) => Unheard::Answer,
            Err(error) => error,
        };
        self.wire.pause().await;
        Err(unheard(&error))
    }

    async fn vote(&mut self, request: VoteRequest<NodeId>, _: RPCOption) -> Result<VoteResponse<NodeId>, Failed> {
        let is_handed_over = self.wire.is_handed_over.load(Ordering::Acquire);
        let message = Message::Vote { is_handed_over, vote: request.vote, last: request.last_log_id };
        let asked = self.wire.now();
        let answer = self.wire.ask(self.to, &self.contact, &message).await;
        self.wire.figures.asked_for_vote.observe(self.wire.now().saturating_sub(asked));
        match answer {
            Ok(Answer::Voted { vote, is_granted, last }) => {
                Ok(VoteResponse { vote, vote_granted: is_granted, last_log_id: last })
            }
            Ok(_) => Err(unheard(&Unheard::Answer)),
            Err(error) => Err(unheard(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, Fatal<NodeId>>> {
        let State::Out(export) = *snapshot.snapshot else {
            let error = AnyError::error("the state is not on its way out");
            return Err(StreamingError::StorageError(StorageIOError::read_snapshot(None, error).into()));
        };
        let begun = self.wire.now();
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = self.send(vote, export) => sent,
        };
        match sent {
            Ok(vote) => {
                self.sent.state.observe(self.wire.now().saturating_sub(begun));
                Ok(SnapshotResponse { vote })
            }
            Err(error) => {
                self.wire.pause().await;
                Err(StreamingError::Network(NetworkError::new(&error)))
            }
        }
    }
}

/// Why a state did not arrive.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error(transparent)]
    Unheard(#[from] Unheard),
    #[error("the state cannot be read: {0}")]
    Unread(String),
}

impl Link {
    async fn tell(&self, message: &Message) -> Result<Answer, Unsent> {
        Ok(self.wire.ask(self.to, &self.contact, message).await?)
    }

    async fn send(&self, vote: Vote, mut export: Box<dyn Export>) -> Result<Vote, Unsent> {
        let mut number = [0; 8];
        self.wire.doors.entropy.fill(&mut number);
        let transfer = u64::from_le_bytes(number);
        self.taken(&Message::Begin { transfer, state: export.state().clone() }).await?;
        for number in 0.. {
            let read = run_blocking(&*self.wire.doors.workers, move || (export.next(), export)).await;
            let (chunk, rest) = read.map_err(|error| Unsent::Unread(error.to_string()))?;
            export = rest;
            let Some(chunk) = chunk.map_err(|error| Unsent::Unread(error.to_string()))? else { break };
            self.taken(&Message::Chunk { transfer, number, chunk }).await?;
        }
        match self.tell(&Message::End { transfer, vote }).await? {
            Answer::Installed(vote) => Ok(vote),
            _ => Err(Unheard::Answer.into()),
        }
    }

    async fn taken(&self, message: &Message) -> Result<(), Unsent> {
        match self.tell(message).await? {
            Answer::Taken => Ok(()),
            _ => Err(Unheard::Answer.into()),
        }
    }
}
