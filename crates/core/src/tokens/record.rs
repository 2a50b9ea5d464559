//! The stored record of a token. The token itself is stored nowhere: records are found by its keyed hash.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_model::ids::{Accessor, MountId, NamespaceId};
use tresor_model::{Timestamp, TokenType};
use tresor_record::{Part, Record};

/// A service token as it is stored.
#[derive(Record, Clone)]
#[record(kind = "token", version = 1)]
pub struct TokenRecord {
    /// Its handle.
    pub accessor: Accessor,
    /// The namespace that it belongs to.
    pub namespace: NamespaceId,
    /// The keyed hash of its parent; `None` for orphans.
    pub parent: Option<String>,
    /// Attached policies, sorted.
    pub policies: Vec<String>,
    /// What the auth method or the creator said of the holder.
    pub metadata: BTreeMap<String, String>,
    /// Shown in audit records.
    pub display_name: String,
    /// The path that made it.
    pub path: String,
    /// The mount that made it: when the mount is gone, so is the token.
    pub mount: MountId,
    /// When it was made.
    pub created: Timestamp,
    /// When it was renewed last.
    pub renewed: Option<Timestamp>,
    /// When it ends; `None` only for root tokens without an end.
    pub expires: Option<Timestamp>,
    /// Life at creation.
    pub creation_ttl: Duration,
    /// The life that a renewal without a wish asks for.
    pub renewal_ttl: Duration,
    /// Longest life counted from creation, as its role or user said; zero means the mount's.
    pub max_ttl: Duration,
    /// Longest life counted from creation, whatever the mount says; zero means none.
    pub explicit_max_ttl: Duration,
    /// Renewable for ever by so much; zero means not periodic.
    pub period: Duration,
    /// Uses left.
    pub uses: Uses,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Addresses that it may be used from; empty means everywhere.
    pub bound_cidrs: Vec<String>,
}

/// How often a token may still be used.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// As often as one likes.
    #[part(tag = 1)]
    Unlimited,
    /// So many times; at zero the last use is going on, and every other is refused.
    #[part(tag = 2)]
    Left(u64),
}

impl Uses {
    /// From the wire, where zero means no limit.
    #[must_use]
    pub const fn from_wire(num_uses: u64) -> Self {
        if num_uses == 0 { Self::Unlimited } else { Self::Left(num_uses) }
    }

    /// For the wire, where zero means no limit.
    #[must_use]
    pub const fn on_wire(self) -> u64 {
        match self {
            Self::Unlimited => 0,
            Self::Left(left) => left,
        }
    }
}

impl TokenRecord {
    /// What is left of its life; `None` when it has no end.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.expires.map(|end| end.since(now))
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether its last use was taken: it is refused from then on, removed or not.
    #[must_use]
    pub const fn is_used_up(&self) -> bool {
        matches!(self.uses, Uses::Left(0))
    }

    /// Whether the policy `root` is attached.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Every stored token is a service token: batch tokens are not stored.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        TokenType::Service
    }
}

/// A token whose children and cubbyhole wait to be collected.
#[derive(Record)]
#[record(kind = "doomed-token", version = 1)]
pub struct DoomedToken {
    /// When it was revoked.
    pub since: Timestamp,
}

/// An accessor's record: the keyed hash of its token.
#[derive(Record)]
#[record(kind = "token-accessor", version = 1)]
pub struct AccessorRecord {
    /// The keyed hash.
    pub hash: String,
}
