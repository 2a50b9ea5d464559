//! The store in PostgreSQL passes the suite, is one process's at a time, and loses nothing that it acknowledged, whatever
//! becomes of the server and of the way to it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use support::{doors, hasty, read, settings, settings_of, until, url};
use tresor_services::postgres::ROOT;
use tresor_services::{Between, Postgres};
use tresor_storage::suite::{batch, exported, key, restore};
use tresor_storage::{Condition, Store, StoreError, Version};
use tresor_storage_postgresql::{PostgresStore, Settings};

#[test]
fn the_store_in_postgresql_passes_the_suite() {
    let server = Postgres::start().unwrap();
    let number = AtomicU32::new(0);
    tresor_storage::suite::run(&mut || {
        let table = format!("store_{}", number.fetch_add(1, Ordering::Relaxed));
        let store = PostgresStore::open(&doors(), settings(server.port(), &table)).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        store
    });
    assert!(number.load(Ordering::Relaxed) > 6);
}

#[test]
fn what_was_written_is_there_for_the_next_process_and_never_for_two_at_once() {
    let server = Postgres::start().unwrap();
    let open = || PostgresStore::open(&hasty(), settings(server.port(), "one"));
    let store = open().unwrap();
    store.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b"2"))])).unwrap();
    assert!(matches!(open().err(), Some(StoreError::Locked { name }) if name == "table one"));
    store.apply(batch(2, &[("b", None)])).unwrap();
    assert_eq!(store.syncs(), 2);
    drop(store);
    let store = open().unwrap();
    assert_eq!(store.snapshot().unwrap().version(), Version(2));
    assert_eq!((read(&store, "a"), read(&store, "b")), (Some(b"1".to_vec()), None));
    // Another table is another store.
    let other = PostgresStore::open(&hasty(), settings(server.port(), "two")).unwrap();
    assert_eq!(other.snapshot().unwrap().version(), Version(0));
}

#[test]
fn a_process_that_was_cut_off_while_another_took_the_store_changes_and_shows_nothing() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let first = PostgresStore::open(&hasty(), settings(wire.port(), "store")).unwrap();
    first.apply(batch(1, &[("a", Some(b"first"))])).unwrap();
    let before = first.snapshot().unwrap();
    wire.hold_after("");
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tresor'").unwrap();
    let second = PostgresStore::open(&hasty(), settings(server.port(), "store")).unwrap();
    second.apply(batch(2, &[("a", Some(b"second"))])).unwrap();
    // It hears nothing, and soon trusts nothing of what it has in memory.
    until("distrust", || first.snapshot().is_err().then_some(()));
    assert_eq!(first.condition(), Condition::Unreachable);
    wire.mend();
    until("the truth", || (first.condition() == Condition::Taken).then_some(()));
    for refused in
        [first.apply(batch(2, &[("a", Some(b"x"))])), first.snapshot().map(drop), before.read(&key("a")).map(drop)]
    {
        assert!(matches!(refused, Err(StoreError::Taken { .. })), "{refused:?}");
    }
    assert_eq!(read(&second, "a"), Some(b"second".to_vec()));
    second.apply(batch(3, &[("a", Some(b"third"))])).unwrap();
}

#[test]
fn who_heard_nothing_for_a_while_asks_whose_the_store_is_before_it_shows_what_it_has_in_memory() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let first = PostgresStore::open(&doors(), settings(wire.port(), "store")).unwrap();
    first.apply(batch(1, &[("a", Some(b"first"))])).unwrap();
    assert!(first.vouched().is_none(), "it was heard a moment ago");
    // As if the process stood still.
    wire.hold_after("");
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tresor'").unwrap();
    let second = PostgresStore::open(&doors(), settings(server.port(), "store")).unwrap();
    second.apply(batch(2, &[("a", Some(b"second"))])).unwrap();
    let vouched = until("doubt", || first.vouched());
    wire.mend();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(vouched);
    assert!(matches!(first.snapshot().map(drop), Err(StoreError::Taken { .. })));
    assert!(matches!(first.trusted(), Err(StoreError::Taken { .. })));
    assert!(first.vouched().is_none(), "it is known");
}

#[test]
fn a_batch_whose_answer_is_lost_is_there_once() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let store = PostgresStore::open(&hasty(), settings(wire.port(), "store")).unwrap();
    store.apply(batch(1, &[("a", Some(b"1")), ("cut-here", Some(b"1"))])).unwrap();
    let before = store.snapshot().unwrap();
    wire.cut_after("cut-here");
    let is_mended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the batch", || (server.sql("SELECT version FROM store_state").unwrap() == "2").then_some(()));
            wire.mend();
            is_mended.store(true, Ordering::Relaxed);
        });
        store.apply(batch(2, &[("cut-here", Some(b"2"))])).unwrap();
    });
    assert!(is_mended.load(Ordering::Relaxed), "its answer was lost");
    assert_eq!(read(&store, "cut-here"), Some(b"2".to_vec()));
    // What it overwrote came with the answer: who still reads the state of before is told, and sees nothing else.
    assert!(matches!(before.read(&key("cut-here")), Err(StoreError::Unreachable { .. })));
    assert_eq!(before.read(&key("a")).unwrap().unwrap().bytes, b"1");
    store.apply(batch(3, &[("a", Some(b"3"))])).unwrap();
}

#[test]
fn a_batch_in_doubt_is_found_out_when_the_server_answers_again() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let store = PostgresStore::open(&hasty(), settings(wire.port(), "store")).unwrap();
    store.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    wire.hold_after("");
    let doubtful = store.apply(batch(2, &[("a", Some(b"2"))]));
    assert!(matches!(doubtful, Err(StoreError::Uncertain { .. })), "{doubtful:?}");
    assert!(matches!(store.apply(batch(2, &[("a", Some(b"x"))])), Err(StoreError::Unreachable { .. })));
    wire.mend();
    let version = until("an answer", || store.snapshot().ok().map(|now| now.version()).filter(|now| now.0 == 2));
    assert_eq!(version, Version(2), "it had reached the server");
    assert_eq!(read(&store, "a"), Some(b"2".to_vec()));
    store.apply(batch(3, &[("a", Some(b"3"))])).unwrap();
}

#[test]
fn what_was_acknowledged_survives_kills_of_the_server_and_the_store_goes_on_by_itself() {
    let mut server = Postgres::start_durable().unwrap();
    let store = PostgresStore::open(&doors(), settings(server.port(), "store")).unwrap();
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut failures = 0;
            for version in 1_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return failures;
                }
                let value = version.to_be_bytes();
                while let Err(error) = store.apply(batch(version, &[(&format!("k{}", version % 50), Some(&value))])) {
                    // A server that is away for long, on a machine that does other things: nothing was written.
                    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
                    failures += 1;
                }
                done.store(u32::try_from(version).unwrap(), Ordering::Relaxed);
            }
            failures
        });
        for _ in 0..4 {
            let from = done.load(Ordering::Relaxed);
            until("batches", || (done.load(Ordering::Relaxed) > from + 20).then_some(()));
            server.kill();
            server.start_again().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(writing.join().unwrap(), 0, "each waited for the server");
    });
    let last = u64::from(done.load(Ordering::Relaxed));
    let now = store.snapshot().unwrap();
    assert_eq!(now.version(), Version(last));
    for version in last - 49..=last {
        let stored = now.read(&key(&format!("k{}", version % 50))).unwrap().unwrap();
        assert_eq!((stored.version, stored.bytes), (Version(version), version.to_be_bytes().to_vec()));
    }
}

#[test]
fn many_read_at_once_over_as_few_connections_as_the_server_gives() {
    let server = Postgres::start().unwrap();
    server.sql("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2").unwrap();
    server.sql("CREATE SCHEMA few AUTHORIZATION few").unwrap();
    let few = settings_of(&url(server.port(), "few", "few"), "few.store");
    let store = PostgresStore::open(&doors(), Settings { connections: 8, ..few }).unwrap();
    store.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(read(&store, "a"), Some(b"1".to_vec()));
                }
            });
        }
    });
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'";
    assert_eq!(server.sql(open).unwrap(), "2");
    // With none for reading it does not open.
    server.sql("ALTER ROLE few CONNECTION LIMIT 1").unwrap();
    drop(store);
    let one = settings_of(&url(server.port(), "few", "few"), "few.store");
    let refused = PostgresStore::open(&hasty(), one).err().unwrap().to_string();
    assert!(refused.contains("too many connections"), "{refused}");
}

#[test]
fn tables_made_by_hand_need_no_right_to_make_any() {
    let server = Postgres::start().unwrap();
    server.sql("CREATE ROLE plain LOGIN PASSWORD 'plain'").unwrap();
    let by_hand = || Settings { makes_tables: false, ..settings_of(&url(server.port(), "plain", "plain"), "store") };
    let refused = PostgresStore::open(&hasty(), by_hand()).err().unwrap().to_string();
    assert!(refused.contains("made by hand"), "{refused}");
    let page = include_str!("../../../docs/operate/storage-postgresql.md");
    let (_, text) = page.split_once("```sql\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    for statement in text.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        server.sql(&statement.replace("tresor_store", "store").replace("tresor_user", "plain")).unwrap();
    }
    let store = PostgresStore::open(&hasty(), by_hand()).unwrap();
    store.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b"1"))])).unwrap();
    store.apply(batch(2, &[("a", None)])).unwrap();
    let state = exported(&store).unwrap();
    restore(&store, state).unwrap();
    assert_eq!((read(&store, "a"), read(&store, "b")), (None, Some(b"1".to_vec())));
}

#[test]
fn a_state_that_was_taken_over_leaves_nothing_of_the_one_before() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&hasty(), settings(server.port(), "store")).unwrap();
    let names: Vec<String> = (0..2500).map(|number| format!("k{number}")).collect();
    let writes: Vec<(&str, Option<&[u8]>)> = names.iter().map(|name| (name.as_str(), Some(&b"v"[..]))).collect();
    store.apply(batch(1, &writes)).unwrap();
    let state = exported(&store).unwrap();
    let before = store.snapshot().unwrap();
    // One that breaks off, and one that is taken over.
    let mut broken_off = store.restore().unwrap();
    assert!(matches!(store.restore().err(), Some(StoreError::Io { .. })), "one at a time");
    for chunk in state.iter().take(1) {
        broken_off.take(chunk.clone()).unwrap();
    }
    drop(broken_off);
    restore(&store, state).unwrap();
    assert_eq!(before.read(&key("k7")).unwrap().unwrap().bytes, b"v");
    drop(before);
    until("order", || (server.sql("SELECT count(*) FROM store").unwrap() == "2500").then_some(()));
    assert_eq!(server.sql("SELECT count(DISTINCT generation) FROM store").unwrap(), "1");
}

#[test]
fn what_is_no_store_of_this_release_is_refused_and_no_password_is_shown() {
    let server = Postgres::start().unwrap();
    let open = || PostgresStore::open(&hasty(), settings(server.port(), "store")).err().unwrap();
    drop(PostgresStore::open(&hasty(), settings(server.port(), "store")).unwrap());
    server.sql("UPDATE store_state SET format = 2").unwrap();
    assert!(matches!(open(), StoreError::Damaged { what, .. } if what.contains("format 2")));
    server.sql("UPDATE store_state SET format = 1").unwrap();
    let store = PostgresStore::open(&hasty(), settings(server.port(), "store")).unwrap();
    store.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    store.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
    drop(store);
    server.sql("CREATE TABLE kept AS TABLE store").unwrap();
    server.sql("DELETE FROM store").unwrap();
    assert!(matches!(open(), StoreError::Damaged { what, .. } if what.contains("all values are gone")));
    server.sql("DROP TABLE store").unwrap();
    assert!(matches!(open(), StoreError::Damaged { what, .. } if what.contains("all values are gone")));
    server.sql("INSERT INTO store TABLE kept").unwrap();
    drop(PostgresStore::open(&hasty(), settings(server.port(), "store")).unwrap());
    server.sql("DELETE FROM store_state").unwrap();
    assert!(matches!(open(), StoreError::Damaged { what, .. } if what.contains("is gone")));
    server.sql("CREATE TABLE other (path text)").unwrap();
    let refused = PostgresStore::open(&hasty(), settings(server.port(), "other")).err().unwrap().to_string();
    assert!(refused.contains("does not exist"), "{refused}");
    server.sql("ALTER ROLE root SET synchronous_commit = off").unwrap();
    let refused = PostgresStore::open(&hasty(), settings(server.port(), "new")).err().unwrap().to_string();
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
    let wrong = settings_of(&url(server.port(), ROOT, "wrong-canary"), "new");
    let refused = PostgresStore::open(&hasty(), wrong).err().unwrap().to_string();
    assert!(refused.contains("password authentication failed") && !refused.contains("canary"), "{refused}");
    let nobody = settings(tresor_services::free_port().unwrap(), "new");
    assert!(matches!(PostgresStore::open(&hasty(), nobody).err(), Some(StoreError::Unreachable { .. })));
}
