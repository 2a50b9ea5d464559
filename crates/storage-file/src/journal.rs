//! What a machine asks of the log that feeds it, and the log of a store that stands alone.
//!
//! A machine never reads or appends. It says what may go, and its upkeep gives the log its turn; who has the log decides
//! what becomes of that. Deliberately absent: any knowledge of the machine.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tresor_log::{Log, LogError};
use tresor_storage::StoreError;

use crate::from_io;

/// The log behind a machine, as its upkeep sees it. Called where waiting is allowed, and never while the machine holds a
/// lock.
pub trait Journal: Send + Sync {
    /// Does what the log wants done on the disk; tells whether there was anything, and it worked.
    fn tidy(&self) -> bool;

    /// How much of the disk it takes.
    fn bytes(&self) -> u64;

    /// How large its segments are to be from now on.
    fn fit_segments(&self, bytes_max: u64);

    /// Whether some of it is far larger than it should be, so that what lies there should go to the index soon; entries go
    /// elsewhere from now on.
    fn is_oversized(&self) -> bool;

    /// The index has every entry up to this one; tells whether that set anything free.
    ///
    /// # Errors
    /// When the log cannot go on.
    fn purge(&self, index: u64) -> Result<bool, StoreError>;

    /// Whether it takes nothing more until it is opened again.
    fn has_failed(&self) -> bool;
}

/// A log whose owner sees to it by itself, and asks the machine what may go.
pub struct LogElsewhere;

impl Journal for LogElsewhere {
    fn tidy(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn fit_segments(&self, _: u64) {}

    fn is_oversized(&self) -> bool {
        false
    }

    fn purge(&self, _: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn has_failed(&self) -> bool {
        false
    }
}

/// A store's own log.
pub(crate) struct OwnLog {
    name: String,
    log: Mutex<Log>,
}

impl OwnLog {
    pub(crate) const fn new(name: String, log: Log) -> Self {
        Self { name, log: Mutex::new(log) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for OwnLog {
    fn tidy(&self) -> bool {
        let plan = self.lock().plan();
        // Without it an append does the same itself, and says what is wrong.
        plan.is_some_and(|plan| {
            let done = plan.run();
            self.lock().adopt(done).is_ok()
        })
    }

    fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn fit_segments(&self, bytes_max: u64) {
        self.lock().set_segment_bytes_max(bytes_max);
    }

    fn is_oversized(&self) -> bool {
        let mut log = self.lock();
        // Without room for a segment it stays as it is; a log that failed says so to the next writer.
        log.is_oversized() && !log.has_failed() && (!log.ends_oversized() || log.roll().is_ok())
    }

    fn purge(&self, index: u64) -> Result<bool, StoreError> {
        let mut log = self.lock();
        let is_worth_it = log.is_worth_purging(index);
        if is_worth_it {
            log.purge(index).map_err(|error| from_log(&self.name, error))?;
        }
        Ok(is_worth_it)
    }

    fn has_failed(&self) -> bool {
        self.lock().has_failed()
    }
}

pub(crate) fn from_log(name: &str, error: LogError) -> StoreError {
    match error {
        LogError::Damaged { path, offset, what } => {
            StoreError::Damaged { name: path.display().to_string(), what: format!("at offset {offset}: {what}") }
        }
        LogError::Io { path, source } => from_io(&path.display().to_string(), source),
        LogError::Uncertain { path, source } => StoreError::Uncertain { name: path.display().to_string(), source },
        LogError::Stopped => {
            StoreError::Stopped { name: name.to_owned(), why: "its log failed while it was written".to_owned() }
        }
        other @ (LogError::OutOfRange { .. } | LogError::TooLarge { .. }) => {
            StoreError::Io { name: name.to_owned(), source: std::io::Error::other(other) }
        }
    }
}
