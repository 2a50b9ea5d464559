//! What roles and users say of the tokens that they lead to: bound to an address, and asked again when these are renewed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing step ends the test")]

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use tresor_harness::Harness;

async fn with_methods() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "password": "right", "token_policies": "a" })).await;
    harness.prepare("POST", "sys/auth/approle", json!({ "type": "approle" })).await;
    harness.prepare("POST", "auth/approle/role/r", json!({ "token_policies": "a", "bind_secret_id": true })).await;
    harness
}

async fn by_password(harness: &Harness) -> String {
    let answer = harness.write("auth/userpass/login/bob", "", json!({ "password": "right" })).await;
    answer.expect_status(200).text_at("/auth/client_token")
}

async fn by_role(harness: &Harness) -> String {
    let id = harness.prepare("GET", "auth/approle/role/r/role-id", Value::Null).await.text_at("/data/role_id");
    let secret = harness.prepare("POST", "auth/approle/role/r/secret-id", json!({})).await.text_at("/data/secret_id");
    let answer = harness.write("auth/approle/login", "", json!({ "role_id": id, "secret_id": secret })).await;
    answer.expect_status(200).text_at("/auth/client_token")
}

#[tokio::test]
async fn a_token_that_is_bound_to_an_address_is_of_use_nowhere_else() {
    let mut harness = with_methods().await;
    for path in ["auth/userpass/users/bob", "auth/approle/role/r"] {
        let ranges = json!({ "token_bound_cidrs": "10.0.0.0/8", "token_strictly_bind_ip": true });
        let text = "'token_strictly_bind_ip' conflicts with 'token_bound_cidrs'; set only one";
        harness.write(path, tresor_harness::ROOT, ranges).await.expect_error(400, text);
        harness.prepare("POST", path, json!({ "token_strictly_bind_ip": true })).await;
        let shown = harness.prepare("GET", path, Value::Null).await;
        assert_eq!(
            (shown.at("/data/token_strictly_bind_ip"), shown.at("/data/token_bound_cidrs")),
            (&json!(true), &json!([]))
        );
    }
    let at = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    harness.peer = at(1);
    let tokens = [by_password(&harness).await, by_role(&harness).await];
    for token in &tokens {
        harness.peer = at(1);
        let shown = harness.read("auth/token/lookup-self", token).await.expect_status(200);
        assert_eq!(shown.at("/data/bound_cidrs"), &json!(["10.0.0.1"]));
        harness.peer = at(2);
        drop(harness.read("auth/token/lookup-self", token).await.expect_status(403));
    }
    // It can be taken back, and then addresses be named.
    let ranges = json!({ "token_strictly_bind_ip": false, "token_bound_cidrs": "10.0.0.0/24" });
    harness.prepare("POST", "auth/userpass/users/bob", ranges).await;
    let token = by_password(&harness).await;
    harness.peer = at(3);
    drop(harness.read("auth/token/lookup-self", &token).await.expect_status(200));
}

#[tokio::test]
async fn a_token_is_renewed_as_its_role_or_user_is_now() {
    let harness = with_methods().await;
    let (bob, role) = (by_password(&harness).await, by_role(&harness).await);
    for (token, path) in [(&bob, "auth/userpass/users/bob"), (&role, "auth/approle/role/r")] {
        harness.prepare("POST", path, json!({ "token_ttl": "5m", "token_max_ttl": "1h" })).await;
        let renewed = harness.write("auth/token/renew-self", token, json!({})).await.expect_status(200);
        assert_eq!(renewed.at("/auth/lease_duration"), 300);
        let renewed =
            harness.write("auth/token/renew-self", token, json!({ "increment": "5h" })).await.expect_status(200);
        assert_eq!(renewed.at("/auth/lease_duration"), 3600);
        harness.prepare("POST", path, json!({ "token_period": "2m" })).await;
        let renewed = harness.write("auth/token/renew-self", token, json!({})).await.expect_status(200);
        assert_eq!(renewed.at("/auth/lease_duration"), 120);
    }
    // Other policies than the token has would be a promise that it does not keep.
    harness.prepare("POST", "auth/userpass/users/bob", json!({ "token_policies": "a,b" })).await;
    let refused = harness.write("auth/token/renew-self", &bob, json!({})).await;
    refused.expect_error(400, "policies have changed, not renewing");
    for (token, path, text) in [
        (&bob, "auth/userpass/users/bob", "user no longer exists"),
        (&role, "auth/approle/role/r", "role \"r\" does not exist during renewal"),
    ] {
        harness.prepare("DELETE", path, Value::Null).await;
        harness.write("auth/token/renew-self", token, json!({})).await.expect_error(400, text);
        drop(harness.read("auth/token/lookup-self", token).await.expect_status(200));
    }
}
