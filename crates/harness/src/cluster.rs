//! A cluster in one process: whole nodes as servers assemble them, on hosts of a simulated network, each behind its HTTP face.
//!
//! Everything follows from the seed and from the test's calls: time passes in small steps while nothing else can happen, and
//! all work runs on the test's own thread. Nodes can be killed, started again, parted, stopped where they stand and given
//! clocks that differ; what outlives a process is its disk, unless that is lost, too. Deliberately absent: the real binary,
//! and the network between a node that joins and the API that it asks.

mod host;
mod idle;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;
use tresor_core::cluster::joining::{Joining, LeaderAddress, LeaderDoor, LeaderDoors};
use tresor_core::cluster::{Cluster, Member, Standing};
use tresor_core::role::Role;
use tresor_core::{Node, Settings};
use tresor_env::doubles::{Fabric, InlineWorkers, ManualClock, MemoryDisk};
use tresor_env::{BoxFuture, Clock, Doors, Timestamp};
use tresor_model::{Fault, Map};
use tresor_secret::UnsealShare;
use tresor_server::NodeService;
use tresor_server::cluster::{NodeOpening, Nodes};
use tresor_storage::MemoryMachine;
use tresor_wire::json::{JsonLimits, decode, encode_map};

use self::host::{Bounded, Host, Stand};
pub use self::idle::block_on;
use crate::{Answer, ROOT, SHARES, assembly, initialize};

/// In what time passes, unless a test says otherwise.
pub const STEP: Duration = Duration::from_millis(5);
/// What takes longer than this, by the clock, never ends.
const PATIENCE: Duration = Duration::from_secs(300);
const PORT: u16 = 8201;

/// A process.
pub struct Process {
    /// The node.
    pub node: Arc<Node>,
    /// It among the others.
    pub nodes: Arc<Nodes>,
    service: Arc<NodeService>,
    since: Duration,
}

/// Who serves at a node, and on what.
type Served = (Arc<NodeService>, Arc<Stand>);

/// The APIs of all nodes that run, as one that joins asks them.
#[derive(Clone, Default)]
struct Apis(Arc<Mutex<BTreeMap<usize, Served>>>);

impl Apis {
    fn set(&self, at: usize, service: Option<Served>) {
        let mut apis = self.0.lock().unwrap();
        drop(match service {
            Some(service) => apis.insert(at, service),
            None => apis.remove(&at),
        });
    }

    /// Asks so many nodes in turn.
    fn joining(&self, count: usize) -> Joining {
        let door = |at: usize| -> Arc<dyn LeaderDoor> {
            Arc::new(Api { at, address: format!("https://n{at}:8200"), apis: self.clone() })
        };
        Joining { doors: Arc::new(self.clone()), retry_join: (0..count).map(door).collect(), non_voter: false }
    }
}

impl LeaderDoors for Apis {
    fn open(&self, _: LeaderAddress) -> Result<Arc<dyn LeaderDoor>, String> {
        Err("nodes of this world join whom they are configured to".to_owned())
    }
}

/// A node's API.
struct Api {
    at: usize,
    address: String,
    apis: Apis,
}

impl LeaderDoor for Api {
    fn address(&self) -> &str {
        &self.address
    }

    fn ask(&self, path: &'static str, body: Map) -> BoxFuture<'_, Result<Map, String>> {
        let service = self.apis.0.lock().unwrap().get(&self.at).cloned();
        Box::pin(async move {
            let (service, stand) = service.ok_or("it does not run")?;
            let mut json = Vec::new();
            encode_map(&body, &mut json);
            let request = assembly::request("POST", path, "", &serde_json::from_slice(&json).unwrap());
            let answer = stand.served(&service, 40_000, request).await;
            if answer.status != 200 {
                return Err(answer.errors());
            }
            decode(&answer.bytes, &JsonLimits::default()).map_err(|error| error.to_string())
        })
    }
}

/// The cluster and what is around it. Nodes are `n0`, `n1` and so on.
pub struct World {
    /// The time of the world, which no host knows: each has a clock of its own.
    pub clock: Arc<ManualClock>,
    /// The network.
    pub fabric: Fabric,
    /// In what time passes; at most a tenth of what a follower waits for its leader.
    pub step: Duration,
    /// The unseal shares, once the cluster is initialised.
    pub shares: Vec<Vec<u8>>,
    hosts: Vec<Host>,
    apis: Apis,
}

impl Drop for World {
    /// The APIs lead to the nodes, and each node knows the APIs: they would keep each other.
    fn drop(&mut self) {
        (0..self.hosts.len()).for_each(|at| self.apis.set(at, None));
    }
}

/// Where a node's host is.
#[must_use]
pub fn ip(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap()).into()
}

impl World {
    /// So many nodes that are running, and belong to nothing yet.
    pub async fn uninitialized(count: usize, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_seconds(1_767_225_600)));
        let fabric = Fabric::new(clock.clone(), seed);
        let hosts = (0..count).map(|at| Host::new(seed * 1000 + at as u64, clock.wall())).collect();
        let mut world = Self { clock, fabric, step: STEP, shares: Vec::new(), hosts, apis: Apis::default() };
        for at in 0..count {
            world.start(at).await;
        }
        world
    }

    /// A cluster of so many voters, all of them unsealed; the first was initialised and leads.
    pub async fn new(count: usize, seed: u64) -> Self {
        let mut world = Self::uninitialized(count, seed).await;
        world.initialize().await;
        for at in 1..count {
            world.join(at).await;
        }
        world.pass(Duration::from_secs(1)).await;
        world
    }

    /// Initialises the first node, and opens it.
    pub async fn initialize(&mut self) {
        self.shares = self.drive(initialize(self.node(0))).await;
        self.unseal(0).await;
    }

    /// Lets a node join the others as its configuration says, opens it, and waits until it votes.
    pub async fn join(&mut self, at: usize) {
        self.begin_to_join(at);
        self.unseal(at).await;
        let name = format!("n{at}");
        let votes = |member: &Member| member.contact.name == name && member.is_voter;
        self.until("it votes", || self.cluster(at).members().iter().any(votes)).await;
    }

    /// Lets a node begin to join the others; shares let it in.
    pub fn begin_to_join(&mut self, at: usize) {
        self.hosts[at].joins = true;
        self.node(at).join_by_itself();
    }

    /// Starts a process on a host; it is sealed.
    pub async fn start(&mut self, at: usize) {
        let host = &self.hosts[at];
        assert!(host.process.is_none(), "n{at} runs");
        self.fabric.restore_power(ip(at));
        let doors = Doors {
            clock: host.stand.clock.clone(),
            entropy: host.entropy.clone(),
            disk: host.disk.of_process(),
            net: self.fabric.host(ip(at)),
            outgoing: Arc::new(tresor_env::outgoing::NoWayOut),
            surroundings: Arc::new(tresor_env::surroundings::Bare),
            custody: Arc::new(tresor_env::custody::Nobody),
            workers: Arc::new(InlineWorkers),
        };
        let opening = NodeOpening {
            directory: "/data".into(),
            name: Some(format!("n{at}")),
            listen: Some(SocketAddr::new(ip(at), PORT)),
            address: None,
            api_address: format!("https://n{at}:8200"),
        };
        let machine = Bounded { machine: host.machine.clone(), is_full: Arc::clone(&host.is_full) };
        let nodes = self.drive(Nodes::open(&doors, opening, Arc::new(machine))).await.unwrap();
        let cluster: Arc<dyn Cluster> = Arc::<Nodes>::clone(&nodes);
        let joining = Some(self.apis.joining(self.hosts.len()));
        let settings = Settings { joining, ..assembly::settings() };
        let node = assembly::node_in(cluster, &doors, Arc::new(nodes.store()), settings).unwrap();
        let service = Arc::new(NodeService::new(Arc::clone(&node)));
        self.apis.set(at, Some((Arc::clone(&service), Arc::clone(&host.stand))));
        if self.hosts[at].joins {
            node.join_by_itself();
        }
        let since = self.now();
        self.hosts[at].process = Some(Process { node, nodes, service, since });
    }

    /// Ends a process without a word: SIGKILL.
    pub async fn kill(&mut self, at: usize) {
        self.fabric.kill(ip(at));
        self.ended(at);
        self.pass(STEP).await;
    }

    /// Ends a process and its host's power: of what was not synced nothing is left, and nobody hears of it.
    pub async fn lose_power(&mut self, at: usize) {
        self.fabric.lose_power(ip(at));
        self.ended(at);
        self.hosts[at].disk.crash_by_sector(|| false);
        self.pass(STEP).await;
    }

    fn ended(&mut self, at: usize) {
        self.apis.set(at, None);
        let host = &mut self.hosts[at];
        host.disk.kill_process();
        host.process = None;
        host.machine = host.machine.reopened();
        // What stood still ended where it stood.
        self.resume(at);
    }

    /// When the process of a node was started.
    #[must_use]
    pub fn runs_since(&self, at: usize) -> Option<Duration> {
        self.hosts[at].process.as_ref().map(|process| process.since)
    }

    /// Puts another machine in the place of one that does not run: it has an empty disk, and will join the others.
    pub fn lose_disk(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        assert!(host.process.is_none(), "n{at} runs");
        host.disk = Arc::new(MemoryDisk::new());
        host.machine = MemoryMachine::new();
        host.joins = true;
    }

    /// Stops a host where it stands, as SIGSTOP does: its process gets no time, hears nothing and says nothing; its kernel
    /// goes on taking what is sent. What needs none of that comes to its end first, so it always stands at something that
    /// it waits for.
    pub fn pause(&self, at: usize) {
        self.fabric.pause(ip(at));
        self.hosts[at].stand.pause();
    }

    /// Lets a host go on, with everything that has waited; by its clock the time has passed.
    pub fn resume(&self, at: usize) {
        self.fabric.resume(ip(at));
        self.hosts[at].stand.resume();
    }

    /// Whether a node has no room for what is committed from now on: it goes on with what it has, and lags behind.
    pub fn hold_back(&self, at: usize, is_full: bool) {
        self.hosts[at].is_full.store(is_full, Ordering::Relaxed);
    }

    /// Whether a host stands still.
    #[must_use]
    pub fn is_paused(&self, at: usize) -> bool {
        self.hosts[at].stand.is_paused()
    }

    /// Sets how fast a host's clock goes, in millionths of the world's.
    pub fn set_pace(&self, at: usize, per_million: u64) {
        self.hosts[at].stand.set_pace(per_million);
    }

    /// A host's clock.
    #[must_use]
    pub fn clock_of(&self, at: usize) -> &ManualClock {
        &self.hosts[at].stand.clock
    }

    /// Ends a process as SIGTERM does: another leads, requests end, the node is sealed.
    pub async fn stop(&mut self, at: usize) {
        let process = self.hosts[at].process.take().expect("it runs");
        self.apis.set(at, None);
        let stopped = async {
            process.nodes.leave().await;
            process.service.finish(self.clock.sleep(Duration::from_secs(5))).await;
            process.node.seal().await.unwrap();
            process.nodes.close().await;
        };
        self.drive(stopped).await;
        drop(process);
        self.fabric.kill(ip(at));
        self.hosts[at].machine = self.hosts[at].machine.reopened();
    }

    /// Enters as many shares as are needed, once the node has what is stored: what lies in its log alone it has when somebody
    /// leads.
    pub async fn unseal(&self, at: usize) {
        self.until("it has what is stored", || self.node(at).standing().unwrap().facts.initialized).await;
        self.drive(self.entering_shares(at)).await.unwrap();
    }

    /// Enters as many shares as are needed now, as a future of its own.
    pub fn entering_shares(&self, at: usize) -> impl Future<Output = Result<(), Fault>> + Send + use<> {
        let (node, shares) = (Arc::clone(self.node(at)), self.shares.clone());
        async move {
            for share in shares.into_iter().take(usize::from(SHARES.1)) {
                node.enter_share(UnsealShare::new(share)).await?;
            }
            Ok(())
        }
    }

    /// Parts these nodes from all others.
    pub fn part(&self, here: &[usize]) {
        let (here, there): (Vec<usize>, Vec<usize>) = (0..self.hosts.len()).partition(|at| here.contains(at));
        let ips = |nodes: &[usize]| nodes.iter().map(|at| ip(*at)).collect::<Vec<_>>();
        self.fabric.part(&ips(&here), &ips(&there));
    }

    /// A process that runs.
    #[must_use]
    pub fn process(&self, at: usize) -> &Process {
        self.hosts[at].process.as_ref().expect("it runs")
    }

    /// A node that runs.
    #[must_use]
    pub fn node(&self, at: usize) -> &Arc<Node> {
        &self.process(at).node
    }

    /// A node that runs, among the others.
    #[must_use]
    pub fn cluster(&self, at: usize) -> &Arc<Nodes> {
        &self.process(at).nodes
    }

    /// A host's disk.
    #[must_use]
    pub fn disk(&self, at: usize) -> &Arc<MemoryDisk> {
        &self.hosts[at].disk
    }

    /// What a node has applied, as it is stored.
    #[must_use]
    pub fn machine(&self, at: usize) -> &MemoryMachine {
        &self.hosts[at].machine
    }

    /// The nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| self.hosts[*at].process.is_some()).collect()
    }

    /// Who leads, in the highest term, sealed or not.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = self.running().into_iter().filter_map(|at| match self.cluster(at).standing() {
            Standing::Leads { term } => Some((term, at)),
            _ => None,
        });
        leads.max().map(|(_, at)| at)
    }

    /// Who does what a leader does.
    #[must_use]
    pub fn active(&self) -> Option<usize> {
        let active = self.running().into_iter().filter_map(|at| match self.node(at).role() {
            Some(Role::Active { term, .. }) => Some((term, at)),
            _ => None,
        });
        active.max().map(|(_, at)| at)
    }

    /// Waits until another node than this one is active; tells which, and how long it took.
    pub async fn another_active(&self, before: usize) -> (usize, Duration) {
        let begun = self.now();
        self.until("another node is active", || self.active().is_some_and(|at| at != before)).await;
        (self.active().unwrap(), self.now() - begun)
    }

    /// Lets time pass until something is so.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = self.now();
        while !is_so() {
            assert!(self.now() - begun < PATIENCE, "it never comes to this: {what}");
            self.pass(STEP).await;
        }
    }

    /// What the clock of every host says, from its start on.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        self.drive(self.clock.sleep(time)).await;
    }

    /// Drives a future to its end, letting time pass while nothing else can happen.
    pub async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let begun = self.now();
        loop {
            if let Some(done) = idle::until_idle(future.as_mut()).await {
                return done;
            }
            assert!(self.now() - begun < PATIENCE, "it never ends");
            self.clock.advance(self.step);
            self.hosts.iter().for_each(|host| host.stand.advance(self.step));
        }
    }

    /// Sends one HTTP request to a node, as it is. It is for the caller to let time pass.
    pub async fn send(&self, at: usize, request: http::Request<Full<Bytes>>) -> Answer {
        self.sending(at, request).await
    }

    /// The same as a future of its own, so that it goes on while nodes come and go.
    pub fn sending(
        &self,
        at: usize,
        request: http::Request<Full<Bytes>>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        self.sending_from(at, 40_000, request)
    }

    /// The same from a port of the client's.
    pub fn sending_from(
        &self,
        at: usize,
        port: u16,
        request: http::Request<Full<Bytes>>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let (service, stand) = (Arc::clone(&self.process(at).service), Arc::clone(&self.hosts[at].stand));
        async move { stand.served(&service, port, request).await }
    }

    /// Calls `path` (below `/v1/`, sent exactly as written) at a node, with a token (empty: none) and a JSON body (null: none),
    /// letting time pass until it is answered.
    pub async fn call(&self, at: usize, method: &str, path: &str, token: &str, body: Value) -> Answer {
        self.drive(self.send(at, assembly::request(method, path, token, &body))).await
    }

    /// A call by root at a node that must succeed.
    pub async fn prepare(&self, at: usize, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.call(at, method, path, ROOT, body).await;
        assert!(answer.status < 300, "{method} {path} at n{at}: {answer:?}");
        answer
    }
}
