//! A node's machine as a store whose batches are agreed upon.
//!
//! Deliberately absent: reads that are confirmed; a snapshot is what this node has applied.

use std::io;
use std::sync::{Arc, Weak, mpsc};

use tresor_env::Tasks;
use tresor_storage::machine::{Export, Install};
use tresor_storage::{Agreement, Batch, Condition, Scrubbed, Snapshot, Store, StoreError, Watcher};

use crate::consensus::Consensus;
use crate::peers::Contact;
use crate::replace::NotReplaced;
use crate::{ConsensusError, Proposed};

const NAME: &str = "raft";

/// A store on consensus. The first batch of a node that belongs to no cluster founds one of it alone. Who applies, and does not
/// propose, waits on a thread where waiting is allowed, and which knows the runtime, for what the runtime's own threads do
/// meanwhile.
pub struct RaftStore {
    consensus: Arc<Consensus>,
    me: Contact,
    tasks: Arc<Tasks>,
}

impl RaftStore {
    /// The store of a node, and what it is to be called in a cluster that it founds.
    #[must_use]
    pub fn new(consensus: Arc<Consensus>, me: Contact) -> Self {
        Self { consensus, me, tasks: Arc::new(Tasks::new()) }
    }

    /// Applies a batch when the others have agreed.
    fn agreed(&self, batch: Batch) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
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
            if let Some(founder) = founder {
                consensus.found(founder).await.map_err(as_of_a_store)?;
            }
            match consensus.propose(Arc::new(batch)).await {
                Ok(Proposed::Applied(_)) => Ok(()),
                Ok(Proposed::Fenced(version)) => Err(StoreError::VersionGap { batch: number, store: version.0 }),
                Err(error) => Err(as_of_a_store(error)),
            }
        }
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
        let applied = wait_for(&self.tasks, self.agreed(batch));
        // The task ended without a word: nobody knows how far it came.
        applied.unwrap_or_else(|| Err(as_of_a_store(ConsensusError::Uncertain)))
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
        if self.consensus.has_stopped() { Condition::Stopped } else { self.consensus.machine().condition() }
    }

    fn scrubbed(&self) -> Scrubbed {
        self.consensus.machine().scrubbed()
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        self.consensus.machine().export()
    }

    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        if !self.consensus.is_alone() {
            return Err(not_alone("a state is taken over by a node that leads and has no other beside it".to_owned()));
        }
        let install = self.consensus.machine().replace()?;
        Ok(Box::new(Restoring { consensus: Arc::clone(&self.consensus), tasks: Arc::clone(&self.tasks), install }))
    }
}

fn not_alone(why: String) -> StoreError {
    StoreError::Io { name: NAME.to_owned(), source: io::Error::new(io::ErrorKind::Unsupported, why) }
}

fn as_of_a_store(error: ConsensusError) -> StoreError {
    let name = NAME.to_owned();
    match error {
        ConsensusError::Stopped(why) => StoreError::Stopped { name, why },
        ConsensusError::NotLeader { .. } => StoreError::Elsewhere { name },
        ConsensusError::Uncertain | ConsensusError::NoQuorum | ConsensusError::Members(_) => {
            StoreError::Uncertain { name, source: io::Error::other(error) }
        }
    }
}

/// Waits on this thread for what the runtime does; `None` when that ended without a word.
fn wait_for<T: Send + 'static>(tasks: &Tasks, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (sender, done) = mpsc::sync_channel(1);
    tasks.spawn(async move {
        // Who does not wait any more need not know.
        drop(sender.send(work.await));
    });
    done.recv().ok()
}

/// A state on its way in, where no other node has the log.
struct Restoring {
    consensus: Arc<Consensus>,
    tasks: Arc<Tasks>,
    install: Box<dyn Install>,
}

impl Install for Restoring {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.install.take(chunk)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let Self { consensus, tasks, install } = *self;
        match wait_for(&tasks, async move { consensus.replace(install).await }) {
            Some(Ok(())) => Ok(()),
            Some(Err(NotReplaced::Machine(error))) => Err(error),
            Some(Err(NotReplaced::Refused(ConsensusError::Members(why)))) => Err(not_alone(why)),
            Some(Err(NotReplaced::Refused(error))) => Err(as_of_a_store(error)),
            None => Err(as_of_a_store(ConsensusError::Uncertain)),
        }
    }
}
