//! The doors to the outside world: clock, entropy, network, disk and what else is around, as traits.
//!
//! Everything else in the house is deterministic code, so that one seed replays one history. The real
//! implementations live in `tresor-env-os`, which only the assemblies may depend on; deterministic doubles live
//! here, under [`doubles`]. Deliberately absent: any way to reach the operating system.

pub mod clock;
pub mod custody;
pub mod disk;
pub mod doubles;
pub mod entropy;
pub mod net;
pub mod outgoing;
pub mod signal;
pub mod surroundings;
pub mod tasks;

use std::sync::Arc;

pub use clock::{Clock, SteadyClock, Timestamp};
pub use custody::Custody;
pub use disk::{Disk, DiskFile};
pub use entropy::Entropy;
pub use net::Net;
pub use outgoing::Outgoing;
pub use signal::Signal;
pub use surroundings::Surroundings;
pub use tasks::{Tasks, Workers};

/// A boxed future, the shape of every asynchronous trait method of the house.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All the doors of one node, handed down from the assembly; cloning shares them.
#[derive(Clone)]
pub struct Doors {
    /// What time it is, and how to wait.
    pub clock: Arc<dyn Clock>,
    /// Where unpredictable bytes come from.
    pub entropy: Arc<dyn Entropy>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Listening and connecting.
    pub net: Arc<dyn Net>,
    /// HTTP servers of others.
    pub outgoing: Arc<dyn Outgoing>,
    /// What the machine gives the server.
    pub surroundings: Arc<dyn Surroundings>,
    /// Keys that others keep.
    pub custody: Arc<dyn Custody>,
    /// Where blocking work runs: syncs in one lane, password hashing in the other.
    pub workers: Arc<dyn Workers>,
}
