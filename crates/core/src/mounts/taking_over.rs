//! Mounts whose data takes another shape: it is taken over record by record, from one part of the store into another.
//!
//! From the commit on that changes the mount its engine is told that it has a former self, and serves nobody; when nothing is
//! left of that, the mount forgets it. Each record is taken over and deleted in one transaction, so it is in one place
//! whenever the process ends. As much as costs little is done with the change itself, so small mounts are never away.
//! Deliberately absent: what a shape is; engines know.

use tresor_barrier::{KeyPrefix, Txn};
use tresor_engine::{View, is_damage};
use tresor_model::{Fault, MountId};
use tresor_record::Record;

use super::Mounts;
use super::record::{Former, MountRecord};
use crate::keys;
use crate::leases::parked;
use crate::leases::secrets::{Means, own_context};
use crate::namespaces::ids;
use crate::unsealed::Unsealed;

/// How many records are taken over with the change itself.
const AT_ONCE_MAX: usize = 256;
/// How many bytes are taken over in one transaction, about.
const BYTES_MAX: usize = 4 << 20;
/// How many mounts are looked at in one step.
const JOBS_MAX: usize = 16;

/// How far a mount is.
#[derive(Record, Default)]
#[record(kind = "mount-take-over", version = 1)]
pub(crate) struct TakeOverRecord {
    /// How many records were taken over.
    pub(super) taken: u64,
    /// How many of the first that are left cannot be read, and stay where they are.
    pub(super) left_out: u64,
}

impl Mounts {
    /// Whether the data of a mount has to take another shape when it becomes what the second record says.
    ///
    /// # Errors
    /// A refusal when it cannot become that.
    pub fn reshapes(&self, before: &MountRecord, after: &MountRecord) -> Result<bool, Fault> {
        match self.factory(&after.kind, after.class) {
            Some(factory) => (factory.reshapes)(&self.facts(before), &self.facts(after)),
            None => Ok(false),
        }
    }

    /// Gives a mount its changed record and begins to take its data over; true when that is done already.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn take_over(&self, mut means: Means<'_>, before: &MountRecord, after: MountRecord) -> Result<bool, Fault> {
        let former = Former { store: before.store, options: before.options.clone() };
        let mut record = MountRecord { store: before.store + 1, former: Some(former), ..after };
        let mut job = TakeOverRecord::default();
        let is_done = self.take_some(&mut means, &record, &mut job, AT_ONCE_MAX)?;
        if is_done {
            record.former = None;
        } else {
            let key = keys::take_over(&self.namespace, &record.id);
            means.txn.write(&key.map_err(Fault::internal)?, &job.encode()).map_err(Fault::internal)?;
        }
        self.write(means.txn, &record)?;
        Ok(is_done)
    }

    /// Takes some records over; true when none is left but those that cannot be.
    fn take_some(
        &self,
        means: &mut Means<'_>,
        record: &MountRecord,
        job: &mut TakeOverRecord,
        limit: usize,
    ) -> Result<bool, Fault> {
        let Some(former) = &record.former else { return Ok(true) };
        let (facts, contents) = (self.facts(record), self.contents(record)?);
        let engine = self.make(&facts, record.class)?;
        let from = keys::mount_contents(&self.namespace, &record.id, former.store).map_err(Fault::internal)?;
        let (now, entropy, workers, ways) = (means.now, means.entropy, means.workers, means.ways);
        carry_some(means.txn, &from, job, limit, |txn, name, value| {
            let view = View::new(txn, contents.clone());
            let mut cx = own_context(view, &facts, now, entropy, workers, ways);
            engine.adopt(&mut cx, name, value)
        })
    }
}

/// Takes some records out of a part of the store, each handed to `adopt` and then deleted; true when none is left but those
/// that cannot be read.
pub(super) fn carry_some(
    txn: &mut Txn,
    from: &KeyPrefix,
    job: &mut TakeOverRecord,
    limit: usize,
    mut adopt: impl FnMut(&mut Txn, &str, &[u8]) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    // What cannot be read stays, in front of everything that was not looked at.
    let skipped = usize::try_from(job.left_out).unwrap_or(usize::MAX);
    let mut names = Vec::new();
    first_names(txn, from, "", skipped.saturating_add(limit).saturating_add(1), &mut names)?;
    let (mut bytes_left, mut looked_at) = (BYTES_MAX, skipped);
    for name in names.iter().skip(skipped).take(limit) {
        if bytes_left == 0 {
            return Ok(false);
        }
        looked_at += 1;
        let key = from.key(name).map_err(Fault::internal)?;
        let adopted = match txn.read(&key) {
            Ok(Some(value)) => {
                bytes_left = bytes_left.saturating_sub(value.len());
                adopt(txn, name, &value)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(Fault::internal(error)),
        };
        match adopted {
            Ok(()) => {
                txn.delete(&key).map_err(Fault::internal)?;
                job.taken += 1;
            }
            Err(fault) if is_damage(&fault) => {
                tracing::error!(
                    reason = fault.for_operators(),
                    "a record is damaged: it is left out of what is taken over"
                );
                job.left_out += 1;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(looked_at >= names.len())
}

/// Takes some data over of a mount that has some left; whether anything was done.
pub(crate) fn step(unsealed: &Unsealed, txn: &mut Txn, limit: usize) -> Result<bool, Fault> {
    let jobs = keys::take_overs().map_err(Fault::internal)?;
    let (names, _) = parked::open_names(&unsealed.handles.spaces, txn, &jobs, None, JOBS_MAX)?;
    let Some(name) = names.into_iter().next() else { return Ok(false) };
    let key = jobs.key(&name).map_err(Fault::internal)?;
    let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(false) };
    let mut job = TakeOverRecord::decode(&bytes).map_err(Fault::internal)?;
    // A mount that was removed meanwhile is wiped, and its data with it, whatever shape it has.
    let space = unsealed.handles.spaces.with_id(&ids::home(&name));
    let stored = match &space {
        Some(space) => space.mounts.read(txn, &MountId::new(ids::bare(&name)))?,
        None => None,
    };
    let Some((space, record)) = space.zip(stored) else {
        txn.delete(&key).map_err(Fault::internal)?;
        return Ok(true);
    };
    let mut means = Means::by(&mut *txn, unsealed.clock.now(), &unsealed.doors);
    if space.mounts.take_some(&mut means, &record, &mut job, limit)? {
        tracing::info!(mount = record.path, taken = job.taken, left_out = job.left_out, "data was taken over");
        space.mounts.write(txn, &MountRecord { former: None, ..record })?;
        txn.delete(&key).map_err(Fault::internal)?;
    } else {
        txn.write(&key, &job.encode()).map_err(Fault::internal)?;
    }
    Ok(true)
}

/// The first names below a prefix, whatever their depth, which the barrier bounds.
fn first_names(
    txn: &mut Txn,
    prefix: &KeyPrefix,
    at: &str,
    limit: usize,
    found: &mut Vec<String>,
) -> Result<(), Fault> {
    let mut after: Option<String> = None;
    while found.len() < limit {
        let page = txn.list(prefix, after.as_deref(), limit - found.len()).map_err(Fault::internal)?;
        let Some(last) = page.last().cloned() else { return Ok(()) };
        for name in page {
            if name.ends_with('/') {
                let deeper = prefix.below(&name).map_err(Fault::internal)?;
                first_names(txn, &deeper, &format!("{at}{name}"), limit, found)?;
            } else if found.len() < limit {
                found.push(format!("{at}{name}"));
            }
        }
        after = Some(last);
    }
    Ok(())
}
