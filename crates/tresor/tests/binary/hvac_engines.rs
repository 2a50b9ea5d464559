//! hvac's classes for `database`, `rabbitmq` and `ldap` against real servers: every method that they have.
//!
//! What is asked stands in `hvac_engines.py`; whether a password lets somebody in is asked here, of the server itself. Deliberately
//! absent: what hvac has no method for.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tresor_services::slapd::{MANAGER, MANAGER_PASSWORD};
use tresor_services::{Postgres, RabbitMq, Slapd};

use crate::python::python;
use crate::support::{Production, until};

/// How many methods hvac's classes have in the pinned version.
const METHODS: [(&str, usize); 3] = [("database", 17), ("rabbitmq", 6), ("ldap", 9)];

#[test]
fn every_method_of_hvac_for_database_rabbitmq_and_ldap_does_what_it_says() {
    let (database, broker, directory) =
        (Postgres::start().unwrap(), RabbitMq::start().unwrap(), Slapd::start().unwrap());
    database.sql("CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'keeper-pw'").unwrap();
    database.sql("CREATE ROLE fixed LOGIN PASSWORD 'fixed-pw'").unwrap();
    let servers = json!({
        "database": { "port": database.port() },
        "rabbitmq": { "uri": broker.uri() },
        "ldap": {
            "url": directory.url(), "manager": MANAGER, "password": MANAGER_PASSWORD, "authority": directory.authority(),
        },
    });
    let lets_in = |server: &str, name: &str, password: &str| match server {
        "database" => database.sql_as(name, password, "SELECT 1").is_ok(),
        "rabbitmq" => broker.ask("GET", "whoami", (name, password), "").unwrap().0 == 200,
        _ => directory.lets_in(name, password).unwrap(),
    };

    let production = Production::new();
    let (server, keys) = production.start_ready();
    let address = format!("http://{}", server.http().address);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/binary/hvac_engines.py");
    let process = Command::new(python())
        .args(["-u", script, &address, &keys.root, &servers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = process.unwrap();
    let mut answers = process.stdin.take().unwrap();
    let mut called = Value::Null;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |at: usize| said[at].as_str().unwrap();
        if said.is_array() {
            let is_let_in = if lets_in(text(0), text(1), text(2)) { "True" } else { "False" };
            writeln!(answers, "{is_let_in}").unwrap();
        } else {
            called = said;
        }
    }
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    assert_eq!(called, METHODS.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<Value>());
    // What they made is gone, what was ordered without waiting for it, too.
    let made = || database.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").unwrap();
    until("accounts are taken back", || made().lines().any(|line| line.trim() == "0").then_some(()));
    let users = broker.ask("GET", "users", ("guest", "guest"), "").unwrap().1;
    assert_eq!(users.matches("\"name\"").count(), 1, "{users}");
}
