//! A node on a durable store of which something is not what was written: what a client and an operator see of it, and what they
//! can do. That it is found, whatever it is, is tested in `crates/storage-file`; nodes of a cluster in the binary's tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Node;
use tresor_crypto::shamir::Threshold;
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, ROOT, assembly};
use tresor_http::Options;
use tresor_model::Fault;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage_file::{FileStore, Limits, Sizes};

const DIRECTORY: &str = "/store";
/// Everything goes to the index at once, and it keeps its name.
const LIMITS: Limits = Limits {
    segments: Sizes { first: 64 * 1024, max: 4 * 1024 * 1024 },
    generation_bytes: 1,
    generation_bytes_min: 1,
    frozen_max: 3,
    beside_bytes: 128,
    cache_bytes: 64 * 1024,
    rebuild_bytes_min: u64::MAX,
    rebuild_step_bytes: 64 * 1024,
    reserve_bytes: 1,
};

type Files = BTreeMap<PathBuf, Vec<u8>>;

struct Server {
    doors: TestDoors,
    node: Arc<Node>,
    service: NodeService,
}

impl Server {
    fn open(doors: TestDoors) -> Option<Self> {
        let store = FileStore::open(&doors.doors, Path::new(DIRECTORY), LIMITS).ok()?;
        let node = assembly::node(&doors.doors, Arc::new(store)).ok()?;
        Some(Self { service: NodeService::new(Arc::clone(&node)), doors, node })
    }

    /// A server that was initialised, and what opens it.
    async fn start() -> (Self, Vec<u8>) {
        let server = Self::open(TestDoors::new(1)).unwrap();
        let root = TokenSecret::parse(ROOT).unwrap();
        let initialized = server.node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
        let share = initialized.shares.first().unwrap().expose().to_vec();
        server.unseal(&share).await.unwrap();
        (server, share)
    }

    /// Another process on the files of one that ended.
    async fn on(files: &Files, share: &[u8]) -> Option<Self> {
        let doors = TestDoors::new(2);
        for (path, bytes) in files {
            doors.disk.open(path, Open::New).unwrap().write_all_at(0, bytes).unwrap();
        }
        let server = Self::open(doors)?;
        server.unseal(share).await.ok()?;
        Some(server)
    }

    async fn unseal(&self, share: &[u8]) -> Result<(), Fault> {
        self.node.enter_share(UnsealShare::new(share.to_vec())).await.map(drop)
    }

    /// Ends it; its files.
    async fn end(self) -> Files {
        self.node.seal().await.unwrap();
        let Self { doors, node, service } = self;
        drop((node, service));
        doors.disk.dump()
    }

    /// Ends it, with a bit changed where it writes values last while `path` is written.
    async fn end_with_damage(self, path: &str, body: Value) -> Files {
        let before = self.doors.disk.dump();
        assert!(self.call("POST", path, body).await.status < 300);
        let mut files = self.end().await;
        let is_longer = |path: &PathBuf, bytes: &[u8]| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("values-") && bytes.len() > before.get(path).map_or(0, Vec::len)
        };
        let (path, bytes) = files.iter_mut().find(|(path, bytes)| is_longer(path, bytes)).unwrap();
        let from = before.get(path).map_or(0, Vec::len);
        let at = usize::midpoint(from, bytes.len());
        bytes[at] ^= 4;
        files
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let connection = Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 40_000);
        let request = assembly::request(method, path, ROOT, &body);
        let clock = Arc::clone(&self.doors.doors.clock);
        assembly::exchange(&self.service, &*clock, connection, &Options::default(), request).await
    }

    async fn status(&self, path: &str) -> u16 {
        self.call("GET", path, Value::Null).await.status
    }

    /// What `sys/health` says of the store, and the word for it in `sys/storage-status`.
    async fn storage(&self) -> (String, String) {
        let health = self.call("GET", "sys/health", Value::Null).await.expect_status(200);
        let status = self.call("GET", "sys/storage-status", Value::Null).await.expect_status(200);
        (health.at("/storage").as_str().unwrap_or_default().to_owned(), status.text_at("/data/condition"))
    }

    /// Whether health names where a value is damaged, without saying where the store lies.
    async fn is_impaired(&self) -> bool {
        let (text, condition) = self.storage().await;
        assert!(!text.contains(DIRECTORY), "{text}");
        let is_named =
            text.starts_with("cannot read a value that is damaged, `values-0000") && text.contains("` at offset ");
        assert_eq!(is_named, condition == "impaired", "{text}: {condition}");
        is_named
    }
}

fn large(mark: &str) -> Value {
    json!({ "x": mark.repeat(20_000) })
}

#[tokio::test]
async fn a_value_that_is_damaged_is_refused_alone_and_mended_by_writing_or_deleting_it() {
    let (server, share) = Server::start().await;
    drop(server.call("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(server.call("POST", "kv/other", large("o")).await.expect_status(204));
    let mut files = server.end_with_damage("kv/a", large("a")).await;
    for mending in ["POST", "DELETE"] {
        let server = Server::on(&files, &share).await.unwrap();
        assert_eq!((server.status("kv/a").await, server.is_impaired().await), (500, true));
        let told = server.call("GET", "sys/storage-status", Value::Null).await.text_at("/data/damage");
        assert!(told.starts_with("`/store/values-0000") && told.contains("a value is not what was written"), "{told}");
        // All else goes on, writing too.
        assert_eq!(server.status("kv/other").await, 200);
        drop(server.call("POST", "kv/more", large("m")).await.expect_status(204));
        assert_eq!((server.status("kv/more").await, server.is_impaired().await), (200, true));

        let body = if mending == "POST" { large("b") } else { Value::Null };
        drop(server.call(mending, "kv/a", body).await.expect_status(204));
        assert!(!server.is_impaired().await, "{mending}");
        assert_eq!(server.status("kv/a").await, if mending == "POST" { 200 } else { 404 });
        // Nor does whoever comes next find anything.
        let server = Server::on(&server.end().await, &share).await.unwrap();
        for _ in 0..60 {
            server.doors.clock.advance(Duration::from_secs(1));
            assert!(!server.is_impaired().await, "{mending}");
        }
        assert!(server.call("GET", "sys/storage-status", Value::Null).await.at("/data/scrubs").as_u64() > Some(0));
        files = server.end_with_damage("kv/a", large("c")).await;
    }
}

#[tokio::test]
async fn after_a_start_the_scrub_finds_what_is_damaged_before_anybody_reads_it() {
    let (server, share) = Server::start().await;
    drop(server.call("POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await.expect_status(204));
    let files = server.end_with_damage("kv/data/a", json!({ "data": large("a") })).await;
    let server = Server::on(&files, &share).await.unwrap();
    let mut seconds = 0;
    while !server.is_impaired().await {
        server.doors.clock.advance(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 60, "it is never found");
    }
    // Another version is none of its business, and destroying this one takes it away.
    drop(server.call("POST", "kv/data/a", json!({ "data": large("b") })).await.expect_status(200));
    assert_eq!((server.status("kv/data/a?version=1").await, server.status("kv/data/a").await), (500, 200));
    assert!(server.is_impaired().await);
    drop(server.call("POST", "kv/destroy/a", json!({ "versions": [1] })).await.expect_status(204));
    assert!(!server.is_impaired().await);
    assert_eq!((server.status("kv/data/a?version=1").await, server.status("kv/data/a").await), (404, 200));
}

#[tokio::test]
async fn while_a_page_of_the_index_is_damaged_writes_are_answered_503_and_reads_go_on() {
    let (server, share) = Server::start().await;
    drop(server.call("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await.expect_status(204));
    let names: Vec<String> = (0..400).map(|number| format!("kv/{number}")).collect();
    for name in &names {
        drop(server.call("POST", name, json!({ "x": 1 })).await.expect_status(204));
    }
    let files = server.end().await;
    let is_index = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("index-");
    let index = files.keys().find(is_index).unwrap().clone();
    let pages = files[&index].len() / 4096;
    // Most pages are free, or needed to open it.
    for page in (0..pages).rev() {
        let mut files = files.clone();
        files.get_mut(&index).unwrap()[page * 4096 + 100] ^= 1;
        let Some(server) = Server::on(&files, &share).await else { continue };
        let mut found = BTreeMap::<u16, u32>::new();
        for name in &names {
            *found.entry(server.status(name).await).or_default() += 1;
        }
        if !found.contains_key(&500) {
            continue;
        }
        assert!(found.len() == 2 && found[&200] > 0, "page {page}: {found:?}");
        let (text, condition) = server.storage().await;
        assert_eq!(condition, "damaged");
        assert!(text.starts_with("is read-only: a page of its index is damaged, `index-0000"), "{text}");
        let refused = server.call("POST", "kv/more", json!({ "x": 1 })).await;
        refused.expect_error(503, "storage is read-only: a part of it is damaged, and the server's log says which");
        return;
    }
    panic!("no page of {pages} is one that was read");
}
