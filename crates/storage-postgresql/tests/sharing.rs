//! A store that several processes share: one writes, the others show one state until they are told to go on, and whoever lost the
//! lock changes nothing, whatever it believes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{doors, read, settings, until};
use tresor_env::Clock;
use tresor_services::{Between, Postgres};
use tresor_storage::suite::{batch, exported, key, restore};
use tresor_storage::{Coming, Condition, Snapshot, Store, StoreError, Version, Watcher};
use tresor_storage_postgresql::{Part, PostgresStore, Settings, Table};

fn shared(port: u16) -> Settings {
    Settings { lock: Some(Table::parse("locks").unwrap()), ..settings(port, "store") }
}

fn open(port: u16) -> PostgresStore {
    PostgresStore::open(&doors(), shared(port)).unwrap()
}

/// Lets it write, if nobody else does.
fn unseal(store: &PostgresStore, name: &str) {
    store.lock().unwrap().announce(Some(name.as_bytes().to_vec()));
}

fn part(store: &PostgresStore) -> Part {
    store.lock().unwrap().seen().read(|seen| seen.part)
}

fn writes(store: &PostgresStore) -> Option<()> {
    matches!(part(store), Part::Active { .. }).then_some(())
}

fn holder(store: &PostgresStore) -> Option<i64> {
    store.lock().unwrap().seen().read(|seen| seen.holder)
}

/// Ends what goes on beside a test, also when that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts what it is told.
#[derive(Default)]
struct Told {
    batches: AtomicU64,
    states: AtomicU64,
}

impl Watcher for Told {
    fn before(&self, coming: Coming<'_>, _: &dyn Fn() -> Box<dyn Snapshot>) {
        match coming {
            Coming::Batch(_) => &self.batches,
            Coming::State => &self.states,
        }
        .fetch_add(1, Ordering::SeqCst);
    }

    fn after(&self) {}
}

fn watched(store: &PostgresStore) -> Arc<Told> {
    let told = Arc::<Told>::default();
    let weak = Arc::downgrade(&told);
    store.watch(weak);
    told
}

#[test]
fn one_writes_and_the_next_one_has_everything_that_it_acknowledged() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    // Nobody may write yet, but for the batch that founds the store.
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    assert!(matches!(second.apply(batch(1, &[("a", Some(b"x"))])), Err(StoreError::Elsewhere { .. })));
    assert_eq!(read(&second, "a"), Some(b"1".to_vec()), "who keeps nothing in memory sees what is there");
    until("the lock to be free", || (part(&first) == Part::Standby).then_some(()));
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    unseal(&second, "second");
    until("the second to know", || holder(&second).filter(|who| *who == first.lock().unwrap().me()));
    first.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
    for refused in [second.apply(batch(2, &[("a", Some(b"x"))])), second.apply(batch(3, &[("a", Some(b"x"))]))] {
        assert!(matches!(refused, Err(StoreError::Elsewhere { .. })), "{refused:?}");
    }
    let before = second.snapshot().unwrap();
    let told = watched(&second);
    first.apply(batch(3, &[("a", Some(b"3")), ("b", Some(b"3"))])).unwrap();
    // Whoever watches is not surprised.
    let still = second.snapshot().unwrap();
    assert_eq!((still.version(), told.states.load(Ordering::SeqCst)), (Version(2), 0));
    assert_eq!(before.read(&key("c")).unwrap(), None);
    first.lock().unwrap().announce(None);
    until("the second to write", || writes(&second));
    assert_eq!(told.states.load(Ordering::SeqCst), 1);
    assert_eq!((read(&second, "a"), read(&second, "b")), (Some(b"3".to_vec()), Some(b"3".to_vec())));
    assert!(before.read(&key("a")).is_err(), "what it was before nobody knows");
    second.apply(batch(4, &[("a", None)])).unwrap();
    assert!(matches!(first.apply(batch(4, &[("a", Some(b"x"))])), Err(StoreError::Elsewhere { .. })));
    assert_eq!(read(&first, "a"), None);
}

#[test]
fn who_is_cut_off_writes_nothing_any_more_and_another_goes_on() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let (first, second) = (open(wire.port()), open(server.port()));
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    unseal(&second, "second");
    wire.hold_after("");
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let last = std::thread::scope(|scope| {
        let over = Over(&stop);
        // It goes on trying, as long as it knows of nothing else.
        let trying = scope.spawn(|| {
            let mut last = Ok(());
            while !stop.load(Ordering::Relaxed) {
                last = first.apply(batch(2, &[("a", Some(b"late"))]));
                std::thread::park_timeout(Duration::from_millis(20));
            }
            last
        });
        until("the second to write", || writes(&second));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        // What was on its way had arrived, or comes to nothing.
        let next = second.snapshot().unwrap().version().next().0;
        assert!((2..=3).contains(&next));
        second.apply(batch(next, &[("a", Some(b"second"))])).unwrap();
        wire.mend();
        until("the first to know", || holder(&first).filter(|who| *who == second.lock().unwrap().me()));
        drop(over);
        trying.join().unwrap()
    });
    assert!(matches!(last, Err(StoreError::Elsewhere { .. } | StoreError::Uncertain { .. })), "{last:?}");
    let next = |store: &PostgresStore| store.snapshot().unwrap().version().next().0;
    second.apply(batch(next(&second), &[("b", Some(b"3"))])).unwrap();
    assert_eq!(read(&second, "a"), Some(b"second".to_vec()));
    // And back.
    second.lock().unwrap().announce(None);
    until("the first to write again", || writes(&first));
    assert_eq!((read(&first, "a"), read(&first, "b")), (Some(b"second".to_vec()), Some(b"3".to_vec())));
    first.apply(batch(next(&first), &[("a", Some(b"4"))])).unwrap();
}

#[test]
fn what_became_of_a_batch_whose_answer_was_lost_is_found_out_when_another_writes_by_then() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let (first, second) = (open(wire.port()), open(server.port()));
    first.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    // It arrives, and nothing comes back until another one writes.
    unseal(&second, "second");
    wire.hold_after("");
    std::thread::scope(|scope| {
        let done = scope.spawn(|| first.apply(batch(2, &[("a", Some(b"2")), ("b", None)])));
        until("the second to write", || writes(&second));
        second.apply(batch(3, &[("b", Some(b"3"))])).unwrap();
        wire.mend();
        end_sessions(&server);
        done.join().unwrap().unwrap();
    });
    assert_eq!((read(&second, "a"), read(&second, "b")), (Some(b"2".to_vec()), Some(b"3".to_vec())));
    // And back: what the fence kept out is not there, although nobody said so.
    second.lock().unwrap().announce(None);
    until("the first to write again", || writes(&first));
    let next = first.snapshot().unwrap().version().next().0;
    wire.cut_after("planted");
    std::thread::scope(|scope| {
        // The batch finds it being taken, and waits for that.
        let taking = "WITH taken AS (UPDATE store_state SET owner = 1, epoch = epoch + 1 RETURNING id) \
                      SELECT pg_sleep(2) FROM taken";
        scope.spawn(|| server.sql(taking).unwrap());
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until("it to be taken", || (server.sql(asked).unwrap() != "0").then_some(()));
        let refused = first.apply(batch(next, &[("b", Some(b"planted"))]));
        assert!(matches!(refused, Err(StoreError::Elsewhere { .. })), "{refused:?}");
    });
    wire.mend();
    assert_eq!(read(&second, "b"), Some(b"3".to_vec()));
}

#[test]
fn a_lock_that_ended_too_early_costs_who_writes_and_no_write() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    first.apply(batch(1, &[("n", Some(b"0"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    unseal(&second, "second");
    let stop = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let over = Over(&stop);
        let work = [&first, &second].map(|store| {
            scope.spawn(|| {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let Ok(now) = store.snapshot() else { continue };
                    let next = now.version().next();
                    match store.apply(batch(next.0, &[(&format!("k{}", next.0), Some(b"x"))])) {
                        Ok(()) => acknowledged.push(next),
                        Err(StoreError::Uncertain { .. } | StoreError::Damaged { .. }) => panic!("nothing broke"),
                        Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
                    }
                }
                acknowledged
            })
        });
        // As by a clock that jumps, time and again.
        for _ in 0..10 {
            std::thread::park_timeout(Duration::from_millis(300));
            server.sql("UPDATE locks SET until = '-infinity' WHERE id = 0").unwrap();
        }
        drop(over);
        work.map(|work| work.join().unwrap())
    });
    let [one, other] = acknowledged;
    assert!(one.iter().all(|version| !other.contains(version)), "no version was acknowledged twice");
    let mut all: Vec<u64> = one.iter().chain(&other).map(|version| version.0).collect();
    all.sort_unstable();
    assert_eq!(all, (2..2 + all.len() as u64).collect::<Vec<_>>(), "each follows the one before");
    let there = server.sql("SELECT count(*) FROM store").unwrap();
    assert_eq!(there, (all.len() + 1).to_string());
}

#[test]
fn a_lock_that_somebody_removed_is_made_anew_and_gives_no_term_twice() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    until("the lock to be free", || (part(&first) == Part::Standby).then_some(()));
    unseal(&first, "first");
    unseal(&second, "second");
    let who_writes = || {
        [&first, &second].into_iter().find_map(|store| match part(store) {
            Part::Active { term } => Some((store, term)),
            _ => None,
        })
    };
    let (_, mut before) = until("one to write", who_writes);
    let mut version = 1;
    for removed in ["DELETE FROM locks", "TRUNCATE locks", "DELETE FROM locks WHERE id = 0", "DROP TABLE locks"] {
        server.sql(removed).unwrap();
        // Who had it may write until it finds that; whoever has the next one goes on behind.
        let later = || who_writes().filter(|(_, term)| *term > before);
        let (store, term) = until("one to write in a later term", later);
        before = term;
        version = store.snapshot().unwrap().version().0.max(version) + 1;
        store.apply(batch(version, &[("a", Some(removed.as_bytes()))])).unwrap();
    }
}

#[test]
fn a_server_that_is_alone_and_those_that_share_exclude_each_other() {
    let server = Postgres::start().unwrap();
    let sharing = open(server.port());
    let refused = PostgresStore::open(&support::hasty(), settings(server.port(), "store")).err();
    assert!(matches!(refused, Some(StoreError::Locked { .. })), "{refused:?}");
    drop(sharing);
    let alone = until("the store", || PostgresStore::open(&doors(), settings(server.port(), "store")).ok());
    alone.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    let refused = PostgresStore::open(&doors(), shared(server.port())).err();
    assert!(matches!(refused, Some(StoreError::Locked { .. })), "{refused:?}");
    // Also one that was there before.
    drop(alone);
    let sharing = until("the store", || PostgresStore::open(&doors(), shared(server.port())).ok());
    unseal(&sharing, "it");
    until("it to write", || writes(&sharing));
    assert_eq!(read(&sharing, "a"), Some(b"1".to_vec()));
}

/// Ends every session of the store's.
fn end_sessions(server: &Postgres) {
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tresor'").unwrap();
}

/// The store in a process that has another table for the lock.
fn by_another_lock(port: u16) -> Result<PostgresStore, StoreError> {
    let lock = Some(Table::parse("other_locks").unwrap());
    PostgresStore::open(&doors(), Settings { lock, ..settings(port, "store") })
}

#[test]
fn those_that_share_by_another_lock_do_not_start_and_who_was_overtaken_by_one_stands_by() {
    let server = Postgres::start().unwrap();
    let wire = Between::to(server.port()).unwrap();
    let first = open(wire.port());
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    let refused = by_another_lock(server.port()).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|why| why.contains("another `ha_table`")), "{refused:?}");
    // Where nobody could see it, the first to come is the one.
    wire.hold_after("");
    end_sessions(&server);
    let other = until("the store", || by_another_lock(server.port()).ok());
    unseal(&other, "other");
    until("the other to write", || writes(&other));
    other.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
    wire.mend();
    until("the first to know", || (first.condition() == Condition::Fenced).then_some(()));
    until("the first to stand by", || (part(&first) == Part::Standby && holder(&first).is_none()).then_some(()));
    assert!(matches!(first.apply(batch(2, &[("a", Some(b"x"))])), Err(StoreError::Elsewhere { .. })));
    other.apply(batch(3, &[("a", Some(b"3"))])).unwrap();
    assert!(writes(&other).is_some());
    drop(other);
    until("the first to write again", || writes(&first));
    assert_eq!((read(&first, "a"), first.condition()), (Some(b"3".to_vec()), Condition::Writable));
}

#[test]
fn who_has_the_lock_and_not_the_store_takes_both_anew() {
    let server = Postgres::start().unwrap();
    let first = open(server.port());
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    let Part::Active { term } = part(&first) else { panic!("it writes") };
    server.sql("UPDATE store_state SET owner = 1").unwrap();
    until("a later term", || matches!(part(&first), Part::Active { term: now } if now > term).then_some(()));
    first.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
}

#[test]
fn who_is_gone_without_a_word_is_followed_before_its_lock_ends_and_who_connects_anew_keeps_it() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    first.apply(batch(1, &[("a", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    unseal(&second, "second");
    let looks = || second.lock().unwrap().seen().read(|seen| seen.looks);
    let looked = looks();
    until("the second to look", || (looks() > looked + 1).then_some(()));
    let before = part(&first);
    end_sessions(&server);
    let looked = looks();
    until("the second to look again", || (looks() > looked + 4).then_some(()));
    until("the first to write still", || (part(&first) == before).then_some(()));
    assert_eq!(part(&second), Part::Standby);
    drop(first);
    server.sql("UPDATE locks SET until = clock_timestamp() + interval '1 hour' WHERE id = 0").unwrap();
    until("the second to write", || writes(&second));
    second.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
    assert_eq!(read(&second, "a"), Some(b"2".to_vec()));
}

#[test]
fn several_that_start_at_once_make_the_tables_once_and_one_of_them_founds_the_store() {
    let server = Postgres::start().unwrap();
    let founded = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let store = open(server.port());
                    let founded = store.apply(batch(1, &[("a", Some(b"1"))])).is_ok();
                    (store, founded)
                })
            })
            .collect();
        starting.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(founded.iter().filter(|(_, founded)| *founded).count(), 1);
    for (store, _) in &founded {
        assert_eq!(until("the store", || read(store, "a")), b"1");
    }
}

#[test]
fn who_stands_by_reads_one_state_to_its_end_while_another_writes() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    first.apply(batch(1, &[("a", Some(b"1")), ("b", Some(b"1"))])).unwrap();
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    first.apply(batch(2, &[("a", Some(b"2"))])).unwrap();
    // Nobody watches yet, so this is what is there now.
    let seen = second.snapshot().unwrap();
    let told = watched(&second);
    first.apply(batch(3, &[("a", None), ("b", Some(b"3")), ("c", Some(b"3"))])).unwrap();
    let at = |snapshot: &dyn Snapshot, name: &str| snapshot.read(&key(name)).unwrap().map(|stored| stored.bytes);
    assert_eq!((at(&*seen, "a"), at(&*seen, "b"), at(&*seen, "c")), (Some(b"2".to_vec()), Some(b"1".to_vec()), None));
    second.refresh().unwrap();
    assert_eq!(told.states.load(Ordering::SeqCst), 1);
    let now = second.snapshot().unwrap();
    assert_eq!((at(&*now, "a"), at(&*now, "b"), at(&*now, "c")), (None, Some(b"3".to_vec()), Some(b"3".to_vec())));
    second.refresh().unwrap();
    assert_eq!(told.states.load(Ordering::SeqCst), 1, "nothing was written");
    // Another state in its place is followed as well; of the one before nothing is taken for what it was.
    let state = exported(&first).unwrap();
    restore(&first, state).unwrap();
    first.apply(batch(first.snapshot().unwrap().version().next().0, &[("b", Some(b"9"))])).unwrap();
    second.refresh().unwrap();
    assert_eq!(read(&second, "b"), Some(b"9".to_vec()));
    first.lock().unwrap().announce(None);
    unseal(&second, "second");
    until("the second to write", || writes(&second));
    assert_eq!(read(&second, "b"), Some(b"9".to_vec()));
}

#[test]
fn only_who_writes_confirms_that_it_has_everything() {
    let server = Postgres::start().unwrap();
    let (first, second) = (open(server.port()), open(server.port()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let confirms = |store: &PostgresStore| runtime.block_on(store.confirm()).is_ok();
    assert!(!confirms(&first));
    unseal(&first, "first");
    until("the first to write", || writes(&first));
    assert!(confirms(&first) && !confirms(&second));
    // As if it had stood still for longer than the lock lives: it believes that it has it.
    server.sql("UPDATE locks SET until = '-infinity' WHERE id = 0").unwrap();
    unseal(&second, "second");
    until("one to write", || writes(&second).or_else(|| writes(&first)));
    server.sql("UPDATE locks SET until = '-infinity', term = term + 1 WHERE id = 0").unwrap();
    until("the lock to be somebody's", || confirms(&first).then_some(()).or_else(|| confirms(&second).then_some(())));
    assert!(!(confirms(&first) && confirms(&second)));
    first.lock().unwrap().announce(None);
    until("the second to write", || (confirms(&second) && !confirms(&first)).then_some(()));
    let clock = tresor_env_os::OsClock::new();
    let leaving = second.lock().unwrap();
    runtime.block_on(leaving.part_for_good(&clock as &dyn Clock));
    assert_eq!(server.sql("SELECT count(*) FROM locks WHERE contact = 'second'").unwrap(), "0");
    assert!(!confirms(&second));
}
