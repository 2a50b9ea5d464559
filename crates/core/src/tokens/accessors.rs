//! Accessors: the handles that tokens are named by, without letting anybody use them.
//!
//! The name that an accessor stands under ends in its token's hash, so looking one up reads a name and the token.
//! Deliberately absent: what may be done by a handle, which is the token engine's.

use tresor_barrier::Txn;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};

use super::{FoundToken, Tokens, fault, hash_of, names, read_record};
use crate::keys;
use crate::namespaces::ids;

impl Tokens {
    /// Looks a token up by its accessor, within its own namespace.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn find_accessor(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        accessor: &str,
        now: Timestamp,
    ) -> Result<Option<FoundToken>, Fault> {
        match self.hash_of_accessor(txn, namespace, accessor)? {
            Some(hash) => self.find_hash(txn, &hash, now),
            None => Ok(None),
        }
    }

    /// The token of an accessor as it is stored, alive or not.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub fn stored_by_accessor(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        accessor: &str,
    ) -> Result<Option<FoundToken>, Fault> {
        let Some(hash) = self.hash_of_accessor(txn, namespace, accessor)? else { return Ok(None) };
        Ok(read_record(txn, &hash)?.map(|record| self.as_stored(&hash, record)))
    }

    fn hash_of_accessor(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        accessor: &str,
    ) -> Result<Option<String>, Fault> {
        // An accessor that cannot be a storage name names nothing.
        if accessor.is_empty() || accessor.contains('/') || ids::home(accessor) != *namespace {
            return Ok(None);
        }
        // Which token it is never changes, so only the token's record is relied on.
        let handle = txn.glance(&keys::accessors(namespace).map_err(fault)?, ids::bare(accessor)).map_err(fault)?;
        let handle = handle.filter(|handle| names::accessor_of(handle) == accessor);
        Ok(handle.and_then(|handle| hash_of(&handle).map(str::to_owned)))
    }

    /// A page of accessors of the live tokens of a namespace after `after`, in order, at most `limit`, and where the next page begins; `None`
    /// at the end.
    ///
    /// # Errors
    /// A failure when the store fails.
    pub fn accessors(
        &self,
        txn: &mut Txn,
        namespace: &NamespaceId,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, Option<String>), Fault> {
        let prefix = keys::accessors(namespace).map_err(fault)?;
        let after = after.filter(|after| !after.is_empty()).map(names::after_accessor);
        let page = txn.list(&prefix, after.as_deref(), limit).map_err(fault)?;
        let next = (page.len() == limit).then(|| page.last().map(|last| names::accessor_of(last))).flatten();
        let doubt = self.doubt(txn, now)?;
        let mut alive = Vec::new();
        for handle in page {
            let hash = hash_of(&handle).unwrap_or(&handle);
            if !doubt.is_about(&handle, hash) || self.find_hash(txn, hash, now)?.is_some() {
                alive.push(names::accessor_of(&handle));
            }
        }
        Ok((alive, next))
    }
}
