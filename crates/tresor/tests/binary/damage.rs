//! A server in whose files something was changed: what it cannot read alone is refused, and in a cluster another node answers.
//!
//! Deliberately absent: what can be shown without files that others change; that is tested in the harness.

use std::path::Path;

use serde_json::{Value, json};

use super::support::cluster::{Here, Three, insist};
use super::support::{Cli, Http, Production, until};

/// Values that fill files beside the index, which takes them over when a few MiB wait.
const KEYS: usize = 80;
const VALUE_BYTES: usize = 100_000;

fn fill(http: &Http) {
    for key in 0..KEYS {
        insist(http, "POST", &format!("kv/{key}"), &json!({ "x": "v".repeat(VALUE_BYTES) }).to_string());
    }
}

/// Changes a bit in the first file of values, in the middle of what is there.
fn damage(data: &Path) {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut values: Vec<_> = files.filter(|path| name(path).starts_with("values-")).collect();
    values.sort();
    let file = values.first().expect("values lie beside the index");
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    assert!(middle > VALUE_BYTES, "{} bytes", bytes.len());
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Which keys cannot be read.
fn unreadable(http: &Http) -> Vec<usize> {
    (0..KEYS).filter(|key| http.get(&format!("kv/{key}")).status == 500).collect()
}

#[test]
fn a_value_that_was_changed_on_the_disk_is_refused_named_and_mended_by_writing_it() {
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    fill(&http);
    server.kill();
    damage(&production.data());

    let server = production.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    let [key] = unreadable(&http)[..] else { panic!("{}", server.log()) };
    let health = http.get("sys/health").expect(200).text_at("/storage");
    assert!(health.contains("`values-00000001.db` at offset "), "{health}");
    server.has_logged("a value beside the index cannot be read");
    let cli = Cli::new(production.home(), server.address, &keys.root);
    assert!(cli.succeed(&["read", "-field=condition", "sys/storage-status"]).contains("impaired"));
    http.post("kv/other", &json!({ "x": 1 })).expect(204);
    http.post(&format!("kv/{key}"), &json!({ "x": 1 })).expect(204);
    assert_eq!(http.get("sys/health").expect(200).at("/storage"), Value::Null);
    assert!(unreadable(&http).is_empty());
}

#[test]
fn a_leader_that_cannot_read_a_value_lets_another_lead_and_passes_on_to_it() {
    let mut three = Three::start(&Here);
    fill(&three.http(0));
    let impaired = (three.leader() + 1) % 3;
    three.stop(impaired);
    damage(&three.homes[impaired].data());
    three.start_again(impaired);
    three.serves(impaired);
    until("the damaged node to lead", || {
        let leader = three.leader();
        if leader != impaired {
            drop(three.http(leader).try_send("POST", "sys/step-down", "{}"));
        }
        (leader == impaired).then_some(())
    });
    let http = three.http(impaired);
    // Who reads it first may be told that it cannot be read, and nobody after that.
    let whole = |key: usize| http.try_send("GET", &format!("kv/{key}"), "").filter(|answer| answer.status == 200);
    for key in 0..KEYS {
        until("a value that can be read", || whole(key));
    }
    let others: Vec<usize> = (0..3).filter(|at| *at != impaired).collect();
    let leader = until("another to lead", || three.leader_seen_by(&[0, 1, 2]).filter(|at| *at != impaired));
    assert!(others.contains(&leader));
    assert!(unreadable(&http).is_empty());
    http.post("kv/more", &json!({ "x": 2 })).expect(204);
    for at in 0..3 {
        assert_eq!(three.http(at).get("kv/more").expect(200).at("/data/x"), json!(2));
    }
    let health = http.get("sys/health?standbyok=true").expect(200);
    assert!(health.text_at("/storage").contains("`values-"), "{}", health.text);
    // It is a member as any other: it takes what is written, and so what was damaged is replaced.
    fill(&three.http(leader));
    until("it to be whole", || (http.get("sys/health?standbyok=true").at("/storage") == Value::Null).then_some(()));
}
