//! A few nodes on a network of hosts, with a handler that does as it is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    reason = "a failing step ends the test; each test file uses its part"
)]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tresor_env::doubles::{Fabric, InlineWorkers, ManualClock, MemoryDisk, SeededEntropy};
use tresor_env::{BoxFuture, Clock, Doors, Timestamp};
use tresor_peers::{AskError, Declined, Handler, Lane, Member, Members, NodeId, NodeKey, Peers, PublicKey, Timing};

/// How often everything that can run is let run before time passes.
const ROUNDS: usize = 25;

/// Does what the first byte of a message says: `e` gives it back, `h` hangs, `p` panics, `d` declines, `s` sleeps for as
/// many milliseconds as the second says and then gives it back.
pub struct Worker {
    clock: Arc<dyn Clock>,
    pub begun: AtomicU32,
    pub dropped: AtomicU32,
}

struct Begun<'w>(&'w Worker, bool);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Worker {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, begun: AtomicU32::new(0), dropped: AtomicU32::new(0) })
    }

    pub fn counts(&self) -> (u32, u32) {
        (self.begun.load(Ordering::SeqCst), self.dropped.load(Ordering::SeqCst))
    }
}

impl Handler for Worker {
    fn answer(&self, _from: NodeId, _lane: Lane, message: Bytes) -> BoxFuture<'_, Result<Bytes, Declined>> {
        Box::pin(async move {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let mut begun = Begun(self, false);
            match message[0] {
                b'h' => std::future::pending::<()>().await,
                b's' => self.clock.sleep(Duration::from_millis(message[1].into())).await,
                b'p' => panic!("as told"),
                _ => {}
            }
            begun.1 = true;
            if message[0] == b'd' { Err(Declined) } else { Ok(message) }
        })
    }
}

pub fn ip(node: u64) -> IpAddr {
    [10, 0, 0, u8::try_from(node).unwrap()].into()
}

pub fn at(node: u64, port: u16) -> SocketAddr {
    SocketAddr::new(ip(node), port)
}

pub const PORT: u16 = 8201;

fn key(disk: &MemoryDisk, seed: u64) -> NodeKey {
    NodeKey::open(disk, Path::new("/data"), &SeededEntropy::new(seed)).unwrap()
}

/// A node; what outlives its process is its disk.
pub struct Node {
    pub id: NodeId,
    pub clock: Arc<ManualClock>,
    pub disk: Arc<MemoryDisk>,
    pub key: PublicKey,
    pub worker: Arc<Worker>,
    pub peers: Option<Arc<Peers>>,
}

pub struct World {
    pub clock: Arc<ManualClock>,
    pub fabric: Fabric,
    pub nodes: Vec<Node>,
    /// In what time passes.
    pub tick: Duration,
    seed: u64,
}

impl World {
    /// Nodes 0, 1 .. that know each other and listen.
    pub async fn new(count: u64, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(1_767_225_600)));
        let fabric = Fabric::new(clock.clone(), seed);
        let mut world = Self { clock: clock.clone(), fabric, nodes: Vec::new(), tick: Duration::from_millis(1), seed };
        for id in 0..count {
            world.add(NodeId(id), clock.clone(), id);
        }
        world.start_all(PORT).await;
        world
    }

    /// A node that is not started yet; its key follows from a seed.
    pub fn add(&mut self, id: NodeId, clock: Arc<ManualClock>, key_seed: u64) {
        let disk = Arc::new(MemoryDisk::new());
        let key = key(&disk, self.seed * 1000 + key_seed).public();
        let worker = Worker::new(clock.clone());
        self.nodes.push(Node { id, clock, disk, key, worker, peers: None });
    }

    /// Everybody, as the membership has it.
    pub fn members(&self, port: u16) -> Members {
        let members = self.nodes.iter().map(|node| {
            let addresses = vec![at(node.id.0, port).to_string()];
            (node.id, Member { key: node.key, addresses })
        });
        Members::new(members).unwrap()
    }

    pub async fn start_all(&mut self, port: u16) {
        let members = self.members(port);
        for at in 0..self.nodes.len() {
            self.start(at, port, members.clone()).await;
        }
    }

    /// Starts a process on a node's host.
    pub async fn start(&mut self, node: usize, port: u16, members: Members) {
        let node = &mut self.nodes[node];
        // It was made when the node was added, so the seed is of no account.
        let key = key(&node.disk, 0);
        assert_eq!(key.public(), node.key);
        let doors = Doors {
            clock: node.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(self.seed ^ node.id.0)),
            disk: node.disk.clone(),
            net: self.fabric.host(ip(node.id.0)),
            outgoing: Arc::new(tresor_env::outgoing::NoWayOut),
            surroundings: Arc::new(tresor_env::surroundings::Bare),
            custody: Arc::new(tresor_env::custody::Nobody),
            workers: Arc::new(InlineWorkers),
        };
        let peers = Peers::new(&doors, &key, node.worker.clone(), Timing::default()).unwrap();
        peers.listen(at(node.id.0, port)).await.unwrap();
        peers.set_members(members).unwrap();
        node.peers = Some(Arc::new(peers));
    }

    pub fn peers(&self, node: usize) -> &Peers {
        self.nodes[node].peers.as_ref().unwrap()
    }

    /// Lets everything run that can, without any time passing.
    pub async fn settle(&self) {
        for _ in 0..ROUNDS * 5 {
            tokio::task::yield_now().await;
        }
    }

    /// Drives a future to its end, letting time pass while nothing else can happen.
    pub async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            for _ in 0..ROUNDS {
                let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
                if let Poll::Ready(done) = polled {
                    return done;
                }
                tokio::task::yield_now().await;
            }
            self.advance(self.tick);
        }
    }

    fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
        for node in self.nodes.iter().filter(|node| !Arc::ptr_eq(&node.clock, &self.clock)) {
            node.clock.advance(duration);
        }
    }

    /// Lets time pass, in small steps.
    pub async fn pass(&self, duration: Duration) {
        self.drive(self.clock.sleep(duration)).await;
    }

    /// Lets much time pass at once, as on a machine that slept.
    pub async fn leap(&self, duration: Duration) {
        self.settle().await;
        self.advance(duration);
        self.settle().await;
    }

    pub async fn ask(&self, from: usize, to: u64, lane: Lane, message: &[u8]) -> Result<Bytes, AskError> {
        self.ask_within(from, to, lane, message, Duration::from_secs(5)).await
    }

    pub async fn ask_within(
        &self,
        from: usize,
        to: u64,
        lane: Lane,
        message: &[u8],
        within: Duration,
    ) -> Result<Bytes, AskError> {
        let asked = self.peers(from).ask(NodeId(to), lane, Bytes::copy_from_slice(message), within);
        self.drive(asked).await
    }

    /// An answer is given on every lane.
    pub async fn assert_reaches(&self, from: usize, to: u64) {
        for lane in Lane::ALL {
            assert_eq!(
                self.ask(from, to, lane, b"echo").await.as_deref(),
                Ok(&b"echo"[..]),
                "{from} to {to}, {lane:?}"
            );
        }
    }
}

/// What is logged on this thread, while the guard lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn keep(&self) -> tracing::subscriber::DefaultGuard {
        // While there is one subscriber only, another test's thread that comes to a line first, and has none, decides for
        // everybody that nobody wants that line.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new()));
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone()).with_ansi(false).without_time();
        tracing::subscriber::set_default(subscriber.with_max_level(tracing::Level::DEBUG).finish())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn assert_says(&self, what: &str) {
        let text = self.text();
        assert!(text.contains(what), "no `{what}` in:\n{text}");
    }
}
