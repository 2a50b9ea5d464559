//! The test command: everything that must hold before a change is taken, cheap checks first. CI calls exactly this.

use crate::steps::{Steps, succeed};
use crate::workspace::{Workspace, cargo};
use crate::{clients, hvac, instructions, prerequisites, tools};

/// Runs every step.
///
/// # Errors
/// Text that names the first step that failed.
pub fn run(workspace: &Workspace) -> Result<(), String> {
    let mut steps = Steps::default();
    steps.run("prerequisites", prerequisites::ensure)?;
    steps.run("format", || run_cargo(workspace, &["fmt", "--all", "--check"]))?;
    steps.run("house rules", || check(workspace))?;
    steps.run("spelling", || succeed(&mut tools::TYPOS.command(workspace)?))?;
    steps.run("dependencies", || {
        // Advisories are left out: they change by themselves and would fail a change that has no part in it.
        let mut deny = tools::DENY.command(workspace)?;
        succeed(deny.args(["--all-features", "--locked", "check", "--show-stats", "bans", "licenses", "sources"]))
    })?;
    steps.run("clippy", || {
        run_cargo(workspace, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    steps.run("release build", || hvac::build_server(workspace, hvac::Build::Release))?;
    steps.run("hvac's integration suite", || hvac::check(workspace, hvac::Build::Release))?;
    steps.run("other clients' own tests", || clients::check(workspace, hvac::Build::Release))?;
    // Unit, engine and HTTP tests, simulation, fuzz corpora, documented command lines.
    steps.run("tests", || run_cargo(workspace, &["test", "--workspace"]))?;
    // Built with the tests already; what is left is counting.
    steps.run("instructions of the hot path", || instructions::run_command(workspace, &[]))?;
    steps.summarize();
    Ok(())
}

/// The house rules alone, as `cargo test` has them: what a change is asked first.
///
/// # Errors
/// Text that says which rule is broken.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    run_cargo(workspace, &["test", "--quiet", "--package", "xtask"])
}

fn run_cargo(workspace: &Workspace, arguments: &[&str]) -> Result<(), String> {
    succeed(cargo().args(arguments).current_dir(&workspace.root))
}
