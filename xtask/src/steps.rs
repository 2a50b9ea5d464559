//! Running one thing after another, each named and timed; the first that fails ends the run.

use std::process::Command;
use std::time::{Duration, Instant};

/// The run so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step.
    ///
    /// # Errors
    /// Text that names the step.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = step();
        let took = started.elapsed();
        match outcome {
            Ok(()) => {
                println!("==> {name}: ok in {:.1} s", took.as_secs_f64());
                self.done.push((name.to_owned(), took));
                Ok(())
            }
            Err(problem) => Err(format!("step `{name}` failed after {:.1} s: {problem}", took.as_secs_f64())),
        }
    }

    /// Prints what was run and how long each took.
    pub fn summarize(&self) {
        println!("\nall steps passed:");
        for (name, took) in &self.done {
            println!("  {:>7.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("  {:>7.1} s  in all", total.as_secs_f64());
    }
}

/// Runs a program in the foreground.
///
/// # Errors
/// Text when it cannot be started or does not succeed.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start {}: {error}", describe(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", describe(command))) }
}

/// Runs a program silently; what it printed is shown only when it fails.
///
/// # Errors
/// Text with the program's output.
pub fn succeed_silently(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot start {}: {error}", describe(command)))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}\n{printed}{complaint}", describe(command), output.status))
}

fn describe(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text.push('`');
    text
}
