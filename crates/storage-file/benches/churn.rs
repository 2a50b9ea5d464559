//! Churn: ten times what is live is written over, then 95 % is deleted. The disk must follow without any pause: at most
//! twice what is live, a minute after the last deletion at the latest.
//!
//! `cargo bench -p tresor-storage-file --bench churn [-- --directory D] [--megabytes N] [--minutes N]`: fewer rounds than
//! ten when the minutes are over (`--cache N`: megabytes of pages, `--frozen N`: generations that may wait, `--generation N`: megabytes of one). Prints how
//! long writers waited in each part, how much of the disk was taken, and the memory of this process, which does nothing but
//! keep a store. Ends with an error when the disk does not follow; times and memory are only printed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program of measurements")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tresor_env::Entropy;
use tresor_env::doubles::SeededEntropy;
use tresor_storage::{Batch, RawKey, Store, Version};
use tresor_storage_file::{FileStore, Limits};

const VALUE_BYTES: usize = 1024;
/// Writes in a batch, as with so many clients at once.
const BATCH: u64 = 64;
/// What stays of a hundred.
const KEPT_OF_HUNDRED: u64 = 5;
/// How many times what is live is written over.
const ROUNDS: u64 = 10;
/// Beside less than this the disk is bounded by a number of bytes.
const LIVE_COUNTED_FROM: u64 = 16 << 20;
/// How long the disk may take to follow.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(60);

/// Keys lie anywhere, as hashes of names do.
fn key(at: u64) -> RawKey {
    let seed = SeededEntropy::new(at);
    RawKey::new(&[seed.next(), seed.next(), seed.next()].map(u64::to_be_bytes).concat()).unwrap()
}

/// How much of the disk is taken; files may vanish meanwhile.
fn occupied(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => occupied(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// What takes the disk, in multiples of what is live: each index, the files of values together, and the log's segments.
fn composition(directory: &Path, live: u64) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut parts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for entry in entries {
        let Ok(metadata) = entry.metadata() else { continue };
        let bytes = if metadata.is_dir() { occupied(&entry.path()) } else { metadata.blocks() * 512 };
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if name.starts_with("values-") { "values".to_owned() } else { name };
        let part = parts.entry(name).or_default();
        *part = (part.0 + 1, part.1 + bytes);
    }
    let said = parts.iter().map(|(name, (files, bytes))| {
        let part = *bytes as f64 / live as f64;
        if *files > 1 { format!("{files} of {name} {part:.2}") } else { format!("{name} {part:.2}") }
    });
    said.collect::<Vec<_>>().join(", ")
}

/// A line of the process's status, in MiB.
fn memory(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// One part of the run: how long each batch took, and the most that the disk held.
struct Part<'s> {
    store: &'s FileStore,
    directory: &'s Path,
    version: u64,
    took: Vec<Duration>,
    most: u64,
    /// What it was made of when it was most.
    most_of: String,
    live: u64,
    /// What is live at this moment, and the most that the disk held in thousandths of that.
    live_now: u64,
    live_max: u64,
    most_permille: u64,
    started: Instant,
}

impl Part<'_> {
    fn apply(&mut self, writes: Vec<(RawKey, Option<Vec<u8>>)>) {
        self.version += 1;
        // Each key is written once while filling, and deleted once.
        let each = VALUE_BYTES as u64 + 24;
        for (_, value) in &writes {
            match value {
                Some(_) => self.live_now = (self.live_now + each).min(self.live_max),
                None => self.live_now = self.live_now.saturating_sub(each),
            }
        }
        let batch = Batch::new(Version(self.version), writes.into_iter().collect());
        let one = Instant::now();
        self.store.apply(batch).unwrap();
        self.took.push(one.elapsed());
        if self.version.is_multiple_of(64) {
            let now = occupied(self.directory);
            if self.live_now > LIVE_COUNTED_FROM {
                self.most_permille = self.most_permille.max(now * 1000 / self.live_now);
            }
            if now > self.most {
                (self.most, self.most_of) = (now, composition(self.directory, self.live));
            }
        }
    }

    fn report(&mut self, title: &str, live: u64) {
        self.took.sort_unstable();
        let at = |part: f64| {
            let place = (self.took.len() as f64 * part) as usize;
            self.took.get(place.min(self.took.len().saturating_sub(1))).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let now = occupied(self.directory);
        println!(
            "{title:<10} {:>7} batches in {:>5.0} s: p50 {:.2} ms, p99 {:.1} ms, longest {:.0} ms; disk now {:.2}, at most {:.2} of {} MB live ({:.2} of what was live then); RSS {} MiB, at most {}",
            self.took.len(),
            self.started.elapsed().as_secs_f64(),
            at(0.5),
            at(0.99),
            at(1.0),
            now as f64 / live as f64,
            self.most.max(now) as f64 / live as f64,
            live >> 20,
            self.most_permille as f64 / 1e3,
            memory("VmRSS"),
            memory("VmHWM"),
        );
        println!("           now {}; at most {}", composition(self.directory, live), self.most_of);
        (self.took, self.most, self.most_of, self.started) = (Vec::new(), 0, String::new(), Instant::now());
        self.most_permille = 0;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let named =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let directory = named("--directory").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let number = |name: &str, usual: u64| named(name).map_or(usual, |text| text.parse().unwrap());
    let keys = (number("--megabytes", 2048) << 20) / VALUE_BYTES as u64;
    std::fs::create_dir_all(&directory).unwrap();
    let folder = tempfile::tempdir_in(&directory).unwrap();
    let doors = tresor_env_os::doors();
    let usual = Limits::default();
    let cache = number("--cache", usual.cache_bytes as u64 >> 20) << 20;
    let frozen = number("--frozen", usual.frozen_max as u64);
    let generation_bytes = number("--generation", usual.generation_bytes >> 20) << 20;
    let (cache_bytes, frozen_max) = (usize::try_from(cache).unwrap(), usize::try_from(frozen).unwrap());
    let limits = Limits { cache_bytes, frozen_max, generation_bytes, ..usual };
    let store = FileStore::open(&doors, folder.path(), limits).unwrap();
    let entropy = SeededEntropy::new(7);
    let value = || {
        let mut bytes = vec![0; VALUE_BYTES];
        entropy.fill(&mut bytes);
        Some(bytes)
    };
    let (took, started) = (Vec::new(), Instant::now());
    let live = keys * (VALUE_BYTES as u64 + 24);
    let (directory, most_of) = (folder.path(), String::new());
    let (live_now, live_max, most_permille) = (0, live, 0);
    let mut part = Part {
        store: &store,
        directory,
        version: 0,
        took,
        most: 0,
        most_of,
        live,
        live_now,
        live_max,
        most_permille,
        started,
    };
    for at in (0..keys).step_by(64) {
        part.apply((at..keys.min(at + BATCH)).map(|at| (key(at), value())).collect());
    }
    part.report("filled", live);
    let (begun, minutes) = (Instant::now(), number("--minutes", u64::MAX / 60));
    for round in 1..=ROUNDS {
        if begun.elapsed().as_secs() >= minutes * 60 {
            println!("the minutes are over after {} rounds of {ROUNDS}", round - 1);
            break;
        }
        for _ in 0..keys / BATCH {
            part.apply((0..BATCH).map(|_| (key(entropy.next() % keys), value())).collect());
        }
        part.report("churned", live);
    }
    for at in (0..keys).step_by(64) {
        let gone = (at..keys.min(at + BATCH)).filter(|at| at % 100 >= KEPT_OF_HUNDRED);
        part.apply(gone.map(|at| (key(at), None)).collect());
    }
    let live = live * KEPT_OF_HUNDRED / 100;
    part.live = live;
    part.live_max = live;
    part.report("deleted", live);
    let mut at = 0;
    while occupied(folder.path()) > 2 * live && part.started.elapsed() < FOLLOWS_WITHIN {
        part.apply(vec![(key(at % keys / 100 * 100), value())]);
        at += 100;
        std::thread::sleep(Duration::from_millis(10));
    }
    let (followed, took) = (occupied(folder.path()) <= 2 * live, part.started.elapsed());
    part.report("followed", live);
    let snapshot = store.snapshot().unwrap();
    let found = (0..keys).step_by(97).filter(|at| snapshot.read(&key(*at)).unwrap().is_some()).count();
    let expected = (0..keys).step_by(97).filter(|at| at % 100 < KEPT_OF_HUNDRED).count();
    println!("{found} of {expected} sampled values are there; the disk followed after {:.1} s", took.as_secs_f64());
    assert!(followed && found == expected, "the disk did not follow within a minute, or values are missing");
}
