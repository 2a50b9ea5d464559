//! What clients were promised of tokens and leases, and what may be and must be by now.
//!
//! Times are the server's, in nanoseconds; where an answer leaves a doubt, both ends of it are kept. Deliberately
//! absent: asking the server (`leases.rs`).

use crate::model::SECOND;

/// How sure it is that something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sure {
    #[default]
    No,
    Maybe,
    Yes,
}

/// A token that a client was given.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) parent: Option<usize>,
    pub(crate) end_min: i64,
    pub(crate) end_max: i64,
    pub(crate) is_revoked: Sure,
}

/// A lease that a client was given.
pub(crate) struct Lease {
    pub(crate) id: String,
    /// The name of what was handed out.
    pub(crate) user: String,
    pub(crate) owner: usize,
    pub(crate) end_min: i64,
    pub(crate) end_max: i64,
    pub(crate) is_revoked: Sure,
    /// Something that changes it is under way.
    pub(crate) is_busy: bool,
}

/// Everything that was promised.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) tokens: Vec<Token>,
    pub(crate) leases: Vec<Lease>,
}

/// The earliest and the latest end of a life of so many seconds that was promised between two instants. Ends are whole
/// seconds, a life on the wire is cut to whole seconds, and a renewed one may last a 64th longer.
pub(crate) fn promised(asked: i64, answered: i64, seconds: i64) -> (i64, i64) {
    let life = seconds.saturating_mul(SECOND);
    (asked.saturating_add(life), answered.saturating_add(life + life / 64 + 2 * SECOND))
}

impl Ledger {
    /// The token and its ancestors.
    fn line(&self, token: usize) -> impl Iterator<Item = &Token> {
        let mut next = Some(token);
        std::iter::from_fn(move || {
            let token = self.tokens.get(next?)?;
            next = token.parent;
            Some(token)
        })
    }

    /// What was promised of a lease and of the tokens that it hangs on, for a failure's message.
    pub(crate) fn told(&self, lease: &Lease) -> String {
        let mut told = format!("revoked {:?}, ends by {}", lease.is_revoked, lease.end_max);
        for token in self.line(lease.owner) {
            told += &format!("; token revoked {:?}, ends by {}", token.is_revoked, token.end_max);
        }
        told
    }

    /// Whether a token may be over at the latest time that was told.
    pub(crate) fn token_may_be_over(&self, token: usize, latest: i64) -> bool {
        self.line(token).any(|token| token.is_revoked > Sure::No || token.end_min <= latest)
    }

    /// Whether a token must be over at this time.
    pub(crate) fn token_must_be_over(&self, token: usize, now: i64) -> bool {
        self.line(token).any(|token| token.is_revoked == Sure::Yes || token.end_max <= now)
    }

    /// Whether a lease may be over at the latest time that was told.
    pub(crate) fn may_be_over(&self, lease: &Lease, latest: i64) -> bool {
        lease.is_revoked > Sure::No || lease.end_min <= latest || self.token_may_be_over(lease.owner, latest)
    }

    /// Whether a lease must be over at this time.
    pub(crate) fn must_be_over(&self, lease: &Lease, now: i64) -> bool {
        lease.is_revoked == Sure::Yes || lease.end_max <= now || self.token_must_be_over(lease.owner, now)
    }
}
