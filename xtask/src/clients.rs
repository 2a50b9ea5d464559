//! Tests that other clients carry in their registry packages, unchanged, against our release binary: the crate
//! `hashicorp_vault` and the npm package `hashi-vault-js`. Their packages are pinned with checksums in `conformance/clients` and
//! fetched by cargo and npm; `suites` says what must pass.
//!
//! Deliberately absent: a port that is written down. The crate's tests name one, which is replaced by the server's own.

mod node;
mod rust;
mod server;

use std::path::Path;
use std::process::Command;

use crate::hvac::{Build, build_server};
use crate::listing;
use crate::suites::{Lists, Outcome};
use crate::workspace::Workspace;

/// A suite: its name in `conformance`, and what runs it.
type Suite = (&'static str, fn(&Workspace, &Path) -> Result<Vec<(String, Outcome)>, String>);

const SUITES: &[Suite] = &[("hashicorp_vault", rust::run), ("hashi-vault-js", node::run)];

/// `cargo xtask clients [--dev] [--update]`.
///
/// # Errors
/// As [`check`].
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let build = if has("--dev") { Build::Dev } else { Build::Release };
    build_server(workspace, build)?;
    if has("--update") { update(workspace, build) } else { check(workspace, build) }
}

/// Runs each suite and compares it with its lists.
///
/// # Errors
/// Text that names every test that is not where it belongs.
pub fn check(workspace: &Workspace, build: Build) -> Result<(), String> {
    let mut problems = Vec::new();
    for (name, run) in SUITES {
        let lists = Lists::read(workspace, name)?;
        let outcomes = run(workspace, &binary(workspace, build))?;
        let seen: Vec<(&str, Outcome)> = outcomes.iter().map(|(test, outcome)| (test.as_str(), *outcome)).collect();
        for test in &lists.passing {
            let passed = seen.iter().any(|(name, outcome)| name == test && *outcome == Outcome::Passed);
            println!("test {name} {test} ... {}", if passed { "ok" } else { "FAILED" });
            if !passed {
                problems.push(format!("{name}: does not pass any more: {test}"));
            }
        }
        println!("{name}: {} pass; waiting: {}", lists.passing.len(), lists.waiting_for(&seen));
        problems.extend(lists.untrue(&seen).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n  ")) }
}

/// Adds what passes now to the lists.
fn update(workspace: &Workspace, build: Build) -> Result<(), String> {
    for (name, run) in SUITES {
        let file = format!("conformance/{name}-pass.txt");
        let text = workspace.read_text(&file)?;
        let mut listed = listing::entries(&text);
        let outcomes = run(workspace, &binary(workspace, build))?;
        listed.extend(outcomes.into_iter().filter(|(_, outcome)| *outcome == Outcome::Passed).map(|(test, _)| test));
        workspace.write_text(&file, &listing::compose(&listing::head(&text), &listed))?;
    }
    Ok(())
}

fn binary(workspace: &Workspace, build: Build) -> std::path::PathBuf {
    workspace.target.join(build.folder()).join("tresor")
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    let mut command = Command::new("cp");
    crate::steps::succeed(command.arg("-r").arg(from).arg(to))
}
