//! Cells by a label whose values others choose, such as mounts: the first so many have their own, all others share one.
//!
//! Deliberately absent: forgetting, which would let a number fall that may only rise.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// How many values of a label have a cell of their own.
pub const LABELS_MAX: usize = 200;
/// What the others share.
const OTHERS: &str = "others";

/// Cells by a label.
pub struct Labelled<C>(RwLock<BTreeMap<String, Arc<C>>>);

impl<C> Default for Labelled<C> {
    fn default() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }
}

impl<C: Default> Labelled<C> {
    /// The cell of a value.
    pub fn of(&self, value: &str) -> Arc<C> {
        if let Some(cell) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(value) {
            return Arc::clone(cell);
        }
        let mut cells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let value = if cells.len() < LABELS_MAX || cells.contains_key(value) { value } else { OTHERS };
        Arc::clone(cells.entry(value.to_owned()).or_default())
    }

    /// All values that have one.
    pub fn all(&self) -> Vec<(String, Arc<C>)> {
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        cells.iter().map(|(value, cell)| (value.clone(), Arc::clone(cell))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;

    #[test]
    fn there_are_so_many_labels_and_no_more() {
        let cells = Labelled::<Counter>::default();
        for value in 0..10_000 {
            cells.of(&value.to_string()).add(1);
        }
        let all = cells.all();
        assert_eq!(all.len(), LABELS_MAX + 1);
        let total: u64 = all.iter().map(|(_, cell)| cell.read(std::time::Duration::ZERO).total).sum();
        assert_eq!(total, 10_000, "nothing is lost");
        assert_eq!(cells.of("5").read(std::time::Duration::ZERO).total, 1);
    }
}
