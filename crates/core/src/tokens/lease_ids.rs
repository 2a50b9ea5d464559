//! The lease ids of tokens: the path that made a token and a number, below which operators list and revoke them.
//!
//! The number is the name of the token in every directory in order of time, so the token's hash can be read out of it,
//! and an id costs one bare name. A token without an end has none. Deliberately absent: renewing a token by such an
//! id, which the reference refuses too.

use tresor_barrier::{StorageKey, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};

use super::record::TokenRecord;
use super::{FoundToken, LIVE, Tokens, fault, names, read_record};
use crate::keys;
use crate::leases::index;

impl FoundToken {
    /// The id of the token's lease; `None` when it has no end.
    #[must_use]
    pub fn lease_id(&self) -> Option<String> {
        lease_id(&self.record, &self.hash)
    }
}

fn lease_id(record: &TokenRecord, hash: &str) -> Option<String> {
    record.expires?;
    Some(format!("{}/{}", record.path.trim_matches('/'), names::ordered(record.accessor.as_str(), hash)))
}

/// Where the id of a token's lease stands among all ids.
pub(super) fn key(record: &TokenRecord, hash: &str) -> Result<Option<StorageKey>, Fault> {
    let Some(id) = lease_id(record, hash) else { return Ok(None) };
    keys::leases(&record.namespace).and_then(|at| at.key(&id)).map(Some).map_err(tresor_engine::view::fault)
}

/// The hash of the token that an id is about; `None` for ids of another kind.
pub(crate) fn hash_in(id: &str) -> Option<&str> {
    let number = id.rsplit_once('/').map_or(id, |(_, number)| number);
    (number.len() == names::ORDERED_CHARACTERS).then(|| names::hash_of(number)).flatten()
}

impl Tokens {
    /// The token of a lease id as it is stored, alive or not.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn stored_by_lease_id(&self, txn: &mut Txn, id: &str) -> Result<Option<FoundToken>, Fault> {
        let Some(hash) = hash_in(id) else { return Ok(None) };
        let Some(record) = read_record(txn, &NamespaceId::root(), hash)? else { return Ok(None) };
        Ok((lease_id(&record, hash).as_deref() == Some(id)).then(|| self.as_stored(hash, record)))
    }

    /// The token of a lease id, when it is alive.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_lease_id(&self, txn: &mut Txn, id: &str, now: Timestamp) -> Result<Option<FoundToken>, Fault> {
        let Some(hash) = hash_in(id) else { return Ok(None) };
        let found = self.find_hash(txn, &NamespaceId::root(), hash, now)?;
        Ok(found.filter(|found| found.lease_id().as_deref() == Some(id)))
    }

    /// Whether every token and lease that stands in a directory is alive, so that a listing need not look at each:
    /// nothing is revoked, over, or of a removed mount, and waits to be collected.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub(crate) fn all_stand(&self, txn: &mut Txn, namespace: &NamespaceId, now: Timestamp) -> Result<bool, Fault> {
        if self.marks.ask(|marks| marks.topmost_doomed().next().is_some()) {
            return Ok(false);
        }
        for ends in [keys::token_ends(namespace), keys::lease_ends(namespace)] {
            match txn.list(&ends.map_err(fault)?, None, 1) {
                Ok(first) => {
                    let second = first.first().and_then(|name| index::second_of(name));
                    if second.is_some_and(|second| second <= now.seconds()) {
                        return Ok(false);
                    }
                }
                Err(error) if error.is_damage() => return Ok(false),
                Err(error) => return Err(fault(error)),
            }
        }
        for waiting in [keys::wipes(namespace), keys::set_aside(namespace)] {
            if !txn.list(&waiting.map_err(fault)?, None, 1).map_err(fault)?.is_empty() {
                return Ok(false);
            }
        }
        let mut known = 0_i64;
        for mount in self.mounts.table().iter() {
            let tally = txn.tally(&keys::live_of(namespace, &mount.record.id).map_err(fault)?).map_err(fault)?;
            if tally.keys().any(|label| label != LIVE) {
                return Ok(false);
            }
            known += tally.get(LIVE).copied().unwrap_or(0);
        }
        let every = txn.tally(&keys::live(namespace).map_err(fault)?).map_err(fault)?;
        Ok(every.get(LIVE).copied().unwrap_or(0) == known)
    }
}
