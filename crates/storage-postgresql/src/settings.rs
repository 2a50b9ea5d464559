//! What a store in PostgreSQL is opened with.
//!
//! Deliberately absent: reading it from a file, which the server does.

use std::time::Duration;

use tresor_postgresql::Way;

use crate::lock_table::LockTable;
use crate::table::Table;

/// How a store is reached and used.
pub struct Settings {
    /// The way to the server.
    pub way: Way,
    /// Where the data lies.
    pub table: Table,
    /// How many questions the server is asked at once, at most. At least 1.
    pub parallel_max: usize,
    /// How many connections are kept for reading. At least 1; there is one more for writing.
    pub connections: usize,
    /// Whether tables that are missing are made.
    pub makes_tables: bool,
    /// How often an opening tries again to reach the server, with pauses that grow to five seconds; without a number, until it is
    /// reached.
    pub connect_retries: Option<u32>,
    /// The table of the lock where several processes share the store; without one, a process has it to itself.
    pub lock: Option<Table>,
}

impl Settings {
    pub(crate) fn lock_table(&self) -> Option<LockTable<'_>> {
        self.lock.as_ref().map(|lock| LockTable { lock, store: &self.table })
    }
}

/// How long the server may take to let us in, where its URL does not say.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer to a read may take, with everything that is tried: two of them must pass before a listener takes whoever
/// asks for somebody who sends nothing.
pub(crate) const READ_MAX: Duration = Duration::from_secs(4);
/// How long the server may take for one batch, or one page of an export.
pub(crate) const WRITE_MAX: Duration = Duration::from_secs(20);
/// How long a batch waits for a server that went away, and for what became of it there.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(20);
/// How long a process that is gone may still seem to have the store open.
pub(crate) const LOCK_MAX: Duration = Duration::from_secs(5);
/// How often is looked whether the store is still ours.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long that may take.
pub(crate) const LOOK_MAX: Duration = Duration::from_secs(4);
/// For how long after the last word from the server what is in memory may be taken for what is stored.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(10);
/// For how long after the last word from the server a request is served without another one: a little more than the time between two
/// looks, so that only who stood still, or whose server is slow, asks for it.
pub(crate) const VOUCHED_FOR: Duration = Duration::from_secs(3);
/// The pause before the server is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(250);
