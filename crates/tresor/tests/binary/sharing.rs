//! Three servers that share a store in PostgreSQL: one leads, the others pass on what they are asked, and whatever becomes of the
//! one that leads or of PostgreSQL, what was acknowledged is there.
//!
//! Deliberately absent: one server alone on a table (`postgresql`), and the lock by itself, which the store's own tests show.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_services::{Between, Postgres};

use crate::postgresql::storage;
use crate::support::cluster::{Here, Three, insist};
use crate::support::{Cli, Http, Production, under_load, until};

fn three(port: u16) -> Three<'static> {
    Three::sharing(&Here, &|home: &Production| {
        storage(port, &format!("path = \"{}\"\nha_enabled = \"true\"", home.data().display()))
    })
}

/// How long it takes until something is written through a node.
fn until_written(http: &Http) -> Duration {
    let began = Instant::now();
    insist(http, "POST", "kv/after", &json!({ "x": "1" }).to_string());
    began.elapsed()
}

fn others(three: &Three<'_>, of: usize) -> Vec<usize> {
    (0..3).filter(|at| *at != of && three.servers[*at].is_some()).collect()
}

#[test]
fn whoever_leads_is_killed_under_load_and_what_was_acknowledged_is_there_through_every_server() {
    let database = Postgres::start_durable().unwrap();
    let mut three = three(database.port());
    let nodes = [0, 1, 2].map(|at| three.http(at));
    let seen = under_load(&nodes, |load| {
        for _ in 0..3 {
            load.more(40);
            let leader = three.leader();
            three.servers[leader].take().unwrap().kill();
            let other = others(&three, leader)[0];
            let took = until_written(&three.http(other));
            assert!(took < Duration::from_secs(20), "another one leads after {took:?}");
            load.more(40);
            three.start_again(leader);
            three.serves(leader);
        }
        load.more(40);
    });
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
    let terms = database.sql("SELECT term FROM tresor_ha_locks WHERE id = 0").unwrap();
    assert!(terms.parse::<u64>().unwrap() >= 4, "{terms}");
}

#[test]
fn postgresql_is_killed_under_servers_that_share_it_and_nothing_is_lost() {
    let mut database = Postgres::start_durable().unwrap();
    let three = three(database.port());
    let nodes = [0, 1, 2].map(|at| three.http(at));
    let seen = under_load(&nodes, |load| {
        for _ in 0..2 {
            load.more(40);
            database.kill();
            // Processes of before, one for each connection, may not be gone yet.
            until("postgresql", || database.start_again().ok());
        }
        load.more(40);
    });
    for at in 0..3 {
        seen.is_kept_by(&three.http(at));
    }
}

#[test]
fn one_leads_and_the_others_say_so_and_pass_on_what_they_are_asked() {
    let database = Postgres::start().unwrap();
    let mut three = three(database.port());
    let leader = three.leader();
    let [one, other] = others(&three, leader)[..] else { panic!("two stand by") };
    let address = |three: &Three<'_>, at: usize| format!("http://{}", three.server(at).address);
    for at in 0..3 {
        let http = three.http(at);
        http.get("sys/health").expect(if at == leader { 200 } else { 429 });
        let told = http.get("sys/leader").expect(200);
        assert_eq!((told.at("/ha_enabled"), told.at("/is_self")), (json!(true), json!(at == leader)));
        assert_eq!(told.text_at("/leader_address"), address(&three, leader));
        assert_eq!(told.at("/raft_applied_index"), Value::Null);
        let nodes = until("all to be heard", || {
            let nodes = http.get("sys/ha-status").expect(200).at("/nodes");
            nodes.as_array().filter(|nodes| nodes.len() == 3).cloned()
        });
        let active: Vec<_> = nodes.iter().filter(|node| node["active_node"] == json!(true)).collect();
        assert_eq!(active.len(), 1, "{nodes:?}");
        assert_eq!(active[0]["api_address"], json!(address(&three, leader)));
        assert!(http.get("sys/storage/raft/configuration").text.contains("raft storage is not in use"));
    }
    // What is written through one is read through the other.
    three.http(one).post("kv/a", &json!({ "x": "1" })).expect(204);
    assert_eq!(three.http(other).get("kv/a").expect(200).at("/data/x"), json!("1"));
    let kept = three.http(one).with_header("x-vault-no-request-forwarding", "1").get("kv/a").expect(307);
    assert_eq!(kept.header("location").unwrap(), format!("{}/v1/kv/a", address(&three, leader)));
    // A stream is not passed on.
    three.http(one).get("sys/storage/raft/snapshot").expect(307);
    // What a node answers about itself it answers to those who may ask now, not when it was unsealed.
    let body = json!({ "policies": ["default"], "ttl": "1h" });
    three
        .http(one)
        .post("sys/policies/acl/looks", &json!({ "policy": "path \"sys/host-info\" { capabilities = [\"read\"] }" }))
        .expect(204);
    let token = three.http(other).post("auth/token/create", &json!({ "policies": ["looks"] })).expect(200);
    let token = token.text_at("/auth/client_token");
    let plain = three.http(other).post("auth/token/create", &body).expect(200).text_at("/auth/client_token");
    for at in 0..3 {
        three.server(at).http().with_token(&token).get("sys/host-info").expect(200);
        three.server(at).http().with_token(&plain).get("sys/host-info").expect(403);
    }
    three.http(one).post("auth/token/revoke", &json!({ "token": token })).expect(204);
    for at in 0..3 {
        three.server(at).http().with_token(&token).get("sys/host-info").expect(403);
    }
    // Stepping down, stopping and sealing let another lead at once.
    Cli::new(three.homes[leader].home(), three.server(leader).address, &three.root).succeed(&["operator", "step-down"]);
    let second = three.leader();
    assert_ne!(second, leader);
    assert!(until_written(&three.http(leader)) < Duration::from_secs(4));
    three.stop(second);
    assert!(until_written(&three.http(leader)) < Duration::from_secs(4));
    let third = three.leader();
    let last = others(&three, third)[0];
    three.http(third).post("sys/seal", &json!({})).expect(204);
    assert!(until_written(&three.http(last)) < Duration::from_secs(4));
    assert_eq!(three.http(last).get("kv/a").expect(200).at("/data/x"), json!("1"));
    assert_eq!(three.http(third).get("sys/health").status, 503);
    // Where nobody else could lead, stepping down changes nothing.
    three.http(last).post("sys/step-down", &json!({})).expect(204);
    three.http(last).get("kv/a").expect(200);
}

#[test]
fn a_leader_that_is_cut_off_answers_nothing_that_it_does_not_know_to_be_so() {
    let database = Postgres::start().unwrap();
    let wire = Between::to(database.port()).unwrap();
    // Whoever is first has the way that is cut.
    let ports = std::cell::Cell::new(wire.port());
    let three = Three::sharing(&Here, &|home: &Production| {
        let port = ports.replace(database.port());
        storage(port, &format!("path = \"{}\"\nha_enabled = true\nha_table = \"own_locks\"", home.data().display()))
    });
    assert_eq!(three.leader(), 0);
    three.http(1).post("kv/a", &json!({ "x": "1" })).expect(204);
    assert_eq!(three.http(0).get("kv/a").expect(200).at("/data/x"), json!("1"));
    wire.hold_after("");
    let leader = until("another leader", || three.leader_seen_by(&[1, 2]).filter(|leader| *leader != 0));
    insist(&three.http(leader), "POST", "kv/a", "{\"x\":\"2\"}");
    // It had the value in memory.
    if let Some(answer) = three.http(0).try_send("GET", "kv/a", "") {
        assert!(answer.status == 503 || answer.at("/data/x") == json!("2"), "{} {}", answer.status, answer.text);
    }
    wire.mend();
    let read = until("an answer", || three.http(0).try_send("GET", "kv/a", "").filter(|answer| answer.status == 200));
    assert_eq!(read.at("/data/x"), json!("2"));
    three.http(0).post("kv/a", &json!({ "x": "3" })).expect(204);
    assert_eq!(three.http(leader).get("kv/a").expect(200).at("/data/x"), json!("3"));
}
