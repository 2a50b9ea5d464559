//! The spelling of the public API: JSON, forms, times, durations, and the lenient forms of its fields.
//!
//! Deliberately absent: HTTP, and every endpoint. The one place that says which level of the API is spoken.

extern crate self as tresor_wire;

pub mod duration;
pub mod envelope;
pub mod form;
pub mod input;
pub mod joined;
pub mod json;
pub mod month;
pub mod output;
pub mod time;

/// The level of the Vault API that this server speaks, as `sys/seal-status`, `sys/health` and the version of a binary
/// called `vault` report it. Clients choose what they expect by it; our own release is another number. It is raised
/// when more of a later level exists.
pub const API_LEVEL: &str = "1.16.3";
