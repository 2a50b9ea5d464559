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
}
