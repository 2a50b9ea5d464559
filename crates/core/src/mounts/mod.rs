//! The mounts of the node: a table that is a function of storage, and the only place that changes it.
//!
//! A request takes one snapshot of the table. Enabling, tuning, moving and disabling write records within the
//! request's transaction; of the table, only what a commit touched is loaded anew. The table is never older than a
//! transaction that began before it was taken. Disabling makes the data unreachable at once; `leases::collect` wipes it
//! afterwards, resumably. Deliberately absent: engines' own state.

pub mod left;
pub(crate) mod moving;
pub mod record;
pub mod removal;
mod table;
pub(crate) mod taking_over;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tresor_barrier::{Changed, KeyPrefix, Txn};
use tresor_crypto::token_text;
use tresor_engine::{Access, Class, EngineFactory, MountFacts, Mounted, is_damage};
use tresor_env::Entropy;
use tresor_model::ids::{MountAccessor, MountId, NamespaceId};
use tresor_model::{Fault, MountPath, Operation, Refusal, Timestamp};
use tresor_record::Record;
use tresor_wire::input::FieldSpec;

use crate::cached::{Cached, every_name};
use crate::settings::Settings;
use crate::{keys, lockout, observations};
use record::{MountRecord, Move, MoveState, Reload, StoredClass, StoredMount, Tuning, TurnRecord, WipeRecord};
use table::Loaded;
pub use table::{Behind, Mount, Table};

/// Paths that belong to the server.
const RESERVED: [&str; 4] = ["sys/", "cubbyhole/", "identity/", "auth/token/"];

/// A mount that every server has.
pub struct ServerMount {
    /// Where, ending in a slash.
    pub path: &'static str,
    /// Its type in listings.
    pub kind: &'static str,
    /// What it is for, in the words that clients know.
    pub description: &'static str,
    /// Whether its data stays within this cluster.
    pub local: bool,
}

/// The mounts that initialising makes; the server's own engines answer for them, found by path.
pub const SERVER_MOUNTS: [ServerMount; 3] = [
    ServerMount {
        path: "sys/",
        kind: "system",
        description: "system endpoints used for control, policy and debugging",
        local: false,
    },
    ServerMount { path: "cubbyhole/", kind: "cubbyhole", description: "per-token private secret storage", local: true },
    ServerMount { path: "auth/token/", kind: "token", description: "token based credentials", local: false },
];

/// What takes back what a mount handed out, and what it is told of the mount.
pub(crate) struct TakingBack {
    /// The mount.
    pub(crate) facts: MountFacts,
    /// What is below this is its data.
    pub(crate) contents: KeyPrefix,
    /// Its engine.
    pub(crate) engine: Arc<dyn Mounted>,
}

/// The owner of the table.
pub struct Mounts {
    table: Cached<Table>,
    namespace: NamespaceId,
    common: Arc<Common>,
}

/// What the mounts of all namespaces have in common.
pub(crate) struct Common {
    factories: Vec<EngineFactory>,
    settings: Arc<Settings>,
    /// The server's own engines by path. They know the mounts, so they are not kept alive from here.
    server: OnceLock<BTreeMap<String, Weak<dyn Mounted>>>,
}

impl Common {
    pub(crate) fn new(factories: Vec<EngineFactory>, settings: Arc<Settings>) -> Self {
        Self { factories, settings, server: OnceLock::new() }
    }

    /// Tells, once, which engines answer for the server's own mounts.
    pub(crate) fn attach(&self, server: &BTreeMap<String, Arc<dyn Mounted>>) {
        let server = server.iter().map(|(path, engine)| (path.clone(), Arc::downgrade(engine))).collect();
        // Told twice, the first word stands: it is the same node.
        drop(self.server.set(server));
    }
}

/// The path that policies decide on: one spelling for everything that leads to the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPath {
    /// The path.
    pub text: String,
    /// When the route folds names: how many leading segments are the mount's, whose case does matter.
    pub folds_after: Option<usize>,
}

/// Where an operation on a path leads.
pub struct LeadsTo {
    /// The path that policies decide on.
    pub policy_path: PolicyPath,
    /// Who may call it.
    pub access: Access,
    /// The fields that it reads.
    pub fields: &'static [FieldSpec],
    /// Whether writing is told apart into creating and updating.
    pub tells_create: bool,
    /// The mount, when there is one.
    pub mount: Option<Arc<Mount>>,
}

impl<'a> From<&'a PolicyPath> for tresor_policy::AskedPath<'a> {
    fn from(path: &'a PolicyPath) -> Self {
        Self { text: &path.text, folds_after: path.folds_after }
    }
}

impl PolicyPath {
    /// Of a path that leads to no route.
    pub(crate) fn as_sent(path: &str) -> Self {
        Self { text: path.to_owned(), folds_after: None }
    }

    /// Of a route that was found below a mount.
    pub(crate) fn found(mount: &Mount, canonical: &str, is_folded: bool) -> Self {
        let path = &mount.record.path;
        Self { text: format!("{path}{canonical}"), folds_after: is_folded.then(|| path.matches('/').count()) }
    }

    /// LIST always asks of a directory.
    pub(crate) fn into_directory(mut self) -> Self {
        if !self.text.ends_with('/') {
            self.text.push('/');
        }
        self
    }
}

impl Mount {
    /// Whether it is one of those that every namespace has.
    #[must_use]
    pub fn is_the_servers(&self) -> bool {
        RESERVED.contains(&self.record.path.as_str())
    }
}

/// What a new mount is to be.
pub struct NewMount {
    /// Secrets engine or auth method.
    pub class: Class,
    /// Its type on the wire; aliases such as `kv-v2` are resolved here.
    pub kind: String,
    /// Where, without the `auth/` of auth methods.
    pub path: MountPath,
    /// What people say it is for.
    pub description: String,
    /// Options such as `version`.
    pub options: BTreeMap<String, String>,
    /// How it is tuned.
    pub tuning: Tuning,
    /// Kept for clients.
    pub local: bool,
    /// Kept for clients.
    pub seal_wrap: bool,
    /// Kept for clients.
    pub external_entropy_access: bool,
}

impl Mounts {
    /// Loads the table.
    ///
    /// # Errors
    /// When the store fails or a record is damaged.
    pub(crate) fn load(txn: &mut Txn, namespace: NamespaceId, common: Arc<Common>) -> Result<Self, Fault> {
        let mounts = Self::sealed(txn, namespace, common)?;
        let table = mounts.read_table(txn)?;
        Ok(Self { table: Cached::new(keys::mounts(&mounts.namespace).map_err(Fault::internal)?, txn, table), ..mounts })
    }

    /// What is seen of the mounts of a sealed namespace: none.
    pub(crate) fn sealed(txn: &Txn, namespace: NamespaceId, common: Arc<Common>) -> Result<Self, Fault> {
        let prefix = keys::mounts(&namespace).map_err(Fault::internal)?;
        Ok(Self { table: Cached::new(prefix, txn, Table::default()), namespace, common })
    }

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.load()
    }

    /// Reads every record, and finds fault with what a node could not serve by.
    ///
    /// # Errors
    /// When the store fails, or a record is damaged.
    pub(crate) fn rehearse(&self, txn: &mut Txn) -> Result<(), Fault> {
        match self.read_table(txn)?.unreadable().first_key_value() {
            Some((id, reason)) => Err(Fault::internal(format!("the record of mount {id} cannot be read: {reason}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.table.follow(changed, txn, |table, names, txn| match names {
            Some(ids) => {
                let read = |id: &str| Ok((id.to_owned(), self.load_mount(txn, id, table)?));
                Ok(table.with(ids.into_iter().map(read).collect::<Result<_, Fault>>()?))
            }
            None => self.read_table(txn),
        })
    }

    /// Whether the table is what it would be if it were loaded now.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let records = |table: &Table| {
            let readable = table.iter().map(|mount| mount.record.clone()).collect::<Vec<_>>();
            (readable, table.unreadable().clone())
        };
        Ok(records(&self.read_table(txn)?) == records(&self.table()))
    }

    /// The engine that answers for a mount; `None` when it could not be loaded.
    #[must_use]
    pub fn engine(&self, mount: &Mount) -> Option<Arc<dyn Mounted>> {
        match &mount.engine {
            Behind::Engine(engine) => Some(Arc::clone(engine)),
            Behind::Server => self.common.server.get()?.get(&mount.record.path)?.upgrade(),
            Behind::Moving | Behind::Quarantined(_) => None,
        }
    }

    /// The engine that takes back what a mount handed out, the mount being there or removed a while ago.
    ///
    /// # Errors
    /// When the store fails, or the engine cannot be made.
    pub(crate) fn taking_back(&self, txn: &mut Txn, id: &MountId) -> Result<Option<TakingBack>, Fault> {
        if let Some(mount) = self.table().with_id(id) {
            let (facts, contents) = (mount.facts.clone(), mount.contents.clone());
            return match &mount.engine {
                Behind::Quarantined(reason) => {
                    Err(Fault::internal(format!("the mount that handed it out could not be loaded: {reason}")))
                }
                // What it handed out is taken back before it goes.
                Behind::Moving => {
                    let engine = self.make(&facts, mount.record.class)?;
                    Ok(Some(TakingBack { facts, contents, engine }))
                }
                _ => Ok(self.engine(mount).map(|engine| TakingBack { facts, contents, engine })),
            };
        }
        let wipe = keys::wipe(&self.namespace, id).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&wipe).map_err(Fault::internal)? else { return Ok(None) };
        let StoredMount(record) = WipeRecord::decode(&bytes).map_err(Fault::internal)?.mount;
        let facts = self.facts(&record);
        let engine = self.make(&facts, record.class)?;
        Ok(Some(TakingBack { contents: self.contents(&record)?, facts, engine }))
    }

    /// The path that policies decide on when `path` is asked for, as the pipeline finds it: what `sys/capabilities`
    /// shows is what is enforced (LST-06).
    #[must_use]
    pub fn policy_path(&self, path: &str, asks_of_directory: bool) -> PolicyPath {
        self.leads_to(path, if asks_of_directory { Operation::List } else { Operation::Read }).policy_path
    }

    /// Where an operation on a path leads, as the pipeline finds it.
    #[must_use]
    pub fn leads_to(&self, path: &str, operation: Operation) -> LeadsTo {
        let table = self.table();
        let asked = |mount: &Mount, relative| mount.asked(relative, operation.is_of_directory()).to_owned();
        let mount = table.find(path).map(|(mount, relative)| (Arc::clone(mount), asked(mount, relative)));
        let found = mount.as_ref().and_then(|(mount, relative)| {
            let engine = self.engine(mount)?;
            let found = engine.find(relative)?;
            let facts = engine.route(found.route);
            let operations = facts.map(|facts| Arc::clone(&facts.operations)).unwrap_or_default();
            let tells_create = facts.is_some_and(|facts| facts.tells_create);
            Some((PolicyPath::found(mount, &found.canonical, found.is_folded), operations, tells_create))
        });
        let (policy_path, operations, tells_create) =
            found.unwrap_or_else(|| (PolicyPath::as_sent(path), Arc::default(), false));
        let policy_path = if operation.is_of_directory() { policy_path.into_directory() } else { policy_path };
        let facts = operations.get(&operation);
        LeadsTo {
            policy_path,
            access: facts.map_or(Access::Token, |facts| facts.access),
            fields: facts.map_or(&[], |facts| facts.fields),
            tells_create,
            mount: mount.map(|(mount, _)| mount),
        }
    }

    /// Makes a mount within a transaction.
    ///
    /// # Errors
    /// A refusal when the path is taken or reserved, or the type is unknown.
    pub fn enable(
        &self,
        txn: &mut Txn,
        new: NewMount,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(MountRecord, Arc<dyn Mounted>), Fault> {
        let path = match new.class {
            Class::Auth => format!("auth/{}", new.path),
            Class::Secret | Class::System => new.path.as_str().to_owned(),
        };
        let others = self.take_path(txn, new.class, &path)?;
        let (kind, options) = resolve_alias(&new.kind, new.options);
        let is_taken = |accessor: &str| others.with_accessor(accessor).is_some();
        let accessor = fresh_accessor(new.class, &kind, is_taken, entropy);
        let record = fresh_record(new.class, accessor, kind, path, options, now, entropy);
        let record = MountRecord {
            description: new.description,
            tuning: new.tuning,
            local: new.local,
            seal_wrap: new.seal_wrap,
            external_entropy_access: new.external_entropy_access,
            ..record
        };
        let facts = self.facts(&record);
        if facts.default_lease_ttl > facts.max_lease_ttl {
            return Err(Fault::invalid("given default lease TTL greater than the effective max lease TTL"));
        }
        let engine = self.make(&facts, record.class)?;
        self.write(txn, &record)?;
        observations::of_mount(txn, &self.namespace, "mount/enable", &record);
        Ok((record, engine))
    }

    /// Makes the server's own mounts, once, at initialisation; gives back the identity of the token store's mount.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_defaults(
        txn: &mut Txn,
        namespace: &NamespaceId,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<MountId, Fault> {
        let mut token_mount = None;
        for own in &SERVER_MOUNTS {
            let class = if own.path.starts_with("auth/") { Class::Auth } else { Class::System };
            // Each has a kind of its own, so no two accessors are one.
            let accessor = fresh_accessor(class, own.kind, |_| false, entropy);
            let (kind, path) = (own.kind.to_owned(), own.path.to_owned());
            let record = fresh_record(class, accessor, kind, path, BTreeMap::new(), now, entropy);
            let record = MountRecord { description: own.description.to_owned(), local: own.local, ..record };
            let key = keys::mount(namespace, &record.id).map_err(Fault::internal)?;
            txn.write(&key, &record.encode()).map_err(Fault::internal)?;
            if own.kind == "token" {
                token_mount = Some(record.id);
            }
        }
        token_mount.ok_or_else(|| Fault::internal("the token store is not among the server's mounts"))
    }

    /// Stores a changed record (tuned, or moved).
    ///
    /// # Errors
    /// When the store fails.
    pub fn write(&self, txn: &mut Txn, record: &MountRecord) -> Result<(), Fault> {
        let key = keys::mount(&self.namespace, &record.id).map_err(Fault::internal)?;
        txn.write(&key, &record.encode()).map_err(Fault::internal)
    }

    /// A mount's record as the transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read(&self, txn: &mut Txn, id: &MountId) -> Result<Option<MountRecord>, Fault> {
        Ok(self.read_shared(txn, id)?.map(Arc::unwrap_or_clone))
    }

    /// The same, as whoever else reads it has it.
    fn read_shared(&self, txn: &mut Txn, id: &MountId) -> Result<Option<Arc<MountRecord>>, Fault> {
        let key = keys::mount(&self.namespace, id).map_err(Fault::internal)?;
        let Some(stored) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
        stored.record().map(Some).map_err(Fault::internal)
    }

    /// Whether a mount still is what the request was routed by, as the transaction sees it; `None` when it is gone. Its
    /// change or removal from then on conflicts with the transaction: nothing is written below a mount that is gone,
    /// moved or tuned meanwhile.
    pub(crate) fn is_current(&self, txn: &mut Txn, mount: &Mount) -> Result<Option<bool>, Fault> {
        let key = keys::mount(&self.namespace, &mount.record.id).map_err(Fault::internal)?;
        let Some(stored) = txn.read(&key).map_err(Fault::internal)? else { return Ok(None) };
        let stored = stored.record::<MountRecord>().map_err(Fault::internal)?;
        // Mostly the very one that the table was made from.
        Ok(Some(Arc::ptr_eq(&stored, &mount.record) || *stored == *mount.record))
    }

    /// Whether an engine can be made with a changed record.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn check(&self, record: &MountRecord) -> Result<(), Fault> {
        if RESERVED.contains(&record.path.as_str()) {
            return Ok(());
        }
        self.make(&self.facts(record), record.class).map(drop)
    }

    /// Removes a mount; its data is unreachable from the commit on and wiped afterwards.
    ///
    /// # Errors
    /// A refusal for the server's own mounts; a failure when the store fails.
    pub fn disable(&self, txn: &mut Txn, mount: &Mount, now: Timestamp) -> Result<(), Fault> {
        self.refuse_reserved(&mount.record.path)?;
        let id = &mount.record.id;
        let key = keys::mount(&self.namespace, id).map_err(Fault::internal)?;
        lockout::forget(txn, id)?;
        // Read first, so that two removals, or a removal and a tuning, cannot both succeed. What is removed is the record
        // as it is stored: where its data lies may have changed since the table was made.
        let record = self.read(txn, id)?.unwrap_or_else(|| (*mount.record).clone());
        if record.is_moving() {
            return Err(Fault::invalid(format!("{:?} is being moved to another namespace", record.path)));
        }
        txn.delete(&key).map_err(Fault::internal)?;
        observations::of_mount(txn, &self.namespace, "mount/disable", &record);
        let wipe = keys::wipe(&self.namespace, id).map_err(Fault::internal)?;
        txn.write(&wipe, &WipeRecord::begun(record, now).encode()).map_err(Fault::internal)
    }

    /// Refuses to remove what belongs to the server.
    ///
    /// # Errors
    /// A refusal of one of its paths.
    pub fn refuse_reserved(&self, path: &str) -> Result<(), Fault> {
        if RESERVED.contains(&path) {
            return Err(Fault::invalid(format!("cannot unmount {path:?}")));
        }
        Ok(())
    }

    /// Moves a mount to a free path of the same class.
    ///
    /// # Errors
    /// A refusal when the target is taken or reserved, or the source belongs to the server.
    pub fn move_to(
        &self,
        txn: &mut Txn,
        (space, mount): (&str, &Mount),
        to: &MountPath,
        entropy: &dyn Entropy,
    ) -> Result<Move, Fault> {
        let class = mount.may_move_to(to)?;
        self.take_path(txn, class, to.as_str())?;
        let record = self.standing(txn, mount)?;
        let moved = Move {
            id: token_text::random_uuid(entropy),
            from: format!("{space}{}", record.path),
            to: format!("{space}{to}"),
            state: MoveState::Done,
        };
        self.write(txn, &MountRecord { path: to.as_str().to_owned(), moved: Some(moved.clone()), ..record })?;
        Ok(moved)
    }

    /// The record of a mount as it is stored, so that a change that goes on at the same time is not undone.
    ///
    /// # Errors
    /// A refusal when the mount is gone, or on its way to another namespace.
    pub fn standing(&self, txn: &mut Txn, mount: &Mount) -> Result<MountRecord, Fault> {
        let path = &mount.record.path;
        let record = self.read(txn, &mount.record.id)?;
        let record = record.ok_or_else(|| Fault::invalid(format!("no matching mount at {path:?}")))?;
        if record.is_moving() {
            return Err(Fault::invalid(format!("{path:?} is being moved to another namespace")));
        }
        Ok(record)
    }

    /// Deletes a mount's record, and nothing else.
    fn remove(&self, txn: &mut Txn, id: &MountId) -> Result<(), Fault> {
        txn.delete(&keys::mount(&self.namespace, id).map_err(Fault::internal)?).map_err(Fault::internal)
    }

    /// Has the engine of a mount made anew, on every node.
    ///
    /// # Errors
    /// A refusal for the server's own mounts; a failure when the store fails.
    pub fn reload(&self, txn: &mut Txn, mount: &Mount, reload: Reload) -> Result<(), Fault> {
        let path = &mount.record.path;
        if RESERVED.contains(&path.as_str()) {
            return Err(Fault::invalid(format!("cannot reload {path:?}: it is a part of the server")));
        }
        let record = self.standing(txn, mount)?;
        self.write(txn, &MountRecord { reloaded: Some(reload), ..record })
    }

    /// The types that can be mounted.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, Class)> {
        self.common.factories.iter().map(|factory| (factory.kind, factory.class))
    }

    /// The part of the store that belongs to a mount's engine.
    ///
    /// # Errors
    /// Never in practice: ids are made by the server.
    pub fn contents(&self, record: &MountRecord) -> Result<KeyPrefix, Fault> {
        keys::mount_contents(&self.namespace, &record.id, record.store).map_err(Fault::internal)
    }

    /// What engines see of a mount.
    #[must_use]
    pub fn facts(&self, record: &MountRecord) -> MountFacts {
        let or = |tuned: Duration, default: Duration| if tuned.is_zero() { default } else { tuned };
        let max = or(record.tuning.max_lease_ttl, self.common.settings.max_lease_ttl);
        MountFacts {
            id: record.id.clone(),
            accessor: record.accessor.clone(),
            namespace: self.namespace.clone(),
            path: record.path.clone(),
            kind: record.kind.clone(),
            options: record.options.clone(),
            default_lease_ttl: or(record.tuning.default_lease_ttl, self.common.settings.default_lease_ttl.min(max)),
            max_lease_ttl: max,
            seal_entropy: record.external_entropy_access,
            managed_keys: record.tuning.allowed_managed_keys.clone(),
            former_options: record.former.as_ref().map(|former| former.options.clone()),
        }
    }

    /// Gives back the mounts that there are, when `path` is free among them.
    ///
    /// Whoever takes a path writes one record that is read here: so two who take one conflict, and what the table knows
    /// beyond the transaction makes it conflict, too.
    fn take_path(&self, txn: &mut Txn, class: Class, path: &str) -> Result<Arc<Table>, Fault> {
        self.take_turn(txn)?;
        let reserved = RESERVED.iter().any(|taken| path.starts_with(taken))
            || (class == Class::Secret && path.starts_with("auth/"))
            || path == "auth/";
        if reserved {
            return Err(Fault::invalid(format!("path is already in use at {path}: reserved for the server")));
        }
        let table = self.table();
        match table.overlap(path) {
            Some(taken) => {
                let taken = if class == Class::Auth { taken.trim_start_matches("auth/") } else { taken };
                Err(Fault::invalid(format!("path is already in use at {taken}")))
            }
            None => Ok(table),
        }
    }

    /// The mount that is at a path, above or below it; who takes such a path meanwhile conflicts.
    pub(crate) fn overlap(&self, txn: &mut Txn, path: &str) -> Result<Option<String>, Fault> {
        self.take_turn(txn)?;
        Ok(self.table().overlap(path).map(str::to_owned))
    }

    pub(crate) fn take_turn(&self, txn: &mut Txn) -> Result<(), Fault> {
        let turn = keys::mount_turn(&self.namespace).map_err(Fault::internal)?;
        let taken = match txn.read(&turn).map_err(Fault::internal)? {
            Some(bytes) => TurnRecord::decode(&bytes).map_err(Fault::internal)?.taken,
            None => 0,
        };
        txn.write(&turn, &TurnRecord { taken: taken.wrapping_add(1) }.encode()).map_err(Fault::internal)
    }

    /// Makes the engine of a mount that has one of its own.
    fn make(&self, facts: &MountFacts, class: StoredClass) -> Result<Arc<dyn Mounted>, Fault> {
        let unknown = || Refusal::Invalid(format!("plugin not found in the catalog: {}", facts.kind).into());
        (self.factory(&facts.kind, class).ok_or_else(unknown)?.make)(facts)
    }

    fn factory(&self, kind: &str, class: StoredClass) -> Option<&EngineFactory> {
        self.common.factories.iter().find(|factory| factory.kind == kind && StoredClass::from(factory.class) == class)
    }

    fn behind(&self, record: &MountRecord, facts: &MountFacts) -> Behind {
        if RESERVED.contains(&record.path.as_str()) {
            return Behind::Server;
        }
        if record.is_moving() {
            return Behind::Moving;
        }
        match self.make(facts, record.class) {
            Ok(engine) => Behind::Engine(engine),
            Err(fault) => {
                tracing::error!(path = %record.path, kind = %record.kind, %fault, "mount cannot be loaded: quarantined");
                Behind::Quarantined(fault.to_string())
            }
        }
    }

    /// All mounts as they are stored. What is loaded already and did not change is taken over.
    fn read_table(&self, txn: &mut Txn) -> Result<Table, Fault> {
        let known = self.table();
        let (mut mounts, mut unreadable) = (Vec::new(), BTreeMap::new());
        for id in every_name(txn, self.table.prefix()).map_err(Fault::internal)? {
            match self.load_mount(txn, &id, &known)? {
                Loaded::There(mount) => mounts.push(mount),
                Loaded::Gone => {}
                Loaded::Unreadable(reason) => drop(unreadable.insert(id, reason)),
            }
        }
        Ok(Table::of(mounts, unreadable))
    }

    /// One mount as it is stored. What cannot be read keeps no other mount from being served.
    fn load_mount(&self, txn: &mut Txn, id: &str, known: &Table) -> Result<Loaded, Fault> {
        let id = MountId::new(id);
        let record = match self.read_shared(txn, &id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Loaded::Gone),
            Err(fault) if is_damage(&fault) => {
                let reason = fault.for_operators();
                tracing::error!(mount = %id, reason, "the record of a mount cannot be read: the mount is left out");
                return Ok(Loaded::Unreadable(reason));
            }
            Err(fault) => return Err(fault),
        };
        if let Some(mount) =
            known.with_id(&id).filter(|mount| Arc::ptr_eq(&mount.record, &record) || mount.record == record)
        {
            return Ok(Loaded::There(Arc::clone(mount)));
        }
        let facts = self.facts(&record);
        let engine = self.behind(&record, &facts);
        let contents = self.contents(&record)?;
        Ok(Loaded::There(Arc::new(Mount { record, facts, contents, engine })))
    }
}

/// `kv-v1`, `kv-v2` and `generic` are spellings of `kv`; without a version, `kv` is version 1.
fn resolve_alias(kind: &str, mut options: BTreeMap<String, String>) -> (String, BTreeMap<String, String>) {
    let version = match kind {
        "kv-v1" | "generic" => Some("1"),
        "kv-v2" => Some("2"),
        _ => None,
    };
    if let Some(version) = version {
        options.insert("version".to_owned(), version.to_owned());
        return ("kv".to_owned(), options);
    }
    (kind.to_owned(), options)
}

/// An accessor in the reference's form, whose 32 bits are few enough to be drawn twice: then again.
fn fresh_accessor(class: Class, kind: &str, is_taken: impl Fn(&str) -> bool, entropy: &dyn Entropy) -> MountAccessor {
    let prefix = if class == Class::Auth { "auth_" } else { "" };
    loop {
        let mut tail = [0_u8; 4];
        entropy.fill(&mut tail);
        let accessor = format!("{prefix}{kind}_{}", tresor_crypto::hash::to_hex(&tail));
        if !is_taken(&accessor) {
            return MountAccessor::new(accessor);
        }
    }
}

fn fresh_record(
    class: Class,
    accessor: MountAccessor,
    kind: String,
    path: String,
    options: BTreeMap<String, String>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> MountRecord {
    let id = MountId::new(token_text::random_uuid(entropy));
    MountRecord { accessor, class: class.into(), kind, path, options, ..MountRecord::unknown(id, now) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tresor_env::doubles::SeededEntropy;

    use super::*;

    #[test]
    fn an_accessor_that_another_mount_has_is_drawn_again() {
        let first = fresh_accessor(Class::Auth, "userpass", |_| false, &SeededEntropy::new(1));
        let second = fresh_accessor(Class::Auth, "userpass", |taken| taken == first.as_str(), &SeededEntropy::new(1));
        assert!(first.as_str().starts_with("auth_userpass_") && second.as_str().starts_with("auth_userpass_"));
        assert_ne!(first.as_str(), second.as_str());
    }
}
