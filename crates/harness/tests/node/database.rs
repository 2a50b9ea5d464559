//! The `database` engine against a real PostgreSQL server: what is true of every kind of server, and what is of this one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::{Value, json};
use tresor_harness::{Captured, ROOT};
use tresor_services::postgres::ROOT_PASSWORD;
use tresor_services::{Between, Postgres};

pub(crate) use super::databases::until;
use super::databases::{self, Server};

const CREATION: &str = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";

type Both = databases::Both<Postgres>;

impl Server for Postgres {
    const PLUGIN: &'static str = "postgresql-database-plugin";
    const ROOT_PASSWORD: &'static str = ROOT_PASSWORD;
    const CREATION: &'static str = CREATION;
    const REVOCATION: &'static str = "DROP ROLE \"{{name}}\"";
    const ROTATION: &'static str = "ALTER ROLE \"{{name}}\" WITH PASSWORD '{{password}}'";
    const CERTIFIED: &'static str = "CREATE ROLE \"{{name}}\" WITH LOGIN IN ROLE certified";
    const SLEEP: &'static str = "COMMIT; SELECT pg_sleep(600)";
    const BREAK: &'static str = "COMMIT; SELECT pg_terminate_backend(pg_backend_pid())";

    fn start() -> Self {
        Self::start().unwrap()
    }

    fn url(&self) -> String {
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", self.port())
    }

    fn accounts(&self) -> usize {
        self.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").unwrap().parse().unwrap()
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        self.sql_as(user, password, "SELECT 1").is_ok()
    }

    fn add(&self, user: &str, password: &str) {
        self.sql(&format!("CREATE ROLE \"{user}\" SUPERUSER LOGIN PASSWORD '{password}'")).unwrap();
    }

    fn remove(&self, user: &str) {
        self.sql(&format!("DROP ROLE \"{user}\"")).unwrap();
    }

    fn remove_accounts(&self) {
        for name in self.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'").unwrap().lines() {
            self.remove(name);
        }
    }

    fn kept_of(&self, user: &str) -> String {
        self.sql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")).unwrap()
    }

    fn sessions(&self, user: &str) -> usize {
        let asked = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
        self.sql(&asked).unwrap().parse().unwrap()
    }

    fn asleep(&self) -> usize {
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        self.sql(asked).unwrap().parse().unwrap()
    }

    fn wake(&self) {
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    }

    fn believe(&self, authority: &str) {
        Self::believe(self, authority).unwrap();
    }

    fn lets_in_by(&self, user: &str, certificate: &str, key: &str) -> bool {
        self.sql_by(user, certificate, key, "SELECT 1").is_ok()
    }

    fn freeze(&self) {
        Self::freeze(self);
    }

    fn thaw(&self) {
        Self::thaw(self);
    }
}

/// One server for all of it; what one part leaves behind the next one counts with.
#[tokio::test]
async fn accounts_and_passwords_at_a_real_server() {
    let mut both = Both::start().await;
    both.is_as_any().await;
    an_account_lives_as_long_as_its_lease(&both).await;
    what_is_configured_is_shown_without_secrets(&both).await;
    what_makes_no_sense_is_refused(&both).await;
    names_and_times_of_static_roles_are_checked(&both).await;
    what_statements_committed_themselves_is_taken_back_when_they_fail(&both).await;
    accounts_of_a_self_managed_connection_are_rotated_as_themselves(&both).await;
    dyn_08_a_rotation_that_is_killed_at_any_step_is_finished_as_soon_as_the_server_serves(&mut both).await;
}

async fn dyn_08_a_rotation_that_is_killed_at_any_step_is_finished_as_soon_as_the_server_serves(both: &mut Both) {
    let between = Between::to(both.server.port()).unwrap();
    let mut config = both.config("root", ROOT_PASSWORD);
    let url = both.server.url().replace(&both.server.port().to_string(), &between.port().to_string());
    config["connection_url"] = json!(url);
    both.post("config/held", config).await;
    both.server.sql("CREATE ROLE stays LOGIN PASSWORD 'first'").unwrap();
    both.post("static-roles/stays", json!({ "db_name": "held", "username": "stays", "rotation_period": "24h" })).await;
    let shown =
        async |both: &Both| both.harness.read("database/static-creds/stays", ROOT).await.text_at("/data/password");
    // The candidate is stored; it is set; it was logged in with, which nobody heard.
    for (step, is_set) in [("user\0root\0", false), ("ALTER ROLE", true), ("user\0stays\0", true)] {
        let before = shown(both).await;
        both.post("reset/held", Value::Null).await;
        between.hold_after(step);
        {
            let mut rotation = std::pin::pin!(both.harness.write("database/rotate-role/stays", ROOT, Value::Null));
            while !between.is_holding() {
                tokio::select! {
                    answer = &mut rotation => panic!("{step:?}: it was answered: {answer:?}"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        }
        assert_eq!(both.server.lets_in("stays", &before), !is_set, "{step:?}");
        both.harness.kill();
        between.mend();
        let (log, now) = (Captured::start(), both.harness.doors.doors.clock.wall());
        both.harness.unseal().await;
        until!(both.harness, {
            let password = shown(both).await;
            password != before && both.server.lets_in("stays", &password)
        });
        assert!(both.harness.doors.doors.clock.wall().since(now) < Duration::from_secs(20), "{step:?}");
        let log = String::from_utf8(log.bytes()).unwrap();
        assert!(log.contains("what was begun at an engine and not settled is finished"), "{step:?}: {log}");
    }
    // The connection's own password is found out, too.
    both.server.add("holder", "holder-pw");
    both.post("config/held", json!({ "username": "holder", "password": "holder-pw" })).await;
    between.hold_after("ALTER ROLE");
    {
        let mut rotation = std::pin::pin!(both.harness.write("database/rotate-root/held", ROOT, Value::Null));
        while !between.is_holding() {
            tokio::select! {
                answer = &mut rotation => panic!("it was answered: {answer:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
    both.harness.kill();
    between.mend();
    let log = Captured::start();
    both.harness.unseal().await;
    until!(both.harness, String::from_utf8(log.bytes()).unwrap().contains("not settled is finished"));
    assert!(!both.server.lets_in("holder", "holder-pw"));
    both.post("rotate-role/stays", Value::Null).await;
    drop(both.harness.delete("database/static-roles/stays", ROOT).await.expect_status(204));
    drop(both.harness.delete("database/config/held", ROOT).await.expect_status(204));
    both.server.sql("DROP ROLE stays").unwrap();
}

async fn accounts_of_a_self_managed_connection_are_rotated_as_themselves(both: &Both) {
    let write = async |path: &str, body: Value| both.harness.write(&format!("database/{path}"), ROOT, body).await;
    let config = json!({
        "plugin_name": Postgres::PLUGIN, "connection_url": both.server.url(), "allowed_roles": "*", "self_managed": true,
    });
    for (field, text) in [("username", "has no username"), ("password", "has no password")] {
        let mut wrong = config.clone();
        wrong[field] = json!("root");
        write("config/own", wrong).await.expect_error(400, text);
    }
    both.post("config/own", config).await;
    // Nobody is there who could do anything for others.
    both.post("roles/own", json!({ "db_name": "own", "creation_statements": CREATION })).await;
    both.harness.read("database/creds/own", ROOT).await.expect_error(400, "nobody who could make accounts");
    write("rotate-root/own", json!({})).await.expect_error(400, "no username in configuration");
    write("config/own", json!({ "rotation_period": "1h" })).await.expect_error(400, "no username in configuration");

    // An account that may do nothing but log in, and change what it is let in by.
    both.server.sql("CREATE ROLE own LOGIN PASSWORD 'own-first'").unwrap();
    let role = |password: &str| json!({ "db_name": "own", "username": "own", "rotation_period": "24h", "self_managed_password": password });
    write("static-roles/self", role("")).await.expect_error(400, "needs its self_managed_password");
    let refused = write("static-roles/self", role("canary-wrong")).await;
    assert!(!refused.text_at("/errors/0").contains("canary"));
    refused.expect_error(400, "the database refuses the login");
    assert_eq!(both.harness.read("database/static-roles/self", ROOT).await.status, 404);
    drop(write("static-roles/self", role("own-first")).await.expect_status(204));
    let password = async || both.harness.read("database/static-creds/self", ROOT).await.text_at("/data/password");
    let first = password().await;
    assert!(both.server.lets_in("own", &first) && !both.server.lets_in("own", "own-first"));
    drop(write("rotate-role/self", json!({})).await.expect_status(204));
    let second = password().await;
    assert!(first != second && both.server.lets_in("own", &second));
    // Whoever changes it elsewhere says so.
    both.server.sql("ALTER ROLE own PASSWORD 'own-third'").unwrap();
    write("rotate-role/self", json!({})).await.expect_error(400, "the database refuses the login");
    assert_eq!(password().await, second);
    drop(write("static-roles/self", json!({ "self_managed_password": "own-third" })).await.expect_status(204));
    drop(write("rotate-role/self", json!({})).await.expect_status(204));
    assert!(both.server.lets_in("own", &password().await) && !both.server.lets_in("own", "own-third"));

    let other = json!({ "db_name": "db", "username": "own", "rotation_period": "24h", "self_managed_password": "x" });
    write("static-roles/other", other).await.expect_error(400, "is for connections that are self_managed");
    // What a connection says of all accounts that are taken over.
    let known = password().await;
    drop(both.harness.delete("database/static-roles/self", ROOT).await.expect_status(204));
    both.post("config/own", json!({ "skip_static_role_import_rotation": true })).await;
    let shown = both.harness.read("database/config/own", ROOT).await;
    assert_eq!(shown.at("/data/skip_static_role_import_rotation"), &json!(true));
    assert_eq!(shown.at("/data/connection_details/skip_static_role_import_rotation"), &Value::Null);
    drop(write("static-roles/self", role(&known)).await.expect_status(204));
    assert_eq!(password().await, known);
    for path in ["static-roles/self", "roles/own", "config/own"] {
        drop(both.harness.delete(&format!("database/{path}"), ROOT).await.expect_status(204));
    }
}

async fn what_statements_committed_themselves_is_taken_back_when_they_fail(both: &Both) {
    let creation = |statements: Value| json!({ "db_name": "db", "creation_statements": statements, "revocation_statements": "DROP ROLE IF EXISTS \"{{name}}\"" });
    for statements in [
        json!([CREATION, "COMMIT", "GRANT nobody TO \"{{name}}\""]),
        json!(format!("{CREATION}; COMMIT; SELECT 1/0")),
        json!(["BEGIN", CREATION, "END", "SELECT 1/0"]),
    ] {
        both.post("roles/commits", creation(statements)).await;
        assert_eq!(both.harness.read("database/creds/commits", ROOT).await.status, 400);
        until!(both.harness, both.server.accounts() == 0);
    }
    // What they undo themselves is not there, so nobody is told that it is; what they commit is.
    for statements in [json!([CREATION, "ROLLBACK"]), json!(format!("{CREATION}; ABORT; SELECT 1"))] {
        both.post("roles/commits", creation(statements)).await;
        both.harness.read("database/creds/commits", ROOT).await.expect_error(400, "there is no such role afterwards");
    }
    both.post("roles/commits", creation(json!([CREATION, "COMMIT", "SELECT 1"]))).await;
    let made = both.harness.read("database/creds/commits", ROOT).await.expect_status(200);
    assert!(both.server.lets_in(&made.text_at("/data/username"), &made.text_at("/data/password")));
    both.revoke(&made.text_at("/lease_id")).await;
    until!(both.harness, both.server.accounts() == 0);
    drop(both.harness.delete("database/roles/commits", ROOT).await.expect_status(204));
}

async fn an_account_lives_as_long_as_its_lease(both: &Both) {
    let lease = both.creds().await.text_at("/lease_id");
    // VALID UNTIL follows the end of the lease, which moves in steps of a 64th of its life.
    let until = "SELECT extract(epoch FROM rolvaliduntil)::bigint FROM pg_roles WHERE rolname LIKE 'v-%'";
    let first: i64 = both.server.sql(until).unwrap().parse().unwrap();
    both.harness.advance(Duration::from_secs(1800)).await;
    both.harness.prepare("PUT", "sys/leases/renew", json!({ "lease_id": lease, "increment": 3600 })).await;
    let second: i64 = both.server.sql(until).unwrap().parse().unwrap();
    assert!((1795..=1805 + 56).contains(&(second - first)), "{first} {second}");
    both.revoke(&lease).await;
    until!(both.harness, both.server.accounts() == 0);
}

async fn what_is_configured_is_shown_without_secrets(both: &Both) {
    let shown = both.harness.read("database/config/db", ROOT).await.expect_status(200);
    let details = json!({ "connection_url": both.server.url(), "username": "root", "max_open_connections": 2 });
    assert_eq!(shown.at("/data/connection_details"), &details);
    assert_eq!(shown.at("/data/allowed_roles"), &json!(["*"]));
    assert_eq!(shown.at("/data/plugin_name"), &json!("postgresql-database-plugin"));
    assert_eq!(shown.at("/data/root_credentials_rotate_statements"), &json!([]));
    // What is not sent stays: above all, the password.
    drop(
        both.harness
            .prepare("POST", "database/config/db", json!({ "allowed_roles": ["app", "st*"] }))
            .await
            .expect_status(204),
    );
    let shown = both.harness.read("database/config/db", ROOT).await;
    assert_eq!(shown.at("/data/allowed_roles"), &json!(["app", "st*"]));
    let role = both.harness.read("database/roles/app", ROOT).await;
    for (field, value) in [
        ("db_name", json!("db")),
        ("creation_statements", json!([CREATION])),
        ("revocation_statements", json!([])),
        ("default_ttl", json!(3600)),
        ("max_ttl", json!(86_400)),
        ("credential_type", json!("password")),
    ] {
        assert_eq!(role.at(&format!("/data/{field}")), &value, "{field}");
    }
    assert_eq!(both.harness.list("database/config", ROOT).await.at("/data/keys"), &json!(["db"]));
    assert_eq!(both.harness.list("database/roles", ROOT).await.at("/data/keys"), &json!(["app"]));
    drop(both.harness.prepare("POST", "database/reset/db", Value::Null).await.expect_status(204));
    let again = both.harness.prepare("POST", "database/reload/postgresql-database-plugin", Value::Null).await;
    assert_eq!(again.at("/data"), &json!({ "connections": ["db"], "count": 1 }));
}

async fn what_makes_no_sense_is_refused(both: &Both) {
    let mut wrong = both.config("root", "canary-wrong-password");
    let answer = both.harness.write("database/config/other", ROOT, wrong.clone()).await.expect_status(400);
    let text = answer.text_at("/errors/0");
    assert!(text.starts_with("error creating database object: error verifying connection"), "{text}");
    // DYN-04
    assert!(!text.contains("canary"), "{text}");
    // A wrong password for a connection that is there: it is not kept.
    let wrong_one = json!({ "password": "canary-wrong-password" });
    drop(both.harness.write("database/config/db", ROOT, wrong_one).await.expect_status(400));
    both.creds().await;
    let long = json!({ "username_template": "{{ random 64 }}" });
    both.harness.prepare("POST", "database/config/db", long).await;
    drop(both.harness.read("database/creds/app", ROOT).await.expect_status(400));
    both.harness.prepare("POST", "database/config/db", json!({ "username_template": "" })).await;
    both.harness.prepare("PUT", "sys/leases/revoke-prefix/database", Value::Null).await;
    until!(both.harness, both.server.accounts() == 0);
    wrong["verify_connection"] = json!(false);
    both.harness.prepare("POST", "database/config/other", wrong).await;
    let plain = json!({ "plugin_name": "postgresql-database-plugin", "connection_url": "postgresql://u:pw@h/", "verify_connection": false });
    let warned = both.harness.prepare("POST", "database/config/plain", plain).await;
    assert!(warned.text_at("/warnings/0").starts_with("Password found in connection_url"));
    assert_eq!(
        both.harness.read("database/config/plain", ROOT).await.at("/data/connection_details/connection_url"),
        "postgresql://u:xxxxx@h/"
    );
    drop(both.harness.delete("database/config/plain", ROOT).await.expect_status(204));
    drop(both.harness.delete("database/config/other", ROOT).await.expect_status(204));
    for (path, body, expected) in [
        ("config/x", json!({}), "empty plugin name"),
        (
            "config/x",
            json!({ "plugin_name": "oracle" }),
            "error creating database object: plugin not found in the catalog: oracle",
        ),
        ("roles/x", json!({}), "database name is required"),
        ("roles/x", json!({ "db_name": "db", "credential_type": "smile" }), "invalid credential_type \"smile\""),
        (
            "static-roles/x",
            json!({ "db_name": "db", "username": "u", "rotation_period": 4 }),
            "rotation_period must be 5 seconds or more",
        ),
        (
            "static-roles/x",
            json!({ "db_name": "db", "rotation_period": 5 }),
            "username is a required field to create a static account",
        ),
        (
            "static-roles/x",
            json!({ "db_name": "db", "username": "u", "rotation_period": 5 }),
            "\"x\" is not an allowed role",
        ),
        ("static-roles/app", json!({}), "Role and Static Role names must be unique"),
        ("rotate-root/none", json!({}), "failed to find entry for connection with name: \"none\""),
        ("rotate-role/none", json!({}), "no static role found for role name"),
    ] {
        let answer = both.harness.write(&format!("database/{path}"), ROOT, body).await.expect_status(400);
        assert_eq!(answer.at("/errors/0"), expected, "{path}");
    }
    // TOK-11: statements that say nothing are none.
    both.harness
        .prepare(
            "POST",
            "database/roles/empty",
            json!({ "db_name": "db", "creation_statements": [" ;"], "revocation_statements": [""] }),
        )
        .await;
    assert_eq!(both.harness.read("database/roles/empty", ROOT).await.at("/data/revocation_statements"), &json!([]));
    both.harness.prepare("POST", "database/config/db", json!({ "allowed_roles": "*" })).await;
    let empty = both.harness.read("database/creds/empty", ROOT).await.expect_status(400);
    assert_eq!(empty.at("/errors/0"), "empty creation statements");
    // The server says no: nothing is left, and no password is shown.
    both.harness
        .prepare(
            "POST",
            "database/roles/empty",
            json!({ "creation_statements": format!("{CREATION}; SELECT '{{{{password}}}}'::int") }),
        )
        .await;
    let refused = both.harness.read("database/creds/empty", ROOT).await.expect_status(400);
    assert!(refused.text_at("/errors/0").contains("\"[password]\""), "{refused:?}");
    assert_eq!(both.server.accounts(), 0);
    drop(both.harness.delete("database/roles/empty", ROOT).await.expect_status(204));
}

async fn names_and_times_of_static_roles_are_checked(both: &Both) {
    both.server.add("sta'tic", "first");
    let role = json!({ "db_name": "db", "username": "sta'tic", "rotation_period": "1h" });
    both.post("static-roles/st", role).await;
    let renamed =
        both.harness.write("database/static-roles/st", ROOT, json!({ "username": "other" })).await.expect_status(400);
    assert_eq!(renamed.at("/errors/0"), "cannot update static account username");
    // By a schedule from now on: midnight.
    both.harness
        .prepare(
            "POST",
            "database/static-roles/st",
            json!({ "rotation_schedule": "0 0 * * *", "rotation_window": "1h" }),
        )
        .await;
    let shown = both.harness.read("database/static-roles/st", ROOT).await;
    assert_eq!(shown.at("/data/rotation_schedule"), "0 0 * * *");
    assert_eq!(shown.at("/data/rotation_window"), &json!(3600));
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
    // DYN-03: a name that would be more than one.
    let role = json!({ "db_name": "db", "username": "a\" SUPERUSER; --", "rotation_period": "1h" });
    let refused = both.harness.write("database/static-roles/st", ROOT, role).await.expect_status(400);
    assert!(refused.text_at("/errors/0").contains("does not exist"), "{refused:?}");
    drop(both.harness.read("database/static-roles/st", ROOT).await.expect_status(404));
    // A password that is known already stays until it is due; what is said of it is tried.
    both.server.sql("ALTER ROLE \"sta'tic\" PASSWORD 'known already'").unwrap();
    let write = async |role: &Value| both.harness.write("database/static-roles/st", ROOT, role.clone()).await;
    let shown = async || both.harness.read("database/static-creds/st", ROOT).await;
    let mut role = json!({
        "db_name": "db", "username": "sta'tic", "rotation_period": "1h", "password": "canary-other",
        "skip_import_rotation": true,
    });
    let refused = write(&role).await.expect_status(400).text_at("/errors/0");
    assert!(refused.starts_with("the password is not that of \"sta'tic\": the database refuses"), "{refused}");
    assert!(!refused.contains("canary"), "{refused}");
    drop(both.harness.read("database/static-roles/st", ROOT).await.expect_status(404));
    role["password"] = json!("known already");
    drop(write(&role).await.expect_status(204));
    assert_eq!(shown().await.text_at("/data/password"), "known already");
    drop(write(&json!({ "password": "canary-other" })).await.expect_status(400));
    assert_eq!(shown().await.text_at("/data/password"), "known already");
    // Somebody gave it another one by hand, and says so.
    both.server.sql("ALTER ROLE \"sta'tic\" PASSWORD 'by hand'").unwrap();
    drop(write(&json!({ "password": "by hand" })).await.expect_status(204));
    assert_eq!(shown().await.text_at("/data/password"), "by hand");
    // One that is rotated at once need not be right.
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
    role["skip_import_rotation"] = json!(false);
    role["password"] = json!("canary-other");
    drop(write(&role).await.expect_status(204));
    assert!(both.server.lets_in("sta'tic", &shown().await.text_at("/data/password")));
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
    both.server.remove("sta'tic");
}

/// A role with a rotation policy, whose statements fail.
async fn failing(both: &Both) {
    both.server.add("kept", "known");
    let policy = json!({ "max_retries_per_cycle": 1, "max_retry_cycles": 1 });
    both.harness.prepare("POST", "sys/policies/rotation/twice", policy).await;
    let mut role = json!({
        "db_name": "db", "username": "kept", "rotation_period": "24h", "password": "known",
        "skip_import_rotation": true, "rotation_statements": [Postgres::NONSENSE], "rotation_policy": "none",
    });
    let refused = both.harness.write("database/static-roles/kept", ROOT, role.clone()).await;
    refused.expect_error(400, "rotation policy \"none\" does not exist");
    role["rotation_policy"] = json!("twice");
    both.post("static-roles/kept", role).await;
}

async fn harness_orphans(both: &Both, path: &str) -> Value {
    both.harness.read(path, ROOT).await.expect_status(200).at("/data/orphans").clone()
}

#[tokio::test]
async fn pol_22_what_fails_as_often_as_its_policy_lets_it_is_left_alone_until_somebody_rotates_it() {
    let both = Both::start().await;
    failing(&both).await;
    let shown = async || {
        let shown = both.harness.read("database/static-roles/kept", ROOT).await.expect_status(200);
        let number = |name: &str| shown.at(&format!("/data/{name}")).as_u64();
        assert_eq!(shown.at("/data/rotation_policy"), "twice");
        let orphaned = shown.at("/data/rotation_orphaned_time") != &Value::Null;
        (number("rotation_retries"), number("rotation_retry_cycles"), orphaned)
    };
    assert_eq!(shown().await, (Some(0), Some(0), false));
    let orphans = async || {
        let list = harness_orphans(&both, "sys/rotation/orphans?include_child_namespaces=true").await;
        assert_eq!(list, harness_orphans(&both, "sys/rotation/orphans").await);
        list
    };
    assert_eq!(orphans().await, json!([]));
    // Its time comes; it is tried twice, and once more when its time comes next.
    for (pass, expected) in [
        (86_401, (Some(1), Some(0), false)),
        (11, (Some(0), Some(1), false)),
        (86_401, (Some(1), Some(1), false)),
        (11, (Some(1), Some(1), true)),
    ] {
        both.harness.advance(Duration::from_secs(pass)).await;
        until!(both.harness, shown().await == expected);
    }
    // Then nobody tries any more, and the password that was is what counts.
    for _ in 0..5 {
        both.harness.advance(Duration::from_secs(86_400)).await;
        both.harness.settle().await;
    }
    assert_eq!(shown().await, (Some(1), Some(1), true));
    assert!(both.server.lets_in("kept", "known"));
    assert_eq!(orphans().await, json!(["database/static-roles/kept"]));
    // By order it is tried, and in vain it stays as it is.
    drop(both.harness.write("database/rotate-role/kept", ROOT, Value::Null).await.expect_status(400));
    assert_eq!(shown().await, (Some(1), Some(1), true));
    // Written anew it goes on; a rotation by order that succeeds does the same.
    both.post("static-roles/kept", json!({ "rotation_statements": [] })).await;
    assert_eq!(shown().await, (Some(0), Some(0), false));
    assert_eq!(orphans().await, json!([]));
    both.post("rotate-role/kept", Value::Null).await;
    let read = async || both.harness.read("database/static-creds/kept", ROOT).await.text_at("/data/password");
    let first = read().await;
    assert!(both.server.lets_in("kept", &first) && first != "known");
    both.harness.advance(Duration::from_secs(86_401)).await;
    until!(both.harness, read().await != first);
    assert_eq!(shown().await, (Some(0), Some(0), false));
    // Without its policy, and with none, it is tried for ever.
    drop(both.harness.delete("sys/policies/rotation/twice", ROOT).await.expect_status(204));
    both.post("static-roles/kept", json!({ "rotation_statements": [Postgres::NONSENSE] })).await;
    both.harness.advance(Duration::from_secs(86_401)).await;
    for _ in 0..6 {
        both.harness.advance(Duration::from_secs(3601)).await;
        both.harness.settle().await;
    }
    assert_eq!(shown().await, (Some(0), Some(0), false));
    both.post("static-roles/kept", json!({ "rotation_policy": "", "rotation_statements": [] })).await;
    let shown = both.harness.read("database/static-roles/kept", ROOT).await.expect_status(200);
    assert_eq!(shown.at("/data/rotation_policy"), &Value::Null);
    let before = read().await;
    both.harness.advance(Duration::from_secs(3601)).await;
    until!(both.harness, read().await != before);
    // What is removed leaves nothing of it.
    drop(both.harness.delete("database/static-roles/kept", ROOT).await.expect_status(204));
    both.server.remove("kept");
}

#[tokio::test]
async fn whoever_asks_for_an_account_of_a_server_that_is_away_is_told_so_and_to_try_again() {
    let both = Both::start().await;
    let mut config = both.config("u", "p");
    config["connection_url"] = json!("postgresql://{{username}}:{{password}}@127.0.0.1:1/postgres?sslmode=disable");
    config["verify_connection"] = json!(false);
    both.post("config/away", config).await;
    both.post("roles/away", json!({ "db_name": "away", "creation_statements": CREATION })).await;
    both.harness.read("database/creds/away", ROOT).await.expect_error(502, "error connecting to the database");
}
