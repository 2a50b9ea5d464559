//! Accounts of a real PostgreSQL that are made under load while the server is killed again and again: in the end every
//! account that was acknowledged and not taken back is there, none that was taken back is, and when all leases are over no
//! account is left.
//!
//! `cargo test -p tresor --test accounts -- --accounts N`; without arguments as many as CI has time for. What an interrupted
//! creation left is taken back within seconds, too: nobody waits for its deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program of tests"
)]

#[path = "binary/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the other tests of the binary, which need more of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Http, Keys, Production, Server};
use tresor_services::Postgres;
use tresor_services::postgres::{ROOT, ROOT_PASSWORD};

const ACCOUNTS_IN_CI: usize = 200;
const CLIENTS: usize = 4;
/// How many accounts there are between two kills, about.
const BETWEEN_KILLS: usize = 40;
/// The life of those that end by themselves.
const SHORT: Duration = Duration::from_secs(3);
/// How long after the last kill the last thing that it interrupted is taken back.
const TAKEN_BACK_MAX: Duration = Duration::from_secs(60);

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Accounts in use, by lease.
    live: BTreeMap<String, String>,
    /// Accounts that were taken back.
    gone: BTreeSet<String>,
    /// Requests that broke off, so that nobody knows.
    unanswered: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted =
        arguments.iter().position(|word| word == "--accounts").and_then(|at| arguments.get(at + 1)?.parse().ok());
    let database = Postgres::start().unwrap();
    let production = Production::new();
    let (server, keys) = production.start_ready();
    furnish(&server.http().with_token(&keys.root), &database);
    let told = Mutex::new(Told::default());
    let (made, total) = (AtomicUsize::new(0), wanted.unwrap_or(ACCOUNTS_IN_CI));
    let (mut server, mut kills, started) = (server, 0, Instant::now());
    while made.load(Ordering::Relaxed) < total {
        until_killed(server, &keys, &told, &made, kills);
        kills += 1;
        server = production.start();
        keys.unseal(&server.http());
    }
    let last_kill = Instant::now();
    let http = server.http().with_token(&keys.root);
    let told = told.into_inner().unwrap();
    println!(
        "{} accounts made in {:.0} s, {kills} kills, {} requests without an answer",
        made.load(Ordering::Relaxed),
        started.elapsed().as_secs_f64(),
        told.unanswered
    );
    let there = accounts(&database);
    for (lease, account) in &told.live {
        assert!(there.contains(account), "{account} of {lease} was acknowledged and is not there");
    }
    for account in &told.gone {
        assert!(!there.contains(account), "{account} was taken back and is there");
    }
    // Thousands are not waited for in one request.
    http.post("sys/leases/revoke-prefix/database/creds", &json!({})).expect(204);
    let left = loop {
        let left = accounts(&database);
        if left.len() <= told.unanswered {
            break left;
        }
        assert!(last_kill.elapsed() < TAKEN_BACK_MAX, "{} of {}: {left:?}", left.len(), told.unanswered);
        std::thread::park_timeout(Duration::from_millis(100));
    };
    let after = last_kill.elapsed().as_secs_f64();
    println!("all leases are over {after:.0} s after the last kill; {} accounts are left", left.len());
    let mut left = left;
    while !left.is_empty() {
        assert!(last_kill.elapsed() < TAKEN_BACK_MAX, "orphans: {left:?}");
        std::thread::park_timeout(Duration::from_millis(200));
        left = accounts(&database);
    }
    println!("none left {:.0} s after the last kill", last_kill.elapsed().as_secs_f64());
    for name in told.live.values() {
        assert!(!accounts(&database).contains(name));
    }
}

/// Mounts the engine and makes two roles: what one makes is taken back by hand, what the other makes ends by itself.
fn furnish(http: &Http, database: &Postgres) {
    http.post("sys/mounts/database", &json!({ "type": "database" })).expect(204);
    let config = json!({
        "plugin_name": "postgresql-database-plugin",
        "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", database.port()),
        "username": ROOT,
        "password": ROOT_PASSWORD,
        "allowed_roles": "*",
    });
    let answer = http.post("database/config/own", &config);
    assert!((200..300).contains(&answer.status), "{}", answer.text);
    for (role, ttl) in [("long", "1h".to_owned()), ("short", format!("{}s", SHORT.as_secs()))] {
        let role_config = json!({
            "db_name": "own",
            "creation_statements": "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
            "default_ttl": ttl,
            "max_ttl": "2h",
        });
        http.post(&format!("database/roles/{role}"), &role_config).expect(204);
    }
}

/// Lets clients work until enough was made, then kills the server in the middle of it.
fn until_killed(server: Server, keys: &Keys, told: &Mutex<Told>, made: &AtomicUsize, cycle: usize) {
    let (stop, http) = (AtomicBool::new(false), server.http().with_token(&keys.root));
    // Not always in the same place.
    let enough = made.load(Ordering::Relaxed) + 1 + (cycle * 7919) % (2 * BETWEEN_KILLS);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (stop, http) = (&stop, http.clone());
            scope.spawn(move || work(client, &http, stop, told, made));
        }
        let end = Instant::now() + support::BOUND;
        while made.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < end, "no account is made any more: {}", server.log());
            std::thread::park_timeout(Duration::from_micros(300));
        }
        server.kill();
        stop.store(true, Ordering::Relaxed);
    });
}

fn work(client: usize, http: &Http, stop: &AtomicBool, told: &Mutex<Told>, made: &AtomicUsize) {
    for number in client.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let role = if number.is_multiple_of(3) { "short" } else { "long" };
        let Some(answer) = http.try_send("GET", &format!("database/creds/{role}"), "") else {
            told.lock().unwrap().unanswered += 1;
            return;
        };
        assert_eq!(answer.status, 200, "{}", answer.text);
        made.fetch_add(1, Ordering::Relaxed);
        let (lease, account) = (answer.text_at("/lease_id"), answer.text_at("/data/username"));
        if role == "short" {
            continue;
        }
        if number.is_multiple_of(2) {
            told.lock().unwrap().live.insert(lease, account);
            continue;
        }
        let revoked =
            http.try_send("PUT", "sys/leases/revoke", &json!({ "lease_id": lease, "sync": true }).to_string());
        let mut told = told.lock().unwrap();
        let Some(answer) = revoked else {
            told.unanswered += 1;
            return;
        };
        assert_eq!(answer.status, 204, "{}", answer.text);
        told.gone.insert(account);
    }
}

/// The accounts that our server made and that are there.
fn accounts(database: &Postgres) -> BTreeSet<String> {
    let said = database.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'").unwrap();
    said.lines().map(str::to_owned).collect()
}
