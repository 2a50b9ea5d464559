//! Profiles: requests in the order of a document, whose values may come from what was asked and answered before them, from
//! what whoever runs it sends, from templates and from programs in CEL.
//!
//! A document becomes a [`Profile`] ([`document`]); running it ([`run`]) makes requests by a [`Door`], one after the other, and
//! ends with the first that fails and may not. It is what workflows are, and the first requests of a server that initialises
//! itself. Invariants: nothing of a document is looked at for the first time while it runs (sources, programs, templates and
//! which requests they name are known before); how many requests there are, how much is kept of them and how much a value
//! takes are bounded; no error shows a value; the token that a request is made by is no part of what is kept of it. Deliberately
//! absent: who may do what (requests go where all requests go), HTTP, time that passes, retrying.

mod answer;
mod convert;
pub mod document;
mod error;
mod given;
mod history;
mod input;
pub mod run;

pub use answer::answered;
pub use document::{Kind, Profile, Workflow};
pub use error::{DocumentError, ProfileError, Trouble};
pub use history::History;
pub use run::{Door, Machine, Made, Run, Who};

/// How many requests a profile can have.
pub const REQUESTS_MAX: usize = 64;
/// How long a document can be.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How much of requests and answers is kept while one runs, in bytes.
pub const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much one value can be.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
