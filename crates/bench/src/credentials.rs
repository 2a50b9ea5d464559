//! Accounts of a database that are made and taken back, beside what the same database does when it is told so directly.
//!
//! A PostgreSQL of our own runs on the load's core. In each round so many connections send it bare `CREATE ROLE` statements, then
//! bare `DROP ROLE` statements; then each server makes as many accounts as it can by its `database` engine, and takes them
//! back, waiting for each. Both sides run the same statements. Then it makes more, of whose passwords the database is told
//! hashes, and takes all of these back by one order. What is printed is a rate and its part of the bare one.
//! Deliberately absent: TLS to the database, and any other database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tresor_services::Postgres;
use tresor_services::postgres::{ROOT, ROOT_PASSWORD};

use crate::connection::Connection;
use crate::contender::{Contender, Program};
use crate::options::Options;
use crate::stage::{Stage, text};

/// How many ask at the same time, and how many connections to the database a server may have.
const CLIENTS: usize = 16;
/// The database's own words for an account.
const CREATE: &str = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
const DROP: &str = "DROP ROLE IF EXISTS \"{{name}}\"";

/// Accounts per second.
#[derive(Clone, Copy, Default)]
struct Rates {
    made: f64,
    /// The database was told hashes.
    made_hashed: f64,
    taken_back: f64,
    /// By one order for all.
    taken_back_at_once: f64,
}

/// Measures every binary, in alternation with the database alone.
pub(crate) async fn run(options: &Options) -> Result<(), String> {
    let database = Postgres::start_durable()?;
    let mut stages = Vec::new();
    for binary in &options.binaries {
        for storage in &options.storages {
            let stage = Stage::set(Contender::start(Program::Server(binary, *storage), options).await?).await?;
            furnish(&stage, &database).await?;
            stages.push(stage);
        }
    }
    println!("\n{CLIENTS} clients; accounts per second, and their part of the bare statements of the same round");
    let (mut bare_rounds, mut rounds) = (Vec::new(), vec![Vec::new(); stages.len()]);
    for _ in 0..options.rounds {
        let bare = bare(&database, options.duration).await?;
        bare_rounds.push((bare, bare));
        for (stage, rounds) in stages.iter().zip(&mut rounds) {
            rounds.push((served(stage, options.duration).await?, bare));
        }
    }
    print("bare statements", &bare_rounds);
    for (stage, rounds) in stages.iter().zip(&rounds) {
        print(&stage.contender.name, rounds);
    }
    Ok(())
}

/// Prints the medians of the rounds.
fn print(name: &str, rounds: &[(Rates, Rates)]) {
    let median = |of: &dyn Fn(&(Rates, Rates)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let line = |what: &str, of: &dyn Fn(&Rates) -> f64, to: &dyn Fn(&Rates) -> f64| {
        let (rate, part) = (median(&|(one, _)| of(one)), median(&|(one, bare)| of(one) / to(bare)));
        println!("{name:<18} {what:<28} {rate:>8.0}/s x{part:.2}");
    };
    line("made", &|one| one.made, &|bare| bare.made);
    line("made, hashed by who makes", &|one| one.made_hashed, &|bare| bare.made);
    line("taken back one by one", &|one| one.taken_back, &|bare| bare.taken_back);
    line("taken back by one order", &|one| one.taken_back_at_once, &|bare| bare.taken_back);
}

/// Mounts the engine, tells it the database, and makes the role.
async fn furnish(stage: &Stage, database: &Postgres) -> Result<(), String> {
    let mut connection = stage.contender.connect().await?;
    let root = stage.root();
    connection.succeed("POST", "sys/mounts/database", root, Some(&json!({ "type": "database" }))).await?;
    let mut config = json!({
        "plugin_name": "postgresql-database-plugin",
        "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", database.port()),
        "username": ROOT,
        "password": ROOT_PASSWORD,
        "allowed_roles": "*",
        "max_open_connections": CLIENTS,
        "max_idle_connections": CLIENTS,
    });
    for (name, told) in [("plain", "password"), ("hashed", "scram-sha-256")] {
        if let Some(fields) = config.as_object_mut() {
            fields.insert("password_authentication".into(), told.into());
        }
        connection.succeed("POST", &format!("database/config/{name}"), root, Some(&config)).await?;
        let role = json!({
            "db_name": name,
            "creation_statements": CREATE,
            "revocation_statements": DROP,
            "default_ttl": "1h",
        });
        connection.succeed("POST", &format!("database/roles/{name}"), root, Some(&role)).await?;
    }
    Ok(())
}

/// What the database does by itself.
async fn bare(database: &Postgres, duration: Duration) -> Result<Rates, String> {
    let number = Arc::new(AtomicU64::new(0));
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(connect(database).await?);
    }
    let began = Instant::now();
    let making = sessions.into_iter().map(|session| {
        let (number, names) = (Arc::clone(&number), Arc::clone(&names));
        tokio::spawn(async move {
            let mut own = Vec::new();
            while began.elapsed() < duration {
                let name = format!("bare-{}-{}", std::process::id(), number.fetch_add(1, Ordering::Relaxed));
                session.batch_execute(&create(&name)).await.map_err(|error| error.to_string())?;
                own.push(name);
            }
            names.lock().await.append(&mut own);
            Ok::<_, String>(session)
        })
    });
    let mut sessions = Vec::new();
    for made in making.collect::<Vec<_>>() {
        sessions.push(made.await.map_err(|error| error.to_string())??);
    }
    let count = names.lock().await.len();
    let made = rate(count, began);
    // It is hashed there, whoever asks: a hash that is sent would have to be made first.
    let mut rates = Rates { made, made_hashed: made, ..Rates::default() };
    let began = Instant::now();
    let taking = sessions.into_iter().map(|session| {
        let names = Arc::clone(&names);
        tokio::spawn(async move {
            loop {
                let Some(name) = names.lock().await.pop() else { return Ok::<_, String>(()) };
                session.batch_execute(&DROP.replace("{{name}}", &name)).await.map_err(|error| error.to_string())?;
            }
        })
    });
    for taken in taking.collect::<Vec<_>>() {
        taken.await.map_err(|error| error.to_string())??;
    }
    rates.taken_back = rate(count, began);
    rates.taken_back_at_once = rates.taken_back;
    Ok(rates)
}

fn create(name: &str) -> String {
    let password = "benchmark-password-1";
    CREATE
        .replace("{{name}}", name)
        .replace("{{password}}", password)
        .replace("{{expiration}}", "2099-01-01 00:00:00+0000")
}

async fn connect(database: &Postgres) -> Result<tokio_postgres::Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(database.port()).user(ROOT).password(ROOT_PASSWORD).dbname("postgres");
    let connected = config.connect(tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}

/// What a server does with it.
async fn served(stage: &Stage, duration: Duration) -> Result<Rates, String> {
    let root = stage.root().to_owned();
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(stage.contender.connect().await?);
    }
    let mut rates = Rates::default();
    let began = Instant::now();
    let (mut connections, leases) = made(connections, &root, "hashed", duration).await?;
    rates.made_hashed = rate(leases.len(), began);
    let began = Instant::now();
    if let Some(connection) = connections.first_mut() {
        let wanted = json!({ "sync": true });
        connection.succeed("PUT", "sys/leases/revoke-prefix/database/creds/hashed", &root, Some(&wanted)).await?;
    }
    rates.taken_back_at_once = rate(leases.len(), began);
    let began = Instant::now();
    let (connections, leases) = made(connections, &root, "plain", duration).await?;
    let count = leases.len();
    rates.made = rate(count, began);
    let (leases, began) = (Arc::new(Mutex::new(leases)), Instant::now());
    let taking = connections.into_iter().map(|mut connection| {
        let (leases, root) = (Arc::clone(&leases), root.clone());
        tokio::spawn(async move {
            loop {
                let Some(lease) = leases.lock().await.pop() else { return Ok::<_, String>(()) };
                let wanted: Value = json!({ "lease_id": lease, "sync": true });
                connection.succeed("PUT", "sys/leases/revoke", &root, Some(&wanted)).await?;
            }
        })
    });
    for taken in taking.collect::<Vec<_>>() {
        taken.await.map_err(|error| error.to_string())??;
    }
    rates.taken_back = rate(count, began);
    Ok(rates)
}

/// As many accounts as there can be in so long, and their leases.
async fn made(
    connections: Vec<Connection>,
    root: &str,
    role: &'static str,
    duration: Duration,
) -> Result<(Vec<Connection>, Vec<String>), String> {
    let began = Instant::now();
    let making = connections.into_iter().map(|mut connection| {
        let root = root.to_owned();
        tokio::spawn(async move {
            let mut own = Vec::new();
            while began.elapsed() < duration {
                let made = connection.succeed("GET", &format!("database/creds/{role}"), &root, None).await?;
                own.push(text(&made, "/lease_id")?);
            }
            Ok::<_, String>((connection, own))
        })
    });
    let (mut connections, mut leases) = (Vec::new(), Vec::new());
    for made in making.collect::<Vec<_>>() {
        let (connection, mut own) = made.await.map_err(|error| error.to_string())??;
        connections.push(connection);
        leases.append(&mut own);
    }
    Ok((connections, leases))
}

#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}
