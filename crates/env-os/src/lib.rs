//! The real doors: the system's clock, random bytes, files, sockets and threads.
//!
//! The only crate that calls the operating system for these; nothing but the assemblies may depend on it.
//! Deliberately absent: anything that could be decided above the doors.

mod clock;
mod disk;
mod entropy;
mod net;

use std::sync::Arc;

use tresor_env::{BoxFuture, Doors, Workers, tasks::WorkerPanicked};

pub use clock::OsClock;
pub use disk::OsDisk;
pub use entropy::OsEntropy;
pub use net::OsNet;

/// Runs blocking work on the runtime's pool of threads.
pub struct ThreadWorkers;

impl Workers for ThreadWorkers {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        Box::pin(async move { tokio::task::spawn_blocking(work).await.map_err(|_| WorkerPanicked) })
    }
}

/// All real doors.
#[must_use]
pub fn doors() -> Doors {
    Doors {
        clock: Arc::new(OsClock::new()),
        entropy: Arc::new(OsEntropy),
        disk: Arc::new(OsDisk),
        net: Arc::new(OsNet),
        workers: Arc::new(ThreadWorkers),
    }
}
