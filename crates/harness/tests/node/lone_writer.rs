//! What a write costs a whole node on the durable store when nobody else writes: one sync, and nothing else that waits for the
//! disk. What tidies up waits for the disk besides, and nobody waits for that.
//!
//! Deliberately absent: many writers, who share syncs (`cluster.rs`, and the barrier's own tests).
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tresor_crypto::shamir::Threshold;
use tresor_env::BoxFuture;
use tresor_env::doubles::{MemoryDisk, TestDoors};
use tresor_env::tasks::{NotComputed, WorkerPanicked, Workers};
use tresor_harness::{Answer, ROOT, assembly};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage::Store;
use tresor_storage_file::{FileStore, Limits};

/// Workers that count the syncs of what tidies up, which nobody waits for.
struct Apart {
    workers: Arc<dyn Workers>,
    disk: Arc<MemoryDisk>,
    syncs: Arc<AtomicU64>,
}

impl Workers for Apart {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        self.workers.run(work)
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        self.workers.compute(work)
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        let (disk, syncs) = (Arc::clone(&self.disk), Arc::clone(&self.syncs));
        self.workers.tidy_up(Box::new(move || {
            let before = disk.syncs();
            work();
            syncs.fetch_add(disk.syncs() - before, Ordering::Relaxed);
        }));
    }
}

#[tokio::test]
async fn a_lone_writer_takes_one_sync_for_each_write() {
    let (mut doors, apart) = (TestDoors::new(1), Arc::<AtomicU64>::default());
    let (workers, disk) = (Arc::clone(&doors.doors.workers), Arc::clone(&doors.disk));
    doors.doors.workers = Arc::new(Apart { workers, disk, syncs: Arc::clone(&apart) });
    let store = Arc::new(FileStore::open(&doors.doors, Path::new("/data/store"), Limits::default()).unwrap());
    let shared: Arc<FileStore> = Arc::clone(&store);
    let node = assembly::node(&doors.doors, shared).unwrap();
    let root = TokenSecret::parse(ROOT).unwrap();
    let initialized = node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
    let share = initialized.shares.first().unwrap().expose().to_vec();
    node.enter_share(UnsealShare::new(share)).await.unwrap();
    let service = NodeService::new(Arc::clone(&node));
    let call = async |method: &str, path: &str, body: Value| -> Answer {
        let (connection, options) = (Connection::plain(Ipv4Addr::LOCALHOST.into(), 40_000), Options::default());
        let request = assembly::request(method, path, ROOT, &body);
        assembly::exchange(&service, &*doors.doors.clock, connection, &options, request).await
    };
    for (mount, version) in [("kv", "1"), ("kv2", "2")] {
        let (path, wish) = (format!("sys/mounts/{mount}"), json!({ "type": "kv", "options": { "version": version } }));
        drop(call("POST", &path, wish).await.expect_status(204));
    }
    // What follows from preparing it has its turn.
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    let syncs = || (store.syncs(), doors.disk.syncs() - apart.load(Ordering::Relaxed));
    for at in 0..100 {
        for (method, path, body) in [
            ("POST", format!("kv/{at}"), json!({ "x": "1" })),
            ("POST", format!("kv/{at}"), json!({ "x": "2" })),
            ("DELETE", format!("kv/{at}"), Value::Null),
            ("POST", format!("kv2/data/{at}"), json!({ "data": { "x": "1" } })),
            ("POST", "auth/token/create".to_owned(), json!({ "ttl": "1h" })),
            ("PUT", format!("sys/policies/acl/p{at}"), json!({ "policy": "path \"x\" { capabilities = [\"read\"] }" })),
        ] {
            let before = syncs();
            assert!(call(method, &path, body).await.status < 300, "{method} {path}");
            assert_eq!(syncs(), (before.0 + 1, before.1 + 1), "{method} {path}: one sync, and it is the store's");
        }
        let before = syncs();
        drop(call("GET", &format!("kv2/data/{at}"), Value::Null).await.expect_status(200));
        assert_eq!(syncs(), before, "a read waits for no disk");
    }
}
