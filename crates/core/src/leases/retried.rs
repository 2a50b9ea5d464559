//! Leases that their engine refused to take back, and that are tried again: noted with the first failure, until they are gone,
//! set apart or ordered anew.
//!
//! What waits for a target that does not answer has not failed ([`waiting`](super::waiting)), and what failed too often is
//! irrevocable. Deliberately absent: what the failure was; the lease's record has it.

use tresor_barrier::{StorageKey, Txn};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use super::record::{Attempts, LeaseRecord, LeaseState};
use super::secrets::numbered;
use crate::keys;
use crate::namespaces::Space;

/// A lease that is tried again, as it is noted.
#[derive(Record)]
#[record(kind = "retried-lease", version = 1)]
struct RetriedRecord {
    since: Timestamp,
}

/// A lease that is tried again.
pub struct Retried {
    /// It; its place in the index is when.
    pub record: LeaseRecord,
    /// How it went so far.
    pub attempts: Attempts,
    /// When it failed first.
    pub since: Timestamp,
}

fn key(record: &LeaseRecord) -> Result<StorageKey, Fault> {
    keys::retried(&record.home()).and_then(|at| at.key(record.number())).map_err(Fault::internal)
}

/// Notes that it failed, if it is not noted.
pub(super) fn note(txn: &mut Txn, record: &LeaseRecord, now: Timestamp) -> Result<(), Fault> {
    let key = key(record)?;
    if txn.contains(&key).map_err(Fault::internal)? {
        return Ok(());
    }
    txn.write(&key, &RetriedRecord { since: now }.encode()).map_err(Fault::internal)
}

/// Forgets that it failed, if it did.
pub(super) fn forget(txn: &mut Txn, record: &LeaseRecord) -> Result<(), Fault> {
    match &record.state {
        LeaseState::Revoking(attempts) if attempts.failed > 0 => txn.delete(&key(record)?).map_err(Fault::internal),
        _ => Ok(()),
    }
}

/// At most so many of a namespace, in order of their numbers.
///
/// # Errors
/// A failure when the store fails.
pub fn some(txn: &mut Txn, space: &Space, limit: usize) -> Result<Vec<Retried>, Fault> {
    let at = keys::retried(&space.id).map_err(Fault::internal)?;
    let mut found = Vec::new();
    for number in txn.list(&at, None, limit).map_err(Fault::internal)? {
        let noted = txn.read(&at.key(&number).map_err(Fault::internal)?).map_err(Fault::internal)?;
        let (Some(noted), Some(record)) = (noted, numbered(txn, &number)?) else { continue };
        let since = RetriedRecord::decode(&noted).map_err(Fault::internal)?.since;
        if let LeaseState::Revoking(attempts) = &record.state {
            found.push(Retried { attempts: attempts.clone(), record, since });
        }
    }
    Ok(found)
}
