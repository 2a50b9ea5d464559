//! The table of what of the original is there tells the truth about its tests: each one that it names exists, and no row that
//! is called here is without one.
//!
//! Deliberately absent: whether a test proves what its row says; that is for reviewers.

use super::bank::is_test_name;
use super::source::Source;

/// Where the table is.
pub const TABLE: &str = "docs/parity.md";

/// What is wrong with the table.
#[must_use]
pub fn untrue(table: &str, sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rows = 0;
    for (at, line) in table.lines().enumerate() {
        let Some(inner) = line.strip_prefix("| ").and_then(|rest| rest.trim_end().strip_suffix('|')) else { continue };
        let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
        let [row, .., state, evidence] = cells[..] else { continue };
        if row == "row" {
            continue;
        }
        rows += 1;
        let mut complain = |text: String| broken.push(format!("{TABLE}:{}: {row}: {text}", at + 1));
        for name in evidence.split('`').skip(1).step_by(2) {
            let is_there = if is_test_name(name) {
                sources.iter().any(|source| source.defines(name))
            } else if name.ends_with(".rs") {
                sources.iter().any(|source| source.path.ends_with(name))
            } else {
                continue;
            };
            if !is_there {
                complain(format!("there is no `{name}`"));
            }
        }
        if state.starts_with("here") && evidence.is_empty() {
            complain("is here, and names no test".to_owned());
        }
    }
    if rows < 60 {
        broken.push(format!("{TABLE}: only {rows} rows"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_names_what_is_not_there_is_found() {
        let sources = [Source::new("crates/x/tests/y.rs", "fn a_row_is_tested_here() {}".to_owned())];
        let rows: String = (0..60).map(|row| format!("| X-{row} | `p` | waits | |\n")).collect();
        assert!(untrue(&format!("{rows}| A | `p` | here | `a_row_is_tested_here`, `y.rs` |"), &sources).is_empty());
        for line in [
            "| A | `p` | here | `a_row_is_tested_nowhere` |",
            "| A | `p` | in part: this | `tests/z.rs` |",
            "| A | `p` | here | |",
        ] {
            assert_eq!(untrue(&format!("{rows}{line}"), &sources).len(), 1, "{line}");
        }
    }
}
