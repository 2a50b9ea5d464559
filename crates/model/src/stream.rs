//! The body of a request or answer that is too large to be in memory: bytes that come one part after the other.
//!
//! Deliberately absent: where they come from.

use std::sync::{Mutex, PoisonError};

use tresor_env::BoxFuture;

use crate::fault::Fault;

/// The next part, `None` at the end. After an error nothing more comes.
type Next = Box<dyn FnMut() -> BoxFuture<'static, Result<Option<Vec<u8>>, Fault>> + Send>;

/// Bytes that come one part after the other.
///
/// The lock is never waited for: it is what makes this a value that may be looked at from anywhere.
pub struct ByteStream(Mutex<Next>);

impl ByteStream {
    /// Calls `next` for each part, one call after the other.
    #[must_use]
    pub fn new(next: impl FnMut() -> BoxFuture<'static, Result<Option<Vec<u8>>, Fault>> + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(next)))
    }

    /// The next part, `None` at the end.
    #[must_use]
    pub fn part(&mut self) -> BoxFuture<'static, Result<Option<Vec<u8>>, Fault>> {
        (self.0.get_mut().unwrap_or_else(PoisonError::into_inner))()
    }
}

/// A request's body where it is no JSON; it can be taken once.
#[derive(Default)]
pub struct Upload(Mutex<Option<ByteStream>>);

impl Upload {
    /// A body that comes.
    #[must_use]
    pub fn of(stream: ByteStream) -> Self {
        Self(Mutex::new(Some(stream)))
    }

    /// The body, if there is one and nobody took it.
    #[must_use]
    pub fn take(&self) -> Option<ByteStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether there is one that nobody took.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
