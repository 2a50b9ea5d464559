//! Latencies: counts in buckets that grow by an eighth of a power of two, so that a quantile is right within 6 %
//! whatever the range, and noting one costs nothing that would disturb the load.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: usize = 16;
/// 2^40 ns are 18 minutes.
const BUCKETS: usize = 40 * STEPS;

/// A histogram of durations.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    /// Notes a duration.
    pub(crate) fn note(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds)) {
            *count += 1;
        }
        self.total += 1;
    }

    /// Adds another one to this one.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many durations were noted.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// The duration that `per_mille` of a thousand do not exceed, in milliseconds.
    pub(crate) fn quantile(&self, per_mille: u64) -> f64 {
        let wanted = (self.total * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper_end(at) / 1e6;
            }
        }
        0.0
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(STEPS as u64);
    let power = value.ilog2();
    let within = usize::try_from((value >> (power - STEPS.ilog2())) & (STEPS as u64 - 1)).unwrap_or(0);
    (power as usize * STEPS + within).min(BUCKETS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "a quantile is rounded anyway")]
fn upper_end(bucket: usize) -> f64 {
    let (power, within) = (bucket / STEPS, bucket % STEPS);
    (1_u64 << power) as f64 * (1.0 + (within + 1) as f64 / STEPS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::new();
        for microseconds in 1..=1000 {
            histogram.note(Duration::from_micros(microseconds));
        }
        for (per_mille, expected) in [(500, 0.5), (990, 0.99), (1000, 1.0)] {
            let found = histogram.quantile(per_mille);
            assert!(found >= expected && found <= expected * 1.07, "{per_mille}: {found}");
        }
        assert_eq!(histogram.total(), 1000);
    }

    #[test]
    fn merging_adds_and_extremes_have_a_place() {
        let (mut one, mut other) = (Histogram::new(), Histogram::new());
        one.note(Duration::ZERO);
        other.note(Duration::from_secs(1_000_000));
        one.merge(&other);
        assert_eq!(one.total(), 2);
        assert!(one.quantile(1000) > one.quantile(500));
        assert!(Histogram::new().quantile(990).abs() < f64::EPSILON);
    }
}
