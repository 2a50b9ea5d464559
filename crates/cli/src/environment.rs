//! The environment variables that a run sees, as a value: tests and embedders choose them, nobody else reads the
//! process.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Environment variables. Not printable, because one of them is a token.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process; those that are not Unicode are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let pairs =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { variables: pairs.collect() }
    }

    /// Chosen variables.
    #[must_use]
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// A variable that is set and not empty. `VAULT_X` is what `BAO_X` says, where that says something.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let own = name.strip_prefix("VAULT_").and_then(|rest| self.exactly(&format!("BAO_{rest}")));
        own.or_else(|| self.exactly(name))
    }

    /// The same with one variable more.
    #[must_use]
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut environment = self.clone();
        environment.variables.retain(|known, _| known.trim_start_matches("BAO_") != name.trim_start_matches("VAULT_"));
        environment.variables.insert(name.to_owned(), value.to_owned());
        environment
    }

    /// Whether people here want colours.
    pub(crate) fn wants_colours(&self) -> bool {
        let is_set = |name: &&str| self.variable(name).is_some();
        !["NO_COLOR", "VAULT_CLI_NO_COLOR"].iter().any(is_set) && self.variable("TERM") != Some("dumb")
    }

    fn exactly(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The home directory (`HOME`).
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_of_a_variable_is_read_and_the_newer_wins() {
        let environment = Environment::of_pairs([
            ("VAULT_ADDR", "a"),
            ("BAO_ADDR", "b"),
            ("VAULT_TOKEN", "t"),
            ("BAO_TOKEN", ""),
            ("BAO_FORMAT", "json"),
        ]);
        assert_eq!(environment.variable("VAULT_ADDR"), Some("b"));
        assert_eq!(environment.variable("VAULT_TOKEN"), Some("t"));
        assert_eq!(environment.variable("VAULT_FORMAT"), Some("json"));
        assert_eq!(environment.variable("VAULT_NAMESPACE"), None);
    }
}
