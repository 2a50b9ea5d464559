//! Whether some order of operations explains every answer: each operation at one instant between its start and its
//! end, in an order that the model agrees with.
//!
//! An operation whose answer nobody has seen may have happened or not. The search is exhaustive, so an empty result
//! is a proof. Deliberately absent: what an operation does (`explain.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tresor_harness::Answer;

use crate::explain::explain;
use crate::model::{Moment, State};
use crate::operation::Operation;

/// An operation that was begun.
pub(crate) struct Begun {
    pub(crate) number: usize,
    pub(crate) operation: Operation,
    pub(crate) moment: Moment,
    /// Counted over all starts and ends.
    pub(crate) started: usize,
    /// `None` while nobody has seen an answer.
    pub(crate) ended: Option<usize>,
    /// What is known of the outcome; `None` when it may be either.
    pub(crate) answer: Option<Arc<Answer>>,
}

/// The states that the server may be in after these operations, from those before them; none when no order explains
/// the answers.
pub(crate) fn explained(before: &BTreeSet<State>, begun: &[Begun]) -> BTreeSet<State> {
    let all_answered: u64 = begun
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.answer.is_some())
        .fold(0, |mask, (at, _)| mask | (1 << at));
    let mut open: Vec<(u64, State)> = before.iter().map(|state| (0, state.clone())).collect();
    let mut seen: BTreeSet<(u64, State)> = open.iter().cloned().collect();
    let mut after = BTreeSet::new();
    while let Some((done, state)) = open.pop() {
        if done & all_answered == all_answered {
            after.insert(state.clone());
        }
        for (at, next) in candidates(begun, done) {
            for reached in explain(&state, next.number, &next.operation, &next.moment, next.answer.as_deref()) {
                let step = (done | (1 << at), reached);
                if seen.insert(step.clone()) {
                    open.push(step);
                }
            }
        }
    }
    after
}

/// The operations that may come next: those that started before every other that is left had ended.
fn candidates(begun: &[Begun], done: u64) -> impl Iterator<Item = (usize, &Begun)> {
    let left = move || begun.iter().enumerate().filter(move |(at, _)| done & (1 << at) == 0);
    // An operation without a known outcome forces nobody to wait for it.
    let first_end = left().filter(|(_, other)| other.answer.is_some()).filter_map(|(_, other)| other.ended).min();
    left().filter(move |(_, next)| first_end.is_none_or(|end| next.started < end))
}
