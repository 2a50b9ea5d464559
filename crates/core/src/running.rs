//! The requests that run now: what an operator looks at when some of them hang.
//!
//! A request is entered when it is let in and taken out when its answer is there, whatever becomes of it. How many there can
//! be is bounded by who serves. Deliberately absent: bodies, tokens and headers; a path is what audit devices show, too.

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

/// Places that are used again and again: entering and leaving is all that most of them ever see.
#[derive(Default)]
struct Entries {
    /// How many have been entered.
    next: u64,
    places: Vec<Option<(u64, RunningRequest)>>,
    free: Vec<usize>,
}

/// A request that runs, for as long as this lives.
pub(crate) struct Entered<'r> {
    running: &'r Running,
    place: usize,
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
        let numbered = Some((entries.next, entry));
        entries.next += 1;
        let free = entries.free.pop();
        let place = free.unwrap_or(entries.places.len());
        match entries.places.get_mut(place) {
            Some(empty) => *empty = numbered,
            None => entries.places.push(numbered),
        }
        Entered { running: self, place }
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        let entries = self.entries();
        entries.places.len() - entries.free.len()
    }

    /// All that run, in order of their beginning.
    #[must_use]
    pub fn all(&self) -> Vec<RunningRequest> {
        let mut all: Vec<_> = self.entries().places.iter().flatten().cloned().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, request)| request).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut entries = self.running.entries();
        let left = entries.places.get_mut(self.place).and_then(Option::take);
        entries.free.push(self.place);
        drop(entries);
        // Only now: nobody waits for it.
        drop(left);
    }
}
