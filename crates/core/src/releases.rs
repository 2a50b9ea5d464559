//! Which releases have led this store, and since when: one record for each, written by the first leader of that release.
//!
//! Deliberately absent: what ran on nodes that never led.

use tresor_barrier::Txn;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;

use crate::cached::every_name;
use crate::keys;
use crate::unsealed::Unsealed;

/// A release.
#[derive(Record, Clone, Copy, PartialEq, Eq)]
#[record(kind = "release", version = 1)]
struct ReleaseRecord {
    /// Since when.
    installed: Timestamp,
}

/// Writes down a release, unless it is known.
pub(crate) fn write(txn: &mut Txn, release: &str, now: Timestamp) -> Result<(), Fault> {
    let prefix = keys::releases(&NamespaceId::root()).map_err(Fault::internal)?;
    let key = prefix.key(release).map_err(Fault::internal)?;
    if txn.read(&key).map_err(Fault::internal)?.is_some() {
        return Ok(());
    }
    txn.write(&key, &ReleaseRecord { installed: now }.encode()).map_err(Fault::internal)
}

/// Writes down the release of a node that begins to lead.
pub(crate) async fn note(unsealed: &Unsealed) -> Result<(), Fault> {
    let mut txn = unsealed.begin()?;
    write(&mut txn, unsealed.handles.settings.release, unsealed.clock.now())?;
    if txn.is_empty_of_writes() {
        return Ok(());
    }
    Ok(unsealed.commit(txn).await?)
}

/// The releases and since when each was there, the first one first.
///
/// # Errors
/// When the store fails.
pub fn all(txn: &mut Txn) -> Result<Vec<(String, Timestamp)>, Fault> {
    let prefix = keys::releases(&NamespaceId::root()).map_err(Fault::internal)?;
    let mut all = Vec::new();
    for name in every_name(txn, &prefix).map_err(Fault::internal)? {
        let key = prefix.key(&name).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        all.push((name, ReleaseRecord::decode(&bytes).map_err(Fault::internal)?.installed));
    }
    all.sort_by_key(|(_, installed)| *installed);
    Ok(all)
}
