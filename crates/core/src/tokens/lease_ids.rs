//! The lease ids of tokens: the path that made a token and a number, below which operators list and revoke them.
//!
//! The number is the name of the token in every directory in order of time, so the token's hash can be read out of it,
//! and an id costs one bare name. A token without an end has none. Deliberately absent: renewing a token by such an
//! id, which the reference refuses too.

use tresor_barrier::{StorageKey, Txn};
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};

use super::record::TokenRecord;
use super::{FoundToken, Tokens, names, read_record};
use crate::keys;
use crate::namespaces::ids;

impl FoundToken {
    /// The id of the token's lease; `None` when it has no end.
    #[must_use]
    pub fn lease_id(&self) -> Option<String> {
        lease_id(&self.record, &self.hash)
    }
}

pub(super) fn lease_id(record: &TokenRecord, hash: &str) -> Option<String> {
    record.expires?;
    Some(format!("{}/{}", record.path.trim_matches('/'), names::ordered(record.accessor.as_str(), hash)))
}

/// Where the id of a token's lease stands among all ids.
pub(super) fn key(namespace: &NamespaceId, id: &str) -> Result<StorageKey, Fault> {
    keys::leases(namespace).and_then(|at| at.key(id)).map_err(tresor_engine::view::fault)
}

/// The hash of the token that an id is about; `None` for ids of another kind.
pub(crate) fn hash_in(id: &str) -> Option<&str> {
    let number = id.rsplit_once('/').map_or(id, |(_, number)| number);
    (ids::bare(number).len() == names::ORDERED_CHARACTERS).then(|| names::hash_of(number)).flatten()
}

impl Tokens {
    /// The token of a lease id of a namespace as it is stored, alive or not.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn stored_by_lease_id(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        id: &str,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(hash) = hash_in(id).filter(|hash| ids::home(hash) == *namespace) else { return Ok(None) };
        let Some(record) = read_record(txn, hash)? else { return Ok(None) };
        Ok((lease_id(&record, hash).as_deref() == Some(id)).then(|| self.as_stored(hash, record)))
    }

    /// The token of a lease id of a namespace, when it is alive.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_lease_id(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(hash) = hash_in(id).filter(|hash| ids::home(hash) == *namespace) else { return Ok(None) };
        let found = self.find_hash(txn, hash, now)?;
        Ok(found.filter(|found| found.lease_id().as_deref() == Some(id)))
    }
}
