//! What people and probes see of a cluster: `sys/health`, `sys/leader`, `sys/ha-status`, `sys/step-down`,
//! `sys/storage/raft/configuration` and changes of the members.
//!
//! The cluster is a double that says what a test wants it to say, and remembers what it was asked. Deliberately absent:
//! agreement and other nodes.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tresor_core::cluster::{
    About, Change, Cluster, ClusterError, Contact, Entry, Indexes, Member, Message, Needed, Standing,
};
use tresor_env::{BoxFuture, Signal};
use tresor_harness::{Harness, ROOT};

/// A cluster that says what it is told to say.
struct Scripted {
    has_log: bool,
    standing: Signal<Standing>,
    members: Mutex<Vec<Member>>,
    /// What it was asked to do, in order.
    asked: Mutex<Vec<String>>,
    /// How it answers what it is asked; `None`: it is done.
    refusal: Mutex<Option<ClusterError>>,
}

fn contact(number: u8) -> Contact {
    Contact {
        name: format!("node-{number}"),
        key: [number; 32],
        cluster_address: format!("10.0.0.{number}:8201"),
        api_address: format!("https://10.0.0.{number}:8200"),
    }
}

impl Scripted {
    /// A leader, `node-1`, of so many nodes, of which the last has no vote.
    fn leading(count: u8) -> Arc<Self> {
        Arc::new(Self::of(count))
    }

    fn of(count: u8) -> Self {
        let members = (1..=count).rev().map(|number| Member {
            contact: contact(number),
            is_voter: number < 3 || number < count,
            is_leader: number == 1,
            heard_ago: (number > 1).then(|| Duration::from_secs(u64::from(number))),
            matched: Some(Entry { term: 6, index: 40 }),
            version: (number == 2).then(|| "1.17.0".to_owned()),
        });
        Self {
            has_log: true,
            standing: Signal::new(Standing::Leads { term: 7 }),
            members: Mutex::new(members.collect()),
            asked: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    /// The node finds out that it stands otherwise.
    async fn turn(&self, harness: &Harness, standing: Standing) {
        self.standing.update(|known| *known = standing);
        harness.settle().await;
    }

    fn ask(&self, what: String) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.asked.lock().unwrap().push(what);
        let refusal = self.refusal.lock().unwrap().clone();
        Box::pin(std::future::ready(refusal.map_or(Ok(()), Err)))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Cluster for Scripted {
    fn is_enabled(&self) -> bool {
        true
    }

    fn has_log(&self) -> bool {
        self.has_log
    }

    fn me(&self) -> Contact {
        contact(1)
    }

    fn standing(&self) -> Standing {
        self.standing.read(Clone::clone)
    }

    fn changed(&self, known: Standing) -> BoxFuture<'_, Standing> {
        Box::pin(async move { self.standing.wait_for(|now| (*now != known).then(|| now.clone())).await })
    }

    fn confirm(&self, _: Needed, _: Duration) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn ask_leader(&self, _: About, _: Message, _: Duration) -> BoxFuture<'_, Result<Message, ClusterError>> {
        Box::pin(std::future::ready(Err(ClusterError::NoLeader)))
    }

    fn step_down(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.ask("step down".to_owned())
    }

    fn members(&self) -> Vec<Member> {
        self.members.lock().unwrap().clone()
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.ask(format!("{change:?}"))
    }

    fn indexes(&self) -> Indexes {
        Indexes { last: 43, committed: 42, applied: 41, members: 12 }
    }
}

/// Health's code for each of these queries.
async fn codes<const N: usize>(harness: &Harness, queries: [&str; N]) -> [u16; N] {
    let mut codes = [0; N];
    for (code, query) in codes.iter_mut().zip(queries) {
        *code = harness.read(&format!("sys/health{query}"), "").await.status;
        assert_eq!(harness.call("HEAD", &format!("sys/health{query}"), "", json!(null)).await.status, *code);
    }
    codes
}

#[tokio::test]
async fn health_tells_load_balancers_who_leads_and_who_can_serve() {
    let cluster = Scripted::leading(3);
    let mut harness = Harness::start_in(cluster.clone()).await;
    let queries = ["", "?standbyok=true", "?perfstandbyok=true", "?standbyok", "?activecode=299&standbycode=298"];
    assert_eq!(codes(&harness, queries).await, [200, 200, 200, 200, 299]);
    let health = harness.read("sys/health", "").await;
    assert_eq!((health.at("/standby"), health.json.get("ha_connection_healthy")), (&json!(false), None));

    cluster.turn(&harness, Standing::Follows(contact(2))).await;
    assert_eq!(codes(&harness, queries).await, [429, 200, 429, 429, 298]);
    let health = harness.read("sys/health?standbyok=true", "").await;
    assert_eq!((health.at("/standby"), health.at("/performance_standby")), (&json!(true), &json!(false)));
    assert_eq!((health.at("/sealed"), health.at("/ha_connection_healthy")), (&json!(false), &json!(true)));

    // A node that would refuse requests is not looked upon as one that takes them.
    // While another leader is being chosen, requests wait.
    cluster.turn(&harness, Standing::Leaderless).await;
    assert_eq!(codes(&harness, queries).await, [429, 200, 429, 429, 298]);
    harness.advance(Duration::from_secs(2)).await;
    cluster.turn(&harness, Standing::Follows(contact(3))).await;
    harness.advance(Duration::from_secs(9)).await;
    cluster.turn(&harness, Standing::Leaderless).await;
    harness.advance(Duration::from_secs(2)).await;
    assert_eq!(codes(&harness, queries).await, [429, 200, 429, 429, 298]);
    harness.advance(Duration::from_secs(2)).await;
    assert_eq!(codes(&harness, queries).await, [474; 5]);
    assert_eq!(codes(&harness, ["?haunhealthycode=297&standbyok=true"]).await, [297]);
    let health = harness.read("sys/health", "").await;
    assert_eq!((health.at("/standby"), health.at("/ha_connection_healthy")), (&json!(true), &json!(false)));

    harness.restart().await;
    cluster.turn(&harness, Standing::Follows(contact(2))).await;
    assert_eq!(codes(&harness, queries).await, [503; 5]);
    assert_eq!(codes(&harness, ["?sealedcode=204&standbyok=true"]).await, [204]);
}

#[tokio::test]
async fn the_time_of_a_standby_that_hears_nothing_of_the_leaders_does_not_lag() {
    let cluster = Arc::new(Scripted { has_log: false, ..Scripted::of(3) });
    let mut harness = Harness::start_in(cluster.clone()).await;
    // The leader's mark is as old by now.
    harness.advance(Duration::from_secs(40)).await;
    let now = harness.node.now();
    harness.kill();
    cluster.turn(&harness, Standing::Follows(contact(2))).await;
    harness.unseal().await;
    harness.settle().await;
    let health = harness.read("sys/health", "").await.expect_status(429);
    assert_eq!(health.at("/server_time_utc"), &json!(now.seconds()));
}

#[tokio::test]
async fn everybody_is_told_which_node_leads() {
    let cluster = Scripted::leading(3);
    let mut harness = Harness::start_in(cluster.clone()).await;
    let began = tresor_wire::time::rfc3339(harness.node.now());
    harness.advance(Duration::from_secs(60)).await;
    let leader = |is_self: bool, since: &str, number: Option<u8>| {
        let address = |scheme: &str| number.map_or(String::new(), |number| format!("https://10.0.0.{number}:{scheme}"));
        json!({
            "ha_enabled": true, "is_self": is_self, "active_time": since, "leader_address": address("8200"),
            "leader_cluster_address": address("8201"), "performance_standby": false,
            "performance_standby_last_remote_wal": 0, "raft_committed_index": 42, "raft_applied_index": 41,
        })
    };
    const NEVER: &str = "0001-01-01T00:00:00Z";
    assert_eq!(harness.read("sys/leader", "").await.json, leader(true, &began, Some(1)));
    cluster.turn(&harness, Standing::Leaderless).await;
    assert_eq!(harness.read("sys/leader", "").await.json, leader(false, NEVER, None));
    cluster.turn(&harness, Standing::Follows(contact(2))).await;
    assert_eq!(harness.read("sys/leader", "").await.json, leader(false, NEVER, Some(2)));
    harness.restart().await;
    assert_eq!(harness.read("sys/leader", "").await.json, leader(false, NEVER, Some(2)));
    // It leads, and is not active: it has no keys.
    cluster.turn(&harness, Standing::Leads { term: 9 }).await;
    assert_eq!(harness.read("sys/leader", "").await.json, leader(false, NEVER, None));
}

#[tokio::test]
async fn ha_status_shows_every_node_by_its_api_address_and_when_it_was_heard() {
    let harness = Harness::start_in(Scripted::leading(3)).await;
    let answer = harness.read("sys/ha-status", ROOT).await;
    let heard = |ago| {
        let now = harness.node.now();
        json!(tresor_wire::time::rfc3339(now.less(Duration::from_secs(ago))))
    };
    let node = |number: u8, active: bool, echo, version: &str| {
        json!({
            "hostname": format!("node-{number}"), "api_address": format!("https://10.0.0.{number}:8200"),
            "cluster_address": format!("https://10.0.0.{number}:8201"), "active_node": active, "last_echo": echo,
            "version": version,
        })
    };
    let nodes =
        json!([node(1, true, json!(null), "1.16.3"), node(2, false, heard(2), "1.17.0"), node(3, false, heard(3), "")]);
    // Clients look for them outside of `data`.
    assert_eq!((&answer.json["nodes"], &answer.json["data"]["nodes"]), (&nodes, &nodes), "{answer:?}");
}

#[tokio::test]
async fn the_configuration_names_servers_and_their_votes() {
    let harness = Harness::start_in(Scripted::leading(3)).await;
    let answer = harness.read("sys/storage/raft/configuration", ROOT).await;
    let server = |number: u8, leader: bool, voter: bool| {
        json!({
            "node_id": format!("node-{number}"), "address": format!("10.0.0.{number}:8201"), "leader": leader,
            "protocol_version": "3", "voter": voter,
        })
    };
    let servers = json!([server(1, true, true), server(2, false, true), server(3, false, false)]);
    assert_eq!(answer.json["data"], json!({ "config": { "index": 12, "servers": servers } }));
}

#[tokio::test]
async fn the_autopilot_shows_what_it_makes_of_each_node() {
    let harness = Harness::start_in(Scripted::leading(3)).await;
    let state = harness.read("sys/storage/raft/autopilot/state", ROOT).await;
    let server = |number: u8, status: &str, kind: &str, heard: &str, version: &str| {
        let name = format!("node-{number}");
        json!({
            "id": name, "name": name, "address": format!("10.0.0.{number}:8201"), "node_status": "alive",
            "last_contact": heard, "last_term": 6, "last_index": 40, "healthy": true,
            "stable_since": "0001-01-01T00:00:00Z", "status": status, "version": version, "node_type": kind,
        })
    };
    let servers = json!({
        "node-1": server(1, "leader", "voter", "0s", ""),
        "node-2": server(2, "voter", "voter", "2s", "1.17.0"),
        "node-3": server(3, "non-voter", "non-voter", "3s", ""),
    });
    assert_eq!(state.json["data"]["servers"], servers);
    assert_eq!(
        (&state.json["data"]["leader"], &state.json["data"]["voters"]),
        (&json!("node-1"), &json!(["node-1", "node-2"]))
    );
    assert_eq!(state.json["data"]["non_voters"], json!(["node-3"]));
}

#[tokio::test]
async fn members_are_changed_by_name_and_refusals_say_why() {
    let cluster = Scripted::leading(3);
    let harness = Harness::start_in(cluster.clone()).await;
    for (path, asked) in
        [("remove-peer", "Remove(\"node-3\")"), ("promote", "Promote(\"node-3\")"), ("demote", "Demote(\"node-3\")")]
    {
        let path = format!("sys/storage/raft/{path}");
        let answer = harness.write(&path, ROOT, json!({ "server_id": "node-3" })).await;
        assert_eq!((answer.status, cluster.asked()), (204, vec![asked.to_owned()]), "{answer:?}");
        let nobody = harness.write(&path, ROOT, json!({})).await;
        assert_eq!((nobody.status, cluster.asked().len()), (400, 0), "{nobody:?}");
    }
    for (refusal, status, text) in [
        (ClusterError::Refused("node-9 is no member".to_owned()), 400, "node-9 is no member"),
        (ClusterError::NoLeader, 503, "no leader"),
        (ClusterError::Uncertain, 500, "is not known"),
        (ClusterError::Stopped("its disk".to_owned()), 500, "internal error"),
    ] {
        *cluster.refusal.lock().unwrap() = Some(refusal);
        let answer = harness.write("sys/storage/raft/remove-peer", ROOT, json!({ "server_id": "node-9" })).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.json["errors"][0].as_str().unwrap().contains(text), "{answer:?}");
    }
}

#[tokio::test]
async fn stepping_down_takes_sudo_and_asks_the_cluster_once_it_is_recorded() {
    let cluster = Scripted::leading(3);
    let harness = Harness::start_in(cluster.clone()).await;
    let powerless = harness.token_with(r#"path "sys/step-down" { capabilities = ["update"] }"#).await;
    assert_eq!(harness.write("sys/step-down", &powerless, json!({})).await.status, 403);
    assert!(cluster.asked().is_empty());
    assert_eq!(harness.call("PUT", "sys/step-down", ROOT, json!({})).await.status, 204);
    assert_eq!(cluster.asked(), ["step down"]);
    // Somebody else leads already: that is what was wanted.
    *cluster.refusal.lock().unwrap() = Some(ClusterError::NotLeader);
    assert_eq!(harness.write("sys/step-down", ROOT, json!({})).await.status, 204);
    *cluster.refusal.lock().unwrap() = Some(ClusterError::NoLeader);
    assert_eq!(harness.write("sys/step-down", ROOT, json!({})).await.status, 503);
}

#[tokio::test]
async fn where_there_is_nobody_else_stepping_down_changes_nothing() {
    let cluster = Scripted::leading(1);
    let harness = Harness::start_in(cluster.clone()).await;
    assert_eq!(harness.write("sys/step-down", ROOT, json!({})).await.status, 204);
    assert!(cluster.asked().is_empty());

    let alone = Harness::start().await;
    assert_eq!(alone.write("sys/step-down", ROOT, json!({})).await.status, 204);
    assert_eq!(alone.read("sys/ha-status", ROOT).await.json["nodes"], json!([]));
    for (method, path) in [("GET", "configuration"), ("POST", "remove-peer")] {
        let answer = alone.call(method, &format!("sys/storage/raft/{path}"), ROOT, json!({ "server_id": "x" })).await;
        assert_eq!((answer.status, &answer.json["errors"][0]), (400, &json!("raft storage is not in use")));
    }
}
