//! What a client can ask for: the verb on the wire, and the operation that policies speak of.
//!
//! Invariant (DR-09): renewing, revoking and rolling back are methods of engines, not operations, so no input can
//! name them.

/// What arrived, before it is known whether a write creates or updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// GET (or HEAD).
    Read,
    /// LIST, or GET with `list=true`.
    List,
    /// SCAN, or GET with `scan=true`.
    Scan,
    /// POST or PUT.
    Write,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// GET with `help=1`.
    Help,
}

/// What policies grant, handlers implement and audit records name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Read one thing.
    Read,
    /// List the names below a path.
    List,
    /// List every name below a path, at any depth.
    Scan,
    /// Write something that does not exist yet.
    Create,
    /// Write something that exists, or that has no notion of existing.
    Update,
    /// Change some fields of something that exists.
    Patch,
    /// Delete one thing.
    Delete,
    /// Ask what a path is for.
    Help,
    /// Be told of what happens at a path: asked of each event, and of no request.
    Subscribe,
}

impl Verb {
    /// Whether it asks for names, and so of a directory.
    #[must_use]
    pub const fn is_of_directory(self) -> bool {
        matches!(self, Self::List | Self::Scan)
    }
}

impl Operation {
    /// The word on the wire and in audit records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Scan => "scan",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Help => "help",
            Self::Subscribe => "subscribe",
        }
    }

    /// The operation of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let every = [
            Self::Read,
            Self::List,
            Self::Scan,
            Self::Create,
            Self::Update,
            Self::Patch,
            Self::Delete,
            Self::Help,
            Self::Subscribe,
        ];
        every.into_iter().find(|operation| operation.name() == word)
    }

    /// Whether it asks for names, and so of a directory.
    #[must_use]
    pub const fn is_of_directory(self) -> bool {
        matches!(self, Self::List | Self::Scan)
    }

    /// Whether the operation carries parameters that policies may constrain.
    #[must_use]
    pub const fn carries_parameters(self) -> bool {
        matches!(self, Self::Read | Self::Create | Self::Update | Self::Patch)
    }
}
