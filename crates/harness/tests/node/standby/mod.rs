//! Two nodes of one cluster in one process: what each does, and that it makes no difference to who asks which.
//!
//! One leads, the other follows, and both have what was committed at once; agreement and sockets are doubles. Deliberately
//! absent: elections (`crates/consensus`), connections (`crates/peers`), and both together (`tresor_harness::cluster`).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

mod caches;
mod events;
mod pair;
mod placement;
mod promotion;
