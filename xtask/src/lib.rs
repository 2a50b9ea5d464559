//! The project's own tools: the test command, the conformance run, the house rules. They are started by
//! `cargo xtask NAME`; the rules are also ordinary tests (`tests/tidy.rs`), so `cargo test` includes them.
//!
//! Invariant: nothing of the product depends on this crate, and this crate depends on nothing of the product; it sees
//! the tree as text and as `cargo metadata`. Deliberately absent: shell scripts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]

pub mod bench;
pub mod calendar;
pub mod clients;
pub mod fuzz;
pub mod graph;
pub mod hvac;
pub mod instructions;
pub mod listing;
pub mod prerequisites;
pub mod soak;
pub mod steps;
pub mod suite;
mod suites;
pub mod tidy;
pub mod tools;
pub mod workspace;
