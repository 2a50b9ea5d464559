//! Clusters of whole nodes on doubles: disks that tear, messages that are late or lost, clocks that only the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chaos;
mod history;
mod promises;
mod recover;
mod wires;
mod world;
