//! The stored records of leases. A lease keeps its own recipe for being taken back.

use std::time::Duration;

use tresor_model::Timestamp;
use tresor_model::ids::{LeaseId, MountId, NamespaceId};
use tresor_record::{Part, Record};
use tresor_secret::SecretBytes;

use super::index;
use crate::namespaces::ids;

/// A lease as it is stored.
#[derive(Record)]
#[record(kind = "lease", version = 4, previous = LeaseRecordV3)]
pub struct LeaseRecord {
    /// Its id: the path that was asked, and its number.
    pub id: LeaseId,
    /// The mount that handed it out.
    pub mount: MountId,
    /// The keyed hash of the token that it belongs to.
    pub token: String,
    /// What was handed out, in the engine's words.
    pub kind: String,
    /// What the engine needs to take it back.
    pub recipe: SecretBytes,
    /// When it was handed out.
    pub issued: Timestamp,
    /// When it ends, a whole second.
    pub expires: Timestamp,
    /// The life that was promised when the end was written; renewals that did not move it promised about the same.
    pub granted: Duration,
    /// Where it stands in the index: its end, or when revoking is tried next.
    pub due: Timestamp,
    /// When it was renewed last.
    pub renewed: Option<Timestamp>,
    /// The life that a renewal without a wish asks for; zero is the mount's.
    pub renewal_ttl: Duration,
    /// The longest life with all renewals; zero is the mount's.
    pub max_ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// What becomes of it.
    pub state: LeaseState,
    /// Whom its engine asks to take it back, in the engine's words; empty where it asks nobody outside.
    pub target: String,
    /// Until when what was asked of the target may come true: it is taken back once more then.
    pub again: Option<Timestamp>,
    /// The quotas on a path that count it.
    pub counted: Vec<String>,
}

/// A lease as it was stored before quotas could be on paths.
#[derive(Record)]
#[record(kind = "lease", version = 3, previous = LeaseRecordV2)]
pub struct LeaseRecordV3 {
    id: LeaseId,
    mount: MountId,
    token: String,
    kind: String,
    recipe: SecretBytes,
    issued: Timestamp,
    expires: Timestamp,
    granted: Duration,
    due: Timestamp,
    renewed: Option<Timestamp>,
    renewal_ttl: Duration,
    max_ttl: Duration,
    renewable: bool,
    state: LeaseState,
    target: String,
    again: Option<Timestamp>,
}

impl From<LeaseRecordV3> for LeaseRecord {
    fn from(older: LeaseRecordV3) -> Self {
        Self {
            id: older.id,
            mount: older.mount,
            token: older.token,
            kind: older.kind,
            recipe: older.recipe,
            issued: older.issued,
            expires: older.expires,
            granted: older.granted,
            due: older.due,
            renewed: older.renewed,
            renewal_ttl: older.renewal_ttl,
            max_ttl: older.max_ttl,
            renewable: older.renewable,
            state: older.state,
            target: older.target,
            again: older.again,
            counted: Vec::new(),
        }
    }
}

/// A lease as it was stored before anything was made outside the server.
#[derive(Record)]
#[record(kind = "lease", version = 2)]
pub struct LeaseRecordV2 {
    id: LeaseId,
    mount: MountId,
    token: String,
    kind: String,
    recipe: SecretBytes,
    issued: Timestamp,
    expires: Timestamp,
    granted: Duration,
    due: Timestamp,
    renewed: Option<Timestamp>,
    renewal_ttl: Duration,
    max_ttl: Duration,
    renewable: bool,
    state: LeaseState,
}

impl From<LeaseRecordV2> for LeaseRecordV3 {
    fn from(older: LeaseRecordV2) -> Self {
        let LeaseRecordV2 { id, mount, token, kind, recipe, issued, expires, granted, due, renewed, .. } = older;
        let LeaseRecordV2 { renewal_ttl, max_ttl, renewable, state, .. } = older;
        Self {
            id,
            mount,
            token,
            kind,
            recipe,
            issued,
            expires,
            granted,
            due,
            renewed,
            renewal_ttl,
            max_ttl,
            renewable,
            state,
            target: String::new(),
            again: None,
        }
    }
}

/// What becomes of a lease.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It is in use.
    #[part(tag = 1)]
    Live,
    /// It is over and being taken back.
    #[part(tag = 2)]
    Revoking(Attempts),
    /// Taking it back failed too often; an operator has to look.
    #[part(tag = 3)]
    Irrevocable(Attempts),
    /// It is being made: nobody sees it, and when its time comes it is taken back.
    #[part(tag = 4)]
    Intended,
}

/// How revoking went so far.
#[derive(Part, Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How often it failed.
    pub failed: u64,
    /// Why, the last time.
    pub reason: String,
    /// Whether it is forgotten when it fails once more, as an operator ordered.
    pub is_forced: bool,
}

impl LeaseRecord {
    /// What is left of its life, as it is shown.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Duration {
        index::shown(self.expires, self.granted, now)
    }

    /// The namespace that it lies in.
    pub(crate) fn home(&self) -> NamespaceId {
        ids::home(self.number())
    }

    /// The path that was asked.
    pub(crate) fn path(&self) -> &str {
        self.id.as_str().rsplit_once('/').map_or("", |(path, _)| path)
    }

    /// The last part of its id.
    #[must_use]
    pub fn number(&self) -> &str {
        number_of(self.id.as_str())
    }
}

/// The number in the id of a lease: its last part.
pub(super) fn number_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, number)| number)
}

/// Work over many leases or tokens.
#[derive(Record)]
#[record(kind = "lease-job", version = 1)]
pub struct JobRecord {
    /// What is done.
    pub work: JobWork,
    /// What lies below this part of the ids, ending in a slash, or is this id.
    pub prefix: String,
    /// When it was ordered: what is newer is left alone.
    pub since: Timestamp,
    /// The last that was looked at.
    pub walked: Option<String>,
}

/// What a job does.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobWork {
    /// Revokes leases.
    #[part(tag = 1)]
    Revoke,
    /// Revokes leases and forgets those where that fails.
    #[part(tag = 2)]
    Force,
    /// Revokes leases whose token is gone or whose time is over, and those that were to be revoked long ago.
    #[part(tag = 3)]
    TidyLeases,
    /// Removes handles whose token is gone, and tokens whose time is over.
    #[part(tag = 4)]
    TidyTokens,
}
