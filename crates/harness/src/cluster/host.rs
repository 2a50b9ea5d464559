//! A machine of a node: its disk, its clock, and whether it stands still.
//!
//! Deliberately absent: the network, which every host has in common.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tresor_env::Timestamp;
use tresor_env::doubles::{ManualClock, MemoryDisk, SeededEntropy};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_server::NodeService;
use tresor_storage::machine::{Applied, Effect, Entry, Export, Install, Position};
use tresor_storage::{Machine, MemoryMachine, Snapshot, StoreError, Watcher};

use super::Process;
use crate::{Answer, assembly};

const MILLION: u64 = 1_000_000;

/// A machine, and what runs on it.
pub(super) struct Host {
    pub(super) entropy: Arc<SeededEntropy>,
    pub(super) disk: Arc<MemoryDisk>,
    pub(super) machine: MemoryMachine,
    /// Whether that has no room for entries.
    pub(super) is_full: Arc<AtomicBool>,
    pub(super) stand: Arc<Stand>,
    pub(super) process: Option<Process>,
    /// Whether it joins the others by itself.
    pub(super) joins: bool,
}

impl Host {
    pub(super) fn new(seed: u64, wall: Timestamp) -> Self {
        let state = State { per_million: MILLION, is_paused: false, owed: Duration::ZERO, waiting: Vec::new() };
        let clock = Arc::new(ManualClock::starting_at(wall));
        Self {
            entropy: Arc::new(SeededEntropy::new(seed)),
            disk: Arc::new(MemoryDisk::new()),
            machine: MemoryMachine::new(),
            is_full: Arc::default(),
            stand: Arc::new(Stand { clock, state: Mutex::new(state) }),
            process: None,
            joins: false,
        }
    }
}

/// A machine that can be without room: then it keeps what it has, and what is committed waits in the log.
pub(super) struct Bounded {
    pub(super) machine: MemoryMachine,
    pub(super) is_full: Arc<AtomicBool>,
}

impl Machine for Bounded {
    fn applied(&self) -> Applied {
        self.machine.applied()
    }

    fn apply(&self, entry: &Entry) -> Result<Effect, StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::NoSpace { name: "double".to_owned() });
        }
        self.machine.apply(entry)
    }

    fn persisted(&self) -> Position {
        self.machine.persisted()
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Machine::export(&self.machine)
    }

    fn install(&self, state: &Applied) -> Result<Box<dyn Install>, StoreError> {
        self.machine.install(state)
    }

    fn begins_behind(&self) -> u64 {
        self.machine.begins_behind()
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Machine::snapshot(&self.machine)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        Machine::watch(&self.machine, watcher);
    }
}

struct State {
    per_million: u64,
    is_paused: bool,
    /// What time passed while it stood still.
    owed: Duration,
    /// Requests of clients that wait for it to go on.
    waiting: Vec<Waker>,
}

/// How a host stands in time.
pub(super) struct Stand {
    pub(super) clock: Arc<ManualClock>,
    state: Mutex<State>,
}

impl Stand {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state().is_paused
    }

    pub(super) fn pause(&self) {
        self.state().is_paused = true;
    }

    pub(super) fn resume(&self) {
        let (owed, waiting) = {
            let mut state = self.state();
            state.is_paused = false;
            (std::mem::take(&mut state.owed), std::mem::take(&mut state.waiting))
        };
        self.clock.advance(owed);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn set_pace(&self, per_million: u64) {
        self.state().per_million = per_million;
    }

    /// Time passes in the world.
    pub(super) fn advance(&self, time: Duration) {
        let passed = {
            let mut state = self.state();
            let nanos = u64::try_from(time.as_nanos()).unwrap().saturating_mul(state.per_million) / MILLION;
            let passed = Duration::from_nanos(nanos);
            if state.is_paused {
                state.owed += passed;
                return;
            }
            passed
        };
        self.clock.advance(passed);
    }

    /// Has the host's process serve one request, while it does not stand still.
    pub(super) async fn served(
        &self,
        service: &NodeService,
        peer_port: u16,
        request: http::Request<Full<Bytes>>,
    ) -> Answer {
        let connection = Connection::plain(Ipv4Addr::LOCALHOST.into(), peer_port);
        let options = Options::default();
        let mut serving = pin!(assembly::exchange(service, &*self.clock, connection, &options, request));
        std::future::poll_fn(|context| {
            {
                let mut state = self.state();
                if state.is_paused {
                    state.waiting.push(context.waker().clone());
                    return Poll::Pending;
                }
            }
            serving.as_mut().poll(context)
        })
        .await
    }
}
