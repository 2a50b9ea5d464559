//! hvac's own integration suite against our release binary, with a list of the tests that pass: the list may grow,
//! and a listed test that does not pass any more is an error. The suite runs unchanged but for its expired
//! certificates.
//!
//! Traps that this guards against: without a `vault` on the path the suite skips everything and is green, so nothing
//! executed is an error, and so is a listed test that was skipped. What a first run finds broken is run once more
//! alone: what passes then is called flaky by name.

mod outcome;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::listing;
use crate::steps::succeed;
use crate::workspace::{Workspace, cargo};
use outcome::{Outcome, Report};
use stage::Stage;

const LIST: &str = "conformance/hvac-pass.txt";
/// When more listed tests than this fail, the cause is no flakiness and nothing is run again.
const RERUNS_MAX: usize = 12;

/// `cargo xtask hvac [--update]`.
///
/// # Errors
/// As [`check`].
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => build_server(workspace).and_then(|()| check(workspace)),
        [only] if only == "--update" => build_server(workspace).and_then(|()| update(workspace)),
        _ => Err("usage: cargo xtask hvac [--update]".to_owned()),
    }
}

/// Builds the binary that is tested.
///
/// # Errors
/// Text when it does not build.
pub fn build_server(workspace: &Workspace) -> Result<(), String> {
    succeed(cargo().args(["build", "--release", "--bin", "tresor"]).current_dir(&workspace.root))
}

/// Runs the suite and compares with the list.
///
/// # Errors
/// Text that names every listed test that did not pass.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    let listed = listing::entries(&workspace.read_text(LIST)?);
    let run = run_suite(workspace, &listed)?;
    if !run.fresh.is_empty() {
        println!("\n{} tests pass that are not listed; `cargo xtask hvac --update` adds them:", run.fresh.len());
        for test in &run.fresh {
            println!("  {test}");
        }
    }
    run.verdict
}

/// Runs the suite and adds to the list what passes, twice, and is not there yet.
fn update(workspace: &Workspace) -> Result<(), String> {
    let text = workspace.read_text(LIST)?;
    let mut listed = listing::entries(&text);
    let run = run_suite(workspace, &listed)?;
    run.verdict?;
    let again = if run.fresh.is_empty() { Report::default() } else { run.stage.run(&run.fresh, stage::WORKERS)? };
    let (twice, once): (Vec<_>, Vec<_>) = run.fresh.iter().partition(|test| again.outcome(test) == Outcome::Passed);
    for test in once {
        println!("passed only once, not added: {test}");
    }
    println!("{} tests added to {LIST}", twice.len());
    listed.extend(twice.into_iter().cloned());
    workspace.write_text(LIST, &listing::compose(&listing::head(&text), &listed))
}

struct Run {
    stage: Stage,
    /// Passing tests that are not listed.
    fresh: Vec<String>,
    verdict: Result<(), String>,
}

fn run_suite(workspace: &Workspace, listed: &BTreeSet<String>) -> Result<Run, String> {
    let started = Instant::now();
    let stage = Stage::prepare(workspace)?;
    let report = stage.run(&[], stage::WORKERS)?;
    let counts = report.counts();
    if counts.passed + counts.failed == 0 {
        return Err(format!("the suite executed nothing ({} skipped): is the binary startable?", counts.skipped));
    }
    let broken: Vec<&String> = listed.iter().filter(|test| report.outcome(test) != Outcome::Passed).collect();
    let repeated = repeat(&stage, &broken)?;
    let mut lost = Vec::new();
    for test in listed {
        let first = report.outcome(test);
        let word = if first == Outcome::Passed {
            "ok"
        } else if repeated.get(test) == Some(&Outcome::Passed) {
            println!("flaky: {test} failed in the full run and passed alone");
            "ok"
        } else {
            lost.push((test, first));
            "FAILED"
        };
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
    Ok(Run { stage, fresh, verdict })
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
