//! The ACL policies of the node: parsed once, compiled per set of names, always as storage has them.
//!
//! The table is a function of storage; a policy write is in force for every request that starts after its answer
//! (ACL-13), because the table is loaded anew before the commit returns. Deliberately absent: deciding, which is
//! `tresor-policy`'s, and templates' values (no identity yet: a templated rule grants nothing). What
//! expires is left out when it is looked at, by the request's own time; nothing has to run for that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tresor_barrier::{Changed, KeyPrefix, StorageKey, Txn};
use tresor_engine::is_damage;
use tresor_model::ids::NamespaceId;
use tresor_model::{Fault, Timestamp};
use tresor_policy::{
    DEFAULT_POLICY_TEXT, Holder, Policy, PolicyName, PolicySet, Trusted, WRAPPING_POLICY, WRAPPING_POLICY_TEXT,
};
use tresor_record::Record;

use crate::cached::{Cached, every_name, one_record};
use crate::clients::Mark;
use crate::keys;
use crate::ordered::Ordered;

/// How many compiled sets are kept.
const COMPILED_MAX: usize = 4096;

/// Stands before the name of a policy that is older than the namespace that it is asked about; no name begins so.
pub(crate) const OLDER: char = '\u{1}';

/// A policy as it was stored before policies had versions and ends.
#[derive(Record)]
#[record(kind = "acl-policy", version = 1)]
pub struct PolicyRecordV1 {
    /// What was sent.
    pub text: String,
}

/// A policy as it is stored: its text, byte for byte, and what is to be known of it.
#[derive(Record, Clone, Debug, PartialEq, Eq)]
#[record(kind = "acl-policy", version = 2, previous = PolicyRecordV1)]
pub struct PolicyRecord {
    /// What was sent.
    pub text: String,
    /// How often it was written.
    pub version: u64,
    /// Whether writing it needs the version that it is to replace.
    pub cas_required: bool,
    /// When it was written last; `None` for one that is older than this field.
    pub modified: Option<Timestamp>,
    /// From when on it grants and denies nothing, and is not there.
    pub expires: Option<Timestamp>,
    /// Whether values of its placeholders may have slashes.
    pub trusts_slashes: bool,
    /// Whether they may have wildcards.
    pub trusts_wildcards: bool,
}

impl From<PolicyRecordV1> for PolicyRecord {
    fn from(older: PolicyRecordV1) -> Self {
        let (trusts_slashes, trusts_wildcards) = (false, false);
        Self {
            text: older.text,
            version: 1,
            cas_required: false,
            modified: None,
            expires: None,
            trusts_slashes,
            trusts_wildcards,
        }
    }
}

impl PolicyRecord {
    fn parsed(&self, name: &str) -> Result<Policy, tresor_policy::PolicyError> {
        let mut policy = Policy::parse(name, &self.text)?;
        policy.expires = self.expires;
        policy.trusted = Trusted { slashes: self.trusts_slashes, wildcards: self.trusts_wildcards };
        Ok(policy)
    }

    /// Whether it was written at a time or since.
    fn is_since(&self, time: Timestamp) -> bool {
        self.modified.is_some_and(|modified| modified >= time)
    }

    /// Whether its time is over.
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What becomes of a policy.
pub struct PolicyChange {
    /// What it is to be; the version is counted here.
    pub record: PolicyRecord,
    /// The version that it replaces; `-1` for none.
    pub cas: Option<i64>,
}

/// One parsed policy and its record.
pub struct StoredPolicy {
    /// Its name.
    name: String,
    /// As it is stored.
    pub record: PolicyRecord,
    /// What it means; `None` when it cannot be parsed any more, or not be read.
    pub policy: Option<Arc<Policy>>,
    /// Why its record cannot be read; then nothing is known of it but its name.
    pub damage: Option<String>,
}

/// Policies that were compiled together, and whether a client that has them was counted.
pub struct Compiled {
    /// What they come to.
    pub set: PolicySet,
    /// Whether whoever has them was counted.
    pub(crate) mark: Mark,
}

/// All policies of a namespace, and the sets compiled from them so far.
pub struct PolicyTable {
    by_name: Ordered<Arc<StoredPolicy>>,
    compiled: Mutex<BTreeMap<Vec<String>, Arc<Compiled>>>,
}

/// The owner of the table.
pub struct Policies {
    table: Cached<PolicyTable>,
    namespace: NamespaceId,
}

impl PolicyTable {
    /// The policy of this name.
    #[must_use]
    pub fn policy(&self, name: &str, now: Timestamp) -> Option<&StoredPolicy> {
        self.by_name.get(name).map(|stored| &**stored).filter(|stored| !stored.record.is_over(now))
    }

    /// All policies that begin so, in order; `root`, which has no text, is not among them.
    pub fn policies<'t>(
        &'t self,
        prefix: &'t str,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'t str, &'t StoredPolicy)> + use<'t> {
        self.by_name
            .from(prefix)
            .take_while(move |stored| stored.name.starts_with(prefix))
            .filter(move |stored| !stored.record.is_over(now))
            .map(|stored| (stored.name.as_str(), &**stored))
    }

    /// Whether a policy was written, or written anew, at a time or since. What has no text is of any time.
    #[must_use]
    pub(crate) fn is_since(&self, name: &str, time: Timestamp) -> bool {
        name == "root" || self.by_name.get(name).is_some_and(|stored| stored.record.is_since(time))
    }

    /// The names of policies that are older than a time and have rules that begin so, which therefore do not lead into a
    /// namespace of that name that was made then.
    pub fn outdated<'t>(&'t self, way: &'t str, time: Timestamp) -> impl Iterator<Item = &'t str> + use<'t> {
        let older = self.by_name.iter().filter(move |stored| !stored.record.is_since(time));
        let leads = move |policy: &Policy| policy.rules.iter().any(|rule| rule.pattern.starts_with(way));
        older.filter(move |stored| stored.policy.as_deref().is_some_and(leads)).map(|stored| stored.name.as_str())
    }

    /// The compiled set of these policies; names that do not exist grant nothing.
    #[must_use]
    pub fn compile(&self, names: &[String], now: Timestamp) -> Arc<Compiled> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = compiled.get(names)
            && set.set.expires().is_none_or(|end| now < end)
        {
            return Arc::clone(set);
        }
        let mut policies: Vec<Arc<Policy>> = Vec::with_capacity(names.len());
        for name in names {
            if name == "root" {
                policies.push(Arc::new(Policy::root()));
            } else if name == WRAPPING_POLICY {
                policies.extend(Policy::parse(name, WRAPPING_POLICY_TEXT).ok().map(Arc::new));
            } else if let Some(stored) = self.by_name.get(name.trim_start_matches(OLDER)) {
                // A policy that cannot be read may have held a denial: whoever has it gets nothing (DR-19).
                let Some(policy) = &stored.policy else {
                    policies.clear();
                    break;
                };
                policies.push(if name.starts_with(OLDER) {
                    Arc::new(policy.of_what_came_later())
                } else {
                    Arc::clone(policy)
                });
            }
        }
        let set = PolicySet::compile(&policies, &Holder { identity: None, now });
        let set = Arc::new(Compiled { set, mark: Mark::default() });
        if compiled.len() >= COMPILED_MAX {
            compiled.clear();
        }
        compiled.insert(names.to_vec(), Arc::clone(&set));
        set
    }
}

impl Policies {
    /// Loads the table.
    ///
    /// # Errors
    /// When the store fails.
    pub fn load(txn: &mut Txn, namespace: NamespaceId) -> Result<Self, Fault> {
        let prefix = keys::policies(&namespace).map_err(Fault::internal)?;
        let table = read_table(txn, &namespace)?;
        Ok(Self { table: Cached::new(prefix, txn, table), namespace })
    }

    /// What is seen of the policies of a sealed namespace: none.
    pub(crate) fn sealed(txn: &Txn, namespace: NamespaceId) -> Result<Self, Fault> {
        let prefix = keys::policies(&namespace).map_err(Fault::internal)?;
        let table = PolicyTable { by_name: Ordered::of(|stored| &stored.name, Vec::new()), compiled: Mutex::default() };
        Ok(Self { table: Cached::new(prefix, txn, table), namespace })
    }

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<PolicyTable> {
        self.table.load()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        self.table.follow(changed, txn, |table, names, txn| {
            let Some(names) = names else { return read_table(txn, &self.namespace) };
            let mut by_name = table.by_name.clone();
            for name in names {
                match read_policy(txn, self.table.prefix(), name)? {
                    Some(stored) => by_name.insert(Arc::new(stored)),
                    None => by_name.remove(&name.replace(',', "/")),
                }
            }
            Ok(PolicyTable { by_name, compiled: Mutex::default() })
        })
    }

    /// Whether the table is what it would be if it were loaded now.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let (stored, known) = (read_table(txn, &self.namespace)?, self.table());
        let texts = |table: &PolicyTable| {
            let shown =
                |stored: &Arc<StoredPolicy>| (stored.name.clone(), stored.record.clone(), stored.damage.clone());
            table.by_name.iter().map(shown).collect::<Vec<_>>()
        };
        Ok(texts(&stored) == texts(&known))
    }

    /// Finds fault with what cannot be read.
    pub(crate) fn refuse_damage(&self) -> Result<(), Fault> {
        match self.table().by_name.iter().find_map(|stored| Some((&stored.name, stored.damage.as_ref()?))) {
            Some((name, reason)) => Err(Fault::internal(format!("policy {name:?} cannot be read: {reason}"))),
            None => Ok(()),
        }
    }

    /// The policy as it is stored, over or not.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored(&self, txn: &mut Txn, name: &PolicyName) -> Result<Option<PolicyRecord>, Fault> {
        let key = self.key(name)?;
        let bytes = txn.read(&key).map_err(Fault::internal)?;
        bytes.map(|bytes| PolicyRecord::decode(&bytes)).transpose().map_err(Fault::internal)
    }

    /// Stores a policy after parsing it.
    ///
    /// # Errors
    /// A refusal that names line and column when the text is no policy, when its time is over already, or when it is not
    /// the version that is to be replaced.
    pub fn write(&self, txn: &mut Txn, name: &PolicyName, change: PolicyChange, now: Timestamp) -> Result<(), Fault> {
        let PolicyChange { mut record, cas } = change;
        if record.is_over(now) {
            return Err(Fault::invalid("refusing to update policy as expiration time has already elapsed"));
        }
        let parsed = record.parsed(name.as_str()).and_then(|policy| policy.check_as_new());
        parsed.map_err(|error| Fault::invalid(format!("failed to parse policy: {error}")))?;
        let known = match self.stored(txn, name) {
            // What cannot be read is replaced like what is not there.
            Err(fault) if is_damage(&fault) => None,
            known => known?,
        };
        let version = known.as_ref().map_or(0, |known| known.version);
        match cas {
            None if record.cas_required || known.is_some_and(|known| known.cas_required) => {
                return Err(Fault::invalid("check-and-set parameter required for this call"));
            }
            Some(-1) if version > 0 => {
                return Err(Fault::invalid("check-and-set parameter set to -1 on existing entry"));
            }
            Some(cas) if cas != -1 && u64::try_from(cas) != Ok(version) => {
                return Err(Fault::invalid("check-and-set parameter did not match the current version"));
            }
            _ => {}
        }
        record.version = version.saturating_add(1);
        record.modified = Some(now);
        let key = self.key(name)?;
        txn.write(&key, &record.encode()).map_err(Fault::internal)
    }

    /// Removes a policy; removing nothing is fine.
    ///
    /// # Errors
    /// A refusal for `default`, which cannot be removed.
    pub fn delete(&self, txn: &mut Txn, name: &PolicyName) -> Result<(), Fault> {
        if name.as_str() == "default" {
            return Err(Fault::invalid("cannot delete \"default\" policy"));
        }
        let key = self.key(name)?;
        txn.delete(&key).map_err(Fault::internal)
    }

    /// Stores the built-in policies, once, at initialisation.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_defaults(txn: &mut Txn, namespace: &NamespaceId) -> Result<(), Fault> {
        let key = keys::policies(namespace).and_then(|at| at.key("default")).map_err(Fault::internal)?;
        let record = PolicyRecord::from(PolicyRecordV1 { text: DEFAULT_POLICY_TEXT.to_owned() });
        txn.write(&key, &record.encode()).map_err(Fault::internal)
    }

    fn key(&self, name: &PolicyName) -> Result<StorageKey, Fault> {
        keys::policies(&self.namespace)
            .and_then(|at| at.key(&stored_name(name.as_str())))
            .map_err(|_| Fault::invalid("policy name cannot be stored"))
    }
}

fn read_table(txn: &mut Txn, namespace: &NamespaceId) -> Result<PolicyTable, Fault> {
    let prefix = keys::policies(namespace).map_err(Fault::internal)?;
    let mut policies = Vec::new();
    for name in every_name(txn, &prefix).map_err(Fault::internal)? {
        policies.extend(read_policy(txn, &prefix, &name)?.map(Arc::new));
    }
    Ok(PolicyTable { by_name: Ordered::of(|stored| &stored.name, policies), compiled: Mutex::default() })
}

/// The name of the record of a policy: all lie in one directory, so a slash is written as the one letter that is in no name.
fn stored_name(name: &str) -> String {
    name.replace('/', ",")
}

/// The policy whose record has this name.
fn read_policy(txn: &mut Txn, prefix: &KeyPrefix, stored: &str) -> Result<Option<StoredPolicy>, Fault> {
    let name = stored.replace(',', "/");
    let record: PolicyRecord = match one_record(txn, prefix, stored) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(None),
        Err(fault) if is_damage(&fault) => {
            let damage = fault.for_operators();
            tracing::error!(%name, reason = damage, "stored policy cannot be read: whoever has it is denied everything");
            let record = PolicyRecord { version: 0, ..PolicyRecordV1 { text: String::new() }.into() };
            return Ok(Some(StoredPolicy { name, record, policy: None, damage: Some(damage) }));
        }
        Err(fault) => return Err(fault),
    };
    let policy = match record.parsed(&name) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(error) => {
            tracing::error!(%name, %error, "stored policy cannot be parsed: whoever has it is denied everything");
            None
        }
    };
    Ok(Some(StoredPolicy { name, record, policy, damage: None }))
}
