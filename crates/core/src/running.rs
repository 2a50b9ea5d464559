//! The requests that run now: what an operator looks at when some of them hang.
//!
//! A request is entered when it is let in and taken out when its answer is there, whatever becomes of it. How many there can
//! be is bounded by who serves. Deliberately absent: bodies, tokens and headers; a path is what audit devices show, too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tresor_env::Timestamp;
use tresor_model::{Request, RequestId, Verb};

/// One request that runs.
#[derive(Clone, Debug)]
pub struct RunningRequest {
    /// Its id.
    pub id: RequestId,
    /// When it began.
    pub began: Timestamp,
    /// Where it came from.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// What is asked of.
    pub path: String,
    /// What is asked.
    pub verb: Verb,
}

/// The requests that run now.
#[derive(Default)]
pub struct Running(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next: u64,
    by_number: BTreeMap<u64, RunningRequest>,
}

/// A request that runs, for as long as this lives.
pub(crate) struct Entered<'r> {
    running: &'r Running,
    number: u64,
}

impl Running {
    pub(crate) fn enter(&self, request: &Request, now: Timestamp) -> Entered<'_> {
        let entry = RunningRequest {
            id: request.id.clone(),
            began: now,
            address: request.connection.peer_address,
            port: request.connection.peer_port,
            path: request.path.as_str().to_owned(),
            verb: request.verb,
        };
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.by_number.insert(number, entry);
        Entered { running: self, number }
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        self.entries().by_number.len()
    }

    /// All that run, in order of their beginning.
    #[must_use]
    pub fn all(&self) -> Vec<RunningRequest> {
        self.entries().by_number.values().cloned().collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.running.entries().by_number.remove(&self.number);
    }
}
