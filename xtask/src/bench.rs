//! `cargo xtask bench`: builds the release binary and the benchmark, starts the one by the other, and keeps the output as
//! a dated file when asked to. What is measured, and how, is in `crates/bench`.

use std::fmt::Write as _;
use std::process::Command;

use crate::calendar;
use crate::soak::tee;
use crate::steps::{succeed, succeed_silently};
use crate::workspace::{Workspace, cargo};

/// `cargo xtask bench [--keep] [flags of the benchmark]`.
///
/// # Errors
/// Text when something cannot be built, or the benchmark fails.
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    for package in ["tresor", "tresor-bench"] {
        // One after the other: together their features would be united, and the binary would not be what users get.
        succeed(cargo().args(["build", "--release", "--package", package]).current_dir(&workspace.root))?;
    }
    let given: Vec<&str> = arguments.iter().map(String::as_str).filter(|flag| *flag != "--keep").collect();
    let commit = succeed_silently(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&workspace.root))
        .unwrap_or_else(|_| "unknown".to_owned());
    let mut report = format!("benchmark of {}, commit {}\n", calendar::today(), commit.trim());
    let _ = writeln!(report, "$ cargo xtask bench {}\n", shown(&given));
    let release = workspace.target.join("release");
    let mut bench = Command::new(release.join("bench"));
    // Below the target folder: a folder for temporary files may lie in memory, where nothing is durable.
    let directory = workspace.target.join("bench");
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    bench.arg("--binary").arg(release.join("tresor")).arg("--directory").arg(directory).args(&given);
    tee(bench.current_dir(&workspace.root), &mut report)?;
    if given.len() < arguments.len() {
        let kind = if given.contains(&"--cluster") { "cluster" } else { "bench" };
        let file = format!("docs/evidence/{kind}-{}.txt", calendar::today());
        workspace.write_text(&file, &report)?;
        println!("written to {file}");
    }
    Ok(())
}

/// The arguments as they may be kept: of paths, which are those of one machine, the last part.
fn shown(arguments: &[&str]) -> String {
    let names = arguments.iter().map(|argument| argument.rsplit('/').next().unwrap_or_default());
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kept_report_names_no_folder_of_a_machine() {
        assert_eq!(
            super::shown(&["--against", "/somewhere/else/bao", "--only", "kv-write"]),
            "--against bao --only kv-write"
        );
    }
}
