//! A whole node in one process, on the doubles of the doors, behind its HTTP face: what wire tests call.
//!
//! A call goes through everything that a request to the real binary goes through, except sockets and TLS; time moves
//! only when a test says so. Deliberately absent: the real binary (its tests are in `crates/tresor`), crashes and
//! histories (`crates/sim`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot go on ends the test"
)]

mod answer;
pub mod assembly;
mod captured;
pub mod cluster;
pub mod counting;
pub mod kept;
pub mod leasing;
pub mod lending;
pub mod walk;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tresor_core::cluster::{Alone, Cluster};
use tresor_core::{Node, Settings};
use tresor_crypto::shamir::Threshold;
use tresor_env::Workers;
use tresor_env::doubles::TestDoors;
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_model::{Fault, Map, Messages};
use tresor_secret::UnsealShare;
use tresor_server::NodeService;
use tresor_storage::{Batch, MemoryStore, RawKey, Store};

pub use answer::Answer;
pub use captured::Captured;

/// The token that every harness is initialised with.
pub const ROOT: &str = "root-of-the-harness";
/// Where the file device of [`Harness::enable_audit`] writes, on the harness's own disk.
pub const AUDIT_FILE: &str = "/audit/file.log";
/// Where the local audit log lies, on the harness's own disk.
pub const AUDIT_LOG: &str = "/data/audit";
/// Shares and threshold of the harness.
const SHARES: (u8, u8) = (3, 2);
/// How often tasks are given their turn after time moved.
const TURNS: usize = 2_000;

/// A node, its doors, and what its operator knows.
pub struct Harness {
    /// The doubles that the node runs on.
    pub doors: TestDoors,
    /// What is stored, sealed.
    pub store: Arc<MemoryStore>,
    /// The node itself.
    pub node: Arc<Node>,
    service: NodeService,
    /// The cluster that the next node belongs to.
    cluster: Arc<dyn Cluster>,
    /// What the next node is configured with.
    pub settings: Settings,
    /// The unseal shares.
    pub shares: Vec<Vec<u8>>,
    /// Bounds of the HTTP face.
    pub options: Options,
    /// Where calls come from.
    pub peer: IpAddr,
}

impl Harness {
    /// An initialised and unsealed node.
    pub async fn start() -> Self {
        Self::start_with(assembly::settings()).await
    }

    /// The same, with a local audit log of so many bytes.
    pub async fn with_audit_backlog(bytes_max: u64) -> Self {
        let mut settings = assembly::settings();
        settings.audit_log.backlog_bytes_max = bytes_max;
        Self::start_with(settings).await
    }

    /// The same, of another cluster: other keys, another id.
    pub async fn of_another_cluster() -> Self {
        Self::uninitialized_on(TestDoors::new(2), assembly::settings()).initialized().await
    }

    /// An initialised and unsealed node that is configured like this.
    pub async fn start_with(settings: Settings) -> Self {
        Self::uninitialized_with(settings).initialized().await
    }

    async fn initialized(mut self) -> Self {
        self.initialize().await;
        self
    }

    /// Initialises and unseals the node.
    pub async fn initialize(&mut self) {
        self.shares = initialize(&self.node).await;
        self.unseal().await;
    }

    /// A node on an empty store.
    #[must_use]
    pub fn uninitialized() -> Self {
        Self::uninitialized_with(assembly::settings())
    }

    /// A node whose blocking work runs on these workers, initialised and unsealed.
    pub async fn start_on(workers: Arc<dyn Workers>) -> Self {
        let mut doors = TestDoors::new(1);
        doors.doors.workers = workers;
        Self::uninitialized_on(doors, assembly::settings()).initialized().await
    }

    /// The same, configured like this.
    #[must_use]
    pub fn uninitialized_with(settings: Settings) -> Self {
        Self::uninitialized_on(TestDoors::new(1), settings)
    }

    fn uninitialized_on(doors: TestDoors, settings: Settings) -> Self {
        Self::uninitialized_in(Arc::new(Alone::default()), doors, settings)
    }

    /// An initialised and unsealed node of this cluster.
    pub async fn start_in(cluster: Arc<dyn Cluster>) -> Self {
        Self::uninitialized_in(cluster, TestDoors::new(1), assembly::settings()).initialized().await
    }

    /// A node of this cluster on an empty store.
    #[must_use]
    pub fn uninitialized_in(cluster: Arc<dyn Cluster>, doors: TestDoors, settings: Settings) -> Self {
        let store = Arc::new(MemoryStore::new());
        let node = node(&cluster, &doors, &store, &settings);
        Self {
            service: NodeService::new(Arc::clone(&node)),
            doors,
            store,
            node,
            cluster,
            settings,
            shares: Vec::new(),
            options: Options::default(),
            peer: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Enters as many shares as are needed.
    pub async fn unseal(&self) {
        for share in self.shares.iter().take(usize::from(SHARES.1)) {
            self.node.enter_share(UnsealShare::new(share.clone())).await.unwrap();
        }
    }

    /// Damages the one record that was written since `before` was stored, as a disk might.
    pub fn damage_since(&self, before: &[(RawKey, Vec<u8>)]) {
        let stored = self.store.dump();
        let is_record = |key: &RawKey| key.as_bytes().first() == Some(&1);
        let mut changed = stored.iter().filter(|entry| is_record(&entry.0) && !before.contains(entry));
        let (key, _) = changed.next().expect("a record was written");
        assert!(changed.next().is_none(), "one record was written");
        let version = self.store.snapshot().unwrap().version().next();
        self.store.apply(Batch::new(version, [(key.clone(), Some(vec![7; 90]))].into())).unwrap();
    }

    /// Another process on the same store: sealed until shares are entered.
    pub async fn restart(&mut self) {
        self.node.seal().await.unwrap();
        self.begin();
    }

    /// The same after the process was killed: it writes nothing more, and was told nothing before.
    pub fn kill(&mut self) {
        self.doors.disk.kill_process();
        self.begin();
    }

    /// Another process on the same store, of a release that does not know this type of mount; unsealed.
    pub async fn restart_without(&mut self, unknown: &str) {
        self.node.seal().await.unwrap();
        let (cluster, store): (_, Arc<MemoryStore>) = (Arc::clone(&self.cluster), Arc::clone(&self.store));
        let settings = self.settings.clone();
        self.node = assembly::node_without(unknown, cluster, &self.doors.doors, store, settings).unwrap();
        self.service = NodeService::new(Arc::clone(&self.node));
        self.unseal().await;
    }

    fn begin(&mut self) {
        self.node = node(&self.cluster, &self.doors, &self.store, &self.settings);
        self.service = NodeService::new(Arc::clone(&self.node));
    }

    /// Lets time pass, and every task that waited for it do its work.
    pub async fn advance(&self, duration: Duration) {
        self.settle().await;
        self.doors.clock.advance(duration);
        self.settle().await;
    }

    /// Lets every task do what it can do now.
    pub async fn settle(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Sends one HTTP request as it is.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> Answer {
        let connection = Connection::plain(self.peer, 40_000);
        let clock = Arc::clone(&self.doors.doors.clock);
        assembly::exchange(&self.service, &*clock, connection, &self.options, request).await
    }

    /// Calls `path` (below `/v1/`, sent exactly as written) with a token (empty: none) and a JSON body (null: none).
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        self.send(assembly::request(method, path, token, &body)).await
    }

    /// A GET.
    pub async fn read(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, Value::Null).await
    }

    /// A POST.
    pub async fn write(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("POST", path, token, body).await
    }

    /// A LIST.
    pub async fn list(&self, path: &str, token: &str) -> Answer {
        self.call("LIST", path, token, Value::Null).await
    }

    /// Listens to events of these types: who tells them, as they are told to a client whose connection takes them.
    ///
    /// # Errors
    /// What the client is answered instead.
    pub async fn listen(
        &self,
        namespace: &str,
        kinds: &str,
        query: Map,
        token: &str,
    ) -> Result<Box<dyn Messages>, Fault> {
        assembly::listen(&self.node, namespace, kinds, query, token).await
    }

    /// A DELETE.
    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call("DELETE", path, token, Value::Null).await
    }

    /// A call by root that must succeed, as preparation.
    pub async fn prepare(&self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.call(method, path, ROOT, body).await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    }

    /// A token with exactly this policy and not `default`; `T{…}` of the security bank.
    pub async fn token_with(&self, policy: &str) -> String {
        // Policies are named by their text, so that the same one is written once.
        let name = format!("p{:016x}", fingerprint(policy));
        self.prepare("POST", &format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        self.token(json!({ "policies": [name], "no_default_policy": true, "ttl": "1h" })).await
    }

    /// A token made by root with these parameters.
    pub async fn token(&self, parameters: Value) -> String {
        let answer = self.prepare("POST", "auth/token/create", parameters).await;
        answer.text_at("/auth/client_token")
    }

    /// Enables a file device at `file/`.
    pub async fn enable_audit(&self) {
        self.prepare("PUT", "sys/audit/file", json!({ "type": "file", "options": { "file_path": AUDIT_FILE } })).await;
    }

    /// What the file device has written so far.
    pub async fn audit_text(&self) -> String {
        self.settle().await;
        let files = self.doors.disk.dump();
        String::from_utf8(files.get(Path::new(AUDIT_FILE)).cloned().unwrap_or_default()).unwrap()
    }

    /// The records of the file device.
    pub async fn audit_records(&self) -> Vec<Value> {
        let text = self.audit_text().await;
        text.lines().map(|line| serde_json::from_str(line).expect("an audit line is JSON")).collect()
    }
}

fn node(cluster: &Arc<dyn Cluster>, doors: &TestDoors, store: &Arc<MemoryStore>, settings: &Settings) -> Arc<Node> {
    let store: Arc<MemoryStore> = Arc::clone(store);
    assembly::node_in(Arc::clone(cluster), &doors.doors, store, settings.clone()).unwrap()
}

/// Initialises a node's store; gives the shares.
async fn initialize(node: &Node) -> Vec<Vec<u8>> {
    let threshold = Threshold::new(SHARES.0, SHARES.1).unwrap();
    let root = tresor_secret::TokenSecret::parse(ROOT).unwrap();
    let initialized = node.initialize(threshold, Some(root)).await.unwrap();
    initialized.shares.iter().map(|share| share.expose().to_vec()).collect()
}

/// FNV-1a.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
