//! The stored record of a token. The token itself is stored nowhere: records are found by its keyed hash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tresor_model::ids::{Accessor, MountId, NamespaceId};
use tresor_model::{Timestamp, TokenType};
use tresor_policy::WRAPPING_POLICY;
use tresor_record::{Part, Record};
use tresor_secret::SecretString;

use crate::leases::index;
use crate::namespaces::ids;

/// A service token as it is stored.
#[derive(Record, Clone)]
#[record(kind = "token", version = 5, previous = TokenRecordV4)]
pub struct TokenRecord {
    /// Its handle.
    pub accessor: Accessor,
    /// The namespace that it belongs to.
    pub namespace: NamespaceId,
    /// The keyed hashes of its ancestors, nearest first, as they were when it was made; `lineage` says which of them
    /// still are.
    pub ancestors: Vec<String>,
    /// The mount that made the farthest ancestor; `None` for orphans.
    pub origin: Option<MountId>,
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
    /// When it ends, a whole second; `None` only for root tokens without an end.
    pub expires: Option<Timestamp>,
    /// The life that was promised when the end was written; renewals that did not move it promised about the same.
    pub granted: Duration,
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
    /// Whether its uses are counted; how many are left is a tally.
    pub uses: Uses,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Addresses that it may be used from; empty means everywhere.
    pub bound_cidrs: Vec<String>,
    /// The quotas on a role or a path that count it.
    pub counted: Vec<String>,
    /// What its auth method asks again with when it is renewed; nobody is shown it.
    pub kept: Option<Arc<SecretString>>,
}

/// A service token as it was stored before auth methods could ask again.
#[derive(Record)]
#[record(kind = "token", version = 4, previous = TokenRecordV3)]
pub struct TokenRecordV4 {
    accessor: Accessor,
    namespace: NamespaceId,
    ancestors: Vec<String>,
    origin: Option<MountId>,
    policies: Vec<String>,
    metadata: BTreeMap<String, String>,
    display_name: String,
    path: String,
    mount: MountId,
    created: Timestamp,
    renewed: Option<Timestamp>,
    expires: Option<Timestamp>,
    granted: Duration,
    creation_ttl: Duration,
    renewal_ttl: Duration,
    max_ttl: Duration,
    explicit_max_ttl: Duration,
    period: Duration,
    uses: Uses,
    renewable: bool,
    bound_cidrs: Vec<String>,
    counted: Vec<String>,
}

impl From<TokenRecordV4> for TokenRecord {
    fn from(older: TokenRecordV4) -> Self {
        Self {
            accessor: older.accessor,
            namespace: older.namespace,
            ancestors: older.ancestors,
            origin: older.origin,
            policies: older.policies,
            metadata: older.metadata,
            display_name: older.display_name,
            path: older.path,
            mount: older.mount,
            created: older.created,
            renewed: older.renewed,
            expires: older.expires,
            granted: older.granted,
            creation_ttl: older.creation_ttl,
            renewal_ttl: older.renewal_ttl,
            max_ttl: older.max_ttl,
            explicit_max_ttl: older.explicit_max_ttl,
            period: older.period,
            uses: older.uses,
            renewable: older.renewable,
            bound_cidrs: older.bound_cidrs,
            counted: older.counted,
            kept: None,
        }
    }
}

/// A service token as it was stored before quotas could be on roles and paths.
#[derive(Record)]
#[record(kind = "token", version = 3)]
pub struct TokenRecordV3 {
    accessor: Accessor,
    namespace: NamespaceId,
    ancestors: Vec<String>,
    origin: Option<MountId>,
    policies: Vec<String>,
    metadata: BTreeMap<String, String>,
    display_name: String,
    path: String,
    mount: MountId,
    created: Timestamp,
    renewed: Option<Timestamp>,
    expires: Option<Timestamp>,
    granted: Duration,
    creation_ttl: Duration,
    renewal_ttl: Duration,
    max_ttl: Duration,
    explicit_max_ttl: Duration,
    period: Duration,
    uses: Uses,
    renewable: bool,
    bound_cidrs: Vec<String>,
}

impl From<TokenRecordV3> for TokenRecordV4 {
    fn from(older: TokenRecordV3) -> Self {
        Self {
            accessor: older.accessor,
            namespace: older.namespace,
            ancestors: older.ancestors,
            origin: older.origin,
            policies: older.policies,
            metadata: older.metadata,
            display_name: older.display_name,
            path: older.path,
            mount: older.mount,
            created: older.created,
            renewed: older.renewed,
            expires: older.expires,
            granted: older.granted,
            creation_ttl: older.creation_ttl,
            renewal_ttl: older.renewal_ttl,
            max_ttl: older.max_ttl,
            explicit_max_ttl: older.explicit_max_ttl,
            period: older.period,
            uses: older.uses,
            renewable: older.renewable,
            bound_cidrs: older.bound_cidrs,
            counted: Vec::new(),
        }
    }
}

/// How often a token may be used.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// As often as one likes.
    #[part(tag = 1)]
    Unlimited,
    /// As often as its tally says.
    #[part(tag = 2)]
    Counted,
}

impl TokenRecord {
    /// Forgets all but its nearest ancestors, and with the farthest where that came from.
    pub(crate) fn keep_ancestors(&mut self, count: usize) {
        self.ancestors.truncate(count);
        self.origin = None;
    }

    /// The namespace of the mount that made the farthest ancestor.
    pub(crate) fn origin_home(&self) -> NamespaceId {
        self.ancestors.last().map_or_else(|| self.namespace.clone(), |farthest| ids::home(farthest))
    }

    /// What is left of its life, as it is shown; `None` when it has no end.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.expires.map(|end| index::shown(end, self.granted, now))
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether the policy `root` is attached.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Whether it opens a wrapped answer, once, and nothing else.
    #[must_use]
    pub fn is_wrapping(&self) -> bool {
        self.uses == Uses::Counted && self.policies == [WRAPPING_POLICY]
    }

    /// Its kind: only what is stored has an accessor.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        if self.accessor.as_str().is_empty() { TokenType::Batch } else { TokenType::Service }
    }

    /// The token role that it was made by: the path says it.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let (role, _) =
            self.path.strip_prefix("auth/token/create/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        Some(role)
    }
}

/// A revoked token of which something is left to be collected.
#[derive(Record)]
#[record(kind = "token-mark", version = 2)]
pub struct MarkRecord {
    /// What becomes of what is below.
    pub fate: StoredFate,
    /// When the token was made: what is below was made later.
    pub created: Timestamp,
    /// When it was revoked.
    pub since: Timestamp,
    /// Its ancestors, nearest first.
    pub ancestors: Vec<String>,
    /// How far the walk over what goes on without it has come: the edges from its child down.
    pub walked: Vec<String>,
}

/// What becomes of what is below a revoked token, as it is stored.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredFate {
    /// It is revoked too.
    #[part(tag = 1)]
    Doomed,
    /// It goes on.
    #[part(tag = 2)]
    Cut,
}
