//! Token roles and batch tokens on the wire.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Answer, Harness, ROOT};

async fn node() -> Harness {
    let harness = Harness::start().await;
    harness.prepare("POST", "sys/mounts/kv", json!({ "type": "kv-v1" })).await;
    harness.prepare("POST", "kv/a", json!({ "k": "v" })).await;
    let policy = "path \"kv/*\" { capabilities = [\"read\"] }";
    harness.prepare("POST", "sys/policies/acl/reader", json!({ "policy": policy })).await;
    harness
}

async fn role(harness: &Harness, name: &str, body: Value) {
    harness.prepare("POST", &format!("auth/token/roles/{name}"), body).await;
}

async fn by_role(harness: &Harness, name: &str, token: &str, body: Value) -> Answer {
    harness.write(&format!("auth/token/create/{name}"), token, body).await
}

async fn batch(harness: &Harness, token: &str, body: Value) -> Answer {
    let mut body = body;
    body["type"] = json!("batch");
    harness.write("auth/token/create", token, body).await
}

#[tokio::test]
async fn a_role_is_shown_as_it_was_written() {
    let harness = node().await;
    role(&harness, "r", json!({})).await;
    let shown = harness.read("auth/token/roles/r", ROOT).await.expect_status(200);
    let expected = json!({
        "name": "r", "allowed_policies": [], "allowed_policies_glob": [], "disallowed_policies": [],
        "disallowed_policies_glob": [], "orphan": false, "renewable": true, "path_suffix": "",
        "allowed_entity_aliases": null, "token_type": "default-service", "token_period": 0, "period": 0,
        "token_explicit_max_ttl": 0, "explicit_max_ttl": 0, "token_no_default_policy": false,
    });
    assert_eq!(shown.at("/data"), &expected);
    let body = json!({
        "allowed_policies": "b,A", "period": "1h", "bound_cidrs": "127.0.0.1/32", "token_num_uses": 5, "path_suffix": "v1",
        "token_explicit_max_ttl": "20h", "explicit_max_ttl": "9h", "allowed_entity_aliases": "Ab*", "orphan": "true",
    });
    let warned = harness.write("auth/token/roles/r", ROOT, body).await.expect_status(200);
    assert!(warned.at("/warnings/0").as_str().unwrap().contains("deprecated 'explicit_max_ttl'"));
    let shown = harness.read("auth/token/roles/r", ROOT).await.expect_status(200);
    for (field, expected) in [
        ("allowed_policies", json!(["a", "b"])),
        ("period", json!(3600)),
        ("token_period", json!(3600)),
        ("bound_cidrs", json!(["127.0.0.1"])),
        ("token_bound_cidrs", json!(["127.0.0.1"])),
        ("token_num_uses", json!(5)),
        ("token_explicit_max_ttl", json!(72_000)),
        ("explicit_max_ttl", json!(0)),
        ("allowed_entity_aliases", json!(["ab*"])),
        ("orphan", json!(true)),
        ("renewable", json!(true)),
    ] {
        assert_eq!(shown.at(&format!("/data/{field}")), &expected, "{field}");
    }
    // What is not sent stays.
    role(&harness, "r", json!({ "renewable": false })).await;
    let shown = harness.read("auth/token/roles/r", ROOT).await;
    assert_eq!((shown.at("/data/path_suffix"), shown.at("/data/renewable")), (&json!("v1"), &json!(false)));
    role(&harness, "s", json!({})).await;
    assert_eq!(harness.list("auth/token/roles", ROOT).await.at("/data/keys"), &json!(["r", "s"]));
    drop(harness.delete("auth/token/roles/r", ROOT).await.expect_status(204));
    drop(harness.delete("auth/token/roles/r", ROOT).await.expect_status(204));
    drop(harness.read("auth/token/roles/r", ROOT).await.expect_status(404));
    by_role(&harness, "r", ROOT, json!({})).await.expect_error(400, "unknown role r");
    for (body, text) in [
        (json!({ "path_suffix": "a b" }), "invalid characters"),
        (json!({ "path_suffix": ".." }), "invalid characters"),
        (json!({ "token_type": "x" }), "invalid 'token_type' value \"x\""),
        (json!({ "token_type": "batch" }), "set to generate non-orphan tokens"),
        (json!({ "token_type": "batch", "orphan": true }), "set to generate renewable tokens"),
        (json!({ "token_type": "batch", "orphan": true, "renewable": false, "period": 5 }), "periodic tokens"),
    ] {
        harness.write("auth/token/roles/bad", ROOT, body).await.expect_error(400, text);
    }
    drop(harness.read("auth/token/roles/bad", ROOT).await.expect_status(404));
}

#[tokio::test]
async fn a_role_decides_what_its_tokens_are_whoever_makes_them() {
    let harness = node().await;
    role(
        &harness,
        "r",
        json!({
            "allowed_policies": "reader", "disallowed_policies_glob": "d*t", "orphan": true, "renewable": false,
            "path_suffix": "v1", "token_num_uses": 3, "token_explicit_max_ttl": "2h",
        }),
    )
    .await;
    let maker = harness.token_with(r#"path "auth/token/create/r" { capabilities = ["update"] }"#).await;
    let made = by_role(&harness, "r", &maker, json!({ "num_uses": 9, "ttl": "5h" })).await.expect_status(200);
    for (pointer, expected) in [
        ("/auth/policies", json!(["reader"])),
        ("/auth/orphan", json!(true)),
        ("/auth/renewable", json!(false)),
        ("/auth/num_uses", json!(3)),
        ("/auth/lease_duration", json!(7200)),
    ] {
        assert_eq!(made.at(pointer), &expected, "{pointer}");
    }
    let token = made.text_at("/auth/client_token");
    let shown = harness.write("auth/token/lookup", ROOT, json!({ "token": token })).await;
    assert_eq!((shown.at("/data/path"), shown.at("/data/role")), (&json!("auth/token/create/r/v1"), &json!("r")));
    drop(harness.read("kv/a", &token).await.expect_status(200));
    // It goes on without its maker, and ends with everything of its path.
    harness.prepare("POST", "auth/token/revoke", json!({ "token": maker })).await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    harness.prepare("POST", "sys/leases/revoke-prefix/auth/token/create/r/v1", json!({ "sync": true })).await;
    drop(harness.read("kv/a", &token).await.expect_status(403));
    let maker = harness.token_with(r#"path "auth/token/create/*" { capabilities = ["update"] }"#).await;
    for (body, text) in [
        (json!({ "policies": "default" }), "must be subset of the role's allowed policies ([\"reader\"])"),
        (json!({ "policies": "root" }), "must be subset of the role's allowed policies"),
        (json!({ "entity_alias": "x" }), "invalid 'entity_alias' value"),
        (json!({ "id": "mine" }), "root or sudo privileges required to specify token id"),
        (json!({ "period": "1h" }), "root or sudo privileges required to create periodic token"),
        (json!({ "type": "batch" }), "batch tokens cannot have \"num_uses\" set"),
    ] {
        by_role(&harness, "r", &maker, body).await.expect_error(400, text);
    }
    // Only root gives root, whatever a role allows.
    role(&harness, "all", json!({ "allowed_policies_glob": "*", "disallowed_policies": "reader" })).await;
    by_role(&harness, "all", &maker, json!({ "policies": "root" }))
        .await
        .expect_error(400, "without parent token being root");
    by_role(&harness, "all", &maker, json!({ "policies": "response-wrapping" }))
        .await
        .expect_error(400, "cannot assign");
    by_role(&harness, "all", ROOT, json!({ "policies": "reader" }))
        .await
        .expect_error(400, "is disallowed by this role");
    let made = by_role(&harness, "all", &maker, json!({ "policies": "new" })).await.expect_status(200);
    assert_eq!((made.at("/auth/policies"), made.at("/auth/orphan")), (&json!(["default", "new"]), &json!(false)));
    // A role that says nothing of policies lets the parent decide.
    role(&harness, "open", json!({})).await;
    by_role(&harness, "open", &maker, json!({ "policies": "reader" })).await.expect_error(400, "subset of parent");
}

#[tokio::test]
async fn a_role_goes_on_to_decide_when_its_tokens_are_renewed() {
    let harness = node().await;
    role(&harness, "p", json!({ "token_period": "1h", "allowed_policies": "reader" })).await;
    let made = by_role(&harness, "p", ROOT, json!({ "period": "2h" })).await.expect_status(200);
    assert_eq!(made.at("/auth/lease_duration"), 3600);
    assert!(made.at("/warnings/0").as_str().unwrap().contains("using the lesser value of 3600 seconds"));
    let token = made.text_at("/auth/client_token");
    role(&harness, "p", json!({ "token_period": "30m" })).await;
    let renewed = harness.write("auth/token/renew", ROOT, json!({ "token": token })).await.expect_status(200);
    assert_eq!(renewed.at("/auth/lease_duration"), 1800);
    role(&harness, "p", json!({ "token_explicit_max_ttl": "10m" })).await;
    harness.advance(Duration::from_secs(601)).await;
    let refused = harness.write("auth/token/renew", ROOT, json!({ "token": token })).await;
    refused.expect_error(400, "past the max TTL");
    harness.prepare("DELETE", "auth/token/roles/p", Value::Null).await;
    let refused = harness.write("auth/token/renew", ROOT, json!({ "token": token })).await;
    refused.expect_error(400, "original token role \"p\" could not be found, not renewing");
}

#[tokio::test]
async fn a_batch_token_says_all_of_itself_and_can_do_what_its_policies_let_it() {
    let mut harness = node().await;
    let body =
        json!({ "policies": "reader", "ttl": "1h", "meta": { "a": "b" }, "display_name": "d", "no_parent": true });
    let made = batch(&harness, ROOT, body).await.expect_status(200);
    for (pointer, expected) in [
        ("/auth/accessor", json!("")),
        ("/auth/token_type", json!("batch")),
        ("/auth/renewable", json!(false)),
        ("/auth/orphan", json!(true)),
        ("/auth/num_uses", json!(0)),
        ("/auth/lease_duration", json!(3600)),
        ("/auth/policies", json!(["default", "reader"])),
        ("/auth/metadata", json!({ "a": "b" })),
    ] {
        assert_eq!(made.at(pointer), &expected, "{pointer}");
    }
    let token = made.text_at("/auth/client_token");
    assert!(token.starts_with("hvb."), "{token}");
    let shown = harness.read("auth/token/lookup-self", &token).await.expect_status(200);
    assert_eq!((shown.at("/data/type"), shown.at("/data/accessor")), (&json!("batch"), &json!("")));
    assert_eq!(
        (shown.at("/data/display_name"), shown.at("/data/path")),
        (&json!("token-d"), &json!("auth/token/create"))
    );
    // Nothing of it is stored, and it is good after a restart.
    let stored = harness.list("auth/token/accessors", ROOT).await.at("/data/keys").as_array().unwrap().len();
    assert_eq!(stored, 1, "root alone");
    harness.restart().await;
    harness.unseal().await;
    drop(harness.read("kv/a", &token).await.expect_status(200));
    // A changed text is nobody's.
    let mut other = token.clone();
    other.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
    for bad in [other.as_str(), &token[..token.len() - 2], "hvb.", "hvb.AAAA", &format!("{token}AA")] {
        drop(harness.read("kv/a", bad).await.expect_status(403));
    }
    harness.advance(Duration::from_secs(3601)).await;
    drop(harness.read("kv/a", &token).await.expect_status(403));
}

#[tokio::test]
async fn what_needs_a_stored_token_is_refused_to_a_batch_token() {
    let harness = node().await;
    let policy = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
    harness.prepare("POST", "sys/policies/acl/all", json!({ "policy": policy })).await;
    let token = batch(&harness, ROOT, json!({ "policies": "all" })).await.text_at("/auth/client_token");
    let named = json!({ "token": token });
    for (path, caller, body, text) in [
        ("auth/token/renew-self", token.as_str(), json!({}), "batch tokens cannot be renewed"),
        ("auth/token/renew", ROOT, named.clone(), "batch tokens cannot be renewed"),
        ("auth/token/revoke-self", token.as_str(), json!({}), "batch tokens cannot be revoked"),
        ("auth/token/revoke", ROOT, named.clone(), "batch tokens cannot be revoked"),
        ("auth/token/revoke-orphan", ROOT, named.clone(), "batch tokens cannot be revoked"),
        ("auth/token/create", token.as_str(), json!({}), "batch tokens cannot create more tokens"),
        ("auth/token/create-orphan", token.as_str(), json!({}), "batch tokens cannot create more tokens"),
        (
            "cubbyhole/a",
            token.as_str(),
            json!({ "k": "v" }),
            "cubbyhole operations are only supported by 'service' type tokens",
        ),
    ] {
        harness.write(path, caller, body).await.expect_error(400, text);
    }
    drop(harness.read("cubbyhole/a", &token).await.expect_status(400));
    for (body, text) in [
        (json!({ "policies": "a", "num_uses": 1 }), "batch tokens cannot have \"num_uses\" set"),
        (json!({ "policies": "a", "period": "1h" }), "batch tokens cannot have \"period\" set"),
        (json!({ "policies": "a", "explicit_max_ttl": "1h" }), "batch tokens cannot have \"explicit_max_ttl\" set"),
        (json!({ "policies": "a", "id": "x" }), "batch tokens cannot have \"id\" set"),
        (json!({}), "batch tokens cannot be root tokens"),
    ] {
        batch(&harness, ROOT, body).await.expect_error(400, text);
    }
    let refused = harness.write("auth/token/create", ROOT, json!({ "type": "x" })).await;
    refused.expect_error(400, "invalid 'token_type' value");
}

#[tokio::test]
async fn a_batch_token_ends_with_its_parent() {
    let harness = node().await;
    let policy = "path \"auth/token/*\" { capabilities = [\"update\"] } path \"kv/*\" { capabilities = [\"read\"] }";
    let parent = harness.token_with(policy).await;
    let child = batch(&harness, &parent, json!({})).await.expect_status(200);
    assert_eq!(child.at("/auth/orphan"), false);
    let child = child.text_at("/auth/client_token");
    drop(harness.read("kv/a", &child).await.expect_status(200));
    harness.prepare("POST", "auth/token/revoke", json!({ "token": parent })).await;
    drop(harness.read("kv/a", &child).await.expect_status(403));
    harness.advance(Duration::from_secs(5)).await;
    drop(harness.read("kv/a", &child).await.expect_status(403));
    // And with one above.
    let (above, parent) = (harness.token_with(policy).await, json!({ "ttl": "10m" }));
    let parent = harness.write("auth/token/create", &above, parent).await.text_at("/auth/client_token");
    let child = batch(&harness, &parent, json!({ "ttl": "1h" })).await.text_at("/auth/client_token");
    harness.advance(Duration::from_secs(601)).await;
    drop(harness.read("kv/a", &child).await.expect_status(403));
}

#[tokio::test]
async fn a_login_leads_to_the_kind_of_token_that_mount_and_user_say() {
    let harness = node().await;
    for (of_mount, of_user, expected) in [
        ("default-service", "", "service"),
        ("default-service", "batch", "batch"),
        ("default-batch", "", "batch"),
        ("default-batch", "service", "service"),
        ("batch", "service", "batch"),
        ("service", "batch", "service"),
    ] {
        let path = format!("u-{of_mount}-{of_user}");
        let config = json!({ "type": "userpass", "config": { "token_type": of_mount } });
        harness.prepare("POST", &format!("sys/auth/{path}"), config).await;
        let user = json!({ "password": "p", "token_type": of_user, "token_policies": "reader", "token_ttl": "10m" });
        harness.prepare("POST", &format!("auth/{path}/users/u"), user).await;
        let login = harness.write(&format!("auth/{path}/login/u"), "", json!({ "password": "p" })).await;
        let login = login.expect_status(200);
        assert_eq!(login.at("/auth/token_type"), expected, "{path}");
        let token = login.text_at("/auth/client_token");
        drop(harness.read("kv/a", &token).await.expect_status(200));
        harness.prepare("DELETE", &format!("sys/auth/{path}"), Value::Null).await;
        drop(harness.read("kv/a", &token).await.expect_status(403));
    }
    harness.prepare("POST", "sys/auth/userpass", json!({ "type": "userpass" })).await;
    for body in [json!({ "token_period": "1h" }), json!({ "token_num_uses": 3 })] {
        let mut body = body;
        (body["password"], body["token_type"]) = (json!("p"), json!("batch"));
        harness.write("auth/userpass/users/u", ROOT, body).await.expect_error(400, "'token_type' cannot be 'batch'");
    }
}

#[tokio::test]
async fn who_names_no_token_or_a_bad_one_is_told_what_is_wrong() {
    let harness = node().await;
    for (path, body, text) in [
        ("renew", json!({}), "missing token ID"),
        ("renew", json!({ "token": "" }), "missing token ID"),
        ("renew", json!({ "token": "nope" }), "token not found"),
        ("revoke", json!({}), "missing token ID"),
        ("revoke-orphan", json!({}), "missing token ID"),
        ("revoke-orphan", json!({ "token": "nope" }), "token to revoke not found"),
        ("renew-accessor", json!({}), "missing accessor"),
        ("lookup-accessor", json!({}), "missing accessor"),
        ("revoke-accessor", json!({}), "missing accessor"),
        ("lookup-accessor", json!({ "accessor": "nope" }), "invalid accessor"),
        ("create", json!({ "id": "a.b" }), "custom token ID cannot have a '.' in the value"),
        ("create", json!({ "num_uses": -1 }), "number of uses cannot be negative"),
        ("create", json!({ "id": ROOT }), "cannot create a token with a duplicate ID"),
        ("renew", json!({ "token": ROOT }), "lease is not renewable"),
    ] {
        harness.write(&format!("auth/token/{path}"), ROOT, body).await.expect_error(400, text);
    }
    drop(harness.write("auth/token/revoke", ROOT, json!({ "token": "nope" })).await.expect_status(204));
    // It is gone, which is what was asked for.
    let gone =
        harness.write("auth/token/revoke-accessor", ROOT, json!({ "accessor": "nope" })).await.expect_status(200);
    assert_eq!(gone.at("/warnings"), &json!(["No token found with this accessor"]));
}

#[tokio::test]
async fn who_gives_a_token_a_policy_that_does_not_exist_is_warned() {
    let harness = node().await;
    for (asked, expected) in [
        (json!({ "policies": ["nobody-wrote-it", "default"] }), json!(["Policy \"nobody-wrote-it\" does not exist"])),
        (json!({ "policies": ["default"] }), Value::Null),
        (json!({}), Value::Null),
    ] {
        let made = harness.write("auth/token/create", ROOT, asked).await.expect_status(200);
        assert_eq!(made.at("/warnings"), &expected);
    }
}
