//! A node's machine as a store whose batches are agreed upon.
//!
//! Deliberately absent: reads that are confirmed; a snapshot is what this node has applied.

use std::io;
use std::sync::{Arc, Weak, mpsc};

use tresor_env::Tasks;
use tresor_storage::machine::{Effect, Export, Install};
use tresor_storage::{Agreement, Batch, Condition, Scrubbed, Snapshot, Store, StoreError, Watcher};

use crate::consensus::Consensus;
use crate::peers::Contact;
use crate::restore::Restoring;
use crate::{ConsensusError, Status};

pub(crate) const NAME: &str = "raft";

/// A store on consensus. The first batch of a node that belongs to no cluster founds one of it alone. Who applies, and does not
/// propose, waits on a thread where waiting is allowed, and which knows the runtime, for what the runtime's own threads do
/// meanwhile.
#[derive(Clone)]
pub struct RaftStore {
    pub(crate) consensus: Arc<Consensus>,
    me: Contact,
    pub(crate) tasks: Arc<Tasks>,
}

impl RaftStore {
    /// The store of a node, and what it is to be called in a cluster that it founds.
    #[must_use]
    pub fn new(consensus: Arc<Consensus>, me: Contact) -> Self {
        Self { consensus, me, tasks: Arc::new(Tasks::new()) }
    }

    /// Applies a batch when the others have agreed.
    pub(crate) fn agreed(&self, batch: Batch) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (number, store) = (batch.version.0, self.consensus.machine().applied().version);
        let is_next = batch.version == store.next();
        let refused = self.refuse_when_not_writable();
        let consensus = Arc::clone(&self.consensus);
        let founder = self.consensus.is_pristine().then(|| self.me.clone());
        async move {
            refused?;
            if !is_next {
                return Err(StoreError::VersionGap { batch: number, store: store.0 });
            }
            if let Some(founder) = founder
                && let Err(error) = consensus.found(founder).await
            {
                return told(Err(error));
            }
            told(consensus.propose(Arc::new(batch)).await)
        }
    }

    fn refuse_when_not_writable(&self) -> Result<(), StoreError> {
        let stopped = |why: &str| StoreError::Stopped { name: NAME.to_owned(), why: why.to_owned() };
        match self.consensus.machine().condition() {
            Condition::LowSpace { free_bytes, reserve_bytes } => {
                Err(StoreError::LowSpace { name: NAME.to_owned(), free_bytes, reserve_bytes })
            }
            Condition::Damaged => {
                Err(StoreError::Damaged { name: NAME.to_owned(), what: "its index, and the log says where".to_owned() })
            }
            Condition::Stopped => Err(stopped("its disk failed")),
            // Machines lie on disks of their own.
            Condition::Unreachable => Err(stopped("it is not reached")),
            Condition::Taken | Condition::Fenced => Err(stopped("another process has it")),
            // What waits for the index is bounded by the machine: it takes entries until it is full.
            Condition::Writable | Condition::Behind | Condition::Impaired => Ok(()),
        }
    }
}

impl Store for RaftStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.consensus.machine().snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        wait_for(&self.tasks, self.agreed(batch))
    }

    fn propose(&self, batch: Batch) -> Result<Agreement, Batch> {
        Ok(Box::pin(self.agreed(batch)))
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.consensus.machine().watch(watcher);
    }

    fn syncs(&self) -> u64 {
        self.consensus.syncs()
    }

    fn condition(&self) -> Condition {
        match self.consensus.machine().condition() {
            // What it stopped for.
            Condition::Damaged => Condition::Damaged,
            _ if self.consensus.has_stopped() => Condition::Stopped,
            other => other,
        }
    }

    fn scrubbed(&self) -> Scrubbed {
        self.consensus.machine().scrubbed()
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        self.consensus.machine().export()
    }

    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        if !self.consensus.status().read(Status::is_leader) {
            return Err(StoreError::Elsewhere { name: NAME.to_owned() });
        }
        Ok(Box::new(Restoring::begin(self.clone())?))
    }
}

/// What became of a proposal, as stores tell it.
pub(crate) fn told(proposed: Result<Effect, ConsensusError>) -> Result<(), StoreError> {
    let name = NAME.to_owned();
    Err(match proposed {
        Ok(Effect::Applied) => return Ok(()),
        // Whoever proposed it counted on from what this node has.
        Ok(Effect::Fenced(version)) => StoreError::VersionGap { batch: version.next().0, store: version.0 },
        Err(ConsensusError::Stopped(why)) => StoreError::Stopped { name, why },
        Err(ConsensusError::NotLeader { .. }) => StoreError::Elsewhere { name },
        Err(error @ (ConsensusError::Uncertain | ConsensusError::NoQuorum | ConsensusError::Members(_))) => {
            StoreError::Uncertain { name, source: io::Error::other(error) }
        }
    })
}

/// Waits on this thread for what the runtime does. If that ended without a word, nobody knows how far it came.
pub(crate) fn wait_for(
    tasks: &Tasks,
    work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
) -> Result<(), StoreError> {
    let (sender, done) = mpsc::sync_channel(1);
    tasks.spawn(async move {
        // Who does not wait any more need not know.
        drop(sender.send(work.await));
    });
    done.recv().unwrap_or_else(|_| told(Err(ConsensusError::Uncertain)))
}
