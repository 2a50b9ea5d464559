//! What became of each test, read from the lines that `conformance/outcomes.py` writes while the suite runs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::suites::Outcome;

/// What became of all.
#[derive(Default)]
pub(super) struct Report {
    tests: BTreeMap<String, (Outcome, String)>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Report {
    /// Reads the lines: one for each phase of a test; the worst phase is the test's outcome.
    pub(super) fn read(lines: &str) -> Result<Self, String> {
        let mut report = Self::default();
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).map_err(|error| format!("outcomes: {error}"))?;
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            let outcome = match text("outcome") {
                "passed" => Outcome::Passed,
                "skipped" => Outcome::Skipped,
                _ => Outcome::Failed,
            };
            let entry = report.tests.entry(text("test").to_owned()).or_insert_with(|| (Outcome::Passed, String::new()));
            entry.0 = entry.0.max(outcome);
            if outcome != Outcome::Passed {
                entry.1.push_str(text("detail"));
                entry.1.push('\n');
            }
        }
        Ok(report)
    }

    pub(super) fn outcome(&self, test: &str) -> Outcome {
        self.tests.get(test).map_or(Outcome::Absent, |(outcome, _)| *outcome)
    }

    /// What pytest said about a test that did not pass.
    pub(super) fn detail(&self, test: &str) -> &str {
        self.tests.get(test).map_or("", |(_, detail)| detail.as_str())
    }

    pub(super) fn passed(&self) -> impl Iterator<Item = &String> {
        self.tests.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Passed).map(|(test, _)| test)
    }

    /// Every test with its outcome and what pytest said.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Outcome, &str)> {
        self.tests.iter().map(|(test, (outcome, detail))| (test.as_str(), *outcome, detail.as_str()))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (outcome, _) in self.tests.values() {
            match outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Skipped => counts.skipped += 1,
                Outcome::Failed | Outcome::Absent => counts.failed += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_phase_decides() {
        let lines = r#"{"test": "a", "outcome": "passed", "detail": ""}
{"test": "a", "outcome": "failed", "detail": "at the end"}
{"test": "b", "outcome": "skipped", "detail": "no Java"}
{"test": "b", "outcome": "passed", "detail": ""}
{"test": "c", "outcome": "passed", "detail": ""}"#;
        let report = Report::read(lines).unwrap_or_default();
        assert_eq!(report.outcome("a"), Outcome::Failed);
        assert_eq!(report.outcome("b"), Outcome::Skipped);
        assert_eq!(report.outcome("c"), Outcome::Passed);
        assert_eq!(report.outcome("d"), Outcome::Absent);
        assert_eq!(report.detail("a"), "at the end\n");
        assert_eq!(report.passed().collect::<Vec<_>>(), ["c"]);
    }
}
