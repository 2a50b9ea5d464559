//! What happened, as it is told to those who listen; and how it reaches them.
//!
//! Deliberately absent: values. What is in an event is seen by whoever may be told of its path, who need not be allowed to
//! read there; so it names things, and says nothing that is kept in them.

use std::sync::{Mutex, PoisonError};

use tresor_env::BoxFuture;

use crate::ids::{MountAccessor, NamespaceId};

/// Something that happened at a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type, such as `kv-v2/data-write`.
    pub kind: &'static str,
    /// The path that was asked, below the namespace: with it policies decide who is told.
    pub path: String,
    /// Where.
    pub mount: EventMount,
    /// What else is known, `path` included, by name.
    pub metadata: Vec<(&'static str, String)>,
    /// For whom it is.
    pub audience: Audience,
}

/// Who is told of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The ledger, and those who listen and may be told.
    Everybody,
    /// The ledger alone.
    Ledger,
}

/// The mount at which something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMount {
    /// The namespace that it belongs to.
    pub namespace: NamespaceId,
    /// `secret` or `auth`.
    pub class: &'static str,
    /// Its handle.
    pub accessor: MountAccessor,
    /// Where it is mounted, ending in a slash.
    pub path: String,
    /// What it is, such as `kv`.
    pub plugin: String,
    /// Its option `version`, where it has one.
    pub version: Option<String>,
}

impl Event {
    /// What is known under a name; empty when nothing is.
    #[must_use]
    pub fn known(&self, name: &str) -> &str {
        self.metadata.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        256 + self.path.len() + self.mount.path.len() + metadata
    }
}

/// One message to somebody who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// There are no more.
    End(Ending),
}

/// Why no more messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// More happened than was taken.
    TooSlow,
    /// This node serves no more, or does not lead any more: whoever listens asks again.
    GoesAway,
    /// Whoever listens may not any more.
    NotAllowed,
    /// It cannot be found out what may be told.
    Failed,
}

impl Ending {
    /// Why, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooSlow => "more happened than was taken: connect again, and look at what you follow",
            Self::GoesAway => "this node serves no more: connect again",
            Self::NotAllowed => "permission denied",
            Self::Failed => "internal error",
        }
    }
}

/// Who makes messages.
pub trait Messages: Send {
    /// The next one. Waiting for it can be given up, and nothing is lost.
    fn next(&mut self) -> BoxFuture<'_, Message>;

    /// Completes when what waits is not worth being sent any more, because it was not taken for too long.
    fn cut(&self) -> BoxFuture<'static, Ending>;
}

/// Messages that are told one after the other for as long as somebody takes them.
///
/// The lock is never waited for: it is what makes this a value that may be looked at from anywhere.
pub struct MessageStream(Mutex<Box<dyn Messages>>);

impl MessageStream {
    /// What these tell.
    #[must_use]
    pub fn new(messages: impl Messages + 'static) -> Self {
        Self(Mutex::new(Box::new(messages)))
    }

    /// Who makes them.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Messages> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
