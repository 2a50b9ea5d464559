//! Realms: namespaces with seals of their own, which of them are open, and how they are opened and sealed.
//!
//! A seal lies in its namespace's record, so whoever may seal writes that, and every node that follows the record drops the
//! keys before anybody can read it. Shares and keys are in memory only: when a server starts every realm is sealed. In a cluster
//! the node that leads has the keys in use, and the others keep them in case that they lead next ([`keeping`](super::keeping)).
//! From the moment at which enough shares were entered until everything that waited is back in its indices (`leases::parked`) the
//! keys are there and nobody is served. What a namespace begins with is written when it is opened for the first time. A realm
//! inside another one is sealed with it. Deliberately absent: who may, and what is under the keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tresor_barrier::{
    Barrier, CommitError, Progress, RealmRoot, RealmSeal, SealFacts, ShareCollector, StorageKey, Txn, UnsealError,
};
use tresor_env::Entropy;
use tresor_model::ids::{NamespaceId, RealmId};
use tresor_model::{Fault, Refusal, Timestamp};
use tresor_secret::UnsealShare;

use super::change::{key, write};
use super::keeping::Edition;
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

/// A realm as its namespace's record says.
pub(super) struct Stored {
    /// How often it was sealed.
    pub(super) epoch: u64,
    /// Itself and the realms around it.
    pub(super) chain: Vec<RealmId>,
    seal: RealmSeal,
}

/// Where the keys of a realm are.
pub(super) enum Keys {
    /// Beside, for the case that this node leads: nobody is served here.
    Kept(RealmRoot),
    /// In the barrier, and nobody is served yet.
    Opening,
    /// In the barrier, and requests are served.
    Served,
}

/// A realm whose keys are in memory.
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) keys: Keys,
}

/// What is known of realms.
pub(super) struct Table {
    pub(super) stored: BTreeMap<RealmId, Stored>,
    pub(super) held: BTreeMap<RealmId, Held>,
    /// Another number whenever other keys are held, and another one in each life of a node.
    pub(super) edition: u64,
    /// Root keys that open seals which are about to be stored.
    expected: BTreeMap<RealmId, RealmRoot>,
    /// What the leader told last, where this node follows one.
    pub(super) told: Option<Edition>,
}

impl Table {
    /// Takes out the keys of a realm, and of those inside it; which they were.
    fn take_out(&mut self, realm: &RealmId) -> Vec<RealmId> {
        let is_inside = |inner: &RealmId| {
            inner == realm || self.stored.get(inner).is_some_and(|stored| stored.chain.contains(realm))
        };
        let gone: Vec<RealmId> = self.held.keys().filter(|inner| is_inside(inner)).cloned().collect();
        gone.iter().for_each(|inner| drop(self.held.remove(inner)));
        if !gone.is_empty() {
            self.edition = self.edition.wrapping_add(1);
        }
        gone
    }

    /// Whether the keys of all realms around one are held.
    pub(super) fn has_around(&self, realm: &RealmId) -> bool {
        self.stored
            .get(realm)
            .is_some_and(|stored| stored.chain.iter().all(|outer| outer == realm || self.held.contains_key(outer)))
    }
}

/// Shares that wait for others.
#[derive(Default)]
pub(super) struct Attempt {
    shares: ShareCollector,
    nonce: String,
}

/// The realms of a node.
pub(crate) struct Realms {
    barrier: Barrier,
    table: RwLock<Table>,
    attempts: Mutex<BTreeMap<RealmId, Attempt>>,
}

impl Realms {
    pub(super) fn new(barrier: &Barrier, entropy: &dyn Entropy) -> Self {
        let mut edition = [0; 8];
        entropy.fill(&mut edition);
        let edition = u64::from_be_bytes(edition);
        let table =
            Table { stored: BTreeMap::new(), held: BTreeMap::new(), edition, expected: BTreeMap::new(), told: None };
        Self { barrier: barrier.clone(), table: RwLock::new(table), attempts: Mutex::default() }
    }

    pub(super) const fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    pub(super) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a namespace with these above it, itself last, is in a realm that is not served.
    pub(super) fn seals(&self, line: &[NamespaceId]) -> bool {
        let mut realms = line.iter().filter_map(NamespaceId::realm).peekable();
        if realms.peek().is_none() {
            return false;
        }
        let table = self.table();
        !realms.all(|realm| table.held.get(&realm).is_some_and(|held| matches!(held.keys, Keys::Served)))
    }

    /// A root key opens a seal that is about to be stored.
    pub(super) fn expect(&self, realm: &RealmId, root: RealmRoot) {
        self.table_mut().expected.insert(realm.clone(), root);
    }

    /// Follows the record of a namespace: one that was sealed since its keys were opened loses them, and one whose seal is another
    /// one goes on with what that holds.
    pub(super) fn follow(&self, record: &NamespaceRecord) {
        let Some((realm, seal)) = record.id.realm().zip(record.seal.as_ref()) else { return };
        let mut chain: Vec<RealmId> = record.line.iter().filter_map(NamespaceId::realm).collect();
        chain.dedup();
        let mut table = self.table_mut();
        let before = table.stored.insert(realm.clone(), Stored { epoch: seal.epoch(), chain, seal: seal.clone() });
        if before.as_ref().is_some_and(|before| before.epoch != seal.epoch()) {
            // What was entered before it was sealed opens nothing, whether or not anything was open by then.
            self.attempts().remove(&realm);
        }
        let Some(held) = table.held.get(&realm) else { return };
        if held.epoch != seal.epoch() {
            self.close_in(&mut table, &realm);
        } else if !matches!(held.keys, Keys::Kept(_)) && before.is_none_or(|before| before.seal != *seal) {
            // Of two changes at once one stands, and the root key of the other opens nothing.
            let roots = [table.expected.remove(&realm), self.barrier.realm_root(&realm)];
            let mut roots = roots.into_iter().flatten();
            if roots.any(|root| self.barrier.follow_realm(&realm, seal, &root).is_ok()) {
                table.edition = table.edition.wrapping_add(1);
            } else {
                tracing::error!(namespace = %record.path, "no key in memory opens what is stored of a seal: the namespace is sealed");
                self.close_in(&mut table, &realm);
            }
        }
    }

    /// Forgets a realm that is gone, and the keys of it and of those inside it.
    pub(super) fn forget(&self, realm: &RealmId) {
        let mut table = self.table_mut();
        self.close_in(&mut table, realm);
        table.stored.remove(realm);
    }

    /// Under the lock, so that nobody's keys come after it.
    fn close_in(&self, table: &mut Table, realm: &RealmId) {
        let closed = table.take_out(realm);
        closed.iter().for_each(|realm| self.barrier.close_realm(realm));
        let mut attempts = self.attempts();
        attempts.remove(realm);
        closed.iter().for_each(|realm| drop(attempts.remove(realm)));
    }

    /// Those that are gone from what is stored lose their keys.
    pub(super) fn retain(&self, stored: &[NamespaceRecord]) {
        let of_record = |record: &NamespaceRecord| record.id.realm().filter(|_| record.seal.is_some());
        let stored: BTreeSet<RealmId> = stored.iter().filter_map(of_record).collect();
        let gone: Vec<RealmId> = self.table().stored.keys().filter(|realm| !stored.contains(*realm)).cloned().collect();
        gone.iter().for_each(|realm| self.forget(realm));
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, BTreeMap<RealmId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The realms whose keys are there, and which nobody is served in yet.
    fn opening(&self) -> Vec<RealmId> {
        let table = self.table();
        let opening = table.held.iter().filter(|(_, held)| matches!(held.keys, Keys::Opening));
        opening.map(|(realm, _)| realm.clone()).collect()
    }

    fn is_opening(&self, realm: &RealmId) -> bool {
        self.table().held.get(realm).is_some_and(|held| matches!(held.keys, Keys::Opening))
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
        let mut table = self.table_mut();
        if table.stored.get(realm).is_none_or(|stored| stored.epoch != seal.epoch()) {
            return Err(Fault::invalid("the namespace was sealed meanwhile; enter the shares again"));
        }
        match self.barrier.open_realm(realm, seal, &complete) {
            Ok(()) => {}
            Err(UnsealError::WrongKey) => return Err(Fault::invalid("unseal failed, invalid key")),
            Err(other) => return Err(Fault::internal(other)),
        }
        table.held.insert(realm.clone(), Held { epoch: seal.epoch(), keys: Keys::Opening });
        table.edition = table.edition.wrapping_add(1);
        Ok(true)
    }

    fn serve(&self, realm: &RealmId) {
        if let Some(held) = self.table_mut().held.get_mut(realm) {
            held.keys = Keys::Served;
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

    /// Seals a namespace: from the commit on nobody has its keys. It is written of a sealed one, too: another node may keep keys
    /// that this one does not have.
    ///
    /// # Errors
    /// As [`Spaces::standing`].
    pub fn seal(&self, txn: &mut Txn, parent: &Space, name: &NamespaceName) -> Result<(), Fault> {
        let (record, _) = self.sealable(txn, parent, name)?;
        let seal = record.seal.as_ref().map(RealmSeal::sealed_again);
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
        if record.is_erased() {
            return Err(Fault::invalid("namespace is being deleted"));
        }
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
    fn every_in(&self, realm: &RealmId) -> Vec<Arc<Space>> {
        let mut every = self.every();
        every.retain(|space| space.id.realm().as_ref() == Some(realm));
        every
    }

    /// Those that have a seal, each with where its record lies; those around others first.
    pub(super) fn every_sealable(&self) -> Result<Vec<(Arc<Space>, StorageKey)>, Fault> {
        if self.realms.table().stored.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for space in self.every() {
            let Some(record) = space.record.as_ref().filter(|record| record.seal.is_some()) else { continue };
            let name = NamespaceName::parse(record.name()).map_err(Fault::internal)?;
            let at = key(&record.parent(), &name)?;
            found.push((space, at));
        }
        found.sort_by_key(|(space, _)| space.line.len());
        Ok(found)
    }

    /// One transaction of its own.
    pub(super) async fn change<T>(&self, make: impl Fn(&mut Txn) -> Result<T, Fault>) -> Result<T, Fault> {
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
