//! The ACL policies of the node: parsed once, compiled per set of names, always as storage has them.
//!
//! The table is a function of storage; a policy write is in force for every request that starts after its answer
//! (ACL-13), because the table is loaded anew before the commit returns. Deliberately absent: deciding, which is
//! `tresor-policy`'s, and templates' values (no identity yet: a templated rule grants nothing).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tresor_barrier::{Changed, KeyPrefix, StorageKey, Txn};
use tresor_model::Fault;
use tresor_model::ids::NamespaceId;
use tresor_policy::{DEFAULT_POLICY_TEXT, Policy, PolicyName, PolicySet, WRAPPING_POLICY, WRAPPING_POLICY_TEXT};
use tresor_record::Record;

use crate::cached::{Cached, every_name};
use crate::keys;

/// How many compiled sets are kept.
const COMPILED_MAX: usize = 4096;

/// A policy as it is stored: its text, byte for byte.
#[derive(Record)]
#[record(kind = "acl-policy", version = 1)]
pub struct PolicyRecord {
    /// What was sent.
    pub text: String,
}

/// One parsed policy and its text.
pub struct StoredPolicy {
    /// What was sent, byte for byte.
    pub text: String,
    /// What it means; `None` when it cannot be parsed any more.
    pub policy: Option<Arc<Policy>>,
}

/// All policies of a namespace, and the sets compiled from them so far.
pub struct PolicyTable {
    by_name: BTreeMap<String, StoredPolicy>,
    compiled: Mutex<BTreeMap<Vec<String>, Arc<PolicySet>>>,
}

/// The owner of the table.
pub struct Policies {
    table: Cached<PolicyTable>,
    namespace: NamespaceId,
}

impl PolicyTable {
    /// The policy of this name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&StoredPolicy> {
        self.by_name.get(name)
    }

    /// All names in order; `root`, which has no text, is not among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The compiled set of these policies; names that do not exist grant nothing.
    #[must_use]
    pub fn compile(&self, names: &[String]) -> Arc<PolicySet> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = compiled.get(names) {
            return Arc::clone(set);
        }
        let mut policies: Vec<Arc<Policy>> = Vec::with_capacity(names.len());
        for name in names {
            if name == "root" {
                policies.push(Arc::new(Policy::root()));
            } else if name == WRAPPING_POLICY {
                policies.extend(Policy::parse(name, WRAPPING_POLICY_TEXT).ok().map(Arc::new));
            } else if let Some(stored) = self.by_name.get(name) {
                // A policy that cannot be read may have held a denial: whoever has it gets nothing (DR-19).
                let Some(policy) = &stored.policy else {
                    policies.clear();
                    break;
                };
                policies.push(Arc::clone(policy));
            }
        }
        let set = Arc::new(PolicySet::compile(&policies));
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

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<PolicyTable> {
        self.table.load()
    }

    /// Below what it has to be told of changes.
    pub(crate) fn wants(&self) -> KeyPrefix {
        self.table.prefix().clone()
    }

    pub(crate) fn reload_if_touched(&self, changed: &Changed, txn: &mut Txn) -> Result<(), Fault> {
        if self.table.is_touched_by(changed) {
            let table = read_table(txn, &self.namespace)?;
            self.table.replace(txn, table);
        }
        Ok(())
    }

    /// Whether the table is what it would be if it were loaded now.
    pub(crate) fn agrees(&self, txn: &mut Txn) -> Result<bool, Fault> {
        let (stored, known) = (read_table(txn, &self.namespace)?, self.table());
        let texts = |table: &PolicyTable| {
            table.by_name.iter().map(|(name, policy)| (name.clone(), policy.text.clone())).collect::<Vec<_>>()
        };
        Ok(texts(&stored) == texts(&known))
    }

    /// Stores a policy after parsing it.
    ///
    /// # Errors
    /// A refusal that names line and column when the text is no policy.
    pub fn write(&self, txn: &mut Txn, name: &PolicyName, text: &str) -> Result<(), Fault> {
        Policy::parse(name.as_str(), text)
            .map_err(|error| Fault::invalid(format!("failed to parse policy: {error}")))?;
        let key = self.key(name)?;
        txn.write(&key, &PolicyRecord { text: text.to_owned() }.encode()).map_err(Fault::internal)
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
        txn.write(&key, &PolicyRecord { text: DEFAULT_POLICY_TEXT.to_owned() }.encode()).map_err(Fault::internal)
    }

    fn key(&self, name: &PolicyName) -> Result<StorageKey, Fault> {
        keys::policies(&self.namespace)
            .and_then(|at| at.key(name.as_str()))
            .map_err(|_| Fault::invalid("policy name cannot be stored"))
    }
}

fn read_table(txn: &mut Txn, namespace: &NamespaceId) -> Result<PolicyTable, Fault> {
    let prefix = keys::policies(namespace).map_err(Fault::internal)?;
    let mut by_name = BTreeMap::new();
    for name in every_name(txn, &prefix).map_err(Fault::internal)? {
        let key = prefix.key(&name).map_err(Fault::internal)?;
        let Some(bytes) = txn.read(&key).map_err(Fault::internal)? else { continue };
        let text = PolicyRecord::decode(&bytes).map_err(Fault::internal)?.text;
        let policy = match Policy::parse(&name, &text) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(error) => {
                tracing::error!(%name, %error, "stored policy cannot be parsed: whoever has it is denied everything");
                None
            }
        };
        by_name.insert(name, StoredPolicy { text, policy });
    }
    Ok(PolicyTable { by_name, compiled: Mutex::default() })
}
