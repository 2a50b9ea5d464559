//! Password policies as they are stored: texts by name. Deliberately absent: what they mean, and a cache; they are read when
//! a password is made.

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Record;

use crate::keys;

#[derive(Record)]
#[record(kind = "password-policy", version = 1)]
struct PasswordPolicyRecord {
    text: String,
}

fn key(namespace: &NamespaceId, name: &str) -> Result<StorageKey, Fault> {
    keys::password_policies(namespace).and_then(|at| at.key(name)).map_err(fault)
}

/// The names in order, after one of them, at most so many.
///
/// # Errors
/// When the store fails.
pub fn names(
    txn: &mut Txn,
    namespace: &NamespaceId,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let prefix = keys::password_policies(namespace).map_err(Fault::internal)?;
    txn.list(&prefix, after, limit.unwrap_or(usize::MAX)).map_err(fault)
}

/// The text of a policy.
///
/// # Errors
/// When the store fails.
pub fn read(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<Option<String>, Fault> {
    let bytes = txn.read(&key(namespace, name)?).map_err(fault)?;
    let record = bytes.map(|bytes| PasswordPolicyRecord::decode(&bytes)).transpose().map_err(Fault::internal)?;
    Ok(record.map(|record| record.text))
}

/// Stores a policy.
///
/// # Errors
/// A refusal when the name cannot be stored.
pub fn write(txn: &mut Txn, namespace: &NamespaceId, name: &str, text: String) -> Result<(), Fault> {
    txn.write(&key(namespace, name)?, &PasswordPolicyRecord { text }.encode()).map_err(fault)
}

/// Removes a policy; removing nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
    txn.delete(&key(namespace, name)?).map_err(fault)
}
