//! Waiting until what an order revokes is revoked, for a caller who wants to know.
//!
//! The order is stored before, so it is carried out whatever becomes of the waiting. Deliberately absent: doing any of it
//! here.

use std::time::Duration;

use tresor_barrier::Txn;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;

use super::names::ids;
use super::record::{JobRecord, JobWork, LeaseRecord, LeaseState};
use super::secrets::{read, read_in};
use crate::keys;
use crate::namespaces::ids::home;
use crate::tokens;
use crate::unsealed::Unsealed;

/// How long between two looks, where nobody says that something came to an end.
const BETWEEN: Duration = Duration::from_secs(1);
/// How many ids are looked at before others have their turn.
const PAGE: usize = 256;

/// Waits until what was ordered at `ordered` for the ids below `prefix` is done.
///
/// # Errors
/// A refusal when an engine could not take something back, when it takes too long, and when the node is sealed
/// meanwhile: the order stands.
pub(crate) async fn revoked(
    unsealed: &Unsealed,
    namespace: &NamespaceId,
    prefix: &str,
    ordered: Timestamp,
    deadline: Duration,
) -> Result<(), Fault> {
    let _rests = unsealed.gate.rest();
    let hurry = unsealed.handles.leases.hurry();
    hurry.want();
    let begun = unsealed.doors.clock.monotonic();
    let prefix = format!("{}/", prefix.trim_matches('/'));
    loop {
        let seen = hurry.ended();
        if !is_waiting(unsealed, namespace, &prefix, ordered).await? {
            return Ok(());
        }
        let left = deadline.saturating_sub(unsealed.doors.clock.monotonic().saturating_sub(begun));
        if left.is_zero() {
            let text = "not everything is revoked yet; it goes on in the background";
            return Err(Refusal::Unavailable(text.into()).into());
        }
        tokio::select! {
            biased;
            () = unsealed.gate.closed() => return Err(Refusal::Sealed.into()),
            () = unsealed.clock.sleep(BETWEEN.min(left)) => {}
            () = hurry.ended_after(seen) => {}
        }
    }
}

async fn is_waiting(
    unsealed: &Unsealed,
    namespace: &NamespaceId,
    prefix: &str,
    ordered: Timestamp,
) -> Result<bool, Fault> {
    let mut txn = unsealed.begin()?;
    if has_job(&mut txn, namespace, prefix, ordered)? {
        return Ok(true);
    }
    // The prefix may be the whole id of one lease.
    let own = read_in(&mut txn, namespace, prefix.trim_end_matches('/'))?;
    if own.map_or(Ok(false), |record| is_being_revoked(&record, ordered))? {
        return Ok(true);
    }
    let mut after: Option<String> = None;
    loop {
        let page = ids(&mut txn, namespace, prefix, after.as_deref(), PAGE)?;
        for id in page.iter().filter(|id| tokens::hash_in(id).is_none()) {
            let record = read(&mut txn, id)?;
            if record.map_or(Ok(false), |record| is_being_revoked(&record, ordered))? {
                return Ok(true);
            }
        }
        let Some(last) = page.last() else { return Ok(false) };
        after = Some(last.clone());
        tresor_env::tasks::breathe().await;
    }
}

/// Whether the job is still there.
fn has_job(txn: &mut Txn, namespace: &NamespaceId, prefix: &str, ordered: Timestamp) -> Result<bool, Fault> {
    let jobs = keys::jobs().map_err(Fault::internal)?;
    let names = crate::cached::every_name(txn, &jobs).map_err(Fault::internal)?;
    for name in names.iter().filter(|name| home(name) == *namespace) {
        let Some(bytes) = txn.read(&jobs.key(name).map_err(Fault::internal)?).map_err(Fault::internal)? else {
            continue;
        };
        let job = JobRecord::decode(&bytes).map_err(Fault::internal)?;
        if job.work == JobWork::Revoke && job.prefix == prefix && job.since == ordered {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether its engine is still to be asked; a refusal when it was, and failed.
fn is_being_revoked(record: &LeaseRecord, ordered: Timestamp) -> Result<bool, Fault> {
    if record.issued > ordered {
        return Ok(false);
    }
    match &record.state {
        LeaseState::Live | LeaseState::Intended => Ok(false),
        LeaseState::Revoking(attempts) if attempts.failed == 0 => Ok(true),
        LeaseState::Revoking(attempts) | LeaseState::Irrevocable(attempts) => {
            Err(Fault::invalid(format!("failed to revoke {:?}: {}", record.id.as_str(), attempts.reason)))
        }
    }
}
