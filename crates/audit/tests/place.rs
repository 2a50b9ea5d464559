//! The place of the local log: files that are removed or renamed under it, and a directory that takes no more of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::*;
use tresor_audit::{AuditError, Broker};
use tresor_env::disk::Disk;
use tresor_env::doubles::TestDoors;

/// A removed file takes what is written to it, and nobody ever finds it.
#[tokio::test]
async fn a_log_whose_files_were_removed_refuses_at_once_and_goes_on_by_itself() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    {
        let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
        record(&broker, "a").await.unwrap();
        assert!(broker.flush(BOUND).await);
        let files: Vec<_> = doors.disk.dump().into_keys().filter(|path| path.starts_with(DIRECTORY)).collect();
        assert!(files.len() > 1, "{files:?}");
        files.iter().for_each(|path| doors.disk.remove(path).unwrap());
        assert!(matches!(record(&broker, "b").await.unwrap_err(), AuditError::LogUnavailable(_)));
        let standing = broker.standing().log;
        assert!(!standing.accepting && standing.last_error.unwrap().contains("was removed"));
        record(&broker, "c").await.unwrap();
        assert!(broker.standing().log.accepting);
        assert!(broker.flush(BOUND).await);
        assert_eq!(ids(&kind.lines("one")), ["a", "c"]);
    }
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record(&broker, "d").await.unwrap();
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")).last().map(String::as_str), Some("d"));
}

/// What goes to a file of another name is delivered; nobody would find it after a restart.
#[tokio::test]
async fn a_log_whose_file_was_renamed_goes_on_in_another_within_a_second() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record(&broker, "a").await.unwrap();
    let segments = || {
        let paths = doors.disk.dump().into_keys().filter(|path| path.starts_with(DIRECTORY));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect::<Vec<_>>()
    };
    let before = segments();
    let length = |path: &&PathBuf| doors.disk.dump().get(*path).map_or(0, Vec::len);
    let used = before.iter().max_by_key(length).unwrap();
    doors.disk.rename(used, Path::new("elsewhere.log")).unwrap();
    record(&broker, "b").await.unwrap();
    let mut was_told = false;
    for _ in 0..20 {
        doors.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
        was_told |= broker.standing().log.last_error.is_some_and(|error| error.contains("was removed"));
    }
    assert!(was_told);
    record(&broker, "c").await.unwrap();
    assert!(broker.standing().log.accepting);
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a", "b", "c"]);
    assert!(segments().iter().any(|path| !before.contains(path)), "{:?} {before:?}", segments());
}

/// What is open can still be written to; it is told all the same before it is full.
#[tokio::test]
async fn a_directory_that_takes_no_files_any_more_is_told_within_a_second() {
    let (doors, kind) = (TestDoors::new(1), MemoryKind::default());
    let broker = open(&doors, vec![device("one")], options(&kind)).await.unwrap();
    record(&broker, "a").await.unwrap();
    assert!(broker.flush(BOUND).await);
    let standing = |broker: &Broker| broker.standing().log;
    doors.disk.make_read_only(DIRECTORY);
    record(&broker, "b").await.unwrap();
    for _ in 0..20 {
        doors.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    assert!(!standing(&broker).accepting, "{:?}", standing(&broker));
    assert!(matches!(record(&broker, "c").await.unwrap_err(), AuditError::LogUnavailable(_)));
    doors.disk.heal();
    record(&broker, "d").await.unwrap();
    assert!(standing(&broker).accepting);
    assert!(broker.flush(BOUND).await);
    assert_eq!(ids(&kind.lines("one")), ["a", "b", "d"]);
}
