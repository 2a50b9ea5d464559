//! Long runs that CI has no time for: a table of commands, their output kept as a dated file in `docs/evidence`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::calendar;
use crate::steps::succeed_silently;
use crate::workspace::{Workspace, cargo};

/// The simulator, until its minutes are over.
macro_rules! simulation {
    ($($flag:literal)?) => {
        &[
            "run", "--release", "--package", "tresor-sim", "--bin", "sim", "--", $($flag,)? "--seeds", "1000000",
            "--minutes", "MINUTES",
        ]
    };
}

/// One long run: its name and cargo's arguments, where `MINUTES` stands for the time it gets.
const RUNS: [(&str, &[&str]); 12] = [
    ("simulation", simulation!()),
    ("lives of leases", simulation!("--leases")),
    ("lives of clusters", simulation!("--cluster")),
    ("a day's traffic", &["xtask", "bench", "--day", "MINUTES"]),
    (
        "leases",
        &[
            "bench",
            "--package",
            "tresor-harness",
            "--bench",
            "leases",
            "--",
            "--leases",
            "5000000",
            "--descendants",
            "1000000",
            "--ending",
            "200000",
            "--failing",
            "30",
            "--minutes",
            "MINUTES",
        ],
    ),
    (
        "mounts and namespaces",
        &[
            "bench",
            "--package",
            "tresor-harness",
            "--bench",
            "leases",
            "--",
            "--leases",
            "0",
            "--descendants",
            "0",
            "--ending",
            "0",
            "--mounts",
            "100000",
            "--namespaces",
            "20000",
        ],
    ),
    (
        "accounts of a service",
        &["bench", "--package", "tresor-harness", "--bench", "orphans", "--", "--accounts", "100000"],
    ),
    (
        "accounts of a database",
        &["test", "--release", "--package", "tresor", "--test", "accounts", "--", "--accounts", "5000"],
    ),
    (
        "kills of the store",
        &["test", "--release", "--package", "tresor-storage-file", "--test", "kills", "--", "--minutes", "MINUTES"],
    ),
    (
        "faults of the store",
        &["test", "--release", "--package", "tresor-storage-file", "--test", "faults", "--", "--minutes", "MINUTES"],
    ),
    (
        "churn of the store",
        &["bench", "--package", "tresor-storage-file", "--bench", "churn", "--", "--minutes", "MINUTES"],
    ),
    (
        "openings of the store",
        &[
            "bench",
            "--package",
            "tresor-storage-file",
            "--bench",
            "durable",
            "--",
            "--seconds",
            "1",
            "--sizes",
            "100,1000,4000",
        ],
    ),
];

const MINUTES_DEFAULT: u64 = 30;
/// The run of which seeds can be asked for instead of minutes, and what stands for them in its arguments.
const CLUSTERS: &str = "lives of clusters";
const SEEDS_MAX: &str = "1000000";

/// What was asked for.
#[derive(Default)]
struct Wish {
    minutes: Option<u64>,
    cluster_seeds: Option<u64>,
    /// The runs whose name has this in it, and a file of their own.
    only: Option<String>,
}

fn wish(arguments: &[String]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    for pair in arguments.chunks(2) {
        let place = match pair {
            [flag, name] if flag == "--only" => {
                wish.only = Some(name.clone());
                continue;
            }
            [flag, _] if flag == "--minutes" => &mut wish.minutes,
            [flag, _] if flag == "--cluster-seeds" => &mut wish.cluster_seeds,
            _ => return Err("usage: cargo xtask soak [--minutes N] [--cluster-seeds N] [--only NAME]".to_owned()),
        };
        let number = pair.last().map(String::as_str).unwrap_or_default();
        *place = Some(number.parse().map_err(|_| format!("`{number}` is no number"))?);
    }
    Ok(wish)
}

/// `cargo xtask soak [--minutes N] [--cluster-seeds N] [--only NAME]`: with seeds, lives of clusters have as many, on all
/// processors, however long they take; with a name, only the runs that have it in theirs, reported in a file of their own.
///
/// # Errors
/// Text that names the run that failed; the file is written all the same.
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let Wish { minutes, cluster_seeds, only } = wish(arguments)?;
    let exact = only.as_ref().is_some_and(|only| RUNS.iter().any(|(name, _)| name == only));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| if exact { name == only } else { name.contains(only) });
    let runs: Vec<_> = RUNS.iter().filter(|(name, _)| wanted(name)).collect();
    if runs.is_empty() {
        return Err(format!("no run has that name; there are: {}", RUNS.map(|(name, _)| name).join(", ")));
    }
    let each = (minutes.unwrap_or(MINUTES_DEFAULT) / runs.len() as u64).to_string();
    let commit = succeed_silently(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&workspace.root))
        .unwrap_or_else(|_| "unknown".to_owned());
    let mut report = format!("soak of {}, commit {}\n", calendar::today(), commit.trim());
    let mut failed = Vec::new();
    for (name, template) in runs {
        let mut arguments: Vec<String> = template.iter().map(|word| word.replace("MINUTES", &each)).collect();
        if let Some(seeds) = cluster_seeds.filter(|_| *name == CLUSTERS) {
            arguments.retain(|word| *word != "--minutes" && *word != each);
            arguments.iter_mut().filter(|word| *word == SEEDS_MAX).for_each(|word| *word = seeds.to_string());
            let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
            arguments.extend(["--jobs".to_owned(), jobs.to_string()]);
        }
        let _ = writeln!(report, "\n$ cargo {}", arguments.join(" "));
        let started = Instant::now();
        // Engines panic as they are told to, thousands of times: where from fills the file.
        let run = &mut cargo();
        let outcome = tee(run.args(&arguments).env("RUST_BACKTRACE", "0").current_dir(&workspace.root), &mut report);
        let _ = writeln!(report, "{name}: {} after {:.0} s", outcome_word(&outcome), started.elapsed().as_secs_f64());
        if let Err(problem) = outcome {
            failed.push(format!("{name}: {problem}"));
        }
    }
    let name = only.map_or_else(String::new, |only| format!("{}-", only.replace(' ', "-")));
    let file = format!("docs/evidence/soak-{name}{}.txt", calendar::today());
    workspace.write_text(&file, &report)?;
    println!("written to {file}");
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

const fn outcome_word(outcome: &Result<(), String>) -> &'static str {
    if outcome.is_ok() { "passed" } else { "FAILED" }
}

/// Runs a program, its standard output both on the terminal and in the report.
pub(crate) fn tee(command: &mut Command, report: &mut String) -> Result<(), String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            report.push_str(&line);
            report.push('\n');
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("ended with {status}")) }
}
