//! Numbers that may fall and never rise: how often each crate looks inside a secret, and how long the long files are.
//! The numbers are committed; a smaller one is taken over by `--update`, a larger one only by `--accept-rises`, by
//! whoever can say why in the commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::source::{self, Source};
use crate::listing;
use crate::workspace::Workspace;

const FILE: &str = "tidy/ratchets.txt";
/// A file longer than this is counted.
const FILE_LINES_LONG: usize = 700;

type Numbers = BTreeMap<String, usize>;

/// `cargo xtask ratchets [--update | --accept-rises]`.
///
/// # Errors
/// Text that lists the numbers that rose.
pub fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => check(workspace),
        [only] if only == "--update" => update(workspace),
        [only] if only == "--accept-rises" => accept(workspace),
        _ => Err("usage: cargo xtask ratchets [--update | --accept-rises]".to_owned()),
    }
}

/// Compares the tree with the committed numbers.
///
/// # Errors
/// Text that lists the numbers that rose.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    let committed = read(&workspace.read_text(FILE)?)?;
    let rises = risen(&committed, &count(&source::read_all(workspace)?));
    if rises.is_empty() { Ok(()) } else { Err(rises.join("\n")) }
}

/// Takes over what fell or is gone; what rose stays an error.
fn update(workspace: &Workspace) -> Result<(), String> {
    let text = workspace.read_text(FILE)?;
    let committed = read(&text)?;
    let real = count(&source::read_all(workspace)?);
    let lowered = committed.iter().filter_map(|(name, limit)| Some((name.clone(), *real.get(name)?.min(limit))));
    workspace.write_text(FILE, &compose(&text, &lowered.collect()))?;
    let rises = risen(&committed, &real);
    if rises.is_empty() { Ok(()) } else { Err(rises.join("\n")) }
}

/// Takes over everything, and says what rose.
fn accept(workspace: &Workspace) -> Result<(), String> {
    let text = workspace.read_text(FILE)?;
    let real = count(&source::read_all(workspace)?);
    for rise in risen(&read(&text)?, &real) {
        println!("{rise}");
    }
    workspace.write_text(FILE, &compose(&text, &real))
}

fn compose(old: &str, numbers: &Numbers) -> String {
    let mut text = listing::head(old);
    for (name, number) in numbers {
        let _ = writeln!(text, "{name} {number}");
    }
    text
}

fn risen(committed: &Numbers, real: &Numbers) -> Vec<String> {
    real.iter()
        .filter_map(|(name, number)| {
            let limit = committed.get(name).copied().unwrap_or(0);
            (*number > limit).then(|| {
                format!(
                    "{name}: {number}, and {limit} is the limit; if it must be, write `{name} {number}` into {FILE}"
                )
            })
        })
        .collect()
}

fn count(sources: &[Source]) -> Numbers {
    let mut numbers = Numbers::new();
    for source in sources {
        let exposed: usize = source.code.matches(".expose()").count();
        if exposed > 0 {
            *numbers.entry(format!("expose {}", folder_of(&source.path))).or_default() += exposed;
        }
        let lines = source.text.lines().count();
        if lines > FILE_LINES_LONG {
            numbers.insert(format!("lines {}", source.path), lines);
        }
    }
    numbers
}

/// The crate's folder: the first two parts of the path.
fn folder_of(path: &str) -> &str {
    let end = path.match_indices('/').nth(1).map_or(path.len(), |(at, _)| at);
    path.get(..end).unwrap_or(path)
}

fn read(text: &str) -> Result<Numbers, String> {
    let mut numbers = Numbers::new();
    for entry in listing::entries(text) {
        let parsed = entry.rsplit_once(' ').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
        let (name, number) = parsed.ok_or_else(|| format!("{FILE}: `{entry}` is no `KIND NAME NUMBER`"))?;
        numbers.insert(name, number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(entries: &[(&str, usize)]) -> Numbers {
        entries.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_number_may_fall_and_never_rise() {
        let committed = numbers(&[("expose crates/a", 3), ("expose crates/b", 3)]);
        let real = numbers(&[("expose crates/a", 2), ("expose crates/b", 4), ("expose crates/c", 1)]);
        assert_eq!(risen(&committed, &real).len(), 2);
        assert!(risen(&committed, &committed).is_empty());
    }

    #[test]
    fn exposures_count_by_crate_and_not_in_tests() {
        let text = "fn a() { s.expose(); t.expose().len(); }\n#[cfg(test)]\nmod tests { fn b() { s.expose(); } }\n";
        let counted = count(&[Source::new("crates/a/src/b/c.rs", text.to_owned())]);
        assert_eq!(counted, numbers(&[("expose crates/a", 2)]));
    }

    #[test]
    fn a_malformed_line_is_an_error() {
        assert!(read("expose crates/a many").is_err());
        assert_eq!(read("# why\nexpose crates/a 2\n"), Ok(numbers(&[("expose crates/a", 2)])));
    }
}
