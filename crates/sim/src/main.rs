//! `sim`: any number of seeds, or one with its history.
//!
//! `sim --seeds N --minutes M [--seed S] [--jobs J]` runs up to N seeds, from S on, for at most M minutes, J at a time; a
//! seed that fails is shown and the others go on. `sim --seed S` alone runs one and shows what happened; with `--leases` a
//! seed is a life of leases, with `--cluster` one of a cluster. Deliberately absent: threads within a seed.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tresor_sim::{Failure, Outcome, Planted, PlantedInCluster, Report, Sabotage, run, run_cluster, run_leases};

/// How many events are shown of a run that failed among many.
const LAST_EVENTS: usize = 60;
/// After how many seeds it says how far it is.
const PROGRESS: u64 = 500;
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

/// How far the jobs are, together.
#[derive(Default)]
struct Progress {
    begun: u64,
    done: u64,
    total: Report,
    failed: Vec<u64>,
}

/// Runs until the seeds or the minutes are used up, or too many seeds have failed.
fn many(wish: &Wish) -> u8 {
    let started = Instant::now();
    let bound = wish.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let first = wish.seed.unwrap_or(1);
    let seeds = wish.seeds.unwrap_or(100);
    let progress = Mutex::new(Progress::default());
    let locked = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || {
        let mut progress = locked();
        let is_over = progress.begun == seeds
            || progress.failed.len() >= FAILURES_MAX
            || bound.is_some_and(|bound| started.elapsed() >= bound);
        (!is_over).then(|| {
            progress.begun += 1;
            first + progress.begun - 1
        })
    };
    let job = || {
        while let Some(seed) = next() {
            let outcome = one(seed, wish.kind);
            let mut progress = locked();
            match outcome {
                Ok((report, _)) => progress.total = progress.total.plus(&report),
                Err(Failure { problem, history, .. }) => {
                    let from = history.len().saturating_sub(LAST_EVENTS);
                    history.iter().skip(from).for_each(|event| println!("{event}"));
                    println!("seed {seed} FAILED: {problem}\nagain: sim {}--seed {seed}", wish.kind.flag());
                    progress.failed.push(seed);
                }
            }
            progress.done += 1;
            if progress.done.is_multiple_of(PROGRESS) {
                println!("{} seeds after {} s", progress.done, started.elapsed().as_secs());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs.unwrap_or(1).max(1) {
            scope.spawn(job);
        }
    });
    let Progress { done, total, failed, .. } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    println!(
        "{done} seeds from {first} on, {:.1} a second; {total:?}",
        f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / seconds
    );
    if failed.is_empty() {
        return 0;
    }
    println!("{} FAILED: {failed:?}", failed.len());
    1
}
