//! The log and the feed under the consensus library's own suite for stores: unapplied entries, truncated suffixes, purged
//! prefixes, votes, states.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use tresor_env::doubles::TestDoors;
use tresor_log::Sizes;
use tresor_storage::MemoryMachine;
use tresor_storage::machine::Effect;

use crate::feed::{Feed, Meta};
use crate::log_store::LogStore;
use crate::peers::NodeId;
use crate::spelled::COUNTED_MAX;
use crate::types::{Entry, LogId, State, StorageError, StoredMembership, Types, Vote, log_id};

/// The log, with what the suite leaves out filled in: it begins a log anywhere, leaves out entries that the machine has,
/// and brings some that were purged, which consensus itself never does.
struct Gapless(LogStore);

impl RaftLogReader<Types> for Gapless {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let entries = self.0.try_get_log_entries(range).await?;
        Ok(entries.into_iter().filter(|entry| entry.log_id.leader_id.term < COUNTED_MAX).collect())
    }
}

impl RaftLogStorage<Types> for Gapless {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.read_vote().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut all = Vec::new();
        let mut next = self.0.last().map(|last| last.index + 1);
        for entry in entries {
            let first = entry.log_id.index;
            if next.is_some_and(|next| first < next) {
                continue;
            }
            for index in next.unwrap_or(0)..first {
                all.push(Entry { log_id: log_id(COUNTED_MAX, index), payload: EntryPayload::Blank });
            }
            next = Some(first + 1);
            all.push(entry);
        }
        self.0.append(all, callback).await
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        self.0.truncate(id).await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        self.0.purge(id).await
    }
}

/// The feed, between two machines of the suite: what was built goes over at once, chunk by chunk.
struct Carried(Feed);

impl RaftStateMachine<Types> for Carried {
    type SnapshotBuilder = Builds;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        self.0.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Effect>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Builds {
        Builds(self.0.clone())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<State>, StorageError> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(&mut self, meta: &Meta, state: Box<State>) -> Result<(), StorageError> {
        let State::Out(mut export) = *state else { panic!("it was not built") };
        let mut install = self.0.machine.install(export.state()).unwrap();
        while let Some(chunk) = export.next().unwrap() {
            install.take(chunk).unwrap();
        }
        self.0.install_snapshot(meta, Box::new(State::In(install))).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        self.0.get_current_snapshot().await
    }
}

struct Builds(Feed);

impl RaftSnapshotBuilder<Types> for Builds {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let named = self.0.build_snapshot().await?;
        // Nothing is told of a machine that has nothing.
        let Some(whole) = self.0.get_current_snapshot().await? else { return Ok(named) };
        assert_eq!(named.meta, whole.meta);
        Ok(whole)
    }
}

/// Each store of the suite gets a disk of its own, and segments so small that the suite crosses many.
struct Builder;

impl StoreBuilder<Types, Gapless, Carried> for Builder {
    async fn build(&self) -> Result<((), Gapless, Carried), StorageError> {
        let doors = TestDoors::new(1).doors;
        let sizes = Sizes { first: 512, max: 512 };
        let log = LogStore::open(NodeId(0), &doors, Path::new("log"), sizes, None).unwrap();
        let feed = Feed::new(Arc::new(MemoryMachine::new()), &doors);
        Ok(((), Gapless(log), Carried(feed)))
    }
}

#[test]
fn log_and_feed_pass_the_suite_of_the_consensus_library() {
    Suite::test_all(Builder).unwrap();
}
