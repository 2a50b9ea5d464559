//! Workflows as they are stored: one record each, by path, in the namespace that they are of.
//!
//! Deliberately absent: what their texts mean (`tresor-profile`), who may run them, and a cache; they are read when they are run.

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::scan;
use tresor_engine::view::fault;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Record;

use crate::keys;

/// A workflow.
#[derive(Record)]
#[record(kind = "workflow", version = 1)]
pub struct WorkflowRecord {
    /// Its text as it was sent.
    pub text: String,
    /// What it is for.
    pub description: String,
    /// How often it was written.
    pub version: u64,
    /// Whether whoever writes it has to say which version they have seen.
    pub needs_cas: bool,
    /// Whether it is run for those who have no token.
    pub is_public: bool,
}

fn key(namespace: &NamespaceId, path: &str) -> Result<StorageKey, Fault> {
    keys::workflows(namespace).and_then(|at| at.key(path)).map_err(fault)
}

/// The names directly below a directory (empty, or with a slash at its end), those of directories with a slash at their ends.
///
/// # Errors
/// When the store fails.
pub fn names(
    txn: &mut Txn,
    namespace: &NamespaceId,
    directory: &str,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let root = keys::workflows(namespace).map_err(fault)?;
    let prefix = if directory.is_empty() { root } else { root.below(directory).map_err(fault)? };
    txn.list(&prefix, after, limit.unwrap_or(usize::MAX)).map_err(fault)
}

/// The paths below a directory, at any depth, relative to it.
///
/// # Errors
/// When the store fails.
pub async fn every(
    txn: &mut Txn,
    namespace: &NamespaceId,
    directory: &str,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let list = |below: &str, after: Option<&str>, most| {
        names(txn, namespace, &format!("{directory}{below}"), after, Some(most))
    };
    scan::names_by(list, after, limit).await
}

/// One of them.
///
/// # Errors
/// When the store fails.
pub fn read(txn: &mut Txn, namespace: &NamespaceId, path: &str) -> Result<Option<WorkflowRecord>, Fault> {
    let bytes = txn.read(&key(namespace, path)?).map_err(fault)?;
    bytes.map(|bytes| WorkflowRecord::decode(&bytes)).transpose().map_err(Fault::internal)
}

/// Stores one.
///
/// # Errors
/// A refusal when the path cannot be stored.
pub fn write(txn: &mut Txn, namespace: &NamespaceId, path: &str, workflow: &WorkflowRecord) -> Result<(), Fault> {
    txn.write(&key(namespace, path)?, &workflow.encode()).map_err(fault)
}

/// Removes one; removing nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete(txn: &mut Txn, namespace: &NamespaceId, path: &str) -> Result<(), Fault> {
    txn.delete(&key(namespace, path)?).map_err(fault)
}
