//! The `database` engine against a real PostgreSQL server: accounts under leases, rotations, and what becomes of them when
//! the role, the connection, this server or the other one is gone in the middle.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tresor_core::cluster::Alone;
use tresor_env::doubles::TestDoors;
use tresor_harness::{Answer, Harness, ROOT, assembly};
use tresor_services::Postgres;
use tresor_services::postgres::ROOT_PASSWORD;

const CREATION: &str = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";

/// A node whose network is the machine's, and a database server that it has a connection to.
struct Both {
    harness: Harness,
    server: Postgres,
}

/// Lets what was begun come to its end: until this holds.
macro_rules! until {
    ($harness:expr, $holds:expr) => {{
        let mut holds = false;
        for turn in 0..1_000 {
            // What is due is looked for once a second.
            if turn % 20 == 1 {
                $harness.advance(Duration::from_secs(1)).await;
            }
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

impl Both {
    async fn start() -> Self {
        let (mut doors, real) = (TestDoors::new(1), tresor_env_os::doors());
        // The server goes by its own clock.
        doors.clock.advance(real.clock.wall().since(doors.doors.clock.wall()));
        doors.doors.net = real.net;
        let mut harness = Harness::uninitialized_in(Arc::new(Alone), doors, assembly::settings());
        harness.initialize().await;
        let both = Self { harness, server: Postgres::start().unwrap() };
        both.harness.prepare("POST", "sys/mounts/database", json!({ "type": "database" })).await;
        both.begin().await;
        both
    }

    fn url(&self) -> String {
        format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            self.server.port()
        )
    }

    fn config(&self, user: &str, password: &str) -> Value {
        json!({
            "plugin_name": "postgresql-database-plugin", "connection_url": self.url(), "allowed_roles": "*",
            "username": user, "password": password, "max_open_connections": 2,
        })
    }

    /// A connection `pg` and a role `app`.
    async fn begin(&self) {
        drop(
            self.harness
                .prepare("POST", "database/config/pg", self.config("root", ROOT_PASSWORD))
                .await
                .expect_status(204),
        );
        let role = json!({ "db_name": "pg", "creation_statements": CREATION, "default_ttl": "1h", "max_ttl": "24h" });
        drop(self.harness.prepare("POST", "database/roles/app", role).await.expect_status(204));
    }

    async fn creds(&self) -> Answer {
        self.harness.read("database/creds/app", ROOT).await.expect_status(200)
    }

    fn accounts(&self) -> String {
        self.server.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").unwrap()
    }

    fn lets_in(&self, user: &str, password: &str) -> bool {
        self.server.sql_as(user, password, "SELECT 1").is_ok()
    }
}

/// One server for all of it; what one part leaves behind the next one counts with.
#[tokio::test]
async fn accounts_and_passwords_at_a_real_server() {
    let both = Both::start().await;
    an_account_lives_as_long_as_its_lease(&both).await;
    what_is_configured_is_shown_without_secrets(&both).await;
    what_makes_no_sense_is_refused(&both).await;
    whatever_becomes_of_role_and_connection_accounts_are_taken_back(&both).await;
    a_static_role_is_rotated(&both).await;
    dyn_08_the_root_password_is_rotated(&both).await;
    let mut both = both;
    a_password_that_nobody_knows_the_fate_of_is_found_out(&mut both).await;
    a_crash_in_the_middle_leaves_no_account(&mut both).await;
}

async fn an_account_lives_as_long_as_its_lease(both: &Both) {
    let made = both.creds().await;
    let (user, password) = (made.text_at("/data/username"), made.text_at("/data/password"));
    assert!(user.starts_with("v-root-app-"), "{user}");
    assert_eq!((made.at("/lease_duration"), made.at("/renewable")), (&json!(3600), &json!(true)));
    assert!(both.lets_in(&user, &password));
    let lease = made.text_at("/lease_id");
    // VALID UNTIL follows the end of the lease, which moves in steps of a 64th of its life.
    let until = "SELECT extract(epoch FROM rolvaliduntil)::bigint FROM pg_roles WHERE rolname LIKE 'v-%'";
    let first: i64 = both.server.sql(until).unwrap().parse().unwrap();
    both.harness.advance(Duration::from_secs(1800)).await;
    both.harness.prepare("PUT", "sys/leases/renew", json!({ "lease_id": lease, "increment": 3600 })).await;
    let second: i64 = both.server.sql(until).unwrap().parse().unwrap();
    assert!((1795..=1805 + 56).contains(&(second - first)), "{first} {second}");
    both.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    until!(both.harness, both.accounts() == "0");
    // One that nobody takes back ends by itself.
    both.creds().await;
    assert_eq!(both.accounts(), "1");
    both.harness.advance(Duration::from_secs(3700)).await;
    until!(both.harness, both.accounts() == "0");
}

async fn what_is_configured_is_shown_without_secrets(both: &Both) {
    let shown = both.harness.read("database/config/pg", ROOT).await.expect_status(200);
    let details = json!({ "connection_url": both.url(), "username": "root", "max_open_connections": 2 });
    assert_eq!(shown.at("/data/connection_details"), &details);
    assert_eq!(shown.at("/data/allowed_roles"), &json!(["*"]));
    assert_eq!(shown.at("/data/plugin_name"), &json!("postgresql-database-plugin"));
    assert_eq!(shown.at("/data/root_credentials_rotate_statements"), &json!([]));
    // What is not sent stays: above all, the password.
    drop(
        both.harness
            .prepare("POST", "database/config/pg", json!({ "allowed_roles": ["app", "st*"] }))
            .await
            .expect_status(204),
    );
    let shown = both.harness.read("database/config/pg", ROOT).await;
    assert_eq!(shown.at("/data/allowed_roles"), &json!(["app", "st*"]));
    let role = both.harness.read("database/roles/app", ROOT).await;
    for (field, value) in [
        ("db_name", json!("pg")),
        ("creation_statements", json!([CREATION])),
        ("revocation_statements", json!([])),
        ("default_ttl", json!(3600)),
        ("max_ttl", json!(86_400)),
        ("credential_type", json!("password")),
    ] {
        assert_eq!(role.at(&format!("/data/{field}")), &value, "{field}");
    }
    assert_eq!(both.harness.list("database/config", ROOT).await.at("/data/keys"), &json!(["pg"]));
    assert_eq!(both.harness.list("database/roles", ROOT).await.at("/data/keys"), &json!(["app"]));
    drop(both.harness.prepare("POST", "database/reset/pg", Value::Null).await.expect_status(204));
    let again = both.harness.prepare("POST", "database/reload/postgresql-database-plugin", Value::Null).await;
    assert_eq!(again.at("/data"), &json!({ "connections": ["pg"], "count": 1 }));
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
    drop(both.harness.write("database/config/pg", ROOT, wrong_one).await.expect_status(400));
    both.creds().await;
    let long = json!({ "username_template": "{{ random 64 }}" });
    both.harness.prepare("POST", "database/config/pg", long).await;
    drop(both.harness.read("database/creds/app", ROOT).await.expect_status(400));
    both.harness.prepare("POST", "database/config/pg", json!({ "username_template": "" })).await;
    both.harness.prepare("PUT", "sys/leases/revoke-prefix/database", Value::Null).await;
    until!(both.harness, both.accounts() == "0");
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
        ("roles/x", json!({ "db_name": "pg", "credential_type": "smile" }), "invalid credential_type \"smile\""),
        (
            "static-roles/x",
            json!({ "db_name": "pg", "username": "u", "rotation_period": 4 }),
            "rotation_period must be 5 seconds or more",
        ),
        (
            "static-roles/x",
            json!({ "db_name": "pg", "rotation_period": 5 }),
            "username is a required field to create a static account",
        ),
        (
            "static-roles/x",
            json!({ "db_name": "pg", "username": "u", "rotation_period": 5 }),
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
            json!({ "db_name": "pg", "creation_statements": [" ;"], "revocation_statements": [""] }),
        )
        .await;
    assert_eq!(both.harness.read("database/roles/empty", ROOT).await.at("/data/revocation_statements"), &json!([]));
    both.harness.prepare("POST", "database/config/pg", json!({ "allowed_roles": "*" })).await;
    let empty = both.harness.read("database/creds/empty", ROOT).await.expect_status(400);
    assert_eq!(empty.at("/errors/0"), "empty creation statements");
    // The server says no: nothing is left, and no password is shown.
    both.harness
        .prepare(
            "POST",
            "database/roles/empty",
            json!({ "creation_statements": format!("{CREATION} SELECT '{{{{password}}}}'::int") }),
        )
        .await;
    let refused = both.harness.read("database/creds/empty", ROOT).await.expect_status(400);
    assert!(refused.text_at("/errors/0").contains("\"[password]\""), "{refused:?}");
    assert_eq!(both.accounts(), "0");
    drop(both.harness.delete("database/roles/empty", ROOT).await.expect_status(204));
}

async fn whatever_becomes_of_role_and_connection_accounts_are_taken_back(both: &Both) {
    // Made by a connection that is then written anew for another user, and one that is deleted.
    let first = both.creds().await.text_at("/lease_id");
    both.server.sql("CREATE ROLE second SUPERUSER LOGIN PASSWORD 'second-pw'").unwrap();
    both.harness.prepare("POST", "database/config/pg", both.config("second", "second-pw")).await;
    let second = both.creds().await.text_at("/lease_id");
    drop(both.harness.delete("database/roles/app", ROOT).await.expect_status(204));
    drop(both.harness.delete("database/config/pg", ROOT).await.expect_status(204));
    assert_eq!(both.accounts(), "2");
    for lease in [first, second] {
        both.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    }
    until!(both.harness, both.accounts() == "0");
    both.server.sql("DROP ROLE second").unwrap();
    both.begin().await;
}

async fn a_static_role_is_rotated(both: &Both) {
    both.server.sql("CREATE ROLE \"sta'tic\" LOGIN PASSWORD 'first'").unwrap();
    let role = json!({ "db_name": "pg", "username": "sta'tic", "rotation_period": "1h" });
    drop(both.harness.prepare("POST", "database/static-roles/st", role).await.expect_status(204));
    let read = async || both.harness.read("database/static-creds/st", ROOT).await.expect_status(200);
    let shown = read().await;
    let first = shown.text_at("/data/password");
    assert_eq!((shown.at("/data/username"), shown.at("/data/ttl")), (&json!("sta'tic"), &json!(3600)));
    assert!(both.lets_in("sta'tic", &first) && !both.lets_in("sta'tic", "first"));
    drop(both.harness.prepare("POST", "database/rotate-role/st", Value::Null).await.expect_status(204));
    let second = read().await.text_at("/data/password");
    assert!(both.lets_in("sta'tic", &second) && first != second);
    // Its time comes.
    both.harness.advance(Duration::from_secs(3601)).await;
    until!(both.harness, read().await.text_at("/data/password") != second);
    let third = read().await.text_at("/data/password");
    assert!(both.lets_in("sta'tic", &third));
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
    let role = json!({ "db_name": "pg", "username": "a\" SUPERUSER; --", "rotation_period": "1h" });
    let refused = both.harness.write("database/static-roles/st", ROOT, role).await.expect_status(400);
    assert!(refused.text_at("/errors/0").contains("does not exist"), "{refused:?}");
    drop(both.harness.read("database/static-roles/st", ROOT).await.expect_status(404));
    // A password that is known already stays until it is due.
    let role = json!({ "db_name": "pg", "username": "sta'tic", "rotation_period": "1h", "password": third, "skip_import_rotation": true });
    both.harness.prepare("POST", "database/static-roles/st", role).await;
    assert_eq!(read().await.text_at("/data/password"), third);
    drop(both.harness.delete("database/static-roles/st", ROOT).await.expect_status(204));
}

async fn dyn_08_the_root_password_is_rotated(both: &Both) {
    both.server.sql("CREATE ROLE manager SUPERUSER LOGIN PASSWORD 'manager-pw'").unwrap();
    both.harness.prepare("POST", "database/config/pg", both.config("manager", "manager-pw")).await;
    let before = both.creds().await.text_at("/lease_id");
    drop(both.harness.prepare("POST", "database/rotate-root/pg", Value::Null).await.expect_status(204));
    assert!(!both.lets_in("manager", "manager-pw"));
    let after = both.creds().await.text_at("/lease_id");
    for lease in [before, after] {
        both.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    }
    until!(both.harness, both.accounts() == "0");
    // One that cannot be set leaves everything as it was.
    let refuses = json!({ "root_rotation_statements": "SELECT 1/0" });
    both.harness.prepare("POST", "database/config/pg", refuses).await;
    drop(both.harness.write("database/rotate-root/pg", ROOT, Value::Null).await.expect_status(400));
    both.harness.prepare("POST", "database/config/pg", json!({ "root_rotation_statements": [] })).await;
}

async fn a_password_that_nobody_knows_the_fate_of_is_found_out(both: &mut Both) {
    // It is set, and the connection breaks before that is known.
    let breaks =
        "ALTER ROLE \"{{name}}\" PASSWORD '{{password}}'; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())";
    both.harness.prepare("POST", "database/config/pg", json!({ "root_rotation_statements": breaks })).await;
    let doubt = both.harness.write("database/rotate-root/pg", ROOT, Value::Null).await;
    assert!(doubt.status >= 400, "{doubt:?}");
    // Whoever connects tries both, another process, too.
    both.harness.kill();
    both.harness.unseal().await;
    let lease = both.creds().await.text_at("/lease_id");
    both.harness.prepare("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    until!(both.harness, both.accounts() == "0");
    both.harness.advance(Duration::from_secs(120)).await;
    both.harness.prepare("POST", "database/config/pg", json!({ "root_rotation_statements": [] })).await;
    drop(both.harness.prepare("POST", "database/rotate-root/pg", Value::Null).await.expect_status(204));
    both.creds().await;
}

async fn a_crash_in_the_middle_leaves_no_account(both: &mut Both) {
    // The account is there, and the server was not told yet.
    let slow = format!("{CREATION} COMMIT; SELECT pg_sleep(600)");
    let role = json!({ "db_name": "pg", "creation_statements": slow, "default_ttl": "1h" });
    both.harness.prepare("POST", "database/roles/slow", role).await;
    let before: usize = both.accounts().parse().unwrap();
    {
        let mut asked = std::pin::pin!(both.harness.read("database/creds/slow", ROOT));
        while both.accounts() != (before + 1).to_string() {
            tokio::select! {
                answer = &mut asked => panic!("it was answered: {answer:?}"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }
    both.harness.kill();
    both.harness.unseal().await;
    both.harness.advance(Duration::from_secs(100)).await;
    until!(both.harness, both.accounts() == before.to_string());
}
