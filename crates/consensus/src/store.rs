//! A node's machine as a store whose batches are agreed upon.
//!
//! Deliberately absent: reads that are confirmed; a snapshot is what this node has applied.

use std::io;
use std::sync::{Arc, mpsc};

use tresor_env::Tasks;
use tresor_storage::{Batch, Condition, Snapshot, Store, StoreError};

use crate::consensus::Consensus;
use crate::{ConsensusError, Proposed};

const NAME: &str = "raft";

/// A store on consensus. Who applies waits on a thread where waiting is allowed, and which knows the runtime, for what
/// the runtime's own threads do meanwhile.
pub struct RaftStore {
    consensus: Arc<Consensus>,
    tasks: Tasks,
}

impl RaftStore {
    /// The store of a node.
    #[must_use]
    pub fn new(consensus: Arc<Consensus>) -> Self {
        Self { consensus, tasks: Tasks::new() }
    }

    /// Proposes, and waits.
    fn propose(&self, batch: Batch) -> Result<Proposed, ConsensusError> {
        let (sender, proposed) = mpsc::sync_channel(1);
        let consensus = Arc::clone(&self.consensus);
        self.tasks.spawn(async move {
            let proposed = consensus.propose(Arc::new(batch)).await;
            // Who does not wait any more need not know.
            drop(sender.send(proposed));
        });
        // The task ended without a word: nobody knows how far it came.
        proposed.recv().unwrap_or(Err(ConsensusError::Uncertain))
    }

    fn refuse_when_not_writable(&self) -> Result<(), StoreError> {
        let stopped = |why: &str| StoreError::Stopped { name: NAME.to_owned(), why: why.to_owned() };
        match self.consensus.machine().condition() {
            Condition::LowSpace { free_bytes, reserve_bytes } => {
                Err(StoreError::LowSpace { name: NAME.to_owned(), free_bytes, reserve_bytes })
            }
            Condition::Damaged => Err(stopped("its index is damaged")),
            Condition::Stopped => Err(stopped("its disk failed")),
            // What waits for the index is bounded by the machine: it takes entries until it is full.
            Condition::Writable | Condition::Behind => Ok(()),
        }
    }
}

impl Store for RaftStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.consensus.machine().snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.refuse_when_not_writable()?;
        let (number, store) = (batch.version.0, self.consensus.machine().applied().version);
        if batch.version != store.next() {
            return Err(StoreError::VersionGap { batch: number, store: store.0 });
        }
        match self.propose(batch) {
            Ok(Proposed::Applied(_)) => Ok(()),
            Ok(Proposed::Fenced(version)) => Err(StoreError::VersionGap { batch: number, store: version.0 }),
            Err(ConsensusError::Stopped(why)) => Err(StoreError::Stopped { name: NAME.to_owned(), why }),
            Err(ConsensusError::NotLeader { .. }) => Err(StoreError::Elsewhere { name: NAME.to_owned() }),
            Err(error @ (ConsensusError::Uncertain | ConsensusError::NoQuorum | ConsensusError::Members(_))) => {
                Err(StoreError::Uncertain { name: NAME.to_owned(), source: io::Error::other(error) })
            }
        }
    }

    fn syncs(&self) -> u64 {
        self.consensus.syncs()
    }

    fn condition(&self) -> Condition {
        if self.consensus.has_stopped() { Condition::Stopped } else { self.consensus.machine().condition() }
    }
}
