//! The benchmark: starts server binaries on durable storage, with TLS and one file audit device, pins them to one
//! core and the load to another, and prints for each load what a request costs. `cargo xtask bench` builds and starts it.
//!
//! The servers are black boxes that speak the Vault API: ours, and any other that is given by path, on the same loads in
//! alternation. Invariant: nothing of the product is linked in, so what is measured is a release binary as users run
//! it. Deliberately absent: assertions. A time is a result, never a promise.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks on the terminal")]

mod answer;
mod connection;
mod contender;
mod drive;
mod histogram;
mod loads;
mod machine;
mod options;
mod report;
mod stage;

use std::process::ExitCode;

use contender::Contender;
use options::Options;
use report::Report;
use stage::Stage;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::usage());
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(&options)));
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
    let mut stages = Vec::new();
    for binary in &options.binaries {
        stages.push(Stage::set(Contender::start(binary, options).await?).await?);
    }
    machine::pin_this_thread(options.load_core)?;
    let mut report = Report::new(&stages);
    for load in loads::LOADS.iter().filter(|load| options.wants(load.name)) {
        for _ in 0..options.rounds {
            for (at, stage) in stages.iter_mut().enumerate() {
                let measured = stage.measure(load, options).await?;
                report.note(load.name, at, measured);
            }
        }
        report.print_load(load);
    }
    for stage in &mut stages {
        report.print_end(stage)?;
    }
    Ok(())
}
