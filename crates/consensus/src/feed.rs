//! The machine, as the library feeds it.
//!
//! Entries are applied one after the other; where the machine has no room they are brought again until it has. A state
//! is never built: the machine exports what it holds when another node needs it. Deliberately absent: which entries are
//! committed.

#![allow(clippy::result_large_err, reason = "the library's errors are as large as they are")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageIOError};
use tresor_env::tasks::run_blocking;
use tresor_env::{Doors, Signal};
use tresor_storage::machine::{self, Applied, Change, Effect, Position};
use tresor_storage::{Machine, StoreError};

use crate::peers::{Contact, NodeId};
use crate::spelled::{read_stored_membership, stored_membership};
use crate::types::{Entry, LogId, Proposal, State, StorageError, StoredMembership, Types, log_id};

/// How long a machine without room is left alone.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

pub(crate) type Meta = SnapshotMeta<NodeId, Contact>;

/// What feeds the machine; a copy feeds the same one.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) doors: Doors,
    /// The last entry that is to be applied, because it is committed.
    pub(crate) committed: Arc<AtomicU64>,
    /// The last entry that was applied.
    pub(crate) applied: Arc<Signal<Position>>,
    /// The last entry that was applied before the library asked for it (`alone.rs`).
    pub(crate) ahead: Arc<AtomicU64>,
    pub(crate) is_closed: Arc<AtomicBool>,
}

fn failed(error: impl std::error::Error + 'static) -> StorageError {
    StorageIOError::write_state_machine(AnyError::error(error)).into()
}

/// Where an entry stands, as machines say it.
pub(crate) const fn position(id: LogId) -> Position {
    Position { term: id.leader_id.term, index: id.index + 1 }
}

/// Where an entry stands, as the library says it; `None` before the first.
pub(crate) fn id_at(position: Position) -> Option<LogId> {
    Some(log_id(position.term, position.index.checked_sub(1)?))
}

/// What the library knows of a state; `None` when its members are spelled in another way.
pub(crate) fn meta(applied: &Applied) -> Option<Meta> {
    Some(Meta {
        last_log_id: id_at(applied.position),
        last_membership: read_stored_membership(&applied.membership)?,
        snapshot_id: String::new(),
    })
}

fn told(applied: &Applied) -> Result<Meta, StorageError> {
    let misspelled = || StorageIOError::read_state_machine(AnyError::error("its members are spelled in another way"));
    meta(applied).ok_or_else(|| misspelled().into())
}

fn entry(entry: Entry) -> machine::Entry {
    let change = match entry.payload {
        EntryPayload::Blank => Change::Nothing,
        EntryPayload::Normal(Proposal::Batch(batch, _)) => Change::Batch(batch),
        EntryPayload::Normal(Proposal::Restore { version, pieces }) => Change::Restore { version, pieces },
        EntryPayload::Membership(members) => {
            Change::Membership(stored_membership(&StoredMembership::new(Some(entry.log_id), members)))
        }
    };
    machine::Entry { position: position(entry.log_id), change }
}

impl Feed {
    /// What feeds a machine, from what it has on.
    pub(crate) fn new(machine: Arc<dyn Machine>, doors: &Doors) -> Self {
        let applied = Arc::new(Signal::new(machine.applied().position));
        Self {
            machine,
            doors: doors.clone(),
            committed: Arc::default(),
            applied,
            ahead: Arc::default(),
            is_closed: Arc::default(),
        }
    }

    /// Applies an entry that is committed, if the machine has everything before it and room for it: where waiting is allowed.
    pub(crate) fn apply_at_once(&self, committed: &Entry) -> Option<Effect> {
        let entry = entry(committed.clone());
        let position = entry.position;
        // Nothing that the library asked for is on its way then.
        if self.applied.read(|applied| applied.index + 1 != position.index) {
            return None;
        }
        let effect = self.machine.apply(&entry).ok()?;
        self.committed.store(position.index, Ordering::Release);
        self.ahead.store(position.index, Ordering::Release);
        self.applied.update(|applied| *applied = position);
        Some(effect)
    }

    /// Runs something that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Machine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Result<T, StoreError>, StorageError> {
        let machine = Arc::clone(&self.machine);
        run_blocking(&*self.doors.workers, move || work(&*machine)).await.map_err(failed)
    }
}

const fn is_for_lack_of_room(error: &StoreError) -> bool {
    matches!(error, StoreError::NoSpace { .. } | StoreError::LowSpace { .. } | StoreError::Behind { .. })
}

impl RaftStateMachine<Types> for Feed {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let meta = told(&self.machine.applied())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Effect>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Arc<[machine::Entry]> = entries.into_iter().map(entry).collect();
        if let Some(last) = entries.last() {
            self.committed.store(last.position.index, Ordering::Release);
        }
        let ahead = self.ahead.load(Ordering::Acquire);
        let done = entries.iter().take_while(|entry| entry.position.index <= ahead).count();
        // What became of these, who proposed them was told by then.
        let mut effects = vec![Effect::Applied; done];
        while effects.len() < entries.len() {
            let (waiting, from) = (Arc::clone(&entries), effects.len());
            let applied = self.blocking(move |machine| {
                let mut effects = Vec::new();
                let mut failure = None;
                for entry in waiting.get(from..).unwrap_or_default() {
                    match machine.apply(entry) {
                        Ok(effect) => effects.push(effect),
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
                Ok((effects, failure))
            });
            let (more, failure) = applied.await?.map_err(failed)?;
            effects.extend(more);
            if let Some(last) = effects.len().checked_sub(1).and_then(|last| entries.get(last)) {
                self.applied.update(|applied| *applied = last.position);
            }
            match failure {
                Some(error) if is_for_lack_of_room(&error) && !self.is_closed.load(Ordering::Acquire) => {
                    self.doors.clock.sleep(NO_ROOM_PAUSE).await;
                }
                Some(error) => return Err(failed(error)),
                None => {}
            }
        }
        Ok(effects)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<State>, StorageError> {
        Ok(Box::new(State::Named))
    }

    async fn install_snapshot(&mut self, _: &Meta, state: Box<State>) -> Result<(), StorageError> {
        let State::In(install) = *state else {
            return Err(StorageIOError::write_snapshot(None, AnyError::error("it is not on its way in")).into());
        };
        let installed = self.blocking(move |machine| {
            install.finish()?;
            Ok(machine.applied().position)
        });
        let position = installed.await?.map_err(failed)?;
        self.applied.update(|applied| *applied = position);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        if self.machine.applied().position.index == 0 {
            return Ok(None);
        }
        let export = self.blocking(|machine| machine.export()).await?.map_err(failed)?;
        Ok(Some(Snapshot { meta: told(export.state())?, snapshot: Box::new(State::Out(export)) }))
    }
}

impl RaftSnapshotBuilder<Types> for Feed {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        Ok(Snapshot { meta: told(&self.machine.applied())?, snapshot: Box::new(State::Named) })
    }
}
