//! The entry of `cargo xtask`: finds the command in one table and runs it. What a command does is in its module.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]

use std::process::ExitCode;

use xtask::workspace::Workspace;

type Run = fn(&Workspace, &[String]) -> Result<(), String>;

/// Name, arguments, what it does, function.
const COMMANDS: &[(&str, &str, &str, Run)] = &[
    ("test", "", "run every check of the project: what CI runs", |workspace, _| xtask::suite::run(workspace)),
    ("check", "", "the house rules alone, in seconds", |workspace, _| xtask::suite::check(workspace)),
    (
        "hvac",
        "[--update]",
        "run hvac's integration suite; --update adds new passes to the list",
        xtask::hvac::run_command,
    ),
    (
        "clients",
        "[--dev] [--update]",
        "run the tests that other clients carry in their packages; --update adds new passes",
        xtask::clients::run_command,
    ),
    ("graph", "[--update]", "compare tidy/graph.txt with the crates' real dependencies", xtask::graph::run_command),
    (
        "ratchets",
        "[--update|--accept-rises]",
        "compare tidy/ratchets.txt with the tree; --update only lowers",
        xtask::tidy::ratchets::run_command,
    ),
    (
        "bench",
        "[--keep] [--against PATH] [--only LOADS] ..",
        "what requests cost a release binary; --keep writes docs/evidence",
        xtask::bench::run_command,
    ),
    (
        "instructions",
        "[--update]",
        "count what a request of the hot path takes; compare with tidy/instructions.txt",
        xtask::instructions::run_command,
    ),
    (
        "soak",
        "[--minutes N]",
        "long simulation runs; the output becomes a dated file in docs/evidence",
        xtask::soak::run_command,
    ),
    ("fuzz", "[TARGET] [--seconds N]", "fuzz one target or all in turn (needs a nightly)", xtask::fuzz::run_command),
];

fn usage() {
    eprintln!("usage: cargo xtask COMMAND\n");
    for (name, arguments, summary, _) in COMMANDS {
        eprintln!("  {:<36} {summary}", format!("{name} {arguments}"));
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        usage();
        return ExitCode::from(2);
    };
    let Some((_, _, _, run)) = COMMANDS.iter().find(|(known, ..)| known == name) else {
        usage();
        return ExitCode::from(2);
    };
    match Workspace::find().and_then(|workspace| run(&workspace, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("\ncargo xtask {name}: {problem}");
            ExitCode::FAILURE
        }
    }
}
