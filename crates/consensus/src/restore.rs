//! A state that comes from elsewhere takes the place of what a cluster stores.
//!
//! It waits in a file of this node until all of it is there, which changes nothing for anybody. Then it goes through the log,
//! in pieces, and the entry behind them lets every machine take it over ([`tresor_storage::pieces`]): so it is agreed upon like
//! anything else, and who was away gets it with the log, or with a state. While it goes nobody else may write: a batch in
//! between fences the rest, and nothing has happened. Deliberately absent: clearing away pieces that were never taken over,
//! which is for whoever writes next.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tresor_env::tasks::run_blocking;
use tresor_env::{Disk, DiskFile, disk};
use tresor_storage::machine::Install;
use tresor_storage::state::Reading;
use tresor_storage::{Agreement, Batch, Condition, StoreError, pieces};

use crate::store::{NAME, RaftStore, told, wait_for};
use crate::types::Proposal;

/// Where it waits; the log removes what has such a name when it is opened.
const WAITING_NAME: &str = "restore.unfinished";
/// How much of it goes with one entry, beyond the first piece.
const ENTRY_BYTES: usize = 1 << 20;
/// How long every machine together may take to take it over.
const BOUND: Duration = Duration::from_secs(3600);

/// A state on its way into a cluster.
pub(crate) struct Restoring {
    store: RaftStore,
    waiting: Waiting,
    reading: Reading,
}

/// The chunks that came so far.
struct Waiting {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    lengths: Vec<usize>,
    bytes: u64,
}

impl Waiting {
    fn begin(disk: &Arc<dyn Disk>, directory: &Path) -> io::Result<Self> {
        let path = directory.join(WAITING_NAME);
        let file = disk.open(&path, disk::Open::New).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::ResourceBusy.into(),
            _ => error,
        })?;
        Ok(Self { disk: Arc::clone(disk), path, file, lengths: Vec::new(), bytes: 0 })
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all_at(self.bytes, chunk)?;
        self.bytes += chunk.len() as u64;
        self.lengths.push(chunk.len());
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.disk.remove(&self.path));
    }
}

fn io_error(source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::StorageFull => StoreError::NoSpace { name: NAME.to_owned() },
        _ => StoreError::Io { name: NAME.to_owned(), source },
    }
}

impl Restoring {
    /// Begins; one at a time, because the file is one.
    pub(crate) fn begin(store: RaftStore) -> Result<Self, StoreError> {
        let core = &store.consensus.core;
        let waiting = Waiting::begin(&core.wire.doors.disk, &core.directory).map_err(io_error)?;
        Ok(Self { store, waiting, reading: Reading::new(None) })
    }

    /// The next pieces, as many as go with one entry; none at the end.
    async fn next(&self, from: usize, offset: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut bytes = 0;
        let lengths = self.waiting.lengths.iter().skip(from).copied();
        let lengths: Vec<usize> = lengths
            .take_while(|length| {
                bytes += length;
                bytes <= ENTRY_BYTES || bytes == *length
            })
            .collect();
        let file = Arc::clone(&self.waiting.file);
        let read = move || {
            let mut at = offset;
            let piece = |length: usize| {
                let mut piece = vec![0; length];
                file.read_exact_at(at, &mut piece)?;
                at += length as u64;
                Ok(piece)
            };
            lengths.into_iter().map(piece).collect::<io::Result<Vec<_>>>()
        };
        let read = run_blocking(&*self.store.consensus.core.wire.doors.workers, read).await;
        read.map_err(|panicked| io_error(io::Error::other(panicked)))?.map_err(io_error)
    }

    /// Stores the pieces, then lets them take the place of everything.
    async fn go(self) -> Result<(), StoreError> {
        self.reading.finish().map_err(|wrong| wrong.for_store(NAME))?;
        let consensus = &self.store.consensus;
        let (mut number, mut offset) = (0_u32, 0_u64);
        loop {
            let more = self.next(number as usize, offset).await?;
            if more.is_empty() {
                break;
            }
            offset += more.iter().map(|piece| piece.len() as u64).sum::<u64>();
            let version = consensus.machine().applied().version.next();
            let first = number;
            number += u32::try_from(more.len()).unwrap_or(u32::MAX);
            let writes: BTreeMap<_, _> = (first..).map(pieces::key).zip(more.into_iter().map(Some)).collect();
            self.store.agreed(Batch::new(version, writes)).await?;
        }
        let version = consensus.machine().applied().version.next();
        let restore = Proposal::Restore { version, pieces: number };
        told(consensus.propose_within(restore, BOUND).await)
    }
}

impl Install for Restoring {
    fn take(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        if let Condition::LowSpace { free_bytes, reserve_bytes } = self.store.consensus.machine().condition() {
            return Err(StoreError::LowSpace { name: NAME.to_owned(), free_bytes, reserve_bytes });
        }
        let taken = self.reading.take(&chunk, |_, _| Ok::<(), tresor_storage::state::Wrong>(()));
        taken.map_err(|wrong| wrong.for_store(NAME))?;
        self.waiting.push(&chunk).map_err(io_error)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let tasks = Arc::clone(&self.store.tasks);
        wait_for(&tasks, self.go())
    }

    fn agree(self: Box<Self>) -> Result<Agreement, Box<dyn Install>> {
        Ok(Box::pin(self.go()))
    }
}
