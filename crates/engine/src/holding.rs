//! What an engine keeps, as its report tells it: how many things there are in which directory.
//!
//! Declared, so that counting looks at names and at nothing that is kept under them. Deliberately absent: counting.

/// Things of one kind that an engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What they are called, in the plural: `roles`.
    pub name: &'static str,
    /// The directory that they are in, at any depth: empty, or ending in a slash.
    pub directory: &'static str,
    /// What the points are called that hang on each ([`crate::Engine::points`]), where these are counted, too.
    pub points: Option<&'static str>,
}

impl Holding {
    /// Things without points.
    #[must_use]
    pub const fn new(name: &'static str, directory: &'static str) -> Self {
        Self { name, directory, points: None }
    }
}
