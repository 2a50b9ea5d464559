//! What a configuration of `ldap` says of accounts, and what becomes of those that it lent when it is written anew or deleted.
//!
//! Deliberately absent: what is asked of a directory itself; that is in [`ldap`](crate::ldap).

#![allow(clippy::unwrap_used, reason = "a failing step ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::ROOT;
use tresor_services::Slapd;
use tresor_services::slapd::MANAGER;

use crate::databases::until;
use crate::ldap::{CREATION, DELETION, MANAGER_PASSWORD, logs_in, node_with};

const FIZZ: &str = "cn=fizz,ou=people,dc=example,dc=com";

#[tokio::test]
async fn a_loan_comes_back_to_the_directory_that_it_is_of_whatever_is_configured_then() {
    let (server, other) = (Slapd::start().unwrap(), Slapd::start().unwrap());
    let harness = node_with(&server).await;
    harness.prepare("POST", "ldap/library/team", json!({ "service_account_names": "fizz", "ttl": "1h" })).await;
    let config = |at: &Slapd| json!({ "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "url": at.url() });
    let lend = async || {
        let lent = harness.write("ldap/library/team/check-out", ROOT, json!({})).await.expect_status(200);
        let password = lent.text_at("/data/password");
        assert!(logs_in(&server, FIZZ, &password).await);
        password
    };
    let is_back =
        async || harness.read("ldap/library/team/status", ROOT).await.at("/data/fizz/available") == &json!(true);

    // Another address counts when the loan is over.
    let password = lend().await;
    harness.prepare("POST", "ldap/config", config(&other)).await;
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, is_back().await);
    assert!(!logs_in(&server, FIZZ, &password).await);
    assert!(logs_in(&other, FIZZ, "fizz's first").await, "who lent nothing is not asked");

    // And when it is brought back by hand.
    harness.prepare("POST", "ldap/config", config(&server)).await;
    let password = lend().await;
    harness.prepare("POST", "ldap/config", config(&other)).await;
    let back = harness.write("ldap/library/team/check-in", ROOT, json!({})).await.expect_status(200);
    assert_eq!(back.at("/data/check_ins"), &json!(["fizz"]));
    assert!(!logs_in(&server, FIZZ, &password).await);
    assert!(logs_in(&other, FIZZ, "fizz's first").await);

    // None is configured any more.
    harness.prepare("POST", "ldap/config", config(&server)).await;
    let password = lend().await;
    harness.prepare("DELETE", "ldap/config", Value::Null).await;
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, is_back().await);
    assert!(!logs_in(&server, FIZZ, &password).await);
}

#[tokio::test]
async fn a_manager_brings_back_what_a_directory_lent_that_is_gone_to_the_one_that_is_configured_now() {
    let (server, other) = (Slapd::start().unwrap(), Slapd::start().unwrap());
    let harness = node_with(&server).await;
    harness.prepare("POST", "ldap/library/team", json!({ "service_account_names": "fizz", "ttl": "1h" })).await;
    drop(harness.write("ldap/library/team/check-out", ROOT, json!({})).await.expect_status(200));
    let config = json!({ "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "url": other.url() });
    harness.prepare("POST", "ldap/config", config).await;
    drop(server);
    let path = "ldap/library/manage/team/check-in";
    let refused = harness.write(path, ROOT, json!({})).await;
    assert!(refused.status >= 400 && refused.errors().contains("cannot reach the directory"), "{refused:?}");
    assert!(logs_in(&other, FIZZ, "fizz's first").await, "who lent nothing is not asked");
    let back = harness.write(path, ROOT, json!({ "current_config": true })).await.expect_status(200);
    assert_eq!(back.at("/data/check_ins"), &json!(["fizz"]));
    assert!(!logs_in(&other, FIZZ, "fizz's first").await);
    let lent = harness.write("ldap/library/team/check-out", ROOT, json!({})).await.expect_status(200);
    assert!(logs_in(&other, FIZZ, &lent.text_at("/data/password")).await);
}

#[tokio::test]
async fn a_configuration_says_how_long_accounts_live_and_what_it_does_not_take() {
    let (server, other) = (Slapd::start().unwrap(), Slapd::start().unwrap());
    let harness = node_with(&server).await;
    let sent = json!({ "ttl": "10m", "max_ttl": "30m", "groupdn": "ou=groups", "nothing": null });
    let written = harness.write("ldap/config", ROOT, sent).await.expect_status(200);
    assert_eq!(written.at("/warnings"), &json!(["Endpoint ignored these unrecognized parameters: [groupdn]"]));
    let shown = harness.read("ldap/config", ROOT).await;
    assert_eq!((shown.at("/data/ttl"), shown.at("/data/max_ttl")), (&json!(600), &json!(1800)));
    harness
        .write("ldap/config", ROOT, json!({ "ttl": "1h" }))
        .await
        .expect_error(400, "ttl may not be more than max_ttl");

    let role = json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION });
    harness.prepare("POST", "ldap/role/dev", role).await;
    let made = harness.read("ldap/creds/dev", ROOT).await.expect_status(200);
    assert_eq!(made.at("/lease_duration"), &json!(600));
    let longer = json!({ "lease_id": made.text_at("/lease_id"), "increment": 7200 });
    let renewed = harness.write("sys/leases/renew", ROOT, longer).await.expect_status(200);
    assert_eq!(renewed.at("/lease_duration"), &json!(1800));
    // A role that says it itself is not asked twice.
    let role = json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "default_ttl": "1h", "max_ttl": "2h" });
    harness.prepare("POST", "ldap/role/own", role).await;
    let made = harness.read("ldap/creds/own", ROOT).await.expect_status(200);
    assert_eq!(made.at("/lease_duration"), &json!(3600));

    // Whoever has the stored password sent somewhere else is told.
    let moved = harness.write("ldap/config", ROOT, json!({ "url": other.url() })).await.expect_status(200);
    assert_eq!(moved.at("/warnings"), &json!(["the stored bindpass is sent to another url from now on"]));
}
