//! The dependencies among our own crates as a committed text, so that a new edge is one visible line of a change.

use std::collections::BTreeSet;

use crate::listing;
use crate::workspace::Workspace;

const FILE: &str = "tidy/graph.txt";
const HEAD: &str = "# Which of our crates depends on which; `(tests)` where only tests do.\n\
# A new line is a new edge: argue it in ARCHITECTURE.md. `cargo xtask graph --update` writes this file.\n";

/// `cargo xtask graph [--update]`.
///
/// # Errors
/// Text that lists the edges in which the file and the crates differ.
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => check(workspace),
        [only] if only == "--update" => workspace.write_text(FILE, &listing::compose(HEAD, &edges(workspace))),
        _ => Err("usage: cargo xtask graph [--update]".to_owned()),
    }
}

/// Compares the file with the crates.
///
/// # Errors
/// Text that lists the edges in which they differ.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    let committed = listing::entries(&workspace.read_text(FILE)?);
    let real = edges(workspace);
    let mut differences: Vec<String> = Vec::new();
    differences.extend(real.difference(&committed).map(|edge| format!("new:  {edge}")));
    differences.extend(committed.difference(&real).map(|edge| format!("gone: {edge}")));
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{FILE} differs from the crates; is the edge meant? `cargo xtask graph --update`\n{}",
        differences.join("\n")
    ))
}

fn edges(workspace: &Workspace) -> BTreeSet<String> {
    let mut edges = BTreeSet::new();
    for member in &workspace.members {
        for dependency in &member.dependencies {
            let mark = if dependency.only_tests { " (tests)" } else { "" };
            edges.insert(format!("{} -> {}{mark}", member.name, dependency.name));
        }
    }
    edges
}
