//! A rotation of a password at a real PostgreSQL that `kill -9` meets in its middle: what is shown is right as soon as the
//! server serves again, and its log says so.
//!
//! Deliberately absent: every step of it, which the harness kills at (`dyn_08_*`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tresor_services::postgres::ROOT_PASSWORD;
use tresor_services::{Between, Postgres};

use crate::support::{Production, until};

/// How long what is shown may be wrong after the server was unsealed. A deadline would be ninety seconds.
const SETTLED_MAX: Duration = Duration::from_secs(15);

#[test]
fn dyn_08_a_rotation_that_was_killed_is_finished_as_soon_as_the_server_is_unsealed() {
    let database = Postgres::start().unwrap();
    database.sql("CREATE ROLE stays LOGIN PASSWORD 'first'").unwrap();
    let between = Between::to(database.port()).unwrap();
    let production = Production::new();
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/database", &json!({ "type": "database" })).expect(204);
    let url = format!("127.0.0.1:{}/postgres?sslmode=disable", between.port());
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "root", "password": ROOT_PASSWORD,
        "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@{url}"),
    });
    http.post("database/config/own", &config).expect(204);
    let role = json!({ "db_name": "own", "username": "stays", "rotation_period": "24h" });
    http.post("database/static-roles/stays", &role).expect(204);
    let before = http.get("database/static-creds/stays").expect(200).text_at("/data/password");

    between.hold_after("ALTER ROLE");
    let asked = {
        let http = http.clone();
        std::thread::spawn(move || http.try_send("POST", "database/rotate-role/stays", ""))
    };
    until("the rotation to be held", || between.is_holding().then_some(()));
    server.kill();
    assert!(asked.join().unwrap().is_none(), "nobody was told");
    between.mend();
    assert!(database.sql_as("stays", &before, "SELECT 1").is_err(), "it was set");

    let server = production.start();
    keys.unseal(&server.http());
    let (http, unsealed) = (server.http().with_token(&keys.root), Instant::now());
    let shown = until("the password that is shown to be right", || {
        let answer = http.get("database/static-creds/stays");
        // It may not be active yet.
        let password = answer.json().pointer("/data/password").and_then(Value::as_str)?.to_owned();
        database.sql_as("stays", &password, "SELECT 1").is_ok().then_some(password)
    });
    assert!(shown != before && unsealed.elapsed() < SETTLED_MAX, "after {:?}", unsealed.elapsed());
    server.has_logged("what was begun at an engine and not settled is finished");
}
