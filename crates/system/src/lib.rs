//! The server's own endpoints, as ordinary engines built from narrow handles of the core: `sys/`, `auth/token/`,
//! and the short list of those that answer in every state of the node.
//!
//! Deliberately absent: the pipeline, and any knowledge of HTTP. An endpoint that is not in one of the three tables
//! below does not exist.

mod always;
mod joining;
mod opened;
mod pages;
mod probes;
pub mod recovery;
mod sys;
mod token;

use tresor_core::node::SystemMount;
use tresor_core::{AlwaysRoute, Handles};
use tresor_engine::Instance;

/// The endpoints that answer in every state of the node.
pub use always::ROUTES as ALWAYS;
/// An unseal share as operators enter it.
pub use always::parse_share;
/// The endpoints that listeners may open to everybody.
pub use opened::ROUTES as OPENED;
/// Where what is written is no JSON.
pub use sys::UPLOADS;

/// The server's own engines for an unsealed node whose database engine knows servers by these names.
#[must_use]
pub fn engines(handles: &Handles, databases: Vec<&'static str>) -> Vec<SystemMount> {
    vec![
        SystemMount { path: "sys/", engine: Instance::mount(sys::Sys::new(handles, databases)) },
        SystemMount { path: "auth/token/", engine: Instance::mount(token::TokenStore::new(handles)) },
    ]
}

/// The type of [`ALWAYS`], for those who walk it.
pub type Always = &'static [AlwaysRoute];
