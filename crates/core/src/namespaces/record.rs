//! The stored record of a namespace: one below its parent's id, so that two of one name cannot both be made.

use std::collections::BTreeMap;

use tresor_barrier::RealmSeal;
use tresor_model::Timestamp;
use tresor_model::ids::NamespaceId;
use tresor_record::{Part, Record};

/// As it was before namespaces could have seals.
#[derive(Record)]
#[record(kind = "namespace", version = 1)]
struct NamespaceRecordV1 {
    id: NamespaceId,
    uuid: String,
    path: String,
    line: Vec<NamespaceId>,
    metadata: BTreeMap<String, String>,
    created: Timestamp,
    state: NamespaceState,
}

impl From<NamespaceRecordV1> for NamespaceRecord {
    fn from(older: NamespaceRecordV1) -> Self {
        let NamespaceRecordV1 { id, uuid, path, line, metadata, created, state } = older;
        Self { id, uuid, path, line, metadata, created, state, seal: None }
    }
}

/// A namespace as it is stored.
#[derive(Record, Clone, Debug, PartialEq, Eq)]
#[record(kind = "namespace", version = 2, previous = NamespaceRecordV1)]
pub struct NamespaceRecord {
    /// Its identity: everything of it lies below this.
    pub id: NamespaceId,
    /// The same for people and programs that want a UUID.
    pub uuid: String,
    /// Its path: those of its parents and its own name, each with a slash.
    pub path: String,
    /// The namespaces above it, the root first, and itself last.
    pub line: Vec<NamespaceId>,
    /// What operators note about it.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// What becomes of it.
    pub state: NamespaceState,
    /// Its own seal, when it has one: then its id names a realm, and everything of it is under that realm's keys.
    pub seal: Option<RealmSeal>,
}

/// What becomes of a namespace.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// It is in use.
    #[part(tag = 1)]
    Open,
    /// Nobody may ask anything in it or below it until it is unlocked by the key with this keyed hash.
    #[part(tag = 2)]
    Locked(String),
    /// It is being deleted: nobody reaches it, and what it has is removed.
    #[part(tag = 3)]
    Leaving(Timestamp),
    /// The same without its keys: it is sealed for good, and what it has is removed unread.
    #[part(tag = 4)]
    Erased(Timestamp),
}

impl NamespaceRecord {
    /// Whether it is being deleted.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(self.state, NamespaceState::Leaving(_) | NamespaceState::Erased(_))
    }

    /// Whether it is being deleted without its keys.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        matches!(self.state, NamespaceState::Erased(_))
    }

    /// Whether it was locked itself.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self.state, NamespaceState::Locked(_))
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.path.trim_end_matches('/');
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    /// The namespace above it.
    #[must_use]
    pub fn parent(&self) -> NamespaceId {
        let at = self.line.len().saturating_sub(2);
        self.line.get(at).cloned().unwrap_or_else(NamespaceId::root)
    }
}
