//! Values that zeroize, cannot be printed, cloned by accident, compared in variable time or serialized.
//!
//! What holds one inherits that: it takes a decision, not a derive, to show it.
//!
//! ```
//! struct Login {
//!     name: String,
//!     password: tresor_secret::SecretString,
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[derive(Debug)]
//! struct Login {
//!     name: String,
//!     password: tresor_secret::SecretString,
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[derive(Clone)]
//! struct Login {
//!     name: String,
//!     password: tresor_secret::SecretString,
//! }
//! ```
use zeroize::{Zeroize, Zeroizing};

/// A secret value.
pub struct Secret<T: Zeroize>(Box<Zeroizing<T>>);
impl<T: Zeroize> Secret<T> {
    /// Takes a value.
    pub fn new(value: T) -> Self {
        Self(Box::new(Zeroizing::new(value)))
    }
    /// Shows it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}
impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        T::as_ref(&self.0).is_empty()
    }
}
/// Secret text.
pub type SecretString = Secret<String>;
/// Secret bytes.
pub type SecretBytes = Secret<Vec<u8>>;
/// Compares in constant time (lengths may leak).
#[must_use]
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(a.iter().zip(b).fold(0_u8, |difference, (x, y)| difference | (x ^ y))) == 0
}
/// A token.
pub struct TokenSecret(Secret<String>);
/// Why a token text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// Bad.
    #[error("malformed token")]
    Malformed,
}
impl TokenSecret {
    /// Parses.
    ///
    /// # Errors
    /// When empty, too long, or with control characters.
    pub fn parse(text: &str) -> Result<Self, TokenTextError> {
        if text.is_empty() || text.len() > 8192 || text.chars().any(char::is_control) {
            return Err(TokenTextError::Malformed);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }
    /// Shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}
/// A share.
pub struct UnsealShare(SecretBytes);
impl UnsealShare {
    /// Takes bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }
    /// Shows it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}
/// A data key.
pub struct DataKey(Secret<[u8; 32]>);
impl DataKey {
    /// Takes bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }
    /// Shows it.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
    /// Whether both are the same bytes, in constant time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        ct_eq(self.0.0.as_slice(), other.0.0.as_slice())
    }
}
