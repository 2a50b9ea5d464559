//! Names for things, one type each, so that one kind of id cannot be passed for another.
//!
//! Deliberately absent: token ids, which are secrets (`tresor_secret::TokenSecret`). An id carries no routing power:
//! it is looked up inside the namespace that the request resolved to (DR-12).

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes the text as it is; whoever looks it up decides whether it exists.
            #[must_use]
            pub fn new(text: impl Into<Box<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A request, as answered in `request_id`: a UUID.
    RequestId
);
id!(
    /// The handle of a token that is not the token: may be looked up and revoked by, never logged in with.
    Accessor
);
id!(
    /// The handle of a mount in answers and policies, such as `kv_1f2e3d4c`.
    MountAccessor
);
id!(
    /// A mount's own identity, under which its data is stored: a UUID that outlives renames.
    MountId
);
id!(
    /// A namespace's own identity, under which everything of it is stored; never taken from input.
    NamespaceId
);
id!(
    /// What is sealed by keys of its own: a namespace with a seal, and all below it that has none.
    RealmId
);
id!(
    /// A lease: the path that created it plus a random part.
    LeaseId
);

impl NamespaceId {
    /// The id of the root namespace.
    #[must_use]
    pub fn root() -> Self {
        Self::new("root")
    }

    /// Whether it is that of the root namespace.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_str() == "root"
    }

    /// The id of a namespace in a realm, of the part that is its own: so a name says by itself whose keys it is under, and
    /// nothing has to be looked up that could be missing.
    #[must_use]
    pub fn in_realm(own: &str, realm: &RealmId) -> Self {
        Self::new([own, realm.as_str()].concat())
    }

    /// The realm that the namespace is in.
    #[must_use]
    pub fn realm(&self) -> Option<RealmId> {
        realm_in(self.as_str()).map(RealmId::new)
    }
}

/// Characters of a realm's id, and of the part of a namespace's id before it.
pub const REALM_CHARACTERS: usize = 6;

/// The id of the realm in a namespace's id: only those in a realm are as long as both parts.
#[must_use]
pub fn realm_in(namespace: &str) -> Option<&str> {
    if namespace.len() == 2 * REALM_CHARACTERS { namespace.get(REALM_CHARACTERS..) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_realm_or_has_none() {
        let realm = RealmId::new("rEaLm1");
        assert_eq!(NamespaceId::in_realm("aB3xYz", &realm).realm(), Some(realm));
        for outside in ["root", "aB3xYz", "", "aB3xYzrEaLm", "aB3xYzrEaLm12"] {
            assert_eq!(NamespaceId::new(outside).realm(), None, "{outside}");
        }
    }
}
