//! Processes, a plain HTTP client that can also misbehave, and waiting with a bound.

pub(crate) mod cluster;
pub(crate) mod hosts;
mod http;
mod load;
mod process;
mod production;

pub(crate) use http::{Answer, Http, read_answer};
pub(crate) use load::{Load, clients, under_load};
pub(crate) use process::{Cli, Finished, Server, binary, command};
pub(crate) use production::{Keys, Production};

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// The longest that anything here is waited for: generous, since machines that run tests are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Asks until there is an answer, or fails with what was waited for.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

/// Runs a program to its end: what it printed, or why it failed.
pub(crate) fn try_run(command: &[&str]) -> Result<String, String> {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.map_err(|error| format!("{}: {error}", command[0]))?;
    let problem = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()).ok_or_else(problem)
}

/// Tells whoever runs the tests that something was not tested here, past the harness, which shows nothing of tests that pass.
pub(crate) fn not_run(what: &str, why: &str) {
    let told = format!("\nNOT RUN: {what}, because that is not to be had here: {why}\n");
    // Nobody may be listening.
    drop(std::io::stderr().write_all(told.as_bytes()));
}
