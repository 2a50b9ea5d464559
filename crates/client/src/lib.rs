//! The Vault API over HTTP, as our command line speaks it.
//!
//! One request is one method, one logical path, a query and an optional JSON body; this crate adds the headers, the
//! retries, the one redirect and the error text that scripts know. Deliberately absent: typed endpoints (the command
//! line shows whatever a server answers, including engines it has never heard of), token storage, the environment.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod error;
mod fetch;
mod listen;
mod pace;
mod path;
mod response;

pub use config::{ClientConfig, RateLimit, Verification};
pub use connection::{Client, Method};
pub use error::ClientError;
pub use fetch::fetch_text;
pub use path::encode_path;
pub use response::ApiResponse;
