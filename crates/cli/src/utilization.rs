//! `operator utilization`: the server's report of how much there is, as a file.
//!
//! The file is new and its owner's alone. Deliberately absent: sending it anywhere, and reports of earlier times.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::commands::{Action, Command};
use crate::context::{Context, Outcome};
use crate::debug;
use crate::failure::Failure;
use crate::flags::{CONNECTION, Flag, switch, text};

const UTILIZATION: &[Flag] = &[
    text("message", "Why the report is made: goes to the server's log, and not into the report."),
    text(
        "output",
        "The file to write, which must not be there. Default: vault-utilization-TIME.json in this directory.",
    ),
    switch("today-only", "Accepted: a report is always about now."),
];

pub(crate) const COMMANDS: &[Command] = &[Command {
    words: &["operator", "utilization"],
    examples: &["operator utilization", "operator utilization -message='change 17' -output=report.json"],
    arguments: "[options]",
    about: "Write a report of how much there is to a file: mounts, secrets, leases, policies, quotas; no names of secrets \
            and no values.",
    flags: &[CONNECTION, UTILIZATION],
    action: Action::Run(utilization),
}];

fn utilization(context: &mut Context<'_, '_>) -> Outcome {
    let [] = context.arguments()?;
    let message = context.flag("message").map(str::to_owned);
    let query: Vec<(&str, &str)> = message.iter().map(|message| ("message", message.as_str())).collect();
    let answer = context.read("sys/utilization-report", &query);
    let answer = answer.map_err(|failure| failure.during("making the utilization report"))?;
    let Some(answer) = answer else { return Err(Failure::remote("the server has no utilization report")) };
    context.print_warnings(&answer);
    let file = context.flag("output").map_or_else(usual_name, PathBuf::from);
    let report = serde_json::to_string_pretty(&answer.data().cloned().unwrap_or(Value::Null))
        .map_err(|error| Failure::local(error.to_string()))?;
    write(&file, &report).map_err(|error| Failure::local(format!("Error writing {}: {error}", file.display())))?;
    context.io.say(&format!("Success! Utilization report written to: {}", file.display()));
    Ok(0)
}

fn usual_name() -> PathBuf {
    PathBuf::from(format!("vault-utilization-{}.json", debug::now().replace(':', "-")))
}

fn write(file: &Path, report: &str) -> std::io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(out, "{report}")?;
    out.sync_all()
}
