//! Whether a page of another site may ask through its reader's browser.
//!
//! Deliberately absent: which origins may, and how HTTP says so.

/// What is said of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything about origins: the request is like any other, and its browser keeps the answer from the page.
    NotAsked,
    /// It may ask.
    Allowed {
        /// With these headers.
        headers: Vec<String>,
        /// With what the browser keeps for this server.
        with_credentials: bool,
    },
    /// It may not.
    Refused,
}
