//! Why a command ends early, with its exit code: 1 for mistakes on this side, 2 for what a server or the way to it did.

use tresor_client::ClientError;

/// The end of a command that did not get its result.
pub(crate) enum Failure {
    /// The command line is wrong: message and usage, exit code 1.
    Usage(String),
    /// Something else to say.
    Message { code: i32, text: String },
    /// A request failed: exit code 2.
    Request(ClientError),
    /// Everything is said.
    Exit(i32),
}

impl Failure {
    /// A failure on this side.
    pub(crate) fn local(text: impl Into<String>) -> Self {
        Self::Message { code: 1, text: text.into() }
    }

    /// A failure that a server is behind.
    pub(crate) fn remote(text: impl Into<String>) -> Self {
        Self::Message { code: 2, text: text.into() }
    }

    /// Says what was being done when a request failed.
    pub(crate) fn during(self, action: impl AsRef<str>) -> Self {
        match self {
            Self::Request(error) => Self::Message { code: 2, text: format!("Error {}: {error}", action.as_ref()) },
            other => other,
        }
    }

    /// The HTTP status, if a server refused.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Request(error) => error.status(),
            _ => None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Request(error)
    }
}
