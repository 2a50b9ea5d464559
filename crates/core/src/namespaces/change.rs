//! Making, changing, locking and leaving namespaces: each a few records in the transaction of the request.
//!
//! A namespace is its record, its own server mounts and its `default` policy, made together. Leaving is only the record's
//! state: from the commit on nobody reaches it, and `removal` takes away what it has. Deliberately absent: who may.

use std::collections::BTreeMap;

use tresor_barrier::{StorageKey, Txn};
use tresor_crypto::hash::{sha256, to_hex};
use tresor_crypto::shamir::Threshold;
use tresor_crypto::token_text;
use tresor_env::Entropy;
use tresor_model::ids::{NamespaceId, REALM_CHARACTERS, RealmId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_record::Record;
use tresor_secret::{SecretString, UnsealShare};

use super::name::NamespaceName;
use super::record::{NamespaceRecord, NamespaceState};
use super::{Space, Spaces, read};
use crate::mounts::Mounts;
use crate::policies::Policies;
use crate::{keys, login_forms};

/// Characters of the key that unlocks a namespace.
const UNLOCK_CHARACTERS: usize = 24;
/// How deep namespaces may lie in each other.
const DEPTH_MAX: usize = 16;

pub(super) fn key(parent: &NamespaceId, name: &NamespaceName) -> Result<StorageKey, Fault> {
    let below = keys::namespaces().and_then(|at| at.below(&format!("{parent}/")));
    below.and_then(|at| at.key(name.as_str())).map_err(tresor_engine::view::fault)
}

pub(super) fn write(txn: &mut Txn, record: &NamespaceRecord) -> Result<(), Fault> {
    let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
    txn.write(&key(&record.parent(), &name)?, &record.encode()).map_err(Fault::internal)
}

impl Spaces {
    /// A namespace directly below another one, as the transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
    ) -> Result<Option<NamespaceRecord>, Fault> {
        read(txn, &key(&parent.id, name)?)
    }

    /// Refuses a mount where a namespace is, and conflicts when one is made there meanwhile.
    ///
    /// # Errors
    /// A refusal when a namespace has the first name of the path.
    pub fn must_be_free(&self, txn: &mut Txn, space: &Space, path: &str) -> Result<(), Fault> {
        let first = path.split('/').next().unwrap_or(path);
        let Ok(name) = NamespaceName::parse(first) else { return Ok(()) };
        match self.stored(txn, space, &name)? {
            Some(_) => Err(Fault::invalid(format!("path is already in use at {first}/: a namespace"))),
            None => Ok(()),
        }
    }

    /// Makes a namespace, or gives the one that is there other metadata. With a seal of its own it comes sealed, with the
    /// shares that open it.
    ///
    /// # Errors
    /// A refusal when a mount is there, it is being deleted, or it would lie too deep; or when one that is there is to get a
    /// seal.
    pub fn write(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
        (metadata, sealed): (BTreeMap<String, String>, Option<Threshold>),
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(NamespaceRecord, Vec<UnsealShare>), Fault> {
        if let Some(known) = self.stored(txn, parent, name)? {
            if sealed.is_some() {
                return Err(Fault::invalid("cannot update existing namespace and modify its seal config"));
            }
            let record = NamespaceRecord { metadata, ..open(known)? };
            write(txn, &record)?;
            return Ok((record, Vec::new()));
        }
        if parent.line.len() > DEPTH_MAX {
            return Err(Fault::invalid("namespaces lie too deep in each other"));
        }
        self.must_stay(txn, parent)?;
        if let Some(taken) = parent.mounts.overlap(txn, &format!("{name}/"))? {
            return Err(Fault::invalid(format!("new namespace conflicts with existing mount: {taken}")));
        }
        let realm = sealed.map(|_| self.fresh_realm(entropy));
        let id = self.fresh_id(realm.clone().or_else(|| parent.id.realm()).as_ref(), entropy);
        let made = realm.zip(sealed).map(|(realm, split)| self.realms.barrier().new_realm(&realm, split, now));
        let (seal, shares) = made.unzip();
        let record = NamespaceRecord {
            uuid: token_text::random_uuid(entropy),
            path: format!("{}{name}/", parent.path),
            line: parent.line.iter().cloned().chain([id.clone()]).collect(),
            metadata,
            created: now,
            state: NamespaceState::Open,
            seal,
            id,
        };
        write(txn, &record)?;
        if record.seal.is_none() {
            Policies::write_defaults(txn, &record.id)?;
            Mounts::write_defaults(txn, &record.id, now, entropy)?;
        }
        Ok((record, shares.unwrap_or_default()))
    }

    /// An id that no namespace has. Two that are drawn at the same time are one with a chance of 1 in 5 × 10¹⁰.
    fn fresh_id(&self, realm: Option<&RealmId>, entropy: &dyn Entropy) -> NamespaceId {
        loop {
            let own = token_text::random_base62(REALM_CHARACTERS, entropy);
            let id = match realm {
                None => NamespaceId::new(own.as_str()),
                Some(realm) => NamespaceId::in_realm(own.as_str(), realm),
            };
            if self.with_id(&id).is_none() {
                return id;
            }
        }
    }

    /// An id that no realm has.
    fn fresh_realm(&self, entropy: &dyn Entropy) -> RealmId {
        loop {
            let realm = RealmId::new(token_text::random_base62(REALM_CHARACTERS, entropy).as_str());
            if !self.every().iter().any(|space| space.id.realm().as_ref() == Some(&realm)) {
                return realm;
            }
        }
    }

    /// Conflicts when a namespace is deleted or locked meanwhile.
    pub(crate) fn must_stay(&self, txn: &mut Txn, space: &Space) -> Result<(), Fault> {
        let Some(record) = &space.record else { return Ok(()) };
        let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
        let gone = || Fault::Refusal(Refusal::Absent("namespace not found".into()));
        open(read(txn, &key(&record.parent(), &name)?)?.ok_or_else(gone)?).map(drop)
    }

    /// Changes the metadata of a namespace; `change` is handed what it is.
    ///
    /// # Errors
    /// A refusal when there is none.
    pub fn note(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<NamespaceRecord, Fault> {
        let missing = || Fault::Refusal(Refusal::Absent("namespace not found".into()));
        let mut record = open(self.stored(txn, parent, name)?.ok_or_else(missing)?)?;
        change(&mut record.metadata);
        write(txn, &record)?;
        Ok(record)
    }

    /// Begins to delete a namespace; whether there is one. What is being deleted already goes on.
    ///
    /// # Errors
    /// A refusal while there are namespaces below it.
    pub fn leave(&self, txn: &mut Txn, parent: &Space, name: &NamespaceName, now: Timestamp) -> Result<bool, Fault> {
        let Some(record) = self.stored(txn, parent, name)? else { return Ok(false) };
        if record.is_leaving() {
            return Ok(true);
        }
        if self.is_sealed(&record.id) {
            return Err(Fault::invalid("unable to delete a sealed namespace: unseal it first"));
        }
        let below = keys::namespaces().and_then(|at| at.below(&format!("{}/", record.id))).map_err(Fault::internal)?;
        if !txn.list(&below, None, 1).map_err(Fault::internal)?.is_empty() {
            return Err(Fault::invalid("unable to delete namespace containing child namespaces"));
        }
        if let Some(space) = self.with_id(&record.id) {
            // A move to or from it that begins meanwhile conflicts.
            space.mounts.take_turn(txn)?;
            if space.mounts.table().iter().any(|mount| mount.record.is_moving()) {
                return Err(Fault::invalid("unable to delete a namespace while a mount is being moved to or from it"));
            }
        }
        write(txn, &NamespaceRecord { state: NamespaceState::Leaving(now), ..record })?;
        Ok(true)
    }

    /// Forgets a namespace of which nothing is left.
    pub(crate) fn forget(txn: &mut Txn, record: &NamespaceRecord) -> Result<(), Fault> {
        let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
        login_forms::forget(txn, &record.id)?;
        txn.delete(&key(&record.parent(), &name)?).map_err(Fault::internal)
    }

    /// Locks a namespace and all below it; gives the key that unlocks it, of which only a hash is kept.
    ///
    /// # Errors
    /// A refusal when it is the root namespace, or is locked already.
    pub fn lock(&self, txn: &mut Txn, space: &Space, entropy: &dyn Entropy) -> Result<SecretString, Fault> {
        let record = self.to_lock(txn, space)?;
        if let Some(locked) = self.locked_by(space) {
            return Err(Fault::invalid(if locked.id == space.id {
                format!("cannot lock namespace {:?}: is already locked", space.path)
            } else {
                format!(
                    "cannot lock namespace {:?}: ancestor namespace {:?} is already locked",
                    space.path, locked.path
                )
            }));
        }
        let unlock = token_text::random_base62(UNLOCK_CHARACTERS, entropy);
        write(txn, &NamespaceRecord { state: NamespaceState::Locked(hash(unlock.as_str())), ..record })?;
        Ok(SecretString::new(unlock.as_str().to_owned()))
    }

    /// Unlocks a namespace by its key; without one it is unlocked on whoever's right allows that.
    ///
    /// # Errors
    /// A refusal when it is not locked, one above it is, or the key is another.
    pub fn unlock(&self, txn: &mut Txn, space: &Space, unlock: Option<&str>) -> Result<(), Fault> {
        let record = self.to_lock(txn, space)?;
        let NamespaceState::Locked(kept) = &record.state else {
            return Err(Fault::invalid(format!("namespace {:?} is not locked", space.path)));
        };
        if let Some(above) = self.locked_by(space).filter(|locked| locked.id != space.id) {
            return Err(Fault::invalid(format!(
                "cannot unlock {:?} with namespace {:?} being locked",
                space.path, above.path
            )));
        }
        // Hashes are compared: how long that takes tells nothing of the key.
        if unlock.is_some_and(|unlock| hash(unlock) != *kept) {
            return Err(Fault::invalid("incorrect unlock key"));
        }
        write(txn, &NamespaceRecord { state: NamespaceState::Open, ..record })
    }

    /// The record of a namespace that is to be locked or unlocked.
    fn to_lock(&self, txn: &mut Txn, space: &Space) -> Result<NamespaceRecord, Fault> {
        let Some(record) = &space.record else {
            return Err(Fault::invalid("root namespace cannot be locked/unlocked"));
        };
        let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
        let stored = read(txn, &key(&record.parent(), &name)?)?.filter(|record| !record.is_leaving());
        stored.ok_or_else(|| Fault::invalid("requested namespace does not exist"))
    }
}

/// A record that may be changed.
fn open(record: NamespaceRecord) -> Result<NamespaceRecord, Fault> {
    if record.is_leaving() {
        return Err(Fault::invalid("namespace with that name exists and is currently being deleted"));
    }
    Ok(record)
}

fn hash(unlock: &str) -> String {
    to_hex(&sha256(unlock.as_bytes()))
}
