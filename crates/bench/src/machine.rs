//! The machine: cores, the raw disk's own rate, and what the kernel counts for a process.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::histogram::Histogram;
use crate::options::Options;

/// Lets this thread, and what it starts, run on one core only.
pub(crate) fn pin_this_thread(core: usize) -> Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| format!("core {core} cannot be used: {error}"))
}

/// What a process has used and holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time of all its threads so far.
    pub(crate) cpu: Duration,
    /// Memory that is resident, in MiB.
    pub(crate) resident_mib: f64,
}

impl Usage {
    /// Asks the kernel.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may hold anything; user and system time are the 12th and 13th word after it.
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let status = read(&format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1000 / per_second),
            resident_mib: kib.ok_or("no VmRSS")? / 1024.0,
        })
    }
}

/// How many MiB lie below a folder, as blocks of the disk.
pub(crate) fn disk_mib(folder: &Path) -> f64 {
    fn blocks(folder: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        let each = entries.flatten().map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => blocks(&entry.path()),
            Ok(metadata) => metadata.blocks(),
            Err(_) => 0,
        });
        each.sum()
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mib = blocks(folder) as f64 / 2048.0;
    mib
}

/// Prints where all this was measured.
pub(crate) fn describe(options: &Options) -> Result<(), String> {
    let cpu = read("/proc/cpuinfo")?;
    let names = || cpu.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = names().next().map_or("unknown", |(_, name)| name);
    println!(
        "cpu: {} cores, {model}; server on core {}, load on core {}",
        names().count(),
        options.server_core,
        options.load_core
    );
    println!(
        "kernel: {}; load average before: {}",
        read("/proc/sys/kernel/osrelease")?.trim(),
        read("/proc/loadavg")?.trim()
    );
    println!("disk: {}", raw_disk(&options.directory)?);
    println!("stalls: {}", stalls(options)?);
    println!("rounds: {} of {} s each; figures are medians\n", options.rounds, options.duration.as_secs());
    Ok(())
}

/// How long the machine's own pauses are tried.
const STALLS_FOR: Duration = Duration::from_secs(3);
/// A look at the clock that came so much later than the one before was held up by somebody else.
const STALL_MIN: Duration = Duration::from_micros(50);

/// What the machine takes from whoever runs on it: both cores do nothing but look at the clock. A host that lends a core
/// now and then shows here; no server answers faster than that.
fn stalls(options: &Options) -> Result<String, String> {
    let watch = |core: usize| {
        std::thread::spawn(move || {
            pin_this_thread(core)?;
            let (begun, mut last, mut gaps) = (Instant::now(), Instant::now(), Vec::new());
            while last.duration_since(begun) < STALLS_FOR {
                let now = Instant::now();
                let gap = now.duration_since(last);
                if gap >= STALL_MIN {
                    gaps.push(gap);
                }
                last = now;
            }
            Ok::<_, String>(gaps)
        })
    };
    let watches = [watch(options.server_core), watch(options.load_core)];
    let mut gaps = Vec::new();
    for watched in watches {
        gaps.push(watched.join().map_err(|_| "the watch on the clock ended".to_owned())??);
    }
    let each = gaps.iter().map(|gaps| {
        let lost = gaps.iter().sum::<Duration>().div_duration_f64(STALLS_FOR) * 100.0;
        let longest = gaps.iter().max().copied().unwrap_or_default().as_secs_f64() * 1000.0;
        format!("{lost:.1} % lost, longest {longest:.1} ms, p99 of doing nothing {:.2} ms", wait_p99(gaps))
    });
    Ok(each.collect::<Vec<_>>().join("; load core "))
}

/// How many milliseconds one in a hundred moments, chosen at random, has to wait for the end of a pause at least.
fn wait_p99(gaps: &[Duration]) -> f64 {
    let waits_longer =
        |bound: Duration| gaps.iter().map(|gap| gap.saturating_sub(bound)).sum::<Duration>() > STALLS_FOR / 100;
    let bound = (0..100_000).map(|step| Duration::from_micros(10 * step)).find(|bound| !waits_longer(*bound));
    bound.unwrap_or(STALLS_FOR).as_secs_f64() * 1000.0
}

/// The disk's own rate: one KiB appended and synced, again and again.
fn raw_disk(directory: &Path) -> Result<String, String> {
    const APPENDS: u32 = 400;
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let failed = |error: std::io::Error| format!("the disk cannot be tried: {error}");
    let place = tempfile::tempdir_in(directory).map_err(failed)?;
    let mut file = File::create(place.path().join("raw")).map_err(failed)?;
    let (mut histogram, begun) = (Histogram::new(), Instant::now());
    for _ in 0..APPENDS {
        let started = Instant::now();
        file.write_all(&[7; 1024]).and_then(|()| file.sync_data()).map_err(failed)?;
        histogram.note(started.elapsed());
    }
    let rate = f64::from(APPENDS) / begun.elapsed().as_secs_f64();
    let (p50, p99) = (histogram.quantile(500), histogram.quantile(990));
    Ok(format!("append of 1 KiB and fdatasync {rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms"))
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_mib > 0.1);
    }

    #[test]
    fn pauses_count_by_how_many_moments_fall_into_them() {
        let milliseconds = Duration::from_millis;
        assert!(wait_p99(&[]) < 0.001);
        // 30 ms in a hundred of 3 s: at 0 ms it is just one in a hundred.
        assert!(wait_p99(&[milliseconds(30)]) < 0.02);
        let one_long = wait_p99(&[milliseconds(130)]);
        assert!((one_long - 100.0).abs() < 0.1, "{one_long}");
        let many = wait_p99(&[milliseconds(4); 20]);
        assert!((many - 2.5).abs() < 0.1, "{many}");
    }

    #[test]
    fn a_folder_is_as_large_as_what_lies_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/file"), vec![1; 2 << 20]).unwrap();
        assert!((disk_mib(folder.path()) - 2.0).abs() < 0.1);
    }
}
