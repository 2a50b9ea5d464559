//! What engines that make credentials tell of what is done: by its type and its place, and nothing of any value.
#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use serde_json::{Value, json};
use tresor_harness::{Harness, ROOT};
use tresor_services::Slapd;

use crate::events::{as_json, told};
use crate::{ldap, wire_aws, wire_rabbitmq};

/// What is told while something is done: type, path, whether something changed, and what is named.
async fn told_while(harness: &Harness, types: &str, done: impl AsyncFnOnce()) -> Vec<String> {
    let mut listening = harness.listen("", types, as_json(), ROOT).await.unwrap();
    done().await;
    let events = told(harness, &mut *listening).await;
    let text = |known: &Value| known.as_str().unwrap_or("-").to_owned();
    let brief = |event: &Value| {
        let known = &event["data"]["event"]["metadata"];
        let operation = text(&known["operation"]);
        assert!(text(&event["data"]["event_type"]).ends_with(&format!("/{operation}")), "{event}");
        let parts = [&event["data"]["event_type"], &known["path"], &known["modified"], &known["name"]].map(text);
        for secret in ["planted-secret-key", "s3cret", "AKIA", ldap::MANAGER_PASSWORD] {
            assert!(!event.to_string().contains(secret), "{event}");
        }
        parts.join(" ")
    };
    events.iter().map(brief).collect()
}

#[tokio::test]
async fn what_is_done_to_a_broker_is_told() {
    let (harness, _) = wire_rabbitmq::with_broker().await;
    let seen = told_while(&harness, "rabbitmq/*", async || {
        harness.prepare("POST", "mq/config/lease", json!({ "ttl": "1h" })).await;
        harness.prepare("POST", "mq/roles/app", json!({ "tags": "monitoring" })).await;
        harness.prepare("POST", "mq/roles/new", json!({ "tags": "monitoring" })).await;
        drop(harness.read("mq/creds/app", ROOT).await.expect_status(200));
        // It does not let in whoever has this password.
        let wrong = json!({ "password": "s3cret", "verify_connection": false });
        harness.prepare("POST", "mq/config/connection", wrong).await;
        assert!(harness.read("mq/creds/new", ROOT).await.status >= 400);
        harness.prepare("DELETE", "mq/roles/new", Value::Null).await;
        harness.prepare("DELETE", "mq/roles/new", Value::Null).await;
    });
    assert_eq!(
        seen.await,
        [
            "rabbitmq/config-write mq/config/lease true -",
            "rabbitmq/role-update mq/roles/app true app",
            "rabbitmq/role-create mq/roles/new true new",
            "rabbitmq/creds-create mq/creds/app true app",
            "rabbitmq/config-write mq/config/connection true -",
            "rabbitmq/creds-create-fail mq/creds/new false new",
            "rabbitmq/role-delete mq/roles/new true new",
        ]
    );
}

#[tokio::test]
async fn what_is_done_to_keys_of_aws_is_told() {
    let (harness, aws) = wire_aws::with_aws().await;
    aws.lock().unwrap().keys.insert("app".to_owned(), Vec::new());
    let seen = told_while(&harness, "aws/*", async || {
        harness.prepare("POST", "aws/config/lease", json!({ "lease": "1h", "lease_max": "2h" })).await;
        harness.prepare("POST", "aws/config/root", json!({ "region": "eu-west-1" })).await;
        let role = json!({ "credential_type": "iam_user", "policy_document": "{}" });
        harness.prepare("POST", "aws/roles/app", role.clone()).await;
        harness.prepare("POST", "aws/roles/app", role).await;
        drop(harness.read("aws/creds/app", ROOT).await.expect_status(200));
        aws.lock().unwrap().fails = vec![("CreateUser", 1, Ok((403, "AccessDenied")))];
        assert!(harness.read("aws/creds/app", ROOT).await.status >= 400);
        let token = json!({ "credential_type": "session_token" });
        harness.prepare("POST", "aws/roles/token", token).await;
        drop(harness.read("aws/sts/token", ROOT).await.expect_status(200));
        harness.prepare("DELETE", "aws/roles/token", Value::Null).await;
        harness.prepare("DELETE", "aws/roles/token", Value::Null).await;
        let user = json!({ "username": "app", "rotation_period": "1h" });
        harness.prepare("POST", "aws/static-roles/s", user.clone()).await;
        harness.prepare("POST", "aws/static-roles/s", user).await;
        for fails in [vec![], vec![("CreateAccessKey", 1, Ok((500, "InternalFailure")))]] {
            aws.lock().unwrap().fails = fails;
            for _ in 0..61 {
                harness.advance(std::time::Duration::from_secs(60)).await;
            }
        }
        harness.prepare("DELETE", "aws/static-roles/s", Value::Null).await;
        harness.prepare("POST", "aws/config/rotate-root", json!({})).await;
        wire_aws::pass(&harness, 5).await;
        aws.lock().unwrap().fails = vec![("CreateAccessKey", 1, Ok((500, "InternalFailure")))];
        assert!(harness.write("aws/config/rotate-root", ROOT, json!({})).await.status >= 400);
    });
    assert_eq!(
        seen.await,
        [
            "aws/config-write aws/config/lease true -",
            "aws/config-write aws/config/root true -",
            "aws/role-create aws/roles/app true app",
            "aws/role-update aws/roles/app true app",
            "aws/creds-create aws/creds/app true app",
            "aws/creds-create-fail aws/creds/app false app",
            "aws/role-create aws/roles/token true token",
            "aws/creds-create aws/sts/token true token",
            "aws/role-delete aws/roles/token true token",
            "aws/static-role-create aws/static-roles/s true s",
            "aws/static-role-update aws/static-roles/s true s",
            "aws/rotate aws/static-creds/s true s",
            "aws/rotate-fail aws/static-creds/s false s",
            // What failed is tried again.
            "aws/rotate aws/static-creds/s true s",
            "aws/static-role-delete aws/static-roles/s true s",
            "aws/root-rotate aws/config/rotate-root true -",
            "aws/root-rotate-fail aws/config/rotate-root false -",
        ]
    );
}

#[tokio::test]
async fn what_is_done_to_a_directory_is_told() {
    let server = Slapd::start().unwrap();
    let harness = ldap::node_with(&server).await;
    let seen = told_while(&harness, "ldap/*", async || {
        harness.prepare("POST", "ldap/config", json!({ "userdn": "ou=people,dc=example,dc=com" })).await;
        let role = |creation: &str| json!({ "creation_ldif": creation, "deletion_ldif": ldap::DELETION });
        harness.prepare("POST", "ldap/role/dev", role(ldap::CREATION)).await;
        drop(harness.read("ldap/creds/dev", ROOT).await.expect_status(200));
        let nowhere = ldap::CREATION.replace("ou=people", "ou=nowhere");
        harness.prepare("POST", "ldap/role/dev", role(&nowhere)).await;
        assert!(harness.read("ldap/creds/dev", ROOT).await.status >= 400);
        harness.prepare("DELETE", "ldap/role/dev", Value::Null).await;
        harness.prepare("DELETE", "ldap/role/dev", Value::Null).await;
        let alice = json!({ "username": "alice", "rotation_period": "1h" });
        harness.prepare("POST", "ldap/static-role/a", alice.clone()).await;
        harness.prepare("POST", "ldap/static-role/a", json!({ "rotation_period": "2h" })).await;
        harness.prepare("POST", "ldap/rotate-role/a", json!({})).await;
        let nobody = json!({ "username": "nobody", "rotation_period": "1h" });
        assert!(harness.write("ldap/static-role/b", ROOT, nobody).await.status >= 400);
        harness.prepare("DELETE", "ldap/static-role/a", Value::Null).await;
        let set = json!({ "service_account_names": "fizz", "ttl": "1h", "max_ttl": "2h" });
        harness.prepare("POST", "ldap/library/team", set).await;
        harness.prepare("POST", "ldap/library/team", json!({ "ttl": "30m" })).await;
        harness.prepare("POST", "ldap/library/team/check-out", json!({})).await;
        harness.prepare("POST", "ldap/library/team/check-in", json!({})).await;
        let lent = harness.write("ldap/library/team/check-out", ROOT, json!({})).await.text_at("/lease_id");
        harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": lent, "sync": true })).await;
        harness.prepare("DELETE", "ldap/library/team", Value::Null).await;
        harness.prepare("POST", "ldap/rotate-root", json!({})).await;
        harness.prepare("POST", "ldap/config", json!({ "url": "ldap://127.0.0.1:1" })).await;
        assert!(harness.write("ldap/rotate-root", ROOT, json!({})).await.status >= 400);
        harness.prepare("DELETE", "ldap/config", Value::Null).await;
    });
    assert_eq!(
        seen.await,
        [
            "ldap/config-write ldap/config true -",
            "ldap/role-create ldap/role/dev true dev",
            "ldap/creds-create ldap/creds/dev true dev",
            "ldap/role-update ldap/role/dev true dev",
            "ldap/creds-create-fail ldap/creds/dev false dev",
            "ldap/role-delete ldap/role/dev true dev",
            "ldap/static-role-create ldap/static-role/a true a",
            "ldap/static-role-update ldap/static-role/a true a",
            "ldap/rotate ldap/rotate-role/a true a",
            "ldap/rotate-fail ldap/rotate-role/b false b",
            "ldap/static-role-delete ldap/static-role/a true a",
            "ldap/library-create ldap/library/team true team",
            "ldap/library-update ldap/library/team true team",
            "ldap/library-check-out ldap/library/team/check-out true team",
            "ldap/library-check-in ldap/library/team/check-in true team",
            "ldap/library-check-out ldap/library/team/check-out true team",
            "ldap/library-check-in ldap/library/team/check-in true team",
            "ldap/library-delete ldap/library/team true team",
            "ldap/root-rotate ldap/rotate-root true -",
            "ldap/config-write ldap/config true -",
            "ldap/root-rotate-fail ldap/rotate-root false -",
            "ldap/config-delete ldap/config true -",
        ]
    );
}
