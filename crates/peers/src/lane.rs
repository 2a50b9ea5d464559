//! The kinds of messages, each with a connection and bounds of its own, so that none delays another.
//!
//! Deliberately absent: priorities within a lane.

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Small, and answered within milliseconds: heartbeats, votes, confirmations.
    Urgent,
    /// Entries of the log.
    Entries,
    /// Chunks of a snapshot, and whatever else can wait.
    Bulk,
    /// Whole requests that run on another node, many at once, each for as long as it takes there.
    Requests,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::Entries, Self::Bulk, Self::Requests];

    /// The largest message or answer; a batch of the committer is at most 64 MiB, a request's body 32 MiB.
    #[must_use]
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Urgent => 1 << 20,
            Self::Entries => 80 << 20,
            Self::Bulk => 4 << 20,
            Self::Requests => 34 << 20,
        }
    }

    /// How many bytes of messages that are not answered yet a node takes from one other; always room for the largest.
    pub(crate) const fn unanswered_bytes_max(self) -> usize {
        match self {
            // One large request that takes its time keeps no other one from being read.
            Self::Requests => 2 * self.message_bytes_max(),
            _ => self.message_bytes_max() + (1 << 20),
        }
    }

    /// How many messages may wait for their answer at once.
    pub(crate) const fn unanswered_max(self) -> usize {
        match self {
            // As many as a server has running.
            Self::Requests => 4096,
            _ => 256,
        }
    }

    /// Whether the connection is made as soon as a node is known, and not only when there is something to say.
    pub(crate) const fn is_kept_open(self) -> bool {
        matches!(self, Self::Urgent)
    }

    /// As it is spelled on the wire.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Urgent => 1,
            Self::Entries => 2,
            Self::Bulk => 3,
            Self::Requests => 4,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.code() == code)
    }
}
