//! Namespaces: tenants with mounts, policies and tokens of their own, one below the other.
//!
//! A request resolves to one [`Space`] when it is admitted, and everything that it touches comes from there: mounts,
//! policies, and the prefix of every storage key. Ids carry their namespace for the server's own indices ([`ids`]), and
//! lead no request anywhere. The registry is a function of storage, followed batch by batch, so that making the
//! twenty-thousandth costs what the first did. Deliberately absent: anything that runs per namespace. What is to be done
//! about tokens, leases, mounts and namespaces that end lies in indices that all of them share.

mod change;
pub mod erasure;
pub(crate) mod ids;
pub(crate) mod keeping;
mod left;
mod name;
mod permissions;
pub mod realms;
pub mod record;
mod rekeying;
mod wiping;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tresor_barrier::{Barrier, Changed, KeyPrefix, StorageKey, Txn};
use tresor_engine::{EngineFactory, Mounted};
use tresor_env::Entropy;
use tresor_model::ids::{MountId, NamespaceId, RealmId};
use tresor_model::{Fault, Path, Refusal};
use tresor_record::Record;

use crate::cached::every_name;
use crate::keys;
use crate::mounts::{Common, Mount, Mounts};
use crate::policies::Policies;
use crate::settings::Settings;
pub use name::{NameError, NamespaceName};
pub use permissions::Permissions;
use realms::Realms;
use record::NamespaceRecord;
use wiping::Wiping;

/// One namespace: what a request is handed once it is known where it goes.
pub struct Space {
    /// Its identity.
    pub id: NamespaceId,
    /// Its path: empty for the root namespace, else ending in a slash.
    pub path: String,
    /// The namespaces above it, the root first, and itself last.
    pub line: Vec<NamespaceId>,
    /// Its record; the root namespace has none.
    pub record: Option<NamespaceRecord>,
    /// Its mounts.
    pub mounts: Arc<Mounts>,
    /// Its policies.
    pub policies: Arc<Policies>,
    /// Whether it is sealed: then it is shown with no mounts and no policies, whatever it has.
    pub is_sealed: bool,
}

/// Where a request goes.
#[derive(Clone)]
pub struct Resolved {
    /// The namespace; where the one that was named is missing, the last one on the way to it.
    pub space: Arc<Space>,
    /// Whether the one that was named is missing: the path leads nowhere then.
    pub is_missing: bool,
}

#[derive(Default)]
struct Registry {
    by_path: BTreeMap<String, Arc<Space>>,
    by_id: BTreeMap<NamespaceId, Arc<Space>>,
    /// Those that are being deleted.
    leaving: BTreeSet<NamespaceId>,
}

/// All namespaces.
pub struct Spaces {
    root: Arc<Space>,
    /// What the mounts of all namespaces have in common.
    common: Arc<Common>,
    /// Below what the records of namespaces lie, and those of the mounts and policies of each.
    prefix: KeyPrefix,
    every_mount: KeyPrefix,
    every_policy: KeyPrefix,
    registry: RwLock<Registry>,
    /// How often what is registered changed.
    edition: AtomicU64,
    /// Which of those with seals of their own are open.
    realms: Realms,
    /// Their removed mounts that are not gone yet.
    wiping: Wiping,
}

impl Space {
    /// Whether it is the root namespace.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.record.is_none()
    }

    /// Whether it has a seal of its own.
    fn has_seal(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.seal.is_some())
    }

    /// The realm that it makes, if it has a seal of its own.
    pub(crate) fn realm(&self) -> Option<RealmId> {
        self.id.realm().filter(|_| self.has_seal())
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.record.as_ref().is_some_and(NamespaceRecord::is_leaving)
    }
}

impl Registry {
    fn put(&mut self, space: Space) {
        let space = Arc::new(space);
        if space.is_leaving() {
            self.leaving.insert(space.id.clone());
        }
        // One that had the name before is gone, though nobody may have said so in between.
        let before = self.by_path.insert(space.path.clone(), Arc::clone(&space)).filter(|before| before.id != space.id);
        if let Some(before) = before {
            self.by_id.remove(&before.id);
            self.leaving.remove(&before.id);
        }
        self.by_id.insert(space.id.clone(), space);
    }

    fn take_out(&mut self, path: &str) {
        if let Some(space) = self.by_path.remove(path) {
            self.by_id.remove(&space.id);
            self.leaving.remove(&space.id);
        }
    }
}

impl Spaces {
    /// Loads every namespace with its mounts and policies.
    ///
    /// # Errors
    /// When the store fails or a record is damaged.
    pub fn load(
        txn: &mut Txn,
        barrier: &Barrier,
        factories: Vec<EngineFactory>,
        settings: Arc<Settings>,
        entropy: &dyn Entropy,
    ) -> Result<Self, Fault> {
        let common = Arc::new(Common::new(factories, settings));
        let id = NamespaceId::root();
        let root = Space {
            line: vec![id.clone()],
            path: String::new(),
            record: None,
            mounts: Arc::new(Mounts::load(txn, id.clone(), Arc::clone(&common))?),
            policies: Arc::new(Policies::load(txn, id.clone())?),
            is_sealed: false,
            id,
        };
        let prefix = keys::namespaces().map_err(Fault::internal)?;
        let spaces = Self {
            root: Arc::new(root),
            common,
            prefix,
            every_mount: keys::every_mount().map_err(Fault::internal)?,
            every_policy: keys::every_policy().map_err(Fault::internal)?,
            registry: RwLock::default(),
            edition: AtomicU64::default(),
            realms: Realms::new(barrier, entropy),
            wiping: Wiping::load(txn)?,
        };
        spaces.reload(txn)?;
        Ok(spaces)
    }

    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in(&self, change: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut registry);
        // Under the lock: whoever finds the change finds that there was one.
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// A number that is another one after each change of which namespaces there are, or of what is known of one.
    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The root namespace.
    #[must_use]
    pub const fn root(&self) -> &Arc<Space> {
        &self.root
    }

    /// How many there are besides the root namespace.
    #[must_use]
    pub fn count(&self) -> usize {
        self.registry().by_path.len()
    }

    /// The namespace with this identity, being deleted or not.
    #[must_use]
    pub fn with_id(&self, id: &NamespaceId) -> Option<Arc<Space>> {
        if id.is_root() {
            return Some(Arc::clone(&self.root));
        }
        self.registry().by_id.get(id).cloned()
    }

    /// The namespace that a mount belongs to.
    ///
    /// # Errors
    /// A refusal when it is gone.
    pub fn of(&self, id: &NamespaceId) -> Result<Arc<Space>, Fault> {
        self.with_id(id).ok_or_else(|| Refusal::Absent("namespace not found".into()).into())
    }

    /// The namespace at this path, unless it is being deleted.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<Arc<Space>> {
        if path.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        self.registry().by_path.get(path).filter(|space| !space.is_leaving()).cloned()
    }

    /// The namespaces below a path in order, at most `limit` after `after`; only those directly below, or all.
    #[must_use]
    pub fn below(&self, path: &str, after: Option<&str>, limit: usize, is_deep: bool) -> Vec<Arc<Space>> {
        let registry = self.registry();
        // Where the next one is: what is below is passed over by the character that comes after a slash.
        let behind = |at: &str| match is_deep {
            true => Bound::Excluded(at.to_owned()),
            false => Bound::Included(format!("{}0", at.trim_end_matches('/'))),
        };
        let mut found = Vec::new();
        let mut from =
            after.map_or_else(|| Bound::Excluded(path.to_owned()), |after| behind(&format!("{path}{after}")));
        while found.len() < limit {
            let mut rest = registry.by_path.range((from, Bound::Unbounded));
            let Some((at, space)) = rest.next().filter(|(at, _)| at.starts_with(path)) else { break };
            found.push(Arc::clone(space));
            from = behind(at);
        }
        found
    }

    /// Where a request goes, from the namespace that its header names and its path, and what is left of the path: header
    /// and path are one way to say the same.
    ///
    /// # Errors
    /// A refusal when what is left is no path.
    pub fn resolve(&self, header: &str, path: &Path) -> Result<(Resolved, Option<Path>), Refusal> {
        let registry = self.registry();
        let known = |space: &Arc<Space>, is_missing| Resolved { space: Arc::clone(space), is_missing };
        if registry.by_path.is_empty() && header.is_empty() {
            return Ok((known(&self.root, false), None));
        }
        let whole = format!("{header}{path}");
        let (mut space, mut at) = (&self.root, 0);
        for end in whole.match_indices('/').map(|(slash, _)| slash + 1) {
            match whole.get(..end).and_then(|head| registry.by_path.get(head)).filter(|found| !found.is_leaving()) {
                Some(found) => (space, at) = (found, end),
                None => break,
            }
        }
        let resolved = known(space, at < header.len());
        if at == header.len() {
            return Ok((resolved, None));
        }
        let rest = Path::from_decoded(whole.get(at..).unwrap_or_default());
        Ok((resolved, Some(rest.map_err(|error| Refusal::Invalid(error.to_string().into()))?)))
    }

    /// The namespace nearest to the root that keeps everybody out of this one, itself included.
    #[must_use]
    pub fn locked_by(&self, space: &Space) -> Option<Arc<Space>> {
        if space.is_root() {
            return None;
        }
        let registry = self.registry();
        let line = space.line.iter().filter_map(|id| registry.by_id.get(id));
        line.into_iter().find(|space| space.record.as_ref().is_some_and(NamespaceRecord::is_locked)).cloned()
    }

    /// The mount with this identity, wherever it is: each namespace is looked through.
    #[must_use]
    pub fn with_mount(&self, mount: &MountId) -> Option<(Arc<Space>, Arc<Mount>)> {
        self.every().into_iter().find_map(|space| {
            let found = space.mounts.table().with_id(mount).cloned()?;
            Some((space, found))
        })
    }

    /// Whether a mount is there, and not on its way to or from there.
    pub(crate) fn has_mount(&self, namespace: &NamespaceId, mount: &MountId) -> bool {
        self.with_id(namespace)
            .is_some_and(|space| space.mounts.table().with_id(mount).is_some_and(|mount| !mount.record.is_moving()))
    }

    /// Tells, once, which engines answer for the server's own mounts.
    pub(crate) fn attach(&self, server: &BTreeMap<String, Arc<dyn Mounted>>) {
        self.common.attach(server);
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> [KeyPrefix; 4] {
        [self.prefix.clone(), self.every_mount.clone(), self.every_policy.clone(), self.wiping.prefix().clone()]
    }

    /// Follows a batch: first which namespaces there are, then what changed in each.
    pub(crate) fn follow(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.wiping.follow(changed, txn)?;
        let Changed::Names(names) = changed else {
            self.reload(txn)?;
            self.root.mounts.reload_if_touched(changed, txn)?;
            return self.root.policies.reload_if_touched(changed, txn);
        };
        for key in names {
            let Some(rest) = key.as_str().strip_prefix(self.prefix.as_str()) else { continue };
            self.reload_one(txn, rest, key)?;
        }
        for id in changed.namespaces(&self.every_mount).into_iter().flatten() {
            if let Some(space) = self.with_id(&id).filter(|space| !space.is_sealed) {
                space.mounts.reload_if_touched(changed, txn)?;
            }
        }
        for id in changed.namespaces(&self.every_policy).into_iter().flatten() {
            if let Some(space) = self.with_id(&id).filter(|space| !space.is_sealed) {
                space.policies.reload_if_touched(changed, txn)?;
            }
        }
        Ok(())
    }

    /// Takes one record as it is stored; `rest` is its parent's id and its name.
    fn reload_one(&self, txn: &mut Txn, rest: &str, key: &StorageKey) -> Result<(), Fault> {
        let Some((parent, name)) = rest.split_once('/') else { return Ok(()) };
        let stored = read(txn, key)?;
        match stored {
            Some(record) => {
                self.realms.follow(&record);
                let known = self.with_id(&record.id);
                let has_seal = record.seal.is_some();
                let space = self.space(txn, record, known)?;
                let path = space.path.clone();
                self.put_in(|registry| registry.put(space));
                if has_seal {
                    self.follow_below(txn, &path)?;
                }
            }
            None => {
                // Its parent may be gone in the same breath.
                let parent = NamespaceId::new(parent);
                let path = match self.with_id(&parent) {
                    Some(parent) => Some(format!("{}{name}/", parent.path)),
                    None => self.every().iter().find_map(|space| {
                        let record = space.record.as_ref()?;
                        (record.parent() == parent && record.name() == name).then(|| record.path.clone())
                    }),
                };
                let gone = path.as_ref().and_then(|path| self.registry().by_path.get(path).cloned());
                if let Some(realm) = gone.filter(|gone| gone.has_seal()).and_then(|gone| gone.id.realm()) {
                    self.realms.forget(&realm);
                }
                self.put_in(|registry| path.iter().for_each(|path| registry.take_out(path)));
            }
        }
        Ok(())
    }

    fn reload(&self, txn: &mut Txn) -> Result<(), Fault> {
        let mut fresh = Registry::default();
        let records = every_record(txn, &self.prefix)?;
        // Which realms are open is known before anything of them is read.
        self.realms.retain(&records);
        records.iter().for_each(|record| self.realms.follow(record));
        for record in records {
            fresh.put(self.space(txn, record, None)?);
        }
        self.put_in(|registry| *registry = fresh);
        Ok(())
    }

    /// Makes those below a namespace anew that were sealed or opened with it.
    fn follow_below(&self, txn: &mut Txn, path: &str) -> Result<(), Fault> {
        for space in self.below(path, None, usize::MAX, true) {
            if let Some(record) = space.record.clone().filter(|_| self.realms.seals(&space.line) != space.is_sealed) {
                let space = self.space(txn, record, Some(space))?;
                self.put_in(|registry| registry.put(space));
            }
        }
        Ok(())
    }

    /// A namespace as its record says; what is known of its mounts and policies stays.
    fn space(&self, txn: &mut Txn, record: NamespaceRecord, known: Option<Arc<Space>>) -> Result<Space, Fault> {
        let id = record.id.clone();
        let is_sealed = self.realms.seals(&record.line);
        let (mounts, policies) = match known.filter(|known| known.is_sealed == is_sealed) {
            Some(known) => (Arc::clone(&known.mounts), Arc::clone(&known.policies)),
            None if is_sealed => (
                Arc::new(Mounts::sealed(txn, id.clone(), Arc::clone(&self.common))?),
                Arc::new(Policies::sealed(txn, id.clone())?),
            ),
            None => (
                Arc::new(Mounts::load(txn, id.clone(), Arc::clone(&self.common))?),
                Arc::new(Policies::load(txn, id.clone())?),
            ),
        };
        let (path, line) = (record.path.clone(), record.line.clone());
        Ok(Space { id, path, line, record: Some(record), mounts, policies, is_sealed })
    }

    /// Every one, the root namespace first, those that are being deleted too.
    #[must_use]
    pub fn every(&self) -> Vec<Arc<Space>> {
        let registry = self.registry();
        [&self.root].into_iter().chain(registry.by_path.values()).cloned().collect()
    }

    /// So many of those that are being deleted, at each turn the next ones; one that is sealed waits.
    pub(crate) fn leaving(&self, limit: usize, turn: u64) -> Vec<Arc<Space>> {
        let registry = self.registry();
        let leaving = registry.leaving.iter().filter_map(|id| registry.by_id.get(id));
        let open: Vec<_> = leaving.filter(|space| !space.is_sealed).collect();
        let turns = u64::try_from(open.len().div_ceil(limit)).unwrap_or(u64::MAX).max(1);
        let first = usize::try_from(turn % turns).unwrap_or_default() * limit;
        open.into_iter().skip(first).take(limit).cloned().collect()
    }

    /// At most so many of a namespace's mounts that were removed and are not gone yet.
    pub(crate) fn wiping(&self, namespace: &NamespaceId, limit: usize) -> Vec<MountId> {
        self.wiping.of(namespace, limit)
    }

    /// The nearest namespace from one upwards that stays and is open: what is to be read after it is gone lies there.
    pub(crate) fn outlives(&self, id: &NamespaceId) -> NamespaceId {
        let Some(space) = self.with_id(id) else { return NamespaceId::root() };
        let stays = |id: &&NamespaceId| self.with_id(id).is_some_and(|space| !space.is_leaving() && !space.is_sealed);
        space.line.iter().rev().find(stays).cloned().unwrap_or_else(NamespaceId::root)
    }

    /// Those that are being deleted without their keys.
    fn erased(&self) -> Vec<Arc<Space>> {
        let registry = self.registry();
        let leaving = registry.leaving.iter().filter_map(|id| registry.by_id.get(id));
        leaving.filter(|space| space.record.as_ref().is_some_and(NamespaceRecord::is_erased)).cloned().collect()
    }

    /// Loads what another store holds, as a node would, and keeps nothing of it.
    pub(crate) fn rehearse(&self, txn: &mut Txn) -> Result<(), Fault> {
        Policies::load(txn, NamespaceId::root())?.refuse_damage()?;
        self.root.mounts.rehearse(txn)?;
        for record in every_record(txn, &self.prefix)? {
            let space = self.space(txn, record, None)?;
            if space.is_sealed {
                continue;
            }
            space.policies.refuse_damage()?;
            space.mounts.rehearse(txn)?;
        }
        Ok(())
    }

    /// Whether memory has what is stored: namespaces, mounts, policies.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let mut stored: Vec<NamespaceRecord> = every_record(txn, &self.prefix)?;
        stored.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let spaces = self.every();
        let known: Vec<NamespaceRecord> = spaces.iter().filter_map(|space| space.record.clone()).collect();
        if stored != known || !self.wiping.agrees(txn)? {
            return Ok(false);
        }
        for space in spaces.iter().filter(|space| !space.is_sealed) {
            if !space.mounts.agrees(txn)? || !space.policies.agrees(txn)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn read(txn: &mut Txn, key: &StorageKey) -> Result<Option<NamespaceRecord>, Fault> {
    let Some(bytes) = txn.read(key).map_err(Fault::internal)? else { return Ok(None) };
    NamespaceRecord::decode(&bytes).map(Some).map_err(Fault::internal)
}
/// Every record there is.
fn every_record(txn: &mut Txn, prefix: &KeyPrefix) -> Result<Vec<NamespaceRecord>, Fault> {
    let mut records = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = txn.list(prefix, after.as_deref(), PAGE).map_err(Fault::internal)?;
        for parent in &page {
            let below = prefix.below(parent).map_err(Fault::internal)?;
            for name in every_name(txn, &below).map_err(Fault::internal)? {
                records.extend(read(txn, &below.key(&name).map_err(Fault::internal)?)?);
            }
        }
        after = page.last().cloned();
        if page.len() < PAGE {
            return Ok(records);
        }
    }
}

/// How many parents are looked at at a time.
const PAGE: usize = 1000;
