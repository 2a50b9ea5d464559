//! Tallies: numbers that many transactions change at once without conflicting, because the committer adds them up.
//!
//! A tally has a name and holds a number per label; a label at zero is gone, and so is a tally without labels. A change
//! says within which bounds the number must stay: the committer refuses the whole transaction when it would leave
//! them, which is exact whatever else happens at the same time. Reading one never makes a transaction conflict.
//! A *listed* tally holds one number, and its name stands in a directory while that is not zero.
//! Deliberately absent: setting a number.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use tresor_record::Record;

/// Numbers by label.
pub type Counts = BTreeMap<String, i64>;

/// Where a number must stay for a change to stand.
pub type Bounds = RangeInclusive<i64>;

/// A tally as it is stored.
#[derive(Record, Clone, Default)]
#[record(kind = "tally", version = 1)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
}

/// The label of the one number of a listed tally.
const ONLY: &str = "";

impl Tally {
    /// The number of a listed tally.
    pub(crate) fn number(&self) -> u64 {
        only(&self.counts)
    }
}

/// The number of a listed tally.
pub(crate) fn only(counts: &Counts) -> u64 {
    u64::try_from(counts.get(ONLY).copied().unwrap_or(0)).unwrap_or(0)
}

/// Adds to the number of a listed tally, which never falls below zero.
pub(crate) fn add_to_only(counts: &mut Counts, delta: i64) {
    match only(counts).saturating_add_signed(delta) {
        0 => drop(counts.remove(ONLY)),
        number => drop(counts.insert(ONLY.to_owned(), i64::try_from(number).unwrap_or(i64::MAX))),
    }
}

/// What a transaction adds to one number.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) delta: i64,
    /// Narrowed by each call.
    pub(crate) bounds: Bounds,
}

/// What a transaction adds to a tally.
pub(crate) type Changed = BTreeMap<String, Change>;

/// What a transaction does to whole tallies, after its additions.
pub(crate) enum Whole {
    /// Takes what one tally holds off another.
    TakeOff { held: tresor_storage::RawKey, from: tresor_storage::RawKey },
    /// Forgets a tally.
    Forget(tresor_storage::RawKey),
}

/// Adds to a change that may be there already.
pub(crate) fn add(changed: &mut Changed, label: &str, delta: i64, bounds: &Bounds) {
    let change = changed.entry(label.to_owned()).or_insert_with(|| Change { delta: 0, bounds: i64::MIN..=i64::MAX });
    change.delta = change.delta.saturating_add(delta);
    change.bounds = *change.bounds.start().max(bounds.start())..=*change.bounds.end().min(bounds.end());
}

/// Whether the changed numbers stay within their bounds. A bound holds for what a change makes worse: a number that
/// is beyond it already may still come back.
pub(crate) fn is_within(counts: &Counts, changed: &Changed) -> bool {
    changed.iter().all(|(label, change)| {
        let before = counts.get(label).copied().unwrap_or(0);
        let after = before.saturating_add(change.delta);
        let too_many = change.delta > 0 && after > *change.bounds.end();
        let too_few = change.delta < 0 && after < *change.bounds.start();
        !too_many && !too_few
    })
}

/// Takes what one tally holds off another.
pub(crate) fn take_off(counts: &mut Counts, held: &Counts) {
    for (label, number) in held {
        let bounds = i64::MIN..=i64::MAX;
        let change = Change { delta: number.saturating_neg(), bounds };
        apply(counts, &Changed::from([(label.clone(), change)]));
    }
}

/// Adds the changes up.
pub(crate) fn apply(counts: &mut Counts, changed: &Changed) {
    for (label, change) in changed {
        let after = counts.get(label).copied().unwrap_or(0).saturating_add(change.delta);
        if after == 0 {
            counts.remove(label);
        } else {
            counts.insert(label.clone(), after);
        }
    }
}
