//! Keys that others keep, as they are written down: who keeps them, what names each there, and which mounts may use it (SEAL-32, 33).
//!
//! One table for both spellings of the reference. A *keeper* (`sys/external-keys`) has keys of its own, each with the paths of the mounts that
//! were granted it; a *managed* key (`sys/managed-keys`) says all by itself, and is granted by the tuning of mounts. Whether a mount may
//! use a key is decided by [`granted`] and nowhere else. What leads to a keeper may be secret: it is sealed as everything that is stored, and
//! shown to nobody. Deliberately absent: asking keepers (`tresor_env::custody`), and any cache, so what is taken away ends at once.

use std::collections::BTreeMap;

use tresor_barrier::{StorageKey, Txn};
use tresor_engine::MountFacts;
use tresor_engine::kept::{Granted, Usage};
use tresor_engine::view::fault;
use tresor_env::custody::Place;
use tresor_model::ids::NamespaceId;
use tresor_model::{Body, Fault, Map};
use tresor_record::Record;
use tresor_secret::Wiped;
use tresor_wire::json::{JsonLimits, decode, encode_map};
use zeroize::Zeroizing;

use crate::cached::every_name;
use crate::keys;

/// The name under which managed keys lie, which is none that a keeper can have.
const MANAGED: &str = ":managed";
/// How many keys a keeper may have, and how many keepers or managed keys there may be in a namespace.
const MANY: usize = 1000;
/// How long what is written down of one may be.
const OPTIONS_BYTES_MAX: usize = 64 * 1024;
/// The longest name.
const NAME_BYTES_MAX: usize = 128;
/// How many mounts may be granted one key.
const GRANTS_MAX: usize = 256;

/// Who keeps keys.
#[derive(Record)]
#[record(kind = "keeper", version = 1)]
struct KeeperRecord {
    kind: String,
    options: Wiped<Vec<u8>>,
}

/// A key of a keeper, or a managed one.
#[derive(Record)]
#[record(kind = "kept-key", version = 1)]
struct KeyRecord {
    kind: String,
    options: Wiped<Vec<u8>>,
    grants: Vec<String>,
    any_mount: bool,
    usages: Vec<String>,
    uuid: String,
}

/// Who keeps keys, as it was written down.
pub struct Keeper {
    /// Its kind.
    pub kind: String,
    /// What leads to it.
    pub options: Map,
}

/// A key that somebody keeps, as it was written down.
pub struct Key {
    /// The kind of who keeps it, of a managed key; empty where its keeper says that.
    pub kind: String,
    /// What names it there; of a managed key what leads there, too.
    pub options: Map,
    /// The paths of the mounts that may use it.
    pub grants: Vec<String>,
    /// Whether every mount of the namespace may.
    pub any_mount: bool,
    /// What it may be used for.
    pub usages: Vec<Usage>,
    /// What never names another one.
    pub uuid: String,
}

/// Whose keys they are.
#[derive(Clone, Copy)]
pub enum Of<'n> {
    /// A keeper's, by its name.
    Keeper(&'n str),
    /// Managed ones.
    Managed,
}

impl<'n> Of<'n> {
    const fn name(self) -> &'n str {
        match self {
            Self::Keeper(name) => name,
            Self::Managed => MANAGED,
        }
    }
}

/// A name that can be written down and referred to.
///
/// # Errors
/// A refusal.
pub fn checked_name(name: &str) -> Result<&str, Fault> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let is_end = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let is_name = name.chars().all(is_letter) && is_end(name.chars().next()) && is_end(name.chars().last());
    if is_name && name.len() <= NAME_BYTES_MAX {
        return Ok(name);
    }
    Err(Fault::invalid("a name has letters, digits, `-`, `_` and `.`, and ends and begins with one of the first two"))
}

fn spelled(options: &Map) -> Result<Wiped<Vec<u8>>, Fault> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(OPTIONS_BYTES_MAX));
    encode_map(options, &mut bytes);
    if bytes.len() > OPTIONS_BYTES_MAX {
        return Err(Fault::invalid(format!("the options are longer than {OPTIONS_BYTES_MAX} bytes")));
    }
    Ok(Wiped::new(bytes.to_vec()))
}

fn read_options(bytes: &[u8]) -> Result<Map, Fault> {
    decode(bytes, &JsonLimits::default()).map_err(Fault::internal)
}

fn keeper_at(namespace: &NamespaceId, name: &str) -> Result<StorageKey, Fault> {
    keys::keepers(namespace).and_then(|at| at.key(name)).map_err(fault)
}

fn key_at(namespace: &NamespaceId, of: Of<'_>, name: &str) -> Result<StorageKey, Fault> {
    keys::kept_keys(namespace, of.name()).and_then(|at| at.key(name)).map_err(fault)
}

/// The names of keepers in order, after one of them, at most so many.
///
/// # Errors
/// When the store fails.
pub fn keepers(
    txn: &mut Txn,
    namespace: &NamespaceId,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    txn.list(&keys::keepers(namespace).map_err(Fault::internal)?, after, limit.unwrap_or(usize::MAX)).map_err(fault)
}

/// A keeper.
///
/// # Errors
/// When the store fails.
pub fn keeper(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<Option<Keeper>, Fault> {
    let Some(bytes) = txn.read(&keeper_at(namespace, checked_name(name)?)?).map_err(fault)? else { return Ok(None) };
    let KeeperRecord { kind, options } = KeeperRecord::decode(&bytes).map_err(Fault::internal)?;
    Ok(Some(Keeper { kind, options: read_options(&options)? }))
}

/// Writes a keeper down.
///
/// # Errors
/// A refusal when there are too many, or when it is too long.
pub fn write_keeper(txn: &mut Txn, namespace: &NamespaceId, name: &str, keeper: &Keeper) -> Result<(), Fault> {
    let at = keeper_at(namespace, checked_name(name)?)?;
    if !txn.contains(&at).map_err(fault)? {
        bounded(keepers(txn, namespace, None, Some(MANY))?.len())?;
    }
    let record = KeeperRecord { kind: keeper.kind.clone(), options: spelled(&keeper.options)? };
    txn.write(&at, &record.encode()).map_err(fault)
}

/// Forgets a keeper and its keys; forgetting nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete_keeper(txn: &mut Txn, namespace: &NamespaceId, name: &str) -> Result<(), Fault> {
    let keys = keys::kept_keys(namespace, checked_name(name)?).map_err(fault)?;
    for key in every_name(txn, &keys).map_err(fault)? {
        txn.delete(&keys.key(&key).map_err(fault)?).map_err(fault)?;
    }
    txn.delete(&keeper_at(namespace, name)?).map_err(fault)
}

/// The names of keys in order, after one of them, at most so many.
///
/// # Errors
/// When the store fails.
pub fn key_names(
    txn: &mut Txn,
    namespace: &NamespaceId,
    of: Of<'_>,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, Fault> {
    let at = keys::kept_keys(namespace, of.name()).map_err(fault)?;
    txn.list(&at, after, limit.unwrap_or(usize::MAX)).map_err(fault)
}

/// A key.
///
/// # Errors
/// When the store fails.
pub fn key(txn: &mut Txn, namespace: &NamespaceId, of: Of<'_>, name: &str) -> Result<Option<Key>, Fault> {
    let at = key_at(namespace, of, checked_name(name)?)?;
    let Some(bytes) = txn.read(&at).map_err(fault)? else { return Ok(None) };
    let KeyRecord { kind, options, grants, any_mount, usages, uuid } =
        KeyRecord::decode(&bytes).map_err(Fault::internal)?;
    let usages = usages.iter().filter_map(|usage| Usage::parse(usage)).collect();
    Ok(Some(Key { kind, options: read_options(&options)?, grants, any_mount, usages, uuid }))
}

/// Writes a key down.
///
/// # Errors
/// A refusal when there are too many, or when it is too long.
pub fn write_key(txn: &mut Txn, namespace: &NamespaceId, of: Of<'_>, name: &str, key: &Key) -> Result<(), Fault> {
    let at = key_at(namespace, of, checked_name(name)?)?;
    if !txn.contains(&at).map_err(fault)? {
        bounded(key_names(txn, namespace, of, None, Some(MANY))?.len())?;
    }
    if key.grants.len() > GRANTS_MAX {
        return Err(Fault::invalid(format!("a key can be granted to {GRANTS_MAX} mounts")));
    }
    let record = KeyRecord {
        kind: key.kind.clone(),
        options: spelled(&key.options)?,
        grants: key.grants.clone(),
        any_mount: key.any_mount,
        usages: key.usages.iter().map(|usage| usage.name().to_owned()).collect(),
        uuid: key.uuid.clone(),
    };
    txn.write(&at, &record.encode()).map_err(fault)
}

/// Forgets a key; forgetting nothing is fine.
///
/// # Errors
/// When the store fails.
pub fn delete_key(txn: &mut Txn, namespace: &NamespaceId, of: Of<'_>, name: &str) -> Result<(), Fault> {
    txn.delete(&key_at(namespace, of, checked_name(name)?)?).map_err(fault)
}

fn bounded(there_are: usize) -> Result<(), Fault> {
    if there_are < MANY { Ok(()) } else { Err(Fault::invalid(format!("there are {MANY} already"))) }
}

/// Where a key is, by what its keeper and it say.
#[must_use]
pub fn place(keeper: Option<&Keeper>, key: &Key) -> Place {
    let kind = keeper.map_or(&key.kind, |keeper| &keeper.kind).clone();
    let mut options = BTreeMap::new();
    for (name, value) in keeper.into_iter().flat_map(|keeper| keeper.options.iter()).chain(key.options.iter()) {
        let text = match value {
            Body::String(text) => text.as_str().to_owned(),
            Body::Bool(yes) => yes.to_string(),
            Body::Number(number) => number.as_str().to_owned(),
            Body::Null | Body::List(_) | Body::Map(_) => continue,
        };
        options.insert(name.to_owned(), Zeroizing::new(text));
    }
    Place { kind, options }
}

/// What a mount may use under this name: `KEEPER:KEY`, or the name of a managed key. Whoever may use none learns nothing of what there is.
///
/// # Errors
/// A refusal when it may not, or when there is none; a failure when the store fails.
pub(crate) fn granted(txn: &mut Txn, mount: &MountFacts, reference: &str) -> Result<Granted, Fault> {
    let refused = || {
        Fault::invalid(format!("the mount {:?} may not use a key {reference:?}, or there is no such key", mount.path))
    };
    let namespace = &mount.namespace;
    let (keeper, found) = match reference.split_once(':') {
        Some((keeper_name, name)) => {
            if checked_name(keeper_name).is_err() || checked_name(name).is_err() {
                return Err(refused());
            }
            let found = key(txn, namespace, Of::Keeper(keeper_name), name)?.ok_or_else(refused)?;
            if !found.grants.contains(&mount.path) {
                return Err(refused());
            }
            (Some(keeper(txn, namespace, keeper_name)?.ok_or_else(refused)?), found)
        }
        None => {
            checked_name(reference).map_err(|_| refused())?;
            let found = key(txn, namespace, Of::Managed, reference)?.ok_or_else(refused)?;
            if !found.any_mount && !mount.managed_keys.iter().any(|name| name == reference) {
                return Err(refused());
            }
            (None, found)
        }
    };
    Ok(Granted { place: place(keeper.as_ref(), &found), usages: found.usages })
}
