//! What agreeing took: messages to other nodes and from them, elections, and how long a majority was not heard.
//!
//! Cells that are added to where it happens; how they are called is told to whoever reads, by names that dashboards know.
//! Deliberately absent: what is so now ([`Status`](crate::Status), [`Progress`](crate::Progress)), and what is stored.

use std::sync::Arc;
use std::time::Duration;

use tresor_metrics::{Counter, Labelled, Reading, Timer, Value};

/// What one node was sent.
#[derive(Default)]
pub(crate) struct Sent {
    /// Messages with entries, from being sent to being answered.
    pub(crate) entries: Timer,
    /// How many entries there were in them.
    pub(crate) number: Counter,
    /// Messages without any.
    pub(crate) heartbeat: Timer,
    /// A whole state.
    pub(crate) state: Timer,
}

/// What agreeing took on one node.
#[derive(Default)]
pub(crate) struct Figures {
    /// By the name of the node that was sent something.
    sent: Labelled<Sent>,
    /// Asking another node for its vote.
    pub(crate) asked_for_vote: Timer,
    /// Handling what others sent: entries or none, a request for a vote, the end of a state.
    pub(crate) appended: Timer,
    pub(crate) voted: Timer,
    pub(crate) installed: Timer,
    /// How long ago a majority was heard, each time that the leader makes itself heard.
    pub(crate) last_contact: Timer,
    /// How often the node campaigned; how often it did because no leader was heard; how often it became what it is.
    pub(crate) campaigns: Counter,
    pub(crate) silences: Counter,
    pub(crate) leads: Counter,
    pub(crate) follows: Counter,
    /// How often a majority did not answer in time while it led.
    pub(crate) majority_lost: Counter,
}

impl Figures {
    /// The cells of a node that is sent something.
    pub(crate) fn sent_to(&self, name: &str) -> Arc<Sent> {
        self.sent.of(name)
    }

    pub(crate) fn read(&self, now: Duration) -> Vec<Reading> {
        let timer = |timer: &Timer| Value::Timer(timer.read(now));
        let counter = |counter: &Counter| Value::Counter(counter.read(now));
        let mut all: Vec<Reading> = [
            ("raft.candidate.electSelf", timer(&self.asked_for_vote)),
            ("raft.leader.lastContact", timer(&self.last_contact)),
            ("raft.rpc.appendEntries", timer(&self.appended)),
            ("raft.rpc.requestVote", timer(&self.voted)),
            ("raft.rpc.installSnapshot", timer(&self.installed)),
            ("raft.state.candidate", counter(&self.campaigns)),
            ("raft.state.leader", counter(&self.leads)),
            ("raft.state.follower", counter(&self.follows)),
            ("raft.transition.heartbeat_timeout", counter(&self.silences)),
            ("raft.transition.leader_lease_timeout", counter(&self.majority_lost)),
        ]
        .into_iter()
        .map(|(name, value)| Reading::new(name, value))
        .collect();
        for (node, sent) in self.sent.all() {
            for (name, value) in [
                ("raft.replication.appendEntries.rpc", timer(&sent.entries)),
                ("raft.replication.appendEntries.logs", counter(&sent.number)),
                ("raft.replication.heartbeat", timer(&sent.heartbeat)),
                ("raft.replication.installSnapshot", timer(&sent.state)),
            ] {
                all.push(Reading::new(name, value).with("peer_id", node.as_str()));
            }
        }
        all
    }
}
