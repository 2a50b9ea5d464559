//! What the store remembers of nodes beside who the members are: who is to have a vote, and who was removed.
//!
//! A node that joined votes once it has the log; which ones are waiting for that is stored, so that the next leader goes on,
//! and a node that was to stay without a vote, or lost it, does not get one. A node that was removed must not walk in again
//! by itself. Both lists are bounded. Deliberately absent: the members (consensus has them).

use std::time::Duration;

use tresor_env::Timestamp;
use tresor_record::{Part, Record};

/// How many nodes may wait for their vote.
const WAITING_MAX: usize = 64;
/// How many removed nodes are remembered, the latest.
const REMOVED_MAX: usize = 1024;

/// Who is to have a vote, and who was removed.
#[derive(Record, Default, Debug, PartialEq, Eq)]
#[record(kind = "cluster-roster", version = 1)]
pub struct Roster {
    waiting: Vec<Waiting>,
    removed: Vec<Removed>,
}

#[derive(Part, Debug, PartialEq, Eq)]
struct Waiting {
    key: Vec<u8>,
    since: Timestamp,
}

#[derive(Part, Debug, PartialEq, Eq)]
struct Removed {
    key: Vec<u8>,
    name: String,
    at: Timestamp,
}

impl Roster {
    /// Whether a node was removed.
    #[must_use]
    pub fn was_removed(&self, key: &[u8; 32]) -> bool {
        self.removed.iter().any(|removed| removed.key == key)
    }

    /// Whether a node is to have a vote.
    #[must_use]
    pub fn awaits_vote(&self, key: &[u8; 32]) -> bool {
        self.waiting.iter().any(|waiting| waiting.key == key)
    }

    /// Whether any node is to have a vote.
    #[must_use]
    pub const fn is_anybody_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A node is to have a vote once it has the log; whether there was room to remember it.
    #[must_use]
    pub fn await_vote(&mut self, key: &[u8; 32], now: Timestamp) -> bool {
        if self.awaits_vote(key) {
            return true;
        }
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push(Waiting { key: key.to_vec(), since: now });
        true
    }

    /// A node waits for no vote any more; whether it did.
    pub fn settle(&mut self, key: &[u8; 32]) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.key != key);
        self.waiting.len() < before
    }

    /// Forgets those who have waited so long and are no members; whether there were any.
    pub fn forget_strangers(&mut self, now: Timestamp, bound: Duration, is_member: impl Fn(&[u8]) -> bool) -> bool {
        let count = self.waiting.len();
        self.waiting.retain(|waiting| now.since(waiting.since) < bound || is_member(&waiting.key));
        self.waiting.len() < count
    }

    /// A node was removed.
    pub fn remove(&mut self, key: &[u8; 32], name: &str, now: Timestamp) {
        self.settle(key);
        self.removed.retain(|removed| removed.key != key);
        if self.removed.len() >= REMOVED_MAX {
            self.removed.remove(0);
        }
        self.removed.push(Removed { key: key.to_vec(), name: name.to_owned(), at: now });
    }
}
