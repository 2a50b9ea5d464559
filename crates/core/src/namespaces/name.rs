//! The name of a namespace: one segment that nothing else is called, parsed once (NS-01, NS-13).

use std::fmt;

/// What belongs to every namespace, or means the root one.
const RESERVED: [&str; 8] = [".", "..", "root", "sys", "audit", "auth", "cubbyhole", "identity"];
/// The longest name, in bytes.
const BYTES_MAX: usize = 128;

/// A name that a namespace can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceName(String);

/// Why a text is no name of a namespace; always the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("namespace name cannot be empty")]
    Empty,
    /// More than one segment.
    #[error("namespace name cannot contain /")]
    Slash,
    /// Taken by the server.
    #[error("{0:?} is a reserved path and cannot be used as a namespace name")]
    Reserved(String),
    /// Longer than a name can be.
    #[error("namespace name is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// A blank, a control character, or one that means something in policies.
    #[error("namespace name contains a character that cannot be used: {0:?}")]
    Character(char),
}

impl NamespaceName {
    /// Parses a name; slashes around it do not matter.
    ///
    /// # Errors
    /// [`NameError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.trim_matches('/');
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.contains('/') {
            return Err(NameError::Slash);
        }
        if name.len() > BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if RESERVED.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
            return Err(NameError::Reserved(name.to_owned()));
        }
        let is_unusable =
            |letter: &char| letter.is_control() || letter.is_whitespace() || matches!(letter, '+' | '*' | '%');
        match name.chars().find(is_unusable) {
            Some(letter) => Err(NameError::Character(letter)),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name, without slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ns_01_a_name_is_one_segment_that_nothing_else_is_called() {
        for (text, name) in [("team", "team"), ("/team/", "team"), ("téam-1.x", "téam-1.x"), ("🦀", "🦀")] {
            assert_eq!(NamespaceName::parse(text).map(|name| name.0), Ok(name.to_owned()));
        }
        let long = "x".repeat(10 * 1024);
        for text in [
            "",
            "/",
            ".",
            "..",
            "a/b",
            "sys",
            "auth",
            "identity",
            "cubbyhole",
            "audit",
            "root",
            "Root",
            "SYS",
            "a b",
            "a\0",
            "a*",
            "+",
            "%00",
            " ",
            "a\u{2028}b",
            long.as_str(),
        ] {
            assert!(NamespaceName::parse(text).is_err(), "{text:?}");
        }
    }
}
