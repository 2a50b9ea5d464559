//! The command line: what Vault's does, for the same scripts and fingers.
//!
//! A run is a function of its arguments, streams and environment ([`run`]); what a server's own code does is handed back to
//! the caller, who has that. Deliberately absent: what a server is made of, plugins.

#![forbid(unsafe_code)]

mod audit;
mod auth;
mod autopilot;
mod bundle;
mod cluster;
mod commands;
mod completion;
mod connection;
mod context;
mod contexts;
mod debug;
mod envelope;
mod environment;
mod events;
mod failure;
mod flags;
mod help;
mod import;
mod io;
mod key_values;
mod keyring;
mod kv;
mod lease;
mod logical;
mod login;
mod mounts;
mod namespace;
mod one_time_pad;
mod operator;
mod output;
pub mod output_policy;
mod pgp_keys;
mod plugin;
mod policy;
mod policy_check;
mod policy_format;
mod progress;
mod rekey;
mod seal_slots;
mod secrets;
mod server;
mod similar;
mod snapshot;
mod status;
mod table;
mod token;
mod token_helper;
mod usage;
mod utilization;
mod version;
mod waiting;
mod watch;
mod yaml;

pub use commands::run;
pub use environment::Environment;
pub use import::ImportArguments;
pub use io::{Harmless, Io, Prompt};
pub use server::{DiagnosisArguments, Hosted, MigrationArguments, ServerArguments};
pub use token_helper::store_token;
