//! One line in the log when what is due cannot be done because storage is not reached, and one when it is reached again.
//!
//! Several workers try all the time, each for many leases; what all of them meet is told once, and counted. Deliberately absent:
//! any other fault, which is told each time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tresor_engine::is_storage_unreachable;
use tresor_model::Fault;

use crate::unsealed::Unsealed;

/// It is over when nothing was put off for so long.
const OVER_AFTER: Duration = Duration::from_secs(3);

/// What is known of it; nothing while there is none.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Lasting>>);

struct Lasting {
    put_off: u64,
    latest: Duration,
}

/// Tells of work that failed.
pub(super) fn tell(unsealed: &Unsealed, fault: &Fault, what: &'static str) {
    if !is_storage_unreachable(fault) {
        tracing::warn!(%fault, cause = ?fault, "{what}");
        return;
    }
    unsealed.handles.metrics.storage_put_off.add(1);
    let now = unsealed.doors.clock.monotonic();
    let mut outage = unsealed.handles.leases.outage().0.lock().unwrap_or_else(PoisonError::into_inner);
    let lasting = outage.get_or_insert_with(|| {
        tracing::warn!("storage is not reached: what is due waits for it, and is not told one by one");
        Lasting { put_off: 0, latest: now }
    });
    (lasting.put_off, lasting.latest) = (lasting.put_off + 1, now);
}

/// Something was done; tells when an outage is over.
pub(super) fn went_well(unsealed: &Unsealed) {
    let now = unsealed.doors.clock.monotonic();
    let mut outage = unsealed.handles.leases.outage().0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lasting) = outage.take_if(|lasting| now.saturating_sub(lasting.latest) > OVER_AFTER) {
        tracing::info!(put_off = lasting.put_off, "storage is reached again: what waited is done now");
    }
}
