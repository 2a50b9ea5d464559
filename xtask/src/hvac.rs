//! hvac's own integration suite against our release binary, with a list of the tests that pass: the list may grow,
//! and a listed test that does not pass any more is an error. The suite runs unchanged but for its expired
//! certificates.
//!
//! Traps that this guards against: without a `vault` on the path the suite skips everything and is green, so nothing
//! executed is an error, and so is a listed test that was skipped. What a first run finds broken is run once more
//! alone: what passes then is called flaky by name.

mod report;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::listing;
use crate::steps::succeed;
use crate::suites::{Lists, Outcome};
use crate::workspace::{Workspace, cargo};
use report::Report;
use stage::Stage;

const LIST: &str = "conformance/hvac-pass.txt";
/// When more listed tests than this fail, the cause is no flakiness and nothing is run again.
const RERUNS_MAX: usize = 12;
/// In how many runs a test must pass before it is listed.
const RUNS: usize = 3;

/// Which build of the server is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What is shipped; the list is about this one.
    Release,
    /// What builds faster, while working on a test.
    Dev,
}

impl Build {
    /// The folder below the target folder.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }

    /// What cargo is told.
    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["--release"],
            Self::Dev => &[],
        }
    }
}

/// `cargo xtask hvac [--dev] [--update | TEST ...]`.
///
/// # Errors
/// As [`check`].
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let (build, rest) = match arguments {
        [first, rest @ ..] if first == "--dev" => (Build::Dev, rest),
        all => (Build::Release, all),
    };
    match rest {
        [] => build_server(workspace, build).and_then(|()| check(workspace, build)),
        [only] if only == "--update" && build == Build::Release => {
            build_server(workspace, build).and_then(|()| update(workspace))
        }
        tests if tests.iter().all(|test| !test.starts_with('-')) => {
            build_server(workspace, build).and_then(|()| run_some(workspace, build, tests))
        }
        _ => {
            Err("usage: cargo xtask hvac [--update], or while working: cargo xtask hvac [--dev] [TEST ...]".to_owned())
        }
    }
}

/// Builds the binary that is tested.
///
/// # Errors
/// Text when it does not build.
pub fn build_server(workspace: &Workspace, build: Build) -> Result<(), String> {
    let arguments = ["build", "--bin", "tresor"];
    succeed(cargo().args(arguments).args(build.flags()).current_dir(&workspace.root))
}

/// Runs some tests, by names as pytest takes them, without comparing with the list.
fn run_some(workspace: &Workspace, build: Build, tests: &[String]) -> Result<(), String> {
    let report = Stage::prepare(workspace, build)?.run(tests, stage::WORKERS)?;
    let mut failed = 0;
    for (test, outcome, detail) in report.all() {
        println!("test hvac {test} ... {}", outcome.word());
        if outcome == Outcome::Failed {
            failed += 1;
            println!("{detail}");
        }
    }
    let counts = report.counts();
    println!("hvac: {} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    match (failed, counts.passed) {
        (0, 0) => Err("nothing was executed".to_owned()),
        (0, _) => Ok(()),
        _ => Err(format!("{failed} tests failed")),
    }
}

/// Runs the suite and compares with the list.
///
/// # Errors
/// Text that names every listed test that did not pass.
pub fn check(workspace: &Workspace, build: Build) -> Result<(), String> {
    let lists = Lists::read(workspace, "hvac")?;
    let run = run_suite(workspace, build, &lists.passing)?;
    let outcomes: Vec<(&str, Outcome)> = run.report.all().map(|(test, outcome, _)| (test, outcome)).collect();
    println!("hvac waits for: {}", lists.waiting_for(&outcomes));
    run.verdict?;
    let untrue = lists.untrue(&outcomes);
    if untrue.is_empty() {
        return Ok(());
    }
    Err(format!(
        "`cargo xtask hvac --update` adds what passes; hvac-waiting.txt says what the rest waits for:\n  {}",
        untrue.join("\n  ")
    ))
}

/// Runs the suite and adds to the list what is not there yet and passes in every one of several runs.
fn update(workspace: &Workspace) -> Result<(), String> {
    let text = workspace.read_text(LIST)?;
    let mut listed = listing::entries(&text);
    let run = run_suite(workspace, Build::Release, &listed)?;
    run.verdict?;
    let mut stable = run.fresh;
    for _ in 1..RUNS {
        if stable.is_empty() {
            break;
        }
        let again = run.stage.run(&stable, stage::WORKERS)?;
        let (passed, unstable) = stable.into_iter().partition(|test| again.outcome(test) == Outcome::Passed);
        stable = passed;
        for test in unstable {
            println!("does not pass every time, not added: {test}");
        }
    }
    println!("{} tests added to {LIST}", stable.len());
    listed.extend(stable);
    workspace.write_text(LIST, &listing::compose(&listing::head(&text), &listed))
}

struct Run {
    stage: Stage,
    report: Report,
    /// Passing tests that are not listed.
    fresh: Vec<String>,
    verdict: Result<(), String>,
}

fn run_suite(workspace: &Workspace, build: Build, listed: &BTreeSet<String>) -> Result<Run, String> {
    let started = Instant::now();
    let stage = Stage::prepare(workspace, build)?;
    let report = stage.run(&[], stage::WORKERS)?;
    let counts = report.counts();
    if counts.passed + counts.failed == 0 {
        return Err(format!("the suite executed nothing ({} skipped): is the binary startable?", counts.skipped));
    }
    let broken = not_passed(listed, &report);
    let repeated = repeat(&stage, &broken)?;
    let lost: Vec<(&String, Outcome)> = broken
        .into_iter()
        .filter(|test| repeated.get(*test) != Some(&Outcome::Passed))
        .map(|test| (test, report.outcome(test)))
        .collect();
    for test in repeated.iter().filter(|(_, again)| **again == Outcome::Passed).map(|(test, _)| test) {
        println!("flaky: {test} failed in the full run and passed alone");
    }
    for test in listed {
        let word = if lost.iter().any(|(name, _)| *name == test) { "FAILED" } else { "ok" };
        println!("test hvac {test} ... {word}");
    }
    for (test, first) in &lost {
        println!("\n---- {test}: {} ----\n{}", first.word(), report.detail(test));
    }
    let fresh: Vec<String> = report.passed().filter(|test| !listed.contains(*test)).cloned().collect();
    println!(
        "\nhvac: {} executed of {} collected, {} passed, {} failed, {} skipped",
        counts.passed + counts.failed,
        counts.passed + counts.failed + counts.skipped,
        counts.passed,
        counts.failed,
        counts.skipped
    );
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
        if lost.is_empty() { "ok" } else { "FAILED" },
        listed.len() - lost.len(),
        lost.len(),
        (counts.passed + counts.failed + counts.skipped).saturating_sub(listed.len()),
        started.elapsed().as_secs_f64()
    );
    let verdict = if lost.is_empty() {
        Ok(())
    } else {
        let names: Vec<String> = lost.iter().map(|(test, first)| format!("  {}: {test}", first.word())).collect();
        Err(format!("{} tests of {LIST} do not pass:\n{}", lost.len(), names.join("\n")))
    };
    Ok(Run { stage, report, fresh, verdict })
}

/// The listed tests that were not seen to pass: failed, skipped, or not there at all.
fn not_passed<'l>(listed: &'l BTreeSet<String>, report: &Report) -> Vec<&'l String> {
    listed.iter().filter(|test| report.outcome(test) != Outcome::Passed).collect()
}

/// Runs broken tests again, each alone.
fn repeat(stage: &Stage, broken: &[&String]) -> Result<BTreeMap<String, Outcome>, String> {
    let mut repeated = BTreeMap::new();
    if broken.len() > RERUNS_MAX {
        return Ok(repeated);
    }
    for test in broken {
        let alone = stage.run(std::slice::from_ref(*test), 0)?;
        repeated.insert((*test).clone(), alone.outcome(test));
    }
    Ok(repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_test_that_is_skipped_or_gone_has_not_passed() {
        let lines = r#"{"test": "fails", "outcome": "failed", "detail": ""}
{"test": "passes", "outcome": "passed", "detail": ""}
{"test": "is skipped", "outcome": "skipped", "detail": "no server"}"#;
        let report = Report::read(lines).unwrap_or_default();
        let listed = ["fails", "is gone", "is skipped", "passes"].map(str::to_owned).into();
        assert_eq!(not_passed(&listed, &report), ["fails", "is gone", "is skipped"]);
    }
}
