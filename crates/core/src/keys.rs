//! Where the core's own records lie in the store: one function per kind of record.
//!
//! Every key starts with the namespace's id. Engines' data lies below `logical/`, which only a `View` reaches.

use tresor_barrier::{Area, BarrierError, KeyPrefix, StorageKey};
use tresor_model::MountId;
use tresor_model::ids::NamespaceId;

type Key = Result<StorageKey, BarrierError>;
type Prefix = Result<KeyPrefix, BarrierError>;

/// All mount records of a namespace.
pub(crate) fn mounts(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "mounts/")
}

/// One mount record.
pub(crate) fn mount(namespace: &NamespaceId, id: &MountId) -> Key {
    mounts(namespace)?.key(id.as_str())
}

/// The data of one mount.
pub(crate) fn mount_contents(namespace: &NamespaceId, id: &MountId) -> Prefix {
    KeyPrefix::new(namespace, Area::Logical, &format!("{id}/"))
}

/// Mounts that were removed and whose data is still being wiped.
pub(crate) fn wipes(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Core, "wipes/")
}

/// Facts about the cluster: its name and id.
pub(crate) fn cluster() -> Key {
    StorageKey::new(&NamespaceId::root(), Area::Core, "cluster")
}

/// All ACL policies of a namespace.
pub(crate) fn policies(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Policies, "acl/")
}

/// All audit devices.
pub(crate) fn audit_devices() -> Prefix {
    KeyPrefix::new(&NamespaceId::root(), Area::Audit, "devices/")
}

/// A token by its keyed hash.
pub(crate) fn token(namespace: &NamespaceId, hash: &str) -> Key {
    KeyPrefix::new(namespace, Area::Tokens, "id/")?.key(hash)
}

/// All token accessors of a namespace.
pub(crate) fn accessors(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Tokens, "accessor/")
}

/// The children of a token: their hashes.
pub(crate) fn children(namespace: &NamespaceId, parent: &str) -> Prefix {
    KeyPrefix::new(namespace, Area::Tokens, &format!("child/{parent}/"))
}

/// Tokens that were revoked and whose children and cubbyhole are still being collected.
pub(crate) fn doomed(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Tokens, "doomed/")
}

/// Buckets of the time-ordered index of what ends, earliest first.
pub(crate) fn expiry(namespace: &NamespaceId) -> Prefix {
    KeyPrefix::new(namespace, Area::Leases, "expiry/")
}
