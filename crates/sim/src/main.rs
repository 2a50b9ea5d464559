//! `sim`: any number of seeds, or one with its history.
//!
//! `sim --seeds N --minutes M [--seed S] [--jobs J]` runs up to N seeds, from S on, for at most M minutes; a seed that fails
//! is shown and the others go on. With jobs it starts itself, J at a time, a slice of the seeds each: what a life of a
//! cluster leaves in memory goes with its process. `sim --seed S` alone runs one and shows what happened; with `--leases` a
//! seed is a life of leases, with `--cluster` one of a cluster. Deliberately absent: threads within a seed.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tresor_sim::{Failure, Outcome, Planted, PlantedInCluster, Report, Sabotage, run, run_cluster, run_leases};

/// How many events are shown of a run that failed among many.
const LAST_EVENTS: usize = 60;
/// After how many seeds it says how far it is.
const PROGRESS: u64 = 500;
/// How many seeds a job's program runs.
const SLICE: u64 = 100;
/// After how many failures it gives up.
const FAILURES_MAX: usize = 20;

/// What a seed is.
#[derive(Clone, Copy, Default)]
enum Kind {
    #[default]
    Server,
    Leases,
    Cluster,
}

impl Kind {
    const fn flag(self) -> &'static str {
        match self {
            Self::Server => "",
            Self::Leases => "--leases ",
            Self::Cluster => "--cluster ",
        }
    }
}

/// What to do.
#[derive(Default)]
struct Wish {
    seeds: Option<u64>,
    minutes: Option<u64>,
    seed: Option<u64>,
    jobs: Option<u64>,
    kind: Kind,
}

fn wish(arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut arguments = arguments.peekable();
    while let Some(flag) = arguments.next() {
        let place = match flag.as_str() {
            "--seeds" => &mut wish.seeds,
            "--minutes" => &mut wish.minutes,
            "--seed" => &mut wish.seed,
            "--jobs" => &mut wish.jobs,
            "--leases" | "--cluster" => {
                wish.kind = if flag == "--leases" { Kind::Leases } else { Kind::Cluster };
                continue;
            }
            other => return Err(format!("unknown argument `{other}`")),
        };
        let number = arguments.next().and_then(|text| text.parse().ok());
        *place = Some(number.ok_or_else(|| format!("`{flag}` takes a number"))?);
    }
    Ok(wish)
}

fn main() -> ExitCode {
    let code: u8 = match wish(std::env::args().skip(1)) {
        Ok(Wish { seeds: None, minutes: None, seed: Some(seed), jobs: None, kind }) => replay(seed, kind),
        Ok(wish) => many(&wish),
        Err(problem) => {
            println!("{problem}\nusage: sim [--leases | --cluster] [--seeds N] [--minutes M] [--seed S] [--jobs J]");
            2
        }
    };
    ExitCode::from(code)
}

/// One run.
fn one(seed: u64, kind: Kind) -> Outcome {
    match kind {
        Kind::Server => run(seed, Sabotage::Nothing),
        Kind::Leases => run_leases(seed, Planted::Nothing),
        Kind::Cluster => run_cluster(seed, PlantedInCluster::Nothing),
    }
}

/// One run, shown in full.
fn replay(seed: u64, kind: Kind) -> u8 {
    let (history, outcome) = match one(seed, kind) {
        Ok((report, history)) => (history, Ok(report)),
        Err(Failure { problem, history, .. }) => (history, Err(problem)),
    };
    history.iter().for_each(|event| println!("{event}"));
    match outcome {
        Ok(report) => {
            println!("seed {seed}: {report:?}");
            0
        }
        Err(problem) => {
            println!("seed {seed} FAILED: {problem}");
            1
        }
    }
}

/// Runs until the seeds or the minutes are used up, or too many seeds have failed.
fn many(wish: &Wish) -> u8 {
    let started = Instant::now();
    let bound = wish.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let is_over = || bound.is_some_and(|bound| started.elapsed() >= bound);
    let (first, seeds) = (wish.seed.unwrap_or(1), wish.seeds.unwrap_or(100));
    if let Some(jobs) = wish.jobs {
        return in_slices(first, seeds, jobs, wish.kind, is_over);
    }
    let (mut total, mut done, mut failed) = (Report::default(), 0, 0);
    for seed in first..first.saturating_add(seeds) {
        if is_over() || failed >= FAILURES_MAX {
            break;
        }
        match one(seed, wish.kind) {
            Ok((report, _)) => total = total.plus(&report),
            Err(Failure { problem, history, .. }) => {
                let from = history.len().saturating_sub(LAST_EVENTS);
                history.iter().skip(from).for_each(|event| println!("{event}"));
                println!("seed {seed} FAILED: {problem}\nagain: sim {}--seed {seed}", wish.kind.flag());
                failed += 1;
            }
        }
        done += 1;
        if done % PROGRESS == 0 {
            println!("{done} seeds after {} s", started.elapsed().as_secs());
        }
    }
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    println!(
        "{done} seeds from {first} on, {:.1} a second, {failed} failed; {total:?}",
        f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / seconds
    );
    u8::from(failed > 0)
}

/// Runs slices of the seeds as programs, so many at a time, and shows of each its last line, or all when a seed failed.
fn in_slices(first: u64, seeds: u64, jobs: u64, kind: Kind, is_over: impl Fn() -> bool + Sync) -> u8 {
    let end = first.saturating_add(seeds);
    let (next, failed) = (AtomicU64::new(first), AtomicUsize::new(0));
    let job = || {
        while !is_over() && failed.load(Ordering::Relaxed) < FAILURES_MAX {
            let from = next.fetch_add(SLICE, Ordering::Relaxed);
            if from >= end {
                return;
            }
            let (count, from) = (SLICE.min(end - from).to_string(), from.to_string());
            let flag = Some(kind.flag().trim()).filter(|flag| !flag.is_empty());
            let arguments = flag.into_iter().chain(["--seeds", &count, "--seed", &from]);
            let output = std::env::current_exe().and_then(|program| Command::new(program).args(arguments).output());
            match output {
                Ok(output) if output.status.success() => {
                    println!("{}", String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default());
                }
                Ok(output) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!(
                        "{}\nthe seeds from {from} on: {}",
                        String::from_utf8_lossy(&output.stdout),
                        output.status
                    );
                }
                Err(error) => {
                    failed.fetch_add(FAILURES_MAX, Ordering::Relaxed);
                    println!("the seeds from {from} on cannot be run: {error}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(job);
        }
    });
    u8::from(failed.into_inner() > 0)
}
