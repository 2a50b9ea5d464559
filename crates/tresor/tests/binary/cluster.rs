//! A cluster of three servers as its operators see it: commands, codes, and a majority that is lost.

use std::net::SocketAddr;

use serde_json::json;

use super::support::cluster::{Here, Three, insist, members};
use super::support::until;

/// The lines of a table, each as its cells.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn operators_see_the_nodes_and_what_is_left_of_them_goes_on() {
    let mut three = Three::start(&Here);
    let leader = three.leader();
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let name = |at: usize| format!("node-{}", at + 1);
    let health = |three: &Three, at: usize, query: &str| three.http(at).get(&format!("sys/health{query}")).status;

    // Whichever node is asked, the answer is the same.
    for at in 0..3 {
        let peers = three.cli(at).succeed(&["operator", "raft", "list-peers"]);
        let states: Vec<_> = table(&peers).iter().map(|row| (row[0].to_owned(), row[2] == "leader", row[3])).collect();
        let expected: Vec<_> = (0..3).map(|at| (name(at), at == leader, "true")).collect();
        assert_eq!(states, expected, "{peers}");
        let listed = three.cli(at).succeed(&["operator", "members", "-format=json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let active = listed["Nodes"].as_array().unwrap().iter().filter(|node| node["active_node"] == json!(true));
        let active: Vec<_> = active.map(|node| node["hostname"].as_str().unwrap().to_owned()).collect();
        assert_eq!(active, [name(leader)]);
        let status = three.cli(at).run(&["status"]);
        let mode = if at == leader { "active" } else { "standby" };
        let has_mode = status.output.lines().any(|line| line.starts_with("HA Mode") && line.ends_with(mode));
        assert!(status.code == 0 && has_mode && status.output.contains("Raft Applied Index"), "{}", status.output);
        assert_eq!(health(&three, at, ""), if at == leader { 200 } else { 429 });
        assert_eq!(health(&three, at, "?standbyok=true"), 200);
    }

    // Through a standby: another leads, a vote is taken and given.
    three.cli(one).succeed(&["operator", "step-down"]);
    until("another leader", || (three.leader() != leader).then_some(()));
    assert_eq!(health(&three, leader, ""), 429);
    let leader = three.leader();
    // A leader that has only begun has not heard from everybody yet, and takes no vote before.
    let demoted = || (three.cli(one).run(&["operator", "raft", "demote", &name(other)]).code == 0).then_some(());
    until("a vote less", demoted);
    assert_eq!(members(&three.http(one)).unwrap()[other], (name(other), false));
    three.cli(other).succeed(&["operator", "raft", "promote", &name(other)]);
    let twice = three.cli(one).run(&["operator", "raft", "promote", &name(other)]);
    assert!(twice.code == 2 && twice.errors.contains(&format!("{} votes already", name(other))), "{}", twice.errors);

    // Two are lost; what is left says that it serves nobody, until an operator says that it is alone.
    let left = (0..3).find(|at| *at != leader && *at != one).unwrap();
    insist(&three.http(left), "POST", "kv/a", &json!({ "x": "kept" }).to_string());
    for lost in (0..3).filter(|at| *at != left) {
        three.servers[lost].take().unwrap().kill();
    }
    until("it to see that", || (health(&three, left, "?standbyok=true") == 474).then_some(()));
    let server = three.servers[left].take().unwrap();
    let address = SocketAddr::new(server.address.ip(), server.address.port() + 1);
    server.kill();
    let file = three.homes[left].data().join("raft/peers.json");
    std::fs::write(&file, json!([{ "id": name(left), "address": address.to_string() }]).to_string()).unwrap();
    three.start_again(left);
    assert_eq!(insist(&three.http(left), "GET", "kv/a", "").text_at("/data/x"), "kept");
    insist(&three.http(left), "POST", "kv/b", &json!({ "x": "2" }).to_string());
    assert_eq!(members(&three.http(left)).unwrap(), [(name(left), true)]);
    assert!(!file.exists() && file.with_file_name("peers.json.used").exists());
}
