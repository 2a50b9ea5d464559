//! What a rule may grant, as words and as a small set.

use tresor_model::Operation;

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Write what is not there.
    Create,
    /// Delete.
    Delete,
    /// Nothing at all, whatever else is granted.
    Deny,
    /// List names.
    List,
    /// Change some fields.
    Patch,
    /// Read.
    Read,
    /// Restore from a snapshot (known, not used yet).
    Recover,
    /// Everything (the policy `root` only).
    Root,
    /// List names at any depth.
    Scan,
    /// Be told of events, of the types that the rule names.
    Subscribe,
    /// Use protected paths.
    Sudo,
    /// Write what is there.
    Update,
}

impl Capability {
    /// All that a policy may name, in order of their words.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Delete,
        Self::Deny,
        Self::List,
        Self::Patch,
        Self::Read,
        Self::Recover,
        Self::Scan,
        Self::Subscribe,
        Self::Sudo,
        Self::Update,
    ];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deny => "deny",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Recover => "recover",
            Self::Root => "root",
            Self::Scan => "scan",
            Self::Subscribe => "subscribe",
            Self::Sudo => "sudo",
            Self::Update => "update",
        }
    }

    /// The capability of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == word)
    }

    /// What an operation needs; help needs nothing.
    #[must_use]
    pub const fn needed_by(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Read => Some(Self::Read),
            Operation::List => Some(Self::List),
            Operation::Scan => Some(Self::Scan),
            Operation::Create => Some(Self::Create),
            Operation::Update => Some(Self::Update),
            Operation::Patch => Some(Self::Patch),
            Operation::Delete => Some(Self::Delete),
            Operation::Subscribe => Some(Self::Subscribe),
            Operation::Help => None,
        }
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Whether the set holds one.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u16) != 0
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u16)
    }

    /// Both sets; a denial in either is a denial.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What the set comes to: nothing but the denial when it holds one.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let denied = self.contains(Capability::Deny);
        Capability::ALL
            .into_iter()
            .filter(move |capability| self.contains(*capability) && (!denied || *capability == Capability::Deny))
    }
}
