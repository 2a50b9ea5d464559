//! The assembly of a server: configuration, doors, store, node, listeners, signals.
//!
//! Deliberately absent: any behaviour of the API. What is decided here is only what an operator decides.

mod acme;
mod activity;
mod auditing;
pub mod cluster;
pub mod config;
mod custody;
mod dev;
mod dev_cluster;
mod dev_directory;
mod dev_tls;
mod diagnose;
mod host;
mod idle;
mod import;
mod joining;
mod key_services;
mod ledger;
mod listen;
mod log_file;
mod logging;
mod machine;
mod migrate;
mod outgoing;
mod patience;
mod place;
mod postgresql;
mod process;
mod proxied;
mod recovery;
mod registration;
mod run;
pub mod self_init;
mod service;
mod sharing;
mod static_seal;
mod storage;
mod telemetry;
mod tls;
mod traces;
mod validity;
mod watching;

pub use custody::Keepers;
pub use diagnose::{Diagnosis, diagnose};
pub use import::{Import, ImportStreams, import};
pub use migrate::{Migration, migrate};
pub use outgoing::Https;
pub use run::{Arguments, Streams, run};
pub use service::NodeService;
