//! How much there is still of a namespace that is being deleted: for people who wait for it.
//!
//! Deliberately absent: taking it away, which `leases/leaving.rs` does.

use tresor_barrier::{KeyPrefix, Txn};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;

use super::Spaces;
use crate::leases::leaving::AREAS;
use crate::mounts::left::{COUNTED_MAX, count_below};
use crate::tokens::Tokens;

/// How many removed mounts are looked at in one page.
const PAGE: usize = 1000;

impl Spaces {
    /// How many mounts a namespace has or had whose data is not gone yet, the server's own left out.
    ///
    /// # Errors
    /// When the store fails.
    pub fn mounts_left(&self, txn: &mut Txn, id: &NamespaceId) -> Result<u64, Fault> {
        let Some(space) = self.with_id(id) else { return Ok(0) };
        let mut left = space.mounts.table().iter().filter(|mount| !mount.is_the_servers()).count();
        let mut after = None;
        loop {
            let (page, next) = space.mounts.removals(txn, after.as_deref(), PAGE)?;
            left += page.len();
            if next.is_none() {
                return Ok(left as u64);
            }
            after = next;
        }
    }

    /// How many tokens and leases there are in the realm of a namespace, which is known of a sealed one, too.
    ///
    /// # Errors
    /// When the store fails.
    pub fn realm_left(&self, txn: &mut Txn, id: &NamespaceId) -> Result<u64, Fault> {
        let Some(realm) = id.realm() else { return Ok(0) };
        Ok(u64::try_from(Tokens::in_realm(txn, &realm)?).unwrap_or(0))
    }

    /// How many records there are of a namespace, of every kind; [`COUNTED_MAX`] is that or more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn records_left(&self, txn: &mut Txn, id: &NamespaceId) -> Result<u64, Fault> {
        let mut found = 0;
        for area in AREAS {
            let whole = KeyPrefix::new(id, area, "").map_err(Fault::internal)?;
            found += count_below(txn, &whole, COUNTED_MAX - found)?;
        }
        Ok(found as u64)
    }
}
