//! The real doors: the system's clock, random bytes, files, sockets, threads and environment.
//!
//! The only crate that calls the operating system for these; nothing but the assemblies may depend on it.
//! Deliberately absent: anything that could be decided above the doors.

mod clock;
mod disk;
mod entropy;
mod net;
mod pool;
mod surroundings;
mod workers;

use std::sync::Arc;

use tresor_env::Doors;
use tresor_env::outgoing::NoWayOut;

pub use clock::OsClock;
pub use disk::OsDisk;
pub use entropy::OsEntropy;
pub use net::OsNet;
pub use surroundings::OsSurroundings;
pub use workers::ThreadWorkers;

/// All real doors, but for the ways to HTTP servers of others and to keys that others keep: a server brings its own, and nothing else asks any.
#[must_use]
pub fn doors() -> Doors {
    Doors {
        clock: Arc::new(OsClock::new()),
        entropy: Arc::new(OsEntropy),
        disk: Arc::new(OsDisk),
        net: Arc::new(OsNet),
        outgoing: Arc::new(NoWayOut),
        surroundings: Arc::new(OsSurroundings),
        custody: Arc::new(tresor_env::custody::Nobody),
        workers: Arc::new(ThreadWorkers::new()),
    }
}
