//! The stored record of a mount, one record per mount; and what is stored of one that was removed.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_engine::Class;
use tresor_model::Timestamp;
use tresor_model::ids::{MountAccessor, MountId, NamespaceId};
use tresor_record::{Part, Reader, Record, RecordError, Writer};

/// A mount as it was stored before engines could be made anew and data could be taken over.
#[derive(Record)]
#[record(kind = "mount", version = 1)]
pub struct MountRecordV1 {
    id: MountId,
    accessor: MountAccessor,
    class: StoredClass,
    kind: String,
    path: String,
    description: String,
    options: BTreeMap<String, String>,
    tuning: TuningV1,
    local: bool,
    seal_wrap: bool,
    external_entropy_access: bool,
    created: Timestamp,
    moved: Option<MoveV2>,
}

/// A mount as it was stored before one could move to another namespace.
#[derive(Record)]
#[record(kind = "mount", version = 2, previous = MountRecordV1)]
pub struct MountRecordV2 {
    id: MountId,
    accessor: MountAccessor,
    class: StoredClass,
    kind: String,
    path: String,
    description: String,
    options: BTreeMap<String, String>,
    tuning: Tuning,
    local: bool,
    seal_wrap: bool,
    external_entropy_access: bool,
    created: Timestamp,
    moved: Option<MoveV2>,
    reloaded: Option<Reload>,
    store: u64,
    former: Option<Former>,
}

/// A mount as it is stored.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "mount", version = 3, previous = MountRecordV2)]
pub struct MountRecord {
    /// Its identity; its data lies below it.
    pub id: MountId,
    /// Its handle.
    pub accessor: MountAccessor,
    /// Whether it is a secrets engine, an auth method or a part of the system.
    pub class: StoredClass,
    /// Its type, such as `kv`.
    pub kind: String,
    /// Where it is mounted, ending in a slash; auth methods start with `auth/`.
    pub path: String,
    /// What people say it is for.
    pub description: String,
    /// Options such as `version`.
    pub options: BTreeMap<String, String>,
    /// How it was tuned.
    pub tuning: Tuning,
    /// Not replicated to other clusters; kept for clients.
    pub local: bool,
    /// Kept for clients; everything is sealed the same way here.
    pub seal_wrap: bool,
    /// Kept for clients.
    pub external_entropy_access: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Its last move; `None` when it was made where it is.
    pub moved: Option<Move>,
    /// When its engine was made anew last, as an operator ordered.
    pub reloaded: Option<Reload>,
    /// In which of its parts of the store its data lies.
    pub store: u64,
    /// What it was before, while its data is taken over from there.
    pub former: Option<Former>,
}

/// An order to make an engine anew: every node does when it has the record.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Names the order, which may be about many mounts.
    pub id: String,
    /// When it was given.
    pub ordered: Timestamp,
}

/// A mount of before, whose data has another shape.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// In which part of the store its data lies.
    pub store: u64,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

impl From<MountRecordV1> for MountRecordV2 {
    fn from(older: MountRecordV1) -> Self {
        Self {
            id: older.id,
            accessor: older.accessor,
            class: older.class,
            kind: older.kind,
            path: older.path,
            description: older.description,
            options: older.options,
            tuning: older.tuning.into(),
            local: older.local,
            seal_wrap: older.seal_wrap,
            external_entropy_access: older.external_entropy_access,
            created: older.created,
            moved: older.moved,
            reloaded: None,
            store: 0,
            former: None,
        }
    }
}

/// The last move of a mount, before one could move to another namespace.
#[derive(Part)]
struct MoveV2 {
    id: String,
    from: String,
}

impl From<MountRecordV2> for MountRecord {
    fn from(older: MountRecordV2) -> Self {
        let to = older.path.clone();
        let moved = older.moved.map(|MoveV2 { id, from }| Move { id, from, to, state: MoveState::Done });
        Self {
            moved,
            id: older.id,
            accessor: older.accessor,
            class: older.class,
            kind: older.kind,
            path: older.path,
            description: older.description,
            options: older.options,
            tuning: older.tuning,
            local: older.local,
            seal_wrap: older.seal_wrap,
            external_entropy_access: older.external_entropy_access,
            created: older.created,
            reloaded: older.reloaded,
            store: older.store,
            former: older.former,
        }
    }
}

/// The last move of a mount. Paths begin in the root namespace.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Names the move.
    pub id: String,
    /// Where the mount was before.
    pub from: String,
    /// Where it was to be.
    pub to: String,
    /// How far that is.
    pub state: MoveState,
}

/// How far a move is.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// The mount is where it was to be.
    #[part(tag = 1)]
    Done,
    /// It is on its way to this namespace, and nobody reaches it.
    #[part(tag = 2)]
    Departing(NamespaceId),
    /// It comes from this namespace, and nobody reaches it yet.
    #[part(tag = 3)]
    Arriving(NamespaceId),
    /// It stayed where it was, for this reason.
    #[part(tag = 4)]
    Failed(String),
}

impl MountRecord {
    /// Of a mount of which nothing is known but its identity.
    #[must_use]
    pub fn unknown(id: MountId, now: Timestamp) -> Self {
        Self {
            accessor: MountAccessor::new(format!("unknown_{id}")),
            class: StoredClass::Secret,
            kind: "unknown".to_owned(),
            path: format!("{id}/"),
            description: String::new(),
            options: BTreeMap::new(),
            tuning: Tuning::default(),
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            created: now,
            moved: None,
            reloaded: None,
            store: 0,
            former: None,
            id,
        }
    }

    /// Whether it is on its way from one namespace to another.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        let state = self.moved.as_ref().map(|moved| &moved.state);
        matches!(state, Some(MoveState::Departing(_) | MoveState::Arriving(_)))
    }

    /// Where it is, as listings of its class say: auth methods without their `auth/`.
    #[must_use]
    pub fn path_in_class(&self) -> &str {
        let below_auth = self.path.strip_prefix("auth/").filter(|_| self.class == StoredClass::Auth);
        below_auth.unwrap_or(&self.path)
    }
}

/// How a mount could be tuned in version 1 of its record.
#[derive(Part)]
struct TuningV1 {
    default_lease_ttl: Duration,
    max_lease_ttl: Duration,
    force_no_cache: bool,
    audit_non_hmac_request_keys: Vec<String>,
    audit_non_hmac_response_keys: Vec<String>,
    listing_visibility: String,
    passthrough_request_headers: Vec<String>,
    allowed_response_headers: Vec<String>,
    token_type: String,
}

impl From<TuningV1> for Tuning {
    fn from(older: TuningV1) -> Self {
        Self {
            default_lease_ttl: older.default_lease_ttl,
            max_lease_ttl: older.max_lease_ttl,
            force_no_cache: older.force_no_cache,
            audit_non_hmac_request_keys: older.audit_non_hmac_request_keys,
            audit_non_hmac_response_keys: older.audit_non_hmac_response_keys,
            listing_visibility: older.listing_visibility,
            passthrough_request_headers: older.passthrough_request_headers,
            allowed_response_headers: older.allowed_response_headers,
            token_type: older.token_type,
            ..Self::default()
        }
    }
}

/// How a mount was tuned; zero durations and empty lists are unset.
#[derive(Part, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Default life of leases and tokens; zero takes the server's.
    pub default_lease_ttl: Duration,
    /// Longest life of leases and tokens; zero takes the server's.
    pub max_lease_ttl: Duration,
    /// Kept for clients: there is no cache to bypass.
    pub force_no_cache: bool,
    /// Request fields that audit devices show in the clear.
    pub audit_non_hmac_request_keys: Vec<String>,
    /// Response fields that audit devices show in the clear.
    pub audit_non_hmac_response_keys: Vec<String>,
    /// `unauth` shows the mount to those who have no token yet.
    pub listing_visibility: String,
    /// Request headers handed to the engine.
    pub passthrough_request_headers: Vec<String>,
    /// Response headers that the engine may set.
    pub allowed_response_headers: Vec<String>,
    /// Kind of tokens that an auth method leads to.
    pub token_type: String,
    /// Kept for clients: there are no managed keys.
    pub allowed_managed_keys: Vec<String>,
    /// Kept for clients: no engine here logs anybody in for another.
    pub delegated_auth_accessors: Vec<String>,
    /// Kept for clients: there are no identity tokens.
    pub identity_token_key: String,
    /// Slashes at the end of a path mean nothing, but for listings.
    pub trim_request_trailing_slashes: bool,
    /// The version that was asked for; there is one.
    pub plugin_version: String,
    /// Kept for clients: nothing is pinned.
    pub override_pinned_version: bool,
}

/// [`Class`] as it is stored.
#[derive(Part, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredClass {
    /// A secrets engine.
    #[part(tag = 1)]
    Secret,
    /// An auth method.
    #[part(tag = 2)]
    Auth,
    /// A part of the server.
    #[part(tag = 3)]
    System,
}

impl From<Class> for StoredClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Secret => Self::Secret,
            Class::Auth => Self::Auth,
            Class::System => Self::System,
        }
    }
}

/// What everybody writes who takes a path for a mount, so that of two who take one path at a time one does.
#[derive(Record)]
#[record(kind = "mount-turn", version = 1)]
pub struct TurnRecord {
    /// How often a path was taken.
    pub taken: u64,
}

/// A removed mount whose data was being wiped before it was counted how far that is.
#[derive(Record)]
#[record(kind = "mount-wipe", version = 2)]
pub struct WipeRecordV2 {
    since: Timestamp,
    mount: StoredMount,
    walked: Option<String>,
}

impl From<WipeRecordV2> for WipeRecord {
    fn from(older: WipeRecordV2) -> Self {
        let WipeRecordV2 { since, mount, walked } = older;
        Self { walked, ..Self::begun(mount.0, since) }
    }
}

impl WipeRecord {
    /// Of a mount that is removed now.
    pub(crate) const fn begun(mount: MountRecord, since: Timestamp) -> Self {
        let mount = StoredMount(mount);
        Self { since, mount, walked: None, leases_ended: 0, records_wiped: 0, is_forced: false }
    }
}

/// A removed mount whose data is still being wiped.
#[derive(Record)]
#[record(kind = "mount-wipe", version = 3, previous = WipeRecordV2)]
pub struct WipeRecord {
    /// When it was removed.
    pub since: Timestamp,
    /// What it was: its engine takes back what it handed out.
    pub mount: StoredMount,
    /// The last of its leases that was looked at.
    pub walked: Option<String>,
    /// How many of its leases were ended.
    pub leases_ended: u64,
    /// How many records of its data were deleted.
    pub records_wiped: u64,
    /// Whether leases that cannot be revoked are forgotten, as an operator ordered.
    pub is_forced: bool,
}

/// A mount's record inside another one.
pub struct StoredMount(pub MountRecord);

impl Part for StoredMount {
    fn write(&self, writer: &mut Writer) {
        self.0.encode().to_vec().write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        MountRecord::decode(&Vec::<u8>::read(reader)?).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mount_of_before_is_where_it_was_moved_to() {
        let older = |moved| MountRecordV2 {
            id: MountId::new("1"),
            accessor: MountAccessor::new("kv_1"),
            class: StoredClass::Secret,
            kind: "kv".to_owned(),
            path: "new/".to_owned(),
            description: String::new(),
            options: BTreeMap::new(),
            tuning: Tuning::default(),
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            created: Timestamp::from_seconds(1),
            moved,
            reloaded: None,
            store: 1,
            former: None,
        };
        let read = |moved| MountRecord::decode(&older(moved).encode()).unwrap();
        assert_eq!(read(None).moved, None);
        let read = read(Some(MoveV2 { id: "m".to_owned(), from: "old/".to_owned() }));
        let [id, from, to] = ["m", "old/", "new/"].map(str::to_owned);
        assert_eq!(read.moved, Some(Move { id, from, to, state: MoveState::Done }));
        assert!(!read.is_moving() && read.store == 1);
    }
}
