//! The log under the consensus library's own suite for stores: unapplied entries, truncated suffixes, purged prefixes,
//! votes. The adapter is what the cluster will have; its state machine is a plain map, because the suite tests logs.
#![allow(clippy::unwrap_used, clippy::result_large_err)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    AnyError, EntryPayload, LogId, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership, Vote,
};
use tresor_env::Disk;
use tresor_env::doubles::MemoryDisk;
use tresor_log::{Log, LogError, Sizes};

openraft::declare_raft_types!(
    /// The suite's own kind of entries.
    Types: D = String, R = Option<String>, NodeId = u64, SnapshotData = Cursor<Vec<u8>>,
);

type Failure = StorageError<u64>;

/// What the log's record keeps for consensus.
#[derive(Default, Clone, serde::Serialize, serde::Deserialize)]
struct Record {
    vote: Option<Vote<u64>>,
    committed: Option<LogId<u64>>,
    purged: Option<LogId<u64>>,
}

/// The log as consensus sees it: its first entry is number 0, ours is 1.
#[derive(Clone)]
struct Adapter(Arc<Mutex<Log>>);

fn failed(error: LogError) -> Failure {
    StorageIOError::write_logs(AnyError::error(error)).into()
}

impl Adapter {
    fn record(&self) -> Record {
        let log = self.0.lock().unwrap();
        if log.record().is_empty() { Record::default() } else { serde_json::from_slice(log.record()).unwrap() }
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        let mut record = self.record();
        change(&mut record);
        self.0.lock().unwrap().set_record(&serde_json::to_vec(&record).unwrap()).map_err(failed)
    }
}

impl RaftLogReader<Types> for Adapter {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<openraft::Entry<Types>>, Failure> {
        let log = self.0.lock().unwrap();
        let from = match range.start_bound() {
            Bound::Included(at) => at + 1,
            Bound::Excluded(at) => at + 2,
            Bound::Unbounded => 1,
        };
        let until = match range.end_bound() {
            Bound::Included(at) => at + 2,
            Bound::Excluded(at) => at + 1,
            Bound::Unbounded => u64::MAX,
        };
        let from = from.max(log.first());
        if from >= until.min(log.last() + 1) {
            return Ok(Vec::new());
        }
        let entries = log.read(from, until, usize::MAX).map_err(failed)?;
        let whole = entries.iter().filter(|entry| !entry.body.is_empty());
        Ok(whole.map(|entry| serde_json::from_slice(&entry.body).unwrap()).collect())
    }
}

impl RaftLogStorage<Types> for Adapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let last_purged_log_id = self.record().purged;
        let (first, last) = {
            let log = self.0.lock().unwrap();
            (log.first(), log.last())
        };
        let last_log_id = if last < first {
            last_purged_log_id
        } else {
            self.try_get_log_entries(last - 1..last).await?.pop().map(|entry| entry.log_id)
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        self.change(|record| record.vote = Some(*vote))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        Ok(self.record().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), Failure> {
        self.change(|record| record.committed = committed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Failure> {
        Ok(self.record().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        {
            let mut log = self.0.lock().unwrap();
            let mut entries = entries.into_iter().peekable();
            let Some(begin) = entries.peek().map(|entry| entry.log_id.index + 1) else { return Ok(()) };
            if log.last() < log.first() && begin > log.first() {
                // The suite begins a log anywhere: as if what comes before had been purged.
                log.purge(begin - 1).map_err(failed)?;
            }
            let mut next = log.last() + 1;
            let mut group = log.group();
            for entry in entries {
                // The suite leaves out entries that the state machine has, which consensus itself never does.
                for _ in next..=entry.log_id.index {
                    group.entry(|_| ());
                }
                group.entry(|body| serde_json::to_writer(body, &entry).unwrap());
                next = entry.log_id.index + 2;
            }
            group.commit().map_err(failed)?;
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        self.0.lock().unwrap().truncate(log_id.index + 1).map_err(failed)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        self.change(|record| record.purged = Some(log_id))?;
        self.0.lock().unwrap().purge(log_id.index + 1).map_err(failed)
    }
}

#[derive(Default, Clone)]
struct Machine(Arc<Mutex<Applied>>);

#[derive(Default, Clone, serde::Serialize, serde::Deserialize)]
struct Applied {
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, openraft::BasicNode>,
    values: BTreeMap<u64, String>,
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let applied = self.0.lock().unwrap().clone();
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership.clone(),
            snapshot_id: format!("{:?}", applied.last),
        };
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(serde_json::to_vec(&applied).unwrap())) })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, openraft::BasicNode>), Failure> {
        let applied = self.0.lock().unwrap();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<String>>, Failure>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut applied = self.0.lock().unwrap();
        let mut answers = Vec::new();
        for entry in entries {
            applied.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(value) => drop(applied.values.insert(entry.log_id.index, value)),
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            answers.push(None);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, openraft::BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failure> {
        *self.0.lock().unwrap() = serde_json::from_slice(snapshot.get_ref()).unwrap();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        if self.0.lock().unwrap().last.is_none() {
            return Ok(None);
        }
        self.build_snapshot().await.map(Some)
    }
}

/// Each store of the suite gets a disk of its own, and segments so small that the suite crosses many.
struct Builder;

impl StoreBuilder<Types, Adapter, Machine> for Builder {
    async fn build(&self) -> Result<((), Adapter, Machine), Failure> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let sizes = Sizes { first: 512, max: 512 };
        let log = Log::open(&disk, Path::new("log"), sizes, &mut |_, _| Ok::<(), LogError>(())).map_err(failed)?;
        Ok(((), Adapter(Arc::new(Mutex::new(log))), Machine::default()))
    }
}

#[test]
fn the_log_passes_the_suite_of_the_consensus_library() {
    Suite::test_all(Builder).unwrap();
}
