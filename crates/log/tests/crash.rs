//! Power cut at every step of the disk, writes torn and reordered by sectors, single failures of every call: what was
//! acknowledged is there, in order, and what comes after it was at least asked for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;

use common::{Seen, body, open};
use tresor_env::doubles::{MemoryDisk, SeededEntropy};
use tresor_log::{Log, LogError};

/// What the owner knows: entries that must be there, and those that may be.
#[derive(Clone, Default, Debug)]
struct Known {
    /// Acknowledged, and neither truncated nor purged since.
    entries: Seen,
    /// Asked for and not answered.
    maybe: Seen,
    /// A truncation that was not answered leaves these optional.
    cut_maybe: Option<u64>,
    purged: u64,
}

const ROUNDS: u64 = 30;

/// A life of appends, truncations, purges, upkeep and segments that become smaller; ends at the first failure.
fn live(disk: &Arc<MemoryDisk>, known: &mut Known) -> Result<(), LogError> {
    let (mut log, _) = open(disk)?;
    for round in 0..ROUNDS {
        let next = log.last() + 1;
        let group: Seen = (next..next + 1 + round % 4)
            .map(|index| (index, body(index + round, 40 + 97 * (round as usize % 5))))
            .collect();
        known.maybe.clone_from(&group);
        log.append(&group.iter().map(|(_, body)| body.as_slice()).collect::<Vec<_>>())?;
        known.maybe.clear();
        known.entries.extend(group);
        if round % 7 == 5 {
            let from = log.last() - 2;
            known.cut_maybe = Some(from);
            log.truncate(from)?;
            known.cut_maybe = None;
            known.entries.retain(|(index, _)| *index < from);
        }
        if round % 9 == 8 {
            let index = log.last() - 5;
            known.purged = index;
            log.purge(index)?;
        }
        if round % 11 == 6 {
            log.set_segment_bytes_max(if round % 2 == 0 { 1024 } else { 4096 });
            log.roll()?;
        }
        tidy(&mut log)?;
    }
    Ok(())
}

fn tidy(log: &mut Log) -> Result<(), LogError> {
    if let Some(plan) = log.plan() {
        let done = plan.run();
        log.adopt(done)?;
    }
    Ok(())
}

fn check(disk: &Arc<MemoryDisk>, known: &Known, what: &str) {
    let (mut log, seen) = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let indices: Vec<u64> = seen.iter().map(|(index, _)| *index).collect();
    assert!(indices.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: {indices:?}");
    let must = known
        .entries
        .iter()
        .filter(|(index, _)| *index > known.purged && known.cut_maybe.is_none_or(|from| *index < from));
    for (index, body) in must {
        let found = seen.iter().find(|(at, _)| at == index);
        assert_eq!(found.map(|(_, body)| body), Some(body), "{what}: entry {index} was acknowledged");
    }
    for (index, body) in &seen {
        let asked = known.entries.iter().chain(&known.maybe).any(|(at, asked)| at == index && asked == body);
        assert!(asked, "{what}: entry {index} was never asked for");
    }
    // It goes on from there, and what is appended now is what comes back.
    let next = log.last() + 1;
    log.append(&[b"after", b"the crash"]).unwrap();
    drop(log);
    let (_, again) = open(disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    let fresh: Vec<&[u8]> = again.iter().filter(|(at, _)| *at >= next).map(|(_, body)| body.as_slice()).collect();
    assert_eq!(fresh, [&b"after"[..], b"the crash"], "{what}");
}

#[test]
fn power_lost_at_any_step_loses_nothing_acknowledged() {
    let mut step = 1;
    loop {
        let mut is_over = false;
        for seed in 0..6 {
            let disk = Arc::new(MemoryDisk::new());
            let mut known = Known::default();
            disk.fail_from_step(Some(step));
            is_over = live(&disk, &mut known).is_ok();
            let entropy = SeededEntropy::new(seed * 10_007 + step);
            match seed {
                0 => disk.crash(|_| 0),
                1 => disk.crash(|length| length),
                2 | 3 => disk.crash(|length| match entropy.next() % 3 {
                    0 => 0,
                    1 => length,
                    _ => usize::try_from(entropy.next()).unwrap() % (length + 1),
                }),
                _ => disk.crash_by_sector(|| entropy.next().is_multiple_of(2)),
            }
            check(&disk, &known, &format!("step {step}, seed {seed}"));
        }
        if is_over {
            break;
        }
        step += 1;
    }
    assert!(step > 150, "the life of a log has only {step} steps");
}

/// What the process before wrote and could not make durable (a name, an entry whose sync failed) is still shown by the
/// kernel to the next one, and goes when the power does. Whatever the next one has shown stays.
#[test]
fn what_a_killed_process_left_is_made_durable_before_it_is_used() {
    // The disk fails from a step on, or once, and then forgets what it should have kept.
    for is_once in [false, true] {
        let (mut step, mut is_over) = (1, false);
        while !is_over {
            for appends in [0, 1, 8] {
                let disk = Arc::new(MemoryDisk::new());
                if is_once {
                    disk.fail_at_step(step, ErrorKind::Other);
                } else {
                    disk.fail_from_step(Some(step));
                }
                is_over = live(&disk, &mut Known::default()).is_ok() && disk.steps() < step;
                disk.fail_from_step(None);
                disk.fail_at_step(u64::MAX, ErrorKind::Other);
                disk.kill_process();
                let (mut log, seen) = open(&disk).unwrap();
                let mut known = Known { entries: seen, purged: log.purged(), ..Known::default() };
                for round in 0..appends {
                    let entry = (log.last() + 1, body(round, 400));
                    log.append(&[&entry.1]).unwrap();
                    known.entries.push(entry);
                }
                drop(log);
                disk.crash(|_| 0);
                check(&disk, &known, &format!("step {step}, once {is_once}, {appends} appends"));
            }
            step += 1;
        }
        assert!(step > 150);
    }
}

#[test]
fn a_disk_that_fails_once_at_any_step_stops_the_log_and_opening_decides() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let mut step = 1;
        loop {
            let disk = Arc::new(MemoryDisk::new());
            let mut known = Known::default();
            disk.fail_at_step(step, kind);
            let outcome = live(&disk, &mut known);
            let is_over = disk.steps() < step;
            if let Err(LogError::Damaged { .. }) = outcome {
                panic!("step {step}: {outcome:?}");
            }
            if is_over {
                break;
            }
            disk.kill_process();
            check(&disk, &known, &format!("{kind:?} at step {step}"));
            step += 1;
        }
        assert!(step > 150);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_it_is_opened_again() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[b"kept"]).unwrap();
    disk.fail_at_step(disk.steps() + 2, ErrorKind::Other);
    assert!(matches!(log.append(&[b"lost"]), Err(LogError::Uncertain { .. })));
    let steps = disk.steps();
    assert!(matches!(log.append(&[b"never"]), Err(LogError::Stopped)));
    assert!(matches!(log.truncate(1), Err(LogError::Stopped)));
    assert!(matches!(log.purge(1), Err(LogError::Stopped)));
    assert!(log.plan().is_none());
    assert_eq!(disk.steps(), steps);
    disk.crash(|length| length);
    assert_eq!(open(&disk).unwrap().1, [(1, b"kept".to_vec())]);
}
