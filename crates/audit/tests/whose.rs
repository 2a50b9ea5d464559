//! A local log that other keys have sealed is set aside, whole, whatever a crash leaves of that; it is never opened, and never
//! lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use support::*;
use tresor_audit::{AuditError, Broker};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::TestDoors;
use tresor_secret::DataKey;

fn other() -> DataKey {
    DataKey::new([9; 32])
}

async fn opened(doors: &TestDoors, kind: &MemoryKind, key: DataKey) -> Result<Broker, AuditError> {
    Broker::open(doors.doors.clone(), Some(DIRECTORY.into()), key, vec![device("one")], options(kind)).await
}

/// The names in a directory that is beside the log's, if it is there.
fn aside(doors: &TestDoors, number: u32) -> Vec<String> {
    doors.disk.names(&PathBuf::from(format!("{DIRECTORY}-of-before-{number}"))).unwrap_or_default()
}

async fn lived(doors: &TestDoors, kind: &MemoryKind) -> Vec<String> {
    let broker = opened(doors, kind, key()).await.unwrap();
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    broker.close(BOUND).await;
    doors.disk.names(Path::new(DIRECTORY)).unwrap()
}

#[tokio::test]
async fn the_log_of_other_keys_is_set_aside_whole_and_another_begins() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let before = lived(&doors, &kind).await;
    let broker = opened(&doors, &kind, other()).await.unwrap();
    assert_eq!(aside(&doors, 1), before);
    let set_aside = broker.standing().log.set_aside.unwrap();
    assert!(set_aside.ends_with(format!("{}-of-before-1", DIRECTORY.trim_start_matches('/'))), "{set_aside:?}");
    record(&broker, "b").await.unwrap();
    assert!(broker.flush(BOUND).await);
    broker.close(BOUND).await;
    assert_eq!(ids(&kind.lines("one")), ["a", "b"]);
    // Its own keys open it without a word, those of before set it aside in their turn.
    let broker = opened(&doors, &kind, other()).await.unwrap();
    assert_eq!(broker.standing().log.set_aside, None);
    broker.close(BOUND).await;
    drop(opened(&doors, &kind, key()).await.unwrap());
    assert_eq!(aside(&doors, 1), before);
    assert!(!aside(&doors, 2).is_empty());
}

#[tokio::test]
async fn wherever_the_power_goes_all_of_it_is_set_aside_at_last() {
    for step in 0..400 {
        let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
        let before = lived(&doors, &kind).await;
        doors.disk.fail_from_step(Some(doors.disk.steps() + step));
        let is_done = opened(&doors, &kind, other()).await.is_ok();
        doors.disk.kill_process();
        doors.disk.crash_by_sector(|| step % 2 == 0);
        doors.disk.heal();
        drop(opened(&doors, &kind, other()).await.unwrap_or_else(|error| panic!("step {step}: {error}")));
        assert_eq!(aside(&doors, 1), before, "step {step}");
        assert!(aside(&doors, 2).is_empty(), "step {step}");
        if is_done {
            assert!(step > 3, "it did nothing");
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn a_mark_that_is_none_is_refused_by_name() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    lived(&doors, &kind).await;
    let file = doors.disk.open(&Path::new(DIRECTORY).join("keys"), Open::OrCreate).unwrap();
    file.set_length(7).unwrap();
    let refused = opened(&doors, &kind, key()).await;
    assert!(matches!(&refused, Err(AuditError::Damaged { segment, .. }) if segment == "keys"), "{:?}", refused.err());
}
