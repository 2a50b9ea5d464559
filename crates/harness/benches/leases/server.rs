//! A node on a real disk, and a store around its store that fails as often as it is told to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_core::Node;
use tresor_core::cluster::Alone;
use tresor_crypto::shamir::Threshold;
use tresor_env::Doors;
use tresor_harness::{Answer, ROOT, assembly, leasing};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage::{Batch, Snapshot, Store, StoreError};
use tresor_storage_file::{FileStore, Limits};

/// Where the local audit log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuditKept {
    /// In memory: the disk has the store to itself.
    InMemory,
    /// On the same disk.
    OnDisk,
    /// On the same disk, and a file device follows it.
    WithDevice,
}

/// The durable store, of which so many calls of a hundred fail.
#[derive(Default)]
pub(crate) struct Faults {
    percent: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
}

struct Failing {
    inner: FileStore,
    faults: Arc<Faults>,
}

impl Faults {
    pub(crate) fn set(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// How many calls failed, and of how many.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.failed.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed))
    }

    fn strike(&self) -> Result<(), StoreError> {
        let percent = self.percent.load(Ordering::Relaxed);
        if percent == 0 {
            return Ok(());
        }
        // A sequence without a period that a caller could fall in step with.
        let at = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        if at % 100 >= percent {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Io { name: "double".into(), source: std::io::Error::other("the double fails") })
    }
}

impl Store for Failing {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.faults.strike()?;
        self.inner.snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.faults.strike()?;
        self.inner.apply(batch)
    }

    fn watch(&self, watcher: std::sync::Weak<dyn tresor_storage::Watcher>) {
        self.inner.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        self.inner.syncs()
    }
}

pub(crate) struct Server {
    doors: Doors,
    folder: PathBuf,
    audit: AuditKept,
    pub(crate) node: Arc<Node>,
    service: NodeService,
    pub(crate) faults: Arc<Faults>,
}

/// A time that no run reaches.
pub(crate) fn never() -> Instant {
    Instant::now() + Duration::from_secs(360_000)
}

/// Memory of this process.
pub(crate) fn resident_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// What files below a folder take.
fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

impl Server {
    /// A node that was never there before, and its one share.
    pub(crate) async fn initialize(folder: &Path, audit: AuditKept) -> (Self, Vec<u8>) {
        for part in ["store", "audit"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        let server = Self::open(&tresor_env_os::doors(), folder, audit).await;
        let root = TokenSecret::parse(ROOT).unwrap();
        let initialized = server.node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
        let share = initialized.shares.first().unwrap().expose().to_vec();
        server.unseal(&share).await;
        server.prepare("sys/mounts/made", json!({ "type": "leasing" })).await;
        server.prepare("sys/auth/userpass", json!({ "type": "userpass" })).await;
        // Hashed with the least cost that is taken, so that a login measures the server and not bcrypt.
        server.prepare("auth/userpass/users/somebody", json!({ "password": "correct horse" })).await;
        if audit == AuditKept::WithDevice {
            drop(server.audit_device("device").await);
        }
        (server, share)
    }

    async fn open(doors: &Doors, folder: &Path, audit: AuditKept) -> Self {
        let faults = Arc::<Faults>::default();
        // The store of a node that was just dropped is free when its last task has ended.
        let inner = loop {
            if let Ok(store) = FileStore::open(doors, &folder.join("store"), Limits::default()) {
                break store;
            }
            tokio::task::yield_now().await;
        };
        let mut settings = assembly::settings();
        settings.audit_directory = (audit != AuditKept::InMemory).then(|| folder.join("audit"));
        let mut registry = tresor_builtin::registry();
        registry.factories.push(leasing::FACTORY);
        let store = Arc::new(Failing { inner, faults: Arc::clone(&faults) });
        let node = Node::start(store, Arc::new(Alone::default()), doors.clone(), settings, registry).unwrap();
        let (doors, folder, service) = (doors.clone(), folder.to_owned(), NodeService::new(Arc::clone(&node)));
        Self { doors, folder, audit, service, node, faults }
    }

    /// Sealed and closed, then opened again.
    pub(crate) async fn reopened(self) -> Self {
        self.node.seal().await.unwrap();
        let Self { doors, folder, audit, node, service, .. } = self;
        drop((node, service));
        Self::open(&doors, &folder, audit).await
    }

    pub(crate) async fn unseal(&self, share: &[u8]) {
        self.node.enter_share(UnsealShare::new(share.to_vec())).await.unwrap();
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let peer_address = std::net::Ipv4Addr::LOCALHOST.into();
        let connection = Connection::plain(peer_address, 40_000);
        let request = assembly::request(method, path, token, &body);
        assembly::exchange(&self.service, &*self.doors.clock, connection, &Options::default(), request).await
    }

    /// Makes a file device; where it writes to.
    pub(crate) async fn audit_device(&self, name: &str) -> PathBuf {
        let path = self.folder.join(format!("{name}.log"));
        let body = json!({ "type": "file", "options": { "file_path": path } });
        self.prepare(&format!("sys/audit/{name}"), body).await;
        path
    }

    async fn prepare(&self, path: &str, body: Value) {
        let answer = self.call("POST", path, ROOT, body).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
    }

    pub(crate) async fn token(&self, by: &str, ttl: &str) -> String {
        let answer = self.call("POST", "auth/token/create", by, json!({ "ttl": ttl })).await.expect_status(200);
        answer.text_at("/auth/client_token")
    }

    /// A login with a password, and what is made of it.
    pub(crate) async fn login(&self) -> String {
        let body = json!({ "password": "correct horse" });
        let answer = self.call("POST", "auth/userpass/login/somebody", "", body).await.expect_status(200);
        answer.text_at("/auth/client_token")
    }

    /// A secret of a mount for a token, with its lease.
    pub(crate) async fn secret(&self, mount: &str, by: &str, ttl: &str) -> Answer {
        self.call("GET", &format!("{mount}/creds/role?ttl={ttl}"), by, Value::Null).await.expect_status(200)
    }

    /// How many tokens and leases are alive.
    pub(crate) async fn live(&self) -> u64 {
        let answer = self.call("GET", "sys/leases/count?type=live", ROOT, Value::Null).await;
        answer.at("/data/lease_count").as_u64().unwrap_or(u64::MAX)
    }

    /// What the store takes on the disk.
    pub(crate) fn store_bytes(&self) -> u64 {
        disk_bytes(&self.folder.join("store"))
    }
}
