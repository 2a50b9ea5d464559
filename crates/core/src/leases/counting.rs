//! Quotas on a role or a path: set, removed, and told of what there was before they were set.
//!
//! What is made from then on is counted when it is made: a change of the quotas within a mount writes that mount's record,
//! on which every write there relies, so whoever made something by the quotas of before does it again. What there was is
//! found page by page, by its ids, by a stored mark with a place in it; each record says by which quotas it is counted, so
//! nothing counts twice. Until the walk is done the quota admits more than it says. Deliberately absent: quotas on whole
//! mounts and namespaces, of which there are tallies in any case.

use std::sync::Arc;

use tresor_barrier::{StorageKey, Txn};
use tresor_env::Entropy;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use super::names::readable_ids;
use super::record::{LeaseRecord, LeaseState, number_of};
use super::secrets::{Leases, write};
use super::{Doing, Progress, Readable};
use crate::keys;
use crate::mounts::Mount;
use crate::namespaces::Space;
use crate::quotas::{About, QuotaRecord, Quotas};
use crate::tokens;
use crate::unsealed::Unsealed;

/// How far counting what there was before a quota has come.
#[derive(Record)]
#[record(kind = "quota-counting", version = 1)]
pub(super) struct CountingRecord {
    /// The last id that was looked at.
    walked: Option<String>,
}

impl Leases {
    /// Sets a quota, of which the number is given here.
    ///
    /// # Errors
    /// A refusal when another one is about the same; a failure when the store fails.
    pub fn set_quota(
        &self,
        txn: &mut Txn,
        quotas: &Quotas,
        mut quota: QuotaRecord,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), Fault> {
        let known = quotas.stored(txn)?.remove(&quota.name);
        match known {
            Some(known) if known.is_twin_of(&quota) => quota.number = known.number,
            known => {
                self.forget_counting(txn, known.as_ref())?;
                if quota.is_within() {
                    quota.number = tokens::fresh_name(now, entropy);
                    self.touch(txn, &quota)?;
                    let mark = keys::countings().and_then(|at| at.key(&quota.number)).map_err(Fault::internal)?;
                    txn.write(&mark, &CountingRecord { walked: None }.encode()).map_err(Fault::internal)?;
                }
            }
        }
        if quota.about == About::Namespace(NamespaceId::root()) && !quota.inheritable {
            self.tokens().count_own(txn)?;
        }
        quotas.write(txn, &quota)
    }

    /// Removes a quota; removing nothing is fine.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn remove_quota(&self, txn: &mut Txn, quotas: &Quotas, name: &str) -> Result<(), Fault> {
        let known = quotas.stored(txn)?.remove(name);
        self.forget_counting(txn, known.as_ref())?;
        quotas.delete(txn, name)
    }

    /// Whether what there was before a quota is being counted.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn is_counting_for(&self, txn: &mut Txn, quota: &QuotaRecord) -> Result<bool, Fault> {
        if !quota.is_within() {
            return Ok(false);
        }
        let mark = keys::countings().and_then(|at| at.key(&quota.number)).map_err(Fault::internal)?;
        txn.contains(&mark).map_err(Fault::internal)
    }

    /// Forgets what was counted for a quota that ends or becomes another.
    fn forget_counting(&self, txn: &mut Txn, known: Option<&QuotaRecord>) -> Result<(), Fault> {
        let Some(known) = known.filter(|known| known.is_within()) else { return Ok(()) };
        self.touch(txn, known)?;
        txn.forget_tally(&keys::counted_for(&known.number).map_err(Fault::internal)?);
        let mark = keys::countings().and_then(|at| at.key(&known.number)).map_err(Fault::internal)?;
        txn.delete(&mark).map_err(Fault::internal)
    }

    /// Makes whoever is about to make something of the quota's mount do it again, by the quotas that there are then.
    fn touch(&self, txn: &mut Txn, quota: &QuotaRecord) -> Result<(), Fault> {
        let About::Mount(mount) = &quota.about else { return Ok(()) };
        let Some((space, _)) = self.spaces().with_mount(mount) else { return Ok(()) };
        let Some(record) = space.mounts.read(txn, mount)? else { return Ok(()) };
        space.mounts.write(txn, &record)
    }

    /// Counts what an id is about for a quota, if it falls under it and is not counted.
    fn count_before(
        &self,
        txn: &mut Txn,
        space: &Space,
        mount: &Mount,
        quota: &QuotaRecord,
        id: &str,
    ) -> Result<(), Fault> {
        let tokens = self.tokens();
        if let Some(hash) = tokens::hash_in(id) {
            let Readable::Yes(record) = super::read_token(txn, hash)? else { return Ok(()) };
            let facets = tokens.facets(&space.id, &record.mount, &record.path, Some(&record.metadata));
            let falls_under = record.mount == mount.record.id && facets.is_some_and(|facets| quota.is_about(&facets));
            if !falls_under || record.expires.is_none() || record.counted.contains(&quota.number) {
                return Ok(());
            }
            let mut found = tokens.as_stored(hash, Arc::from(record));
            tokens.count_for(txn, &quota.number, &found.record.ancestors, 1)?;
            Arc::make_mut(&mut found.record).counted.push(quota.number.clone());
            return tokens::write_record(txn, &found);
        }
        let Ok(key) = keys::lease(number_of(id)) else { return Ok(()) };
        let Readable::Yes(mut record) = super::readable::<LeaseRecord>(txn.read(&key))? else { return Ok(()) };
        let facets = tokens.facets(&space.id, &record.mount, record.path(), None);
        let falls_under = record.mount == mount.record.id && facets.is_some_and(|facets| quota.is_about(&facets));
        let is_counted = record.counted.contains(&quota.number);
        if !falls_under || is_counted || record.id.as_str() != id || record.state != LeaseState::Live {
            return Ok(());
        }
        let line = tokens.line_of(txn, &record.token)?;
        tokens.count_for(txn, &quota.number, &line, 1)?;
        record.counted.push(quota.number.clone());
        write(txn, &record)
    }
}

/// How many marks are looked at in one step.
const MARKS_MAX: usize = 16;

/// A quota for which something is left to count, and its mount.
type Left = (StorageKey, CountingRecord, QuotaRecord, Arc<Space>, Arc<Mount>);

/// The first of them that can be counted; marks of what is gone are removed. A mount of a sealed namespace is not there and
/// not gone: while one is sealed, what is not found is left for later.
fn next(unsealed: &Unsealed, txn: &mut Txn) -> Result<Option<Left>, Fault> {
    let marks = keys::countings().map_err(Fault::internal)?;
    let spaces = &unsealed.handles.spaces;
    for number in txn.list(&marks, None, MARKS_MAX).map_err(Fault::internal)? {
        let key = marks.key(&number).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        let counting = CountingRecord::decode(&bytes).map_err(Fault::internal)?;
        let quota = unsealed.handles.quotas.numbered(&number);
        let of_mount = quota.as_ref().and_then(|quota| match &quota.about {
            About::Mount(mount) => spaces.with_mount(mount),
            About::Namespace(_) => None,
        });
        match (quota, of_mount) {
            (Some(quota), Some((space, mount))) => return Ok(Some((key, counting, quota, space, mount))),
            (Some(_), None) if spaces.every().iter().any(|space| spaces.is_sealed(&space.id)) => {}
            _ => txn.delete(&key).map_err(Fault::internal)?,
        }
    }
    Ok(None)
}

/// Counts a page of what there was before the oldest quota that was not told of it.
pub(super) fn step(unsealed: &Unsealed, txn: &mut Txn, doing: &mut Doing) -> Result<Progress, Fault> {
    let Some((key, mut counting, quota, space, mount)) = next(unsealed, txn)? else { return Ok(Progress::Idle) };
    let (handles, now, number) = (&unsealed.handles, unsealed.clock.now(), &quota.number);
    let below = &mount.record.path;
    let walked = counting.walked.as_deref();
    let (page, is_cut) = readable_ids(txn, &space.id, below, walked, doing.step_max)?;
    if is_cut {
        // What it leads to is in no list either, and ends in its own time.
        let aside = keys::set_aside().map_err(Fault::internal)?;
        let reason = format!("counting below `{below}` for a quota met a block of names that cannot be read");
        super::index::set_aside(txn, &aside, &format!("counting-{number}"), reason, now)?;
    }
    for id in &page {
        handles.leases.count_before(txn, &space, &mount, &quota, id)?;
    }
    match page.last() {
        Some(last) => {
            counting.walked = Some(last.clone());
            txn.write(&key, &counting.encode()).map_err(Fault::internal)?;
        }
        None => txn.delete(&key).map_err(Fault::internal)?,
    }
    Ok(Progress::More)
}
