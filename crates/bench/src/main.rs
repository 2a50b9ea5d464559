//! The benchmark: starts server binaries on durable storage, with TLS and one file audit device, pins them to one
//! core and the load to another, and prints for each load what a request costs. `cargo xtask bench` builds and starts it.
//!
//! The servers are black boxes that speak the Vault API: ours, and any other that is given by path, on the same loads in
//! alternation. Invariant: nothing of the product is linked in, so what is measured is a release binary as users run
//! it. Deliberately absent: assertions. A time is a result, never a promise.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks on the terminal")]

mod answer;
mod bare;
mod broker;
mod cluster;
mod connection;
mod contender;
mod credentials;
mod day;
mod drive;
mod histogram;
mod loads;
mod machine;
mod measure;
mod options;
mod report;
mod stage;

use std::process::ExitCode;

use bare::Yardstick;
use contender::{Contender, Program};
use loads::Kind;
use measure::Measured;
use options::Options;
use report::Report;
use stage::Stage;
use tikv_jemallocator::Jemalloc;

/// The bare server's, so that it has the same as ours.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((bare::COMMAND, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return ended(bare::run(rest));
    }
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::usage());
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(&options)));
    ended(outcome)
}

fn ended(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    machine::describe(options)?;
    if let Some(minutes) = options.day {
        return day::run(options, minutes).await;
    }
    if options.cluster {
        return cluster::run(options).await;
    }
    if options.credentials {
        return credentials::run(options).await;
    }
    let mut stages = Vec::new();
    for binary in &options.binaries {
        for storage in &options.storages {
            let program = Program::Server(binary, *storage);
            stages.push(Stage::set(Contender::start(program, options).await?).await?);
        }
    }
    let yardstick = Yardstick::set(options).await?;
    machine::pin_this_thread(options.load_core)?;
    let mut report = Report::new(&stages);
    for load in loads::LOADS.iter().filter(|load| options.wants(load.name)) {
        for _ in 0..options.rounds {
            let bare = yardstick.measure().await?;
            if load.kind == Kind::Bare {
                report.note(load.name, report::BARE, bare);
                continue;
            }
            for (at, stage) in stages.iter_mut().enumerate() {
                let measured = stage.measure(load, options).await?;
                report.note(load.name, at, Measured { of_bare: measured.rate / bare.rate, ..measured });
            }
        }
        report.print_load(load);
    }
    for stage in &mut stages {
        report.print_end(stage)?;
    }
    Ok(())
}
