//! What counts and times as things happen: atomics, and what they were a while ago.
//!
//! A time falls into one of some buckets, four for each doubling, so a quantile is right within an eighth of itself.
//! Deliberately absent: exact quantiles, and any lock on the way of what is timed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long ago "a while ago" is at least.
const WINDOW: Duration = Duration::from_secs(10);
/// The shortest time that is told from shorter ones: about a microsecond.
const SHORTEST_BITS: u32 = 10;
/// How many doublings there are from there, up to half a minute.
const DOUBLINGS: u32 = 25;
/// How many buckets a doubling has.
const PER_DOUBLING: u32 = 4;
const BUCKETS: usize = 100;

/// What a cell was when it was read lately.
struct Past<T> {
    older: (T, Duration),
    newer: (T, Duration),
}

impl<T: Clone> Past<T> {
    const fn new(older: T, newer: T) -> Self {
        Self { older: (older, Duration::ZERO), newer: (newer, Duration::ZERO) }
    }

    /// What the cell was a while ago, and how long ago that was.
    fn before(&mut self, current: &T, now: Duration) -> (T, Duration) {
        if now.saturating_sub(self.newer.1) >= WINDOW {
            self.older = std::mem::replace(&mut self.newer, (current.clone(), now));
        }
        (self.older.0.clone(), now.saturating_sub(self.older.1))
    }
}

/// How often something happened.
pub struct Counter {
    total: AtomicU64,
    past: Mutex<Past<u64>>,
}

/// What is read of a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CounterReading {
    /// How often it happened so far.
    pub total: u64,
    /// How often of late.
    pub lately: u64,
    /// For how long that is.
    pub window: Duration,
}

impl Default for Counter {
    fn default() -> Self {
        Self { total: AtomicU64::new(0), past: Mutex::new(Past::new(0, 0)) }
    }
}

impl Counter {
    /// It happened.
    pub fn add(&self, times: u64) {
        self.total.fetch_add(times, Ordering::Relaxed);
    }

    /// How often it happened; `now` is a moment of a clock that never goes back.
    pub fn read(&self, now: Duration) -> CounterReading {
        let total = self.total.load(Ordering::Relaxed);
        let (before, window) = self.past.lock().unwrap_or_else(PoisonError::into_inner).before(&total, now);
        CounterReading { total, lately: total.saturating_sub(before), window }
    }
}

/// How long something takes.
pub struct Timer {
    count: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
    past: Mutex<Past<Frozen>>,
}

#[derive(Clone, Default)]
struct Frozen {
    count: u64,
    nanos: u64,
    /// None is empty buckets.
    buckets: Vec<u64>,
}

/// What is read of a timer, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct TimerReading {
    /// How often it happened so far.
    pub count: u64,
    /// How long all of it took.
    pub sum: f64,
    /// How often of late.
    pub lately: u64,
    /// How long all of that took.
    pub sum_lately: f64,
    /// For how long "of late" is.
    pub window: Duration,
    /// Of late: what half, nine in ten, and 99 in 100 did not exceed.
    pub quantiles: [(f64, f64); 3],
    /// Of late: the least, the most, and how far from the mean they lie.
    pub spread: (f64, f64, f64),
    /// How many fell into each bucket so far.
    pub(crate) buckets: Vec<u64>,
}

impl TimerReading {
    /// What was observed since an earlier reading: about how long it took, in milliseconds, and how often.
    pub(crate) fn since(&self, earlier: Option<&Self>) -> Vec<(f64, u64)> {
        let before = |at: usize| earlier.and_then(|earlier| earlier.buckets.get(at)).copied().unwrap_or(0);
        let counts = self.buckets.iter().enumerate().map(|(at, count)| (middle(at), count.saturating_sub(before(at))));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            past: Mutex::new(Past::new(Frozen::default(), Frozen::default())),
        }
    }
}

impl Timer {
    /// It took so long.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it was so far and of late; `now` is a moment of a clock that never goes back.
    pub fn read(&self, now: Duration) -> TimerReading {
        let current = Frozen {
            count: self.count.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
        };
        let (before, window) = self.past.lock().unwrap_or_else(PoisonError::into_inner).before(&current, now);
        let before_in = |at: usize| before.buckets.get(at).copied().unwrap_or(0);
        let lately: Vec<u64> =
            current.buckets.iter().enumerate().map(|(at, count)| count.saturating_sub(before_in(at))).collect();
        TimerReading {
            count: current.count,
            sum: millis(current.nanos),
            lately: current.count.saturating_sub(before.count),
            sum_lately: millis(current.nanos.saturating_sub(before.nanos)),
            window,
            quantiles: [(0.5, 50), (0.9, 90), (0.99, 99)].map(|(name, percent)| (name, quantile(&lately, percent))),
            spread: spread(&lately),
            buckets: current.buckets,
        }
    }
}

/// Which bucket a time falls into.
fn bucket(nanos: u64) -> usize {
    let bits = nanos.max(1).ilog2();
    if bits < SHORTEST_BITS {
        return 0;
    }
    let doubling = (bits - SHORTEST_BITS).min(DOUBLINGS - 1);
    let part = if bits - SHORTEST_BITS >= DOUBLINGS { PER_DOUBLING - 1 } else { part(nanos, bits) };
    usize::try_from(doubling * PER_DOUBLING + part).unwrap_or(0)
}

/// The two bits below the highest.
fn part(nanos: u64, bits: u32) -> u32 {
    u32::try_from((nanos >> (bits - 2)) & 0b11).unwrap_or(0)
}

/// The middle of a bucket, in milliseconds.
fn middle(bucket: usize) -> f64 {
    let at = u32::try_from(bucket).unwrap_or(0);
    let lowest = (u64::from(PER_DOUBLING + at % PER_DOUBLING)) << (SHORTEST_BITS + at / PER_DOUBLING);
    let width = 1_u64 << (SHORTEST_BITS + at / PER_DOUBLING);
    millis((lowest + width / 2) / u64::from(PER_DOUBLING))
}

/// What so many in a hundred did not exceed; no number where there was none.
fn quantile(buckets: &[u64], percent: u64) -> f64 {
    let count: u64 = buckets.iter().sum();
    let wanted = (count * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let found = buckets.iter().position(|bucket| {
        seen += bucket;
        seen >= wanted
    });
    found.map_or(f64::NAN, middle)
}

/// The least, the most, and the standard deviation.
#[expect(clippy::cast_precision_loss, reason = "nobody has so many of anything")]
fn spread(buckets: &[u64]) -> (f64, f64, f64) {
    let count: u64 = buckets.iter().sum();
    if count == 0 {
        return (0.0, 0.0, 0.0);
    }
    let values = || buckets.iter().enumerate().map(|(at, count)| (middle(at), *count as f64));
    let mean = values().map(|(value, times)| value * times).sum::<f64>() / count as f64;
    let squares = values().map(|(value, times)| (value - mean).powi(2) * times).sum::<f64>();
    let least = buckets.iter().position(|count| *count > 0).map_or(0.0, middle);
    let most = buckets.iter().rposition(|count| *count > 0).map_or(0.0, middle);
    (least, most, (squares / count as f64).sqrt())
}

#[expect(clippy::cast_precision_loss, reason = "a time in nanoseconds that a float cannot hold is months long")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "they are the same numbers")]
    use super::*;

    #[test]
    fn a_time_falls_near_the_middle_of_its_bucket() {
        for nanos in [1_500, 2_000, 4_095, 1_000_000, 123_456_789, 20_000_000_000] {
            let (shown, meant) = (middle(bucket(nanos)), millis(nanos));
            assert!((shown / meant - 1.0).abs() < 0.13, "{meant} ms shown as {shown} ms");
        }
        assert_eq!((bucket(0), bucket(1), bucket(u64::MAX)), (0, 0, BUCKETS - 1));
        assert!((0..BUCKETS).collect::<Vec<_>>().windows(2).all(|pair| middle(pair[0]) < middle(pair[1])));
    }

    #[test]
    fn what_was_of_late_is_told_from_what_was_before() {
        let timer = Timer::default();
        let read = |at: u64| timer.read(Duration::from_secs(at));
        assert!(read(0).quantiles.iter().all(|(_, value)| value.is_nan()));
        (0..100).for_each(|_| timer.observe(Duration::from_millis(1)));
        timer.observe(Duration::from_secs(1));
        let first = read(15);
        assert_eq!((first.count, first.lately), (101, 101));
        assert!((first.quantiles[0].1 - 1.0).abs() < 0.13 && (first.spread.1 - 1000.0).abs() < 130.0, "{first:?}");
        timer.observe(Duration::from_millis(8));
        let second = read(30);
        assert_eq!((second.count, second.lately, second.window), (102, 1, Duration::from_secs(15)));
        assert!((second.quantiles[2].1 - 8.0).abs() < 1.1, "{second:?}");
        // Whoever else reads in between takes nothing away.
        assert_eq!(read(33).lately, 1);
        assert_eq!((read(45).lately, read(45).count), (0, 102));
    }

    #[test]
    fn a_counter_counts() {
        let counter = Counter::default();
        counter.add(3);
        let read = counter.read(Duration::from_secs(20));
        assert_eq!((read.total, read.lately), (3, 3));
        assert_eq!(counter.read(Duration::from_secs(40)).lately, 0);
    }
}
