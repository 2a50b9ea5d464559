//! Deterministic doubles of the doors, for unit tests and the simulator.
//!
//! Deliberately absent: randomness of their own; everything follows from a seed or from calls of the test.

mod clock;
mod disk;
mod fabric;
mod net;
mod outgoing;
mod surroundings;

use std::sync::{Arc, Mutex, PoisonError};

pub use clock::ManualClock;
pub use disk::MemoryDisk;
pub use fabric::{Fabric, Weather};
pub use net::MemoryNet;
pub use outgoing::FakeServers;
pub use surroundings::FakeSurroundings;

use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::tasks::{NotComputed, WorkerPanicked, Workers};
use crate::{BoxFuture, Doors};

/// Bytes that follow from a seed (SplitMix64): unpredictable enough for a simulation, and for nothing else.
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    /// The same seed gives the same bytes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(bytes.get(..chunk.len()).unwrap_or(&bytes));
        }
    }
}

/// Workers that do the work at once, on the caller's thread.
pub struct InlineWorkers;

impl Workers for InlineWorkers {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        Box::pin(
            async move { std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| WorkerPanicked) },
        )
    }

    /// Nothing ever waits here, so nothing is refused.
    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        let done = self.run(work);
        Box::pin(async move { done.await.map_err(|WorkerPanicked| NotComputed::Panicked) })
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
    }
}

/// A full set of doubles, with handles to those that a test moves.
pub struct TestDoors {
    /// The doors, to hand to what is tested.
    pub doors: Doors,
    /// The clock behind them.
    pub clock: Arc<ManualClock>,
    /// The disk behind them.
    pub disk: Arc<MemoryDisk>,
    /// The network behind them.
    pub net: Arc<MemoryNet>,
    /// The HTTP servers of others behind them.
    pub outgoing: Arc<FakeServers>,
    /// What is around the server.
    pub surroundings: Arc<FakeSurroundings>,
}

impl TestDoors {
    /// Doubles whose entropy follows from `seed`; the clock stands at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(1_767_225_600)));
        let disk = Arc::new(MemoryDisk::new());
        let net = Arc::new(MemoryNet::new());
        let outgoing = Arc::new(FakeServers::default());
        let surroundings = Arc::new(FakeSurroundings::default());
        let doors = Doors {
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            disk: disk.clone(),
            net: net.clone(),
            outgoing: outgoing.clone(),
            surroundings: surroundings.clone(),
            custody: Arc::new(crate::custody::Nobody),
            workers: Arc::new(InlineWorkers),
        };
        Self { doors, clock, disk, net, outgoing, surroundings }
    }
}
