//! Mounts that were removed and are not gone yet: how far each is, and what an operator may order.
//!
//! A removed mount cannot be reached from the commit on that removed it. What it handed out is taken back by its engine,
//! then its data is wiped, in steps that go on after any crash: that is `leases::collect`. What an engine cannot take back
//! keeps the data, which may be needed for it, until an operator mends the engine's target and revokes the lease, or
//! orders that such leases are forgotten. Deliberately absent: doing any of it.

use tresor_barrier::Txn;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, MountId, Timestamp};
use tresor_record::Record;

use super::record::{MountRecord, WipeRecord};
use super::{Mounts, SERVER_MOUNTS};
use crate::leases::secrets::LeasesLeft;
use crate::namespaces::ids;
use crate::{keys, lockout, observations};

/// A mount that was removed and is not gone yet.
pub struct Removal {
    /// The mount, and what was done.
    pub record: WipeRecord,
    /// What it handed out and is not taken back.
    pub leases: LeasesLeft,
}

/// What is done next about a removed mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Leases are revoked.
    Revoking,
    /// Leases cannot be revoked: an operator has to look.
    Stuck,
    /// Its data is wiped.
    Wiping,
}

impl Removal {
    /// What is done next.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match &self.leases {
            LeasesLeft { live: 0, revoking: 0, irrevocable: 0, .. } => Stage::Wiping,
            LeasesLeft { live: 0, revoking: 0, .. } if !self.record.is_forced => Stage::Stuck,
            _ => Stage::Revoking,
        }
    }
}

impl Mounts {
    /// Removes a mount whose record cannot be read: nobody knows any more where it was or of which type, so its engine takes
    /// nothing back, and leases that it has keep its data until an operator decides.
    ///
    /// # Errors
    /// A refusal when it may be one of the server's own; a failure when the store fails.
    pub fn disable_unreadable(&self, txn: &mut Txn, id: &MountId, now: Timestamp) -> Result<(), Fault> {
        let table = self.table();
        if SERVER_MOUNTS.iter().any(|own| table.at(own.path).is_none()) {
            return Err(Fault::invalid("cannot unmount this: it may be one of the server's own mounts"));
        }
        let key = keys::mount(&self.namespace, id).map_err(Fault::internal)?;
        lockout::forget(txn, id)?;
        txn.delete(&key).map_err(Fault::internal)?;
        let record = MountRecord { store: self.newest_store(txn, id)?, ..MountRecord::unknown(id.clone(), now) };
        observations::of_mount(txn, &self.namespace, "mount/disable", &record);
        let wipe = keys::wipe(&self.namespace, id).map_err(Fault::internal)?;
        txn.write(&wipe, &WipeRecord::begun(record, now).encode()).map_err(Fault::internal)
    }

    /// In which part of the store the data of a mount lies, found by looking.
    fn newest_store(&self, txn: &mut Txn, id: &MountId) -> Result<u64, Fault> {
        const LOOKED_AT: u64 = 8;
        for store in (1..=LOOKED_AT).rev() {
            let contents = keys::mount_contents(&self.namespace, id, store).map_err(Fault::internal)?;
            if !txn.list(&contents, None, 1).map_err(Fault::internal)?.is_empty() {
                return Ok(store);
            }
        }
        Ok(0)
    }

    /// A page of the identities of removed mounts, and where the next page begins.
    ///
    /// # Errors
    /// When the store fails.
    pub fn removals(
        &self,
        txn: &mut Txn,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), Fault> {
        let page = txn.list(&keys::wipes().map_err(Fault::internal)?, after, limit);
        let page = page.map_err(Fault::internal)?;
        let next = (page.len() == limit).then(|| page.last().cloned()).flatten();
        let own = page.into_iter().filter(|name| ids::home(name) == *self.namespace());
        Ok((own.map(|name| ids::bare(&name).to_owned()).collect(), next))
    }

    /// A removed mount; `None` when it is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub fn removal(&self, txn: &mut Txn, id: &MountId) -> Result<Option<Removal>, Fault> {
        // An id of another namespace names nothing.
        if !ids::home(id.as_str()).is_root() {
            return Ok(None);
        }
        let Ok(key) = keys::wipe(self.namespace(), id) else { return Ok(None) };
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
        let record = WipeRecord::decode(&bytes).map_err(Fault::internal)?;
        let leases = LeasesLeft::of(txn, self.namespace(), id)?;
        Ok(Some(Removal { record, leases }))
    }

    /// Orders that leases of a removed mount which cannot be revoked are forgotten; false when it is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub fn force_removal(&self, txn: &mut Txn, id: &MountId) -> Result<bool, Fault> {
        let Some(Removal { record, .. }) = self.removal(txn, id)? else { return Ok(false) };
        let key = keys::wipe(self.namespace(), id).map_err(Fault::internal)?;
        let record = WipeRecord { is_forced: true, walked: None, ..record };
        txn.write(&key, &record.encode()).map_err(Fault::internal)?;
        Ok(true)
    }

    const fn namespace(&self) -> &NamespaceId {
        &self.namespace
    }
}
