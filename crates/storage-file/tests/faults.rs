//! Real files on a disk that refuses: a file system that is really full, and EIO and ENOSPC at each system call in turn.
//!
//! `cargo test -p tresor-storage-file --test faults [-- --minutes N]`. A child runs a fixed history in one thread; `strace`
//! makes one of its calls fail (each write, sync, open, rename, truncation, removal and read, one after another), or every
//! write from one on. Afterwards all that was acknowledged is there, or a file was refused by name; nothing panics. The
//! full disk is a small tmpfs in a mount namespace of its own: the store fills it, is told to go on when there is room
//! again, and does so without being opened again. Without arguments as many calls as CI has time for; with minutes, all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program of tests")]

#[path = "common/blocks.rs"]
mod blocks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blocks::{SMALL, batch, check};
use tresor_env::Doors;
use tresor_env::clock::Timestamp;
use tresor_env::doubles::{InlineWorkers, ManualClock, SeededEntropy};
use tresor_storage::{Condition, Store, StoreError};
use tresor_storage_file::{FileStore, Limits};

/// So many batches fill the index, have it built anew, and go on.
const BATCHES: u64 = 130;
/// Calls that fail in CI, of each kind with each error.
const POINTS_IN_CI: usize = 12;
/// What fails, and how.
const CALLS: [&str; 8] = ["pwrite64", "fdatasync", "fsync", "openat", "rename", "ftruncate", "unlink", "pread64"];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// The size of the file system that is filled.
const FULL_BYTES: u64 = 4 << 20;

/// Real files, but upkeep in the same thread and a clock that stands, so that each run makes the same calls.
fn doors(clock: &Arc<ManualClock>) -> Doors {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Doors { clock, workers: Arc::new(InlineWorkers), ..tresor_env_os::doors() }
}

fn open(directory: &Path, clock: &Arc<ManualClock>) -> Result<FileStore, StoreError> {
    FileStore::open(&doors(clock), directory, SMALL)
}

/// What became of a history.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All of it was applied.
    Done,
    /// The store stopped, as it must when the outcome of a write is not known.
    Stopped,
    /// Again and again there was no room.
    Full,
}

/// Applies batches up to one; one that is refused and not there is tried again, as a client would.
fn live(store: &FileStore, clock: &ManualClock, until: u64, tries_max: u32) -> (u64, End) {
    let version = store.snapshot().unwrap().version().0;
    for version in version + 1..=until {
        let mut tries = 0;
        while let Err(error) = store.apply(batch(version)) {
            if matches!(error, StoreError::Uncertain { .. } | StoreError::Stopped { .. }) {
                return (version - 1, End::Stopped);
            }
            tries += 1;
            clock.advance(Duration::from_secs(2));
            if tries >= tries_max {
                return (version - 1, End::Full);
            }
        }
    }
    (until, End::Done)
}

/// The child whose calls fail: says how far it came, and how it ended.
fn child(directory: &Path) {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::EPOCH));
    match open(directory, &clock) {
        Err(error) => println!("refused: {error}"),
        Ok(store) => {
            let (applied, end) = live(&store, &clock, BATCHES, 8);
            println!("applied {applied} {end:?}");
        }
    }
}

/// A child under strace.
fn strace(directory: &Path, arguments: &[&str]) -> Output {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "--quiet=all", "--seccomp-bpf"]).args(arguments).arg(own).arg("--child").arg(directory);
    command.output().unwrap_or_else(|error| panic!("strace is needed: {error}"))
}

/// What a child said: how far it came, if it opened the store at all, and how it ended.
fn told(output: &Output, what: &str) -> Option<(u64, String)> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = said.split_whitespace();
    match (words.next(), words.next().and_then(|word| word.parse().ok()), words.next()) {
        (Some("applied"), Some(applied), Some(end)) => Some((applied, end.to_owned())),
        (Some("refused:"), ..) => None,
        // The program itself could not be loaded: that call was not the store's.
        _ if output.status.code() == Some(127) => None,
        _ => panic!("{what}: {said}{errors}"),
    }
}

/// How often a healthy child makes each call.
fn count(folder: &Path) -> BTreeMap<&'static str, usize> {
    let listing = folder.join("calls");
    let output = strace(
        &folder.join("healthy"),
        &["-o", listing.to_str().unwrap(), "-e", &format!("trace={}", CALLS.join(","))],
    );
    assert_eq!(told(&output, "healthy"), Some((BATCHES, "Done".to_owned())));
    std::fs::remove_dir_all(folder.join("healthy")).unwrap();
    let text = std::fs::read_to_string(listing).unwrap();
    CALLS.map(|call| (call, text.lines().filter(|line| line.contains(&format!(" {call}("))).count())).into()
}

/// One child with one fault, and what is there afterwards.
fn fail(folder: &Path, call: &str, when: &str, error: &str, ends: &mut BTreeMap<String, usize>) {
    let what = format!("{call} {when} {error}");
    let directory = folder.join("store");
    let inject = format!("inject={call}:error={error}:when={when}");
    let output = strace(&directory, &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    let (applied, end) = told(&output, &what).unwrap_or((0, "Refused".to_owned()));
    *ends.entry(end.clone()).or_default() += 1;
    let clock = Arc::new(ManualClock::starting_at(Timestamp::EPOCH));
    let store = open(&directory, &clock).unwrap_or_else(|error| panic!("{what}: {error}"));
    let version = check(&store).unwrap_or_else(|problem| panic!("{what}: {problem}"));
    let is_all = version == applied || end == "Stopped" && version == applied + 1;
    assert!(is_all, "{what}: {applied} were acknowledged and {version} are there");
    assert_eq!(live(&store, &clock, version + 40, 1), (version + 40, End::Done), "{what}");
    drop(store);
    let again = open(&directory, &clock).and_then(|store| check(&store).map_err(|what| panic!("{what}")));
    assert_eq!(again.unwrap(), version + 40, "{what}");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A number that says nothing of the order of what it is made from.
fn spread(at: usize) -> u64 {
    SeededEntropy::new(at as u64).next()
}

fn at_every_call(folder: &Path, until: Option<Instant>) {
    let counts = count(folder);
    let mut ends = BTreeMap::new();
    let (mut points, mut skipped) = (0, 0);
    let mut all = Vec::new();
    for (call, count) in &counts {
        assert!(*count > 0, "{call} is never called");
        let step = if until.is_some() { 1 } else { count.div_ceil(POINTS_IN_CI) };
        let calls = (1..=*count).step_by(step);
        all.extend(calls.flat_map(|at| ERRORS.map(|error| (spread(at), *call, at, error))));
    }
    // In an order in which any beginning of it lies evenly over the child's life: what is left out for time is no part.
    all.sort_unstable();
    for (_, call, at, error) in all {
        if until.is_some_and(|until| Instant::now() > until) {
            skipped += 1;
            continue;
        }
        fail(folder, call, &at.to_string(), error, &mut ends);
        points += 1;
    }
    // Full from one write on, for the rest of the child's life.
    let writes = counts.get("pwrite64").copied().unwrap_or(0);
    for at in (1..=writes).step_by(writes.div_ceil(POINTS_IN_CI)) {
        fail(folder, "pwrite64", &format!("{at}+"), "ENOSPC", &mut ends);
        points += 1;
    }
    println!("{points} faults at calls of {counts:?}, {skipped} left out for time: ends {ends:?}");
    assert!(ends.get("Done").is_some_and(|done| *done > points / 4), "hardly anything was gone on with");
}

/// Runs inside a mount namespace of its own: fills a small file system at many points.
fn fill(directory: &Path) {
    let options = format!("size={FULL_BYTES}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("cannot mount");
        return;
    }
    let (mut by_index, mut by_log, mut opened_full) = (0, 0, 0);
    for step in 0..48_u64 {
        let home = directory.join("store");
        let ballast = directory.join("ballast");
        let clock = Arc::new(ManualClock::starting_at(Timestamp::EPOCH));
        // In every second one the memory table never fills, so that it is the log that needs room.
        let generation_bytes = if step % 2 == 0 { SMALL.generation_bytes } else { 1 << 30 };
        let limits = Limits { generation_bytes, generation_bytes_min: generation_bytes, ..SMALL };
        let open = || FileStore::open(&doors(&clock), &home, limits);
        let store = open().unwrap();
        assert_eq!(live(&store, &clock, 20 + step * 3, 1).1, End::Done);
        fill_up(&ballast, step % 5 * 20_000);
        let (full_at, end) = live(&store, &clock, 20_000, 2);
        assert_eq!(end, End::Full, "step {step}: a full disk is nothing that the store stops for");
        assert_eq!(check(&store), Ok(full_at), "step {step}");
        match store.condition() {
            Condition::LowSpace { .. } => by_index += 1,
            Condition::Writable => by_log += 1,
            other => panic!("step {step}: {other:?}"),
        }
        let store = if step % 3 == 0 {
            // Opened again while it is full: all there, or told that there is no room.
            drop(store);
            match open() {
                Ok(store) => {
                    assert_eq!(check(&store), Ok(full_at), "step {step}");
                    opened_full += 1;
                    store
                }
                Err(StoreError::NoSpace { .. }) => {
                    std::fs::remove_file(&ballast).unwrap();
                    open().unwrap()
                }
                Err(other) => panic!("step {step}: {other}"),
            }
        } else {
            store
        };
        drop(std::fs::remove_file(&ballast));
        clock.advance(Duration::from_secs(2));
        assert_eq!(
            live(&store, &clock, full_at + 200, 1),
            (full_at + 200, End::Done),
            "step {step}: it does not go on"
        );
        assert_eq!(check(&store), Ok(full_at + 200), "step {step}");
        drop(store);
        let store = open().unwrap();
        assert_eq!(check(&store), Ok(full_at + 200), "step {step}, opened again");
        drop(store);
        std::fs::remove_dir_all(&home).unwrap();
    }
    println!(
        "filled: {by_log} times the log had no room, {by_index} times the index; opened {opened_full} times while full"
    );
    assert!(by_index > 4 && by_log > 4 && opened_full > 0, "the disk was always full in the same place");
}

/// Takes all the space that there is, but so many bytes.
fn fill_up(ballast: &Path, spare: u64) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len().saturating_sub(spare) / 4096 * 4096).unwrap();
}

/// Fills a file system; `false` where none may be mounted.
fn on_a_full_disk(folder: &Path) -> bool {
    let mount = folder.join("full");
    std::fs::create_dir(&mount).unwrap();
    let own = std::env::current_exe().unwrap();
    [&["--mount"][..], &["--user", "--map-root-user", "--mount"]].into_iter().any(|namespaces| {
        let Ok(output) = Command::new("unshare").args(namespaces).arg(&own).arg("--fill").arg(&mount).output() else {
            return false;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        print!("{said}");
        assert!(!errors.contains("panicked"), "{errors}");
        said.starts_with("filled")
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, directory] if flag == "--child" => return child(Path::new(directory)),
        [flag, directory] if flag == "--fill" => return fill(Path::new(directory)),
        _ => {}
    }
    let named = arguments.iter().position(|argument| argument == "--minutes").and_then(|at| arguments.get(at + 1));
    let minutes: Option<u64> = named.map(|number| number.parse().unwrap());
    let started = Instant::now();
    let folder = tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    if !on_a_full_disk(folder.path()) {
        println!("no file system may be mounted here: a full disk is only what strace makes of this one");
    }
    // Where the files lie in memory, syncs cost nothing; what fails is the same.
    let quick = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(folder.path())).unwrap();
    at_every_call(quick.path(), minutes.map(|minutes| started + Duration::from_secs(minutes * 60)));
    println!("{:.0} s", started.elapsed().as_secs_f64());
}
