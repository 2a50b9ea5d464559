//! The house rules: what the compiler and clippy cannot see of the tree. Each rule is one function that returns what
//! breaks it, and one test in `tests/tidy.rs`.
//!
//! Which tool holds which rule: what needs types is clippy's (`clippy.toml`: `unwrap`, printing, panics, queues without
//! a bound); what differs by crate or is about files is here; licences, sources and duplicate crates are
//! cargo-deny's; spelling is typos'. No rule is in two places.

pub mod arrows;
pub mod bank;
pub mod calls;
pub mod files;
pub mod parity;
pub mod ratchets;
pub mod source;
