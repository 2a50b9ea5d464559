//! How fast writes become durable, beside what the disk itself can do in the same run, and how long opening takes after
//! SIGKILL whatever the size.
//!
//! `cargo bench -p tresor-storage-file --bench durable [-- --directory D] [--seconds N] [--sizes MB,MB,..]`. Figures are
//! printed, never asserted. Rounds of the disk and of the store alternate, because a disk's mood changes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program of measurements")]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tresor_env::doubles::SeededEntropy;
use tresor_env::{Doors, Entropy};
use tresor_storage::{Batch, RawKey, Store};
use tresor_storage_file::{FileStore, Limits};

const VALUE_BYTES: usize = 1024;
const WRITERS: [usize; 3] = [1, 64, 256];
/// As many as the barrier's committer takes into one batch.
const BATCH_MAX: usize = 512;
const ROUNDS: usize = 9;

/// A rate, and how long one took.
struct Measured {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn measured(mut each: Vec<Duration>, took: Duration) -> Measured {
    each.sort_unstable();
    let at = |part: f64| {
        let place = (each.len() as f64 * part) as usize;
        each.get(place.min(each.len() - 1)).copied().unwrap_or_default()
    };
    Measured { per_second: each.len() as f64 / took.as_secs_f64(), p50: at(0.5), p99: at(0.99) }
}

fn print_row(title: &str, row: &Measured, raw: Option<(f64, f64)>, cpu: Option<f64>) {
    let ratio = raw.map_or(String::new(), |(append, overwrite)| {
        format!("  {append:>5.2} of the appends, {overwrite:>5.2} of the overwrites")
    });
    let cpu = cpu.map_or(String::new(), |cpu| format!("  {:>6.1} us CPU each", cpu * 1e6));
    println!(
        "{title:<34} {:>9.0}/s  p50 {:>7} us  p99 {:>7} us{ratio}{cpu}",
        row.per_second,
        row.p50.as_micros(),
        row.p99.as_micros()
    );
}

/// Processor time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn bytes(entropy: &SeededEntropy) -> Vec<u8> {
    let mut bytes = vec![0; VALUE_BYTES];
    entropy.fill(&mut bytes);
    bytes
}

/// One write and one fdatasync after another: at the end of a growing file, or over what is there already.
fn raw(directory: &Path, is_overwrite: bool, time: Duration) -> Measured {
    let path = directory.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    let length: u64 = 64 << 20;
    if is_overwrite {
        file.write_all_at(&vec![0; usize::try_from(length).unwrap()], 0).unwrap();
        file.sync_all().unwrap();
    }
    let (value, mut each, started) = (bytes(&SeededEntropy::new(1)), Vec::new(), Instant::now());
    let mut at = 0;
    while started.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&value, at).unwrap();
        file.sync_data().unwrap();
        each.push(one.elapsed());
        at += VALUE_BYTES as u64;
        if is_overwrite {
            at %= length;
        }
    }
    let row = measured(each, started.elapsed());
    std::fs::remove_file(path).unwrap();
    row
}

type Job = (RawKey, Vec<u8>, oneshot::Sender<()>);

/// Writers that each wait for their own write, and one committer that takes what waits: as the barrier does.
async fn grouped(store: Arc<FileStore>, writers: usize, time: Duration) -> Measured {
    let (queue, mut inbox) = mpsc::channel::<Job>(1024);
    let committing = Arc::clone(&store);
    let committer = tokio::spawn(async move {
        let mut version = committing.snapshot().unwrap().version();
        while let Some(first) = inbox.recv().await {
            version = version.next();
            let (mut writes, mut waiting) = (std::collections::BTreeMap::new(), Vec::new());
            let mut next = Some(first);
            while let Some((key, value, answer)) = next {
                writes.insert(key, Some(value));
                waiting.push(answer);
                next = if waiting.len() < BATCH_MAX { inbox.try_recv().ok() } else { None };
            }
            let (store, batch) = (Arc::clone(&committing), Batch::new(version, writes));
            tokio::task::spawn_blocking(move || store.apply(batch)).await.unwrap().unwrap();
            for answer in waiting {
                let _ = answer.send(());
            }
        }
    });
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let entropy = SeededEntropy::new(started.elapsed().as_nanos() as u64 + writer as u64);
                let mut each = Vec::new();
                while started.elapsed() < time {
                    let key = RawKey::new(&[entropy.next(), entropy.next()].map(u64::to_be_bytes).concat()).unwrap();
                    let (answer, answered) = oneshot::channel();
                    let one = Instant::now();
                    queue.send((key, bytes(&entropy), answer)).await.unwrap();
                    answered.await.unwrap();
                    each.push(one.elapsed());
                }
                each
            })
        })
        .collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await.unwrap());
    }
    let took = started.elapsed();
    drop(queue);
    committer.await.unwrap();
    measured(each, took)
}

fn median(mut rows: Vec<Measured>) -> Measured {
    rows.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rows.swap_remove(rows.len() / 2)
}

/// The median over the rounds of how many times as fast one was as the other in the same round.
fn ratio(rows: &[Measured], raw: &[Measured]) -> f64 {
    let mut ratios: Vec<f64> = rows.iter().zip(raw).map(|(row, raw)| row.per_second / raw.per_second).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or_default()
}

/// One writer that calls the store itself, without any committer between.
fn alone(store: &FileStore, time: Duration) -> Measured {
    let entropy = SeededEntropy::new(3);
    let (mut version, mut each, started) = (store.snapshot().unwrap().version(), Vec::new(), Instant::now());
    while started.elapsed() < time {
        version = version.next();
        let key = RawKey::new(&[entropy.next(), entropy.next()].map(u64::to_be_bytes).concat()).unwrap();
        let batch = Batch::new(version, [(key, Some(bytes(&entropy)))].into());
        let one = Instant::now();
        store.apply(batch).unwrap();
        each.push(one.elapsed());
    }
    measured(each, started.elapsed())
}

/// Lets the disk finish what the measurement before left behind, removed files included.
fn settle() {
    Command::new("sync").status().unwrap();
}

fn throughput(directory: &Path, time: Duration) {
    println!("durable writes of {VALUE_BYTES} bytes, {} s each, median of {ROUNDS} rounds in turn", time.as_secs());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let doors = tresor_env_os::doors();
    let (mut append, mut overwrite) = (Vec::new(), Vec::new());
    // None is the one writer without a committer.
    let rows: Vec<Option<usize>> = std::iter::once(None).chain(WRITERS.map(Some)).collect();
    let mut stores: Vec<(Vec<Measured>, f64, f64)> = rows.iter().map(|_| (Vec::new(), 0.0, 0.0)).collect();
    for _ in 0..ROUNDS {
        settle();
        append.push(raw(directory, false, time));
        settle();
        overwrite.push(raw(directory, true, time));
        for (writers, (rows, cpu, writes)) in rows.iter().zip(&mut stores) {
            settle();
            let folder = tempfile::tempdir_in(directory).unwrap();
            let store = Arc::new(FileStore::open(&doors, folder.path(), Limits::default()).unwrap());
            let before = cpu_seconds();
            let row = match writers {
                None => alone(&store, time),
                Some(writers) => runtime.block_on(grouped(Arc::clone(&store), *writers, time)),
            };
            drop(store);
            *cpu += cpu_seconds() - before;
            *writes += row.per_second * time.as_secs_f64();
            rows.push(row);
        }
    }
    for (writers, (rows, cpu, writes)) in rows.iter().zip(stores) {
        let title =
            writers.map_or("store, one thread".to_owned(), |writers| format!("store, {writers} writers at once"));
        let ratios = (ratio(&rows, &append), ratio(&rows, &overwrite));
        print_row(&title, &median(rows), Some(ratios), Some(cpu / writes));
    }
    print_row("raw: append + fdatasync", &median(append), None, None);
    print_row("raw: overwrite + fdatasync", &median(overwrite), None, None);
}

/// The child that fills a store and goes on writing until it is killed.
fn fill(directory: &Path, megabytes: u64) {
    let doors: Doors = tresor_env_os::doors();
    let store = FileStore::open(&doors, directory, Limits { reserve_bytes: 0, ..Limits::default() }).unwrap();
    let entropy = SeededEntropy::new(9);
    let mut version = store.snapshot().unwrap().version();
    let mut written = 0;
    let mut stdout = std::io::stdout();
    loop {
        version = version.next();
        // Keys rise, so that filling takes no longer than it must.
        let key = |at: u64| RawKey::new(&[version.0, at].map(u64::to_be_bytes).concat()).unwrap();
        let writes = (0..256).map(|at| (key(at), Some(bytes(&entropy)))).collect();
        store.apply(Batch::new(version, writes)).unwrap();
        written += 256 * VALUE_BYTES as u64;
        if written >= megabytes << 20 {
            stdout.write_all(b"full\n").unwrap();
            stdout.flush().unwrap();
        }
    }
}

fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| if entry.path().is_dir() { size_of(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn openings(directory: &Path, sizes: &[u64]) {
    println!(
        "\nopening after SIGKILL under writes, three times (the page cache dropped before the first where it may be)"
    );
    for megabytes in sizes {
        let folder = tempfile::tempdir_in(directory).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--fill", &megabytes.to_string()])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says so after each batch from then on: a few more, and it is killed while it writes.
        let full = BufReader::new(child.stdout.take().unwrap()).lines().take(20).filter(Result::is_ok).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(full > 0, "the child failed");

        let dropped = std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok();
        let doors = tresor_env_os::doors();
        let times: Vec<String> = (0..3)
            .map(|_| {
                let started = Instant::now();
                let store = FileStore::open(&doors, folder.path(), Limits::default()).unwrap();
                let took = started.elapsed();
                assert!(store.snapshot().unwrap().version().0 > 0);
                drop(store);
                format!("{:.1} ms", took.as_secs_f64() * 1e3)
            })
            .collect();
        let log = size_of(&folder.path().join("log")) >> 20;
        println!(
            "{megabytes:>6} MB of values, {:>6} MB of files, {log:>3} MB of them log: {}{}",
            size_of(folder.path()) >> 20,
            times.join(", "),
            if dropped { "" } else { " (the page cache could not be dropped)" }
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, megabytes, directory] = arguments.as_slice()
        && flag == "--fill"
    {
        fill(Path::new(directory), megabytes.parse().unwrap());
        return;
    }
    let named =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let directory = named("--directory").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let seconds = named("--seconds").map_or(1, |text| text.parse().unwrap());
    let sizes: Vec<u64> = named("--sizes")
        .map_or_else(|| vec![100, 1000, 4000], |text| text.split(',').map(|size| size.parse().unwrap()).collect());
    std::fs::create_dir_all(&directory).unwrap();
    if seconds > 0 {
        throughput(&directory, Duration::from_secs(seconds));
    }
    openings(&directory, &sizes);
}
