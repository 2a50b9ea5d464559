//! What is stored, record by record, by whole names: for operators who look at or repair it.
//!
//! What no directory lists (a token, a lease) is reached by its name, too, which only who knows it can say. The keys lie outside
//! the barrier; numbers that are counted are no records; and what an engine lays beside what was made at the same time (a version
//! of a secret) is reached by its name and that time alone, which the engine's own records tell. What says which cluster this is
//! stays out of reach: a node would take itself for another's. Deliberately absent: any knowledge of what a record holds.

use tresor_barrier::{KeyPrefix, PointKey, StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::{Fault, Refusal};

use crate::{keys, tokens};

/// The namespace that everything lies below that is the server's own.
const TOP: &str = "root/";

/// The record of a name, which nobody may not know.
fn named(name: &str) -> Result<StorageKey, Fault> {
    let refused = || Refusal::Foreign(format!("cannot access {name:?}").into());
    // What is outside of every namespace, too, is answered like what is out of reach.
    let key = StorageKey::whole(name).map_err(|_| refused())?;
    if key == keys::cluster().map_err(Fault::internal)? { Err(refused().into()) } else { Ok(key) }
}

/// Where a record that no directory lists may lie: alone, or beside those that were made at the same time.
fn points(name: &str) -> Result<[PointKey; 3], Fault> {
    let own = name.rsplit_once('/').map_or(name, |(_, own)| own);
    let point = || PointKey::whole(name).map_err(Fault::internal);
    let (token, lease) = (tokens::moment_in_hash(own), tokens::moment_in_name(own));
    Ok([point()?, point()?.beside(token), point()?.beside(lease)])
}

/// What a record holds.
///
/// # Errors
/// A refusal of what is no name or out of reach; a failure when the store fails or the record is damaged.
pub fn read(txn: &mut Txn, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let mut stored = txn.read(&named(name)?).map_err(Fault::internal)?;
    for point in points(name)? {
        if stored.is_none() {
            stored = txn.read(&point).map_err(Fault::internal)?;
        }
    }
    Ok(stored.map(|stored| stored.to_vec()))
}

/// Writes a record, whatever it holds: where there is one of this name, else where a directory lists it.
///
/// # Errors
/// As [`read`].
pub fn write(txn: &mut Txn, name: &str, value: &[u8]) -> Result<(), Fault> {
    let listed = named(name)?;
    if !txn.contains(&listed).map_err(Fault::internal)? {
        for point in points(name)? {
            if txn.contains(&point).map_err(Fault::internal)? {
                return txn.write(&point, value).map_err(Fault::internal);
            }
        }
    }
    txn.write(&listed, value).map_err(Fault::internal)
}

/// Deletes a record; deleting nothing is fine.
///
/// # Errors
/// As [`read`].
pub fn delete(txn: &mut Txn, name: &str) -> Result<(), Fault> {
    let listed = named(name)?;
    for point in points(name)? {
        if txn.contains(&point).map_err(Fault::internal)? {
            txn.delete(&point).map_err(Fault::internal)?;
        }
    }
    txn.delete(&listed).map_err(Fault::internal)
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
