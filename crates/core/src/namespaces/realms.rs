//! Realms: namespaces with seals of their own, which of them are open, and how they are opened and sealed.
//!
//! A seal lies in its namespace's record, so whoever may seal writes that, and every node that follows the record drops the
//! keys before anybody can read it. Shares and keys are in memory only: when a server starts every realm is sealed. From the
//! moment at which enough shares were entered until everything that waited is back in its indices (`leases::parked`) the keys
//! are there and nobody is served. What a namespace begins with is written when it is opened for the first time. A realm
//! inside another one is sealed with it. Deliberately absent: who may, and what is under the keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use tresor_barrier::{Barrier, CommitError, Progress, SealFacts, ShareCollector, StorageKey, Txn, UnsealError};
use tresor_env::Entropy;
use tresor_model::ids::{NamespaceId, RealmId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_secret::UnsealShare;

use super::change::{key, write};
use super::record::NamespaceRecord;
use super::{NamespaceName, Space, Spaces};
use crate::keys;
use crate::leases::parked;
use crate::mounts::Mounts;
use crate::policies::Policies;

/// How many entries go back into their indices in one transaction.
const STEP: usize = 512;
/// How often a transaction that conflicts is done again.
const ATTEMPTS_MAX: usize = 64;

/// What whoever asks in a sealed namespace is told.
pub(crate) const SEALED: &str = "namespace is sealed";

/// The refusal of everything in a sealed namespace.
pub(crate) fn sealed() -> Refusal {
    Refusal::Unavailable(SEALED.into())
}

/// How the seal of a namespace stands.
pub struct RealmStanding {
    /// What is known of it without keys.
    pub facts: SealFacts,
    /// Whether it is sealed.
    pub is_sealed: bool,
    /// How many shares were entered.
    pub progress: u8,
    /// Names the attempt while some are entered.
    pub nonce: String,
}

/// A realm whose keys are in memory.
struct Opened {
    /// Itself and the realms around it.
    chain: Vec<RealmId>,
    /// Whether requests are served.
    is_served: bool,
}

/// Shares that wait for others.
#[derive(Default)]
struct Attempt {
    shares: ShareCollector,
    nonce: String,
}

/// The realms of a node.
pub(crate) struct Realms {
    barrier: Barrier,
    opened: RwLock<BTreeMap<RealmId, Opened>>,
    attempts: Mutex<BTreeMap<RealmId, Attempt>>,
}

impl Realms {
    pub(super) fn new(barrier: &Barrier) -> Self {
        Self { barrier: barrier.clone(), opened: RwLock::default(), attempts: Mutex::default() }
    }

    pub(super) const fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Whether a namespace with these above it, itself last, is in a realm that is not served.
    pub(super) fn seals(&self, line: &[NamespaceId]) -> bool {
        let mut realms = line.iter().filter_map(NamespaceId::realm).peekable();
        if realms.peek().is_none() {
            return false;
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        !realms.all(|realm| opened.get(&realm).is_some_and(|opened| opened.is_served))
    }

    /// Follows the record of a namespace: one that was sealed since its keys were opened loses them.
    pub(super) fn follow(&self, record: &NamespaceRecord) {
        let Some((realm, seal)) = record.id.realm().zip(record.seal.as_ref()) else { return };
        if self.barrier.realm_epoch(&realm).is_some_and(|opened| opened != seal.epoch()) {
            self.close(&realm);
        }
    }

    /// Forgets the keys of a realm, and of those inside it.
    pub(super) fn close(&self, realm: &RealmId) {
        let mut closed = vec![realm.clone()];
        {
            let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
            let inside = opened.iter().filter(|(_, known)| known.chain.contains(realm)).map(|(inner, _)| inner.clone());
            closed.extend(inside);
            closed.iter().for_each(|realm| drop(opened.remove(realm)));
            // Under the lock, so that nobody's keys come after it.
            closed.iter().for_each(|realm| self.barrier.close_realm(realm));
        }
        let mut attempts = self.attempts();
        closed.iter().for_each(|realm| drop(attempts.remove(realm)));
    }

    /// Those that are gone from what is stored lose their keys.
    pub(super) fn retain(&self, stored: &[NamespaceRecord]) {
        let gone: Vec<RealmId> = {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            let is_stored = |realm: &&RealmId| {
                stored.iter().any(|record| record.seal.is_some() && record.id.realm().as_ref() == Some(realm))
            };
            opened.keys().filter(|realm| !is_stored(realm)).cloned().collect()
        };
        gone.iter().for_each(|realm| self.close(realm));
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<RealmId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The realms whose keys are there, and which nobody is served in yet.
    fn opening(&self) -> Vec<RealmId> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.iter().filter(|(_, opened)| !opened.is_served).map(|(realm, _)| realm.clone()).collect()
    }

    fn is_opening(&self, realm: &RealmId) -> bool {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.get(realm).is_some_and(|opened| !opened.is_served)
    }

    /// Takes a share; whether there were enough, and they opened the ring.
    fn take(
        &self,
        realm: &RealmId,
        record: &NamespaceRecord,
        share: UnsealShare,
        entropy: &dyn Entropy,
    ) -> Result<bool, Fault> {
        let seal = record.seal.as_ref().ok_or_else(not_sealable)?;
        let facts = seal.facts().map_err(Fault::internal)?;
        let complete = {
            let mut attempts = self.attempts();
            let attempt = attempts.entry(realm.clone()).or_default();
            match attempt.shares.submit(share, &facts, entropy) {
                Ok(Progress::Collecting { nonce, .. }) => {
                    attempt.nonce = nonce;
                    return Ok(false);
                }
                Ok(Progress::Complete(key)) => {
                    attempts.remove(realm);
                    Ok(key)
                }
                Err(error) => {
                    if attempt.shares.is_empty() {
                        attempts.remove(realm);
                    }
                    Err(Fault::invalid(error.to_string()))
                }
            }
        }?;
        // Held until it is among the opened, so that sealing it meanwhile finds it.
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        match self.barrier.open_realm(realm, seal, &complete) {
            Ok(()) => {}
            Err(UnsealError::WrongKey) => return Err(Fault::invalid("unseal failed, invalid key")),
            Err(other) => return Err(Fault::internal(other)),
        }
        let mut chain: Vec<RealmId> = record.line.iter().filter_map(NamespaceId::realm).collect();
        chain.dedup();
        opened.insert(realm.clone(), Opened { chain, is_served: false });
        Ok(true)
    }

    fn serve(&self, realm: &RealmId) {
        if let Some(opened) = self.opened.write().unwrap_or_else(PoisonError::into_inner).get_mut(realm) {
            opened.is_served = true;
        }
    }
}

fn not_sealable() -> Fault {
    Fault::invalid("namespace is not sealable")
}

impl Spaces {
    /// Whether a namespace is sealed. Of one that is gone, what is left is led to by nothing that could be opened.
    #[must_use]
    pub fn is_sealed(&self, id: &NamespaceId) -> bool {
        id.realm().is_some() && self.with_id(id).is_none_or(|space| space.is_sealed)
    }

    fn sealable(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
    ) -> Result<(NamespaceRecord, RealmId), Fault> {
        let missing = || Fault::Refusal(Refusal::Absent("namespace not found".into()));
        let record = self.stored(txn, parent, name)?.ok_or_else(missing)?;
        let realm = record.id.realm().filter(|_| record.seal.is_some()).ok_or_else(not_sealable)?;
        Ok((record, realm))
    }

    /// How the seal of a namespace directly below another one stands.
    ///
    /// # Errors
    /// A refusal when there is none, or it has no seal of its own.
    pub fn standing(&self, txn: &mut Txn, parent: &Space, name: &NamespaceName) -> Result<RealmStanding, Fault> {
        let (record, realm) = self.sealable(txn, parent, name)?;
        let facts = record.seal.as_ref().ok_or_else(not_sealable)?.facts().map_err(Fault::internal)?;
        let is_sealed = self.realms.seals(&record.line);
        let attempts = self.realms.attempts();
        let (progress, nonce) = attempts
            .get(&realm)
            .map_or((0, String::new()), |attempt| (attempt.shares.progress(), attempt.nonce.clone()));
        Ok(RealmStanding { facts, is_sealed, progress, nonce })
    }

    /// Seals a namespace: from the commit on nobody has its keys. Sealing a sealed one changes nothing.
    ///
    /// # Errors
    /// As [`Spaces::standing`].
    pub fn seal(&self, txn: &mut Txn, parent: &Space, name: &NamespaceName) -> Result<(), Fault> {
        let (record, realm) = self.sealable(txn, parent, name)?;
        if self.realms.seals(&record.line) && !self.realms.is_opening(&realm) {
            return Ok(());
        }
        let seal = record.seal.as_ref().map(tresor_barrier::RealmSeal::sealed_again);
        write(txn, &NamespaceRecord { seal, ..record })
    }

    /// Forgets the shares that were entered.
    ///
    /// # Errors
    /// As [`Spaces::standing`].
    pub fn reset_shares(&self, txn: &mut Txn, parent: &Space, name: &NamespaceName) -> Result<(), Fault> {
        let (_, realm) = self.sealable(txn, parent, name)?;
        self.realms.attempts().remove(&realm);
        Ok(())
    }

    /// Enters a share; with the last one that is needed the namespace is opened and served. Entering one for an open
    /// namespace changes nothing.
    ///
    /// # Errors
    /// As [`Spaces::standing`]; a refusal when the shares are wrong; a failure when the store fails: what is left to do is
    /// tried again by the background task.
    pub async fn enter_share(
        &self,
        txn: &mut Txn,
        parent: &Space,
        name: &NamespaceName,
        share: UnsealShare,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), Fault> {
        let (record, realm) = self.sealable(txn, parent, name)?;
        if self.realms.seals(&record.line) && !self.realms.is_opening(&realm) {
            if !self.realms.take(&realm, &record, share, entropy)? {
                return Ok(());
            }
            tracing::info!(namespace = %record.path, "enough shares were entered: a namespace is being opened");
        }
        self.open(&realm, now, entropy).await
    }

    /// Finishes what is being opened, where whoever entered the last share did not stay for it.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn finish_opening(&self, now: Timestamp, entropy: &dyn Entropy) -> Result<(), Fault> {
        for realm in self.realms.opening() {
            self.open(&realm, now, entropy).await?;
        }
        Ok(())
    }

    /// Everything between keys and requests; each step may be done twice.
    async fn open(&self, realm: &RealmId, now: Timestamp, entropy: &dyn Entropy) -> Result<(), Fault> {
        let own =
            self.every_in(realm).into_iter().find_map(|space| space.record.clone().filter(|own| own.seal.is_some()));
        let Some(record) = own else { return Ok(()) };
        if !self.realms.is_opening(realm) {
            return Ok(());
        }
        let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
        let at = key(&record.parent(), &name)?;
        self.change(|txn| found(txn, &record.id, &at, now, entropy)).await?;
        while self.change(|txn| parked::put_back(txn, realm, STEP)).await? {}
        self.realms.serve(realm);
        self.realms.barrier().follow_anew(vec![at]).await.map_err(Fault::internal)?;
        tracing::info!(namespace = %record.path, "a namespace is open");
        Ok(())
    }

    /// The namespaces of a realm.
    fn every_in(&self, realm: &RealmId) -> Vec<std::sync::Arc<Space>> {
        let mut every = self.every();
        every.retain(|space| space.id.realm().as_ref() == Some(realm));
        every
    }

    /// One transaction of its own.
    async fn change<T>(&self, make: impl Fn(&mut Txn) -> Result<T, Fault>) -> Result<T, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let mut txn = self.realms.barrier().begin().map_err(Fault::internal)?;
            let made = make(&mut txn)?;
            match self.realms.barrier().commit(txn).await {
                Ok(_) => return Ok(made),
                Err(CommitError::Conflict) => {}
                Err(other) => return Err(Fault::internal(other)),
            }
        }
        Err(Fault::internal(CommitError::Conflict))
    }
}

/// Writes what a namespace begins with, unless it did before or is being deleted.
fn found(txn: &mut Txn, id: &NamespaceId, at: &StorageKey, now: Timestamp, entropy: &dyn Entropy) -> Result<(), Fault> {
    let is_there = super::read(txn, at)?.is_some_and(|record| record.id == *id && !record.is_leaving());
    let mounts = keys::mounts(id).map_err(Fault::internal)?;
    if is_there && txn.list(&mounts, None, 1).map_err(Fault::internal)?.is_empty() {
        Policies::write_defaults(txn, id)?;
        Mounts::write_defaults(txn, id, now, entropy)?;
    }
    Ok(())
}
