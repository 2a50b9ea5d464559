//! What is counted and timed of one device, in the names that dashboards know.
//!
//! A time is what handing over took, of all that was handed over at once; no request waited for it. Deliberately absent: how
//! far behind a device is, which its standing says.

use std::time::Duration;

use tresor_metrics::{Counter, Timer};

use crate::redact::Written;

/// The numbers of one device.
#[derive(Default)]
pub struct Numbers {
    /// Deliveries with records of requests.
    pub log_request: Timer,
    /// Those of them that failed.
    pub log_request_failure: Counter,
    /// Deliveries with records of answers.
    pub log_response: Timer,
    /// Those of them that failed.
    pub log_response_failure: Counter,
    /// Lines that were taken.
    pub lines: Counter,
}

impl Numbers {
    /// The lines of these records were handed over, of which so many were taken.
    pub(crate) fn note(&self, records: &[Written], taken: usize, took: Duration) {
        let counts: [fn(&Written) -> u64; 2] = [|record| record.requests, |record| record.answers];
        let cells = [(&self.log_request, &self.log_request_failure), (&self.log_response, &self.log_response_failure)];
        for (count, (timer, failures)) in counts.into_iter().zip(cells) {
            let lines = |records: &[Written]| records.iter().map(count).sum::<u64>();
            let (taken, left) = records.split_at_checked(taken).unwrap_or((records, &[]));
            if lines(records) > 0 {
                timer.observe(took);
            }
            failures.add(u64::from(lines(left) > 0));
            self.lines.add(lines(taken));
        }
    }
}
