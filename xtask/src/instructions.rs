//! How many instructions a request of the hot path takes: counted, not timed, so that a busy machine counts the same.
//!
//! The driver is the harness's example `hot_path`, unoptimised as the tests are built, under valgrind, which needs no
//! privileges. What is counted is the difference between many requests and none, so that starting the node is left
//! out. `tidy/instructions.txt` holds the numbers: within the tolerance they may move, a rise beyond it fails and is
//! argued in the commit that raises the number, and a fall is taken by `--update`. Deliberately absent: a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::steps::{succeed, succeed_silently};
use crate::workspace::{Workspace, cargo};

/// The numbers.
const FILE: &str = "tidy/instructions.txt";
/// Kinds of requests that the driver knows.
const KINDS: &[&str] = &["kv-read", "kv-write", "token-create", "token-lookup-self", "secret-lease"];
/// How many requests are counted.
const REQUESTS: u64 = 64;
/// How far a count may lie from its number: compilers differ a little, and so does what a copy costs.
const TOLERANCE_PERCENT: u64 = 3;
/// What stands at the top of the file.
const HEAD: &str = "# Instructions per request of the hot path, unoptimised, without sockets and TLS; within 3 %.\n\
                    # `cargo xtask instructions --update` writes this file; a rise is argued in the commit.\n";

/// `cargo xtask instructions [--update]`.
///
/// # Errors
/// Text that names what cannot be counted, or the numbers that rose.
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let is_update = match arguments {
        [] => false,
        [flag] if flag == "--update" => true,
        _ => return Err("usage: cargo xtask instructions [--update]".to_owned()),
    };
    let counted = count(workspace)?;
    for (kind, count) in &counted {
        println!("{kind:<20} {count:>10} instructions");
    }
    if is_update {
        return workspace.write_text(FILE, &render(&counted));
    }
    let committed = parse(&workspace.read_text(FILE)?)?;
    let problems = compare(&committed, &counted);
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn count(workspace: &Workspace) -> Result<BTreeMap<String, u64>, String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Err("valgrind is missing; install it by: apt-get install --yes valgrind".to_owned());
    }
    succeed(
        cargo()
            .args(["build", "--quiet", "--package", "tresor-harness", "--example", "hot_path"])
            .current_dir(&workspace.root),
    )?;
    let driver = workspace.target.join("debug/examples/hot_path");
    let runs: Vec<(&str, u64)> =
        std::iter::once(("kv-read", 0)).chain(KINDS.iter().map(|kind| (*kind, REQUESTS))).collect();
    // Side by side: nothing is timed.
    let counts: Vec<Result<u64, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            runs.iter().map(|(kind, requests)| scope.spawn(|| run(&driver, kind, *requests))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a count panicked".to_owned()))).collect()
    });
    let counts = counts.into_iter().collect::<Result<Vec<u64>, String>>()?;
    let (starting, rest) = counts.split_first().ok_or("nothing was counted")?;
    Ok(KINDS
        .iter()
        .zip(rest)
        .map(|(kind, count)| ((*kind).to_owned(), count.saturating_sub(*starting) / REQUESTS))
        .collect())
}

/// Instructions of one run of the driver.
fn run(driver: &Path, kind: &str, requests: u64) -> Result<u64, String> {
    let log = driver.with_file_name(format!("hot_path-{kind}-{requests}.valgrind"));
    succeed_silently(
        Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(format!("--log-file={}", log.display()))
            .arg(driver)
            .args([kind, &requests.to_string()]),
    )?;
    let said = std::fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    instructions(&said).ok_or_else(|| format!("valgrind said something else than a number of instructions:\n{said}"))
}

/// The number of `==1== I refs: 1,234`; versions differ in blanks.
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("refs:") && line.contains(" I "))?;
    let digits: String = line.rsplit_once(':')?.1.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn render(counted: &BTreeMap<String, u64>) -> String {
    counted.iter().fold(HEAD.to_owned(), |text, (kind, count)| format!("{text}{kind} {count}\n"))
}

fn parse(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (kind, count) = line.split_once(' ').ok_or_else(|| format!("{FILE}: `{line}`"))?;
            Ok((kind.to_owned(), count.trim().parse().map_err(|_| format!("{FILE}: `{line}`"))?))
        })
        .collect()
}

fn compare(committed: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, count) in counted {
        match committed.get(kind) {
            None => problems.push(format!("{kind} has no number in {FILE}: --update")),
            Some(number) if *count > number + number * TOLERANCE_PERCENT / 100 => {
                problems.push(format!("{kind} takes {count} instructions instead of {number}"));
            }
            Some(number) => {
                if *count < number - number * TOLERANCE_PERCENT / 100 {
                    println!("{kind} takes less than {number}: keep what was gained by --update");
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_number_is_found_in_what_valgrind_says() {
        let said = "==7== Cachegrind, a high-precision tracing profiler\n==7== \n==7== I refs:        1,234,567\n";
        assert_eq!(instructions(said), Some(1_234_567));
        assert_eq!(instructions("==7== I   refs:      12\n"), Some(12));
        assert_eq!(instructions("==7== Illegal instruction"), None);
    }

    #[test]
    fn small_moves_and_falls_pass_and_large_rises_do_not() {
        let numbers = |count| BTreeMap::from([("kv-read".to_owned(), count)]);
        assert!(compare(&numbers(1000), &numbers(1030)).is_empty());
        assert!(compare(&numbers(1000), &numbers(970)).is_empty());
        assert_eq!(compare(&numbers(1000), &numbers(1031)).len(), 1);
        assert!(compare(&numbers(1000), &numbers(10)).is_empty());
        assert_eq!(compare(&BTreeMap::new(), &numbers(1)).len(), 1);
        assert_eq!(parse(&render(&numbers(1000))).unwrap(), numbers(1000));
    }
}
