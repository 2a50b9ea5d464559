//! One server and the world around it: its disk, its clock, its store, and the ways in which they fail.
//!
//! A kill leaves everything that was written; a loss of power keeps of what was not synced only what a choice
//! grants, write by write, so that later writes may survive earlier ones. Deliberately absent: any knowledge of what
//! clients do.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tresor_audit::Audited;
use tresor_core::Node;
use tresor_core::lockout::Rules;
use tresor_env::doubles::TestDoors;
use tresor_env::{BoxFuture, Doors, Timestamp};
use tresor_harness::{Answer, assembly};
use tresor_http::{Options, Outcome, Serve};
use tresor_model::request::Connection;
use tresor_model::{Request, RequestId};
use tresor_storage::{Batch, MemoryStore, Snapshot, Store, StoreError};
use tresor_storage_file::{FileStore, Limits, Sizes};

/// Where the durable store lies on the simulated disk.
pub const DATA_DIRECTORY: &str = "/data";
/// So small that a short life fills segments, and that the index takes over and is built anew many times.
const SMALL: Limits = Limits {
    segments: Sizes { first: 16 * 1024, max: 64 * 1024 },
    generation_bytes: 24 * 1024,
    generation_bytes_min: 8 * 1024,
    frozen_max: 2,
    beside_bytes: 96,
    cache_bytes: 1024 * 1024,
    rebuild_bytes_min: 64 * 1024,
    rebuild_step_bytes: 16 * 1024,
    reserve_bytes: 4096,
};
/// How often tasks get their turn when everything is to come to rest.
const TURNS: usize = 400;

/// Which store the server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The model: fast, and never lost.
    Memory,
    /// The durable one, on the simulated disk.
    File,
}

/// The server and its world.
pub struct World {
    /// The doubles.
    pub doors: TestDoors,
    kind: StoreKind,
    memory: Arc<MemoryStore>,
    /// Whether the running process was killed.
    is_killed: Arc<AtomicBool>,
    service: Option<Arc<Service>>,
}

/// The store in memory as one process has it: when the process is killed, what is left of it writes nothing any more.
struct OfProcess {
    memory: Arc<MemoryStore>,
    is_over: Arc<AtomicBool>,
}

impl OfProcess {
    fn alive(&self) -> Result<(), StoreError> {
        if self.is_over.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped { name: "memory".to_owned(), why: "the process was killed".to_owned() });
        }
        Ok(())
    }
}

impl Store for OfProcess {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.alive()?;
        self.memory.snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.alive()?;
        self.memory.apply(batch)
    }

    fn watch(&self, watcher: std::sync::Weak<dyn tresor_storage::Watcher>) {
        self.memory.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        self.memory.syncs()
    }
}

/// Serves on the caller's own time: the simulator chooses when each request goes on, which the tasks of the real
/// service would choose by themselves.
struct Service {
    node: Arc<Node>,
}

impl Serve for Service {
    fn serve(&self, request: Request) -> BoxFuture<'_, Audited<Outcome>> {
        Box::pin(tresor_core::pipeline::serve(&self.node, request))
    }

    fn next_request_id(&self) -> RequestId {
        self.node.next_request_id()
    }
}

impl World {
    /// A world without a server yet; everything unpredictable in it follows from the seed.
    #[must_use]
    pub fn new(seed: u64, kind: StoreKind) -> Self {
        let (memory, is_killed) = (Arc::new(MemoryStore::new()), Arc::default());
        Self { doors: TestDoors::new(seed), kind, memory, is_killed, service: None }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(&mut self) -> Result<(), String> {
        // What is left of the process before must not reach the files of this one.
        let doors = Doors { disk: self.doors.disk.of_process(), ..self.doors.doors.clone() };
        let store: Arc<dyn Store> = match self.kind {
            StoreKind::Memory => {
                self.is_killed = Arc::default();
                let is_over = Arc::clone(&self.is_killed);
                Arc::new(OfProcess { memory: Arc::clone(&self.memory), is_over })
            }
            StoreKind::File => {
                let opened = FileStore::open(&doors, Path::new(DATA_DIRECTORY), SMALL);
                Arc::new(opened.map_err(|error| format!("the store does not open: {error:?}"))?)
            }
        };
        // What a login is answered follows from what is stored alone.
        let mut settings = assembly::settings();
        settings.lockout.insert("all".to_owned(), Rules { is_disabled: true, ..Rules::default() });
        let node = assembly::node_with(&doors, store, settings)
            .map_err(|fault| format!("the node does not start: {fault:?}"))?;
        self.service = Some(Arc::new(Service { node }));
        Ok(())
    }

    /// The node, while the server runs.
    #[must_use]
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.service.as_ref().map(|service| &service.node)
    }

    /// Ends the process at once: nothing that was written is lost. Requests under way must be dropped before.
    pub async fn kill(&mut self) {
        self.doors.disk.kill_process();
        self.is_killed.store(true, Ordering::Relaxed);
        self.service = None;
        // Tasks of the dead process let go of their files when they are next looked at.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Loses power: of each write that was not synced, `keep` says how many of its bytes survive.
    pub async fn lose_power(&mut self, keep: impl FnMut(usize) -> usize) {
        self.doors.disk.crash(keep);
        self.kill().await;
    }

    /// Lets every task do what it can do now.
    pub async fn settle(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass, and what waited for it happen.
    pub async fn advance(&self, duration: Duration) {
        self.settle().await;
        self.doors.clock.advance(duration);
        self.settle().await;
    }

    /// Time as the node tells it; wall time while there is none.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.node().map_or_else(|| self.doors.doors.clock.wall(), |node| node.now())
    }

    /// One exchange, as a future that owns what it needs; `port` marks it in audit records.
    ///
    /// # Errors
    /// When no server runs.
    pub fn exchange(
        &self,
        port: u16,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<BoxFuture<'static, Answer>, String> {
        let service = Arc::clone(self.service.as_ref().ok_or("no server runs")?);
        let clock = Arc::clone(&self.doors.doors.clock);
        let request = assembly::request(method, path, token, body);
        let peer_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let connection = Connection::plain(peer_address, port);
        Ok(Box::pin(
            async move { assembly::exchange(&*service, &*clock, connection, &Options::default(), request).await },
        ))
    }

    /// One exchange, waited for; time passes when nothing else happens.
    ///
    /// # Errors
    /// When no server runs, or the answer does not come within a minute of the server's time.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<Answer, String> {
        let mut exchange = self.exchange(1, method, path, token, body)?;
        for turn in 0..60 * TURNS {
            if let Some(answer) = poll_once(&mut exchange) {
                return Ok(answer);
            }
            tokio::task::yield_now().await;
            if turn % TURNS == TURNS - 1 {
                self.doors.clock.advance(Duration::from_secs(1));
            }
        }
        Err(format!("{method} {path} is never answered"))
    }

    /// Every byte that the server has stored: files by path, and the model's values.
    #[must_use]
    pub fn stored_bytes(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.doors.disk.dump().into_iter().map(|(path, bytes)| (path.display().to_string(), bytes));
        let values = self.memory.dump().into_iter().flat_map(|(key, value)| {
            [("a key of the store".to_owned(), key.as_bytes().to_vec()), ("a value of the store".to_owned(), value)]
        });
        files.chain(values).collect()
    }
}

/// Lets an exchange go on as far as it can.
pub(crate) fn poll_once(exchange: &mut BoxFuture<'static, Answer>) -> Option<Answer> {
    match exchange.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
