//! What is stored, record by record, by whole names: for operators who look at or repair it.
//!
//! Only records that a directory lists are reached: not the keys, which lie outside the barrier, and not what is found by who
//! knows it alone (tokens, leases, versions of secrets). What says which cluster this is stays out of reach, too: a node would
//! take itself for another's. Deliberately absent: any knowledge of what a record holds.

use tresor_barrier::{KeyPrefix, StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::{Fault, Refusal};

use crate::keys;

/// The namespace that everything lies below that is the server's own.
const TOP: &str = "root/";

/// The record of a name, which nobody may not know.
fn named(name: &str) -> Result<StorageKey, Fault> {
    let refused = || Refusal::Foreign(format!("cannot access {name:?}").into());
    // What is outside of every namespace, too, is answered like what is out of reach.
    let key = StorageKey::whole(name).map_err(|_| refused())?;
    if key == keys::cluster().map_err(Fault::internal)? { Err(refused().into()) } else { Ok(key) }
}

/// What a record holds.
///
/// # Errors
/// A refusal of what is no name or out of reach; a failure when the store fails or the record is damaged.
pub fn read(txn: &mut Txn, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let stored = txn.read(&named(name)?).map_err(Fault::internal)?;
    Ok(stored.map(|stored| stored.to_vec()))
}

/// Writes a record, whatever it holds.
///
/// # Errors
/// As [`read`].
pub fn write(txn: &mut Txn, name: &str, value: &[u8]) -> Result<(), Fault> {
    txn.write(&named(name)?, value).map_err(Fault::internal)
}

/// Deletes a record; deleting nothing is fine.
///
/// # Errors
/// As [`read`].
pub fn delete(txn: &mut Txn, name: &str) -> Result<(), Fault> {
    txn.delete(&named(name)?).map_err(Fault::internal)
}

/// A page of the names directly below a directory; those of directories end in a slash.
///
/// # Errors
/// As [`read`].
pub fn list(txn: &mut Txn, directory: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, Fault> {
    let directory = directory.trim_matches('/');
    if directory.is_empty() {
        // Nothing is above a namespace.
        return Ok(vec![TOP.to_owned()]);
    }
    let prefix = KeyPrefix::whole(&format!("{directory}/")).map_err(fault)?;
    txn.list(&prefix, after, limit).map_err(Fault::internal)
}
