//! At most so many requests in a second, so that a script cannot flood a server.
//!
//! Places come back one by one as time passes. Deliberately absent: fairness between clients; each counts for itself.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// How many places there are now.
pub(crate) struct Pace {
    limit: RateLimit,
    places: Mutex<(f64, Instant)>,
}

impl Pace {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, places: Mutex::new((f64::from(limit.burst), Instant::now())) }
    }

    /// Takes a place; how long until the request may be sent.
    pub(crate) fn wait(&self) -> Duration {
        self.wait_at(Instant::now())
    }

    fn wait_at(&self, now: Instant) -> Duration {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(places.1).as_secs_f64();
        let free = (places.0 + passed * self.limit.per_second).min(f64::from(self.limit.burst)) - 1.0;
        *places = (free, now);
        // A place that is owed is waited for.
        Duration::try_from_secs_f64((-free).max(0.0) / self.limit.per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_what_follows_waits_for_its_turn() {
        let pace = Pace::new(RateLimit { per_second: 2.0, burst: 2 });
        let start = Instant::now();
        let waits: Vec<u128> = (0..4).map(|_| pace.wait_at(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 500, 1000]);
        assert_eq!(pace.wait_at(start + Duration::from_secs(60)), Duration::ZERO);
    }
}
