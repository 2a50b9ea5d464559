//! Leases that were forgotten without being revoked, because an operator ordered that: what they were stays readable, since
//! somebody has to look after what is left at the target. Of a namespace that is being deleted, in the one above that stays.
//!
//! Deliberately absent: any end of a report but an operator's word.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tresor_barrier::Txn;
use tresor_model::ids::{LeaseId, MountId, NamespaceId};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use super::record::LeaseRecord;
use super::secrets::Leases;
use super::{Doing, secrets, targets};
use crate::keys;
use crate::namespaces::record::NamespaceRecord;

/// What is left of a lease that was forgotten.
#[derive(Record)]
#[record(kind = "abandoned-lease", version = 1)]
pub struct Abandoned {
    /// Its id.
    pub id: LeaseId,
    /// The mount that handed it out.
    pub mount: MountId,
    /// What was handed out, in the engine's words.
    pub kind: String,
    /// Who was asked to take it back.
    pub target: String,
    /// When it was handed out.
    pub issued: Timestamp,
    /// When it was forgotten.
    pub since: Timestamp,
    /// Why it could not be revoked.
    pub reason: String,
}

/// Forgets a lease, and leaves a report. Its engine lets go of what it keeps for it; that it cannot keeps nobody from
/// forgetting.
pub(super) fn forget(
    leases: &Leases,
    txn: &mut Txn,
    record: &LeaseRecord,
    reason: &str,
    doing: &mut Doing,
    now: Timestamp,
) -> Result<(), Fault> {
    let id = record.id.as_str();
    tracing::error!(lease = id, reason, "a lease is forgotten without being revoked, as was ordered");
    let report = Abandoned {
        id: record.id.clone(),
        mount: record.mount.clone(),
        kind: record.kind.clone(),
        target: record.target.clone(),
        issued: record.issued,
        since: now,
        reason: reason.to_owned(),
    };
    // Of a namespace that is being deleted nothing would be left to read it in.
    let kept_in = leases.outlives(&record.home());
    let key = keys::abandoned(&kept_in).and_then(|at| at.key(record.number())).map_err(Fault::internal)?;
    txn.write(&key, &report.encode()).map_err(Fault::internal)?;
    doing.abandoned.push(id.to_owned());
    let told = catch_unwind(AssertUnwindSafe(|| leases.abandon(txn, record)));
    if let Err(fault) = told.unwrap_or_else(|_| Err(Fault::internal("the engine panicked"))) {
        tracing::warn!(lease = id, cause = ?fault, "an engine keeps what it kept for a lease that is forgotten");
    }
    targets::leave_queue(txn, record)?;
    secrets::forget(txn, record)
}

/// Leaves a report about a namespace that was erased without its keys: how many tokens and leases that were is all that is known.
pub(crate) fn of_erased(
    txn: &mut Txn,
    kept_in: &NamespaceId,
    record: &NamespaceRecord,
    number: i64,
    now: Timestamp,
) -> Result<(), Fault> {
    let report = Abandoned {
        id: LeaseId::new(format!("{}{}", record.path, record.uuid)),
        mount: MountId::new(""),
        kind: "namespace".to_owned(),
        target: String::new(),
        issued: record.created,
        since: now,
        reason: format!(
            "deleted while it was sealed: {number} tokens and leases are forgotten, and nobody knows which"
        ),
    };
    let key = keys::abandoned(kept_in).and_then(|at| at.key(&record.uuid)).map_err(Fault::internal)?;
    txn.write(&key, &report.encode()).map_err(Fault::internal)
}

/// A page of the reports of a namespace, in order of the leases' numbers, and where the next begins.
///
/// # Errors
/// A failure when the store fails.
pub fn reports(
    txn: &mut Txn,
    namespace: &NamespaceId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Abandoned>, Fault> {
    let at = keys::abandoned(namespace).map_err(Fault::internal)?;
    let mut found = Vec::new();
    for number in txn.list(&at, after, limit).map_err(Fault::internal)? {
        let bytes = txn.read(&at.key(&number).map_err(Fault::internal)?).map_err(Fault::internal)?;
        if let Some(bytes) = bytes {
            found.push(Abandoned::decode(&bytes).map_err(Fault::internal)?);
        }
    }
    Ok(found)
}

/// Deletes at most so many reports of a namespace; whether any is left.
///
/// # Errors
/// A failure when the store fails.
pub fn clear(txn: &mut Txn, namespace: &NamespaceId, limit: usize) -> Result<bool, Fault> {
    let at = keys::abandoned(namespace).map_err(Fault::internal)?;
    let numbers = txn.list(&at, None, limit + 1).map_err(Fault::internal)?;
    for number in numbers.iter().take(limit) {
        txn.delete(&at.key(number).map_err(Fault::internal)?).map_err(Fault::internal)?;
    }
    Ok(numbers.len() > limit)
}
