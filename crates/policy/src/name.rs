//! Names of policies: folded once, and never `root` (DR-03).

use std::fmt;

use crate::wrapping::WRAPPING_POLICY;

/// The name of a policy that can be stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyName(String);

/// Why a text names no policy that can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("policy name must be provided")]
    Empty,
    /// `root` has no text and cannot be changed.
    #[error("cannot update \"root\" policy")]
    Root,
    /// What wrapping tokens may do cannot be changed either.
    #[error("cannot update \"{WRAPPING_POLICY}\" policy")]
    Wrapping,
    /// Characters that a name cannot have, or slashes with nothing between or beside them.
    #[error("policy name contains a character that is not allowed")]
    Character,
}

impl PolicyName {
    /// Folds and checks a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.trim().to_lowercase();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name == "root" {
            return Err(NameError::Root);
        }
        if name == WRAPPING_POLICY {
            return Err(NameError::Wrapping);
        }
        if name.chars().any(|letter| letter.is_control() || letter == ',') || name.split('/').any(str::is_empty) {
            return Err(NameError::Character);
        }
        Ok(Self(name))
    }

    /// The folded name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
