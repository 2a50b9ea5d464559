//! What a node keeps in memory follows batches that another node made: both are fed the same entries of one log.
//!
//! The second node is opened on a machine of its own, to which each batch of the first comes as an entry; now and then the
//! whole state comes instead. Deliberately absent: how entries are agreed upon, which is `crates/consensus`'s.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::Node;
use tresor_crypto::shamir::Threshold;
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, ROOT, assembly};
use tresor_http::Options;
use tresor_model::request::Connection;
use tresor_secret::{TokenSecret, UnsealShare};
use tresor_server::NodeService;
use tresor_storage::machine_suite::{entry, transfer};
use tresor_storage::{Batch, Machine, MemoryMachine, Snapshot, Store, StoreError, Watcher};

/// What becomes of a batch on its way to the other node.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// It comes as it is.
    Whole,
    /// Its note is damaged.
    NoteDamaged,
    /// It does not come; the whole state does.
    AsState,
}

/// The store of the node that leads: what it takes comes to the other machine too, before it is answered.
struct Leading {
    own: MemoryMachine,
    other: MemoryMachine,
    way: Mutex<Way>,
}

impl Store for Leading {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.own.snapshot()
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let index = batch.version.0;
        let way = *self.way.lock().unwrap();
        let mut noted = batch.clone();
        if let Some(last) = noted.note.last_mut().filter(|_| way == Way::NoteDamaged) {
            *last ^= 1;
        }
        self.own.apply(&entry(1, index, batch))?;
        if way != Way::AsState {
            self.other.apply(&entry(1, index, noted))?;
            return Ok(());
        }
        let mut export = self.own.export()?;
        let chunks = std::iter::from_fn(|| export.next().transpose()).collect::<Result<_, _>>()?;
        transfer(export.state(), chunks, &self.other)
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.own.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        0
    }
}

/// The store of the other node.
struct Following(MemoryMachine);

impl Store for Following {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.0.snapshot()
    }

    fn apply(&self, _: Batch) -> Result<(), StoreError> {
        Err(StoreError::Elsewhere { name: "double".to_owned() })
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        self.0.watch(watcher);
    }

    fn syncs(&self) -> u64 {
        0
    }
}

/// A node.
struct Peer {
    doors: TestDoors,
    node: Arc<Node>,
    service: NodeService,
}

impl Peer {
    fn on(seed: u64, store: Arc<dyn Store>) -> Self {
        let doors = TestDoors::new(seed);
        let node = assembly::node(&doors.doors, store).unwrap();
        Self { service: NodeService::new(Arc::clone(&node)), doors, node }
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let peer_address = std::net::Ipv4Addr::LOCALHOST.into();
        let connection = Connection { peer_address, peer_port: 40_000, client_certificates: Arc::default() };
        let request = assembly::request(method, path, token, &body);
        assembly::exchange(&self.service, &*self.doors.doors.clock, connection, &Options::default(), request).await
    }

    /// Gives background work its turn.
    async fn pass(&self, seconds: u64) {
        self.doors.clock.advance(Duration::from_secs(seconds));
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }
}

struct Pair {
    leading: Arc<Leading>,
    leader: Peer,
    standby: Peer,
}

impl Pair {
    async fn start() -> Self {
        let (own, other) = (MemoryMachine::new(), MemoryMachine::new());
        let leading = Arc::new(Leading { own, other: other.clone(), way: Mutex::new(Way::Whole) });
        let leader = Peer::on(1, leading.clone());
        let standby = Peer::on(2, Arc::new(Following(other)));
        let root = TokenSecret::parse(ROOT).unwrap();
        let initialized = leader.node.initialize(Threshold::new(1, 1).unwrap(), Some(root)).await.unwrap();
        for peer in [&leader, &standby] {
            let share = initialized.shares.first().unwrap().expose().to_vec();
            peer.node.enter_share(UnsealShare::new(share)).await.unwrap();
        }
        Self { leading, leader, standby }
    }

    /// Asks both; they answer the same, but for what names the request.
    async fn compare(&self, method: &str, path: &str, token: &str, step: &str) {
        let mut answers = Vec::new();
        for peer in [&self.leader, &self.standby] {
            let answer = peer.call(method, path, token, Value::Null).await;
            let mut body = answer.json;
            if let Some(body) = body.as_object_mut() {
                body.remove("request_id");
            }
            answers.push((answer.status, body));
        }
        assert_eq!(answers.first(), answers.last(), "{step}: {method} {path}");
    }
}

/// Steps of every kind that something in memory follows, by number.
async fn step(leader: &Peer, kind: u8, number: u8, tokens: &mut Vec<String>) -> String {
    let name = format!("n{}", number % 3);
    let (method, path, body) = match kind % 12 {
        0 => (
            "PUT",
            format!("sys/policies/acl/{name}"),
            json!({ "policy": format!("path \"kv/{number}\" {{ capabilities = [\"read\"] }}") }),
        ),
        1 => ("DELETE", format!("sys/policies/acl/{name}"), Value::Null),
        2 => ("POST", format!("sys/mounts/{name}"), json!({ "type": "kv-v1" })),
        3 => ("DELETE", format!("sys/mounts/{name}"), Value::Null),
        4 => ("POST", format!("sys/mounts/{name}/tune"), json!({ "default_lease_ttl": u32::from(number) + 60 })),
        5 => ("POST", format!("sys/quotas/lease-count/{name}"), json!({ "max_leases": 1000 + u32::from(number) })),
        6 => ("DELETE", format!("sys/quotas/lease-count/{name}"), Value::Null),
        7 => (
            "PUT",
            format!("sys/audit/{name}"),
            json!({ "type": "file", "options": { "file_path": format!("/audit/{name}") } }),
        ),
        8 => ("DELETE", format!("sys/audit/{name}"), Value::Null),
        9 => ("POST", format!("{name}/secret"), json!({ "value": number })),
        10 => {
            let parent = tokens.get(usize::from(number) % (tokens.len() + 1)).cloned().unwrap_or(ROOT.to_owned());
            let made =
                leader.call("POST", "auth/token/create", &parent, json!({ "ttl": "1h", "policies": ["n1"] })).await;
            if made.status == 200 {
                tokens.push(made.text_at("/auth/client_token"));
            }
            return "a token is created".to_owned();
        }
        _ => {
            let Some(token) = tokens.get(usize::from(number) % tokens.len().max(1)) else { return String::new() };
            let how = if number.is_multiple_of(2) { "revoke" } else { "revoke-orphan" };
            ("POST", format!("auth/token/{how}"), json!({ "token": token }))
        }
    };
    let answer = leader.call(method, &path, ROOT, body).await;
    assert!(answer.status < 500, "{method} {path}: {}", answer.status);
    format!("{method} {path}")
}

#[tokio::test]
async fn caches_follow_what_another_node_wrote_and_whatever_is_dropped_changes_no_answer() {
    let pair = Pair::start().await;
    let mut tokens = Vec::new();
    let mut bytes = [0_u8; 3 * 150];
    pair.leader.doors.doors.entropy.fill(&mut bytes);
    for (at, chosen) in bytes.chunks_exact(3).enumerate() {
        let [kind, number, way] = chosen else { continue };
        let way = match way % 8 {
            0 => Way::NoteDamaged,
            1 => Way::AsState,
            _ => Way::Whole,
        };
        *pair.leading.way.lock().unwrap() = way;
        let step = format!("step {at}: {}", step(&pair.leader, *kind, *number, &mut tokens).await);
        // Devices are brought to what is stored by the background task.
        pair.leader.pass(1).await;
        pair.standby.pass(1).await;
        assert_eq!(pair.standby.node.stale_caches().unwrap(), [""; 0], "{step}");
        assert_eq!(pair.leader.node.stale_caches().unwrap(), [""; 0], "{step}");
        for path in ["sys/mounts", "sys/audit", "sys/quotas/lease-count?list=true", "sys/policies/acl?list=true"] {
            pair.compare("GET", path, ROOT, &step).await;
        }
        for name in ["n0", "n1", "n2"] {
            pair.compare("GET", &format!("sys/policies/acl/{name}"), ROOT, &step).await;
            pair.compare("GET", &format!("{name}/secret"), ROOT, &step).await;
        }
        if let Some(token) = tokens.get(usize::from(*number) % tokens.len().max(1)) {
            pair.compare("GET", "auth/token/lookup-self", token, &step).await;
        }
    }
}
