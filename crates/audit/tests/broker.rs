//! The promises of the broker: nothing is lost, nothing waits for a device, nothing is accepted that is not recorded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::*;
use tresor_audit::{Admission, AuditError, Broker, Durability, Exempt, Options};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::{SeededEntropy, TestDoors};
use tresor_model::{Fault, Refusal, Response, Shape, map};

#[tokio::test]
async fn with_no_device_everything_is_accepted_and_nothing_recorded() {
    let doors = TestDoors::new(1);
    let broker = open(&doors, Vec::new(), options(&MemoryKind::default())).await.unwrap();
    assert!(!broker.is_enabled());
    record(&broker, "a").await.unwrap();
    record_answer(&broker, "a", Response::default()).await.unwrap();
    assert_eq!(broker.standing().log.records, 0);
}

#[tokio::test]
async fn a_device_is_told_of_every_request_and_answer_in_order() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    for id in ["a", "b", "c"] {
        record(&broker, id).await.unwrap();
        record_answer(&broker, id, Response::default()).await.unwrap();
    }
    assert!(broker.flush(BOUND).await);
    let lines = kind.lines("one");
    assert_eq!(ids(&lines), ["a", "a", "b", "b", "c", "c"]);
    assert!(lines[0].contains(r#""type":"request""#) && lines[1].contains(r#""type":"response""#));
    assert_eq!(broker.standing().devices[0].lag_bytes, 0);
}

/// A read: one record says both, and a device shows both.
#[tokio::test]
async fn what_is_recorded_together_is_shown_as_two_lines() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record_both(&broker, "a").await.unwrap();
    record(&broker, "b").await.unwrap();
    record_both(&broker, "c").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let lines = kind.lines("one");
    assert_eq!(ids(&lines), ["a", "a", "b", "c", "c"]);
    let kinds: Vec<bool> = lines.iter().map(|line| line.contains(r#""type":"request""#)).collect();
    assert_eq!(kinds, [true, false, true, true, false]);
    assert_eq!(broker.standing().log.records, 3);
}

/// A device that keeps up with its records is not held to so many a second by the pause in which more may come.
#[tokio::test]
async fn a_full_delivery_waits_for_no_company() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let options = Options { gather: Duration::from_secs(1), ..options(&kind) };
    let broker = open(&doors, vec![device("one")], options).await.unwrap();
    for round in 0..2000 {
        record(&broker, &format!("r{round}")).await.unwrap();
    }
    // The pause after the first few.
    doors.clock.advance(Duration::from_secs(1));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    // Nobody moved the clock since: only what makes no full delivery waits.
    let (told, deliveries) = (kind.lines("one").len(), kind.device("one").lock().unwrap().deliveries);
    assert!((1700..2000).contains(&told), "{told} were told");
    assert!(deliveries <= 10, "{deliveries} deliveries");
    doors.clock.advance(Duration::from_secs(1));
    assert!(broker.flush(BOUND).await);
    assert_eq!(kind.lines("one").len(), 2000);
}

#[tokio::test]
async fn a_new_device_is_told_of_the_answer_that_enables_it_and_of_nothing_before() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("old")], options(&kind)).await.unwrap();
    record(&broker, "enable").await.unwrap();
    let prepared = broker.prepare(device("new")).await.unwrap();
    broker.enable(prepared).unwrap();
    record_answer(&broker, "enable", Response::default()).await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("old")), ["enable", "enable"]);
    assert_eq!(ids(&kind.lines("new")), ["enable"]);
    // Preparing says nothing of the path: the device that had it may be on its way out.
    let second = broker.prepare(device("new")).await.unwrap();
    assert!(matches!(broker.enable(second), Err(AuditError::PathInUse)));
}

#[tokio::test]
async fn a_disabled_device_is_told_of_what_was_recorded_before_and_of_nothing_after() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one"), device("two")], options(&kind)).await.unwrap();
    record(&broker, "a").await.unwrap();
    broker.disable("one/").unwrap();
    record(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")).first().map(String::as_str), Some("a"));
    assert_eq!(ids(&kind.lines("two")), ["a", "b"]);
    assert!(matches!(broker.disable("one/"), Err(AuditError::UnknownDevice)));
}

#[tokio::test]
async fn a_failing_device_delays_nothing_and_loses_nothing() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("bad"), device("good")], options(&kind)).await.unwrap();
    kind.device("bad").lock().unwrap().fails = true;
    for id in ["a", "b", "c"] {
        record(&broker, id).await.unwrap();
        tokio::task::yield_now().await;
    }
    while kind.lines("good").len() < 3 {
        tokio::task::yield_now().await;
    }
    let standing = broker.standing();
    assert_eq!(standing.devices[0].last_error.as_deref(), Some("injected sink failure"));
    assert_eq!(standing.devices[0].lag_records, 3);
    assert!(standing.log.accepting && standing.log.backlog_bytes > 0);
    kind.device("bad").lock().unwrap().fails = false;
    doors.clock.advance(Duration::from_secs(60));
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("bad")), ["a", "b", "c"]);
    assert_eq!(broker.standing().devices[0].last_error, None);
}

#[tokio::test]
async fn a_hanging_device_can_be_disabled_and_frees_the_backlog() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.backlog_bytes_max = 4_000;
    let broker = open(&doors, vec![device("stuck")], options).await.unwrap();
    kind.device("stuck").lock().unwrap().hangs = true;
    let mut taken = 0;
    while record(&broker, "filler").await.is_ok() {
        taken += 1;
        assert!(taken < 1_000);
    }
    assert!(matches!(record(&broker, "more").await, Err(AuditError::BacklogFull)));
    assert!(!broker.standing().log.accepting);
    // What manages devices, and the answers of what was let in, still fit.
    record_with(&broker, "disable", map! {}, Admission::Reserve).await.unwrap();
    record_answer(&broker, "filler", Response::default()).await.unwrap();
    broker.disable("stuck/").unwrap();
    tokio::task::yield_now().await;
    doors.clock.advance(Duration::from_secs(6));
    tokio::task::yield_now().await;
    let prepared = broker.prepare(device("fresh")).await.unwrap();
    broker.enable(prepared).unwrap();
    record(&broker, "after").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert!(broker.standing().log.accepting);
    assert_eq!(ids(&kind.lines("fresh")), ["after"]);
}

/// AUD-10: when the local log cannot be written nothing goes on, and health can say why; it heals by itself.
#[tokio::test]
async fn aud_10_a_log_that_cannot_be_written_refuses() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    doors.disk.fail_from_step(Some(0));
    let refused = record(&broker, "b").await.unwrap_err();
    assert!(matches!(refused, AuditError::LogUnavailable(_)));
    assert!(matches!(Fault::from(refused), Fault::Failure(_)));
    assert!(!broker.standing().log.accepting);
    assert_eq!(broker.standing().log.last_error.as_deref(), Some("audit log unavailable: injected disk failure"));
    assert!(record_answer(&broker, "a", Response::default()).await.is_err());
    doors.disk.fail_from_step(None);
    record(&broker, "c").await.unwrap();
    assert!(broker.standing().log.accepting);
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a", "c"]);
}

#[tokio::test]
async fn an_answer_that_was_not_recorded_cannot_leave() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    let request = request("a", map! {});
    let facts = tresor_audit::RequestFacts::from_request(&request, tresor_model::Operation::Read);
    let auth = tresor_audit::AuthFacts::default();
    let shown = tresor_audit::ResponseFacts::default();
    let entry = tresor_audit::ResponseEntry {
        time: now(),
        head: tresor_audit::Head::new(&auth, &facts),
        request: None,
        response: &shown,
        error: tresor_audit::Clear::default(),
    };
    let encoded = broker.encode_response(|| entry.write());
    doors.disk.fail_from_step(Some(0));
    let outcome: Result<Response, Fault> = Ok(Response { shape: Shape::Flat(map! {}), ..Response::default() });
    let unrecorded = broker.record_response(encoded, outcome).await.err().unwrap();
    assert_eq!(
        unrecorded.refuse_outcome().into_inner().unwrap_err().to_string(),
        "the request cannot be recorded in the audit log"
    );
    assert_eq!(tresor_audit::Audited::exempt(3, Exempt::UnauditedRoute).into_inner(), 3);
}

/// Sealing does not wait for ever for those inside: what is cut off then hears why.
#[tokio::test]
async fn what_comes_after_the_closing_hears_that_the_node_is_sealed() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    assert!(broker.close(BOUND).await);
    let refused: Fault = record(&broker, "late").await.unwrap_err().into();
    assert_eq!(refused.to_string(), Fault::from(Refusal::Sealed).to_string());
    let withheld: Fault = record_both(&broker, "read").await.err().unwrap().into();
    assert_eq!(withheld.to_string(), refused.to_string());
    assert!(kind.lines("one").is_empty());
}

#[tokio::test]
async fn records_wait_for_a_device_that_is_down_across_restarts() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    kind.device("one").lock().unwrap().fails = true;
    for id in ["a", "b"] {
        let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
        record(&broker, id).await.unwrap();
        assert_eq!(broker.standing().devices[0].lag_records, if id == "a" { 1 } else { 2 });
    }
    kind.device("one").lock().unwrap().fails = false;
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a", "b"]);
    assert_eq!(broker.standing().log.backlog_bytes, 0);
}

#[tokio::test]
async fn a_stored_device_that_cannot_be_opened_keeps_its_place() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let unknown = || {
        let mut config = device("one");
        config.kind = "syslog".to_owned();
        config
    };
    {
        let broker = open(&doors, vec![unknown()], options(&kind)).await.unwrap();
        record(&broker, "a").await.unwrap();
        assert!(broker.standing().devices[0].last_error.is_some());
    }
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a"]);
}

#[tokio::test]
async fn passed_segments_are_removed_once_the_device_is_durable() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.segment_bytes_max = 1_000;
    let broker = open(&doors, vec![device("one")], options).await.unwrap();
    for round in 0..40 {
        record(&broker, &format!("r{round}")).await.unwrap();
        assert!(broker.flush(BOUND).await);
    }
    assert_eq!(kind.lines("one").len(), 40);
    assert!(kind.device("one").lock().unwrap().syncs > 0);
    let segments = doors.disk.names(Path::new(DIRECTORY)).unwrap();
    assert!(segments.iter().filter(|name| name.ends_with(".log")).count() <= 2, "{segments:?}");
}

#[tokio::test]
async fn a_log_in_memory_delivers_and_is_bounded() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.memory_bytes_max = 4_000;
    options.log.segment_bytes_max = 1_000;
    let broker = Broker::open(doors.doors.clone(), None, key(), vec![device("one")], options).await.unwrap();
    for round in 0..30 {
        record(&broker, &format!("r{round}")).await.unwrap();
        assert!(broker.flush(BOUND).await);
    }
    assert_eq!(kind.lines("one").len(), 30);
    kind.device("one").lock().unwrap().hangs = true;
    let mut taken = 0;
    while record(&broker, "filler").await.is_ok() {
        taken += 1;
        assert!(taken < 100);
    }
    assert!(doors.disk.dump().is_empty());
}

#[tokio::test]
async fn one_sync_serves_all_records_that_wait_for_it() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.durability = Durability::EachRecord;
    let broker = std::sync::Arc::new(open(&doors, vec![device("one")], options).await.unwrap());
    record(&broker, "first").await.unwrap();
    let before = broker.standing().log.syncs;
    let names: Vec<String> = (0..32).map(|index| format!("r{index}")).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for name in names {
        let broker = std::sync::Arc::clone(&broker);
        waiting.spawn(async move { record(&broker, &name).await.unwrap() });
    }
    waiting.join_all().await;
    let syncs = broker.standing().log.syncs - before;
    assert!((1..=4).contains(&syncs), "{syncs} syncs for 32 records");
    // A failed sync is told to those that wait for it.
    doors.disk.fail_from_step(Some(doors.disk.steps() + 2));
    assert!(matches!(record(&broker, "lost").await, Err(AuditError::LogUnavailable(_))));
}

/// A record costs one write; making segments ready and syncing them is the business of tasks, which get no turn here.
#[tokio::test]
async fn a_record_waits_for_one_write_and_for_nothing_else_also_where_a_segment_ends() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.segment_bytes_max = 1_000;
    let broker = open(&doors, vec![device("one")], options).await.unwrap();
    record(&broker, "first").await.unwrap();
    tokio::task::yield_now().await;
    let syncs = broker.standing().log.syncs;
    for round in 0..50 {
        let before = doors.disk.steps();
        record(&broker, &format!("r{round}")).await.unwrap();
        assert_eq!(doors.disk.steps() - before, 1, "record {round}");
        if round % 10 == 9 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(broker.standing().log.syncs, syncs);
    assert!(segment_paths(&doors).len() > 3, "{:?}", segment_paths(&doors));
}

/// The turn to the last segments was never durable: what a loss of power took of the one before ends the log there.
#[tokio::test]
async fn a_loss_of_power_between_segments_ends_the_log_where_it_was_torn() {
    let mut cut = 0;
    for seed in 0..40 {
        let (doors, kind) = (TestDoors::new(seed), MemoryKind::default());
        kind.device("one").lock().unwrap().fails = true;
        let random = SeededEntropy::new(seed);
        let mut synced = Vec::new();
        {
            let broker = open(&doors, vec![device("one")], small(&kind, Durability::Process(BOUND))).await.unwrap();
            for round in 0..40 {
                record(&broker, &format!("r{round}")).await.unwrap();
                tokio::task::yield_now().await;
                if round == 10 {
                    broker.flush(Duration::ZERO).await;
                    synced = (0..=round).map(|round| format!("r{round}")).collect();
                }
            }
            assert!(segment_paths(&doors).len() > 4);
        }
        doors.disk.crash(|length| if random.next().is_multiple_of(8) { 0 } else { length });
        kind.device("one").lock().unwrap().fails = false;
        let broker = open(&doors, vec![device("one")], small(&kind, Durability::EachRecord)).await.unwrap();
        record(&broker, "after").await.unwrap();
        assert!(broker.flush(BOUND).await);
        let told = ids(&kind.lines("one"));
        assert_eq!(told.get(..synced.len()), Some(&synced[..]), "what was synced is there");
        let whole: Vec<String> = (0..told.len() - 1).map(|round| format!("r{round}")).collect();
        assert_eq!(told.get(..told.len() - 1), Some(&whole[..]), "in order and without a gap");
        cut += usize::from(told.len() < 41);
    }
    assert!(cut > 10, "{cut} of the logs lost their end");
}

#[tokio::test]
async fn nothing_of_a_record_is_readable_in_the_log_files() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record(&broker, "canary-id").await.unwrap();
    assert!(broker.flush(BOUND).await);
    for (path, bytes) in doors.disk.dump() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("canary") && !text.contains("secret/data"), "{}", path.display());
        assert!(!path.to_string_lossy().contains("one"));
    }
}

/// Many writers at once, real threads, devices that read from memory and from disk: everything, in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_are_told_in_one_order() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let mut options = options(&kind);
    options.log.segment_bytes_max = 20_000;
    options.log.recent_bytes_max = 2_000;
    let broker = std::sync::Arc::new(open(&doors, vec![device("one"), device("two")], options).await.unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let broker = std::sync::Arc::clone(&broker);
        writers.spawn(async move {
            for round in 0..100 {
                record(&broker, &format!("{writer}-{round}")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert!(broker.flush(BOUND).await);
    let told = ids(&kind.lines("one"));
    assert_eq!(told, ids(&kind.lines("two")));
    assert_eq!(told.len(), 800);
    for writer in 0..8 {
        let own: Vec<_> = told.iter().filter(|id| id.starts_with(&format!("{writer}-"))).collect();
        assert!(own.iter().enumerate().all(|(round, id)| **id == format!("{writer}-{round}")));
    }
}

#[tokio::test]
async fn a_device_that_is_being_disabled_is_not_enabled_twice() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    kind.device("one").lock().unwrap().hangs = true;
    record(&broker, "a").await.unwrap();
    tokio::task::yield_now().await;
    broker.disable("one/").unwrap();
    let again = broker.prepare(device("one")).await.unwrap();
    assert!(matches!(broker.enable(again), Err(AuditError::PathInUse)));
    assert!(!broker.is_enabled());
}

fn segment_paths(doors: &TestDoors) -> Vec<PathBuf> {
    let names = doors.disk.names(Path::new(DIRECTORY)).unwrap();
    names.iter().filter(|name| name.ends_with(".log")).map(|name| Path::new(DIRECTORY).join(name)).collect()
}

fn flip(doors: &TestDoors, path: &Path, offset: u64) {
    let file = doors.disk.open(path, Open::Existing).unwrap();
    let mut byte = [0];
    file.read_exact_at(offset, &mut byte).unwrap();
    file.write_all_at(offset, &[byte[0] ^ 1]).unwrap();
}

/// Where each of five records of a flushed log is flipped: refused by name, never a panic, never silently skipped.
#[tokio::test]
async fn a_damaged_durable_record_is_refused_by_name_and_offset() {
    let mut refused = 0;
    for offset in (120..1_500).step_by(7) {
        let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
        kind.device("one").lock().unwrap().fails = true;
        {
            let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
            for id in ["a", "b", "c", "d", "e"] {
                record(&broker, id).await.unwrap();
                broker.flush(Duration::ZERO).await;
            }
        }
        let path = segment_paths(&doors).pop().unwrap();
        let length = doors.disk.dump()[&path].len() as u64;
        let frame = (length - 120) / 5;
        if offset >= length {
            break;
        }
        flip(&doors, &path, offset);
        match open(&doors, vec![device("one")], options(&kind)).await {
            Err(AuditError::Damaged { segment, offset: at }) => {
                refused += 1;
                assert_eq!(segment, "00000001.log");
                assert!(at <= offset && offset < at + frame, "{at} {offset} {frame}");
            }
            Err(other) => panic!("{other}"),
            // Only the last record, and the tag that it is bound to, have no later one that vouches for them.
            Ok(broker) => {
                assert!(offset >= length - frame - 16, "{offset} of {length}");
                assert!(broker.standing().log.cut_bytes > 0);
            }
        }
    }
    assert!(refused > 50);
}

#[tokio::test]
async fn damage_in_a_completed_segment_stops_the_device_and_is_named() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    kind.device("one").lock().unwrap().fails = true;
    let mut options = options(&kind);
    options.log.segment_bytes_max = 1_000;
    {
        let broker = open(&doors, vec![device("one")], options.clone()).await.unwrap();
        for round in 0..20 {
            record(&broker, &format!("r{round}")).await.unwrap();
            // Durable, and the next segment made ready.
            broker.flush(Duration::ZERO).await;
            tokio::task::yield_now().await;
        }
    }
    let paths = segment_paths(&doors);
    assert!(paths.len() > 3);
    flip(&doors, &paths[1], 300);
    kind.device("one").lock().unwrap().fails = false;
    let broker = open(&doors, vec![device("one")], options).await.unwrap();
    while broker.standing().devices[0].last_error.is_none() {
        tokio::task::yield_now().await;
    }
    let error = broker.standing().devices[0].last_error.clone().unwrap();
    assert!(error.contains("`00000002.log` is damaged at offset"), "{error}");
    // A missing one is found when the log is opened.
    drop(broker);
    doors.disk.remove(&paths[2]).unwrap();
    let reopened = open(&doors, vec![device("one")], support::options(&kind)).await;
    assert!(matches!(reopened, Err(AuditError::Damaged { .. })));
}

/// Crashes of the process at every step of a run: what was acknowledged is delivered after the restart, in order.
#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_crash_of_the_process() {
    for step in 1.. {
        if !crash_at(step, Durability::Process(Duration::from_secs(1)), |length, _| length).await {
            assert!(step > 40, "{step}");
            return;
        }
    }
}

/// The same with power loss, any part of any unsynced write surviving, when each record is synced.
#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_loss_of_power_when_each_record_is_synced() {
    for seed in 0..4 {
        let random = SeededEntropy::new(seed);
        for step in 1.. {
            let torn = |length: usize, _: usize| match random.next() % 3 {
                0 => 0,
                1 => length,
                _ => usize::try_from(random.next()).unwrap_or(0) % length.max(1),
            };
            if !crash_at(step, Durability::EachRecord, torn).await {
                assert!(step > 40, "{step}");
                break;
            }
        }
    }
}

/// After a loss of power in the default mode the log opens again, whatever became of the unsynced writes.
#[tokio::test]
async fn a_loss_of_power_never_keeps_the_log_from_opening() {
    for seed in 0..4 {
        let random = SeededEntropy::new(seed);
        for step in 1..60 {
            let (doors, kind) = (TestDoors::new(step), MemoryKind::default());
            run_until(&doors, &kind, step, Durability::Process(Duration::from_secs(1))).await;
            doors.disk.crash(|length| usize::try_from(random.next()).unwrap_or(0) % (length + 1));
            let broker = open(&doors, vec![device("one")], small(&kind, Durability::EachRecord)).await.unwrap();
            record(&broker, "after").await.unwrap();
            assert!(broker.flush(BOUND).await);
            assert_eq!(ids(&kind.lines("one")).last().map(String::as_str), Some("after"));
        }
    }
}

/// What a failed sync could not make durable the kernel goes on showing to the next process; when the power goes after
/// that, the log opens again, and has what was acknowledged by either.
#[tokio::test]
async fn a_sync_that_failed_once_is_not_believed_by_the_next_process() {
    for step in 1.. {
        let (doors, kind) = (TestDoors::new(step), MemoryKind::default());
        doors.disk.fail_at_step(step, std::io::ErrorKind::Other);
        run_until(&doors, &kind, u64::MAX, Durability::EachRecord).await;
        let is_over = doors.disk.steps() < step;
        doors.disk.fail_from_step(None);
        doors.disk.fail_at_step(u64::MAX, std::io::ErrorKind::Other);
        doors.disk.kill_process();
        kind.device("one").lock().unwrap().fails = true;
        {
            let broker = open(&doors, vec![device("one")], small(&kind, Durability::EachRecord)).await.unwrap();
            record(&broker, "after").await.unwrap();
        }
        doors.disk.crash(|_| 0);
        kind.device("one").lock().unwrap().fails = false;
        let broker = open(&doors, vec![device("one")], small(&kind, Durability::EachRecord)).await.unwrap();
        assert!(broker.flush(BOUND).await);
        assert!(ids(&kind.lines("one")).contains(&"after".to_owned()), "step {step}");
        if is_over {
            assert!(step > 40, "{step}");
            return;
        }
    }
}

fn small(kind: &MemoryKind, durability: Durability) -> tresor_audit::Options {
    let mut options = options(kind);
    options.log.segment_bytes_max = 1_500;
    options.log.durability = durability;
    options
}

/// Records until the disk fails at `step`; what was acknowledged, and whether it failed.
async fn run_until(doors: &TestDoors, kind: &MemoryKind, step: u64, durability: Durability) -> (Vec<String>, bool) {
    doors.disk.fail_from_step(Some(step));
    let mut acknowledged = Vec::new();
    let mut failed = false;
    if let Ok(broker) = open(doors, vec![device("one")], small(kind, durability)).await {
        for round in 0..24 {
            let id = format!("r{round}");
            kind.device("one").lock().unwrap().fails = round % 7 == 3;
            match record(&broker, &id).await {
                Ok(()) => acknowledged.push(id),
                Err(_) => {
                    failed = true;
                    break;
                }
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            doors.clock.advance(Duration::from_millis(300));
        }
    } else {
        failed = true;
    }
    kind.device("one").lock().unwrap().fails = false;
    (acknowledged, failed || doors.disk.steps() >= step)
}

async fn crash_at(step: u64, durability: Durability, mut keep: impl FnMut(usize, usize) -> usize) -> bool {
    let (doors, kind) = (TestDoors::new(step), MemoryKind::default());
    let (acknowledged, failed) = run_until(&doors, &kind, step, durability).await;
    let mut change = 0;
    doors.disk.crash(|length| {
        change += 1;
        keep(length, change)
    });
    let broker = open(&doors, vec![device("one")], small(&kind, durability)).await.unwrap();
    record(&broker, "after").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let delivered = ids(&kind.lines("one"));
    let mut firsts: Vec<&String> = Vec::new();
    for id in &delivered {
        if !firsts.contains(&id) {
            firsts.push(id);
        }
    }
    let mut expected: Vec<&String> = acknowledged.iter().collect();
    let after = "after".to_owned();
    expected.push(&after);
    let kept: Vec<&String> = firsts.iter().copied().filter(|id| expected.contains(id)).collect();
    assert_eq!(kept, expected, "crash at step {step}; delivered {delivered:?}");
    failed
}
