//! What can go wrong between us and a directory, and whose it is to mend.

use crate::message::Outcome;

/// Why a directory did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The settings make no sense; the operator's to mend.
    #[error("{0}")]
    Settings(String),
    /// No address of the directory was reached: nothing was asked.
    #[error("cannot reach the directory: {0}")]
    Unreachable(String),
    /// The directory said no.
    #[error("{0}")]
    Refused(Outcome),
    /// It did not answer in time; what was asked may have been done.
    #[error("the directory did not answer in time")]
    TooSlow,
    /// The connection ended before the answer; what was asked may have been done.
    #[error("the connection to the directory broke: {0}")]
    Broken(std::io::ErrorKind),
    /// It answered what is no LDAP; what was asked may have been done.
    #[error("the directory answered something that is not LDAP: {0}")]
    Nonsense(&'static str),
    /// A password that is empty would be taken as no password (PWD-06): nothing was asked.
    #[error("an empty password proves nothing")]
    NoPassword,
}

impl DirectoryError {
    /// Whether the directory said so itself, so that what was asked was certainly not done.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::TooSlow | Self::Broken(_) | Self::Nonsense(_))
    }

    /// Whether what was named is not there.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Refused(Outcome { code: Outcome::NO_SUCH_OBJECT, .. }))
    }

    /// Whether it said that the password is wrong.
    #[must_use]
    pub const fn is_wrong_password(&self) -> bool {
        matches!(self, Self::Refused(Outcome { code: Outcome::INVALID_CREDENTIALS, .. }))
    }
}
