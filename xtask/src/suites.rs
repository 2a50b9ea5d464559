//! What is known of other people's tests: which pass (a list that may only grow), and what each of the rest waits for. A run
//! is compared with both, so that no test is unlisted and none that passes is still said to wait.
//!
//! A line of the second list is `WHAT: BEGINNING`; a test waits for WHAT when its name begins so and it is not in the first.
//! Deliberately absent: running anything.

use std::collections::BTreeSet;

use crate::listing;
use crate::workspace::Workspace;

/// What became of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// All of its phases passed.
    Passed,
    /// It was not executed.
    Skipped,
    /// It, its preparation or its end failed.
    Failed,
    /// It did not run at all: renamed, or its file could not be read.
    Absent,
}

impl Outcome {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Absent => "absent",
        }
    }
}

/// Both lists of one suite.
pub(crate) struct Lists {
    /// The tests that must pass.
    pub(crate) passing: BTreeSet<String>,
    waiting: Vec<(String, String)>,
}

impl Lists {
    /// Reads `conformance/NAME-pass.txt` and `conformance/NAME-waiting.txt`.
    ///
    /// # Errors
    /// Text that names a file or a line of it.
    pub(crate) fn read(workspace: &Workspace, name: &str) -> Result<Self, String> {
        let passing = listing::entries(&workspace.read_text(&format!("conformance/{name}-pass.txt"))?);
        let file = format!("conformance/{name}-waiting.txt");
        let waiting = listing::entries(&workspace.read_text(&file)?).into_iter().map(|line| {
            let parts = line.split_once(": ").map(|(what, tests)| (what.to_owned(), tests.to_owned()));
            parts.ok_or_else(|| format!("{file}: `{line}` is not `WHAT: BEGINNING`"))
        });
        Ok(Self { passing, waiting: waiting.collect::<Result<_, _>>()? })
    }

    /// What a test waits for.
    fn waits_for(&self, test: &str) -> Option<&str> {
        let lines = self.waiting.iter().filter(|(_, beginning)| test.starts_with(beginning.as_str()));
        lines.max_by_key(|(_, beginning)| beginning.len()).map(|(what, _)| what.as_str())
    }

    /// What the lists say wrongly of a whole run, but for tests that must pass and did not.
    pub(crate) fn untrue(&self, outcomes: &[(&str, Outcome)]) -> Vec<String> {
        let mut problems = Vec::new();
        for (test, outcome) in outcomes {
            match (outcome, self.waits_for(test)) {
                (Outcome::Passed, _) if self.passing.contains(*test) => {}
                (Outcome::Passed, Some(what)) => {
                    problems.push(format!("passes, and is said to wait for {what}: {test}"))
                }
                (Outcome::Passed, None) => problems.push(format!("passes, and is in no list: {test}")),
                (_, None) if !self.passing.contains(*test) => {
                    problems.push(format!("{}, and nobody says what it waits for: {test}", outcome.word()));
                }
                _ => {}
            }
        }
        for (what, beginning) in &self.waiting {
            let is_used = |(test, outcome): &(&str, Outcome)| {
                *outcome != Outcome::Passed && test.starts_with(beginning.as_str()) && !self.passing.contains(*test)
            };
            if !outcomes.iter().any(is_used) {
                problems.push(format!("no test waits any more: `{what}: {beginning}`"));
            }
        }
        problems
    }

    /// How many of a run wait for each thing, as one line.
    pub(crate) fn waiting_for(&self, outcomes: &[(&str, Outcome)]) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for (test, _) in outcomes.iter().filter(|(test, _)| !self.passing.contains(*test)) {
            *counts.entry(self.waits_for(test).unwrap_or("?")).or_default() += 1;
        }
        counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_is_in_one_list_and_in_the_right_one() {
        let lists = Lists {
            passing: ["a::one".to_owned()].into(),
            waiting: vec![("pki".to_owned(), "b".to_owned()), ("ssh".to_owned(), "b::ssh".to_owned())],
        };
        let fine = [("a::one", Outcome::Passed), ("b::x", Outcome::Failed), ("b::ssh::y", Outcome::Skipped)];
        assert_eq!(lists.untrue(&fine), Vec::<String>::new());
        assert_eq!(lists.waiting_for(&fine), "pki 1, ssh 1");
        for (wrong, count) in [
            // A new one that nobody looked at.
            (vec![("c", Outcome::Failed)], 1),
            (vec![("c", Outcome::Passed)], 1),
            // One that was taken over: then nothing waits behind its line any more.
            (vec![("a::one", Outcome::Passed), ("b::x", Outcome::Passed), ("b::ssh::y", Outcome::Failed)], 1),
        ] {
            let mut run = if count == 1 && wrong.len() == 1 { fine.to_vec() } else { Vec::new() };
            run.extend(wrong);
            assert_eq!(lists.untrue(&run).len(), count, "{run:?}");
        }
        assert_eq!(lists.untrue(&fine[..2]), ["no test waits any more: `ssh: b::ssh`"]);
    }
}
