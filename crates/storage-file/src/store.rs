//! The store that stands alone: a machine behind a log of its own, in which an entry's number is its batch's version.
//!
//! [`Store::apply`] is one append with one sync, then the machine takes the batch. Deliberately absent: everything else.

use std::path::Path;
use std::sync::{Arc, Weak};

use tresor_env::Doors;
use tresor_log::{Log, LogError};
use tresor_storage::machine::{Applied, Export, Install, Position};
use tresor_storage::{Agreement, Batch, Condition, Scrubbed, Snapshot, Store, StoreError, Version, Watcher};

use crate::install::{Incoming, Way};
use crate::journal::{Journal, OwnLog, from_log};
use crate::machine::FileMachine;
use crate::{FIRST_INDEX_NAME, LOG_DIRECTORY, Limits, record};

/// A store in a directory.
pub struct FileStore {
    log: Arc<OwnLog>,
    machine: FileMachine,
}

/// The entry of a batch.
const fn position(version: Version) -> Position {
    Position { term: 0, index: version.0 }
}

/// What went wrong while the log was read.
enum Replayed {
    Log(LogError),
    NoBatch(u64),
}

impl From<LogError> for Replayed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl FileStore {
    /// Opens the store in a directory, creating both when they do not exist.
    ///
    /// # Errors
    /// [`StoreError`] when the directory is in use, or a file damaged or unreadable.
    pub fn open(doors: &Doors, directory: &Path, limits: Limits) -> Result<Self, StoreError> {
        let mut opened = FileMachine::open(doors, directory, limits)?;
        let indexed = opened.applied().position.index;
        let path = directory.join(LOG_DIRECTORY);
        let name = path.display().to_string();
        let log = Log::open(&doors.disk, &path, limits.segments, &mut |index, body| {
            if index > indexed {
                let batch = record::decode(index, body).ok_or(Replayed::NoBatch(index))?;
                opened.replay(position(batch.version), batch);
            }
            Ok::<(), Replayed>(())
        });
        let mut log = log.map_err(|error| match error {
            Replayed::Log(error) => from_log(&name, error),
            Replayed::NoBatch(index) => {
                StoreError::Damaged { name: name.clone(), what: format!("entry {index} is no batch") }
            }
        })?;
        // An index that is missing is made anew from the log as long as the log has everything; later that is damage.
        if opened.is_new() && log.purged() > 0 {
            let name = directory.join(FIRST_INDEX_NAME).display().to_string();
            return Err(StoreError::Damaged { name, what: "the index is missing".to_owned() });
        }
        if log.last() < indexed && opened.begins_behind() == indexed {
            // What was before the state that was taken over last is void; its process ended before it said so.
            log.purge(indexed).map_err(|error| from_log(&name, error))?;
        }
        if log.last() < indexed || log.first() > indexed + 1 {
            let what = format!("it holds entries {} to {}, and the index ends at {indexed}", log.first(), log.last());
            return Err(StoreError::Damaged { name, what });
        }
        let log = Arc::new(OwnLog::new(directory.display().to_string(), log));
        let journal: Arc<dyn Journal> = Arc::clone(&log) as Arc<dyn Journal>;
        let machine = opened.start(journal)?;
        Ok(Self { log, machine })
    }

    /// Appends a batch, then shows it; tells whether there is work for upkeep.
    fn append(&self, batch: Batch) -> Result<bool, StoreError> {
        let machine = &self.machine;
        // Held until the batch is to be seen: two who apply at once cannot both be the next.
        let mut log = self.log.lock();
        let before = machine.version();
        if batch.version != before.next() {
            return Err(StoreError::VersionGap { batch: batch.version.0, store: before.0 });
        }
        machine.0.refuse_when_low(record::size(&batch) as u64)?;
        let mut group = log.group();
        group.entry(|body| record::encode(&batch, body));
        group.commit().map_err(|error| from_log(&machine.0.name, error))?;
        Ok(machine.insert(position(batch.version), batch) || log.has_plan())
    }
}

impl Store for FileStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.machine.snapshot()))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let machine = &self.machine;
        machine.admit()?;
        machine.0.pace(&batch);
        if machine.0.watchers.around(batch, || Box::new(machine.0.seen()), |batch| self.append(batch))? {
            machine.0.request_upkeep();
        }
        Ok(())
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.machine.0.watchers.add(watcher);
    }

    fn syncs(&self) -> u64 {
        self.log.lock().syncs()
    }

    fn condition(&self) -> Condition {
        self.machine.condition()
    }

    fn scrubbed(&self) -> Scrubbed {
        self.machine.0.scrubbed()
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Ok(self.machine.export())
    }

    fn restore(&self) -> Result<Box<dyn Install>, StoreError> {
        Ok(Box::new(Restoring { log: Arc::clone(&self.log), incoming: self.machine.receive(Way::Sent, None)? }))
    }
}

/// A state on its way into a store, where it gets a version, and with it an entry's number, behind all of both.
struct Restoring {
    log: Arc<OwnLog>,
    incoming: Incoming,
}

impl Install for Restoring {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.incoming.take(&chunk)
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let state = self.incoming.complete()?;
        let inner = Arc::clone(&self.incoming.inner);
        let swap = || {
            let _rest = inner.rest();
            let mut log = self.log.lock();
            if log.has_failed() {
                return Err(from_log(&inner.name, LogError::Stopped));
            }
            let newest = inner.applied().version.max(state.version);
            let version = newest.next();
            self.incoming.swap_in(&Applied { version, position: position(version), membership: Vec::new() })?;
            log.purge(version.0).map_err(|error| from_log(&inner.name, error))
        };
        inner.told(swap)
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Err(self)
    }
}
