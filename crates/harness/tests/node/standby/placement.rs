//! On which node a request runs, and what whoever asks sees of it.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tresor_core::Elsewhere;
use tresor_harness::{Answer, ROOT};

use super::pair::{Fate, Pair};

async fn pair_with_kv() -> Pair {
    let pair = Pair::start().await;
    drop(pair.leader.call("POST", "sys/mounts/kv", ROOT, json!({ "type": "kv-v2" })).await.expect_status(204));
    pair
}

#[tokio::test]
async fn who_wrote_through_any_node_reads_it_through_any_node() {
    let pair = pair_with_kv().await;
    for number in 0..6 {
        let (writer, reader) =
            if number % 2 == 0 { (&pair.standby, &pair.leader) } else { (&pair.leader, &pair.standby) };
        let body = json!({ "data": { "number": number } });
        drop(writer.call("POST", "kv/data/a", ROOT, body).await.expect_status(200));
        for reader in [reader, writer] {
            let read = reader.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_status(200);
            assert_eq!(read.at("/data/data/number"), number);
        }
    }
    assert_eq!(pair.forwarded(), 3, "only what was written through the standby was passed on");
}

#[tokio::test]
async fn a_login_and_a_token_made_through_a_standby_are_good_everywhere() {
    let pair = pair_with_kv().await;
    drop(pair.standby.call("POST", "sys/auth/userpass", ROOT, json!({ "type": "userpass" })).await.expect_status(204));
    let user = json!({ "password": "correct horse" });
    drop(pair.standby.call("POST", "auth/userpass/users/u", ROOT, user.clone()).await.expect_status(204));
    let login = pair.standby.call("POST", "auth/userpass/login/u", "", user).await.expect_status(200);
    let token = login.text_at("/auth/client_token");
    for peer in [&pair.leader, &pair.standby] {
        drop(peer.call("GET", "auth/token/lookup-self", &token, Value::Null).await.expect_status(200));
    }
    drop(pair.standby.call("POST", "auth/token/revoke-self", &token, Value::Null).await.expect_status(204));
    for peer in [&pair.leader, &pair.standby] {
        peer.call("GET", "auth/token/lookup-self", &token, Value::Null).await.expect_error(403, "permission denied");
    }
}

#[tokio::test]
async fn a_tenant_is_served_by_any_node_and_what_is_passed_on_stays_in_its_namespace() {
    let pair = pair_with_kv().await;
    drop(pair.standby.call("POST", "sys/namespaces/a", ROOT, json!({})).await.expect_status(200));
    let policy = json!({ "policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"sudo\"] }" });
    drop(pair.standby.call("PUT", "a/sys/policies/acl/all", ROOT, policy).await.expect_status(204));
    let wish = json!({ "policies": ["all"], "ttl": "1h", "no_parent": true });
    let made = pair.leader.call("POST", "a/auth/token/create", ROOT, wish).await.expect_status(200);
    let token = made.text_at("/auth/client_token");
    drop(pair.standby.call("POST", "a/sys/mounts/kv", &token, json!({ "type": "kv-v1" })).await.expect_status(204));
    drop(pair.standby.call("POST", "a/kv/x", &token, json!({ "of": "a" })).await.expect_status(204));
    pair.forwarded();
    for peer in [&pair.leader, &pair.standby] {
        assert_eq!(peer.call("GET", "a/kv/x", &token, Value::Null).await.at("/data/of"), "a");
        assert_eq!(peer.call("GET", "kv/x", &token, Value::Null).await.status, 403);
    }
    assert_eq!(pair.forwarded(), 0, "reads run where they arrive");
}

#[tokio::test]
async fn a_use_of_a_limited_token_is_counted_once_whoever_is_asked() {
    let pair = pair_with_kv().await;
    let made = json!({ "num_uses": 3, "policies": ["root"] });
    let token = pair.leader.call("POST", "auth/token/create", ROOT, made).await.text_at("/auth/client_token");
    pair.forwarded();
    for _ in 0..3 {
        drop(pair.standby.call("GET", "auth/token/lookup-self", &token, Value::Null).await.expect_status(200));
    }
    assert_eq!(pair.forwarded(), 3, "a read that counts is a write");
    for peer in [&pair.leader, &pair.standby] {
        peer.call("GET", "auth/token/lookup-self", &token, Value::Null).await.expect_error(403, "permission denied");
    }
}

#[tokio::test]
async fn what_is_passed_on_is_recorded_where_it_runs_and_nowhere_else() {
    let pair = pair_with_kv().await;
    let device = json!({ "type": "file", "options": { "file_path": "/log/audit" } });
    drop(pair.leader.call("PUT", "sys/audit/file", ROOT, device).await.expect_status(204));
    pair.leader.pass(1).await;
    pair.standby.pass(1).await;
    let before = (pair.leader.audited("/log/audit").len(), pair.standby.audited("/log/audit").len());
    drop(pair.standby.call("POST", "kv/data/a", ROOT, json!({ "data": { "a": 1 } })).await.expect_status(200));
    drop(pair.standby.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_status(200));
    pair.leader.pass(1).await;
    pair.standby.pass(1).await;
    let (leader, standby) = (pair.leader.audited("/log/audit"), pair.standby.audited("/log/audit"));
    let of = |lines: &[String], from: usize, operation: &str| {
        lines[from..].iter().filter(|line| line.contains(&format!("\"operation\":\"{operation}\""))).count()
    };
    assert_eq!((of(&leader, before.0, "create"), of(&standby, before.1, "create")), (2, 0));
    assert_eq!((of(&leader, before.0, "read"), of(&standby, before.1, "read")), (0, 2));
    assert!(leader[before.0..].iter().all(|line| line.contains("127.0.0.1")), "the client's address arrives");
    // Which node passed it on is told of the one and of nothing else.
    let told = |lines: &[String], text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let passed_on = &leader[before.0..];
    assert_eq!(told(passed_on, "\"operation\":\"create\""), told(passed_on, "forwarded"));
    assert_eq!(told(passed_on, "\"forwarded_from\":\"10.0.0.1:8201\"}"), 1);
    assert_eq!(told(passed_on, "\"forwarded\":true}"), 1);
    assert_eq!((told(&leader[..before.0], "forwarded"), told(&standby, "forwarded")), (0, 0));
}

#[tokio::test]
async fn rft_12_no_header_says_where_a_request_that_is_passed_on_came_from() {
    let pair = pair_with_kv().await;
    let mut tokens = Vec::new();
    for range in ["127.0.0.1/32", "10.9.0.0/16"] {
        let body = json!({ "policies": ["root"], "ttl": "1h" });
        let role = json!({ "token_bound_cidrs": [range], "allowed_policies": ["root"] });
        drop(pair.leader.call("POST", "auth/token/roles/here", ROOT, role).await.expect_status(204));
        let made = pair.leader.call("POST", "auth/token/create/here", ROOT, body).await.expect_status(200);
        tokens.push(made.text_at("/auth/client_token"));
    }
    pair.forwarded();
    let forged = [
        ("X-Forwarded-For", "10.9.0.1"),
        ("Forwarded", "for=10.9.0.1"),
        ("X-Real-IP", "10.9.0.1"),
        ("X-Vault-Forward", "active-node"),
    ];
    for (token, status) in tokens.iter().zip([200, 403]) {
        for headers in [&[][..], &forged] {
            let body = json!({ "data": { "a": 1 } });
            assert_eq!(pair.standby.call_with("POST", "kv/data/a", token, body, headers).await.status, status);
        }
    }
    assert!(pair.forwarded() >= 2);
}

#[tokio::test]
async fn who_wants_nothing_passed_on_is_sent_to_the_leader() {
    let pair = pair_with_kv().await;
    let header = [("X-Vault-No-Request-Forwarding", "true")];
    let body = json!({ "data": { "a": 1 } });
    let path = "kv/data/a%20b?version=1&x=%2F";
    let sent = pair.standby.call_with("POST", path, ROOT, body.clone(), &header).await.expect_status(307);
    let location = sent.headers.get("location").unwrap().to_str().unwrap();
    assert_eq!(location, format!("https://node0.example:8200/v1/{path}"));
    assert_eq!(pair.forwarded(), 0);
    drop(pair.leader.call_with("POST", path, ROOT, body, &header).await.expect_status(200));
    // What runs here need not be passed on.
    drop(pair.standby.call_with("GET", "kv/data/a%20b", ROOT, Value::Null, &header).await.expect_status(200));
    drop(
        pair.standby.call_with("GET", "kv/data/a%20b", ROOT, Value::Null, &[("X-Vault-Forward", "active-node")]).await,
    );
    assert_eq!(pair.forwarded(), 1);
}

#[tokio::test]
async fn a_node_that_passes_nothing_on_sends_everybody_to_the_leader_with_what_it_does_not_do_itself() {
    let pair = Pair::start_with(Elsewhere::Redirect).await;
    drop(pair.leader.call("POST", "sys/mounts/kv", ROOT, json!({ "type": "kv-v2" })).await.expect_status(204));
    let body = json!({ "data": { "a": 1 } });
    for (method, path, token) in [
        ("POST", "kv/data/a%20b?version=1&x=%2F", ROOT),
        ("DELETE", "kv/data/a", "nobody's"),
        ("POST", "sys/storage/raft/bootstrap/challenge", ""),
    ] {
        let sent = pair.standby.call(method, path, token, body.clone()).await.expect_status(307);
        let location = sent.headers.get("location").unwrap().to_str().unwrap();
        assert_eq!(location, format!("https://node0.example:8200/v1/{path}"));
    }
    drop(pair.leader.call("POST", "kv/data/a", ROOT, body).await.expect_status(200));
    drop(pair.standby.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_status(200));
    assert_eq!(pair.forwarded(), 0);
}

#[tokio::test]
async fn rft_12_nothing_that_a_client_sends_counts_as_passed_on() {
    let pair = pair_with_kv().await;
    for name in ["X-Vault-Forwarded", "X-Forwarded-For", "X-Vault-Request-Forwarded", "X-Vault-Forward"] {
        let answer = pair.standby.call_with("GET", "kv/data/a", "", Value::Null, &[(name, "127.0.0.9")]).await;
        answer.expect_error(403, "permission denied");
        drop(
            pair.standby
                .call_with("POST", "kv/data/a", ROOT, json!({ "data": {} }), &[(name, "127.0.0.9")])
                .await
                .expect_status(200),
        );
        assert_eq!(pair.forwarded(), 1, "{name}");
    }
}

#[tokio::test]
async fn without_a_leader_nothing_is_answered_but_that() {
    let pair = pair_with_kv().await;
    drop(pair.leader.call("POST", "kv/data/a", ROOT, json!({ "data": { "a": 1 } })).await.expect_status(200));
    for is_known in [false, true] {
        pair.group.let_lead(is_known.then_some(0));
        pair.group.has_quorum.store(false, Ordering::Relaxed);
        pair.group.set_fate(Fate::Unreachable);
        for (method, body) in [("GET", Value::Null), ("POST", json!({ "data": {} }))] {
            let call = pair.standby.call(method, "kv/data/a", ROOT, body);
            let clock = async {
                for _ in 0..20 {
                    pair.standby.pass(1).await;
                }
            };
            let (answer, ()) = tokio::join!(call, clock);
            answer.expect_error(503, "local node not active but active cluster node not found");
        }
    }
    pair.group.has_quorum.store(true, Ordering::Relaxed);
    pair.group.set_fate(Fate::Arrives);
    drop(pair.standby.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_status(200));
}

#[tokio::test]
async fn a_request_waits_for_a_leader_that_comes_in_time() {
    let pair = pair_with_kv().await;
    pair.group.let_lead(None);
    let body = json!({ "data": { "a": 1 } });
    let calls = async {
        tokio::join!(
            pair.standby.call("POST", "kv/data/a", ROOT, body.clone()),
            pair.leader.call("POST", "kv/data/b", ROOT, body.clone()),
            pair.leader.call("LIST", "kv/metadata", ROOT, Value::Null),
        )
    };
    let change = async {
        for peer in [&pair.leader, &pair.standby] {
            peer.pass(1).await;
        }
        pair.group.let_lead(Some(1));
        for peer in [&pair.leader, &pair.standby] {
            peer.pass(1).await;
        }
    };
    let ((through_standby, through_leader, listed), ()) = tokio::join!(calls, change);
    for answer in [through_standby, through_leader, listed] {
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
    }
    for peer in [&pair.leader, &pair.standby] {
        let listed = peer.call("LIST", "kv/metadata", ROOT, Value::Null).await.expect_status(200);
        assert_eq!(*listed.at("/data/keys"), json!(["a", "b"]));
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_told_as_such_and_nothing_is_sent_twice() {
    let pair = pair_with_kv().await;
    pair.group.set_fate(Fate::AnswerLost);
    let answer = pair.standby.call("POST", "kv/data/a", ROOT, json!({ "data": { "a": 1 } })).await;
    answer.expect_error(502, "whether the request was done is not known");
    assert_eq!(pair.forwarded(), 1);
    let read = pair.leader.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_status(200);
    assert_eq!(read.at("/data/metadata/version"), 1);
}

#[tokio::test]
async fn a_leader_that_was_deposed_refuses_nothing_by_what_it_has_and_finds_nothing_done() {
    // Writes without a token that it knows, and revokes a token that it does not know, which is done as soon as it is asked.
    for (token, path, body, status) in [
        ("hvs.unknown", "kv/data/a", json!({ "data": {} }), 403),
        (ROOT, "auth/token/revoke", json!({ "token": "hvs.unknown" }), 204),
    ] {
        let pair = pair_with_kv().await;
        let answer = ask_the_deposed(&pair, path, token, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(pair.forwarded(), 1, "the one that leads has answered it");
    }
}

async fn ask_the_deposed(pair: &Pair, path: &str, token: &str, body: Value) -> Answer {
    // It does not know yet, and a majority follows another.
    pair.group.has_quorum.store(false, Ordering::Relaxed);
    let call = pair.leader.call("POST", path, token, body);
    let change = async {
        pair.leader.pass(1).await;
        pair.group.let_lead(Some(1));
        pair.group.has_quorum.store(true, Ordering::Relaxed);
        pair.standby.pass(1).await;
        pair.leader.pass(1).await;
    };
    let (answer, ()) = tokio::join!(call, change);
    answer
}

#[tokio::test]
async fn sealing_is_about_the_node_that_is_asked() {
    let pair = pair_with_kv().await;
    drop(pair.standby.call("POST", "sys/seal", ROOT, Value::Null).await.expect_status(204));
    pair.standby.call("GET", "kv/data/a", ROOT, Value::Null).await.expect_error(503, "sealed");
    drop(pair.leader.call("GET", "kv/config", ROOT, Value::Null).await.expect_status(200));
}

#[tokio::test]
async fn what_is_asked_for_wrapped_through_any_node_is_opened_once_through_any_node() {
    let pair = pair_with_kv().await;
    drop(pair.leader.call("POST", "kv/data/a", ROOT, json!({ "data": { "a": 1 } })).await.expect_status(200));
    let header = [("X-Vault-Wrap-TTL", "60")];
    for (maker, opener) in [(&pair.standby, &pair.leader), (&pair.leader, &pair.standby)] {
        let made = maker.call_with("GET", "kv/data/a", ROOT, Value::Null, &header).await.expect_status(200);
        assert_eq!(made.at("/data"), &Value::Null);
        let token = made.text_at("/wrap_info/token");
        for looker in [maker, opener] {
            let shown = looker.call("GET", "sys/wrapping/lookup", &token, Value::Null).await.expect_status(200);
            assert_eq!(shown.at("/data/creation_path"), "kv/data/a");
        }
        let opened = opener.call("POST", "sys/wrapping/unwrap", &token, Value::Null).await.expect_status(200);
        assert_eq!(opened.at("/data/data/a"), 1);
        for again in [maker, opener] {
            let refused = again.call("POST", "sys/wrapping/unwrap", &token, Value::Null).await;
            refused.expect_error(400, "wrapping token is not valid or does not exist");
        }
    }
    let token = pair.leader.call_with("GET", "kv/data/a", ROOT, Value::Null, &header).await.text_at("/wrap_info/token");
    let crowd = (0..20).map(|at| {
        let node = if at % 2 == 0 { &pair.leader } else { &pair.standby };
        node.call("POST", "sys/wrapping/unwrap", ROOT, json!({ "token": token }))
    });
    let opened = futures_util::future::join_all(crowd).await;
    assert_eq!(opened.iter().filter(|answer| answer.status == 200).count(), 1);
}

#[tokio::test]
async fn wrong_passwords_add_up_whichever_node_is_asked() {
    let pair = pair_with_kv().await;
    drop(pair.leader.call("POST", "sys/auth/userpass", ROOT, json!({ "type": "userpass" })).await.expect_status(204));
    let user = json!({ "password": "right" });
    drop(pair.leader.call("POST", "auth/userpass/users/u", ROOT, user.clone()).await.expect_status(204));
    for attempt in 0..5 {
        let node = if attempt % 2 == 0 { &pair.standby } else { &pair.leader };
        let wrong = node.call("POST", "auth/userpass/login/u", "", json!({ "password": "wrong" })).await;
        wrong.expect_error(400, "invalid username or password");
    }
    for node in [&pair.standby, &pair.leader] {
        node.call("POST", "auth/userpass/login/u", "", user.clone()).await.expect_error(403, "permission denied");
        let listed = node.call("GET", "sys/locked-users", ROOT, Value::Null).await.expect_status(200);
        assert_eq!(listed.at("/data/total"), 1);
    }
}
