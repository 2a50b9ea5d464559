//! Joining over HTTP, between two nodes whose consensus is a double: shares are entered once, a static key needs none, a
//! node tries until it is let in; and the security bank's rows about it. The proofs themselves are tested in
//! `crates/core/tests/joining.rs`, whole clusters elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::joining::{Joining, LeaderAddress, LeaderDoor, LeaderDoors};
use tresor_core::cluster::{
    About, Change, Cluster, ClusterError, Contact, Entry, Indexes, Member, Message, Needed, Standing,
};
use tresor_core::{AutoKey, AutoSeal, StaticKey, StaticKeySource, StaticKeys};
use tresor_env::BoxFuture;
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_model::{Body, Map};
use tresor_secret::DataKey;
use tresor_storage::Store;
use tresor_wire::json::{JsonLimits, decode, encode_map};

fn contact(number: u8) -> Contact {
    Contact {
        name: format!("node-{number}"),
        key: [number; 32],
        cluster_address: format!("10.0.0.{number}:8201"),
        api_address: format!("https://10.0.0.{number}:8200"),
    }
}

/// A node's consensus, as far as joining needs it.
struct Double {
    me: Mutex<Contact>,
    standing: Mutex<Standing>,
    members: Mutex<Vec<Member>>,
    is_member: AtomicBool,
}

impl Double {
    fn leading() -> Arc<Self> {
        let (heard_ago, matched, version) = (None, None, None);
        let me = Member { contact: contact(1), is_voter: true, is_leader: true, heard_ago, matched, version };
        let standing = Mutex::new(Standing::Leads { term: 7 });
        Arc::new(Self { me: Mutex::new(contact(1)), standing, members: Mutex::new(vec![me]), is_member: true.into() })
    }

    fn outside(number: u8) -> Arc<Self> {
        let standing = Mutex::new(Standing::Follows(contact(1)));
        Arc::new(Self { me: Mutex::new(contact(number)), standing, members: Mutex::default(), is_member: false.into() })
    }

    /// Name and vote of each member.
    fn votes(&self) -> Vec<(String, bool)> {
        self.members.lock().unwrap().iter().map(|member| (member.contact.name.clone(), member.is_voter)).collect()
    }
}

impl Cluster for Double {
    fn is_enabled(&self) -> bool {
        true
    }

    fn me(&self) -> Contact {
        self.me.lock().unwrap().clone()
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap().clone()
    }

    fn changed(&self, _: Standing) -> BoxFuture<'_, Standing> {
        Box::pin(std::future::pending())
    }

    fn confirm(&self, _: Needed, _: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn ask_leader(&self, _: About, _: Message, _: Duration) -> BoxFuture<'_, Result<Message, ClusterError>> {
        Box::pin(std::future::ready(Err(ClusterError::NoLeader)))
    }

    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Err(ClusterError::NotLeader)))
    }

    fn members(&self) -> Vec<Member> {
        self.members.lock().unwrap().clone()
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ClusterError>> {
        let mut members = self.members.lock().unwrap();
        let mut vote = |name: &str, is_voter| {
            members
                .iter_mut()
                .filter(|member| member.contact.name == name)
                .for_each(|member| member.is_voter = is_voter);
        };
        match change {
            Change::Add(admitted) => {
                let contact = admitted.into_contact();
                let heard_ago = Some(Duration::ZERO);
                let (matched, version) = (Some(Entry::default()), None);
                members.push(Member { contact, is_voter: false, is_leader: false, heard_ago, matched, version });
            }
            Change::Promote(name) => vote(&name, true),
            Change::Demote(name) => vote(&name, false),
            Change::Remove(name) => members.retain(|member| member.contact.name != name),
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_member(&self) -> bool {
        self.is_member.load(Ordering::SeqCst)
    }

    fn adopt(&self, members: Vec<Contact>) -> Result<(), ClusterError> {
        let member = |contact: Contact| Member {
            is_leader: contact.name == "node-1",
            contact,
            is_voter: false,
            heard_ago: None,
            matched: None,
            version: None,
        };
        *self.members.lock().unwrap() = members.into_iter().map(member).collect();
        Ok(())
    }

    fn indexes(&self) -> Indexes {
        Indexes { last: 1000, committed: 1000, applied: 1000, members: 1 }
    }
}

/// The way to a leader's API.
struct Way {
    leader: Mutex<Option<Arc<Harness>>>,
    /// What is asked for on the way, in the place of what the node asked for.
    meddle: fn(&mut Map),
    /// And of what it is answered.
    doctor: fn(&mut Map),
}

impl Way {
    fn to(leader: &Arc<Harness>) -> Arc<Self> {
        Arc::new(Self { leader: Mutex::new(Some(Arc::clone(leader))), meddle: |_| {}, doctor: |_| {} })
    }
}

impl LeaderDoor for Way {
    fn address(&self) -> &str {
        "https://10.0.0.1:8200"
    }

    fn ask(&self, path: &'static str, mut body: Map) -> BoxFuture<'_, Result<Map, String>> {
        let leader = self.leader.lock().unwrap().clone();
        (self.meddle)(&mut body);
        Box::pin(async move {
            let leader = leader.ok_or("nobody answers")?;
            let mut bytes = Vec::new();
            encode_map(&body, &mut bytes);
            let answer = leader.call("POST", path, "", serde_json::from_slice(&bytes).unwrap()).await;
            if answer.status != 200 {
                return Err(answer.errors());
            }
            let mut answer = decode(&answer.bytes, &JsonLimits::default()).map_err(|error| error.to_string())?;
            (self.doctor)(&mut answer);
            Ok(answer)
        })
    }
}

/// Whatever address an operator names, this leader is there.
struct Ways(Arc<Way>);

impl LeaderDoors for Ways {
    fn open(&self, leader: LeaderAddress) -> Result<Arc<dyn LeaderDoor>, String> {
        assert_eq!(leader.api_address, "https://10.0.0.1:8200");
        Ok(Arc::<Way>::clone(&self.0))
    }
}

struct Key;

impl StaticKeySource for Key {
    fn read(&self) -> Result<StaticKeys, Box<dyn std::error::Error + Send + Sync>> {
        Ok(StaticKeys { current: StaticKey::new("k".to_owned(), DataKey::new([7; 32])), previous: None })
    }
}

fn seal() -> AutoSeal {
    AutoSeal {
        key: AutoKey::Static { key_id: "k".to_owned(), source: Arc::new(Key) },
        checks: None,
        augmentation: None,
    }
}

/// A node that belongs to no cluster, and the way that it has to a leader.
fn joiner(way: &Arc<Way>, number: u8, is_static: bool, retry_join: bool) -> (Harness, Arc<Double>) {
    let cluster = Double::outside(number);
    let mut settings = assembly::settings();
    let door: Arc<dyn LeaderDoor> = Arc::<Way>::clone(way);
    let retry_join = if retry_join { vec![door] } else { Vec::new() };
    settings.joining = Some(Joining { doors: Arc::new(Ways(Arc::clone(way))), retry_join, non_voter: false });
    settings.auto_seal = is_static.then(seal);
    let doors = TestDoors::new(u64::from(number));
    (Harness::uninitialized_in(Arc::<Double>::clone(&cluster), doors, settings), cluster)
}

/// A leader with something stored.
async fn leader() -> (Arc<Harness>, Arc<Double>) {
    let cluster = Double::leading();
    let leader = Harness::start_in(Arc::<Double>::clone(&cluster)).await;
    drop(leader.write("sys/mounts/kv", ROOT, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(leader.write("kv/a", ROOT, json!({ "x": "kept" })).await.expect_status(204));
    (Arc::new(leader), cluster)
}

async fn join(joiner: &Harness, more: Value) -> Answer {
    let mut body = json!({ "leader_api_addr": "https://10.0.0.1:8200" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    joiner.write("sys/storage/raft/join", "", body).await
}

async fn enter(harness: &Harness, share: &[u8]) -> Answer {
    let key: String = share.iter().map(|byte| format!("{byte:02x}")).collect();
    harness.call("PUT", "sys/unseal", "", json!({ "key": key })).await
}

/// What the leader has arrives at a node that is a member now.
fn arrive(leader: &Harness, joiner: &Harness) {
    let (mut export, mut install) = (leader.store.export().unwrap(), joiner.store.restore().unwrap());
    while let Some(chunk) = export.next().unwrap() {
        install.take(chunk).unwrap();
    }
    install.finish().unwrap();
}

/// Enters both shares; the second is answered when the node is open, or was not let in.
async fn open_by_shares(leader: &Harness, joiner: &Harness, cluster: &Double) -> Answer {
    let first = enter(joiner, &leader.shares[0]).await.expect_status(200);
    assert_eq!((first.at("/progress"), first.at("/sealed")), (&json!(1), &json!(true)));
    let arriving = async {
        joiner.settle().await;
        if !cluster.members().is_empty() {
            arrive(leader, joiner);
        }
        joiner.advance(Duration::from_secs(1)).await;
    };
    tokio::join!(enter(joiner, &leader.shares[2]), arriving).0
}

#[tokio::test]
async fn shares_are_entered_once_and_the_vote_comes_by_itself() {
    let (leader, members) = leader().await;
    leader.enable_audit().await;
    let way = Way::to(&leader);
    let (node, cluster) = joiner(&way, 2, false, false);
    assert_eq!(node.read("sys/seal-status", "").await.at("/initialized"), &json!(false));
    assert_eq!(join(&node, json!({})).await.expect_status(200).json, json!({ "joined": true }));
    // It is told what to open, and is no member before that.
    let status = node.read("sys/seal-status", "").await;
    let shown = (status.at("/initialized"), status.at("/sealed"), status.at("/t"), status.at("/n"));
    assert_eq!(shown, (&json!(true), &json!(true), &json!(2), &json!(3)));
    node.call("PUT", "sys/init", "", json!({ "secret_shares": 1, "secret_threshold": 1 }))
        .await
        .expect_error(400, "already initialized");
    assert_eq!(members.votes().len(), 1);
    let opened = open_by_shares(&leader, &node, &cluster).await.expect_status(200);
    assert_eq!(opened.at("/sealed"), &json!(false), "{opened:?}");
    assert_eq!(node.read("kv/a", ROOT).await.text_at("/data/x"), "kept");
    let recorded = leader.audit_records().await;
    let joined = |record: &&Value| record["request"]["path"] == "sys/storage/raft/joined";
    assert_eq!(recorded.iter().filter(joined).count(), 1);
    // It has no vote before it has the log.
    let named = |vote| vec![("node-1".to_owned(), true), ("node-2".to_owned(), vote)];
    leader.advance(Duration::from_secs(3)).await;
    assert_eq!(members.votes(), named(false));
    members.members.lock().unwrap()[1].matched = Some(Entry { term: 7, index: 990 });
    leader.advance(Duration::from_secs(3)).await;
    assert_eq!(members.votes(), named(true));
    // What an operator takes, it does not get again.
    let demoted = leader.write("sys/storage/raft/demote", ROOT, json!({ "server_id": "node-2" })).await;
    drop(demoted.expect_status(204));
    leader.advance(Duration::from_secs(10)).await;
    assert_eq!(members.votes(), named(false));
    assert!(cluster.members().iter().any(|member| member.contact == contact(1)));
}

#[tokio::test]
async fn wrong_shares_open_no_cluster() {
    let (leader, members) = leader().await;
    let (node, cluster) = joiner(&Way::to(&leader), 2, false, false);
    drop(join(&node, json!({ "non_voter": true })).await.expect_status(200));
    let other = Harness::of_another_cluster().await;
    drop(enter(&node, &other.shares[0]).await.expect_status(200));
    enter(&node, &other.shares[1]).await.expect_error(400, "invalid key");
    assert_eq!((members.votes().len(), cluster.members().len()), (1, 0));
    let opened = open_by_shares(&leader, &node, &cluster).await.expect_status(200);
    assert_eq!(opened.at("/sealed"), &json!(false));
    // It was to have no vote, and gets none.
    members.members.lock().unwrap()[1].matched = Some(Entry { term: 7, index: 1000 });
    leader.advance(Duration::from_secs(10)).await;
    assert_eq!(members.votes()[1], ("node-2".to_owned(), false));
}

/// A leader with a static key, and a node that is to join it by the same key and does not reach it yet.
struct ByItself {
    leader: Arc<Harness>,
    cluster: Arc<Double>,
    root: String,
    way: Arc<Way>,
    node: Harness,
    own: Arc<Double>,
}

async fn by_itself() -> ByItself {
    let cluster = Double::leading();
    let mut settings = assembly::settings();
    settings.auto_seal = Some(seal());
    let leader = Arc::new(Harness::uninitialized_in(cluster.clone(), TestDoors::new(1), settings));
    let body = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let root = leader.call("PUT", "sys/init", "", body).await.expect_status(200).text_at("/root_token");
    let way = Way::to(&leader);
    *way.leader.lock().unwrap() = None;
    let (node, own) = joiner(&way, 2, true, true);
    node.node.open_by_itself().await;
    node.node.join_by_itself();
    ByItself { leader, cluster, root, way, node, own }
}

#[tokio::test]
async fn a_node_with_a_static_key_joins_and_opens_by_itself_once_a_leader_answers() {
    let ByItself { leader, cluster, root, way, node, own } = by_itself().await;
    node.advance(Duration::from_secs(60)).await;
    assert!(own.members().is_empty());
    *way.leader.lock().unwrap() = Some(Arc::clone(&leader));
    node.advance(Duration::from_secs(15)).await;
    assert_eq!((own.members().len(), cluster.votes().len()), (2, 2));
    assert_eq!(node.read("sys/seal-status", "").await.at("/initialized"), &json!(true));
    arrive(&leader, &node);
    node.advance(Duration::from_secs(1)).await;
    assert_eq!(node.read("sys/seal-status", "").await.at("/sealed"), &json!(false));
    drop(node.read("auth/token/lookup-self", &root).await.expect_status(200));
}

#[tokio::test]
async fn what_a_process_before_was_let_into_opens_when_it_arrives() {
    let ByItself { leader, node, own, .. } = by_itself().await;
    node.advance(Duration::from_secs(1)).await;
    own.is_member.store(true, Ordering::SeqCst);
    arrive(&leader, &node);
    for _ in 0..20 {
        node.advance(Duration::from_secs(1)).await;
    }
    assert_eq!(node.read("sys/seal-status", "").await.at("/sealed"), &json!(false));
}

#[tokio::test]
async fn shares_that_were_entered_stay_when_a_leader_is_asked_again() {
    let (leader, _) = leader().await;
    let (node, _) = joiner(&Way::to(&leader), 2, false, false);
    for _ in 0..2 {
        drop(join(&node, json!({})).await.expect_status(200));
        let status = enter(&node, &leader.shares[0]).await.expect_status(200);
        assert_eq!(status.at("/progress"), &json!(1));
        assert_eq!(node.read("sys/seal-status", "").await.at("/progress"), &json!(1));
    }
    drop(join(&node, json!({})).await.expect_status(200));
    assert_eq!(node.read("sys/seal-status", "").await.at("/progress"), &json!(1));
}

#[tokio::test]
async fn nobody_is_joined_by_whom_it_was_told_not_to() {
    let (leader, _) = leader().await;
    let way = Way::to(&leader);
    // A node with a store stays what it is.
    assert_eq!(join(&with_store(&way).await, json!({})).await.expect_status(200).json, json!({ "joined": true }));
    // One that stands alone cannot.
    Harness::uninitialized()
        .write("sys/storage/raft/join", "", json!({ "leader_api_addr": "https://a" }))
        .await
        .expect_error(400, "raft storage is not in use");
    let (node, _) = joiner(&way, 2, false, false);
    join(&node, json!({ "auto_join": "provider=x" })).await.expect_error(400, "`auto_join` is not available");
    *way.leader.lock().unwrap() = None;
    let refused = join(&node, json!({})).await;
    refused.expect_error(503, "failed to join raft cluster: the server's log says why");
    // It was not joined, so it may found its own.
    drop(
        node.call("PUT", "sys/init", "", json!({ "secret_shares": 1, "secret_threshold": 1 })).await.expect_status(200),
    );
    let (node, _) = joiner(&way, 3, false, false);
    assert_eq!(join(&node, json!({ "retry": true })).await.expect_status(200).json, json!({ "joined": false }));
    *way.leader.lock().unwrap() = Some(leader);
    node.advance(Duration::from_secs(15)).await;
    assert_eq!(node.read("sys/seal-status", "").await.at("/initialized"), &json!(true));
}

async fn with_store(way: &Arc<Way>) -> Harness {
    let (node, _) = joiner(way, 9, false, false);
    drop(
        node.call("PUT", "sys/init", "", json!({ "secret_shares": 1, "secret_threshold": 1 })).await.expect_status(200),
    );
    node
}

#[tokio::test]
async fn rft_01_joining_again_changes_nothing_of_a_member() {
    let (leader, members) = leader().await;
    let (node, cluster) = joiner(&Way::to(&leader), 2, false, false);
    drop(join(&node, json!({})).await);
    drop(open_by_shares(&leader, &node, &cluster).await.expect_status(200));
    let before = members.members.lock().unwrap().clone();
    let shown = |members: &[Member]| members.iter().map(|member| format!("{member:?}")).collect::<Vec<_>>();
    // The same node, from an empty directory in which only its key is left, elsewhere and without a vote.
    let (again, own) = joiner(&Way::to(&leader), 2, false, false);
    own.me.lock().unwrap().cluster_address = "10.9.9.9:1".to_owned();
    drop(join(&again, json!({ "non_voter": true })).await);
    drop(open_by_shares(&leader, &again, &own).await.expect_status(200));
    assert_eq!(shown(&members.members()), shown(&before));
    // Nor does one whose request is changed on its way.
    for meddle in [
        (|body| drop(body.insert("non_voter", true))) as fn(&mut Map),
        |body| drop(body.insert("cluster_addr", "10.6.6.6:1")),
        |body| drop(body.insert("api_addr", "https://10.6.6.6")),
    ] {
        let way = Arc::new(Way { leader: Mutex::new(Some(Arc::clone(&leader))), meddle, doctor: |_| {} });
        let (third, own) = joiner(&way, 3, false, false);
        drop(join(&third, json!({})).await);
        let refused = open_by_shares(&leader, &third, &own).await;
        refused.expect_error(503, "the join was refused");
        assert_eq!(members.votes().len(), 2);
    }
}

#[tokio::test]
async fn rft_10_a_name_is_one_key_and_a_removed_key_stays_outside() {
    let (leader, members) = leader().await;
    let (node, cluster) = joiner(&Way::to(&leader), 2, false, false);
    drop(join(&node, json!({})).await);
    drop(open_by_shares(&leader, &node, &cluster).await.expect_status(200));
    let refused = async |name: &str, key: u8| {
        let (other, own) = joiner(&Way::to(&leader), 3, false, false);
        *own.me.lock().unwrap() = Contact { name: name.to_owned(), key: [key; 32], ..contact(3) };
        drop(join(&other, json!({})).await);
        open_by_shares(&leader, &other, &own).await
    };
    refused("node-2", 3).await.expect_error(503, "another node has this name");
    refused("node-3", 2).await.expect_error(503, "a member by another name");
    assert_eq!(members.votes().len(), 2);
    let removed = leader.write("sys/storage/raft/remove-peer", ROOT, json!({ "server_id": "node-2" })).await;
    drop(removed.expect_status(204));
    refused("node-2", 2).await.expect_error(503, "was removed");
    refused("node-3", 2).await.expect_error(503, "was removed");
    assert_eq!(members.votes().len(), 1);
    // With an empty directory it has another key.
    drop(refused("node-2", 4).await.expect_status(200));
    assert_eq!(members.votes().len(), 2);
}

#[tokio::test]
async fn dos_08_a_challenge_costs_the_leader_nothing_that_stays() {
    let (leader, _) = leader().await;
    let key = "01".repeat(32);
    let knock = async |name: String| {
        leader.write("sys/storage/raft/bootstrap/challenge", "", json!({ "server_id": name, "node_key": key })).await
    };
    let before = (leader.store.snapshot().unwrap().version(), leader.node.routes().len());
    for number in 0..2_000 {
        drop(knock(format!("node-{number}")).await.expect_status(200));
    }
    for name in [String::new(), "a".repeat(32 * 1024), "a".repeat(257), "../a".to_owned(), "a b".to_owned()] {
        knock(name).await.expect_error(400, "server_id");
    }
    assert_eq!((leader.store.snapshot().unwrap().version(), leader.node.routes().len()), before);
    for body in
        [json!({}), json!({ "server_id": "a", "node_key": "00" }), json!({ "server_id": "a", "node_key": "zz" })]
    {
        assert_eq!(leader.write("sys/storage/raft/bootstrap/challenge", "", body.clone()).await.status, 400);
        assert_eq!(leader.write("sys/storage/raft/bootstrap/answer", "", body).await.status, 400);
    }
}

#[tokio::test]
async fn tim_04_a_node_that_cannot_let_in_says_nothing_of_the_others() {
    let (leader, members) = leader().await;
    let ask = async |path: &str| {
        let body = json!({
            "server_id": "b", "node_key": "01".repeat(32), "cluster_addr": "b:1", "challenge": "00", "proof": "00",
        });
        leader.write(&format!("sys/storage/raft/bootstrap/{path}"), "", body).await
    };
    *members.standing.lock().unwrap() = Standing::Follows(contact(3));
    for path in ["challenge", "answer"] {
        let refused = ask(path).await.expect_status(503);
        assert!(!refused.errors().contains("10.0.0") && !refused.errors().contains("node-"), "{refused:?}");
    }
    leader.node.seal().await.unwrap();
    for path in ["challenge", "answer"] {
        assert_eq!(ask(path).await.expect_status(503).errors(), "Vault is sealed");
    }
}

#[tokio::test]
async fn a_false_leader_plants_no_members() {
    let (leader, _) = leader().await;
    for doctor in [
        (|answer| {
            let Some(Body::List(members)) = answer.get_mut("members") else { return };
            let Some(Body::Map(first)) = members.first_mut() else { panic!("there is no member") };
            drop(first.insert("node_key", "09".repeat(32)));
        }) as fn(&mut Map),
        |answer| {
            let Some(Body::List(members)) = answer.get_mut("members") else { return };
            drop(members.pop());
        },
        |answer| {
            if answer.contains("proof") {
                drop(answer.insert("proof", "00".repeat(32)));
            }
        },
    ] {
        let way = Arc::new(Way { leader: Mutex::new(Some(Arc::clone(&leader))), meddle: |_| {}, doctor });
        let (node, own) = joiner(&way, 2, false, false);
        drop(join(&node, json!({})).await.expect_status(200));
        open_by_shares(&leader, &node, &own).await.expect_error(503, "its answer was not taken");
        assert!(own.members().is_empty());
    }
}
