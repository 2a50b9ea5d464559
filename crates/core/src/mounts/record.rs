//! The stored record of a mount, one record per mount.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_engine::Class;
use tresor_model::Timestamp;
use tresor_model::ids::{MountAccessor, MountId};
use tresor_record::{Part, Reader, Record, RecordError, Writer};

/// A mount as it is stored.
#[derive(Record, Clone, PartialEq, Eq)]
#[record(kind = "mount", version = 1)]
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
    /// How it came to be where it is; `None` when it was made there.
    pub moved: Option<Move>,
}

/// The last move of a mount.
#[derive(Part, Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Names the move.
    pub id: String,
    /// Where the mount was before.
    pub from: String,
}

impl MountRecord {
    /// Where it is, as listings of its class say: auth methods without their `auth/`.
    #[must_use]
    pub fn path_in_class(&self) -> &str {
        let below_auth = self.path.strip_prefix("auth/").filter(|_| self.class == StoredClass::Auth);
        below_auth.unwrap_or(&self.path)
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

/// A removed mount whose data is still being wiped.
#[derive(Record)]
#[record(kind = "mount-wipe", version = 2)]
pub struct WipeRecord {
    /// When it was removed.
    pub since: Timestamp,
    /// What it was: its engine takes back what it handed out.
    pub mount: StoredMount,
    /// The last of its leases that was looked at.
    pub walked: Option<String>,
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
