//! Who campaigns and when, and how a leader makes itself heard.
//!
//! A node that hears no leader asks the other voters first whether they would vote for it, and they say no while they
//! hear one: so a node that comes back from where nobody heard it deposes nobody. A leader that a majority does not
//! answer goes on sending, marked as unsure, and that keeps nobody from campaigning. Deliberately absent: votes, which
//! are the library's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use tresor_env::Entropy;

use crate::consensus::Core;
use crate::members::Members;
use crate::message::{Answer, Message};
use crate::peers::NodeId;
use crate::types::{LogId, Membership};

/// In how many heartbeats the log is looked at for what may go.
const PURGE_EVERY: u32 = 4;

/// What is remembered of who was heard.
#[derive(Default)]
struct Heard {
    /// When a leader was heard last that was sure of itself.
    leader: Option<Duration>,
    /// The term in which this node leads, and since when.
    leads: Option<(u64, Duration)>,
    /// When each node was last asked what it answered, in that term.
    answered: BTreeMap<NodeId, Duration>,
    members: Arc<Members>,
    /// Where these members stand in the log; nowhere before any were seen.
    members_at: Option<Option<LogId>>,
}

/// Who was heard, and when.
pub(crate) struct Contacts {
    me: NodeId,
    heard: Mutex<Heard>,
}

impl Contacts {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, heard: Mutex::default() }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.heard().members)
    }

    /// Takes the members as they stand somewhere in the log; tells them if they stood elsewhere before.
    pub(crate) fn take_members(&self, at: Option<LogId>, membership: &Membership) -> Option<Arc<Members>> {
        let mut heard = self.heard();
        if heard.members_at == Some(at) {
            return None;
        }
        heard.members_at = Some(at);
        heard.members = Arc::new(Members::of(at, membership));
        Some(Arc::clone(&heard.members))
    }

    /// A leader that is sure of itself was heard.
    pub(crate) fn heard_leader(&self, now: Duration) {
        self.heard().leader = Some(now);
    }

    /// When such a leader was heard last.
    pub(crate) fn leader_heard(&self) -> Option<Duration> {
        self.heard().leader
    }

    /// This node leads in a term.
    pub(crate) fn leads(&self, term: u64, now: Duration) {
        let mut heard = self.heard();
        if heard.leads.is_none_or(|(known, _)| known != term) {
            heard.leads = Some((term, now));
            heard.answered.clear();
        }
    }

    /// A node answered what this one sent at some time, leading in a term.
    pub(crate) fn answered(&self, node: NodeId, term: u64, sent: Duration) {
        let mut heard = self.heard();
        if heard.leads.is_some_and(|(known, _)| known == term) {
            let last = heard.answered.entry(node).or_default();
            *last = sent.max(*last);
        }
    }

    /// When nodes answered what this one sent as the leader; of nobody when it does not lead in that term.
    pub(crate) fn answered_at(&self, term: u64) -> BTreeMap<NodeId, Duration> {
        let heard = self.heard();
        if heard.leads.is_some_and(|(known, _)| known == term) { heard.answered.clone() } else { BTreeMap::new() }
    }

    /// Whether a majority has answered this node lately, or it has only just begun to lead.
    pub(crate) fn is_assured(&self, now: Duration, lately: Duration) -> bool {
        let answering = self.answering(now, lately);
        let heard = self.heard();
        let has_just_begun = heard.leads.is_none_or(|(_, since)| now.saturating_sub(since) <= lately);
        has_just_begun || heard.members.is_quorum(&answering)
    }

    /// How long ago the last node answered that a majority needs; nothing while there is none.
    fn majority_heard(&self, now: Duration) -> Option<Duration> {
        let heard = self.heard();
        let mut answered: Vec<(Duration, NodeId)> = heard.answered.iter().map(|(node, at)| (*at, *node)).collect();
        answered.sort_unstable_by(|one, other| other.cmp(one));
        let mut majority = BTreeSet::from([self.me]);
        answered.into_iter().find_map(|(at, node)| {
            majority.insert(node);
            heard.members.is_quorum(&majority).then(|| now.saturating_sub(at))
        })
    }

    /// This node, and who has answered it lately as the leader.
    fn answering(&self, now: Duration, lately: Duration) -> BTreeSet<NodeId> {
        let heard = self.heard();
        let answered = heard.answered.iter().filter(|(_, at)| now.saturating_sub(**at) <= lately);
        answered.map(|(node, _)| *node).chain([self.me]).collect()
    }
}

/// A duration up to another one, by chance.
fn chance(entropy: &dyn Entropy, most: Duration) -> Duration {
    let mut bytes = [0; 4];
    entropy.fill(&mut bytes);
    most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// What the task remembers between two looks.
struct Patience {
    /// How long it waits this time for a leader to be heard.
    silence: Duration,
    /// When nothing is tried before.
    not_before: Duration,
    /// When it last made itself heard as the leader.
    beat: Duration,
    /// When the log is looked at next for what may go.
    purge: Duration,
    /// What the node was, and whether it was sure of itself.
    state: ServerState,
    was_assured: bool,
}

/// Looks again and again, until the node stops.
pub(crate) async fn run(core: Arc<Core>) {
    let opened = core.wire.now();
    let mut patience = Patience {
        silence: Duration::ZERO,
        not_before: opened,
        beat: opened,
        purge: opened,
        state: ServerState::Learner,
        was_assured: true,
    };
    core.redraw(&mut patience);
    // Before it has waited once it cannot know that there is no leader.
    core.wire.contacts.heard_leader(opened);
    loop {
        let state = core.look(&mut patience).await;
        if state == ServerState::Shutdown {
            return;
        }
        let is_alone = core.wire.contacts.members().voters_beside(core.wire.me).next().is_none();
        let is_settled = state == ServerState::Leader && is_alone && core.status().is_leader();
        let pace = &core.wire.pace;
        core.wire.doors.clock.sleep(if is_settled { pace.heartbeat } else { pace.heartbeat / 4 }).await;
    }
}

impl Core {
    fn redraw(&self, patience: &mut Patience) {
        let election = self.wire.pace.election;
        patience.silence = election + chance(&*self.wire.doors.entropy, election * 3 / 4);
    }

    /// Takes the members as the log has them, and says who they are to those who carry messages.
    pub(crate) fn take_members(&self, at: Option<LogId>, membership: &Membership) {
        if let Some(members) = self.wire.contacts.take_members(at, membership) {
            self.wire.peers.know(&members);
        }
    }

    async fn look(&self, patience: &mut Patience) -> ServerState {
        let now = self.wire.now();
        let (state, term, members) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.state, metrics.vote.leader_id.term, Arc::clone(&metrics.membership_config))
        };
        let state = if self.has_stopped() { ServerState::Shutdown } else { state };
        self.take_members(*members.log_id(), members.membership());
        self.count_change(state, patience);
        match state {
            ServerState::Leader => {
                self.wire.contacts.leads(term, now);
                let is_assured = self.wire.contacts.is_assured(now, self.wire.pace.election * 2);
                if patience.was_assured && !is_assured {
                    self.wire.figures.majority_lost.add(1);
                }
                patience.was_assured = is_assured;
                let has_others = self.wire.contacts.members().nodes.len() > 1;
                if has_others && now.saturating_sub(patience.beat) >= self.wire.pace.heartbeat {
                    patience.beat = now;
                    if let Some(ago) = self.wire.contacts.majority_heard(now) {
                        self.wire.figures.last_contact.observe(ago);
                    }
                    // When the library stopped, the next look sees it.
                    drop(self.raft.trigger().heartbeat().await);
                }
            }
            ServerState::Follower | ServerState::Candidate => self.campaign_if_due(now, patience).await,
            ServerState::Learner | ServerState::Shutdown => {}
        }
        self.tell_status();
        if now >= patience.purge {
            patience.purge = now + self.wire.pace.heartbeat * PURGE_EVERY;
            self.purge().await;
        }
        state
    }

    /// Counts what the node has become since it was looked at.
    fn count_change(&self, state: ServerState, patience: &mut Patience) {
        if std::mem::replace(&mut patience.state, state) == state {
            return;
        }
        patience.was_assured = true;
        match state {
            ServerState::Leader => self.wire.figures.leads.add(1),
            ServerState::Follower => self.wire.figures.follows.add(1),
            // Campaigns are counted where they begin.
            ServerState::Candidate | ServerState::Learner | ServerState::Shutdown => {}
        }
    }

    async fn campaign_if_due(&self, now: Duration, patience: &mut Patience) {
        let members = self.wire.contacts.members();
        let is_alone = members.voters_beside(self.wire.me).next().is_none();
        let silent = now.saturating_sub(self.wire.contacts.leader_heard().unwrap_or_default());
        let is_due = now >= patience.not_before && (is_alone || silent >= patience.silence);
        if !members.votes(self.wire.me) || !is_due || (self.is_sealed.load(Ordering::Acquire) && !is_alone) {
            return;
        }
        let (entropy, pace) = (&*self.wire.doors.entropy, &self.wire.pace);
        patience.not_before = if self.would_be_voted_for(&members).await {
            self.wire.is_handed_over.store(false, Ordering::Release);
            self.wire.figures.campaigns.add(1);
            if !is_alone {
                self.wire.figures.silences.add(1);
            }
            drop(self.raft.trigger().elect().await);
            self.redraw(patience);
            self.wire.now() + pace.election / 2 + chance(entropy, pace.election / 2)
        } else {
            self.wire.now() + pace.heartbeat / 2 + chance(entropy, pace.heartbeat)
        };
    }

    /// Asks the other voters; as soon as enough say yes, the rest does not matter.
    async fn would_be_voted_for(&self, members: &Members) -> bool {
        let message = Message::WouldVote { last: self.log.last() };
        let mut yes = BTreeSet::from([self.wire.me]);
        let ask = |(id, contact)| {
            let message = &message;
            async move { (id, self.wire.ask(id, contact, message).await) }
        };
        let mut asked: FuturesUnordered<_> = members.voters_beside(self.wire.me).map(ask).collect();
        while !members.is_quorum(&yes) {
            match asked.next().await {
                Some((id, Ok(Answer::Would(true)))) => drop(yes.insert(id)),
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    /// Whether this node hears a leader, or leads.
    pub(crate) fn hears_leader(&self, now: Duration) -> bool {
        let pace = &self.wire.pace;
        let leads = self.raft.server_metrics().borrow().state == ServerState::Leader;
        if leads {
            return !self.is_leaving.load(Ordering::Acquire) && self.wire.contacts.is_assured(now, pace.election);
        }
        self.wire.contacts.leader_heard().is_some_and(|at| now.saturating_sub(at) < pace.election)
    }

    /// Lets the log go behind what the machine has. What a node lacks that answers is kept for it; one that has not
    /// answered for long gets the state instead.
    async fn purge(&self) {
        let index = self.machine.persisted().index;
        // A log that failed says so elsewhere.
        if !self.log.is_worth_purging(index).await.unwrap_or(false) {
            return;
        }
        let answering = self.wire.contacts.answering(self.wire.now(), self.wire.pace.entries);
        let lowest = {
            let metrics = self.raft.data_metrics();
            let metrics = metrics.borrow();
            let followers = metrics.replication.iter().flatten().filter(|(id, _)| answering.contains(id));
            followers.map(|(_, matching)| matching.map_or(0, |at| at.index + 1)).min()
        };
        let index = index.min(lowest.unwrap_or(index));
        // Asks for a state to be "built", which costs nothing here: without one the library purges nothing.
        if let Some(index) = index.checked_sub(1)
            && self.raft.trigger().snapshot().await.is_ok()
        {
            drop(self.raft.trigger().purge_log(index).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Contact;

    #[test]
    fn a_leader_is_sure_of_itself_while_a_majority_answers() {
        let seconds = Duration::from_secs;
        let contacts = Contacts::new(NodeId(1));
        let nodes: BTreeMap<NodeId, Contact> = (1..=3).map(|id| (NodeId(id), Contact::default())).collect();
        let voters = nodes.keys().copied().collect();
        contacts.take_members(None, &Membership::new(vec![voters], nodes));
        contacts.leads(4, seconds(10));
        assert!(contacts.is_assured(seconds(11), seconds(1)));
        assert!(!contacts.is_assured(seconds(12), seconds(1)));
        contacts.answered(NodeId(2), 4, seconds(12));
        assert!(contacts.is_assured(seconds(13), seconds(1)));
        assert!(!contacts.is_assured(seconds(14), seconds(1)));
        assert_eq!(contacts.majority_heard(seconds(14)), Some(seconds(2)));
        // Of another term, or of nobody who votes, an answer says nothing.
        contacts.answered(NodeId(2), 3, seconds(14));
        contacts.answered(NodeId(9), 4, seconds(14));
        assert!(!contacts.is_assured(seconds(14), seconds(1)));
    }
}
