//! Why a request was not done, with the blame in the variant.
//!
//! A [`Refusal`] is the caller's to mend: its text is public. A [`Failure`] is ours (or an upstream's): its public
//! text is fixed and the cause goes to the log together with the request id. Deliberately absent: HTTP statuses
//! (`tresor-http` maps each variant in one exhaustive match).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Why a request was not done.
#[derive(Debug)]
pub enum Fault {
    /// The caller's to mend.
    Refusal(Refusal),
    /// Ours to mend.
    Failure(Failure),
}

/// What the caller did, or must wait for. Texts name fields and rules, never values that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request makes no sense as sent.
    Invalid(Cow<'static, str>),
    /// Whoever logs in did not prove who they are; counted against the name that is claimed.
    Unproven(Cow<'static, str>),
    /// The caller may not do this, or is not known; one answer for all of these.
    Denied,
    /// A path that nothing is mounted at, or no route of the mount matches.
    NoRoute(String),
    /// A named thing that does not exist, with a text that clients look for.
    Absent(Cow<'static, str>),
    /// A thing that does not belong to what the path names, with a text that clients look for.
    Foreign(Cow<'static, str>),
    /// The path exists; this operation does not exist on it.
    Unsupported,
    /// The body is larger than the limit.
    TooLarge,
    /// PATCH without the merge-patch media type.
    UnsupportedMedia,
    /// A quota is used up; says which.
    Throttled(Cow<'static, str>),
    /// The body took longer to arrive than the listener waits.
    TooSlow,
    /// The node is sealed.
    Sealed,
    /// The node was never initialised.
    Uninitialized,
    /// This node stopped to lead before anything was done: the node that leads now is to be asked.
    Elsewhere,
    /// Another node is to be asked, at this address of its API.
    Redirect(String),
    /// The server cannot take the request now, for a named reason; trying again later is right.
    Unavailable(Cow<'static, str>),
}

/// What went wrong on our side.
pub struct Failure {
    /// What the log gets.
    pub cause: Box<dyn Error + Send + Sync>,
    /// Whose side it was.
    pub side: Side,
    /// A public text that clients look for; `None` gives the fixed one.
    pub public: Option<Cow<'static, str>>,
}

/// On whose side a failure happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Inside this server.
    Ours,
    /// A system that this server called.
    Upstream,
}

impl Fault {
    /// A refusal because the request makes no sense as sent.
    #[must_use]
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Refusal(Refusal::Invalid(text.into()))
    }

    /// A refusal because the caller may not.
    #[must_use]
    pub const fn denied() -> Self {
        Self::Refusal(Refusal::Denied)
    }

    /// A failure inside this server; the cause goes to the log only.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failure(Failure { cause: cause.into(), side: Side::Ours, public: None })
    }

    /// A failure of a system that this server called, which does not answer; the text goes to the caller and the log.
    #[must_use]
    pub fn upstream(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Failure(Failure { cause: text.clone().into(), side: Side::Upstream, public: Some(text.into()) })
    }

    /// What went wrong, for the server's operators: the public text of a refusal, the cause of a failure.
    #[must_use]
    pub fn for_operators(&self) -> String {
        match self {
            Self::Refusal(_) => self.to_string(),
            Self::Failure(failure) => failure.cause.to_string(),
        }
    }
}

impl Fault {
    /// The same of a part of what was asked: its text says of which.
    #[must_use]
    pub fn of_part(self, part: &str) -> Self {
        let with = |text: &str| format!("{part}: {text}").into();
        match self {
            Self::Refusal(refusal) => Self::Refusal(match refusal {
                Refusal::Invalid(text) | Refusal::Unproven(text) => Refusal::Invalid(with(&text)),
                Refusal::Absent(text) => Refusal::Absent(with(&text)),
                Refusal::Foreign(text) => Refusal::Foreign(with(&text)),
                // Whoever asked may do that.
                Refusal::Denied => Refusal::Foreign(with("permission denied")),
                Refusal::Throttled(text) => Refusal::Throttled(with(&text)),
                Refusal::Unavailable(text) => Refusal::Unavailable(with(&text)),
                path @ Refusal::NoRoute(_) => Refusal::Absent(with(&path.to_string())),
                Refusal::Unsupported => Refusal::Invalid(with("unsupported operation")),
                other => other,
            }),
            failure => failure,
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("cause", &self.cause).field("side", &self.side).finish_non_exhaustive()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => write!(f, "{refusal}"),
            Self::Failure(failure) => f.write_str(failure.public.as_deref().unwrap_or("internal error")),
        }
    }
}

impl Error for Fault {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text)
            | Self::Unproven(text)
            | Self::Absent(text)
            | Self::Foreign(text)
            | Self::Unavailable(text)
            | Self::Throttled(text) => f.write_str(text),
            Self::Denied => f.write_str("permission denied"),
            Self::NoRoute(path) => write!(f, "no handler for route {path:?}. route entry not found."),
            Self::Unsupported => f.write_str("unsupported operation"),
            Self::TooLarge => f.write_str("request body too large"),
            Self::UnsupportedMedia => f.write_str("PATCH requires the content type application/merge-patch+json"),
            Self::TooSlow => f.write_str("request body took too long to arrive"),
            Self::Elsewhere => f.write_str("another node leads now, try again"),
            Self::Redirect(_) => f.write_str("this node stands by; the active node is to be asked"),
            Self::Sealed => f.write_str("Vault is sealed"),
            Self::Uninitialized => f.write_str("Vault is not initialized"),
        }
    }
}
