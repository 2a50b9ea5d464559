//! Tokens and userpass on the wire: making, showing, renewing and revoking them.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

fn fields(answer: &Answer, pointer: &str) -> Vec<String> {
    answer.at(pointer).as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_token_is_answered_with_every_field_of_its_block() {
    let harness = Harness::start().await;
    let body = json!({ "policies": ["testpolicy"], "meta": { "a": "b" }, "ttl": "1h", "num_uses": 7 });
    let answer = harness.write("auth/token/create", ROOT, body).await.expect_status(200);
    assert_eq!((answer.at("/data"), answer.at("/wrap_info")), (&Value::Null, &Value::Null));
    let auth = answer.at("/auth");
    assert_eq!(auth["policies"], json!(["default", "testpolicy"]));
    assert_eq!(auth["token_policies"], auth["policies"]);
    assert_eq!((&auth["metadata"], &auth["lease_duration"]), (&json!({ "a": "b" }), &json!(3600)));
    assert_eq!((&auth["renewable"], &auth["orphan"], &auth["num_uses"]), (&json!(true), &json!(false), &json!(7)));
    assert_eq!((&auth["entity_id"], &auth["token_type"]), (&json!(""), &json!("service")));
    assert_eq!(auth["mfa_requirement"], Value::Null);
    let plain = harness.prepare("POST", "auth/token/create", json!({})).await;
    assert_eq!((plain.at("/auth/policies"), plain.at("/auth/metadata")), (&json!(["root"]), &Value::Null));
}

#[tokio::test]
async fn lives_are_capped_and_the_caller_is_told() {
    let harness = Harness::start().await;
    for (body, seconds, warning) in [
        (
            json!({ "ttl": "30m", "explicit_max_ttl": "5m" }),
            300,
            "TTL of \"30m0s\" exceeded the explicit max_ttl of \"5m0s\"; TTL value is capped accordingly",
        ),
        (
            json!({ "ttl": "1000h", "policies": "default" }),
            2_764_800,
            "TTL of \"1000h0m0s\" exceeded the effective max_ttl of \"768h0m0s\"; TTL value is capped accordingly",
        ),
        (json!({ "period": "30m" }), 1800, ""),
        (json!({ "ttl": 90 }), 90, ""),
        (json!({ "ttl": "90" }), 90, ""),
        (json!({ "lease": "2m" }), 120, ""),
    ] {
        let answer = harness.write("auth/token/create", ROOT, body.clone()).await.expect_status(200);
        assert_eq!(answer.at("/auth/lease_duration"), &json!(seconds), "{body}");
        let expected = if warning.is_empty() { Value::Null } else { json!([warning]) };
        assert_eq!(answer.at("/warnings"), &expected, "{body}");
    }
}

#[tokio::test]
async fn a_token_is_shown_by_itself_by_text_by_handle_and_by_path() {
    let harness = Harness::start().await;
    let body = json!({ "policies": "a,b", "period": "30m", "display_name": "my name!" });
    let made = harness.prepare("POST", "auth/token/create", body).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    let own = harness.read("auth/token/lookup-self", &token).await.expect_status(200);
    let expected = [
        "accessor",
        "creation_time",
        "creation_ttl",
        "display_name",
        "entity_id",
        "expire_time",
        "explicit_max_ttl",
        "id",
        "issue_time",
        "meta",
        "num_uses",
        "orphan",
        "path",
        "period",
        "policies",
        "renewable",
        "ttl",
        "type",
    ];
    assert_eq!(fields(&own, "/data"), expected);
    assert_eq!(own.at("/data/id"), &json!(token));
    assert_eq!((own.at("/data/period"), own.at("/data/display_name")), (&json!(1800), &json!("token-my-name")));
    assert_eq!((own.at("/data/meta"), own.at("/data/path")), (&Value::Null, &json!("auth/token/create")));
    for answer in [
        harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await,
        harness.read(&format!("auth/token/lookup/{token}"), ROOT).await,
        harness.write("auth/token/lookup", &token, json!({})).await,
        harness.read("auth/token/lookup", &token).await,
    ] {
        if answer.status == 403 {
            // `default` does not let a token look others up, nor itself at this path.
            continue;
        }
        assert_eq!(answer.expect_status(200).at("/data"), own.at("/data"));
    }
    let body = json!({ "accessor": accessor });
    let by_handle = harness.write("auth/token/lookup-accessor", ROOT, body).await.expect_status(200);
    assert_eq!(by_handle.at("/data/id"), &json!(""));
    let root = harness.read("auth/token/lookup-self", ROOT).await;
    assert_eq!((root.at("/data/expire_time"), root.at("/data/path")), (&Value::Null, &json!("auth/token/root")));
    assert_eq!((root.at("/data/ttl"), root.at("/data/orphan")), (&json!(0), &json!(true)));
    let handles = harness.list("auth/token/accessors", ROOT).await.expect_status(200);
    assert_eq!(handles.at("/data/keys").as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn looking_up_without_a_token_means_ones_own() {
    let harness = Harness::start().await;
    for body in [json!({}), json!({ "token": "" }), json!({ "token": null })] {
        let answer = harness.write("auth/token/lookup", ROOT, body).await.expect_status(200);
        assert_eq!(answer.at("/data/id"), &json!(ROOT));
        // What never ends says so, and has the fields of those that do.
        assert_eq!((answer.at("/data/renewable"), answer.at("/data/expire_time")), (&json!(false), &Value::Null));
        assert!(!answer.text_at("/data/issue_time").is_empty());
    }
}

#[tokio::test]
async fn a_token_that_is_not_alive_is_refused_everywhere() {
    let harness = Harness::start().await;
    let made = harness.prepare("POST", "auth/token/create", json!({ "policies": "a" })).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    drop(harness.write("auth/token/revoke-accessor", ROOT, json!({ "accessor": accessor })).await.expect_status(204));
    harness.read("auth/token/lookup-self", &token).await.expect_error(403, "permission denied");
    harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await.expect_error(403, "bad token");
    harness.write("auth/token/renew", ROOT, json!({ "token": token })).await.expect_error(400, "token not found");
    for path in ["lookup-accessor", "renew-accessor"] {
        let answer = harness.write(&format!("auth/token/{path}"), ROOT, json!({ "accessor": accessor })).await;
        answer.expect_error(400, "invalid accessor");
    }
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": token })).await.expect_status(204));
    let orphaning = harness.write("auth/token/revoke-orphan", ROOT, json!({ "token": token })).await;
    orphaning.expect_error(400, "token to revoke not found");
}

#[tokio::test]
async fn renewing_gives_the_token_back_and_refuses_what_has_no_end() {
    let harness = Harness::start().await;
    let made = harness.prepare("POST", "auth/token/create", json!({ "policies": "a", "ttl": "1h" })).await;
    let (token, accessor) = (made.text_at("/auth/client_token"), made.text_at("/auth/accessor"));
    harness.advance(Duration::from_secs(600)).await;
    let answer = harness.write("auth/token/renew-self", &token, json!({ "increment": "2h" })).await.expect_status(200);
    assert_eq!((answer.at("/auth/client_token"), answer.at("/auth/lease_duration")), (&json!(token), &json!(7200)));
    let answer = harness.call("PUT", "auth/token/renew-self", &token, Value::Null).await.expect_status(200);
    assert_eq!(answer.at("/auth/lease_duration"), &json!(3600), "the first wish is the habit");
    let answer = harness.write("auth/token/renew", ROOT, json!({ "token": token })).await.expect_status(200);
    assert_eq!(answer.at("/auth/client_token"), &json!(token));
    let answer = harness.write("auth/token/renew-accessor", ROOT, json!({ "accessor": accessor })).await;
    assert_eq!(answer.expect_status(200).at("/auth/client_token"), &json!(""));
    let shown = harness.read("auth/token/lookup-self", &token).await;
    assert!(shown.at("/data/last_renewal_time").is_i64() && shown.at("/data/last_renewal").is_string());
    harness.write("auth/token/renew-self", ROOT, json!({})).await.expect_error(400, "lease is not renewable");
}

#[tokio::test]
async fn children_go_with_their_parent_and_orphans_stay() {
    let harness = Harness::start().await;
    let policy = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    harness.prepare("POST", "sys/policies/acl/maker", json!({ "policy": policy })).await;
    let parent = harness.token(json!({ "policies": "maker", "ttl": "1h" })).await;
    let child = harness.write("auth/token/create", &parent, json!({})).await.text_at("/auth/client_token");
    let answer = harness.write("auth/token/create", &parent, json!({ "no_parent": true })).await;
    answer.expect_error(400, "root or sudo privileges required to create orphan token");
    let answer = harness.write("auth/token/create-orphan", &parent, json!({})).await;
    answer.expect_error(403, "permission denied");
    let answer = harness.write("auth/token/create", &parent, json!({ "policies": "other" })).await;
    answer.expect_error(400, "child policies must be subset of parent");
    let answer = harness.write("auth/token/create", &parent, json!({ "policies": "root" })).await;
    answer.expect_error(400, "root tokens may not be created without parent token being root");
    let orphan = harness.write("auth/token/create-orphan", ROOT, json!({ "ttl": "1h" })).await;
    assert_eq!(orphan.at("/auth/orphan"), &json!(true));
    drop(harness.write("auth/token/revoke-self", &parent, Value::Null).await.expect_status(204));
    harness.read("auth/token/lookup-self", &child).await.expect_error(403, "permission denied");
    drop(harness.read("auth/token/lookup-self", &orphan.text_at("/auth/client_token")).await.expect_status(200));
}

#[tokio::test]
async fn root_may_choose_the_text_of_a_token() {
    let harness = Harness::start().await;
    let body = json!({ "id": "policy_test_token", "policies": ["a"] });
    let answer = harness.write("auth/token/create", ROOT, body.clone()).await.expect_status(200);
    assert_eq!(answer.at("/auth/client_token"), &json!("policy_test_token"));
    drop(harness.read("auth/token/lookup-self", "policy_test_token").await.expect_status(200));
    harness.write("auth/token/create", ROOT, body).await.expect_error(400, "duplicate");
}

#[tokio::test]
async fn a_user_logs_in_and_gets_what_the_user_was_given() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    assert_eq!(harness.list("auth/userpass/users", ROOT).await.expect_status(404).bytes, br#"{"errors":[]}"#);
    let body = json!({ "password": "pw", "policies": "b,a", "ttl": "10s", "max_ttl": "1h", "username": "Bob" });
    drop(harness.write("auth/userpass/users/Bob", ROOT, body).await.expect_status(204));
    for method in ["POST", "PUT"] {
        let answer = harness.call(method, "auth/userpass/login/BOB", "", json!({ "password": "pw" })).await;
        let auth = answer.expect_status(200).at("/auth").clone();
        assert_eq!((&auth["lease_duration"], &auth["metadata"]), (&json!(10), &json!({ "username": "bob" })));
        assert_eq!(auth["policies"], json!(["a", "b", "default"]));
    }
    for (name, body, text) in [
        ("bob", json!({ "password": "wrong" }), "invalid username or password"),
        ("nobody", json!({ "password": "pw" }), "invalid username or password"),
        ("bob", json!({}), "missing password"),
    ] {
        harness.write(&format!("auth/userpass/login/{name}"), "", body).await.expect_error(400, text);
    }
    assert_eq!(harness.list("auth/userpass/users", ROOT).await.at("/data/keys"), &json!(["bob"]));
    let password = json!({ "password": "new" });
    drop(harness.write("auth/userpass/users/bob/password", ROOT, password.clone()).await.expect_status(204));
    let policies = json!({ "token_policies": ["d", "c"] });
    drop(harness.write("auth/userpass/users/bob/policies", ROOT, policies).await.expect_status(204));
    let answer = harness.write("auth/userpass/login/bob", "", password).await.expect_status(200);
    assert_eq!(answer.at("/auth/policies"), &json!(["c", "d", "default"]));
    drop(harness.delete("auth/userpass/users/bob", ROOT).await.expect_status(204));
    drop(harness.delete("auth/userpass/users/bob", ROOT).await.expect_status(204));
    drop(harness.read("auth/userpass/users/bob", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_user_is_shown_by_the_names_that_it_was_written_with() {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    let body = json!({ "password": "pw", "policies": ["b", "a"], "ttl": "10s", "bound_cidrs": "10.0.0.0/8" });
    harness.prepare("POST", "auth/userpass/users/old", body).await;
    let old = harness.read("auth/userpass/users/old", ROOT).await.expect_status(200);
    assert_eq!(
        old.at("/data"),
        &json!({
            "bound_cidrs": ["10.0.0.0/8"], "policies": ["a", "b"], "ttl": 10,
            "token_bound_cidrs": ["10.0.0.0/8"], "token_explicit_max_ttl": 0, "token_max_ttl": 0,
            "token_no_default_policy": false, "token_num_uses": 0, "token_period": 0,
            "token_policies": ["a", "b"], "token_ttl": 10, "token_type": "default",
            "token_strictly_bind_ip": false,
        })
    );
    harness.prepare("POST", "auth/userpass/users/old", json!({ "token_policies": "c", "token_ttl": "20s" })).await;
    let newer = harness.read("auth/userpass/users/old", ROOT).await;
    assert!(newer.at("/data").get("policies").is_none() && newer.at("/data").get("ttl").is_none(), "{newer:?}");
    assert_eq!(newer.at("/data/bound_cidrs"), &json!(["10.0.0.0/8"]));
}
