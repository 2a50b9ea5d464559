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
use std::ops::{Deref, DerefMut};

use zeroize::{Zeroize, Zeroizing};

/// A buffer of bytes that can be wiped.
pub trait Buffer: Zeroize {
    /// Takes everything out of it, and leaves it where it lay.
    fn end(&mut self);
}

impl Buffer for Vec<u8> {
    fn end(&mut self) {
        self.clear();
    }
}

impl Buffer for String {
    fn end(&mut self) {
        self.clear();
    }
}

/// A buffer that is wiped when it is dropped, room behind its end included. What a buffer holds would be wiped byte by byte,
/// what lies behind its end is wiped at once; so everything lies behind its end by then.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wiped<B: Buffer>(B);

impl<B: Buffer> Wiped<B> {
    /// Takes a buffer.
    pub const fn new(buffer: B) -> Self {
        Self(buffer)
    }
}

impl<B: Buffer> Deref for Wiped<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

impl<B: Buffer + AsRef<[u8]>> AsRef<[u8]> for Wiped<B> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<B: Buffer> DerefMut for Wiped<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.0
    }
}

impl<B: Buffer> Drop for Wiped<B> {
    fn drop(&mut self) {
        self.0.end();
        self.0.zeroize();
    }
}

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
    /// A copy, for who has to look it up again.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Secret::new(self.0.0.to_string()))
    }
    /// Whether both are the same token, in constant time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        ct_eq(self.0.0.as_bytes(), other.0.0.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that sees how it is wiped.
    #[derive(Default)]
    struct Seen {
        is_ended: bool,
        wiped: std::rc::Rc<std::cell::Cell<Option<bool>>>,
    }

    impl Zeroize for Seen {
        fn zeroize(&mut self) {
            self.wiped.set(Some(self.is_ended));
        }
    }

    impl Buffer for Seen {
        fn end(&mut self) {
            self.is_ended = true;
        }
    }

    #[test]
    fn a_buffer_is_ended_and_then_wiped_when_it_is_dropped() {
        let wiped = std::rc::Rc::default();
        let buffer = Wiped::new(Seen { wiped: std::rc::Rc::clone(&wiped), ..Seen::default() });
        assert_eq!((buffer.is_ended, wiped.get()), (false, None));
        drop(buffer);
        assert_eq!(wiped.get(), Some(true));
    }

    #[test]
    fn ending_a_buffer_keeps_the_room_that_is_wiped() {
        let mut bytes = vec![7_u8; 100];
        let (place, room) = (bytes.as_ptr(), bytes.capacity());
        bytes.end();
        assert_eq!((bytes.len(), bytes.as_ptr(), bytes.capacity()), (0, place, room));
        let mut text = "secret".to_owned();
        let room = text.capacity();
        text.end();
        assert_eq!((text.len(), text.capacity()), (0, room));
    }
}
