//! Whether what a listing showed can have been there: names that come and go.
//!
//! A name is there from when a write of it may have happened until a removal may have. Of what nobody saw an answer to, either
//! may be so, at any time after it began. Deliberately absent: what lies under the names.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy)]
struct Change {
    started: u64,
    /// When it was acknowledged.
    ended: Option<u64>,
    is_write: bool,
}

/// What became of each name.
#[derive(Default)]
pub(super) struct Names(BTreeMap<usize, Vec<Change>>);

impl Names {
    /// A write or removal begins.
    pub(super) fn begin(&mut self, name: usize, started: u64, is_write: bool) {
        self.0.entry(name).or_default().push(Change { started, ended: None, is_write });
    }

    /// It was acknowledged.
    pub(super) fn end(&mut self, name: usize, started: u64, ended: u64) {
        let changes = self.0.get_mut(&name).into_iter().flatten();
        changes.filter(|change| change.started == started).for_each(|change| change.ended = Some(ended));
    }

    /// Names that were shown, and all others were not; text when that cannot be.
    pub(super) fn listed(&self, started: u64, shown: &BTreeSet<usize>) -> Result<(), String> {
        for (name, changes) in &self.0 {
            let is_shown = shown.contains(name);
            let contradicts = |other: &&Change| {
                let ended_before = other.ended.is_some_and(|ended| ended < started);
                // What could have come after it would explain what was shown.
                let could_follow = |change: &Change| change.ended.is_none_or(|ended| ended > other.started);
                other.is_write != is_shown
                    && ended_before
                    && !changes.iter().any(|change| change.is_write == is_shown && could_follow(change))
            };
            if changes.iter().any(|change| contradicts(&change)) {
                let said = if is_shown { "shown after its removal" } else { "not shown after its write" };
                return Err(format!("name {name} was {said}"));
            }
        }
        match shown.iter().find(|name| !self.0.contains_key(name)) {
            Some(name) => Err(format!("name {name} was shown and never written")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_from_its_write_to_its_removal() {
        let (none, both) = (BTreeSet::new(), BTreeSet::from([1]));
        let mut names = Names::default();
        assert!(names.listed(1, &none).is_ok());
        assert!(names.listed(1, &both).is_err());
        names.begin(1, 2, true);
        assert!(names.listed(3, &none).is_ok() && names.listed(3, &both).is_ok());
        names.end(1, 2, 4);
        assert!(names.listed(5, &none).is_err() && names.listed(5, &both).is_ok());
        names.begin(1, 6, false);
        assert!(names.listed(7, &none).is_ok() && names.listed(7, &both).is_ok());
        names.end(1, 6, 8);
        assert!(names.listed(9, &none).is_ok() && names.listed(9, &both).is_err());
        // Nobody saw an answer to this one.
        names.begin(1, 10, true);
        assert!(names.listed(11, &none).is_ok() && names.listed(11, &both).is_ok());
    }
}
