//! `hashicorp_vault`: its tests are in its source, and cargo runs them there. Two things are changed in the copy: the address of
//! the server, and that it is a workspace of its own. Warnings of today's compiler about its code are none of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::server::Server;
use crate::steps::succeed_silently;
use crate::suites::Outcome;
use crate::workspace::{Workspace, cargo};

const PACKAGE: &str = "hashicorp_vault";
const ADDRESS: &str = "http://127.0.0.1:8200";

pub(super) fn run(workspace: &Workspace, binary: &Path) -> Result<Vec<(String, Outcome)>, String> {
    let place = workspace.target.join("conformance").join(PACKAGE);
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let suite = place.join("suite");
    super::copy(&fetched(workspace)?, &suite)?;
    let server = Server::start(binary, &place, false)?;
    // One test counts the tokens there are, and expects those of a server that was prepared by hand.
    for _ in 0..2 {
        server.command(&["token", "create"])?;
    }
    edit(&suite.join("Cargo.toml"), |text| format!("{text}\n[workspace]\n"))?;
    edit(&suite.join("src/lib.rs"), |text| text.replace(ADDRESS, &server.url))?;
    let mut command = cargo();
    command.args(["test", "--locked", "--no-default-features", "--lib", "--no-fail-fast"]).current_dir(&suite);
    command.env("CARGO_TARGET_DIR", place.join("target")).env("RUSTFLAGS", "--cap-lints warn");
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<(String, Outcome)> = printed.lines().filter_map(outcome).collect();
    if outcomes.is_empty() {
        return Err(format!("{PACKAGE}: nothing was executed\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(outcomes)
}

/// Where cargo put the package's source.
fn fetched(workspace: &Workspace) -> Result<PathBuf, String> {
    let manifest = workspace.root.join("conformance/clients/rust/Cargo.toml");
    let metadata = |more: &[&str]| -> Result<String, String> {
        let mut command: Command = cargo();
        command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(&manifest).args(more);
        succeed_silently(&mut command)
    };
    let text = metadata(&["--offline"]).or_else(|_| metadata(&[]))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = value.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = packages.iter().find(|package| package.get("name").and_then(Value::as_str) == Some(PACKAGE));
    let file = named.and_then(|package| package.get("manifest_path")?.as_str()).map(Path::new);
    file.and_then(Path::parent).map(Path::to_owned).ok_or_else(|| format!("cargo does not know {PACKAGE}"))
}

fn edit(file: &Path, change: impl FnOnce(&str) -> String) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    std::fs::write(file, change(&text)).map_err(|error| format!("{}: {error}", file.display()))
}

/// One line of the test program.
fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match word.trim() {
        "ok" => Outcome::Passed,
        "ignored" => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    Some((name.to_owned(), outcome))
}
