//! A client of LDAP directories: connects, binds, searches, adds, modifies and deletes.
//!
//! Everything that a directory answers is read as bounded bytes; names and values go into messages as bytes of their own,
//! so there is no text of a filter to inject anything into, and what stands in a name is escaped by [`name::escaped`]
//! (PWD-04). One connection asks one thing at a time. Deliberately absent: what is done with a directory (engines), pools,
//! referrals, which are never followed, SASL, and filters as text.

mod ber;
mod connection;
mod dial;
mod error;
mod filter;
mod message;
pub mod name;
mod tls;

pub use connection::{Connection, Modification, Scope, Values, Verb};
pub use dial::{Address, Dialer, addresses};
pub use error::DirectoryError;
pub use filter::Filter;
pub use message::{Entry, Outcome};
pub use tls::{Certificates, Tls, Version};

/// For the fuzzer: what a directory sent, read as an answer.
#[cfg(feature = "fuzz")]
#[must_use]
pub fn read_answer(bytes: &[u8]) -> bool {
    message::read(bytes).is_some()
}
