//! Fuzzing on demand. The corpora run on every `cargo test` (`crates/fuzz-targets`); this looks for new inputs.
//!
//! It needs flags that a stable compiler keeps for nightly ones. Where there is a nightly it is used; elsewhere the stable one is
//! told to take them, which is for this alone: nothing that is built so is ever released.

use std::process::Command;

use crate::steps::{succeed, succeed_silently};
use crate::tools;
use crate::workspace::Workspace;

const SECONDS_DEFAULT: u64 = 60;

/// `cargo xtask fuzz [TARGET] [--seconds N]`.
///
/// # Errors
/// Text when the fuzzer cannot be built, or when it found something (it prints where the input lies).
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let (target, seconds) = read_arguments(arguments)?;
    let has_nightly = succeed_silently(Command::new("cargo").args(["+nightly", "--version"])).is_ok();
    let all = succeed_silently(tools::FUZZ.command(workspace)?.args(["fuzz", "list"]))?;
    let targets: Vec<&str> = all.lines().filter(|name| target.as_ref().is_none_or(|wanted| wanted == name)).collect();
    if targets.is_empty() {
        return Err(format!("no such target; there are:\n{all}"));
    }
    for name in targets {
        println!("\n==> {name}, {seconds} s");
        let mut command = tools::FUZZ.command(workspace)?;
        command.env_remove("CARGO").env_remove("RUSTC").env_remove("CARGO_TARGET_DIR");
        if has_nightly {
            // cargo-fuzz calls the toolchain's own cargo; rustup picks it by this variable.
            command.env("RUSTUP_TOOLCHAIN", "nightly");
        } else {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.args(["fuzz", "run", name, "--target-dir"]).arg(workspace.target.join("fuzz"));
        succeed(command.args(["--", &format!("-max_total_time={seconds}"), "-rss_limit_mb=2048"]))?;
    }
    Ok(())
}

fn read_arguments(arguments: &[String]) -> Result<(Option<String>, u64), String> {
    let mut target = None;
    let mut seconds = SECONDS_DEFAULT;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().ok_or("--seconds wants a number")?;
            seconds = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        } else {
            target = Some(argument.clone());
        }
    }
    Ok((target, seconds))
}
