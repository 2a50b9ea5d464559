//! What a node keeps in memory follows batches that another node made: both are fed the same entries of one log.
//!
//! Now and then the whole state comes instead of a batch, or what says what a batch changed is damaged. Deliberately absent: how
//! entries are agreed upon, which is `crates/consensus`'s.

use serde_json::{Value, json};
use tresor_harness::ROOT;

use super::pair::{Pair, Peer, Way};

/// Steps of every kind that something in memory follows, by number.
async fn step(leader: &Peer, kind: u8, number: u8, tokens: &mut Vec<String>) -> String {
    let name = format!("n{}", number % 3);
    let tenant = format!("t{}", number % 2);
    let (method, path, body) = match kind % 16 {
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
        11 => ("POST", format!("sys/namespaces/{tenant}"), json!({ "custom_metadata": { "n": number.to_string() } })),
        12 => ("DELETE", format!("sys/namespaces/{tenant}"), Value::Null),
        13 => ("POST", format!("{tenant}/sys/mounts/{name}"), json!({ "type": "kv-v1" })),
        14 => (
            "PUT",
            format!("{tenant}/sys/policies/acl/{name}"),
            json!({ "policy": format!("path \"kv/{number}\" {{ capabilities = [\"read\"] }}") }),
        ),
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
        pair.group.set_way(way);
        let step = format!("step {at}: {}", step(&pair.leader, *kind, *number, &mut tokens).await);
        // Devices are brought to what is stored by the background task.
        pair.leader.pass(1).await;
        pair.standby.pass(1).await;
        assert_eq!(pair.standby.node.stale_caches().unwrap(), [""; 0], "{step}");
        assert_eq!(pair.leader.node.stale_caches().unwrap(), [""; 0], "{step}");
        for path in ["sys/mounts", "sys/audit", "sys/quotas/lease-count?list=true", "sys/policies/acl?list=true"] {
            pair.compare("GET", path, ROOT, &step).await;
        }
        for tenant in ["t0", "t1"] {
            for path in ["sys/mounts", "sys/policies/acl?list=true", "sys/policies/acl/n0"] {
                pair.compare("GET", &format!("{tenant}/{path}"), ROOT, &step).await;
            }
        }
        pair.compare("GET", "sys/namespaces?list=true", ROOT, &step).await;
        for name in ["n0", "n1", "n2"] {
            pair.compare("GET", &format!("sys/policies/acl/{name}"), ROOT, &step).await;
            pair.compare("GET", &format!("{name}/secret"), ROOT, &step).await;
        }
        if let Some(token) = tokens.get(usize::from(*number) % tokens.len().max(1)) {
            pair.compare("GET", "auth/token/lookup-self", token, &step).await;
        }
    }
}
