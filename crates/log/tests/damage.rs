//! Bits flipped and files cut short at every place: every entry is there as it was, or the file is refused by name and
//! offset. Never another answer, never a panic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Seen, bodies, body, open};
use tresor_env::disk::{Disk, Open};
use tresor_env::doubles::MemoryDisk;
use tresor_log::LogError;

/// A log of three segments, one of them purged away and one vacant.
fn whole() -> (BTreeMap<PathBuf, Vec<u8>>, Seen) {
    let disk = Arc::new(MemoryDisk::new());
    let (mut log, _) = open(&disk).unwrap();
    for index in 1..=80 {
        log.append(&[&body(index, 60)]).unwrap();
        if index == 40 {
            log.purge(30).unwrap();
        }
        if let Some(plan) = log.plan() {
            let done = plan.run();
            log.adopt(done).unwrap();
        }
    }
    log.set_record(b"a vote").unwrap();
    let kept = bodies(31..=80, 60);
    (disk.dump(), kept)
}

fn disk_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> Arc<MemoryDisk> {
    let disk = MemoryDisk::new();
    for (path, bytes) in files {
        disk.open(path, Open::New).unwrap().write_all_at(0, bytes).unwrap();
    }
    Arc::new(disk)
}

/// Whether it was refused.
fn check(files: &BTreeMap<PathBuf, Vec<u8>>, changed: &Path, kept: &Seen, what: &str) -> bool {
    match open(&disk_of(files)) {
        Ok((log, seen)) => {
            assert!(&seen == kept, "{what}: {} entries", seen.len());
            assert_eq!(log.record(), b"a vote", "{what}");
            false
        }
        Err(LogError::Damaged { path, offset, .. }) => {
            assert_eq!(path, changed, "{what}");
            assert!(offset <= files.get(changed).map_or(0, Vec::len) as u64, "{what}: {offset}");
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let (files, kept) = whole();
    let (mut refused, mut harmless) = (0, 0);
    for (path, bytes) in &files {
        for (at, byte) in bytes.iter().enumerate() {
            if at % 3 != 0 && *byte == 0 {
                continue;
            }
            let mut damaged = files.clone();
            damaged.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            let what = format!("{} at {at}", path.display());
            *(if check(&damaged, path, &kept, &what) { &mut refused } else { &mut harmless }) += 1;
        }
    }
    assert!(refused > 3000 && harmless > 100, "{refused} refused, {harmless} harmless");
}

#[test]
fn files_cut_short_or_missing_are_refused_or_harmless() {
    let (files, kept) = whole();
    let mut refused = 0;
    for (path, bytes) in &files {
        for length in (0..bytes.len()).step_by(37) {
            let mut damaged = files.clone();
            damaged.get_mut(path).unwrap().truncate(length);
            refused += u32::from(check(&damaged, path, &kept, &format!("{} cut to {length}", path.display())));
        }
    }
    assert!(refused > 100, "{refused}");
    // The newest file cannot be missed by the log alone: who owns it knows its last entry.
    let newest = files.keys().rfind(|path| open_number(path).is_some()).unwrap().clone();
    for path in files.keys().filter(|path| **path != newest) {
        let mut damaged = files.clone();
        damaged.remove(path);
        check(&damaged, path, &kept, &format!("{} missing", path.display()));
    }
}

fn open_number(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}
