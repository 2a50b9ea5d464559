//! The security bank's table tells the truth: every row has a state, and every test that it names is in the tree.
//!
//! Deliberately absent: whether a test proves what its row says; that is for reviewers.

use std::collections::BTreeSet;

use super::source::Source;

/// Where the table is.
pub const TABLE: &str = "docs/security-bank.md";

/// What is wrong with the table.
#[must_use]
pub fn untrue(table: &str, sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, line) in table.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, state, evidence] = cells[..] else { continue };
        if row == "row" || row.starts_with("---") {
            continue;
        }
        let mut complain = |text: String| broken.push(format!("{TABLE}:{}: {row}: {text}", at + 1));
        if !seen.insert(row) {
            complain("stands twice".to_owned());
        }
        let tests: Vec<&str> = evidence.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)).collect();
        for test in &tests {
            if !sources.iter().any(|source| source.defines(test)) {
                complain(format!("there is no test `{test}`"));
            }
        }
        match state {
            "tested" if tests.is_empty() => complain("is tested, and names no test".to_owned()),
            "by construction" if evidence.is_empty() => complain("gives no reason".to_owned()),
            "tested" | "by construction" => {}
            later if later.starts_with("arrives with ") && !evidence.is_empty() => {}
            other => complain(format!("`{other}` is no state")),
        }
    }
    if seen.len() < 60 {
        broken.push(format!("{TABLE}: only {} rows", seen.len()));
    }
    broken
}

/// Tests are named in words; other code in backticks is not.
pub(super) fn is_test_name(text: &str) -> bool {
    text.matches('_').count() > 2
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let sources = [Source::new("crates/x/tests/y.rs", "fn a_row_is_tested_here() {}".to_owned())];
        let rows: String = (0..60).map(|row| format!("| X-{row} | by construction | so |\n")).collect();
        assert!(untrue(&format!("{rows}| A-1 | tested | `a_row_is_tested_here` |"), &sources).is_empty());
        for line in [
            "| A-1 | tested | `a_row_is_tested_nowhere` |",
            "| A-1 | tested | |",
            "| A-1 | open | x |",
            "| X-1 | by construction | so |",
        ] {
            assert_eq!(untrue(&format!("{rows}{line}"), &sources).len(), 1, "{line}");
        }
    }
}
