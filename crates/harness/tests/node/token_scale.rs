//! What tokens cost, counted: records read and written, whatever the number of tokens and the depth of the tree; and
//! what a revocation does to everything below.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Node;
use tresor_crypto::shamir::Threshold;
use tresor_env::doubles::TestDoors;
use tresor_harness::counting::Counting;
use tresor_harness::{Answer, ROOT, assembly};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage::{Batch, RawKey, Store};

/// A node on such a store.
struct Server {
    doors: TestDoors,
    store: Arc<Counting>,
    node: Arc<Node>,
    service: NodeService,
    share: Vec<u8>,
}

impl Server {
    async fn start() -> Self {
        let (doors, store) = (TestDoors::new(1), Counting::new());
        let node = assembly::node(&doors.doors, store.clone()).unwrap();
        let root = TokenSecret::parse(ROOT).unwrap();
        let initialized = node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
        let share = initialized.shares.first().unwrap().expose().to_vec();
        let server = Self { service: NodeService::new(Arc::clone(&node)), doors, store, node, share };
        server.unseal().await;
        server
    }

    /// One with so many leases of the mount `made/`, and how many were alive before.
    async fn with_leases(count: usize, ttl: &str) -> (Self, u64) {
        let server = Self::start().await;
        drop(server.call("POST", "sys/mounts/made", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
        server.settle().await;
        let (live, path) = (server.live().await, format!("made/creds/role?ttl={ttl}"));
        for _ in 0..count {
            drop(server.call("GET", &path, ROOT, Value::Null).await.expect_status(200));
        }
        (server, live)
    }

    async fn unseal(&self) {
        self.node.enter_share(UnsealShare::new(self.share.clone())).await.unwrap();
    }

    /// Another process on the same store: nothing is in memory.
    async fn restart(&mut self) {
        self.node.seal().await.unwrap();
        self.node = assembly::node(&self.doors.doors, self.store.clone()).unwrap();
        self.service = NodeService::new(Arc::clone(&self.node));
        self.unseal().await;
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let peer_address = std::net::Ipv4Addr::LOCALHOST.into();
        let connection = Connection::plain(peer_address, 40_000);
        let clock = Arc::clone(&self.doors.doors.clock);
        let request = assembly::request(method, path, token, &body);
        assembly::exchange(&self.service, &*clock, connection, &Options::default(), request).await
    }

    async fn create(&self, by: &str, parameters: Value) -> String {
        let answer = self.call("POST", "auth/token/create", by, parameters).await.expect_status(200);
        answer.text_at("/auth/client_token")
    }

    /// So many children of a token, made side by side.
    async fn family(&self, parent: &str, children: usize) -> Vec<String> {
        let mut made = Vec::new();
        while made.len() < children {
            let some = (children - made.len()).min(200);
            made.extend(
                futures_util::future::join_all((0..some).map(|_| self.create(parent, json!({ "ttl": "1h" })))).await,
            );
        }
        made
    }

    async fn is_alive(&self, token: &str) -> bool {
        self.call("GET", "auth/token/lookup-self", token, Value::Null).await.status == 200
    }

    async fn settle(&self) {
        for _ in 0..3_000 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, seconds: u64) {
        self.doors.clock.advance(Duration::from_secs(seconds));
        self.settle().await;
    }

    async fn live(&self) -> u64 {
        let answer = self.call("GET", "sys/leases/count?type=live", ROOT, Value::Null).await.expect_status(200);
        answer.at("/data/lease_count").as_u64().unwrap()
    }

    /// How many records are read and written for as many tokens, one after the other, as fill a block.
    async fn cost_of_tokens(&self) -> (u64, u64) {
        self.cost_of(|| async { drop(self.create(ROOT, json!({ "ttl": "1h" })).await) }).await
    }

    /// The same for fifty secrets with leases.
    async fn cost_of_secrets(&self) -> (u64, u64) {
        let one = || async {
            drop(self.call("GET", "made/creds/role?ttl=2h", ROOT, Value::Null).await.expect_status(200));
        };
        self.cost_of(one).await
    }

    async fn cost_of<F: Future<Output = ()>>(&self, one: impl Fn() -> F) -> (u64, u64) {
        // Every block on the way is read once, and the count begins with a second, as a bucket of the index does.
        for _ in 0..10 {
            one().await;
        }
        let into_second = u64::try_from(self.node.now().nanos().rem_euclid(1_000_000_000)).unwrap();
        self.doors.clock.advance(Duration::from_nanos(1_000_000_000 - into_second));
        self.settle().await;
        let before = (self.store.reads(), self.store.writes.load(Ordering::Relaxed));
        for _ in 0..96 {
            // Names of one millisecond would be in no order.
            self.doors.clock.advance(Duration::from_millis(1));
            one().await;
        }
        (self.store.reads() - before.0, self.store.writes.load(Ordering::Relaxed) - before.1)
    }

    /// How many records are read from the store meanwhile.
    async fn reads_of(&self, work: impl Future<Output = ()>) -> u64 {
        self.settle().await;
        let before = self.store.reads();
        work.await;
        self.store.reads() - before
    }
}

#[tokio::test]
async fn opening_and_checking_read_the_same_however_many_tokens_there_are() {
    let mut server = Server::start().await;
    drop(server.call("POST", "sys/mounts/made", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
    let (mut counted, mut made) = (Vec::new(), Vec::new());
    for more in [1_000, 49_000] {
        for _ in 0..more / 10 {
            drop(server.call("GET", "made/creds/role?ttl=2h", ROOT, Value::Null).await.expect_status(200));
        }
        let token = server.family(ROOT, more).await.pop().unwrap();
        server.node.seal().await.unwrap();
        server.settle().await;
        let before = server.store.reads();
        server.restart().await;
        let opening = server.store.reads() - before;
        let first_check = server.reads_of(async { assert!(server.is_alive(&token).await) }).await;
        counted.push((opening, first_check));
        made.push((server.cost_of_tokens().await, server.cost_of_secrets().await));
    }
    // What 96 creations fill is one block of each of their four directories: where it began decides whether there is one
    // split more, of at most three blocks; a directory may be a level deeper. What grew with each token would be 96.
    const SPLITS: u64 = 4 * 3;
    for (few, many) in made.first().iter().zip(made.last()) {
        for (few, many) in [(few.0, many.0), (few.1, many.1)] {
            let is_same = few.0.abs_diff(many.0) <= SPLITS && few.1.abs_diff(many.1) <= SPLITS;
            assert!(is_same, "records read and written for 96 tokens, and for 96 secrets: {made:?}");
        }
    }
    let (few, many) = (counted.first().unwrap(), counted.last().unwrap());
    // The index may be one level deeper; beyond that, nothing knows how many tokens there are.
    assert!(many.0 <= few.0 + 4, "records read at opening: {counted:?}");
    assert_eq!(many.1, few.1, "records read by a check: {counted:?}");
}

#[tokio::test]
async fn a_listing_reads_blocks_of_names_and_no_token_when_nothing_waits_to_be_collected() {
    let server = Server::start().await;
    drop(server.family(ROOT, 2_000).await);
    server.settle().await;
    for path in ["auth/token/accessors", "sys/leases/lookup/auth/token/create"] {
        let reads = server.reads_of(async {
            let listed = server.call("LIST", path, ROOT, Value::Null).await.expect_status(200);
            assert!(listed.at("/data/keys").as_array().is_some_and(|names| names.len() >= 2_000), "{listed:?}");
        });
        // Blocks are half full at least, but for the last; each page asks what waits.
        let reads = reads.await;
        assert!(reads < 200, "{path}: {reads} records read for 2,000 names");
    }
}

#[tokio::test]
async fn a_check_reads_one_record_at_any_depth_and_deeper_trees_are_refused() {
    let mut server = Server::start().await;
    let mut line = vec![server.create(ROOT, json!({ "ttl": "10h" })).await];
    while line.len() < tresor_core::tokens::DEPTH_MAX {
        line.push(server.create(line.last().unwrap(), json!({ "ttl": "10h" })).await);
    }
    let refused = server.call("POST", "auth/token/create", line.last().unwrap(), json!({ "ttl": "1h" })).await;
    refused.expect_error(400, "too many ancestors");
    let mut reads = Vec::new();
    for token in [line.first().unwrap(), line.last().unwrap()] {
        server.restart().await;
        server.pass(1).await;
        reads.push(server.reads_of(async { assert!(server.is_alive(token).await) }).await);
    }
    assert_eq!(reads.first(), reads.last(), "records read for a token of depth 1, and of depth 64");
}

#[tokio::test]
async fn a_batch_token_is_made_without_a_write_and_checked_without_a_read() {
    let mut server = Server::start().await;
    let parent = server.create(ROOT, json!({ "ttl": "10h", "policies": "root" })).await;
    let batch = |no_parent| json!({ "type": "batch", "policies": "default", "ttl": "1h", "no_parent": no_parent });
    drop(server.create(&parent, batch(true)).await);
    server.settle().await;
    let before = server.store.writes.load(Ordering::Relaxed);
    let (orphan, child) = (server.create(&parent, batch(true)).await, server.create(&parent, batch(false)).await);
    assert_eq!(server.store.writes.load(Ordering::Relaxed), before);
    server.restart().await;
    server.pass(1).await;
    let reads = server.reads_of(async { assert!(server.is_alive(&orphan).await) }).await;
    assert_eq!(reads, 0, "records read for an orphan");
    let reads = server.reads_of(async { assert!(server.is_alive(&child).await) }).await;
    assert_eq!(reads, 1, "records read for one that lives while its parent does");
}

#[tokio::test]
async fn a_token_writes_as_many_records_as_the_one_before_it() {
    let server = Server::start().await;
    let mut written = Vec::new();
    for _ in 0..2 {
        drop(server.family(ROOT, 1_000).await);
        server.settle().await;
        let before = server.store.writes.load(Ordering::Relaxed);
        for _ in 0..50 {
            drop(server.create(ROOT, json!({ "ttl": "1h" })).await);
        }
        written.push((server.store.writes.load(Ordering::Relaxed) - before) / 50);
    }
    assert_eq!(written.first(), written.last(), "records written for one token");
    // Itself; a block for its handle, its edge, its end and its lease id; the tallies of all, of its mount and of what is
    // below its parent; and what a second that begins adds to the index of ends.
    assert!(written.iter().all(|records| *records <= 9), "{written:?}");
}

#[tokio::test]
async fn one_mark_revokes_everything_below_at_once_and_collecting_leaves_nothing() {
    let server = Server::start().await;
    server.settle().await;
    let (before, live) = (server.store.inner.dump().len(), server.live().await);
    let top = server.create(ROOT, json!({ "ttl": "10h" })).await;
    let middle = server.create(&top, json!({ "ttl": "10h" })).await;
    let below = server.family(&middle, 1_500).await;
    assert_eq!(server.live().await, live + 1_502);
    server.settle().await;
    let written = server.store.writes.load(Ordering::Relaxed);
    drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": top })).await.expect_status(204));
    let written = server.store.writes.load(Ordering::Relaxed) - written;
    // The token, its handle and edge and end with their blocks, the counts, the mark: nothing of its descendants.
    assert!(written <= 24, "{written} records for a revocation");
    for token in below.iter().step_by(300).chain([&middle, &top]) {
        assert!(!server.is_alive(token).await);
    }
    assert_eq!(server.live().await, live);
    let listed = server.call("LIST", "auth/token/accessors", ROOT, Value::Null).await;
    assert_eq!(listed.at("/data/keys").as_array().unwrap().len(), 1);
    for _ in 0..40 {
        server.pass(1).await;
    }
    assert_eq!((server.store.inner.dump().len(), server.live().await), (before, live));
    assert!(server.node.stale_caches().unwrap().is_empty());
}

#[tokio::test]
async fn cutting_an_edge_writes_one_mark_and_what_is_below_forgets_its_ancestors() {
    let mut server = Server::start().await;
    server.settle().await;
    let (before, live) = (server.store.inner.dump().len(), server.live().await);
    let top = server.create(ROOT, json!({ "ttl": "10h" })).await;
    let middle = server.create(&top, json!({ "ttl": "10h" })).await;
    let below = server.family(&middle, 400).await;
    let mut deep = vec![below.first().unwrap().clone()];
    for _ in 0..5 {
        deep.push(server.create(deep.last().unwrap(), json!({ "ttl": "1h" })).await);
    }
    drop(server.call("POST", "auth/token/revoke-orphan", ROOT, json!({ "token": middle })).await.expect_status(204));
    // Revoking what was above concerns nobody below any more, collected or not, before and after a restart.
    drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": top })).await.expect_status(204));
    for round in 0..3 {
        for token in below.iter().step_by(100).chain(&deep) {
            assert!(server.is_alive(token).await, "round {round}");
        }
        assert_eq!(server.live().await, live + 405, "round {round}");
        for _ in 0..20 {
            server.pass(1).await;
        }
        server.restart().await;
    }
    let shown = server.call("GET", "auth/token/lookup-self", below.first().unwrap(), Value::Null).await;
    assert_eq!(shown.at("/data/orphan"), &json!(true));
    for token in &below {
        drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));
    }
    for token in &deep {
        assert!(!server.is_alive(token).await);
    }
    for _ in 0..20 {
        server.pass(1).await;
    }
    assert_eq!((server.store.inner.dump().len(), server.live().await), (before, live));
}

#[tokio::test]
async fn an_ancestor_that_ends_by_itself_takes_everything_with_it_before_anybody_comes_by() {
    let mut server = Server::start().await;
    let parent = server.create(ROOT, json!({ "ttl": "60s" })).await;
    let child = server.create(&parent, json!({ "ttl": "10h" })).await;
    let renewed = server.create(ROOT, json!({ "ttl": "60s" })).await;
    let other = server.create(&renewed, json!({ "ttl": "10h" })).await;
    server.pass(57).await;
    drop(server.call("POST", "auth/token/renew-self", &renewed, json!({ "increment": "1h" })).await.expect_status(200));
    assert!(server.is_alive(&child).await);
    // No task has its turn between the end and the request.
    server.doors.clock.advance(Duration::from_secs(4));
    assert!(!server.is_alive(&child).await && server.is_alive(&other).await);
    server.restart().await;
    assert!(!server.is_alive(&child).await && server.is_alive(&other).await);
}

#[tokio::test]
async fn a_store_that_fails_often_loses_nothing_revokes_nothing_twice_and_seals_nothing() {
    let (server, live) = Server::with_leases(150, "30s").await;
    let tokens = server.family(ROOT, 600).await;
    for token in tokens.iter().step_by(3) {
        drop(server.create(token, json!({ "ttl": "1h" })).await);
    }
    assert_eq!(server.live().await, live + 150 + 600 + 200);
    server.store.failing.store(30, Ordering::Relaxed);
    server.doors.clock.advance(Duration::from_secs(3601));
    for _ in 0..200 {
        server.pass(2).await;
        assert!(!server.node.standing().is_ok_and(|standing| standing.sealed), "a store that fails seals no node");
    }
    server.store.failing.store(0, Ordering::Relaxed);
    let (failed, calls) = (server.store.failed.load(Ordering::Relaxed), server.store.calls.load(Ordering::Relaxed));
    assert!(failed > 100 && calls > failed, "{failed} of {calls} calls failed");
    for _ in 0..10 {
        server.pass(2).await;
    }
    assert_eq!(server.live().await, live, "everything has ended");
    let revoked = server.call("GET", "made/revoked", ROOT, Value::Null).await.expect_status(200);
    let times: Vec<u64> = revoked.at("/data").as_object().unwrap().values().filter_map(Value::as_u64).collect();
    assert_eq!(times, vec![1; 150], "each was taken back once");
    let irrevocable = server.call("GET", "sys/leases/count?type=irrevocable", ROOT, Value::Null).await;
    assert_eq!(irrevocable.at("/data/lease_count"), &json!(0), "a failing store is no failing engine");
    assert!(server.node.stale_caches().unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_fails_often_makes_collecting_slower_by_a_bounded_factor() {
    let (server, live) = Server::with_leases(600, "1h").await;
    drop(server.family(ROOT, 600).await);
    let calls = || server.store.calls.load(Ordering::Relaxed);
    let before = calls();
    server.store.failing.store(30, Ordering::Relaxed);
    server.doors.clock.advance(Duration::from_secs(3601));
    // Three seconds, of which the first is beside the requests from before.
    for _ in 0..1_500 {
        server.doors.clock.advance(Duration::from_millis(2));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    let taken = calls() - before;
    server.store.failing.store(0, Ordering::Relaxed);
    let sums = server.call("GET", "made/sums", ROOT, Value::Null).await.expect_status(200);
    let left = (server.live().await - live, sums.at("/data/any_left").as_bool());
    assert_eq!(left, (0, Some(false)), "left after {taken} calls; taken back: {}", sums.at("/data/revoked"));
    // Two for each without failures.
    assert!(taken < 12 * 1_200, "{taken} calls for 1200 things");
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_stands_in_nobodys_way() {
    let server = Server::start().await;
    server.settle().await;
    let before = server.store.inner.dump();
    let damaged = server.create(ROOT, json!({ "ttl": "30s" })).await;
    let after = server.store.inner.dump();
    let sound = server.create(ROOT, json!({ "ttl": "30s" })).await;
    // The token's own record lies under a key of its own kind.
    let is_new = |key: &RawKey| !before.iter().any(|(known, _)| known == key);
    let (key, _) = after.iter().find(|(key, _)| is_new(key) && key.as_bytes().first() == Some(&5)).unwrap();
    let version = server.store.inner.snapshot().unwrap().version().next();
    let writes = std::collections::BTreeMap::from([(key.clone(), Some(vec![7; 90]))]);
    server.store.inner.apply(Batch::new(version, writes)).unwrap();
    drop(damaged);
    let mut server = server;
    server.restart().await;
    for _ in 0..4 {
        server.pass(15).await;
    }
    assert!(!server.is_alive(&sound).await);
    let listed = server.call("LIST", "auth/token/accessors", ROOT, Value::Null).await;
    let stats = server.call("GET", "sys/leases/count?type=damaged", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(stats.at("/data/lease_count"), &json!(1), "{listed:?}");
}

/// Damages the one directory block that was made between two dumps.
fn damage_block(server: &Server, before: &[(RawKey, Vec<u8>)], after: &[(RawKey, Vec<u8>)]) {
    let is_new = |key: &RawKey| !before.iter().any(|(known, _)| known == key);
    let blocks: Vec<&RawKey> =
        after.iter().map(|(key, _)| key).filter(|key| is_new(key) && key.as_bytes().first() == Some(&2)).collect();
    assert_eq!(blocks.len(), 1, "the block of one second of the index");
    let version = server.store.inner.snapshot().unwrap().version().next();
    let writes = std::collections::BTreeMap::from([((*blocks.first().unwrap()).clone(), Some(vec![7; 90]))]);
    server.store.inner.apply(Batch::new(version, writes)).unwrap();
}

#[tokio::test]
async fn a_damaged_block_of_the_index_stands_in_nobodys_way_and_what_it_led_to_is_found() {
    let mut server = Server::start().await;
    drop(server.call("POST", "sys/mounts/made", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
    let secret = async |server: &Server, ttl: &str| {
        drop(server.call("GET", &format!("made/creds/role?ttl={ttl}"), ROOT, Value::Null).await.expect_status(200));
    };
    server.settle().await;
    let live = server.live().await;
    // So that every directory is there, and only a second of the index is new.
    drop(server.create(ROOT, json!({ "ttl": "2h" })).await);
    secret(&server, "2h").await;
    let before = server.store.inner.dump();
    let lost = server.create(ROOT, json!({ "ttl": "30s" })).await;
    damage_block(&server, &before, &server.store.inner.dump());
    let before = server.store.inner.dump();
    secret(&server, "30s").await;
    damage_block(&server, &before, &server.store.inner.dump());
    server.restart().await;
    let sound = server.create(ROOT, json!({ "ttl": "40s" })).await;
    secret(&server, "40s").await;
    assert_eq!(server.live().await, live + 6);
    assert!(server.is_alive(&lost).await, "nothing was promised for less long");
    for _ in 0..40 {
        server.pass(2).await;
    }
    assert!(!server.is_alive(&lost).await && !server.is_alive(&sound).await);
    assert_eq!(server.live().await, live + 2, "what ended is collected, found by its index or without it");
    let revoked = server.call("GET", "made/sums", ROOT, Value::Null).await.expect_status(200);
    assert_eq!((revoked.at("/data/revoked"), revoked.at("/data/twice")), (&json!(2), &json!(0)));
    let aside = server.call("GET", "sys/leases/count?type=damaged", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(aside.at("/data/lease_count"), &json!(2), "two seconds of the index are reported");
    for _ in 0..40 {
        server.pass(200).await;
    }
    assert_eq!(server.live().await, live, "the rest ends in its time");
}

#[tokio::test]
async fn damaged_last_blocks_of_every_directory_keep_no_token_from_being_made() {
    let mut server = Server::start().await;
    let old = server.family(ROOT, 300).await.pop().unwrap();
    server.settle().await;
    let before: std::collections::BTreeMap<RawKey, Vec<u8>> = server.store.inner.dump().into_iter().collect();
    drop(server.create(ROOT, json!({ "ttl": "1h" })).await);
    // What one creation changed: the last block of each directory that it stands in.
    let is_changed =
        |(key, value): &(RawKey, Vec<u8>)| key.as_bytes().first() == Some(&2) && before.get(key) != Some(value);
    let damaged: Vec<RawKey> = server.store.inner.dump().into_iter().filter(is_changed).map(|(key, _)| key).collect();
    assert!(damaged.len() >= 4, "{}", damaged.len());
    let version = server.store.inner.snapshot().unwrap().version().next();
    let writes = damaged.into_iter().map(|key| (key, Some(vec![7; 90]))).collect();
    server.store.inner.apply(Batch::new(version, writes)).unwrap();
    server.restart().await;
    let mut made = vec![old];
    for _ in 0..3 {
        server.pass(1).await;
        made.push(server.create(ROOT, json!({ "ttl": "1h" })).await);
        // What is new is found by its handle, too.
        let shown =
            server.call("GET", "auth/token/lookup-self", made.last().unwrap(), Value::Null).await.expect_status(200);
        let body = json!({ "accessor": shown.text_at("/data/accessor") });
        drop(server.call("POST", "auth/token/lookup-accessor", ROOT, body).await.expect_status(200));
    }
    server.restart().await;
    for token in &made {
        assert!(server.is_alive(token).await);
    }
    let listed = server.call("LIST", "auth/token/accessors", ROOT, Value::Null).await;
    assert_eq!(listed.status, 500, "a list that lacks names is no list: {listed:?}");
    for _ in 0..4 {
        server.pass(1000).await;
    }
    for token in &made {
        assert!(!server.is_alive(token).await);
    }
}

/// Whatever lies at these keys cannot be read any more.
fn damage(server: &Server, keys: impl IntoIterator<Item = RawKey>) {
    let version = server.store.inner.snapshot().unwrap().version().next();
    let writes = keys.into_iter().map(|key| (key, Some(vec![7; 90]))).collect();
    server.store.inner.apply(Batch::new(version, writes)).unwrap();
}

#[tokio::test]
async fn a_token_has_every_handle_or_is_refused_whichever_directory_is_damaged() {
    let mut server = Server::start().await;
    let made = server.create(ROOT, json!({ "ttl": "1h" })).await;
    server.settle().await;
    let before: std::collections::BTreeMap<RawKey, Vec<u8>> = server.store.inner.dump().into_iter().collect();
    drop(server.create(ROOT, json!({ "ttl": "1h" })).await);
    let is_changed =
        |(key, value): &(RawKey, Vec<u8>)| key.as_bytes().first() == Some(&2) && before.get(key) != Some(value);
    let changed: Vec<(RawKey, Vec<u8>)> = server.store.inner.dump().into_iter().filter(is_changed).collect();
    assert!(changed.len() >= 4, "{}", changed.len());
    let mut refused = 0;
    for (key, sound) in changed {
        damage(&server, [key.clone()]);
        server.restart().await;
        let live = server.live().await;
        let answer = server.call("POST", "auth/token/create", ROOT, json!({ "ttl": "1h" })).await;
        if answer.status == 200 {
            let body = json!({ "accessor": answer.text_at("/auth/accessor") });
            drop(server.call("POST", "auth/token/lookup-accessor", ROOT, body).await.expect_status(200));
            let ids = server.call("LIST", "sys/leases/lookup/auth/token/create", ROOT, Value::Null).await;
            drop(ids.expect_status(200));
        } else {
            assert_eq!((answer.status, server.live().await), (500, live), "{answer:?}");
            refused += 1;
        }
        assert!(server.is_alive(&made).await, "what was made before is found by its name");
        let version = server.store.inner.snapshot().unwrap().version().next();
        let writes = std::collections::BTreeMap::from([(key, Some(sound))]);
        server.store.inner.apply(Batch::new(version, writes)).unwrap();
        server.restart().await;
    }
    // Handle, edge and lease id; what ends is found without the index of ends.
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn what_is_below_a_token_is_refused_although_its_edges_cannot_be_read_and_nothing_is_tried_for_ever() {
    let mut server = Server::start().await;
    let parent = server.create(ROOT, json!({ "ttl": "10h" })).await;
    // So that the other directories are there, and only the edges of the parent are new.
    drop(server.create(ROOT, json!({ "ttl": "2h" })).await);
    server.settle().await;
    let before = server.store.inner.dump();
    let child = server.create(&parent, json!({ "ttl": "2h" })).await;
    let is_new = |key: &RawKey| key.as_bytes().first() == Some(&2) && !before.iter().any(|(known, _)| known == key);
    let edges: Vec<RawKey> = server.store.inner.dump().into_iter().map(|(key, _)| key).filter(is_new).collect();
    assert_eq!(edges.len(), 1);
    damage(&server, edges);
    server.restart().await;
    drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": parent })).await.expect_status(204));
    assert!(!server.is_alive(&child).await);
    server.pass(5).await;
    let shown = server.call("GET", "sys/leases?type=damaged", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(shown.at("/data/lease_count"), &json!(1), "{shown:?}");
    assert!(shown.text_at("/data/leases/0/error").contains("below a revoked token"), "{shown:?}");
    server.pass(2).await;
    let written = server.store.writes.load(Ordering::Relaxed);
    server.pass(2).await;
    assert_eq!(server.store.writes.load(Ordering::Relaxed), written, "it is left alone");
    server.restart().await;
    assert!(!server.is_alive(&child).await, "and still refused");
}

#[tokio::test]
async fn a_job_over_lease_ids_comes_to_its_end_and_says_what_it_could_not_read() {
    let mut server = Server::start().await;
    drop(server.call("POST", "sys/mounts/made", ROOT, json!({ "type": "leasing" })).await.expect_status(204));
    let secret = async |server: &Server| {
        drop(server.call("GET", "made/creds/role?ttl=9h", ROOT, Value::Null).await.expect_status(200));
    };
    secret(&server).await;
    server.settle().await;
    let before = server.store.inner.dump();
    secret(&server).await;
    let is_new = |key: &RawKey| key.as_bytes().first() == Some(&5) && !before.iter().any(|(known, _)| known == key);
    let records: Vec<RawKey> = server.store.inner.dump().into_iter().map(|(key, _)| key).filter(is_new).collect();
    assert_eq!(records.len(), 1, "the record of one lease");
    for _ in 0..5 {
        secret(&server).await;
    }
    damage(&server, records);
    server.restart().await;
    drop(server.call("POST", "sys/leases/revoke-prefix/made", ROOT, Value::Null).await.expect_status(204));
    for _ in 0..5 {
        server.pass(2).await;
    }
    let revoked = server.call("GET", "made/sums", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(revoked.at("/data/revoked"), &json!(6), "every other lease");
    let shown = server.call("GET", "sys/leases?type=damaged", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(shown.at("/data/lease_count"), &json!(1), "{shown:?}");
    // Now the directory of the ids itself.
    let before: std::collections::BTreeMap<RawKey, Vec<u8>> = server.store.inner.dump().into_iter().collect();
    secret(&server).await;
    let is_changed =
        |(key, value): &(RawKey, Vec<u8>)| key.as_bytes().first() == Some(&2) && before.get(key) != Some(value);
    let blocks: Vec<RawKey> = server.store.inner.dump().into_iter().filter(is_changed).map(|(key, _)| key).collect();
    damage(&server, blocks);
    server.restart().await;
    drop(server.call("POST", "sys/leases/revoke-prefix/made", ROOT, Value::Null).await.expect_status(204));
    server.pass(5).await;
    let shown = server.call("GET", "sys/leases?type=damaged", ROOT, Value::Null).await.expect_status(200);
    let reasons = shown.at("/data/leases").to_string();
    assert!(reasons.contains("Revoke below `made/` met a block"), "{reasons}");
    let written = server.store.writes.load(Ordering::Relaxed);
    server.pass(2).await;
    assert_eq!(server.store.writes.load(Ordering::Relaxed), written, "the job has ended");
}

#[tokio::test]
async fn a_listing_looks_only_at_what_is_younger_than_what_waits_to_be_collected() {
    let server = Server::start().await;
    drop(server.family(ROOT, 2_000).await);
    server.pass(600).await;
    let parent = server.create(ROOT, json!({ "ttl": "10h" })).await;
    drop(server.family(&parent, 400).await);
    server.settle().await;
    for path in ["auth/token/accessors", "sys/leases/lookup/auth/token/create"] {
        let parent = server.create(ROOT, json!({ "ttl": "10h" })).await;
        drop(server.family(&parent, 200).await);
        server.settle().await;
        let reads = server.store.reads();
        drop(server.call("POST", "auth/token/revoke", ROOT, json!({ "token": parent })).await.expect_status(204));
        let listed = server.call("LIST", path, ROOT, Value::Null).await.expect_status(200);
        let reads = server.store.reads() - reads;
        let shown = listed.at("/data/keys").as_array().map_or(0, Vec::len);
        assert!((2_401..=2_403).contains(&shown), "{path}: {shown}");
        assert!(reads < 1_200, "{path}: {reads} records read for 2,000 old names and 600 young ones");
        let waiting = server.store.inner.dump().len();
        server.pass(3).await;
        assert!(server.store.inner.dump().len() + 100 < waiting, "they were not collected yet");
    }
}
