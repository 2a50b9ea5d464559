//! A server whose store lies in PostgreSQL: killed, cut off, on a damaged table, beside a second one; and what is found in the
//! database's files.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tresor_canary::{Canaries, canary};
use tresor_services::postgres::{ROOT, ROOT_PASSWORD};
use tresor_services::{Between, Postgres};

use crate::canary::files;
use crate::crash::lose_nothing;
use crate::diagnose::{found, look_at};
use crate::support::{Cli, Production, Server, binary, until};

/// The stanza for a server of this machine, reached at a port.
pub(crate) fn storage(port: u16, more: &str) -> String {
    format!(
        "storage \"postgresql\" {{\n  connection_url = \"postgres://{ROOT}:{ROOT_PASSWORD}@127.0.0.1:{port}/postgres?\
         sslmode=disable\"\n{more}\n}}\n"
    )
}

/// The usual production server on it.
fn production(port: u16, more: &str) -> Production {
    let production = Production::new();
    let path = production.data().display().to_string();
    production.configure(&format!(
        "{}listener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}}\ndisable_mlock = true\n",
        storage(port, &format!("path = \"{path}\"\n{more}")),
    ));
    production
}

#[test]
fn a_server_on_postgresql_that_is_killed_loses_nothing_that_it_acknowledged() {
    let server = Postgres::start().unwrap();
    lose_nothing(&production(server.port(), ""));
}

#[test]
fn what_was_acknowledged_survives_kills_of_postgresql_and_nothing_of_it_is_in_its_files_in_the_clear() {
    let mut database = Postgres::start_durable().unwrap();
    let production = production(database.port(), "");
    production.configure_more("log_level = \"trace\"");
    let (server, keys) = production.start_ready();
    let http = server.http().with_token(&keys.root);
    let mut planted = Canaries::default();
    let mut plant = |label: &str| {
        let text = canary(label, 0);
        planted.watch(label, text.as_bytes());
        text
    };
    let (mount, name, value) = (plant("mount"), plant("name"), plant("value"));
    http.post(&format!("sys/mounts/{mount}"), &json!({ "type": "kv" })).expect(204);
    http.post(&format!("{mount}/{name}"), &json!({ "x": value })).expect(204);
    planted.watch("root token", keys.root.as_bytes());
    planted.watch("password of the database", ROOT_PASSWORD.as_bytes());
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut acknowledged = BTreeMap::new();
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (path, body) = (format!("{mount}/k{}", number % 40), json!({ "n": number }).to_string());
                match http.try_send("POST", &path, &body) {
                    Some(answer) if answer.status == 204 => {
                        acknowledged.insert(number % 40, number);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    // Nobody said whether it was done.
                    _ => {
                        acknowledged.remove(&(number % 40));
                    }
                }
            }
            acknowledged
        });
        for _ in 0..3 {
            let from = done.load(Ordering::Relaxed);
            until("writes", || (done.load(Ordering::Relaxed) > from + 30).then_some(()));
            database.kill();
            database.start_again().unwrap();
        }
        let from = done.load(Ordering::Relaxed);
        until("writes after the last one", || (done.load(Ordering::Relaxed) > from + 30).then_some(()));
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    assert!(acknowledged.len() > 20);
    for (key, number) in &acknowledged {
        assert_eq!(http.get(&format!("{mount}/k{key}")).expect(200).at("/data/n"), json!(number));
    }
    let status = http.get("sys/seal-status").expect(200);
    assert_eq!((status.at("/storage_type"), status.at("/sealed")), (json!("postgresql"), json!(false)));
    let state = http.get("sys/config/state/sanitized").expect(200);
    assert_eq!(state.at("/data/storage/type"), json!("postgresql"));
    assert_eq!(planted.find(state.text.as_bytes()), None);
    database.sql("CHECKPOINT").unwrap();
    let mut bytes_total = 0;
    for file in files(&database.data_directory()) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        bytes_total += bytes.len();
        assert_eq!(planted.find(&bytes), None, "{}", file.display());
    }
    assert!(bytes_total > 1 << 20);
    for text in [server.log(), server.output()] {
        assert_eq!(planted.find(text.as_bytes()), None, "the log");
    }
}

#[test]
fn a_server_that_is_cut_off_from_postgresql_says_so_soon_and_serves_again_by_itself() {
    let database = Postgres::start().unwrap();
    let wire = Between::to(database.port()).unwrap();
    let (server, keys) = production(wire.port(), "").start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": 1 })).expect(204);
    wire.hold_after("");
    let refused = until("a refusal", || {
        let Some(health) = server.http().try_send("GET", "sys/health", "") else { panic!("{}", server.log()) };
        let is_told = health.at("/storage").as_str().is_some_and(|why| why.starts_with("is not reached"));
        assert_eq!(health.status, if is_told { 503 } else { 200 }, "it answers for itself: {}", health.text);
        http.try_send("GET", "kv/a", "").filter(|answer| answer.status == 503 && is_told)
    });
    assert!(refused.text.contains("storage is not reached"), "{}", refused.text);
    assert_eq!(server.http().get("sys/seal-status").expect(200).at("/sealed"), json!(false));
    wire.mend();
    until("an answer", || http.try_send("GET", "kv/a", "").filter(|answer| answer.status == 200));
    until("a write", || http.try_send("POST", "kv/b", "{\"x\":2}").filter(|answer| answer.status == 204));
}

#[test]
fn a_server_that_stood_still_while_another_took_its_table_shows_nothing_of_before() {
    let database = Postgres::start().unwrap();
    let (server, keys) = production(database.port(), "").start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": 1 })).expect(204);
    assert_eq!(http.get("kv/a").expect(200).at("/data/x"), json!(1));
    server.signal(Signal::STOP);
    let stood_still = Instant::now();
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tresor'").unwrap();
    let beside = production(database.port(), "");
    let other = beside.start();
    keys.unseal(&other.http());
    let others = other.http().with_token(&keys.root);
    until("a write", || others.try_send("POST", "kv/a", "{\"x\":2}").filter(|answer| answer.status == 204));
    until("some time", || (stood_still.elapsed() > Duration::from_secs(4)).then_some(()));
    server.signal(Signal::CONT);
    for _ in 0..100 {
        if let Some(answer) = http.try_send("GET", "kv/a", "") {
            assert_eq!(answer.status, 503, "{}", answer.text);
        }
    }
    assert_eq!(others.get("kv/a").expect(200).at("/data/x"), json!(2));
}

#[test]
fn a_server_that_is_told_to_stop_while_postgresql_is_away_ends_soon() {
    let database = Postgres::start().unwrap();
    let wire = Between::to(database.port()).unwrap();
    let (mut server, keys) = production(wire.port(), "").start_ready();
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    wire.hold_after("");
    std::thread::scope(|scope| {
        scope.spawn(|| http.try_send("POST", "kv/a", "{\"x\":1}"));
        until("the write to run", || {
            server.signal(Signal::USR2);
            server.log().contains("kv/a").then_some(())
        });
        let told = Instant::now();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        assert!(told.elapsed() < Duration::from_secs(9), "{:?}", told.elapsed());
    });
}

#[test]
fn a_table_that_is_dropped_under_a_server_is_told_by_its_health() {
    let database = Postgres::start().unwrap();
    let (server, _) = production(database.port(), "").start_ready();
    server.http().get("sys/health").expect(200);
    database.sql("ALTER TABLE tresor_store RENAME TO put_aside").unwrap();
    let health = until("word of it", || server.http().try_send("GET", "sys/health", "").filter(|it| it.status == 503));
    assert!(health.text_at("/storage").starts_with("is not reached"), "{}", health.text);
    database.sql("ALTER TABLE put_aside RENAME TO tresor_store").unwrap();
    until("its end", || server.http().try_send("GET", "sys/health", "").filter(|it| it.status == 200));
}

#[test]
fn a_second_server_on_a_table_does_not_start_and_a_value_that_was_changed_is_refused() {
    let database = Postgres::start().unwrap();
    let first = production(database.port(), "table = \"own.secrets\"");
    database.sql("CREATE SCHEMA own").unwrap();
    let (server, keys) = first.start_ready();
    let second = production(database.port(), "table = \"own.secrets\"");
    let cli = Cli::new(second.home(), server.address, "");
    let config = second.config();
    let refused = cli.run_with(binary(), &["server", "-config", config.to_str().unwrap()], &[], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.errors.contains("`table own.secrets` is in use by another process"), "{}", refused.errors);
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/kept", &json!({ "x": 1 })).expect(204);
    let before = database.sql("SELECT max(version) FROM own.secrets").unwrap();
    http.post("kv/changed", &json!({ "x": "y".repeat(3000) })).expect(204);
    // Whoever looks beside it knows by its lock that the port is its own.
    let configured = std::fs::read_to_string(first.config()).unwrap();
    first.configure(&configured.replace("127.0.0.1:0", &server.address.to_string()));
    let (_, report) = look_at(&first, &["-skip=system"]);
    assert_eq!(found(&report, "Lock"), [("ok".to_owned(), "a server has it open: it runs".to_owned())], "{report}");
    assert_eq!(found(&report, "Port")[0].0, "ok", "{report}");
    stop(server);
    let (_, report) = look_at(&first, &["-skip=system"]);
    assert_eq!(found(&report, "Lock"), [("ok".to_owned(), "no server has it open".to_owned())], "{report}");
    first.configure(&configured);
    // The largest value that the last write left is the secret itself.
    let flip = format!(
        "UPDATE own.secrets SET value = set_byte(value, 100, get_byte(value, 100) # 1) WHERE (generation, key) IN \
         (SELECT generation, key FROM own.secrets WHERE version > {before} ORDER BY octet_length(value) DESC LIMIT 1)"
    );
    database.sql(&flip).unwrap();
    let server = first.start();
    keys.unseal(&server.http());
    let http = server.http().with_token(&keys.root);
    http.get("kv/changed").expect(500);
    http.get("kv/kept").expect(200);
}

#[test]
fn postgresql_is_verified_as_the_url_asks_and_its_snapshots_are_as_good_as_any() {
    let database = Postgres::start().unwrap();
    let production = production(database.port(), "");
    let authority = production.home().join("authority.pem");
    std::fs::write(&authority, Postgres::an_authority().unwrap()).unwrap();
    let plain = std::fs::read_to_string(production.config()).unwrap();
    let verified = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    production.configure(
        &plain
            .replace("127.0.0.1:", "localhost:")
            .replace("localhost:0", "127.0.0.1:0")
            .replace("sslmode=disable", &verified),
    );
    let cli = Cli::new(production.home(), "127.0.0.1:1".parse().unwrap(), "");
    let config = production.config();
    let refused = cli.run_with(binary(), &["server", "-config", config.to_str().unwrap()], &[], "");
    assert!(refused.code == 1 && refused.errors.contains("certificate"), "{refused:?}");
    std::fs::write(&authority, database.authority()).unwrap();
    let (server, keys) = production.start_ready();
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tresor'";
    assert_eq!(database.sql(encrypted).unwrap(), "t");
    let http = server.http().with_token(&keys.root);
    http.post("sys/mounts/kv", &json!({ "type": "kv" })).expect(204);
    http.post("kv/a", &json!({ "x": "before" })).expect(204);
    let cli = Cli::new(production.home(), server.address, &keys.root);
    cli.succeed(&["operator", "raft", "snapshot", "save", "tresor.snap"]);
    http.post("kv/a", &json!({ "x": "after" })).expect(204);
    http.post("kv/b", &json!({ "x": "after" })).expect(204);
    cli.succeed(&["operator", "raft", "snapshot", "restore", "tresor.snap"]);
    until("what was saved", || {
        if http.get("sys/seal-status").at("/sealed") == Value::Bool(true) {
            keys.unseal(&server.http());
        }
        http.try_send("GET", "kv/a", "").filter(|answer| answer.at("/data/x") == json!("before"))
    });
    http.get("kv/b").expect(404);
}

/// Ends a server as an operator does.
pub(crate) fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}
