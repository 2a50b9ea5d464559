//! What the log promises while nothing fails, and that one append is one sync.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{DIRECTORY, SMALL, bodies, body, open};
use std::sync::Arc;
use tresor_env::Disk;
use tresor_env::doubles::MemoryDisk;
use tresor_log::LogError;

fn fresh() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new())
}

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let disk = fresh();
    let (mut log, seen) = open(&disk).unwrap();
    assert!(seen.is_empty());
    for index in 1..=60 {
        log.append(&[&body(index, 100)]).unwrap();
    }
    assert_eq!((log.first(), log.last()), (1, 60));
    drop(log);
    let (log, seen) = open(&disk).unwrap();
    assert_eq!(seen, bodies(1..=60, 100));
    assert_eq!(log.read(57, 100, usize::MAX).unwrap().len(), 4);
    assert_eq!(log.read(1, 100, 250).unwrap().len(), 2, "a bound on bytes is kept");
    assert_eq!(log.read(30, 31, 0).unwrap()[0].body, body(30, 100), "one entry comes whatever the bound");
    assert!(matches!(log.read(61, 70, 1), Err(LogError::OutOfRange { .. })));
}

#[test]
fn one_group_costs_one_sync_however_many_entries_it_has() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[b"first"]).unwrap();
    let (syncs, steps) = (log.syncs(), disk.steps());
    let group: Vec<Vec<u8>> = (2..=8).map(|index| body(index, 33)).collect();
    log.append(&group.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    assert_eq!(log.syncs() - syncs, 1);
    assert_eq!(disk.steps() - steps, 3, "a write, a sync, and the mark that is not synced");
    drop(log);
    let (_, seen) = open(&disk).unwrap();
    assert_eq!(seen[1..], bodies(2..=8, 33));
}

#[test]
fn entries_of_every_size_come_back() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    let sizes = [0, 1, 7, 8, 9, 4096, 10_000, 300_000, 3, 3_000_000, 5];
    for (index, size) in (1..).zip(sizes) {
        log.append(&[&body(index, size)]).unwrap();
    }
    drop(log);
    let (_, seen) = open(&disk).unwrap();
    assert_eq!(seen.iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), sizes);
    for (index, (_, found)) in (1..).zip(&seen) {
        assert_eq!(*found, body(index, found.len()));
    }
}

#[test]
fn a_suffix_that_is_truncated_never_comes_back() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    for index in 1..=50 {
        log.append(&[&body(index, 90)]).unwrap();
    }
    log.truncate(20).unwrap();
    assert_eq!(log.last(), 19);
    assert!(log.read(20, 21, 1).is_err());
    drop(log);
    let (mut log, seen) = open(&disk).unwrap();
    assert_eq!(seen, bodies(1..=19, 90));
    log.append(&[b"other"]).unwrap();
    log.truncate(20).unwrap();
    log.append(&[b"again", b"and more"]).unwrap();
    drop(log);
    let (mut log, seen) = open(&disk).unwrap();
    assert_eq!(seen[19..], [(20, b"again".to_vec()), (21, b"and more".to_vec())]);
    log.truncate(1).unwrap();
    log.append(&[b"new"]).unwrap();
    drop(log);
    assert_eq!(open(&disk).unwrap().1, [(1, b"new".to_vec())]);
}

#[test]
fn a_prefix_that_is_purged_is_gone_and_its_files_are_used_again() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    let files = |disk: &MemoryDisk| disk.names(std::path::Path::new(DIRECTORY)).unwrap().len();
    let mut most = 0;
    for index in 1..=2000 {
        log.append(&[&body(index, 90)]).unwrap();
        if index > 30 && log.is_worth_purging(index - 30) {
            log.purge(index - 30).unwrap();
        }
        if let Some(plan) = log.plan() {
            let done = plan.run();
            log.adopt(done).unwrap();
        }
        most = most.max(files(&disk));
    }
    assert!(most <= 8, "{most} files");
    assert!(log.first() > 1900);
    let first = log.first();
    assert!(matches!(log.read(first - 1, first, 1), Err(LogError::OutOfRange { .. })));
    drop(log);
    let (log, seen) = open(&disk).unwrap();
    assert_eq!((log.first(), log.last()), (first, 2000));
    assert_eq!(seen, bodies(first..=2000, 90));
}

#[test]
fn a_log_that_is_to_be_smaller_is_as_soon_as_what_its_large_segments_hold_was_purged() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    let tidy = |log: &mut tresor_log::Log| {
        while let Some(plan) = log.plan() {
            let done = plan.run();
            log.adopt(done).unwrap();
        }
    };
    for index in 1..=400 {
        log.append(&[&body(index, 90)]).unwrap();
        tidy(&mut log);
    }
    log.purge(380).unwrap();
    assert!(!log.is_oversized() && log.bytes() > 2 * SMALL.max, "{}", log.bytes());
    log.set_segment_bytes_max(SMALL.first);
    assert!(log.is_oversized() && log.ends_oversized() && log.has_plan());
    tidy(&mut log);
    log.append(&[&body(401, 90)]).unwrap();
    assert!(log.is_oversized() && !log.ends_oversized());
    // Purged already, but of a segment that could not go: with another one behind it, it can.
    log.purge(401).unwrap();
    assert!(!log.is_worth_purging(401));
    log.roll().unwrap();
    assert!(log.is_worth_purging(401));
    log.purge(401).unwrap();
    assert!(!log.is_worth_purging(401));
    tidy(&mut log);
    assert!(!log.is_oversized() && log.bytes() <= 3 * SMALL.first, "{}", log.bytes());
    let on_disk: usize = disk.dump().values().map(Vec::len).sum();
    assert!(on_disk <= 3 * usize::try_from(SMALL.first).unwrap() + 8192, "{on_disk}");
    log.append(&[&body(402, 90), &body(403, 90)]).unwrap();
    // An entry that takes a segment of its own does not keep it in use.
    log.append(&[&body(404, 9000)]).unwrap();
    assert!(log.ends_oversized());
    tidy(&mut log);
    log.append(&[&body(405, 90)]).unwrap();
    assert!(!log.ends_oversized());
    drop(log);
    let (log, seen) = open(&disk).unwrap();
    assert_eq!((log.first(), log.last()), (402, 405));
    assert_eq!(seen.iter().map(|(_, body)| body.len()).collect::<Vec<_>>(), [90, 90, 9000, 90]);
}

#[test]
fn purging_beyond_the_end_moves_it() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[b"a", b"b"]).unwrap();
    log.purge(10).unwrap();
    assert_eq!((log.first(), log.last()), (11, 10));
    drop(log);
    let (mut log, seen) = open(&disk).unwrap();
    assert_eq!((seen.len(), log.first(), log.last()), (0, 11, 10));
    log.append(&[b"eleven"]).unwrap();
    drop(log);
    assert_eq!(open(&disk).unwrap().1, [(11, b"eleven".to_vec())]);
}

#[test]
fn the_owners_record_is_kept() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    assert_eq!(log.record(), b"");
    log.set_record(b"a vote").unwrap();
    log.append(&[b"a"]).unwrap();
    log.purge(1).unwrap();
    assert!(log.set_record(&[0; 2000]).is_err());
    drop(log);
    let (log, _) = open(&disk).unwrap();
    assert_eq!((log.record(), log.purged()), (&b"a vote"[..], 1));
}

#[test]
fn an_idle_log_is_small() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[b"a"]).unwrap();
    let bytes: usize = disk.dump().values().map(Vec::len).sum();
    assert!(bytes <= usize::try_from(SMALL.first).unwrap() + 8192, "{bytes}");
}
