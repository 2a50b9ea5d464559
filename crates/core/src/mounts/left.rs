//! How much data there is still of what is being removed, or takes another shape: for people who wait for it.
//!
//! It is counted when somebody asks, and only so far: whoever asks again and again costs no more than a page of a listing each
//! time. Deliberately absent: guesses of when it ends.

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::Fault;
use tresor_record::Record;

use super::Mounts;
use super::record::MountRecord;
use super::taking_over::TakeOverRecord;
use crate::keys;

/// So many records are counted; there may be more.
pub const COUNTED_MAX: usize = 10_000;

/// How far a mount is whose data takes another shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakingOver {
    /// How many records were taken over.
    pub taken: u64,
    /// How many are left, damaged ones among them; [`COUNTED_MAX`] is that or more.
    pub left: u64,
    /// How many of those are damaged and stay where they are.
    pub left_out: u64,
}

impl Mounts {
    /// How many records a mount has, in whatever shape; [`COUNTED_MAX`] is that or more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn records_left(&self, txn: &mut Txn, record: &MountRecord) -> Result<u64, Fault> {
        let former = record.former.as_ref().map(|former| former.store);
        let mut found = 0;
        for store in std::iter::once(record.store).chain(former) {
            let contents = keys::mount_contents(&self.namespace, &record.id, store).map_err(Fault::internal)?;
            found += count_below(txn, &contents, COUNTED_MAX - found)?;
        }
        Ok(found as u64)
    }

    /// How far the data of a mount is on its way into another shape; `None` when it is on none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn taking_over(&self, txn: &mut Txn, record: &MountRecord) -> Result<Option<TakingOver>, Fault> {
        let Some(former) = &record.former else { return Ok(None) };
        let key = keys::take_over(&self.namespace, &record.id).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
        let TakeOverRecord { taken, left_out } = TakeOverRecord::decode(&bytes).map_err(Fault::internal)?;
        let contents = keys::mount_contents(&self.namespace, &record.id, former.store).map_err(Fault::internal)?;
        let left = count_below(txn, &contents, COUNTED_MAX)? as u64;
        Ok(Some(TakingOver { taken, left, left_out }))
    }
}

/// How many names there are below a prefix, whatever their depth; at most `limit` are counted.
pub(crate) fn count_below(txn: &mut Txn, prefix: &KeyPrefix, limit: usize) -> Result<usize, Fault> {
    let (mut found, mut after) = (0, None::<String>);
    while found < limit {
        let page = txn.list(prefix, after.as_deref(), limit - found).map_err(Fault::internal)?;
        let Some(last) = page.last().cloned() else { return Ok(found) };
        for name in page {
            if found == limit {
                return Ok(found);
            }
            found += if name.ends_with('/') {
                let deeper = prefix.below(&name).map_err(Fault::internal)?;
                // A directory is in a listing until nothing is below it.
                count_below(txn, &deeper, limit - found)?
            } else {
                1
            };
        }
        after = Some(last);
    }
    Ok(found)
}
