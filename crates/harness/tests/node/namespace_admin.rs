//! What is about the whole server and concerns namespaces: quotas on them, the namespace that administrates, their numbers,
//! and what they cost.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::{Node, Settings};
use tresor_crypto::shamir::Threshold;
use tresor_env::doubles::TestDoors;
use tresor_harness::counting::Counting;
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;

const ALL: &str =
    r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo"] }"#;

/// Makes namespaces, each with its parents before it.
async fn make(harness: &Harness, paths: &[&str]) {
    for path in paths {
        let (parent, name) = path.rsplit_once('/').map_or(("", *path), |(parent, name)| (parent, name));
        let slash = if parent.is_empty() { "" } else { "/" };
        harness.prepare("POST", &format!("{parent}{slash}sys/namespaces/{name}"), json!({})).await;
    }
}

/// Makes a token in a namespace; the answer.
async fn create(harness: &Harness, namespace: &str) -> Answer {
    let wish = json!({ "policies": ["default"], "ttl": "1h", "no_parent": true });
    let path = format!("{namespace}/auth/token/create");
    harness.write(path.trim_start_matches('/'), ROOT, wish).await
}

async fn quota(harness: &Harness, kind: &str, name: &str, body: Value) {
    harness.prepare("POST", &format!("sys/quotas/{kind}/{name}"), body).await;
}

#[tokio::test]
async fn dos_15_a_namespace_has_so_many_leases_and_one_that_hands_its_quota_down_shares_it() {
    let mut harness = Harness::start().await;
    make(&harness, &["a", "a/b", "a/b/c", "d"]).await;
    quota(&harness, "lease-count", "a", json!({ "path": "a", "max_leases": 3, "inheritable": true })).await;
    let mut made = Vec::new();
    for namespace in ["a", "a/b", "a/b/c"] {
        made.push(create(&harness, namespace).await.expect_status(200).text_at("/auth/client_token"));
    }
    for namespace in ["a", "a/b", "a/b/c"] {
        create(&harness, namespace).await.expect_error(429, "lease count quota exceeded");
    }
    drop(create(&harness, "d").await.expect_status(200));
    let counter = |answer: Answer| answer.at("/data/counter").as_u64().unwrap();
    let shown = harness.read("sys/quotas/lease-count/a", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/path"), shown.at("/data/inheritable")), (&json!("a/"), &json!(true)));
    assert_eq!(counter(shown), 3);
    // What is revoked makes room at once, wherever below it was.
    harness.prepare("POST", "a/b/c/auth/token/revoke", json!({ "token": made.pop().unwrap() })).await;
    drop(create(&harness, "a").await.expect_status(200));
    drop(create(&harness, "a/b/c").await.expect_status(429));
    // One of its own takes the place of the one from above, and is about nothing below.
    quota(&harness, "lease-count", "b", json!({ "path": "a/b/", "max_leases": 2 })).await;
    drop(create(&harness, "a/b").await.expect_status(200));
    drop(create(&harness, "a/b").await.expect_status(429));
    drop(create(&harness, "a/b/c").await.expect_status(429));
    harness.prepare("DELETE", "sys/quotas/lease-count/a", Value::Null).await;
    drop(create(&harness, "a/b/c").await.expect_status(200));
    assert_eq!(counter(harness.read("sys/quotas/lease-count/b", ROOT).await), 2);
    // That of a mount takes the place of both.
    quota(&harness, "lease-count", "m", json!({ "path": "a/b/auth/token", "max_leases": 3 })).await;
    drop(create(&harness, "a/b").await.expect_status(200));
    drop(create(&harness, "a/b").await.expect_status(429));
    for (body, text) in [
        (json!({ "path": "a/nowhere", "max_leases": 1 }), "invalid mount path"),
        (json!({ "path": "a/auth/token", "max_leases": 1, "inheritable": true }), "inheritable"),
        (
            json!({ "path": "a/auth/token", "max_leases": 1, "role": "r" }),
            "does not support use with role-based quotas",
        ),
        (json!({ "path": "a/b", "max_leases": 1 }), "similar properties"),
    ] {
        harness.write("sys/quotas/lease-count/x", ROOT, body).await.expect_error(400, text);
    }
    // All that is counted is stored.
    harness.restart().await;
    harness.unseal().await;
    drop(create(&harness, "a/b").await.expect_status(429));
    assert_eq!(harness.node.stale_caches().unwrap(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_listener_that_is_confined_to_a_namespace_reaches_nothing_beside_or_above_it() {
    let mut harness = Harness::start().await;
    make(&harness, &["a", "a/b", "d"]).await;
    for namespace in ["", "a/", "a/b/", "d/"] {
        harness.prepare("POST", &format!("{namespace}sys/mounts/kv"), json!({ "type": "kv" })).await;
        harness.prepare("POST", &format!("{namespace}kv/x"), json!({ "is": namespace })).await;
    }
    let of_d = create(&harness, "d").await.expect_status(200).text_at("/auth/client_token");
    harness.options.chroot = "a/".to_owned();
    let ask = async |namespace: Option<&str>, path: &str, token: &str| {
        let mut request = tresor_harness::assembly::request("GET", path, token, &Value::Null);
        if let Some(namespace) = namespace {
            request.headers_mut().insert("x-vault-namespace", namespace.parse().unwrap());
        }
        harness.send(request).await
    };
    for (namespace, path, is) in [
        (None, "kv/x", "a/"),
        (Some(""), "kv/x", "a/"),
        (Some("root"), "kv/x", "a/"),
        (Some("b"), "kv/x", "a/b/"),
        (None, "b/kv/x", "a/b/"),
    ] {
        let answer = ask(namespace, path, ROOT).await.expect_status(200);
        assert_eq!(answer.at("/data/is"), &json!(is), "{namespace:?} {path}");
    }
    for (namespace, path) in [(Some("d"), "kv/x"), (Some("a"), "kv/x"), (Some("../d"), "kv/x"), (None, "d/kv/x")] {
        let status = ask(namespace, path, ROOT).await.status;
        assert!([400, 404].contains(&status), "{namespace:?} {path}: {status}");
    }
    // A header that cannot be read leads nowhere else, nor does a token of a namespace beside.
    drop(ask(None, "kv/x", &of_d).await.expect_status(403));
    drop(ask(None, "sys/audit", ROOT).await.expect_status(400));
    // How the node is, whoever balances load asks.
    for path in ["sys/health", "sys/seal-status", "sys/leader"] {
        drop(ask(None, path, "").await.expect_status(200));
    }
    drop(ask(Some("b"), "sys/health", "").await.expect_status(400));
}

#[tokio::test]
async fn dos_15_the_quota_of_the_root_namespace_alone_is_about_nothing_below_it() {
    let mut harness = Harness::start().await;
    make(&harness, &["a"]).await;
    drop(create(&harness, "").await.expect_status(200));
    let (of_a, own) = (create(&harness, "a").await.expect_status(200), create(&harness, "").await.expect_status(200));
    quota(&harness, "lease-count", "own", json!({ "max_leases": 3, "inheritable": false })).await;
    let shown = harness.read("sys/quotas/lease-count/own", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/counter"), shown.at("/data/inheritable")), (&json!(2), &json!(false)));
    drop(create(&harness, "").await.expect_status(200));
    create(&harness, "").await.expect_error(429, "lease count quota exceeded");
    drop(create(&harness, "a").await.expect_status(200));
    let revoke = |token: String| json!({ "token": token });
    harness.prepare("POST", "a/auth/token/revoke", revoke(of_a.text_at("/auth/client_token"))).await;
    drop(create(&harness, "").await.expect_status(429));
    harness.restart().await;
    harness.unseal().await;
    harness.prepare("POST", "auth/token/revoke", revoke(own.text_at("/auth/client_token"))).await;
    drop(create(&harness, "").await.expect_status(200));
    drop(create(&harness, "").await.expect_status(429));
}

#[tokio::test]
async fn dos_03_a_rate_of_a_namespace_is_that_of_what_is_below_where_it_is_handed_down() {
    let mut harness = Harness::start().await;
    make(&harness, &["a", "a/b", "d"]).await;
    harness.prepare("POST", "a/sys/mounts/kv", json!({ "type": "kv" })).await;
    quota(&harness, "rate-limit", "all", json!({ "rate": 1000, "inheritable": false })).await;
    quota(&harness, "rate-limit", "a", json!({ "path": "a/", "rate": 3, "interval": "10s", "inheritable": true }))
        .await;
    quota(&harness, "rate-limit", "kv", json!({ "path": "a/kv", "rate": 1, "interval": "10s" })).await;
    harness.peer = std::net::Ipv4Addr::new(10, 0, 0, 1).into();
    let statuses = async |paths: &[&str]| {
        let mut statuses = Vec::new();
        for path in paths {
            statuses.push(harness.read(path, ROOT).await.status);
        }
        statuses
    };
    let asked = ["a/sys/mounts", "a/b/sys/mounts", "a/sys/mounts", "a/b/sys/mounts", "a/sys/mounts"];
    assert_eq!(statuses(&asked).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&["a/kv/x", "a/kv/x"]).await, [404, 429]);
    // However a request says where it goes.
    let mut request = assembly::request("GET", "b/sys/mounts", ROOT, &Value::Null);
    request.headers_mut().insert("x-vault-namespace", "a".parse().unwrap());
    harness.send(request).await.expect_error(429, "rate limit quota exceeded");
    assert_eq!(statuses(&["d/sys/mounts", "sys/mounts"]).await, [200; 2]);
    let shown = harness.read("sys/quotas/rate-limit/a", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/path"), shown.at("/data/inheritable")), (&json!("a/"), &json!(true)));
    let shown = harness.read("sys/quotas/rate-limit/kv", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/path"), shown.at("/data/inheritable")), (&json!("a/kv/"), &json!(false)));
    // Not handed down, it is about the namespace alone.
    quota(&harness, "rate-limit", "a", json!({ "path": "a/", "rate": 1, "interval": "10s" })).await;
    assert_eq!(statuses(&["a/sys/mounts", "a/sys/mounts", "a/b/sys/mounts"]).await, [200, 429, 200]);
}

#[tokio::test]
async fn the_administrative_namespace_has_what_may_be_left_to_it_and_sees_nothing_beside_itself() {
    let settings = Settings { administrative_namespace: "ops/".to_owned(), ..assembly::settings() };
    let harness = Harness::start_with(settings).await;
    make(&harness, &["ops", "ops/team", "other"]).await;
    harness.enable_audit().await;
    harness.prepare("PUT", "ops/sys/policies/acl/all", json!({ "policy": ALL })).await;
    let wish = json!({ "policies": ["all"], "ttl": "1h", "no_parent": true });
    let token = harness.prepare("POST", "ops/auth/token/create", wish).await.text_at("/auth/client_token");
    drop(harness.write("ops/sys/audit-hash/file", &token, json!({ "input": "x" })).await.expect_status(200));
    for path in ["ops/sys/audit", "ops/sys/config/cors", "ops/sys/metrics", "ops/sys/host-info"] {
        harness.read(path, &token).await.expect_error(400, "operation only available in root namespace");
    }
    harness.read("ops/sys/key-status", &token).await.expect_error(400, "namespace is not sealable");
    for namespace in ["other", "ops/team"] {
        let path = format!("{namespace}/sys/quotas/config");
        harness.read(&path, ROOT).await.expect_error(400, "operation only available in root namespace");
    }
    // Quotas: of itself and below it, by paths of its own.
    quota(&harness, "rate-limit", "theirs", json!({ "path": "other", "rate": 1000 })).await;
    quota(&harness, "lease-count", "theirs", json!({ "path": "other", "max_leases": 1000 })).await;
    for (kind, body) in [("rate-limit", json!({ "rate": 500 })), ("lease-count", json!({ "max_leases": 500 }))] {
        let write = |name: &str, path: &str| {
            let mut body = body.clone();
            body["path"] = json!(path);
            let (harness, token, path) = (&harness, &token, format!("ops/sys/quotas/{kind}/{name}"));
            async move { harness.write(&path, token, body).await.status }
        };
        assert_eq!((write("own", "").await, write("team", "team").await), (204, 204), "{kind}");
        assert_eq!((write("x", "other").await, write("theirs", "").await), (400, 400), "{kind}");
        let listed = harness.list(&format!("ops/sys/quotas/{kind}"), &token).await.expect_status(200);
        assert_eq!(listed.at("/data/keys"), &json!(["own", "team"]), "{kind}");
        let shown = harness.read(&format!("ops/sys/quotas/{kind}/team"), &token).await.expect_status(200);
        assert_eq!(shown.at("/data/path"), "team/");
        drop(harness.read(&format!("ops/sys/quotas/{kind}/theirs"), &token).await.expect_status(404));
        drop(harness.delete(&format!("ops/sys/quotas/{kind}/theirs"), &token).await.expect_status(400));
        drop(harness.delete(&format!("ops/sys/quotas/{kind}/team"), &token).await.expect_status(204));
        let seen = harness.list(&format!("sys/quotas/{kind}"), ROOT).await.expect_status(200);
        assert_eq!(seen.at("/data/keys"), &json!(["own", "theirs"]), "{kind}");
        assert_eq!(harness.read(&format!("sys/quotas/{kind}/own"), ROOT).await.at("/data/path"), "ops/");
    }
    let config = json!({ "rate_limit_exempt_paths": ["kv/"] });
    harness.write("ops/sys/quotas/config", &token, config).await.expect_error(400, "exempt paths");
    let config = json!({ "enable_rate_limit_response_headers": true });
    drop(harness.write("ops/sys/quotas/config", &token, config).await.expect_status(204));
    // What is exempt by its whole path, each may say of its own.
    let absolute = |paths: &[&str]| json!({ "absolute_rate_limit_exempt_paths": paths });
    harness.prepare("POST", "sys/quotas/config", absolute(&["other/kv/"])).await;
    let set = absolute(&["ops/team/", "!ops/team/sys/"]);
    drop(harness.write("ops/sys/quotas/config", &token, set).await.expect_status(204));
    let beyond = harness.write("ops/sys/quotas/config", &token, absolute(&["other/"])).await;
    beyond.expect_error(400, "not a path of this namespace");
    let field = "/data/absolute_rate_limit_exempt_paths";
    let shown = harness.read("ops/sys/quotas/config", &token).await.expect_status(200);
    assert_eq!(shown.at(field), &json!(["ops/team/", "!ops/team/sys/"]));
    let shown = harness.read("sys/quotas/config", ROOT).await.expect_status(200);
    assert_eq!(shown.at(field), &json!(["other/kv/", "ops/team/", "!ops/team/sys/"]));
    // Its tokens are good for nothing in the root namespace.
    harness.read("sys/quotas/config", &token).await.expect_error(403, "permission denied");
}

/// The samples of a name, by the namespace that they are about.
async fn by_namespace(harness: &Harness, name: &str) -> Vec<(String, u64)> {
    let answer = harness.read("sys/metrics", ROOT).await.expect_status(200);
    let gauges = answer.at("/Gauges").as_array().unwrap();
    let of = gauges.iter().filter(|gauge| gauge["Name"] == format!("vault.{name}"));
    of.map(|gauge| (gauge["Labels"]["namespace"].as_str().unwrap().to_owned(), gauge["Value"].as_u64().unwrap()))
        .collect()
}

#[tokio::test]
async fn tokens_leases_and_mounts_are_told_by_namespace_for_so_many_of_them_and_no_more() {
    let harness = Harness::start().await;
    make(&harness, &["a", "a/b"]).await;
    harness.prepare("POST", "a/b/sys/mounts/kv", json!({ "type": "kv" })).await;
    drop(create(&harness, "a/b").await.expect_status(200));
    let of = |counts: [(&str, u64); 3]| counts.map(|(name, count)| (name.to_owned(), count)).to_vec();
    assert_eq!(by_namespace(&harness, "token.count").await, of([("root", 0), ("a/", 0), ("a/b/", 1)]));
    assert_eq!(by_namespace(&harness, "namespace.leases").await, of([("root", 0), ("a/", 0), ("a/b/", 1)]));
    let mounts = by_namespace(&harness, "namespace.mounts").await;
    let own = mounts.first().unwrap().1;
    assert_eq!(mounts, of([("root", own), ("a/", 3), ("a/b/", 4)]));
    for number in 0..230 {
        harness.prepare("POST", &format!("sys/namespaces/n{number}"), json!({})).await;
    }
    assert_eq!(by_namespace(&harness, "namespace.leases").await.len(), 200);
    let all = harness.read("sys/metrics", ROOT).await;
    let count = all.at("/Gauges").as_array().unwrap().iter().find(|gauge| gauge["Name"] == "vault.namespaces");
    assert_eq!(count.unwrap()["Value"], json!(233));
}

/// A node on a store that counts.
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

    async fn unseal(&self) {
        self.node.enter_share(UnsealShare::new(self.share.clone())).await.unwrap();
    }

    async fn make(&self, method: &str, path: &str, body: Value) {
        let connection = Connection::plain(std::net::Ipv4Addr::LOCALHOST.into(), 40_000);
        let clock = Arc::clone(&self.doors.doors.clock);
        let request = assembly::request(method, path, ROOT, &body);
        let answer = assembly::exchange(&self.service, &*clock, connection, &Options::default(), request).await;
        assert!(answer.status < 300, "{answer:?}");
    }

    /// How many records are read and written while nobody asks, and when the node is opened.
    async fn counted(&mut self) -> (u64, u64) {
        self.pass(5).await;
        let before = self.work();
        self.pass(30).await;
        let idle = self.work() - before;
        self.node.seal().await.unwrap();
        let before = self.work();
        self.node = assembly::node(&self.doors.doors, self.store.clone()).unwrap();
        self.service = NodeService::new(Arc::clone(&self.node));
        self.unseal().await;
        (idle, self.work() - before)
    }

    fn work(&self) -> u64 {
        self.store.reads() + self.store.writes.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.doors.clock.advance(Duration::from_secs(1));
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_read_for_a_namespace_or_a_mount_while_nobody_asks_and_a_few_records_when_the_node_is_opened() {
    let mut server = Server::start().await;
    let mut counted = vec![server.counted().await];
    for (namespaces, mounts) in [(100, 0), (300, 0), (0, 200), (0, 400)] {
        let stage = counted.len();
        for number in 0..namespaces {
            server.make("POST", &format!("sys/namespaces/n{stage}-{number}"), json!({})).await;
        }
        for number in 0..mounts {
            server.make("POST", &format!("sys/mounts/m{stage}-{number}"), json!({ "type": "kv" })).await;
        }
        counted.push(server.counted().await);
    }
    let [none, namespaces, more_namespaces, mounts, more_mounts] = counted.try_into().unwrap();
    // The time is marked about once a minute.
    let idle = [none.0, namespaces.0, more_namespaces.0, mounts.0, more_mounts.0];
    assert!(idle.iter().all(|work| *work <= 4), "records read and written in half a minute: {idle:?}");
    // A namespace is its record, three mounts and a policy, and the directories that lead to them; a mount is a record. What
    // blocks of names there are depends on how they were split.
    let opened = more_namespaces.1 - namespaces.1;
    assert!((300 * 5..=300 * 10).contains(&opened), "records read for 300 namespaces: {opened}");
    let opened = more_mounts.1 - mounts.1;
    assert!((400..=420).contains(&opened), "records read for 400 mounts: {opened}");
}
