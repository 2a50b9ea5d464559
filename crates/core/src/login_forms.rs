//! Which ways to log in a page offers first, of the whole server or of a namespace and what is below it.
//!
//! Stored in the root namespace by name, and once more by the namespace that each is about, of which there is one at most: so who
//! asks for that of a namespace reads as many records as there are namespaces above it. Deliberately absent: any effect on who may log in.

use std::collections::BTreeMap;

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::view::fault;
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_record::Record;

use crate::cached::every_record;
use crate::keys;
use crate::namespaces::Space;

/// What a page offers.
#[derive(Record)]
#[record(kind = "login-form", version = 1)]
pub struct LoginForm {
    /// The namespace that it is about.
    pub namespace: NamespaceId,
    /// Its path when that was said: empty of the root namespace, else ending in a slash.
    pub path: String,
    /// The type of the method that is offered first; empty for none.
    pub default_type: String,
    /// The types that are offered besides.
    pub backup_types: Vec<String>,
    /// Whether it ends at the namespace, instead of being handed down to those below.
    pub is_own: bool,
}

/// Which one is about a namespace.
#[derive(Record)]
#[record(kind = "login-form-of", version = 1)]
struct OfNamespace {
    name: String,
}

fn named(name: &str) -> Result<StorageKey, Fault> {
    keys::login_forms().and_then(|at| at.key(name)).map_err(fault)
}

fn of(namespace: &NamespaceId) -> Result<StorageKey, Fault> {
    keys::login_form_of(namespace).map_err(Fault::internal)
}

/// All of them by name.
///
/// # Errors
/// When the store fails.
pub fn all(txn: &mut Txn) -> Result<BTreeMap<String, LoginForm>, Fault> {
    every_record(txn, &keys::login_forms().map_err(Fault::internal)?)
}

/// One of them.
///
/// # Errors
/// When the store fails.
pub fn read(txn: &mut Txn, name: &str) -> Result<Option<LoginForm>, Fault> {
    let bytes = txn.read(&named(name)?).map_err(fault)?;
    bytes.map(|bytes| LoginForm::decode(&bytes)).transpose().map_err(Fault::internal)
}

fn name_of(txn: &mut Txn, namespace: &NamespaceId) -> Result<Option<String>, Fault> {
    let bytes = txn.read(&of(namespace)?).map_err(Fault::internal)?;
    let record = bytes.map(|bytes| OfNamespace::decode(&bytes)).transpose().map_err(Fault::internal)?;
    Ok(record.map(|record| record.name))
}

/// Stores one under a name.
///
/// # Errors
/// A refusal when another one is about the same namespace.
pub fn write(txn: &mut Txn, name: &str, form: &LoginForm) -> Result<(), Fault> {
    if let Some(other) = name_of(txn, &form.namespace)?.filter(|other| other != name) {
        return Err(Fault::invalid(format!("the namespace has a login configuration: `{other}`")));
    }
    delete(txn, name)?;
    txn.write(&of(&form.namespace)?, &OfNamespace { name: name.to_owned() }.encode()).map_err(Fault::internal)?;
    txn.write(&named(name)?, &form.encode()).map_err(fault)
}

/// Removes one; removing nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete(txn: &mut Txn, name: &str) -> Result<(), Fault> {
    if let Some(before) = read(txn, name)? {
        txn.delete(&of(&before.namespace)?).map_err(Fault::internal)?;
    }
    txn.delete(&named(name)?).map_err(fault)
}

/// Removes what is about a namespace that is gone.
pub(crate) fn forget(txn: &mut Txn, namespace: &NamespaceId) -> Result<(), Fault> {
    match name_of(txn, namespace)? {
        Some(name) => delete(txn, &name),
        None => Ok(()),
    }
}

/// What is offered in a namespace: what is said of it, or else of the nearest one above of which something is, if that is handed
/// down.
///
/// # Errors
/// When the store fails.
pub fn in_force(txn: &mut Txn, space: &Space) -> Result<Option<LoginForm>, Fault> {
    for id in space.line.iter().rev() {
        let Some(name) = name_of(txn, id)? else { continue };
        let Some(form) = read(txn, &name)? else { continue };
        return Ok(Some(form).filter(|form| *id == space.id || !form.is_own));
    }
    Ok(None)
}
