//! Handing leadership over to another voter, without waiting for anybody to miss the leader.
//!
//! Deliberately absent: when that is right.

use std::sync::atomic::Ordering;

use openraft::ServerState;

use crate::ConsensusError;
use crate::consensus::{Consensus, Core, LOOK_AGAIN};
use crate::message::{Answer, Message};
use crate::peers::NodeId;

impl Consensus {
    /// Lets another voter lead: the one that has most of the log is asked first to campaign at once, and nothing is
    /// proposed here meanwhile. Completes with who leads then.
    ///
    /// # Errors
    /// [`ConsensusError::NoQuorum`] when nobody takes over in time; this node goes on leading.
    pub async fn hand_over(&self) -> Result<NodeId, ConsensusError> {
        let core = &self.core;
        if !core.leads() {
            let leader = core.raft.server_metrics().borrow().current_leader;
            return Err(ConsensusError::NotLeader { leader });
        }
        core.is_leaving.store(true, Ordering::Release);
        // From now on it takes nothing, so it does not call itself the leader either.
        core.tell_status();
        let successor = core.successor().await;
        core.is_leaving.store(false, Ordering::Release);
        core.tell_status();
        successor.ok_or(ConsensusError::NoQuorum)
    }
}

impl Core {
    /// Asks voters to campaign, the most current one first, until one of them leads; round after round, because who had not
    /// written everything down yet may have it in the next.
    async fn successor(&self) -> Option<NodeId> {
        let pace = &self.wire.pace;
        let begun = self.wire.now();
        let until = begun + pace.election * 3;
        let mut asked = Vec::new();
        while self.wire.now() < until {
            let members = self.wire.contacts.members();
            let candidate = {
                let metrics = self.raft.data_metrics();
                let metrics = metrics.borrow();
                let matching = |id| metrics.replication.as_ref()?.get(&id).copied().flatten();
                let others = members.voters_beside(self.wire.me).filter(|(id, _)| !asked.contains(id));
                let best = others.max_by_key(|(id, _)| (matching(*id), std::cmp::Reverse(*id)));
                best.map(|(id, contact)| (id, contact.clone(), matching(id)))
            };
            let Some((id, contact, matching)) = candidate else {
                if asked.is_empty() {
                    return None;
                }
                asked.clear();
                self.wire.doors.clock.sleep(LOOK_AGAIN).await;
                continue;
            };
            // Answered in turn, behind every proposal that was taken before: those count, too, or whoever is asked would campaign
            // with less than the others are about to have, and get no vote.
            tokio::select! {
                biased;
                answered = self.raft.with_raft_state(|_| ()) => answered.ok()?,
                // Its disk may hang.
                () = self.wire.doors.clock.sleep(until.saturating_sub(self.wire.now())) => return None,
            }
            let last = self.log.last();
            if matching < last && asked.is_empty() {
                // What was proposed is on its way there.
                self.wire.doors.clock.sleep(LOOK_AGAIN).await;
                if self.wire.now() < begun + pace.election / 2 {
                    continue;
                }
            }
            asked.push(id);
            if !matches!(self.wire.ask(id, &contact, &Message::Lead { last }).await, Ok(Answer::Would(true))) {
                continue;
            }
            let given = self.wire.now() + pace.election / 2;
            loop {
                let (state, leader) = {
                    let metrics = self.raft.server_metrics();
                    let metrics = metrics.borrow();
                    (metrics.state, metrics.current_leader)
                };
                let has_begun = state != ServerState::Leader;
                if let Some(leader) = leader.filter(|_| has_begun) {
                    return Some(leader);
                }
                // Whoever campaigns is given time: another one would only take its votes away.
                if self.wire.now() >= if has_begun { until } else { given } {
                    break;
                }
                self.wire.doors.clock.sleep(LOOK_AGAIN).await;
            }
        }
        None
    }
}
