//! What a machine gives the programs that run on it: variables of their environment, and small files that these name.
//!
//! Some engines find keys there that nobody configured. They are the server's own, so who may look is decided above this door
//! (`tresor_engine::Cx::surroundings`). Deliberately absent: all of the environment; what the real door shows is a list of
//! names, and the server's own settings are not among them.

use std::fmt;

use zeroize::Zeroizing;

use crate::BoxFuture;

/// The most that is read of a file.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// A file that is there and cannot be read as text within the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it cannot be read, or is no text of a usual length")
    }
}

/// What a file holds; `None` when there is none.
pub type FileText = Result<Option<Zeroizing<String>>, Unreadable>;

/// What is around a server.
pub trait Surroundings: Send + Sync {
    /// A variable; an empty one is none.
    fn variable(&self, name: &str) -> Option<Zeroizing<String>>;

    /// A small file.
    fn file(&self, path: &str) -> BoxFuture<'static, FileText>;
}

/// Nothing is around it.
pub struct Bare;

impl Surroundings for Bare {
    fn variable(&self, _name: &str) -> Option<Zeroizing<String>> {
        None
    }

    fn file(&self, _path: &str) -> BoxFuture<'static, FileText> {
        Box::pin(async { Ok(None) })
    }
}
