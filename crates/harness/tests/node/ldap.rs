//! The `ldap` engine against a real OpenLDAP server: accounts that are made, rotated and lent, and what becomes of them when
//! the server or the directory is gone in the middle.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::Alone;
use tresor_directory::{Dialer, Filter, Scope, addresses};
use tresor_env::doubles::TestDoors;
use tresor_harness::{Captured, Harness, ROOT, assembly};
use tresor_secret::SecretString;
use tresor_services::slapd::MANAGER;
pub(crate) use tresor_services::slapd::MANAGER_PASSWORD;
use tresor_services::{Between, Slapd};

const ALICE: &str = "cn=alice,ou=people,dc=example,dc=com";
pub(crate) const CREATION: &str = "dn: cn={{.Username}},ou=people,dc=example,dc=com\nchangetype: add\nobjectClass: inetOrgPerson\nsn: {{.Username}}\n\
                        userPassword: {{.Password}}\n\ndn: cn=staff,ou=groups,dc=example,dc=com\nchangetype: modify\nadd: member\n\
                        member: cn={{.Username}},ou=people,dc=example,dc=com\n-\n";
pub(crate) const DELETION: &str = "dn: cn=staff,ou=groups,dc=example,dc=com\nchangetype: modify\ndelete: member\n\
                        member: cn={{.Username}},ou=people,dc=example,dc=com\n-\n\ndn: cn={{.Username}},ou=people,dc=example,dc=com\nchangetype: delete\n";

/// A node whose network is the machine's, so that it reaches a real directory.
pub(crate) async fn node() -> Harness {
    let mut doors = TestDoors::new(1);
    doors.doors.net = tresor_env_os::doors().net;
    let mut harness = Harness::uninitialized_in(Arc::new(Alone::default()), doors, assembly::settings());
    harness.initialize().await;
    harness
}

/// The same with a mount that acts on this directory.
pub(crate) async fn node_with(server: &Slapd) -> Harness {
    let harness = node().await;
    harness.prepare("POST", "sys/mounts/ldap", json!({ "type": "ldap" })).await;
    let config = json!({
        "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "url": server.url(), "userdn": "ou=people,dc=example,dc=com",
    });
    harness.prepare("POST", "ldap/config", config).await;
    harness
}

/// Whether somebody logs in.
pub(crate) async fn logs_in(server: &Slapd, name: &str, password: &str) -> bool {
    connection(server).await.bind(name, &SecretString::new(password.to_owned())).await.is_ok()
}

pub(crate) async fn connection(server: &Slapd) -> tresor_directory::Connection {
    let doors = tresor_env_os::doors();
    let dialer = Dialer {
        net: doors.net,
        clock: doors.clock,
        addresses: addresses(&server.url()).unwrap(),
        tls: None,
        start_tls: false,
        connection_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
    };
    dialer.connect().await.unwrap()
}

/// How many accounts of people there are.
pub(crate) async fn people(server: &Slapd) -> usize {
    let mut connection = connection(server).await;
    connection.bind(MANAGER, &SecretString::new(MANAGER_PASSWORD.to_owned())).await.unwrap();
    let filter = Filter::Present("sn".to_owned());
    connection.search("ou=people,dc=example,dc=com", Scope::Subtree, &filter, &[]).await.unwrap().len()
}

/// Lets what was begun come to its end: until this holds.
macro_rules! until {
    ($harness:expr, $holds:expr) => {{
        let mut holds = false;
        for _ in 0..3_000 {
            $harness.settle().await;
            if $holds {
                holds = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(holds, "it does not come to that: {}", stringify!($holds));
    }};
}

#[tokio::test]
async fn an_account_lives_as_long_as_its_lease() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    let role = json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "default_ttl": "1h", "max_ttl": "24h" });
    harness.prepare("POST", "ldap/role/dev", role.clone()).await;
    assert_eq!(harness.read("ldap/creds/nothing", ROOT).await.status, 404);
    let before = people(&server).await;

    let made = harness.read("ldap/creds/dev", ROOT).await.expect_status(200);
    let (user, password) = (made.text_at("/data/username"), made.text_at("/data/password"));
    let name = format!("cn={user},ou=people,dc=example,dc=com");
    assert_eq!(made.at("/data/distinguished_names"), &json!([name, "cn=staff,ou=groups,dc=example,dc=com"]));
    assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
    assert!(user.starts_with("v_") && user.contains("_dev_") && password.len() == 64);
    assert!(logs_in(&server, &name, &password).await);
    let lease = made.text_at("/lease_id");
    drop(
        harness
            .write("sys/leases/renew", ROOT, json!({ "lease_id": lease, "increment": 7200 }))
            .await
            .expect_status(200),
    );

    // Neither the role nor the configuration has to be there any more.
    harness.prepare("DELETE", "ldap/role/dev", Value::Null).await;
    harness
        .write("sys/leases/renew", ROOT, json!({ "lease_id": lease }))
        .await
        .expect_error(400, "role does not exist");
    harness.prepare("DELETE", "ldap/config", Value::Null).await;
    assert_eq!(harness.read("ldap/config", ROOT).await.status, 404);
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    until!(harness, !logs_in(&server, &name, &password).await);
    assert_eq!(people(&server).await, before);

    // By time, and where the account is gone already.
    let config = json!({ "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "url": server.url() });
    harness.prepare("POST", "ldap/config", config).await;
    harness.prepare("POST", "ldap/role/dev", role).await;
    let made = [
        harness.read("ldap/creds/dev", ROOT).await.expect_status(200),
        harness.read("ldap/creds/dev", ROOT).await.expect_status(200),
    ];
    let gone = format!("cn={},ou=people,dc=example,dc=com", made[0].text_at("/data/username"));
    let mut manager = connection(&server).await;
    manager.bind(MANAGER, &SecretString::new(MANAGER_PASSWORD.to_owned())).await.unwrap();
    manager.delete(&gone).await.unwrap();
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, harness.list("sys/leases/lookup/ldap/creds/dev", ROOT).await.status == 404);
    until!(harness, people(&server).await == before);
}

#[tokio::test]
async fn roles_and_sets_have_folders_and_no_case() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    let role = json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "default_ttl": "1h" });
    harness.prepare("POST", "ldap/role/Team/Dev", role).await;
    let keys = async |path: &str| harness.list(path, ROOT).await.at("/data/keys").clone();
    assert_eq!((keys("ldap/role").await, keys("ldap/role/team").await), (json!(["team/"]), json!(["dev"])));
    assert_eq!(harness.read("ldap/role/team", ROOT).await.status, 404);
    let made = harness.read("ldap/creds/team/DEV", ROOT).await.expect_status(200);
    let (user, lease) = (made.text_at("/data/username"), made.text_at("/lease_id"));
    assert!(user.contains("_dev_") && !user.contains('/'), "{user}");
    assert!(lease.starts_with("ldap/creds/team/"), "{lease}");
    harness.prepare("POST", "sys/leases/renew", json!({ "lease_id": lease })).await;
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    harness.prepare("DELETE", "ldap/role/TEAM/dev", Value::Null).await;
    assert_eq!(harness.read("ldap/role/team/dev", ROOT).await.status, 404);
    let set = json!({ "service_account_names": "fizz" });
    harness.write("ldap/library/a//b", ROOT, set.clone()).await.expect_error(400, "a name has letters");
    harness.prepare("POST", "ldap/library/Team/Ops", set).await;
    assert_eq!((keys("ldap/library").await, keys("ldap/library/team/").await), (json!(["team/"]), json!(["ops"])));
    let lent = harness.write("ldap/library/team/OPS/check-out", ROOT, json!({})).await.expect_status(200);
    assert_eq!(lent.at("/data/service_account_name"), "fizz");
    let status = harness.read("ldap/library/team/ops/status", ROOT).await;
    assert_eq!(status.at("/data/fizz/available"), &json!(false));
    let back = harness.write("ldap/library/manage/team/ops/check-in", ROOT, json!({})).await.expect_status(200);
    assert_eq!(back.at("/data/check_ins"), &json!(["fizz"]));
    harness.prepare("DELETE", "ldap/library/team/ops", Value::Null).await;
    assert_eq!(harness.list("ldap/library", ROOT).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_made_whole_is_not_there() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    let before = people(&server).await;
    // The second entry lies in nothing.
    let creation =
        format!("{CREATION}\ndn: cn={{{{.Username}}}},ou=nowhere,dc=example,dc=com\nobjectClass: person\nsn: x\n");
    for rollback in [Value::Null, json!(DELETION)] {
        let role = json!({ "creation_ldif": creation, "deletion_ldif": DELETION, "rollback_ldif": rollback });
        harness.prepare("POST", "ldap/role/broken", role).await;
        let refused = harness.read("ldap/creds/broken", ROOT).await;
        refused.expect_error(400, "failed to create user: LDAP Result Code 32 \"No Such Object\"");
        // What is to be taken back is looked for each second.
        harness.advance(Duration::from_secs(2)).await;
        until!(harness, people(&server).await == before);
    }
    assert_eq!(harness.list("sys/leases/lookup/ldap/creds/broken", ROOT).await.status, 404);
    // What a name is made of stays in the name (PWD-04).
    let role = json!({
        "creation_ldif": "dn: cn={{.Username}},ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nsn: a\nuserPassword: {{.Password}}",
        "deletion_ldif": "dn: cn={{.Username}},ou=people,dc=example,dc=com\nchangetype: delete",
        "username_template": "x,ou=groups+{{random 6}}",
    });
    harness.prepare("POST", "ldap/role/odd", role).await;
    let made = harness.read("ldap/creds/odd", ROOT).await.expect_status(200);
    assert!(made.text_at("/data/distinguished_names/0").ends_with(",ou=people,dc=example,dc=com"));
    assert_eq!(people(&server).await, before + 1);
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": made.text_at("/lease_id"), "sync": true })).await;
    until!(harness, people(&server).await == before);
}

#[tokio::test]
async fn a_static_role_takes_over_rotates_and_lets_go() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    // Nobody of that name: nothing is there afterwards, and the name can be given again.
    let nobody = json!({ "username": "nobody", "rotation_period": "1h" });
    harness
        .write("ldap/static-role/x", ROOT, nobody)
        .await
        .expect_error(400, "expected one matching entry, but received 0");
    assert_eq!(harness.read("ldap/static-role/x", ROOT).await.status, 404);
    assert_eq!(harness.list("ldap/static-role", ROOT).await.status, 404);

    harness
        .prepare("POST", "ldap/static-role/team/alice", json!({ "username": "alice", "rotation_period": "1h" }))
        .await;
    assert_eq!(harness.list("ldap/static-role", ROOT).await.at("/data/keys"), &json!(["team/"]));
    assert_eq!(harness.list("ldap/static-role/team", ROOT).await.at("/data/keys"), &json!(["alice"]));
    let shown = harness.read("ldap/static-cred/team/alice", ROOT).await.expect_status(200);
    let first = shown.text_at("/data/password");
    assert!(logs_in(&server, ALICE, &first).await && !logs_in(&server, ALICE, "alice's first").await);
    assert_eq!(shown.at("/data/ttl"), &json!(3600));

    // No other role or set gets it, whatever the case of its name.
    let again = json!({ "username": "ALICE", "rotation_period": "1h" });
    harness
        .write("ldap/static-role/other", ROOT, again)
        .await
        .expect_error(400, "is already managed by the secrets engine");
    for (change, text) in [
        (json!({ "username": "bob" }), "cannot update static account username"),
        (json!({ "dn": ALICE }), "cannot update static account distinguished name (dn)"),
        (json!({ "skip_import_rotation": true }), "skip_import_rotation has no effect on updates"),
        (json!({ "rotation_period": 4 }), "rotation_period must be 5 seconds or more"),
        (json!({ "rotation_period": 60, "rotation_schedule": "0 0 * * *" }), "mutually exclusive"),
    ] {
        harness.write("ldap/static-role/team/alice", ROOT, change).await.expect_error(400, text);
    }

    // By request, and by time.
    harness.prepare("POST", "ldap/rotate-role/team/alice", Value::Null).await;
    let shown = harness.read("ldap/static-cred/team/alice", ROOT).await;
    let second = shown.text_at("/data/password");
    assert!(second != first && shown.text_at("/data/last_password") == first && logs_in(&server, ALICE, &second).await);
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, harness.read("ldap/static-cred/team/alice", ROOT).await.text_at("/data/last_password") == second);
    let third = harness.read("ldap/static-cred/team/alice", ROOT).await.text_at("/data/password");
    assert!(logs_in(&server, ALICE, &third).await);

    // One that is taken over as it is, by a schedule.
    let bob = json!({ "username": "bob", "dn": "cn=bob,ou=people,dc=example,dc=com", "rotation_schedule": "0 * * * *", "rotation_window": "1h", "skip_import_rotation": true });
    harness.prepare("POST", "ldap/static-role/bob", bob).await;
    assert_eq!(harness.read("ldap/static-cred/bob", ROOT).await.text_at("/data/password"), "");
    assert!(logs_in(&server, "cn=bob,ou=people,dc=example,dc=com", "bob's first").await);
    harness.advance(Duration::from_secs(3600)).await;
    until!(harness, !harness.read("ldap/static-cred/bob", ROOT).await.text_at("/data/password").is_empty());

    // A name in capitals is the same one.
    let shown = harness.read("ldap/static-cred/Team/ALICE", ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data"), harness.read("ldap/static-cred/team/alice", ROOT).await.at("/data"));
    let limited = harness.token_with("path \"ldap/static-cred/Team/Alice\" { capabilities = [\"read\"] }").await;
    drop(harness.read("ldap/static-cred/team/alice", &limited).await.expect_status(200));
    drop(harness.read("ldap/static-cred/BOB", &limited).await.expect_status(403));
    harness.prepare("DELETE", "ldap/static-role/team/Alice", Value::Null).await;
    harness.read("ldap/static-cred/team/alice", ROOT).await.expect_error(400, "unknown role: team/alice");
    harness.prepare("POST", "ldap/static-role/other", json!({ "username": "ALICE", "rotation_period": "1h" })).await;
}

#[tokio::test]
async fn the_engines_own_password_is_rotated_and_never_lost() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    harness.prepare("POST", "ldap/rotate-root", Value::Null).await;
    assert!(!logs_in(&server, MANAGER, MANAGER_PASSWORD).await);
    let shown = harness.read("ldap/config", ROOT).await.expect_status(200);
    assert!(shown.at("/data/last_bind_password_rotation").is_string());
    assert!(shown.at("/data/bindpass").is_null());
    // What leaves it out leaves it as it is; what is wrong is said.
    harness.prepare("POST", "ldap/config", json!({ "userdn": "dc=example,dc=com" })).await;
    harness.prepare("POST", "ldap/static-role/alice", json!({ "username": "alice", "rotation_period": "1h" })).await;
    harness.prepare("POST", "ldap/config", json!({ "bindpass": "wrong" })).await;
    harness
        .write("ldap/rotate-role/alice", ROOT, Value::Null)
        .await
        .expect_error(400, "LDAP Result Code 49 \"Invalid Credentials\"");
}

#[tokio::test]
async fn pol_22_what_is_tried_no_more_is_listed_by_the_paths_that_it_is_written_at() {
    let server = Slapd::start().unwrap();
    let harness = node().await;
    let config = json!({
        "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "url": server.url(), "userdn": "ou=people,dc=example,dc=com",
    });
    let once = json!({ "max_retries_per_cycle": 0, "max_retry_cycles": 0 });
    let rotated = json!({ "username": "alice", "rotation_period": "1h", "rotation_policy": "once" });
    let wrong = json!({ "bindpass": "wrong", "rotation_period": "1h", "rotation_policy": "once" });
    for (path, body) in [
        ("sys/namespaces/team", json!({})),
        ("team/sys/mounts/ldap", json!({ "type": "ldap" })),
        ("team/ldap/config", config),
        ("team/sys/policies/rotation/once", once),
        ("team/ldap/static-role/folder/alice", rotated),
        ("team/ldap/config", wrong),
    ] {
        harness.prepare("POST", path, body).await;
    }
    let orphans = async |path: &str| harness.read(path, ROOT).await.expect_status(200).at("/data/orphans").clone();
    harness.advance(Duration::from_secs(3601)).await;
    let expected = json!(["ldap/config", "ldap/static-role/folder/alice"]);
    until!(harness, orphans("team/sys/rotation/orphans").await == expected);
    assert_eq!(orphans("sys/rotation/orphans").await, json!([]));
    let below = json!(["team/ldap/config", "team/ldap/static-role/folder/alice"]);
    assert_eq!(orphans("sys/rotation/orphans?include_child_namespaces=true").await, below);
}

#[tokio::test]
async fn dyn_08_a_rotation_that_is_cut_short_leaves_a_password_that_works() {
    let mut server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    harness.prepare("POST", "ldap/static-role/alice", json!({ "username": "alice", "rotation_period": "24h" })).await;
    let first = harness.read("ldap/static-cred/alice", ROOT).await.text_at("/data/password");

    // The directory is away: it is said, and what is shown still works when it is back.
    server.stop();
    harness.write("ldap/rotate-role/alice", ROOT, Value::Null).await.expect_error(502, "cannot reach the directory");
    server.start_again().unwrap();
    assert_eq!(harness.read("ldap/static-cred/alice", ROOT).await.text_at("/data/password"), first);
    assert!(logs_in(&server, ALICE, &first).await);
}

/// What nothing but the log in of somebody has on the wire: the name, and the byte that a password begins with, which is no
/// letter.
pub(crate) fn logging_in(name: &str) -> String {
    format!("{name}\u{fffd}")
}

#[tokio::test]
async fn dyn_08_a_rotation_that_is_killed_at_any_step_is_finished_as_soon_as_the_server_serves() {
    let server = Slapd::start().unwrap();
    let port = server.url().rsplit_once(':').unwrap().1.trim_end_matches('/').parse().unwrap();
    let between = Between::to(port).unwrap();
    let mut harness = node().await;
    harness.prepare("POST", "sys/mounts/ldap", json!({ "type": "ldap" })).await;
    let config = json!({
        "binddn": MANAGER, "bindpass": MANAGER_PASSWORD, "userdn": "ou=people,dc=example,dc=com",
        "url": format!("ldap://127.0.0.1:{}", between.port()),
    });
    harness.prepare("POST", "ldap/config", config).await;
    let role = json!({ "username": "alice", "rotation_period": "24h" });
    harness.prepare("POST", "ldap/static-role/alice", role).await;
    let shown = async |harness: &Harness| harness.read("ldap/static-cred/alice", ROOT).await.text_at("/data/password");
    // The candidate is stored; it is set; it was logged in with, which nobody heard.
    for (step, is_set) in [(logging_in(MANAGER), false), ("userPassword".to_owned(), true), (logging_in(ALICE), true)] {
        let before = shown(&harness).await;
        between.hold_after(&step);
        {
            let mut rotation = std::pin::pin!(harness.write("ldap/rotate-role/alice", ROOT, Value::Null));
            while !between.is_holding() {
                tokio::select! {
                    answer = &mut rotation => panic!("{step:?}: it was answered: {answer:?}"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        }
        assert_eq!(logs_in(&server, ALICE, &before).await, !is_set, "{step:?}");
        harness.kill();
        between.mend();
        let log = Captured::start();
        harness.unseal().await;
        // No time passes.
        until!(harness, {
            let password = shown(&harness).await;
            password != before && logs_in(&server, ALICE, &password).await
        });
        let log = String::from_utf8(log.bytes()).unwrap();
        assert!(log.contains("what was begun at an engine and not settled is finished"), "{step:?}: {log}");
    }
    // The engine's own password, too.
    between.hold_after("userPassword");
    {
        let mut rotation = std::pin::pin!(harness.write("ldap/rotate-root", ROOT, Value::Null));
        while !between.is_holding() {
            tokio::select! {
                answer = &mut rotation => panic!("it was answered: {answer:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
    harness.kill();
    between.mend();
    harness.unseal().await;
    until!(harness, harness.read("ldap/config", ROOT).await.at("/data/last_bind_password_rotation").is_string());
    harness.prepare("POST", "ldap/rotate-role/alice", Value::Null).await;
    assert!(logs_in(&server, ALICE, &shown(&harness).await).await);
}

#[tokio::test]
async fn accounts_of_the_library_are_lent_and_come_back() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    let set = json!({ "service_account_names": "fizz,buzz", "ttl": "1h", "max_ttl": "2h" });
    let with_nobody = json!({ "service_account_names": ["fizz", "nobody"] });
    harness
        .write("ldap/library/team", ROOT, with_nobody)
        .await
        .expect_error(400, "expected one matching entry, but received 0");
    // Nothing was changed, then.
    assert!(logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", "fizz's first").await);
    assert_eq!(harness.list("ldap/library", ROOT).await.status, 404);
    harness.prepare("POST", "ldap/library/team", set).await;
    let shown = harness.read("ldap/library/team", ROOT).await;
    assert_eq!(
        shown.at("/data"),
        &json!({ "service_account_names": ["fizz", "buzz"], "ttl": 3600, "max_ttl": 7200, "disable_check_in_enforcement": false })
    );
    assert!(!logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", "fizz's first").await);
    harness
        .write("ldap/library/other", ROOT, json!({ "service_account_names": "fizz" }))
        .await
        .expect_error(400, "\"fizz\" is already managed by the secrets engine");
    harness
        .write("ldap/static-role/fizz", ROOT, json!({ "username": "fizz", "rotation_period": 60 }))
        .await
        .expect_error(400, "already managed");

    let library = harness.token_with("path \"ldap/library/team/*\" { capabilities = [\"update\", \"read\"] }").await;
    let lent = harness.write("ldap/library/team/check-out", &library, json!({ "ttl": "30m" })).await.expect_status(200);
    let password = lent.text_at("/data/password");
    assert_eq!(
        (lent.text_at("/data/service_account_name").as_str(), lent.at("/lease_duration")),
        ("fizz", &json!(1800))
    );
    assert!(logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", &password).await);
    drop(harness.write("ldap/library/team/check-out", ROOT, json!({})).await.expect_status(200));
    harness
        .write("ldap/library/team/check-out", ROOT, json!({}))
        .await
        .expect_error(400, "No service accounts available for check-out.");
    let status = harness.read("ldap/library/team/status", ROOT).await;
    assert_eq!(status.at("/data/fizz/available"), &json!(false));
    assert!(status.at("/data/fizz/borrower_client_token").is_string());
    drop(
        harness
            .write("sys/leases/renew", ROOT, json!({ "lease_id": lent.text_at("/lease_id") }))
            .await
            .expect_status(200),
    );
    harness
        .delete("ldap/library/team", ROOT)
        .await
        .expect_error(400, "can't be deleted because it is currently checked out");

    // Only who borrowed brings back, or who manages.
    let fizz = json!({ "service_account_names": ["fizz"] });
    harness.write("ldap/library/team/check-in", ROOT, fizz).await.expect_error(400, "wasn't checked out by the caller");
    let back = harness.write("ldap/library/team/check-in", &library, json!({})).await.expect_status(200);
    assert_eq!(back.at("/data/check_ins"), &json!(["fizz"]));
    assert!(!logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", &password).await);
    harness
        .write("sys/leases/renew", ROOT, json!({ "lease_id": lent.text_at("/lease_id") }))
        .await
        .expect_error(400, "already checked in");
    let back = harness
        .write("ldap/library/manage/team/check-in", ROOT, json!({ "service_account_names": "buzz" }))
        .await
        .expect_status(200);
    assert_eq!(back.at("/data/check_ins"), &json!(["buzz"]));
    let nothing = harness.write("ldap/library/team/check-in", &library, json!({})).await.expect_status(200);
    assert_eq!(nothing.at("/data/check_ins"), &json!([]));

    // The end of the first loan takes nothing from whoever borrowed next, and the end of that brings it back.
    let next = harness.write("ldap/library/team/check-out", ROOT, json!({})).await.expect_status(200);
    let held = next.text_at("/data/password");
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": lent.text_at("/lease_id"), "sync": true })).await;
    assert!(logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", &held).await);
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, harness.read("ldap/library/team/status", ROOT).await.at("/data/fizz/available") == &json!(true));
    assert!(!logs_in(&server, "cn=fizz,ou=people,dc=example,dc=com", &held).await);

    // A set changes, and goes.
    harness.prepare("POST", "ldap/library/team", json!({ "service_account_names": ["buzz", "carol"] })).await;
    assert_eq!(
        harness.read("ldap/library/team", ROOT).await.at("/data/service_account_names"),
        &json!(["buzz", "carol"])
    );
    harness.prepare("DELETE", "ldap/library/team", Value::Null).await;
    harness.prepare("POST", "ldap/library/other", json!({ "service_account_names": "fizz" })).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let harness = node().await;
    harness.prepare("POST", "sys/mounts/ldap", json!({ "type": "openldap" })).await;
    assert_eq!(harness.read("ldap/config", ROOT).await.status, 404);
    let good = json!({ "binddn": "cn=a", "bindpass": "b" });
    for (config, text) in [
        (json!({ "binddn": "cn=a" }), "binddn and bindpass are required"),
        (json!({ "schema": "x" }), "the configured schema is not valid. Supported schemas: [openldap racf ad]"),
        (json!({ "url": "http://x" }), "url must be ldap://HOST"),
        (json!({ "length": 20, "password_policy": "p" }), "cannot set both 'password_policy' and 'length'"),
        (json!({ "credential_type": "phrase" }), "belongs to the schema racf"),
        (json!({ "starttls": true, "tls_min_version": "tls13" }), "'tls_max_version' must be greater than or equal"),
        (json!({ "starttls": true, "certificate": "x" }), "certificate: no certificate in PEM"),
        (json!({ "rotation_window": "1h" }), "cannot use rotation_window without rotation_schedule"),
    ] {
        let mut sent = if config.get("binddn").is_some() { json!({}) } else { good.clone() };
        sent.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        harness.write("ldap/config", ROOT, sent).await.expect_error(400, text);
    }
    harness.prepare("POST", "ldap/config", good).await;
    let shown = harness.read("ldap/config", ROOT).await;
    for (field, value) in [
        ("url", json!("ldap://127.0.0.1")),
        ("schema", json!("openldap")),
        ("userattr", json!("cn")),
        ("request_timeout", json!(90)),
        ("connection_timeout", json!(30)),
        ("tls_min_version", json!("tls12")),
        ("tls_max_version", json!("tls12")),
    ] {
        assert_eq!(shown.at(&format!("/data/{field}")), &value, "{field}");
    }
    for (role, text) in [
        (json!({}), "missing creation_ldif"),
        (json!({ "creation_ldif": CREATION }), "missing deletion_ldif"),
        (
            json!({ "creation_ldif": "x", "deletion_ldif": DELETION }),
            "invalid creation_ldif: line 1: no attribute and value",
        ),
        (
            json!({ "creation_ldif": CREATION, "deletion_ldif": "dn: {{.Nobody}}" }),
            "invalid deletion_ldif: line 1: invalid template",
        ),
        (
            json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "username_template": "{{.Password}}" }),
            "failed to generate username",
        ),
        (
            json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION, "default_ttl": 2, "max_ttl": 1 }),
            "default_ttl may not be more than max_ttl",
        ),
    ] {
        harness.write("ldap/role/r", ROOT, role).await.expect_error(400, text);
    }
}

#[tokio::test]
async fn ldif_of_every_form_makes_what_it_says() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    // Several values, folded lines, comments, values that are no text, and a change of several parts.
    let creation = "version: 1\n# what is made\n#  goes on\ndn: cn={{.Username}},ou=people,dc=exam\n ple,dc=com\nobjectClass: inetOrgPerson\n\
                    sn: {{.Username}}\nuserPassword:: {{.Password | base64}}\ndescription: made by {{.DisplayName}}\n\
                    # between two values\ndescription: for\n  {{.RoleName}}\ntelephoneNumber: 1\nmobile: 2\n\
                    jpegPhoto:: /9j/4AAAAf8=\n\n\n\
                    dn: cn={{.Username}},ou=people,dc=example,dc=com\nchangetype: modify\nadd: description\n\
                    description: third\ndescription: fourth\n-\nreplace: telephoneNumber\ntelephoneNumber: 7\n\
                    telephoneNumber: 8\n-\ndelete: mobile\n-\ndelete: description\ndescription: for {{.RoleName}}\n-\n";
    let deletion = "dn: cn={{.Username}},ou=people,dc=example,dc=com\nchangetype: delete\n";
    let role = json!({ "creation_ldif": creation, "deletion_ldif": deletion, "default_ttl": "1h" });
    harness.prepare("POST", "ldap/role/every", role).await;
    let made = harness.read("ldap/creds/every", ROOT).await.expect_status(200);
    let name = format!("cn={},ou=people,dc=example,dc=com", made.text_at("/data/username"));
    assert!(logs_in(&server, &name, &made.text_at("/data/password")).await);
    let mut manager = connection(&server).await;
    manager.bind(MANAGER, &SecretString::new(MANAGER_PASSWORD.to_owned())).await.unwrap();
    let asked = ["description", "telephoneNumber", "mobile", "jpegPhoto"];
    let found = manager.search(&name, Scope::Base, &Filter::any(), &asked).await.unwrap();
    let mut shown: Vec<(String, Vec<Vec<u8>>)> = found[0].attributes.clone();
    shown.sort();
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let expected = [
        ("description".to_owned(), texts(&["made by root", "third", "fourth"])),
        ("jpegPhoto".to_owned(), vec![vec![0xff, 0xd8, 0xff, 0xe0, 0, 0, 1, 0xff]]),
        ("telephoneNumber".to_owned(), texts(&["7", "8"])),
    ];
    assert_eq!(shown, expected);
    harness.prepare("POST", "sys/leases/revoke", json!({ "lease_id": made.text_at("/lease_id"), "sync": true })).await;
    assert!(manager.search(&name, Scope::Base, &Filter::any(), &[]).await.is_err());
}

#[tokio::test]
async fn a_static_role_has_a_policy_and_a_first_password_of_its_own() {
    let server = Slapd::start().unwrap();
    let harness = node_with(&server).await;
    let policy = "length = 21\nrule \"charset\" { charset = \"xyz\" }\n";
    harness.prepare("POST", "sys/policies/password/own", json!({ "policy": policy })).await;
    let role = json!({
        "username": "alice", "rotation_period": "24h", "skip_import_rotation": true, "password": "alice's first",
        "password_policy": "own",
    });
    let mut wrong = role.clone();
    wrong["password_policy"] = json!("nothing");
    assert_eq!(harness.write("ldap/static-role/a", ROOT, wrong).await.status, 400);
    // What is said of the password is tried before anybody is shown it.
    let mut wrong = role.clone();
    wrong["password"] = json!("canary-other");
    let refused = harness.write("ldap/static-role/a", ROOT, wrong).await.expect_status(400).text_at("/errors/0");
    assert_eq!(refused, "the password is not that of \"alice\": the directory refuses it");
    assert_eq!(harness.read("ldap/static-role/a", ROOT).await.status, 404);
    harness.prepare("POST", "ldap/static-role/a", role).await;
    let other = json!({ "password": "canary-other" });
    harness.write("ldap/static-role/a", ROOT, other).await.expect_error(400, "the password is not that of");
    let shown = harness.read("ldap/static-role/a", ROOT).await.expect_status(200);
    assert_eq!((shown.at("/data/password_policy"), shown.at("/data/password")), (&json!("own"), &Value::Null));
    let password = async || harness.read("ldap/static-cred/a", ROOT).await.text_at("/data/password");
    assert_eq!(password().await, "alice's first");
    harness.prepare("POST", "ldap/rotate-role/a", Value::Null).await;
    let made = password().await;
    assert!(made.len() == 21 && made.chars().all(|letter| "xyz".contains(letter)), "{made}");
    assert!(logs_in(&server, ALICE, &made).await);
    harness.prepare("POST", "ldap/static-role/a", json!({ "password_policy": "" })).await;
    harness.prepare("POST", "ldap/rotate-role/a", Value::Null).await;
    assert_eq!(password().await.len(), 64);
}

#[tokio::test]
async fn accounts_of_a_self_managed_configuration_are_rotated_as_themselves() {
    let server = Slapd::start().unwrap();
    let harness = node().await;
    harness.prepare("POST", "sys/mounts/ldap", json!({ "type": "ldap" })).await;
    let write = async |path: &str, body: Value| harness.write(&format!("ldap/{path}"), ROOT, body).await;
    let with = |more: Value| {
        let mut config = json!({ "url": server.url(), "self_managed": true });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (more, text) in [
        (json!({ "binddn": MANAGER, "bindpass": "x" }), "has no binddn and no bindpass"),
        (json!({ "rotation_period": "1h" }), "has no password of its own that could be rotated"),
        (json!({ "schema": "racf" }), "belongs to the schemas openldap and ad"),
    ] {
        write("config", with(more)).await.expect_error(400, text);
    }
    harness.prepare("POST", "ldap/config", with(json!({}))).await;
    assert_eq!(harness.read("ldap/config", ROOT).await.at("/data/self_managed"), &json!(true));
    // Nobody is there who could do anything for others.
    write("config", json!({ "self_managed": false })).await.expect_error(400, "delete the configuration first");
    write("rotate-root", json!({})).await.expect_error(400, "rotate-root needs a binddn");
    write("library/set", json!({ "service_account_names": "fizz" }))
        .await
        .expect_error(400, "a library needs a binddn");
    harness.prepare("POST", "ldap/role/r", json!({ "creation_ldif": CREATION, "deletion_ldif": DELETION })).await;
    harness.read("ldap/creds/r", ROOT).await.expect_error(400, "making accounts needs a binddn");

    let role = |dn: &str, password: &str| json!({ "username": "alice", "dn": dn, "password": password, "rotation_period": "1h" });
    for (role, text) in [
        (role("", "alice's first"), "dn and password are required"),
        (role(ALICE, ""), "dn and password are required"),
        (role(ALICE, "canary-wrong"), "Invalid Credentials"),
    ] {
        let refused = write("static-role/a", role).await;
        assert!(!String::from_utf8_lossy(&refused.bytes).contains("canary"));
        refused.expect_error(400, text);
        assert_eq!(harness.read("ldap/static-role/a", ROOT).await.status, 404);
    }
    harness.prepare("POST", "ldap/static-role/a", role(ALICE, "alice's first")).await;
    let password = async || harness.read("ldap/static-cred/a", ROOT).await.text_at("/data/password");
    let first = password().await;
    assert!(logs_in(&server, ALICE, &first).await && !logs_in(&server, ALICE, "alice's first").await);
    // By time, too.
    harness.advance(Duration::from_secs(3601)).await;
    until!(harness, password().await != first);
    assert!(logs_in(&server, ALICE, &password().await).await);
    // Whoever writes the role once more as it was made loses nothing.
    for old in ["alice's first", "canary-wrong", "alice's first"] {
        let known = password().await;
        harness.prepare("POST", "ldap/static-role/a", role("", old)).await;
        assert_eq!(password().await, known);
    }
    harness.prepare("POST", "ldap/rotate-role/a", Value::Null).await;
    assert!(logs_in(&server, ALICE, &password().await).await);
    // Whoever changes it elsewhere says so.
    let mut own = connection(&server).await;
    own.bind(ALICE, &SecretString::new(password().await)).await.unwrap();
    let change = tresor_directory::Modification {
        verb: tresor_directory::Verb::Replace,
        attribute: "userPassword".to_owned(),
        values: vec![tresor_secret::Wiped::new(b"elsewhere".to_vec())],
    };
    own.modify(ALICE, &[change]).await.unwrap();
    let known = password().await;
    write("rotate-role/a", json!({})).await.expect_error(400, "Invalid Credentials");
    assert_eq!(password().await, known);
    harness.prepare("POST", "ldap/static-role/a", json!({ "password": "elsewhere" })).await;
    harness.prepare("POST", "ldap/rotate-role/a", Value::Null).await;
    assert!(logs_in(&server, ALICE, &password().await).await && !logs_in(&server, ALICE, "elsewhere").await);
}
