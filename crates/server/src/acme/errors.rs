//! Why there is no certificate, by whose fault it is.

use std::fmt;
use std::io;

use instant_acme::Error;

/// The longest that is shown of what an authority says.
const SAID_CHARACTERS_MAX: usize = 600;

/// What the kinds of refusals begin with (RFC 8555, 6.7).
const KINDS: &str = "urn:ietf:params:acme:error:";

/// Why a certificate is not to be had.
#[derive(Debug)]
pub(crate) enum AcmeError {
    /// The authority is not there, or what answers is none.
    Away(String),
    /// The authority says no.
    Refused {
        /// What it calls that.
        kind: String,
        /// Its words.
        said: String,
    },
    /// The authority asked at the name, and was shown something else or nothing.
    Unconvinced(String),
    /// The authority takes none of the proofs that are allowed here.
    NoWay,
    /// The authority came to no end.
    TooSlow,
    /// The authority's certificate is of no use.
    Unusable(String),
    /// What an operator configured cannot be read.
    Configured(String),
    /// What is kept cannot be read or written.
    Kept(io::Error),
    /// This server's own.
    Own(String),
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(said) => write!(f, "the authority is not there: {said}"),
            Self::Refused { said, .. } => write!(f, "the authority refuses: {said}"),
            Self::Unconvinced(said) => write!(f, "the authority asked at the name and is not convinced: {said}"),
            Self::NoWay => f.write_str("the authority takes none of the proofs that are allowed"),
            Self::TooSlow => f.write_str("the authority came to no end"),
            Self::Unusable(why) => write!(f, "the authority's certificate is of no use: {why}"),
            Self::Configured(why) => write!(f, "{why}"),
            Self::Kept(error) => write!(f, "`tls_acme_cache_path`: {error}"),
            Self::Own(why) => write!(f, "no request can be made: {why}"),
        }
    }
}

impl std::error::Error for AcmeError {}

impl From<io::Error> for AcmeError {
    fn from(error: io::Error) -> Self {
        Self::Kept(error)
    }
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => {
                let kind = problem.r#type.clone().unwrap_or_default();
                Self::Refused { kind, said: plain(&problem.to_string()) }
            }
            Error::Crypto | Error::KeyRejected => Self::Own(error.to_string()),
            other => Self::Away(plain(&other.to_string())),
        }
    }
}

impl AcmeError {
    /// Whether another authority would very likely say the same; what is wrong with this one alone says nothing of others.
    pub(crate) fn holds_elsewhere(&self) -> bool {
        match self {
            Self::Refused { kind, .. } => {
                !["serverInternal", "rateLimited"].iter().any(|own| kind.strip_prefix(KINDS) == Some(own))
            }
            Self::Unconvinced(_) | Self::NoWay => true,
            _ => false,
        }
    }

    /// Whether the authority does not know the account.
    pub(crate) fn is_about_account(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind.strip_prefix(KINDS) == Some("accountDoesNotExist"))
    }
}

/// A stranger's words in one line of a log.
pub(crate) fn plain(said: &str) -> String {
    let shown = said.chars().map(|character| if character.is_control() { ' ' } else { character });
    shown.take(SAID_CHARACTERS_MAX).collect()
}
