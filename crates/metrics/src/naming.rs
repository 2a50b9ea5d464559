//! How an operator wants numbers to be called, and which of them.
//!
//! One choice for all who read them. Deliberately absent: rules for single readers.

use crate::Reading;

/// What is in front of every name, what is left out, and whether each number says which machine it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// In front of every name.
    pub prefix: String,
    /// Whether a number is there that no beginning below says anything about.
    pub passes_by_default: bool,
    /// Beginnings of names, the prefix among them, and whether what begins so is there. The longest that fits counts, and
    /// of two that are the same the later.
    pub beginnings: Vec<(String, bool)>,
    /// The machine's name as a label of every number.
    pub host_label: Option<String>,
    /// Whether numbers are spelled for Prometheus at all.
    pub has_prometheus: bool,
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            prefix: "vault".to_owned(),
            passes_by_default: true,
            beginnings: Vec::new(),
            host_label: None,
            has_prometheus: true,
        }
    }
}

impl Naming {
    /// A whole name, with dots between its parts.
    #[must_use]
    pub fn whole(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Leaves out what is not wanted, and adds what is wanted of every number.
    #[must_use]
    pub fn apply(&self, mut readings: Vec<Reading>) -> Vec<Reading> {
        if !self.passes_by_default || !self.beginnings.is_empty() {
            readings.retain(|reading| self.keeps(&self.whole(&reading.name)));
        }
        if let Some(host) = &self.host_label {
            readings.iter_mut().for_each(|reading| reading.labels.push(("host", host.clone())));
        }
        readings
    }

    fn keeps(&self, whole: &str) -> bool {
        let fitting = self.beginnings.iter().filter(|(beginning, _)| whole.starts_with(beginning.as_str()));
        // The last of the longest.
        fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(self.passes_by_default, |(_, keeps)| *keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_decides_whether_a_number_is_there() {
        let named = |passes_by_default, beginnings: &[(&str, bool)]| {
            let beginnings = beginnings.iter().map(|(text, keeps)| ((*text).to_owned(), *keeps)).collect();
            let naming =
                Naming { passes_by_default, beginnings, host_label: Some("a".to_owned()), ..Naming::default() };
            let all = ["token.count", "token.count.by_auth", "core.unsealed"].map(|name| Reading::gauge(name, 1));
            let kept = naming.apply(all.to_vec());
            assert!(kept.iter().all(|reading| reading.labels == [("host", "a".to_owned())]));
            kept.into_iter().map(|reading| reading.name).collect::<Vec<_>>()
        };
        assert_eq!(named(true, &[("vault.token", false)]), ["core.unsealed"]);
        assert_eq!(named(true, &[("vault.token", false), ("vault.token.count.by", true)]).len(), 2);
        assert_eq!(named(false, &[("vault.core", true)]), ["core.unsealed"]);
        assert_eq!(named(false, &[]).len(), 0);
        assert_eq!(named(true, &[("vault.core", true), ("vault.core", false)]).len(), 2);
        assert_eq!(Naming { prefix: String::new(), ..Naming::default() }.whole("a.b"), "a.b");
    }
}
