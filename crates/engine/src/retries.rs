//! How often what is due by itself is tried again when it fails, as a rotation policy of the namespace says (POL-22).
//!
//! A try that fails is tried again after a pause that doubles, so often in a cycle; then it waits for the time at which it would
//! be due next, and another cycle begins, so many times. Afterwards it is *orphaned*: nothing is tried any more until somebody
//! does it by order, or writes it anew. Without a policy it is tried for ever. Pure: deliberately absent are the store, and
//! what is tried.

use std::time::Duration;

use tresor_model::Timestamp;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

/// How long after the first failure of a cycle it is tried again; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// How often it is tried again in a cycle.
    pub max_retries_per_cycle: u64,
    /// How many cycles follow the first.
    pub max_retry_cycles: u64,
}

/// How far it has come for something that is due by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// The name of its policy; empty: it has none.
    pub policy: String,
    /// How often it was tried again in this cycle.
    pub failed: u64,
    /// How many cycles were in vain.
    pub cycles: u64,
    /// Since when nothing is tried any more.
    pub orphaned: Option<Timestamp>,
}

/// What is shown of it, beside what rotates.
#[derive(Output, Default)]
pub struct RetriesShown {
    /// The rotation policy by which it is tried again when it fails.
    #[output(optional)]
    rotation_policy: Option<String>,
    /// How often it was tried again in vain since it was due last.
    #[output(optional)]
    rotation_retries: Option<u64>,
    /// How often it was due in vain before.
    #[output(optional)]
    rotation_retry_cycles: Option<u64>,
    /// Since when it is tried no more, until somebody rotates it by order or writes it anew.
    #[output(optional)]
    rotation_orphaned_time: Option<String>,
}

impl From<Option<Retries>> for RetriesShown {
    fn from(retries: Option<Retries>) -> Self {
        let Some(Retries { policy, failed, cycles, orphaned }) = retries else { return Self::default() };
        Self {
            rotation_policy: Some(policy),
            rotation_retries: Some(failed),
            rotation_retry_cycles: Some(cycles),
            rotation_orphaned_time: orphaned.map(rfc3339),
        }
    }
}

impl Retries {
    /// By another policy, from the beginning.
    #[must_use]
    pub fn by(policy: &str) -> Self {
        Self { policy: policy.to_owned(), ..Self::default() }
    }

    /// It was done.
    pub fn done(&mut self) {
        *self = Self::by(&self.policy);
    }

    /// It failed: when it is tried next. What it stands for is not tried before `earliest`, and would be due next at `cycle`.
    pub fn failed(
        &mut self,
        policy: RotationPolicy,
        now: Timestamp,
        earliest: Timestamp,
        cycle: Timestamp,
    ) -> Option<Timestamp> {
        let doublings = u32::try_from(self.failed).unwrap_or(u32::MAX).min(16);
        let again = earliest.max(now.plus(PAUSE.saturating_mul(1 << doublings).min(PAUSE_MAX)));
        if self.failed < policy.max_retries_per_cycle && again < cycle {
            self.failed += 1;
            return Some(again);
        }
        if self.cycles < policy.max_retry_cycles {
            self.cycles += 1;
            self.failed = 0;
            return Some(cycle.max(earliest));
        }
        self.orphaned = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// When it is tried, of a thing that is due each `every` seconds and always fails at once.
    fn tries(policy: (u64, u64), every: i64) -> (Vec<i64>, Retries) {
        let policy = RotationPolicy { max_retries_per_cycle: policy.0, max_retry_cycles: policy.1 };
        let (mut retries, mut now, mut tried) = (Retries::by("p"), at(0), Vec::new());
        while tried.len() < 100 {
            tried.push(now.seconds());
            let cycle = at((now.seconds() / every + 1) * every);
            match retries.failed(policy, now, now, cycle) {
                Some(next) => now = next,
                None => break,
            }
        }
        (tried, retries)
    }

    #[test]
    fn pol_22_it_is_tried_so_often_in_each_of_so_many_cycles_and_then_orphaned() {
        let (tried, retries) = tries((2, 1), 1000);
        assert_eq!(tried, [0, 10, 30, 1000, 1010, 1030]);
        assert_eq!((retries.orphaned, retries.cycles), (Some(at(1030)), 1));
        assert_eq!(tries((0, 0), 1000).0, [0]);
        assert_eq!(tries((0, 3), 1000).0, [0, 1000, 2000, 3000]);
        assert_eq!(tries((3, 0), 1000).0, [0, 10, 30, 70]);
        // A cycle that is over before all was tried is over.
        assert_eq!(tries((9, 1), 60).0, [0, 10, 30, 60, 70, 90]);
        // Pauses have a bound.
        let (tried, _) = tries((20, 0), 1_000_000);
        assert!(tried.windows(2).all(|pair| matches!(pair, [a, b] if b - a <= 3600)), "{tried:?}");
    }

    #[test]
    fn what_was_done_begins_anew_and_keeps_its_policy() {
        let (_, mut retries) = tries((1, 1), 100);
        assert!(retries.orphaned.is_some());
        retries.done();
        assert_eq!(retries, Retries::by("p"));
        let policy = RotationPolicy { max_retries_per_cycle: 5, max_retry_cycles: 0 };
        // What nobody knows the end of is not tried before that is known.
        assert_eq!(retries.failed(policy, at(0), at(90), at(1000)), Some(at(90)));
    }
}
